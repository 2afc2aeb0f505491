# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Which band of a file is which."""

import os
import re
from collections.abc import Sequence

import numpy as np
from rasterio.enums import ColorInterp
from rasterio.io import DatasetReader

from ..datasets.band_names import (
    check_positions,
    find_bands,
    find_order,
    own_names,
    tells_bands,
)
from ..datasets.modalities import MODALITIES
from .assume import assume

#: Names of PlanetScope's products with radiance at the sensor: those with surface reflectance
#: have SR in them.
RADIANCE = re.compile(
    r'(_AnalyticMS|_\d[AB]_Analytic)(_8b|_DN)?(?![a-z0-9])(?!.*_SR(?![a-z0-9]))',
    re.IGNORECASE,
)


def find_planetscope_bands(
    dataset: DatasetReader,
    bands: Sequence[int] | None = None,
    scale: float | None = None,
) -> list[int]:
    """Find B, G, R and NIR in an image of PlanetScope.

    Args:
        dataset: The image.
        bands: Their positions from 1, if they are known.
        scale: Value that is a reflectance of 1, if it is known: the image then holds
            reflectance, whatever it is called and stored as.

    Returns:
        Their positions, from 1.

    Raises:
        ValueError: If the image is no surface reflectance by its name or type, or the
            bands are not known.
    """
    path, count = dataset.name, dataset.count
    if scale is None:
        _check_product(dataset)
    if bands is not None:
        return check_positions('bands', bands, path, count)
    colors = dataset.colorinterp[:3]
    is_rgb = colors == (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
    order = find_order(os.path.basename(path))[:3]
    if is_rgb and not any(own_names(dataset.descriptions)) and order != ['R', 'G', 'B']:
        raise ValueError(
            f'{path} says that its first bands are red, green and blue, and PlanetScope '
            'begins with blue: give the positions of B, G, R and NIR with bands, for '
            'example `--bands 3 2 1 4`'
        )
    # A band that says where the others have data belongs to no product
    own = count - (dataset.colorinterp[-1] == ColorInterp.alpha)
    found = find_bands(path, own, dataset.descriptions[:own])
    if not tells_bands(path, dataset.descriptions[:own]):
        places = ', '.join(map(str, found))
        assume(
            f'{path} does not name its bands: taken for B, G, R and NIR at {places}; if '
            'they are elsewhere, give their positions with --bands'
        )
    return found


def declares_scale(dataset: DatasetReader) -> bool:
    """Whether a file says how its values become those that they stand for."""
    return any(scale != 1 for scale in dataset.scales) or any(dataset.offsets)


def _check_product(dataset: DatasetReader) -> None:
    """Refuse products that hold no surface reflectance, by name or type."""
    path, dtype = dataset.name, np.dtype(dataset.dtypes[0])
    advice = 'say with --scale (scale=...) which value is a reflectance of 1'
    if RADIANCE.search(os.path.basename(path)):
        raise ValueError(
            f'{path} is called as products with radiance are: take the one with surface '
            f'reflectance (..._AnalyticMS_SR.tif), or if it is one, {advice}'
        )
    if (dtype.itemsize == 1 or dtype.kind == 'c') and not declares_scale(dataset):
        raise ValueError(
            f'{path} is {dtype} instead of {MODALITIES["cloudy"].dtype.__name__}: take '
            'the product with surface reflectance x 10000, not a visual one, or if it is '
            f'reflectance, {advice}'
        )
