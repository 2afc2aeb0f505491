# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import struct
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from rasterio.enums import Resampling
from rasters import make_array, write

from torchgeo_planetcr.raster.grid import Grid
from torchgeo_planetcr.scenes import Layer
from torchgeo_planetcr.scenes.layer import find_data
from torchgeo_planetcr.scenes.radar import Sentinel1Layer

SHAPE = 60, 80


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An image of three bands."""
    return write(tmp_path / 'image.tif', make_array(3, *SHAPE), nodata=60000)


class TestRead:
    def test_own_grid(self, path: Path) -> None:
        with Layer(path) as layer:
            assert layer.grid[-2:] == SHAPE
            assert layer.bands == [1, 2, 3]
            assert layer.nodata == 60000
            window = layer.grid.window(10, 20, 5, 7)
            expected = make_array(3, *SHAPE)[:, 10:15, 20:27]
            assert (layer.read(window) == expected).all()

    def test_bands(self, path: Path) -> None:
        """They are found in the open file."""
        with Layer(path, lambda dataset: [dataset.count, 1]) as layer:
            actual = layer.read(layer.grid)
        assert (actual == make_array(3, *SHAPE)[[2, 0]]).all()

    @pytest.mark.parametrize(
        ('row', 'col'), [(-3, -4), (57, 78), (-3, 78), (200, 300), (-50, 0)]
    )
    def test_beyond_the_edges(self, path: Path, row: int, col: int) -> None:
        image = np.pad(
            make_array(3, *SHAPE),
            ((0, 0), (300, 300), (300, 300)),
            constant_values=60000,
        )
        with Layer(path) as layer:
            actual = layer.read(layer.grid.window(row, col, 8, 9))
        expected = image[:, 300 + row :, 300 + col :][:, :8, :9]
        assert actual.dtype == np.uint16
        assert (actual == expected).all()

    def test_other_grid(self, path: Path) -> None:
        """Four pixels for each one, with another value where there is no data."""
        with Layer(path) as own:
            grid = own.grid
        fine = Grid.from_bounds(grid.crs, grid.bounds, (1.5, 1.5))
        with Layer(path, grid=fine, nodata=-1, dtype='int32') as layer:
            actual = layer.read(fine.window(4, 6, 10, 10))
            beyond = layer.read(fine.window(-2, 0, 2, 4))
        expected = make_array(3, *SHAPE)[:, 2:7, 3:8].repeat(2, 1).repeat(2, 2)
        assert actual.dtype == np.int32
        assert (actual == expected).all()
        assert (beyond == -1).all()

    def test_onto(self, path: Path) -> None:
        """The same open file on two grids, closed together."""
        with Layer(path) as layer:
            coarse = layer.grid._replace(xres=6.0, yres=6.0, height=30, width=40)
            other = layer.onto(coarse, Resampling.average, dtype='float32')
            assert other.dataset is layer.dataset
            actual, whole = other.read(coarse), layer.read(layer.grid)
        assert layer.dataset.closed
        expected = whole.reshape(3, 30, 2, 40, 2).mean(axis=(2, 4))
        assert np.abs(actual - expected).max() < 0.01

    def test_small(self, tmp_path: Path) -> None:
        image = make_array(1, 1100, 700)
        with Layer(write(tmp_path / 'image.tif', image)) as layer:
            assert layer.small_shape == (550, 350)
            assert layer.read_small().shape == (1, 550, 350)
            mean = layer.read_small((550, 350), Resampling.average)
        expected = image.reshape(1, 550, 2, 350, 2).mean(axis=(2, 4))
        assert np.abs(mean - expected).max() <= 1


class TestClose:
    def test_in_another_thread(self, path: Path) -> None:
        layer = Layer(path, grid=Grid('EPSG:32646', 500001, 2000004, 1, 1, 9, 9))
        thread = threading.Thread(target=layer.close)
        thread.start()
        thread.join()
        assert layer.dataset.closed

    def test_after_an_error(self, path: Path) -> None:
        """Nothing stays open if the bands are not found."""
        opened = []

        def refuse(dataset: rasterio.DatasetReader) -> list[int]:
            opened.append(dataset)
            raise ValueError('no such band')

        with pytest.raises(ValueError, match='no such band'):
            Layer(path, refuse)
        assert opened[0].closed


class TestErrors:
    def test_no_raster(self, tmp_path: Path) -> None:
        (tmp_path / 'a.tif').write_text('no raster')
        with pytest.raises(OSError, match=r'a\.tif is not a readable raster'):
            Layer(tmp_path / 'a.tif')

    def test_damaged_directory(self, path: Path) -> None:
        """GDAL tells of a second image that is none once the colors are asked for."""
        content = bytearray(path.read_bytes())
        (start,) = struct.unpack_from('<I', content, 4)
        (count,) = struct.unpack_from('<H', content, start)
        struct.pack_into('<I', content, start + 2 + 12 * count, 4)
        path.write_bytes(content)
        with pytest.raises(OSError, match=str(path)):
            Layer(path, lambda dataset: [len(dataset.colorinterp)])

    def test_cut_short(self, tmp_path: Path) -> None:
        path = write(tmp_path / 'a.tif', make_array(1, 300, 300), compress='deflate')
        path.write_bytes(path.read_bytes()[:-1000])
        with pytest.raises(OSError, match=r'a\.tif'):
            Layer(path)


@pytest.mark.parametrize('kind', ['internal', 'beside', 'alpha'])
def test_mask_of_the_file(tmp_path: Path, kind: str) -> None:
    """Pixels that a file masks have no data, in scenes and in Sentinel-1."""
    valid = np.full(SHAPE, 255, np.uint8)
    valid[:, :30] = 0
    image, vv_vh = make_array(4, *SHAPE), np.full((2, *SHAPE), -12, np.float32)
    for name, values in (('scene.tif', image), ('s1.tif', vv_vh)):
        kind = 'internal' if kind == 'alpha' and name == 's1.tif' else kind
        bands = [*values, np.where(valid, 65535, 0)] if kind == 'alpha' else values
        options = {'alpha': 'unspecified'} if kind == 'alpha' else {}
        path = write(tmp_path / name, np.asarray(bands, values.dtype), **options)
        if kind != 'alpha':
            inside = kind == 'internal'
            with (
                rasterio.Env(GDAL_TIFF_INTERNAL_MASK=inside),
                rasterio.open(path, 'r+') as dataset,
            ):
                dataset.write_mask(valid)
    with (
        Layer(tmp_path / 'scene.tif', lambda dataset: [1, 2, 3, 4]) as layer,
        Sentinel1Layer(tmp_path / 's1.tif', layer.grid) as sentinel1,
    ):
        found = layer.read(layer.grid)
        assert (layer.find_data(found) == (valid > 0)).all()
        assert (found[:, :, 30:] == image[:, :, 30:]).all()
        assert (layer.find_data(layer.read_small()) == (valid > 0)).all()
        window = layer.grid.window(5, 20, 30, 30)
        assert (layer.find_data(layer.read(window)) == (valid[5:35, 20:50] > 0)).all()
        backscatter = sentinel1.read(layer.grid)
        assert np.isnan(backscatter[:, :, :30]).all()
        assert (backscatter[:, :, 30:] == -12).all()


@pytest.mark.parametrize('kind', ['internal', 'beside', 'alpha'])
@pytest.mark.parametrize('crs', ['EPSG:32646', 'EPSG:32647'])
@pytest.mark.parametrize('resampling', [Resampling.bilinear, Resampling.nearest])
def test_mask_of_the_file_on_another_grid(
    tmp_path: Path, kind: str, crs: str, resampling: Resampling
) -> None:
    """Pixels that a clear image or land cover masks are not warped, whatever they hold."""
    valid = np.full((1, *SHAPE), 255, np.uint8)
    valid[:, :, :30] = 0
    bands = np.concatenate([np.where(valid, 90, 7), valid]).astype(np.uint8)
    if kind == 'alpha':
        path = write(tmp_path / 'image.tif', bands, alpha='unspecified')
    else:
        path = write(tmp_path / 'image.tif', bands[:1])
        with (
            rasterio.Env(GDAL_TIFF_INTERNAL_MASK=kind == 'internal'),
            rasterio.open(path, 'r+') as dataset,
        ):
            dataset.write_mask(valid[0])
    with Layer(path) as own:
        bounds = own.grid.bounds_in(crs)
    # Not on the pixels of the file
    grid = Grid.from_bounds(crs, bounds, (2.5, 2.5))._replace(xmin=bounds[0] + 0.7)
    options: dict[str, Any] = {'grid': grid, 'resampling': resampling}
    with Layer(path, lambda dataset: [1], **options) as layer:
        found, small = layer.read(grid), layer.read_small((30, 40))
    assert set(np.unique(found)) == set(np.unique(small)) == {0, 90}
    assert (found == 90).sum() * 2.5**2 == pytest.approx(60 * 50 * 3**2, rel=0.05)


@pytest.mark.parametrize('nodata', [None, 0, 7, np.nan])
def test_find_data(nodata: float | None) -> None:
    """A pixel has data if one of its bands has."""
    value = nodata or 0
    image = np.array([[[value, value, 5]], [[value, 5, 5]]], np.float32)
    assert find_data(image, nodata).tolist() == [[False, True, True]]


class TestMosaic:
    """A mosaic of GDAL names other files, so its own name must say that it is one."""

    @pytest.mark.parametrize('name', ['mosaic.vrt', 'MOSAIC.VRT'])
    def test_named_by_a_user(self, path: Path, tmp_path: Path, name: str) -> None:
        rasterio.shutil.copy(path, tmp_path / name, driver='VRT')
        with Layer(tmp_path / name) as layer:
            assert (layer.read(layer.grid) == make_array(3, *SHAPE)).all()

    @pytest.mark.parametrize('name', ['image_2.tif', 'mosaic.vrt.tif', 'mosaic'])
    def test_in_disguise(self, path: Path, tmp_path: Path, name: str) -> None:
        rasterio.shutil.copy(path, tmp_path / name, driver='VRT')
        with pytest.raises(OSError, match=str(tmp_path / name)):
            Layer(tmp_path / name)
