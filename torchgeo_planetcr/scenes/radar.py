# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Sentinel-1 on the grid of a scene."""

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import numpy as np
from rasterio.enums import Resampling
from rasterio.windows import Window, from_bounds
from torchgeo.datasets.utils import Path

from ..datasets.missing_sentinel1 import Decibels, is_measured
from ..raster.grid import Grid, crs_name
from ..raster.read import read_bands
from ..raster.warp import warp
from .bands import find_polarizations
from .layer import Layer, OpenFiles

#: Pixels around a window that interpolation looks at, and by which GDAL may be off.
MARGIN = 2


class Sentinel1Layer(Layer):
    """An image of Sentinel-1, warped onto a grid when it is read."""

    def __init__(self, path: Path, grid: Grid) -> None:
        """Initialize a new Sentinel1Layer instance.

        Args:
            path: Backscatter in dB, VV and VH in this order unless the bands are named,
                in any CRS and resolution.
            grid: Grid on which it is read, bilinear. Values are NaN or infinite where
                there is no backscatter.

        Raises:
            OSError: If the image cannot be read.
            ValueError: If it has no place on Earth, or not the bands that are expected.
        """
        bilinear = Resampling.bilinear
        super().__init__(
            path,
            find_polarizations,
            grid=grid,
            resampling=bilinear,
            nodata=math.nan,
            dtype='float32',
        )
        self._crs = crs_name(self.dataset.crs.to_wkt())
        # For windows without a gap, which take GDAL a third of the time if it need not
        # look for one
        try:
            self._gapless = warp(
                self.dataset,
                grid,
                bilinear,
                source_nodata=None,
                nodata=None,
                dtype='float32',
            )
        except OSError:
            self.close()
            raise
        self._opened.callback(self._gapless.close)

    def read(self, window: Grid) -> Decibels:
        """Read VV and VH.

        Args:
            window: Window of :attr:`grid`, which may reach beyond its edges.

        Returns:
            Backscatter in dB, NaN or infinite where there is none, of shape (2, H, W).

        Raises:
            OSError: If the image cannot be read.
        """
        if self.grid.holds(window) and self._is_gapless(window):
            row, col = self.grid.offset(window)
            place = Window(col, row, window.width, window.height)
            return read_bands(self._gapless, self.path, self.bands, window=place)
        return super().read(window)

    def _is_gapless(self, window: Grid) -> bool:
        """Whether there is backscatter everywhere around a window."""
        image = self.dataset
        place = window.bounds_in(self._crs)
        part = from_bounds(*place, transform=image.transform)
        margin = MARGIN * max(part.width / window.width, part.height / window.height, 1)
        top, left = (math.floor(n - margin) for n in (part.row_off, part.col_off))
        bottom = math.ceil(part.row_off + part.height + margin)
        right = math.ceil(part.col_off + part.width + margin)
        if top < 0 or left < 0 or bottom > image.height or right > image.width:
            return False
        around = Window(left, top, right - left, bottom - top)
        values = read_bands(image, self.path, self.bands, window=around)
        nodata = 0 if image.nodata is None else image.nodata
        return bool(np.isfinite(values).all() and (values != nodata).all())


class Sentinel1(OpenFiles):
    """Any number of images of Sentinel-1 on one grid. Where they overlap, the first wins."""

    def __init__(self, paths: Sequence[Path], grid: Grid) -> None:
        """Initialize a new Sentinel1 instance.

        Args:
            paths: Images in dB, VV and VH in this order unless the bands are named, in
                any CRS and resolution.
            grid: Grid on which they are read.

        Raises:
            OSError: If an image cannot be read.
            ValueError: If one has no place on Earth, or not the bands that are expected.
        """
        self.grid = grid
        #: Names of the images, for errors.
        self.names = ', '.join(map(str, paths))
        with ExitStack() as stack:
            self.layers = [
                stack.enter_context(Sentinel1Layer(path, grid)) for path in paths
            ]
            self._opened = stack.pop_all()

    def read(self, window: Grid) -> Decibels:
        """Read VV and VH.

        Args:
            window: Window of the grid, which may reach beyond its edges.

        Returns:
            Backscatter in dB, NaN or infinite where no image has any, of shape (2, H, W).

        Raises:
            OSError: If an image cannot be read.
        """
        return self._merge(
            (layer.read(window) for layer in self.layers), (window.height, window.width)
        )

    def read_small(self, shape: tuple[int, int]) -> Decibels:
        """Read all of the grid at low resolution.

        Args:
            shape: Rows and columns.

        Returns:
            As :meth:`read`.

        Raises:
            OSError: If an image cannot be read.
        """
        return self._merge((layer.read_small(shape) for layer in self.layers), shape)

    def _merge(self, images: Iterator[Decibels], shape: tuple[int, int]) -> Decibels:
        """Put images together, and read no more of them than needed."""
        values = next(images, None)
        if values is None:
            return np.full((2, *shape), np.nan, np.float32)
        while not (covered := is_measured(values)).all():
            below = next(images, None)
            if below is None:
                break
            values = np.where(covered, values, below)
        return values
