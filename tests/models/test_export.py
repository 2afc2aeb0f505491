# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from torchgeo_planetcr.models import GLFCR, AlignCR, DSen2CR, export_model

# Imports what the exported networks may need, and nothing else
RUN = """
import os
import sys

import torch


def run(network):
    module = torch.export.load(f'{network}.pt2').module()
    return [module(*pair) for pair in inputs]


os.chdir(sys.argv[1])
inputs = torch.load('inputs.pt')
outputs = {network: run(network) for network in ('DSen2CR', 'GLFCR')}
assert 'torchvision' not in sys.modules
import torchvision
outputs['AlignCR'] = run('AlignCR')
assert 'torchgeo_planetcr' not in sys.modules
torch.save(outputs, 'outputs.pt')
"""

SIZES = [(3, 50, 21), (1, 64, 32), (1, 33, 80)]


@pytest.fixture(scope='module')
def outputs(
    make_tiny: Callable[..., nn.Module], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[tuple[Tensor, Tensor]]]:
    """What networks return here, and when exported without this package."""
    folder = tmp_path_factory.mktemp('export')
    inputs = [
        (torch.rand(batch_size, 4, *size), torch.rand(batch_size, 2, *size))
        for batch_size, *size in SIZES
    ]
    torch.save(inputs, folder / 'inputs.pt')
    models: dict[str, Any] = {
        'DSen2CR': DSen2CR(features=8, num_blocks=1).eval(),
        'GLFCR': make_tiny(GLFCR, num_stages=1),
        'AlignCR': make_tiny(AlignCR, num_stages=1, num_layers=1),
    }
    for name, model in models.items():
        model.train()
        export_model(model, folder / f'{name}.pt2')
        assert model.training
        model.eval()
    assert len(list(folder.iterdir())) == 4

    process = subprocess.run(
        [sys.executable, '-c', RUN, folder], capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
    exported = torch.load(folder / 'outputs.pt')
    return {
        name: list(zip(exported[name], [model(*pair) for pair in inputs], strict=True))
        for name, model in models.items()
    }


@pytest.mark.slow
@pytest.mark.parametrize('name', ['DSen2CR', 'GLFCR', 'AlignCR'])
def test_without_this_package(
    outputs: dict[str, list[tuple[Tensor, Tensor]]], name: str
) -> None:
    for output, expected in outputs[name]:
        torch.testing.assert_close(output, expected)


@pytest.mark.parametrize('channels', [2, 0])
def test_any_batch_and_size(tmp_path: Path, channels: int) -> None:
    model = DSen2CR(features=8, num_blocks=1, sar_channels=channels)
    export_model(model, tmp_path / 'model.pt2')
    assert model.training
    assert [path.name for path in tmp_path.iterdir()] == ['model.pt2']
    exported = torch.export.load(tmp_path / 'model.pt2').module()
    for batch_size, *size in SIZES:
        inputs = [torch.rand(batch_size, count, *size) for count in (4, channels)]
        torch.testing.assert_close(exported(*inputs), model.eval()(*inputs))


def test_no_folder(tmp_path: Path) -> None:
    """A file stands where the folder should be."""
    model = DSen2CR(features=8, num_blocks=1)
    (tmp_path / 'nowhere').touch()
    with pytest.raises(OSError, match='nowhere'):
        export_model(model, tmp_path / 'nowhere' / 'model.pt2')
    assert [path.name for path in tmp_path.iterdir()] == ['nowhere']
