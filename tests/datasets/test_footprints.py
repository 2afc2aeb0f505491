# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
from geopandas import GeoSeries
from pyproj import CRS, Transformer

from torchgeo_planetcr.datasets import PlanetCR
from torchgeo_planetcr.datasets.footprints import (
    LOOKUP_CRS,
    WGS84,
    clip_footprints,
    reproject,
    to_boxes,
)

ZONES = np.array(['EPSG:32646', 'EPSG:32736', 'EPSG:32646'], dtype=object)
BOXES = to_boxes(
    np.array(
        [
            (760299, 1897512, 761199, 1898412),
            (385308, 9314170, 386208, 9315070),
            (500000, 2000000, 500900, 2000900),
        ],
        dtype=float,
    )
)


class TestNativeIndex:
    def test_several_crss(self, root: Path) -> None:
        dataset = PlanetCR(root)
        index = dataset.index
        assert isinstance(index.index, pd.IntervalIndex)
        assert index.index.name == 'datetime'
        assert index.crs == CRS.from_epsg(6933)
        assert dataset.crs == CRS.from_epsg(6933)
        assert {'filepath', 'geometry', 'native_crs', 'native_res'} <= set(index)
        assert index['native_crs'].nunique() == 5
        for _, row in index.iterrows():
            with rasterio.open(row['filepath']) as src:
                assert row['native_crs'] == src.crs.to_string()
                assert row['native_res'] == src.res
                assert row['native_bounds'] == tuple(src.bounds)
                box = GeoSeries([shapely.box(*src.bounds)], crs=src.crs.to_wkt())
            assert row['geometry'].equals_exact(box.to_crs(6933).iloc[0], 1e-6)

    def test_one_crs(self, view: PlanetCR) -> None:
        assert view.crs == CRS.from_epsg(32646)
        assert view.res == (3, 3)
        for _, row in view.index.iterrows():
            assert row['geometry'].bounds == row['native_bounds']
        x, y, t = view.bounds
        assert (x.start, x.stop, x.step) == (760299, 760299 + 1800, 3)
        assert (y.start, y.stop, y.step) == (1898412 - 1800, 1898412, 3)
        assert t.start == pd.Timestamp.min
        assert t.stop == pd.Timestamp.max

    def test_rows_of_patches(self, root: Path, data: Any) -> None:
        expected = {
            f'{area.name}_p_{number}': (
                f'EPSG:{area.epsg}',
                (
                    area.xmin + 900 * col,
                    area.ymax - 900 * row - 900,
                    area.xmin + 900 * col + 900,
                    area.ymax - 900 * row,
                ),
            )
            for area in data.AREAS
            for number, (col, row) in enumerate(area.patches, start=1)
        }
        found = {}
        for split in ('train', 'val', 'test'):
            index = PlanetCR(root, split).index
            assert (index['split'] == split).all()
            assert not set(index['patch']) & set(found)
            found |= dict(
                zip(index['patch'], zip(index['native_crs'], index['native_bounds']))
            )
        assert found == expected


class TestReproject:
    @pytest.mark.parametrize('target', [WGS84, LOOKUP_CRS, 'EPSG:3857'])
    def test_each_from_its_own_crs(self, target: str) -> None:
        polygons = reproject(BOXES, ZONES, target)
        for polygon, box, zone in zip(polygons, BOXES, ZONES, strict=True):
            transformer = Transformer.from_crs(zone, target, always_xy=True)
            x, y = transformer.transform(*shapely.get_coordinates(box).T)
            found = shapely.get_coordinates(polygon)
            np.testing.assert_allclose(found.T, [x, y], rtol=0, atol=1e-6)

    def test_back(self) -> None:
        there = reproject(BOXES, ZONES, LOOKUP_CRS)
        back = reproject(there, LOOKUP_CRS, ZONES)
        assert shapely.equals_exact(back, BOXES, 1e-5).all()

    def test_same_crs(self) -> None:
        assert (reproject(BOXES, ZONES, ZONES) == BOXES).all()


class TestClipFootprints:
    @pytest.mark.parametrize('one_crs', [True, False])
    def test_whole(self, root: Path, one_crs: bool) -> None:
        dataset = PlanetCR(root)
        index = dataset.in_crs(32646).index if one_crs else dataset.index
        parts, is_whole = clip_footprints(index)
        assert is_whole.all()
        bounds = np.array(index['native_bounds'].tolist())
        np.testing.assert_array_equal(shapely.bounds(parts), bounds)

    @pytest.mark.parametrize('one_crs', [True, False])
    def test_cut(self, root: Path, one_crs: bool) -> None:
        """The first patch loses its right half."""
        dataset = PlanetCR(root)
        index = dataset.in_crs(32646).index if one_crs else dataset.index
        geometry = index.geometry.to_numpy().copy()
        xmin, ymin, xmax, ymax = geometry[0].bounds
        half = shapely.box(xmin, ymin, (xmin + xmax) / 2, ymax)
        geometry[0] = geometry[0].intersection(half)
        index = index.set_geometry(GeoSeries(geometry, crs=index.crs).array)
        parts, is_whole = clip_footprints(index)
        assert is_whole.tolist() == [False] + [True] * (len(index) - 1)
        assert parts[0].area == pytest.approx(900 * 900 / 2, rel=0.05)
        assert shapely.box(*index['native_bounds'].iloc[0]).covers(parts[0])
