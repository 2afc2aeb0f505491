# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""What stands for Sentinel-1 where it is missing: the one rule for all data sets."""

import numpy as np
from numpy.typing import NDArray

from .modalities import MISSING_DECIBELS

#: VV and VH in dB, of shape (2, ...).
type Decibels = NDArray[np.floating]


def is_measured(values: Decibels) -> NDArray[np.bool_]:
    """Find the pixels with both polarizations.

    Args:
        values: Backscatter in dB of shape (2, H, W).

    Returns:
        Where both are finite, of shape (H, W).
    """
    return np.isfinite(values).all(axis=0)


def mean_backscatter(values: Decibels) -> Decibels:
    """Find what stands for missing backscatter.

    Args:
        values: Backscatter in dB of shape (2, N), all of it measured.

    Returns:
        Mean of VV and VH, of shape (2,); where nothing was measured at all
        :data:`~torchgeo_planetcr.datasets.modalities.MISSING_DECIBELS`, with which
        networks are trained.
    """
    if not values.size:
        return np.array(MISSING_DECIBELS, np.float32)
    return values.mean(axis=1)


def fill_gaps(values: Decibels, mean: Decibels) -> Decibels:
    """Replace missing backscatter.

    Args:
        values: Backscatter in dB, NaN or infinite where there is none, (2, H, W).
        mean: What stands for it, of shape (2,).

    Returns:
        Finite backscatter of the same shape.
    """
    return np.where(np.isfinite(values), values, mean[:, None, None])
