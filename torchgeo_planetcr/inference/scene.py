# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""A cloudy scene and the radar images that go with it, window by window."""

import math
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, Resampling
from rasterio.errors import RasterioIOError
from rasterio.io import DatasetReader
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window
from torchgeo.datasets.utils import Path

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
        self._opened: list[DatasetReader | WarpedVRT] = []
        try:
            self._image = open_raster(cloudy)
            self._opened.append(self._image)
            self.bands = find_bands(self._image, bands)
            self.height, self.width = self._image.shape
            self._polarizations: list[list[int]] = []
            self._radar = [self._warp(path) for path in s1]
        except BaseException:
            self.close()
            raise
        #: Mean of VV and VH, which replaces what is missing, and where the scene in small
        #: has data, see :meth:`survey`.
        self._surveyed: tuple[NDArray[np.float32], NDArray[np.bool_]] | None = None

    def _warp(self, path: Path) -> WarpedVRT:
        """Put a radar image onto the grid of the scene."""
        radar = open_raster(path)
        self._opened.insert(0, radar)
        if radar.count < 2:
            msg = f'{path} has {radar.count} band instead of VV and VH.'
            raise ValueError(msg)
        self._polarizations.append(find_polarizations(radar))
        warped = warp(
            radar,
            Resampling.bilinear,
            nodata=np.nan,
            dtype='float32',
            crs=self._image.crs,
            transform=self._image.transform,
            height=self.height,
            width=self.width,
        )
        self._opened.insert(0, warped)
        return warped

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
    ) -> dict[str, NDArray[np.float32]]:
        """Read a window.

        Args:
            row: First row.
            col: First column.
            height: Number of rows.
            width: Number of columns.

        Returns:
            ``image`` (4, H, W), reflectance x 10000, and ``image_s1`` (2, H, W) in dB,
            with the mean over the scene where there is none.

        Raises:
            OSError: If a file cannot be read.
            ValueError: If radar does not go with the scene, see :meth:`survey`.
        """
        window = Window(col, row, width, height)
        image = self._read_image(window=window)
        has_data = find_data(image, self._image.nodata)
        if not has_data.all():
            # Whatever stands for no data is no reflectance
            image[:, ~has_data] = 0
        radar = self._read_radar(window=window)
        is_covered = np.isfinite(radar)
        if not is_covered.all():
            fill, _ = self._survey()
            radar = np.where(is_covered, radar, fill)
        return {'image': image.astype(np.float32), 'image_s1': radar}

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
        images = (
            read_bands(warped, path, bands, **kwargs)
            for path, warped, bands in zip(
                self.s1, self._radar, self._polarizations, strict=True
            )
        )
        radar = next(images)
        while not (covered := np.isfinite(radar).all(axis=0)).all():
            other = next(images, None)
            if other is None:
                break
            radar = np.where(covered, radar, other)
        return radar

    def close(self) -> None:
        """Close the files."""
        for dataset in self._opened:
            dataset.close()

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


def open_raster(path: Path) -> DatasetReader:
    """Open a raster that has a place on Earth.

    Args:
        path: Path of the raster.

    Returns:
        The open file.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it has no CRS or no transform.
    """
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


def warp(
    dataset: DatasetReader,
    resampling: Resampling,
    nodata: float,
    dtype: str | None = None,
    **grid: Any,
) -> WarpedVRT:
    """Put an image onto another grid, on which it is warped when it is read.

    Pixels that lie on that grid already stay as they are.

    Args:
        dataset: The image.
        resampling: How to interpolate.
        nodata: Value where there is no data.
        dtype: Type of the values (defaults to that of the image).
        **grid: ``crs``, ``transform``, ``height`` and ``width``.

    Returns:
        The image on that grid, to be closed before *dataset*.
    """
    return WarpedVRT(
        dataset,
        resampling=resampling,
        # Whoever declares nothing pads with 0, which is no reflectance, no backscatter in
        # dB and no class of land cover
        src_nodata=0 if dataset.nodata is None else dataset.nodata,
        nodata=nodata,
        dtype=dtype,
        # Each band by itself: a third one of radar may have values where VV and VH have
        # none
        UNIFIED_SRC_NODATA='NO',
        **grid,
    )


def read_bands(
    dataset: DatasetReader | WarpedVRT,
    path: Path,
    bands: Sequence[int] | None,
    **kwargs: Any,
) -> NDArray[Any]:
    """Read pixels, and name the file if that fails, as GDAL does not.

    Args:
        dataset: The open file.
        path: Its path.
        bands: Bands to read, from 1; None for all.
        **kwargs: Further arguments of rasterio's ``read``.

    Returns:
        Array of shape (C, H, W).

    Raises:
        OSError: If the file cannot be read.
    """
    try:
        return dataset.read(bands, **kwargs)
    except RasterioIOError as error:
        msg = f'{path} cannot be read, copy it again: {error.__cause__ or error}'
        raise OSError(msg) from error


def find_data(image: NDArray[Any], nodata: float | None) -> NDArray[np.bool_]:
    """Find the pixels that have data.

    Args:
        image: Values of shape (C, H, W).
        nodata: Value of all bands where there is none; 0 if it is not declared, as in
            PlanetScope's products.

    Returns:
        Where there is data, of shape (H, W).
    """
    nodata = 0 if nodata is None else nodata
    if np.isnan(nodata):
        return ~np.isnan(image).all(axis=0)
    return (image != nodata).any(axis=0)


def find_polarizations(dataset: DatasetReader) -> list[int]:
    """Find VV and VH in an image of Sentinel-1.

    Args:
        dataset: The image.

    Returns:
        Their positions, from 1: by the names of the bands, or the first two.

    Raises:
        ValueError: If the names of the bands leave it open.
    """
    names = [(name or '').lower() for name in dataset.descriptions]
    found = {
        polarization: [n for n, name in enumerate(names, 1) if polarization in name]
        for polarization in ('vv', 'vh', 'hh', 'hv')
    }
    if not any(found.values()):
        return [1, 2]
    if not len(found['vv']) == len(found['vh']) == 1:
        msg = (
            f'{dataset.name} has bands called {", ".join(names)}: exactly one must be '
        )
        msg += 'called VV and one VH.'
        raise ValueError(msg)
    return [*found['vv'], *found['vh']]


def find_bands(dataset: DatasetReader, bands: Sequence[int] | None) -> list[int]:
    """Find B, G, R and NIR in an image.

    Args:
        dataset: The image.
        bands: Their positions from 1, if they are known.

    Returns:
        Their positions, from 1.

    Raises:
        ValueError: If it is not of type uint16, or the bands are not known.
    """
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
    colors = dataset.colorinterp[:3]
    if colors == (ColorInterp.red, ColorInterp.green, ColorInterp.blue):
        msg = f'{path} says that its first bands are red, green and blue, and PlanetScope '
        msg += 'begins with blue: give the positions of B, G, R and NIR with bands.'
        raise ValueError(msg)
    if count not in BANDS:
        msg = f'{path} has {count} bands: name those of B, G, R and NIR with bands.'
        raise ValueError(msg)
    return list(BANDS[count])
