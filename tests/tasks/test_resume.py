# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Training that goes on from a checkpoint ends where it would have ended without a break."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau, StepLR

from torchgeo_planetcr import CloudRemoval, PlanetCRDataModule
from torchgeo_planetcr.transforms import (
    RandomBackscatterGain,
    RandomCloudPaste,
    RandomClouds,
    RandomModalityDropout,
    RandomSpeckle,
)

AUGMENTATIONS = (
    RandomClouds,
    RandomCloudPaste,
    RandomSpeckle,
    RandomBackscatterGain,
    RandomModalityDropout,
)

#: When checkpoints are saved.
EPOCH_END = {'save_on_train_epoch_end': True}
VALIDATION_END = {'save_on_train_epoch_end': False}
EACH_STEP = {'every_n_train_steps': 1}

#: A scheduler to which each epoch looks worse than the one before.
DISAPPOINTED = partial(ReduceLROnPlateau, patience=0, mode='max', factor=0.1)


class Dropout(nn.Module):
    """A network that draws numbers, too."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(6, 4, 3, padding=1)

    def forward(self, image: Tensor, image_s1: Tensor) -> Tensor:
        inputs = torch.cat([image, image_s1], dim=1)
        return self.layer(nn.functional.dropout(inputs, training=self.training))


class Interrupted(Exception):
    """Raised in the middle of an epoch."""


class Interrupt(Callback):
    """End training before a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == self.step:
            raise Interrupted


class Fit:
    """Three epochs of three batches, of all that is drawn in training."""

    def __init__(self, root: Path, out: Path, **kwargs: Any) -> None:
        self.root, self.out = root, out
        self.workers = kwargs.pop('num_workers', 0)
        self.augment = kwargs.pop('augment', True)
        self.saving = kwargs.pop('saving', EPOCH_END)
        self.max_steps = kwargs.pop('max_steps', -1)
        self.task = kwargs

    def __call__(
        self,
        epochs: int = 3,
        interrupt: int = -1,
        checkpoint: Path | None = None,
        seed: int = 0,
    ) -> Mapping[str, Tensor]:
        seed_everything(seed, verbose=False)
        task = CloudRemoval(Dropout(), loss='l1', lr=0.01, **self.task)
        drawn = [kind(p=0.5) for kind in AUGMENTATIONS] if self.augment else []
        data = PlanetCRDataModule(
            self.root,
            batch_size=2,
            patch_size=32,
            eval_size=32,
            length=6,
            num_workers=self.workers,
            augment=self.augment,
            augmentations=drawn,
        )
        saved = ModelCheckpoint(self.out, '{step}', save_top_k=-1, **self.saving)
        trainer = Trainer(
            accelerator='cpu',
            max_epochs=epochs,
            max_steps=self.max_steps,
            logger=False,
            default_root_dir=self.out,
            enable_progress_bar=False,
            callbacks=[saved, Interrupt(interrupt)],
        )
        trainer.fit(task, data, ckpt_path=checkpoint, weights_only=True)
        return {name: value.clone() for name, value in task.state_dict().items()}


def check_same(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> None:
    torch.testing.assert_close(first, second, rtol=0, atol=0)


@pytest.mark.parametrize(
    'options',
    [
        {},
        {'augment': False},
        {'num_workers': 1},
        {'saving': VALIDATION_END},
        {'lr_scheduler': DISAPPOINTED},
        {'lr_scheduler': DISAPPOINTED, 'saving': VALIDATION_END},
        {'lr_scheduler': partial(StepLR, step_size=1)},
    ],
)
def test_after_an_epoch(root: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    fit = Fit(root, tmp_path, **options)
    uninterrupted = fit()
    first = tmp_path / 'step=3.ckpt'
    fit(1)
    check_same(fit(checkpoint=first), uninterrupted)


@pytest.mark.parametrize(
    ('step', 'options'),
    [
        (1, {}),
        (3, {}),
        (4, {}),
        (3, {'num_workers': 1}),
        (4, {'num_workers': 1}),
        (4, {'lr_scheduler': DISAPPOINTED}),
    ],
)
def test_within_an_epoch(
    root: Path, tmp_path: Path, step: int, options: dict[str, Any]
) -> None:
    fit = Fit(root, tmp_path, saving=EACH_STEP, **options)
    uninterrupted = fit()
    with pytest.raises(Interrupted):
        fit(interrupt=step)
    check_same(fit(checkpoint=tmp_path / f'step={step}.ckpt'), uninterrupted)


def test_twice(root: Path, tmp_path: Path) -> None:
    fit = Fit(root, tmp_path)
    uninterrupted = fit()
    fit(1)
    fit(2, checkpoint=tmp_path / 'step=3.ckpt')
    check_same(fit(checkpoint=tmp_path / 'step=6.ckpt'), uninterrupted)


def test_workers_and_seeds(root: Path, tmp_path: Path) -> None:
    weights = Fit(root, tmp_path)()
    check_same(Fit(root, tmp_path, num_workers=2)(), weights)
    other = Fit(root, tmp_path)(seed=1)
    assert any(not torch.equal(weights[name], other[name]) for name in weights)


@pytest.mark.parametrize('steps', [2, 3, 5, 9])
def test_steps(root: Path, tmp_path: Path, steps: int) -> None:
    """A number of steps, which ends within an epoch or with one, and not at all before."""
    Fit(root, tmp_path, max_steps=steps, saving=EACH_STEP)(-1)
    expected = {f'step={step}.ckpt' for step in range(1, steps + 1)}
    assert expected <= {path.name for path in tmp_path.iterdir()}
    last = torch.load(tmp_path / f'step={steps}.ckpt', weights_only=True)
    assert last['epoch'] == (steps - 1) // 3


@pytest.mark.parametrize('step', [2, 3, 4])
def test_steps_after_an_interruption(root: Path, tmp_path: Path, step: int) -> None:
    fit = Fit(root, tmp_path, max_steps=8, saving=EACH_STEP)
    uninterrupted = fit(-1)
    with pytest.raises(Interrupted):
        fit(-1, interrupt=step)
    check_same(fit(-1, checkpoint=tmp_path / f'step={step}.ckpt'), uninterrupted)
