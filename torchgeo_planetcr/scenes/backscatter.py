# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Units of backscatter: dB, power, and amplitude."""

import os
import re
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .assume import assume
from .names import without_query

#: Units of backscatter. Power is linear; amplitude is its square root.
type Unit = Literal['dB', 'power', 'amplitude']

#: dB for a factor of ten.
FACTORS: dict[Unit, float] = {'dB': 1, 'power': 10, 'amplitude': 20}

#: Products whose names say that they are linear, and in what. HyP3 has a letter for the
#: unit in its sixth field: gamma-0 or sigma-0, then power, amplitude or dB.
PRODUCTS: dict[Unit, re.Pattern[str]] = {
    'power': re.compile(
        r'(OPERA_L2_RTC-S1_|\.rtc\.tiff?$|_RTC\d\d_[A-Z]_[gs]p[uw][nf][ec][dm]_)',
        re.IGNORECASE,
    ),
    'amplitude': re.compile(r'_RTC\d\d_[A-Z]_[gs]a[uw][nf][ec][dm]_', re.IGNORECASE),
}

#: Medians in dB that images of land and water have in VV and in VH.
LIKELY_VV, LIKELY_VH = (-25.0, 0.0), (-34.0, -5.0)

#: By how many dB VV is stronger than VH there. The power of rough land differs by 5 to 8 dB;
#: what differs by more is amplitude that was taken for power, or power for amplitude.
LIKELY_DIFFERENCE = (4.5, 10.0)


def to_decibels(values: NDArray[np.floating], unit: Unit) -> NDArray[np.floating]:
    """Convert backscatter to dB.

    Args:
        values: Backscatter of any shape, NaN where there is none.
        unit: Its unit.

    Returns:
        Backscatter in dB; NaN where a linear value is not positive.
    """
    if unit == 'dB':
        return values
    positive = np.where(values > 0, values, np.nan)
    return values.dtype.type(FACTORS[unit]) * np.log10(positive)


def find_unit(values: NDArray[np.floating], path: str) -> Unit:
    """Recognize the unit of backscatter.

    Values of which most are negative are in dB. Otherwise the name of the product says it,
    or else the one of power and amplitude with which VV and VH are like those of land and
    water.

    Args:
        values: VV and VH where both were measured, (2, N).
        path: The file.

    Returns:
        The unit.

    Raises:
        ValueError: If it could be either, or none.
    """
    if not values.size:
        return 'dB'
    high, low = sorted(np.median(values, axis=1).tolist(), reverse=True)
    if low < 0:
        return 'dB'
    name = os.path.basename(without_query(path))
    known = [unit for unit, product in PRODUCTS.items() if product.search(name)]
    likely = known or [unit for unit in PRODUCTS if _is_likely(high, low, unit)]
    if len(likely) != 1:
        what = 'could be power or amplitude' if likely else 'is no backscatter'
        raise ValueError(
            f'{path} has medians of {high:.3g} and {low:.3g}, which {what}: give its unit '
            'with --s1_unit power, --s1_unit amplitude or --s1_unit dB (s1_unit), or '
            'convert it to dB'
        )
    (unit,) = likely
    assume(f'{path}: taken for {unit}, and converted to dB (--s1_unit says otherwise)')
    return unit


def _is_likely(high: float, low: float, unit: Unit) -> bool:
    """Whether medians are those of land or water in this unit."""
    if low <= 0:
        return False
    vv, vh = (FACTORS[unit] * np.log10(value) for value in (high, low))
    return (
        LIKELY_VV[0] < vv < LIKELY_VV[1]
        and LIKELY_VH[0] < vh < LIKELY_VH[1]
        and LIKELY_DIFFERENCE[0] < vv - vh < LIKELY_DIFFERENCE[1]
    )
