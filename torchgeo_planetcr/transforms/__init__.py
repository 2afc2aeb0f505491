# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Transforms for Planet-CR."""

from .augment import RandomFlipsAndTurns, RandomTranspose
from .batch import BatchAugmentation
from .cloud_augment import RandomCloudPaste, RandomClouds
from .normalize import PLANETCR_RANGES, PlanetCRNormalize
from .radar import (
    MISSING_BACKSCATTER,
    RandomBackscatterGain,
    RandomModalityDropout,
    RandomSpeckle,
)

__all__ = (
    'MISSING_BACKSCATTER',
    'PLANETCR_RANGES',
    'BatchAugmentation',
    'PlanetCRNormalize',
    'RandomBackscatterGain',
    'RandomCloudPaste',
    'RandomClouds',
    'RandomFlipsAndTurns',
    'RandomModalityDropout',
    'RandomSpeckle',
    'RandomTranspose',
)
