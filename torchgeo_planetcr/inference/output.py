# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Restored scenes as cloud-optimised GeoTIFFs, and pictures of them."""

import os
import tempfile
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from PIL import Image
from rasterio.enums import Resampling
from rasterio.windows import Window
from torch import from_numpy
from torchgeo.datasets.utils import Path

from ..datasets import PlanetCR
from ..datasets.plot import tone_curve, true_color
from .scene import NAMES, Scene

#: Options of the GeoTIFF.
COG: dict[str, Any] = {
    'driver': 'COG',
    'compress': 'DEFLATE',
    'predictor': 'YES',
    'blocksize': 512,
    'overview_resampling': 'average',
    'bigtiff': 'IF_SAFER',
    'num_threads': 'ALL_CPUS',
}

#: Pixels along the longer edge of a quicklook's images.
QUICKLOOK_SIZE = 1000

RGB = [PlanetCR.all_bands.index(band) for band in PlanetCR.rgb_bands]


def picture_path(path: str) -> str:
    """Path of the picture beside a GeoTIFF."""
    return f'{os.path.splitext(path)[0]}.png'


class SceneWriter:
    """Writes a restored scene from top to bottom.

    It appears under its name when it is whole, and not at all otherwise.
    """

    def __init__(
        self, path: Path, scene: Scene, dtype: Literal['uint16', 'float32'] = 'uint16'
    ) -> None:
        """Initialize a new SceneWriter instance.

        Args:
            path: GeoTIFF to write.
            scene: Scene that is restored, whose grid and value of pixels without data
                it takes over.
            dtype: 'uint16' for reflectance x 10000, 'float32' for reflectance.
        """
        self.path, self.scene, self.dtype = os.fspath(path), scene, dtype
        parent = os.path.dirname(os.path.abspath(path))
        os.makedirs(parent, exist_ok=True)
        self._folder = tempfile.TemporaryDirectory(dir=parent, prefix='.unfinished-')
        self._raw = os.path.join(self._folder.name, 'raw.tif')
        self._dataset = rasterio.open(
            self._raw,
            'w',
            driver='GTiff',
            height=scene.height,
            width=scene.width,
            count=len(NAMES),
            dtype=dtype,
            nodata=scene.nodata,
            crs=scene.crs,
            transform=scene.transform,
            tiled=True,
            blockxsize=512,
            blockysize=512,
            bigtiff='IF_SAFER',
        )
        self._dataset.descriptions = NAMES

    def write(
        self, row: int, reflectance: NDArray[np.float32], has_data: NDArray[np.bool_]
    ) -> None:
        """Write lines.

        Args:
            row: First line.
            reflectance: Values of shape (4, H, W), nominal range [0, 1].
            has_data: Where there is data, of shape (H, W).
        """
        nodata, values, step = self.scene.nodata, reflectance, np.float32(1e-6)
        if self.dtype == 'uint16':
            values = np.rint(10000 * values.clip(0, 6.5535))
            step = 1 if nodata < 65535 else -1
        # A dark pixel is not one without data
        values = np.where(values == nodata, nodata + step, values)
        values = np.where(has_data, values, nodata).astype(self.dtype)
        window = Window(0, row, values.shape[2], values.shape[1])
        self._dataset.write(values, window=window)

    def finish(self, quicklook: bool = True) -> None:
        """Make the file, with overviews, and a picture beside it.

        Args:
            quicklook: Whether to make the picture.
        """
        self._dataset.close()
        whole = os.path.join(self._folder.name, 'whole.tif')
        rasterio.shutil.copy(self._raw, whole, **COG)
        picture = os.path.join(self._folder.name, 'quicklook.png')
        if quicklook:
            self._draw(whole, picture)
        os.replace(whole, self.path)
        if quicklook:
            os.replace(picture, picture_path(self.path))

    def _draw(self, restored: str, picture: str) -> None:
        """Draw the scene before and after, side by side."""
        longest = max(self.scene.height, self.scene.width)
        factor = max(1, longest / QUICKLOOK_SIZE)
        shape = (
            4,
            max(round(self.scene.height / factor), 1),
            max(round(self.scene.width / factor), 1),
        )
        images = []
        for path, bands in ((self.scene.cloudy, self.scene.bands), (restored, None)):
            with rasterio.open(path) as dataset:
                image = dataset.read(
                    bands, out_shape=shape, resampling=Resampling.average
                ).astype(np.float32)
            if bands is None and self.dtype == 'float32':
                image *= 10000
            images.append(from_numpy(image[RGB]))
        curve = tone_curve(images[::-1])
        gap = np.ones((shape[1], max(shape[2] // 100, 2), 3))
        before, after = (true_color(image, curve) for image in images)
        drawn = np.concatenate([before, gap, after], axis=1)
        Image.fromarray((255 * drawn).round().astype(np.uint8)).save(picture)

    def __enter__(self) -> Self:
        """Use the writer in a with statement."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave nothing unfinished behind."""
        self._dataset.close()
        self._folder.cleanup()
