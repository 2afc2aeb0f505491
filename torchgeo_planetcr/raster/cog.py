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
    'bigtiff': 'IF_SAFER',
    'num_threads': 'ALL_CPUS',
}


def write_cog(
    source: str,
    path: str,
    blocks: NDArray[np.bool_] | bool = True,
    has_classes: bool = False,
) -> None:
    """Make a cloud-optimized GeoTIFF of another GeoTIFF, and check that both are whole.

    Args:
        source: GeoTIFF that was written before.
        path: GeoTIFF to write.
        blocks: Which blocks *source* must have, by row and column (defaults to all).
        has_classes: Whether its values are classes, of which there is no mean.

    Raises:
        OSError: If one of them is not whole, as after writing to a full disk.
        RasterioError: If one of them cannot be read or written.
    """
    check_whole(source, blocks)
    resampling = resample_overviews(has_classes).name
    rasterio.shutil.copy(source, path, overview_resampling=resampling, **OPTIONS)
    check_whole(path)


def resample_overviews(has_classes: bool) -> Resampling:
    """Tell how overviews are made.

    Args:
        has_classes: Whether values are classes.

    Returns:
        The most frequent class, or the mean.
    """
    return Resampling.mode if has_classes else Resampling.average


def build_overviews(dataset: DatasetWriter, has_classes: bool = False) -> None:
    """Make overviews, halved until one block holds all of the raster.

    Args:
        dataset: GeoTIFF that is written.
        has_classes: Whether its values are classes.
    """
    blocks = math.ceil(max(dataset.shape) / BLOCK_SIZE)
    levels = [2**level for level in range(1, (blocks - 1).bit_length() + 1)]
    if levels:
        with rasterio.Env(GDAL_NUM_THREADS='ALL_CPUS'):
            dataset.build_overviews(levels, resample_overviews(has_classes))
