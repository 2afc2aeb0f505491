# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""A raster that is opened once and read on any grid."""

import copy
import functools
import math
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, Self

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.enums import Resampling
from rasterio.io import DatasetReader
from rasterio.windows import Window
from torchgeo.datasets.utils import Path

from ..raster.grid import Grid, crs_name
from ..raster.header import RasterHeader
from ..raster.read import (
    UnreadableError,
    check_place,
    describe,
    find_alpha,
    find_masked,
    open_raster,
    read_bands,
)
from ..raster.warp import warp_part

#: Pixels along the longer edge of the small version of a raster by which it is checked.
SMALL_SIZE = 512

#: Pixels around a window that interpolation looks at, and by which GDAL may be off.
MARGIN = 2

#: Function that finds the bands to read in an open file.
type BandFinder = Callable[[DatasetReader], Sequence[int]]


def find_data(image: NDArray[Any], nodata: float | None) -> NDArray[np.bool_]:
    """Find the pixels that have data.

    Args:
        image: Values of shape (C, H, W).
        nodata: Value of all bands where there is no data; 0 if none is declared, as in
            PlanetScope's products.

    Returns:
        Where there is data, of shape (H, W).
    """
    nodata = 0 if nodata is None else nodata
    if np.isnan(nodata):
        return ~np.isnan(image).all(axis=0)
    return (image != nodata).any(axis=0)


def open_layer(path: str) -> DatasetReader:
    """Open a raster that a user names.

    What its content is decides how it is read, but for a mosaic of GDAL: it names other
    files, and is only read if its own name says that it is one.

    Args:
        path: A GeoTIFF, a JPEG 2000, or a mosaic called ``.vrt``.

    Returns:
        The open file.

    Raises:
        UnreadableError: If it cannot be read.
    """
    return open_raster(path, 'VRT' if is_mosaic(path) else None)


def is_mosaic(path: str) -> bool:
    """Whether a file is called as mosaics of GDAL are."""
    return path.lower().endswith('.vrt')


class OpenFiles:
    """Files that are open until this is closed, or at the end of a with statement."""

    #: Closes the files.
    _opened: ExitStack

    def close(self) -> None:
        """Close the files."""
        self._opened.close()

    def __enter__(self) -> Self:
        """Use the files in a with statement."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close the files at its end."""
        self.close()


class Layer(OpenFiles):
    """A raster that is opened once and read on its own grid or on another one.

    Two threads must not read it at the same time, nor two processes.
    """

    def __init__(
        self,
        path: Path,
        find_bands: BandFinder | None = None,
        *,
        grid: Grid | None = None,
        resampling: Resampling = Resampling.nearest,
        source_nodata: float | None = None,
        nodata: float | None = None,
        dtype: str | None = None,
    ) -> None:
        """Initialize a new Layer instance.

        Args:
            path: Raster in any CRS, see ``open_layer``.
            find_bands: Function that finds the bands to read (defaults to all bands).
            grid: Grid on which it is read, onto which other pixels are warped (defaults
                to its own).
            resampling: How to interpolate on another grid.
            source_nodata: Value in the file where there is no data (defaults to the one
                that the file declares, or 0: a file that declares none is padded with 0,
                which is no reflectance, no backscatter in dB and no class of land cover).
            nodata: Value in arrays where there is no data on another grid (defaults to
                *source_nodata*).
            dtype: Type of arrays on another grid (defaults to that of the file).

        Raises:
            OSError: If the file cannot be read.
            ValueError: If it has no place on Earth, not the bands that are expected or,
                without *grid*, is not north-up.
        """
        self.path = os.fspath(path)
        with ExitStack() as stack:
            # Not as a context, which rasterio lets only the thread that entered it leave
            self.dataset = open_layer(self.path)
            stack.callback(self.dataset.close)
            check_place(self.dataset)
            #: Bands that are read, from 1.
            try:
                self.bands = [*(find_bands or _find_all)(self.dataset)]
                self._alpha = find_alpha(self.dataset, self.bands)
            # Colors and names of bands are the first that GDAL reads after the header
            except CPLE_BaseError as error:
                raise UnreadableError(f'{self.path} is damaged: {error}') from error
            if source_nodata is None:
                source_nodata = self.dataset.nodata
            self._source_nodata = 0 if source_nodata is None else source_nodata
            #: Value of pixels without data, and type of arrays.
            self.nodata = self._source_nodata
            self.dtype = np.dtype(self.dataset.dtypes[self.bands[0] - 1])
            self._is_warped = False
            self._opened = stack
            #: Grid on which it is read.
            self.grid = self.header.grid if grid is None else grid
            if grid is not None:
                self._warp(resampling, nodata, dtype)
            self._opened = stack.pop_all()

    def onto(
        self,
        grid: Grid,
        resampling: Resampling = Resampling.nearest,
        nodata: float | None = None,
        dtype: str | None = None,
    ) -> Self:
        """Read the same open file on another grid.

        Args:
            grid: The grid.
            resampling: How to interpolate.
            nodata: Value in arrays where there is no data (defaults to that in the file).
            dtype: Type of arrays (defaults to that of the file).

        Returns:
            A layer that is closed with this one.
        """
        other = copy.copy(self)
        other.grid = grid
        other._warp(resampling, nodata, dtype)
        return other

    def _warp(
        self, resampling: Resampling, nodata: float | None, dtype: str | None
    ) -> None:
        """Put the file onto the grid."""
        self._is_warped, self._resampling = True, resampling
        self.nodata = self._source_nodata if nodata is None else nodata
        self.dtype = np.dtype(dtype or self.dtype)
        self._crs = crs_name(self.dataset.crs.to_wkt())
        # Pixels of the file from one pixel of the grid to the next, 1 at least
        west, north, east, south = self._place_of(self.grid)
        height, width = self.grid.height, self.grid.width
        self._step = max((east - west) / width, (south - north) / height, 1)

    @functools.cached_property
    def header(self) -> RasterHeader:
        """Header of the file."""
        return describe(self.dataset, self.path)

    @property
    def own_grid(self) -> Grid | None:
        """Grid of the file, None if it is not north-up."""
        try:
            return self.header.grid
        except ValueError:
            return None

    def read(self, window: Grid) -> NDArray[Any]:
        """Read a window.

        Args:
            window: Window of :attr:`grid`, which may reach beyond its edges.

        Returns:
            Array of shape (C, H, W); :attr:`nodata` beyond the edges.

        Raises:
            OSError: If the file cannot be read.
        """
        row, col = self.grid.offset(window)
        top, left = max(row, 0), max(col, 0)
        height = max(min(row + window.height, self.grid.height) - top, 0)
        width = max(min(col + window.width, self.grid.width) - left, 0)
        if (height, width) == (window.height, window.width):
            return self._read(window=Window(col, row, width, height))
        shape = len(self.bands), window.height, window.width
        array = np.full(shape, self.nodata, self.dtype)
        if height and width:
            inside = self._read(window=Window(left, top, width, height))
            array[:, top - row :, left - col :][:, :height, :width] = inside
        return array

    def read_small(
        self,
        shape: tuple[int, int] | None = None,
        resampling: Resampling = Resampling.nearest,
    ) -> NDArray[Any]:
        """Read all of it at low resolution.

        Args:
            shape: Rows and columns to read (defaults to :attr:`small_shape`).
            resampling: How pixels become fewer.

        Returns:
            Array of shape (C, H', W').

        Raises:
            OSError: If the file cannot be read.
        """
        size = shape or self.small_shape
        return self._read(out_shape=(len(self.bands), *size), resampling=resampling)

    @property
    def small_shape(self) -> tuple[int, int]:
        """Rows and columns of a small version that shows whether rasters fit together."""
        return small_size(self.grid.height, self.grid.width)

    def find_data(self, image: NDArray[Any]) -> NDArray[np.bool_]:
        """Find the pixels that have data.

        Args:
            image: What was read, of shape (C, H, W).

        Returns:
            Where any band has data, of shape (H, W).
        """
        return find_data(image, self.nodata)

    def _read(
        self,
        *,
        window: Window | None = None,
        out_shape: tuple[int, ...] | None = None,
        resampling: Resampling = Resampling.nearest,
    ) -> NDArray[Any]:
        """Read a window of the grid, or all of it in another shape."""
        if self._is_warped:
            return self._read_onto(self._part_of_grid(window, out_shape), out_shape)
        values, masked = self._read_pixels(window, out_shape, resampling)
        if masked is not None:
            values[:, masked] = self.nodata
        return values

    def _read_pixels(
        self,
        window: Window | None = None,
        out_shape: tuple[int, ...] | None = None,
        resampling: Resampling = Resampling.nearest,
    ) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """Read pixels of the file, and where it masks them."""
        options: dict[str, Any] = {'window': window, 'out_shape': out_shape}
        values = read_bands(
            self.dataset, self.path, self.bands, **options, resampling=resampling
        )
        shape = values.shape[1:]
        return values, find_masked(self.dataset, self.path, self._alpha, shape, window)

    def _to_floats(
        self, values: NDArray[Any], masked: NDArray[np.bool_] | None
    ) -> NDArray[np.float32]:
        """Turn pixels of the file into those that are warped, NaN without data."""
        floats = values.astype(np.float32)
        is_missing = values == self._source_nodata
        if is_missing.any():
            floats[is_missing] = np.nan
        if masked is not None:
            floats[:, masked] = np.nan
        return floats

    def _part_of_grid(
        self, window: Window | None, out_shape: tuple[int, ...] | None
    ) -> Grid:
        """Pixels of a window of the grid, or of all of it in another shape."""
        if window is not None:
            row, col = int(window.row_off), int(window.col_off)
            return self.grid.window(row, col, int(window.height), int(window.width))
        height, width = (out_shape or self.grid[-2:])[-2:]
        xmin, ymin, xmax, ymax = self.grid.bounds
        res = (xmax - xmin) / width, (ymax - ymin) / height
        return Grid(self.grid.crs, xmin, ymax, *res, height, width)

    def _read_onto(
        self, target: Grid, out_shape: tuple[int, ...] | None = None
    ) -> NDArray[Any]:
        """Read the part under a grid, without pixels that it skips if it is small.

        Pixels without data are taken out before the others are warped: GDAL knows a single
        value that stands for them, and no mask of the file.
        """
        shape = len(self.bands), target.height, target.width
        part = self._part_under(target)
        if not (part.width and part.height):
            return np.full(shape, self.nodata, self.dtype)
        size: tuple[int, int] = (int(part.height), int(part.width))
        if out_shape is not None:
            size = min(size[0], shape[1]), min(size[1], shape[2])
        floats = self._to_floats(*self._read_pixels(part, (shape[0], *size)))
        larger = Affine.scale(part.width / size[1], part.height / size[0])
        transform = self.dataset.window_transform(part) @ larger
        step = 1 if out_shape is not None else self._step
        floats = warp_part(
            floats, self.dataset.crs, transform, target, self._resampling, step
        )
        return self._from_floats(floats)

    def _from_floats(self, floats: NDArray[np.floating]) -> NDArray[Any]:
        """Turn pixels that were warped into those that are returned."""
        is_missing = np.isnan(floats)
        if is_missing.any():
            floats[is_missing] = self.nodata
        if self.dtype.kind in 'iu':
            np.rint(floats, out=floats)
        return floats.astype(self.dtype, copy=False)

    def _place_of(self, target: Grid) -> tuple[float, float, float, float]:
        """Columns and rows at the edges of a grid, which may lie beyond the file."""
        left, bottom, right, top = target.bounds_in(self._crs)
        corners = (left, bottom), (left, top), (right, bottom), (right, top)
        places = np.array([~self.dataset.transform @ corner for corner in corners])
        return *places.min(axis=0), *places.max(axis=0)

    def _part_under(self, target: Grid) -> Window:
        """Pixels of the file that interpolation on a grid looks at."""
        margin = MARGIN * self._step
        height, width = self.dataset.shape
        west, north, east, south = self._place_of(target)
        first, last = np.clip([west - margin, east + margin + 1], 0, width).astype(int)
        upper, lower = np.clip([north - margin, south + margin + 1], 0, height).astype(
            int
        )
        return Window(first, upper, last - first, lower - upper)


def _find_all(dataset: DatasetReader) -> Sequence[int]:
    """All bands."""
    return dataset.indexes


def small_size(height: int, width: int) -> tuple[int, int]:
    """Find the size of a small version that shows what a raster is like.

    Args:
        height: Number of rows of the raster.
        width: Number of columns.

    Returns:
        Rows and columns of the small version.
    """
    factor = max(1, max(height, width) // SMALL_SIZE)
    return max(height // factor, 1), max(width // factor, 1)


def small_part(shape: tuple[int, int], grid: Grid, window: Grid) -> tuple[slice, slice]:
    """Find a window in a small version of a raster.

    Args:
        shape: Rows and columns of the small version.
        grid: Grid of the raster.
        window: Window of the grid.

    Returns:
        Rows and columns of the small version that the window meets.
    """
    row, col = grid.offset(window)
    down, right = shape[0] / grid.height, shape[1] / grid.width
    return (
        slice(int(row * down), math.ceil((row + window.height) * down)),
        slice(int(col * right), math.ceil((col + window.width) * right)),
    )
