# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""A cloudy scene and the radar image that goes with it, window by window."""

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.io import DatasetReader
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window
from torchgeo.datasets.utils import Path

from .tiles import Tile

#: Positions of B, G, R and NIR, from 1, in PlanetScope's products by number of bands.
BANDS = {4: (1, 2, 3, 4), 8: (2, 4, 6, 8)}

#: Names that products give to their bands.
NAMES = ('blue', 'green', 'red', 'nir')

#: Pixels along the longer edge of the overview by which radar is checked.
CHECK_SIZE = 512

#: Backscatter in dB that no image of land or sea has for its mean.
DECIBELS = (-40.0, 0.0)


class Scene:
    """A cloudy PlanetScope scene and Sentinel-1, warped onto its grid when it is read."""

    def __init__(
        self,
        cloudy: Path,
        s1: Path,
        bands: Sequence[int] | None = None,
        min_coverage: float = 0.9,
    ) -> None:
        """Initialize a new Scene instance.

        Args:
            cloudy: PlanetScope scene, surface reflectance x 10000.
            s1: Sentinel-1 backscatter in dB, VV and VH, in any CRS and resolution.
            bands: Positions of B, G, R and NIR from 1 (defaults to those of
                PlanetScope's products of four and eight bands).
            min_coverage: Least share of the scene that *s1* must cover.

        Raises:
            OSError: If a file cannot be read.
            ValueError: If a file has no CRS, or not the bands, type or values that are
                expected, or if *s1* covers less than *min_coverage* of the scene.
        """
        if not 0 <= min_coverage <= 1:
            msg = f'min_coverage={min_coverage} is not a share in [0, 1].'
            raise ValueError(msg)
        self.cloudy, self.s1 = cloudy, s1
        self._image = _open(cloudy)
        try:
            self.bands = _find_bands(self._image, bands)
            self._radar = _open(s1)
        except BaseException:
            self._image.close()
            raise
        self.height, self.width = self._image.shape
        nodata = self._image.nodata
        #: Value of pixels without data.
        self.nodata = 0 if nodata is None else nodata
        self.crs, self.transform = self._image.crs, self._image.transform
        try:
            self._warped = self._warp()
            self.coverage, self._fill = self._check_radar()
            if self.coverage < min_coverage:
                msg = f'{s1} covers {100 * self.coverage:.0f} % of {cloudy}, and at least '
                msg += (
                    f'{100 * min_coverage:.0f} % are asked for: add the scene beside '
                )
                msg += 'it, or lower min_coverage.'
                raise ValueError(msg)
        except BaseException:
            self.close()
            raise

    def _warp(self) -> WarpedVRT:
        """Put radar onto the grid of the scene."""
        if self._radar.count < 2:
            msg = f'{self.s1} has {self._radar.count} band instead of VV and VH.'
            raise ValueError(msg)
        return WarpedVRT(
            self._radar,
            crs=self.crs,
            transform=self.transform,
            height=self.height,
            width=self.width,
            resampling=Resampling.bilinear,
            dtype='float32',
            nodata=np.nan,
        )

    def _check_radar(self) -> tuple[float, NDArray[np.float32]]:
        """Share of the scene that radar covers, and its mean."""
        factor = max(1, max(self.height, self.width) // CHECK_SIZE)
        shape = max(self.height // factor, 1), max(self.width // factor, 1)
        image = self._image.read(self.bands, out_shape=(4, *shape))
        has_data = (image != self.nodata).any(axis=0)
        if not has_data.any():
            msg = f'{self.cloudy} has no pixel with data.'
            raise ValueError(msg)
        radar = self._warped.read([1, 2], out_shape=(2, *shape))
        covered = np.isfinite(radar).all(axis=0) & has_data
        if not covered.any():
            msg = f'{self.s1} does not cover {self.cloudy} at all: take the Sentinel-1 '
            msg += 'scene of the same place.'
            raise ValueError(msg)
        mean = radar[:, covered].mean(axis=1)
        if not ((mean > DECIBELS[0]) & (mean < DECIBELS[1])).all():
            msg = (
                f'{self.s1} has means of {mean[0]:.3g} and {mean[1]:.3g}, which is no '
            )
            msg += 'backscatter in dB: convert it, with 10 log10 if it is linear.'
            raise ValueError(msg)
        return covered.sum() / has_data.sum(), mean[:, None, None]

    def read(self, tile: Tile) -> dict[str, NDArray[np.float32]]:
        """Read a window.

        Args:
            tile: Window inside the scene.

        Returns:
            ``image`` (4, H, W), reflectance x 10000, ``image_s1`` (2, H, W) in dB, with
            the mean of the scene where there is none, and ``has_data`` (H, W), 1 where
            the scene has data.
        """
        window = Window(tile.col, tile.row, tile.width, tile.height)
        image = self._image.read(self.bands, window=window)
        has_data = (image != self.nodata).any(axis=0)
        radar = self._warped.read([1, 2], window=window)
        radar = np.where(np.isfinite(radar), radar, self._fill)
        return {
            'image': image.astype(np.float32),
            'image_s1': radar.astype(np.float32),
            'has_data': has_data.astype(np.float32),
        }

    def close(self) -> None:
        """Close the files."""
        for dataset in ('_warped', '_radar', '_image'):
            if hasattr(self, dataset):
                getattr(self, dataset).close()

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


def _open(path: Path) -> DatasetReader:
    """Open a raster that has a place on Earth."""
    try:
        dataset = rasterio.open(path)
    except OSError as error:
        msg = f'{path} is not a readable raster: {error}'
        raise OSError(msg) from error
    if dataset.crs is None or dataset.transform.is_identity:
        dataset.close()
        msg = (
            f'{path} has no CRS or no transform: write them into it, for example with '
        )
        msg += '`gdal_edit`.'
        raise ValueError(msg)
    return dataset


def _find_bands(dataset: DatasetReader, bands: Sequence[int] | None) -> list[int]:
    """Find B, G, R and NIR, from 1."""
    path, count = dataset.name, dataset.count
    if dataset.dtypes[0] != 'uint16':
        msg = f'{path} is {dataset.dtypes[0]} instead of uint16: take the product with '
        msg += 'surface reflectance x 10000, not a visual one.'
        raise ValueError(msg)
    if bands is not None:
        if len(bands) != 4 or not all(1 <= band <= count for band in bands):
            msg = f'bands={list(bands)} must be the positions of B, G, R and NIR among '
            msg += f'the {count} bands of {path}, from 1.'
            raise ValueError(msg)
        return list(bands)
    names: list[Any] = [(name or '').strip().lower() for name in dataset.descriptions]
    if all(name in names for name in NAMES):
        return [names.index(name) + 1 for name in NAMES]
    if count not in BANDS:
        msg = f'{path} has {count} bands: name those of B, G, R and NIR with bands.'
        raise ValueError(msg)
    return list(BANDS[count])
