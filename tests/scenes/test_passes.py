# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import warnings
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from rasters import write
from small_scene import SHAPE, write_scene

from torchgeo_planetcr.scenes import (
    AssumptionWarning,
    PlanetScopeScenes,
    RadarOptions,
    Scene,
    SceneFiles,
)
from torchgeo_planetcr.scenes.passes import group_passes

SCENE = '20230210_101500_33_2477_3B_AnalyticMS_SR.tif'

#: Columns of the scene that an image of a part of it covers.
LEFT_PART = slice(0, 100)


def write_s1(path: Path, vv: float, part: slice = slice(None)) -> Path:
    """Write Sentinel-1 on the grid of the scene, the same everywhere in a part of it."""
    values = np.full((2, *SHAPE), np.nan, np.float32)
    values[..., part] = np.array([vv, vv - 7])[:, None, None]
    return write_scene(path, values, nodata=np.nan)


def read_vv(
    scene: Path, *s1: Path, **options: Any
) -> tuple[NDArray[np.float32], list[str]]:
    """Read VV, and what is said of it."""
    files = SceneFiles(str(scene), tuple(map(str, s1)))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter('always', AssumptionWarning)
        with Scene(files, radar=RadarOptions(**options)) as opened:
            opened.survey()
            vv = opened.read(opened.grid)['image_s1'][0]
    texts = [str(warning.message) for warning in said]
    words = 'Sentinel-1', 'left out'
    return vv, [text for text in texts if any(word in text for word in words)]


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    return write_scene(tmp_path / SCENE)


def test_nearest(scene: Path, tmp_path: Path) -> None:
    """Neither the first by name, nor the last, nor the nearest that is named first."""
    images = [
        write_s1(tmp_path / f'S1A_IW_GRDH_1SDV_{day}T051023.tif', vv)
        for day, vv in (('20191231', -20), ('20230209', -10), ('20230213', -15))
    ]
    for order in (images, images[::-1]):
        vv, said = read_vv(scene, *order)
        assert (vv == -10).all()
        assert said == [
            f'{scene}: Sentinel-1 of 2023-02-09, 1 day before ({images[1].name})'
        ]


def test_not_mixed(scene: Path, tmp_path: Path) -> None:
    """Gaps of the nearest pass stay gaps, unless they are to be filled."""
    near = write_s1(tmp_path / 's1_20230209.tif', -10, LEFT_PART)
    far = write_s1(tmp_path / 's1_20230213.tif', -15)
    # It covers too little of the scene, and the next one covers all
    vv, said = read_vv(scene, near, far)
    assert (vv == -15).all()
    assert '2023-02-13, 3 days after' in said[0]
    vv, said = read_vv(scene, near, far, min_coverage=0.2)
    assert (vv == -10).all()
    assert '2023-02-09, 1 day before' in said[0]
    vv, said = read_vv(scene, near, far, fill_gaps=True)
    assert (vv[:, LEFT_PART] == -10).all()
    assert (vv[:, 100:] == -15).all()
    assert near.name in said[0] and far.name in said[0]
    message = r's1_20230209\.tif covers \d\d % of'
    with pytest.raises(ValueError, match=message):
        read_vv(scene, near)


def test_slices_of_a_pass(scene: Path, tmp_path: Path) -> None:
    """Two images of the same minutes are one, those of the evening are others."""
    first = write_s1(tmp_path / 'S1A_20230209T051023.tif', -10, LEFT_PART)
    second = write_s1(tmp_path / 'S1A_20230209T051048.tif', -11, slice(100, None))
    evening = write_s1(tmp_path / 'S1A_20230209T171023.tif', -5)
    vv, _ = read_vv(scene, first, second)
    assert (vv[:, LEFT_PART] == -10).all()
    assert (vv[:, 100:] == -11).all()
    # The scene is of 10:15 of the next day
    vv, said = read_vv(scene, first, second, evening)
    assert (vv == -5).all()
    assert evening.name in said[0] and first.name not in said[0]


def test_limit(scene: Path, tmp_path: Path) -> None:
    s1 = write_s1(tmp_path / 's1_2022-12-01.tif', -10)
    message = r'2023-02-10, .* of 2022-12-01, 71 days before: .*--max_days'
    with pytest.raises(ValueError, match=message):
        read_vv(scene, s1)
    vv, said = read_vv(scene, s1, max_days=71)
    assert (vv == -10).all()
    assert '71 days before' in said[0]


def test_same_day(scene: Path, tmp_path: Path) -> None:
    _, said = read_vv(scene, write_s1(tmp_path / 's1_20230210.tif', -10))
    assert 'of 2023-02-10, the same day' in said[0]


def test_day_of_the_scene(tmp_path: Path) -> None:
    """Without it, one pass is taken with a word, and of several none is."""
    scene = write_scene(tmp_path / 'field.tif')
    near = write_s1(tmp_path / 's1_20230209.tif', -10)
    far = write_s1(tmp_path / 's1_20230213.tif', -15)
    vv, said = read_vv(scene, far)
    assert (vv == -15).all()
    assert 'field.tif' in said[0] and '2023-02-13' in said[0] and '--date' in said[0]
    message = r'field\.tif .*2023-02-09, 2023-02-13.*--date 2023-02-09'
    with pytest.raises(ValueError, match=message):
        read_vv(scene, near, far)
    vv, said = read_vv(scene, near, far, date='2023-02-12')
    assert (vv == -15).all()
    assert '2023-02-13, 1 day after' in said[0]
    with pytest.raises(ValueError, match="date='yesterday'"):
        read_vv(scene, near, date='yesterday')


def test_two_passes_of_a_day(tmp_path: Path) -> None:
    """Those of the morning and of the evening; what the error tells to type tells them apart."""
    scene = write_scene(tmp_path / 'field.tif')
    images = [
        write_s1(tmp_path / f's1_20230209T{time}.tif', vv)
        for time, vv in (('051023', -10), ('171023', -15))
    ]
    message = '2023-02-09T05:10:23, 2023-02-09T17:10:23 .*--date 2023-02-09T05:10:23'
    with pytest.raises(ValueError, match=message):
        read_vv(scene, *images)
    for time, expected in (('05:10:23', -10), ('17:10:23', -15)):
        vv, _ = read_vv(scene, *images, date=f'2023-02-09T{time}')
        assert (vv == expected).all()


def test_day_of_processing(tmp_path: Path) -> None:
    """A user knows better than a tag which may be of the day on which a file was written."""
    scene = write_scene(tmp_path / 'field.tif')
    near = write_s1(tmp_path / 's1_20230209.tif', -10)
    far = write_s1(tmp_path / 's1_20230313.tif', -15)
    with rasterio.open(scene, 'r+') as dataset:
        dataset.update_tags(TIFFTAG_DATETIME='2023:03:12 00:00:00')
    vv, _ = read_vv(scene, near, far)
    assert (vv == -15).all()
    vv, said = read_vv(scene, near, far, date='2023-02-10')
    assert (vv == -10).all()
    assert '2023-02-09, 1 day before' in said[0]
    # A tag of its own is no guess
    with rasterio.open(scene, 'r+') as dataset:
        dataset.update_tags(ACQUISITION_DATETIME='2023-03-12T00:00:00Z')
    vv, _ = read_vv(scene, near, far, date='2023-02-10')
    assert (vv == -15).all()


def test_day_of_sentinel1(scene: Path, tmp_path: Path) -> None:
    """Images that do not tell it count as one pass, and only if no other one will do."""
    first = write_s1(tmp_path / 'east.tif', -10, LEFT_PART)
    second = write_s1(tmp_path / 'west.tif', -11, slice(100, None))
    vv, said = read_vv(scene, first, second)
    assert {*np.unique(vv)} == {-10, -11}
    assert 'east.tif, west.tif' in said[0]
    dated = write_s1(tmp_path / 's1_20230209.tif', -15)
    vv, said = read_vv(scene, first, second, dated)
    assert (vv == -15).all()
    old = write_s1(tmp_path / 's1_20190209.tif', -15)
    vv, said = read_vv(scene, old, first, second)
    assert {*np.unique(vv)} == {-10, -11}


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        ({'unit': 'db'}, "s1_unit='db' .*dB, power, amplitude"),
        ({'date': '10.02.2023'}, "date='10.02.2023'"),
        ({'max_days': -1}, 'max_days=-1'),
        ({'max_days': float('nan')}, 'max_days=nan'),
        ({'min_coverage': 90}, 'min_coverage=90'),
    ],
)
def test_options(scene: Path, option: dict[str, Any], message: str) -> None:
    """They are looked at first, and whether they are needed or not."""
    with pytest.raises(ValueError, match=message):
        PlanetScopeScenes(
            scene, scene.parent / 'none.tif', radar=RadarOptions(**option)
        )


@pytest.mark.parametrize('fault', ['one_band', 'hh_hv', 'empty', 'cut', 'no_unit'])
def test_unusable(scene: Path, tmp_path: Path, fault: str) -> None:
    """An image that cannot be used is left out by name if there is another one."""
    good = write_s1(tmp_path / 's1_20230208.tif', -10)
    bad = write_s1(tmp_path / 's1_20230210.tif', -15)
    values = np.full((2, *SHAPE), 5, np.float32)
    if fault == 'one_band':
        write_scene(bad, values[:1])
    elif fault == 'hh_hv':
        with rasterio.open(bad, 'r+') as dataset:
            dataset.descriptions = 'HH', 'HV'
    elif fault == 'no_unit':
        write_scene(bad, values)
    else:
        size = {'empty': 0, 'cut': bad.stat().st_size // 2}[fault]
        bad.write_bytes(bad.read_bytes()[:size])
    vv, (left_out, chosen) = read_vv(scene, bad, good)
    assert (vv == -10).all()
    assert bad.name in left_out
    assert good.name in chosen and '2 days before' in chosen
    with pytest.raises((OSError, ValueError), match=bad.name):
        read_vv(scene, bad)


def test_unusable_of_a_pass(scene: Path, tmp_path: Path) -> None:
    """Neither does another raster among images that do not tell their day."""
    dem = write_scene(tmp_path / 'dem.tif', np.full((1, *SHAPE), 300, np.float32))
    vv, (left_out, chosen) = read_vv(scene, dem, write_s1(tmp_path / 's1.tif', -10))
    assert (vv == -10).all()
    assert 'dem.tif has 1 band' in left_out
    assert chosen.endswith('(s1.tif)')


def test_group(tmp_path: Path) -> None:
    """By time, and by day where that is all that is known; the rest comes last."""
    names = ['b_20230209_VV', 'b_20230209_VH', 'a_20230209T051023', 'a', 'a_20230208']
    paths = [
        str(write(tmp_path / f'{name}.tif', np.ones((1, 2, 2), np.float32)))
        for name in names
    ]
    found = group_passes(paths)
    assert [moment for moment, _ in found] == [
        date(2023, 2, 8),
        datetime(2023, 2, 9, 5, 10, 23),
        None,
    ]
    assert [files for _, files in found] == [
        (paths[4],),
        (paths[0], paths[1], paths[2]),
        (paths[3],),
    ]
