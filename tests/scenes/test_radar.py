# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.enums import Resampling
from rasterio.transform import from_origin
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform
from rasterio.windows import Window
from rasters import write

from torchgeo_planetcr.raster.read import open_raster
from torchgeo_planetcr.scenes import Layer, Sentinel1
from torchgeo_planetcr.scenes.radar import Sentinel1Layer

#: Rows and columns of the scene, of the radar, and of a hole in it.
SIZE, RADAR_SIZE, HOLE = 300, 120, slice(40, 46)


@pytest.mark.parametrize('crs', ['EPSG:32646', 'EPSG:32647'])
@pytest.mark.parametrize(
    ('nodata', 'missing'),
    [
        (None, 0),
        (None, np.nan),
        (-99, -99),
        (np.nan, np.nan),
        (-99, np.inf),
        # What programs fill images with, whatever they declare
        (np.nan, 0),
        (-9999, 0),
        (0, np.nan),
        (None, -9999),
        (np.nan, -9999),
    ],
)
def test_gaps(tmp_path: Path, crs: str, nodata: float | None, missing: float) -> None:
    """With a gap near or not, each window is that of the image whose gaps are known."""
    scene = write(tmp_path / 'scene.tif', np.ones((4, SIZE, SIZE), np.uint16))
    # The radar covers all but some meters at the left
    xs, ys = transform('EPSG:32646', crs, [500010], [2000100])[:2]
    values = np.random.default_rng(0).normal(-12, 3, (2, RADAR_SIZE, RADAR_SIZE))
    values[:, HOLE, HOLE] = missing
    options: dict[str, Any] = {'crs': crs, 'nodata': nodata}
    options['transform'] = from_origin(*xs, *ys, 10, 10)
    path = write(tmp_path / 's1.tif', values.astype(np.float32), **options)
    values[:, HOLE, HOLE] = np.nan
    options['nodata'] = np.nan
    plain = write(tmp_path / 'plain.tif', values.astype(np.float32), **options)
    with (
        Layer(scene) as image,
        Sentinel1Layer(path, image.grid) as radar,
        open_raster(str(plain)) as s1,
        WarpedVRT(
            s1,
            crs=image.grid.crs,
            transform=image.grid.transform,
            height=SIZE,
            width=SIZE,
            resampling=Resampling.bilinear,
            src_nodata=np.nan,
            nodata=np.nan,
            dtype='float32',
            UNIFIED_SRC_NODATA='NO',
        ) as known,
    ):
        gaps = 0
        for row in range(0, SIZE, 20):
            for col in range(0, SIZE, 20):
                window = image.grid.window(row, col, 20, 20)
                expected = known.read(window=Window(col, row, 20, 20))
                found = radar.read(window)
                assert found.dtype == np.float32
                np.testing.assert_allclose(found, expected, rtol=0, atol=1e-2)
                gaps += np.isnan(found).any()
        small = radar.read_small((SIZE // 10, SIZE // 10))
        whole = radar.read(image.grid)[:, 5::10, 5::10]
    assert 3 < gaps < 40
    assert (np.isnan(small) == np.isnan(whole)).mean() > 0.98
    assert np.nanmax(small) < 0


def test_band_missing(tmp_path: Path) -> None:
    scene = write(tmp_path / 'scene.tif', np.ones((4, 30, 30), np.uint16))
    path = write(tmp_path / 's1.tif', np.ones((1, 30, 30), np.float32))
    with (
        Layer(scene) as image,
        pytest.raises(ValueError, match=f'{path} has 1 band instead of VV and VH'),
    ):
        Sentinel1Layer(path, image.grid)


@pytest.mark.parametrize('unit', ['dB', 'power', 'amplitude'])
@pytest.mark.filterwarnings('ignore::UserWarning')
def test_files_of_polarizations(tmp_path: Path, unit: str) -> None:
    """VV and VH in files of their own, in any unit, are what one file of dB is."""
    scene = write(tmp_path / 'scene.tif', np.ones((4, SIZE, SIZE), np.uint16))
    decibels = np.random.default_rng(0).normal(0, 3, (2, RADAR_SIZE, RADAR_SIZE))
    decibels += np.array([-10, -17])[:, None, None]
    decibels[0, HOLE, HOLE] = np.nan
    grid: dict[str, Any] = {'transform': from_origin(500010, 2000100, 10, 10)}
    both = write(tmp_path / 's1.tif', decibels.astype(np.float32), **grid)
    factor = {'dB': None, 'power': 10, 'amplitude': 20}[unit]
    values = decibels if factor is None else 10 ** (decibels / factor)
    # What Planetary Computer has where there is none
    values = np.nan_to_num(values.astype(np.float32), nan=-32768)
    for name, band in (('VV', values[:1]), ('VH', values[1:])):
        write(tmp_path / f's1_{name}.tif', band, nodata=-32768, **grid)
    with (
        Layer(scene) as image,
        Sentinel1([both], image.grid) as expected,
        Sentinel1([tmp_path / 's1_VH.tif'], image.grid) as found,
    ):
        window = image.grid.window(0, 0, SIZE, SIZE)
        actual = found.read(window)
        np.testing.assert_allclose(actual, expected.read(window), rtol=0, atol=1e-4)
        assert np.isnan(actual[0]).sum() > np.isnan(actual[1]).sum() >= 0
        small = found.read_small((30, 30))
        np.testing.assert_allclose(small, expected.read_small((30, 30)), atol=1e-4)


def test_scale(tmp_path: Path) -> None:
    """dB x 100 in integers, with a scale that says so, as the Austrian data cube has it."""
    scene = write(tmp_path / 'scene.tif', np.ones((4, SIZE, SIZE), np.uint16))
    values = np.full((2, RADAR_SIZE, RADAR_SIZE), -1050, np.int16)
    values[1] = -1725
    values[:, HOLE, HOLE] = -9999
    path = write(
        tmp_path / 's1.tif',
        values,
        nodata=-9999,
        transform=from_origin(500001, 2000004, 10, 10),
    )
    with rasterio.open(path, 'r+') as dataset:
        dataset.scales = (0.01, 0.01)
    with Layer(scene) as image, Sentinel1([path], image.grid) as found:
        actual = found.read(image.grid)
    assert np.unique(actual[0][~np.isnan(actual[0])]) == pytest.approx([-10.5])
    assert np.nanmean(actual[1]) == pytest.approx(-17.25)
    assert np.isnan(actual).any()


def test_grids_of_polarizations(tmp_path: Path) -> None:
    scene = write(tmp_path / 'scene.tif', np.ones((4, SIZE, SIZE), np.uint16))
    for name, size in (('vv', 90), ('vh', 91)):
        write(tmp_path / f'{name}.tif', np.full((1, size, size), -10, np.float32))
    with (
        Layer(scene) as image,
        pytest.raises(ValueError, match=r'vv\.tif and .*vh\.tif have different grids'),
    ):
        Sentinel1([tmp_path / 'vv.tif'], image.grid)
