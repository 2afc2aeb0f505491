# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Whole scenes: cloudy in, cloud-free out."""

from .mask import CloudMask
from .mosaic import mosaic_areas
from .remove_clouds import remove_clouds
from .scene import Scene
from .scenes import CloudyScenes, SceneFiles, find_scenes
from .tiles import Blender, TileBatchSampler, TileSampler
from .writer import GeoTIFFWriter

__all__ = (
    'Blender',
    'CloudMask',
    'CloudyScenes',
    'GeoTIFFWriter',
    'Scene',
    'SceneFiles',
    'TileBatchSampler',
    'TileSampler',
    'find_scenes',
    'mosaic_areas',
    'remove_clouds',
)
