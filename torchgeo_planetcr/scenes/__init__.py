# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Your own scenes."""

from .assume import AssumptionWarning
from .dataset import PlanetScopeScenes
from .files import SceneFiles, find_scenes
from .layer import Layer
from .mask import CloudMask
from .passes import RadarOptions
from .radar import Sentinel1
from .reflectance import OpticalLayer
from .scene import Scene, Survey

__all__ = (
    'AssumptionWarning',
    'CloudMask',
    'Layer',
    'OpticalLayer',
    'PlanetScopeScenes',
    'RadarOptions',
    'Scene',
    'SceneFiles',
    'Sentinel1',
    'Survey',
    'find_scenes',
)
