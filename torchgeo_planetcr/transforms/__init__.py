# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Transforms for Planet-CR."""

from .augment import RandomFlipsAndTurns, RandomTranspose
from .normalize import PLANETCR_RANGES, PlanetCRNormalize

__all__ = (
    'PLANETCR_RANGES',
    'PlanetCRNormalize',
    'RandomFlipsAndTurns',
    'RandomTranspose',
)
