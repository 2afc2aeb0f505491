# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.tuner import Tuner
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW
from torch.optim.lr_scheduler import OneCycleLR, ReduceLROnPlateau, StepLR
from torch.utils.data import DataLoader, Dataset
from torchgeo.datamodules import BaseDataModule
from torchgeo.datasets import stack_samples
from torchgeo.datasets.utils import Sample
from torchgeo.tasks import BaseTask

from torchgeo_planetcr.losses import CARLLoss, EdgeWeightedCharbonnierLoss
from torchgeo_planetcr.metrics import ReferencePSNR, ReferenceSSIM
from torchgeo_planetcr.models import AlignCR, Copy, DSen2CR, EncoderDecoder, dsen2cr
from torchgeo_planetcr.tasks import CloudRemoval, load_task
from torchgeo_planetcr.transforms import PlanetCRNormalize

TINY: dict[str, Any] = {'features': 8, 'num_blocks': 1}
TINY_FUSION: dict[str, Any] = {
    'features': 8,
    'growth': 8,
    'num_stages': 2,
    'num_layers': 1,
    'num_heads': 2,
}


class Scenes(Dataset[Sample]):
    """Random land and random clouds, in the units of the files."""

    def __init__(self, length: int = 6) -> None:
        self.length = length
        self.plotted: list[Sample] = []

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        generator = torch.Generator().manual_seed(index)
        clear = torch.rand(4, 16, 16, generator=generator) * 4000
        mask_cloud = torch.randint(2, (16, 16), generator=generator)
        return {
            'image': torch.where(mask_cloud == 1, 0.3 * clear + 5000, clear),
            'image_clear': clear,
            'image_s1': torch.rand(2, 16, 16, generator=generator) * -20,
            'mask_cloud': mask_cloud,
            'crs': torch.tensor(32646),
            'bounds': torch.arange(9, dtype=torch.float64) + index,
            'transform': torch.arange(9, dtype=torch.float64) * index,
        }

    def plot(self, sample: Sample) -> Figure:
        self.plotted.append(sample)
        fig, ax = plt.subplots()
        ax.imshow(sample['prediction'][0])
        return fig


class Normalized(Dataset[Sample]):
    def __init__(self) -> None:
        self.scenes = Scenes()
        self.normalize = PlanetCRNormalize()

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: int) -> Sample:
        return self.normalize(self.scenes[index])


def _loader(batch_size: int = 2) -> DataLoader[Sample]:
    return DataLoader(Normalized(), batch_size=batch_size, collate_fn=stack_samples)


class Plain(LightningDataModule):
    def train_dataloader(self) -> DataLoader[Sample]:
        return _loader()

    def val_dataloader(self) -> DataLoader[Sample]:
        return _loader()


class Drawing(BaseDataModule):
    def __init__(self) -> None:
        super().__init__(Scenes, batch_size=1)
        self.normalize = PlanetCRNormalize()
        self.aug = self.normalize
        self.dataset = Scenes()

    def val_dataloader(self) -> DataLoader[Sample]:
        assert self.dataset is not None
        return DataLoader(self.dataset, batch_size=1, collate_fn=stack_samples)


class Brighten(nn.Module):
    def __init__(self, gain: float = 1.0) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(gain))

    def forward(self, image: Tensor, image_s1: Tensor) -> Tensor:
        return self.gain * image


class Rates(Callback):
    """Notes the learning rate of each step."""

    def __init__(self) -> None:
        self.found: list[float] = []

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.found.append(trainer.optimizers[0].param_groups[0]['lr'])


def _trainer(tmp_path: Path, **kwargs: Any) -> Trainer:
    defaults: dict[str, Any] = {
        'accelerator': 'cpu',
        'default_root_dir': tmp_path,
        'log_every_n_steps': 1,
        'logger': False,
        'max_epochs': 1,
        'enable_progress_bar': False,
        'enable_model_summary': False,
    }
    return Trainer(**defaults | kwargs)


@pytest.fixture
def batch() -> Sample:
    return next(iter(_loader()))


class TestConstruction:
    def test_names(self) -> None:
        task = CloudRemoval(model='dsen2cr', model_kwargs=TINY, loss='carl')
        assert isinstance(task.model, DSen2CR)
        assert isinstance(task.criterion, CARLLoss)
        assert isinstance(CloudRemoval(model='copy').model, Copy)
        task = CloudRemoval(model='copy', loss='edge_charbonnier')
        assert isinstance(task.criterion, EdgeWeightedCharbonnierLoss)
        assert isinstance(CloudRemoval(model='copy', loss='l1').criterion, nn.L1Loss)

    def test_modules(self) -> None:
        model, loss = Brighten(), nn.MSELoss()
        task = CloudRemoval(model=model, loss=loss)
        assert task.model is model
        assert task.criterion is loss
        assert 'model' not in task.hparams
        assert 'loss' not in task.hparams

    def test_unknown_model(self) -> None:
        match = "model must be one of 'aligncr', .*, 'unet', .* or a module, got 'vgg'"
        with pytest.raises(ValueError, match=match):
            CloudRemoval(model='vgg')

    def test_architecture(self) -> None:
        task = CloudRemoval('unet', 'resnet18', model_kwargs={'in_channels': 3})
        assert isinstance(task.model, EncoderDecoder)
        image, image_s1 = torch.rand(1, 3, 40, 33), torch.rand(1, 2, 40, 33)
        assert task.eval()(image, image_s1).shape == (1, 3, 40, 33)

    def test_unknown_loss(self) -> None:
        match = "loss must be one of 'carl', 'edge_charbonnier', 'l1' or a module"
        with pytest.raises(ValueError, match=match):
            CloudRemoval(model='copy', loss='mse')

    def test_module_with_kwargs(self) -> None:
        with pytest.raises(ValueError, match='pass them to Brighten instead'):
            CloudRemoval(model=Brighten(), model_kwargs={'gain': 2})

    def test_weights(self, tmp_path: Path) -> None:
        published = dsen2cr(**TINY)
        state_dict = {f'module.{k}': v for k, v in published.state_dict().items()}
        torch.save({'network': state_dict}, tmp_path / 'dsen2cr.pth')
        weights = str(tmp_path / 'dsen2cr.pth')
        task = CloudRemoval(model_kwargs=TINY, weights=weights)
        for key, value in published.state_dict().items():
            assert torch.equal(task.model.state_dict()[key], value)
        with pytest.raises(ValueError, match='does not fit Copy'):
            CloudRemoval(model='copy', weights=weights)
        with pytest.raises(ValueError, match='weights of DSen2CR must be the path of'):
            CloudRemoval(model_kwargs=TINY, weights=True)

    def test_optimizer(self) -> None:
        task = CloudRemoval(
            'aligncr',
            model_kwargs=TINY_FUSION,
            optimizer=partial(Adam, lr=0.5),
            lr_scheduler=partial(StepLR, step_size=1, gamma=0.5),
            lr_factors={'alignment': 0.1, 'deform': 0.01},
        )
        configuration: Any = task.configure_optimizers()
        optimizer = configuration['optimizer']
        assert isinstance(optimizer, Adam)
        rates = {}
        for group in optimizer.param_groups:
            rates |= {id(parameter): group['lr'] for parameter in group['params']}
        trained = {k: p for k, p in task.model.named_parameters() if p.requires_grad}
        assert len(rates) == len(trained)
        for name, parameter in trained.items():
            if '.deform.' in name:
                expected = 0.005
            elif '.alignment.' in name:
                expected = 0.05
            else:
                expected = 0.5
            assert rates[id(parameter)] == pytest.approx(expected), name
        scheduler = configuration['lr_scheduler']['scheduler']
        assert scheduler.base_lrs == pytest.approx([0.5, 0.05, 0.005])

    def test_scheduler_of_steps(self, tmp_path: Path) -> None:
        """Its cycle ends with the training, and not after as many epochs."""
        task = CloudRemoval(
            model_kwargs=TINY,
            loss='l1',
            optimizer=partial(SGD, lr=1.0, momentum=0.9),
            lr_scheduler=partial(OneCycleLR, max_lr=0.01, total_steps=6),
        )
        rates = Rates()
        trainer = _trainer(tmp_path, max_epochs=2, callbacks=[rates])
        trainer.fit(task, _loader(), _loader())
        # PyTorch begins with a 25th of the largest, and ends with a 10 000th of that
        assert len(rates.found) == 6
        assert rates.found[0] == pytest.approx(0.01 / 25)
        assert rates.found[-1] == pytest.approx(0.01 / 25 / 1e4)
        assert max(rates.found) > 0.009

    def test_default_optimizer(self) -> None:
        task = CloudRemoval(model_kwargs=TINY, lr=1e-3, patience=3)
        configuration: Any = task.configure_optimizers()
        assert isinstance(configuration['optimizer'], AdamW)
        (group,) = configuration['optimizer'].param_groups
        assert group['lr'] == 1e-3
        scheduler = configuration['lr_scheduler']['scheduler']
        assert isinstance(scheduler, ReduceLROnPlateau)
        assert scheduler.patience == 3
        assert configuration['lr_scheduler']['monitor'] == 'val_loss'

    def test_unknown_module(self) -> None:
        match = "DSen2CR has no module named 'alignment': check lr_factors"
        with pytest.raises(ValueError, match=match):
            CloudRemoval(model_kwargs=TINY, lr_factors={'alignment': 0.1})
        with pytest.raises(ValueError, match="no module named 'bias'"):
            CloudRemoval(model_kwargs=TINY, lr_factors={'bias': 0.1})

    def test_compile(self, batch: Sample) -> None:
        task = CloudRemoval(model_kwargs=TINY, compile=True)
        assert task.model._compiled_call_impl is not None
        assert CloudRemoval(model_kwargs=TINY).model._compiled_call_impl is None
        assert (
            task.state_dict().keys()
            == CloudRemoval(model_kwargs=TINY).state_dict().keys()
        )
        with torch.compiler.set_stance('force_eager'):
            loss = task.training_step(batch, 0)
        assert loss.isfinite()


class TestSteps:
    @pytest.mark.parametrize('loss', ['carl', 'edge_charbonnier', 'l1', nn.MSELoss()])
    def test_fit_validate_test_predict(
        self, tmp_path: Path, loss: str | nn.Module
    ) -> None:
        task = CloudRemoval(model_kwargs=TINY, loss=loss)
        trainer = _trainer(tmp_path, fast_dev_run=2)
        before = {key: value.clone() for key, value in task.state_dict().items()}
        trainer.fit(task, _loader(), _loader())
        assert any(not torch.equal(before[k], v) for k, v in task.state_dict().items())
        names = {'loss', 'PSNR', 'SSIM', 'SAM', 'MAE', 'RMSE'}
        logged = trainer.callback_metrics
        assert logged.keys() == {f'{s}_{n}' for s in ('train', 'val') for n in names}
        (values,) = trainer.validate(task, _loader(), verbose=False)
        assert values.keys() == {f'val_{name}' for name in names}
        (values,) = trainer.test(task, _loader(), verbose=False)
        assert values.keys() == {f'test_{name}' for name in names}
        predictions = trainer.predict(task, _loader())
        assert predictions is not None
        assert len(predictions) == 2

    @pytest.mark.parametrize('batch_size', [1, 2, 4])
    def test_copy(self, tmp_path: Path, batch_size: int) -> None:
        scenes = Normalized()
        psnr, ssim = ReferencePSNR(), ReferenceSSIM()
        carl = []
        for i in range(len(scenes)):
            sample = stack_samples([scenes[i]])
            image, target = sample['image'], sample['image_clear']
            psnr.update(image, target)
            ssim.update(image, target)
            carl.append(CARLLoss()(image, target, image, sample['mask_cloud']))

        trainer = _trainer(tmp_path)
        task = CloudRemoval(model='copy')
        (values,) = trainer.test(task, _loader(batch_size), verbose=False)

        # 20 log10(1 / sqrt(mean square)), and so on: none depends on the batch size
        assert values['test_PSNR'] == pytest.approx(psnr.compute().item(), rel=1e-6)
        assert values['test_SSIM'] == pytest.approx(ssim.compute().item(), rel=1e-6)
        assert values['test_loss'] == pytest.approx(torch.stack(carl).mean().item())
        (again,) = trainer.validate(task, _loader(batch_size), verbose=False)
        assert again['val_PSNR'] == values['test_PSNR']

    def test_equal_metrics_stay_apart(self, tmp_path: Path) -> None:
        """SAM and MAE are both 0 in the first batch, where nothing is to be restored."""
        scenes = Normalized()
        samples: Any = [scenes[i] for i in range(3)]
        red = torch.zeros(4, 16, 16)
        red[0] = 0.5
        samples[0] |= {'image': red, 'image_clear': red}
        loader = DataLoader(samples, batch_size=1, collate_fn=stack_samples)
        task = CloudRemoval(model='copy')
        (values,) = _trainer(tmp_path).test(task, loader, verbose=False)
        mae = sum((s['image'] - s['image_clear']).abs().mean() for s in samples) / 3
        assert values['test_MAE'] == pytest.approx(float(mae))
        assert values['test_SAM'] > 1

    def test_fit_copy(self, tmp_path: Path) -> None:
        task = CloudRemoval(model='copy')
        with pytest.raises(ValueError, match='Copy has no parameters to train'):
            _trainer(tmp_path).fit(task, _loader(), _loader())

    def test_overfit(self, tmp_path: Path) -> None:
        torch.manual_seed(0)
        task = CloudRemoval(model_kwargs=TINY, lr=1e-2)
        trainer = _trainer(tmp_path, enable_checkpointing=False)
        (before,) = trainer.validate(task, _loader(), verbose=False)
        _trainer(tmp_path, enable_checkpointing=False, max_epochs=8).fit(
            task, _loader(), _loader()
        )
        (after,) = trainer.validate(task, _loader(), verbose=False)
        assert after['val_loss'] < 0.8 * before['val_loss']
        assert after['val_PSNR'] > before['val_PSNR'] + 1

    def test_predict(self, batch: Sample) -> None:
        task = CloudRemoval(model_kwargs=TINY)
        for key in ('image_clear', 'mask_cloud'):
            del batch[key]
        output = task.predict_step(batch, 0)
        assert output.keys() == {'prediction', 'bounds', 'transform', 'crs'}
        expected = task.model(batch['image'], batch['image_s1'])
        assert torch.equal(output['prediction'], expected)
        assert output['prediction'].shape == (2, 4, 16, 16)
        for key in ('bounds', 'transform', 'crs'):
            assert output[key] is batch[key]

    def test_predict_does_not_clamp(self, batch: Sample) -> None:
        output = CloudRemoval(model=Brighten(-3.0)).predict_step(batch, 0)
        assert output['prediction'].max() <= 0
        assert output['prediction'].min() < -1

    @pytest.mark.parametrize(
        ('key', 'modality'),
        [
            ('image', 'cloudy'),
            ('image_s1', 'sentinel1'),
            ('image_clear', 'clear'),
            ('mask_cloud', 'cloud_mask'),
        ],
    )
    def test_missing_key(self, batch: Sample, key: str, modality: str) -> None:
        del batch[key]
        task = CloudRemoval(model_kwargs=TINY)
        with pytest.raises(KeyError, match=f"no {key}: add '{modality}'"):
            task.training_step(batch, 0)

    @pytest.mark.parametrize(
        ('model', 'kwargs'),
        [
            ('dsen2cr', {**TINY, 'sar_channels': 0}),
            ('unet', {'sar_channels': 0}),
            ('copy', None),
        ],
    )
    def test_without_sentinel1(
        self, batch: Sample, model: str, kwargs: dict[str, Any] | None
    ) -> None:
        """Batches may have it, or not."""
        batch = {
            key: value.repeat(1, 1, 2, 2) if key.startswith('image') else value
            for key, value in batch.items()
        }
        task = CloudRemoval(model, 'resnet18', model_kwargs=kwargs, loss='l1').eval()
        assert not task.uses_sentinel1
        without = {key: value for key, value in batch.items() if key != 'image_s1'}
        assert torch.equal(
            task.predict_step(without, 0)['prediction'],
            task.predict_step(batch, 0)['prediction'],
        )
        assert task.training_step(without, 0) == task.training_step(batch, 0)
        # On a grid of its own
        coarse = {**batch, 'image_s1': batch['image_s1'][..., ::2, ::2]}
        assert task.training_step(coarse, 0) == task.training_step(batch, 0)

    @pytest.mark.parametrize('model', ['dsen2cr', 'glfcr', 'unet', Brighten()])
    def test_needs_sentinel1(self, batch: Sample, model: str | nn.Module) -> None:
        del batch['image_s1']
        task = CloudRemoval(model, loss='l1')
        for step in (task.training_step, task.predict_step):
            with pytest.raises(KeyError) as error:
                step(batch, 0)
            for word in ('image_s1', "'sentinel1'", 'modalities', 'sar_channels=0'):
                assert word in str(error.value)

    @pytest.mark.parametrize('model', ['glfcr', 'aligncr'])
    def test_network_of_two_images(self, model: str) -> None:
        with pytest.raises(ValueError, match='sar_channels .* dsen2cr'):
            CloudRemoval(model, model_kwargs={'sar_channels': 0})

    @pytest.mark.parametrize('key', ['image', 'image_s1'])
    def test_nan(self, batch: Sample, key: str) -> None:
        batch[key][0, 0, 3, 5] = torch.nan
        for task in (CloudRemoval('copy'), CloudRemoval(model_kwargs=TINY)):
            with pytest.raises(ValueError, match=f'^{key} has values that are NaN'):
                task.predict_step(batch, 0)

    def test_no_cloud_mask_needed(self, batch: Sample) -> None:
        del batch['mask_cloud']
        task = CloudRemoval(model_kwargs=TINY, loss='l1')
        expected = task.model(batch['image'], batch['image_s1']) - batch['image_clear']
        loss = task.training_step(batch, 0)
        torch.testing.assert_close(loss, expected.abs().mean())


class TestCheckpoints:
    def _fit(self, task: CloudRemoval, tmp_path: Path, **kwargs: Any) -> Trainer:
        trainer = _trainer(tmp_path, **{'max_epochs': 2, **kwargs})
        trainer.fit(task, _loader(), _loader())
        return trainer

    def test_names(self, tmp_path: Path) -> None:
        task = CloudRemoval(model_kwargs=TINY, loss='l1', lr=1e-3)
        trainer = self._fit(task, tmp_path)
        callback = trainer.checkpoint_callback
        assert isinstance(callback, ModelCheckpoint)
        path = callback.best_model_path

        loaded = CloudRemoval.load_from_checkpoint(path, weights_only=True)
        assert loaded.hparams['lr'] == 1e-3
        assert isinstance(loaded.criterion, nn.L1Loss)
        (values,) = _trainer(tmp_path).validate(loaded, _loader(), verbose=False)
        assert values['val_PSNR'] == pytest.approx(
            float(callback.best_model_score or 0)
        )

        (direct,) = trainer.test(
            task, _loader(), ckpt_path=path, weights_only=True, verbose=False
        )
        assert direct['test_PSNR'] == pytest.approx(values['val_PSNR'])
        (best,) = trainer.test(
            task, _loader(), ckpt_path='best', weights_only=True, verbose=False
        )
        assert best == direct

        # Training can be resumed from a checkpoint
        resumed = _trainer(tmp_path, max_epochs=3)
        task = CloudRemoval(model_kwargs=TINY, loss='l1', lr=1e-3)
        resumed.fit(task, _loader(), _loader(), ckpt_path=path, weights_only=True)
        assert resumed.current_epoch == 3

    def test_modules(self, tmp_path: Path) -> None:
        task = CloudRemoval(
            model=Brighten(0.9), loss=nn.MSELoss(), optimizer=partial(Adam, lr=1e-3)
        )
        trainer = self._fit(task, tmp_path)
        path = tmp_path / 'last.ckpt'
        trainer.save_checkpoint(path)

        content = torch.load(path, weights_only=True)
        assert content['hyper_parameters'].keys() == {
            'backbone',
            'model_kwargs',
            'lr',
            'patience',
            'lr_scheduler',
            'lr_factors',
            'compile',
        }
        loaded = CloudRemoval.load_from_checkpoint(
            path, weights_only=True, model=Brighten(), loss=nn.MSELoss()
        )
        assert torch.equal(loaded.model.gain, task.model.gain)
        (values,) = trainer.test(
            loaded, _loader(), ckpt_path=path, weights_only=True, verbose=False
        )
        assert values['test_PSNR'] > 0

    def test_weights_are_not_needed_again(self, tmp_path: Path) -> None:
        state_dict = {f'module.{k}': v for k, v in dsen2cr(**TINY).state_dict().items()}
        weights = tmp_path / 'dsen2cr.pth'
        torch.save({'network': state_dict}, weights)
        trainer = self._fit(
            CloudRemoval(model_kwargs=TINY, weights=str(weights)), tmp_path
        )
        trainer.save_checkpoint(tmp_path / 'last.ckpt')
        weights.unlink()
        CloudRemoval.load_from_checkpoint(tmp_path / 'last.ckpt', weights_only=True)

    def test_command_line(self, tmp_path: Path) -> None:
        cli = LightningCLI(
            BaseTask,
            Plain,
            subclass_mode_model=True,
            save_config_callback=None,
            args=[
                'fit',
                '--model=torchgeo_planetcr.tasks.CloudRemoval',
                f'--model.model={__name__}.Brighten',
                '--model.model.gain=0.5',
                '--model.loss={class_path: torch.nn.MSELoss}',
                '--model.lr=0',
                '--trainer.accelerator=cpu',
                '--trainer.logger=false',
                '--trainer.max_epochs=1',
                '--trainer.enable_progress_bar=false',
                f'--trainer.default_root_dir={tmp_path}',
            ],
        )
        assert isinstance(cli.model, CloudRemoval)
        assert isinstance(cli.model.model, Brighten)
        path = cli.trainer.checkpoint_callback.best_model_path

        with pytest.raises(
            ValueError, match=rf"'{path}' needs .* {__name__}\.Brighten"
        ):
            CloudRemoval.load_from_checkpoint(path)
        with pytest.raises(ValueError, match=rf"'{path}' needs .* torch\.nn\.MSELoss"):
            CloudRemoval.load_from_checkpoint(path, model=Brighten())
        loaded = CloudRemoval.load_from_checkpoint(
            path, model=Brighten(), loss=nn.MSELoss()
        )
        assert isinstance(loaded.model, Brighten)
        assert loaded.model.gain == 0.5
        assert isinstance(loaded.criterion, nn.MSELoss)

    def test_optimizer_of_the_command_line(self, tmp_path: Path) -> None:
        args = [
            'fit',
            '--model=torchgeo_planetcr.CloudRemoval',
            '--model.model=aligncr',
            f'--model.model_kwargs={TINY_FUSION}',
            '--model.loss=l1',
            '--model.lr_factors={alignment: 0.1}',
            '--trainer.accelerator=cpu',
            '--trainer.logger=false',
            '--trainer.max_epochs=1',
            '--trainer.enable_progress_bar=false',
            f'--trainer.default_root_dir={tmp_path}',
        ]
        options: dict[str, Any] = {
            'subclass_mode_model': True,
            'save_config_callback': None,
        }
        own = ['--model.optimizer=Adam', '--model.optimizer.lr=0.01']
        cli = LightningCLI(BaseTask, Plain, **options, args=[*args, *own])
        (optimizer,) = cli.trainer.optimizers
        rates = [group['lr'] for group in optimizer.param_groups]
        assert rates == pytest.approx([0.01, 0.001])
        path = cli.trainer.checkpoint_callback.best_model_path
        with pytest.raises(ValueError, match=rf"'{path}' needs .* torch\.optim\.Adam"):
            CloudRemoval.load_from_checkpoint(path)
        assert isinstance(load_task(path).model, AlignCR)
        loaded = CloudRemoval.load_from_checkpoint(
            path, optimizer=partial(Adam, lr=0.01), weights_only=True
        )
        configuration: Any = loaded.configure_optimizers()
        assert isinstance(configuration['optimizer'], Adam)

        with pytest.raises(ValueError, match='lr_factors have no effect on the opt'):
            LightningCLI(BaseTask, Plain, **options, args=[*args, '--optimizer=Adam'])

    def test_best_and_last_are_kept(self, tmp_path: Path) -> None:
        """Also in epochs without validation."""

        class Worse(Callback):
            """Makes the first validation the best."""

            def on_train_epoch_end(
                self, trainer: Trainer, pl_module: LightningModule
            ) -> None:
                for parameter in pl_module.parameters():
                    parameter.data.mul_(3)

        for options, expected in (
            ({}, (0, 2)),
            ({'check_val_every_n_epoch': 2}, (1, 2)),
        ):
            folder = tmp_path / str(options)
            trainer = self._fit(
                CloudRemoval(model_kwargs=TINY),
                folder,
                max_epochs=3,
                callbacks=[Worse()],
                **options,
            )
            best, last = trainer.checkpoint_callbacks
            assert isinstance(best, ModelCheckpoint)
            assert (best.monitor, best.mode, best.save_top_k) == ('val_PSNR', 'max', 1)
            assert isinstance(last, ModelCheckpoint)
            paths = [Path(best.best_model_path), Path(last.best_model_path)]
            assert set(folder.rglob('*.ckpt')) == set(paths)
            assert paths[1].name == 'last.ckpt'
            epochs = [torch.load(path, weights_only=True)['epoch'] for path in paths]
            assert tuple(epochs) == expected

    @pytest.mark.parametrize(
        ('settings', 'count'),
        [
            ({}, 2),
            ({'every_n_train_steps': 1}, 3),
            ({'train_time_interval': timedelta(seconds=0)}, 3),
            ({'every_n_epochs': 2}, 3),
            ({'save_on_train_epoch_end': False}, 2),
            ({'save_on_exception': True}, 2),
            ({'verbose': True}, 2),
            ({'enable_version_counter': False}, 2),
        ],
    )
    def test_own_is_never_dropped(
        self, tmp_path: Path, settings: dict[str, Any], count: int
    ) -> None:
        own = ModelCheckpoint(**settings)
        before = {**vars(own)}
        task = CloudRemoval(model_kwargs=TINY)
        trainer = self._fit(task, tmp_path, callbacks=[own])
        assert own in trainer.checkpoint_callbacks
        assert len(trainer.checkpoint_callbacks) == count
        assert Path(own.best_model_path).is_file()
        for name in ('_every_n_train_steps', '_train_time_interval', '_every_n_epochs'):
            assert vars(own)[name] == before[name]
        # Training goes on with the same ones
        trainer.fit_loop.max_epochs = 4
        trainer.fit(task, _loader(), _loader())
        assert len(trainer.checkpoint_callbacks) == count

    @pytest.mark.parametrize(
        ('options', 'steps'),
        [({}, 5), ({'check_val_every_n_epoch': 2}, 2), ({'limit_val_batches': 0}, 0)],
    )
    def test_scheduler_waits_for_validation(
        self, tmp_path: Path, options: dict[str, Any], steps: int
    ) -> None:
        """It is told each figure once, and none that there is not."""
        task = CloudRemoval(model_kwargs=TINY, lr=1e-3)
        trainer = self._fit(task, tmp_path, max_epochs=5, **options)
        (config,) = trainer.lr_scheduler_configs
        assert isinstance(config.scheduler, ReduceLROnPlateau)
        assert config.scheduler.last_epoch == steps
        assert trainer.optimizers[0].param_groups[0]['lr'] == 1e-3

    @pytest.mark.parametrize('factors', [None, {'head': 0.1}])
    def test_learning_rate_of_the_tuner(
        self, tmp_path: Path, factors: dict[str, float] | None
    ) -> None:
        task = CloudRemoval(model_kwargs=TINY, lr=1e-3, lr_factors=factors)
        tuner = Tuner(_trainer(tmp_path, max_epochs=30))
        found = tuner.lr_find(task, _loader(), num_training=30, min_lr=1e-6)
        assert found
        assert task.hparams['lr'] == found.suggestion() != 1e-3
        trainer = self._fit(task, tmp_path)
        rates = {group['lr'] for group in trainer.optimizers[0].param_groups}
        assert max(rates) == found.suggestion()
        assert len(rates) == (2 if factors else 1)

    def test_own_monitor_is_respected(self, tmp_path: Path) -> None:
        own = ModelCheckpoint(dirpath=tmp_path, monitor='val_SSIM', mode='max')
        trainer = self._fit(CloudRemoval(model_kwargs=TINY), tmp_path, callbacks=[own])
        assert trainer.checkpoint_callbacks == [own]

    def test_own_place_is_respected(self, tmp_path: Path) -> None:
        own = ModelCheckpoint(dirpath=tmp_path / 'own', save_last=True)
        trainer = self._fit(CloudRemoval(model_kwargs=TINY), tmp_path, callbacks=[own])
        best, last = trainer.checkpoint_callbacks
        assert isinstance(best, ModelCheckpoint)
        assert best.monitor == 'val_PSNR'
        assert last is own
        assert (tmp_path / 'own' / 'last.ckpt').is_file()

    def test_no_checkpoints(self, tmp_path: Path) -> None:
        task = CloudRemoval(model_kwargs=TINY)
        trainer = self._fit(task, tmp_path, enable_checkpointing=False)
        assert trainer.checkpoint_callbacks == []
        assert not list(tmp_path.rglob('*.ckpt'))


class TestFigures:
    def test_drawn(self, tmp_path: Path) -> None:
        logger = TensorBoardLogger(tmp_path)
        datamodule = Drawing()
        task = CloudRemoval(model=Brighten(1.5))
        _trainer(tmp_path, logger=logger).validate(task, datamodule, verbose=False)
        assert plt.get_fignums() == []

        scenes = datamodule.dataset
        assert isinstance(scenes, Scenes)
        assert len(scenes.plotted) == task.num_plots < len(scenes)
        for i, sample in enumerate(scenes.plotted):
            image = scenes[i]['image']
            torch.testing.assert_close(sample['image'], image, rtol=1e-5, atol=1e-2)
            torch.testing.assert_close(
                sample['prediction'], 1.5 * image, rtol=1e-5, atol=1e-2
            )
            assert torch.equal(sample['mask_cloud'], scenes[i]['mask_cloud'])
            assert torch.equal(sample['bounds'], scenes[i]['bounds'])

        logger.experiment.flush()
        events = EventAccumulator(logger.log_dir).Reload()
        assert events.Tags()['images'] == [f'image/{i}' for i in range(4)]

    def test_no_logger(self, tmp_path: Path) -> None:
        datamodule = Drawing()
        _trainer(tmp_path).validate(
            CloudRemoval(model='copy'), datamodule, verbose=False
        )
        assert isinstance(datamodule.dataset, Scenes)
        assert not datamodule.dataset.plotted
