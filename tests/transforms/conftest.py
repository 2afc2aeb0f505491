# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

from collections.abc import Callable

import pytest
import torch
from torchgeo.datasets.utils import Sample

from torchgeo_planetcr.transforms.clouds import lay_white


def make_normalized(
    count: int = 6,
    optical: tuple[int, int] = (60, 48),
    sar: tuple[int, int] | None = None,
) -> Sample:
    """Makes normalized batches with a cloud in each sample."""
    generator = torch.Generator().manual_seed(0)
    sar = sar or optical
    clear = 0.02 + 0.4 * torch.rand(count, 4, *optical, generator=generator)
    mask = torch.zeros(count, *optical, dtype=torch.int64)
    for i in range(count):
        mask[i, 2 * i : 2 * i + 12, 12:30] = 1
    white = 0.6 * mask[:, None]
    return {
        'image': lay_white(clear, white),
        'image_clear': clear,
        'image_s1': 0.3 + 0.4 * torch.rand(count, 2, *sar, generator=generator),
        'mask': torch.randint(11, (count, *sar), generator=generator),
        'mask_cloud': mask,
        'crs': torch.full((count,), 32646),
        'bounds': torch.rand(count, 9, generator=generator).double() * 1e7,
        'transform': torch.rand(count, 9, generator=generator).double() * 1e7,
    }


@pytest.fixture
def make_batch() -> Callable[..., Sample]:
    return make_normalized
