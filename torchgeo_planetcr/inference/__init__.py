# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Whole scenes: cloudy in, restored out."""

from ..samplers import TileBatchSampler, TileSampler
from ..scenes import CloudMask, PlanetScopeScenes, Scene, SceneFiles, find_scenes
from .blend import Blender
from .mosaic import mosaic_areas
from .remove_clouds import remove_clouds
from .trainer import PlanetCRTrainer
from .writer import GeoTIFFWriter

#: The data set of scenes goes by this name here, too.
CloudyScenes = PlanetScopeScenes

__all__ = (
    'Blender',
    'CloudMask',
    'CloudyScenes',
    'GeoTIFFWriter',
    'PlanetCRTrainer',
    'PlanetScopeScenes',
    'Scene',
    'SceneFiles',
    'TileBatchSampler',
    'TileSampler',
    'find_scenes',
    'mosaic_areas',
    'remove_clouds',
)
