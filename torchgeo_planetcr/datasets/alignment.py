# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""How the pixels of a coarse grid meet a finer grid of the same CRS."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .grid import Grid


def enlarge(
    read_window: Callable[[int, int, int, int], NDArray[Any]],
    source: Grid,
    target: Grid,
    bilinear: bool,
) -> NDArray[Any]:
    """Place the pixels of a coarse raster on a finer grid by their coordinates.

    Beyond the edge of the raster, and for *bilinear* beyond the centres of its outermost
    pixels, the value of the nearest pixel is extended.

    Args:
        read_window: function of (row, column, height, width) that reads a window of the
            raster as (C, height, width).
        source: grid of the raster.
        target: grid of the result, in the same CRS.
        bilinear: interpolate between the four nearest pixel centres, instead of taking
            the pixel whose area holds the centre of the target's.

    Returns:
        Array of shape (C, H, W) on *target*, of the raster's type; floating for
        *bilinear*.
    """
    # Target pixel centres in source pixels, counted from the source's upper left corner.
    y = source.ymax - target.ymax + (np.arange(target.height) + 0.5) * target.yres
    x = target.xmin - source.xmin + (np.arange(target.width) + 0.5) * target.xres
    shift = 0.5 if bilinear else 0.0
    above, below, row_weights = _neighbours(y / source.yres - shift, source.height)
    before, after, col_weights = _neighbours(x / source.xres - shift, source.width)

    top, left = above[0], before[0]
    array = read_window(top, left, below[-1] + 1 - top, after[-1] + 1 - left)
    # Columns first: what is left to do is then to copy and add up whole rows.
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


def _neighbours(
    positions: NDArray[np.floating[Any]], size: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.floating[Any]]]:
    """Pixels before and after each position, and the weight of the latter."""
    before = np.floor(positions).astype(np.intp)
    weights = positions - before
    return before.clip(0, size - 1), (before + 1).clip(0, size - 1), weights
