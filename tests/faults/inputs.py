# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Small inputs of all kinds."""

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.transform import from_origin
from rasters import write
from small_scene import save_checkpoint

from torchgeo_planetcr.datasets.modalities import LIST_COLUMNS, ModalityName
from torchgeo_planetcr.datasets.patch_files import patch_path, write_patch
from torchgeo_planetcr.raster.grid import Grid
from torchgeo_planetcr.tasks import CloudRemoval

#: Rows and columns of a patch, at 3 m and at 10 m.
FINE, COARSE = 60, 18

CODES = np.array([10, 20, 30, 40, 50, 60, 80], np.uint8)

#: Split, area and number of patches of the small archive.
AREAS = (('train', 'fall_1', 2), ('train', 'summer_2', 1), ('test', 'fall_3', 2))

#: Hyperparameters of the small network of `save_checkpoint`.
NETWORK = '{features: 8, num_blocks: 1}'


def file_of(
    root: Path, modality: ModalityName, aoi: str = 'fall_1', number: int = 1
) -> Path:
    """File of a patch."""
    split = 'test' if aoi == 'fall_3' else 'train'
    return Path(patch_path(root, split, aoi, number, modality))


def make_images(
    rng: np.random.Generator, crs: str, x: float, y: float
) -> dict[ModalityName, tuple[NDArray[Any], Grid]]:
    """Images of a patch."""
    fine = Grid(crs, x, y, 3.0, 3.0, FINE, FINE)
    coarse = Grid(crs, x, y, 10.0, 10.0, COARSE, COARSE)
    clear = rng.integers(300, 4000, (4, FINE, FINE))
    mask = np.zeros((1, FINE, FINE), bool)
    mask[:, :30, 20:50] = True
    backscatter = rng.uniform(-15, -5, (2, COARSE, COARSE)) - [[[0]], [[7]]]
    return {
        'cloudy': (np.where(mask, clear + 4000, clear), fine),
        'clear': (clear, fine),
        'sentinel1': (backscatter, coarse),
        'worldcover': (rng.choice(CODES, (1, COARSE, COARSE)), coarse),
        'cloud_mask': (mask, fine),
    }


def make_tree(
    root: Path, areas: Iterable[tuple[str, str, int]] = AREAS, lists: bool = False
) -> Path:
    """Make an archive of small patches."""
    rng = np.random.default_rng(0)
    listed: dict[str, list[str]] = {}
    for number, (split, aoi, patches) in enumerate(areas):
        crs = f'EPSG:{32601 + (7 * number + 11) % 60}'
        for patch in range(1, patches + 1):
            images = make_images(rng, crs, 300_000 + 3000 * patch, 5_000_010)
            write_patch(root, split, aoi, patch, images)  # ty: ignore
            paths = (patch_path('', '', aoi, patch, name) for name in LIST_COLUMNS)
            listed.setdefault(split, []).append(','.join(paths))
    if lists:
        for split, lines in listed.items():
            (root / f'{split}.csv').write_text('\n'.join(lines) + '\n')
    return root


def make_scene(folder: Path, height: int, width: int) -> Path:
    """Make a scene, its masks, a clear scene, Sentinel-1 and land cover."""
    folder.mkdir()
    rng = np.random.default_rng([height, width])
    left, top = 600_000, 5_400_000
    fine: dict[str, Any] = {
        'crs': 'EPSG:32632',
        'transform': from_origin(left, top, 3, 3),
    }
    coarse = fine | {'transform': from_origin(left - 100, top + 100, 10, 10)}
    clear = rng.integers(300, 4000, (4, height, width)).astype(np.uint16)
    cloud = np.zeros((height, width), bool)
    cloud[height // 4 : height // 2, width // 4 : width // 2] = True
    cloudy = np.where(cloud, clear + 4000, clear).astype(np.uint16)
    udm2 = np.zeros((8, height, width), np.uint8)
    udm2[0], udm2[5] = ~cloud, cloud
    shape = height * 3 // 10 + 22, width * 3 // 10 + 22
    radar = rng.uniform(-15, -5, (2, *shape)) - [[[0]], [[7]]]
    write(folder / 'scene.tif', cloudy, nodata=0, **fine)
    write(folder / 'clear.tif', clear, nodata=0, **fine)
    write(folder / 'scene_udm2.tif', udm2, **fine)
    write(folder / 'mask.tif', cloud[None].astype(np.uint8), **fine)
    write(folder / 's1.tif', radar.astype(np.float32), **coarse)
    write(folder / 'landcover.tif', rng.choice(CODES, (1, *shape)), nodata=0, **coarse)
    return folder


def make_all(folder: Path) -> Path:
    """Make the inputs of all kinds."""
    make_tree(folder / 'tree')
    make_tree(folder / 'listed', lists=True)
    make_tree(folder / 'many', [('train', f'fall_{n}', 8) for n in (1, 2, 3, 4)])
    make_scene(folder / 'scene', 96, 96)
    make_scene(folder / 'large', 320, 620)
    (folder / 'scenes').mkdir()
    for number in range(3):
        shutil.copy(folder / 'scene/scene.tif', folder / f'scenes/s{number}.tif')
    save_checkpoint(folder).rename(folder / 'small.ckpt')
    save_checkpoint(folder, CloudRemoval('copy')).rename(folder / 'copy.ckpt')
    (folder / 'predictions').mkdir()
    for number in (1, 2):
        name = folder / f'predictions/fall_3_p_{number}.tif'
        shutil.copy(file_of(folder / 'tree', 'clear', 'fall_3', number), name)
    return folder


def read(path: Path) -> tuple[NDArray[Any], dict[str, Any]]:
    """Pixels of a GeoTIFF, and what is needed to write it again."""
    with rasterio.open(path) as dataset:
        layout = 'blockxsize', 'blockysize', 'tiled', 'interleave'
        profile = {k: v for k, v in dataset.profile.items() if k not in layout}
        return dataset.read(), profile
