# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import copy
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pyproj import CRS

from torchgeo_planetcr.datasets import PlanetCR, PlanetCRCloudy
from torchgeo_planetcr.datasets.index_view import IndexView


@pytest.fixture
def view(root: Path) -> IndexView:
    """Rows of several CRSs."""
    return PlanetCR(root).index_view


class TestLookUp:
    def test_columns(self, view: IndexView) -> None:
        for name in ('filepath', 'native_bounds', 'cloud_cover'):
            assert list(view.column(name)) == view.index[name].tolist()
            assert view.column(name) is view.column(name)

    def test_rows(self, view: IndexView) -> None:
        for row, path in enumerate(view.index['filepath']):
            assert view.rows[path] == row

    def test_grid(self, view: IndexView) -> None:
        for row, (_, patch) in enumerate(view.index.iterrows()):
            grid = view.grid(row)
            assert grid.crs == patch['native_crs']
            assert grid.bounds == patch['native_bounds']
            assert (grid.height, grid.width) == (300, 300)


class TestSelect:
    def test_several_crss(self, view: IndexView) -> None:
        part = view.select(np.ones(len(view.index), dtype=bool))
        assert part.crs is None
        pd.testing.assert_frame_equal(part.index, view.index)

    def test_one_crs_left(self, view: IndexView) -> None:
        part = view.select((view.index['aoi'] == 'spring_1').to_numpy())
        assert part.crs == 'EPSG:32646'
        assert part.index.crs == CRS.from_epsg(32646)
        for _, row in part.index.iterrows():
            assert row['geometry'].bounds == row['native_bounds']

    def test_in_crs(self, view: IndexView) -> None:
        part = view.in_crs('EPSG:32736')
        assert set(part.index['native_crs']) == {'EPSG:32736'}
        assert view.in_crs('EPSG:32736') is part
        with pytest.raises(ValueError, match=r'EPSG:4326.*EPSG:32633'):
            view.in_crs('EPSG:4326')

    def test_warped(self, view: IndexView) -> None:
        """The geometry stays in the CRS of the pixels."""
        warped = IndexView(view.index, 'EPSG:6933')
        part = warped.in_crs('EPSG:32736')
        assert warped.crs == part.crs == 'EPSG:6933'
        assert part.index.crs == CRS.from_epsg(6933)


class TestPickle:
    @pytest.mark.parametrize('warped_to', [None, 'EPSG:6933'])
    def test_same(self, view: IndexView, warped_to: str | None) -> None:
        view = IndexView(view.index, warped_to)
        for other in (pickle.loads(pickle.dumps(view)), copy.deepcopy(view)):
            assert other is not view
            assert (other.crs, other.warped_to) == (view.crs, warped_to)
            pd.testing.assert_frame_equal(other.index, view.index)
            assert other.index.crs == view.index.crs

    def test_without_what_is_computed(self, view: IndexView) -> None:
        size = len(pickle.dumps(IndexView(view.index)))
        view.column('filepath'), view.rows, view.in_crs('EPSG:32736')
        assert len(pickle.dumps(view)) == size

    def test_unused_index_is_not_made(self, root: Path) -> None:
        """A data set of files makes its index when it is first used."""
        dataset = PlanetCRCloudy(root)
        size = len(pickle.dumps(dataset))
        assert '_index_view' not in vars(dataset)
        assert len(dataset) == len(dataset.headers)
        assert len(pickle.dumps(dataset)) > size


class TestNewIndex:
    def test_new_view(self, root: Path) -> None:
        dataset = PlanetCR(root).in_crs(32646)
        before = dataset.index_view
        first = dataset.index['filepath'].iloc[0]
        dataset.index = dataset.index.iloc[1:]
        assert dataset.index_view is not before
        assert first not in dataset.index_view.rows

    def test_copy_has_its_own(self, root: Path) -> None:
        dataset = PlanetCR(root)
        other = copy.copy(dataset)
        other.index = other.index.iloc[:3]
        assert len(dataset) > len(other) == 3
