# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Overlapping tiles of scenes, and scenes put together again without seams."""

from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import batched, groupby

import numpy as np
from numpy.typing import NDArray
from torch import distributed
from torch.utils.data import Sampler
from torchgeo.datasets import GeoDataset

from ..datasets.native import NativeSlice
from ..samplers import GriddedNativePatchSampler
from ..samplers.native import count_processes, to_pixels

#: Share of the overlap, at each edge of a tile, that is thrown away.
DISCARDED = 0.25

#: Columns from a strip to the next, at most. Scenes that are wider are put together strip by
#: strip, so that rows of tiles, and the blocks of files that they share, take no more memory.
STRIP = 4096

#: Columns that are put together at a time, which keeps the memory for it small.
COLUMNS = 512

type Array = NDArray[np.float32]


class TileSampler(GriddedNativePatchSampler):
    """Cover whole scenes with overlapping tiles, scene by scene and from top to bottom.

    Wide scenes are covered in strips of some 4000 columns, one after the other, so that
    putting them together takes no more memory. A scene is a row of the index of the data
    set; one that is smaller than a tile is one tile. Where a process group of
    :mod:`torch.distributed` is set up, each process takes whole scenes, as one of them must
    put a scene together.
    """

    def __init__(
        self,
        dataset: GeoDataset,
        *,
        size: int = 512,
        overlap: int = 64,
        keep: Callable[[NativeSlice], bool] | None = None,
    ) -> None:
        """Initialize a new TileSampler instance.

        Args:
            dataset: Native data set of scenes.
            size: Height and width of a tile in pixels.
            overlap: Number of pixels that neighbours share at least.
            keep: Says whether a tile is wanted (defaults to all tiles).

        Raises:
            TypeError: If *dataset* does not keep native grids.
            ValueError: If tiles are no larger than twice their overlap.
        """
        if not 0 <= 2 * overlap < size:
            msg = (
                f'overlap={overlap} must be less than half of the tile size of {size}.'
            )
            raise ValueError(msg)
        super().__init__(dataset, size=size, stride=size - overlap)
        self.keep = keep
        #: Number of tiles that were not wanted.
        self.skipped = 0

    def __iter__(self) -> Iterator[NativeSlice]:
        """Iterate over the tiles of this process.

        Yields:
            Tile in the CRS of its scene.
        """
        for row in self._own_rows():
            corners = self._grid(*self._first[row], *self._last[row])
            strips = (corners[:, 1] - self._first[row, 1]) // _strip(self.stride[1])
            corners = corners[np.argsort(strips, kind='stable')]
            rows = np.full(len(corners), row)
            for tile in self._slices(rows, corners):
                if self.keep is None or self.keep(tile):
                    yield tile
                else:
                    self.skipped += 1

    def __len__(self) -> int:
        """Number of tiles of this process, those that are not wanted included."""
        return int(self._num_tiles()[self._own_rows()].sum())

    def num_batches(self, batch_size: int) -> int:
        """Number of batches that hold tiles of one scene each.

        Args:
            batch_size: Largest number of tiles of a batch.

        Returns:
            The number of batches, those of tiles that are not wanted included.
        """
        return int(np.ceil(self._num_tiles()[self._own_rows()] / batch_size).sum())

    def _own_rows(self) -> list[int]:
        """Rows of the index whose scenes this process takes."""
        # Dealt out from the largest to the smallest, so that all have about as much
        order = self._rows[np.argsort(-self._num_tiles()[self._rows], kind='stable')]
        processes = count_processes()
        rank = distributed.get_rank() if processes > 1 else 0
        return sorted(order[rank::processes].tolist())

    def _num_tiles(self) -> NDArray[np.intp]:
        """Number of tiles of each row of the index."""
        steps = np.ceil((self._last - self._first) / self.stride).astype(np.intp)
        return (steps + 1).prod(axis=1)

    def _window_sizes(
        self, size: tuple[int, int] | int | None, parts: NDArray[np.intp]
    ) -> NDArray[np.intp]:
        """Height and width of the tiles of each scene."""
        return np.minimum(parts, to_pixels(size or 0, 'size'))


class TileBatchSampler(Sampler[list[NativeSlice]]):
    """Group the tiles of a :class:`TileSampler` into batches.

    All tiles of a batch are of one scene, and so of one size.
    """

    def __init__(self, sampler: TileSampler, batch_size: int) -> None:
        """Initialize a new TileBatchSampler instance.

        Args:
            sampler: Sampler of tiles.
            batch_size: Largest number of tiles of a batch.

        Raises:
            ValueError: If *batch_size* is not positive.
        """
        if batch_size < 1:
            msg = f'batch_size={batch_size} must be positive.'
            raise ValueError(msg)
        self.sampler = sampler
        # Lightning would make another of what has an attribute batch_size, without tiles
        self._size = batch_size

    def __iter__(self) -> Iterator[list[NativeSlice]]:
        """Iterate over batches.

        Yields:
            Tiles of a batch.
        """
        for _, tiles in groupby(self.sampler, key=lambda tile: tile.filepath):
            yield from map(list, batched(tiles, self._size))

    def __len__(self) -> int:
        """Number of batches, those of tiles that are not wanted included."""
        return self.sampler.num_batches(self._size)


class Blender:
    """Blends overlapping tiles in the order of a :class:`TileSampler`.

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
            overlap: Number of pixels that neighbouring tiles share.
        """
        bands, self.height, self.width = shape
        self.tile_shape, self.overlap = tile_shape, overlap
        self._strip = _strip(max(tile_shape[1] - overlap, 1))
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
        """Add a tile, once what lies before it is taken.

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
            msg = f'a tile of {bands} bands, {rows} rows and {columns} columns at row {row}, '
            msg += (
                f'column {col} does not follow on those before it: use a TileSampler.'
            )
            raise ValueError(msg)
        weight = np.outer(
            _profile(height, self.overlap, row > 0, row + height < self.height),
            _profile(width, self.overlap, col > 0, col + width < self.width),
        )
        weight *= has_data
        part = self._sums[..., col - self._left :][..., :width]
        part[-1] += weight
        for total, band in zip(part[:-1], values, strict=True):
            total += weight * band

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
            msg = f'a tile at row {row}, column {col} comes after one at row {self._row} of '
            msg += f'the strip that begins at column {self._left}: use a TileSampler.'
            raise ValueError(msg)
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
            lines[..., :size] += edge
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

    def _strip_of(self, col: int) -> int:
        """First column of the strip of a tile."""
        return col // self._strip * self._strip

    def _right(self) -> int:
        """First column beyond the strip."""
        return self.width if self._left == self._last else self._left + self._strip


def _strip(stride: int) -> int:
    """Number of columns from a strip to the next.

    Args:
        stride: Number of columns from a tile to the next.

    Returns:
        A multiple of it.
    """
    return max(STRIP // stride, 1) * stride


@lru_cache(maxsize=16)
def _profile(size: int, overlap: int, rises: bool, falls: bool) -> Array:
    """Weights of the pixels of a tile along an axis.

    Args:
        size: Number of pixels.
        overlap: Number of pixels that neighbours share.
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
