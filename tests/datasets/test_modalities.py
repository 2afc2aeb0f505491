# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import rasterio

from torchgeo_planetcr.datasets import PlanetCR
from torchgeo_planetcr.datasets.components import COMPONENTS
from torchgeo_planetcr.datasets.modalities import (
    GRID_ORDER,
    LIST_COLUMNS,
    MODALITIES,
    RGB_INDICES,
    ModalityName,
)


def test_names() -> None:
    names = get_args(ModalityName.__value__)
    assert tuple(MODALITIES) == names
    assert set(COMPONENTS) == set(names)
    assert all(row.name == name for name, row in MODALITIES.items())
    assert len({row.key for row in MODALITIES.values()}) == len(names)


def test_orders() -> None:
    assert GRID_ORDER == ('cloudy', 'clear', 'cloud_mask', 'sentinel1', 'worldcover')
    assert LIST_COLUMNS == ('clear', 'cloudy', 'sentinel1', 'worldcover', 'cloud_mask')
    assert RGB_INDICES == [2, 1, 0]


@pytest.mark.parametrize('name', ['cloudy', 'clear', 'sentinel1', 'worldcover'])
def test_files_of_the_sample(sample_root: Path, name: ModalityName) -> None:
    """The authors' own files are as the table says."""
    row = MODALITIES[name]
    path = Path(PlanetCR(sample_root).index[name].iloc[0])
    assert path.match(row.filename_glob)
    with rasterio.open(path) as src:
        assert src.count == max(len(row.bands), 1)
        assert set(src.dtypes) == {np.dtype(row.dtype).name}
        assert src.res == pytest.approx((row.resolution, row.resolution), rel=0.01)
        assert (src.nodata is not None) == row.declares_nodata
        if row.declares_nodata:
            assert src.nodata == row.nodata
