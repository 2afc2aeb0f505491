# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from pyproj import CRS
from rasterio.control import GroundControlPoint
from rasterio.env import GDALVersion
from rasterio.transform import Affine, from_origin
from rasters import make_array, write

from torchgeo_planetcr.raster.header import Layout, RasterHeader, Stamp
from torchgeo_planetcr.raster.read import read_pixels, read_raster_header
from torchgeo_planetcr.raster.tiff import HEAD_SIZE, read_plain_header

WIDTH, HEIGHT, BITS, STRIP_OFFSETS, BANDS = 256, 257, 258, 273, 277
STRIP_HEIGHT, STRIP_SIZES, PLANAR = 278, 279, 284
EXTRA_SAMPLES, SAMPLE_FORMAT = 338, 339
PIXEL_SCALE, TIE_POINT, GEO_KEYS, GDAL_NODATA = 33550, 33922, 34735, 42113
CUSTOM_CRS = '+proj=tmerc +lat_0=1.5 +lon_0=12.25 +x_0=1000 +ellps=GRS80 +units=m'


def read_all(header: RasterHeader) -> NDArray[Any]:
    return read_pixels(header, 0, 0, header.grid.height, header.grid.width)


def check(path: Path, header: RasterHeader | None, pixels: bool = True) -> None:
    """Compare a header, and all pixels that it leads to, with what GDAL says."""
    assert header is not None
    assert header.layout is not None
    stat = path.stat()
    assert header.filepath == str(path)
    assert header.stamp == Stamp(stat.st_size, stat.st_mtime_ns)
    with rasterio.open(path) as src:
        assert (header.grid.height, header.grid.width) == src.shape
        assert header.grid.transform == src.transform
        assert header.grid.crs == f'EPSG:{src.crs.to_epsg()}'
        assert header.layout.count == src.count
        assert {str(np.dtype(header.layout.dtype))} == set(src.dtypes)
        expected = None if src.nodata is None else np.float64(src.nodata)
        assert header.nodata is None or expected is not None
        if expected is not None:
            np.testing.assert_equal(header.nodata, expected)
        if pixels:
            np.testing.assert_array_equal(read_all(header), src.read())


def find_tag(content: bytes | bytearray, tag: int) -> int:
    """Place of the entry of a tag in the only directory of a TIFF."""
    (start,) = struct.unpack_from('<I', content, 4)
    (count,) = struct.unpack_from('<H', content, start)
    for place in range(start + 2, start + 2 + 12 * count, 12):
        if struct.unpack_from('<H', content, place) == (tag,):
            return place
    raise KeyError(tag)


def set_tag(path: Path, tag: int, field_type: int, count: int, value: int) -> None:
    """Overwrite the entry of a tag."""
    content = bytearray(path.read_bytes())
    place = find_tag(content, tag)
    struct.pack_into('<HHII', content, place, tag, field_type, count, value)
    path.write_bytes(content)


class TestPlain:
    @pytest.mark.parametrize('interleave', ['pixel', 'band'])
    @pytest.mark.parametrize(
        'dtype',
        [
            'uint8',
            'int8',
            'uint16',
            'int16',
            'uint32',
            'int32',
            'int64',
            'float32',
            'float64',
        ],
    )
    def test_dtype(self, tmp_path: Path, dtype: str, interleave: str) -> None:
        array = make_array(3, 21, 34, dtype)
        path = write(tmp_path / 'a.tif', array, interleave=interleave, nodata=7)
        header = read_plain_header(str(path))
        check(path, header)
        assert header is not None and header.layout is not None
        assert header.nodata == 7
        assert header.grid == ('EPSG:32646', 500001, 2000004, 3, 3, 21, 34)
        assert header.layout[1:] == (np.dtype(dtype).str, 3, interleave)
        assert header.layout.offset == path.stat().st_size - array.nbytes

    @pytest.mark.parametrize('rows', [1, 2, 7, 20, 21, 100])
    @pytest.mark.parametrize('interleave', ['pixel', 'band'])
    def test_height_of_strips(self, tmp_path: Path, interleave: str, rows: int) -> None:
        array = make_array(2, 21, 5)
        path = write(tmp_path / 'a.tif', array, interleave=interleave, blockysize=rows)
        check(path, read_plain_header(str(path)))

    @pytest.mark.parametrize(
        ('count', 'height', 'width'), [(1, 1, 1), (1, 1, 50), (1, 50, 1), (30, 3, 2)]
    )
    @pytest.mark.parametrize('interleave', ['pixel', 'band'])
    def test_shape(
        self, tmp_path: Path, interleave: str, count: int, height: int, width: int
    ) -> None:
        array = make_array(count, height, width)
        path = write(tmp_path / 'a.tif', array, interleave=interleave)
        header = read_plain_header(str(path))
        check(path, header)
        assert header is not None and header.layout is not None
        single = count == 1 or interleave == 'band'
        assert header.layout.interleave == ('band' if single else 'pixel')

    @pytest.mark.parametrize('interleave', ['pixel', 'band'])
    def test_header_of_a_scene(self, tmp_path: Path, interleave: str) -> None:
        """Tables of thousands of strips do not fit into the first bytes."""
        array = make_array(4, 6000, 9)
        path = write(tmp_path / 'a.tif', array, interleave=interleave, blockysize=1)
        header = read_plain_header(str(path))
        check(path, header)
        assert header is not None and header.layout is not None
        assert header.layout.offset > 6000 * 6 > HEAD_SIZE

    @pytest.mark.parametrize('nodata', [None, 3])
    @pytest.mark.parametrize('interleave', ['pixel', 'band'])
    def test_sparse(
        self, tmp_path: Path, interleave: str, nodata: float | None
    ) -> None:
        path = tmp_path / 'a.tif'
        with rasterio.open(
            path,
            'w',
            driver='GTiff',
            count=2,
            height=40,
            width=30,
            dtype='int16',
            nodata=nodata,
            sparse_ok=True,
            interleave=interleave,
            crs='EPSG:32646',
            transform=from_origin(5e5, 2e6, 3, 3),
        ):
            pass
        assert path.stat().st_size < 1000
        header = read_plain_header(str(path))
        check(path, header)
        assert header is not None and header.layout is not None
        assert header.layout.offset == 0
        window = read_pixels(header, 3, 4, 5, 6, [2])
        np.testing.assert_array_equal(window, np.full((1, 5, 6), nodata or 0))

    def test_partly_sparse(self, tmp_path: Path) -> None:
        """Strips that are nowhere among others that are somewhere are left to GDAL."""
        array = np.zeros((1, 40, 30), np.uint8)
        array[:, 10:20] = 5
        path = write(tmp_path / 'a.tif', array, sparse_ok=True, blockysize=10)
        assert read_plain_header(str(path)) is None
        header = read_raster_header(str(path))
        np.testing.assert_array_equal(read_all(header), array)

    @pytest.mark.parametrize(
        ('dtype', 'nodata'),
        [
            ('uint8', 255),
            ('uint16', 0),
            ('int16', -9999),
            ('float32', float('nan')),
            ('float32', -3.4028234663852886e38),
            ('float32', 0.5),
            ('float64', 1e-300),
        ],
    )
    def test_nodata(self, tmp_path: Path, dtype: str, nodata: float) -> None:
        path = write(tmp_path / 'a.tif', make_array(1, 4, 5, dtype), nodata=nodata)
        header = read_plain_header(str(path))
        check(path, header)
        assert header is not None
        np.testing.assert_equal(header.nodata, nodata)

    def test_nodata_that_gdal_rounds(self, tmp_path: Path) -> None:
        array = make_array(1, 4, 5, 'float32')
        path = write(tmp_path / 'a.tif', array, nodata=0.1)
        assert read_plain_header(str(path)) is None
        assert read_raster_header(str(path)).nodata == np.float32(0.1)

    @pytest.mark.parametrize('code', [32601, 32646, 32660, 32701, 32719, 32760])
    def test_crs(self, tmp_path: Path, code: int) -> None:
        path = write(tmp_path / 'a.tif', make_array(1, 4, 5), crs=f'EPSG:{code}')
        check(path, read_plain_header(str(path)))

    @pytest.mark.parametrize(
        'code', [32632, 3857, 3785, 32661, 32662, 25832, 31467, 2694, 3413]
    )
    def test_name_of_crs(self, tmp_path: Path, code: int) -> None:
        """The same whether GDAL reads the file or not, also of codes that it replaces."""
        grids = []
        for name, options in (('a', {}), ('b', {'compress': 'lzw'})):
            path = tmp_path / f'{name}.tif'
            write(path, make_array(1, 4, 5), crs=f'EPSG:{code}', **options)
            grids.append(read_raster_header(str(path)).grid)
        assert grids[0] == grids[1]

    @pytest.mark.parametrize(
        'text', [b'inf', b'-inf', b'1_0', b' 7', b'0x7', b'7,5', b'none', b'', b'70000']
    )
    def test_odd_nodata(self, tmp_path: Path, text: bytes) -> None:
        """What GDAL may understand in another way than Python is left to GDAL."""
        path = write(tmp_path / 'a.tif', make_array(1, 4, 5), nodata=12345)
        content = path.read_bytes()
        assert content.count(b'12345\0') == 1
        path.write_bytes(content.replace(b'12345\0', text.ljust(6, b'\0')))
        assert read_plain_header(str(path)) is None
        with rasterio.open(path) as src:
            assert read_raster_header(str(path)).nodata == src.nodata

    @pytest.mark.parametrize('res', [(3, 3), (10, 2.5), (1 / 3, 1e-3)])
    def test_resolution(self, tmp_path: Path, res: tuple[float, float]) -> None:
        transform = from_origin(-123.25, 0.1, *res)
        path = write(tmp_path / 'a.tif', make_array(1, 4, 5), transform=transform)
        header = read_plain_header(str(path))
        check(path, header)
        assert header is not None
        assert header.grid.res == res

    @pytest.mark.parametrize(
        'options',
        [
            {'photometric': 'RGB'},
            {'photometric': 'RGB', 'alpha': 'YES', 'count': 4},
            pytest.param(
                {'nbits': 16, 'dtype': 'float32'},
                marks=pytest.mark.skipif(
                    not GDALVersion.runtime().at_least('3.11'),
                    reason='GDAL converted half precision before',
                ),
            ),
        ],
        ids=['RGB', 'alpha', 'half precision'],
    )
    def test_options(self, tmp_path: Path, options: dict[str, Any]) -> None:
        # Numbers that half precision holds.
        array = make_array(options.get('count', 3), 9, 8, 'uint8')
        array = array.astype(options.get('dtype', 'uint8'))
        path = write(tmp_path / 'a.tif', array, **options)
        header = read_plain_header(str(path))
        check(path, header)
        assert header is not None
        np.testing.assert_array_equal(read_all(header), array)

    def test_files_beside_it(self, tmp_path: Path) -> None:
        """A world file, a mask and overviews beside a file do not overrule it."""
        path = write(tmp_path / 'a.tif', make_array(1, 40, 50))
        with rasterio.Env(TIFF_USE_OVR=True), rasterio.open(path, 'r+') as dst:
            dst.build_overviews([2])
        (tmp_path / 'a.tfw').write_text('30\n0\n0\n-30\n100\n200\n')
        with (
            rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False),
            rasterio.open(path, 'r+') as dst,
        ):
            dst.write_mask(np.zeros((40, 50), bool))
        names = {other.name for other in tmp_path.iterdir()}
        assert {'a.tif.ovr', 'a.tif.msk', 'a.tfw'} <= names
        check(path, read_plain_header(str(path)))

    def test_as_read_by_the_library(self, root: Path) -> None:
        """Each GeoTIFF of the fake archive is plain."""
        paths = sorted(root.rglob('*.tif'))
        for path in paths:
            check(path, read_plain_header(str(path)))
        assert len(paths) == 64


def with_overview(path: Path) -> Path:
    write(path, make_array(1, 64, 64))
    with rasterio.open(path, 'r+') as dst:
        dst.build_overviews([2])
    return path


def with_mask(path: Path) -> Path:
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        write(path, make_array(1, 9, 8))
        with rasterio.open(path, 'r+') as dst:
            dst.write_mask(np.zeros((9, 8), bool))
    return path


def with_control_points(path: Path) -> Path:
    points = [
        GroundControlPoint(row, col, 5e5 + 3 * col, 2e6 - 3 * row)
        for row, col in ((0, 0), (0, 8), (9, 0), (9, 8))
    ]
    write(path, make_array(1, 9, 8), transform=Affine.identity())
    with rasterio.open(path, 'r+') as dst:
        dst.gcps = points, CRS.from_epsg(32646)
    return path


def with_points_for_pixels(path: Path) -> Path:
    write(path, make_array(1, 9, 8))
    with rasterio.open(path, 'r+') as dst:
        dst.update_tags(AREA_OR_POINT='Point')
    return path


def with_auxiliary_file(path: Path) -> Path:
    write(path, make_array(1, 9, 8))
    path.with_name(f'{path.name}.aux.xml').write_text(
        '<PAMDataset><SRS>EPSG:32633</SRS></PAMDataset>'
    )
    return path


def with_scale(path: Path) -> Path:
    write(path, make_array(1, 9, 8))
    with rasterio.open(path, 'r+') as dst:
        dst.scales = [0.5]
    return path


def with_palette(path: Path) -> Path:
    write(path, make_array(1, 9, 8, 'uint8'), photometric='palette')
    with rasterio.open(path, 'r+') as dst:
        dst.write_colormap(1, {0: (1, 2, 3, 255)})
    return path


def with_options(
    shape: tuple[int, int, int] = (3, 40, 50), **options: Any
) -> Callable[[Path], Path]:
    """Writer of a file with creation options."""

    def make(path: Path) -> Path:
        return write(path, make_array(*shape, options.get('dtype', 'uint8')), **options)

    return make


NOT_PLAIN = {
    'tiled': with_options(tiled=True, blockxsize=16, blockysize=16),
    'one tile': with_options(
        shape=(1, 16, 16), tiled=True, blockxsize=16, blockysize=16
    ),
    'LZW': with_options(compress='lzw'),
    'deflate': with_options(compress='deflate'),
    'predictor': with_options(compress='deflate', predictor=2),
    'big-endian': with_options(ENDIANNESS='BIG', dtype='uint16'),
    'BigTIFF': with_options(BIGTIFF='YES'),
    'geographic': with_options(
        crs='EPSG:4326', transform=from_origin(12, 50, 1e-4, 1e-4)
    ),
    'custom CRS': with_options(crs=CUSTOM_CRS),
    'Web Mercator': with_options(crs='EPSG:3857'),
    'polar': with_options(crs='EPSG:3413'),
    'deprecated CRS': with_options(crs='EPSG:3785'),
    'CRS of another authority': with_options(crs='ESRI:54009'),
    'compound CRS': with_options(crs='EPSG:7415'),
    'feet': with_options(crs='EPSG:2225'),
    'bits': with_options(nbits=1, shape=(1, 16, 16)),
    '12 bits': with_options(nbits=12, dtype='uint16'),
    'complex': with_options(dtype='complex64'),
    'inverted': with_options(photometric='MINISWHITE'),
    'CIELab': with_options(photometric='CIELAB'),
    'south-up': with_options(transform=Affine(3, 0, 5e5, 0, 3, 2e6)),
    'rotated': with_options(transform=Affine(3, 1, 5e5, 1, -3, 2e6)),
    'flipped': with_options(transform=Affine(-3, 0, 5e5, 0, -3, 2e6)),
    'no transform': with_options(transform=None),
    'no CRS': with_options(crs=None),
    'control points': with_control_points,
    'points': with_points_for_pixels,
    'auxiliary file': with_auxiliary_file,
    'overview': with_overview,
    'mask': with_mask,
    'scale': with_scale,
    'palette': with_palette,
}


@pytest.mark.filterwarnings('ignore::rasterio.errors.NotGeoreferencedWarning')
class TestOther:
    @pytest.mark.parametrize('make', NOT_PLAIN.values(), ids=NOT_PLAIN)
    def test_left_to_gdal(self, tmp_path: Path, make: Callable[[Path], Path]) -> None:
        path = make(tmp_path / 'a.tif')
        with rasterio.open(path) as src:
            assert src.count >= 1
        assert read_plain_header(str(path)) is None

    @pytest.mark.parametrize(
        'content',
        [
            b'',
            b'II',
            b'II*\0',
            b'II*\0\x08\0\0\0',
            b'II*\0\xff\xff\xff\xff',
            b'PK' * 99,
        ],
        ids=repr,
    )
    def test_no_tiff(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / 'a.tif'
        path.write_bytes(content)
        assert read_plain_header(str(path)) is None

    def test_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            read_plain_header(str(tmp_path / 'a.tif'))
        with pytest.raises(IsADirectoryError):
            read_plain_header(str(tmp_path))

    def test_auxiliary_file_of_another(self, tmp_path: Path) -> None:
        path = write(tmp_path / 'a.tif', make_array(1, 9, 8))
        with_auxiliary_file(tmp_path / 'b.tif')
        check(path, read_plain_header(str(path)))

    def test_directory_at_the_end(self, tmp_path: Path) -> None:
        """An update in place may move the directory behind the pixels."""
        array = make_array(1, 300, 300)
        path = write(tmp_path / 'a.tif', array)
        with rasterio.open(path, 'r+') as dst:
            dst.nodata = 12345
            dst.update_tags(note='x' * 5000)
        header = read_raster_header(str(path))
        assert header.nodata == 12345
        np.testing.assert_array_equal(read_all(header), array)


class TestDamaged:
    @pytest.mark.parametrize('interleave', ['pixel', 'band'])
    def test_cut_anywhere(self, tmp_path: Path, interleave: str) -> None:
        path = write(
            tmp_path / 'a.tif',
            make_array(2, 30, 40),
            interleave=interleave,
            blockysize=7,
            nodata=0,
        )
        content = path.read_bytes()
        check(path, read_plain_header(str(path)))
        for length in (*range(1100), *range(1100, len(content), 37), len(content) - 1):
            path.write_bytes(content[:length])
            assert read_plain_header(str(path)) is None, length
        path.write_bytes(content + b'more')
        check(path, read_plain_header(str(path)))

    @pytest.mark.parametrize('length', [20, 4096, 5000, 40_000, 99_999, 120_000])
    def test_cut_scene(self, tmp_path: Path, length: int) -> None:
        path = write(tmp_path / 'a.tif', make_array(1, 6000, 9), blockysize=1)
        assert path.stat().st_size > 120_000
        os.truncate(path, length)
        assert read_plain_header(str(path)) is None

    @pytest.mark.parametrize('flips', [1, 2, 3])
    @pytest.mark.parametrize('interleave', ['pixel', 'band'])
    def test_flipped_bytes(self, tmp_path: Path, interleave: str, flips: int) -> None:
        """Whatever a header says, it is read as GDAL reads it, or left to GDAL."""
        path = write(
            tmp_path / 'a.tif',
            make_array(2, 20, 30),
            interleave=interleave,
            blockysize=7,
            nodata=0,
        )
        whole = read_plain_header(str(path))
        assert whole is not None and whole.layout is not None
        content = path.read_bytes()
        rng = np.random.default_rng(flips)
        numbers = {'same': 0, 'left': 0}
        for _ in range(500):
            damaged = bytearray(content)
            for place in rng.integers(0, whole.layout.offset, flips).tolist():
                damaged[place] = int(rng.integers(256))
            path.write_bytes(damaged)
            header = read_plain_header(str(path))
            if header is None:
                numbers['left'] += 1
            else:
                numbers['same'] += 1
                check(path, header)
        assert min(numbers.values()) > 2

    @pytest.mark.parametrize(
        'tag', [STRIP_OFFSETS, PIXEL_SCALE, TIE_POINT, GDAL_NODATA]
    )
    @pytest.mark.parametrize('is_first', [True, False])
    def test_tag_twice(self, tmp_path: Path, tag: int, is_first: bool) -> None:
        """Readers do not agree on which of two counts."""
        path = write(tmp_path / 'a.tif', make_array(2, 20, 30), nodata=0)
        content = bytearray(path.read_bytes())
        entry = content[find_tag(content, tag) :][:12]
        # Tags that are not needed, before and after the other
        other = find_tag(content, PLANAR if is_first else SAMPLE_FORMAT)
        content[other : other + 12] = entry
        path.write_bytes(content)
        assert read_plain_header(str(path)) is None

    def test_tags_out_of_order(self, tmp_path: Path) -> None:
        path = write(tmp_path / 'a.tif', make_array(2, 20, 30))
        content = bytearray(path.read_bytes())
        first, second = find_tag(content, WIDTH), find_tag(content, HEIGHT)
        entries = content[first : first + 12], content[second : second + 12]
        content[second : second + 12], content[first : first + 12] = entries
        path.write_bytes(content)
        assert read_plain_header(str(path)) is None

    @pytest.mark.parametrize(
        ('tag', 'count'), [(BITS, 2), (BITS, 1), (SAMPLE_FORMAT, 2), (EXTRA_SAMPLES, 1)]
    )
    def test_other_number_of_bands(self, tmp_path: Path, tag: int, count: int) -> None:
        """What is said of each band must be said of all bands."""
        path = write(tmp_path / 'a.tif', make_array(4, 20, 30))
        content = bytearray(path.read_bytes())
        struct.pack_into('<I', content, find_tag(content, tag) + 4, count)
        path.write_bytes(content)
        assert read_plain_header(str(path)) is None

    @pytest.mark.parametrize('text', [b'LUnits = foot', b'\xff', b'a\0b'])
    def test_odd_citation(self, tmp_path: Path, text: bytes) -> None:
        """GDAL takes some texts for the CRS, and does without a CRS for others."""
        path = write(tmp_path / 'a.tif', make_array(1, 4, 5))
        content = path.read_bytes()
        old = b'WGS 84 / UTM zone 46N'
        assert content.count(old) == 1
        path.write_bytes(content.replace(old, text.ljust(len(old))))
        assert read_plain_header(str(path)) is None

    @pytest.mark.parametrize('place', range(4, 32, 4))
    @pytest.mark.parametrize('change', [b'\x01\0', b'\x0e\x08', b'\xff\xff'])
    def test_odd_keys(self, tmp_path: Path, place: int, change: bytes) -> None:
        """A key more than once, out of order, unknown or of another length."""
        path = write(tmp_path / 'a.tif', make_array(1, 4, 5))
        content = bytearray(path.read_bytes())
        (keys,) = struct.unpack_from('<I', content, find_tag(content, GEO_KEYS) + 8)
        for number in (0, 2):
            start = keys + 2 * (place + number)
            content[start : start + 2] = change
            path.write_bytes(content)
            header = read_plain_header(str(path))
            if header is not None:
                check(path, header)

    @pytest.mark.parametrize(
        'number', [float('nan'), float('inf'), -1.0, 0.0, 1e300, 1e-300, 1e17]
    )
    @pytest.mark.parametrize('tag', [PIXEL_SCALE, TIE_POINT])
    def test_impossible_place(self, tmp_path: Path, tag: int, number: float) -> None:
        path = write(tmp_path / 'a.tif', make_array(1, 4, 5))
        content = bytearray(path.read_bytes())
        (place,) = struct.unpack_from('<I', content, find_tag(content, tag) + 8)
        place += 24 if tag == TIE_POINT else 0
        struct.pack_into('<d', content, place, number)
        path.write_bytes(content)
        if tag == TIE_POINT and abs(number) <= 1:
            check(path, read_plain_header(str(path)))
            return
        assert read_plain_header(str(path)) is None
        with pytest.raises((OSError, ValueError), match=r'a\.tif'):
            read_raster_header(str(path))

    @pytest.mark.parametrize(
        ('tag', 'field_type', 'count', 'value'),
        [
            (WIDTH, 3, 1, 0),
            (WIDTH, 4, 1, 2**32 - 1),
            (HEIGHT, 3, 1, 0),
            (HEIGHT, 4, 1, 2**32 - 1),
            (BANDS, 3, 1, 0),
            (BANDS, 3, 1, 65535),
            (STRIP_HEIGHT, 3, 1, 0),
            (PLANAR, 3, 1, 0),
            (PLANAR, 3, 1, 3),
            (PLANAR, 3, 1, 121),
            (STRIP_SIZES, 4, 2**32 - 1, 8),
            (PIXEL_SCALE, 12, 2**32 - 1, 8),
            (PIXEL_SCALE, 12, 2**28, 8),
            (PIXEL_SCALE, 12, 3, 2**32 - 1),
            (TIE_POINT, 12, 0, 8),
            (TIE_POINT, 12, 6, 2**31),
            (GEO_KEYS, 3, 1, 0),
            (GEO_KEYS, 3, 2**32 - 1, 8),
            (GDAL_NODATA, 2, 2**32 - 1, 8),
            (GDAL_NODATA, 2, 2, 0x78),
            (GDAL_NODATA, 3, 1, 0),
        ],
    )
    def test_impossible_numbers(
        self, tmp_path: Path, tag: int, field_type: int, count: int, value: int
    ) -> None:
        path = write(tmp_path / 'a.tif', make_array(2, 20, 30), nodata=0, blockysize=1)
        set_tag(path, tag, field_type, count, value)
        assert read_plain_header(str(path)) is None

    def test_tall_sparse_strip(self, tmp_path: Path) -> None:
        """GDAL cannot read lines of a strip that is nowhere."""
        path = write(
            tmp_path / 'a.tif', np.zeros((1, 3000, 4), np.uint8), sparse_ok=True
        )
        set_tag(path, STRIP_HEIGHT, 4, 1, 3000)
        for tag in (STRIP_OFFSETS, STRIP_SIZES):
            set_tag(path, tag, 4, 1, 0)
        assert read_plain_header(str(path)) is None

    def test_many_strips(self, tmp_path: Path) -> None:
        """Numbers that fit each other but no file cost no memory."""
        path = write(tmp_path / 'a.tif', make_array(2, 20, 30), interleave='band')
        set_tag(path, HEIGHT, 4, 1, 2**32 - 1)
        set_tag(path, STRIP_HEIGHT, 4, 1, 1)
        assert read_plain_header(str(path)) is None


def test_layout(tmp_path: Path) -> None:
    """The numbers of a header, by hand."""
    array = make_array(2, 5, 7, 'int16')
    path = write(tmp_path / 'a.tif', array, interleave='band', nodata=-1)
    header = read_plain_header(str(path))
    assert header is not None
    offset = path.read_bytes().index(array.tobytes())
    assert header.layout == Layout(offset, '<i2', 2, 'band')
    assert header.grid.bounds == (500001, 2000004 - 15, 500001 + 21, 2000004)
