# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Predictions of a raster file as a cloud-optimized GeoTIFF."""

import functools
import math
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import product
from typing import Any, Literal

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader
from rasterio.windows import Window
from torchgeo.datasets.utils import Path

from ..datasets.modalities import MODALITIES, REFLECTANCE_SCALE
from ..datasets.slices import NativeSlice
from ..raster.cog import BLOCK_SIZE, build_overviews, write_cog
from ..raster.grid import Grid
from ..raster.read import UnreadableError
from ..raster.write import appears_whole, cannot_write, unfinished_folder
from ..scenes.layer import Layer
from ..scenes.mask import CloudMask
from ..scenes.reflectance import OpticalLayer
from .blend import Blender, ClassBlender
from .origin import Origin, write_origin
from .quicklook import draw_quicklook, picture_path

#: What predictions are: (B, C, H, W), but for classes, which are (B, 1, H, W).
type Content = Literal['image', 'probabilities', 'classes']

#: Type of files.
type FileType = Literal['uint8', 'uint16', 'float32']

#: Names of the bands that composites and quicklooks are made of.
BAND_NAMES = MODALITIES['clear'].descriptions

#: Type of files of classes, and their value of pixels without data.
CLASS_TYPE, NO_CLASS = 'uint8', 255

#: How far probabilities of classes of which one is true may be from a sum of 1.
MAX_ERROR_OF_SUM = 0.01


class OutputFile:
    """GeoTIFF of predictions on the grid of the file that they are of.

    It appears under its name when it is whole, and not at all otherwise.
    """

    def __init__(
        self,
        path: Path,
        source: Path,
        overlap: int = 0,
        dtype: FileType = 'float32',
        bands: Sequence[int] | None = None,
        mask: Path | None = None,
        quicklook: bool = False,
        scale: float | None = None,
        region: tuple[int, int, int, int] | None = None,
        origin: Origin | None = None,
        content: Content = 'image',
    ) -> None:
        """Initialize a new OutputFile instance.

        Args:
            path: GeoTIFF to write.
            source: File that is predicted, whose grid it takes over, and whose value of
                pixels without data if its type can hold it.
            overlap: Number of pixels that neighboring tiles share.
            dtype: 'uint16' for reflectance x 10000, 'float32' for values as they are,
                'uint8' for the most likely class, as which classes are always written.
            bands: Bands of *source* that say where it has data, from 1 (defaults to all).
                For a composite and a quicklook those of B, G, R and NIR (defaults to those
                of PlanetScope's products).
            mask: Cloud mask; where it is clear, *source* is kept.
            quicklook: Whether to draw a picture beside it, before and after.
            scale: Value in *source* that is a reflectance of 1, for a composite and a
                quicklook (defaults to what it says, or what its values look like).
            region: Part of *source* that windows cover, beyond which nothing is written:
                first row and column, number of rows and columns (defaults to all of it).
            origin: What the file is made of and with, which it tells.
            content: What predictions are: images, probabilities of classes, or classes.

        Raises:
            OSError: If a file cannot be read or written.
            ValueError: If *source* or *mask* are not what is expected, or if *dtype* is
                not for what predictions are.
        """
        self._is_optical = mask is not None or quicklook
        _check_type(dtype, content, self._is_optical)
        self._content, self._has_classes = content, False
        if content == 'classes' or dtype == CLASS_TYPE:
            dtype, self._has_classes = CLASS_TYPE, True
        self.path, self.dtype, self.quicklook = os.fspath(path), dtype, quicklook
        self._origin = origin
        with ExitStack() as stack:
            self._source = self._open_source(source, bands, scale)
            stack.callback(self._source.close)
            self.nodata = NO_CLASS if self._has_classes else self._source.nodata
            if dtype == 'uint16' and self.nodata not in range(65536):
                self.nodata = MODALITIES['clear'].nodata
            self._mask = None
            if mask is not None:
                self._mask = stack.enter_context(CloudMask(mask, self._source))
            parent = os.path.dirname(os.path.abspath(path))
            self._folder = stack.enter_context(unfinished_folder(parent))
            self._opened = stack.pop_all()
        grid = self._source.grid
        self._region = region or (0, 0, grid.height, grid.width)
        self._overlap = overlap
        # Made for the first prediction, which tells the number of bands
        self._raw: Any = None
        self._blender: Any = None
        #: Blocks that were written, by row and column.
        self._blocks = np.zeros(
            [math.ceil(n / BLOCK_SIZE) for n in (grid.height, grid.width)],
            dtype=np.bool_,
        )

    def _open_source(
        self, source: Path, bands: Sequence[int] | None, scale: float | None
    ) -> Layer:
        """Open the file that is predicted."""
        if self._is_optical:
            return OpticalLayer(source, bands, scale)
        if bands is None:
            return Layer(source)
        return Layer(source, functools.partial(_known_bands, bands=bands))

    def add(
        self,
        window: NativeSlice,
        values: NDArray[np.float32],
        has_data: NDArray[np.bool_] | None = None,
    ) -> None:
        """Add the prediction of a window.

        Windows come strip by strip from top to bottom, in the order of a
        :class:`~torchgeo_planetcr.samplers.TileSampler`.

        Args:
            window: Window of the source.
            values: Prediction of shape (C, H, W).
            has_data: Where the source has data, of shape (H, W); if it is not known, the
                source is read.

        Raises:
            OSError: If a file cannot be read or written.
            ValueError: If the window does not follow on those before it, if it has another
                resolution than the source, or if a composite or a quicklook is made of
                other than four bands.
        """
        if self._is_optical and len(values) != len(BAND_NAMES):
            raise ValueError(
                f'the model makes {len(values)} bands instead of B, G, R and NIR, of which '
                'composites and quicklooks are made'
            )
        bands, height, width = values.shape
        if self._raw is None:
            self._raw = self._create(bands)
            shape = bands, *self._region[2:]
            kind = ClassBlender if self._content == 'classes' else Blender
            self._blender = kind(shape, (height, width), self._overlap)
        x, y = window.x, window.y
        part = self._source.grid.snap((x.start, y.start, x.stop, y.stop))
        if (part.height, part.width) != (height, width):
            raise ValueError(
                f'a prediction has {height} x {width} pixels where {self._source.path} has '
                f'{part.height} x {part.width}: predict in the resolution of the file'
            )
        row, col = self._source.grid.offset(part)
        place = row - self._region[0], col - self._region[1]
        self._write(self._blender.take(*place))
        if has_data is None:
            has_data = self._source.find_data(self._source.read(part))
        self._blender.add(*place, values, has_data)

    def finish(self) -> None:
        """Make the file, with overviews, and a picture beside it.

        Raises:
            OSError: If a file cannot be read or written.
        """
        self._write(self._blender.take_rest())
        # Of a wide scene, it takes more than what follows
        del self._blender
        # The GeoTIFF comes last, as it says that all is done
        pictures = [picture_path(self.path)] if self.quicklook else []
        with appears_whole(*pictures, self.path) as unfinished:
            try:
                self._compress(*unfinished)
            except UnreadableError:
                raise
            # Some errors of GDAL are not RasterioErrors
            except Exception as error:
                raise cannot_write(self.path, error) from error
        self.close()

    def _compress(self, *paths: str) -> None:
        """Make a cloud-optimized GeoTIFF, the last of *paths*, and a picture meanwhile."""
        build_overviews(self._raw, self._has_classes)
        self._raw.close()
        raw, whole = self._raw.name, paths[-1]
        scale = REFLECTANCE_SCALE if self.dtype == 'float32' else 1
        with ThreadPoolExecutor(1) as executor:
            drawing = [
                executor.submit(draw_quicklook, path, self._source, raw, scale)
                for path in paths[:-1]
            ]
            write_cog(raw, whole, self._blocks, self._has_classes)
            for picture in drawing:
                picture.result()

    def close(self) -> None:
        """Close the files, and leave nothing unfinished behind."""
        if self._raw is not None:
            self._raw.close()
        self._opened.close()

    def _create(self, count: int) -> Any:
        """Make the file that lines are written to, without compression."""
        grid = self._source.grid
        raw = rasterio.open(
            os.path.join(self._folder, 'raw.tif'),
            'w',
            driver='GTiff',
            height=grid.height,
            width=grid.width,
            count=1 if self._has_classes else count,
            dtype=self.dtype,
            nodata=self.nodata,
            # In the words of the file, which may be others for the same CRS
            crs=self._source.dataset.crs,
            transform=grid.transform,
            tiled=True,
            blockxsize=BLOCK_SIZE,
            blockysize=BLOCK_SIZE,
            bigtiff='IF_SAFER',
            # Lines without a tile are not written, and have no data
            sparse_ok=True,
        )
        if self._content == 'image' and count == len(BAND_NAMES):
            raw.descriptions = BAND_NAMES
        write_origin(raw, self._origin)
        return raw

    def _write(self, parts: Iterable[tuple[int, int, NDArray[np.float32]]]) -> None:
        """Write what is complete, by its first row and column."""
        top, left, *_ = self._region
        for row, col, values in parts:
            height, width = values.shape[1:]
            part = self._source.grid.window(top + row, left + col, height, width)
            if self._has_classes:
                values = self._find_classes(values)
            else:
                values = self._convert(values, part)
            has_data = ~np.isnan(values[0])
            if not has_data.all():
                values[:, ~has_data] = self.nodata
            self._note_blocks(top + row, left + col, has_data)
            window = Window(left + col, top + row, width, height)
            try:
                self._raw.write(values.astype(self.dtype), window=window)
            except (OSError, RasterioError) as error:
                raise cannot_write(self.path, error) from error

    def _note_blocks(self, row: int, col: int, has_data: NDArray[np.bool_]) -> None:
        """Note which blocks have data in a window. Others are not written."""
        height, width = has_data.shape
        for block in product(
            range(row // BLOCK_SIZE, math.ceil((row + height) / BLOCK_SIZE)),
            range(col // BLOCK_SIZE, math.ceil((col + width) / BLOCK_SIZE)),
        ):
            top, left = block[0] * BLOCK_SIZE - row, block[1] * BLOCK_SIZE - col
            part = has_data[
                max(top, 0) : top + BLOCK_SIZE, max(left, 0) : left + BLOCK_SIZE
            ]
            self._blocks[block] |= part.any()

    def _find_classes(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Find the class of each pixel, (1, H, W), NaN where there is no data."""
        has_data = ~np.isnan(values[:1])
        if self._content == 'classes':
            classes = np.rint(values)
        elif len(values) == 1:
            classes = values >= 0.5
        else:
            error = np.abs(values.sum(axis=0, keepdims=True) - 1)
            if (error[has_data] > MAX_ERROR_OF_SUM).any():
                raise ValueError(
                    f'{self.path}: the probabilities of a pixel do not sum to 1, so several '
                    'classes may be true and none is the most likely: choose float32'
                )
            classes = values.argmax(axis=0)[None]
        return np.where(has_data, classes, np.float32(np.nan))

    def _convert(
        self, values: NDArray[np.float32], window: Grid
    ) -> NDArray[np.float32]:
        """Convert predictions to the values of the file, in place.

        Args:
            values: Predictions, (C, H, W); NaN where there is no data.
            window: Where they are.

        Returns:
            Values of the same shape, NaN where there is no data.
        """
        unit, step = 1.0, np.float32(1e-6)
        if self.dtype == 'uint16':
            unit, step = REFLECTANCE_SCALE, np.float32(1 if self.nodata < 65535 else -1)
            values *= np.float32(REFLECTANCE_SCALE)
            values.clip(0, 65535, out=values)
        is_kept: NDArray[np.bool_] | bool = False
        if self._mask is not None:
            weight = self._mask.weight(window)
            kept = self._source.read(window) * np.float32(unit / REFLECTANCE_SCALE)
            is_kept = weight == 0
            values = weight * values + (1 - weight) * kept
        if self.dtype == 'uint16':
            np.rint(values, out=values)
        # A dark pixel is not one without data
        is_dark = values == self.nodata
        if is_dark.any():
            # A kept one may be so in some bands
            is_kept &= ~is_dark.all(axis=0)
            values[is_dark & ~np.asarray(is_kept)] = self.nodata + step
        return values


def _check_type(dtype: FileType, content: Content, is_optical: bool) -> None:
    """Refuse a type that is not for what predictions are."""
    if content == 'image' and dtype == CLASS_TYPE:
        raise ValueError(
            'dtype=uint8 is for classes, and the model makes images: choose uint16 for '
            'reflectance, or float32'
        )
    if content == 'probabilities' and dtype == 'uint16':
        raise ValueError(
            'dtype=uint16 is for reflectance, and the model makes probabilities: choose '
            'uint8 for the most likely class, or float32 for the probabilities'
        )
    if content != 'image' and is_optical:
        raise ValueError(
            f'the model makes {content}, and composites and quicklooks are made of images '
            'of B, G, R and NIR'
        )


def _known_bands(dataset: DatasetReader, bands: Sequence[int]) -> Sequence[int]:
    """Bands that are named."""
    return bands
