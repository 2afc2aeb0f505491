# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from systems import full_disk

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
    """A simulated scene, to be read only."""
    folder = tmp_path_factory.mktemp('simulated') / 'scene'
    message = simulate_scene(folder, size=600, seed=4)
    assert re.fullmatch(
        rf'{re.escape(str(folder))}: a simulated scene of 600 x 600 pixels in EPSG:32\d+, \d+ % of it '
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
    """Pixels are clear, cloudy or beyond the edges of the scene."""
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
    """A simulated scene can be restored, and cut into patches."""
    said = remove_clouds(
        copy(), folder / 'scene.tif', folder / 'sentinel1.tif', tmp_path / 'out.tif'
    )
    assert said == f'{tmp_path}/out.tif: 600 x 600 pixels, Sentinel-1 covers 100 %'
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


def test_command(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = Path(shutil.copytree(folder, tmp_path / 'scene'))
    (own / 'scene.tif').unlink()
    # A scene may end within a patch
    command = ['simulate-scene', str(own), '--size', '310', '--seed', '1']
    with pytest.raises(SystemExit) as error:
        main(command)
    path = own / 'clear.tif'
    assert str(error.value).startswith(f'planetcr simulate-scene: {path} exists: ')
    assert not (own / 'scene.tif').exists()
    main([*command, '--overwrite'])
    assert 'a simulated scene of 310 x 310 pixels' in capsys.readouterr().out
    for name in ('scene.tif', 'clear.tif', 'scene_udm2.tif'):
        assert read(own / name).shape[1:] == (310, 310)
    assert {path.name for path in own.iterdir()} == set(FILES)


def test_failure(tmp_path: Path) -> None:
    """If a file cannot be written, none appears."""
    with (
        pytest.raises(OSError, match=r'scene\.tif cannot be written'),
        full_disk(300_000),
    ):
        simulate_scene(tmp_path / 'scene', size=300)
    assert not list((tmp_path / 'scene').iterdir())


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
