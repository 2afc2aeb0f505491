# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Models that remove clouds."""

from .checkpoint import load_reference_checkpoint, read_checkpoint
from .copy import Copy, copy
from .dsen2cr import DSen2CR, dsen2cr

__all__ = (
    'Copy',
    'DSen2CR',
    'copy',
    'dsen2cr',
    'load_reference_checkpoint',
    'read_checkpoint',
)
