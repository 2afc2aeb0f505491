# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Whole scenes: cloudy in, cloud-free out."""

from .remove_clouds import remove_clouds
from .scene import Scene
from .tiles import Blender, Tile, plan_tiles

__all__ = ('Blender', 'Scene', 'Tile', 'plan_tiles', 'remove_clouds')
