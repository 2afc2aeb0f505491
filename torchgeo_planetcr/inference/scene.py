# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""A cloudy scene and the radar images that go with it, window by window."""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window
from torchgeo.datasets.utils import Path

from .radar import WarpedRadar
from .raster import CHECK_SIZE, find_bands, find_data, open_raster, read_bands

#: Backscatter in dB that no image of land or sea has for its mean.
DECIBELS = (-40.0, 0.0)


class Scene:
    """A cloudy PlanetScope scene and Sentinel-1, warped onto its grid when it is read."""

    def __init__(
        self,
        cloudy: Path,
        s1: Sequence[Path],
        bands: Sequence[int] | None = None,
        min_coverage: float = 0.9,
    ) -> None:
        """Initialize a new Scene instance.

        Args:
            cloudy: PlanetScope scene, surface reflectance x 10000.
            s1: Sentinel-1 backscatter in dB, VV and VH in this order unless the bands
                are named, in any CRS and resolution. Where several images have data, the
                first is taken.
            bands: Positions of B, G, R and NIR from 1 (defaults to those of
                PlanetScope's products of four and eight bands).
            min_coverage: Least share of the scene that *s1* must cover.

        Raises:
            OSError: If a file cannot be read.
            ValueError: If a file has no CRS, or not the bands or the type that are
                expected.
        """
        if not 0 <= min_coverage <= 1:
            msg = f'min_coverage={min_coverage} is not a share in [0, 1].'
            raise ValueError(msg)
        self.cloudy, self.s1, self.min_coverage = cloudy, s1, min_coverage
        with ExitStack() as stack:
            self._image = open_raster(cloudy)
            stack.callback(self._image.close)
            self.bands = find_bands(self._image, bands)
            self.height, self.width = self._image.shape
            self._radar: list[WarpedRadar] = []
            for path in s1:
                radar = WarpedRadar(path, self._image)
                stack.callback(radar.close)
                self._radar.append(radar)
            # Radar is read beside the image, as it takes as long
            self._executor = ThreadPoolExecutor(1)
            stack.callback(self._executor.shutdown)
            self._opened = stack.pop_all()
        #: Mean of VV and VH, which replaces what is missing, and where the scene in small
        #: has data, see :meth:`survey`.
        self._surveyed: tuple[NDArray[np.float32], NDArray[np.bool_]] | None = None

    def survey(self) -> float:
        """Look at all of the scene in small, and see that radar goes with it.

        Returns:
            Share of the scene that radar covers.

        Raises:
            OSError: If a file cannot be read.
            ValueError: If the scene has no data, if radar covers less of it than is asked
                for, or if its values are not those of VV and VH in dB.
        """
        if not self.s1:
            msg = f'there is no image of Sentinel-1 of the place of {self.cloudy}.'
            raise ValueError(msg)
        factor = max(1, max(self.height, self.width) // CHECK_SIZE)
        shape = max(self.height // factor, 1), max(self.width // factor, 1)
        image = self._read_image(out_shape=(4, *shape))
        has_data = find_data(image, self._image.nodata)
        if not has_data.any():
            msg = f'{self.cloudy} has no pixel with data.'
            raise ValueError(msg)
        radar = self._read_radar(out_shape=(2, *shape))
        covered = np.isfinite(radar).all(axis=0) & has_data
        names = ', '.join(map(str, self.s1))
        if not covered.any():
            msg = f'{names} does not cover {self.cloudy} at all: take the Sentinel-1 '
            msg += 'image of the same place.'
            raise ValueError(msg)
        mean = radar[:, covered].mean(axis=1)
        if not ((mean > DECIBELS[0]) & (mean < DECIBELS[1])).all():
            msg = f'{names} has means of {mean[0]:.3g} and {mean[1]:.3g}, which is no '
            msg += 'backscatter in dB: convert it, with 10 log10 if it is linear.'
            raise ValueError(msg)
        if mean[0] < mean[1]:
            msg = f'{names} has a mean of {mean[0]:.3g} dB in VV, below the {mean[1]:.3g} dB '
            msg += 'in VH, which no place has: put VV first.'
            raise ValueError(msg)
        coverage = covered.sum() / has_data.sum()
        if coverage < self.min_coverage:
            msg = (
                f'{names} covers {100 * coverage:.0f} % of {self.cloudy}, and at least '
            )
            msg += (
                f'{100 * self.min_coverage:.0f} % are asked for: add the image beside '
            )
            msg += 'it, or lower min_coverage.'
            raise ValueError(msg)
        self._surveyed = mean[:, None, None], has_data
        return float(coverage)

    def read(
        self, row: int, col: int, height: int, width: int
    ) -> dict[str, NDArray[Any]]:
        """Read a window.

        Args:
            row: First row.
            col: First column.
            height: Number of rows.
            width: Number of columns.

        Returns:
            ``image`` (4, H, W), reflectance x 10000, ``image_s1`` (2, H, W) in dB, with
            the mean over the scene where there is none, and ``has_data`` (H, W), whether
            the scene has data.

        Raises:
            OSError: If a file cannot be read.
            ValueError: If radar does not go with the scene, see :meth:`survey`.
        """
        window = Window(col, row, width, height)
        reading = self._executor.submit(self._read_radar, window=window)
        image = self._read_image(window=window)
        has_data = find_data(image, self._image.nodata)
        if not has_data.all():
            # Whatever stands for no data is no reflectance
            image[:, ~has_data] = 0
        radar = reading.result()
        is_covered = np.isfinite(radar)
        if not is_covered.all():
            fill, _ = self._survey()
            radar = np.where(is_covered, radar, fill)
        image = image.astype(np.float32)
        return {'image': image, 'image_s1': radar, 'has_data': has_data}

    def has_data(self, row: int, col: int, height: int, width: int) -> bool:
        """Whether any pixel of a window has data.

        Args:
            row: First row.
            col: First column.
            height: Number of rows.
            width: Number of columns.

        Returns:
            True if there is one.

        Raises:
            OSError: If a file cannot be read.
            ValueError: If radar does not go with the scene, see :meth:`survey`.
        """
        _, small = self._survey()
        # Reading all tiles here, too, would take as long as reading them for the model
        scale = small.shape[0] / self.height, small.shape[1] / self.width
        if small[
            int(row * scale[0]) : math.ceil((row + height) * scale[0]),
            int(col * scale[1]) : math.ceil((col + width) * scale[1]),
        ].any():
            return True
        window = Window(col, row, width, height)
        image = self._read_image(window=window)
        return bool(find_data(image, self._image.nodata).any())

    def _survey(self) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """What :meth:`survey` finds out, once."""
        if self._surveyed is None:
            self.survey()
        assert self._surveyed is not None
        return self._surveyed

    def _read_image(self, **kwargs: Any) -> NDArray[Any]:
        """Read B, G, R and NIR."""
        return read_bands(self._image, self.cloudy, self.bands, **kwargs)

    def _read_radar(self, **kwargs: Any) -> NDArray[np.float32]:
        """Read VV and VH; NaN or infinite where there is no image."""
        images = (radar.read(**kwargs) for radar in self._radar)
        radar = next(images)
        while not (covered := np.isfinite(radar).all(axis=0)).all():
            other = next(images, None)
            if other is None:
                break
            radar = np.where(covered, radar, other)
        return radar

    def close(self) -> None:
        """Close the files."""
        self._opened.close()

    def __enter__(self) -> Self:
        """Use the scene in a with statement."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the files at its end."""
        self.close()
