# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.transform import Affine, from_origin
from rasterio.warp import reproject, transform
from rasters import make_array, write
from small_scene import (
    CRS,
    LEFT,
    RADAR_CRS,
    SHAPE,
    TOP,
    expected_radar,
    make_image,
    make_mask,
    read,
    write_radar,
    write_scene,
)

from torchgeo_planetcr.datasets.modalities import MISSING_DECIBELS
from torchgeo_planetcr.scenes import RadarOptions, Scene, SceneFiles
from torchgeo_planetcr.scenes.passes import DEFAULT_RADAR


def open_scene(
    cloudy: Path,
    *s1: Path,
    bands: Sequence[int] | None = None,
    radar: RadarOptions = DEFAULT_RADAR,
    **files: str,
) -> Scene:
    """Open a scene, and images of Sentinel-1."""
    return Scene(
        SceneFiles(str(cloudy), tuple(map(str, s1)), **files), bands, radar=radar
    )


@pytest.fixture
def cloudy(tmp_path: Path) -> Path:
    return write_scene(tmp_path / 'cloudy.tif')


@pytest.fixture
def s1(tmp_path: Path) -> Path:
    return write_radar(tmp_path / 's1.tif', 200)


class TestRead:
    def test_whole(self, cloudy: Path, s1: Path) -> None:
        with open_scene(cloudy, s1) as scene:
            assert scene.grid[-2:] == SHAPE
            assert scene.survey().coverage == 1
            arrays = scene.read(scene.grid)
        dtypes = {key: array.dtype.name for key, array in arrays.items()}
        assert dtypes == {'image': 'float32', 'image_s1': 'float32', 'has_data': 'bool'}
        assert (arrays['has_data'] == make_mask(*SHAPE)).all()
        assert (arrays['image'] == make_image()).all()
        assert np.abs(arrays['image_s1'] - expected_radar(*SHAPE)).max() < 0.01

    def test_as_reproject(self, cloudy: Path, tmp_path: Path) -> None:
        """Noise, in which a shift by a part of a pixel shows."""
        s1 = write_radar(tmp_path / 's1.tif', 200)
        noise = np.random.default_rng(0).normal(-12, 3, (2, 200, 200))
        with rasterio.open(s1, 'r+') as dataset:
            dataset.write(noise.astype(np.float32))
            transform, crs = dataset.transform, dataset.crs
        expected = np.zeros((2, *SHAPE), dtype=np.float32)
        with open_scene(cloudy, s1) as scene:
            reproject(
                noise.astype(np.float32),
                expected,
                src_transform=transform,
                src_crs=crs,
                dst_transform=from_origin(LEFT, TOP, 3, 3),
                dst_crs=CRS,
                resampling=Resampling.bilinear,
                tolerance=0,
            )
            actual = scene.read(scene.grid)['image_s1']
        # GDAL may be off by an eighth of a pixel
        assert np.abs(actual - expected).max() < 0.125 * 2 * 12
        assert np.sqrt(np.mean((actual - expected) ** 2)) < 0.1

    def test_windows(self, cloudy: Path, s1: Path) -> None:
        """A window is a part of the whole."""
        with open_scene(cloudy, s1) as scene:
            whole = scene.read(scene.grid)
            for row, col, height, width in (
                (0, 0, 100, 100),
                (110, 160, 100, 100),
                (30, 70, 1, 190),
                (209, 259, 1, 1),
            ):
                rows, columns = slice(row, row + height), slice(col, col + width)
                for key, array in scene.read(
                    scene.grid.window(row, col, height, width)
                ).items():
                    part = whole[key][..., rows, columns]
                    assert array.shape == part.shape
                    assert np.allclose(array, part, rtol=0, atol=1e-4), key

    def test_same_grid(self, cloudy: Path, tmp_path: Path) -> None:
        """Nothing is interpolated where nothing has to be."""
        values = -make_array(2, *SHAPE).astype(np.float32) / 1500
        values[1] -= 5
        s1 = write_scene(tmp_path / 's1.tif', values, nodata=None)
        with open_scene(cloudy, s1) as scene:
            assert (scene.read(scene.grid)['image_s1'] == values).all()


class TestCoverage:
    @pytest.mark.parametrize(
        'options', [{}, {'nodata': np.nan}, {'nodata': -99, 'fill': -99}]
    )
    def test_holes(self, cloudy: Path, tmp_path: Path, options: dict[str, Any]) -> None:
        holes = np.zeros((200, 200), dtype=bool)
        holes[70:85, 80:100] = True
        s1 = write_radar(tmp_path / 's1.tif', 200, holes=holes, **options)
        mask = make_mask(*SHAPE)
        with open_scene(cloudy, s1, radar=RadarOptions(min_coverage=0.3)) as scene:
            actual = scene.read(scene.grid)['image_s1']
            coverage = scene.survey().coverage
        covered = np.abs(actual - expected_radar(*SHAPE)).max(axis=0) < 0.3
        expected = expected_radar(*SHAPE)
        filled = (actual == actual[:, ~covered][:, :1, None]).all(axis=0)
        assert (filled | covered).all()
        # 15 x 20 pixels of 100 m2 are 3333 pixels of 9 m2
        assert 2700 < filled.sum() < 4200
        assert coverage == pytest.approx(1 - filled[mask].mean(), abs=1e-3)
        mean = expected[:, mask & ~filled].mean(axis=1)
        assert actual[:, filled][:, 0] == pytest.approx(mean, abs=0.01)

    @pytest.mark.parametrize('nodata', [None, np.nan, -99, 0])
    def test_partly(self, cloudy: Path, tmp_path: Path, nodata: float | None) -> None:
        s1 = write_radar(tmp_path / 's1.tif', 100, nodata=nodata)
        # The first 500 m are beside the scene
        with open_scene(cloudy, s1, radar=RadarOptions(min_coverage=0.3)) as scene:
            arrays, coverage = scene.read(scene.grid), scene.survey().coverage
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
        message += r'least 90 % are required: .* min_coverage'
        with open_scene(cloudy, s1) as scene, pytest.raises(ValueError, match=message):
            scene.survey()

    def test_share_of_data(self, tmp_path: Path) -> None:
        """What counts is where the scene has data."""
        image = make_image()
        image[:, :, 130:] = 0
        cloudy = write_scene(tmp_path / 'cloudy.tif', image)
        with open_scene(cloudy, write_radar(tmp_path / 's1.tif', 120)) as scene:
            assert scene.survey().coverage == 1
            assert np.isfinite(scene.read(scene.grid)['image_s1']).all()

    def test_elsewhere(self, cloudy: Path, tmp_path: Path) -> None:
        s1 = write_radar(tmp_path / 's1.tif', 40)
        message = r's1\.tif does not cover .*cloudy\.tif at all'
        for least in (0.9, 0):
            with (
                open_scene(cloudy, s1, radar=RadarOptions(min_coverage=least)) as scene,
                pytest.raises(ValueError, match=message),
            ):
                scene.survey()

    @pytest.mark.parametrize('with_image', [True, False])
    def test_nothing_measured(
        self, cloudy: Path, tmp_path: Path, with_image: bool
    ) -> None:
        """With an image of another place or with none, networks know the value."""
        images = [write_radar(tmp_path / 's1.tif', 40)] if with_image else []
        with open_scene(cloudy, *images) as scene:
            actual = scene.read(scene.grid)['image_s1']
        assert actual.shape == (2, *SHAPE)
        assert (actual == np.array(MISSING_DECIBELS)[:, None, None]).all()

    def test_large_scene(self, tmp_path: Path) -> None:
        """The share and the mean of a large scene come from a part of its pixels."""
        image = make_image(1100, 1200)
        cloudy = write_scene(tmp_path / 'cloudy.tif', image)
        s1 = write_radar(tmp_path / 's1.tif', 300)
        with open_scene(cloudy, s1, radar=RadarOptions(min_coverage=0.3)) as scene:
            actual = scene.read(scene.grid.window(0, 0, 1100, 1200))['image_s1']
            coverage = scene.survey().coverage
        filled = (actual == actual[:, -1:, -1:]).all(axis=0)
        mask = make_mask(1100, 1200)
        assert 0.3 < coverage < 0.95
        assert coverage == pytest.approx(1 - filled[mask].mean(), abs=0.01)
        mean = expected_radar(1100, 1200)[:, mask & ~filled].mean(axis=1)
        assert actual[:, -1, -1] == pytest.approx(mean, abs=0.1)


class TestSeveralImages:
    def test_first_on_top(self, cloudy: Path, s1: Path, tmp_path: Path) -> None:
        """The second one shows in the holes of the first, and nowhere else."""
        holes = np.zeros((200, 200), dtype=bool)
        holes[70:85, 80:100] = True
        first = write_radar(tmp_path / 'first.tif', 200, holes=holes)
        second = tmp_path / 'second.tif'
        with rasterio.open(s1) as dataset:
            write(
                second, dataset.read() - 5, crs=RADAR_CRS, transform=dataset.transform
            )
        with open_scene(cloudy, first, radar=RadarOptions(min_coverage=0.3)) as scene:
            coverage = scene.survey().coverage
            top = scene.read(scene.grid)['image_s1']
        with open_scene(cloudy, second) as scene:
            below = scene.read(scene.grid)['image_s1']
        assert np.abs(below + 5 - expected_radar(*SHAPE)).max() < 0.01
        with open_scene(cloudy, first, second) as scene:
            both, share = scene.read(scene.grid)['image_s1'], scene.survey().coverage
            part = scene.read(scene.grid.window(60, 110, 70, 80))['image_s1']
        far = np.abs(top - expected_radar(*SHAPE)).max(axis=0) > 0.3
        covered = (top != top[:, far][:, :1, None]).any(axis=0)
        assert coverage < 0.95 < share == 1
        assert 2700 < (~covered).sum() < 4200
        assert (both[:, covered] == top[:, covered]).all()
        assert (both[:, ~covered] == below[:, ~covered]).all()
        assert np.abs(part - both[:, 60:130, 110:190]).max() < 1e-4
        with open_scene(cloudy, second, first) as scene:
            assert (scene.read(scene.grid)['image_s1'] == below).all()

    def test_side_by_side(self, cloudy: Path, tmp_path: Path) -> None:
        """Neither covers enough, both do."""
        grid: dict[str, Any] = {'nodata': None}
        values = np.full((2, 210, 260), -12, dtype=np.float32)
        values[1] = -20
        left, right = values[..., :140].copy(), values[..., 140:] - 1
        # Which declares nothing, and pads with 0
        left[..., 130:] = 0
        first = write_scene(tmp_path / 'left.tif', left, **grid)
        transform = from_origin(LEFT + 3 * 140, TOP, 3, 3)
        second = write_scene(tmp_path / 'right.tif', right, transform=transform, **grid)
        message = r'left\.tif covers \d\d % of .* add the image beside it'
        with (
            open_scene(cloudy, first) as scene,
            pytest.raises(ValueError, match=message),
        ):
            scene.survey()
        with open_scene(cloudy, first, second) as scene:
            coverage = scene.survey().coverage
            actual = scene.read(scene.grid)['image_s1']
        mask = make_mask(*SHAPE)
        missing = np.zeros(SHAPE, dtype=bool)
        missing[:, 130:140] = True
        assert coverage == 1 - (missing & mask).sum() / mask.sum() < 1
        assert (actual[:, :, :130] == values[:, :, :130]).all()
        assert (actual[:, :, 140:] == right).all()
        covered = mask & ~missing
        mean = np.where(np.arange(260) < 140, -12, -13)[None] * np.ones(SHAPE)
        expected = mean[covered].mean() - np.array([0, 8])
        assert actual[:, missing] == pytest.approx(
            np.repeat(expected[:, None], missing.sum(), axis=1), abs=1e-4
        )

    def test_error_names_all(self, cloudy: Path, tmp_path: Path) -> None:
        paths = [write_radar(tmp_path / f'{name}.tif', 40) for name in ('a', 'b')]
        message = r'a\.tif, .*b\.tif does not cover'
        with (
            open_scene(cloudy, *paths) as scene,
            pytest.raises(ValueError, match=message),
        ):
            scene.survey()


class TestPolarizations:
    @pytest.mark.parametrize('named', [('VH', 'VV'), ('Gamma0_VH_db', 'Gamma0_VV_db')])
    def test_by_name(
        self, cloudy: Path, s1: Path, tmp_path: Path, named: tuple[str, str]
    ) -> None:
        swapped = self.swap(s1, tmp_path / 'swapped.tif', named)
        with open_scene(cloudy, s1) as scene:
            expected = scene.read(scene.grid)['image_s1']
        with open_scene(cloudy, swapped) as scene:
            assert (scene.read(scene.grid)['image_s1'] == expected).all()

    def test_more_bands(self, cloudy: Path, s1: Path, tmp_path: Path) -> None:
        """An angle of incidence, which is neither."""
        path = tmp_path / 'three.tif'
        with rasterio.open(s1) as dataset:
            array = np.insert(dataset.read(), 0, 38, axis=0)
            options = {'crs': RADAR_CRS, 'transform': dataset.transform}
        write(path, array, **options)
        with rasterio.open(path, 'r+') as dataset:
            dataset.descriptions = ('angle', 'VV', 'VH')
        with open_scene(cloudy, path) as scene:
            actual = scene.read(scene.grid)['image_s1']
        assert np.abs(actual - expected_radar(*SHAPE)).max() < 0.01

    @pytest.mark.parametrize('named', [('VV', None), ('VV', 'VV'), ('HH', 'HV')])
    def test_wrong_names(
        self, cloudy: Path, s1: Path, tmp_path: Path, named: Any
    ) -> None:
        path = self.swap(s1, tmp_path / 'named.tif', named)
        with pytest.raises(ValueError, match=r'named\.tif has bands called .* one VH'):
            open_scene(cloudy, path)

    @pytest.mark.parametrize('nodata', [None, -9999])
    def test_missing_beside_third_band(
        self, cloudy: Path, tmp_path: Path, nodata: float | None
    ) -> None:
        """The angle of incidence goes on where there is no backscatter."""
        holes = np.zeros((400, 400), dtype=bool)
        holes[:, 70:] = True
        s1 = write_radar(tmp_path / 's1.tif', holes=holes, fill=nodata or 0)
        with rasterio.open(s1) as dataset:
            array = np.append(dataset.read(), np.full((1, 400, 400), 38), axis=0)
            options = {'crs': dataset.crs, 'transform': dataset.transform}
        write(s1, array.astype(np.float32), nodata=nodata, **options)
        with open_scene(cloudy, s1, radar=RadarOptions(min_coverage=0.1)) as scene:
            actual = scene.read(scene.grid)['image_s1']
            coverage = scene.survey().coverage
        assert 0.1 < coverage < 0.5
        error = np.abs(actual - expected_radar(*SHAPE)).max(axis=0)
        assert error[:, :50].max() < 0.3
        assert (actual[:, :, -20:] == actual[:, :1, -1:]).all()

    @pytest.mark.parametrize('named', [None, ('b1', 'b2')])
    def test_swapped(self, cloudy: Path, s1: Path, tmp_path: Path, named: Any) -> None:
        swapped = self.swap(s1, tmp_path / 'swapped.tif', named)
        message = r'swapped\.tif has a mean of -18 dB in VV, below .* put VV first'
        with (
            open_scene(cloudy, swapped) as scene,
            pytest.raises(ValueError, match=message),
        ):
            scene.survey()

    def swap(self, s1: Path, path: Path, named: Any) -> Path:
        """Write VH before VV."""
        with rasterio.open(s1) as dataset:
            array, transform = dataset.read()[::-1], dataset.transform
        write(path, array, crs=RADAR_CRS, transform=transform)
        if named:
            with rasterio.open(path, 'r+') as dataset:
                dataset.descriptions = named
        return path


class TestHasData:
    def test_windows(self, cloudy: Path, s1: Path) -> None:
        mask = make_mask(*SHAPE)
        seen = set()
        with open_scene(cloudy, s1) as scene:
            for row in range(0, 210, 7):
                for col in range(0, 260, 13):
                    expected = mask[row : row + 7, col : col + 13].any()
                    assert (
                        scene.has_data(scene.grid.window(row, col, 7, 13)) == expected
                    )
                    seen.add(bool(expected))
        assert seen == {True, False}

    def test_single_pixel(self, tmp_path: Path) -> None:
        """One that the overview of a large scene has not seen."""
        image = np.zeros((4, 1600, 1700), dtype=np.uint16)
        image[:, :200, :200] = 3000
        # An overview takes one of three pixels in each direction
        lonely = [(1000 + i, 1000 + j) for i in range(3) for j in range(3)]
        found = []
        for row, col in lonely:
            image[:, 1000:1003, 1000:1003] = 0
            image[2, row, col] = 1
            cloudy = write_scene(tmp_path / 'cloudy.tif', image, compress='deflate')
            with open_scene(cloudy, write_radar(tmp_path / 's1.tif', 200)) as scene:
                assert scene.has_data(scene.grid.window(990, 990, 32, 32))
                assert not scene.has_data(scene.grid.window(1003, 990, 32, 32))
                window = scene.grid.window(990, 990, 32, 32)
                found.append(scene.survey().may_have_data(window))
        assert sum(found) == 1

    def test_other_nodata(self, s1: Path, tmp_path: Path) -> None:
        image = make_image(60, 80, nodata=7)
        cloudy = write_scene(tmp_path / 'cloudy.tif', image, nodata=7)
        mask = make_mask(60, 80)
        with open_scene(cloudy, s1) as scene:
            for row in range(60):
                assert (
                    scene.has_data(scene.grid.window(row, 5, 1, 8))
                    == mask[row, 5:13].any()
                )


class TestRadarError:
    def test_one_band(self, cloudy: Path, tmp_path: Path) -> None:
        s1 = write_scene(tmp_path / 's1.tif', make_array(1, *SHAPE))
        with pytest.raises(
            ValueError, match=r's1\.tif has 1 band instead of VV and VH'
        ):
            open_scene(cloudy, s1)

    def test_no_crs(self, cloudy: Path, tmp_path: Path) -> None:
        s1 = write_radar(tmp_path / 's1.tif', crs=None)
        with pytest.raises(ValueError, match=r's1\.tif has no georeference'):
            open_scene(cloudy, s1)

    def test_missing(self, cloudy: Path, tmp_path: Path) -> None:
        with pytest.raises(OSError, match=r's1\.tif is not a readable raster'):
            open_scene(cloudy, tmp_path / 's1.tif')


class TestBands:
    def test_red_first(self, s1: Path, tmp_path: Path) -> None:
        """A file that says so is not read as blue, green, red and near infrared."""
        cloudy = write_scene(tmp_path / 'cloudy.tif', photometric='RGB')
        with pytest.raises(ValueError, match=r'cloudy\.tif says that .* with bands'):
            open_scene(cloudy, s1)
        image = make_image()[[2, 1, 0, 3]]
        assert (self.read(cloudy, s1, bands=[3, 2, 1, 4]) == image).all()

    def read(self, cloudy: Path, s1: Path, **options: Any) -> NDArray[np.float32]:
        with open_scene(cloudy, s1, **options) as scene:
            return scene.read(scene.grid)['image']

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
        """Names that do not say which band it is are not taken for the usual order."""
        image = make_image(count=4)
        cloudy = write_scene(tmp_path / 'cloudy.tif', image)
        with rasterio.open(cloudy, 'r+') as dataset:
            dataset.descriptions = ('nir', 'b2', 'b3', 'b4')
        with pytest.raises(ValueError, match=r'cloudy\.tif has bands called nir, b2'):
            open_scene(cloudy, s1)
        assert (self.read(cloudy, s1, bands=[1, 2, 3, 4]) == image).all()

    @pytest.mark.parametrize('count', [3, 5])
    def test_unknown(self, s1: Path, tmp_path: Path, count: int) -> None:
        cloudy = write_scene(tmp_path / 'cloudy.tif', make_image(count=count))
        with pytest.raises(ValueError, match=f'cloudy.tif has {count} bands without'):
            open_scene(cloudy, s1)

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
            open_scene(cloudy, s1, bands=bands)


class TestSceneError:
    @pytest.mark.parametrize('dtype', ['complex64', 'uint8'])
    def test_dtype(self, s1: Path, tmp_path: Path, dtype: str) -> None:
        cloudy = write_scene(tmp_path / 'cloudy.tif', make_array(4, 60, 80, dtype))
        with pytest.raises(ValueError, match=f'is {dtype} instead of uint16.* --scale'):
            open_scene(cloudy, s1)

    def test_no_crs(self, s1: Path, tmp_path: Path) -> None:
        cloudy = write_scene(tmp_path / 'cloudy.tif', crs=None)
        with pytest.raises(ValueError, match=r'cloudy\.tif has no georeference'):
            open_scene(cloudy, s1)

    @pytest.mark.filterwarnings('ignore:The given matrix is equal to Affine.identity')
    def test_no_transform(self, s1: Path, tmp_path: Path) -> None:
        cloudy = write_scene(tmp_path / 'cloudy.tif', transform=Affine.identity())
        with pytest.raises(ValueError, match='no georeference'):
            open_scene(cloudy, s1)

    def test_no_data(self, s1: Path, tmp_path: Path) -> None:
        image = np.zeros((4, *SHAPE), dtype=np.uint16)
        cloudy = write_scene(tmp_path / 'cloudy.tif', image)
        with (
            open_scene(cloudy, s1) as scene,
            pytest.raises(ValueError, match=r'cloudy\.tif has no pixel with data'),
        ):
            scene.survey()

    def test_no_raster(self, s1: Path, tmp_path: Path) -> None:
        cloudy = tmp_path / 'cloudy.tif'
        cloudy.write_text('no raster')
        with pytest.raises(OSError, match=r'cloudy\.tif is not a readable raster'):
            open_scene(cloudy, s1)


class TestPixelSize:
    """The size on the ground counts, not that in the units of the CRS."""

    def remarks(self, folder: Path, crs: str, res: float, lat: float) -> list[str]:
        """What is said of a scene with pixels of a size at a latitude."""
        x, y = transform('EPSG:4326', crs, [15], [lat])[:2]
        grid: dict[str, Any] = {'crs': crs}
        ones = np.ones((4, 60, 80), np.uint16)
        corner = from_origin(x[0] - 40 * res, y[0] + 30 * res, res, res)
        path = write(folder / 'scene.tif', 1000 * ones, transform=corner, **grid)
        # Sentinel-1 of twice the size
        corner = from_origin(x[0] - 80 * res, y[0] + 60 * res, 4 * res, 4 * res)
        values = np.full((2, 40, 40), -12, np.float32)
        values[1] -= 7
        s1 = write(folder / 's1.tif', values, transform=corner, **grid)
        with (
            warnings.catch_warnings(record=True) as caught,
            open_scene(path, s1) as scene,
        ):
            warnings.simplefilter('always')
            scene.survey()
        return [str(w.message) for w in caught if 'pixels of' in str(w.message)]

    @pytest.mark.parametrize(
        ('crs', 'res', 'lat', 'size'),
        [
            ('EPSG:32633', 10, 48, '10'),
            ('EPSG:32633', 0.5, 48, '0.5'),
            ('EPSG:32633', 5, 48, '5'),
            # A quad of a basemap, whose pixels have 4.77 m at the equator
            ('EPSG:3857', 4.777314, 0, '4.8'),
            ('EPSG:3857', 4.777314, 60, '2.4'),
            ('EPSG:3857', 3, 60, '1.5'),
            ('EPSG:4326', 1e-4, 0, '11'),
            ('EPSG:4326', 3 / 111320, 60, '1.5 x 3'),
        ],
    )
    def test_far(
        self, tmp_path: Path, crs: str, res: float, lat: float, size: str
    ) -> None:
        """https://community.planet.com/education-research-84/have-quarterly-basemaps-changed-size-over-the-years-6011"""
        (remark,) = self.remarks(tmp_path, crs, res, lat)
        assert f'scene.tif has pixels of {size} m on the ground' in remark
        assert 'with 3 m' in remark

    @pytest.mark.parametrize(
        ('crs', 'res', 'lat'),
        [
            ('EPSG:32633', 3, 48),
            # Tiles, and what the satellites see
            ('EPSG:32633', 3.125, 48),
            ('EPSG:32633', 3.7, 48),
            ('EPSG:32633', 4.1, 48),
            ('EPSG:3857', 4.777314, 47),
            ('EPSG:3857', 6, 60),
            ('EPSG:4326', 3 / 111320, 0),
            # Feet of the United States
            ('EPSG:2263', 9.8425, 40.7),
        ],
    )
    def test_near(self, tmp_path: Path, crs: str, res: float, lat: float) -> None:
        assert not self.remarks(tmp_path, crs, res, lat)


def test_radar_in_other_zone(s1: Path) -> None:
    """That is what the tests are about."""
    with rasterio.open(s1) as dataset:
        assert dataset.crs == RADAR_CRS
        assert dataset.res == (10, 10)
    assert np.isfinite(read(s1)).all()
