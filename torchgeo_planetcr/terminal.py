# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""What a person sees of the `planetcr` command."""

import logging
import os
import warnings

import lightning
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

#: Logger of what Lightning says in the first of several processes.
LOGGER = 'lightning.pytorch.utilities.rank_zero'

#: How messages of Lightning begin that concern nobody: advertisements, devices, which
#: :class:`Progress` names, and callbacks that replace themselves.
LOGS = (
    '💡 Tip: ',
    'GPU available: ',
    'TPU available: ',
    'HPU available: ',
    'You are using a CUDA device ',
    'The following callbacks returned in `LightningModule.configure_callbacks` will ',
)

#: Warnings that concern nobody, as regular expressions: of what Lightning itself calls, of
#: a setting for data that were never slow, of options that do what they are for, and of
#: arrays that rasterio warps (a file without a place on Earth is refused).
WARNINGS = (
    r'`isinstance\(treespec, LeafSpec\)` is deprecated',
    r"The '\w+' does not have many workers",
    r'`\w+\.configure_optimizers` will be overridden by',
    r'Dataset has no geotransform',
)

#: Warnings that only concern a training which goes on.
OF_TRAINING = (r'The dirpath has changed from ',)

#: Folders of the code whose warnings are shown without places in it.
FOLDERS = tuple(
    os.path.join(os.path.dirname(path), '') for path in (__file__, lightning.__file__)
)

#: How Python writes warnings.
FORMAT_WARNING = warnings.formatwarning

#: Warnings that were written.
SHOWN: set[str] = set()


def clear_terminal(command: str) -> None:
    """Show what concerns the user of a command, and nothing else, in this process.

    Args:
        command: Name of the command.
    """
    logging.getLogger(LOGGER).addFilter(_concerns_somebody)
    for message in (*WARNINGS, *(() if command == 'fit' else OF_TRAINING)):
        warnings.filterwarnings('ignore', message)
    warnings.formatwarning = _format_warning  # ty: ignore[invalid-assignment]


def _concerns_somebody(record: logging.LogRecord) -> bool:
    """Whether a message of Lightning is to be shown."""
    return not record.getMessage().startswith(LOGS)


def _format_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    line: str | None = None,
) -> str:
    """Write a warning as a line for people, if it is no matter of their own code."""
    is_ours = category.__module__.startswith('torchgeo_planetcr')
    if is_ours or filename.startswith(FOLDERS):
        # Python forgets what it has shown where filters are changed for a while
        text = '' if str(message) in SHOWN else f'{message}\n'
        SHOWN.add(str(message))
        return text
    return FORMAT_WARNING(message, category, filename, lineno, line)


class Progress(Callback):
    """Print what is trained, and the figures of each epoch in a line."""

    def __init__(self) -> None:
        """Initialize a new Progress instance."""
        self._is_validated = False

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print what is trained.

        Args:
            trainer: The trainer.
            pl_module: The task.
        """
        model = getattr(pl_module, 'model', pl_module)
        count = sum(x.numel() for x in pl_module.parameters() if x.requires_grad)
        device = trainer.strategy.root_device
        # There is no bar yet
        if trainer.is_global_zero:
            print(f'{type(model).__name__}: {count:,} weights, on {device}')

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note that there are figures of this epoch.

        Args:
            trainer: The trainer.
            pl_module: The task.
        """
        self._is_validated = not trainer.sanity_checking

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the loss of the last batch, and the figures of the validation.

        Args:
            trainer: The trainer.
            pl_module: The task.
        """
        names = ['train_loss']
        if self._is_validated:
            monitors = [str(callback.monitor) for callback in _monitors(trainer)]
            names += ['val_loss', *monitors]
        self._is_validated = False
        figures = trainer.callback_metrics
        texts = [
            f'{name} {float(figures[name]):.4g}'
            for name in dict.fromkeys(names)
            if name in figures
        ]
        bar = trainer.progress_bar_callback
        if trainer.is_global_zero:
            write = bar.print if bar and getattr(bar, 'is_enabled', True) else print
            write(f'Epoch {trainer.current_epoch}: {", ".join(texts)}')


def best_checkpoint(trainer: Trainer) -> str | None:
    """Say where the best checkpoint of a training is.

    Args:
        trainer: The trainer, after it.

    Returns:
        A line; None if there is no checkpoint.
    """
    for callback in _monitors(trainer):
        if callback.best_model_path and callback.best_model_score is not None:
            score = f'{callback.monitor} {float(callback.best_model_score):.4g}'
            return f'Best checkpoint: {_show_path(callback.best_model_path)} ({score})'
    for other in trainer.checkpoint_callbacks:
        if isinstance(other, ModelCheckpoint) and other.best_model_path:
            return f'Last checkpoint: {_show_path(other.best_model_path)}'
    return None


def _monitors(trainer: Trainer) -> list[ModelCheckpoint]:
    """Callbacks that keep the best checkpoints."""
    return [
        callback
        for callback in trainer.checkpoint_callbacks
        if isinstance(callback, ModelCheckpoint) and callback.monitor
    ]


def _show_path(path: str) -> str:
    """Show a path as it would be typed in the current folder."""
    short = os.path.relpath(path)
    return path if short.startswith(os.pardir) or '://' in path else short
