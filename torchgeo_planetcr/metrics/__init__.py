# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Metrics for cloud removal."""

from .image import ImageMetric, PixelMetric
from .lpips import LPIPS
from .patches import PatchMetrics, PatchValues
from .protocol import PROTOCOLS, Protocol
from .reference import (
    ReferenceMAE,
    ReferencePSNR,
    ReferenceRMSE,
    ReferenceSAM,
    ReferenceSSIM,
)
from .standard import StandardMAE, StandardPSNR, StandardRMSE, StandardSAM, StandardSSIM

__all__ = (
    'LPIPS',
    'PROTOCOLS',
    'ImageMetric',
    'PatchMetrics',
    'PatchValues',
    'PixelMetric',
    'Protocol',
    'ReferenceMAE',
    'ReferencePSNR',
    'ReferenceRMSE',
    'ReferenceSAM',
    'ReferenceSSIM',
    'StandardMAE',
    'StandardPSNR',
    'StandardRMSE',
    'StandardSAM',
    'StandardSSIM',
)
