# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Hypothesis strategies that damage files."""

import io
import os
import pickle
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy
from rasters import write as write_raster

from . import inputs

#: Bytes of the types of TIFF entries.
SIZES = {
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
}

#: Numbers that are at an edge of something.
EDGES = (0, 1, 2, 3, 255, 256, 65535, 2**31 - 1, 2**31, 2**32 - 1)

#: Numbers that no transform should have, and some that it may have.
PLACES = (
    *(float('nan'), float('inf'), -float('inf'), 0.0, -3.0, 3.0, 3.0000001, 6.0, 10.0),
    *(1e-300, 5e-324, 1e300, 1e17, 180.0, 2.9999),
)

#: Tags of a GeoTIFF that say where it is, and those that need not be there.
SCALE, TIEPOINT, KEYS = 33550, 33922, 34735
OPTIONAL = (270, 305, 338, 34737, 42113)


@dataclass(frozen=True)
class Damage:
    """What is put in place of a file."""

    #: What it is, for people.
    text: str
    put: Callable[[Path], Any] = field(repr=False)


UNDAMAGED = Damage('no damage', lambda path: None)


def contents(text: str, data: bytes | bytearray) -> Damage:
    """Other contents."""
    return Damage(text, partial(_write, data=bytes(data)))


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def _link(path: Path, target: str) -> None:
    path.unlink()
    path.symlink_to(target)


def _special(path: Path, make: Callable[[Path], Any]) -> None:
    path.unlink()
    make(path)


#: What is not a file, or one of somebody else.
SPECIALS = st.sampled_from(
    [
        Damage('a folder', partial(_special, make=Path.mkdir)),
        Damage('a named pipe', partial(_special, make=os.mkfifo)),
        Damage('a link to nothing', partial(_link, target='/nowhere/at/all')),
        Damage('a link to /etc/passwd', partial(_link, target='/etc/passwd')),
        Damage('a link to /dev/zero', partial(_link, target='/dev/zero')),
        Damage('no file', Path.unlink),
        contents('a page of HTML', b'<html>404 not found</html>\n' * 40),
        contents('nothing', b''),
    ]
)


@st.composite
def flipped(
    draw: DrawFn, data: bytes, start: int = 0, stop: int | None = None
) -> Damage:
    """Some bits are other ones."""
    changed = bytearray(data)
    places = st.integers(start, (stop or len(data)) - 1)
    bits = draw(st.lists(st.tuples(places, st.integers(0, 7)), min_size=1, max_size=8))
    for place, bit in bits:
        changed[place] ^= 1 << bit
    return contents(f'bits flipped at {bits}', changed)


@st.composite
def shifted(draw: DrawFn, data: bytes) -> Damage:
    """A range of bytes is missing, zero, there twice, or something else."""
    start = draw(st.integers(0, len(data) - 1))
    size = draw(st.sampled_from([1, 3, 64, 512, len(data)]))
    part = data[start : start + size]
    new = draw(
        st.sampled_from([b'', bytes(len(part)), part * 2]) | st.binary(max_size=64)
    )
    changed = data[:start] + new + data[start + size :]
    return contents(f'{len(new)} bytes for {len(part)} at {start}', changed)


@st.composite
def cut(draw: DrawFn, data: bytes) -> Damage:
    """The end is missing, or something follows it."""
    if draw(st.booleans()):
        more = draw(st.binary(min_size=1, max_size=100))
        return contents(f'{len(more)} bytes more', data + more)
    left = draw(st.sampled_from([1, 8, 100, len(data) - 1]) | st.integers(0, len(data)))
    return contents(f'cut to {left} of {len(data)} bytes', data[:left])


def anything(data: bytes) -> SearchStrategy[Damage]:
    """Damage that any file can have."""
    return flipped(data) | shifted(data) | cut(data) | SPECIALS


# --- GeoTIFF


def _entries(data: bytes) -> list[tuple[int, int, int, int, int]]:
    """Place, tag, type, count and value of the entries of a little-endian TIFF."""
    (start,) = struct.unpack_from('<I', data, 4)
    (count,) = struct.unpack_from('<H', data, start)
    places = range(start + 2, start + 2 + 12 * count, 12)
    return [(place, *struct.unpack_from('<HHII', data, place)) for place in places]


def _header_end(data: bytes) -> int:
    """Where the values of the entries end, and pixels begin."""
    entries = _entries(data)
    ends = [v + SIZES[k] * n for _, _, k, n, v in entries if SIZES.get(k, 1) * n > 4]
    return min(max([entries[-1][0] + 16, *ends]), len(data))


@st.composite
def entry(draw: DrawFn, data: bytes) -> Damage:
    """A field of an entry is another one, or the entry is that of another tag."""
    changed = bytearray(data)
    entries = _entries(data)
    place, tag, kind, count, value = draw(st.sampled_from(entries))
    part = draw(st.sampled_from(['tag', 'type', 'count', 'value', 'twice']))
    if part == 'twice':
        _, *other = draw(st.sampled_from(entries))
        struct.pack_into('<HHII', changed, place, *other)
        return contents(f'tag {other[0]} also in place of {tag}', changed)
    offset, code, old = {
        'tag': (0, 'H', tag),
        'type': (2, 'H', kind),
        'count': (4, 'I', count),
        'value': (8, 'I', value),
    }[part]
    limit = 2 ** (8 * struct.calcsize(code)) - 1
    near = st.sampled_from([old + 1, max(old - 1, 0), *EDGES]).map(
        lambda number: min(number, limit)
    )
    new = draw(near | st.integers(0, limit))
    struct.pack_into(f'<{code}', changed, place + offset, new)
    return contents(f'{part} of tag {tag}: {new} for {old}', changed)


@st.composite
def twin(draw: DrawFn, data: bytes) -> Damage:
    """A tag that is there twice, with other values: in place of one that need not be there."""
    changed = bytearray(data)
    entries = _entries(data)
    places = [place for place, tag, *_ in entries if tag in OPTIONAL]
    _, tag, kind, count, value = draw(st.sampled_from(entries))
    size = SIZES[kind] * count
    if size > 4:
        copy = bytearray(data[value : value + size])
        bits = st.tuples(st.integers(0, size - 1), st.integers(0, 7))
        for place, bit in draw(st.lists(bits, min_size=1, max_size=3)):
            copy[place] ^= 1 << bit
        changed += bytes(len(changed) % 2)
        value = len(changed)
        changed += copy
    else:
        value = draw(st.sampled_from(EDGES))
    place = draw(st.sampled_from(places))
    struct.pack_into('<HHII', changed, place, tag, kind, count, value)
    return contents(f'tag {tag} twice, also as {value} at {place}', changed)


@st.composite
def moved(draw: DrawFn, data: bytes) -> Damage:
    """Numbers of the transform or of the CRS are other ones."""
    changed = bytearray(data)
    tag = draw(st.sampled_from([SCALE, TIEPOINT, KEYS]))
    _, _, _, count, value = next(e for e in _entries(data) if e[1] == tag)
    code = 'H' if tag == KEYS else 'd'
    size = struct.calcsize(code)
    if draw(st.booleans()):
        return draw(flipped(data, value, value + count * size))
    numbers = st.integers(0, count - 1)
    text = f'tag {tag}:'
    for number in draw(st.lists(numbers, min_size=1, max_size=2, unique=True)):
        place = value + number * size
        (old,) = struct.unpack_from(f'<{code}', data, place)
        new = draw(_near(old, code))
        struct.pack_into(f'<{code}', changed, place, new)
        text += f' {new} for {old} ({number})'
    return contents(text, changed)


def _near(old: float, code: str) -> SearchStrategy[float]:
    """Other numbers of a transform or of the keys of a CRS."""
    if code == 'H':
        known = st.integers(0, 4) | st.integers(1024, 1026) | st.integers(32600, 32767)
        return known | st.sampled_from([3076, 4326, 9001]) | st.integers(0, 65535)
    steps = st.sampled_from([1.0, 3.0, 10.0, 0.5, 900.0, -3.0])
    return st.sampled_from(PLACES) | steps.map(lambda step: step + old) | st.floats()


#: Other ways to write a raster, each with a change of what it holds or how.
REWRITTEN: dict[str, dict[str, Any]] = {
    'deflate': {'compress': 'deflate'},
    'zstd, predictor': {'compress': 'zstd', 'predictor': 2},
    'tiles': {'tiled': True, 'blockxsize': 32, 'blockysize': 32},
    'bands apart': {'interleave': 'band'},
    'BigTIFF': {'bigtiff': 'yes'},
    'big endian': {'ENDIANNESS': 'BIG'},
    'sparse': {'sparse_ok': True},
    'no CRS': {'crs': None},
    'another zone': {'crs': 'EPSG:32733'},
    'degrees': {'crs': 'EPSG:4326'},
    'another nodata value': {'nodata': 7},
    'huge': {'height': 60_000, 'width': 60_000, 'sparse_ok': True},
}


@st.composite
def rewritten(draw: DrawFn, path: Path) -> Damage:
    """The same written in another way: another type, layout, place or number of bands."""
    array, profile = inputs.read(path)
    del profile['dtype'], profile['count']
    name = draw(st.sampled_from([*REWRITTEN, 'type', 'bands', 'size', 'turned', 'NaN']))
    options = dict(REWRITTEN.get(name, {}))
    if name == 'type':
        kind = draw(st.sampled_from(['u1', 'i2', 'u4', 'i4', 'f4', 'f8', 'i1', 'u8']))
        with np.errstate(invalid='ignore'):
            array = array.astype(kind)
        name += f' {kind}'
    elif name == 'bands':
        array = np.concatenate([array] * 4)[: draw(st.integers(1, 8))]
        name = f'{len(array)} bands'
    elif name == 'size':
        height, width = draw(st.tuples(st.integers(1, 70), st.integers(1, 70)))
        array = np.resize(array, (len(array), height, width))
        name = f'{height} x {width} pixels'
    elif name == 'turned':
        options['transform'] = profile['transform'].rotation(draw(st.integers(1, 180)))
    elif name == 'NaN':
        array = array.astype(np.float32)
        array[:, : draw(st.integers(1, array.shape[1]))] = np.nan
    profile |= {
        'height': array.shape[1],
        'width': array.shape[2],
        'nodata': None,
    } | options
    return Damage(
        f'written again: {name}', partial(_rewrite, array=array, profile=profile)
    )


def _rewrite(path: Path, array: Any, profile: dict[str, Any]) -> None:
    if profile['height'] > array.shape[1]:
        with rasterio.open(path, 'w', count=len(array), dtype=array.dtype, **profile):
            return
    write_raster(path, array, **profile)


VRT = """<VRTDataset rasterXSize="60" rasterYSize="60"><SRS>EPSG:32612</SRS>
<GeoTransform>303000, 3, 0, 5000010, 0, -3</GeoTransform><VRTRasterBand dataType="UInt16"
band="1"><SimpleSource><SourceFilename>{source}</SourceFilename></SimpleSource>
</VRTRasterBand></VRTDataset>"""

#: Rasters that are not what their names say, and lead elsewhere.
STRANGERS = st.sampled_from(
    [
        contents('a VRT of a file', VRT.format(source='/etc/passwd').encode()),
        contents(
            'a VRT of an address',
            VRT.format(source='/vsicurl/http://127.0.0.1:9/x').encode(),
        ),
    ]
)


def geotiffs(path: Path) -> SearchStrategy[Damage]:
    """Damage that a GeoTIFF can have."""
    data = path.read_bytes()
    end = _header_end(data)
    return st.one_of(
        anything(data),
        flipped(data, 0, end),
        flipped(data, end if end < len(data) else 0),
        entry(data),
        entry(data),
        twin(data),
        moved(data),
        moved(data),
        rewritten(path),
        STRANGERS,
    )


# --- NumPy


@st.composite
def array_header(draw: DrawFn, data: bytes) -> Damage:
    """A NumPy file with another header, or another version of it."""
    array = np.load(io.BytesIO(data), allow_pickle=False)
    shapes = [array.shape[::-1], array.shape[:1], (2**20, 2**20), (-1, 5), ()]
    kinds = ['|b1', '|u1', '<f8', '|O', '<U9', '|V0', '|S0', '<i8', '<f2', '|b1\\n']
    header = {
        'descr': draw(st.sampled_from(kinds)),
        'fortran_order': draw(st.sampled_from([False, True, 'x'])),
        'shape': draw(st.sampled_from([array.shape, *shapes])),
    }
    if draw(st.integers(0, 4)) == 0:
        header['x'] = draw(st.sampled_from(['(' * 500, [[]], '__import__("os")']))
    text = repr(header).encode() + b'\n'
    version = draw(st.sampled_from([1, 1, 1, 2, 3, 9]))
    size = struct.pack('<H' if version == 1 else '<I', len(text))
    head = b'\x93NUMPY' + bytes([version, 0]) + size
    return contents(f'version {version}, {text!r}', head + text + array.tobytes())


@st.composite
def array_again(draw: DrawFn, data: bytes) -> Damage:
    """The array as other types and shapes."""
    array = np.load(io.BytesIO(data), allow_pickle=False)
    kind = draw(
        st.sampled_from(['?', 'u1', 'i8', 'f4', 'f8', '>i2', 'c8', 'U3', 'i1', 'f2'])
    )
    shapes = [array, array.T, array[None], array[..., :-1], array[:0]]
    shaped = draw(st.sampled_from(shapes))
    if draw(st.booleans()):
        shaped = np.asfortranarray(shaped)
    file = io.BytesIO()
    np.save(file, shaped.astype(kind))
    return contents(f'saved again: {kind} {shaped.shape}', file.getvalue())


def arrays(path: Path, canary: Path) -> SearchStrategy[Damage]:
    """Damage that a NumPy file can have; what executes makes a canary."""
    data = path.read_bytes()
    objects = io.BytesIO()
    np.save(objects, np.array([Canary(canary)], object), allow_pickle=True)
    pickles = [pickle.dumps(Canary(canary)), objects.getvalue()]
    bomb = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        bomb, {'descr': '|b1', 'fortran_order': False, 'shape': (10**6, 10**6)}
    )
    return st.one_of(
        anything(data),
        flipped(data, 0, min(128, len(data))),
        array_header(data),
        array_again(data),
        st.sampled_from(pickles).map(partial(contents, 'a pickle')),
        st.just(contents('a header of a terabyte', bomb.getvalue())),
    )


class Canary:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        """Initialize a new Canary instance."""
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        """What a pickle calls."""
        return os.mkdir, (str(self.path),)


# --- lists


@st.composite
def list_lines(draw: DrawFn, text: str, other: str) -> Damage:
    """A list of the authors with another line, cell, separator or encoding."""
    lines = text.splitlines()
    row = draw(st.integers(0, len(lines) - 1))
    cells = lines[row].split(',')
    column = draw(st.integers(0, len(cells) - 1))
    cell = cells[column]
    name = cell.rpartition('/')[2]
    others = [f'../{cell}', f'x/../../{cell}', f'/etc/{name}', f'{cell}\0', f'./{cell}']
    others += [cell.replace('_p_', f'_p_{n}') for n in (0, 99, '1' * 400)]
    others += [f'"{cell}', f'"{cell}"', f' {cell} ', f'{cell}\u00a0', f'"{cell}\n"']
    others += [cell.upper(), cell.replace('/', '\\'), cell.replace('1', '\u0661')]
    others += [name, '', '=1+1', 'a' * 200_000 + '/' + name, cells[column - 1], cell]
    cells[column] = draw(st.sampled_from(others))
    lines[row] = ','.join(cells)
    lines = draw(
        st.sampled_from(
            [lines, lines, lines, lines * 3, ['', *lines, ' '], ['# comment', *lines]]
            + [lines + other.splitlines(), other.splitlines(), [], lines * 500]
        )
    )
    end = draw(st.sampled_from(['\n', '\n', '\r\n', '\r']))
    codec = draw(st.sampled_from(['utf-8', 'utf-8', 'utf-8-sig', 'utf-16']))
    whole = end.join(lines) + end
    separator = draw(st.sampled_from([',', ',', ',', ';', '\t']))
    data = whole.replace(',', separator).encode(codec)
    return contents(f'{cells[column][:60]!r} {len(lines)} lines {codec} {end!r}', data)


# --- records, tables, configurations


@st.composite
def texts(draw: DrawFn, text: str, canary: Path) -> Damage:
    """A small text file with something else in it."""
    tokens = [part for part in ('1', '0', ',', ':', '"', '.tif', 'e') if part in text]
    token = draw(st.sampled_from(tokens))
    values = ['1e999', '9' * 5000, '\0', ';', '../../../etc/passwd', '-1', 'null']
    new = draw(st.sampled_from(values) | st.text(max_size=4))
    others = [text.replace(token, new, 1), text.replace(token, new), text * 2]
    others += ['\ufeff' + text, text.replace('\n', '\r\n'), '[' * 100_000, '9' * 10_000]
    others += [
        '',
        '[]',
        '5',
        'null',
        '"x"',
        '{}',
        'hello\n',
        'a: &a [x]\nb: [*a, *a]\n',
    ]
    others += [f'!!python/object/apply:os.mkdir [{canary}]\n']
    spec = f'class_path: subprocess.Popen\ninit_args: {{args: [touch, {canary}]}}\n'
    changed = draw(st.sampled_from([*others, spec]))
    codec = draw(st.sampled_from(['utf-8', 'utf-8', 'utf-16', 'latin-1']))
    data = changed.encode(codec, 'replace' if codec == 'latin-1' else 'surrogatepass')
    if codec == 'latin-1' and draw(st.booleans()):
        data = data.replace(b'e', b'\xe4', 1)
    return contents(f'{changed[:60]!r} {codec}', data)
