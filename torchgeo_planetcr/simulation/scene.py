# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""A simulated scene with all files that belong to it."""

import math
import os
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torchgeo.datasets.utils import Path

from ..datasets.mask_bands import UDM2_BANDS
from ..datasets.modalities import MODALITIES
from ..datasets.patch_files import PATCH_SIZE
from ..raster.grid import Grid
from ..raster.write import appears_whole, cannot_write, check_absent, write_geotiff
from .area import AreaImages, choose_area, has_data, image_description, simulate_area
from .checks import MAX_SEED, check_range
from .presets import PresetName, find_preset

#: Smallest and largest height and width of a scene in pixels.
MIN_SIZE, MAX_SIZE = PATCH_SIZE, 3000

#: Angle between the edges of a scene and its grid in radians. Satellites do not fly
#: exactly from north to south.
SCENE_ANGLE = 0.18

#: Bands of Planet's usable data mask that are simulated.
CLEAR, CLOUD, UNUSABLE = map(UDM2_BANDS.index, ('clear', 'cloud', 'unusable'))

#: Names of the files of a scene, by modality.
FILE_NAMES = {
    'cloudy': 'scene.tif',
    'clear': 'clear.tif',
    'sentinel1': 'sentinel1.tif',
    'worldcover': 'worldcover.tif',
    'udm2': 'scene_udm2.tif',
}


class SceneFile(NamedTuple):
    """What a file of a scene holds."""

    #: Pixels of shape (C, H, W), and their grid.
    image: NDArray[Any]
    grid: Grid
    #: Value of pixels without data, if the file declares one.
    nodata: float | None
    #: Names of the bands.
    bands: tuple[str, ...]


def simulate_scene(
    folder: Path,
    size: int = 1500,
    seed: int = 0,
    preset: PresetName = 'usual',
    overwrite: bool = False,
) -> str:
    """Simulate a PlanetScope scene, and all that is needed to restore it.

    Writes ``scene.tif`` and ``clear.tif``, surface reflectance x 10000 of B, G, R and
    NIR at two dates, ``sentinel1.tif``, VV and VH in dB, ``worldcover.tif``, and
    ``scene_udm2.tif``, the usable data mask of ``scene.tif``. As in real scenes, the edges
    of the images are not parallel to their grid, and corners have no data. Nothing in them
    is an image of the Earth.

    Args:
        folder: Folder to write to
        size: Height and width in pixels of 3 m, 300 to 3000
        seed: Number from 0 that decides what the scene looks like
        preset: Conditions: usual; clear, without any cloud and haze; haze, cirrus or shadow
            alone; overcast; or wide, which chooses one of them
        overwrite: Replace files of these names

    Returns:
        A sentence that says what was simulated.

    Raises:
        FileExistsError: If there is a file of one of these names and *overwrite* is not
            set.
        OSError: If a file cannot be written.
        ValueError: If a number is out of range, or there is no preset of this name.
    """
    check_range('size', size, MIN_SIZE, MAX_SIZE)
    check_range('seed', seed, 0, MAX_SEED)
    paths = {key: os.path.join(folder, name) for key, name in FILE_NAMES.items()}
    for path in paths.values():
        check_absent(path, overwrite)

    patches = math.ceil(size / PATCH_SIZE)
    area = choose_area(find_preset(preset), seed, 1, patches, patches)
    images = _crop(simulate_area(seed, area), size)
    grid = area.grid.window(0, 0, size, size)
    mask = _usable_data_mask(images)
    files = {
        'cloudy': _planetscope_file(images.cloudy, grid),
        'clear': _planetscope_file(images.clear, grid),
        'sentinel1': SceneFile(
            images.sentinel1.astype(np.float32),
            area.coarse_grid,
            None,
            MODALITIES['sentinel1'].descriptions,
        ),
        'worldcover': SceneFile(
            images.worldcover, area.coarse_grid, MODALITIES['worldcover'].nodata, ()
        ),
        'udm2': SceneFile(mask, grid, None, UDM2_BANDS),
    }
    description = image_description(seed, area)
    with appears_whole(*paths.values()) as unfinished_paths:
        for (key, path), unfinished in zip(
            paths.items(), unfinished_paths, strict=True
        ):
            image, place, nodata, bands = files[key]
            try:
                write_geotiff(unfinished, image, place, nodata, description, bands)
            except OSError as error:
                raise cannot_write(path, error) from error
    cloud_share = mask[CLOUD].sum() / has_data(images.cloudy).sum()
    return (
        f'{folder}: a simulated scene of {size} x {size} pixels in {grid.crs}, '
        f'{100 * cloud_share:.0f} % of it under clouds'
    )


def _crop(images: AreaImages, size: int) -> AreaImages:
    """Crop the images of 3 m to a scene, and remove what is beyond its edges."""
    is_scene = _footprint(size)
    nodata = np.uint16(MODALITIES['cloudy'].nodata)
    return images._replace(
        cloudy=np.where(is_scene, images.cloudy[:, :size, :size], nodata),
        clear=np.where(is_scene, images.clear[:, :size, :size], nodata),
        cloud_mask=images.cloud_mask[:, :size, :size],
    )


def _planetscope_file(image: NDArray[np.uint16], grid: Grid) -> SceneFile:
    """File of an image of PlanetScope."""
    row = MODALITIES['cloudy']
    return SceneFile(image, grid, row.nodata, row.descriptions)


def _usable_data_mask(images: AreaImages) -> NDArray[np.uint8]:
    """Usable data mask of the cloudy image, of shape (8, H, W)."""
    usable = has_data(images.cloudy)
    mask = np.zeros((len(UDM2_BANDS), *usable.shape), dtype=np.uint8)
    mask[CLOUD] = images.cloud_mask[0] & usable
    mask[CLEAR] = usable & (mask[CLOUD] == 0)
    mask[UNUSABLE] = ~usable
    return mask


def _footprint(size: int) -> NDArray[np.bool_]:
    """Pixels of a scene whose edges are not parallel to its grid."""
    position = np.linspace(-0.5, 0.5, size)
    rows, columns = position[:, None], position
    along = columns * math.cos(SCENE_ANGLE) + rows * math.sin(SCENE_ANGLE)
    across = rows * math.cos(SCENE_ANGLE) - columns * math.sin(SCENE_ANGLE)
    # The scene is as large as its grid allows
    half = 0.5 / (math.cos(SCENE_ANGLE) + math.sin(SCENE_ANGLE))
    return np.maximum(abs(along), abs(across)) < half
