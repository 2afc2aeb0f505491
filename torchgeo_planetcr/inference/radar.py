# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Sentinel-1 on the grid of a scene."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.io import DatasetReader
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform_bounds
from rasterio.windows import Window, bounds, from_bounds
from torchgeo.datasets.utils import Path

from .raster import find_polarizations, open_raster, read_bands, warp

#: Pixels around a window that interpolation looks at, and by which GDAL may be off.
MARGIN = 2


class WarpedRadar:
    """An image of Sentinel-1, warped onto the grid of a scene when it is read."""

    def __init__(self, path: Path, scene: DatasetReader) -> None:
        """Initialize a new WarpedRadar instance.

        Args:
            path: Backscatter in dB, VV and VH in this order unless the bands are named,
                in any CRS and resolution.
            scene: The scene.

        Raises:
            OSError: If the image cannot be read.
            ValueError: If it has no CRS, or not the bands that are expected.
        """
        # The scene itself may be read at the same time, in another thread
        self.path, self._crs, self._transform = path, scene.crs, scene.transform
        self._image = open_raster(path)
        try:
            if self._image.count < 2:
                msg = f'{path} has {self._image.count} band instead of VV and VH.'
                raise ValueError(msg)
            self._bands = find_polarizations(self._image)
        except ValueError:
            self._image.close()
            raise
        grid: dict[str, Any] = {
            'crs': self._crs,
            'transform': self._transform,
            'height': scene.height,
            'width': scene.width,
        }
        bilinear = Resampling.bilinear
        self._warped = warp(self._image, bilinear, np.nan, 'float32', **grid)
        # For windows without a gap, which take GDAL a third of the time if it need not
        # look for one
        self._whole = WarpedVRT(
            self._image,
            resampling=bilinear,
            src_nodata=None,
            nodata=None,
            dtype='float32',
            **grid,
        )

    def read(
        self, window: Window | None = None, out_shape: tuple[int, ...] | None = None
    ) -> NDArray[np.float32]:
        """Read VV and VH.

        Args:
            window: Window of the scene (defaults to all of it).
            out_shape: Shape of the result, if it is to be smaller.

        Returns:
            Backscatter in dB, NaN or infinite where there is none, of shape (2, H, W).

        Raises:
            OSError: If the image cannot be read.
        """
        is_whole = window is not None and self._is_whole(window)
        warped = self._whole if is_whole else self._warped
        return read_bands(
            warped, self.path, self._bands, window=window, out_shape=out_shape
        )

    def _is_whole(self, window: Window) -> bool:
        """Whether there is backscatter everywhere around a window."""
        image = self._image
        place = bounds(window, self._transform)
        if image.crs != self._crs:
            place = transform_bounds(self._crs, image.crs, *place)
        part = from_bounds(*place, transform=image.transform)
        margin = MARGIN * max(part.width / window.width, part.height / window.height, 1)
        top, left = (math.floor(n - margin) for n in (part.row_off, part.col_off))
        bottom = math.ceil(part.row_off + part.height + margin)
        right = math.ceil(part.col_off + part.width + margin)
        if top < 0 or left < 0 or bottom > image.height or right > image.width:
            return False
        around = Window(left, top, right - left, bottom - top)
        values = read_bands(image, self.path, self._bands, window=around)
        nodata = 0 if image.nodata is None else image.nodata
        return bool(np.isfinite(values).all() and (values != nodata).all())

    def close(self) -> None:
        """Close the files."""
        for dataset in (self._whole, self._warped, self._image):
            dataset.close()
