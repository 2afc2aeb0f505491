# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Which band of a file is which."""

import os
import re
from collections.abc import Sequence

from rasterio.enums import ColorInterp
from rasterio.io import DatasetReader

from ..datasets.band_names import find_bands
from ..datasets.modalities import MODALITIES

#: Names of PlanetScope's products with radiance at the sensor: those with surface reflectance
#: have SR in them.
RADIANCE = re.compile(
    r'(_AnalyticMS|_\d[AB]_Analytic)(_8b|_DN)?(?![a-z0-9])(?!.*_SR(?![a-z0-9]))',
    re.IGNORECASE,
)

#: Type of the values of PlanetScope's products of surface reflectance.
DTYPE = MODALITIES['cloudy'].dtype.__name__


def find_planetscope_bands(
    dataset: DatasetReader, bands: Sequence[int] | None = None
) -> list[int]:
    """Find B, G, R and NIR in an image of PlanetScope.

    Args:
        dataset: The image.
        bands: Their positions from 1, if they are known.

    Returns:
        Their positions, from 1.

    Raises:
        ValueError: If the image is not of type uint16, is called as products with radiance
            are, or the bands are not known.
    """
    path, count = dataset.name, dataset.count
    if RADIANCE.search(os.path.basename(path)):
        raise ValueError(
            f'{path} is called as products with radiance are: take the one with surface '
            'reflectance (..._AnalyticMS_SR.tif), or give it another name if it is one'
        )
    if dataset.dtypes[0] != DTYPE:
        raise ValueError(
            f'{path} is {dataset.dtypes[0]} instead of {DTYPE}: take the product with '
            'surface reflectance x 10000, not a visual one'
        )
    wanted = MODALITIES['cloudy'].descriptions
    if bands is not None:
        if len(bands) != len(wanted) or not all(1 <= band <= count for band in bands):
            raise ValueError(
                f'bands={list(bands)} must be the positions of B, G, R and NIR among the '
                f'{count} bands of {path}, from 1'
            )
        return list(bands)
    colors = dataset.colorinterp[:3]
    is_rgb = colors == (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
    if is_rgb and not any(dataset.descriptions):
        raise ValueError(
            f'{path} says that its first bands are red, green and blue, and PlanetScope '
            'begins with blue: give the positions of B, G, R and NIR with bands'
        )
    return find_bands(path, count, dataset.descriptions)
