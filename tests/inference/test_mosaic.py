# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from geopandas import GeoDataFrame
from numpy.typing import NDArray
from rasterio.transform import from_origin
from rasters import write
from rio_cogeo.cogeo import cog_validate
from shapely import Point
from small_scene import LEFT, TOP, names
from systems import full_disk

from torchgeo_planetcr import PlanetCR
from torchgeo_planetcr.inference import mosaic_areas

#: Area, zone, and first row and column of each patch.
PATCHES = {
    'one_p_1': ('one', 'EPSG:32646', 0, 0),
    'one_p_2': ('one', 'EPSG:32646', 30, 50),
    'one_p_3': ('one', 'EPSG:32646', 30, 90),
    'two_p_1': ('two', 'EPSG:32646', 0, 0),
    'two_p_2': ('two', 'EPSG:32647', 0, 0),
    'two_p_3': ('two', 'EPSG:32647', 0, 40),
}


@pytest.fixture
def index() -> GeoDataFrame:
    """Patches of two areas, one of them in two zones."""
    rows = [
        {'patch': name, 'aoi': area, 'native_crs': crs}
        for name, (area, crs, *_) in PATCHES.items()
    ]
    return GeoDataFrame(rows, geometry=[Point()] * len(rows), crs='EPSG:6933')


@pytest.fixture
def images(tmp_path: Path) -> dict[str, NDArray[Any]]:
    """Predictions of 30 x 50 pixels; the last one has a hole."""
    (tmp_path / 'patches').mkdir()
    images = {}
    for number, (name, (_, crs, row, col)) in enumerate(PATCHES.items(), start=1):
        image = np.full((4, 30, 50), number, dtype=np.uint16)
        image[1] *= 10
        images[name] = image
        options = {'transform': from_origin(LEFT + 3 * col, TOP - 3 * row, 3, 3)}
        if name == 'two_p_2':
            image[:, :10] = 0
        write(tmp_path / 'patches' / f'{name}.tif', image, nodata=0, crs=crs, **options)
    return images


def test_areas(
    index: GeoDataFrame, images: dict[str, NDArray[Any]], tmp_path: Path
) -> None:
    """Patches at their places, the first one on top, and nothing elsewhere."""
    out = tmp_path / 'out' / 'deep'
    written = mosaic_areas(index, tmp_path / 'patches', out)
    assert [Path(path).name for path in written] == [
        'one.tif',
        'two_32646.tif',
        'two_32647.tif',
    ]
    assert names(out) == {Path(path).name for path in written}
    expected = np.zeros((4, 60, 140), dtype=np.uint16)
    expected[:, :30, :50] = images['one_p_1']
    expected[:, 30:, 90:] = images['one_p_3']
    expected[:, 30:, 50:100] = images['one_p_2']
    check(out / 'one.tif', expected, 'EPSG:32646')
    check(out / 'two_32646.tif', images['two_p_1'], 'EPSG:32646')
    expected = np.zeros((4, 30, 90), dtype=np.uint16)
    expected[..., 40:] = images['two_p_3']
    # A hole shows what is below
    expected[:, 10:, :50] = images['two_p_2'][:, 10:]
    check(out / 'two_32647.tif', expected, 'EPSG:32647')


def check(path: Path, expected: NDArray[Any], crs: str) -> None:
    """See that a mosaic is what is expected, from the upper left corner on."""
    with rasterio.open(path) as dataset:
        assert (dataset.crs, dataset.nodata) == (crs, 0)
        assert dataset.transform == from_origin(LEFT, TOP, 3, 3)
        assert dataset.dtypes == ('uint16',) * 4
        assert (dataset.read() == expected).all()
    assert cog_validate(path, strict=True, quiet=True) == (True, [], [])


def test_index_of_planetcr(root: Path, tmp_path: Path) -> None:
    """The clear images for predictions: the areas are put together again."""
    dataset = PlanetCR(root, 'train')
    for path in root.glob('train/planet_cloudfree_*/*/*.tif'):
        target = tmp_path / 'patches' / path.name.removeprefix('planet_cloudfree_')
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(path.read_bytes())
    written = mosaic_areas(dataset.index, tmp_path / 'patches', tmp_path / 'out')
    assert len(written) == dataset.index['aoi'].nunique() == 9
    with rasterio.open(tmp_path / 'out' / 'spring_1.tif') as dataset:
        assert (dataset.crs, dataset.shape) == ('EPSG:32646', (600, 600))
        array = dataset.read()
    for number, (row, col) in enumerate([(0, 0), (0, 1), (1, 1)], start=1):
        part = array[:, 300 * row :, 300 * col :][:, :300, :300]
        path = tmp_path / 'patches' / f'spring_1_p_{number}.tif'
        with rasterio.open(path) as dataset:
            assert (part == dataset.read()).all()
    assert (array[:, 300:, :300] == 0).all()


def test_missing(
    index: GeoDataFrame, images: dict[str, NDArray[Any]], tmp_path: Path
) -> None:
    path = tmp_path / 'patches' / 'two_p_3.tif'
    path.unlink()
    with pytest.raises(FileNotFoundError, match=f'{path} is missing: predict all'):
        mosaic_areas(index, path.parent, tmp_path / 'out')
    assert names(tmp_path / 'out') == {'one.tif', 'two_32646.tif'}


def test_damaged(
    index: GeoDataFrame, images: dict[str, NDArray[Any]], tmp_path: Path
) -> None:
    """An old mosaic stays, and nothing unfinished is left."""
    out = tmp_path / 'out'
    out.mkdir()
    (out / 'one.tif').write_text('mine')
    (tmp_path / 'patches' / 'one_p_2.tif').write_text('no raster')
    with pytest.raises(FileExistsError, match=r'one\.tif exists: .*overwrite'):
        mosaic_areas(index, tmp_path / 'patches', out)
    with pytest.raises(OSError, match=r'one_p_2\.tif'):
        mosaic_areas(index, tmp_path / 'patches', out, overwrite=True)
    assert names(out) == {'one.tif'}
    assert (out / 'one.tif').read_text() == 'mine'


@pytest.mark.parametrize('share', [0.5, 0.99, 0.9992])
def test_full_disk(tmp_path: Path, share: float) -> None:
    """Of which GDAL may be silent if it is the last block that is cut."""
    options: dict[str, Any] = {'tiled': True, 'compress': 'deflate'}
    options |= {'blockxsize': 512, 'blockysize': 512}
    rng = np.random.default_rng(0)
    for number in range(6):
        image = rng.integers(1, 65535, (4, 300, 300)).astype(np.uint16)
        transform = from_origin(LEFT + 900 * number, TOP, 3, 3)
        path = tmp_path / 'patches' / f'a_p_{number}.tif'
        path.parent.mkdir(exist_ok=True)
        write(path, image, nodata=0, transform=transform, **options)
    rows = [
        {'patch': f'a_p_{number}', 'aoi': 'a', 'native_crs': 'EPSG:32646'}
        for number in range(6)
    ]
    index = GeoDataFrame(rows, geometry=[Point()] * 6, crs='EPSG:6933')
    out = tmp_path / 'out'
    mosaic_areas(index, tmp_path / 'patches', out)
    limit = int(share * (out / 'a.tif').stat().st_size)
    (out / 'a.tif').unlink()
    with pytest.raises(OSError, match=r'a\.tif cannot be written'), full_disk(limit):
        mosaic_areas(index, tmp_path / 'patches', out)
    assert not list(out.iterdir())
