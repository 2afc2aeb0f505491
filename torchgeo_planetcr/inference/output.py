# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Predictions of a raster file as a cloud-optimised GeoTIFF, and pictures of them."""

import math
import os
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from typing import Any, Literal

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from PIL import Image
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.io import DatasetWriter
from rasterio.windows import Window
from torch import from_numpy
from torchgeo.datasets.utils import Path

from ..datasets import PlanetCR
from ..datasets.native import NativeSlice
from ..datasets.plot import tone_curve, true_color
from ..datasets.writing import unwritten
from .mask import CloudMask
from .raster import NAMES, find_bands, find_data, open_raster, read_bands
from .tiles import Blender

#: Rows and columns of a block of the GeoTIFF.
BLOCK_SIZE = 512

#: Options of the GeoTIFF.
COG: dict[str, Any] = {
    'driver': 'COG',
    'compress': 'DEFLATE',
    # Higher levels take longer, and make images of reflectance no smaller
    'level': 1,
    'predictor': 'YES',
    'blocksize': BLOCK_SIZE,
    'overview_resampling': 'average',
    'bigtiff': 'IF_SAFER',
    'num_threads': 'ALL_CPUS',
}

#: Pixels along the longer edge of a quicklook's images, at most.
QUICKLOOK_SIZE = 1000

#: Surface reflectance is stored times this.
SCALE = 10000

RGB = [PlanetCR.all_bands.index(band) for band in PlanetCR.rgb_bands]


def picture_path(path: str) -> str:
    """Path of the picture beside a GeoTIFF."""
    return f'{os.path.splitext(path)[0]}.png'


def name_bands(dataset: DatasetWriter) -> None:
    """Name the bands of an image of B, G, R and NIR as products do.

    Args:
        dataset: GeoTIFF that is written; one with another number of bands keeps its names.
    """
    if dataset.count == len(NAMES):
        dataset.descriptions = NAMES


def write_cog(source: str, path: str, blocks: NDArray[np.bool_] | bool = True) -> None:
    """Make a cloud-optimised GeoTIFF of another GeoTIFF, and see that both are whole.

    Args:
        source: GeoTIFF that was written before.
        path: GeoTIFF to write.
        blocks: Which blocks *source* must have, by row and column (defaults to all).

    Raises:
        OSError: If one of them is not whole, as after writing to a full disk.
        RasterioError: If one of them cannot be read or written.
    """
    _check_blocks(source, blocks)
    rasterio.shutil.copy(source, path, **COG)
    _check_blocks(path, True)


class OutputFile:
    """GeoTIFF of predictions on the grid of the file that they are of.

    It appears under its name when it is whole, and not at all otherwise.
    """

    def __init__(
        self,
        path: Path,
        source: Path,
        overlap: int = 0,
        dtype: Literal['uint16', 'float32'] = 'float32',
        bands: Sequence[int] | None = None,
        mask: Path | None = None,
        quicklook: bool = False,
        region: tuple[int, int, int, int] | None = None,
    ) -> None:
        """Initialize a new OutputFile instance.

        Args:
            path: GeoTIFF to write.
            source: File that is predicted, whose grid and value of pixels without data it
                takes over.
            overlap: Number of pixels that neighbouring tiles share.
            dtype: 'uint16' for reflectance x 10000, 'float32' for values as they are.
            bands: Bands of *source* that say where it has data, from 1 (defaults to all).
                For a composite and a quicklook those of B, G, R and NIR (defaults to those
                of PlanetScope's products).
            mask: Cloud mask; where it is clear, *source* is kept.
            quicklook: Whether to draw a picture beside it, before and after.
            region: Part of *source* that windows cover, beyond which nothing is written:
                first row and column, number of rows and columns (defaults to all of it).

        Raises:
            OSError: If a file cannot be read or written.
            ValueError: If *source* or *mask* are not what is expected.
        """
        self.path, self.source = os.fspath(path), source
        self.dtype, self.quicklook = dtype, quicklook
        self._source = open_raster(source)
        self._mask = None
        try:
            nodata = self._source.nodata
            self.nodata = 0 if nodata is None else nodata
            if dtype == 'uint16' and self.nodata not in range(65536):
                msg = f'{source} has {nodata} where it has no data, which uint16 does not '
                msg += 'hold: write float32.'
                raise ValueError(msg)
            self._bands = bands
            self._is_optical = mask is not None or quicklook
            if self._is_optical:
                self._bands = find_bands(self._source, bands)
            if mask is not None:
                self._mask = CloudMask(mask, self._source, self._bands)
            parent = os.path.dirname(os.path.abspath(path))
            os.makedirs(parent, exist_ok=True)
            self._folder = tempfile.mkdtemp(dir=parent, prefix='.unfinished-')
        except BaseException:
            self._close_sources()
            raise
        self._region = region or (0, 0, *self._source.shape)
        self._overlap = overlap
        # Made for the first prediction, which tells the number of bands
        self._raw: Any = None
        self._blender: Any = None
        #: Blocks that were written, by row and column.
        self._blocks = np.zeros(
            [math.ceil(n / BLOCK_SIZE) for n in self._source.shape], dtype=np.bool_
        )

    def add(
        self,
        window: NativeSlice,
        values: NDArray[np.float32],
        has_data: NDArray[np.bool_] | None = None,
    ) -> None:
        """Add the prediction of a window.

        Windows come strip by strip from top to bottom, as of a
        :class:`~torchgeo_planetcr.inference.TileSampler`.

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
        if self._is_optical and len(values) != len(NAMES):
            msg = f'the model makes {len(values)} bands instead of B, G, R and NIR, of '
            msg += 'which composites and quicklooks are made.'
            raise ValueError(msg)
        bands, height, width = values.shape
        if self._raw is None:
            self._raw = self._create(bands)
            shape = bands, *self._region[2:]
            self._blender = Blender(shape, (height, width), self._overlap)
        transform = self._source.transform
        row, stop_row = (
            round((y - transform.f) / transform.e)
            for y in (window.y.stop, window.y.start)
        )
        col, stop_col = (
            round((x - transform.c) / transform.a)
            for x in (window.x.start, window.x.stop)
        )
        if (stop_row - row, stop_col - col) != (height, width):
            msg = f'a prediction has {height} x {width} pixels where {self.source} has '
            msg += f'{stop_row - row} x {stop_col - col}: predict in the resolution of the '
            msg += 'file.'
            raise ValueError(msg)
        place = row - self._region[0], col - self._region[1]
        self._write(self._blender.take(*place))
        if has_data is None:
            part = Window(col, row, width, height)
            has_data = find_data(self._read(part), self._source.nodata)
        self._blender.add(*place, values, has_data)

    def finish(self) -> None:
        """Make the file, with overviews, and a picture beside it.

        Raises:
            OSError: If a file cannot be read or written.
        """
        self._write(self._blender.take_rest())
        # Of a wide scene, it takes more than what follows
        del self._blender
        raw = self._raw.name
        whole = os.path.join(self._folder, 'whole.tif')
        picture = os.path.join(self._folder, 'quicklook.png')
        try:
            if levels := _overview_levels(*self._source.shape):
                with rasterio.Env(GDAL_NUM_THREADS='ALL_CPUS'):
                    self._raw.build_overviews(levels, Resampling.average)
            self._raw.close()
            with ThreadPoolExecutor(1) as executor:
                drawing = executor.submit(self._draw, raw, picture)
                write_cog(raw, whole, self._blocks)
                drawing.result()
        # Those of GDAL that rasterio does not know are no RasterioError
        except Exception as error:
            raise unwritten(self.path, error) from error
        # The GeoTIFF comes last, as it says that all is done
        if self.quicklook:
            os.replace(picture, picture_path(self.path))
        os.replace(whole, self.path)
        self.close()

    def close(self) -> None:
        """Close the files, and leave nothing unfinished behind."""
        if self._raw is not None:
            self._raw.close()
        self._close_sources()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _close_sources(self) -> None:
        """Close what is read."""
        self._source.close()
        if self._mask is not None:
            self._mask.close()

    def _create(self, count: int) -> Any:
        """Make the file that lines are written to, without compression."""
        raw = rasterio.open(
            os.path.join(self._folder, 'raw.tif'),
            'w',
            driver='GTiff',
            height=self._source.height,
            width=self._source.width,
            count=count,
            dtype=self.dtype,
            nodata=self.nodata,
            crs=self._source.crs,
            transform=self._source.transform,
            tiled=True,
            blockxsize=BLOCK_SIZE,
            blockysize=BLOCK_SIZE,
            bigtiff='IF_SAFER',
            # Lines without a tile are not written, and have no data
            sparse_ok=True,
        )
        name_bands(raw)
        return raw

    def _write(self, parts: Iterable[tuple[int, int, NDArray[np.float32]]]) -> None:
        """Write what is complete, by its first row and column."""
        top, left, *_ = self._region
        for row, col, values in parts:
            window = Window(left + col, top + row, values.shape[2], values.shape[1])
            values = self._convert(values, window)
            has_data = ~np.isnan(values[0])
            if not has_data.all():
                values[:, ~has_data] = self.nodata
            self._note_blocks(window, has_data)
            values = values.astype(self.dtype)
            try:
                self._raw.write(values, window=window)
            except (OSError, RasterioError) as error:
                raise unwritten(self.path, error) from error

    def _note_blocks(self, window: Window, has_data: NDArray[np.bool_]) -> None:
        """Note which blocks have data in a window. Others are not written."""
        row, col = int(window.row_off), int(window.col_off)
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

    def _read(self, window: Window) -> NDArray[Any]:
        """Read the source."""
        return read_bands(self._source, self.source, self._bands, window=window)

    def _convert(
        self, values: NDArray[np.float32], window: Window
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
            unit, step = SCALE, np.float32(1 if self.nodata < 65535 else -1)
            values *= np.float32(SCALE)
            values.clip(0, 65535, out=values)
        is_kept: NDArray[np.bool_] | bool = False
        if self._mask is not None:
            weight = self._mask.weight(window)
            kept = self._read(window) * np.float32(unit / SCALE)
            is_kept = weight == 0
            values = weight * values + (1 - weight) * kept
        if self.dtype == 'uint16':
            np.rint(values, out=values)
        # A dark pixel is not one without data
        is_dark = values == self.nodata
        if is_dark.any():
            values[is_dark & ~np.asarray(is_kept)] = self.nodata + step
        return values

    def _draw(self, restored: str, picture: str) -> None:
        """Draw the source and the result side by side, if that is asked for."""
        if not self.quicklook:
            return
        height, width = self._source.shape
        # The size of an overview, which need not be computed
        level = max(math.ceil(math.log2(max(height, width) / QUICKLOOK_SIZE)), 0)
        shape = 4, math.ceil(height / 2**level), math.ceil(width / 2**level)
        options: dict[str, Any] = {'out_shape': shape, 'resampling': Resampling.average}
        images = [self._source.read(self._bands, **options).astype(np.float32)]
        with rasterio.open(restored) as dataset:
            images.append(dataset.read(**options).astype(np.float32))
        if self.dtype == 'float32':
            images[1] *= SCALE
        for image, nodata in zip(images, (self._source.nodata, self.nodata)):
            image[:, ~find_data(image, nodata)] = 0
        before, after = (from_numpy(image[RGB]) for image in images)
        curve = tone_curve([after, before])
        gap = np.ones((shape[1], max(shape[2] // 100, 2), 3))
        drawn = [true_color(before, curve), gap, true_color(after, curve)]
        picture_array = (255 * np.concatenate(drawn, axis=1)).round().astype(np.uint8)
        Image.fromarray(picture_array).save(picture, compress_level=1)


def _overview_levels(height: int, width: int) -> list[int]:
    """Factors of the overviews of a GeoTIFF: halved until one block holds all of it."""
    blocks = math.ceil(max(height, width) / BLOCK_SIZE)
    return [2**level for level in range(1, (blocks - 1).bit_length() + 1)]


def _check_blocks(path: str, expected: NDArray[np.bool_] | bool) -> None:
    """See that all blocks are in a file: GDAL need not tell if it could not write them.

    Args:
        path: GeoTIFF with overviews by factors of two, if any, in blocks of one size.
        expected: Which blocks must be there, by row and column, or whether all must.

    Raises:
        OSError: If a block is not there, or not all of it.
    """
    end = os.path.getsize(path)
    needed = np.asarray(expected)
    with rasterio.open(path) as dataset:
        levels = [None, *range(len(dataset.overviews(1)))]
    for level in levels:
        with rasterio.open(path, overview_level=level) as dataset:
            rows, cols = (
                math.ceil(n / size)
                for n, size in zip(dataset.shape, dataset.block_shapes[0], strict=True)
            )
            if level is None:
                needed = np.broadcast_to(needed, (rows, cols))
            else:
                # One above up to four
                missing = 2 * np.array([rows, cols]) - needed.shape
                below = np.pad(needed, [(0, count) for count in missing])
                needed = below.reshape(rows, 2, cols, 2).any(axis=(1, 3))
            for row, col in np.argwhere(needed):
                offset, length = (
                    int(
                        dataset.get_tag_item(f'BLOCK_{item}_{col}_{row}', 'TIFF', 1)
                        or 0
                    )
                    for item in ('OFFSET', 'SIZE')
                )
                if not offset or offset + length > end:
                    msg = f'the file ends before block {row}, {col}'
                    raise OSError(msg)
