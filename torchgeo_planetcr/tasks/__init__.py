# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Tasks for Planet-CR."""

from .checkpoint import load_task
from .cloud_removal import CloudRemoval

__all__ = ('CloudRemoval', 'load_task')
