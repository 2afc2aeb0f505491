# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Headers of plain GeoTIFFs, without GDAL.

GDAL takes most of a millisecond to open a file, and an archive has hundreds of thousands.
The header of an uncompressed GeoTIFF in a UTM zone is a few numbers, which are read here in
a fraction of the time. GDAL reads all other files.

See the `TIFF 6.0 specification
<https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf>`__ and the `OGC GeoTIFF
standard <https://docs.ogc.org/is/19-008r4/19-008r4.html>`__.
"""

import itertools
import math
import os
import re
import struct
from io import FileIO
from typing import Any

import numpy as np

from .grid import Grid
from .header import Layout, RasterHeader, Stamp

#: Bytes to read at first, more than most headers have.
HEAD_SIZE = 4096

#: Code for :mod:`struct` and size of TIFF's field types; no other is needed.
FIELD_TYPES = {2: ('c', 1), 3: ('H', 2), 4: ('I', 4), 12: ('d', 8)}

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
STRIP_OFFSETS, BANDS, STRIP_HEIGHT, STRIP_SIZES = 273, 277, 278, 279
PLANAR, EXTRA_SAMPLES, SAMPLE_FORMAT = 284, 338, 339
PIXEL_SCALE, TIE_POINT, GEO_KEYS, GEO_TEXTS = 33550, 33922, 34735, 34737
GDAL_NODATA = 42113
DESCRIPTION, SOFTWARE, DATE = 270, 305, 306

#: Tags that a plain file may have. Any other could change what its pixels mean.
KNOWN_TAGS = frozenset(
    (WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, STRIP_OFFSETS, BANDS, STRIP_HEIGHT)
    + (STRIP_SIZES, PLANAR, EXTRA_SAMPLES, SAMPLE_FORMAT, PIXEL_SCALE, TIE_POINT)
    + (GEO_KEYS, GEO_TEXTS, GDAL_NODATA, DESCRIPTION, SOFTWARE, DATE)
)

#: Kind of number of TIFF's sample formats: unsigned, signed, floating.
KINDS_OF_SAMPLES = {1: 'u', 2: 'i', 3: 'f'}

#: Sides of a raster that GDAL takes are smaller.
MAX_SIDE = 2**31

#: Black is zero, and RGB: those that GDAL does not convert.
PLAIN_PHOTOMETRICS = (1, 2)

#: Numbers that Python and GDAL read in the same way.
NUMBER = re.compile(rb'-?\d+(\.\d*)?([eE][-+]?\d+)?|nan')

MODEL_TYPE, RASTER_TYPE, PROJECTED_CRS, LINEAR_UNITS = 1024, 1025, 3072, 3076

#: Codes of EPSG for the UTM zones of WGS 84. Of other codes, GDAL replaces some.
UTM_ZONES = frozenset((*range(32601, 32661), *range(32701, 32761)))

#: Code of EPSG for the meter.
METER = 9001

#: Keys of a CRS that is no more than a code of EPSG, and those that only describe it.
REQUIRED_KEYS = {MODEL_TYPE: 1, RASTER_TYPE: 1}
DESCRIPTIVE_KEYS = frozenset((1026, 2049, 2054, 3073))


def read_plain_header(filepath: str) -> RasterHeader | None:
    """Read the header of an uncompressed, north-up GeoTIFF in a UTM zone of WGS 84.

    Args:
        filepath: A local file.

    Returns:
        The header, or None if GDAL must read the file: if it is anything else, damaged,
        cut short, or accompanied by an ``.aux.xml`` file, which may overrule it.

    Raises:
        OSError: If the file cannot be read.
    """
    with FileIO(filepath) as file:
        stat = os.fstat(file.fileno())
        head = file.read(HEAD_SIZE)
        tags = _read_tags(file, head, stat.st_size)
    if tags is None or not tags.keys() <= KNOWN_TAGS:
        return None
    try:
        header = _interpret(filepath, tags, Stamp(stat.st_size, stat.st_mtime_ns))
    # A tag that is missing, of another type or length, or a number out of range.
    except (ArithmeticError, LookupError, TypeError, ValueError):
        return None
    return None if header is None or os.path.exists(f'{filepath}.aux.xml') else header


def _read_tags(
    file: FileIO, head: bytes, length: int
) -> dict[int, tuple[Any, ...]] | None:
    """Read the tags of a little-endian TIFF with one directory."""
    if head[:4] != b'II*\0' or len(head) < 8:
        return None
    (start,) = struct.unpack_from('<I', head, 4)
    if start + 2 > len(head):
        return None
    (count,) = struct.unpack_from('<H', head, start)
    end = start + 2 + 12 * count
    # Another directory is another image.
    if end + 4 > len(head) or head[end : end + 4] != bytes(4):
        return None
    tags = {}
    entries = struct.iter_unpack('<HHII', head[start + 2 : end])
    for place, entry in zip(range(start + 2, end, 12), entries):
        tag, field_type, number, offset = entry
        if field_type not in FIELD_TYPES:
            return None
        code, size = FIELD_TYPES[field_type]
        size *= number
        if size <= 4:
            data, offset = head, place + 8
        elif offset + size <= len(head):
            data = head
        elif offset + size > length:
            return None
        else:
            file.seek(offset)
            data, offset = file.read(size), 0
        if len(data) - offset < size:
            return None
        tags[tag] = struct.unpack_from(f'<{number}{code}', data, offset)
    return tags


def _interpret(
    filepath: str, tags: dict[int, tuple[Any, ...]], stamp: Stamp
) -> RasterHeader | None:
    """Make sense of the tags."""
    (width,), (height,), (compression,) = tags[WIDTH], tags[HEIGHT], tags[COMPRESSION]
    (count,) = tags.get(BANDS, (1,))
    (bits,) = set(tags[BITS])
    (sample_format,) = set(tags.get(SAMPLE_FORMAT, (1,)))
    (planar,) = tags.get(PLANAR, (1,))
    (photometric,) = tags[PHOTOMETRIC]
    dtype = np.dtype(f'<{KINDS_OF_SAMPLES[sample_format]}{bits // 8}')
    if (
        not (0 < width < MAX_SIDE and 0 < height < MAX_SIDE)
        or compression != 1
        or photometric not in PLAIN_PHOTOMETRICS
        or planar not in (1, 2)
        or bits != 8 * dtype.itemsize
        or bits > 64
    ):
        return None

    interleave = 'band' if count == 1 or planar == 2 else 'pixel'
    planes = count if interleave == 'band' else 1
    line = width * count // planes * dtype.itemsize
    (strip_height,) = tags.get(STRIP_HEIGHT, (height,))
    strip_height = min(strip_height, height)
    whole, rest = divmod(height, strip_height)
    offsets = tags[STRIP_OFFSETS]
    if len(offsets) != planes * (whole + (rest > 0)):
        return None
    sizes = ((line * strip_height,) * whole + (line * rest,) * (rest > 0)) * planes
    first = offsets[0]
    # Strips that follow each other without a gap, or all those of a sparse file nowhere.
    if tags[STRIP_SIZES] == sizes and first > 0:
        expected = tuple(itertools.accumulate(sizes[:-1], initial=first))
        if offsets != expected or first + sum(sizes) > stamp.size:
            return None
    elif offsets != (0,) * len(sizes) or any(tags[STRIP_SIZES]):
        return None

    nodata = None
    if GDAL_NODATA in tags:
        text = b''.join(tags[GDAL_NODATA]).rstrip(b'\0')
        if not NUMBER.fullmatch(text):
            return None
        nodata = float(text)
        # A number that the type cannot hold, GDAL rounds or leaves out.
        if not math.isnan(nodata) and dtype.type(nodata).item() != nodata:
            return None

    crs = _interpret_crs(tags[GEO_KEYS])
    xres, yres, _ = tags[PIXEL_SCALE]
    col, row, _, xmin, ymax, _ = tags[TIE_POINT]
    is_finite = all(map(math.isfinite, (xres, yres, xmin, ymax)))
    if crs is None or col or row or not (xres > 0 and yres > 0 and is_finite):
        return None
    return RasterHeader(
        filepath,
        Grid(crs, xmin, ymax, xres, yres, height, width),
        nodata,
        Layout(first, dtype.str, count, interleave),
        stamp,
    )


def _interpret_crs(directory: tuple[int, ...]) -> str | None:
    """Name of the CRS, if it is a UTM zone of WGS 84 and nothing more."""
    keys = {}
    for place in range(4, 4 + 4 * directory[3], 4):
        key, tag, _, value = directory[place : place + 4]
        if tag == 0:
            keys[key] = value
        elif key not in DESCRIPTIVE_KEYS:
            return None
    code = keys.pop(PROJECTED_CRS)
    if code not in UTM_ZONES or directory[0] != 1:
        return None
    if keys.pop(LINEAR_UNITS, METER) != METER:
        return None
    given = {key: keys.pop(key) for key in REQUIRED_KEYS}
    if given != REQUIRED_KEYS or not keys.keys() <= DESCRIPTIVE_KEYS:
        return None
    return f'EPSG:{code}'
