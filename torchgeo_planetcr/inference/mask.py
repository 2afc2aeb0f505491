# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Cloud masks of scenes, for composites."""

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.io import DatasetReader
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window
from torch.nn.functional import avg_pool2d, max_pool2d
from torchgeo.datasets.utils import Path

from .raster import CHECK_SIZE, find_data, open_raster, read_bands

#: Bands of Planet's usable data mask (UDM2), of which the first is 1 where it is clear:
#: https://docs.planet.com/data/imagery/udm/
UDM2_BANDS = 8

#: Half of the number of pixels over which the restored image fades into the clear one.
RADIUS = 10

#: Value where there is no mask.
NO_MASK = 255


class CloudMask:
    """Cloud mask of a scene, warped onto its grid when it is read.

    Planet's usable data mask (UDM2) is known by its eight bands. Any other mask has one
    band, 1 where there is cloud and 0 where it is clear.
    """

    def __init__(
        self, path: Path, scene: DatasetReader, bands: Sequence[int] | None = None
    ) -> None:
        """Initialize a new CloudMask instance.

        Args:
            path: The mask, in any CRS and resolution.
            scene: The scene.
            bands: Bands of the scene that say where it has data (defaults to all).

        Raises:
            OSError: If the mask cannot be read.
            ValueError: If it has no CRS, or not the bands that are expected.
        """
        self.path, self.scene, self.bands = path, scene, bands
        self._mask = open_raster(path)
        if self._mask.count not in (1, UDM2_BANDS):
            self._mask.close()
            msg = f'{path} has {self._mask.count} bands: take a UDM2 file of '
            msg += f'{UDM2_BANDS} bands, or a mask with one band, 1 cloud and 0 clear.'
            raise ValueError(msg)
        self._warped = WarpedVRT(
            self._mask,
            crs=scene.crs,
            transform=scene.transform,
            height=scene.height,
            width=scene.width,
            resampling=Resampling.nearest,
            # Many masks declare 0, which is a value of theirs, to be nodata
            src_nodata=NO_MASK,
            nodata=NO_MASK,
            UNIFIED_SRC_NODATA='NO',
        )

    def survey(self) -> None:
        """Look at all of the mask in small, and see that it goes with the scene.

        Raises:
            OSError: If the mask cannot be read.
            ValueError: If it covers nothing of the scene, or a value is none of 0 and 1.
        """
        size = max(self.scene.shape)
        shape = [max(n * min(CHECK_SIZE, size) // size, 1) for n in self.scene.shape]
        if (self._read(out_shape=(1, *shape)) == NO_MASK).all():
            msg = f'{self.path} does not cover {self.scene.name} at all: take the mask of '
            msg += 'the same place.'
            raise ValueError(msg)

    def _read(self, **kwargs: Any) -> NDArray[Any]:
        """Read the band of the mask."""
        (values,) = read_bands(self._warped, self.path, [1], **kwargs)
        if not np.isin(values, (0, 1, NO_MASK)).all():
            msg = f'{self.path} has values other than 0 and 1: take a UDM2 file, or a mask '
            msg += 'with 1 cloud and 0 clear.'
            raise ValueError(msg)
        return values

    def read(self, window: Window) -> NDArray[np.uint8]:
        """Read where there is cloud.

        Args:
            window: Window of the scene.

        Returns:
            1 where it is not clear, 0 where it is clear or the scene has no data, and
            255 where there is no mask, of shape (H, W).

        Raises:
            OSError: If the mask or the scene cannot be read.
            ValueError: If a value is none of 0 and 1.
        """
        values = self._read(window=window)
        cloudy = (values != self._mask.count // UDM2_BANDS).astype(np.uint8)
        cloudy[values == NO_MASK] = NO_MASK
        image = read_bands(self.scene, self.scene.name, self.bands, window=window)
        cloudy[~find_data(image, self.scene.nodata)] = 0
        return cloudy

    def weight(self, window: Window) -> NDArray[np.float32]:
        """How much of the restored image to take.

        Args:
            window: Window of the scene.

        Returns:
            1 in clouds and where there is no mask, 0 where it is clear or has no data,
            and in between over some pixels around clouds, of shape (H, W).

        Raises:
            OSError: If the mask cannot be read.
            ValueError: If a value is none of 0 and 1.
        """
        row, col = window.row_off, window.col_off
        height, width = window.height, window.width
        top, left = max(row - 2 * RADIUS, 0), max(col - 2 * RADIUS, 0)
        bottom = min(row + height + 2 * RADIUS, self._warped.height)
        right = min(col + width + 2 * RADIUS, self._warped.width)
        around = Window(left, top, right - left, bottom - top)
        # What is not clear because there is nothing must not fade into the scene
        cloudy = self.read(around) != 0
        weight = torch.from_numpy(cloudy).float()[None]
        # A mean over grown clouds is still 1 in all of each cloud. Along one axis after the
        # other is the same, and takes less
        size = 2 * RADIUS + 1
        weight = max_pool2d(weight, (size, 1), 1, (RADIUS, 0))
        weight = max_pool2d(weight, (1, size), 1, (0, RADIUS))
        weight = avg_pool2d(weight, (size, 1), 1, (RADIUS, 0), count_include_pad=False)
        weight = avg_pool2d(weight, (1, size), 1, (0, RADIUS), count_include_pad=False)
        return weight[0, row - top :, col - left :][:height, :width].numpy()

    def close(self) -> None:
        """Close the files."""
        self._warped.close()
        self._mask.close()

    def __enter__(self) -> Self:
        """Use the mask in a with statement."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the files at its end."""
        self.close()
