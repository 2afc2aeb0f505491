# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasters import write

from torchgeo_planetcr.datasets import PlanetCRClear, PlanetCRCloudy
from torchgeo_planetcr.datasets.band_names import find_bands
from torchgeo_planetcr.scenes import Layer
from torchgeo_planetcr.scenes.bands import find_planetscope_bands

SUPERDOVE = [
    'coastal_blue',
    'blue',
    'green_i',
    'green',
    'yellow',
    'red',
    'rededge',
    'nir',
]


@pytest.mark.parametrize(
    ('names', 'expected'),
    [
        (['red', 'green', 'blue', 'near_infrared'], [3, 2, 1, 4]),
        (['N', 'R', 'G', 'B'], [4, 3, 2, 1]),
        (['SR_red', 'SR_green', 'SR_blue', 'SR_nir'], [3, 2, 1, 4]),
        (['Blue (455 - 515 nm)', 'Green', 'Red', 'NIR (845 - 885 nm)'], [1, 2, 3, 4]),
        (SUPERDOVE, [2, 4, 6, 8]),
        (SUPERDOVE[::-1], [7, 5, 3, 1]),
        (
            [
                'Coastal Blue',
                'Blue',
                'Green I',
                'Green II',
                'Yellow',
                'Red',
                'Red Edge',
                'NIR',
            ],
            [2, 4, 6, 8],
        ),
        ([*SUPERDOVE[1:2], 'green', 'red', 'nir', None], [1, 2, 3, 4]),
        ([None] * 4, [1, 2, 3, 4]),
        ([None] * 8, [2, 4, 6, 8]),
        (['Band 1', 'Band 2', 'Band 3', 'Band 4'], [1, 2, 3, 4]),
    ],
)
def test_names(tmp_path: Path, names: list[str | None], expected: list[int]) -> None:
    """Of scenes and of data sets, compressed or not."""
    image = np.stack([np.full((20, 30), 100 * n) for n in range(1, len(names) + 1)])
    for compress in ('none', 'deflate'):
        path = write(tmp_path / 'scene.tif', image.astype(np.uint16), compress=compress)
        if any(names):
            with rasterio.open(path, 'r+') as dataset:
                dataset.descriptions = names
        with Layer(path, find_planetscope_bands) as layer:
            assert layer.bands == expected
        for kind in (PlanetCRCloudy, PlanetCRClear):
            found = kind(path)[:]['image'].mean(dim=(1, 2)).tolist()
            assert found == [100 * n for n in expected]
    found = PlanetCRCloudy(path, bands=['NIR', 'B'])[:]['image'][:, 0, 0].tolist()
    assert found == [100 * expected[3], 100 * expected[0]]


@pytest.mark.parametrize(
    'names',
    [
        ['B1', 'B2', 'B3', 'B4'],
        ['B4', 'B3', 'B2', 'B8'],
        ['Band 3', 'Band 2', 'Band 1', 'Band 4'],
        ['blue', 'green', 'red', 'rededge'],
        ['blue', 'blue', 'red', 'nir'],
        ['vv', 'vh', 'angle', 'x'],
    ],
)
def test_unclear(tmp_path: Path, names: list[str]) -> None:
    """They are refused with the option to type, and positions help."""
    path = write(tmp_path / 'scene.tif', np.ones((4, 20, 30), np.uint16))
    with rasterio.open(path, 'r+') as dataset:
        dataset.descriptions = names
    with pytest.raises(ValueError, match=r'scene\.tif has .*--bands 3 2 1 4'):
        Layer(path, find_planetscope_bands)
    with pytest.raises(ValueError, match=r'scene\.tif has .*--bands 3 2 1 4'):
        PlanetCRCloudy(path)[:]
    with Layer(path, lambda d: find_planetscope_bands(d, [3, 2, 1, 4])) as layer:
        assert layer.bands == [3, 2, 1, 4]


@pytest.mark.parametrize('dtype', ['float32', 'int16', 'uint8'])
@pytest.mark.parametrize('compress', ['none', 'deflate'])
def test_other_type(tmp_path: Path, dtype: str, compress: str) -> None:
    """Values of another type are no reflectance x 10000, or not all of them."""
    image = np.ones((4, 20, 30), dtype)
    path = write(tmp_path / 'scene.tif', image, compress=compress)
    for kind in (PlanetCRCloudy, PlanetCRClear):
        message = rf'scene\.tif is {dtype}, .*PlanetScopeScenes'
        with pytest.raises(ValueError, match=message):
            kind(path)[:]


@pytest.mark.parametrize('name', ['scene', 'planet_cloudy_mine', 'planet_cloudfree_x'])
@pytest.mark.parametrize('compress', ['none', 'deflate'])
@pytest.mark.parametrize('interleave', ['band', 'pixel'])
def test_positions(tmp_path: Path, name: str, compress: str, interleave: str) -> None:
    """They overrule names of bands and of files, through GDAL or not."""
    image = np.stack([np.full((20, 30), 100 * n, np.uint16) for n in range(1, 7)])
    options = {'compress': compress, 'interleave': interleave}
    path = write(tmp_path / f'{name}.tif', image, **options)
    for kind in (PlanetCRCloudy, PlanetCRClear):
        dataset = kind(path, positions=[6, 2, 1, 5])
        assert dataset[:]['image'].mean(dim=(1, 2)).tolist() == [600, 200, 100, 500]
        dataset = kind(path, ['NIR', 'B'], positions=[6, 2, 1, 5])
        assert dataset[:]['image'][:, 0, 0].tolist() == [500, 600]
    with rasterio.open(path, 'r+') as dataset:
        dataset.descriptions = ('blue', 'green', 'red', 'nir', 'x', 'y')
    found = PlanetCRCloudy(path, positions=[6, 2, 1, 5])[:]['image'][:, 0, 0]
    assert found.tolist() == [600, 200, 100, 500]
    for wrong in ([1, 2, 3], [0, 1, 2, 3], [1, 2, 3, 7]):
        message = rf'^positions=.* B, G, R and NIR among the 6 bands of .*{name}\.tif'
        with pytest.raises(ValueError, match=message):
            PlanetCRCloudy(path, positions=wrong)[:]


@pytest.mark.parametrize('count', [1, 3, 5, 9])
def test_other_products(count: int) -> None:
    with pytest.raises(ValueError, match=f'a.tif has {count} bands without names'):
        find_bands('a.tif', count)
