# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import subprocess
import sys
from pathlib import Path

import pytest
from lightning.pytorch.utilities import rank_zero

from torchgeo_planetcr.main import main
from torchgeo_planetcr.scenes.assume import AssumptionWarning
from torchgeo_planetcr.terminal import FORMAT_WARNING, _format_warning

NOISE = (
    'litlogger',
    'litmodels',
    'override existing callbacks',
    'will be overridden',
    'LeafSpec',
    'Total Flops',
    'TPU',
    'GPU available',
    'many workers',
    'dirpath has changed',
    '.py:',
)


@pytest.fixture
def options(root: Path, tmp_path: Path) -> list[str]:
    return [
        '--trainer.accelerator=cpu',
        '--trainer.max_epochs=2',
        f'--trainer.default_root_dir={tmp_path}',
        f'--data.root={root}',
        '--data.patch_size=32',
        '--data.eval_size=32',
        '--data.length=2',
        '--data.num_workers=0',
        '--model.model_kwargs={features: 4, num_blocks: 1}',
        '--model.loss=l1',
    ]


@pytest.fixture
def no_bar(options: list[str]) -> list[str]:
    return [*options, '--trainer.enable_progress_bar=false', '--trainer.logger=false']


def run(folder: Path, *args: str) -> tuple[str, str]:
    """What a user sees of a command."""
    result = subprocess.run(
        [Path(sys.executable).with_name('planetcr'), *args],
        check=False,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        cwd=folder,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout, result.stderr


def test_commands(tmp_path: Path, options: list[str]) -> None:
    """From training to predictions, on a terminal."""
    out, err = run(tmp_path, 'fit', *options, '--optimizer=torch.optim.Adam')
    assert 'DSen2CR: 664 weights, on cpu' in out
    for epoch in (0, 1):
        (line,) = [x for x in out.splitlines() if f'Epoch {epoch}: train_loss' in x]
        assert 'val_loss' in line
        assert 'val_PSNR' in line
    last = out.splitlines()[-1]
    (best,) = tmp_path.glob('lightning_logs/version_0/checkpoints/epoch*.ckpt')
    assert f' {best.relative_to(tmp_path)} ' in last
    assert 'val_PSNR' in last
    # It concerns the user
    assert 'log_every_n_steps' in err
    shown = out + err
    for command, figure in (('validate', 'val_PSNR'), ('predict', '')):
        out, err = run(tmp_path, command, *options, f'--ckpt_path={best}')
        shown += out + err
        assert figure in out
    assert out.splitlines()[-1].endswith(' predictions')
    for noise in NOISE:
        assert noise not in shown


def test_without_validation(
    tmp_path: Path, no_bar: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Figures of an epoch are its own, and a checkpoint without a score is the last one."""
    main(['fit', *no_bar, '--trainer.check_val_every_n_epoch=2'])
    first, second, last = capsys.readouterr().out.splitlines()[1:]
    assert first.startswith('Epoch 0: train_loss ')
    assert 'val' not in first
    assert 'val_PSNR' in second
    assert 'val_PSNR' in last
    main(['fit', *no_bar, '--trainer.limit_val_batches=0'])
    out = capsys.readouterr().out
    assert 'val_' not in out
    assert f'{tmp_path}/checkpoints/' in out.splitlines()[-1]


def test_no_checkpoint(no_bar: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    main(['fit', *no_bar, '--trainer.enable_checkpointing=false'])
    assert capsys.readouterr().out.splitlines()[-1].startswith('Epoch 1: ')


def test_warnings() -> None:
    """Those of this package and of Lightning are lines, others say where they are from.

    A line is written once.
    """
    warning = AssumptionWarning('One thing')
    for expected in ('One thing\n', ''):
        assert _format_warning(warning, AssumptionWarning, 'mine.py', 3) == expected
    line = 'Something\n'
    assert _format_warning('Something', UserWarning, rank_zero.__file__, 3) == line
    other = _format_warning('Something', UserWarning, 'mine.py', 3)
    assert other == FORMAT_WARNING('Something', UserWarning, 'mine.py', 3)
    assert 'mine.py:3' in other
