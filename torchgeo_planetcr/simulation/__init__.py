# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""A simulated Planet-CR data set and scenes, to start with and to test on."""

from .scene import simulate_scene
from .simulate import simulate

__all__ = ('simulate', 'simulate_scene')
