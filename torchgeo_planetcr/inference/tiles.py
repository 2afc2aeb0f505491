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

#: Columns that are put together at a time, which keeps the memory for it small.
COLUMNS = 512

type Array = NDArray[np.float32]


class TileSampler(GriddedNativePatchSampler):
    """Cover whole scenes with overlapping tiles, scene by scene and from top to bottom.

    A scene is a row of the index of the data set; one that is smaller than a tile is one
    tile. Where a process group of :mod:`torch.distributed` is set up, each process takes
    whole scenes, as one of them must put a scene together.
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
    """Blends overlapping tiles, with no more than a row of them in memory.

    Near the edge of a tile a network lacks what lies beyond. So a quarter of the overlap
    has no weight, and over its middle half one tile fades into the other along a raised
    cosine. At the edges of the scene, where nothing else is, tiles weigh in full. Where
    tiles agree, the result is what they say, to float32 rounding.
    """

    def __init__(self, height: int, width: int, overlap: int) -> None:
        """Initialize a new Blender instance.

        Args:
            height: Number of rows of the scene.
            width: Number of columns of the scene.
            overlap: Number of pixels that neighbouring tiles share.
        """
        self.height, self.width, self.overlap = height, width, overlap
        self._row = 0
        self._sum = np.zeros((0, 0, width), dtype=np.float32)
        self._weight = np.zeros((0, width), dtype=np.float32)

    def add(
        self,
        row: int,
        col: int,
        values: Array,
        has_data: NDArray[np.bool_] | bool = True,
    ) -> None:
        """Add a tile.

        Args:
            row: Its first row.
            col: Its first column.
            values: Its values, of shape (C, H, W).
            has_data: Where they count, of shape (H, W) (defaults to everywhere).

        Raises:
            ValueError: If lines of it were taken already, or if it has another number of
                bands or another height than the tiles before.
        """
        bands, height, width = values.shape
        if not self._sum.size:
            self._sum = np.zeros((bands, height, self.width), dtype=np.float32)
            self._weight = np.zeros((height, self.width), dtype=np.float32)
        if row != self._row or self._sum.shape[:2] != (bands, height):
            msg = f'a tile of {bands} bands and {height} rows at row {row} does not '
            msg += 'follow on those before it: use a TileSampler.'
            raise ValueError(msg)
        columns = slice(col, col + width)
        weight = np.outer(
            _profile(height, self.overlap, row > 0, row + height < self.height),
            _profile(width, self.overlap, col > 0, col + width < self.width),
        )
        weight *= has_data
        self._weight[:, columns] += weight
        for total, band in zip(self._sum, values, strict=True):
            total[:, columns] += weight * band

    def take(self, stop: int) -> Iterator[tuple[int, int, Array]]:
        """Take the lines above the next tile, some columns at a time.

        Args:
            stop: First row of the next tile.

        Yields:
            First row, first column, and the values from there, of shape (C, H', W'); NaN
            where there was no tile, or none with data. Parts without any tile are left out.

        Raises:
            ValueError: If lines below it were taken already.
        """
        row, rows = self._row, len(self._weight)
        if stop < row:
            msg = f'a tile at row {stop} comes after one at row {row}: use a '
            msg += 'TileSampler.'
            raise ValueError(msg)
        count = min(stop - row, rows)
        for col in range(0, self.width if count else 0, COLUMNS):
            part = slice(None, count), slice(col, col + COLUMNS)
            if self._weight[part].any():
                with np.errstate(invalid='ignore'):
                    yield row, col, self._sum[:, *part] / self._weight[part]
        if count:
            for array in (*self._sum, self._weight):
                array[: rows - count] = array[count:].copy()
                array[rows - count :] = 0
        self._row = stop


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
