# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Rasters on other grids: warped, enlarged, put together."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import rasterio.warp
from affine import Affine
from numpy.typing import NDArray
from rasterio.enums import Resampling

from .grid import Bounds, Grid


def warp_part(
    array: NDArray[np.floating],
    crs: Any,
    transform: Affine,
    target: Grid,
    resampling: Resampling,
    step: float,
) -> NDArray[np.floating]:
    """Put floating values, NaN where there is no data, onto another grid.

    Args:
        array: Values of shape (C, H, W).
        crs: Their CRS.
        transform: Their transform, which need not be north-up.
        target: The grid of the result.
        resampling: How to interpolate.
        step: Pixels of the array from one pixel of the grid to the next, which GDAL would
            guess wrongly for a grid of a few rows.

    Returns:
        Array of shape (C, H', W'), NaN where there is no data.
    """
    result = np.full((len(array), target.height, target.width), np.nan, array.dtype)
    # Without a gap, GDAL takes a third of the time if it need not look for one
    gap = math.nan if np.isnan(array).any() else None
    rasterio.warp.reproject(
        array,
        result,
        src_crs=crs,
        src_transform=transform,
        dst_crs=target.crs,
        dst_transform=target.transform,
        src_nodata=gap,
        dst_nodata=gap,
        init_dest_nodata=False,
        resampling=resampling,
        UNIFIED_SRC_NODATA='NO',
        XSCALE=min(1 / step, 1),
        YSCALE=min(1 / step, 1),
    )
    return result


def warp_array(
    array: NDArray[Any],
    source: Grid,
    target: Grid,
    resampling: Resampling,
    *,
    nodata: float | None,
) -> NDArray[Any]:
    """Put an array onto another grid.

    Args:
        array: Values of shape (C, H, W).
        source: Their grid.
        target: The grid of the result.
        resampling: How to interpolate.
        nodata: Value of pixels without data, if any.

    Returns:
        Array of shape (C, H', W'), *nodata* or 0 where the source has no pixel, and in
        another CRS masked there.
    """
    shape = target.height, target.width
    grids: dict[str, Any] = {
        'src_transform': source.transform,
        'src_crs': source.crs,
        'dst_transform': target.transform,
        'dst_crs': target.crs,
    }
    result = np.full((len(array), *shape), nodata or 0, array.dtype)
    rasterio.warp.reproject(
        array,
        result,
        **grids,
        src_nodata=nodata,
        dst_nodata=nodata,
        resampling=resampling,
    )
    if source.crs == target.crs:
        return result
    # A rectangle in one CRS is not a rectangle in another: corners have no source pixel
    covered = np.zeros(shape, dtype=np.uint8)
    rasterio.warp.reproject(np.ones(array.shape[1:], np.uint8), covered, **grids)
    return np.ma.MaskedArray(result, np.broadcast_to(covered == 0, result.shape))


def enlarge(
    read_window: Callable[[int, int, int, int], NDArray[Any]],
    source: Grid,
    target: Grid,
    bilinear: bool,
) -> NDArray[Any]:
    """Place the pixels of a coarse raster on a finer grid by their coordinates.

    Beyond the edge of the raster, and for *bilinear* beyond the centers of its outermost
    pixels, the value of the nearest pixel is extended.

    Args:
        read_window: Function of (row, column, height, width) that reads a window of the
            raster as (C, height, width).
        source: Grid of the raster.
        target: Grid of the result, in the same CRS.
        bilinear: Interpolate between the four nearest pixel centers, instead of taking
            the pixel whose area holds the center of the target's.

    Returns:
        Array of shape (C, H, W) on *target*, of the raster's type; floating for
        *bilinear*.
    """
    # Target pixel centers in source pixels, counted from the source's upper left corner
    y = source.ymax - target.ymax + (np.arange(target.height) + 0.5) * target.yres
    x = target.xmin - source.xmin + (np.arange(target.width) + 0.5) * target.xres
    shift = 0.5 if bilinear else 0.0
    above, below, row_weights = _neighbors(y / source.yres - shift, source.height)
    before, after, col_weights = _neighbors(x / source.xres - shift, source.width)

    top, left = above[0], before[0]
    array = read_window(top, left, below[-1] + 1 - top, after[-1] + 1 - left)
    # Columns first: what is left to do is then to copy and add up whole rows
    columns = array.take(before - left, axis=2)
    if not bilinear:
        return columns.take(above - top, axis=1)
    columns = columns + (array.take(after - left, axis=2) - columns) * col_weights
    upper = columns.take(above - top, axis=1)
    result = columns.take(below - top, axis=1)
    result -= upper
    result *= row_weights[:, np.newaxis]
    result += upper
    return result


def _neighbors(
    positions: NDArray[np.floating[Any]], size: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.floating[Any]]]:
    """Pixels before and after each position, and the weight of the latter."""
    before = np.floor(positions).astype(np.intp)
    weights = positions - before
    return before.clip(0, size - 1), (before + 1).clip(0, size - 1), weights


def mosaic(
    grid: Grid,
    parts: Iterable[tuple[Bounds, Callable[[Grid], NDArray[Any]]]],
    fill: float,
    nodata: float | None = None,
) -> NDArray[Any]:
    """Put rasters together on one grid. Where they overlap, the first wins.

    Args:
        grid: Grid of the result.
        parts: Bounds of each raster, and a function that reads it, as (C, H, W), on a
            window of *grid* inside these bounds; masked where the raster has no pixel.
        fill: Value of pixels that no raster covers.
        nodata: Value of pixels through which the rasters below show, if any.

    Returns:
        Array of shape (C, H, W).
    """
    parts = list(parts)
    result: NDArray[Any] | None = None
    covered = np.zeros((grid.height, grid.width), dtype=bool)
    for bounds, read in parts:
        rows, cols = grid.inside(bounds)
        height, width = rows.stop - rows.start, cols.stop - cols.start
        if height <= 0 or width <= 0:
            continue
        part = read(grid.window(rows.start, cols.start, height, width))
        masked = np.ma.isMaskedArray(part)
        if len(parts) == 1 and part.shape[1:] == covered.shape and not masked:
            return part
        if result is None:
            shape = (len(part), *covered.shape)
            # NaN needs a floating type
            dtype = np.result_type(part, fill) if math.isnan(fill) else part.dtype
            result = np.full(shape, fill, dtype=dtype)
        result = result.astype(np.result_type(result, part), copy=False)
        is_data = np.ones((height, width), dtype=bool)
        if masked:
            is_data &= ~np.ma.getmaskarray(part).any(axis=0)
        if nodata is not None:
            values = np.ma.getdata(part)
            is_valid = ~np.isnan(values) if math.isnan(nodata) else values != nodata
            is_data &= is_valid.any(axis=0)
        np.copyto(result[:, rows, cols], part, where=is_data & ~covered[rows, cols])
        covered[rows, cols] |= is_data
    assert result is not None
    return result
