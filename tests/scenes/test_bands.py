# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import functools
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasters import write
from small_scene import SHAPE, planetcr, save_checkpoint, write_radar, write_scene

from torchgeo_planetcr.scenes import Layer
from torchgeo_planetcr.scenes.bands import find_planetscope_bands

ITEM = '20190109_015005_1020_3B'


def find(path: Path, **options: Any) -> tuple[list[int], list[str]]:
    """Positions of the bands of a file, and what was taken for granted."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        with Layer(path, functools.partial(find_planetscope_bands, **options)) as layer:
            return layer.bands, [str(w.message) for w in caught]


class TestWithoutNames:
    @pytest.mark.parametrize(
        ('name', 'count', 'expected'),
        [
            (f'{ITEM}_AnalyticMS_SR.tif', 4, [1, 2, 3, 4]),
            (f'{ITEM}_AnalyticMS_SR_harmonized_clip.tif', 4, [1, 2, 3, 4]),
            (f'{ITEM}_AnalyticMS_SR_8b_clip.tif', 8, [2, 4, 6, 8]),
            # With alpha
            (f'{ITEM}_AnalyticMS_SR_8b_clip.tif', 9, [2, 4, 6, 8]),
            (f'{ITEM}_ortho_analytic_8b_sr.tif', 8, [2, 4, 6, 8]),
            ('3561418_3950518_2020-05-25_1020_BGRN_SR.tif', 4, [1, 2, 3, 4]),
            ('3561418_3950518_2020-05-25_1020_BGRN_SR_clip.tif', 5, [1, 2, 3, 4]),
            ('planet_cloudy_summer_1_p_7.tif', 4, [1, 2, 3, 4]),
            ('planet_cloudfree_summer_1_p_7.tif', 4, [1, 2, 3, 4]),
        ],
    )
    def test_products(
        self, tmp_path: Path, name: str, count: int, expected: list[int]
    ) -> None:
        """A folder of them is restored without a word.

        https://docs.planet.com/data/imagery/planetscope/psscene/
        """
        path = write(tmp_path / name, np.ones((count, 20, 30), np.uint16))
        assert find(path) == (expected, [])

    @pytest.mark.parametrize(
        ('name', 'count', 'expected'),
        [
            ('composite.tif', 4, [1, 2, 3, 4]),
            ('superdove.tif', 8, [2, 4, 6, 8]),
            ('june_8b.tif', 8, [2, 4, 6, 8]),
            # Four bands that somebody has taken of eight
            (f'{ITEM}_AnalyticMS_SR_8b.tif', 4, [1, 2, 3, 4]),
            ('field_RGBN.tif', 4, [3, 2, 1, 4]),
            ('rgbnir-field.tif', 5, [3, 2, 1, 4]),
            ('NRGB.tif', 4, [4, 3, 2, 1]),
        ],
    )
    def test_others(
        self, tmp_path: Path, name: str, count: int, expected: list[int]
    ) -> None:
        """What is taken for granted about them is said, unless the user says it."""
        path = write(tmp_path / name, np.ones((count, 20, 30), np.uint16))
        positions, (said,) = find(path)
        assert positions == expected
        places = ', '.join(map(str, expected))
        assert name in said and f' {places}; ' in said and '--bands' in said
        assert find(path, bands=[1, 2, 3, 4]) == ([1, 2, 3, 4], [])

    @pytest.mark.parametrize(
        ('name', 'count'),
        [('field_RGBN.tif', 3), ('bgrn_and_bgrn.tif', 3), ('scene.tif', 6)],
    )
    def test_unclear(self, tmp_path: Path, name: str, count: int) -> None:
        path = write(tmp_path / name, np.ones((count, 20, 30), np.uint16))
        with pytest.raises(ValueError, match=f'{name} has {count} bands .*--bands 3 2'):
            find(path)

    @pytest.mark.parametrize('names', [None, ['Band 1', 'Band 2', 'Band 3', 'Band 4']])
    def test_colors(self, tmp_path: Path, names: list[str] | None) -> None:
        """A file that calls its first bands red, green and blue does not begin with blue."""
        image = np.ones((4, 20, 30), np.uint16)
        for name in ('scene.tif', 'scene_rgbn.tif'):
            path = write(tmp_path / name, image, photometric='rgb')
            if names:
                with rasterio.open(path, 'r+') as dataset:
                    dataset.descriptions = names
        assert find(path)[0] == [3, 2, 1, 4]
        with pytest.raises(ValueError, match=r'scene\.tif .*--bands 3 2 1 4'):
            find(tmp_path / 'scene.tif')


def test_command(tmp_path: Path) -> None:
    """It is said once, in one line without places in the code."""
    image = np.full((4, *SHAPE), 1000, np.uint16)
    names = ('plain', f'{ITEM}_AnalyticMS_SR')
    scenes = [write_scene(tmp_path / f'{name}.tif', image) for name in names]
    options = ['--s1', write_radar(tmp_path / 's1.tif'), '--accelerator', 'cpu']
    options += ['--checkpoint', save_checkpoint(tmp_path), '--out', tmp_path / 'out']
    status, _, said = planetcr('remove-clouds', *scenes, *options)
    assert status == 0
    lines = [line for line in said.splitlines() if 'name its bands' in line]
    assert len(lines) == 1
    assert lines[0].startswith(f'{scenes[0]} ')


@pytest.mark.parametrize(
    'ending',
    ['AnalyticMS', 'AnalyticMS_clip', 'AnalyticMS_8b', 'analyticms', 'Analytic'],
)
def test_radiance(tmp_path: Path, ending: str) -> None:
    """What Planet calls its products with radiance."""
    path = write(tmp_path / f'{ITEM}_{ending}.tif', np.ones((4, 20, 30), np.uint16))
    with pytest.raises(ValueError, match=rf'{ending}\.tif .*_AnalyticMS_SR'):
        Layer(path, find_planetscope_bands)


@pytest.mark.parametrize(
    'name',
    [
        f'{ITEM}_AnalyticMS_SR.tif',
        f'{ITEM}_AnalyticMS_SR_8b_clip.tif',
        f'{ITEM}_AnalyticMS_SR_harmonized_clip.tif',
        f'{ITEM}_AnalyticMS_8b_SR.tif',
        'analytic_work.tif',
        'field_analytic.tif',
        'composite.tif',
    ],
)
def test_reflectance(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, np.ones((4, 20, 30), np.uint16))
    with Layer(path, find_planetscope_bands) as layer:
        assert layer.bands == [1, 2, 3, 4]
