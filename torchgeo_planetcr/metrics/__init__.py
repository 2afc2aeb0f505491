# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Metrics for cloud removal."""

from .reference import (
    ReferenceMAE,
    ReferenceMetric,
    ReferencePSNR,
    ReferenceSAM,
    ReferenceSSIM,
)

__all__ = (
    'ReferenceMAE',
    'ReferenceMetric',
    'ReferencePSNR',
    'ReferenceSAM',
    'ReferenceSSIM',
)
