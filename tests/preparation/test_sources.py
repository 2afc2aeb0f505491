# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from own_scenes import (
    BEFORE,
    CODES,
    CRS,
    LANDCOVER_CORNER,
    LEFT,
    OTHER_CRS,
    RADAR_CORNER,
    TOP,
    UP,
    centers,
    make_clear,
    make_clouds,
    make_cloudy,
    make_landcover,
    make_radar,
    move,
    ramp,
    write_ramp,
    write_scenes,
    write_udm2,
)
from rasterio.transform import Affine, from_origin
from rasterio.warp import transform_bounds
from rasters import make_array, write

from torchgeo_planetcr.datasets.modalities import ModalityName
from torchgeo_planetcr.preparation.sources import PatchSources
from torchgeo_planetcr.raster.grid import Grid
from torchgeo_planetcr.scenes import RadarOptions, SceneFiles
from torchgeo_planetcr.scenes.mask import NO_MASK

#: Where Sentinel-1 is missing, patches are left out one by one.
ANY_COVERAGE = RadarOptions(min_coverage=0)

type Images = dict[ModalityName, tuple[NDArray[Any], Grid]]

GRID: dict[str, Any] = {'crs': CRS, 'transform': from_origin(LEFT, TOP, 3, 3)}


@pytest.fixture(scope='module')
def shared(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Scenes that stay as they are."""
    return write_scenes(tmp_path_factory.mktemp('scenes'))


def read(paths: dict[str, Any], row: int = 0, col: int = 0, **options: Any) -> Images:
    """Read the patch at a pixel of the cloudy scene."""
    names = {name: str(path) for name, path in paths.items()}
    files = SceneFiles(
        names['cloudy'],
        (names['s1'],),
        names.get('cloud_mask'),
        names['clear'],
        names['landcover'],
    )
    with PatchSources(files, radar=ANY_COVERAGE, **options) as sources:
        return sources.read(sources.grid.window(row, col, 300, 300))


@pytest.mark.parametrize(
    ('dtype', 'factor', 'fill'),
    [('float32', 1e-4, np.nan), ('int16', 1, -9999), ('uint16', 1, 65535)],
)
def test_other_types(
    shared: dict[str, Path], tmp_path: Path, dtype: str, factor: float, fill: float
) -> None:
    """Patches hold what those of products do, also where pixels have no data."""
    paths: dict[str, Any] = {}
    for name in ('cloudy', 'clear'):
        with rasterio.open(shared[name]) as dataset:
            image, grid = dataset.read() // 3, dataset.transform
        image[:, 40:90, 50:70] = 0
        paths[name] = write(tmp_path / f'{name}.tif', image, transform=grid)
        values = np.where((image == 0).all(axis=0), fill, image * float(factor))
        paths[f'{name}_2'] = write(
            tmp_path / f'{name}_2.tif',
            values.astype(dtype),
            transform=grid,
            nodata=fill,
        )
    expected = read(shared | {name: paths[name] for name in ('cloudy', 'clear')})
    found = read(shared | {name: paths[f'{name}_2'] for name in ('cloudy', 'clear')})
    for key in ('cloudy', 'clear'):
        array, grid = found[key]
        assert array.dtype == np.uint16
        assert (array == expected[key][0]).all()
        assert (array == 0).all(axis=0).sum() == 1000
        assert grid == expected[key][1]


class TestCopied:
    @pytest.mark.parametrize(('row', 'col'), [(0, 0), (300, 600), (340, 650), (1, 7)])
    def test_pixels(self, shared: dict[str, Path], row: int, col: int) -> None:
        images = read(shared, row, col)
        rows, cols = slice(row, row + 300), slice(col, col + 300)
        expected = make_cloudy()[[1, 3, 5, 7], rows, cols]
        assert (images['cloudy'][0] == expected).all()
        clear = make_clear()[:, UP + row :, BEFORE + col :][:, :300, :300]
        assert (images['clear'][0] == clear).all()
        assert (images['cloud_mask'][0][0] == make_clouds()[rows, cols]).all()
        fine = Grid(CRS, LEFT + 3 * col, TOP - 3 * row, 3, 3, 300, 300)
        for modality in ('cloudy', 'clear', 'cloud_mask'):
            assert images[modality][1] == fine

    @pytest.mark.parametrize(('row', 'col'), [(0, 0), (300, 600), (340, 650), (1, 7)])
    def test_coarse_pixels(self, shared: dict[str, Path], row: int, col: int) -> None:
        """The lattice of the file is kept, and what is nearest to the patch is taken."""
        images = read(shared, row, col)
        modality: ModalityName
        for modality, (left, top), values in (
            ('sentinel1', RADAR_CORNER, make_radar()),
            ('worldcover', LANDCOVER_CORNER, make_landcover()),
        ):
            array, grid = images[modality]
            first = round((LEFT + 3 * col - left) / 10)
            start = round((top - (TOP - 3 * row)) / 10)
            expected = values[:, start : start + 90, first : first + 90]
            assert (array == expected).all()
            corner = left + 10 * first, top - 10 * start
            assert grid == Grid(CRS, *corner, 10, 10, 90, 90)
            assert abs(grid.xmin - LEFT - 3 * col) <= 5
            assert abs(grid.ymax - TOP + 3 * row) <= 5

    def test_types(self, shared: dict[str, Path]) -> None:
        """Nothing is lost before it is written."""
        types = {key: str(array.dtype) for key, (array, _) in read(shared).items()}
        assert types == {
            'cloudy': 'uint16',
            'clear': 'uint16',
            'sentinel1': 'float64',
            'worldcover': 'uint8',
            'cloud_mask': 'uint8',
        }

    def test_own_bands(self, shared: dict[str, Path], tmp_path: Path) -> None:
        image = make_array(5, 300, 300, seed=2)
        path = write(tmp_path / 'five.tif', image, **GRID)
        images = read(shared | {'cloudy': path, 'clear': path}, bands=[5, 1, 4, 2])
        for modality in ('cloudy', 'clear'):
            assert (images[modality][0] == image[[4, 0, 3, 1]]).all()

    def test_named_polarizations(self, shared: dict[str, Path], tmp_path: Path) -> None:
        with rasterio.open(shared['s1']) as dataset:
            swapped, profile = dataset.read()[::-1], dataset.profile
        path = write(tmp_path / 's1.tif', swapped, transform=profile['transform'])
        with rasterio.open(path, 'r+') as dataset:
            dataset.descriptions = ('VH', 'VV')
        expected, _ = read(shared)['sentinel1']
        assert (read(shared | {'s1': path})['sentinel1'][0] == expected).all()


class TestWarped:
    @pytest.mark.parametrize('res', [10, 20])
    def test_radar_in_other_zone(
        self, shared: dict[str, Path], tmp_path: Path, res: int
    ) -> None:
        path = write_ramp(tmp_path / 's1.tif', res)
        array, grid = read(shared | {'s1': path}, 300, 600)['sentinel1']
        assert grid == Grid(CRS, 501800, 1999100, 10, 10, 90, 90)
        # A pixel differs from the next by 0.03 dB, or by 0.07 dB at 20 m
        expected = ramp(*centers(grid.transform, 90, 90))
        assert np.abs(array - expected).max() < 0.001 * res

    def test_landcover_in_degrees(
        self, shared: dict[str, Path], tmp_path: Path
    ) -> None:
        """Squares of 24 pixels of WorldCover."""
        step = 1 / 12000
        west, south, _, north = transform_bounds(
            CRS, 'EPSG:4326', LEFT, TOP - 3000, LEFT + 3000, TOP
        )
        west, north = west - 20 * step, north + 20 * step
        size = round((north - south) / step) + 40
        rows, cols = np.mgrid[:size, :size] // 24
        codes = CODES[(3 * cols + 5 * rows) % len(CODES)][np.newaxis]
        grid: dict[str, Any] = {
            'crs': 'EPSG:4326',
            'transform': from_origin(west, north, step, step),
        }
        path = write(tmp_path / 'landcover.tif', codes, **grid)
        array, found = read(shared | {'landcover': path}, 300, 300)['worldcover']
        assert found == Grid(CRS, 500900, 1999100, 10, 10, 90, 90)
        x, y = centers(found.transform, 90, 90)
        lon, lat = move(x, y, CRS, 'EPSG:4326')
        col, row = (lon - west) / step / 24, (north - lat) / step / 24
        expected = CODES[(3 * np.floor(col) + 5 * np.floor(row)).astype(int) % 11]
        # GDAL may be off by an eighth of a pixel
        inside = np.abs(np.stack([col, row]) - np.round([col, row])).min(axis=0) > 0.01
        assert inside.mean() > 0.9
        assert (array[0] == expected)[inside].all()

    @pytest.mark.parametrize(
        ('shift', 'share'), [((1.5, 0), (0.5, 0.5, 0)), ((1, 0), (1 / 3, 2 / 3, 0))]
    )
    def test_clear_between_pixels(
        self,
        shared: dict[str, Path],
        tmp_path: Path,
        shift: tuple[float, float],
        share: tuple[float, float, float],
    ) -> None:
        """A shift by a part of a pixel is not lost."""
        image = make_array(4, 400, 400, seed=3)
        corner = LEFT - 30 + shift[0], TOP + 30 + shift[1]
        transform = from_origin(*corner, 3, 3)
        path = write(tmp_path / 'clear.tif', image, crs=CRS, transform=transform)
        array, _ = read(shared | {'clear': path})['clear']
        before = image[:, 10:310, 9:309].astype(np.float64)
        after = image[:, 10:310, 10:310]
        expected = share[0] * before + share[1] * after
        assert np.abs(array - expected).max() < 1

    def test_clear_in_other_zone(self, shared: dict[str, Path], tmp_path: Path) -> None:
        """Reflectance that grows to the east and the south, in the CRS of the scene."""
        west, south, east, north = transform_bounds(
            CRS, OTHER_CRS, LEFT - 60, TOP - 1500, LEFT + 2000, TOP + 60
        )
        transform = from_origin(west, north, 3, 3)
        shape = round((north - south) / 3), round((east - west) / 3)
        x, y = move(*centers(transform, *shape), OTHER_CRS, CRS)
        values = 1000 + (x - LEFT) + 2 * (TOP - y)
        image = np.stack([values + 100 * band for band in range(4)]).astype(np.uint16)
        path = write(tmp_path / 'clear.tif', image, crs=OTHER_CRS, transform=transform)
        array, grid = read(shared | {'clear': path}, 100, 200)['clear']
        x, y = centers(grid.transform, 300, 300)
        expected = 1000 + (x - LEFT) + 2 * (TOP - y)
        for band in range(4):
            # Within a third of a pixel
            assert np.abs(array[band] - expected - 100 * band).max() < 3


class TestNoData:
    def test_other_value(self, shared: dict[str, Path], tmp_path: Path) -> None:
        """Whatever stands for no data becomes what the archive has for it."""
        image = make_cloudy()[:4]
        image[:, 50:70, 80:100] = 7
        cloudy = write(tmp_path / 'cloudy.tif', image, nodata=7, **GRID)
        radar = make_radar()
        radar[:, 60, 70] = -99
        radar[1, 61, 70] = -99
        s1 = write(
            tmp_path / 's1.tif',
            radar,
            nodata=-99,
            transform=from_origin(*RADAR_CORNER, 10, 10),
        )
        codes = make_landcover()
        codes[0, 30, 40] = 255
        landcover = write(
            tmp_path / 'landcover.tif',
            codes,
            nodata=255,
            transform=from_origin(*LANDCOVER_CORNER, 10, 10),
        )
        paths = shared | {'cloudy': cloudy, 's1': s1, 'landcover': landcover}
        images = read(paths)
        empty = np.zeros((300, 300), dtype=bool)
        empty[50:70, 80:100] = True
        assert ((images['cloudy'][0] == 0).all(axis=0) == empty).all()
        # VV without VH is of no use
        expected = np.zeros((2, 90, 90), dtype=bool)
        expected[:, 10:12, 20] = True
        assert (np.isnan(images['sentinel1'][0]) == expected).all()
        assert np.argwhere(images['worldcover'][0] == 0).tolist() == [[0, 10, 10]]

    def test_beyond_edges(self, shared: dict[str, Path], tmp_path: Path) -> None:
        """What is not there is without data, and what is there is copied."""
        paths = dict(shared)
        for name, array, corner, res in (
            ('clear', make_clear()[:, :120, :200], (LEFT - 90, TOP + 60), 3),
            ('s1', make_radar()[:, :80, :90], RADAR_CORNER, 10),
            ('landcover', make_landcover()[:, :40, :60], LANDCOVER_CORNER, 10),
        ):
            transform = from_origin(*corner, res, res)
            paths[name] = write(tmp_path / f'{name}.tif', array, transform=transform)
        clouds = make_clouds()[:110, :130]
        paths['cloud_mask'] = write_udm2(tmp_path / 'udm2.tif', clouds, **GRID)
        images, whole = read(paths), read(shared)
        modality: ModalityName
        for modality, height, width, nodata in (
            ('clear', 100, 170, 0),
            ('sentinel1', 30, 40, np.nan),
            ('worldcover', 20, 30, 0),
            ('cloud_mask', 110, 130, NO_MASK),
        ):
            array, expected = images[modality][0], whole[modality][0].astype(float)
            expected[:, height:] = nodata
            expected[:, :, width:] = nodata
            assert np.array_equal(array.astype(float), expected, equal_nan=True), (
                modality
            )

    def test_mask_without_scene(self, shared: dict[str, Path], tmp_path: Path) -> None:
        """Where the scene has no data there is no cloud, as a UDM2 is not clear there."""
        image = make_cloudy()
        image[:, 100:] = 0
        cloudy = write(tmp_path / 'cloudy.tif', image, **GRID)
        clouds = np.ones((200, 400), dtype=bool)
        mask = write_udm2(tmp_path / 'udm2.tif', clouds, **GRID)
        array, _ = read(shared | {'cloudy': cloudy, 'cloud_mask': mask})['cloud_mask']
        assert (array[0, :100] == 1).all()
        assert (array[0, 100:] == 0).all()

    def test_mask_of_one_band(self, shared: dict[str, Path], tmp_path: Path) -> None:
        clouds = make_clouds()
        path = write(tmp_path / 'mask.tif', clouds[None].astype(np.uint8), **GRID)
        array, _ = read(shared | {'cloud_mask': path})['cloud_mask']
        assert (array[0] == clouds[:300, :300]).all()


class TestRefused:
    @pytest.mark.parametrize(
        ('crs', 'transform', 'pixels'),
        [
            (CRS, from_origin(LEFT, TOP, 5, 5), '5 x 5 meter'),
            (CRS, from_origin(LEFT, TOP, 3, 3.125), '3 x 3.125 meter'),
            ('EPSG:4326', from_origin(90, 90, 3, 3), '3 x 3 degree'),
        ],
    )
    def test_resolution(
        self,
        shared: dict[str, Path],
        tmp_path: Path,
        crs: str,
        transform: Affine,
        pixels: str,
    ) -> None:
        image = make_array(4, 30, 30)
        path = write(tmp_path / 'cloudy.tif', image, crs=crs, transform=transform)
        message = rf'cloudy\.tif has pixels of {pixels} instead of 3 m .*gdalwarp'
        with pytest.raises(ValueError, match=message):
            read(shared | {'cloudy': path})

    @pytest.mark.parametrize('shape', [(299, 400), (400, 299)])
    def test_small(
        self, shared: dict[str, Path], tmp_path: Path, shape: tuple[int, int]
    ) -> None:
        path = write(tmp_path / 'cloudy.tif', make_array(4, *shape), **GRID)
        height, width = shape
        message = (
            rf'cloudy\.tif has {height} x {width} pixels, and a patch has 300 x 300'
        )
        with pytest.raises(ValueError, match=message):
            read(shared | {'cloudy': path})

    @pytest.mark.parametrize('name', ['clear', 's1', 'landcover', 'cloud_mask'])
    @pytest.mark.parametrize('crs', [CRS, 'EPSG:32610', 'EPSG:4326'])
    def test_elsewhere(
        self, shared: dict[str, Path], tmp_path: Path, name: str, crs: str
    ) -> None:
        with rasterio.open(shared[name]) as dataset:
            array = dataset.read()
        res = 1e-4 if crs == 'EPSG:4326' else 3
        corner = (20, 30) if crs == 'EPSG:4326' else (600000, 4000000)
        path = write(
            tmp_path / 'far.tif',
            array,
            crs=crs,
            transform=from_origin(*corner, res, res),
        )
        message = r'far\.tif does not (cover|overlap) .*cloudy\.tif.*: take'
        with pytest.raises(ValueError, match=message):
            read(shared | {name: path})

    @pytest.mark.parametrize(
        'name', ['cloudy', 'clear', 's1', 'landcover', 'cloud_mask']
    )
    def test_missing(self, shared: dict[str, Path], tmp_path: Path, name: str) -> None:
        with pytest.raises(OSError, match=r'none\.tif is not a readable raster'):
            read(shared | {name: tmp_path / 'none.tif'})

    @pytest.mark.parametrize(
        'name', ['cloudy', 'clear', 's1', 'landcover', 'cloud_mask']
    )
    def test_no_crs(self, shared: dict[str, Path], tmp_path: Path, name: str) -> None:
        with rasterio.open(shared[name]) as dataset:
            array, transform = dataset.read(), dataset.transform
        path = write(tmp_path / 'lost.tif', array, crs=None, transform=transform)
        with pytest.raises(ValueError, match=r'lost\.tif has no (georeference|CRS)'):
            read(shared | {name: path})

    @pytest.mark.parametrize('name', ['cloudy', 'clear'])
    def test_no_reflectance(
        self, shared: dict[str, Path], tmp_path: Path, name: str
    ) -> None:
        image = make_array(4, 700, 1000, 'uint8')
        path = write(tmp_path / 'visual.tif', image, **GRID)
        with pytest.raises(ValueError, match=r'visual\.tif is uint8 instead of uint16'):
            read(shared | {name: path})

    def test_other_unit(self, shared: dict[str, Path], tmp_path: Path) -> None:
        """What is neither dB nor power nor amplitude."""
        transform = from_origin(*RADAR_CORNER, 10, 10)
        values = 10 * make_radar() + 400
        path = write(tmp_path / 's1.tif', values, transform=transform)
        with pytest.raises(ValueError, match=r's1\.tif has medians of .*--s1_unit'):
            read(shared | {'s1': path})

    def test_other_classes(self, shared: dict[str, Path], tmp_path: Path) -> None:
        transform = from_origin(*LANDCOVER_CORNER, 10, 10)
        classes = make_landcover() // 10
        path = write(tmp_path / 'classes.tif', classes, transform=transform)
        message = (
            r'classes\.tif has the value \d, which is no class of WorldCover \(10, '
        )
        with pytest.raises(ValueError, match=message):
            read(shared | {'landcover': path})


@pytest.mark.parametrize(
    ('name', 'key'), [('clear', 'clear'), ('landcover', 'worldcover')]
)
def test_masked_by_the_file(
    shared: dict[str, Path], tmp_path: Path, name: str, key: ModalityName
) -> None:
    """What a file masks has no data in a patch, also on another grid than its own."""
    with rasterio.open(shared[name]) as dataset:
        array, transform = dataset.read(), dataset.transform
    x, _ = centers(transform, *array.shape[1:])
    # Half a patch, between its pixels
    transform = transform @ Affine.translation(0.3, 0.4)
    path = write(tmp_path / 'masked.tif', array, transform=transform)
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(path, 'r+') as dataset,
    ):
        dataset.write_mask(x > LEFT + 450)
    found = (read(shared | {name: path})[key][0] == 0).all(axis=0)
    assert found.mean() == pytest.approx(0.5, abs=0.01)
    assert found[:, :40].all() and not found[:, -40:].any()
