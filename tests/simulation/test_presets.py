# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from torchgeo_planetcr import simulate, simulate_scene
from torchgeo_planetcr.main import main
from torchgeo_planetcr.simulation.area import (
    AreaImages,
    choose_area,
    has_data,
    simulate_area,
)
from torchgeo_planetcr.simulation.places import EXTREME_PLACES, PLACES, SNOW, WATER
from torchgeo_planetcr.simulation.presets import (
    MAX_SHIFT,
    PRESETS,
    SKIES,
    draw_conditions,
)

#: The others draw from skies.
SINGLE = sorted(set(SKIES) - {'cloudy'})


def images_of(preset: str, number: int = 2) -> AreaImages:
    area = choose_area(PRESETS[preset], 0, number, 1, 1)
    return simulate_area(0, area)


def excess(images: AreaImages) -> np.ndarray:
    """Reflectance of the cloudy image minus that of the clear one, of shape (4, N)."""
    usable = has_data(images.cloudy)
    difference = images.cloudy.astype(float) - images.clear
    return difference[:, usable] / 10000


@pytest.fixture(scope='module')
def usual() -> AreaImages:
    return images_of('usual')


@pytest.mark.parametrize('preset', SINGLE)
def test_same_ground(preset: str, usual: AreaImages) -> None:
    """Presets of one sky show the same places in other conditions."""
    images = images_of(preset)
    for name in ('clear', 'worldcover'):
        assert np.array_equal(getattr(images, name), getattr(usual, name))
    assert not np.array_equal(images.cloudy, usual.cloudy)
    assert images.cloud_mask.any() == (preset == 'overcast')


def test_clear() -> None:
    """Without cloud and haze, only what happened on the ground differs."""
    difference = excess(images_of('clear'))
    assert np.median(abs(difference[:3])) < 0.01


def test_haze() -> None:
    found = [excess(images_of('haze', number)).mean(axis=1) for number in range(2, 8)]
    blue, green, red, _ = np.median(found, axis=0)
    assert blue > green > red
    assert blue > 0.02


def test_cirrus() -> None:
    images = [images_of('cirrus', number) for number in range(2, 8)]
    means = [excess(found)[2].mean() for found in images]
    assert 0.03 < np.median(means) < 0.5
    assert not any(found.cloud_mask.any() for found in images)


def test_overcast() -> None:
    images = images_of('overcast')
    assert images.cloud_mask.mean() > 0.75
    assert np.median(images.cloudy[:3]) > 6000


def test_shadow() -> None:
    """Parts of the image are much darker, although there is no cloud in view."""
    shadow, clear = (
        np.mean([(excess(images_of(name, n))[3] < -0.06).mean() for n in range(2, 8)])
        for name in ('shadow', 'clear')
    )
    assert shadow > clear + 0.1


class TestWide:
    def test_skies(self) -> None:
        """Areas are under each of the skies."""
        wide = PRESETS['wide']
        found = [draw_conditions(wide, 0, number) for number in range(1, 401)]
        clear = [not any(conditions.thickness) for conditions in found]
        assert abs(np.mean(clear) - wide.skies['clear']) < 0.05
        overcast = [conditions.cover[0] > 0.8 for conditions in found]
        assert abs(np.mean(overcast) - wide.skies['overcast']) < 0.05
        shifts = np.array([conditions.shift for conditions in found])
        assert abs(shifts).max() == MAX_SHIFT
        assert 0.2 < (shifts == 0).all(axis=1).mean() < 0.8
        gains = np.array([conditions.gain for conditions in found])
        assert abs(gains.std() - wide.gain) < 0.003
        assert sum(wide.skies.values()) == pytest.approx(1)

    def test_land(self) -> None:
        """There are snow, bright sand and open water."""
        wide = PRESETS['wide']
        count = len(PLACES + EXTREME_PLACES)
        areas = [choose_area(wide, 0, n, 1, 1) for n in range(1, count + 1)]
        found = {
            area.place.biome: simulate_area(0, area)
            for area in areas
            if area.place.biome in {place.biome for place in EXTREME_PLACES}
        }
        assert (found['snow field'].worldcover == SNOW).mean() > 0.4
        assert (found['sea coast'].worldcover == WATER).mean() > 0.4
        assert np.median(found['salt flat'].clear[:3]) > 3000
        assert np.median(found['dunes'].clear[2]) > 2500

    def test_radar(self) -> None:
        area = choose_area(PRESETS['wide'], 0, 1, 1, 1)
        assert area.conditions.radar != 0
        usual = area._replace(conditions=draw_conditions(PRESETS['usual'], 0, 1))
        difference = (
            simulate_area(0, area).sentinel1 - simulate_area(0, usual).sentinel1
        )
        assert difference == pytest.approx(area.conditions.radar)


def test_commands(tmp_path: Path) -> None:
    world, scene = tmp_path / 'world', tmp_path / 'scene'
    command = ['simulate', str(world), '--areas', '2', '--patches', '1']
    main([*command, '--preset', 'wide'])
    assert json.loads((world / 'simulation.json').read_text())['preset'] == 'wide'
    with pytest.raises(SystemExit, match='holds another simulation'):
        main(command)
    main(['simulate-scene', str(scene), '--size', '300', '--preset', 'clear'])
    with (
        rasterio.open(scene / 'scene.tif') as cloudy,
        rasterio.open(scene / 'clear.tif') as clear,
        rasterio.open(scene / 'scene_udm2.tif') as mask,
    ):
        difference = cloudy.read().astype(float) - clear.read()
        assert np.median(abs(difference)) < 200
        assert not mask.read(mask.descriptions.index('cloud') + 1).any()


def test_error(tmp_path: Path) -> None:
    unknown: Any = 'sunny'
    message = re.escape("preset='sunny' must be one of usual, wide, clear")
    for function in (simulate, simulate_scene):
        with pytest.raises(ValueError, match=message):
            function(tmp_path / 'out', preset=unknown)
        assert not (tmp_path / 'out').exists()
