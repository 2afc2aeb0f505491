# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Overlapping tiles of a scene, and the scene put together again without seams."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

#: Share of the overlap, at each edge of a tile, that is thrown away.
DISCARDED = 0.25

type Array = NDArray[np.float32]


class Tile(NamedTuple):
    """A window of a scene, in pixels."""

    row: int
    col: int
    height: int
    width: int


def starts(length: int, size: int, overlap: int) -> list[int]:
    """Where tiles start along an axis.

    Args:
        length: Number of pixels of the scene.
        size: Number of pixels of a tile.
        overlap: Number of pixels that neighbours share at least.

    Returns:
        First pixel of each tile. The last one is moved inwards so that it ends with the
        scene.

    Raises:
        ValueError: If tiles are no larger than twice their overlap.
    """
    if not 0 <= 2 * overlap < size:
        msg = f'overlap={overlap} must be less than half of the tile size of {size}.'
        raise ValueError(msg)
    last = max(length - size, 0)
    return [*range(0, last, size - overlap), last]


def plan_tiles(height: int, width: int, size: int, overlap: int) -> list[list[Tile]]:
    """Cover a scene with tiles.

    Args:
        height: Number of rows of the scene.
        width: Number of columns of the scene.
        size: Height and width of a tile; a smaller scene is one tile.
        overlap: Number of pixels that neighbours share at least.

    Returns:
        Rows of tiles, all of which have the same size.

    Raises:
        ValueError: If tiles are no larger than twice their overlap.
    """
    rows, cols = starts(height, size, overlap), starts(width, size, overlap)
    shape = min(size, height), min(size, width)
    return [[Tile(row, col, *shape) for col in cols] for row in rows]


class Blender:
    """Blends overlapping tiles, with no more than a row of them in memory.

    Near the edge of a tile a network lacks what lies beyond. So a quarter of the overlap
    has no weight, and over its middle half one tile fades into the other along a raised
    cosine. At the edges of the scene, where nothing else is, tiles weigh in full. Where
    tiles agree, the result is what they say, to float32 rounding.
    """

    def __init__(
        self, height: int, width: int, bands: int, size: int, overlap: int
    ) -> None:
        """Initialize a new Blender instance.

        Args:
            height: Number of rows of the scene.
            width: Number of columns of the scene.
            bands: Number of bands.
            size: Height and width of a tile, see :func:`plan_tiles`.
            overlap: Number of pixels that neighbours share at least.
        """
        self.height = height
        self.overlap = overlap
        self.tiles = plan_tiles(height, width, size, overlap)
        rows = min(size, height)
        self._sum = np.zeros((bands, rows, width), dtype=np.float32)
        self._weight = np.zeros((rows, width), dtype=np.float32)
        self._row = 0
        self._row_weights = self._profiles([row[0].row for row in self.tiles], height)
        self._col_weights = self._profiles([t.col for t in self.tiles[0]], width)

    def add(self, tile: Tile, values: Array) -> None:
        """Add a tile of the row of tiles that is being blended.

        Args:
            tile: One of :attr:`tiles`.
            values: Its values, of shape (C, H, W).
        """
        weight = np.outer(self._row_weights[tile.row], self._col_weights[tile.col])
        columns = slice(tile.col, tile.col + tile.width)
        self._sum[:, :, columns] += weight * values
        self._weight[:, columns] += weight

    def finish(self, number: int) -> tuple[int, Array]:
        """Take the lines that no further row of tiles will change.

        Args:
            number: Number of the row of tiles that is complete.

        Returns:
            First line, and the values of the lines from there, of shape (C, H', W); NaN
            where there was no tile.
        """
        row = self._row
        stop = self.height
        if number + 1 < len(self.tiles):
            stop = self.tiles[number + 1][0].row
        count = stop - row
        with np.errstate(invalid='ignore'):
            done = self._sum[:, :count] / self._weight[:count]
        for array in (self._sum, self._weight):
            array[..., : array.shape[-2] - count, :] = array[..., count:, :].copy()
            array[..., array.shape[-2] - count :, :] = 0
        self._row = stop
        return row, done

    def _profiles(self, first: Sequence[int], length: int) -> dict[int, Array]:
        """Weights of the pixels of each tile along an axis."""
        size = length - first[-1]
        distance = np.arange(size, dtype=np.float32) + 0.5
        margin = DISCARDED * self.overlap
        ramp = (distance - margin) / max(self.overlap - 2 * margin, 1)
        rising = 0.5 - 0.5 * np.cos(np.pi * ramp.clip(0, 1))
        profiles = {}
        for start in first:
            weight = np.ones(size, dtype=np.float32)
            if start > 0:
                weight = weight * rising
            if start + size < length:
                weight = weight * rising[::-1]
            profiles[start] = weight
        return profiles
