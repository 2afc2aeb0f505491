# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Raster files of any number of coordinate reference systems as a data set."""

import fnmatch
import functools
import os
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import shapely
import torch
from geopandas import GeoDataFrame, GeoSeries
from numpy.typing import NDArray
from pyproj import CRS
from torch import Tensor
from torchgeo.datasets import DatasetNotFoundError, RasterDataset
from torchgeo.datasets.utils import Path, Sample, array_to_tensor, find_files

from ..raster.grid import Grid, crs_name, parse_crs
from ..raster.header import HeaderTable, RasterHeader
from ..raster.read import (
    FileChangedError,
    NotFiniteError,
    read_headers,
    read_pixels,
    read_raster_header,
)
from ..raster.warp import mosaic, warp_array
from .footprints import clip_footprints, native_index, reproject
from .native import NativeGeoDataset

#: Pieces into which an edge is cut where it is converted to another CRS.
EDGE_PIECES = 32

#: Problems that a message names.
MAX_EXAMPLES = 3


class LeftOutWarning(UserWarning):
    """Some files or patches cannot be used and are left out."""


def report_problems(noun: str, problems: Mapping[str, str], strict: bool) -> None:
    """Report files or patches that cannot be used.

    Args:
        noun: What they are, in the singular.
        problems: The reason for each.
        strict: Raise an error instead of a warning.

    Raises:
        OSError: If *strict*.
    """
    examples = list(problems.values())[:MAX_EXAMPLES]
    if len(problems) > MAX_EXAMPLES:
        examples.append('...')
    message = f'{len(problems)} {noun}(s) cannot be used: {"; ".join(examples)}'
    if strict:
        raise OSError(message)
    text = f'{message.removesuffix(".")}. The rest is used.'
    warnings.warn(text, LeftOutWarning, stacklevel=3)


def find_in_folder(folder: Path, pattern: str) -> list[str]:
    """Find files in a folder and its folders.

    A link to a folder is followed once, unless it leads back to what it lies in.

    Args:
        folder: Local folder, whatever characters its name has, or VSI path.
        pattern: Glob expression for the names of the files.

    Returns:
        Sorted list of paths.
    """
    if os.path.isdir(folder):
        return sorted(_walk(os.fspath(folder), pattern))
    return find_files(folder, pattern)


def _walk(folder: str, pattern: str) -> Iterator[str]:
    """Yield what :func:`find_in_folder` finds in a local folder."""
    start = os.path.realpath(folder)
    seen = {start}
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [
            f for f in folders if _enters(os.path.join(parent, f), start, seen)
        ]
        for name in (*names, *folders):
            if fnmatch.fnmatch(name, pattern) and not name.startswith('.'):
                yield os.path.join(parent, name)


def _enters(folder: str, start: str, seen: set[str]) -> bool:
    """Whether to enter a folder below another, and that it was seen if so."""
    if os.path.basename(folder).startswith('.'):
        return False
    if not os.path.islink(folder):
        return True
    place, parent = os.path.realpath(folder), os.path.realpath(os.path.dirname(folder))
    above = os.path.join(place, '')
    is_back = any(os.path.join(f, '').startswith(above) for f in (start, parent))
    if place in seen or is_back:
        return False
    seen.add(place)
    return True


class NativeRasterDataset(NativeGeoDataset, RasterDataset):
    """Raster files of any number of CRSs, each read on its own pixel grid.

    Unlike in :class:`~torchgeo.datasets.RasterDataset`, no pixel is reprojected: files
    keep their CRS, a window is read from the grid of its file, and a sample says in
    ``crs``, ``bounds`` and ``transform`` where that is. Pixels are resampled only if the
    resolution or the CRS is set, as ``&`` does for its second data set.

    Subclasses may set :attr:`driver` and these class attributes of
    :class:`~torchgeo.datasets.RasterDataset`: ``filename_glob``, ``filename_regex``,
    ``date_format``, ``is_image``, ``all_bands``, ``rgb_bands`` and ``nodata``.

    Files must be north-up and georeferenced.
    """

    #: The one GDAL driver that may read the files, None for GeoTIFF and JPEG 2000.
    driver: str | None = None

    def __init__(
        self,
        paths: Path | Iterable[Path] = 'data',
        bands: Sequence[str] | None = None,
        transforms: Callable[[Sample], Sample] | None = None,
        strict: bool = False,
        headers: HeaderTable | None = None,
    ) -> None:
        """Initialize a new NativeRasterDataset instance.

        Args:
            paths: One or more root directories to search or files to load.
            bands: Bands to return (defaults to all bands).
            transforms: A function/transform that takes an input sample
                and returns a transformed version.
            strict: Raise an error for an unreadable file instead of a warning.
            headers: Headers of all files, if they are known already; *paths* is then
                not searched.

        Raises:
            DatasetNotFoundError: If no readable file is found.
            OSError: If *strict* and a file is unreadable.
            ValueError: If *bands* are unknown.
        """
        self.paths = paths
        self.transforms = transforms
        self.bands = tuple(bands or self.all_bands)
        if unknown := set(self.bands) - set(self.all_bands):
            raise ValueError(
                f'bands={sorted(unknown)} are not among all_bands={self.all_bands}'
            )
        self.band_indexes = [self.all_bands.index(band) + 1 for band in self.bands]

        if headers is None:
            found, problems = read_headers(self.files, self.read_header)
            if problems:
                report_problems('file', problems, strict)
            headers = HeaderTable.from_headers(found.values())
        if not len(headers):
            raise DatasetNotFoundError(self)
        #: Headers of the files, in the order of the index at the start.
        self.headers = headers
        if self.nodata is None:
            self.nodata = headers[0].nodata

    def _make_index(self) -> GeoDataFrame:
        """Make the index, see :meth:`NativeGeoDataset._make_index`."""
        filepaths = self.headers.table['filepath'].to_pandas()
        times = [self._filepath_to_timestamp(filepath) for filepath in filepaths]
        index = pd.IntervalIndex.from_tuples(times, closed='both')
        return native_index({'filepath': filepaths.array}, self.headers, index)

    @property
    def crs(self) -> CRS:
        """:term:`coordinate reference system (CRS)` of the index.

        If it is set, pixels of files in another CRS are warped to it. In this way,
        ``scenes & sentinel1`` puts Sentinel-1 into the CRS of PlanetScope scenes.
        """
        return super().crs

    @crs.setter
    def crs(self, new_crs: CRS) -> None:
        name = crs_name(new_crs)
        if name == self.index_view.crs:
            return
        print(f'Converting {type(self).__name__} CRS from {self.crs} to {new_crs}')
        parts, _ = clip_footprints(self.index)
        # A straight edge of a scene is curved in another CRS.
        lengths = np.sqrt(shapely.area(parts)) / EDGE_PIECES
        parts = shapely.segmentize(parts, lengths)
        parts = reproject(parts, self.index_view.column('native_crs'), name)
        self.warped_to = name
        self.index = self.index.set_geometry(
            GeoSeries(parts, crs=parse_crs(name)).array
        )

    @property
    def files(self) -> list[str]:
        """All files of the data set.

        A folder is searched for ``filename_glob``; a file that is named in *paths*
        belongs to the data set whatever its name.
        """
        paths = (
            [self.paths] if isinstance(self.paths, str | os.PathLike) else self.paths
        )
        files: set[str] = set()
        for path in paths:
            if os.path.isfile(path):
                files.add(str(path))
            elif found := find_in_folder(path, self.filename_glob):
                regex = re.compile(self.filename_regex, re.VERBOSE)
                files.update(
                    file
                    for file in found
                    if regex.match(os.path.basename(file)) and not os.path.isdir(file)
                )
            elif not os.path.isdir(path):
                warnings.warn(
                    f"Could not find any relevant files for provided path '{path}'. "
                    'Path was ignored.',
                    UserWarning,
                )
        return sorted(files)

    @classmethod
    def read_header(cls, filepath: str) -> RasterHeader:
        """Read the header of one file.

        Args:
            filepath: File to read.

        Returns:
            The header.

        Raises:
            OSError: If the file cannot be read.
            ValueError: If the file does not suit the data set.
        """
        return read_raster_header(filepath, len(cls.all_bands), cls.driver)

    def read_window(
        self, header: RasterHeader, row: int, col: int, height: int, width: int
    ) -> NDArray[Any]:
        """Read a window inside a file.

        Args:
            header: Header of the file.
            row: First row.
            col: First column.
            height: Number of rows.
            width: Number of columns.

        Returns:
            Array of shape (C, height, width), in the type of the file.

        Raises:
            OSError: If the file cannot be read, or has changed to one on another grid.
        """
        return self._read_current(self._read_window, header, row, col, height, width)

    def _read_current[T](
        self, read: Callable[..., T], header: RasterHeader, *window: int
    ) -> T:
        """Read something of a file, which may have changed, with a function of headers."""
        try:
            return read(header, *window)
        except FileChangedError:
            current = self.read_header(header.filepath)
            if current.grid != header.grid:
                raise OSError(
                    f'{header.filepath} has changed: open the data set again'
                ) from None
            return read(current, *window)
        except NotFiniteError:
            raise
        except OSError as error:
            raise OSError(
                f'{header.filepath} cannot be read, copy it again: {error}'
            ) from error

    def _read_window(
        self, header: RasterHeader, row: int, col: int, height: int, width: int
    ) -> NDArray[Any]:
        """Read a window of a file that has not changed, see :meth:`read_window`."""
        bands, driver = self.band_indexes or (), self.driver
        return read_pixels(header, row, col, height, width, bands, driver)

    @property
    def fill(self) -> float:
        """Value of pixels without data, ``nodata`` or 0 if there is none."""
        return 0 if self.nodata is None else self.nodata

    def read_mosaic(
        self,
        headers: Iterable[RasterHeader],
        grid: Grid,
        nodata: float | None = None,
        read: Callable[..., NDArray[Any]] | None = None,
    ) -> NDArray[Any]:
        """Read files on one grid. Where they overlap, the first wins.

        Args:
            headers: Headers of the files that meet *grid*.
            grid: Grid of the result.
            nodata: Value of pixels through which the files below show, if any.
            read: Function that reads a window of a file that has not changed (defaults to
                that of :meth:`read_window`).

        Returns:
            Array of shape (C, H, W); pixels that no file covers are :attr:`fill`.
        """
        parts = []
        for header in headers:
            part = functools.partial(self._read_onto, header, read or self._read_window)
            parts.append((header.grid.bounds_in(grid.crs), part))
        return mosaic(grid, parts, self.fill, nodata)

    def _read_onto(
        self, header: RasterHeader, read: Callable[..., NDArray[Any]], target: Grid
    ) -> NDArray[Any]:
        """Read the part of a file that lies under *target*."""
        source = header.grid
        if source.same_lattice(target):
            height, width = target.height, target.width
            row, col = source.offset(target)
            row = min(max(row, 0), source.height - height)
            col = min(max(col, 0), source.width - width)
            return self._read_current(read, header, row, col, height, width)
        # Read all source pixels that interpolation at the edge of the target may need.
        xmin, ymin, xmax, ymax = target.bounds_in(source.crs)
        dx = 2 * max((xmax - xmin) / target.width, source.xres)
        dy = 2 * max((ymax - ymin) / target.height, source.yres)
        rows, cols = source.inside((xmin - dx, ymin - dy, xmax + dx, ymax + dy))
        height, width = rows.stop - rows.start, cols.stop - cols.start
        if not (height and width):
            shape = len(self.band_indexes or [1]), target.height, target.width
            return np.ma.masked_all(shape)
        place = rows.start, cols.start, height, width
        return warp_array(
            self._read_current(read, header, *place),
            source.window(*place),
            target,
            self.resampling,
            nodata=self.nodata,
        )

    def headers_of(self, rows: Sequence[int]) -> list[RasterHeader]:
        """Find the headers of rows of the index.

        Args:
            rows: Positions of the rows.

        Returns:
            Header of each.
        """
        filepaths = self.index_view.column('filepath')[rows]
        return [self.headers[self.headers.find(path)] for path in filepaths]

    def fill_gaps(
        self, array: NDArray[Any], headers: Iterable[RasterHeader]
    ) -> NDArray[Any]:
        """Replace pixels without data, for data sets in which they must not stay so.

        Args:
            array: Pixels of the files, (C, H, W), :attr:`fill` where no file has any.
            headers: Headers of the files that they are from.

        Returns:
            Array of the same shape, here the same array.
        """
        return array

    def _load(self, rows: Sequence[int], grid: Grid) -> Sample:
        """Read pixels, see :meth:`NativeGeoDataset._load`."""
        array = self.read_mosaic(self.headers_of(rows), grid, self.nodata)
        data = self.to_tensor(array)
        return {'image': data} if self.is_image else {'mask': data.squeeze(0)}

    def to_tensor(self, array: NDArray[Any]) -> Tensor:
        """Turn pixels of the files into those of a sample.

        Args:
            array: Pixels of the files, (C, H, W).

        Returns:
            Tensor of the same shape, in the ``dtype`` of the data set.
        """
        if self.dtype == torch.float32:
            return torch.from_numpy(array.astype(np.float32, order='C'))
        return array_to_tensor(array).to(self.dtype)
