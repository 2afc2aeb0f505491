# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity
from torchvision.models import AlexNet_Weights, alexnet

from torchgeo_planetcr.metrics import LPIPS


@pytest.fixture(scope='module')
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cache of torch.hub with random weights of AlexNet."""
    torch.manual_seed(0)
    weights = alexnet().state_dict()
    for name in weights:
        # Weights that LPIPS does not need take no space
        if name.startswith('classifier'):
            weights[name] = torch.zeros(1).expand(weights[name].shape)
    hub = tmp_path_factory.mktemp('torch')
    path = hub / 'hub' / 'checkpoints' / os.path.basename(AlexNet_Weights.DEFAULT.url)
    path.parent.mkdir(parents=True)
    torch.save(weights, path)
    return hub


@pytest.fixture
def path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Path of the weights, which do not exist yet."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    path = Path(LPIPS.weights_path())
    assert tmp_path in path.parents
    path.parent.mkdir(parents=True)
    return path


@pytest.fixture(scope='module')
def images() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(4, 4, 70, 64, generator=generator)
    noise = torch.randn(target.shape, generator=generator)
    levels = torch.tensor([0, 0.05, 0.2, 0.5])[:, None, None, None]
    return target + levels * noise, target


def test_value(
    hub: Path, monkeypatch: pytest.MonkeyPatch, images: tuple[Tensor, Tensor]
) -> None:
    """The value is that of torchmetrics with the same weights, for red, green, blue."""
    monkeypatch.setenv('TORCH_HOME', str(hub))
    prediction, target = images
    metric = LPIPS()
    values = metric.image_values(prediction, target)
    theirs = LearnedPerceptualImagePatchSimilarity(net_type='alex', normalize=True)
    rgb = [image.clamp(0, 1)[:, [2, 1, 0]] for image in images]
    expected = [theirs(p[None], t[None]).item() for p, t in zip(*rgb)]
    assert values.tolist() == pytest.approx(expected, rel=1e-5, abs=1e-7)
    assert values[0] == 0
    assert values.tolist() == sorted(values.tolist())
    assert values[1] > 1e-4

    # NIR has no effect
    other = prediction.clone()
    other[:, 3] = 0
    assert torch.equal(metric.image_values(other, target), values)
    # Training mode and half precision have no effect either
    metric.train()
    with torch.autocast('cpu', torch.bfloat16):
        metric.update(prediction[:1], target[:1])
        metric.update(prediction[1:], target[1:])
    mean = sum(expected) / 4
    assert metric.compute().item() == pytest.approx(mean, rel=1e-5)


def test_no_weights(path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r'download https://.*\.pth') as error:
        LPIPS()
    assert str(path) in str(error.value)


def test_pickled_object(path: Path, tmp_path: Path) -> None:
    """Nothing in the file is executed."""
    made = tmp_path / 'executed'

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str, str]]:
            return open, (str(made), 'w')

    torch.save({'features.0.weight': Evil()}, path)
    with pytest.raises(ValueError, match='whose code is not executed') as error:
        LPIPS()
    assert str(path) in str(error.value)
    assert not made.exists()


def test_damaged_weights(path: Path) -> None:
    path.write_bytes(b'not a checkpoint')
    with pytest.raises(ValueError, match='cannot be read') as error:
        LPIPS()
    assert str(path) in str(error.value)


@pytest.mark.parametrize('weights', [{}, {'features.0.weight': torch.zeros(3)}, [1, 2]])
def test_other_weights(path: Path, weights: object) -> None:
    torch.save(weights, path)
    with pytest.raises(ValueError, match='not hold the weights of AlexNet') as error:
        LPIPS()
    assert str(path) in str(error.value)
