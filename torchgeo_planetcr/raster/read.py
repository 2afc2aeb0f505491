# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Headers and pixels of raster files: the only place that opens them for reading.

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
from stat import S_ISDIR, S_ISREG
from typing import Any

import numpy as np
import numpy.lib.format as npy
import rasterio
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioIOError
from rasterio.io import DatasetReader
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window
from tqdm import tqdm

from .grid import Grid, crs_name, is_plausible
from .header import Layout, RasterHeader, Stamp, open_regular
from .tiff import read_plain_header

#: Bytes of pixels that GDAL should keep while a scene is read in tiles, so that a row of tiles
#: finds what the row above it has read. By default it takes a twentieth of all memory.
CACHE_SIZE = 128_000_000

#: Rows and columns of a small version that tells whether a band is alpha.
ALPHA_SIZE = 256

#: Files whose headers one thread reads at a stretch.
CHUNK = 64

#: Threads that read headers, at most.
MAX_THREADS = 32

#: Seconds below which the time that a thread was busy means nothing.
CLOCK_TICK = 1e-3

#: A disk reads whole pages: bytes between two lines that fill less than one cost nothing.
PAGE_SIZE = 4096

#: GDAL's drivers of formats in which no file can name others, or addresses, that hold its
#: pixels. What a file is called does not tell its format.
DRIVERS = ('GTiff', 'JP2OpenJPEG')

#: What follows in the names of files that hold overviews and masks of a raster.
SIDECARS = ('.ovr', '.OVR', '.msk', '.MSK')

#: Domains of metadata by which a raster of any format can name another file, or an address,
#: for its overviews.
OTHER_FILES = ('OVERVIEWS', 'ProxyOverviewRequest')

#: Bytes to read of a NumPy file: all of the header of an array that is no structure.
ARRAY_HEAD_SIZE = 128

#: Ends of the names of files beside a GeoTIFF that GDAL reads with it: what follows its name,
#: and what follows its name without ``.tif``, also in capitals.
BESIDE_NAME = ('.aux.xml', '.ovr', '.msk')
BESIDE_STEM = ('.tfw', '.tifw', '.wld', '.tab', '.xml', '.imd', '.rpb', '_rpc.txt')

#: Readers of the headers of NumPy files, by version of the format.
ARRAY_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


class UnreadableError(OSError):
    """Raised when a raster cannot be read."""


class NotFiniteError(OSError, ValueError):
    """Raised when an image that must have data has values that are no numbers."""


class FileChangedError(OSError):
    """Raised when a file is not what it was when its header was read."""


def _check_regular(path: str) -> None:
    """Refuse a named pipe or device, at which GDAL would wait, also beside the file."""
    stem, _ = os.path.splitext(path)
    beside = [stem + end for name in BESIDE_STEM for end in (name, name.upper())]
    for name in (path, *(path + end for end in BESIDE_NAME), *beside):
        if _is_special(name):
            raise OSError(f'{name} is not a regular file')


def _is_special(path: str) -> bool:
    """Whether something is there that is neither a file nor a folder."""
    try:
        mode = os.stat(path).st_mode
    # There is nothing, or it is none of this machine
    except (OSError, ValueError):
        return False
    return not (S_ISREG(mode) or S_ISDIR(mode))


def open_raster(path: str, driver: str | None = None, **options: Any) -> DatasetReader:
    """Open a raster file for reading.

    Args:
        path: A GeoTIFF or JPEG 2000, or any file of the format of *driver*.
        driver: The one GDAL driver that may read it (defaults to :data:`DRIVERS`).
        **options: Options of GDAL for opening it.

    Returns:
        The open file.

    Raises:
        UnreadableError: If it cannot be read, or would have GDAL read other files than
            those beside it.
    """
    try:
        _check_regular(path)
        if driver != 'VRT':
            _check_sidecars(path)
        # GDAL then finds no sidecar files but those that were checked
        with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN='TRUE'):
            # Unlike rasterio.open, this takes several drivers
            dataset = DatasetReader(path, driver=driver or list(DRIVERS), **options)
            domains = dataset.tag_namespaces()
    except UnreadableError:
        raise
    except (OSError, CPLE_BaseError) as error:
        raise UnreadableError(f'{path} is not a readable raster: {error}') from error
    if driver != 'VRT' and not set(domains).isdisjoint(OTHER_FILES):
        dataset.close()
        raise UnreadableError(
            f'{path} names another file that holds its overviews: write it again, for '
            'example with `gdal_translate`'
        )
    return dataset


def _check_sidecars(path: str) -> None:
    """Refuse overviews and masks beside a raster that are no rasters themselves."""
    for suffix in SIDECARS:
        if os.path.lexists(path + suffix):
            with warnings.catch_warnings():
                # It has the place of the raster
                warnings.simplefilter('ignore', NotGeoreferencedWarning)
                open_raster(path + suffix, 'GTiff').close()


def check_place(dataset: DatasetReader) -> None:
    """Refuse a raster that has no place on Earth.

    Args:
        dataset: The open file.

    Raises:
        ValueError: If it has no CRS, no transform, or one of them is of no place on Earth.
    """
    path, crs, transform = dataset.name, dataset.crs, dataset.transform
    if crs is None or transform.is_identity:
        raise ValueError(
            f'{path} has no georeference: write its CRS and transform into it, for '
            'example with `gdal_edit`'
        )
    if not (crs.is_geographic or crs.is_projected):
        raise ValueError(
            f'{path} has a CRS without a place on Earth: write another into it'
        )
    a, b, _, d, e, _ = transform[:6]
    sizes = math.hypot(a, d), math.hypot(b, e)
    end = transform @ (dataset.width, dataset.height)
    if not is_plausible(sizes, (transform.c, transform.f, *end)):
        raise ValueError(
            f'{path} has pixels of {sizes[0]} x {sizes[1]} at ({transform.c}, '
            f'{transform.f}), which is no place on Earth: write another transform into it'
        )


def read_grid(dataset: DatasetReader) -> Grid:
    """Read the pixel grid of a raster.

    Args:
        dataset: The open file.

    Returns:
        The grid.

    Raises:
        ValueError: If the raster has no place on Earth, or is not north-up.
    """
    check_place(dataset)
    transform = dataset.transform
    if transform.b or transform.d or transform.a <= 0 or transform.e >= 0:
        raise ValueError(f'{dataset.name} is not north-up: use `gdalwarp` on it first')
    return Grid(
        crs_name(dataset.crs.to_wkt()),
        transform.c,
        transform.f,
        transform.a,
        -transform.e,
        dataset.height,
        dataset.width,
    )


def read_bands(
    dataset: DatasetReader | WarpedVRT,
    path: str,
    bands: Sequence[int] | None = None,
    **options: Any,
) -> NDArray[Any]:
    """Read pixels of an open raster, and name the file if that fails, as GDAL does not.

    Args:
        dataset: The open file.
        path: Its path.
        bands: Bands to read, from 1; None for all.
        **options: Further arguments of rasterio's ``read``.

    Returns:
        Array of shape (C, H, W).

    Raises:
        UnreadableError: If the file cannot be read.
    """
    try:
        return dataset.read(bands, **options)
    # GDAL may tell of any error late, which rasterio does not always make one of its own
    except (RasterioIOError, CPLE_BaseError) as error:
        cause = error.__cause__ or error
        raise UnreadableError(
            f'{path} cannot be read, copy it again: {cause}'
        ) from error


def find_alpha(dataset: DatasetReader, bands: Sequence[int]) -> int | None:
    """Find the band of a raster that says where it has data.

    Args:
        dataset: The open file.
        bands: Bands that are something else, from 1.

    Returns:
        The band that the file calls alpha, or else the only other one if it holds nothing
        but 0 and the largest value, from 1; None if there is none.
    """
    others = [band for band in dataset.indexes if band not in bands]
    for band in others:
        if dataset.colorinterp[band - 1] == ColorInterp.alpha:
            return band
    dtype = np.dtype(dataset.dtypes[-1])
    if len(others) != 1 or dtype.kind != 'u':
        return None
    shape = min(dataset.height, ALPHA_SIZE), min(dataset.width, ALPHA_SIZE)
    values = read_bands(dataset, dataset.name, others, out_shape=(1, *shape))
    return others[0] if set(np.unique(values)) == {0, np.iinfo(dtype).max} else None


def find_masked(
    dataset: DatasetReader,
    path: str,
    alpha: int | None,
    shape: tuple[int, ...],
    window: Window | None,
) -> NDArray[np.bool_] | None:
    """Find the pixels that a raster itself masks: by a mask in it or beside it, or alpha.

    Args:
        dataset: The open file.
        path: Its path.
        alpha: Its band of alpha, see :func:`find_alpha`.
        shape: Rows and columns to read.
        window: The part to read, None for all.

    Returns:
        Where it masks them, of that shape; None if it has no mask.

    Raises:
        UnreadableError: If the file cannot be read.
    """
    if alpha is not None:
        options = {'window': window, 'out_shape': (1, *shape)}
        return read_bands(dataset, path, [alpha], **options)[0] == 0
    if MaskFlags.per_dataset not in dataset.mask_flag_enums[0]:
        return None
    try:
        return dataset.read_masks(1, out_shape=shape, window=window) == 0
    except (RasterioIOError, CPLE_BaseError) as error:
        cause = error.__cause__ or error
        raise UnreadableError(
            f'{path} cannot be read, copy it again: {cause}'
        ) from error


def _block_end(dataset: DatasetReader, row: int, col: int, band: int) -> int | None:
    """First byte after a block of a GeoTIFF, None if the block is in no file."""
    offset, size = (
        int(dataset.get_tag_item(f'BLOCK_{item}_{col}_{row}', 'TIFF', band) or 0)
        for item in ('OFFSET', 'SIZE')
    )
    return offset + size if offset else None


def check_whole(path: str, blocks: NDArray[np.bool_] | bool = True) -> None:
    """Check that all blocks of a GeoTIFF are in the file.

    GDAL does not always report that it could not write them. Overviews are checked too.

    Args:
        path: GeoTIFF of interleaved pixels, with overviews by factors of two, if any.
        blocks: Which blocks must be there, by row and column, or whether all must.

    Raises:
        OSError: If a block is not there, or not all of it.
    """
    try:
        _check_blocks(path, np.asarray(blocks))
    except UnreadableError as error:
        # Nothing is wrong with what was read
        raise OSError(str(error)) from error


def _check_blocks(path: str, needed: NDArray[np.bool_]) -> None:
    """Check a GeoTIFF, see :func:`check_whole`."""
    end = os.path.getsize(path)
    with open_raster(path) as dataset:
        levels = [None, *range(len(dataset.overviews(1)))]
    for level in levels:
        options: dict[str, Any] = {}
        if level is not None:
            options['overview_level'] = level
        with open_raster(path, **options) as dataset:
            height, width = dataset.block_shapes[0]
            rows = math.ceil(dataset.height / height)
            cols = math.ceil(dataset.width / width)
            if level is None:
                needed = np.broadcast_to(needed, (rows, cols))
            else:
                # One block above up to four
                missing = 2 * np.array([rows, cols]) - needed.shape
                below = np.pad(needed, [(0, count) for count in missing])
                needed = below.reshape(rows, 2, cols, 2).any(axis=(1, 3))
            for row, col in np.argwhere(needed).tolist():
                block_end = _block_end(dataset, row, col, 1)
                if block_end is None or block_end > end:
                    raise OSError(f'the file ends before block {row}, {col}')


def read_headers[T](
    filepaths: Sequence[str],
    read_header: Callable[[str], T],
    description: str = 'Reading headers',
) -> tuple[dict[str, T], dict[str, str]]:
    """Read the headers of many files, in parallel and with a progress bar.

    Args:
        filepaths: Files to read.
        read_header: Function that reads one of them.
        description: Text of the progress bar, which shows if it takes a while.

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
        # shared by all threads
        warnings.simplefilter('ignore', NotGeoreferencedWarning)
        start, busy = time.perf_counter(), time.thread_time()
        read(filepaths[:CHUNK])
        elapsed, busy = time.perf_counter() - start, time.thread_time() - busy
        # As many as keep Python, which works on one at a time, busy while the others wait
        # for the disk: one on a local disk, as more hinder each other, many on a network's
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
    """Read the header of a raster file, and check that all of it is there.

    Args:
        filepath: The file, see :func:`open_raster`.
        count: Number of bands that the file must have at least.
        driver: The one GDAL driver that may read it.

    Returns:
        The header.

    Raises:
        OSError: If the file cannot be read or has been cut short.
        ValueError: If the file has no georeference, is not north-up, or lacks bands.
    """
    header = None
    if driver in (None, 'GTiff') and os.path.isfile(filepath):
        # If something keeps the file from being read, GDAL says so below
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
    with open_raster(filepath, driver) as dataset:
        return describe(dataset, filepath), dataset.count


def describe(dataset: DatasetReader, filepath: str) -> RasterHeader:
    """Describe an open raster, and check that all of it is there.

    Args:
        dataset: The open file.
        filepath: Its path.

    Returns:
        The header, without a layout.

    Raises:
        OSError: If the file has been cut short.
        ValueError: If the file has no georeference, or is not north-up.
    """
    grid, stamp = read_grid(dataset), read_stamp(filepath)
    height, width = dataset.block_shapes[-1]
    last = (grid.height - 1) // height, (grid.width - 1) // width
    # Sparse files have no block, other formats and remote files no such items
    end = _block_end(dataset, *last, dataset.count)
    if stamp is not None and stamp.size < (end or 0):
        raise OSError(f'{filepath} has been cut short: copy it again')
    # A header that depends on another file has no version
    if os.path.exists(f'{filepath}.aux.xml'):
        stamp = None
    return RasterHeader(filepath, grid, dataset.nodata, stamp=stamp)


def read_array_header(filepath: str) -> tuple[tuple[int, ...], Layout, Stamp]:
    """Read the header of a NumPy file.

    Args:
        filepath: A local file.

    Returns:
        Shape of the array, layout of its pixels, and stamp of the file.

    Raises:
        OSError: If the file cannot be read or has been cut short.
    """
    try:
        with open_regular(filepath) as file:
            stat = os.fstat(file.fileno())
            head = file.read(ARRAY_HEAD_SIZE)
        shape, is_fortran, dtype, offset = _parse_array_header(head)
    # A damaged header makes NumPy raise almost anything
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


class FileHandles:
    """Raster files that stay open for a while.

    GDAL takes ten times as long to open a file as to read a window. A handle is shared
    neither with another process or thread, which GDAL does not allow, nor with another
    version of the file.
    """

    def __init__(self, maxsize: int = 128) -> None:
        """Initialize a new FileHandles instance.

        Args:
            maxsize: Number of files that are kept open at most.
        """
        self._open = functools.lru_cache(maxsize)(self._open_version)

    @staticmethod
    def _open_version(
        filepath: str, driver: str | None, *version: Any
    ) -> DatasetReader:
        """Open a version of a file."""
        return open_raster(filepath, driver)

    def open(self, header: RasterHeader, driver: str | None = None) -> DatasetReader:
        """Open a raster file for reading, or find it open.

        Args:
            header: Header of the file, see :func:`open_raster`.
            driver: The one GDAL driver that may read it.

        Returns:
            The open file, which the caller must not close.

        Raises:
            FileChangedError: If the file is not that of *header*.
            OSError: If the file cannot be read.
        """
        version: list[int] = [os.getpid(), threading.get_ident()]
        if os.path.isfile(header.filepath):
            stat = os.stat(header.filepath)
            _check_stamp(stat, header)
            version += [stat.st_ino, stat.st_size, stat.st_mtime_ns]
        return self._open(header.filepath, driver, *version)

    def close(self) -> None:
        """Close all files that nobody else holds."""
        self._open.cache_clear()


#: The open files of this process.
HANDLES = FileHandles()

# Once the interpreter shuts down, rasterio can no longer close a file without complaint
atexit.register(HANDLES.close)


def _fill(buffer: NDArray[np.uint8], file: FileIO) -> None:
    """Read as many bytes as a buffer holds."""
    while len(buffer):
        # Linux gives 2 GB at a time
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
        header: Header of the file.
        row: First row.
        col: First column.
        height: Number of rows.
        width: Number of columns.
        bands: Numbers of the bands to read, from 1; none for all.
        driver: The one GDAL driver that may read the file.

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
        return HANDLES.open(header, driver).read(list(bands) or None, window=window)

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
    # on each file system
    with open_regular(header.filepath) as file:
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
