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
from collections.abc import Mapping
from io import FileIO
from typing import Any

import numpy as np

from .grid import Grid
from .header import Layout, RasterHeader, Stamp, open_regular

#: Bytes to read at first, more than most headers have.
HEAD_SIZE = 4096

#: Lines of one strip above which GDAL reads it line by line, which it cannot if it is nowhere.
MAX_SPARSE_LINES = 2000

#: Code for :mod:`struct` and size of TIFF's field types; no other is needed.
FIELD_TYPES = {2: ('c', 1), 3: ('H', 2), 4: ('I', 4), 12: ('d', 8)}

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
STRIP_OFFSETS, BANDS, STRIP_HEIGHT, STRIP_SIZES = 273, 277, 278, 279
PLANAR, EXTRA_SAMPLES, SAMPLE_FORMAT = 284, 338, 339
PIXEL_SCALE, TIE_POINT, GEO_KEYS, GEO_TEXTS = 33550, 33922, 34735, 34737
GDAL_NODATA = 42113
DESCRIPTION, SOFTWARE, DATE = 270, 305, 306

ASCII, SHORT, LONG, DOUBLE = 2, 3, 4, 12

#: Tags that a plain file may have, and their types. Any other could change what its pixels
#: mean, or be read by GDAL in another way.
TAG_TYPES = {
    **dict.fromkeys((WIDTH, HEIGHT, STRIP_HEIGHT), (SHORT, LONG)),
    **dict.fromkeys((STRIP_OFFSETS, STRIP_SIZES), (SHORT, LONG)),
    **dict.fromkeys((BITS, COMPRESSION, PHOTOMETRIC, BANDS, PLANAR), (SHORT,)),
    **dict.fromkeys((EXTRA_SAMPLES, SAMPLE_FORMAT, GEO_KEYS), (SHORT,)),
    **dict.fromkeys((PIXEL_SCALE, TIE_POINT), (DOUBLE,)),
    **dict.fromkeys((GEO_TEXTS, GDAL_NODATA, DESCRIPTION, SOFTWARE, DATE), (ASCII,)),
}

#: Kind of number of TIFF's sample formats: unsigned, signed, floating.
KINDS_OF_SAMPLES = {1: 'u', 2: 'i', 3: 'f'}

#: Sides of a raster that GDAL takes are smaller.
MAX_SIDE = 2**31

#: Bands that are colors, in black is zero and in RGB: those that GDAL does not convert.
COLORS = {1: 1, 2: 3}

#: Meanings that a band beyond the colors may have: none, or transparency.
EXTRA_MEANINGS = frozenset((0, 1, 2))

#: Numbers that Python and GDAL read in the same way.
NUMBER = re.compile(rb'-?\d+(\.\d*)?([eE][-+]?\d+)?|nan')

MODEL_TYPE, RASTER_TYPE, PROJECTED_CRS, LINEAR_UNITS = 1024, 1025, 3072, 3076
ANGULAR_UNITS = 2054

#: Codes of EPSG for the UTM zones of WGS 84. Of other codes, GDAL replaces some.
UTM_ZONES = frozenset((*range(32601, 32661), *range(32701, 32761)))

#: Codes of EPSG for the meter and the degree.
METER, DEGREE = 9001, 9102

#: First numbers of a directory of keys: versions of the standard that GDAL writes.
GEO_VERSIONS = ((1, 1, 0), (1, 1, 1))

#: Keys of a CRS that is no more than a code of EPSG, and those that only describe it.
REQUIRED_KEYS = {MODEL_TYPE: 1, RASTER_TYPE: 1}
UNIT_KEYS = {LINEAR_UNITS: METER, ANGULAR_UNITS: DEGREE}
CITATION_KEYS = frozenset((1026, 2049, 3073))

#: Texts that only describe a CRS. With an equals sign, GDAL takes some for the CRS itself, and
#: it refuses other characters.
CITATIONS = re.compile(rb'([ -<>-~]+\0)?')


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
    with open_regular(filepath) as file:
        stat = os.fstat(file.fileno())
        head = file.read(HEAD_SIZE)
        tags = _read_tags(file, head, stat.st_size)
    if tags is None:
        return None
    try:
        header = _interpret(filepath, tags, Stamp(stat.st_size, stat.st_mtime_ns))
    # A tag that is missing or of another length, or a number out of range.
    except (ArithmeticError, LookupError, TypeError, ValueError):
        return None
    return None if os.path.exists(f'{filepath}.aux.xml') else header


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
    tags: dict[int, tuple[Any, ...]] = {}
    last = 0
    entries = struct.iter_unpack('<HHII', head[start + 2 : end])
    for place, entry in zip(range(start + 2, end, 12), entries):
        tag, field_type, number, offset = entry
        # Of a tag that is there twice or out of order, readers take either
        if tag <= last or field_type not in TAG_TYPES.get(tag, ()):
            return None
        last = tag
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


class NotPlainError(ValueError):
    """A file is not of the kind that is read here: GDAL must read it."""


def _interpret(
    filepath: str, tags: Mapping[int, tuple[Any, ...]], stamp: Stamp
) -> RasterHeader:
    """Make sense of the tags."""
    (width,), (height,), (compression,) = tags[WIDTH], tags[HEIGHT], tags[COMPRESSION]
    xres, yres, _ = tags[PIXEL_SCALE]
    col, row, _, xmin, ymax, _ = tags[TIE_POINT]
    crs = _interpret_crs(tags[GEO_KEYS], b''.join(tags.get(GEO_TEXTS, ())))
    grid = Grid(crs, xmin, ymax, xres, yres, height, width)
    if compression != 1 or col or row or not grid.is_plausible:
        raise NotPlainError
    layout = _interpret_layout(tags, width, height, stamp.size)
    nodata = _interpret_nodata(tags, np.dtype(layout.dtype))
    return RasterHeader(filepath, grid, nodata, layout, stamp)


def _interpret_layout(
    tags: Mapping[int, tuple[Any, ...]], width: int, height: int, length: int
) -> Layout:
    """Find out where the pixels lie."""
    dtype, count = _interpret_samples(tags)
    (planar,) = tags.get(PLANAR, (1,))
    if planar not in (1, 2) or not (0 < width < MAX_SIDE and 0 < height < MAX_SIDE):
        raise NotPlainError
    interleave = 'band' if count == 1 or planar == 2 else 'pixel'
    planes = count if interleave == 'band' else 1
    line = width * count // planes * dtype.itemsize
    (strip_height,) = tags.get(STRIP_HEIGHT, (height,))
    strip_height = min(strip_height, height)
    whole, rest = divmod(height, strip_height)
    offsets = tags[STRIP_OFFSETS]
    if len(offsets) != planes * (whole + (rest > 0)):
        raise NotPlainError
    sizes = ((line * strip_height,) * whole + (line * rest,) * (rest > 0)) * planes
    first = offsets[0]
    # Strips that follow each other without a gap, or all those of a sparse file nowhere.
    if tags[STRIP_SIZES] == sizes and first > 0:
        expected = tuple(itertools.accumulate(sizes[:-1], initial=first))
        if offsets != expected or first + sum(sizes) > length:
            raise NotPlainError
    elif any(offsets) or any(tags[STRIP_SIZES]) or strip_height > MAX_SPARSE_LINES:
        raise NotPlainError
    return Layout(first, dtype.str, count, interleave)


def _interpret_samples(tags: Mapping[int, tuple[Any, ...]]) -> tuple[np.dtype, int]:
    """Type and number of the values of a pixel."""
    (count,) = tags.get(BANDS, (1,))
    (photometric,) = tags[PHOTOMETRIC]
    bits, formats = tags[BITS], tags.get(SAMPLE_FORMAT, (1,) * count)
    dtype = np.dtype(f'<{KINDS_OF_SAMPLES[formats[0]]}{bits[0] // 8}')
    extra = tags.get(EXTRA_SAMPLES, ())
    if (
        bits != (8 * dtype.itemsize,) * count
        or bits[0] > 64
        or formats != (formats[0],) * count
        or len(extra) != count - COLORS[photometric]
        or not EXTRA_MEANINGS.issuperset(extra)
    ):
        raise NotPlainError
    return dtype, count


def _interpret_nodata(
    tags: Mapping[int, tuple[Any, ...]], dtype: np.dtype
) -> float | None:
    """Value of pixels without data, if the file declares one."""
    if GDAL_NODATA not in tags:
        return None
    text = b''.join(tags[GDAL_NODATA]).rstrip(b'\0')
    if not NUMBER.fullmatch(text):
        raise NotPlainError
    nodata = float(text)
    # A number that the type cannot hold, GDAL rounds or leaves out.
    if not math.isnan(nodata) and dtype.type(nodata).item() != nodata:
        raise NotPlainError
    return nodata


def _interpret_crs(directory: tuple[int, ...], texts: bytes) -> str:
    """Name of the CRS, if it is a UTM zone of WGS 84 and nothing more."""
    entries = [directory[i : i + 4] for i in range(4, len(directory), 4)]
    names = [key for key, *_ in entries]
    if (
        directory[:3] not in GEO_VERSIONS
        or directory[3] != len(entries)
        # A key that is there twice or out of order
        or names != sorted(set(names))
        or not CITATIONS.fullmatch(texts)
    ):
        raise NotPlainError
    keys = {}
    for key, tag, count, value in entries:
        if tag == 0 and count == 1:
            keys[key] = value
        elif tag != GEO_TEXTS or key not in CITATION_KEYS or value + count > len(texts):
            raise NotPlainError
    code = keys.pop(PROJECTED_CRS)
    units = {key: keys.pop(key, unit) for key, unit in UNIT_KEYS.items()}
    if code not in UTM_ZONES or units != UNIT_KEYS or keys != REQUIRED_KEYS:
        raise NotPlainError
    return f'EPSG:{code}'
