# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""TorchGeo-PlanetCR samplers."""

from .native import (
    CenterNativePatchSampler,
    GriddedNativePatchSampler,
    NativePatchSampler,
    RandomNativePatchSampler,
)
from .tiles import TileBatchSampler, TileSampler

__all__ = (
    'CenterNativePatchSampler',
    'GriddedNativePatchSampler',
    'NativePatchSampler',
    'RandomNativePatchSampler',
    'TileBatchSampler',
    'TileSampler',
)
