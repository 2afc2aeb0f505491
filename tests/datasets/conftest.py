# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

from pathlib import Path

import pytest

from torchgeo_planetcr.datasets import PlanetCR


@pytest.fixture
def view(root: Path) -> PlanetCR:
    """Three patches that adjoin like an L upside down."""
    return PlanetCR(root).filter(aoi='spring_1')


@pytest.fixture
def same_place(root: Path) -> PlanetCR:
    """Two patches at the same place in two seasons."""
    return PlanetCR(root).filter(aoi=['spring_2', 'winter_10'])
