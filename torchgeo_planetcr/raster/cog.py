# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Cloud-optimized GeoTIFFs."""

import math
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.io import DatasetWriter

from .read import check_whole

#: Rows and columns of a block.
BLOCK_SIZE = 512

#: Options of GDAL.
OPTIONS: dict[str, Any] = {
    'driver': 'COG',
    'compress': 'DEFLATE',
    # Higher levels take longer, and make images of reflectance no smaller
    'level': 1,
    'predictor': 'YES',
    'blocksize': BLOCK_SIZE,
    'overview_resampling': 'average',
    'bigtiff': 'IF_SAFER',
    'num_threads': 'ALL_CPUS',
}


def write_cog(source: str, path: str, blocks: NDArray[np.bool_] | bool = True) -> None:
    """Make a cloud-optimized GeoTIFF of another GeoTIFF, and check that both are whole.

    Args:
        source: GeoTIFF that was written before.
        path: GeoTIFF to write.
        blocks: Which blocks *source* must have, by row and column (defaults to all).

    Raises:
        OSError: If one of them is not whole, as after writing to a full disk.
        RasterioError: If one of them cannot be read or written.
    """
    check_whole(source, blocks)
    rasterio.shutil.copy(source, path, **OPTIONS)
    check_whole(path)


def build_overviews(dataset: DatasetWriter) -> None:
    """Make overviews, halved until one block holds all of the raster.

    Args:
        dataset: GeoTIFF that is written.
    """
    blocks = math.ceil(max(dataset.shape) / BLOCK_SIZE)
    levels = [2**level for level in range(1, (blocks - 1).bit_length() + 1)]
    if levels:
        with rasterio.Env(GDAL_NUM_THREADS='ALL_CPUS'):
            dataset.build_overviews(levels, Resampling.average)
