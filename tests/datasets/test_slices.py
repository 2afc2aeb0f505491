# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import rasterio
from native_data import ANY
from pyproj import CRS

from torchgeo_planetcr.datasets import NativeSlice


class TestNativeSlice:
    @pytest.fixture
    def window(self) -> NativeSlice:
        time = slice(pd.Timestamp(2020, 1, 2), pd.Timestamp(2021, 3, 4))
        return NativeSlice(
            slice(385308.1, 386208.1), slice(9314170, 9315070), time, 32736, 'a file'
        )

    def test_is_tuple(self, window: NativeSlice) -> None:
        x, y, t = window
        assert isinstance(window, tuple)
        assert len(window) == 3
        assert (x, y, t) == (window.x, window.y, window.t)
        assert x == slice(385308.1, 386208.1)
        assert y == slice(9314170, 9315070)
        assert t.start == pd.Timestamp(2020, 1, 2)

    @pytest.mark.parametrize(
        'crs',
        [
            'EPSG:32736',
            'epsg:32736',
            32736,
            CRS.from_epsg(32736),
            rasterio.crs.CRS.from_epsg(32736),
            CRS.from_epsg(32736).to_wkt(),
        ],
    )
    def test_crs(self, window: NativeSlice, crs: Any) -> None:
        other = NativeSlice(window.x, window.y, window.t, crs, 'a file')
        assert other.crs == CRS.from_epsg(32736)
        assert other == window
        assert hash(other) == hash(window)
        assert {other, window} == {window}

    @pytest.mark.parametrize('change', ['x', 'y', 't', 'crs', 'filepath'])
    def test_different(self, window: NativeSlice, change: str) -> None:
        arguments = {
            'x': window.x,
            'y': window.y,
            't': window.t,
            'crs': 32736,
            'filepath': 'a file',
        }
        changes = {
            'x': slice(0, 1),
            'y': slice(0, 1),
            't': ANY,
            'crs': 32636,
            'filepath': None,
        }
        arguments[change] = changes[change]
        other = NativeSlice(**arguments)
        assert (other == window) is False
        assert other != window
        assert len({other, window}) == 2

    def test_different_from_tuple(self, window: NativeSlice) -> None:
        assert (window == tuple(window)) is False
        assert window != tuple(window)
        assert tuple(window) != window

    @pytest.mark.parametrize(
        'duplicate',
        [
            lambda window: pickle.loads(pickle.dumps(window)),
            copy.copy,
            copy.deepcopy,
            lambda window: eval(
                repr(window),
                {'NativeSlice': NativeSlice, 'Timestamp': pd.Timestamp, 'np': np},
            ),
        ],
        ids=['pickle', 'copy', 'deepcopy', 'repr'],
    )
    def test_duplicate(
        self, window: NativeSlice, duplicate: Callable[[NativeSlice], NativeSlice]
    ) -> None:
        other = duplicate(window)
        assert type(other) is NativeSlice
        assert other == window
        assert other.crs == window.crs
        assert other.filepath == 'a file'

    def test_crs_without_code(self) -> None:
        local = '+proj=tmerc +lat_0=12.3 +lon_0=45.6 +ellps=bessel'
        window = NativeSlice(slice(0, 1), slice(0, 1), ANY, local)
        assert window.crs == CRS(local)
        assert pickle.loads(pickle.dumps(window)) == window
