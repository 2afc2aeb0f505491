# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Scenes of one place: cloudy and clear PlanetScope, Sentinel-1, land cover, a mask."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.transform import from_origin
from rasterio.warp import transform
from rasters import make_array, write

CRS, OTHER_CRS = 'EPSG:32646', 'EPSG:32647'

#: Upper left corner of the cloudy scene.
LEFT, TOP = 500001, 2000004

#: Two rows of three patches, and a rest.
HEIGHT, WIDTH = 640, 950

#: Rows and columns of the clear scene beyond the cloudy one, up and to the left.
UP, BEFORE = 20, 30

#: Upper left corners of Sentinel-1 and land cover at 10 m, in the CRS of the scene.
RADAR_CORNER, LANDCOVER_CORNER = (499503, 2000502), (499699, 2000207)

CODES = np.array([10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 100], np.uint8)


def make_cloudy() -> NDArray[np.uint16]:
    """Eight bands with a dark pixel, 0 in one of them."""
    image = make_array(8, HEIGHT, WIDTH)
    image[7, 5, 6] = 0
    return image


def make_clear() -> NDArray[np.uint16]:
    image = make_array(4, HEIGHT + 2 * UP, WIDTH + 2 * BEFORE, seed=1)
    image[2, UP + 7, BEFORE + 8] = 0
    return image


def make_radar() -> NDArray[np.float32]:
    noise = np.random.default_rng(0).normal(-10, 3, (2, 300, 400))
    noise[1] -= 7
    return noise.astype(np.float32)


def make_landcover() -> NDArray[np.uint8]:
    return np.random.default_rng(1).choice(CODES, (1, 250, 350))


def make_clouds() -> NDArray[np.bool_]:
    """Cloud in a third of the first patch, half of the second, and none of the others."""
    clouds = np.zeros((HEIGHT, WIDTH), dtype=bool)
    clouds[:100, :300] = True
    clouds[:300, 450:600] = True
    return clouds


def write_udm2(path: Path, clouds: NDArray[np.bool_], **options: Any) -> Path:
    """Write a usable data mask, whose first band is 1 where it is clear."""
    bands = np.zeros((8, *clouds.shape), np.uint8)
    bands[0], bands[5], bands[6:] = ~clouds, clouds, 77
    return write(path, bands, **options)


def write_scenes(
    folder: Path, crs: str = CRS, left: int = LEFT, top: int = TOP
) -> dict[str, Any]:
    """Write scenes of one place, each on its own grid.

    Args:
        folder: Where to.
        crs: CRS of all.
        left: Left edge of the cloudy scene.
        top: Top edge of it.

    Returns:
        Arguments of `make_patches` but for the first two.
    """
    folder.mkdir(exist_ok=True)

    def grid(x: int, y: int, res: int) -> dict[str, Any]:
        corner = left + x - LEFT, top + y - TOP
        return {'crs': crs, 'transform': from_origin(*corner, res, res)}

    clear_corner = LEFT - 3 * BEFORE, TOP + 3 * UP
    return {
        'cloudy': write(folder / 'cloudy.tif', make_cloudy(), **grid(LEFT, TOP, 3)),
        'clear': write(folder / 'clear.tif', make_clear(), **grid(*clear_corner, 3)),
        's1': write(folder / 's1.tif', make_radar(), **grid(*RADAR_CORNER, 10)),
        'landcover': write(
            folder / 'landcover.tif', make_landcover(), **grid(*LANDCOVER_CORNER, 10)
        ),
        'cloud_mask': write_udm2(
            folder / 'udm2.tif', make_clouds(), **grid(LEFT, TOP, 3)
        ),
    }


def centers(
    transform: Any, height: int, width: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Coordinates of pixel centers."""
    x = transform.c + transform.a * (np.arange(width) + 0.5)
    y = transform.f + transform.e * (np.arange(height) + 0.5)
    eastings, northings = np.meshgrid(x, y)
    return eastings, northings


def move(
    x: NDArray[Any], y: NDArray[Any], source: str, target: str
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Coordinates of places in another CRS."""
    moved = transform(source, target, x.ravel(), y.ravel())
    return np.reshape(moved[0], x.shape), np.reshape(moved[1], x.shape)


def ramp(x: NDArray[Any], y: NDArray[Any]) -> NDArray[np.float64]:
    """VV and VH in dB at places in the CRS of the scene."""
    x, y = x - LEFT, y - TOP
    return np.stack([-12 + x / 300 + y / 500, -20 + x / 400 - y / 300])


def write_ramp(path: Path, res: int = 10) -> Path:
    """Write Sentinel-1 in the next zone around the scene."""
    x, y = move(np.array([LEFT]), np.array([TOP]), CRS, OTHER_CRS)
    west, north = round(x[0], -1) - 500, round(y[0], -1) + 500
    size = 5000 // res
    places = centers(from_origin(west, north, res, res), size, size)
    values = ramp(*move(*places, OTHER_CRS, CRS))
    grid: dict[str, Any] = {
        'crs': OTHER_CRS,
        'transform': from_origin(west, north, res, res),
    }
    return write(path, values.astype(np.float32), **grid)
