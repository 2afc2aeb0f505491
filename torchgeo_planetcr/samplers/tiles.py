# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Overlapping tiles of scenes."""

from collections.abc import Callable, Iterator
from itertools import batched, groupby

import numpy as np
from numpy.typing import NDArray
from torch import distributed
from torch.utils.data import Sampler
from torchgeo.datasets import GeoDataset

from ..datasets.slices import NativeSlice
from .native import GriddedNativePatchSampler, check_size, count_processes

#: Columns from a strip to the next, at most. Wider scenes are put together strip by strip,
#: so that rows of tiles, and the blocks of files that they share, take no more memory.
STRIP_WIDTH = 4096


class TileSampler(GriddedNativePatchSampler):
    """Cover whole scenes with overlapping tiles, scene by scene and from top to bottom.

    Wide scenes are covered in strips of some 4000 columns, one after the other, so that
    memory does not grow with the width where they are put together. A scene is a row of the
    index of the data set; one that is smaller than a tile is one tile. Where a process group
    of :mod:`torch.distributed` is set up, each process takes whole scenes, as one of them
    must put a scene together.
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
            overlap: Number of pixels that neighbors share at least.
            keep: Says whether a tile is wanted (defaults to all tiles).

        Raises:
            TypeError: If *dataset* does not keep native grids.
            ValueError: If tiles are no larger than twice their overlap.
        """
        if not 0 <= 2 * overlap < size:
            raise ValueError(
                f'overlap={overlap} must be less than half of the tile size of {size}'
            )
        super().__init__(dataset, size=size, stride=size - overlap)
        self.keep = keep
        #: Number of tiles of the current iteration that were not wanted.
        self.skipped = 0

    def __iter__(self) -> Iterator[NativeSlice]:
        """Iterate over the tiles of this process.

        Yields:
            Tile in the CRS of its scene.
        """
        self.skipped = 0
        for row in self.own_rows():
            corners = self._corners(*self._first[row], *self._last[row])
            strips = (corners[:, 1] - self._first[row, 1]) // strip_width(
                self.stride[1]
            )
            corners = corners[np.argsort(strips, kind='stable')]
            rows = np.full(len(corners), row)
            for tile in self._slices(rows, corners):
                if self.keep is None or self.keep(tile):
                    yield tile
                else:
                    self.skipped += 1

    def __len__(self) -> int:
        """Number of tiles of this process, those that are not wanted included."""
        return int(self._num_tiles()[self.own_rows()].sum())

    def num_batches(self, batch_size: int) -> int:
        """Number of batches that hold tiles of one scene each.

        Args:
            batch_size: Largest number of tiles of a batch.

        Returns:
            The number of batches, those of tiles that are not wanted included.
        """
        return int(np.ceil(self._num_tiles()[self.own_rows()] / batch_size).sum())

    def own_rows(self) -> list[int]:
        """Rows of the index whose scenes this process takes.

        Returns:
            Positions of the rows, in the order of the index.
        """
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
        return np.minimum(parts, check_size(size or 0, 'size'))


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
            raise ValueError(f'batch_size={batch_size} must be positive')
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


def strip_width(stride: int) -> int:
    """Find the number of columns from a strip to the next.

    Args:
        stride: Number of columns from a tile to the next.

    Returns:
        A multiple of it.
    """
    return max(STRIP_WIDTH // stride, 1) * stride
