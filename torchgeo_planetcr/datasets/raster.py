# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Headers and windows of raster files.

Pixels are read in one of two ways with the same result: straight from their place in the
file where a header knows it (:class:`~.header.Layout`), which costs little more than the
bytes, and through GDAL from any other file.
"""

import atexit
import contextlib
import functools
import math
import os
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO, FileIO
from typing import Any

import numpy as np
import numpy.lib.format as npy
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import DatasetReader
from rasterio.windows import Window
from tqdm import tqdm

from .geotiff import read_plain_header
from .grid import Grid, crs_name
from .header import Layout, RasterHeader, Stamp

#: Files whose headers one thread reads at a stretch.
CHUNK = 64

#: Threads that read headers, at most.
MAX_THREADS = 32

#: Seconds below which the time that a thread was busy means nothing.
CLOCK_TICK = 1e-3

#: A disk reads whole pages: bytes between two lines that fill less than one cost nothing.
PAGE_SIZE = 4096


#: Bytes to read of a NumPy file: all of the header of an array that is no structure.
ARRAY_HEAD_SIZE = 128

#: Readers of the headers of NumPy files, by version of the format.
ARRAY_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


class FileChangedError(OSError):
    """Raised when a file is not what it was when its header was read."""


def read_headers[T](
    filepaths: Sequence[str],
    read_header: Callable[[str], T],
    description: str = 'Reading headers',
) -> tuple[dict[str, T], dict[str, str]]:
    """Read the headers of many files, in parallel and with a progress bar.

    Args:
        filepaths: files to read.
        read_header: function that reads one of them.
        description: text of the progress bar, which shows if it takes a while.

    Returns:
        The header of each readable file, and the reason for each unreadable one.
    """
    headers: dict[str, T] = {}
    problems: dict[str, str] = {}
    if not filepaths:
        return headers, problems

    def read(chunk: Sequence[str]) -> None:
        for filepath in chunk:
            try:
                headers[filepath] = read_header(filepath)
            except (OSError, ValueError) as error:
                problems[filepath] = str(error)

    with warnings.catch_warnings():
        # It is among the problems, and the warning does not name the file. Filters are
        # shared by all threads.
        warnings.simplefilter('ignore', NotGeoreferencedWarning)
        start, busy = time.perf_counter(), time.thread_time()
        read(filepaths[:CHUNK])
        elapsed, busy = time.perf_counter() - start, time.thread_time() - busy
        # As many as keep Python, which works on one at a time, busy while the others wait
        # for the disk: one on a local disk, as more hinder each other, many on a network's.
        threads = min(max(round(elapsed / max(busy, CLOCK_TICK)), 1), MAX_THREADS)
        chunks = [filepaths[i : i + CHUNK] for i in range(CHUNK, len(filepaths), CHUNK)]
        with (
            ThreadPoolExecutor(threads) as executor,
            tqdm(total=len(filepaths), desc=description, unit='file', delay=1) as bar,
        ):
            bar.update(len(filepaths[:CHUNK]))
            for chunk, _ in zip(chunks, executor.map(read, chunks)):
                bar.update(len(chunk))
    return {path: headers[path] for path in filepaths if path in headers}, problems


def read_raster_header(
    filepath: str, count: int = 0, driver: str | None = None
) -> RasterHeader:
    """Read the header of a raster file and see that all of it is there.

    Args:
        filepath: any file that GDAL reads.
        count: number of bands that the file must have at least.
        driver: the one GDAL driver that may read it.

    Returns:
        The header.

    Raises:
        OSError: If the file cannot be read or has been cut short.
        ValueError: If the file has no georeference, is not north-up, or lacks bands.
    """
    header = None
    if driver in (None, 'GTiff') and os.path.isfile(filepath):
        # What keeps a file from being read, GDAL says below.
        with contextlib.suppress(OSError):
            header = read_plain_header(filepath)
    if header is not None and header.layout is not None:
        bands = header.layout.count
    else:
        header, bands = _read_gdal_header(filepath, driver)
    if bands < count:
        raise ValueError(f'{filepath} has {bands} bands instead of {count}')
    return header


def _read_gdal_header(filepath: str, driver: str | None) -> tuple[RasterHeader, int]:
    """Read the header of any raster file, and the number of its bands."""
    try:
        stamp = read_stamp(filepath)
        src = rasterio.open(filepath, driver=driver)
    except OSError as error:
        raise OSError(f'{filepath} is not a readable raster: {error}') from error
    with src:
        transform = src.transform
        if src.crs is None or transform.is_identity:
            raise ValueError(
                f'{filepath} has no georeference: write its CRS and transform into it, '
                'for example with `gdal_edit`'
            )
        if not (src.crs.is_geographic or src.crs.is_projected):
            raise ValueError(
                f'{filepath} has a CRS without a place on Earth: write another into it'
            )
        if transform.b or transform.d or transform.a <= 0 or transform.e >= 0:
            raise ValueError(f'{filepath} is not north-up: use `gdalwarp` on it first')
        height, width = src.block_shapes[-1]
        last = f'{(src.width - 1) // width}_{(src.height - 1) // height}'
        start = src.get_tag_item(f'BLOCK_OFFSET_{last}', 'TIFF', bidx=src.count)
        size = src.get_tag_item(f'BLOCK_SIZE_{last}', 'TIFF', bidx=src.count)
        # Sparse files have no block, other formats and remote files no such items.
        if stamp is not None and stamp.size < int(start or 0) + int(size or 0):
            raise OSError(f'{filepath} has been cut short: copy it again')
        grid = Grid(
            crs_name(src.crs.to_wkt()),
            transform.c,
            transform.f,
            transform.a,
            -transform.e,
            src.height,
            src.width,
        )
        if os.path.exists(f'{filepath}.aux.xml'):
            stamp = None
        return RasterHeader(filepath, grid, src.nodata, stamp=stamp), src.count


def read_array_header(filepath: str) -> tuple[tuple[int, ...], Layout, Stamp]:
    """Read the header of a NumPy file.

    Args:
        filepath: a local file.

    Returns:
        Shape of the array, layout of its pixels, and stamp of the file.

    Raises:
        OSError: If the file cannot be read or has been cut short.
    """
    try:
        with FileIO(filepath) as file:
            stat = os.fstat(file.fileno())
            head = file.read(ARRAY_HEAD_SIZE)
        shape, is_fortran, dtype, offset = _parse_array_header(head)
    # A damaged header makes NumPy raise almost anything.
    except Exception as error:
        raise OSError(f'{filepath} is not a readable NumPy array: {error}') from error
    if stat.st_size < offset + math.prod(shape) * dtype.itemsize:
        raise OSError(f'{filepath} has been cut short: copy it again')
    layout = Layout(offset, dtype.str, 1, 'column' if is_fortran else 'band')
    return shape, layout, Stamp(stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=128)
def _parse_array_header(head: bytes) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    """Shape, order and type of the array in a NumPy file, and offset of its elements."""
    file = BytesIO(head)
    read_header = ARRAY_HEADERS[npy.read_magic(file)]
    return *read_header(file), file.tell()


def read_stamp(filepath: str) -> Stamp | None:
    """Version of a file, None if it is not local."""
    if not os.path.isfile(filepath):
        return None
    stat = os.stat(filepath)
    return Stamp(stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=128)
def _open_version(filepath: str, driver: str | None, *version: Any) -> DatasetReader:
    """Open a raster file, or find it open."""
    return rasterio.open(filepath, driver=driver)


# Once the interpreter shuts down, rasterio can no longer close a file without complaint.
atexit.register(_open_version.cache_clear)


def open_raster(header: RasterHeader, driver: str | None = None) -> DatasetReader:
    """Open a raster file for reading, and keep it open for a while.

    GDAL takes ten times as long to open a file as to read a window. At most 128 files
    are kept open; a handle is shared neither with another process or thread, which GDAL
    does not allow, nor with another version of the file.

    Args:
        header: header of any file that GDAL reads.
        driver: the one GDAL driver that may read it.

    Returns:
        The open file, which the caller must not close.

    Raises:
        FileChangedError: If the file is not that of *header*.
        RasterioIOError: If the file cannot be read.
    """
    version: list[int] = [os.getpid(), threading.get_ident()]
    if os.path.isfile(header.filepath):
        stat = os.stat(header.filepath)
        _check_stamp(stat, header)
        version += [stat.st_ino, stat.st_size, stat.st_mtime_ns]
    return _open_version(header.filepath, driver, *version)


def _fill(buffer: NDArray[np.uint8], file: FileIO) -> None:
    """Read as many bytes as a buffer holds."""
    while len(buffer):
        # Linux gives 2 GB at a time.
        count = file.readinto(buffer)
        if not count:
            raise OSError('it has been cut short')
        buffer = buffer[count:]


def _check_stamp(stat: os.stat_result, header: RasterHeader) -> None:
    """Refuse a file that is not that of the header."""
    stamp = stat.st_size, stat.st_mtime_ns
    if header.stamp is not None and header.stamp != stamp:
        raise FileChangedError(f'{header.filepath} has changed')


def read_pixels(
    header: RasterHeader,
    row: int,
    col: int,
    height: int,
    width: int,
    bands: Sequence[int] = (),
    driver: str | None = None,
) -> NDArray[Any]:
    """Read a window inside a raster file.

    Args:
        header: header of the file.
        row: first row.
        col: first column.
        height: number of rows.
        width: number of columns.
        bands: numbers of the bands to read, from 1; none for all.
        driver: the one GDAL driver that may read the file.

    Returns:
        Array of shape (C, height, width), in the type of the file.

    Raises:
        FileChangedError: If the file is not that of *header*.
        OSError: If the file cannot be read.
        ValueError: If the window is not inside the file.
    """
    grid = header.grid
    if not (0 <= row <= grid.height - height and 0 <= col <= grid.width - width):
        raise ValueError(
            f'window ({row}, {col}, {height}, {width}) is not inside {header.filepath}'
        )
    if header.layout is None:
        window = Window(col, row, width, height)
        return open_raster(header, driver).read(list(bands) or None, window=window)

    offset, name, count, interleave = header.layout
    if interleave == 'column':
        grid = grid._replace(height=grid.width, width=grid.height)
        layout = header.layout._replace(interleave='band')
        turned = header._replace(grid=grid, layout=layout)
        return read_pixels(turned, col, row, width, height).transpose(0, 2, 1)
    dtype = np.dtype(name)
    if dtype.hasobject:
        raise OSError('its index is damaged: remove it')
    wanted = [band - 1 for band in bands] or list(range(count))
    planes, samples = ([0], count) if interleave == 'pixel' else (wanted, 1)
    pixel = samples * dtype.itemsize
    line, length = grid.width * pixel, width * pixel
    if line - length < PAGE_SIZE:
        pieces, size, step = 1, (height - 1) * line + length, line
    else:
        pieces, size, step = height, length, length
    buffer = np.empty((len(planes), pieces, size), dtype=np.uint8)
    # Reading into memory, unlike mapping, notices a file that is cut meanwhile, and works
    # on each file system.
    with FileIO(header.filepath) as file:
        _check_stamp(os.fstat(file.fileno()), header)
        if not offset:
            return np.full((len(wanted), height, width), header.nodata or 0, dtype)
        for target, plane in zip(buffer, planes):
            first = plane * grid.height + row
            for piece in range(pieces):
                file.seek(offset + (first + piece) * line + col * pixel)
                _fill(target[piece], file)
    array: NDArray[Any] = np.ndarray(
        (len(planes), height, width, samples),
        dtype,
        buffer,
        strides=(pieces * size, step, pixel, dtype.itemsize),
    )
    if interleave == 'band':
        return array[..., 0]
    array = array[0].transpose(2, 0, 1)
    return array if wanted == list(range(count)) else array[wanted]
