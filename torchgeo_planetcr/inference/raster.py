# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Rasters of a scene: what is in them, and how they are read."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, Resampling
from rasterio.errors import RasterioIOError
from rasterio.io import DatasetReader
from rasterio.vrt import WarpedVRT
from torchgeo.datasets.utils import Path

#: Positions of B, G, R and NIR, from 1, in PlanetScope's products by number of bands.
BANDS = {4: (1, 2, 3, 4), 8: (2, 4, 6, 8)}

#: Names that products give to their bands.
NAMES = ('blue', 'green', 'red', 'nir')

#: Pixels along the longer edge of the overview by which images and masks are checked.
CHECK_SIZE = 512


def open_raster(path: Path) -> DatasetReader:
    """Open a raster that has a place on Earth.

    Args:
        path: Path of the raster.

    Returns:
        The open file.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it has no CRS or no transform.
    """
    try:
        dataset = rasterio.open(path)
    except OSError as error:
        msg = f'{path} is not a readable raster: {error}'
        raise OSError(msg) from error
    if dataset.crs is None or dataset.transform.is_identity:
        dataset.close()
        msg = (
            f'{path} has no CRS or no transform: write them into it, for example with '
        )
        msg += '`gdal_edit`.'
        raise ValueError(msg)
    return dataset


def warp(
    dataset: DatasetReader,
    resampling: Resampling,
    nodata: float,
    dtype: str | None = None,
    **grid: Any,
) -> WarpedVRT:
    """Put an image onto another grid, on which it is warped when it is read.

    Pixels that lie on that grid already stay as they are.

    Args:
        dataset: The image.
        resampling: How to interpolate.
        nodata: Value where there is no data.
        dtype: Type of the values (defaults to that of the image).
        **grid: ``crs``, ``transform``, ``height`` and ``width``.

    Returns:
        The image on that grid, to be closed before *dataset*.
    """
    return WarpedVRT(
        dataset,
        resampling=resampling,
        # Whoever declares nothing pads with 0, which is no reflectance, no backscatter in
        # dB and no class of land cover
        src_nodata=0 if dataset.nodata is None else dataset.nodata,
        nodata=nodata,
        dtype=dtype,
        # Each band by itself: a third one of radar may have values where VV and VH have
        # none
        UNIFIED_SRC_NODATA='NO',
        **grid,
    )


def read_bands(
    dataset: DatasetReader | WarpedVRT,
    path: Path,
    bands: Sequence[int] | None,
    **kwargs: Any,
) -> NDArray[Any]:
    """Read pixels, and name the file if that fails, as GDAL does not.

    Args:
        dataset: The open file.
        path: Its path.
        bands: Bands to read, from 1; None for all.
        **kwargs: Further arguments of rasterio's ``read``.

    Returns:
        Array of shape (C, H, W).

    Raises:
        OSError: If the file cannot be read.
    """
    try:
        return dataset.read(bands, **kwargs)
    except RasterioIOError as error:
        msg = f'{path} cannot be read, copy it again: {error.__cause__ or error}'
        raise OSError(msg) from error


def find_data(image: NDArray[Any], nodata: float | None) -> NDArray[np.bool_]:
    """Find the pixels that have data.

    Args:
        image: Values of shape (C, H, W).
        nodata: Value of all bands where there is none; 0 if it is not declared, as in
            PlanetScope's products.

    Returns:
        Where there is data, of shape (H, W).
    """
    nodata = 0 if nodata is None else nodata
    if np.isnan(nodata):
        return ~np.isnan(image).all(axis=0)
    return (image != nodata).any(axis=0)


def find_polarizations(dataset: DatasetReader) -> list[int]:
    """Find VV and VH in an image of Sentinel-1.

    Args:
        dataset: The image.

    Returns:
        Their positions, from 1: by the names of the bands, or the first two.

    Raises:
        ValueError: If the names of the bands leave it open.
    """
    names = [(name or '').lower() for name in dataset.descriptions]
    found = {
        polarization: [n for n, name in enumerate(names, 1) if polarization in name]
        for polarization in ('vv', 'vh', 'hh', 'hv')
    }
    if not any(found.values()):
        return [1, 2]
    if not len(found['vv']) == len(found['vh']) == 1:
        msg = (
            f'{dataset.name} has bands called {", ".join(names)}: exactly one must be '
        )
        msg += 'called VV and one VH.'
        raise ValueError(msg)
    return [*found['vv'], *found['vh']]


def find_bands(dataset: DatasetReader, bands: Sequence[int] | None) -> list[int]:
    """Find B, G, R and NIR in an image.

    Args:
        dataset: The image.
        bands: Their positions from 1, if they are known.

    Returns:
        Their positions, from 1.

    Raises:
        ValueError: If it is not of type uint16, or the bands are not known.
    """
    path, count = dataset.name, dataset.count
    if dataset.dtypes[0] != 'uint16':
        msg = f'{path} is {dataset.dtypes[0]} instead of uint16: take the product with '
        msg += 'surface reflectance x 10000, not a visual one.'
        raise ValueError(msg)
    if bands is not None:
        if len(bands) != 4 or not all(1 <= band <= count for band in bands):
            msg = f'bands={list(bands)} must be the positions of B, G, R and NIR among '
            msg += f'the {count} bands of {path}, from 1.'
            raise ValueError(msg)
        return list(bands)
    names: list[Any] = [(name or '').strip().lower() for name in dataset.descriptions]
    if all(name in names for name in NAMES):
        return [names.index(name) + 1 for name in NAMES]
    colors = dataset.colorinterp[:3]
    if colors == (ColorInterp.red, ColorInterp.green, ColorInterp.blue):
        msg = f'{path} says that its first bands are red, green and blue, and PlanetScope '
        msg += 'begins with blue: give the positions of B, G, R and NIR with bands.'
        raise ValueError(msg)
    if count not in BANDS:
        msg = f'{path} has {count} bands: name those of B, G, R and NIR with bands.'
        raise ValueError(msg)
    return list(BANDS[count])
