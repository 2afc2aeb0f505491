# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio.transform import from_origin
from rasterio.warp import transform
from rasters import write
from small_scene import LEFT, RADAR_CRS, SHAPE, TOP, make_image, make_mask, write_scene

from torchgeo_planetcr.datasets import PlanetCRCloudMask
from torchgeo_planetcr.scenes import AssumptionWarning, CloudMask, Layer
from torchgeo_planetcr.scenes.mask import RADIUS


def make_clouds(height: int = 210, width: int = 260) -> NDArray[np.bool_]:
    """Clouds of many sizes, one pixel and one at the edge among them."""
    clouds = np.zeros((height, width), dtype=bool)
    clouds[40:70, 30:80] = True
    clouds[100, 150] = True
    clouds[110:140, 200:] = True
    clouds[-3:, 60:90] = True
    y, x = np.mgrid[:height, :width]
    clouds |= (y - 150) ** 2 + (x - 120) ** 2 < 15**2
    return clouds


def write_mask(path: Path, clouds: NDArray[np.bool_], **options: Any) -> Path:
    """Write a mask, 1 cloud and 0 clear."""
    options = {'nodata': None, 'transform': from_origin(LEFT, TOP, 3, 3)} | options
    return write(path, clouds[None].astype(np.uint8), **options)


def write_udm2(path: Path, clouds: NDArray[np.bool_], **options: Any) -> Path:
    """Write a usable data mask: clear, snow, shadow, haze, haze, cloud, and so on."""
    # Each pixel has one class: clear or snow, or a kind of cloud or none
    rng = np.random.default_rng(0)
    kind = np.where(clouds, rng.integers(2, 7, clouds.shape), 0)
    kind[~clouds] = rng.integers(0, 2, (~clouds).sum())
    bands = (kind == np.arange(8)[:, None, None]).astype(np.uint8)
    # Confidence in percent, and flags
    bands[6:] = 77
    options = {'nodata': None, 'transform': from_origin(LEFT, TOP, 3, 3)} | options
    return write(path, bands, **options)


def expected_weight(clouds: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Share of the pixels around each that are near a cloud, of those in the scene."""
    grown = clouds.copy()
    height, width = clouds.shape
    for y, x in np.argwhere(clouds):
        grown[
            max(y - RADIUS, 0) : y + RADIUS + 1, max(x - RADIUS, 0) : x + RADIUS + 1
        ] = True
    total = np.pad(grown, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    top, bottom = edges(height)
    left, right = edges(width)
    count = (bottom - top)[:, None] * (right - left)
    corners = [
        total[np.ix_(rows, columns)]
        for rows, columns in (
            (bottom, right),
            (top, right),
            (bottom, left),
            (top, left),
        )
    ]
    return (corners[0] - corners[1] - corners[2] + corners[3]) / count


def edges(size: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """First and last pixel, exclusive, of a neighborhood."""
    pixels = np.arange(size)
    return (pixels - RADIUS).clip(0), (pixels + RADIUS + 1).clip(max=size)


def distance(clouds: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Rows or columns to the nearest cloud."""
    result = np.full(clouds.shape, np.inf)
    y, x = np.mgrid[: clouds.shape[0], : clouds.shape[1]]
    for row, col in np.argwhere(clouds):
        steps = np.maximum(abs(y - row), abs(x - col))
        result = np.minimum(result, steps)
    return result


@pytest.fixture(scope='module')
def cloudy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scene with data everywhere."""
    image = make_image().clip(1)
    return write_scene(tmp_path_factory.mktemp('scene') / 'cloudy.tif', image)


def read_weight(
    mask: Path, scene: Path, rows: tuple[int, ...] = (), columns: tuple[int, ...] = ()
) -> NDArray[np.float32]:
    """The weight of the whole scene, read in parts that start at some of its pixels."""
    with Layer(scene) as layer, CloudMask(mask, layer) as opened:
        grid = layer.grid
        height, width = grid.height, grid.width
        lines = [
            [
                opened.weight(grid.window(top, left, bottom - top, right - left))
                for left, right in pairwise([0, *columns, width])
            ]
            for top, bottom in pairwise([0, *rows, height])
        ]
    return np.block(lines)


class TestWeight:
    @pytest.mark.parametrize('kind', [write_mask, write_udm2])
    def test_edge_of_data(self, tmp_path: Path, kind: Any) -> None:
        """Cloud that a mask has where the scene ends does not fade into the scene."""
        inside = make_mask(210, 260)
        cloudy = write_scene(tmp_path / 'cloudy.tif')
        actual = read_weight(kind(tmp_path / 'mask.tif', ~inside), cloudy)
        assert (actual == 0).all()

    @pytest.mark.parametrize('kind', [write_mask, write_udm2])
    def test_values(self, cloudy: Path, tmp_path: Path, kind: Any) -> None:
        clouds = make_clouds()
        actual = read_weight(kind(tmp_path / 'mask.tif', clouds), cloudy)
        assert actual.dtype == np.float32
        assert np.abs(actual - expected_weight(clouds)).max() < 1e-5
        far = distance(clouds) > 2 * RADIUS
        assert (actual[clouds] == 1).all()
        assert (actual[far] == 0).all()
        between = actual[~clouds & ~far]
        assert ((between > 0) & (between <= 1)).all()
        # It falls step by step from the edge of a cloud, never by much
        falling = actual[10:40, 55][::-1]
        assert (np.diff(falling)[: 2 * RADIUS] < 0).all()
        assert (falling[2 * RADIUS :] == 0).all()
        for axis in (0, 1):
            assert np.abs(np.diff(actual, axis=axis)).max() < 0.1

    @pytest.mark.parametrize('columns', [(), (128,), (1, 60, 99, 259)])
    @pytest.mark.parametrize('rows', [(1, 2), (64, 128, 192), (5, 25, 105, 209)])
    def test_parts(
        self,
        cloudy: Path,
        tmp_path: Path,
        rows: tuple[int, ...],
        columns: tuple[int, ...],
    ) -> None:
        """The window that is read at a time makes no difference."""
        mask = write_mask(tmp_path / 'mask.tif', make_clouds())
        actual = read_weight(mask, cloudy, rows, columns)
        assert np.abs(actual - read_weight(mask, cloudy)).max() < 1e-6
        assert (actual[make_clouds()] == 1).all()
        assert (actual[distance(make_clouds()) > 2 * RADIUS] == 0).all()

    @pytest.mark.parametrize('cloudy_all', [True, False])
    def test_all(self, cloudy: Path, tmp_path: Path, cloudy_all: bool) -> None:
        mask = write_mask(tmp_path / 'mask.tif', np.full(SHAPE, cloudy_all))
        assert (read_weight(mask, cloudy) == cloudy_all).all()

    @pytest.mark.parametrize('nodata', [0, 1, 255, 77])
    @pytest.mark.parametrize('kind', [write_mask, write_udm2])
    def test_declared_nodata(
        self, cloudy: Path, tmp_path: Path, kind: Any, nodata: int
    ) -> None:
        """A value of the mask is one, whatever is declared."""
        clouds = make_clouds()
        mask = kind(tmp_path / 'mask.tif', clouds, nodata=nodata)
        expected = read_weight(kind(tmp_path / 'plain.tif', clouds), cloudy)
        assert (read_weight(mask, cloudy) == expected).all()


class TestOtherGrids:
    def test_resolution(self, cloudy: Path, tmp_path: Path) -> None:
        """A coarser one, whose pixels are squares of those of the scene."""
        coarse = np.random.default_rng(0).random((21, 26)) < 0.03
        clouds = coarse.repeat(10, axis=0).repeat(10, axis=1)
        grid: dict[str, Any] = {'transform': from_origin(LEFT, TOP, 30, 30)}
        actual = read_weight(write_mask(tmp_path / 'mask.tif', coarse, **grid), cloudy)
        expected = read_weight(write_mask(tmp_path / 'fine.tif', clouds), cloudy)
        assert 0 < clouds.mean() < 0.2
        assert (actual == expected).all()

    @pytest.mark.parametrize('kind', [write_mask, write_udm2])
    def test_crs(self, cloudy: Path, tmp_path: Path, kind: Any) -> None:
        """In another zone, nearest pixels, to one pixel of 10 m."""
        (x,), (y,) = transform('EPSG:32646', RADAR_CRS, [LEFT], [TOP])[:2]
        left, top = round(x, -1) - 500, round(y, -1) + 500
        size = 200
        xs, ys = np.meshgrid(
            left + 10 * (np.arange(size) + 0.5), top - 10 * (np.arange(size) + 0.5)
        )
        places = transform(RADAR_CRS, 'EPSG:32646', xs.ravel(), ys.ravel())[:2]
        x, y = (np.reshape(place, (size, size)) for place in places)
        clouds = (x - LEFT - 300) ** 2 + (y - TOP + 300) ** 2 < 120**2
        grid = {'crs': RADAR_CRS, 'transform': from_origin(left, top, 10, 10)}
        actual = read_weight(kind(tmp_path / 'mask.tif', clouds, **grid), cloudy)
        y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
        radius = 3 * np.hypot(y + 0.5 - 100, x + 0.5 - 100)
        assert (actual[radius < 120 - 15] == 1).all()
        assert (actual[radius > 120 + 15 + 3 * 2 * RADIUS * np.sqrt(2)] == 0).all()
        assert ((actual > 0) & (actual < 1)).sum() > 1000

    @pytest.mark.parametrize('kind', [write_mask, write_udm2])
    def test_outside(self, cloudy: Path, tmp_path: Path, kind: Any) -> None:
        """Where there is no mask, nobody knows that it is clear."""
        clouds = np.zeros((210, 130), dtype=bool)
        actual = read_weight(kind(tmp_path / 'mask.tif', clouds), cloudy)
        assert (actual[:, 130:] == 1).all()
        assert (actual[:, : 130 - 2 * RADIUS] == 0).all()
        between = actual[100, 130 - 2 * RADIUS : 130]
        assert (np.diff(between) > 0).all()

    @pytest.mark.parametrize(
        ('dtype', 'value', 'nodata'),
        [
            ('uint8', 255, 255),
            ('uint8', 3, 3),
            ('int16', -9999, -9999),
            ('float32', -9999, -9999),
        ],
    )
    def test_padding(
        self, cloudy: Path, tmp_path: Path, dtype: str, value: int, nodata: int | None
    ) -> None:
        """What a file declares to be no mask is none."""
        values = np.zeros((1, *SHAPE), dtype=dtype)
        values[0, :, 130:] = value
        grid: dict[str, Any] = {'transform': from_origin(LEFT, TOP, 3, 3)}
        mask = write(tmp_path / 'mask.tif', values, nodata=nodata, **grid)
        actual = read_weight(mask, cloudy)
        assert (actual[:, 130:] == 1).all()
        assert (actual[:, : 130 - 2 * RADIUS] == 0).all()

    @pytest.mark.parametrize('resolution', [3, 4])
    def test_bytes(self, cloudy: Path, tmp_path: Path, resolution: float) -> None:
        """255 is cloud if nothing is 1, also in another resolution, and none beside a 1."""
        clouds = np.zeros((1, *SHAPE), np.uint8)
        clouds[:, :100] = 255
        grid: dict[str, Any] = {
            'transform': from_origin(LEFT, TOP, resolution, resolution)
        }
        mask = write(tmp_path / 'mask.tif', clouds, **grid)
        ones = write(tmp_path / 'ones.tif', clouds // 255, **grid)
        message = r'mask\.tif .* 255 is taken for cloud'
        with (
            Layer(cloudy) as scene,
            CloudMask(mask, scene) as found,
            CloudMask(ones, scene) as expected,
        ):
            with pytest.warns(AssumptionWarning, match=message):
                actual = found.read_cloud(scene.grid)
            assert (actual == expected.read_cloud(scene.grid)).all()
            assert {*np.unique(actual)} <= {0, 1, 255}
            found.check(make_mask(*SHAPE), 0.5)
        clouds[:, :100, :50] = 1
        both = write(tmp_path / 'both.tif', clouds, **grid)
        with Layer(cloudy) as scene, CloudMask(both, scene) as opened:
            cloud = opened.read_cloud(scene.grid)
        assert (cloud[:90, 80:][make_mask(*SHAPE)[:90, 80:]] == 255).all()


class TestClasses:
    """Which bands of a mask are cloud."""

    @pytest.mark.parametrize('order', [range(8), (5, 7, 3, 0, 6, 1, 2, 4)])
    @pytest.mark.parametrize(
        'names',
        [
            None,
            [
                'clear',
                'snow',
                'shadow',
                'haze_light',
                'haze_heavy',
                'cloud',
                'confidence',
                'udm1',
            ],
            [
                'Clear',
                'Snow',
                'Shadow',
                'Light Haze',
                'Heavy Haze',
                'Cloud',
                'Confidence',
                '-',
            ],
        ],
    )
    def test_udm2(
        self, cloudy: Path, tmp_path: Path, names: list[str] | None, order: Any
    ) -> None:
        """Snow is no cloud; shadow, haze and what has no class are."""
        if names is None:
            order = range(8)
        bands = np.zeros((8, *SHAPE), np.uint8)
        for band in range(7):
            bands[band, :, 30 * band : 30 * band + 30] = 1
        bands[6] = 95
        grid: dict[str, Any] = {'transform': from_origin(LEFT, TOP, 3, 3)}
        mask = write(tmp_path / 'mask.tif', bands[list(order)], **grid)
        if names is not None:
            with rasterio.open(mask, 'r+') as dataset:
                dataset.descriptions = [names[band] for band in order]
        with Layer(cloudy) as scene, CloudMask(mask, scene) as opened:
            values = opened.read_cloud(scene.grid)
        assert (values[:, :60] == 0).all()
        assert (values[:, 60:] == 1).all()
        # Without a scene, a pixel of no class is one without data
        whole = PlanetCRCloudMask(mask)[:]['mask'].numpy()
        assert (whole[:, :180] == values[:, :180]).all()
        assert (whole[:, 180:] == 0).all()
        assert PlanetCRCloudMask.read_cloud_cover(
            PlanetCRCloudMask(mask).headers[0]
        ) == pytest.approx(120 / SHAPE[1])

    @pytest.mark.parametrize(('name', 'value'), [('clear', 0), ('cloud', 1)])
    def test_one_band_of_udm2(
        self, cloudy: Path, tmp_path: Path, name: str, value: int
    ) -> None:
        mask = write_mask(tmp_path / 'mask.tif', np.zeros(SHAPE, dtype=bool))
        with rasterio.open(mask, 'r+') as dataset:
            dataset.write(np.full(SHAPE, value, np.uint8), 1)
            dataset.descriptions = [name]
        with Layer(cloudy) as scene, CloudMask(mask, scene) as opened:
            assert (opened.read_cloud(scene.grid) == 1).all()
        assert (PlanetCRCloudMask(mask)[:]['mask'] == 1).all()

    @pytest.mark.parametrize(
        'name', ['x_3B_AnalyticMS_DN_udm.tif', 'composite_UDM.tif']
    )
    def test_old_udm(self, cloudy: Path, tmp_path: Path, name: str) -> None:
        """Its values are bits, as Planet's specification of imagery says.

        See https://eoreader.readthedocs.io/en/v0.18.0/api/eoreader.products.optical.planet_product.PlanetMaskType.html
        for what it says: bit 0 is blackfill, bit 1 cloud, and bits 2 to 6 missing or suspect
        data of a band.
        """
        codes = {0: 0, 1: 255, 2: 1, 3: 255, 4: 1, 6: 1, 64: 1, 127: 255}
        values = np.repeat(list(codes), 40).astype(np.uint8)[:, None]
        values = np.broadcast_to(values, (1, 320, 400))
        grid: dict[str, Any] = {'transform': from_origin(LEFT, TOP, 3, 3)}
        mask = write(tmp_path / name, values, **grid)
        expected = np.repeat(list(codes.values()), 40)[: SHAPE[0]]
        with (
            pytest.warns(AssumptionWarning, match=name),
            Layer(cloudy) as scene,
            CloudMask(mask, scene) as opened,
        ):
            cloud = opened.read_cloud(scene.grid)
        assert (cloud == expected[:, None]).all()

    def test_udm2_with_name_of_old_one(self, cloudy: Path, tmp_path: Path) -> None:
        """That of a composite may be called so; its bands tell."""
        clouds = make_clouds()
        mask = write_udm2(tmp_path / 'composite_udm.tif', clouds)
        with Layer(cloudy) as scene, CloudMask(mask, scene) as opened:
            assert (opened.read_cloud(scene.grid) == clouds).all()

    def test_unknown_names(self, cloudy: Path, tmp_path: Path) -> None:
        """Bands of a scene are no mask, whatever their number."""
        scene = write_scene(tmp_path / 'eight.tif', make_image(count=8))
        with rasterio.open(scene, 'r+') as dataset:
            dataset.descriptions = list('abcdefgh')
        with (
            Layer(cloudy) as layer,
            pytest.raises(ValueError, match=r'eight\.tif has 8 bands, called a, b'),
        ):
            CloudMask(scene, layer)
        with pytest.raises(OSError, match=r'eight\.tif has 8 bands, called a, b'):
            PlanetCRCloudMask(scene, strict=True)


@pytest.mark.parametrize('kind', [write_mask, write_udm2])
def test_coverage(cloudy: Path, tmp_path: Path, kind: Any) -> None:
    """A mask of the neighbor is refused, with the share that it covers."""
    mask = kind(tmp_path / 'mask.tif', np.zeros((210, 130), dtype=bool))
    message = r'mask\.tif covers 50 % of .*cloudy\.tif, and at least 90 % are required'
    with Layer(cloudy) as scene, CloudMask(mask, scene) as opened:
        has_data = scene.find_data(scene.read_small())
        opened.check(has_data, 0.4)
        with pytest.raises(ValueError, match=message):
            opened.check(has_data, 0.9)


class TestErrors:
    @pytest.mark.parametrize('value', [2, 100, 254])
    def test_value(self, cloudy: Path, tmp_path: Path, value: int) -> None:
        values = np.zeros((1, *SHAPE), dtype=np.uint8)
        values[0, 150, 200] = value
        grid: dict[str, Any] = {'transform': from_origin(LEFT, TOP, 3, 3)}
        mask = write(tmp_path / 'mask.tif', values, **grid)
        message = r'mask\.tif has values other than 0 and 1: take a UDM2 file'
        with Layer(cloudy) as scene, CloudMask(mask, scene) as opened:
            assert (opened.weight(scene.grid.window(0, 0, 100, 260)) == 0).all()
            with pytest.raises(ValueError, match=message):
                opened.weight(scene.grid.window(100, 0, 100, 260))

    def test_scene_for_a_mask(self, cloudy: Path, tmp_path: Path) -> None:
        """A scene of eight bands is no UDM2."""
        mask = write_scene(tmp_path / 'eight.tif', make_image(count=8))
        message = r'eight\.tif has values other than 0 and 1'
        with (
            Layer(cloudy) as scene,
            CloudMask(mask, scene) as opened,
            pytest.raises(ValueError, match=message),
        ):
            opened.weight(scene.grid.window(0, 0, 100, 260))

    @pytest.mark.parametrize('count', [2, 4, 9])
    def test_bands(self, cloudy: Path, tmp_path: Path, count: int) -> None:
        grid: dict[str, Any] = {'transform': from_origin(LEFT, TOP, 3, 3)}
        mask = write(tmp_path / 'mask.tif', np.zeros((count, 9, 9), np.uint8), **grid)
        message = rf'mask\.tif has {count} bands, called -, .*: take a UDM2 file of 8 bands, or'
        with Layer(cloudy) as scene, pytest.raises(ValueError, match=message):
            CloudMask(mask, scene)

    def test_no_raster(self, cloudy: Path, tmp_path: Path) -> None:
        plain = write_mask(tmp_path / 'mask.tif', make_clouds(), crs=None)
        with Layer(cloudy) as scene:
            with pytest.raises(ValueError, match=r'mask\.tif has no georeference'):
                CloudMask(plain, scene)
            with pytest.raises(OSError, match=r'none\.tif is not a readable raster'):
                CloudMask(tmp_path / 'none.tif', scene)
