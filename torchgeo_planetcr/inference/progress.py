# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Progress of the restoration of scenes."""

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from tqdm import tqdm

from ..samplers import TileSampler


class TileProgress(Callback):
    """Bar with tiles per second and the time left, in the first process."""

    def __init__(self, sampler: TileSampler) -> None:
        """Initialize a new TileProgress instance.

        Args:
            sampler: Sampler of the tiles that are predicted.
        """
        self.sampler = sampler
        self.count = 0

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the bar, in a terminal.

        Args:
            trainer: The trainer.
            pl_module: The task.
        """
        self.count = 0
        # A file that keeps what is printed does not need the bar
        disable = None if trainer.is_global_zero else True
        self.bar = tqdm(total=len(self.sampler), unit='tile', disable=disable)

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count the tiles that are done, or were not wanted.

        Args:
            trainer: The trainer.
            pl_module: The task.
            outputs: Predictions.
            batch: The batch.
            batch_idx: Number of the batch.
            dataloader_idx: Number of the data loader.
        """
        self.count += len(batch['image'])
        # Lightning keeps the windows of all batches, which of many scenes are millions
        trainer.predict_loop.current_batch_indices.clear()
        self.bar.update(self.count + self.sampler.skipped - self.bar.n)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the bar full.

        Args:
            trainer: The trainer.
            pl_module: The task.
        """
        self.bar.update(len(self.sampler) - self.bar.n)
        self.bar.close()
