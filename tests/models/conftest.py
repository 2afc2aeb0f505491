# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import zlib
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn


def _draw(key: str, shape: torch.Size) -> Tensor:
    generator = torch.Generator().manual_seed(zlib.crc32(key.encode()))
    noise = torch.randn(shape, generator=generator)
    if noise.ndim == 1:
        return 0.05 * noise
    fan_in = shape[1:].numel()
    return noise * 0.577 / fan_in**0.5


@pytest.fixture
def reference_weights() -> Callable[[nn.Module], dict[str, Tensor]]:
    """Weights that depend on the key names alone, in place of unpublished ones.

    The outputs of the authors' code that the tests compare with were made with the same
    weights, so a model only gives the same output if its key names are theirs.
    """

    def draw(model: nn.Module) -> dict[str, Tensor]:
        return {k: _draw(k, v.shape) for k, v in model.state_dict().items()}

    return draw
