# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchgeo.tasks import BaseTask

from torchgeo_planetcr.models import EncoderDecoder
from torchgeo_planetcr.tasks import CloudRemoval, load_task
from torchgeo_planetcr.tasks.restore import is_plain, read_arguments

TINY: dict[str, Any] = {'features': 4, 'num_blocks': 1}
CLASS_PATH = '_class_path'
INSTANTIATOR: dict[str, Any] = {
    '_instantiator': 'lightning.pytorch.cli.instantiate_module',
    CLASS_PATH: 'torchgeo_planetcr.CloudRemoval',
}


class Half(nn.Module):
    """A model of one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(0.5))

    def forward(self, image: Tensor, image_s1: Tensor) -> Tensor:
        return self.gain * image


class Extended(CloudRemoval):
    """A task of somebody else."""

    def __init__(self, extra: float = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.extra = extra


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / 'strange.ckpt'


def _save(
    path: Path, task: CloudRemoval | None = None, **hyper_parameters: Any
) -> CloudRemoval:
    """A checkpoint with other hyperparameters than those of its task."""
    task = task or CloudRemoval(model_kwargs=TINY)
    content = {
        'state_dict': task.state_dict(),
        'hyper_parameters': dict(task.hparams) | hyper_parameters,
    }
    torch.save(content, path)
    return task


@pytest.mark.parametrize(
    ('value', 'expected'),
    [
        (None, True),
        (3, True),
        (2.5, True),
        ('resnet18', True),
        ('tu-resnet18.a1_in1k', True),
        ('deeplabv3+', True),
        ([256, 128], True),
        ({'features': 4, 'sizes': [1, (2, 3)]}, True),
        (torch.ones(11), True),
        (torch.ones(1000), False),
        ('', False),
        ('/etc/passwd', False),
        ('C:\\x', False),
        ('..', True),
        ('tu-hf-hub:nobody/nothing', False),
        ('http://127.0.0.1', False),
        ('rm -r x', False),
        ('naïve', False),
        ('x\n', False),
        ('x' * 101, False),
        ({'class_path': 'subprocess.Popen'}, False),
        ([{'a': {'class_path': 'x'}}], False),
        ([[[[1]]]], False),
        (list(range(101)), False),
        (b'x', False),
        (object(), False),
    ],
)
def test_is_plain(value: object, expected: bool) -> None:
    assert is_plain(value) is expected


def test_many_values() -> None:
    """A list that holds itself, and one that is small in the file and large in the end."""
    endless: list[Any] = []
    endless.append(endless)
    assert not is_plain(endless)
    wide: Any = 0
    for _ in range(50):
        wide = [wide] * 100
    assert not is_plain(wide)


HOSTILE: list[dict[str, Any]] = [
    {'model_kwargs': TINY | {'x': {'class_path': 'evil.run'}}},
    {'model_kwargs': {'class_path': 'evil.run', 'init_args': {}}},
    {'model_kwargs': TINY | {'features': [{'class_path': 'evil.run'}]}},
    {'model': {'class_path': 'evil.Model'}, 'model_kwargs': None},
    {'model': 'evil.Model', 'model_kwargs': None},
    {'loss': 'evil.Loss'},
    {'loss': {'class_path': 'evil.Loss', 'init_args': {}}},
    {'optimizer': 'evil.run'},
    {'optimizer': {'class_path': 'evil.run'}},
    {'lr_scheduler': {'class_path': 'evil.run'}},
    {'lr': {'class_path': 'evil.run'}},
    {'lr_factors': {'body': {'class_path': 'evil.run'}}},
    {'patience': {'class_path': 'evil.run'}},
    {'backbone': {'class_path': 'evil.run'}},
    {'extra': {'class_path': 'evil.run'}},
    {'extra': 1},
    {CLASS_PATH: 'evil.Model', 'extra': 1},
    {'_instantiator': 'evil.run', 'extra': 1},
]


@pytest.mark.parametrize('hostile', HOSTILE, ids=str)
def test_nothing_is_imported(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hostile: dict[str, Any]
) -> None:
    """Neither by load_task nor by Lightning's own function, whatever names a class."""
    (tmp_path / 'evil.py').write_text('raise SystemExit("executed")')
    monkeypatch.syspath_prepend(tmp_path)
    _save(path, **INSTANTIATOR | hostile)
    with pytest.raises(ValueError, match=f"'{path}'"):
        CloudRemoval.load_from_checkpoint(path, weights_only=True)
    with pytest.raises(ValueError, match=f"'{path}'"):
        CloudRemoval.load_from_checkpoint(path, compile=False)
    assert 'evil' not in sys.modules


def test_only_training_needs_them(path: Path) -> None:
    """An honest checkpoint of LightningCLI restores images without its optimizer."""
    adam = {'class_path': 'torch.optim.Adam', 'init_args': {'lr': 0.1}}
    task = _save(
        path, **INSTANTIATOR, optimizer=adam, loss={'class_path': 'torch.nn.L1'}
    )
    loaded = load_task(path)
    for key, value in task.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value)


@pytest.mark.parametrize('weights', ['/etc/passwd', 'ResNet18_Weights.IMAGENET', True])
def test_initial_weights_are_not_read(path: Path, weights: object) -> None:
    task = _save(path, weights=weights)
    loaded = CloudRemoval.load_from_checkpoint(path)
    assert torch.equal(
        loaded.state_dict()['model.head.0.weight'],
        task.state_dict()['model.head.0.weight'],
    )
    assert not loaded.weights


def test_architecture(path: Path) -> None:
    task = CloudRemoval(
        'unet', 'resnet18', model_kwargs={'decoder_channels': [64, 32, 16, 16, 16]}
    )
    _save(path, task)
    loaded = load_task(path).model
    assert isinstance(loaded, EncoderDecoder)
    for kwargs in (
        {'checkpoint_path': 'weights'},
        {'pretrained': True},
        {'pretrained_cfg': {'file': 'weights'}},
    ):
        _save(path, task, model_kwargs=kwargs, backbone='tu-resnet18')
        with pytest.raises(ValueError, match=f'{next(iter(kwargs))}'):
            load_task(path)


@pytest.mark.parametrize(
    'kwargs',
    [
        {'features': 60_000, 'num_blocks': 1},
        {'features': 4, 'num_blocks': 3_000_000},
        {'features': -1, 'num_blocks': 1},
        {'features': 'x', 'num_blocks': 1},
        {'features': 4, 'num_blocks': 2**70},
        {'nothing': 1},
        [1, 2],
    ],
    ids=str,
)
def test_wrong_arguments(path: Path, kwargs: object) -> None:
    _save(path, model_kwargs=kwargs)
    with pytest.raises(ValueError, match=f"'{path}'"):
        load_task(path)


def test_model_given(path: Path) -> None:
    """The user names the class of a model, and may replace any other argument."""
    task = CloudRemoval(Half(), loss='l1', lr=0.5)
    with torch.no_grad():
        task.model.gain.fill_(0.25)
    _save(path, task, **INSTANTIATOR, model={'class_path': 'gone.Half'})
    with pytest.raises(ValueError, match=rf"'{path}' needs its model.*gone\.Half"):
        CloudRemoval.load_from_checkpoint(path)
    with pytest.raises(ValueError, match=rf"'{path}' needs its model.*gone\.Half"):
        load_task(path)
    loaded = CloudRemoval.load_from_checkpoint(path, model=Half(), patience=3)
    assert loaded.model.gain == 0.25
    assert (loaded.hparams['lr'], loaded.hparams['patience']) == (0.5, 3)


def test_subclass(path: Path) -> None:
    task = Extended(extra=2, model_kwargs=TINY)
    _save(path, task, **{CLASS_PATH: 'somewhere.Extended'})
    assert Extended.load_from_checkpoint(path).extra == 2
    with pytest.raises(ValueError, match=r'extra.*somewhere\.Extended'):
        CloudRemoval.load_from_checkpoint(path)


def test_weights(path: Path) -> None:
    task = _save(path)
    content = torch.load(path, weights_only=True)
    state = content['state_dict']
    key = 'model.head.0.weight'
    for damaged, match in (
        ({k: v for k, v in state.items() if k != key}, f'1 missing \\({key}'),
        (state | {'model.more': torch.zeros(1)}, '1 surplus'),
        (state | {key: torch.zeros(1)}, 'another shape'),
        (state | {key: state[key].to(torch.int8)}, 'another type'),
        (state | {key: state[key] * torch.nan}, 'NaN'),
        (state | {key: None}, 'without plain values'),
    ):
        torch.save(content | {'state_dict': damaged}, path)
        with pytest.raises(ValueError, match=f"'{path}'.*{match}"):
            load_task(path)
    partial = {k: v for k, v in state.items() if k != key}
    torch.save(content | {'state_dict': partial}, path)
    loaded = CloudRemoval.load_from_checkpoint(path, strict=False)
    bias = 'model.head.0.bias'
    assert torch.equal(loaded.state_dict()[bias], task.state_dict()[bias])


@pytest.mark.parametrize(
    'options', [{'weights_only': False}, {'hparams_file': 'hparams.yaml'}]
)
def test_what_would_execute(path: Path, options: dict[str, Any]) -> None:
    _save(path)
    with pytest.raises(ValueError, match=next(iter(options))):
        CloudRemoval.load_from_checkpoint(path, **options)


def test_arguments() -> None:
    checkpoint = {
        'hyper_parameters': {
            'model': {'class_path': 'a.B'},
            'model_kwargs': None,
            'backbone': 'resnet18',
            'optimizer': None,
            'lr': 0.1,
        }
    }
    kind: type[BaseTask] = CloudRemoval
    arguments = read_arguments('x.ckpt', checkpoint, kind)
    assert arguments.objects == {'model': 'a.B'}
    assert arguments.values == {
        'model_kwargs': None,
        'backbone': 'resnet18',
        'optimizer': None,
        'lr': 0.1,
    }
    assert arguments.without(['model', 'optimizer']) == ({'lr': 0.1}, {})
