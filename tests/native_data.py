# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""What tests of native data sets share."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import rasters
import torch
from numpy.typing import NDArray
from rasterio.transform import from_origin
from torchgeo.datasets.utils import Sample

from torchgeo_planetcr.datasets import NativeSlice

ANY = slice(None)
KEYS = {'image', 'image_clear', 'image_s1', 'mask', 'mask_cloud'}
GEOREFERENCE = {'bounds', 'crs', 'transform'}


def write(
    path: Path,
    array: NDArray[Any],
    xmin: float = 500000,
    ymax: float = 2000000,
    res: float = 3,
    crs: str | None = 'EPSG:32646',
    nodata: float | None = None,
) -> Path:
    transform = from_origin(xmin, ymax, res, res)
    return rasters.write(path, array, crs=crs, transform=transform, nodata=nodata)


def query(
    bounds: Sequence[float], crs: Any, filepath: str | None = None
) -> NativeSlice:
    xmin, ymin, xmax, ymax = bounds
    return NativeSlice(slice(xmin, xmax), slice(ymin, ymax), ANY, crs, filepath)


def check_same(sample: Sample, expected: Sample, keys: set[str]) -> None:
    for key in keys:
        assert sample[key].dtype == expected[key].dtype, key
        assert torch.equal(sample[key], expected[key]), key
