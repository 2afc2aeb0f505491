# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""The trainer of the command line."""

import contextlib
import errno
import os
import pathlib
import warnings
from collections.abc import Iterator
from typing import Any, Literal

from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.plugins import TorchCheckpointIO
from torchgeo.datasets.utils import Path

from ..datamodules import PlanetCRDataModule
from ..raster.write import cannot_write, remove_leftovers, write_text
from .checkpoint_io import WholeCheckpointIO
from .mosaic import mosaic_areas
from .writer import GeoTIFFWriter

#: Errors of a disk that is full, or of a file that may not grow.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class WholeConfigCallback(SaveConfigCallback):
    """Save the configuration beside the logs, whole or not at all."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Save the configuration once.

        Args:
            trainer: The trainer.
            pl_module: The task.
            stage: 'fit', 'validate', 'test' or 'predict'.

        Raises:
            OSError: If it cannot be written.
        """
        folder = trainer.log_dir or trainer.default_root_dir
        if trainer.is_global_zero and not self.already_saved:
            text = self.parser.dump(self.config, skip_none=False)
            write_text(os.path.join(folder, self.config_filename), text)
        self.already_saved = True


class PlanetCRTrainer(Trainer):
    """Lightning's trainer, whose checkpoints appear whole, and predictions as GeoTIFFs."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Initialize a new PlanetCRTrainer instance.

        Args:
            *args: See :class:`lightning.pytorch.Trainer`.
            **kwargs: See :class:`lightning.pytorch.Trainer`.
        """
        super().__init__(*args, **kwargs)
        #: What was predicted, in words.
        self.written: str | None = None
        # Not that of a user, or of a strategy that saves in another way
        if type(self.strategy.checkpoint_io) is TorchCheckpointIO:
            self.strategy.checkpoint_io = WholeCheckpointIO()

    def fit(self, *args: Any, **kwargs: Any) -> None:
        """Train a task.

        Args:
            *args: See :meth:`lightning.pytorch.Trainer.fit`.
            **kwargs: See :meth:`lightning.pytorch.Trainer.fit`.

        Raises:
            OSError: If a file cannot be read or written.
        """
        with self._naming_logs():
            super().fit(*args, **kwargs)

    @contextlib.contextmanager
    def _naming_logs(self) -> Iterator[None]:
        """Name what is written when a disk is full, which loggers do not."""
        try:
            yield
        except OSError as error:
            if error.errno not in FULL or error.filename:
                raise
            folder = self.default_root_dir
            for logger in self.loggers:
                folder = logger.log_dir or logger.save_dir or folder
            raise cannot_write(folder, error) from error

    def predict(
        self,
        model: LightningModule | None = None,
        dataloaders: Any = None,
        datamodule: LightningDataModule | None = None,
        return_predictions: bool | None = False,
        ckpt_path: str | pathlib.Path | None = None,
        weights_only: bool | None = None,
        out: Path = 'predictions',
        dtype: Literal['uint8', 'uint16', 'float32'] = 'uint16',
        mosaic: Path | None = None,
        overwrite: bool = False,
    ) -> Any:
        """Predict the patches of a split, and write a GeoTIFF for each.

        Patches whose GeoTIFFs exist, and were made of the same files with the same weights
        and settings, are left out.

        Args:
            model: The task
            dataloaders: Data loaders, instead of *datamodule*
            datamodule: The data module
            return_predictions: Whether to keep all predictions in memory and return them
            ckpt_path: Path of the checkpoint
            weights_only: Whether to load nothing but tensors and plain Python objects
            out: Folder to write PATCH.tif to, on the grid of each patch
            dtype: 'uint16' for reflectance x 10000, 'float32' for reflectance or the
                probabilities of classes, 'uint8' for the most likely class
            mosaic: Folder to write AREA.tif to, in which the patches of each area are put
                together
            overwrite: Replace predictions that exist

        Returns:
            The predictions if *return_predictions*.

        Raises:
            FileExistsError: If something else than such a GeoTIFF exists in its place and
                *overwrite* is not set.
        """
        for folder in (out, mosaic):
            if folder is not None:
                remove_leftovers(folder)
        settings = {}
        if isinstance(datamodule, PlanetCRDataModule):
            settings = datamodule.prediction_settings
        writer = GeoTIFFWriter(
            out, dtype=dtype, name='patch', overwrite=overwrite, settings=settings
        )
        self.callbacks.append(writer)
        try:
            with _leaving_out_finished(self, writer, datamodule):
                predictions = super().predict(
                    model,
                    dataloaders,
                    datamodule,
                    return_predictions=return_predictions,
                    ckpt_path=ckpt_path,
                    weights_only=weights_only,
                )
        finally:
            self.callbacks.remove(writer)
        self.strategy.barrier('mosaic')
        self.written = f'Predictions in {out}'
        if mosaic is not None and self.is_global_zero:
            loaders: Any = self.predict_dataloaders
            mosaic_areas(loaders.dataset.index, out, mosaic, overwrite)
            self.written += f', mosaics in {mosaic}'
        return predictions


@contextlib.contextmanager
def _leaving_out_finished(
    trainer: Trainer, writer: GeoTIFFWriter, datamodule: LightningDataModule | None
) -> Iterator[None]:
    """Have a data module leave out what a writer finds finished."""
    if not isinstance(datamodule, PlanetCRDataModule):
        yield
        return
    before = datamodule.find_finished
    datamodule.find_finished = lambda: writer.find_finished(
        trainer, datamodule.predict_dataset.index
    )
    try:
        with warnings.catch_warnings():
            # Nothing may be left to do
            warnings.filterwarnings('ignore', 'Total length of `DataLoader`')
            yield
    finally:
        datamodule.find_finished = before
