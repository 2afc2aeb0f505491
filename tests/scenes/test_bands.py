# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

from pathlib import Path

import numpy as np
import pytest
from rasters import write

from torchgeo_planetcr.scenes import Layer
from torchgeo_planetcr.scenes.bands import find_planetscope_bands

ITEM = '20190109_015005_1020_3B'


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
