# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""What tests of Planet-CR and its components share."""

from pathlib import Path
from typing import Any

import pandas as pd
import rasters
from numpy.typing import NDArray
from rasterio.transform import from_origin

from torchgeo_planetcr.datasets import NativeSlice, PlanetCR

KEYS = {
    'cloudy': 'image',
    'clear': 'image_clear',
    'sentinel1': 'image_s1',
    'worldcover': 'mask',
    'cloud_mask': 'mask_cloud',
}
GEOREFERENCE = {'bounds', 'crs', 'transform'}

#: WorldCover's code: class at level 1 (the authors') and at level 2.
WORLDCOVER = {
    10: (0, 0),
    20: (1, 1),
    30: (1, 2),
    40: (2, 3),
    50: (3, 4),
    60: (4, 5),
    70: (6, 6),
    80: (5, 7),
    90: (5, 8),
    95: (6, 9),
    100: (6, 10),
}

#: A file of each modality of the only patch of summer_33.
FILES = {
    'cloudy': 'planet_cloudy_summer/planet_cloudy_summer_33/planet_cloudy_summer_33_p_1.tif',
    'clear': 'planet_cloudfree_summer/planet_cloudfree_summer_33/planet_cloudfree_summer_33_p_1.tif',
    'sentinel1': 'S1_summer/S1_summer_33/S1_summer_33_p_1.tif',
    'worldcover': 'landcover_summer/landcover_summer_33/landcover_summer_33_p_1.tif',
    'cloud_mask': 'cloudmask_summer/cloudmask_summer_33/cloudmask_summer_33_p_1.npy',
}
RASTERS = [modality for modality in FILES if modality != 'cloud_mask']


def write(path: Path, array: NDArray[Any], res: float = 3, **options: Any) -> Path:
    options = {
        'crs': 'EPSG:32736',
        'transform': from_origin(385308, 9315070, res, res),
        **options,
    }
    return rasters.write(path, array, **options)


def patch(dataset: PlanetCR, name: str) -> pd.Series:
    return dataset.index[dataset.index['patch'] == name].iloc[0]


def whole(row: pd.Series) -> NativeSlice:
    xmin, ymin, xmax, ymax = row['native_bounds']
    return NativeSlice(
        slice(xmin, xmax),
        slice(ymin, ymax),
        slice(None),
        row['native_crs'],
        row['filepath'],
    )
