# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Scenes of your own as a Planet-CR tree."""

from .make_patches import make_patches

__all__ = ('make_patches',)
