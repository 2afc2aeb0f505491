# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import gc
import itertools
import math
import os
import pickle
import re
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
import pytest
import rasterio
import rasterio.shutil
import torch
from geopandas.testing import assert_geodataframe_equal
from numpy.typing import NDArray
from rasterio.transform import Affine, from_origin
from rasters import make_array, write
from systems import needs_linux
from torch.utils.data import DataLoader

from torchgeo_planetcr.datasets import (
    NativeRasterDataset,
    NativeSlice,
    PlanetCR,
    PlanetCRCloudMask,
)
from torchgeo_planetcr.datasets.modalities import MODALITIES
from torchgeo_planetcr.raster.grid import Grid
from torchgeo_planetcr.raster.header import RasterHeader, Stamp
from torchgeo_planetcr.raster.read import (
    PAGE_SIZE,
    FileChangedError,
    UnreadableError,
    open_raster,
    read_array_header,
    read_headers,
    read_pixels,
    read_raster_header,
)
from torchgeo_planetcr.samplers import (
    CenterNativePatchSampler,
    GriddedNativePatchSampler,
)

DESCRIPTORS = Path('/proc/self/fd')

#: Creation options of files that GDAL must read.
FORMATS: dict[str, dict[str, Any]] = {
    'tiled and compressed': {
        'tiled': True,
        'blockxsize': 64,
        'blockysize': 32,
        'compress': 'deflate',
    },
    'LZW': {'compress': 'lzw', 'predictor': 2},
    'big-endian': {'ENDIANNESS': 'BIG'},
    'BigTIFF': {'BIGTIFF': 'YES'},
    'tiled': {'tiled': True, 'blockxsize': 16, 'blockysize': 16},
}


def windows(height: int, width: int) -> list[tuple[int, int, int, int]]:
    """(row, column, height, width) of windows at the edges, and at random."""
    found = [
        (0, 0, height, width),
        (0, 0, 1, 1),
        (height - 1, width - 1, 1, 1),
        (height // 2, 0, 1, width),
        (0, width // 2, height, 1),
        (height - 1, 0, 1, width),
        (0, width - 1, height, 1),
    ]
    rng = np.random.default_rng(0)
    for _ in range(25):
        bottom, top = sorted(rng.choice(height + 1, 2, replace=False).tolist())[::-1]
        left, right = sorted(rng.choice(width + 1, 2, replace=False).tolist())
        found.append((top, left, bottom - top, right - left))
    return found


def check_windows(header: RasterHeader, array: NDArray[Any]) -> None:
    for row, col, height, width in windows(*array.shape[1:]):
        found = read_pixels(header, row, col, height, width)
        assert found.dtype == array.dtype
        expected = array[:, row : row + height, col : col + width]
        np.testing.assert_array_equal(found, expected)


def is_plain(header: RasterHeader) -> bool:
    return header.layout is not None


def keep_stamp(path: Path, change: Callable[[], Any]) -> None:
    """Change a file behind its time of modification."""
    stat = path.stat()
    change()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


class TestReadPixels:
    @pytest.mark.parametrize(
        'dtype', ['uint8', 'uint16', 'int16', 'float32', 'float64']
    )
    @pytest.mark.parametrize('interleave', ['pixel', 'band'])
    @pytest.mark.parametrize('rows', [None, 7])
    def test_plain(
        self, tmp_path: Path, interleave: str, dtype: str, rows: int | None
    ) -> None:
        array = make_array(3, 50, 61, dtype)
        options = {} if rows is None else {'blockysize': rows}
        path = write(tmp_path / 'a.tif', array, interleave=interleave, **options)
        header = read_raster_header(str(path))
        assert is_plain(header)
        check_windows(header, array)

    @pytest.mark.parametrize('interleave', ['pixel', 'band'])
    @pytest.mark.parametrize('options', FORMATS.values(), ids=FORMATS)
    def test_both_ways(
        self, tmp_path: Path, options: dict[str, Any], interleave: str
    ) -> None:
        array = make_array(4, 90, 100)
        path = write(tmp_path / 'a.tif', array, interleave=interleave)
        plain = read_raster_header(str(path))
        path = write(tmp_path / 'b.tif', array, interleave=interleave, **options)
        other = read_raster_header(str(path))
        assert is_plain(plain)
        assert not is_plain(other)
        assert plain.grid == other.grid
        check_windows(plain, array)
        check_windows(other, array)

    @pytest.mark.parametrize('interleave', ['pixel', 'band'])
    @pytest.mark.parametrize('options', [{}, FORMATS['LZW']], ids=['plain', 'LZW'])
    def test_bands(
        self, tmp_path: Path, options: dict[str, Any], interleave: str
    ) -> None:
        array = make_array(3, 20, 30)
        path = write(tmp_path / 'a.tif', array, interleave=interleave, **options)
        header = read_raster_header(str(path))
        assert is_plain(header) == (not options)
        for number in (1, 2, 3):
            for bands in itertools.permutations((1, 2, 3), number):
                found = read_pixels(header, 3, 5, 7, 11, bands)
                expected = array[[band - 1 for band in bands], 3:10, 5:16]
                np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(
            read_pixels(header, 3, 5, 7, 11, [2, 2]), array[[1, 1], 3:10, 5:16]
        )

    @pytest.mark.parametrize('gap', [-1, 0, 1])
    @pytest.mark.parametrize('interleave', ['pixel', 'band'])
    def test_wide(self, tmp_path: Path, interleave: str, gap: int) -> None:
        """Lines so long that what lies between two of a window is left out, or not."""
        array = make_array(2, 9, PAGE_SIZE + 40, 'uint8')
        path = write(tmp_path / 'a.tif', array, interleave=interleave)
        header = read_raster_header(str(path))
        check_windows(header, array)
        samples = 2 if interleave == 'pixel' else 1
        width = array.shape[2] - PAGE_SIZE // samples + gap
        for row, col in ((0, 0), (3, 5), (8, array.shape[2] - width)):
            height = min(6, 9 - row)
            found = read_pixels(header, row, col, height, width)
            expected = array[:, row : row + height, col : col + width]
            np.testing.assert_array_equal(found, expected)

    def test_result_may_be_changed(self, tmp_path: Path) -> None:
        path = write(tmp_path / 'a.tif', make_array(2, 9, 8))
        header = read_raster_header(str(path))
        first = read_pixels(header, 0, 0, 9, 8)
        expected = first.copy()
        first[:] = 0
        np.testing.assert_array_equal(read_pixels(header, 0, 0, 9, 8), expected)


class TestArrays:
    @pytest.mark.parametrize('order', ['C', 'F'])
    @pytest.mark.parametrize('dtype', ['?', 'u1', '<u2', '>u2', '>i4'])
    @pytest.mark.parametrize('width', [70, 2 * PAGE_SIZE])
    def test_orders(
        self, tmp_path: Path, width: int, dtype: str, order: Literal['C', 'F']
    ) -> None:
        array = make_array(1, 50, width, dtype) % 2
        array = array.astype(dtype)
        path = tmp_path / 'a.npy'
        np.save(path, np.asarray(array[0], order=order))
        shape, layout, stamp = read_array_header(str(path))
        assert shape == (50, width)
        assert layout.interleave == {'C': 'band', 'F': 'column'}[order]
        grid = Grid('EPSG:32646', 500001, 2000004, 3, 3, 50, width)
        check_windows(RasterHeader(str(path), grid, None, layout, stamp), array)

    @pytest.mark.parametrize('order', ['C', 'F'])
    def test_mask_of_a_patch(self, own_root: Path, order: Literal['C', 'F']) -> None:
        path = next(own_root.glob('test/cloudmask_*/*/*.npy'))
        expected = np.load(path)
        # Not the same when turned.
        assert not np.array_equal(expected, expected.T)
        np.save(path, np.asarray(expected, order=order))
        header = PlanetCRCloudMask.read_header(str(path))
        check_windows(header, expected[np.newaxis])
        dataset = PlanetCR(own_root, 'test', ['cloudy', 'cloud_mask'])
        row = dataset.index.set_index('cloud_mask').loc[str(path)]
        (query,) = [
            query for query in whole(dataset) if query.filepath == row['filepath']
        ]
        np.testing.assert_array_equal(dataset[query]['mask_cloud'], expected)
        assert row['cloud_cover'] == expected.mean()


def halve(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


class TestChanged:
    @pytest.fixture(params=[{}, FORMATS['tiled and compressed']], ids=['plain', 'GDAL'])
    def options(self, request: pytest.FixtureRequest) -> dict[str, Any]:
        return request.param

    @pytest.fixture
    def old(self) -> NDArray[Any]:
        return make_array(2, 40, 50, seed=1)

    @pytest.mark.parametrize('by_rename', [True, False])
    @pytest.mark.parametrize(
        'other', [{}, FORMATS['LZW'], {'interleave': 'band'}], ids=repr
    )
    def test_other_pixels(
        self,
        tmp_path: Path,
        options: dict[str, Any],
        other: dict[str, Any],
        old: NDArray[Any],
        by_rename: bool,
    ) -> None:
        """The same grid, however the file is made now: the new pixels."""
        path = write(tmp_path / 'a.tif', old, **options)
        dataset = NativeRasterDataset(path)
        header = read_raster_header(str(path))
        check_same(dataset[:]['image'], old)
        new = make_array(2, 40, 50, seed=2)
        if by_rename:
            write(tmp_path / 'b.tif', new, **other).rename(path)
        else:
            write(path, new, **other)
        check_same(dataset[:]['image'], new)
        check_same(dataset[:]['image'], new)
        with pytest.raises(FileChangedError, match=r'a\.tif has changed'):
            read_pixels(header, 0, 0, 1, 1)
        copied = pickle.loads(pickle.dumps(dataset))
        check_same(copied[:]['image'], new)

    @pytest.mark.parametrize(
        'change',
        [
            {'transform': from_origin(500004, 2000004, 3, 3)},
            {'transform': from_origin(500001, 2000004, 6, 6)},
            {'crs': 'EPSG:32645'},
            {'shape': (2, 41, 50)},
        ],
        ids=['moved', 'resolution', 'zone', 'shape'],
    )
    def test_other_grid(
        self,
        tmp_path: Path,
        options: dict[str, Any],
        old: NDArray[Any],
        change: dict[str, Any],
    ) -> None:
        path = write(tmp_path / 'a.tif', old, **options)
        dataset = NativeRasterDataset(path)
        dataset[:]
        others = {k: v for k, v in change.items() if k != 'shape'}
        write(path, make_array(*change.get('shape', old.shape)), **options, **others)
        with pytest.raises(
            OSError, match=r'a\.tif has changed: open the data set again'
        ):
            dataset[:]

    def test_vanished(
        self, tmp_path: Path, options: dict[str, Any], old: NDArray[Any]
    ) -> None:
        path = write(tmp_path / 'a.tif', old, **options)
        dataset = NativeRasterDataset(path)
        check_same(dataset[:]['image'], old)
        moved = path.rename(tmp_path / 'b.tif')
        with pytest.raises(OSError, match=r'a\.tif'):
            dataset[:]
        moved.rename(path)
        check_same(dataset[:]['image'], old)

    def test_cut_short(
        self, tmp_path: Path, options: dict[str, Any], old: NDArray[Any]
    ) -> None:
        path = write(tmp_path / 'a.tif', old, **options)
        dataset = NativeRasterDataset(path)
        halve(path)
        with pytest.raises(OSError, match=r'a\.tif'):
            dataset[:]

    @pytest.mark.parametrize('share', [0, 0.1, 0.5, 0.999])
    def test_cut_short_unnoticed(
        self, tmp_path: Path, options: dict[str, Any], old: NDArray[Any], share: float
    ) -> None:
        """A header that promises more than there is leads to no pixel."""
        path = write(tmp_path / 'a.tif', old, **options)
        length = int(share * path.stat().st_size)
        header = read_raster_header(str(path))

        keep_stamp(path, lambda: os.truncate(path, length))
        stat = path.stat()
        header = header._replace(stamp=Stamp(stat.st_size, stat.st_mtime_ns))
        with pytest.raises(OSError):
            read_pixels(header, 0, 0, 40, 50)

    @pytest.mark.parametrize('modality', ['cloudy', 'sentinel1', 'cloud_mask'])
    def test_patch(self, own_root: Path, modality: Literal['cloudy']) -> None:
        """The data set finds new pixels of its patches without opening it again."""
        dataset = PlanetCR(own_root, 'test').filter(aoi='summer_33')
        path = Path(dataset.index[modality].iloc[0])
        key = dataset.keys[modality]
        before = dataset[:][key]
        if path.suffix == '.npy':
            new = ~np.load(path)
            np.save(path, new)
            expected = torch.from_numpy(new.astype(np.int64))
        else:
            with rasterio.open(path, 'r+') as dst:
                dst.write(dst.read() * 2)
            expected = 2 * before
        assert not torch.equal(dataset[:][key], before)
        torch.testing.assert_close(dataset[:][key], expected)
        content = path.read_bytes()
        path.unlink()
        with pytest.raises(OSError, match=path.name):
            dataset[:]
        halved = content[: len(content) // 2]
        path.write_bytes(halved)
        with pytest.raises(OSError, match=path.name):
            dataset[:]
        path.write_bytes(content)
        torch.testing.assert_close(dataset[:][key], expected)


def check_same(image: torch.Tensor, array: NDArray[Any]) -> None:
    np.testing.assert_array_equal(image.numpy(), array.astype(np.float32))


@pytest.mark.skipif(not DESCRIPTORS.is_dir(), reason='shows open files on Linux only')
class TestOpenFiles:
    def test_plain(self, root: Path) -> None:
        """Neither headers nor pixels of plain files leave one open."""
        gc.collect()
        before = sorted(os.readlink(path) for path in open_files())
        dataset = PlanetCR(root)
        for query in CenterNativePatchSampler(dataset, size=None):
            dataset[query]
        after = sorted(os.readlink(path) for path in open_files())
        assert [name for name in after if str(root) in name] == []
        assert len(after) <= len(before)

    def test_compressed(self, tmp_path: Path) -> None:
        """Not all of many files that GDAL must read stay open."""
        number = 200
        arrays = {}
        for i in range(number):
            array = make_array(1, 16, 16, seed=i)
            transform = from_origin(500001 + 48 * i, 2000004, 3, 3)
            path = tmp_path / f'{i}.tif'
            write(path, array, transform=transform, compress='lzw')
            arrays[str(path)] = array
        dataset = NativeRasterDataset(tmp_path)
        queries = {query.filepath: query for query in whole(dataset)}
        assert len(queries) == number
        names = np.random.default_rng(0).choice(list(queries), 500)
        most = 0
        for name in names:
            check_same(dataset[queries[name]]['image'], arrays[name])
            most = max(most, len(open_files()))
        assert 100 < most < 300


def open_files() -> list[Path]:
    return [path for path in DESCRIPTORS.iterdir() if path.is_symlink()]


def whole(dataset: NativeRasterDataset | PlanetCR) -> list[NativeSlice]:
    return list(CenterNativePatchSampler(dataset, size=None))


@pytest.mark.filterwarnings('ignore:.*use of fork:DeprecationWarning')
class TestWorkers:
    @pytest.mark.parametrize('context', ['fork', 'spawn'])
    def test_same_as_here(self, own_root: Path, context: str) -> None:
        """Plain and compressed files, read here before workers start and after."""
        for path in own_root.glob('test/planet_cloudy_*/*/*.tif'):
            with rasterio.open(path) as src:
                array, profile = src.read(), src.profile
            profile.update(compress='deflate', tiled=True, blockxsize=64, blockysize=64)
            with rasterio.open(path, 'w', **profile) as dst:
                dst.write(array)
        dataset = PlanetCR(own_root, 'test')
        sampler = GriddedNativePatchSampler(dataset, size=150)
        expected = [dataset[query] for query in sampler]
        assert len(expected) == 12
        # A worker that is spawned takes seconds to start.
        for persistent in (False, True) if context == 'fork' else (True,):
            loader = DataLoader(
                dataset,
                sampler=sampler,
                batch_size=None,
                num_workers=2 if context == 'fork' else 1,
                multiprocessing_context=context,
                persistent_workers=persistent,
            )
            for _ in range(1 + persistent):
                samples = list(loader)
                assert len(samples) == len(expected)
                for sample, other in zip(samples, expected):
                    assert sample.keys() == other.keys()
                    for key in other:
                        assert torch.equal(sample[key], other[key]), key
        # Workers do not disturb the handles of the process that started them.
        for query, other in zip(sampler, expected):
            assert torch.equal(dataset[query]['image'], other['image'])


class TestPickle:
    def test_round_trip(self, root: Path) -> None:
        dataset = PlanetCR(root)
        expected = [dataset[query] for query in whole(dataset)]
        found = pickle.loads(pickle.dumps(dataset))
        assert_geodataframe_equal(found.index, dataset.index)
        assert found.left_out == dataset.left_out
        assert found.crs == dataset.crs
        queries = whole(found)
        assert queries == whole(dataset)
        for query, other in zip(queries, expected):
            sample = found[query]
            assert sample.keys() == other.keys()
            for key in other:
                assert torch.equal(sample[key], other[key]), key
        again = pickle.loads(pickle.dumps(found))
        assert_geodataframe_equal(again.index, dataset.index)

    @pytest.mark.parametrize('many', [True, False])
    def test_of_a_part(self, root: Path, many: bool) -> None:
        part = PlanetCR(root).filter(season='summer' if many else [])
        found = pickle.loads(pickle.dumps(part))
        assert len(found) == len(part) == 3 * many
        assert found.index['patch'].tolist() == part.index['patch'].tolist()

    def test_size(self, tmp_path: Path, data: ModuleType) -> None:
        """What each worker is sent at its start."""
        area, patches = data.AREAS[0], 300
        data.create(tmp_path / 'one')
        root = tmp_path / 'many'
        for row in MODALITIES.values():
            kind = row.folder, row.suffix
            source = data.filepath(tmp_path / 'one', area, 1, *kind)
            for number in range(1, patches + 1):
                path = data.filepath(root, area, number, *kind)
                path.parent.mkdir(parents=True, exist_ok=True)
                os.link(source, path)
        dataset = PlanetCR(root)
        assert len(dataset) == patches
        # What there is of it once, such as class names and CRSs, counts too.
        assert len(pickle.dumps(dataset)) / patches < 500


class TestReadHeaders:
    def test_order_and_problems(self, tmp_path: Path) -> None:
        names = [f'{i}' for i in range(500)]

        def read(name: str) -> int:
            if name.endswith('3'):
                raise OSError(f'no {name}')
            if name.endswith('7'):
                raise ValueError(f'bad {name}')
            return int(name)

        headers, problems = read_headers(names, read)
        assert list(headers) == [name for name in names if name[-1] not in '37']
        assert all(headers[name] == int(name) for name in headers)
        assert set(problems) == {name for name in names if name[-1] in '37'}
        assert problems['13'] == 'no 13'
        assert problems['17'] == 'bad 17'

    def test_other_errors_are_raised(self) -> None:
        def read(name: str) -> int:
            raise KeyError(name)

        for number in (1, 100):
            with pytest.raises(KeyError, match='0'):
                read_headers([str(i) for i in range(number)], read)

    @pytest.mark.parametrize('number', [0, 1, 200])
    def test_coarse_clock(self, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
        """The time of a thread moves in steps of 16 ms on some systems."""
        monkeypatch.setattr(time, 'thread_time', lambda: 1.0)
        names = [str(i) for i in range(number)]
        assert read_headers(names, int) == ({name: int(name) for name in names}, {})


BESIDE = ['.tif', '.tif.aux.xml', '.tif.ovr', '.tif.msk', '.tfw', '.WLD', '.IMD']


@needs_linux
class TestSpecialFiles:
    """Whoever opens a named pipe waits until somebody writes to it."""

    @pytest.mark.parametrize('end', BESIDE)
    @pytest.mark.parametrize('compress', ['none', 'lzw'])
    def test_pipe(self, tmp_path: Path, end: str, compress: str) -> None:
        path = tmp_path / 'a.tif'
        write(path, make_array(1, 9, 8), compress=compress)
        expected = read_raster_header(str(path)).grid
        pipe = tmp_path / f'a{end}'
        pipe.unlink(missing_ok=True)
        os.mkfifo(pipe)
        if compress == 'none' and end not in BESIDE[:2]:
            # GDAL is not needed
            assert read_raster_header(str(path)).grid == expected
            return
        with pytest.raises(OSError, match=re.escape(f'a{end} is not a regular file')):
            read_raster_header(str(path))

    @pytest.mark.parametrize('target', ['/dev/zero', '/dev/tty', '/dev/stdin'])
    def test_device(self, tmp_path: Path, target: str) -> None:
        for name in ('a.tif', 'a.npy'):
            path = tmp_path / name
            path.symlink_to(target)
            read = read_array_header if name == 'a.npy' else read_raster_header
            with pytest.raises(OSError, match=name):
                read(str(path))

    def test_pipe_in_place_of_a_file(self, tmp_path: Path) -> None:
        """Also one that came after the header was read."""
        path = write(tmp_path / 'a.tif', make_array(1, 9, 8))
        header = read_raster_header(str(path))._replace(stamp=None)
        path.unlink()
        os.mkfifo(path)
        with pytest.raises(OSError, match=r'a\.tif is not a regular file'):
            read_pixels(header, 0, 0, 2, 2)
        with pytest.raises(OSError, match=r'a\.tif'):
            read_pixels(header._replace(layout=None), 0, 0, 2, 2)

    def test_pipe_in_place_of_an_array(self, tmp_path: Path) -> None:
        path = tmp_path / 'a.npy'
        os.mkfifo(path)
        with pytest.raises(OSError, match=r'a\.npy'):
            read_array_header(str(path))


@pytest.mark.parametrize('compress', ['none', 'lzw'])
@pytest.mark.parametrize(
    'transform',
    [
        Affine(math.nan, 0, 5e5, 0, -3, 2e6),
        Affine(3, 0, math.nan, 0, -3, 2e6),
        Affine(3, 0, 5e5, 0, -math.inf, 2e6),
        Affine(3, 0, 5e5, 0, -3, math.inf),
        Affine(1e300, 0, 5e5, 0, -3, 2e6),
        Affine(1e-300, 0, 5e5, 0, -3, 2e6),
        Affine(3, 0, -1e17, 0, -3, 2e6),
        Affine(1e9, 0, 5e5, 0, -1e9, 2e6),
    ],
)
def test_impossible_place(tmp_path: Path, transform: Affine, compress: str) -> None:
    """Numbers that no place on Earth has are refused with the name of the file."""
    path = write(
        tmp_path / 'a.tif', make_array(1, 9, 8), compress=compress, transform=transform
    )
    with pytest.raises((OSError, ValueError), match=r'a\.tif'):
        read_raster_header(str(path))


def mosaic_of(source: Path | str) -> str:
    """Content of a mosaic of GDAL of another file, or of an address."""
    return (
        '<VRTDataset rasterXSize="30" rasterYSize="20"><SRS>EPSG:32646</SRS>'
        '<GeoTransform>500001,3,0,2000004,0,-3</GeoTransform>'
        '<VRTRasterBand dataType="UInt16" band="1"><SimpleSource>'
        f'<SourceFilename relativeToVRT="0">{source}</SourceFilename>'
        '<SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>'
    )


class TestOpenRaster:
    """No file makes GDAL read another one, or an address."""

    @pytest.fixture
    def secret(self, tmp_path: Path) -> Path:
        """Another file of the user."""
        return write(tmp_path / 'secret.tif', np.full((1, 20, 30), 777, np.uint16))

    @pytest.fixture
    def own(self, tmp_path: Path) -> Path:
        """A file of large pixels, and none of the other's."""
        return write(tmp_path / 'own.tif', np.full((1, 40, 60), 5, np.uint16))

    @pytest.mark.parametrize('name', ['a.tif', 'a.vrt', 'a.jp2', 'a'])
    def test_mosaic(self, tmp_path: Path, secret: Path, name: str) -> None:
        """Whatever its name."""
        path = tmp_path / name
        path.write_text(mosaic_of(secret))
        with pytest.raises(UnreadableError, match=re.escape(str(path))):
            open_raster(str(path))
        with open_raster(str(path), 'VRT') as dataset:
            assert (dataset.read() == 777).all()

    @pytest.mark.parametrize('driver', ['PNG', 'ENVI', 'HFA', 'MRF'])
    def test_other_formats(self, tmp_path: Path, own: Path, driver: str) -> None:
        path = tmp_path / 'a.tif'
        rasterio.shutil.copy(own, path, driver=driver)
        with pytest.raises(UnreadableError, match=r'a\.tif'):
            open_raster(str(path))

    def test_jpeg_2000(self, tmp_path: Path, own: Path) -> None:
        path = tmp_path / 'a.jp2'
        rasterio.shutil.copy(
            own, path, driver='JP2OpenJPEG', reversible='YES', quality=100
        )
        with open_raster(str(path)) as dataset:
            assert (dataset.read() == 5).all()
            assert dataset.crs == 'EPSG:32646'

    @pytest.mark.parametrize('suffix', ['.ovr', '.OVR', '.msk', '.MSK'])
    def test_sidecar_that_is_a_mosaic(
        self, own: Path, secret: Path, suffix: str
    ) -> None:
        sidecar = Path(f'{own}{suffix}')
        sidecar.write_text(mosaic_of(secret))
        with pytest.raises(UnreadableError, match=re.escape(str(sidecar))):
            open_raster(str(own))

    def test_sidecar_of_other_capitals(self, own: Path, secret: Path) -> None:
        """GDAL does not find it."""
        Path(f'{own}.oVr').write_text(mosaic_of(secret))
        with open_raster(str(own)) as dataset:
            assert (dataset.read(out_shape=(1, 20, 30)) == 5).all()

    def test_overviews_beside_it(self, own: Path) -> None:
        """Those that GDAL makes are used."""
        with rasterio.Env(TIFF_USE_OVR=True), rasterio.open(own, 'r+') as dataset:
            dataset.build_overviews([2])
        assert Path(f'{own}.ovr').exists()
        with open_raster(str(own)) as dataset:
            assert dataset.overviews(1) == [2]

    @pytest.mark.parametrize('sidecar', [False, True])
    @pytest.mark.parametrize(
        ('domain', 'key'),
        [('OVERVIEWS', 'OVERVIEW_FILE'), ('ProxyOverviewRequest', 'FILENAME')],
    )
    def test_overviews_elsewhere(
        self, own: Path, secret: Path, domain: str, key: str, sidecar: bool
    ) -> None:
        """Metadata, in the file or beside it, that name the file that holds them."""
        if sidecar:
            Path(f'{own}.aux.xml').write_text(
                f'<PAMDataset><Metadata domain="{domain}"><MDI key="{key}">{secret}</MDI>'
                '</Metadata></PAMDataset>'
            )
        else:
            with rasterio.open(own, 'r+') as dataset:
                dataset.update_tags(0, domain, **{key: str(secret)})
        with pytest.raises(UnreadableError, match=re.escape(str(own))):
            open_raster(str(own))

    def test_no_python(self, tmp_path: Path) -> None:
        """GDAL runs no code of a mosaic, even of one that may be read."""
        path, canary = tmp_path / 'a.vrt', tmp_path / 'canary'
        path.write_text(
            '<VRTDataset rasterXSize="2" rasterYSize="2"><SRS>EPSG:32646</SRS>'
            '<GeoTransform>500001,3,0,2000004,0,-3</GeoTransform><VRTRasterBand dataType="Byte" '
            'band="1" subClass="VRTDerivedRasterBand">'
            '<PixelFunctionLanguage>Python</PixelFunctionLanguage>'
            '<PixelFunctionType>f</PixelFunctionType><PixelFunctionCode><![CDATA['
            f'\ndef f(*args, **kwargs):\n    open({str(canary)!r}, "w")\n]]>'
            '</PixelFunctionCode></VRTRasterBand></VRTDataset>'
        )
        with open_raster(str(path), 'VRT') as dataset, pytest.raises(OSError):
            dataset.read()
        assert not canary.exists()
