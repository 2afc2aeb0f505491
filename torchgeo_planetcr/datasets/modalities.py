# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""The table of modalities, the one place for each fact about a modality."""

import math
from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np

type ModalityName = Literal['cloudy', 'clear', 'sentinel1', 'worldcover', 'cloud_mask']

#: Factor by which surface reflectance is multiplied in files.
REFLECTANCE_SCALE = 10000

#: Short names of the bands of PlanetScope for red, green and blue.
RGB_BANDS = ('R', 'G', 'B')


class Modality(NamedTuple):
    """One row of the table."""

    name: ModalityName

    #: Key in a sample.
    key: str

    #: Its name in figures and reports.
    title: str

    #: Start of the names of its folders and files in the archive, and end of the files'.
    folder: str
    suffix: str

    #: Type of the values in the archive.
    dtype: type[np.generic]

    #: Pixel size in meters.
    resolution: float

    #: Short names of the bands of an image, and the names that GeoTIFFs give to them.
    bands: tuple[str, ...]
    descriptions: tuple[str, ...]

    #: Whether it is an image, which may be interpolated, or a mask of classes.
    is_image: bool

    #: Value of pixels without data, and whether files of the archive declare it.
    nodata: float
    declares_nodata: bool

    #: Column in the lists of the authors.
    list_column: int

    #: A patch has the grid of its modality with the lowest rank.
    grid_rank: int

    #: Values of each band that the authors normalize to 0 and 1. Empty for masks.
    lower: tuple[float, ...] = ()
    upper: tuple[float, ...] = ()

    #: Least and largest value of each band that figures distinguish. Empty if the range
    #: depends on the image.
    shown: tuple[tuple[float, float], ...] = ()

    @property
    def filename_glob(self) -> str:
        """Glob expression for the names of its files in the archive."""
        return f'{self.folder}_*{self.suffix}'

    @property
    def is_coarse(self) -> bool:
        """Whether its pixels are larger than those of PlanetScope."""
        return self.resolution > 3


_PLANETSCOPE_BANDS = ('B', 'G', 'R', 'NIR')
_PLANETSCOPE_DESCRIPTIONS = ('blue', 'green', 'red', 'nir')

#: The table, in the order in which samples hold the modalities.
MODALITIES: Mapping[ModalityName, Modality] = {
    row.name: row
    for row in (
        Modality(
            name='cloudy',
            key='image',
            title='Cloudy',
            folder='planet_cloudy',
            suffix='.tif',
            dtype=np.uint16,
            resolution=3.0,
            bands=_PLANETSCOPE_BANDS,
            descriptions=_PLANETSCOPE_DESCRIPTIONS,
            is_image=True,
            nodata=0,
            declares_nodata=True,
            list_column=1,
            grid_rank=0,
            lower=(0, 0, 0, 0),
            upper=4 * (REFLECTANCE_SCALE,),
        ),
        Modality(
            name='clear',
            key='image_clear',
            title='Clear',
            folder='planet_cloudfree',
            suffix='.tif',
            dtype=np.uint16,
            resolution=3.0,
            bands=_PLANETSCOPE_BANDS,
            descriptions=_PLANETSCOPE_DESCRIPTIONS,
            is_image=True,
            nodata=0,
            declares_nodata=True,
            list_column=0,
            grid_rank=1,
            lower=(0, 0, 0, 0),
            upper=4 * (REFLECTANCE_SCALE,),
        ),
        Modality(
            name='sentinel1',
            key='image_s1',
            title='Sentinel-1',
            folder='S1',
            suffix='.tif',
            dtype=np.float64,
            resolution=10.0,
            bands=('VV', 'VH'),
            descriptions=('VV', 'VH'),
            is_image=True,
            nodata=math.nan,
            declares_nodata=False,
            list_column=2,
            grid_rank=3,
            lower=(-25, -32.5),
            upper=(0, 0),
            shown=((-25, 0), (-32, -7)),
        ),
        Modality(
            name='worldcover',
            key='mask',
            title='Land cover',
            folder='landcover',
            suffix='.tif',
            dtype=np.uint8,
            resolution=10.0,
            bands=(),
            descriptions=(),
            is_image=False,
            nodata=0,
            declares_nodata=False,
            list_column=3,
            grid_rank=4,
        ),
        Modality(
            name='cloud_mask',
            key='mask_cloud',
            title='Cloud mask',
            folder='cloudmask',
            suffix='.npy',
            dtype=np.bool_,
            resolution=3.0,
            bands=(),
            descriptions=(),
            is_image=False,
            nodata=255,
            declares_nodata=False,
            list_column=4,
            grid_rank=2,
        ),
    )
}

#: Modalities in the order of the columns of the authors' lists.
LIST_COLUMNS = tuple(sorted(MODALITIES, key=lambda name: MODALITIES[name].list_column))

#: Modalities in the order of their rank: a patch has the grid of the first that is there.
GRID_ORDER = tuple(sorted(MODALITIES, key=lambda name: MODALITIES[name].grid_rank))

#: Positions of red, green and blue in an image of PlanetScope.
RGB_INDICES = [MODALITIES['cloudy'].bands.index(band) for band in RGB_BANDS]

#: VV and VH in dB where there is no Sentinel-1 image at all. Hardly any ground has such low
#: backscatter in both. It is 0 after normalization, see
#: :data:`torchgeo_planetcr.transforms.MISSING_BACKSCATTER`.
MISSING_DECIBELS = MODALITIES['sentinel1'].lower
