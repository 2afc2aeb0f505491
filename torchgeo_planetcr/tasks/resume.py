# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""What Lightning leaves out when training goes on from a checkpoint."""

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback


class ResumedSchedulers(Callback):
    """Tell schedulers that wait for a plateau the figures of each epoch, without a gap.

    Lightning saves a checkpoint before it tells them those of its epoch, and tells them none
    at the end of the first epoch after it has gone on from one.
    """

    #: Key of figures in a checkpoint, by their names.
    key = 'untold_figures'

    def __init__(self) -> None:
        """Initialize a new ResumedSchedulers instance."""
        self._untold: dict[str, float] = {}

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Save the figures of an epoch that schedulers have not been told yet.

        Args:
            trainer: The trainer.
            pl_module: The task.
            checkpoint: What is saved.
        """
        epochs = trainer.fit_loop.epoch_progress.current
        batches = trainer.fit_loop.epoch_loop.batch_progress
        is_trained = batches.current.ready == batches.current.completed
        if batches.is_last_batch and is_trained and epochs.completed < epochs.ready:
            figures = trainer.callback_metrics
            checkpoint[self.key] = {
                name: float(figures[name])
                for name in _awaited(trainer)
                if name in figures
            }

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Load these figures.

        Args:
            trainer: The trainer.
            pl_module: The task.
            checkpoint: What was saved.
        """
        self._untold = dict(checkpoint.get(self.key, {}))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Tell the schedulers.

        Args:
            trainer: The trainer.
            pl_module: The task.
        """
        for config in trainer.lr_scheduler_configs:
            if config.reduce_on_plateau and config.monitor in self._untold:
                figure = self._untold[config.monitor]
                pl_module.lr_scheduler_step(config.scheduler, figure)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Have Lightning tell them the figures of an epoch that was interrupted.

        Args:
            trainer: The trainer.
            pl_module: The task.
        """
        is_known = _awaited(trainer) <= trainer.callback_metrics.keys()
        if is_known and not self._untold:
            # With max_steps, the property would be True again, and epochs have no batches
            trainer.fit_loop._restarting = False
        self._untold = {}


def _awaited(trainer: Trainer) -> set[str]:
    """Names of the figures that schedulers wait for at the end of this epoch."""
    return {
        config.monitor
        for config in trainer.lr_scheduler_configs
        if config.reduce_on_plateau
        and config.monitor is not None
        and config.interval == 'epoch'
        and (trainer.current_epoch + 1) % config.frequency == 0
    }
