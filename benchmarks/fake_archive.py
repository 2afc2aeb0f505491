# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Archives for measurements: a small one with pixels, and large ones with headers only."""

import importlib.util
import os
import shutil
import struct
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from types import ModuleType

import numpy as np
import rasterio
import rasterio.shutil
from rasterio.io import MemoryFile
from rasterio.transform import from_origin

from torchgeo_planetcr import PlanetCR

#: Number of areas of a large archive. Planet-CR has as many.
AREAS = 780

#: UTM zones of a large archive.
ZONES = (*range(32601, 32631), *range(32701, 32731))

SEASONS = ('spring', 'summer', 'fall', 'winter')

#: One of so many areas is for testing.
TEST_EACH = 13

#: Number of bands, pixels along each edge, type and resolution of the GeoTIFFs of a patch.
RASTERS = {
    'planet_cloudy': (4, 300, 'uint16', 3),
    'planet_cloudfree': (4, 300, 'uint16', 3),
    'S1': (2, 90, 'float64', 10),
    'landcover': (1, 90, 'uint8', 10),
}

#: Upper left corner in a template, which is replaced for each file.
CORNER = (123456.0, 7654321.0)


def load_data_module() -> ModuleType:
    """Load ``tests/data/planetcr/data.py``, which writes fake patches."""
    path = Path(__file__).parents[1] / 'tests' / 'data' / 'planetcr' / 'data.py'
    spec = importlib.util.spec_from_file_location('data', path)
    assert spec and spec.loader
    data = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(data)
    return data


def make_pixels(root: Path) -> None:
    """Write 36 patches with pixels in one UTM zone, because plain TorchGeo needs one CRS.

    They are side by side in four areas, whose grids of 10 m have different offsets.

    Args:
        root: Folder to write to.
    """
    data = load_data_module()
    patches = tuple((col, row) for col in range(3) for row in range(3))
    corners = ((0, 0), (1, 0), (0, 1), (1, 1))
    offsets = ((1, -2), (-1, -1), (2, 0), (-2, 1))
    data.AREAS = tuple(
        data.Area(
            'train',
            f'{SEASONS[number]}_{number}',
            32646,
            760299 + 2700 * col,
            1898412 - 2700 * row,
            offsets[number],
            patches,
        )
        for number, (col, row) in enumerate(corners)
    )
    data.create(root)


def compress(root: Path, target: Path) -> None:
    """Copy an archive, and compress its GeoTIFFs, so that only GDAL can read them.

    Args:
        root: Folder of the archive.
        target: Folder of the copy.
    """
    for path in root.rglob('*'):
        copy = target / path.relative_to(root)
        if path.suffix == '.tif':
            copy.parent.mkdir(parents=True, exist_ok=True)
            rasterio.shutil.copy(path, copy, driver='GTiff', compress='deflate')
        elif path.suffix == '.npy':
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)


def write_masks(dataset: PlanetCR, folder: Path) -> list[str]:
    """Write the cloud masks as GeoTIFFs for plain TorchGeo and rasterio.

    Args:
        dataset: Data set of the masks.
        folder: Existing folder to write to.

    Returns:
        Path of the mask of each patch.
    """
    paths = []
    for _, row in dataset.index.iterrows():
        mask = np.load(row['cloud_mask'], allow_pickle=False).astype(np.uint8)
        xmin, _, _, ymax = row['native_bounds']
        paths.append(str(folder / f'{row["patch"]}.tif'))
        with rasterio.open(
            paths[-1],
            'w',
            driver='GTiff',
            height=mask.shape[0],
            width=mask.shape[1],
            count=1,
            dtype=mask.dtype,
            crs=row['native_crs'],
            transform=from_origin(xmin, ymax, *row['native_res']),
        ) as dst:
            dst.write(mask, 1)
    return paths


def _template(kind: str, epsg: int) -> tuple[bytes, bytes, int]:
    """Bytes of a header before and after its corner, and length of the whole file."""
    count, size, dtype, res = RASTERS[kind]
    pixels = np.ones((count, size, size), dtype)
    with MemoryFile() as file:
        with rasterio.open(
            file.name,
            'w',
            driver='GTiff',
            width=size,
            height=size,
            count=count,
            dtype=dtype,
            nodata=0 if dtype == 'uint16' else None,
            crs=f'EPSG:{epsg}',
            transform=from_origin(*CORNER, res, res),
            interleave='pixel',
        ) as dst:
            dst.write(pixels)
        content = file.read()
    header = content.removesuffix(pixels.tobytes())
    before, after = header.split(struct.pack('<2d', *CORNER))
    assert len(header) + pixels.nbytes == len(content)
    return before, after, len(content)


def _mask_header() -> bytes:
    """Header of a cloud mask."""
    file = BytesIO()
    pixels = np.zeros((300, 300), bool)
    np.save(file, pixels)
    return file.getvalue()[: -pixels.nbytes]


def _write(path: str, header: bytes, size: int) -> None:
    """Write a header, and a hole up to the end of the file."""
    with open(path, 'wb', buffering=0) as file:
        file.write(header)
        file.truncate(size)


def _areas() -> Iterator[tuple[int, str, str, int]]:
    """Number, split, season and UTM zone of each area of a large archive."""
    for area in range(AREAS):
        split = 'test' if area % TEST_EACH == TEST_EACH - 1 else 'train'
        season = SEASONS[(area + area // len(ZONES)) % len(SEASONS)]
        yield area, split, season, ZONES[area % len(ZONES)]


def make_headers(root: Path, quartets: int) -> None:
    """Write an archive whose files have a real header and no pixels.

    Its patches are spread evenly over :data:`AREAS` areas of both splits, all seasons and
    :data:`ZONES`. In the place of its pixels, each file has a hole, which takes no space on
    the disk and reads as zeros. Such files are read like those of Planet-CR. With
    ``SPARSE_OK``, GDAL also writes GeoTIFFs without pixels, but their headers differ, they
    are read in another way, and writing them takes ten times as long.

    Args:
        root: Folder to write to.
        quartets: Number of patches.
    """
    templates = {
        (kind, epsg): _template(kind, epsg) for kind in RASTERS for epsg in ZONES
    }
    mask = _mask_header()
    for area, split, season, epsg in _areas():
        numbers = range(quartets // AREAS + (area < quartets % AREAS))
        for kind in (*RASTERS, 'cloudmask'):
            name = f'{kind}_{season}_{area}'
            folder = os.path.join(root, split, f'{kind}_{season}', name)
            os.makedirs(folder, exist_ok=True)
            for number in numbers:
                path = os.path.join(folder, f'{name}_p_{number + 1}')
                if kind == 'cloudmask':
                    _write(f'{path}.npy', mask, len(mask) + 300 * 300)
                    continue
                # Areas of a zone are side by side, each ten patches wide.
                xmin = 300000 + 900 * (number % 10) + 10000 * (area // len(ZONES))
                ymax = 5000000 - 900 * (number // 10)
                before, after, size = templates[kind, epsg]
                corner = struct.pack('<2d', xmin, ymax)
                _write(f'{path}.tif', before + corner + after, size)


def files_of_zone(root: Path, kind: str, count: int) -> list[str]:
    """List GeoTIFFs of one kind and UTM zone in the train folder of a large archive.

    Args:
        root: Folder of the archive.
        kind: One of :data:`RASTERS`.
        count: Largest number of files.

    Returns:
        Their paths.
    """
    paths: list[str] = []
    for area, split, season, epsg in _areas():
        if split == 'train' and epsg == ZONES[0]:
            folder = root / split / f'{kind}_{season}' / f'{kind}_{season}_{area}'
            paths += sorted(str(path) for path in folder.glob('*.tif'))
    return paths[:count]
