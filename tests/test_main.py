# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from lightning.pytorch import Trainer
from numpy.typing import NDArray
from rasterio.transform import from_origin
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn
from torchgeo.tasks import SemanticSegmentation

from torchgeo_planetcr import CloudRemoval, PlanetCR, evaluate, index, info
from torchgeo_planetcr.datasets import download
from torchgeo_planetcr.datasets.index import FILENAME
from torchgeo_planetcr.evaluation.landcover import landcover_level, load_landcover_model
from torchgeo_planetcr.main import main, run_trainer
from torchgeo_planetcr.models import EncoderDecoder
from torchgeo_planetcr.raster.write import MACHINE, UNFINISHED

EXAMPLES = Path(__file__).parents[1] / 'examples'
CONFIG = EXAMPLES / 'dsen2cr_one_minute.yaml'
QUICK = [
    '--trainer.accelerator=cpu',
    '--trainer.enable_progress_bar=false',
    '--trainer.max_epochs=1',
]
TINY_FUSION = (
    '{features: 8, growth: 8, num_stages: 2, num_layers: 2, num_heads: 2, '
    'recompute: true}'
)
NO_MASK = '--data.modalities=[cloudy, clear, sentinel1]'
TINY = '--model.init_args.model_kwargs={features: 8, num_blocks: 1}'


def run(command: str, *args: str | Path) -> str:
    """Run a command as a user calls it."""
    path = Path(sys.executable).with_name(command)
    result = subprocess.run(
        [path, *args],
        check=False,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert result.returncode == 0, result.stderr
    assert 'Error' not in result.stderr
    return result.stdout


@pytest.mark.slow
def test_planetcr(root: Path, tmp_path: Path) -> None:
    """Fit from the example's configuration, then test and predict with the result."""
    common = [
        *QUICK,
        f'--trainer.default_root_dir={tmp_path}',
        f'--data.root={root}',
        '--data.patch_size=32',
        '--data.length=4',
    ]
    run('planetcr', 'fit', f'--config={CONFIG}', TINY, *common)
    (checkpoint,) = tmp_path.glob('lightning_logs/version_0/checkpoints/epoch*.ckpt')
    state = torch.load(checkpoint, weights_only=True)
    assert state['hyper_parameters']['model'] == 'dsen2cr'
    assert state['state_dict']['model.head.0.weight'].shape == (8, 6, 3, 3)
    events = EventAccumulator(str(tmp_path / 'lightning_logs' / 'version_0')).Reload()
    assert 'image/0' in events.Tags()['images']
    assert {'train_loss', 'val_loss', 'val_PSNR'} <= set(events.Tags()['scalars'])

    saved = tmp_path / 'lightning_logs' / 'version_0' / 'config.yaml'
    options = [f'--config={saved}', f'--ckpt_path={checkpoint}', '--weights_only=true']
    table = run('planetcr', 'test', *options)
    for metric in ('test_PSNR', 'test_SSIM', 'test_SAM', 'test_MAE', 'test_loss'):
        assert metric in table
    assert 'val_PSNR' in run('planetcr', 'validate', *options)
    out = tmp_path / 'predictions'
    main(['predict', *options, f'--out={out}'])
    assert len(list(out.iterdir())) == 3


@pytest.mark.slow
def test_torchgeo(root: Path, tmp_path: Path) -> None:
    """TorchGeo's own command takes the same classes and the same configuration."""
    common = [*QUICK, f'--trainer.default_root_dir={tmp_path}']
    run(
        'torchgeo',
        'fit',
        '--model=torchgeo_planetcr.CloudRemoval',
        TINY,
        '--data=torchgeo_planetcr.PlanetCRDataModule',
        f'--data.init_args.root={root}',
        '--data.init_args.patch_size=32',
        '--data.init_args.length=2',
        *common,
    )
    run(
        'torchgeo',
        'fit',
        f'--config={CONFIG}',
        TINY,
        f'--data.init_args.root={root}',
        '--data.init_args.patch_size=32',
        '--data.init_args.length=2',
        *common,
    )
    assert len(list(tmp_path.glob('lightning_logs/*/checkpoints/epoch*.ckpt'))) == 2


@pytest.mark.parametrize(
    ('model', 'tiny', 'rates'),
    [
        ('dsen2cr', '{features: 8, num_blocks: 1}', [5e-5]),
        ('glfcr', TINY_FUSION, [5e-5]),
        ('aligncr', TINY_FUSION, [5e-5, 5e-6]),
    ],
)
def test_reference_configuration(
    root: Path, tmp_path: Path, model: str, tiny: str, rates: list[float]
) -> None:
    """The configuration of the authors' training, with a small network."""
    cli = run_trainer(
        [
            'fit',
            f'--config={EXAMPLES / f"{model}_reference.yaml"}',
            f'--model.init_args.model_kwargs={tiny}',
            *QUICK,
            '--trainer.max_epochs=12',
            f'--trainer.default_root_dir={tmp_path}',
            f'--data.root={root}',
            '--data.patch_size=16',
            '--data.eval_size=16',
            '--data.length=2',
            '--data.num_workers=0',
        ]
    )
    (checkpoint,) = tmp_path.glob('lightning_logs/version_0/checkpoints/epoch*.ckpt')
    # Validated, and so saved, every second epoch only.
    assert int(checkpoint.stem.split('=')[1].split('-')[0]) % 2 == 1
    saved = (tmp_path / 'lightning_logs' / 'version_0' / 'config.yaml').read_text()
    assert 'torch.optim.Adam' in saved

    # Halved after ten epochs
    (optimizer,) = cli.trainer.optimizers
    assert isinstance(optimizer, torch.optim.Adam)
    assert [group['lr'] for group in optimizer.param_groups] == pytest.approx(rates)
    torch.load(checkpoint, weights_only=True)


@pytest.mark.slow
@pytest.mark.parametrize('model', ['glfcr', 'aligncr'])
def test_one_minute_configuration(root: Path, tmp_path: Path, model: str) -> None:
    run(
        'planetcr',
        'fit',
        f'--config={EXAMPLES / f"{model}_one_minute.yaml"}',
        *QUICK,
        f'--trainer.default_root_dir={tmp_path}',
        f'--data.root={root}',
        '--data.patch_size=32',
        '--data.length=2',
    )
    (checkpoint,) = tmp_path.glob('lightning_logs/version_0/checkpoints/epoch*.ckpt')
    saved = checkpoint.parents[1] / 'config.yaml'
    options = [f'--config={saved}', f'--ckpt_path={checkpoint}', '--weights_only=true']
    assert 'test_PSNR' in run('planetcr', 'test', *options)


@pytest.mark.parametrize(
    'config',
    [
        pytest.param('landcover_one_minute', marks=pytest.mark.slow),
        'landcover_reference',
    ],
)
def test_land_cover(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], config: str
) -> None:
    """TorchGeo's task for segmentation, on clear images."""
    options = [
        f'--config={EXAMPLES / f"{config}.yaml"}',
        '--model.init_args.backbone=resnet18',
        *QUICK,
        f'--trainer.default_root_dir={tmp_path}',
        f'--data.init_args.root={root}',
        '--data.init_args.patch_size=32',
        '--data.init_args.eval_size=64',
        '--data.init_args.batch_size=2',
        '--data.init_args.length=4',
        '--data.init_args.num_workers=0',
    ]
    main(['fit', *options])
    version = tmp_path / 'lightning_logs' / 'version_0'
    (checkpoint,) = version.glob('checkpoints/epoch*.ckpt')
    SemanticSegmentation.load_from_checkpoint(checkpoint, weights_only=True)
    assert landcover_level(load_landcover_model(checkpoint)) == 2
    events = EventAccumulator(str(version)).Reload()
    assert 'image/0' in events.Tags()['images']
    assert {'val_loss', 'val_AverageJaccardIndex'} <= set(events.Tags()['scalars'])

    saved = f'--config={version / "config.yaml"}'
    main(['test', saved, f'--ckpt_path={checkpoint}', '--weights_only=true'])
    assert 'test_AverageJaccardIndex' in capsys.readouterr().out
    if config == 'landcover_one_minute':
        run('torchgeo', 'fit', *options)
        assert (tmp_path / 'lightning_logs' / 'version_2' / 'checkpoints').is_dir()
    out, mosaic = tmp_path / 'out', tmp_path / 'mosaic'
    more = [f'--out={out}', f'--mosaic={mosaic}', '--dtype=uint8']
    main(['predict', saved, f'--ckpt_path={checkpoint}', *more])
    assert len(list(out.iterdir())) == 3
    for path in (*out.iterdir(), *mosaic.iterdir()):
        with rasterio.open(path) as image:
            assert (image.count, image.dtypes[0], image.nodata) == (1, 'uint8', 255)
            mask = image.dataset_mask().astype(bool)
            assert image.read(1)[mask].max() < 11


@pytest.mark.slow
def test_architecture(root: Path, tmp_path: Path) -> None:
    run(
        'planetcr',
        'fit',
        '--model.model=unet',
        '--model.backbone=resnet18',
        '--model.loss=l1',
        *QUICK,
        f'--trainer.default_root_dir={tmp_path}',
        f'--data.root={root}',
        '--data.patch_size=48',
        '--data.length=2',
        '--data.batch_size=2',
    )
    (checkpoint,) = tmp_path.glob('lightning_logs/version_0/checkpoints/epoch*.ckpt')
    task = CloudRemoval.load_from_checkpoint(checkpoint, weights_only=True)
    assert isinstance(task.model, EncoderDecoder)


def test_info(root: Path, own_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(['info', str(root)])
    printed = capsys.readouterr().out
    assert printed.strip() == info(root).strip()
    lines = printed.splitlines()
    assert lines[0] == f'Planet-CR in {root}'
    assert [' '.join(line.split()) for line in lines[2:6]] == [
        'patches areas spring summer fall winter UTM zones',
        'train 12 9 4 3 2 3 19S 33N 36S 46N 54S',
        'val 1 1 0 0 1 0 33N',
        'test 3 2 0 1 0 2 36S 46N',
    ]
    assert len(lines) == 6

    shutil.rmtree(own_root / 'test')
    missing = next(own_root.glob('train/S1_spring/S1_spring_1/*_p_2.tif'))
    missing.unlink()
    main(['info', str(own_root)])
    printed = capsys.readouterr().out
    assert 'train: 1 more patch(es) cannot be used' in printed
    assert "spring_1_p_2 has no file of modality 'sentinel1'" in printed
    assert 'test: no patches' in printed


def test_index(own_root: Path) -> None:
    path = own_root / FILENAME
    path.unlink(missing_ok=True)
    expected = f'16 patches of {own_root} are indexed in {path}\n'
    assert run('planetcr', 'index', own_root) == expected
    before = path.stat()
    assert len(PlanetCR(own_root)) == 12
    # Of a process that was killed
    left = own_root / f'{UNFINISHED}{MACHINE}-abc'
    left.mkdir()
    assert run('planetcr', 'index', own_root) == expected
    assert not left.exists()
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (
        before.st_ino,
        before.st_mtime_ns,
    )
    next(own_root.glob('test/S1_*/*/*.tif')).unlink()
    assert index(own_root) == expected.strip()
    assert path.stat().st_mtime_ns > before.st_mtime_ns


def test_index_of_a_folder_without_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match='planetcr index: Planet-CR not found'):
        main(['index', str(tmp_path)])
    with pytest.raises(SystemExit, match='planetcr index: Planet-CR not found'):
        main(['index', str(tmp_path / 'nowhere')])
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(SystemExit):
        main(['index'])
    assert 'root' in capsys.readouterr().err


def test_download_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sample_root: Path
) -> None:
    monkeypatch.setattr(download, 'SAMPLE_URL', f'{sample_root.resolve().as_uri()}/')
    root = tmp_path / 'sample'
    main(['download-sample', str(root)])
    assert 'summer_33' in ' '.join(str(path) for path in root.rglob('*.tif'))
    assert len(list(root.rglob('*.tif'))) == 8
    table = info(root)
    assert 'train        1      1' in table
    assert 'test         1      1' in table


def test_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match='planetcr info: Planet-CR not found') as error:
        main(['info', str(tmp_path)])
    assert 'planetcr download-sample' in str(error.value)
    with pytest.raises(SystemExit):
        main(['info'])
    assert 'root' in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(['unknown-command'])
    assert 'unknown-command' in capsys.readouterr().err


@pytest.mark.parametrize('command', ['evaluate', 'fit'])
@pytest.mark.parametrize(
    'damage',
    [
        os.mkfifo,
        os.mkdir,
        lambda path: path.write_bytes(b'out: \xe9\n'),
        lambda path: path.write_text('out: x\n', encoding='utf-16'),
        lambda path: path.write_bytes(b'out: a\0b\n'),
        lambda path: path.write_text('out: [x\n'),
        lambda path: path.write_text('[' * 100_000),
        lambda path: path.write_text('hello\n'),
        lambda path: path.write_text('[1, 2]\n'),
        lambda path: path.write_text('unknown_argument: 1\n'),
        lambda path: path.write_text('overwrite: {a: 1}\nseed_everything: {a: 1}\n'),
    ],
    ids=[
        'pipe',
        'folder',
        'Latin-1',
        'UTF-16',
        'NUL',
        'YAML',
        'deep',
        'text',
        'list',
        'unknown',
        'type',
    ],
)
def test_damaged_configuration(
    root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    command: str,
    damage: Callable[[Path], object],
) -> None:
    """The error names it."""
    config = tmp_path / 'my_config.yaml'
    damage(config)
    args = [str(root), 'copy'] if command == 'evaluate' else []
    with pytest.raises(SystemExit) as caught:
        main([command, f'--config={config}', *args])
    assert str(config) in f'{caught.value.code} {capsys.readouterr().err}'


def test_no_data(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match='planetcr fit: Planet-CR not found'):
        main(['fit', TINY, *QUICK, f'--data.root={tmp_path}'])


def test_damaged_checkpoint(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / 'damaged.ckpt'
    path.write_bytes(b'no checkpoint')
    with pytest.raises(SystemExit):
        main(['test', f'--ckpt_path={path}', f'--data.root={root}'])
    assert f"'{path}' cannot be read as a checkpoint" in capsys.readouterr().err


class Half(nn.Module):
    """A model of one's own."""

    def __init__(self, gain: float = 0.5) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(gain))

    def forward(self, image: Tensor, image_s1: Tensor) -> Tensor:
        return self.gain * image


def save_checkpoint(path: Path, task: CloudRemoval, **hyper_parameters: Any) -> Path:
    """A checkpoint as LightningCLI writes it, with other hyperparameters."""
    trainer = Trainer(logger=False, accelerator='cpu')
    trainer.strategy.connect(task)
    trainer.save_checkpoint(path, weights_only=True)
    content = torch.load(path, weights_only=True)
    content['hyper_parameters'] |= {
        '_instantiator': 'lightning.pytorch.cli.instantiate_module',
        '_class_path': 'torchgeo_planetcr.CloudRemoval',
        **hyper_parameters,
    }
    torch.save(content, path)
    return path


def trainer_options(root: Path, tmp_path: Path) -> list[str]:
    """Options with which nothing is kept but what is asked for."""
    return [
        *QUICK,
        '--trainer.logger=false',
        f'--trainer.default_root_dir={tmp_path}',
        f'--data.root={root}',
        '--data.patch_size=32',
        '--data.length=2',
        '--data.num_workers=0',
    ]


@pytest.mark.parametrize(
    ('command', 'name'),
    [
        ('fit', 'strange.ckpt'),
        ('validate', 'strange.ckpt'),
        # A word of Lightning, and a file
        ('test', 'last.ckpt'),
        ('predict', 'strange.ckpt'),
        ('evaluate', 'strange.ckpt'),
        ('remove-clouds', 'strange.ckpt'),
    ],
)
def test_hostile_checkpoint(
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    name: str,
) -> None:
    """Nothing in it is called, imported or opened, whatever takes it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'evil.py').write_text('open("imported", "w")\n')
    monkeypatch.syspath_prepend(tmp_path)
    touch = {
        'class_path': 'subprocess.Popen',
        'init_args': {'args': ['touch', 'executed']},
    }
    cloudy = next(root.glob('test/planet_cloudy_*/*/*.tif'))
    s1 = next(root.glob('test/S1_*/*/*.tif'))
    for hostile in (
        {'model_kwargs': {'features': 4, 'num_blocks': 1, 'x': touch}},
        {'model': touch, 'model_kwargs': None},
        {'model': 'evil.Model', 'model_kwargs': None},
        {'lr': touch},
        {'anything': 'evil.run'},
    ):
        task = CloudRemoval(model_kwargs={'features': 4, 'num_blocks': 1})
        path = save_checkpoint(Path(name), task, **hostile)
        args = {
            'evaluate': ['evaluate', root, path, '--out=out'],
            'remove-clouds': [
                'remove-clouds',
                cloudy,
                f'--s1={s1}',
                '--checkpoint',
                path,
                '--out=o.tif',
            ],
        }.get(
            command, [command, f'--ckpt_path={path}', *trainer_options(root, tmp_path)]
        )
        with pytest.raises(SystemExit) as exit_:
            main([str(arg) for arg in args])
        assert exit_.value.code != 0
        assert name in f'{exit_.value} {capsys.readouterr().err}'
    assert {path.name for path in tmp_path.iterdir()} <= {
        name,
        'evil.py',
        '__pycache__',
    }
    assert 'evil' not in sys.modules


def test_checkpoint_of_an_address(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = 'http://127.0.0.1:9/model.ckpt'
    with pytest.raises(SystemExit):
        main(['test', f'--ckpt_path={url}', *trainer_options(root, tmp_path)])
    assert f"'{url}' does not exist" in capsys.readouterr().err


def test_arguments_of_a_checkpoint(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Numbers and names are taken over; what does not fit is named."""
    task = CloudRemoval(model_kwargs={'features': 4, 'num_blocks': 1}, loss='l1')
    path = save_checkpoint(tmp_path / 'small.ckpt', task)
    options = trainer_options(root, tmp_path)
    main(['test', f'--ckpt_path={path}', *options])
    assert 'test_loss' in capsys.readouterr().out
    for problem in (
        {'features': 'x'},
        {'features': 4, 'num_blocks': 2},
        {'nothing': 1},
    ):
        save_checkpoint(path, task, model_kwargs=problem)
        with pytest.raises(SystemExit) as exit_:
            main(['test', f'--ckpt_path={path}', *options])
        assert f"'{path}'" in f'{exit_.value} {capsys.readouterr().err}'


def test_options_beside_a_checkpoint(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They hold, but for those that the state of the optimizer replaces."""
    options = trainer_options(root, tmp_path)
    main(['fit', TINY, '--model.lr=0.001', '--model.loss=l1', *options])
    path = tmp_path / 'checkpoints' / 'last.ckpt'
    more = [*options, f'--ckpt_path={path}', '--trainer.max_epochs=2']
    capsys.readouterr()
    main(['fit', '--model.loss=edge_charbonnier', '--model.lr=0.5', *more])
    printed = capsys.readouterr().err
    assert '--model.lr is ignored' in printed
    assert str(path) in printed
    content = torch.load(path, weights_only=True)
    assert content['epoch'] == 1
    found = content['hyper_parameters']
    assert (found['loss'], found['lr']) == ('edge_charbonnier', 0.001)
    assert found['model_kwargs'] == {'features': 8, 'num_blocks': 1}
    assert content['optimizer_states'][0]['param_groups'][0]['lr'] == 0.001
    # What is the same is no change
    main(['test', '--model.model=dsen2cr', f'--ckpt_path={path}', *options])
    assert 'ignored' not in capsys.readouterr().err
    with pytest.raises(SystemExit) as exit_:
        main(['test', '--model.model=unet', f'--ckpt_path={path}', *options])
    assert str(path) in f'{exit_.value} {capsys.readouterr().err}'


@pytest.mark.parametrize('form', ['whole', 'short', 'command'])
def test_configuration_beside_a_checkpoint(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    """Its values hold as options do; that of the training itself changes nothing."""
    task = CloudRemoval(
        'unet', 'resnet18', model_kwargs={'decoder_channels': (8, 8, 8, 8, 8)}, lr=0.01
    )
    path = save_checkpoint(tmp_path / 'small.ckpt', task, loss='l1')
    config = tmp_path / 'my.yaml'

    def run_with(command: str, arguments: str) -> str:
        text = {
            'whole': 'model: {class_path: CloudRemoval, init_args: %s}',
            'short': 'model: %s',
            'command': command + ': {model: {init_args: %s}}',
        }[form]
        config.write_text(text % arguments)
        call = [command, f'--config={config}']
        call = call[::-1] if form == 'command' else call
        capsys.readouterr()
        main([*call, f'--ckpt_path={path}', *trainer_options(root, tmp_path)])
        return capsys.readouterr().err

    own = 'model: unet, backbone: resnet18, lr: 1e-2, patience: 10, weights: null'
    kwargs = 'model_kwargs: {decoder_channels: [8, 8, 8, 8, 8]}'
    assert 'ignored' not in run_with('test', f'{{{own}, loss: l1, {kwargs}}}')
    # Without a mask of clouds, this loss would end in an error
    main([*('test', f'--ckpt_path={path}'), *trainer_options(root, tmp_path), NO_MASK])
    with pytest.raises(SystemExit, match='mask_cloud'):
        config.write_text('model: {loss: carl}')
        options = [*trainer_options(root, tmp_path), NO_MASK]
        main(['test', f'--config={config}', f'--ckpt_path={path}', *options])
    for other in ('backbone: resnet34', 'model_kwargs: {decoder_channels: [8]}'):
        with pytest.raises(SystemExit):
            run_with('test', f'{{{other}}}')
        printed = capsys.readouterr().err
        assert f"'{path}'" in printed
        assert f'{other.split(":")[0]} in {config}' in printed


def test_learning_rate_of_a_configuration(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Training that goes on says that it has its own, and the saved one says the same."""
    options = [*trainer_options(root, tmp_path), '--trainer.logger=true']
    main(['fit', TINY, '--model.lr=0.001', '--model.loss=l1', *options])
    folder = tmp_path / 'lightning_logs' / 'version_0'
    more = [f'--ckpt_path={folder / "checkpoints" / "last.ckpt"}', *options[1:]]
    saved = f'--config={folder / "config.yaml"}'
    capsys.readouterr()
    main(['fit', saved, *more, '--trainer.max_epochs=2'])
    assert 'ignored' not in capsys.readouterr().err
    config = tmp_path / 'other.yaml'
    config.write_text('model: {init_args: {lr: 0.0001}}')
    main(['fit', f'--config={config}', *more, '--trainer.max_epochs=2'])
    assert f'lr in {config} is ignored' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('model', 'kwargs'),
    [
        ('dsen2cr', '{features: 8, num_blocks: 1}'),
        ('unet', '{decoder_channels: [4, 4, 4, 4, 4]}'),
    ],
)
def test_initial_weights(
    root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    model: str,
    kwargs: str,
) -> None:
    """Training begins with those of another one, and with its own learning rate."""
    network = [
        f'--model.model={model}',
        '--model.backbone=resnet18',
        f'--model.model_kwargs={kwargs}',
        '--data.batch_size=2',
    ]
    main(['fit', '--model.loss=l1', *network, *trainer_options(root, tmp_path / 'a')])
    path = tmp_path / 'a' / 'checkpoints' / 'last.ckpt'
    options = [f'--model.weights={path}', *trainer_options(root, tmp_path / 'b')]
    main(['fit', '--model.loss=l1', '--model.lr=0', *network, *options])
    tuned = torch.load(tmp_path / 'b/checkpoints/last.ckpt', weights_only=True)
    trained = torch.load(path, weights_only=True)['state_dict']
    parameters = {
        k: v for k, v in trained.items() if 'running' not in k and 'num_' not in k
    }
    for name, value in parameters.items():
        assert torch.equal(tuned['state_dict'][name], value), name
    assert tuned['optimizer_states'][0]['param_groups'][0]['lr'] == 0
    assert tuned['epoch'] == 0
    # Weights that are given are not random
    main(['test', *network, *options])
    assert 'test_PSNR' in capsys.readouterr().out
    with pytest.raises(SystemExit, match=f"'{path}' does not fit GLFCR"):
        main(['fit', *options, '--model.model=glfcr'])


def test_initial_weights_beside_a_checkpoint(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Training goes on, although the file is gone, and says so if it is named again."""
    first, second = tmp_path / 'first.ckpt', tmp_path / 'checkpoints' / 'last.ckpt'
    task = CloudRemoval(model_kwargs={'features': 8, 'num_blocks': 1}, loss='l1')
    save_checkpoint(first, task)
    options = [TINY, '--model.loss=l1', *trainer_options(root, tmp_path)]
    main(['fit', f'--model.weights={first}', *options])
    first.unlink()
    more = [*options, f'--ckpt_path={second}', '--trainer.max_epochs=2']
    capsys.readouterr()
    main(['fit', f'--model.weights={first}', *more])
    printed = capsys.readouterr().err
    assert '--model.weights is ignored' in printed
    assert str(second) in printed
    assert torch.load(second, weights_only=True)['epoch'] == 1


def test_without_sentinel1(
    own_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An archive that has none, from training to scenes."""
    for folder in own_root.glob('*/S1_*'):
        shutil.rmtree(folder)
    options = [
        *trainer_options(own_root, tmp_path),
        '--data.modalities=[cloudy, clear]',
    ]
    kwargs = '--model.model_kwargs={features: 4, num_blocks: 1, sar_channels: 0}'
    radar = '--data.augmentations=[torchgeo_planetcr.transforms.RandomModalityDropout]'
    main(['fit', kwargs, '--model.loss=l1', radar, *options])
    path = tmp_path / 'checkpoints' / 'last.ckpt'
    capsys.readouterr()
    for command in ('validate', 'test'):
        main([command, f'--ckpt_path={path}', '--model.loss=l1', *options])
        assert '_PSNR' in capsys.readouterr().out
    main(['test', '--model.model=copy', '--model.loss=l1', *options])
    out = tmp_path / 'out'
    only = '--data.modalities=cloudy'
    main(['predict', f'--ckpt_path={path}', f'--out={out}', *options, only])
    assert len(list(out.glob('*.tif'))) == 3
    with pytest.raises(SystemExit, match="image_s1.*'sentinel1'.*sar_channels=0"):
        main(['fit', TINY, '--model.loss=l1', *options])


def test_module_in_the_current_folder(root: Path, tmp_path: Path) -> None:
    """Named as in the tutorial, to train and to test."""
    (tmp_path / 'my_models.py').write_text(
        'from torch import nn\n'
        'class Mine(nn.Module):\n'
        '    def __init__(self):\n'
        '        super().__init__()\n'
        '        self.layer = nn.Conv2d(4, 4, 1)\n'
        '    def forward(self, image, image_s1):\n'
        '        return self.layer(image)\n'
        'class Loss(nn.L1Loss):\n'
        '    pass\n'
    )
    model = ['--model.model=my_models.Mine', '--model.loss=my_models.Loss']
    options = [*model, *trainer_options(root, tmp_path)]
    path = tmp_path / 'checkpoints' / 'last.ckpt'
    for command in (['fit'], ['test', f'--ckpt_path={path}']):
        result = subprocess.run(
            [Path(sys.executable).with_name('planetcr'), *command, *options],
            check=False,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            cwd=tmp_path,
        )
        assert result.returncode == 0, result.stderr
    assert 'test_PSNR' in result.stdout


def test_another_network_than_that_of_a_checkpoint(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = CloudRemoval(model_kwargs={'features': 4, 'num_blocks': 1}, loss='l1')
    path = save_checkpoint(tmp_path / 'small.ckpt', task)
    options = trainer_options(root, tmp_path)
    with pytest.raises(SystemExit):
        main(['test', f'--ckpt_path={path}', '--model.model=unet', *options])
    printed = capsys.readouterr().err
    assert f"'{path}'" in printed
    assert '--model.model' in printed


def test_class_of_a_checkpoint(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever uses it names the class of its model."""
    name = f'{__name__}.Half'
    task = CloudRemoval(Half(), loss='l1')
    description = {'class_path': name, 'init_args': {'gain': 0.25}}
    path = save_checkpoint(tmp_path / 'half.ckpt', task, model=description)
    options = [f'--ckpt_path={path}', *trainer_options(root, tmp_path)]
    with pytest.raises(SystemExit):
        main(['test', *options])
    printed = capsys.readouterr().err
    assert f"'{path}'" in printed
    assert name in printed
    assert '--model.model' in printed
    main(['test', f'--model.model={{class_path: {name}}}', *options])
    assert 'test_PSNR' in capsys.readouterr().out


def test_class_for_evaluation_and_scenes(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The line that the error gives works."""
    name = f'{__name__}.Half'
    task = CloudRemoval(Half(), loss='l1')
    description = {'class_path': name, 'init_args': {'gain': 0.25}}
    path = save_checkpoint(tmp_path / 'half.ckpt', task, model=description)
    out = tmp_path / 'evaluation'
    cloudy = next(root.glob('test/planet_cloudy_*/*/*.tif'))
    s1 = next(root.glob(f'test/S1_*/*/{cloudy.name.replace("planet_cloudy", "S1")}'))
    for call in (
        ['evaluate', root, f'mine={path}', 'copy', f'--out={out}'],
        [
            *('remove-clouds', cloudy, f'--s1={s1}', f'--checkpoint={path}'),
            f'--out={tmp_path / "clear.tif"}',
        ],
    ):
        args = [str(arg) for arg in call]
        with pytest.raises(SystemExit, match=f"'{path}'.*--model {name} "):
            main(args)
        main([*args, '--model', name])
    assert 'mine' in (out / 'summary.json').read_text()
    with (
        rasterio.open(cloudy) as before,
        rasterio.open(tmp_path / 'clear.tif') as after,
    ):
        # Weights, not arguments, say what is done
        image = before.read().astype(np.float64)
        assert np.abs(after.read() - image.clip(0, 10000) / 2).max() <= 1


@pytest.mark.parametrize(
    ('wrong', 'named'),
    [
        ('--model.model=unett', 'unett'),
        ('--model.loss=l3', 'l3'),
        ('--model.lr_factors={nothing: 0.1}', 'nothing'),
        ('--model.weights=nowhere.pth', 'nowhere.pth'),
        ('--data.augmentations=[Nothing]', 'Nothing'),
    ],
)
def test_wrong_name(root: Path, tmp_path: Path, wrong: str, named: str) -> None:
    """One line says what is wrong, as a user sees it."""
    path = Path(sys.executable).with_name('planetcr')
    result = subprocess.run(
        [path, 'fit', TINY, *trainer_options(root, tmp_path), wrong],
        check=False,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert result.returncode
    assert 'Traceback' not in result.stderr
    assert named in result.stderr.splitlines()[-1]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('command', ['validate', 'test', 'predict'])
@pytest.mark.parametrize(
    'model', [[TINY], ['--model.model=unet', '--model.backbone=resnet18'], []]
)
def test_random_weights(
    root: Path, tmp_path: Path, command: str, model: list[str]
) -> None:
    """Nobody takes them for a trained network."""
    options = [command, *trainer_options(root, tmp_path)]
    predict = [f'--out={tmp_path / "out"}', '--overwrite']
    out = predict if command == 'predict' else []
    with pytest.raises(SystemExit, match=f'planetcr {command}: .*--ckpt_path'):
        main([*options, *out, *model])
    assert not list(tmp_path.iterdir())
    # Nothing in them is random
    for known in ('copy', f'{{class_path: {__name__}.Half}}'):
        main([*options, *out, f'--model.model={known}'])


@pytest.mark.parametrize(
    ('key', 'value'),
    [
        ('optimizer_states', [{'state': {}, 'param_groups': []}]),
        ('optimizer_states', None),
        ('lr_schedulers', 5),
        ('loops', 5),
        ('callbacks', 7),
        ('epoch', 'x'),
        (None, None),
    ],
)
def test_damaged_state_of_training(
    root: Path, tmp_path: Path, key: str | None, value: object
) -> None:
    """What only training needs; without a key it is not there at all."""
    options = trainer_options(root, tmp_path)
    main(['fit', TINY, *options])
    (path,) = tmp_path.glob('checkpoints/epoch*.ckpt')
    content = torch.load(path, weights_only=True)
    if key is None:
        content = {k: v for k, v in content.items() if k != 'optimizer_states'}
    elif key == 'optimizer_states' and value is None:
        content[key] = [{'state': {0: 'x'}, 'param_groups': [{}]}]
    else:
        content[key] = value
    damaged = tmp_path / 'damaged.ckpt'
    torch.save(content, damaged)
    more = ['--trainer.max_epochs=2', f'--ckpt_path={damaged}']
    if key == 'epoch':
        # It is not used
        main(['fit', TINY, *options, *more])
        return
    with pytest.raises(SystemExit, match=f"'{damaged}'"):
        main(['fit', TINY, *options, *more])


@pytest.mark.parametrize('args', [['--help'], []])
def test_help(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as error:
        main(args)
    assert error.value.code == 0
    # Lines are broken at hyphens, too
    printed = capsys.readouterr().out.replace('-\n', '-')
    for command in (
        'fit',
        'validate',
        'test',
        'predict',
        'info',
        'index',
        'download-sample',
        'evaluate',
        'remove-clouds',
        'make-patches',
        'simulate',
        'simulate-scene',
        'demo',
    ):
        assert command in printed


def test_evaluate(root: Path, tmp_path: Path) -> None:
    """What goes on, the figures and the report; then what is wrong, and no traceback."""
    out = tmp_path / 'out'
    options = ['--split=val', '--size=32', '--accelerator=cpu', f'--out={out}']
    printed = run('planetcr', 'evaluate', root, 'copy', *options)
    assert f'Split val of {root}: 1 patches, 1 areas' in printed
    assert printed.endswith(f'Report: {out / "report.html"}\n')
    assert (out / 'summary.json').exists()

    result = subprocess.run(
        [
            Path(sys.executable).with_name('planetcr'),
            'evaluate',
            root,
            'copy',
            *options,
        ],
        check=False,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert result.returncode == 1
    assert result.stdout == ''
    error = f'planetcr evaluate: {out} holds patches.parquet, report.html, summary.json'
    assert result.stderr.splitlines()[-1].startswith(error)
    assert 'Traceback' not in result.stderr


def test_help_of_evaluate(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as error:
        main(['evaluate', '--help'])
    assert error.value.code == 0
    printed = ' '.join(capsys.readouterr().out.split())
    assert printed.startswith('usage: planetcr evaluate ')
    assert 'root methods [methods ...]' in printed
    assert 'Evaluate methods of cloud removal on a split. Writes a row for' in printed
    assert '(``report.html``)' in printed
    assert 'Returns' not in printed
    assert "'copy' (the cloudy image), paths of checkpoints, and folders" in printed
    for name in signature(evaluate).parameters.keys() - {'root', 'methods'}:
        assert f' --{name} ' in printed


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (['nothing'], "'nothing' is neither 'copy' nor a file or folder"),
        (['copy', 'copy'], "Two methods are called 'copy'"),
        (['a=b.ckpt'], "'a=b.ckpt' is neither"),
        (['copy', '--landcover-model', 'my-model.ckpt'], "'my-model.ckpt' does not"),
        (['copy', '--landcover_model=my-model.ckpt'], "'my-model.ckpt' does not"),
        (['copy', '--size', '301'], 'size=301 is larger than'),
        (['copy', '--accelerator', 'abacus'], 'abacus'),
        (['copy', '--accelerator', 'cpu', '--devices', '0'], 'devices'),
        (['copy', '--batch-size', '0', '--accelerator', 'cpu'], 'batch_size'),
    ],
)
def test_errors_of_evaluate(
    root: Path, tmp_path: Path, args: list[str], message: str
) -> None:
    out = tmp_path / 'out'
    with pytest.raises(SystemExit) as error:
        main(['evaluate', str(root), *args, '--out', str(out)])
    # Which Python prints, to exit with 1
    assert isinstance(error.value.code, str)
    assert error.value.code.startswith('planetcr evaluate: ')
    assert message in error.value.code
    assert not out.exists()


def test_evaluate_without_data(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match='planetcr evaluate: Planet-CR not found'):
        main(['evaluate', str(tmp_path), 'copy', f'--out={tmp_path / "out"}'])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        ([], 'methods'),
        (['copy', '--split', 'all'], 'split'),
        (['copy', '--protocol', 'best'], 'protocol'),
        (['copy', '--alignment', 'native'], 'alignment'),
        (['copy', '--batch-size', 'two'], 'batch_size'),
        (['copy', '--unknown'], 'unrecognized arguments: --unknown'),
    ],
)
def test_arguments_of_evaluate(
    root: Path, capsys: pytest.CaptureFixture[str], args: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as error:
        main(['evaluate', str(root), *args])
    assert error.value.code == 2
    printed = capsys.readouterr().err
    assert message in printed[printed.index('error: ') :]


def test_predict(root: Path, tmp_path: Path) -> None:
    """A GeoTIFF for each patch, a mosaic for each area, and what `evaluate` says."""
    out, mosaic = tmp_path / 'predictions', tmp_path / 'mosaics'
    task = CloudRemoval(model_kwargs={'features': 8, 'num_blocks': 1})
    options = [
        'predict',
        f'--ckpt_path={save_checkpoint(tmp_path / "small.ckpt", task)}',
        '--trainer.accelerator=cpu',
        '--trainer.logger=false',
        '--trainer.enable_progress_bar=false',
        f'--trainer.default_root_dir={tmp_path}',
        f'--data.root={root}',
    ]
    cli = run_trainer([*options, f'--out={out}', f'--mosaic={mosaic}'])
    patches = {'summer_33_p_1', 'winter_34_p_1', 'winter_34_p_2'}
    assert {path.name for path in out.iterdir()} == {f'{name}.tif' for name in patches}
    expected: dict[tuple[int | None, ...], NDArray[np.float32]] = {}
    for batch in cli.datamodule.predict_dataloader():
        batch = cli.datamodule.normalize(batch)
        with torch.no_grad():
            prediction = cli.model.eval().predict_step(batch, 0)['prediction']
        place = int(batch['crs']), *batch['transform'][0].tolist()[:6]
        expected[place] = 10000 * prediction[0].numpy()
    assert len(expected) == 3
    found = {}
    for path in out.iterdir():
        (cloudy,) = root.glob(f'test/*/*/planet_cloudy_{path.name}')
        with rasterio.open(path) as after, rasterio.open(cloudy) as before:
            assert (after.crs, after.transform) == (before.crs, before.transform)
            assert (after.shape, after.nodata) == (before.shape, 0)
            place = after.crs.to_epsg(), *list(after.transform)[:6]
            found[path.stem] = after.read()
        assert found[path.stem].dtype == np.uint16
        difference = found[path.stem] - expected.pop(place).clip(1, 65535)
        assert np.abs(difference).max() <= 0.5 + 0.01

    # Two patches side by side, and one alone
    assert {path.name for path in mosaic.iterdir()} == {
        'summer_33.tif',
        'winter_34.tif',
    }
    with rasterio.open(mosaic / 'winter_34.tif') as dataset:
        assert dataset.crs == 'EPSG:32646'
        assert dataset.transform == from_origin(750300, 1858410, 3, 3)
        pair = [found['winter_34_p_1'], found['winter_34_p_2']]
        assert (dataset.read() == np.concatenate(pair, axis=2)).all()
    with rasterio.open(mosaic / 'summer_33.tif') as dataset:
        assert (dataset.read() == found['summer_33_p_1']).all()

    stamps = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    main([*options, f'--out={out}', '--overwrite=true'])
    assert all(path.stat().st_mtime_ns > stamp for path, stamp in stamps.items())

    results = tmp_path / 'results'
    main(
        [
            *('evaluate', str(root), f'mine={out}', 'copy', '--split=test'),
            *('--accelerator=cpu', f'--out={results}'),
        ]
    )
    assert 'mine' in (results / 'summary.json').read_text()

    # Of another split, by two processes
    train = tmp_path / 'train'
    run(
        'planetcr',
        *options,
        f'--out={train}',
        '--data.predict_split=train',
        '--data.eval_size=64',
        '--dtype=float32',
        '--trainer.devices=2',
        '--trainer.strategy=ddp',
    )
    dataset = PlanetCR(root, 'train')
    names = [f'{patch}.tif' for patch in dataset.index['patch']]
    assert sorted(path.name for path in train.iterdir()) == sorted(names)
    assert len(names) == 12
    for name in names:
        with rasterio.open(train / name) as image:
            assert image.dtypes == ('float32',) * 4
            mask = image.dataset_mask().astype(bool)
        assert mask[118:182, 118:182].all()
        assert mask.sum() == 64**2


def test_predict_nothing(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [TINY, f'--data.root={root}', f'--out={tmp_path / "out"}']
    for wrong in ('--data.predict_split=all', '--dtype=int16'):
        with pytest.raises(SystemExit):
            main(['predict', *options, wrong])
        name = wrong.split('=')[0].split('.')[-1].strip('-')
        assert name in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_remove_clouds(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = CloudRemoval(model_kwargs={'features': 8, 'num_blocks': 1})
    trainer = Trainer(accelerator='cpu', logger=False, default_root_dir=tmp_path)
    trainer.strategy.connect(task)
    checkpoint = tmp_path / 'task.ckpt'
    trainer.save_checkpoint(checkpoint)
    cloudy = next(root.glob('test/planet_cloudy_*/*/*.tif'))
    name = cloudy.name.replace('planet_cloudy', 'S1')
    (sentinel1,) = root.glob(f'test/S1_*/*/{name}')
    out = tmp_path / 'scenes' / 'clear.tif'
    options = [
        str(cloudy),
        *('--s1', str(sentinel1)),
        *('--checkpoint', str(checkpoint)),
        *('--out', str(out)),
    ]
    main(['remove-clouds', *options, '--tile-size', '160'])
    assert capsys.readouterr().out.startswith(f'{out}: 300 x 300 pixels')
    with rasterio.open(cloudy) as before, rasterio.open(out) as after:
        assert (after.crs, after.transform) == (before.crs, before.transform)
        assert (after.shape, after.count) == (before.shape, 4)
    assert sorted(path.name for path in out.parent.iterdir()) == [
        'clear.png',
        'clear.tif',
    ]

    stamp = out.stat().st_mtime_ns
    with pytest.raises(SystemExit, match=f'planetcr remove-clouds: {out} exists'):
        main(['remove-clouds', *options])
    assert out.stat().st_mtime_ns == stamp
    main(['remove-clouds', *options, '--fill-gaps', '--overwrite'])
    assert out.stat().st_mtime_ns > stamp
    with pytest.raises(SystemExit):
        main(['remove-clouds', str(cloudy)])
    assert '--s1' in capsys.readouterr().err
