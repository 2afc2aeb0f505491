# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""TorchGeo-PlanetCR datamodules."""

from .planetcr import PlanetCRDataModule

__all__ = ('PlanetCRDataModule',)
