# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import rasterio
import torch
import yaml
from lightning.pytorch.plugins import TorchCheckpointIO
from small_scene import save_checkpoint
from systems import full_disk

from torchgeo_planetcr import CloudRemoval
from torchgeo_planetcr.inference import PlanetCRTrainer
from torchgeo_planetcr.inference.checkpoint_io import WholeCheckpointIO
from torchgeo_planetcr.main import main
from torchgeo_planetcr.raster.write import MACHINE, UNFINISHED

QUICK = [
    '--trainer.accelerator=cpu',
    '--trainer.enable_progress_bar=false',
    '--data.patch_size=32',
    '--data.eval_size=32',
    '--data.length=2',
]

NETWORK = '--model.model_kwargs={features: 8, num_blocks: 1}'


def fit(root: Path, out: Path, epochs: int, *more: str, features: int = 8) -> None:
    """Run `planetcr fit`, with a log, a best and a last checkpoint."""
    main(
        [
            'fit',
            *QUICK,
            f'--data.root={root}',
            f'--model.model_kwargs={{features: {features}, num_blocks: 1}}',
            f'--trainer.default_root_dir={out}',
            f'--trainer.max_epochs={epochs}',
            '--trainer.log_every_n_steps=1',
            '--trainer.logger=CSVLogger',
            f'--trainer.logger.save_dir={out}',
            '--trainer.callbacks=ModelCheckpoint',
            f'--trainer.callbacks.dirpath={out / "kept"}',
            '--trainer.callbacks.save_last=true',
            *more,
        ]
    )


def epoch_of(checkpoint: Path) -> int:
    """Epoch of a checkpoint, which must be whole."""
    return torch.load(checkpoint, weights_only=True)['epoch']


class TestFullDisk:
    def test_last_checkpoint_is_kept(
        self, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        kept = tmp_path / 'kept'
        fit(root, tmp_path, 1)
        before = {path.name: path.read_bytes() for path in kept.iterdir()}
        last = kept / 'last.ckpt'
        with (
            full_disk(last.stat().st_size // 2),
            pytest.raises(
                SystemExit, match=r'planetcr fit: .*\.ckpt cannot be written'
            ),
        ):
            fit(root, tmp_path, 3, f'--ckpt_path={last}')
        assert 'Traceback' not in capsys.readouterr().err
        assert {path.name: path.read_bytes() for path in kept.iterdir()} == before
        fit(root, tmp_path, 3, f'--ckpt_path={last}')
        assert epoch_of(last) == 2

    def test_first_checkpoint(self, root: Path, tmp_path: Path) -> None:
        with full_disk(20_000), pytest.raises(SystemExit, match=r'\.ckpt cannot'):
            fit(root, tmp_path, 1)
        assert not list(tmp_path.rglob('*.ckpt'))
        assert not list(tmp_path.rglob('.unfinished-*'))

    @pytest.mark.parametrize('limit', [10, 500])
    def test_configuration_and_logs(
        self, root: Path, tmp_path: Path, limit: int
    ) -> None:
        with full_disk(limit), pytest.raises(SystemExit, match=str(tmp_path)):
            fit(root, tmp_path, 1)
        assert not list(tmp_path.rglob('config.yaml'))

    def test_logs_alone(self, root: Path, tmp_path: Path) -> None:
        options = ['--trainer.enable_checkpointing=false', '--trainer.callbacks=null']
        # More than the configuration takes, and less than many lines of figures
        with (
            full_disk(6000),
            pytest.raises(SystemExit, match='lightning_logs.*cannot be written'),
        ):
            fit(root, tmp_path, 60, *options)
        (saved,) = tmp_path.rglob('config.yaml')
        assert yaml.safe_load(saved.read_text())['data']['init_args']['length'] == 2


class TestCheckpointIO:
    def test_of_a_user(self) -> None:
        class Own(TorchCheckpointIO):
            """One that is given."""

        options: dict[str, Any] = {'accelerator': 'cpu', 'logger': False}
        own = Own()
        assert PlanetCRTrainer(plugins=own, **options).strategy.checkpoint_io is own
        default = PlanetCRTrainer(**options).strategy.checkpoint_io
        assert isinstance(default, WholeCheckpointIO)


class TestGoesOn:
    """A second `predict` does what the first one has not done."""

    @pytest.fixture(scope='class')
    def done(self, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """Predictions and mosaics, to be read only."""
        done = tmp_path_factory.mktemp('done')
        predict(root, done)
        return done

    @pytest.fixture
    def out(self, done: Path, tmp_path: Path) -> Path:
        """A copy that may be changed."""
        return Path(shutil.copytree(done, tmp_path / 'out'))

    def test_leftovers(self, root: Path, out: Path) -> None:
        """Also where nothing is to be written."""
        folders = [
            folder / f'{UNFINISHED}{MACHINE}-a' for folder in (out, out / 'areas')
        ]
        for folder in folders:
            folder.mkdir()
        predict(root, out)
        assert not any(folder.exists() for folder in folders)

    def test_after_a_kill(self, root: Path, done: Path, out: Path) -> None:
        missing = ['winter_34_p_1.tif', 'areas/winter_34.tif']
        for name in missing:
            (out / name).unlink()
        before = stamps(out)
        predict(root, out)
        after = stamps(out)
        assert before.items() < after.items()
        assert set(after) - set(before) == set(missing)
        assert contents(out) == contents(done)

    def test_all_done(
        self, root: Path, out: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        before = stamps(out)
        predict(root, out)
        assert stamps(out) == before
        assert 'Total length' not in capsys.readouterr().err

    @pytest.mark.parametrize(
        'other',
        [
            {'seed': 1},
            {'num_blocks': 2},
            {'option': '--data.eval_size=64'},
            {'option': '--data.alignment=reference'},
            {'option': '--dtype=float32'},
        ],
    )
    def test_other_weights_or_settings(
        self, root: Path, done: Path, out: Path, other: dict[str, Any]
    ) -> None:
        (out / 'summer_33_p_1.tif').unlink()
        with pytest.raises(SystemExit, match=r'winter_34_p_1\.tif exists.*overwrite'):
            predict(root, out, **other)
        assert contents(out).items() < contents(done).items()
        predict(root, out, '--overwrite', **other)
        assert stamps(out).keys() == stamps(done).keys()
        assert not contents(out).items() & contents(done).items()

    def test_other_images(self, own_root: Path, tmp_path: Path) -> None:
        out = tmp_path / 'out'
        predict(own_root, out)
        (radar,) = own_root.rglob('S1_winter_34_p_1.tif')
        os.utime(radar, (1, 1))
        with pytest.raises(SystemExit, match=r'winter_34_p_1\.tif exists.*overwrite'):
            predict(own_root, out)

    def test_files_of_others(self, root: Path, out: Path) -> None:
        path = out / 'winter_34_p_1.tif'
        for content in (b'', path.read_bytes()[:-9]):
            path.write_bytes(content)
            with pytest.raises(SystemExit, match=r'winter_34_p_1\.tif exists'):
                predict(root, out)
            assert path.read_bytes() == content

    def test_mosaic_of_others(self, root: Path, done: Path, out: Path) -> None:
        mosaic = out / 'areas' / 'winter_34.tif'
        with rasterio.open(mosaic, 'r+', IGNORE_COG_LAYOUT_BREAK='YES') as dataset:
            dataset.update_tags(PLANETCR_ORIGIN='another')
        with pytest.raises(SystemExit, match=r'areas.winter_34\.tif exists.*overwrite'):
            predict(root, out)
        mosaic.unlink()
        predict(root, out)
        assert contents(out) == contents(done)


def predict(
    root: Path,
    out: Path,
    *more: str,
    option: str = '--dtype=uint16',
    seed: int = 0,
    num_blocks: int = 1,
) -> None:
    """Run `planetcr predict` with the weights of a seed."""
    torch.manual_seed(seed)
    task = CloudRemoval(model_kwargs={'features': 8, 'num_blocks': num_blocks})
    with tempfile.TemporaryDirectory() as folder:
        main(
            [
                'predict',
                *QUICK[:2],
                f'--data.root={root}',
                f'--ckpt_path={save_checkpoint(Path(folder), task)}',
                '--trainer.logger=false',
                f'--trainer.default_root_dir={out}',
                f'--out={out}',
                f'--mosaic={out / "areas"}',
                option,
                *more,
            ]
        )


def stamps(out: Path) -> dict[str, int]:
    """Time of change of each file."""
    return {
        str(path.relative_to(out)): path.stat().st_mtime_ns
        for path in out.rglob('*.tif')
    }


def contents(out: Path) -> dict[str, bytes]:
    """Bytes of each file."""
    return {
        str(path.relative_to(out)): path.read_bytes() for path in out.rglob('*.tif')
    }


class TestDamagedData:
    """Each command names the file, without a traceback."""

    COMMANDS: ClassVar[dict[str, list[str]]] = {
        'fit': [NETWORK],
        'validate': ['--model.model=copy'],
        'test': ['--model.model=copy'],
        'predict': ['--model.model=copy'],
    }

    @pytest.mark.parametrize(
        ('modality', 'value', 'workers'),
        [
            ('planet_cloudy', np.nan, 0),
            ('planet_cloudy', 1e300, 1),
            ('planet_cloudfree', np.inf, 0),
            ('planet_cloudfree', np.nan, 1),
        ],
    )
    def test_no_numbers(
        self, own_root: Path, tmp_path: Path, modality: str, value: float, workers: int
    ) -> None:
        for path in own_root.rglob(f'{modality}_*.tif'):
            spoil(path, value)
        (own_root / 'planetcr_index.parquet').unlink(missing_ok=True)
        number = f'--data.num_workers={workers}'
        for command, model in self.COMMANDS.items():
            with pytest.raises(
                SystemExit, match=rf'{command}: .*{modality}_.*tif .*NaN or infinite'
            ):
                call(command, own_root, tmp_path, number, *model)
        assert not list(tmp_path.rglob('*.ckpt'))

    def test_radar_without_a_pixel(self, own_root: Path, tmp_path: Path) -> None:
        for path in own_root.rglob('S1_*.tif'):
            spoil(path, np.nan, slice(None))
        for command, model in self.COMMANDS.items():
            with pytest.raises(SystemExit, match=rf'{command}: .*S1_.*tif .*no valid'):
                call(command, own_root, tmp_path, *model)

    def test_cut_off_after_indexing(self, own_root: Path, tmp_path: Path) -> None:
        call('validate', own_root, tmp_path, *self.COMMANDS['validate'])
        paths = list(own_root.rglob('planet_cloudy_*.tif'))
        for path in paths:
            path.write_bytes(path.read_bytes()[:-100_000])
        for command, model in self.COMMANDS.items():
            with pytest.raises(SystemExit, match=rf'{command}: .*planet_cloudy_.*tif'):
                call(command, own_root, tmp_path, *model)


class TestBrokenWeights:
    def test_nan(
        self, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Or finite, and so large that images are not."""
        call('fit', root, tmp_path, NETWORK)
        (path,) = tmp_path.rglob('epoch*.ckpt')
        checkpoint = torch.load(path, weights_only=True)
        for number in (torch.nan, 1e38):
            for value in checkpoint['state_dict'].values():
                value.fill_(number)
            torch.save(checkpoint, path)
            for command in ('validate', 'test', 'predict'):
                with pytest.raises(SystemExit) as exit_:
                    call(command, root, tmp_path, f'--ckpt_path={path}')
                printed = f'{exit_.value} {capsys.readouterr().err}'
                assert 'checkpoint' in printed
                assert str(path) in printed

    def test_training_that_diverges(self, root: Path, tmp_path: Path) -> None:
        for more in ([], ['--trainer.limit_val_batches=0']):
            with pytest.raises(SystemExit, match=r'fit: .*learning rate'):
                call('fit', root, tmp_path, NETWORK, '--model.lr=1e20', *more)
        assert not list(tmp_path.rglob('*.ckpt'))


def call(command: str, root: Path, tmp_path: Path, *more: str) -> None:
    """Run a command of the trainer on small windows."""
    out = [f'--out={tmp_path / "out"}'] if command == 'predict' else []
    main(
        [
            command,
            *QUICK,
            f'--data.root={root}',
            '--trainer.max_epochs=1',
            '--trainer.num_sanity_val_steps=0',
            f'--trainer.default_root_dir={tmp_path}',
            '--trainer.logger=false',
            *out,
            *more,
        ]
    )


def spoil(path: Path, value: float, rows: slice = slice(100, 200)) -> None:
    """Put a value into an image of floating values."""
    with rasterio.open(path) as source:
        array, profile = source.read().astype(np.float64), source.profile
    array[:, rows] = value
    with rasterio.open(path, 'w', **profile | {'dtype': 'float64'}) as dataset:
        dataset.write(array)
