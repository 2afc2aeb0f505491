# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from PIL import Image
from rasterio.enums import ColorInterp, Compression, Interleaving
from rasterio.transform import from_origin
from rasters import write
from rio_cogeo.cogeo import cog_validate
from small_scene import LEFT, TOP, make_image, make_mask, read, write_scene
from systems import full_disk

from torchgeo_planetcr.datasets import NativeSlice
from torchgeo_planetcr.inference.output import OutputFile

SHAPE = 700, 600


@pytest.fixture(scope='module')
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scene with eight bands, to be read only."""
    folder = tmp_path_factory.mktemp('scene')
    image = make_image(*SHAPE, count=8, nodata=7)
    return write_scene(folder / 'cloudy.tif', image, nodata=7)


def window(row: int, col: int, height: int, width: int) -> NativeSlice:
    """Window of a scene."""
    left, top = LEFT + 3 * col, TOP - 3 * row
    return NativeSlice(
        slice(left, left + 3 * width),
        slice(top - 3 * height, top),
        slice(None),
        'EPSG:32646',
    )


def write_values(
    source: Path, out: Path, values: NDArray[np.float32], size: int, **options: Any
) -> None:
    """Write values tile by tile."""
    file = OutputFile(out, source, **options)
    _, height, width = values.shape
    for row in range(0, height, size):
        for col in range(0, width, size):
            tile = values[:, row : row + size, col : col + size]
            file.add(window(row, col, *tile.shape[1:]), tile)
    file.finish()


def restore(source: Path, out: Path, **options: Any) -> NDArray[np.float32]:
    """Write known values."""
    values = np.random.default_rng(0).uniform(0, 1, (4, *SHAPE)).astype(np.float32)
    write_values(source, out, values, 100, **options)
    return values


@pytest.mark.parametrize('dtype', ['uint16', 'float32'])
def test_file(source: Path, tmp_path: Path, dtype: Any) -> None:
    out, mask = tmp_path / 'out.tif', make_mask(*SHAPE)
    values = restore(source, out, dtype=dtype, quicklook=True)
    with rasterio.open(source) as before, rasterio.open(out) as after:
        for name in ('crs', 'transform', 'shape', 'bounds', 'nodata'):
            assert getattr(after, name) == getattr(before, name), name
        assert after.transform == from_origin(LEFT, TOP, 3, 3)
        assert after.nodata == 7
        assert after.descriptions == ('blue', 'green', 'red', 'nir')
        assert after.dtypes == (dtype,) * 4
        actual = after.read()
        assert (after.dataset_mask().astype(bool) == mask).all()
        # No band is taken for transparency
        assert ColorInterp.alpha not in after.colorinterp
    assert (actual[:, ~mask] == 7).all()
    if dtype == 'float32':
        assert (actual == np.where(mask, values, 7)).all()
    else:
        expected = np.rint(10000 * values)
        assert (expected == 7).any()
        # One that would be taken for no data is made brighter
        expected[expected == 7] = 8
        assert (actual == np.where(mask, expected, 7)).all()
    assert {path.name for path in tmp_path.iterdir()} == {'out.tif', 'out.png'}


@pytest.mark.parametrize('dtype', ['uint16', 'float32'])
def test_cog(source: Path, tmp_path: Path, dtype: Any) -> None:
    out = tmp_path / 'out.tif'
    restore(source, out, dtype=dtype)
    with rasterio.open(out) as dataset:
        assert dataset.driver == 'GTiff'
        structure = dataset.tags(ns='IMAGE_STRUCTURE')
        assert structure['LAYOUT'] == 'COG'
        assert structure['PREDICTOR'] == ('2' if dtype == 'uint16' else '3')
        assert dataset.compression is Compression.deflate
        assert dataset.interleaving is Interleaving.pixel
        assert dataset.profile['tiled']
        assert set(dataset.block_shapes) == {(512, 512)}
        assert [dataset.overviews(band) for band in dataset.indexes] == [[2]] * 4
        # Headers come first, then the overview, then the pixels
        overview, first = (
            int(dataset.get_tag_item('BLOCK_OFFSET_0_0', 'TIFF', 1, level) or 0)
            for level in (0, None)
        )
    assert 0 < overview < first
    assert b'LAYOUT=IFDS_BEFORE_DATA' in out.read_bytes()[:200]
    with rasterio.open(out, overview_level=0) as dataset:
        assert dataset.shape == (350, 300)
        small = dataset.read()
    whole, mask = read(out), make_mask(*SHAPE)
    full = mask.reshape(350, 2, 300, 2).all(axis=(1, 3))
    average = whole.reshape(4, 350, 2, 300, 2).mean(axis=(2, 4))
    step = 0.51 if dtype == 'uint16' else 1e-6
    assert np.abs(small - average)[:, full].max() < step
    # An average is taken over pixels with data only
    assert ((small != 7).any(axis=0) == mask.reshape(350, 2, 300, 2).any((1, 3))).all()


@pytest.mark.parametrize(
    ('shape', 'count', 'options'),
    [
        (SHAPE, 4, {'dtype': 'uint16'}),
        (SHAPE, 4, {'dtype': 'float32'}),
        (SHAPE, 8, {'dtype': 'uint16', 'mask': True}),
        ((90, 120), 4, {'dtype': 'uint16'}),
        ((1, 1), 4, {'dtype': 'uint16'}),
        ((3, 1300), 8, {'dtype': 'float32'}),
        ((530, 513), 4, {'dtype': 'uint16', 'nodata': 65535}),
        ((512, 512), 4, {'dtype': 'uint16', 'nodata': None}),
    ],
)
def test_valid(
    tmp_path: Path, shape: tuple[int, int], count: int, options: dict[str, Any]
) -> None:
    """According to rio-cogeo, of whatever it is made."""
    out = tmp_path / 'out.tif'
    nodata = options.pop('nodata', 0)
    image = np.full((count, *shape), 3000, dtype=np.uint16)
    source = write_scene(tmp_path / 'source.tif', image, nodata=nodata)
    if options.pop('mask', False):
        clouds = np.ones((1, *shape), dtype=np.uint8)
        grid: dict[str, Any] = {'transform': from_origin(LEFT, TOP, 3, 3)}
        options['mask'] = write(tmp_path / 'mask.tif', clouds, **grid)
    values = np.full((4, *shape), 0.25, np.float32)
    write_values(source, out, values, max(shape), quicklook=True, **options)
    assert cog_validate(out, strict=True, quiet=True) == (True, [], [])
    with rasterio.open(out) as dataset:
        assert dataset.shape == shape
        assert dataset.nodata == (nodata or 0)
        assert dataset.descriptions == ('blue', 'green', 'red', 'nir')
        scale = 10000 if options['dtype'] == 'uint16' else 1
        assert (dataset.read() == scale * 0.25).all()
        assert bool(dataset.overviews(1)) == (max(shape) > 512)


def test_valid_to_the_command(source: Path, tmp_path: Path) -> None:
    out = tmp_path / 'out.tif'
    restore(source, out, dtype='uint16')
    command = [Path(sys.executable).with_name('rio'), 'cogeo', 'validate', '--strict']
    printed = subprocess.run(
        [*command, out], check=True, capture_output=True, text=True
    ).stdout
    assert printed.strip() == f'{out} is a valid cloud optimized GeoTIFF'
    # It is no answer that it always gives
    failed = subprocess.run([*command, source], check=False, capture_output=True)
    assert b'is NOT a valid' in failed.stdout


def test_bands_as_they_are(source: Path, tmp_path: Path) -> None:
    """Other than four bands have no names."""
    out = tmp_path / 'out.tif'
    values = np.full((2, *SHAPE), -3.5, np.float32)
    write_values(source, out, values, 700)
    with rasterio.open(out) as dataset:
        assert dataset.descriptions == (None, None)
        assert dataset.dtypes == ('float32', 'float32')
        assert (dataset.read() == np.where(make_mask(*SHAPE), -3.5, 7)).all()
    assert {path.name for path in tmp_path.iterdir()} == {'out.tif'}


class TestQuicklook:
    def test_large(self, tmp_path: Path) -> None:
        """Its images are halved until they have at most 1000 pixels along an edge."""
        image = np.full((4, 500, 2500), 3000, dtype=np.uint16)
        source, out = write_scene(tmp_path / 'source.tif', image), tmp_path / 'out.tif'
        restored = np.full((4, 500, 2500), 0.1, np.float32)
        write_values(source, out, restored, 2500, quicklook=True)
        with Image.open(tmp_path / 'out.png') as picture:
            assert (picture.format, picture.mode) == ('PNG', 'RGB')
            assert picture.size == (625 + 6 + 625, 125)
            pixels = np.asarray(picture)[60, [300, 628, 900]].astype(int)
        before, gap, after = pixels
        assert (gap == 255).all()
        assert (before > after).all()

    @pytest.mark.parametrize('dtype', ['uint16', 'float32'])
    def test_bands(self, tmp_path: Path, dtype: Any) -> None:
        """Red is red, before and after, of the bands that were named."""
        image = np.zeros((5, 40, 60), dtype=np.uint16)
        image[:] = np.array([4000, 100, 2000, 300, 200])[:, None, None]
        source, out = write_scene(tmp_path / 'source.tif', image), tmp_path / 'out.tif'
        bands = [2, 5, 3, 1]
        restored = (image[[1, 4, 2, 0]] / 10000).astype(np.float32)
        write_values(
            source, out, restored, 60, quicklook=True, bands=bands, dtype=dtype
        )
        with Image.open(tmp_path / 'out.png') as picture:
            assert picture.size == (60 + 2 + 60, 40)
            drawn = np.asarray(picture).astype(int)
        for part in (drawn[:, :60], drawn[:, 62:]):
            red, green, blue = part[20, 30]
            assert red > green > blue
        assert (drawn[:, :60] == drawn[:, 62:]).all()

    def test_three_bands(self, source: Path, tmp_path: Path) -> None:
        file = OutputFile(tmp_path / 'out.tif', source, quicklook=True)
        message = 'the model makes 3 bands instead of B, G, R and NIR'
        with pytest.raises(ValueError, match=message):
            file.add(window(0, 0, 10, 10), np.zeros((3, 10, 10), np.float32))
        file.close()
        assert not list(tmp_path.iterdir())


def test_known_data(source: Path, tmp_path: Path) -> None:
    """Whoever has read the source can say where it has data."""
    out = tmp_path / 'out.tif'
    has_data = np.random.default_rng(0).random(SHAPE) > 0.5
    file = OutputFile(out, source)
    file.add(window(0, 0, *SHAPE), np.ones((4, *SHAPE), np.float32), has_data)
    file.finish()
    assert (read(out) == np.where(has_data, 1, 7)).all()


def test_nothing_before_the_end(source: Path, tmp_path: Path) -> None:
    file = OutputFile(tmp_path / 'out.tif', source)
    file.add(window(0, 0, 9, 600), np.ones((4, 9, 600), np.float32))
    file.add(window(9, 0, 9, 600), np.ones((4, 9, 600), np.float32))
    [folder] = tmp_path.iterdir()
    assert folder.name.startswith('.unfinished-')
    file.close()
    assert not list(tmp_path.iterdir())


def test_nothing_at_all(source: Path, tmp_path: Path) -> None:
    """What cannot be read leaves nothing behind."""
    with pytest.raises(OSError, match=r'none\.tif is not a readable raster'):
        OutputFile(tmp_path / 'out.tif', tmp_path / 'none.tif')
    with pytest.raises(OSError, match=r'none\.tif is not a readable raster'):
        OutputFile(tmp_path / 'out.tif', source, mask=tmp_path / 'none.tif')
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('row', [0, 99, 100 - 64, 5])
def test_wrong_order(source: Path, tmp_path: Path, row: int) -> None:
    """Windows that go back are refused, be it by one line or by many."""
    file = OutputFile(tmp_path / 'out.tif', source)
    tile = np.ones((4, 64, 64), np.float32)
    file.add(window(100, 0, 64, 64), tile)
    with pytest.raises(
        ValueError, match=f'a tile at row {row}, column 0 comes after one'
    ):
        file.add(window(row, 0, 64, 64), tile)
    file.close()
    assert not list(tmp_path.iterdir())


class TestFullDisk:
    """GDAL keeps silent about what it could not write when it closes a file."""

    @pytest.mark.parametrize('limit', [1_000, 3_000_000, 8_380_000])
    def test_lines(self, source: Path, tmp_path: Path, limit: int) -> None:
        out = tmp_path / 'out.tif'
        values = np.random.default_rng(0).uniform(0, 1, (4, *SHAPE)).astype(np.float32)
        file = OutputFile(out, source, dtype='uint16')
        file.add(window(0, 0, *SHAPE), values)
        with pytest.raises(OSError, match=f'{out} cannot be written'), full_disk(limit):
            file.finish()
        file.close()
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize('limit', [100_000, 3_000_000, 5_500_000])
    def test_blocks(self, source: Path, tmp_path: Path, limit: int) -> None:
        """Those that are lost on the way are not taken for parts without data."""
        file = OutputFile(tmp_path / 'out' / 'out.tif', source, dtype='uint16')
        with (
            pytest.raises(OSError, match=r'out/out\.tif cannot be written'),
            full_disk(limit),
        ):
            for row in range(0, 700, 100):
                tile = np.full((4, 100, 600), 0.3, np.float32)
                file.add(window(row, 0, 100, 600), tile)
            file.finish()
        file.close()
        assert not list((tmp_path / 'out').iterdir())

    @pytest.mark.parametrize('limit', [600_000, 1_500_000])
    def test_on_closing(self, tmp_path: Path, limit: int) -> None:
        """All lines are in memory until then, and are lost without an error in a thread."""
        out = tmp_path / 'out' / 'out.tif'
        source = write_scene(tmp_path / 'source.tif')
        values = np.full((4, 210, 260), 0.3, dtype=np.float32)
        file = OutputFile(out, source, dtype='uint16')
        with (
            ThreadPoolExecutor(1) as thread,
            pytest.raises(OSError, match=f'{out} cannot be written'),
            full_disk(limit),
        ):
            thread.submit(file.add, window(0, 0, 210, 260), values).result()
            thread.submit(file.finish).result()
        file.close()
        assert not list(out.parent.iterdir())

    def test_overviews(self, tmp_path: Path) -> None:
        """They are lost without an error, too, and a picture is made of them."""
        folder = tmp_path / 'folder'
        image = np.full((4, 1024, 1024), 3000, dtype=np.uint16)
        source = write_scene(tmp_path / 'source.tif', image)
        file = OutputFile(folder / 'out.tif', source, quicklook=True)
        values = np.random.default_rng(0).uniform(0, 1, image.shape)
        file.add(window(0, 0, 1024, 1024), values.astype(np.float32))
        with (
            pytest.raises(OSError, match=r'folder/out\.tif cannot be written'),
            full_disk(17_500_000),
        ):
            file.finish()
        # The lines themselves are there
        assert 4 * image.size < (next(folder.iterdir()) / 'raw.tif').stat().st_size
        file.close()
        assert not list(folder.iterdir())

    def test_compressed(self, tmp_path: Path) -> None:
        """The second file does not fit, as noise takes more compressed than as it is."""
        folder = tmp_path / 'folder'
        image = np.full((4, 512, 512), 3000, dtype=np.uint16)
        source = write_scene(tmp_path / 'source.tif', image)
        rng = np.random.default_rng(0)
        values = (rng.integers(1, 65536, image.shape) / 10000).astype(np.float32)
        file = OutputFile(folder / 'out.tif', source, dtype='uint16')
        file.add(window(0, 0, 512, 512), values)
        with (
            pytest.raises(OSError, match=r'folder/out\.tif cannot be written'),
            full_disk(2_098_000),
        ):
            file.finish()
        assert (next(folder.iterdir()) / 'raw.tif').stat().st_size < 2_098_000
        file.close()
        assert not list(folder.iterdir())
