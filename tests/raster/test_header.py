# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import math
import pickle
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pytest

from torchgeo_planetcr.raster.grid import Grid
from torchgeo_planetcr.raster.header import (
    HEADER_SCHEMA,
    HeaderTable,
    Layout,
    RasterHeader,
    Stamp,
    pack,
    unpack,
)

GRID = Grid('EPSG:32646', 500001.25, 2000004, 3, 2.5, 300, 200)
LAYOUT = Layout(1006, '<u2', 4, 'pixel')
STAMP = Stamp(2**40 + 1, 1_700_000_000_123_456_789)
HEADERS = [
    RasterHeader('train/a.tif', GRID, 0, LAYOUT, STAMP),
    RasterHeader('train/b.tif', GRID, None, None, STAMP),
    RasterHeader('train/c.npy', GRID, None, Layout(128, '|b1', 1, 'column'), STAMP),
    RasterHeader('train/sparse.tif', GRID, -1, LAYOUT._replace(offset=0), STAMP),
    RasterHeader('train/empty.tif', GRID, 7.5, None, Stamp(0, 0)),
    RasterHeader('train/before 1970.tif', GRID, 0.1, None, Stamp(5, -1)),
    RasterHeader('/vsizip/a.zip/ä.tif', GRID._replace(crs='EPSG:4326'), 0, None, None),
    RasterHeader('d.tif', GRID._replace(crs='LOCAL', height=1, width=2**31 - 1), 1e300),
]


def to_list(table: HeaderTable) -> list[RasterHeader]:
    return [table[row] for row in range(len(table))]


@pytest.fixture
def table() -> HeaderTable:
    return HeaderTable.from_headers(HEADERS)


class TestHeaderTable:
    @pytest.mark.parametrize('header', HEADERS, ids=lambda header: header.filepath)
    def test_one(self, header: RasterHeader) -> None:
        table = HeaderTable.from_headers([header])
        assert len(table) == 1
        found = table[0]
        assert found == header
        assert isinstance(found.grid, Grid)
        assert isinstance(found.layout, Layout | None)
        assert isinstance(found.stamp, Stamp | None)
        assert found.grid.bounds == header.grid.bounds
        # Headers are keys of caches.
        assert hash(found) == hash(header)

    @pytest.mark.parametrize('nodata', [math.nan, math.inf, -math.inf, -0.0])
    def test_special_nodata(self, nodata: float) -> None:
        headers = [HEADERS[0]._replace(nodata=nodata), HEADERS[1]]
        table = pickle.loads(pickle.dumps(HeaderTable.from_headers(headers)))
        found = table[0].nodata
        np.testing.assert_array_equal([found], [nodata])
        assert np.signbit(found) == np.signbit(nodata)
        assert table[0]._replace(nodata=None) == headers[0]._replace(nodata=None)
        assert table[1] == headers[1]

    @pytest.mark.parametrize('make', [list, tuple, iter])
    def test_all(self, make: type[Iterable[RasterHeader]]) -> None:
        table = HeaderTable.from_headers(make(HEADERS))  # ty: ignore
        assert len(table) == len(HEADERS)
        assert to_list(table) == HEADERS
        assert table.table.schema.equals(HEADER_SCHEMA)

    def test_empty(self) -> None:
        table = HeaderTable.from_headers([])
        assert len(table) == 0
        assert table.bounds().shape == (0, 4)
        assert table.objects('crs').tolist() == []
        assert len(pickle.loads(pickle.dumps(table))) == 0
        with pytest.raises(KeyError):
            table.find('train/a.tif')

    @pytest.mark.parametrize('rows', [[], [0], [3, 1, 1], list(range(8))[::-1]])
    def test_take(self, table: HeaderTable, rows: list[int]) -> None:
        found = table.take(np.array(rows, dtype=np.intp))
        assert to_list(found) == [HEADERS[row] for row in rows]
        assert to_list(table) == HEADERS

    def test_find(self, table: HeaderTable) -> None:
        for row, header in enumerate(HEADERS):
            assert table.find(header.filepath) == row
        part = table.take(np.array([3, 1]))
        assert part.find('train/b.tif') == 1
        for missing in ('train/a.tif', 'b.tif', 'B.TIF'):
            with pytest.raises(KeyError, match=missing):
                part.find(missing)

    def test_pickle(self, table: HeaderTable) -> None:
        # What was made at need is not sent along.
        to_list(table), table.find('d.tif')
        found = pickle.loads(pickle.dumps(table))
        assert to_list(found) == HEADERS
        assert found.find('d.tif') == len(HEADERS) - 1

    def test_size_of_pickle(self) -> None:
        headers = [
            HEADERS[0]._replace(
                filepath=f'train/planet_cloudy_fall/planet_cloudy_fall_{i // 100}/'
                f'planet_cloudy_fall_{i // 100}_p_{i % 100}.tif',
                grid=GRID._replace(xmin=500001 + 900 * (i % 100), ymax=2e6 - i // 100),
                stamp=STAMP._replace(mtime_ns=STAMP.mtime_ns + 123_457 * i),
            )
            for i in range(2000)
        ]
        packed = pickle.dumps(HeaderTable.from_headers(headers))
        assert len(packed) < 40 * len(headers)
        assert to_list(pickle.loads(packed)) == headers

    def test_subclass(self) -> None:
        class Own(HeaderTable):
            pass

        table = Own.from_headers(HEADERS)
        assert type(table) is Own
        assert type(table.take(np.array([0]))) is Own

    def test_other_columns_and_chunks(self) -> None:
        """A part of the table of an index: more columns, in several chunks."""
        tables = [
            HeaderTable.from_headers(part).table for part in (HEADERS, HEADERS[:3])
        ]
        table = pa.concat_tables(tables)
        problems = pa.nulls(len(table), pa.string())
        found = HeaderTable(table.append_column('problem', problems))
        assert to_list(found) == [*HEADERS, *HEADERS[:3]]
        sliced = HeaderTable(table.slice(6, 4))
        assert to_list(sliced) == [*HEADERS[6:], *HEADERS[:2]]
        assert sliced.find('train/b.tif') == 3

    def test_numbers(self, table: HeaderTable) -> None:
        assert table.numbers('offset').tolist() == [1006, -1, 128, 0, -1, -1, -1, -1]
        assert table.numbers('size').tolist()[-3:] == [5, -1, -1]
        assert table.numbers('mtime_ns')[0] == STAMP.mtime_ns

    def test_bounds(self, table: HeaderTable) -> None:
        expected = [header.grid.bounds for header in HEADERS]
        np.testing.assert_array_equal(table.bounds(), expected)

    def test_objects(self, table: HeaderTable) -> None:
        dtypes = table.objects('dtype').tolist()
        assert dtypes == ['<u2', None, '|b1', '<u2', None, None, None, None]
        names = table.objects('crs')
        assert names.tolist() == [header.grid.crs for header in HEADERS]
        assert len({id(name) for name in names}) == 3


@pytest.mark.parametrize(
    'table', [pa.table({'a': ['x', None], 'b': [1.5, 2]}), pa.table({})]
)
def test_pack(table: pa.Table) -> None:
    packed = pack(table)
    assert isinstance(packed, bytes)
    assert unpack(packed).equals(table)
