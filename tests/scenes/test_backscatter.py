# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import numpy as np
import pytest

from torchgeo_planetcr.scenes import AssumptionWarning
from torchgeo_planetcr.scenes.backscatter import Unit, find_unit, to_decibels

#: Medians of VV and VH in dB of real images: three of Sentinel-2 tiles (TerraMesh), of a
#: forested coast, a dry valley and fields, two patches of Planet-CR; then tropical forest,
#: bare soil, and a lake in the wind.
MEDIANS = [
    (-13.9, -20.1),
    (-12.5, -17.8),
    (-10.3, -17.0),
    (-11.1, -17.7),
    (-8.8, -16.5),
    (-6.8, -12.6),
    (-15.0, -22.5),
    (-17.0, -26.0),
]

FACTORS: dict[Unit, float] = {'dB': 1, 'power': 10, 'amplitude': 20}


def make(medians: tuple[float, float], unit: Unit) -> np.ndarray:
    """Speckle around medians in a unit."""
    noise = np.random.default_rng(0).normal(0, 3, (2, 5000))
    decibels = (np.array(medians)[:, None] + noise).astype(np.float32)
    return decibels if unit == 'dB' else 10 ** (decibels / FACTORS[unit])


@pytest.mark.parametrize('medians', MEDIANS)
@pytest.mark.parametrize('unit', ['dB', 'power', 'amplitude'])
def test_by_values(
    medians: tuple[float, float], unit: Unit, recwarn: pytest.WarningsRecorder
) -> None:
    """The unit is recognized, or refused where it could be either; never a wrong one."""
    values = make(medians, unit)
    try:
        found = find_unit(values, 's1.tif')
    except ValueError as error:
        assert unit == 'amplitude' and medians[0] - medians[1] >= 8.9
        assert 's1.tif' in str(error) and '--s1_unit' in str(error)
        return
    assert found == unit
    said = [str(w.message) for w in recwarn if w.category is AssumptionWarning]
    assert [unit in text for text in said] == [True] * (unit != 'dB')
    expected = make(medians, 'dB')
    assert to_decibels(values, found) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ('name', 'unit'),
    [
        ('S1A_IW_20230209T051023_DVP_RTC10_G_gpuned_0A1B_VV.tif', 'power'),
        ('S1A_IW_20230209T051023_DVP_RTC30_S_saufem_0A1B_VV.tif', 'amplitude'),
        (
            'OPERA_L2_RTC-S1_T091-195252-IW3_20230209T051023Z_S1A_30_v1.0_VV.tif',
            'power',
        ),
        ('/vsicurl/https://x/iw-vv.rtc.tiff?sig=a', 'power'),
    ],
)
@pytest.mark.filterwarnings('ignore::UserWarning')
def test_by_product(name: str, unit: Unit) -> None:
    """The name of a product decides where values are those of both."""
    either = np.array([[0.2], [0.2 / 2.9]])
    with pytest.raises(ValueError, match='power or amplitude'):
        find_unit(either, 's1.tif')
    assert find_unit(either, name) == unit
    # Somebody has converted it, and kept its name
    assert find_unit(10 * np.log10(either), name) == 'dB'


@pytest.mark.parametrize(
    'values', [[[300.0], [90.0]], [[0.1], [0.1]], [[1e-6], [1e-7]], [[38], [32]]]
)
def test_neither(values: list[list[float]]) -> None:
    """Digital numbers, twice the same, darkness, and angles."""
    with pytest.raises(ValueError, match=r's1\.tif has medians .* no backscatter'):
        find_unit(np.array(values), 's1.tif')


def test_not_positive() -> None:
    values = np.array([0.1, 0, -0.1, np.nan], np.float32)
    actual = to_decibels(values, 'power')
    assert actual.dtype == np.float32
    assert actual[0] == pytest.approx(-10)
    assert np.isnan(actual[1:]).all()
