# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.transform import Affine
from rasterio.warp import reproject
from rasters import make_array
from small_scene import (
    RADAR_CRS,
    expected_radar,
    make_image,
    make_mask,
    read,
    write_radar,
    write_scene,
)

from torchgeo_planetcr.inference import Scene, Tile, plan_tiles

SHAPE = 210, 260
WHOLE = Tile(0, 0, *SHAPE)


@pytest.fixture
def cloudy(tmp_path: Path) -> Path:
    return write_scene(tmp_path / 'cloudy.tif')


@pytest.fixture
def s1(tmp_path: Path) -> Path:
    return write_radar(tmp_path / 's1.tif', 200)


class TestRead:
    def test_whole(self, cloudy: Path, s1: Path) -> None:
        with Scene(cloudy, s1) as scene:
            assert (scene.height, scene.width) == SHAPE
            assert (scene.nodata, scene.coverage) == (0, 1)
            assert scene.crs == 'EPSG:32646'
            arrays = scene.read(WHOLE)
        assert {array.dtype for array in arrays.values()} == {np.dtype(np.float32)}
        assert (arrays['image'] == make_image()).all()
        assert (arrays['has_data'] == make_mask(*SHAPE)).all()
        assert np.abs(arrays['image_s1'] - expected_radar(*SHAPE)).max() < 0.01

    def test_as_reproject(self, cloudy: Path, tmp_path: Path) -> None:
        """Noise, in which a shift by a part of a pixel shows."""
        s1 = write_radar(tmp_path / 's1.tif', 200)
        noise = np.random.default_rng(0).normal(-12, 3, (2, 200, 200))
        with rasterio.open(s1, 'r+') as dataset:
            dataset.write(noise.astype(np.float32))
            transform, crs = dataset.transform, dataset.crs
        expected = np.zeros((2, *SHAPE), dtype=np.float32)
        with Scene(cloudy, s1) as scene:
            reproject(
                noise.astype(np.float32),
                expected,
                src_transform=transform,
                src_crs=crs,
                dst_transform=scene.transform,
                dst_crs=scene.crs,
                resampling=Resampling.bilinear,
                tolerance=0,
            )
            actual = scene.read(WHOLE)['image_s1']
        # GDAL may be off by an eighth of a pixel
        assert np.abs(actual - expected).max() < 0.125 * 2 * 12
        assert np.sqrt(np.mean((actual - expected) ** 2)) < 0.1

    def test_windows(self, cloudy: Path, s1: Path) -> None:
        """A window is a part of the whole."""
        with Scene(cloudy, s1) as scene:
            whole = scene.read(WHOLE)
            for tile in chain(*plan_tiles(*SHAPE, 100, 30)):
                rows = slice(tile.row, tile.row + tile.height)
                columns = slice(tile.col, tile.col + tile.width)
                for key, array in scene.read(tile).items():
                    part = whole[key][..., rows, columns]
                    assert np.abs(array - part).max() < 1e-4, key

    def test_same_grid(self, cloudy: Path, tmp_path: Path) -> None:
        """Nothing is interpolated where nothing has to be."""
        values = -make_array(2, *SHAPE).astype(np.float32) / 1500
        s1 = write_scene(tmp_path / 's1.tif', values, nodata=None)
        with Scene(cloudy, s1) as scene:
            assert (scene.read(WHOLE)['image_s1'] == values).all()


class TestCoverage:
    @pytest.mark.parametrize(
        'options', [{}, {'nodata': np.nan}, {'nodata': -99, 'fill': -99}]
    )
    def test_holes(self, cloudy: Path, tmp_path: Path, options: dict[str, Any]) -> None:
        holes = np.zeros((200, 200), dtype=bool)
        holes[70:85, 80:100] = True
        s1 = write_radar(tmp_path / 's1.tif', 200, holes=holes, **options)
        mask = make_mask(*SHAPE)
        with Scene(cloudy, s1, min_coverage=0.5) as scene:
            actual = scene.read(WHOLE)['image_s1']
            coverage = scene.coverage
        covered = np.abs(actual - expected_radar(*SHAPE)).max(axis=0) < 0.3
        expected = expected_radar(*SHAPE)
        filled = (actual == actual[:, ~covered][:, :1, None]).all(axis=0)
        assert (filled | covered).all()
        # 15 x 20 pixels of 100 m2 are 3333 pixels of 9 m2
        assert 3000 < filled.sum() < 4200
        assert coverage == pytest.approx(1 - filled[mask].mean(), abs=1e-3)
        mean = expected[:, mask & ~filled].mean(axis=1)
        assert actual[:, filled][:, 0] == pytest.approx(mean, abs=0.01)

    @pytest.mark.parametrize('nodata', [None, np.nan, -99, 0])
    def test_partly(self, cloudy: Path, tmp_path: Path, nodata: float | None) -> None:
        s1 = write_radar(tmp_path / 's1.tif', 100, nodata=nodata)
        # The first 500 m are beside the scene
        with Scene(cloudy, s1, min_coverage=0.3) as scene:
            arrays, coverage = scene.read(WHOLE), scene.coverage
        actual, mask = arrays['image_s1'], make_mask(*SHAPE)
        error = np.abs(actual - expected_radar(*SHAPE)).max(axis=0)
        assert error[:150, :150].max() < 0.02
        far = actual[:, -10:, -10:]
        assert (far == far[:, :1, :1]).all()
        filled = (actual == far[:, :1, :1]).all(axis=0)
        assert coverage == pytest.approx(1 - filled[mask].mean(), abs=1e-3)
        mean = expected_radar(*SHAPE)[:, mask & ~filled].mean(axis=1)
        assert far[:, 0, 0] == pytest.approx(mean, abs=0.01)

        message = rf's1\.tif covers {100 * coverage:.0f} % of .*cloudy\.tif, and at '
        message += r'least 90 % are asked for: .* min_coverage\.'
        with pytest.raises(ValueError, match=message):
            Scene(cloudy, s1)

    def test_share_of_data(self, tmp_path: Path) -> None:
        """What counts is where the scene has data."""
        image = make_image()
        image[:, :, 130:] = 0
        cloudy = write_scene(tmp_path / 'cloudy.tif', image)
        with Scene(cloudy, write_radar(tmp_path / 's1.tif', 120)) as scene:
            assert scene.coverage == 1
            assert np.isfinite(scene.read(WHOLE)['image_s1']).all()

    def test_elsewhere(self, cloudy: Path, tmp_path: Path) -> None:
        s1 = write_radar(tmp_path / 's1.tif', 40)
        for least in (0.9, 0):
            with pytest.raises(ValueError, match=r'does not cover .* at all: take the'):
                Scene(cloudy, s1, min_coverage=least)

    def test_large_scene(self, tmp_path: Path) -> None:
        """The share and the mean of a large scene come from a part of its pixels."""
        image = make_image(1100, 1200)
        cloudy = write_scene(tmp_path / 'cloudy.tif', image)
        s1 = write_radar(tmp_path / 's1.tif', 300)
        with Scene(cloudy, s1, min_coverage=0.3) as scene:
            actual = scene.read(Tile(0, 0, 1100, 1200))['image_s1']
            coverage = scene.coverage
        filled = (actual == actual[:, -1:, -1:]).all(axis=0)
        mask = make_mask(1100, 1200)
        assert 0.3 < coverage < 0.95
        assert coverage == pytest.approx(1 - filled[mask].mean(), abs=0.01)
        mean = expected_radar(1100, 1200)[:, mask & ~filled].mean(axis=1)
        assert actual[:, -1, -1] == pytest.approx(mean, abs=0.1)


class TestRadarError:
    def test_linear(self, cloudy: Path, tmp_path: Path) -> None:
        s1 = write_radar(tmp_path / 's1.tif', 200, linear=True)
        with pytest.raises(ValueError, match=r'no backscatter in dB: .* 10 log10'):
            Scene(cloudy, s1)

    def test_one_band(self, cloudy: Path, tmp_path: Path) -> None:
        s1 = write_scene(tmp_path / 's1.tif', make_array(1, *SHAPE))
        with pytest.raises(
            ValueError, match=r's1\.tif has 1 band instead of VV and VH'
        ):
            Scene(cloudy, s1)

    def test_no_crs(self, cloudy: Path, tmp_path: Path) -> None:
        s1 = write_radar(tmp_path / 's1.tif', crs=None)
        with pytest.raises(ValueError, match=r's1\.tif has no CRS'):
            Scene(cloudy, s1)

    def test_missing(self, cloudy: Path, tmp_path: Path) -> None:
        with pytest.raises(OSError, match=r's1\.tif is not a readable raster'):
            Scene(cloudy, tmp_path / 's1.tif')


class TestBands:
    def read(self, cloudy: Path, s1: Path, **options: Any) -> NDArray[np.float32]:
        with Scene(cloudy, s1, **options) as scene:
            return scene.read(WHOLE)['image']

    def test_eight(self, s1: Path, tmp_path: Path) -> None:
        image = make_image(count=8)
        cloudy = write_scene(tmp_path / 'cloudy.tif', image)
        assert (self.read(cloudy, s1) == image[[1, 3, 5, 7]]).all()

    def test_names(self, s1: Path, tmp_path: Path) -> None:
        image = make_image(count=5)
        cloudy = write_scene(tmp_path / 'cloudy.tif', image)
        with rasterio.open(cloudy, 'r+') as dataset:
            dataset.descriptions = ('NIR', 'Red', 'Rededge', ' green', 'blue')
        assert (self.read(cloudy, s1) == image[[4, 3, 1, 0]]).all()
        # What is asked for counts more
        actual = self.read(cloudy, s1, bands=[1, 2, 3, 4])
        assert (actual == image[:4]).all()

    def test_other_names(self, s1: Path, tmp_path: Path) -> None:
        """Names that say nothing."""
        image = make_image(count=4)
        cloudy = write_scene(tmp_path / 'cloudy.tif', image)
        with rasterio.open(cloudy, 'r+') as dataset:
            dataset.descriptions = ('nir', 'b2', 'b3', 'b4')
        assert (self.read(cloudy, s1) == image).all()

    @pytest.mark.parametrize('count', [3, 5])
    def test_unknown(self, s1: Path, tmp_path: Path, count: int) -> None:
        cloudy = write_scene(tmp_path / 'cloudy.tif', make_image(count=count))
        with pytest.raises(ValueError, match=f'cloudy.tif has {count} bands: name'):
            Scene(cloudy, s1)

    def test_given(self, s1: Path, tmp_path: Path) -> None:
        image = make_image(count=5)
        cloudy = write_scene(tmp_path / 'cloudy.tif', image)
        actual = self.read(cloudy, s1, bands=(5, 1, 4, 2))
        assert (actual == image[[4, 0, 3, 1]]).all()

    @pytest.mark.parametrize('bands', [[1, 2, 3], [0, 1, 2, 3], [1, 2, 3, 5], []])
    def test_wrong(self, cloudy: Path, s1: Path, bands: list[int]) -> None:
        with pytest.raises(
            ValueError, match='must be the positions of B, G, R and NIR'
        ):
            Scene(cloudy, s1, bands)


class TestSceneError:
    @pytest.mark.parametrize('dtype', ['float32', 'uint8'])
    def test_dtype(self, s1: Path, tmp_path: Path, dtype: str) -> None:
        cloudy = write_scene(tmp_path / 'cloudy.tif', make_array(4, 60, 80, dtype))
        with pytest.raises(ValueError, match=f'is {dtype} instead of uint16'):
            Scene(cloudy, s1)

    def test_no_crs(self, s1: Path, tmp_path: Path) -> None:
        cloudy = write_scene(tmp_path / 'cloudy.tif', crs=None)
        with pytest.raises(ValueError, match=r'cloudy\.tif has no CRS'):
            Scene(cloudy, s1)

    @pytest.mark.filterwarnings('ignore:The given matrix is equal to Affine.identity')
    def test_no_transform(self, s1: Path, tmp_path: Path) -> None:
        cloudy = write_scene(tmp_path / 'cloudy.tif', transform=Affine.identity())
        with pytest.raises(ValueError, match='no CRS or no transform'):
            Scene(cloudy, s1)

    def test_no_data(self, s1: Path, tmp_path: Path) -> None:
        image = np.zeros((4, *SHAPE), dtype=np.uint16)
        cloudy = write_scene(tmp_path / 'cloudy.tif', image)
        with pytest.raises(ValueError, match=r'cloudy\.tif has no pixel with data'):
            Scene(cloudy, s1)

    def test_no_raster(self, s1: Path, tmp_path: Path) -> None:
        cloudy = tmp_path / 'cloudy.tif'
        cloudy.write_text('no raster')
        with pytest.raises(OSError, match=r'cloudy\.tif is not a readable raster'):
            Scene(cloudy, s1)


def test_radar_in_other_zone(s1: Path) -> None:
    """That is what the tests are about."""
    with rasterio.open(s1) as dataset:
        assert dataset.crs == RADAR_CRS
        assert dataset.res == (10, 10)
    assert np.isfinite(read(s1)).all()
