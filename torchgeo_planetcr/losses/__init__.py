# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Losses for cloud removal."""

from .cloud import CARLLoss, CloudAwareLoss, EdgeWeightedCharbonnierLoss

__all__ = ('CARLLoss', 'CloudAwareLoss', 'EdgeWeightedCharbonnierLoss')
