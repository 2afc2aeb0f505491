# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Scenes that are put together from overlapping tiles without seams."""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ..samplers.tiles import strip_width

#: Share of the overlap, at each edge of a tile, that is thrown away.
DISCARDED = 0.25

#: Columns that are put together at a time, which keeps the memory for it small.
COLUMNS = 512

type Array = NDArray[np.float32]


class Blender:
    """Blends overlapping tiles in the order of a :class:`~torchgeo_planetcr.samplers.TileSampler`.

    Near the edge of a tile a network lacks what lies beyond. So a quarter of the overlap
    has no weight, and over its middle half one tile fades into the other along a raised
    cosine. At the edges of the scene, where nothing else is, tiles weigh in full. Where
    tiles agree, the result is what they say, to float32 rounding.

    No more than a row of tiles is in memory, of one strip if there are several, and what
    the tiles of that strip say of the first columns of the next one.
    """

    def __init__(
        self, shape: tuple[int, int, int], tile_shape: tuple[int, int], overlap: int
    ) -> None:
        """Initialize a new Blender instance.

        Args:
            shape: Number of bands, rows and columns of the result.
            tile_shape: Number of rows and columns of a tile.
            overlap: Number of pixels that neighboring tiles share.
        """
        bands, self.height, self.width = shape
        self.tile_shape, self.overlap = tile_shape, overlap
        self._strip = strip_width(max(tile_shape[1] - overlap, 1))
        #: First row that is not taken, and first column of the strip, and of the last one.
        self._row = self._left = 0
        self._last = self._strip_of(self.width - tile_shape[1])
        columns, shared = self.width - self._last, 0
        if self._last:
            columns, shared = max(self._strip + overlap, columns), overlap
        # Weighted values of each band, and weights: of a row of tiles, and of all lines at
        # the beginning of the next strip
        self._sums = np.zeros((bands + 1, tile_shape[0], columns), dtype=np.float32)
        self._edge = np.zeros((bands + 1, self.height, shared), dtype=np.float32)

    def add(
        self,
        row: int,
        col: int,
        values: Array,
        has_data: NDArray[np.bool_] | bool = True,
    ) -> None:
        """Add a tile, after :meth:`take` has been called for it.

        Args:
            row: Its first row.
            col: Its first column.
            values: Its values, of shape (C, H, W).
            has_data: Where they count, of shape (H, W) (defaults to everywhere).

        Raises:
            ValueError: If parts of it were taken already, if the next tiles of the strip
                cannot follow on it, or if it has another number of bands or another size
                than is expected.
        """
        height, width = self.tile_shape
        shape = len(self._sums) - 1, height, width
        right = min(self._right() + self.overlap, self.width)
        follows = (row, self._strip_of(col)) == (self._row, self._left)
        if not follows or col + width > right or values.shape != shape:
            bands, rows, columns = values.shape
            raise ValueError(
                f'a tile of {bands} bands, {rows} rows and {columns} columns at row {row}, '
                f'column {col} does not follow on those before it: use a TileSampler'
            )
        weight = np.outer(
            _profile(height, self.overlap, row > 0, row + height < self.height),
            _profile(width, self.overlap, col > 0, col + width < self.width),
        )
        weight *= has_data
        part = self._sums[..., col - self._left :][..., :width]
        self._add(part, values, weight)

    def take(self, row: int, col: int) -> Iterator[tuple[int, int, Array]]:
        """Take what lies before the next tile, some columns at a time.

        That is all strips before its own, and the lines above it.

        Args:
            row: First row of the next tile.
            col: First column of the next tile.

        Yields:
            First row, first column, and the values from there, of shape (C, H', W'); NaN
            where there was no tile, or none with data. Parts without any tile are left out.

        Raises:
            ValueError: If parts of the tile were taken already.
        """
        left = self._strip_of(col)
        if (left, row) < (self._left, self._row):
            raise ValueError(
                f'a tile at row {row}, column {col} comes after one at row {self._row} of '
                f'the strip that begins at column {self._left}: use a TileSampler'
            )
        while self._left < left:
            yield from self._take_lines(self.height)
            self._row, self._left = 0, self._left + self._strip
        yield from self._take_lines(row)

    def take_rest(self) -> Iterator[tuple[int, int, Array]]:
        """Take what is left when there are no more tiles.

        Yields:
            As :meth:`take` does.
        """
        yield from self.take(self.height, self.width - self.tile_shape[1])

    def _take_lines(self, stop: int) -> Iterator[tuple[int, int, Array]]:
        """Take the lines of the strip above a line."""
        while self._row < stop:
            row, rows = self._row, self.tile_shape[0]
            count = min(stop - row, rows)
            lines, edge = self._sums[:, :count], self._edge[:, row : row + count]
            size, columns = edge.shape[2], self._right() - self._left
            self._merge(lines[..., :size], edge)
            if self._left < self._last:
                edge[:] = lines[..., columns : columns + size]
            for col in range(0, columns, COLUMNS):
                part = lines[..., col : min(col + COLUMNS, columns)]
                if part[-1].any():
                    with np.errstate(invalid='ignore'):
                        values = part[:-1] / part[-1]
                    yield row, self._left + col, values
            for array in self._sums:
                array[: rows - count] = array[count:].copy()
                array[rows - count :] = 0
            self._row += count

    def _add(self, part: Array, values: Array, weight: Array) -> None:
        """Add weighted values, and their weights, to what is there."""
        part[-1] += weight
        for total, band in zip(part[:-1], values, strict=True):
            total += weight * band

    def _merge(self, part: Array, other: Array) -> None:
        """Put what two strips say of the same pixels together, in the first one."""
        part += other

    def _strip_of(self, col: int) -> int:
        """First column of the strip of a tile."""
        return col // self._strip * self._strip

    def _right(self) -> int:
        """First column beyond the strip."""
        return self.width if self._left == self._last else self._left + self._strip


class ClassBlender(Blender):
    """Takes each pixel from the tile that has most weight there, as classes have no mean."""

    def _add(self, part: Array, values: Array, weight: Array) -> None:
        """Add weighted values, and their weights, where no other tile has more."""
        self._merge(part, np.concatenate([weight * values, weight[None]]))

    def _merge(self, part: Array, other: Array) -> None:
        """Put what two tiles or strips say of the same pixels together, in the first one."""
        better = other[-1] > part[-1]
        part[:, better] = other[:, better]


@lru_cache(maxsize=16)
def _profile(size: int, overlap: int, rises: bool, falls: bool) -> Array:
    """Weights of the pixels of a tile along an axis.

    Args:
        size: Number of pixels.
        overlap: Number of pixels that neighbors share.
        rises: Whether there is another tile before it.
        falls: Whether there is another tile behind it.

    Returns:
        Weights, in [0, 1].
    """
    distance = np.arange(size, dtype=np.float32) + 0.5
    margin = DISCARDED * overlap
    ramp = (distance - margin) / max(overlap - 2 * margin, 1)
    rising = 0.5 - 0.5 * np.cos(np.pi * ramp.clip(0, 1))
    weight = np.ones(size, dtype=np.float32)
    if rises:
        weight *= rising
    if falls:
        weight *= rising[::-1]
    return weight
