# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import numpy as np
import pytest

from torchgeo_planetcr.datasets.missing_sentinel1 import (
    fill_gaps,
    is_measured,
    mean_backscatter,
)
from torchgeo_planetcr.datasets.modalities import MISSING_DECIBELS


@pytest.mark.parametrize(
    ('nodata', 'expected'),
    [
        (None, [True, False, False, False, True, False, False, False]),
        (np.nan, [True, False, False, False, True, True, False, False]),
        (-99, [True, False, False, False, False, True, False, False]),
    ],
)
def test_is_measured(nodata: float | None, expected: list[bool]) -> None:
    """Both polarizations must be; a file that declares nothing is padded with 0.

    Zeros in both are none either, and neither is what is too low for any ground.
    """
    vv = [-12, np.nan, -12, -np.inf, -99, 0, 0, -9999]
    vh = [-20, -20, np.inf, -20, -99, -20, 0, -20]
    values = np.array([vv, vh])
    assert is_measured(values, nodata).tolist() == expected


def test_mean() -> None:
    values = np.array([[-12, -14, np.nan], [-20, -24, -30]])
    assert mean_backscatter(values).tolist() == [-13, -22]


def test_nothing_measured() -> None:
    """It is what networks are trained with."""
    for values in (np.empty((2, 0)), np.full((2, 5), np.nan)):
        assert mean_backscatter(values).tolist() == list(MISSING_DECIBELS)
    assert MISSING_DECIBELS == (-25, -32.5)


def test_fill_gaps() -> None:
    values = np.array([[[-12, np.nan]], [[-np.inf, -20]]], np.float32)
    filled = fill_gaps(values, np.array([-1, -2]))
    assert filled.dtype == np.float32
    assert filled.tolist() == [[[-12, -1]], [[-2, -20]]]
