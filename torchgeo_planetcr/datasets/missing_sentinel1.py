# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""What stands for Sentinel-1 where it is missing, in scenes and in ``&``."""

import math

import numpy as np
from numpy.typing import NDArray

from .modalities import MISSING_DECIBELS

#: Below this there is no backscatter in dB, but a value that stands for none, such as -9999.
LEAST_DECIBELS = -100.0

#: VV and VH in dB, of shape (2, ...).
type Decibels = NDArray[np.floating]


def find_gaps(values: Decibels, nodata: float | None = math.nan) -> NDArray[np.bool_]:
    """Find missing backscatter.

    Args:
        values: Backscatter in dB of shape (C, ...).
        nodata: Value of pixels without data; None if a file declares none: it is then
            padded with 0.

    Returns:
        Where it is infinite, NaN, *nodata*, lower than any that is measured, or 0 in all
        polarizations, with which programs fill images whatever they declare, of the same
        shape.
    """
    gaps = ~np.isfinite(values) | (values < LEAST_DECIBELS)
    gaps |= values == (0 if nodata is None else nodata)
    return gaps | (values == 0).all(axis=0)


def is_measured(values: Decibels, nodata: float | None = math.nan) -> NDArray[np.bool_]:
    """Find the pixels at which both polarizations were measured.

    Args:
        values: Backscatter in dB of shape (2, ...).
        nodata: See :func:`find_gaps`.

    Returns:
        Where neither is missing, of shape (...).
    """
    return ~find_gaps(values, nodata).any(axis=0)


def mean_backscatter(values: Decibels) -> Decibels:
    """Find what stands for missing backscatter.

    Args:
        values: Backscatter in dB of shape (2, N), NaN where nothing was measured.

    Returns:
        Mean of VV and of VH, of shape (2,); where nothing was measured at all
        :data:`~torchgeo_planetcr.datasets.modalities.MISSING_DECIBELS`, with which
        networks are trained.
    """
    measured = values[:, is_measured(values)]
    if not measured.size:
        return np.array(MISSING_DECIBELS, dtype=values.dtype)
    return measured.mean(axis=1)


def fill_gaps(values: Decibels, mean: Decibels) -> Decibels:
    """Replace missing backscatter.

    Args:
        values: Backscatter in dB, NaN or infinite where there is none, (2, H, W).
        mean: What stands for it, of shape (2,).

    Returns:
        Finite backscatter of the same shape and type.
    """
    mean = mean.astype(values.dtype)
    return np.where(np.isfinite(values), values, mean[:, None, None])
