# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from torchgeo_planetcr.models import GLFCR, AlignCR
from torchgeo_planetcr.models.checkpoint import reference_names

# Larger weights of branches that would hardly matter otherwise
BOOSTS: dict[type[nn.Module], dict[str, float]] = {
    GLFCR: {
        'qkv': 6.0,
        'relative_position_bias_table': 5.0,
        'attn_fuse': 40.0,
        'distribute': 4.0,
    },
    AlignCR: {
        'qkv': 2.0,
        'relative_position_bias_table': 2.0,
        'attn_fuse': 4.0,
        'distribute': 4.0,
        'conv_offset': 2.0,
    },
}


TINY = {'features': 8, 'growth': 8, 'num_stages': 2, 'num_layers': 2, 'num_heads': 2}


def _draw(name: str, shape: torch.Size, boosts: dict[str, float]) -> Tensor:
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    noise = torch.randn(shape, generator=generator)
    if name.endswith('weight_g'):
        value = 1 + noise.abs() * 0.1
    elif noise.ndim == 1:
        value = noise * 0.05
        if 'norm' in name and name.endswith('weight'):
            value = 1 + value
    else:
        value = noise * 0.577 / shape[1:].numel() ** 0.5
    for part, boost in boosts.items():
        if part in name:
            value = value * boost
    return value


def _draw_all(model: nn.Module) -> dict[str, Tensor]:
    state_dict = model.state_dict()
    boosts = BOOSTS.get(type(model), {})
    return {
        name: _draw(name, state_dict[key].shape, boosts)
        for name, key in reference_names(model).items()
    }


@pytest.fixture(scope='session')
def reference_weights() -> Callable[[nn.Module], dict[str, Tensor]]:
    """Weights, by their published names, in place of unpublished ones.

    They depend on those names alone. The outputs of the authors' code that the tests
    compare with were made with the same weights, so a model only gives the same output
    if the names that it expects are theirs.
    """
    return _draw_all


@pytest.fixture
def reference_checkpoint(tmp_path: Path) -> Callable[[nn.Module], Path]:
    """Writes a checkpoint of reference weights in the format of the authors' code."""

    def write(model: nn.Module) -> Path:
        network = {f'module.{k}': v for k, v in _draw_all(model).items()}
        network['module.RDBs.0.attn.relative_position_index'] = torch.ones(64, 64).int()
        network['module.RDBs.0.attn_mask'] = torch.ones(4, 64, 64)
        path = tmp_path / f'{type(model).__name__}.pth'
        torch.save({'network': network}, path)
        return path

    return write


@pytest.fixture(scope='session')
def make_tiny() -> Callable[..., nn.Module]:
    """Creates a small network with weights to which every branch contributes."""

    def make(kind: type[nn.Module], **kwargs: Any) -> nn.Module:
        model = kind(**(TINY | kwargs))
        weights = _draw_all(model)
        names = reference_names(model)
        model.load_state_dict({key: weights[name] for name, key in names.items()})
        return model.eval()

    return make


@pytest.fixture
def compiler() -> Iterator[None]:
    """Forget compiled code before and after the test."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()
