# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import re
from pathlib import Path

import lightning
import pytest
import torch
from torch import Tensor, nn

from torchgeo_planetcr.models import GLFCR, AlignCR, DSen2CR
from torchgeo_planetcr.models.checkpoint import reference_names
from torchgeo_planetcr.tasks import CloudRemoval, load_task

KINDS = [DSen2CR, GLFCR, AlignCR]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / 'authors.pth'


def _make_network(kind: type[nn.Module]) -> dict[str, Tensor]:
    """Weights of a whole network of the authors."""
    with torch.device('meta'):
        model = kind()
    state_dict = model.state_dict()
    return {
        # One value stands for each weight, so that the file is small
        f'module.{name}': torch.full((1,), 0.5).expand(state_dict[key].shape)
        for name, key in reference_names(model).items()
    }


@pytest.fixture
def no_random_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Save the time that it takes to draw weights that are replaced or not used."""
    for name in ('kaiming_uniform_', 'uniform_', 'trunc_normal_'):
        monkeypatch.setattr(nn.init, name, lambda tensor, *args, **kwargs: tensor)


@pytest.mark.usefixtures('no_random_weights')
@pytest.mark.parametrize('kind', KINDS)
class TestAuthors:
    def test_whole(self, path: Path, kind: type[nn.Module]) -> None:
        torch.save({'network': _make_network(kind)}, path)
        model = load_task(path).model
        assert isinstance(model, kind)
        assert all(bool((value == 0.5).all()) for value in model.state_dict().values())

    @pytest.mark.parametrize('damage', ['missing', 'of another shape'])
    def test_damaged(self, path: Path, kind: type[nn.Module], damage: str) -> None:
        """The error is that of the network that the checkpoint is for."""
        network = _make_network(kind)
        key = list(network)[len(network) // 2]
        if damage == 'missing':
            del network[key]
        else:
            network[key] = torch.zeros(2, 1, 2)
        torch.save({'network': network}, path)

        with pytest.raises(ValueError) as error:
            load_task(path)

        name = re.escape(key.removeprefix('module.'))
        match = f"'{path}' does not fit {kind.__name__}: 1 {damage} \\({name}[ )]"
        assert re.match(match, str(error.value))
        assert f'seems to be for {kind.__name__}, but' in str(error.value)


def test_no_network_of_the_authors(path: Path) -> None:
    torch.save({'network': {'module.layer.weight': torch.zeros(1)}}, path)
    with pytest.raises(ValueError, match=f"'{path}' does not fit any of the networks"):
        load_task(path)
    torch.save({'network': [1, 2]}, path)
    with pytest.raises(ValueError, match=f"'{path}' has no entry 'network'"):
        load_task(path)


@pytest.mark.parametrize('content', [{'weights': {}}, [torch.zeros(1)]])
def test_not_of_lightning(path: Path, content: object) -> None:
    torch.save(content, path)
    with pytest.raises(ValueError, match=f"'{path}' is not a checkpoint of Lightning"):
        load_task(path)


def test_lightning(path: Path) -> None:
    torch.save({'state_dict': {}, 'hyper_parameters': {'model': 'dsen2cr'}}, path)
    with pytest.raises(ValueError, match=f"'{path}' does not fit CloudRemoval"):
        load_task(path)
    task = CloudRemoval(model_kwargs={'features': 4, 'num_blocks': 1})
    content = {
        'state_dict': task.state_dict(),
        'hyper_parameters': dict(task.hparams),
        'pytorch-lightning_version': lightning.__version__,
    }
    torch.save(content, path)
    loaded = load_task(path)
    for key, value in task.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value)


class Scaled(nn.Module):
    """A model of one's own."""

    def __init__(self, channels: int = 4, gain: float = 1.0) -> None:
        super().__init__()
        self.gain = gain
        self.layer = nn.Conv2d(channels, channels, 1)

    def forward(self, image: Tensor, image_s1: Tensor) -> Tensor:
        return self.gain * self.layer(image)


def _save_scaled(path: Path, description: object) -> CloudRemoval:
    task = CloudRemoval(Scaled(gain=0.25))
    hparams = {**task.hparams, 'model': description}
    torch.save({'state_dict': task.state_dict(), 'hyper_parameters': hparams}, path)
    return task


@pytest.mark.parametrize('named', [True, False])
def test_own_class(path: Path, named: bool) -> None:
    """The user names it, and the checkpoint its arguments."""
    description = {'class_path': 'evil.Model', 'init_args': {'gain': 0.25}}
    task = _save_scaled(path, description)
    with pytest.raises(
        ValueError, match=r"'.*' needs its model.* --model evil\.Model "
    ):
        load_task(path)
    loaded = load_task(path, f'{__name__}.Scaled' if named else Scaled)
    assert isinstance(loaded.model, Scaled)
    image, image_s1 = torch.rand(1, 4, 8, 8), torch.rand(1, 2, 8, 8)
    assert torch.equal(loaded(image, image_s1), task(image, image_s1))


def test_class_is_not_needed(path: Path) -> None:
    """As another method of an evaluation may need it."""
    task = CloudRemoval(model_kwargs={'features': 4, 'num_blocks': 1})
    torch.save(
        {'state_dict': task.state_dict(), 'hyper_parameters': dict(task.hparams)}, path
    )
    assert isinstance(load_task(path, 'nowhere.Model').model, DSen2CR)


@pytest.mark.parametrize(
    ('model', 'named'),
    [
        ('nowhere.Model', 'nowhere.Model'),
        (f'{__name__}.Nothing', 'Nothing'),
        ('no class', 'no class'),
        ('json.loads', 'json.loads'),
        ('pathlib.Path', 'pathlib.Path'),
    ],
)
def test_no_class(path: Path, model: str, named: str) -> None:
    _save_scaled(path, {'class_path': 'evil.Model'})
    with pytest.raises(ValueError, match=named):
        load_task(path, model)


@pytest.mark.parametrize(
    'init_args',
    [
        {'gain': {'class_path': 'subprocess.Popen', 'init_args': {'args': 'x'}}},
        {'gain': '/etc/passwd'},
        {'nothing': 1},
        'x',
    ],
)
def test_arguments_of_own_class(path: Path, init_args: object) -> None:
    """Numbers and names, and what the class takes."""
    _save_scaled(path, {'class_path': 'evil.Model', 'init_args': init_args})
    with pytest.raises(ValueError, match=f"'{path}'"):
        load_task(path, Scaled)


def test_nothing_to_type_but_a_class(path: Path) -> None:
    """What a stranger has written does not end up in a line that somebody copies."""
    _save_scaled(path, {'class_path': 'a; touch executed'})
    with pytest.raises(ValueError, match='--model CLASS '):
        load_task(path)
