# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Data sets of the modalities of Planet-CR."""

import fnmatch
import functools
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torchgeo.datasets.utils import Path, Sample

from ..raster.grid import Grid
from ..raster.header import HeaderTable, RasterHeader
from ..raster.read import (
    HANDLES,
    NotFiniteError,
    read_array_header,
    read_pixels,
    read_raster_header,
)
from .band_names import check_positions, find_bands
from .mask_bands import MaskBands, find_mask_bands
from .missing_sentinel1 import (
    LEAST_DECIBELS,
    fill_gaps,
    find_gaps,
    is_measured,
    mean_backscatter,
)
from .modalities import MODALITIES, RGB_BANDS, ModalityName
from .native_raster import NativeRasterDataset
from .patch_files import cloudy_path

#: Values in dB that replace the infinite ones, beyond any that are measured.
FINITE_DECIBELS = (LEAST_DECIBELS, 100)

#: Pixels of a scene of which a mean is computed, or that are in memory at once meanwhile.
MAX_PIXELS = 2**22

#: Rows and columns of the windows that are spread over a larger scene for its mean.
SPREAD = 16

#: Class index of pixels without land cover.
NO_CLASS = 255


class PlanetCRCloudy(NativeRasterDataset):
    """Cloudy PlanetScope images of Planet-CR, or your own.

    Four bands at 3 m, surface reflectance x 10000, 0 where there is no data. In files of
    your own, they are found by the names of the bands, or without names by the order of
    PlanetScope's products of four and eight bands, unless *positions* say where they are.
    Those of another type are refused:
    :class:`~torchgeo_planetcr.scenes.PlanetScopeScenes` converts them.
    """

    filename_glob = MODALITIES['cloudy'].filename_glob
    all_bands = MODALITIES['cloudy'].bands
    rgb_bands = RGB_BANDS
    is_image = MODALITIES['cloudy'].is_image
    nodata = MODALITIES['cloudy'].nodata
    driver = 'GTiff'

    def __init__(
        self,
        paths: Path | Iterable[Path] = 'data',
        bands: Sequence[str] | None = None,
        transforms: Callable[[Sample], Sample] | None = None,
        strict: bool = False,
        headers: HeaderTable | None = None,
        positions: Sequence[int] | None = None,
    ) -> None:
        """Initialize a new PlanetCRCloudy instance.

        Args:
            paths: One or more root directories to search or files to load.
            bands: Bands to return (defaults to all bands).
            transforms: A function/transform that takes an input sample
                and returns a transformed version.
            strict: Raise an error for an unreadable file instead of a warning.
            headers: Headers of all files, if they are known already.
            positions: Positions of B, G, R and NIR in all files, from 1 (defaults to those
                that the names of the bands say, or those of PlanetScope's products). If a
                file does not have them, reading it raises a ValueError.

        Raises:
            DatasetNotFoundError: If no readable file is found.
            OSError: If *strict* and a file is unreadable.
            ValueError: If *bands* are unknown.
        """
        self.positions = None if positions is None else tuple(positions)
        super().__init__(paths, bands, transforms, strict, headers)

    def _read_window(
        self, header: RasterHeader, row: int, col: int, height: int, width: int
    ) -> NDArray[Any]:
        """Read a window, see :meth:`NativeRasterDataset.read_window`."""
        bands, name = self.band_indexes or (), os.path.basename(header.filepath)
        if self.positions or not fnmatch.fnmatch(name, self.filename_glob):
            positions = _find_positions(header, self.positions)
            bands = [positions[band - 1] for band in bands]
        return read_pixels(header, row, col, height, width, bands, self.driver)


@functools.lru_cache(maxsize=128)
def _find_positions(
    header: RasterHeader, given: tuple[int, ...] | None = None
) -> list[int]:
    """Find B, G, R and NIR in a file, in which they may be given."""
    path = header.filepath
    # A file with names of bands has no layout
    if header.layout is not None:
        count, names, dtype = header.layout.count, None, header.layout.dtype
    else:
        dataset = HANDLES.open(header, 'GTiff')
        count, names, dtype = dataset.count, dataset.descriptions, dataset.dtypes[0]
    if np.dtype(dtype) != MODALITIES['cloudy'].dtype:
        raise ValueError(
            f'{path} is {np.dtype(dtype)}, and this data set takes reflectance x 10000 as '
            'uint16: take torchgeo_planetcr.scenes.PlanetScopeScenes, which converts it'
        )
    if given is not None:
        return check_positions('positions', given, path, count)
    return find_bands(path, count, names)


class PlanetCRClear(PlanetCRCloudy):
    """Clear PlanetScope images of Planet-CR, or your own.

    Four bands at 3 m, surface reflectance x 10000, 0 where there is no data.
    """

    filename_glob = MODALITIES['clear'].filename_glob


class PlanetCRSentinel1(NativeRasterDataset):
    """Sentinel-1 images of Planet-CR, or your own.

    VV and VH at 10 m, in dB. Missing backscatter is replaced by the mean of VV and of VH in
    the files: where they are NaN, infinite, what they declare as nodata, below -100 dB or, in
    both VV and VH, 0, and where there is no file.

    :class:`PlanetCR` does what the authors' loader does instead: NaN is replaced by the
    mean of VV and VH together, and an infinite value, such as that of zero power, by -100 or
    100 dB.
    """

    filename_glob = MODALITIES['sentinel1'].filename_glob
    all_bands = MODALITIES['sentinel1'].bands
    is_image = MODALITIES['sentinel1'].is_image
    nodata = MODALITIES['sentinel1'].nodata
    driver = 'GTiff'

    def fill_gaps(
        self, array: NDArray[Any], headers: Iterable[RasterHeader]
    ) -> NDArray[Any]:
        """Replace missing backscatter, see :meth:`NativeRasterDataset.fill_gaps`."""
        if np.isfinite(array).all():
            return array
        means = [self._read_current(_find_means, h).measured for h in headers]
        return fill_gaps(array, mean_backscatter(np.stack(means, axis=1)))

    def _read_window(
        self, header: RasterHeader, row: int, col: int, height: int, width: int
    ) -> NDArray[Any]:
        """Read a window, see :meth:`NativeRasterDataset.read_window`."""
        array = super()._read_window(header, row, col, height, width)
        if np.isfinite(array).all():
            return array
        mean = _find_means(header).valid
        if math.isnan(mean):
            raise NotFiniteError(
                f'{header.filepath} holds no valid pixel: remove its patch from the folder'
            )
        mean = array.dtype.type(mean)
        return np.where(np.isnan(array), mean, array.clip(*FINITE_DECIBELS))

    def _read_measured(
        self, header: RasterHeader, row: int, col: int, height: int, width: int
    ) -> NDArray[Any]:
        """Read a window as floating values, with NaN where nothing was measured."""
        array = super()._read_window(header, row, col, height, width)
        array = array.astype(np.result_type(array, np.float32), copy=False)
        is_gap = find_gaps(array, header.nodata)
        return np.where(is_gap, np.nan, array) if is_gap.any() else array

    def _load(self, rows: Sequence[int], grid: Grid) -> Sample:
        """Read pixels, see :meth:`NativeGeoDataset._load`."""
        headers = self.headers_of(rows)
        array = self.read_mosaic(headers, grid, self.nodata, self._read_measured)
        return {'image': self.to_tensor(self.fill_gaps(array, headers))}


class _Means(NamedTuple):
    """Means of an image of Sentinel-1, NaN if there is nothing to take them of."""

    #: Of all of VV and VH but NaN, as the authors' loader has it.
    valid: float

    #: Of VV and of VH where both were measured.
    measured: tuple[float, float]


@functools.lru_cache(maxsize=128)
def _find_means(header: RasterHeader) -> _Means:
    """Find the means of a file, which may be a whole scene."""
    grid = header.grid
    means = _Means(math.nan, (math.nan, math.nan))
    if grid.height * grid.width > MAX_PIXELS:
        # One gap in a window must not read a scene to its end
        means = _mean_of_parts(header, _spread_windows(grid))
    if math.isnan(means.measured[0]):
        means = _mean_of_parts(header, _parts(grid))
    return means


def _parts(grid: Grid) -> Iterator[tuple[int, int, int, int]]:
    """Windows that fill a grid and that memory holds, see :func:`_spread_windows`."""
    width = min(grid.width, MAX_PIXELS)
    height = MAX_PIXELS // width
    for row in range(0, grid.height, height):
        for col in range(0, grid.width, width):
            yield row, col, min(height, grid.height - row), min(width, grid.width - col)


def _spread_windows(grid: Grid) -> list[tuple[int, int, int, int]]:
    """Windows that are spread over a scene: first row and column, height and width."""
    size = math.isqrt(MAX_PIXELS) // SPREAD
    height, width = min(size, grid.height), min(size, grid.width)
    rows = np.linspace(0, grid.height - height, SPREAD).astype(int).tolist()
    cols = np.linspace(0, grid.width - width, SPREAD).astype(int).tolist()
    return [(row, col, height, width) for row in rows for col in cols]


def _mean_of_parts(
    header: RasterHeader, parts: Iterable[tuple[int, int, int, int]]
) -> _Means:
    """Find the means over windows of a file."""
    bands = range(1, len(PlanetCRSentinel1.all_bands) + 1)
    total, count = 0.0, 0
    totals, counts = np.zeros(len(bands)), 0
    for part in parts:
        array = read_pixels(header, *part, bands, 'GTiff')
        valid = array[~np.isnan(array)].clip(*FINITE_DECIBELS)
        total, count = total + valid.sum(dtype=np.float64), count + valid.size
        measured = array[:, is_measured(array, header.nodata)]
        totals += measured.sum(axis=1, dtype=np.float64)
        counts += measured.shape[1]
    vv, vh = (totals / counts).tolist() if counts else (math.nan, math.nan)
    return _Means(total / count if count else math.nan, (vv, vh))


class PlanetCRWorldCover(NativeRasterDataset):
    """Land cover of Planet-CR (ESA WorldCover 2020), or your own WorldCover tiles.

    Class indices at 10 m, 255 for a code that WorldCover does not have.
    """

    filename_glob = MODALITIES['worldcover'].filename_glob
    is_image = MODALITIES['worldcover'].is_image
    # Of class indices, not of WorldCover's codes
    nodata = NO_CLASS
    driver = 'GTiff'

    #: Codes of each class, by level.
    codes: ClassVar[dict[int, tuple[tuple[int, ...], ...]]] = {
        1: ((10,), (20, 30), (40,), (50,), (60,), (80, 90), (70, 95, 100)),
        2: (
            (10,),
            (20,),
            (30,),
            (40,),
            (50,),
            (60,),
            (70,),
            (80,),
            (90,),
            (95,),
            (100,),
        ),
    }

    #: Names of each class, by level.
    classes: ClassVar[dict[int, tuple[str, ...]]] = {
        1: (
            'Forest',
            'Rangeland',
            'Agriculture',
            'Urban',
            'Barren',
            'Water',
            'Unknown',
        ),
        2: (
            'Tree cover',
            'Shrubland',
            'Grassland',
            'Cropland',
            'Built-up',
            'Bare / sparse vegetation',
            'Snow and ice',
            'Permanent water bodies',
            'Herbaceous wetland',
            'Mangroves',
            'Moss and lichen',
        ),
    }

    #: Colors of each class by level, those of WorldCover. A class of level 1 has the color
    #: of one of its classes of level 2.
    colors: ClassVar[dict[int, tuple[str, ...]]] = {
        1: (
            '#006400',
            '#ffff4c',
            '#f096ff',
            '#fa0000',
            '#b4b4b4',
            '#0064c8',
            '#f0f0f0',
        ),
        2: (
            '#006400',
            '#ffbb22',
            '#ffff4c',
            '#f096ff',
            '#fa0000',
            '#b4b4b4',
            '#f0f0f0',
            '#0064c8',
            '#0096a0',
            '#00cf75',
            '#fae6a0',
        ),
    }

    def __init__(
        self,
        paths: Path | Iterable[Path] = 'data',
        transforms: Callable[[Sample], Sample] | None = None,
        strict: bool = False,
        headers: HeaderTable | None = None,
        level: Literal[1, 2] = 2,
    ) -> None:
        """Initialize a new PlanetCRWorldCover instance.

        Args:
            paths: One or more root directories to search or files to load.
            transforms: A function/transform that takes an input sample
                and returns a transformed version.
            strict: Raise an error for an unreadable file instead of a warning.
            headers: Headers of all files, if they are known already.
            level: 1 for the authors' seven classes, 2 for WorldCover's eleven.

        Raises:
            DatasetNotFoundError: If no readable file is found.
            OSError: If *strict* and a file is unreadable.
            ValueError: If *level* is unknown.
        """
        check_level(level)
        self.level = level
        super().__init__(paths, None, transforms, strict, headers)

    def _read_window(
        self, header: RasterHeader, row: int, col: int, height: int, width: int
    ) -> NDArray[Any]:
        """Read a window as class indices, see :meth:`NativeRasterDataset.read_window`."""
        codes = super()._read_window(header, row, col, height, width)
        return self.to_classes(codes, self.level)

    @classmethod
    def to_classes(
        cls, codes: NDArray[Any], level: Literal[1, 2] = 2
    ) -> NDArray[np.uint8]:
        """Translate codes of WorldCover to class indices.

        Args:
            codes: Codes, of any shape.
            level: 1 for the authors' seven classes, 2 for WorldCover's eleven.

        Returns:
            Class indices of the same shape, 255 for a code that WorldCover does not have.
        """
        return cls._class_table(level).take(codes.astype(np.intp), mode='clip')

    @classmethod
    @functools.cache
    def _class_table(cls, level: int) -> NDArray[np.uint8]:
        """Class index of each code."""
        table = np.full(256, NO_CLASS, dtype=np.uint8)
        for index, group in enumerate(cls.codes[level]):
            table[list(group)] = index
        return table


class PlanetCRCloudMask(NativeRasterDataset):
    """Cloud masks of Planet-CR, or your own.

    1 where there is cloud, at 3 m. A ``.npy`` file takes its georeference from the
    cloudy GeoTIFF of the same patch; a raster has its own. It is Planet's usable data mask
    (UDM2), in which shadow and haze are cloud and snow is not, or has one band.
    """

    filename_glob = MODALITIES['cloud_mask'].filename_glob
    is_image = MODALITIES['cloud_mask'].is_image
    driver = 'GTiff'

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Initialize a new PlanetCRCloudMask instance.

        Args:
            *args: See :class:`NativeRasterDataset`.
            **kwargs: See :class:`NativeRasterDataset`.
        """
        super().__init__(*args, **kwargs)
        # A pixel without data counts as one without cloud.
        self.nodata = None

    @classmethod
    def read_header(cls, filepath: str) -> RasterHeader:
        """Read the header of one file, see :meth:`NativeRasterDataset.read_header`."""
        if not filepath.endswith(MODALITIES['cloud_mask'].suffix):
            header = super().read_header(filepath)
            _find_bands(header)
            return header
        shape, layout, stamp = read_array_header(filepath)
        if np.dtype(layout.dtype).kind not in 'bui':
            raise ValueError(f'{filepath} holds {layout.dtype} instead of 0 and 1')
        image = cloudy_path(filepath)
        if not os.path.isfile(image):
            raise OSError(
                f'{filepath} has the georeference of {image}, which is missing: copy it too'
            )
        grid = read_raster_header(image, driver=cls.driver).grid
        if shape != (grid.height, grid.width):
            raise ValueError(
                f'{filepath} has shape {shape} instead of that of {image}, '
                f'{(grid.height, grid.width)}'
            )
        return RasterHeader(filepath, grid, None, layout, stamp)

    def _read_window(
        self, header: RasterHeader, row: int, col: int, height: int, width: int
    ) -> NDArray[Any]:
        """Read a window as 0 and 1, see :meth:`NativeRasterDataset.read_window`."""
        return _read_mask(header, row, col, height, width)

    @staticmethod
    def read_cloud_cover(header: RasterHeader) -> float:
        """Read the share of cloud of a mask.

        Args:
            header: Header of the mask.

        Returns:
            Share in [0, 1].

        Raises:
            OSError: If the mask cannot be read.
        """
        parts = _parts(header.grid)
        count = sum(np.count_nonzero(_read_mask(header, *part)) for part in parts)
        return count / (header.grid.height * header.grid.width)


def _read_mask(
    header: RasterHeader, row: int, col: int, height: int, width: int
) -> NDArray[np.uint8]:
    """Read a window of a cloud mask as 0 and 1."""
    bands = MaskBands((1,))
    if not header.filepath.endswith(MODALITIES['cloud_mask'].suffix):
        bands = _find_bands(header)
    array = read_pixels(header, row, col, height, width, bands.positions, 'GTiff')
    # NaN is not cloud either.
    ones = array > 0
    if header.nodata is not None:
        ones &= array != header.nodata
    return bands.find_cloud(ones).astype(np.uint8)[np.newaxis]


@functools.lru_cache(maxsize=128)
def _find_bands(header: RasterHeader) -> MaskBands:
    """Find the bands of a raster mask."""
    return find_mask_bands(HANDLES.open(header, 'GTiff'))


def check_level(level: int) -> None:
    """Check that a level of land cover exists."""
    if level not in PlanetCRWorldCover.codes:
        raise ValueError(f'landcover level {level!r} is not one of 1 and 2')


#: Data set class of each modality.
COMPONENTS: dict[ModalityName, type[NativeRasterDataset]] = {
    'cloudy': PlanetCRCloudy,
    'clear': PlanetCRClear,
    'sentinel1': PlanetCRSentinel1,
    'worldcover': PlanetCRWorldCover,
    'cloud_mask': PlanetCRCloudMask,
}
