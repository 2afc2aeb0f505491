# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from rasterio.enums import Resampling

from torchgeo_planetcr.raster.grid import Grid
from torchgeo_planetcr.raster.warp import enlarge, mosaic, warp_array

CRS, OTHER_CRS = 'EPSG:32646', 'EPSG:32647'


class TestWarpArray:
    def test_same_crs(self) -> None:
        """Four pixels of each one, and what stands for no data beyond the edges."""
        array = np.arange(6, dtype=np.int32).reshape(1, 2, 3)
        source, target = Grid(CRS, 0, 20, 10, 10, 2, 3), Grid(CRS, -5, 25, 5, 5, 6, 8)
        actual = warp_array(array, source, target, Resampling.nearest, nodata=9)
        assert not np.ma.isMaskedArray(actual)
        expected = np.pad(array[0].repeat(2, 0).repeat(2, 1), 1, constant_values=9)
        assert (actual[0] == expected).all()

    def test_corners(self) -> None:
        """In another CRS, a rectangle leaves corners without a pixel."""
        source = Grid(CRS, 500000, 2000000, 10, 10, 100, 100)
        bounds = source.bounds_in(OTHER_CRS)
        target = Grid.from_bounds(OTHER_CRS, bounds, (10, 10))
        actual = warp_array(
            np.ones((1, 100, 100)), source, target, Resampling.bilinear, nodata=None
        )
        masked = np.ma.getmaskarray(actual)[0]
        assert masked[0, 0] and masked[-1, -1]
        assert 0.01 < masked.mean() < 0.2
        assert (np.ma.getdata(actual)[0][~masked] == 1).all()


class TestMosaic:
    GRID = Grid(CRS, 0, 30, 10, 10, 3, 4)

    def part(self, value: float, left: float, right: float) -> Any:
        """A raster of one value between two columns."""

        def read(grid: Grid) -> NDArray[Any]:
            return np.full((1, grid.height, grid.width), value)

        return (left, 0, right, 30), read

    def test_first_on_top(self) -> None:
        parts = [self.part(1, 0, 20), self.part(2, 10, 30)]
        assert mosaic(self.GRID, parts, fill=9)[0].tolist() == 3 * [[1, 1, 2, 9]]

    def test_nodata_shows_what_is_below(self) -> None:
        parts = [self.part(np.nan, 0, 20), self.part(2, 10, 30)]
        actual = mosaic(self.GRID, parts, fill=9, nodata=np.nan)
        assert actual[0].tolist() == 3 * [[9, 2, 2, 9]]

    def test_masked(self) -> None:
        """What is masked shows what is below."""
        (bounds, read), below = self.part(1, 0, 40), self.part(2, 0, 40)

        def masked(grid: Grid) -> NDArray[Any]:
            mask = np.repeat([[[False], [True], [False]]], 4, axis=2)
            return np.ma.MaskedArray(read(grid), mask)

        actual = mosaic(self.GRID, [(bounds, masked), below], fill=9)
        assert actual[0].tolist() == [4 * [1], 4 * [2], 4 * [1]]


@pytest.mark.parametrize('bilinear', [True, False])
def test_enlarge(bilinear: bool) -> None:
    """The target goes beyond the source on all sides."""
    array = np.arange(6.0).reshape(1, 2, 3)
    source = Grid('EPSG:32646', 0, 20, 10, 10, 2, 3)
    target = Grid('EPSG:32646', -10, 30, 5, 5, 8, 10)
    found = enlarge(
        lambda row, col, height, width: array[:, row : row + height, col : col + width],
        source,
        target,
        bilinear,
    )
    assert found.shape == (1, 8, 10)
    for i in range(8):
        for j in range(10):
            # In pixels of the source from the center of the first
            y, x = (i + 0.5) / 2 - 1 - 0.5, (j + 0.5) / 2 - 1 - 0.5
            y, x = min(max(y, 0), 1), min(max(x, 0), 2)
            if not bilinear:
                y, x = np.floor(y + 0.5), np.floor(x + 0.5)
            assert found[0, i, j] == pytest.approx(3 * y + x)
