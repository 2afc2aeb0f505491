# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Cloud masks of scenes."""

import functools
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.windows import Window
from torch.nn.functional import avg_pool2d, max_pool2d
from torchgeo.datasets.utils import Path

from ..datasets.mask_bands import find_mask_bands
from ..datasets.modalities import MODALITIES
from ..raster.grid import Grid
from .assume import assume
from .layer import Layer, small_size
from .names import is_old_udm

#: Value where there is no mask.
NO_MASK = int(MODALITIES['cloud_mask'].nodata)

#: What values of Planet's old mask (UDM) mean, whose bits are, from the lowest one: no image,
#: cloud, and missing or suspect data of bands.
OLD_UDM = np.ones(256, dtype=np.uint8)
OLD_UDM[0], OLD_UDM[1::2] = 0, NO_MASK

#: Half of the number of pixels over which the restored image fades into the clear one.
RADIUS = 10


class CloudMask(Layer):
    """Cloud mask of a scene, warped onto the grid of the scene when it is read.

    In Planet's usable data mask (UDM2), cloud, shadow and haze are cloud, and snow is not.
    It is known by the names of its bands, or by their number, eight. Any other mask has
    one band, 1 (or 255, if it has no 1) where there is cloud and 0 where it is clear, but
    for Planet's old mask (UDM), which is known by its name (``..._udm.tif``): its values
    are bits.
    """

    def __init__(self, path: Path, scene: Layer) -> None:
        """Initialize a new CloudMask instance.

        Args:
            path: The mask, in any CRS and resolution.
            scene: The scene.

        Raises:
            OSError: If the mask cannot be read.
            ValueError: If it has no CRS, or not the bands that are expected.
        """
        super().__init__(
            path,
            lambda dataset: find_mask_bands(dataset).positions,
            grid=scene.grid,
            source_nodata=NO_MASK,
        )
        self.scene = scene
        self._mask_bands = find_mask_bands(self.dataset)
        # Many masks declare 0, which is a value of theirs, to be nodata
        if self.dataset.nodata not in (None, 0, 1):
            self._source_nodata = self.dataset.nodata
        self._is_old_udm = self.dataset.count == 1 and is_old_udm(self.path)
        if self._is_old_udm:
            assume(
                f"{path} is read as Planet's old mask (UDM), which is cloud where bit 1 is "
                'set, snow included, and knows neither haze nor shadow: take the UDM2, or '
                'give a mask of 1 and 0 another name'
            )

    def check(self, has_data: NDArray[np.bool_], min_coverage: float) -> None:
        """Read all of the mask at low resolution, and check that it fits the scene.

        Args:
            has_data: Where the scene has data, at this resolution.
            min_coverage: Least share of the scene that the mask must cover.

        Raises:
            OSError: If the mask cannot be read.
            ValueError: If it covers less of the scene, or nothing, or a value is other than
                0 and 1.
        """
        covered = (self.read_small(has_data.shape) != NO_MASK).all(axis=0)
        if not covered.any():
            raise ValueError(
                f'{self.path} does not cover {self.scene.path} at all: take the mask of '
                'the same place'
            )
        coverage = float(covered[has_data].mean())
        if coverage < min_coverage:
            raise ValueError(
                f'the mask {self.path} covers {100 * coverage:.0f} % of {self.scene.path}, '
                f'and at least {100 * min_coverage:.0f} % are required: take the mask of '
                'this scene, or lower min_coverage'
            )

    def read_cloud(
        self, window: Grid, has_data: NDArray[np.bool_] | None = None
    ) -> NDArray[np.uint8]:
        """Read where there is cloud.

        Args:
            window: Window of the scene.
            has_data: Where the scene has data, of shape (H, W); read if it is not known.

        Returns:
            1 where it is cloudy or of no class, 0 where it is clear or the scene has no
            data, and 255 where there is no mask, of shape (H, W).

        Raises:
            OSError: If the mask or the scene cannot be read.
            ValueError: If a value is other than 0 and 1.
        """
        values = self.read(window)
        ones, bands = values == 1, self._mask_bands
        cloudy = (bands.find_cloud(ones) | bands.find_unknown(ones)).astype(np.uint8)
        cloudy[(values == NO_MASK).any(axis=0)] = NO_MASK
        if has_data is None:
            has_data = self.scene.find_data(self.scene.read(window))
        cloudy[~has_data] = 0
        return cloudy

    def weight(self, window: Grid) -> NDArray[np.float32]:
        """How much of the restored image to take.

        Args:
            window: Window of the scene.

        Returns:
            1 in clouds and where there is no mask, 0 where it is clear or has no data,
            and in between over some pixels around clouds, of shape (H, W).

        Raises:
            OSError: If the mask cannot be read.
            ValueError: If a value is other than 0 and 1.
        """
        row, col = self.grid.offset(window)
        top, left = max(row - 2 * RADIUS, 0), max(col - 2 * RADIUS, 0)
        bottom = min(row + window.height + 2 * RADIUS, self.grid.height)
        right = min(col + window.width + 2 * RADIUS, self.grid.width)
        around = self.grid.window(top, left, bottom - top, right - left)
        # Pixels without data are not clear, but must not fade into the scene
        cloudy = self.read_cloud(around) != 0
        weight = torch.from_numpy(cloudy).float()[None]
        # A mean over grown clouds is still 1 in all of each cloud. Along one axis after the
        # other is the same, and takes less
        size = 2 * RADIUS + 1
        weight = max_pool2d(weight, (size, 1), 1, (RADIUS, 0))
        weight = max_pool2d(weight, (1, size), 1, (0, RADIUS))
        weight = avg_pool2d(weight, (size, 1), 1, (RADIUS, 0), count_include_pad=False)
        weight = avg_pool2d(weight, (1, size), 1, (0, RADIUS), count_include_pad=False)
        inside = weight[0, row - top :, col - left :]
        return inside[: window.height, : window.width].numpy()

    @functools.cached_property
    def _is_of_bytes(self) -> bool:
        """Whether it has 255 where others have 1, as programs write what is true."""
        is_other = self._is_old_udm or len(self.bands) > 1
        if is_other or self.dataset.nodata == NO_MASK:
            return False
        values, _ = super()._read_pixels(None, (1, *small_size(*self.dataset.shape)))
        if {*np.unique(values).tolist()} != {0, NO_MASK}:
            return False
        assume(
            f'{self.path} has the values 0 and {NO_MASK}: {NO_MASK} is taken for cloud; if it '
            f'is no mask, say so with `gdal_edit -a_nodata {NO_MASK}`'
        )
        return True

    def _read_pixels(
        self,
        window: Window | None = None,
        out_shape: tuple[int, ...] | None = None,
        resampling: Resampling = Resampling.nearest,
    ) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """Read pixels of the file, and where it masks them."""
        values, masked = super()._read_pixels(window, out_shape, resampling)
        if self._is_of_bytes:
            values[values == NO_MASK] = 1
        return values, masked

    def _read(self, **options: Any) -> NDArray[Any]:
        """Read pixels, and check their values."""
        values = super()._read(**options)
        if self._is_old_udm and np.isin(values, range(len(OLD_UDM))).all():
            return OLD_UDM[values.astype(np.intp)]
        if not np.isin(values, (0, 1, NO_MASK)).all():
            raise ValueError(
                f'{self.path} has values other than 0 and 1: take a UDM2 file, or a mask '
                'with 1 cloud and 0 clear'
            )
        return values
