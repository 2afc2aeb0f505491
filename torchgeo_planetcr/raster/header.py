# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""What is known of raster files without their pixels."""

import functools
import os
from collections.abc import Callable, Iterable
from io import FileIO
from stat import S_ISREG
from typing import Any, NamedTuple, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from .grid import Grid

#: Flag with which a named pipe does not keep its reader waiting. Windows has none.
NONBLOCK = getattr(os, 'O_NONBLOCK', 0)


def open_regular(path: str | os.PathLike[str]) -> FileIO:
    """Open a regular file for reading, and nothing else.

    A named pipe could wait forever, and a device never end.

    Args:
        path: A local file, or a link to one.

    Returns:
        The open file.

    Raises:
        OSError: If it cannot be opened, or is no regular file.
    """
    file = FileIO(path, opener=_open_at_once)
    if not S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(f'{os.fspath(path)} is not a regular file')
    return file


def _open_at_once(path: str, flags: int) -> int:
    """Open a file without waiting for anybody who writes to it."""
    return os.open(path, flags | NONBLOCK)


class Stamp(NamedTuple):
    """Version of a file: a file with the same path and stamp counts as unchanged.

    Files that are exchanged for others of the same size and time are not noticed.
    """

    size: int
    mtime_ns: int


class Layout(NamedTuple):
    """Where the pixels of an uncompressed file lie, one line after the other."""

    #: Bytes before the first pixel; 0 for a sparse file, which has a header alone.
    offset: int
    dtype: str
    count: int
    #: 'pixel' if the bands of a pixel follow each other, 'band' if whole bands do, and
    #: 'column' for one band whose lines are its columns, as NumPy may save it.
    interleave: str


class RasterHeader(NamedTuple):
    """What an index keeps of a file.

    *layout* is None for a file that GDAL must read, *stamp* for one that is not local or
    depends on another file.
    """

    filepath: str
    grid: Grid
    nodata: float | None
    layout: Layout | None = None
    stamp: Stamp | None = None


#: Columns of a table of headers; those of a missing layout or stamp are null.
HEADER_SCHEMA = pa.schema(
    [
        ('filepath', pa.string()),
        ('crs', pa.string()),
        ('xmin', pa.float64()),
        ('ymax', pa.float64()),
        ('xres', pa.float64()),
        ('yres', pa.float64()),
        ('height', pa.int32()),
        ('width', pa.int32()),
        ('nodata', pa.float64()),
        ('offset', pa.int64()),
        ('dtype', pa.string()),
        ('count', pa.int32()),
        ('interleave', pa.string()),
        ('size', pa.int64()),
        ('mtime_ns', pa.int64()),
    ]
)

#: Numbers of a header, and their types in memory.
NUMBERS = [
    *((name, 'f8') for name in ('xmin', 'ymax', 'xres', 'yres')),
    *((name, 'i4') for name in ('height', 'width', 'count')),
    *((name, 'i8') for name in ('offset', 'size', 'mtime_ns')),
]


class HeaderTable:
    """Headers of many files.

    They lie in columns: as objects, those of a whole archive would take hundreds of
    megabytes, and seconds to make.
    """

    def __init__(self, table: pa.Table) -> None:
        """Initialize a new HeaderTable instance.

        Args:
            table: Table of :data:`HEADER_SCHEMA`.
        """
        self.table = table.select(HEADER_SCHEMA.names).combine_chunks()

    @classmethod
    def from_headers(cls, headers: Iterable[RasterHeader]) -> Self:
        """Make a table.

        Args:
            headers: Header of each file.

        Returns:
            The table, in the same order.
        """
        rows = []
        for filepath, grid, nodata, layout, stamp in headers:
            row = (
                filepath,
                *grid,
                nodata,
                *(layout or [None] * 4),
                *(stamp or [None] * 2),
            )
            rows.append(row)
        columns = zip(*rows) if rows else [()] * len(HEADER_SCHEMA)
        arrays = [
            pa.array(column, field.type)
            for column, field in zip(columns, HEADER_SCHEMA, strict=True)
        ]
        return cls(pa.table(arrays, HEADER_SCHEMA))

    def __len__(self) -> int:
        """Number of files."""
        return self.table.num_rows

    def __getitem__(self, row: int) -> RasterHeader:
        """Header of one file.

        Args:
            row: Position of the file.

        Returns:
            The header.
        """
        crs, nodata, dtype, interleave = [column[row] for column in self._objects]
        numbers: tuple[Any, ...] = self._numbers[row].item()
        xmin, ymax, xres, yres, height, width, count, offset, size, mtime_ns = numbers
        return RasterHeader(
            self._filepaths[row].as_py(),
            Grid(crs, xmin, ymax, xres, yres, height, width),
            nodata,
            None if dtype is None else Layout(offset, dtype, count, interleave),
            None if size < 0 else Stamp(size, mtime_ns),
        )

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Pickle the columns compressed, which makes them ten times smaller."""
        return _unpack_headers, (type(self), pack(self.table))

    def take(self, rows: NDArray[np.intp]) -> Self:
        """Part of the table.

        Args:
            rows: Positions of the wanted files.

        Returns:
            A table of these files.
        """
        return type(self)(self.table.take(pa.array(rows)))

    def find(self, filepath: str) -> int:
        """Find a file, in a time that does not grow with the table.

        Args:
            filepath: The file.

        Returns:
            Its position.

        Raises:
            KeyError: If the table does not hold the file.
        """
        return self._rows[filepath]

    def numbers(self, name: str) -> NDArray[Any]:
        """Column of numbers, -1 where there is none.

        Args:
            name: Name of the column.

        Returns:
            Array with an element for each file.
        """
        return self.table[name].fill_null(-1).to_numpy()

    def bounds(self) -> NDArray[np.float64]:
        """Bounds of the grids.

        Returns:
            (xmin, ymin, xmax, ymax) in the columns, a row for each file.
        """
        xmin, ymax = self.numbers('xmin'), self.numbers('ymax')
        ymin = ymax - self.numbers('height') * self.numbers('yres')
        xmax = xmin + self.numbers('width') * self.numbers('xres')
        return np.stack([xmin, ymin, xmax, ymax], axis=1)

    def objects(self, name: str) -> NDArray[np.object_]:
        """Column of texts or numbers as few objects, None where there is none.

        Args:
            name: Name of the column.

        Returns:
            Array with an element for each file; equal elements are the same object.
        """
        column = self.table[name].combine_chunks().dictionary_encode()
        values = np.array([*column.dictionary.to_pylist(), None], dtype=object)
        return values[column.indices.fill_null(len(values) - 1).to_numpy()]

    @functools.cached_property
    def _filepaths(self) -> pa.StringArray:
        """Paths in one piece, from which one is taken at once."""
        return self.table['filepath'].combine_chunks()

    @functools.cached_property
    def _rows(self) -> dict[str, int]:
        """Position of each file."""
        return {path: row for row, path in enumerate(self._filepaths.to_pylist())}

    @functools.cached_property
    def _objects(self) -> list[NDArray[np.object_]]:
        """Columns of :meth:`objects`."""
        return [self.objects(n) for n in ('crs', 'nodata', 'dtype', 'interleave')]

    @functools.cached_property
    def _numbers(self) -> NDArray[np.void]:
        """Columns of :meth:`numbers`, row by row: one look-up instead of ten."""
        records = np.empty(len(self), NUMBERS)
        for name, _ in NUMBERS:
            records[name] = self.numbers(name)
        return records


def _unpack_headers(cls: type[HeaderTable], packed: bytes) -> HeaderTable:
    """Make a table of what :meth:`HeaderTable.__reduce__` gives."""
    return cls(unpack(packed))


def pack(table: pa.Table) -> bytes:
    """Compress a table, to send it to another process.

    Args:
        table: The table.

    Returns:
        A compressed Arrow stream.
    """
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression='zstd')
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def unpack(packed: bytes) -> pa.Table:
    """Read what :func:`pack` gives.

    Args:
        packed: A compressed Arrow stream.

    Returns:
        The table.
    """
    return pa.ipc.open_stream(packed).read_all()
