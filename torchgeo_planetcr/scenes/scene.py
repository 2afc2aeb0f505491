# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""A cloudy scene and what belongs to it, window by window."""

import functools
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..datasets.components import PlanetCRWorldCover
from ..datasets.missing_sentinel1 import (
    Decibels,
    fill_gaps,
    is_measured,
    mean_backscatter,
)
from ..datasets.modalities import MODALITIES
from ..raster.grid import Grid
from ..raster.read import UnreadableError
from .assume import assume
from .files import SceneFiles
from .layer import Layer, OpenFiles, small_part
from .mask import CloudMask
from .passes import DEFAULT_RADAR, Passes, RadarOptions
from .radar import Sentinel1
from .reflectance import OpticalLayer

#: Backscatter in dB that no image of land or sea has for its mean.
DECIBELS = (-40.0, 0.0)


#: Sizes in meters of pixels of PlanetScope: 3 m and 3.125 m in products, up to 4.1 m before.
PIXEL_SIZES = (2.5, 4.25)


class Survey(NamedTuple):
    """What reading a whole scene at low resolution has found."""

    #: Share of the scene that Sentinel-1 covers.
    coverage: float

    #: Grid of the scene.
    grid: Grid

    #: Where the scene has data at low resolution, packed, and its rows and columns.
    has_data: NDArray[np.uint8]
    shape: tuple[int, int]

    def may_have_data(self, window: Grid) -> bool:
        """Whether any pixel of a window has data, seen at low resolution.

        Args:
            window: Window of the scene.

        Returns:
            True if there is one. If not, there may be single pixels.
        """
        count = self.shape[0] * self.shape[1]
        small = np.unpackbits(self.has_data, count=count).reshape(self.shape)
        return bool(small[small_part(self.shape, self.grid, window)].any())


class Scene(OpenFiles):
    """A cloudy PlanetScope scene, and what belongs to it on its grid.

    All files are opened once. Those in another CRS or resolution are warped when they are
    read.
    """

    def __init__(
        self,
        files: SceneFiles,
        bands: Sequence[int] | None = None,
        scale: float | None = None,
        radar: RadarOptions = DEFAULT_RADAR,
    ) -> None:
        """Initialize a new Scene instance.

        Args:
            files: Files of the scene.
            bands: Positions of B, G, R and NIR in the cloudy and the clear image, from 1
                (defaults to those of PlanetScope's products of four and eight bands).
            scale: Value in the cloudy and the clear image that is a reflectance of 1
                (defaults to what they say, or what their values look like).
            radar: How Sentinel-1 is chosen and read.

        Raises:
            OSError: If a file cannot be read.
            ValueError: If something is missing or unclear, if a file has no place on Earth,
                or not the bands or the type that are expected, or if no image of Sentinel-1
                is near enough in time.
        """
        if files.problem:
            raise ValueError(files.problem)
        radar.check()
        self.files, self.radar = files, radar
        with ExitStack() as stack:
            image = OpticalLayer(files.cloudy, bands, scale)
            self.image = stack.enter_context(image)
            #: Grid of the cloudy image, on which everything is read.
            self.grid = self.image.grid
            self._passes = stack.enter_context(Passes(files.s1, self.image, radar))
            self.clear = self.landcover = self.mask = None
            if files.clear is not None:
                clear = OpticalLayer(files.clear, bands, scale, self.grid)
                self.clear = stack.enter_context(clear)
            if files.landcover is not None:
                landcover = Layer(
                    files.landcover,
                    lambda dataset: [1],
                    grid=self.grid,
                    nodata=MODALITIES['worldcover'].nodata,
                )
                self.landcover = stack.enter_context(landcover)
            if files.mask is not None:
                mask = CloudMask(files.mask, self.image)
                self.mask = stack.enter_context(mask)
            # Sentinel-1 is read beside the image, as it takes as long
            self._executor = ThreadPoolExecutor(1)
            stack.callback(self._executor.shutdown)
            self._opened = stack.pop_all()

    def survey(self) -> Survey:
        """Read the whole scene at low resolution, and check that its files fit it.

        Returns:
            What was found.

        Raises:
            OSError: If a file cannot be read.
            ValueError: If the scene has no data, if its values or those of the clear image
                are no reflectance, if Sentinel-1 covers less of it than is required, if its
                values are not those of VV and VH in dB, or if the mask does not fit.
        """
        min_coverage = self.radar.min_coverage
        cloudy = self.files.cloudy
        if not self.files.s1:
            raise ValueError(f'no image of Sentinel-1 covers {cloudy}: add one')
        has_data = self._small_has_data
        if not has_data.any():
            raise ValueError(f'{cloudy} has no pixel with data')
        self._remark_on_pixels()
        if self.clear is not None:
            # A damaged part is reported when it is read
            with suppress(UnreadableError):
                self.clear.survey()
        covered = is_measured(self._small_sentinel1) & has_data
        names = self.sentinel1.names
        if not covered.any():
            raise ValueError(
                f'{names} does not cover {cloudy} at all: take the Sentinel-1 image of '
                'the same place, in dB or linear (values below -100 count as missing)'
            )
        vv, vh = self._mean.tolist()
        if not all(DECIBELS[0] < mean < DECIBELS[1] for mean in (vv, vh)):
            raise ValueError(
                f'{names} has means of {vv:.3g} and {vh:.3g}, which is no backscatter in '
                'dB: give its unit (--s1_unit), or convert it'
            )
        if vv < vh:
            raise ValueError(
                f'{names} has a mean of {vv:.3g} dB in VV, below the {vh:.3g} dB in VH, but '
                'VV is always stronger: put VV first'
            )
        coverage = float(covered.sum() / has_data.sum())
        if coverage < min_coverage:
            raise ValueError(
                f'{names} covers {100 * coverage:.0f} % of {cloudy}, and at least '
                f'{100 * min_coverage:.0f} % are required: add the image beside it, or '
                'lower min_coverage'
            )
        if self.mask is not None:
            self.mask.check(has_data, min_coverage)
        return Survey(coverage, self.grid, np.packbits(has_data), has_data.shape)

    def read(self, window: Grid) -> dict[str, NDArray[Any]]:
        """Read a window.

        Args:
            window: Window of the scene, which may reach beyond its edges.

        Returns:
            ``image`` (4, H, W), reflectance x 10000, ``image_s1`` (2, H, W) in dB, and
            ``has_data`` (H, W), whether the scene has data. Where there are such files,
            also ``image_clear`` (4, H, W), reflectance x 10000, ``mask`` (H, W), class
            of land cover, 255 for none, and ``mask_cloud`` (H, W), 1 where there is
            cloud or no mask. Missing Sentinel-1 is replaced by its mean over the scene.

        Raises:
            OSError: If a file cannot be read.
            ValueError: If a value of the mask is unknown.
        """
        reading = self._executor.submit(self.sentinel1.read, window)
        image, has_data = _read_reflectance(self.image, window)
        sample = {'image': image}
        if self.clear is not None:
            sample['image_clear'], _ = _read_reflectance(self.clear, window)
        if self.landcover is not None:
            codes = self.landcover.read(window)[0]
            sample['mask'] = PlanetCRWorldCover.to_classes(codes).astype(np.int64)
        if self.mask is not None:
            cloudy = self.mask.read_cloud(window, has_data)
            sample['mask_cloud'] = (cloudy != 0).astype(np.int64)
        backscatter = reading.result()
        if not np.isfinite(backscatter).all():
            backscatter = fill_gaps(backscatter, self._mean)
        return {**sample, 'image_s1': backscatter, 'has_data': has_data}

    def has_data(self, window: Grid) -> bool:
        """Whether any pixel of a window has data.

        Args:
            window: Window of the scene.

        Returns:
            True if there is one.

        Raises:
            OSError: If the scene cannot be read.
        """
        return bool(self.image.find_data(self.image.read(window)).any())

    def _remark_on_pixels(self) -> None:
        """Say that pixels are larger or smaller than those of PlanetScope."""
        smallest, largest = PIXEL_SIZES
        width, height = self.grid.ground_size
        if not (min(width, height) < smallest or max(width, height) > largest):
            return
        size = f'{width:.2g}'
        if not math.isclose(width, height, rel_tol=0.1):
            size = f'{size} x {height:.2g}'
        assume(
            f'{self.files.cloudy} has pixels of {size} m on the ground, and models are '
            f'trained with {MODALITIES["cloudy"].resolution:g} m: do not expect as much as '
            'of PlanetScope'
        )

    @functools.cached_property
    def sentinel1(self) -> Sentinel1:
        """Images of Sentinel-1 of the pass that is taken."""
        return self._passes.choose(self._small_has_data)

    @functools.cached_property
    def _small_has_data(self) -> NDArray[np.bool_]:
        """Where the scene has data at low resolution."""
        return self.image.survey()

    @functools.cached_property
    def _small_sentinel1(self) -> Decibels:
        """Sentinel-1 at low resolution; NaN or infinite where there is none."""
        return self.sentinel1.read_small(self.image.small_shape)

    @functools.cached_property
    def _mean(self) -> Decibels:
        """Mean of Sentinel-1 where the scene has data, which replaces what is missing."""
        covered = is_measured(self._small_sentinel1) & self._small_has_data
        return mean_backscatter(self._small_sentinel1[:, covered])


def _read_reflectance(
    layer: OpticalLayer, window: Grid
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Read reflectance x 10000, 0 without data, and where there is data."""
    image = layer.read(window)
    has_data = layer.find_data(image)
    if not has_data.all():
        # The nodata value is not a reflectance
        image[:, ~has_data] = 0
    return image.astype(np.float32, copy=False), has_data
