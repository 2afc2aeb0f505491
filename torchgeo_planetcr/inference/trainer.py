# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""The trainer of the command line."""

import pathlib
from typing import Any, Literal

from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from torchgeo.datasets.utils import Path

from .mosaic import mosaic_areas
from .writer import GeoTIFFWriter


class PlanetCRTrainer(Trainer):
    """Lightning's trainer, whose predictions become GeoTIFFs."""

    def predict(
        self,
        model: LightningModule | None = None,
        dataloaders: Any = None,
        datamodule: LightningDataModule | None = None,
        return_predictions: bool | None = False,
        ckpt_path: str | pathlib.Path | None = None,
        weights_only: bool | None = None,
        out: Path = 'predictions',
        dtype: Literal['uint16', 'float32'] = 'uint16',
        mosaic: Path | None = None,
        overwrite: bool = False,
    ) -> Any:
        """Predict the patches of a split, and write a GeoTIFF for each.

        Args:
            model: The task
            dataloaders: Data loaders, instead of *datamodule*
            datamodule: The data module
            return_predictions: Whether to keep all predictions in memory and return them
            ckpt_path: Path of the checkpoint
            weights_only: Whether to load nothing but tensors and plain Python objects
            out: Folder to write PATCH.tif to, on the grid of each patch
            dtype: 'uint16' for reflectance x 10000, 'float32' for reflectance
            mosaic: Folder to write AREA.tif to, in which the patches of each area are put
                together
            overwrite: Replace predictions that exist

        Returns:
            The predictions if *return_predictions*.
        """
        writer = GeoTIFFWriter(out, dtype=dtype, name='patch', overwrite=overwrite)
        self.callbacks.append(writer)
        try:
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
        if mosaic is not None and self.is_global_zero:
            loaders: Any = self.predict_dataloaders
            mosaic_areas(loaders.dataset.index, out, mosaic, overwrite)
        return predictions
