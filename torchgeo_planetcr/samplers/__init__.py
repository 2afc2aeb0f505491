# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""TorchGeo-PlanetCR samplers."""

from .native import (
    CenterNativePatchSampler,
    GriddedNativePatchSampler,
    NativePatchSampler,
    RandomNativePatchSampler,
)

__all__ = (
    'CenterNativePatchSampler',
    'GriddedNativePatchSampler',
    'NativePatchSampler',
    'RandomNativePatchSampler',
)
