# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Tasks for Planet-CR."""

from .cloud_removal import CloudRemoval

__all__ = ('CloudRemoval',)
