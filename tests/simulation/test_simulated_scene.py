# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from torchgeo_planetcr import PlanetCR, make_patches, remove_clouds, simulate_scene
from torchgeo_planetcr.main import main
from torchgeo_planetcr.models import copy

FILES = {
    'scene.tif': (('blue', 'green', 'red', 'nir'), 'uint16', 3),
    'clear.tif': (('blue', 'green', 'red', 'nir'), 'uint16', 3),
    'sentinel1.tif': (('VV', 'VH'), 'float32', 10),
    'worldcover.tif': ((None,), 'uint8', 10),
    'scene_udm2.tif': (
        ('clear', 'snow', 'shadow', 'haze_light')
        + ('haze_heavy', 'cloud', 'confidence', 'unusable'),
        'uint8',
        3,
    ),
}


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scene, to be read only."""
    folder = tmp_path_factory.mktemp('simulated') / 'scene'
    message = simulate_scene(folder, size=700, seed=4)
    assert re.fullmatch(
        rf'{folder}: a simulated scene of 700 x 700 pixels in EPSG:32\d+, \d+ % of it '
        'under clouds',
        message,
    )
    return folder


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as dataset:
        return dataset.read()


@pytest.mark.parametrize('name', FILES)
def test_files(folder: Path, name: str) -> None:
    names, dtype, res = FILES[name]
    with rasterio.open(folder / name) as dataset:
        assert dataset.descriptions == names
        assert set(dataset.dtypes) == {dtype}
        assert dataset.res == (res, res)
        assert dataset.crs.is_projected
        description = dataset.tags()['TIFFTAG_IMAGEDESCRIPTION']
    assert 'not an image of the Earth' in description


def test_nothing_else(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == set(FILES)


def test_mask(folder: Path) -> None:
    """It is clear, cloudy or beyond the scene, which lies askew."""
    mask = read(folder / 'scene_udm2.tif')
    assert (mask.sum(axis=0) == 1).all()
    has_data = (read(folder / 'scene.tif') != 0).any(axis=0)
    assert (has_data == (mask[7] == 0)).all()
    assert ((read(folder / 'clear.tif') != 0).any(axis=0) == has_data).all()
    corners = has_data[[0, 0, -1, -1], [0, -1, 0, -1]]
    assert not corners.any()
    assert 0.5 < has_data.mean() < 0.9
    assert mask[0].any()
    assert mask[5].any()


def test_into_the_package(folder: Path, tmp_path: Path) -> None:
    """It can be restored, and cut into patches."""
    said = remove_clouds(
        copy(), folder / 'scene.tif', folder / 'sentinel1.tif', tmp_path / 'out.tif'
    )
    assert said == f'{tmp_path}/out.tif: 700 x 700 pixels, Sentinel-1 covers 100 %'
    before, after = read(folder / 'scene.tif'), read(tmp_path / 'out.tif')
    assert np.abs(before.clip(0, 10000) - after.astype(int)).max() <= 1
    make_patches(
        tmp_path / 'data',
        'summer_1',
        cloudy=folder / 'scene.tif',
        clear=folder / 'clear.tif',
        s1=folder / 'sentinel1.tif',
        landcover=folder / 'worldcover.tif',
        cloud_mask=folder / 'scene_udm2.tif',
        max_nodata=0.9,
    )
    assert len(PlanetCR(tmp_path / 'data', 'train').index) == 4


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(['simulate-scene', str(tmp_path), '--size', '300'])
    assert 'a simulated scene of 300 x 300 pixels' in capsys.readouterr().out
    before = read(tmp_path / 'scene.tif')
    path = tmp_path / 'scene.tif'
    with pytest.raises(SystemExit, match=f'planetcr simulate-scene: {path} exists: '):
        main(['simulate-scene', str(tmp_path), '--size', '300', '--seed', '1'])
    main(
        ['simulate-scene', str(tmp_path), '--size', '300', '--seed', '1', '--overwrite']
    )
    assert (read(tmp_path / 'scene.tif') != before).any()


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'size': 299}, 'size=299 must be from 300 to 3000'),
        ({'size': 3001}, 'size=3001 must be from 300 to 3000'),
        ({'seed': -1}, 'seed=-1 must be from 0 to'),
    ],
)
def test_range(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        simulate_scene(tmp_path / 'scene', **arguments)
    assert not (tmp_path / 'scene').exists()
