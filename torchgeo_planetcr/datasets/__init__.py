# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""TorchGeo-PlanetCR datasets."""

from .components import (
    PlanetCRClear,
    PlanetCRCloudMask,
    PlanetCRCloudy,
    PlanetCRSentinel1,
    PlanetCRWorldCover,
)
from .download import download_sample
from .native import NativeGeoDataset, NativeIntersectionDataset
from .native_raster import NativeRasterDataset
from .planetcr import PlanetCR
from .slices import NativeSlice

__all__ = (
    'NativeGeoDataset',
    'NativeIntersectionDataset',
    'NativeRasterDataset',
    'NativeSlice',
    'PlanetCR',
    'PlanetCRClear',
    'PlanetCRCloudMask',
    'PlanetCRCloudy',
    'PlanetCRSentinel1',
    'PlanetCRWorldCover',
    'download_sample',
)
