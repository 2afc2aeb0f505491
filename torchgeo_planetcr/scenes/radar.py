# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Sentinel-1 on the grid of a scene."""

import copy
import functools
import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.io import DatasetReader
from rasterio.windows import Window
from torchgeo.datasets.utils import Path

from ..datasets.missing_sentinel1 import Decibels, find_gaps, is_measured
from ..raster.grid import Grid
from ..raster.read import find_alpha, find_masked, read_bands
from .assume import assume
from .backscatter import Unit, find_unit, to_decibels
from .layer import SMALL_SIZE, Layer, OpenFiles, open_layer
from .polarizations import find_polarization, find_polarizations, pair_polarizations


def leave_out(problems: Sequence[Exception], is_enough: bool) -> None:
    """Say which images of Sentinel-1 are left out, and why.

    Args:
        problems: What is wrong with each.
        is_enough: Whether there are others.

    Raises:
        Exception: The first problem, if there are no others.
    """
    if problems and not is_enough:
        raise problems[0]
    for problem in problems:
        reason = str(problem).rstrip('.')
        assume(f'{reason}. This image is left out, and another one is taken')


class Part(NamedTuple):
    """A file that holds VV, VH or both."""

    dataset: DatasetReader
    path: str
    bands: Sequence[int]
    alpha: int | None

    def read(
        self,
        window: Window | None,
        out_shape: tuple[int, ...] | None,
        resampling: Resampling,
    ) -> NDArray[np.float32]:
        """Read pixels as they are in the file, NaN where it says that there are none."""
        options: dict[str, Any] = {'window': window, 'resampling': resampling}
        if out_shape is not None:
            options['out_shape'] = len(self.bands), *out_shape[1:]
        values = read_bands(self.dataset, self.path, self.bands, **options)
        values = values.astype(np.float32)
        nodata = self.dataset.nodata
        gaps = values == (0 if nodata is None else nodata)
        for row, band in zip(values, self.bands, strict=True):
            scale, offset = (
                self.dataset.scales[band - 1],
                self.dataset.offsets[band - 1],
            )
            if (scale, offset) != (1, 0):
                row *= scale
                row += offset
        gaps |= find_gaps(values)
        if gaps.any():
            values[gaps] = np.nan
        shape = values.shape[1:]
        masked = find_masked(self.dataset, self.path, self.alpha, shape, window)
        if masked is not None:
            values[:, masked] = np.nan
        return values


class Sentinel1Layer(Layer):
    """An image of Sentinel-1, warped onto a grid when it is read.

    Programs fill images with several values that stand for missing backscatter.
    """

    def __init__(
        self, path: Path, grid: Grid, vh: Path | None = None, unit: Unit | None = None
    ) -> None:
        """Initialize a new Sentinel1Layer instance.

        Args:
            path: Backscatter of VV and VH in this order unless the bands are named, in
                any CRS and resolution; or of VV alone.
            grid: Grid on which it is read, bilinear. Values are in dB, NaN where there is
                no backscatter.
            vh: Backscatter of VH, if it has a file of its own.
            unit: Unit of the file (defaults to the one that its values are like).

        Raises:
            OSError: If the image cannot be read.
            ValueError: If it has no place on Earth, or not the bands that are expected, or
                if VV and VH have different grids.
        """
        find_vv = functools.partial(find_polarization, polarization='VV')
        super().__init__(
            path,
            find_polarizations if vh is None else find_vv,
            grid=grid,
            resampling=Resampling.bilinear,
            nodata=math.nan,
            dtype='float32',
        )
        self._given_unit = unit
        self._parts = [Part(self.dataset, self.path, self.bands, self._alpha)]
        if vh is not None:
            with ExitStack() as stack:
                # Of the files that are open, VV is closed as well if VH cannot be used
                stack.callback(self.close)
                self._parts.append(self._open_vh(str(vh)))
                self.bands = [*self.bands, *self._parts[1].bands]
                stack.pop_all()

    def _open_vh(self, path: str) -> Part:
        """Open the file of VH beside that of VV."""
        dataset = open_layer(path)
        self._opened.callback(dataset.close)
        vv = self.dataset
        if (dataset.crs, dataset.transform, dataset.shape) != (
            vv.crs,
            vv.transform,
            vv.shape,
        ):
            raise ValueError(
                f'{self.path} and {path} have different grids: take VV and VH of the same '
                'product'
            )
        bands = find_polarization(dataset, 'VH')
        return Part(dataset, path, bands, find_alpha(dataset, bands))

    @functools.cached_property
    def unit(self) -> Unit:
        """Unit of the file."""
        if self._given_unit is not None:
            return self._given_unit
        part = self._part_under(self.grid)
        shape = min(int(part.height), SMALL_SIZE), min(int(part.width), SMALL_SIZE)
        if not all(shape):
            return 'dB'
        values, _ = self._read_pixels(part, (2, *shape))
        return find_unit(values[:, is_measured(values)], self.path)

    def _read_pixels(
        self,
        window: Window | None = None,
        out_shape: tuple[int, ...] | None = None,
        resampling: Resampling = Resampling.nearest,
    ) -> tuple[NDArray[np.float32], None]:
        """Read VV and VH in their unit, NaN where the files have none."""
        first, *others = [
            part.read(window, out_shape, resampling) for part in self._parts
        ]
        if not others:
            return first, None
        values = np.concatenate([first, *others])
        values[:, (values == 0).all(axis=0)] = np.nan
        return values, None

    def _to_floats(
        self, values: NDArray[Any], masked: NDArray[np.bool_] | None
    ) -> NDArray[np.float32]:
        """Turn pixels of the image into those that are warped, in dB."""
        return to_decibels(values, self.unit)


class Sentinel1(OpenFiles):
    """Any number of images of Sentinel-1 on one grid. Where they overlap, the first wins."""

    def __init__(
        self, paths: Sequence[Path], grid: Grid, unit: Unit | None = None
    ) -> None:
        """Initialize a new Sentinel1 instance.

        Args:
            paths: Images, VV and VH in this order unless the bands are named, or each in
                a file of its own, in any CRS and resolution.
            grid: Grid on which they are read.
            unit: Unit of the images (defaults to the one that the values of each are
                like).

        Raises:
            OSError: If no image can be read.
            ValueError: If none has a place on Earth and the bands that are expected.
        """
        self.grid = grid
        self.layers: list[Sentinel1Layer] = []
        problems: list[OSError | ValueError] = []
        #: Files that are read.
        self.files: list[str] = []
        with ExitStack() as stack:
            for files in pair_polarizations([str(path) for path in paths]):
                try:
                    layer = Sentinel1Layer(files[0], grid, *files[1:], unit=unit)
                except (OSError, ValueError) as error:
                    problems.append(error)
                    continue
                self.layers.append(stack.enter_context(layer))
                self.files.extend(files)
            self._opened = stack.pop_all()
        #: Names of the images, for errors.
        self.names = ', '.join(self.files)
        leave_out(problems, bool(self.layers))

    def read(self, window: Grid) -> Decibels:
        """Read VV and VH.

        Args:
            window: Window of the grid, which may reach beyond its edges.

        Returns:
            Backscatter in dB, NaN where no image has any, of shape (2, H, W).

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

    def onto(self, grid: Grid) -> 'Sentinel1':
        """Read the same open images on another grid.

        Args:
            grid: The grid.

        Returns:
            The images, which are closed with these.
        """
        other = copy.copy(self)
        other.grid = grid
        other.layers = [
            layer.onto(grid, Resampling.bilinear, math.nan, 'float32')
            for layer in self.layers
        ]
        return other

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
