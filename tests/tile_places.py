# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Scenes for tiles, and where tiles are in them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rasterio.transform import from_origin
from rasters import write
from small_scene import LEFT, TOP

from torchgeo_planetcr.datasets import NativeRasterDataset, NativeSlice


def make_dataset(
    folder: Path, shapes: Sequence[tuple[int, int]]
) -> NativeRasterDataset:
    """Scenes of some heights and widths, in this order, in two zones."""
    for number, shape in enumerate(shapes):
        array = np.zeros((1, *shape), dtype=np.uint8)
        options = {'crs': f'EPSG:3264{6 + number % 2}', 'compress': 'deflate'}
        transform = from_origin(LEFT, TOP, 3, 3)
        write(folder / f'{number}.tif', array, transform=transform, **options)
    return NativeRasterDataset(folder)


def place(tile: NativeSlice) -> tuple[int, int, int, int]:
    """First row and column, height and width of a tile."""
    edges = np.array([TOP - tile.y.stop, tile.x.start - LEFT, TOP, tile.x.stop - LEFT])
    edges[2] -= tile.y.start
    row, col, stop_row, stop_col = (edges / 3).round().astype(int).tolist()
    return row, col, stop_row - row, stop_col - col
