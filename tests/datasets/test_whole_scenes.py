# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Whole scenes, with Sentinel-1 and land cover in other coordinate reference systems."""

import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
import torch
from numpy.typing import NDArray
from pyproj import Transformer
from rasterio.transform import Affine, from_origin
from rasterio.warp import transform_bounds
from rasterio.windows import Window
from rasters import write
from torchgeo.datasets import GeoDataset
from torchgeo.datasets.utils import Sample

from torchgeo_planetcr.datasets import (
    NativeSlice,
    PlanetCRCloudy,
    PlanetCRSentinel1,
    PlanetCRWorldCover,
    components,
)
from torchgeo_planetcr.raster.read import read_pixels
from torchgeo_planetcr.samplers import (
    CenterNativePatchSampler,
    GriddedNativePatchSampler,
    RandomNativePatchSampler,
)

HEIGHT, WIDTH = 1250, 1500
SCENE_CRS, RADAR_CRS = 'EPSG:32632', 'EPSG:32633'
XMIN, YMAX = 712002, 5340000
BOUNDS = (XMIN, YMAX - 3 * HEIGHT, XMIN + 3 * WIDTH, YMAX)
RADAR = 'image_planetcrsentinel1'

#: Where the analytic backscatter is 0, in the CRS of the radar.
EAST, NORTH = 270000, 5340000

#: Pixels of land cover in degrees, and how many of them are of one class.
DEGREE, BLOCK = 1 / 12000, 24

#: GDAL's warper may be off by an eighth of a source pixel.
WARP_ERROR = 0.125


def backscatter(
    x: NDArray[np.float64], y: NDArray[np.float64], crs: str
) -> NDArray[np.float64]:
    """VV and VH at places: linear in the coordinates of the radar, in kilometers."""
    east, north = Transformer.from_crs(crs, RADAR_CRS, always_xy=True).transform(x, y)
    return np.stack([(east - EAST) / 1000, (north - NORTH) / 1000])


def land_cover(
    x: NDArray[np.float64], y: NDArray[np.float64], crs: str
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Class at places, and the distance to the nearest border of one in pixels."""
    degrees = Transformer.from_crs(crs, 'EPSG:4326', always_xy=True)
    blocks = np.stack(degrees.transform(x, y)) / (BLOCK * DEGREE)
    distance = BLOCK * np.abs(blocks - blocks.round()).min(axis=0)
    col, row = np.floor(blocks).astype(np.intp)
    return (3 * col + 5 * row) % 11, distance


def centers(
    transform: Affine, height: int, width: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coordinates of pixel centers."""
    rows, cols = np.mgrid[:height, :width] + 0.5
    x = transform.c + transform.a * cols
    return x, transform.f + transform.e * rows


def write_radar(
    path: Path, bounds: Sequence[float], crs: str, border: int = 0, **options: Any
) -> Path:
    """Write the analytic backscatter over bounds, with a border of NaN."""
    xmin, ymin, xmax, ymax = bounds
    transform = from_origin(10 * (xmin // 10), 10 * (ymax // 10), 10, 10)
    height, width = round((ymax - ymin) // 10), round((xmax - xmin) // 10)
    array = backscatter(*centers(transform, height, width), crs).astype(np.float32)
    if border:
        inside = array[:, border:-border, border:-border].copy()
        array[:] = np.nan
        array[:, border:-border, border:-border] = inside
    return write(path, array, crs=crs, transform=transform, **options)


def write_land_cover(path: Path) -> Path:
    xmin, ymin, xmax, ymax = transform_bounds(SCENE_CRS, 'EPSG:4326', *BOUNDS)
    north, west = np.ceil(ymax / DEGREE) + 9, np.floor(xmin / DEGREE) - 9
    height = round(north - ymin / DEGREE) + 9
    width = round(xmax / DEGREE - west) + 9
    transform = from_origin(west * DEGREE, north * DEGREE, DEGREE, DEGREE)
    classes, _ = land_cover(*centers(transform, height, width), 'EPSG:4326')
    codes = np.array([code for (code,) in PlanetCRWorldCover.codes[2]], np.uint8)
    options = {'compress': 'deflate', 'tiled': True}
    array = codes[classes][np.newaxis]
    return write(path, array, crs='EPSG:4326', transform=transform, **options)


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two scenes that adjoin, one plain and one compressed, and what covers the first."""
    folder = tmp_path_factory.mktemp('scenes')
    rows, cols = np.mgrid[:HEIGHT, :WIDTH]
    bands = [1 + (7 * rows + 3 * cols + 1000 * band) % 9973 for band in range(4)]
    array = np.stack(bands).astype(np.uint16)
    options: dict[str, Any] = {'crs': SCENE_CRS, 'nodata': 0}
    transform = from_origin(XMIN, YMAX, 3, 3)
    write(folder / 'planet_cloudy_a.tif', array, transform=transform, **options)
    options |= {'tiled': True, 'compress': 'deflate', 'zlevel': 1}
    transform = from_origin(XMIN, BOUNDS[1], 3, 3)
    write(folder / 'planet_cloudy_b.tif', array[::-1], transform=transform, **options)

    xmin, ymin, xmax, ymax = transform_bounds(SCENE_CRS, RADAR_CRS, *BOUNDS)
    around = (xmin - 500, ymin - 500, xmax + 500, ymax + 500)
    write_radar(folder / 'S1_a.tif', around, RADAR_CRS, border=20)
    write_land_cover(folder / 'landcover_a.tif')
    return folder


@pytest.fixture(params=['a', 'b'], ids=['plain', 'compressed'])
def scene(folder: Path, request: pytest.FixtureRequest) -> Path:
    return folder / f'planet_cloudy_{request.param}.tif'


@pytest.fixture
def all_three(folder: Path) -> GeoDataset:
    """A scene with backscatter and land cover, of three CRSs."""
    scene = PlanetCRCloudy(folder / 'planet_cloudy_a.tif')
    return scene & PlanetCRSentinel1(folder) & PlanetCRWorldCover(folder)


def read(path: Path, sample: Sample) -> NDArray[np.float32]:
    """What rasterio reads at the place of a sample."""
    xmin, xmax, _, ymin, ymax, *_ = sample['bounds'].tolist()
    with rasterio.open(path) as src:
        window = src.window(xmin, ymin, xmax, ymax).round_offsets().round_lengths()
        return src.read(window=window).astype(np.float32)


def places(sample: Sample) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coordinates of the pixel centers of a sample."""
    transform = Affine(*sample['transform'][:6].tolist())
    return centers(transform, *sample['image'].shape[1:])


def place(row: int, col: int, height: int, width: int) -> NativeSlice:
    """Window of the first scene."""
    x, y = XMIN + 3 * col, YMAX - 3 * row
    return NativeSlice(
        slice(x, x + 3 * width), slice(y - 3 * height, y), slice(None), SCENE_CRS
    )


def check_radar(sample: Sample, tolerance: float = WARP_ERROR) -> None:
    """Compare backscatter with the analytic one, up to some pixels of 10 m."""
    expected = backscatter(*places(sample), SCENE_CRS)
    np.testing.assert_allclose(sample[RADAR], expected, rtol=0, atol=tolerance / 100)


class TestScene:
    @pytest.mark.parametrize('size', [256, (100, 333), (HEIGHT, 7)])
    def test_random(self, scene: Path, size: int | tuple[int, int]) -> None:
        dataset = PlanetCRCloudy(scene)
        sampler = RandomNativePatchSampler(dataset, size=size, length=12, generator=0)
        corners = set()
        for query in sampler:
            sample = dataset[query]
            shape = (size, size) if isinstance(size, int) else size
            assert sample['image'].shape == (4, *shape)
            assert sample['crs'] == 32632
            np.testing.assert_array_equal(sample['image'], read(scene, sample))
            assert sample['image'].all()
            corners.add(tuple(sample['bounds'][[0, 3]].tolist()))
        assert len(corners) > 9

    def test_gridded(self, scene: Path) -> None:
        """Each pixel once or, at the end of rows and columns, twice."""
        dataset = PlanetCRCloudy(scene)
        count = np.zeros((HEIGHT, WIDTH), int)
        with rasterio.open(scene) as src:
            array, top = src.read(), src.bounds.top
        for query in GriddedNativePatchSampler(dataset, size=350):
            sample = dataset[query]
            row = round((top - sample['bounds'][4].item()) / 3)
            col = round((sample['bounds'][0].item() - XMIN) / 3)
            part = slice(row, row + 350), slice(col, col + 350)
            count[part] += 1
            np.testing.assert_array_equal(sample['image'], array[:, *part])
        assert count.min() == 1
        assert (count > 1).mean() < 0.45

    def test_center(self, scene: Path) -> None:
        dataset = PlanetCRCloudy(scene)
        (query,) = CenterNativePatchSampler(dataset, size=600)
        sample = dataset[query]
        assert sample['bounds'][0] == XMIN + 3 * (WIDTH - 600) // 2
        np.testing.assert_array_equal(sample['image'], read(scene, sample))

    def test_window_over_two(self, folder: Path) -> None:
        dataset = PlanetCRCloudy(folder)
        assert len(dataset) == 2
        sample = dataset[place(HEIGHT - 30, 100, 60, 50)]
        parts = []
        for name, top in (('a', HEIGHT - 30), ('b', 0)):
            with rasterio.open(folder / f'planet_cloudy_{name}.tif') as src:
                parts.append(src.read(window=Window(100, top, 50, 30)))
        np.testing.assert_array_equal(sample['image'], np.concatenate(parts, axis=1))

    def test_memory(self, scene: Path) -> None:
        """A window costs what it holds, not what the scene does."""
        dataset = PlanetCRCloudy(scene)
        queries = list(
            RandomNativePatchSampler(dataset, size=128, length=8, generator=1)
        )
        dataset[queries[0]]
        tracemalloc.start()
        for query in queries:
            dataset[query]
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        # As it is in the file, and as it is in the sample, but for gaps between lines.
        assert 128 * 128 * 4 * (2 + 4) < peak < 6e6


class TestIntersection:
    def test_all_three(self, all_three: GeoDataset, folder: Path) -> None:
        """The scene as it is, the others at the places of its pixels."""
        queries = [
            *RandomNativePatchSampler(all_three, size=300, length=6, generator=0),
            place(0, 0, 200, 200),
            place(HEIGHT - 200, WIDTH - 200, 200, 200),
            place(617, 0, 1, WIDTH),
            place(0, 1172, HEIGHT, 1),
        ]
        for query in queries:
            sample = all_three[query]
            assert {'image', RADAR, 'mask'} <= sample.keys()
            assert sample['crs'] == 32632
            x, y = query.x, query.y
            assert sample['bounds'][[0, 1, 3, 4]].tolist() == [
                x.start,
                x.stop,
                y.start,
                y.stop,
            ]
            image = read(folder / 'planet_cloudy_a.tif', sample)
            np.testing.assert_array_equal(sample['image'], image)
            check_radar(sample)
            classes, distance = land_cover(*places(sample), SCENE_CRS)
            clear = distance > WARP_ERROR
            assert clear.mean() > 0.95
            np.testing.assert_array_equal(sample['mask'].numpy()[clear], classes[clear])
            assert len(np.unique(sample['mask'])) > 5

    def test_whole(self, all_three: GeoDataset) -> None:
        (query,) = CenterNativePatchSampler(all_three, size=None)
        assert (query.x, query.y) == place(0, 0, HEIGHT, WIDTH)[:2]
        sample = all_three[query]
        assert sample['image'].shape == (4, HEIGHT, WIDTH)
        every = slice(3, None, 50)
        expected = backscatter(*(c[every, every] for c in places(sample)), SCENE_CRS)
        found = sample[RADAR][:, every, every]
        np.testing.assert_allclose(found, expected, rtol=0, atol=WARP_ERROR / 100)

    def test_seams(self, all_three: GeoDataset) -> None:
        """Windows that adjoin show what one window of both does."""
        whole = all_three[place(350, 400, 200, 260)]
        for key in ('image', RADAR, 'mask'):
            parts = [
                all_three[place(350, 400 + col, 200, 130)][key] for col in (0, 130)
            ]
            found = torch.cat(parts, dim=-1)
            if key == 'mask':
                assert (found == whole[key]).float().mean() > 0.97
            else:
                torch.testing.assert_close(found, whole[key], rtol=0, atol=2e-3)

    def test_second_stays_as_it_is(self, folder: Path) -> None:
        scene = PlanetCRCloudy(folder / 'planet_cloudy_a.tif')
        radar = PlanetCRSentinel1(folder)
        before = pd.DataFrame(radar.index), radar.crs, radar.res
        (query,) = CenterNativePatchSampler(radar, size=50)
        expected = radar[query]
        joined = scene & radar
        joined[place(0, 0, 50, 50)]
        pd.testing.assert_frame_equal(pd.DataFrame(radar.index), before[0])
        assert (radar.crs, radar.res) == before[1:]
        assert radar.crs.to_epsg() == 32633
        assert radar.res == (10, 10)
        assert scene.res == (3, 3)
        found = radar[query]
        assert found.keys() == expected.keys()
        for key in expected:
            assert torch.equal(found[key], expected[key]), key

    def test_nan_near_the_scene(self, folder: Path) -> None:
        """Pixels without backscatter have the means of the file, and do not spread."""
        radar = PlanetCRSentinel1(folder)
        with rasterio.open(folder / 'S1_a.tif') as src:
            means = np.nanmean(src.read(), axis=(1, 2), dtype=np.float64)
        whole = radar[:]['image']
        assert whole.isfinite().all()
        gap = np.broadcast_to(means[:, None, None], whole[:, :20].shape)
        np.testing.assert_allclose(whole[:, :20], gap, rtol=1e-5)

    def test_two_zones(self, folder: Path, tmp_path: Path) -> None:
        """Radar of both zones, side by side over a scene."""
        xmin, ymin, xmax, ymax = BOUNDS
        middle = (xmin + xmax) / 2
        west = (xmin - 500, ymin - 500, middle + 300, ymax + 500)
        write_radar(tmp_path / 'S1_west.tif', west, SCENE_CRS)
        half = (middle - 300, ymin, xmax, ymax)
        xmin, ymin, xmax, ymax = transform_bounds(SCENE_CRS, RADAR_CRS, *half)
        east = (xmin, ymin - 500, xmax + 500, ymax + 500)
        write_radar(tmp_path / 'S1_east.tif', east, RADAR_CRS, compress='deflate')
        radar = PlanetCRSentinel1(tmp_path)
        assert set(radar.index['native_crs']) == {SCENE_CRS, RADAR_CRS}
        joined = PlanetCRCloudy(folder / 'planet_cloudy_a.tif') & radar
        assert len(joined) == 1
        queries = [
            *RandomNativePatchSampler(joined, size=300, length=6, generator=0),
            place(450, WIDTH // 2 - 300, 300, 600),
            place(600, 0, 20, WIDTH),
        ]
        for query in queries:
            sample = joined[query]
            # At the edge of a file its last pixel is extended by half of it.
            check_radar(sample, tolerance=0.5 * 2**0.5 + WARP_ERROR)
            expected = backscatter(*places(sample), SCENE_CRS)
            error = np.abs(sample[RADAR].numpy() - expected).max(axis=0)
            assert (error < WARP_ERROR / 100).mean() > 0.97
        assert radar.crs.to_epsg() == 6933

    def test_partly_outside(self, folder: Path, tmp_path: Path) -> None:
        xmin, ymin, xmax, ymax = transform_bounds(SCENE_CRS, RADAR_CRS, *BOUNDS)
        middle = (xmin + xmax) / 2
        path = tmp_path / 'S1_west.tif'
        write_radar(path, (xmin - 500, ymin - 500, middle, ymax + 500), RADAR_CRS)
        with rasterio.open(path) as src:
            edge = src.bounds.right
            means = src.read().mean(axis=(1, 2), dtype=np.float64)
        joined = PlanetCRCloudy(folder / 'planet_cloudy_a.tif') & PlanetCRSentinel1(
            path
        )
        sample = joined[place(550, 0, 300, WIDTH)]
        assert sample['image'].all()
        x, y = places(sample)
        expected = backscatter(x, y, SCENE_CRS)
        # Kilometers from the edge of the radar.
        beyond = expected[0] - (edge - EAST) / 1000
        inside, outside = beyond < -0.006, beyond > 0.001
        assert inside.any() and outside.any()
        found = sample[RADAR].numpy()
        np.testing.assert_allclose(
            found[:, inside], expected[:, inside], rtol=0, atol=WARP_ERROR / 100
        )
        # Nothing bright stands for what is missing
        gap = np.broadcast_to(means[:, None], found[:, outside].shape)
        np.testing.assert_allclose(found[:, outside], gap, rtol=1e-5)
        # Samplers stay where both are.
        queries = list(
            RandomNativePatchSampler(joined, size=100, length=50, generator=0)
        )
        kept = joined.index.geometry.iloc[0]
        for query in queries:
            box = shapely.box(query.x.start, query.y.start, query.x.stop, query.y.stop)
            assert kept.buffer(0.1).covers(box)
        assert 0.45 < kept.area / (9 * HEIGHT * WIDTH) < 0.55
        check_radar(joined[queries[0]], tolerance=0.5 * 2**0.5 + WARP_ERROR)
        with pytest.raises(IndexError):
            PlanetCRSentinel1(path)[place(0, 0, 10, 10)]

    @pytest.mark.parametrize('on_grid', [True, False])
    @pytest.mark.parametrize(
        ('value', 'nodata'),
        [
            (0, 0),
            (0, None),
            (-9999, -9999),
            (np.nan, np.nan),
            (-np.inf, None),
            (0, np.nan),
            (0, -9999),
            (-9999, None),
        ],
    )
    def test_gaps(
        self, tmp_path: Path, value: float, nodata: float | None, on_grid: bool
    ) -> None:
        """However a file says that it has none, and whether it has to be warped."""
        image = np.ones((4, 200, 200), np.uint16)
        scene = write(tmp_path / 'planet_cloudy_a.tif', image, nodata=0)
        size, res = (200, 3) if on_grid else (60, 10)
        values = np.broadcast_to([[[-10.0]], [[-17.0]]], (2, size, size)).copy()
        values[:, :, size // 2 :] = value
        path = write(
            tmp_path / 'S1_a.tif',
            values.astype(np.float32),
            nodata=nodata,
            transform=from_origin(500001, 2000004, res, res),
        )
        joined = PlanetCRCloudy(scene) & PlanetCRSentinel1(path)
        (query,) = CenterNativePatchSampler(joined, size=200)
        found = joined[query][RADAR]
        expected = torch.tensor([-10.0, -17.0])[:, None, None].expand(2, 200, 200)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)

    @pytest.mark.parametrize('on_grid', [True, False])
    def test_whole_numbers(self, tmp_path: Path, on_grid: bool) -> None:
        """Which cannot be NaN; the radar covers half of the scene."""
        image = np.ones((4, 200, 200), np.uint16)
        scene = write(tmp_path / 'planet_cloudy_a.tif', image, nodata=0)
        size, res = (200, 3) if on_grid else (60, 10)
        values = np.broadcast_to([[[-10]], [[-17]]], (2, size, size // 2))
        path = write(
            tmp_path / 'S1_a.tif',
            values.astype(np.int16),
            transform=from_origin(500001, 2000004, res, res),
        )
        joined = PlanetCRCloudy(scene) & PlanetCRSentinel1(path)
        found = joined[joined.datasets[0].bounds][RADAR]
        expected = torch.tensor([-10.0, -17.0])[:, None, None].expand(2, 200, 200)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)

    def test_one_gap_in_a_large_scene(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It does not read the file to its end."""
        values = np.broadcast_to([[[-10.0]], [[-17.0]]], (2, 3000, 3000))
        values = values.astype(np.float32)
        values[:, 5, 7] = np.nan
        path = write(tmp_path / 'S1_a.tif', values)
        read: list[int] = []

        def count(header: Any, row: int, col: int, height: int, *rest: Any) -> Any:
            read.append(height * rest[0])
            return read_pixels(header, row, col, height, *rest)

        monkeypatch.setattr(components, 'read_pixels', count)
        dataset = PlanetCRSentinel1(path)
        query = next(iter(GriddedNativePatchSampler(dataset, size=20)))
        found = dataset[query]['image']
        assert found[:, 5, 7].tolist() == pytest.approx([-10, -17])
        assert sum(read) <= components.MAX_PIXELS < values[0].size

    def test_elsewhere(self, folder: Path, tmp_path: Path) -> None:
        path = tmp_path / 'S1_far.tif'
        write_radar(path, (3e5, 5e6, 3e5 + 900, 5e6 + 900), RADAR_CRS)
        scene = PlanetCRCloudy(folder / 'planet_cloudy_a.tif')
        with pytest.raises(RuntimeError, match='no spatial intersection'):
            scene & PlanetCRSentinel1(path)

    def test_memory(self, all_three: GeoDataset) -> None:
        queries = list(
            RandomNativePatchSampler(all_three, size=128, length=5, generator=1)
        )
        all_three[queries[0]]
        tracemalloc.start()
        for query in queries:
            all_three[query]
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert 128 * 128 * 4 * (2 + 4) < peak < 6e6
