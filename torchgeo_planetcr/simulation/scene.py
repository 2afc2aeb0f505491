# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""A simulated scene with all that belongs to it."""

import math
import os
import tempfile
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.errors import RasterioError
from torchgeo.datasets.utils import Path

from ..datasets.writing import cannot_write, write_geotiff
from ..inference.raster import NAMES
from ..raster.grid import Grid
from .area import PATCH, choose_area, describe, simulate_area

#: Files of a scene by modality.
FILES = {
    'cloudy': 'scene.tif',
    'clear': 'clear.tif',
    'sentinel1': 'sentinel1.tif',
    'worldcover': 'worldcover.tif',
    'udm2': 'scene_udm2.tif',
}

#: Smallest and largest side of a scene in pixels.
SIDES = 300, 3000

#: Angle between a scene and its grid, as the satellite does not fly due south.
ASKEW = 0.18

#: Bands of Planet's usable data mask.
UDM2_BANDS = (
    *('clear', 'snow', 'shadow', 'haze_light', 'haze_heavy', 'cloud'),
    *('confidence', 'unusable'),
)
CLEAR, CLOUD, UNUSABLE = map(UDM2_BANDS.index, ('clear', 'cloud', 'unusable'))


def simulate_scene(
    folder: Path, size: int = 1500, seed: int = 0, overwrite: bool = False
) -> str:
    """Simulate a PlanetScope scene, and what it takes to restore it.

    Writes ``scene.tif`` and ``clear.tif``, surface reflectance x 10000 of B, G, R and
    NIR of two dates, ``sentinel1.tif``, VV and VH in dB, ``worldcover.tif``, and
    ``scene_udm2.tif``, the usable data mask of ``scene.tif``. As real scenes do, they lie
    askew, with corners without data. Nothing of it is an image of the Earth.

    Args:
        folder: folder to write to
        size: height and width in pixels of 3 m, 300 to 3000
        seed: number that decides what it looks like, from 0
        overwrite: replace files of these names

    Returns:
        What was written.

    Raises:
        FileExistsError: If there is a file of one of these names and *overwrite* is not
            set.
        OSError: If a file cannot be written.
        ValueError: If a number is out of range.
    """
    for name, value, (low, high) in (
        ('size', size, SIDES),
        ('seed', seed, (0, 2**32 - 1)),
    ):
        if not low <= value <= high:
            msg = f'{name}={value} must be from {low} to {high}.'
            raise ValueError(msg)
    paths = {key: os.path.join(folder, name) for key, name in FILES.items()}
    for path in paths.values():
        if os.path.exists(path) and not overwrite:
            msg = f'{path} exists: write to another folder, or replace it with '
            msg += '--overwrite (overwrite=True).'
            raise FileExistsError(msg)

    patches = math.ceil(size / PATCH)
    area = choose_area(seed, 1, patches, patches)
    images = simulate_area(seed, area)
    grid = area.grid.window(0, 0, size, size)
    is_scene = _footprint(size)
    optical = {
        key: np.where(is_scene, image[:, :size, :size], 0)
        for key, image in (('cloudy', images.cloudy), ('clear', images.clear))
    }
    mask = np.zeros((len(UDM2_BANDS), size, size), dtype=np.uint8)
    has_data = (optical['cloudy'] != 0).any(axis=0)
    mask[CLOUD] = images.cloud_mask[0, :size, :size] & has_data
    mask[CLEAR] = has_data & (mask[CLOUD] == 0)
    mask[UNUSABLE] = ~has_data
    coarse = area.coarse_grid
    written: dict[str, tuple[NDArray[Any], Grid, int | None, tuple[str, ...]]] = {
        'cloudy': (optical['cloudy'], grid, 0, NAMES),
        'clear': (optical['clear'], grid, 0, NAMES),
        'sentinel1': (images.sentinel1.astype(np.float32), coarse, None, ('VV', 'VH')),
        'worldcover': (images.worldcover, coarse, 0, ()),
        'udm2': (mask, grid, None, UDM2_BANDS),
    }
    os.makedirs(folder, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix='.unfinished-') as unfinished:
        for key, (image, place, nodata, names) in written.items():
            path = os.path.join(unfinished, FILES[key])
            try:
                write_geotiff(path, image, place, nodata, describe(seed, area), names)
            except (OSError, RasterioError) as error:
                raise cannot_write(paths[key], error) from error
        for key, path in paths.items():
            os.replace(os.path.join(unfinished, FILES[key]), path)
    share = mask[CLOUD].sum() / has_data.sum()
    return (
        f'{folder}: a simulated scene of {size} x {size} pixels in {grid.crs}, '
        f'{100 * share:.0f} % of it under clouds'
    )


def _footprint(size: int) -> NDArray[np.bool_]:
    """Pixels of a scene that lies askew on its grid."""
    place = np.linspace(-0.5, 0.5, size)
    rows, columns = place[:, None], place
    along = columns * math.cos(ASKEW) + rows * math.sin(ASKEW)
    across = rows * math.cos(ASKEW) - columns * math.sin(ASKEW)
    # As large as fits
    half = 0.5 / (math.cos(ASKEW) + math.sin(ASKEW))
    return np.maximum(abs(along), abs(across)) < half
