# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Rasters for tests."""

from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.transform import from_origin


def make_array(
    count: int, height: int, width: int, dtype: str = 'uint16', seed: int = 0
) -> NDArray[Any]:
    """Random numbers of any type; those of more than a byte fill two."""
    rng = np.random.default_rng([seed, count, height, width])
    stop = 100 if np.dtype(dtype).itemsize == 1 else 30_000
    return rng.integers(1, stop, (count, height, width)).astype(dtype)


def write(path: Path, array: NDArray[Any], **options: Any) -> Path:
    """Write a GeoTIFF, at 3 m in a UTM zone unless *options* say otherwise."""
    count, height, width = array.shape
    profile: dict[str, Any] = {
        'driver': 'GTiff',
        'count': count,
        'height': height,
        'width': width,
        'dtype': array.dtype,
        'crs': 'EPSG:32646',
        'transform': from_origin(500001, 2000004, 3, 3),
    }
    with rasterio.open(path, 'w', **(profile | options)) as dst:
        dst.write(array)
    return path
