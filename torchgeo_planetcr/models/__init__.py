# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Models that remove clouds."""

from ..checkpoint import read_checkpoint
from .aligncr import AlignCR, aligncr
from .checkpoint import load_reference_checkpoint
from .copy import Copy, copy
from .dsen2cr import DSen2CR, dsen2cr
from .encoder_decoder import ARCHITECTURES, EncoderDecoder
from .export import export_model
from .glfcr import GLFCR, glfcr

__all__ = (
    'ARCHITECTURES',
    'GLFCR',
    'AlignCR',
    'Copy',
    'DSen2CR',
    'EncoderDecoder',
    'aligncr',
    'copy',
    'dsen2cr',
    'export_model',
    'glfcr',
    'load_reference_checkpoint',
    'read_checkpoint',
)
