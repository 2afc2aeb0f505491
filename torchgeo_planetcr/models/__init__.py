# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Models that remove clouds."""

from .aligncr import AlignCR, aligncr
from .checkpoint import load_reference_checkpoint, read_checkpoint
from .copy import Copy, copy
from .dsen2cr import DSen2CR, dsen2cr
from .glfcr import GLFCR, glfcr

__all__ = (
    'GLFCR',
    'AlignCR',
    'Copy',
    'DSen2CR',
    'aligncr',
    'copy',
    'dsen2cr',
    'glfcr',
    'load_reference_checkpoint',
    'read_checkpoint',
)
