# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Optical images as surface reflectance x 10000, whatever they are stored as."""

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.io import DatasetReader
from torchgeo.datasets.utils import Path

from ..datasets.modalities import MODALITIES, REFLECTANCE_SCALE
from ..raster.grid import Grid
from .assume import assume
from .bands import declares_scale, find_planetscope_bands
from .layer import Layer, find_data, small_size

#: Type of the values of PlanetScope's products of surface reflectance, the largest one, and
#: that of pixels without data.
DTYPE = MODALITIES['cloudy'].dtype.__name__
LAST_VALUE = np.iinfo(DTYPE).max
NODATA = MODALITIES['cloudy'].nodata

#: Below this there is no reflectance x 10000, but a value that stands for none, such as
#: -9999. Atmospheric correction makes dark pixels negative, but not as much.
LEAST = -5000

#: Reflectance x 10000 that few pixels exceed: snow and cloud have up to 20000.
LARGEST = 30000

#: Reflectance and its median that hardly any image exceeds.
BRIGHT, BRIGHT_MEDIAN = 3, 1.5

#: Largest value of pictures of 8 bits. Reflectance in per cent is lower, too, and hardly any
#: scene of reflectance x 10000 is as dark.
DARK = 255

#: Whole numbers up to this are too dark for a landscape in per cent.
NIGHT = 25

#: Ratio of bright to dark pixels that landscapes have, but not water alone.
CONTRAST = 4

#: What to do about values that are unclear.
ADVICE = (
    'say with --scale (scale=...) which value is a reflectance of 1, for example '
    '`--scale 100` for per cent or `--scale 10000` for reflectance x 10000'
)


class Conversion(NamedTuple):
    """How values of the bands become reflectance x 10000."""

    factor: NDArray[np.float32]
    offset: NDArray[np.float32]


class OpticalLayer(Layer):
    """An optical image, read as surface reflectance x 10000 of B, G, R and NIR.

    What PlanetScope's products hold, uint16 x 10000, is read as it is. Other values are
    converted to float32, NaN where there is no data, by what the user says of them, by the
    scale and offset that the file declares, or by what they look like.
    """

    def __init__(
        self,
        path: Path,
        bands: Sequence[int] | None = None,
        scale: float | None = None,
        grid: Grid | None = None,
    ) -> None:
        """Initialize a new OpticalLayer instance.

        Args:
            path: The image, in any CRS.
            bands: Positions of B, G, R and NIR, from 1, if they are known.
            scale: Value in the file that is a reflectance of 1, if it is known.
            grid: Grid on which it is read, bilinear (defaults to its own).

        Raises:
            OSError: If the file cannot be read.
            ValueError: If *scale* is not positive, if the image has no place on Earth, if
                its bands are not known, or if it is no surface reflectance.
        """
        if scale is not None and not 0 < scale < math.inf:
            raise ValueError(
                f'scale={scale} is not the value of a reflectance of 1: give one above 0'
            )
        find = functools.partial(find_planetscope_bands, bands=bands, scale=scale)
        super().__init__(path, find, grid=grid, resampling=Resampling.bilinear)
        self._scale = scale
        self._stated = _find_stated_conversion(self.dataset, self.bands, scale)
        #: Whether it is read as it is.
        self.is_product = self._is_product()
        if not self.is_product:
            self.nodata, self.dtype = math.nan, np.dtype(np.float32)
        elif grid is not None:
            self.nodata = NODATA

    def survey(self) -> NDArray[np.bool_]:
        """Read all of it at low resolution, and check that it is reflectance.

        Returns:
            Where it has data, of shape (H', W').

        Raises:
            OSError: If the file cannot be read.
            ValueError: If its values are no reflectance. With *scale*, they may be as dark
                as they are.
        """
        values = self.read_small()
        has_data = self.find_data(values)
        if has_data.any():
            self._check(values[:, has_data])
        return has_data

    def find_data(self, image: NDArray[Any]) -> NDArray[np.bool_]:
        """Find the pixels that have data, see :meth:`Layer.find_data`."""
        has_data = super().find_data(image)
        if self.is_product and self.nodata != NODATA:
            # Programs fill images with zeros, whatever they declare
            has_data &= find_data(image, NODATA)
        return has_data

    def to_product(self, values: NDArray[Any]) -> NDArray[Any]:
        """Turn what was read into what PlanetScope's products hold.

        Args:
            values: What was read, of shape (C, H, W).

        Returns:
            Reflectance x 10000 as uint16, 0 in all bands where there is no data, and
            nowhere else.
        """
        has_data = self.find_data(values)
        product = np.rint(np.where(has_data, values, NODATA)).astype(DTYPE)
        product[:, has_data & ~find_data(product, NODATA)] = 1
        return product

    @functools.cached_property
    def conversion(self) -> Conversion:
        """How values become reflectance x 10000.

        Raises:
            OSError: If the file cannot be read.
            ValueError: If it does not say it, and its values are unclear.
        """
        dtype = self.dataset.dtypes[0]
        if self._stated is not None:
            says_nothing = self._scale is None and not declares_scale(self.dataset)
            if says_nothing and dtype != DTYPE:
                assume(
                    f'{self.path} is {dtype}: taken for reflectance x 10000; if it is '
                    'not, say with --scale which value is a reflectance of 1'
                )
            return self._stated
        factor = self._guess_factor()
        kind = 'from 0 to 1' if factor > 1 else f'x {REFLECTANCE_SCALE}'
        assume(
            f'{self.path} is {dtype}: taken for reflectance {kind} by its values; if it is '
            'not, say with --scale which value is a reflectance of 1'
        )
        return _make_conversion(factor, 0)

    def _is_product(self) -> bool:
        """Whether the file holds what PlanetScope's products do."""
        nodata = self.dataset.nodata
        return (
            self._stated is not None
            and self.dataset.dtypes[0] == DTYPE
            and np.allclose(self._stated.factor, 1)
            and not self._stated.offset.any()
            and (nodata is None or nodata in range(LAST_VALUE + 1))
        )

    def _read(self, **options: Any) -> NDArray[Any]:
        """Read pixels as reflectance x 10000, see :meth:`Layer._read`."""
        if self.is_product or self._is_warped:
            return super()._read(**options)
        return self._to_floats(*self._read_pixels(**options))

    def _to_floats(
        self, values: NDArray[Any], masked: NDArray[np.bool_] | None
    ) -> NDArray[np.float32]:
        """Turn pixels of the file into reflectance x 10000, NaN without data."""
        with np.errstate(over='ignore'):
            floats = values.astype(np.float32)
        # Programs fill images with zeros, whatever they declare
        is_missing = ~find_data(values, NODATA)
        if self.is_product and self._source_nodata != NODATA:
            is_missing |= ~find_data(values, self._source_nodata)
        if not self.is_product:
            is_gap = ~np.isfinite(floats)
            if self._source_nodata:
                is_gap |= values == self._source_nodata
            factor, offset = self.conversion
            floats *= factor[:, None, None]
            floats += offset[:, None, None]
            is_missing |= (is_gap | (floats < LEAST)).any(axis=0)
            floats.clip(0, LAST_VALUE, out=floats)
        if masked is not None:
            is_missing |= masked
        floats[:, is_missing] = np.nan
        return floats

    def _guess_factor(self) -> float:
        """Find out by what floating values must be multiplied."""
        shape = len(self.bands), *small_size(*self.dataset.shape)
        values, masked = self._read_pixels(None, shape)
        is_valid = np.isfinite(values) & (values != self._source_nodata)
        is_valid &= (values > LEAST / REFLECTANCE_SCALE) & (values != 0)
        if masked is not None:
            is_valid &= ~masked
        values = values[is_valid]
        if not values.size:
            return REFLECTANCE_SCALE
        median, high = np.percentile(values, (50, 99))
        if high <= BRIGHT and median <= BRIGHT_MEDIAN:
            return REFLECTANCE_SCALE
        if values.max() > DARK:
            return 1
        raise ValueError(
            f'{self.path} has values of up to {values.max():.5g}, which is neither '
            f'reflectance from 0 to 1 nor reflectance x {REFLECTANCE_SCALE}: {ADVICE}'
        )

    def _check(self, values: NDArray[Any]) -> None:
        """Refuse values, of shape (C, N), that are no reflectance x 10000."""
        largest = values.max()
        is_dark = self._scale is None and largest <= DARK
        is_landscape = False
        if is_dark:
            low, high = np.percentile(values, (1, 99), axis=1)
            has_contrast = (high > CONTRAST * low).mean() >= 0.5
            is_landscape = has_contrast and (largest > NIGHT or not self.is_product)
        if np.percentile(values, 95) > LARGEST or is_landscape:
            raise ValueError(
                f'{self.path} has values of up to {largest:.5g} as reflectance x '
                f'{REFLECTANCE_SCALE}, which no landscape has: {ADVICE}'
            )
        if is_dark:
            assume(
                f'{self.path} is very dark, with values of up to {largest:.5g}: taken for '
                f'reflectance x {REFLECTANCE_SCALE}; if it is not, say with --scale which '
                'value is a reflectance of 1'
            )


def _find_stated_conversion(
    dataset: DatasetReader, bands: Sequence[int], scale: float | None
) -> Conversion | None:
    """Conversion by what the user, the file or its type says, None if none of them does."""
    if scale is not None:
        return _make_conversion(REFLECTANCE_SCALE / scale, 0)
    if declares_scale(dataset):
        scales, offsets = np.array([dataset.scales, dataset.offsets])
        places = [band - 1 for band in bands]
        return _make_conversion(
            REFLECTANCE_SCALE * scales[places], REFLECTANCE_SCALE * offsets[places]
        )
    return _make_conversion(1, 0) if np.dtype(dataset.dtypes[0]).kind in 'iu' else None


def _make_conversion(factor: Any, offset: Any) -> Conversion:
    """Conversion of four bands."""
    shape = (len(MODALITIES['cloudy'].bands),)
    return Conversion(
        np.broadcast_to(np.float32(factor), shape),
        np.broadcast_to(np.float32(offset), shape),
    )
