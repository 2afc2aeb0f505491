# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Task for cloud removal."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import matplotlib.pyplot as plt
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torchgeo.datamodules import BaseDataModule
from torchgeo.datasets import unbind_samples
from torchgeo.datasets.utils import Sample
from torchgeo.tasks import BaseTask
from torchmetrics import MetricCollection

from ..losses import CARLLoss, CloudAwareLoss, EdgeWeightedCharbonnierLoss
from ..metrics import ReferenceMAE, ReferencePSNR, ReferenceSAM, ReferenceSSIM
from ..models import copy, dsen2cr, load_reference_checkpoint

#: Modality of PlanetCR that provides each key.
MODALITIES = {
    'image': 'cloudy',
    'image_clear': 'clear',
    'image_s1': 'sentinel1',
    'mask_cloud': 'cloud_mask',
}


class CloudRemoval(BaseTask):
    """Remove clouds from optical images with the help of SAR images.

    Batches hold normalized images, see
    :class:`~torchgeo_planetcr.transforms.PlanetCRNormalize`:

    * ``image``: cloudy image of shape (B, C, H, W)
    * ``image_s1``: SAR image of shape (B, 2, H, W)
    * ``image_clear``: cloud-free image of shape (B, C, H, W), not for prediction
    * ``mask_cloud``: cloud mask of shape (B, H, W), 1 cloud and 0 no cloud, only for
      losses that treat clouds differently
    * ``bounds``, ``transform``, ``crs``: georeference, only for prediction

    .. note::
       A *model* or *loss* that is given as a module is not a hyperparameter of the
       checkpoint, which holds nothing but tensors and plain Python objects. Give it
       again when loading:
       ``CloudRemoval.load_from_checkpoint(path, model=model, weights_only=True)``.
       Under LightningCLI its ``class_path`` is one, so nothing has to be given.
    """

    #: Models by name.
    models: ClassVar[dict[str, Callable[..., nn.Module]]] = {
        'copy': copy,
        'dsen2cr': dsen2cr,
    }

    #: Losses by name.
    losses: ClassVar[dict[str, Callable[[], nn.Module]]] = {
        'carl': CARLLoss,
        'edge_charbonnier': EdgeWeightedCharbonnierLoss,
        'l1': nn.L1Loss,
    }

    #: Number of validation batches whose first sample is drawn in each epoch.
    num_plots = 4

    def __init__(
        self,
        model: str | nn.Module = 'dsen2cr',
        model_kwargs: dict[str, Any] | None = None,
        weights: str | None = None,
        loss: str | nn.Module = 'carl',
        lr: float = 1e-4,
        patience: int = 10,
    ) -> None:
        """Initialize a new CloudRemoval instance.

        Args:
            model: Name of the model to use, 'dsen2cr' or 'copy', or a module that is
                called as ``model(image, image_s1)``.
            model_kwargs: Additional keyword arguments to pass to the model of that
                name.
            weights: Path of a checkpoint of the authors' code to start from, see
                :func:`~torchgeo_planetcr.models.load_reference_checkpoint`.
            loss: Name of the loss to use, 'carl', 'edge_charbonnier' or 'l1', or a
                module that is called as ``loss(prediction, target)``, or as
                ``loss(prediction, target, image, mask_cloud)`` if it is a
                :class:`~torchgeo_planetcr.losses.CloudAwareLoss`.
            lr: Learning rate for optimizer.
            patience: Patience for learning rate scheduler.

        Raises:
            ValueError: If *model* or *loss* is not a known name, or if *weights* cannot
                be read or do not fit *model*.
        """
        self.weights = weights
        # Under LightningCLI, hparams hold a description of a module and not the module
        self.given: dict[str, str | nn.Module] = {'model': model, 'loss': loss}
        super().__init__()

    def remove_ignored_hparams(self, ignore_list: list[str]) -> None:
        """Remove hyperparameters that must not end up in a checkpoint.

        Args:
            ignore_list: Names of hyperparameters to remove, to which those that are
                modules are added: a checkpoint with one in it would have to be
                unpickled.
        """
        modules = [k for k, v in self.hparams.items() if isinstance(v, nn.Module)]
        super().remove_ignored_hparams([*ignore_list, *modules])

    def configure_models(self) -> None:
        """Initialize the model.

        Raises:
            ValueError: If the model is not known, or if the weights cannot be read or
                do not fit it.
        """
        kwargs = self.hparams['model_kwargs'] or {}
        self.model = _create('model', self.given['model'], self.models, **kwargs)
        if self.weights is not None:
            load_reference_checkpoint(self.model, self.weights)

    def configure_losses(self) -> None:
        """Initialize the loss criterion.

        Raises:
            ValueError: If the loss is not known.
        """
        self.criterion = _create('loss', self.given['loss'], self.losses)

    def configure_metrics(self) -> None:
        """Initialize the performance metrics.

        * :class:`~torchgeo_planetcr.metrics.ReferencePSNR` (``PSNR``) in dB. Higher is
          better.
        * :class:`~torchgeo_planetcr.metrics.ReferenceSSIM` (``SSIM``). Higher is
          better.
        * :class:`~torchgeo_planetcr.metrics.ReferenceSAM` (``SAM``) in degrees. Lower
          is better.
        * :class:`~torchgeo_planetcr.metrics.ReferenceMAE` (``MAE``) in units of
          reflectance. Lower is better.
        """
        metrics = MetricCollection(
            {
                'PSNR': ReferencePSNR(),
                'SSIM': ReferenceSSIM(),
                'SAM': ReferenceSAM(),
                'MAE': ReferenceMAE(),
            },
            # Metrics that agree on the first batch, as SAM = MAE = 0 do if nothing is
            # to be restored, would be taken for one and the same from then on
            compute_groups=False,
        )
        self.train_metrics = metrics.clone(prefix='train_')
        self.val_metrics = metrics.clone(prefix='val_')
        self.test_metrics = metrics.clone(prefix='test_')

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Initialize the optimizer and learning rate scheduler.

        Returns:
            Optimizer and learning rate scheduler.

        Raises:
            ValueError: If the model has nothing to train.
        """
        if not any(parameter.requires_grad for parameter in self.model.parameters()):
            msg = (
                f'{type(self.model).__name__} has no parameters to train: validate or '
            )
            msg += 'test it instead, or fit another model.'
            raise ValueError(msg)

        return super().configure_optimizers()

    def configure_callbacks(self) -> Sequence[Callback]:
        """Keep the checkpoint with the best validation PSNR.

        Returns:
            The callback that does so, and those of the trainer that save to a place or
            in a way of their own. None if checkpointing is switched off or the trainer
            has a :class:`~lightning.pytorch.callbacks.ModelCheckpoint` that monitors
            something.
        """
        callbacks = [
            callback
            for callback in self.trainer.checkpoint_callbacks
            if isinstance(callback, ModelCheckpoint)
        ]
        if not callbacks or any(callback.monitor for callback in callbacks):
            return []

        # What is returned replaces all callbacks of its type; Lightning's default goes
        default = ModelCheckpoint()
        settings = (
            'dirpath',
            'filename',
            'save_last',
            'save_top_k',
            'save_weights_only',
        )
        own = [
            callback
            for callback in callbacks
            if any(getattr(callback, s) != getattr(default, s) for s in settings)
        ]
        return [ModelCheckpoint(monitor='val_PSNR', mode='max'), *own]

    def training_step(
        self, batch: Sample, batch_idx: int, dataloader_idx: int = 0
    ) -> Tensor:
        """Compute the training loss and additional metrics.

        Args:
            batch: The output of your DataLoader.
            batch_idx: Integer displaying index of this batch.
            dataloader_idx: Index of the current dataloader.

        Returns:
            The loss tensor.

        Raises:
            KeyError: If the batch lacks a key.
        """
        loss, _ = self._step(batch, 'train', self.train_metrics)
        return loss

    def validation_step(
        self, batch: Sample, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Compute the validation loss and additional metrics.

        Args:
            batch: The output of your DataLoader.
            batch_idx: Integer displaying index of this batch.
            dataloader_idx: Index of the current dataloader.

        Raises:
            KeyError: If the batch lacks a key.
        """
        _, prediction = self._step(batch, 'val', self.val_metrics)

        if (
            batch_idx < self.num_plots
            and hasattr(self.trainer, 'datamodule')
            and isinstance(self.trainer.datamodule, BaseDataModule)
            and hasattr(self.trainer.datamodule, 'normalize')
            and self.logger
            and hasattr(self.logger, 'experiment')
            and hasattr(self.logger.experiment, 'add_figure')
        ):
            datamodule = self.trainer.datamodule
            batch = datamodule.normalize.inverse({**batch, 'prediction': prediction})
            batch = {key: value[:1].cpu() for key, value in batch.items()}
            fig = datamodule.plot(unbind_samples(batch)[0])
            if fig:
                self.logger.experiment.add_figure(
                    f'image/{batch_idx}', fig, global_step=self.global_step
                )  # ty: ignore[not-callable]
                plt.close(fig)

    def test_step(self, batch: Sample, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Compute the test loss and additional metrics.

        Args:
            batch: The output of your DataLoader.
            batch_idx: Integer displaying index of this batch.
            dataloader_idx: Index of the current dataloader.

        Raises:
            KeyError: If the batch lacks a key.
        """
        self._step(batch, 'test', self.test_metrics)

    def predict_step(
        self, batch: Sample, batch_idx: int, dataloader_idx: int = 0
    ) -> Sample:
        """Restore the cloudy images.

        Args:
            batch: The output of your DataLoader.
            batch_idx: Integer displaying index of this batch.
            dataloader_idx: Index of the current dataloader.

        Returns:
            A dictionary with ``prediction``, the surface reflectance of shape
            (B, C, H, W), nominal range [0, 1] and not clamped, and the ``bounds``,
            ``transform`` and ``crs`` of the batch.

        Raises:
            KeyError: If the batch lacks a key.
        """
        prediction = self(*_get(batch, 'image', 'image_s1'))
        georeference = {key: batch[key] for key in ('bounds', 'transform', 'crs')}
        return {'prediction': prediction, **georeference}

    def on_train_epoch_end(self) -> None:
        """Log train metrics."""
        self._log_metrics(self.train_metrics)

    def on_validation_epoch_end(self) -> None:
        """Log validation metrics."""
        self._log_metrics(self.val_metrics)

    def on_test_epoch_end(self) -> None:
        """Log test metrics."""
        self._log_metrics(self.test_metrics)

    def _log_metrics(self, metrics: MetricCollection) -> None:
        """Log metrics of an epoch and reset them.

        Args:
            metrics: Metrics to log.
        """
        # Already the same in all processes, but Lightning does not know
        self.log_dict(metrics.compute(), sync_dist=True)
        metrics.reset()

    def _step(
        self, batch: Sample, stage: str, metrics: MetricCollection
    ) -> tuple[Tensor, Tensor]:
        """Restore a batch, log its loss and update the metrics.

        Args:
            batch: The output of your DataLoader.
            stage: Prefix of the name of the loss.
            metrics: Metrics to update.

        Returns:
            The loss and the prediction of shape (B, C, H, W).
        """
        image, image_s1, target = _get(batch, 'image', 'image_s1', 'image_clear')
        prediction: Tensor = self(image, image_s1)
        context: Sequence[Tensor] = ()
        if isinstance(self.criterion, CloudAwareLoss):
            context = (image, *_get(batch, 'mask_cloud'))
        loss: Tensor = self.criterion(prediction, target, *context)
        # A float, because Lightning cuts the mean of whole numbers over processes to a
        # whole number. A step of training need not wait for the other processes
        size: Any = float(len(image))
        self.log(f'{stage}_loss', loss, batch_size=size, sync_dist=stage != 'train')
        metrics.update(prediction.detach(), target)
        return loss, prediction


def _create(
    argument: str,
    given: str | nn.Module,
    known: dict[str, Callable[..., nn.Module]],
    **kwargs: Any,
) -> nn.Module:
    """Create a module from its name.

    Args:
        argument: Name of the argument, for the error.
        given: Name of the module, or the module itself.
        known: Factories by name.
        **kwargs: Keyword arguments to pass to the factory.

    Returns:
        The module.

    Raises:
        ValueError: If the name is not known, or a module comes with keyword arguments.
    """
    if isinstance(given, nn.Module):
        if kwargs:
            msg = f'{argument}_kwargs are for a {argument} given by name, pass them to '
            msg += f'{type(given).__name__} instead.'
            raise ValueError(msg)
        return given

    if given not in known:
        names = ', '.join(repr(name) for name in known)
        msg = f'{argument} must be one of {names} or a module, got {given!r}.'
        raise ValueError(msg)

    return known[given](**kwargs)


def _get(batch: Sample, *keys: str) -> list[Tensor]:
    """Look up keys of a batch.

    Args:
        batch: The output of your DataLoader.
        *keys: Keys to look up.

    Returns:
        Their values.

    Raises:
        KeyError: If the batch lacks a key.
    """
    missing = [key for key in keys if key not in batch]
    if missing:
        names = [MODALITIES[key] for key in missing]
        msg = (
            f'The batch has no {", ".join(missing)}: add {names} to the modalities of '
        )
        msg += 'the data set.'
        raise KeyError(msg)

    return [batch[key] for key in keys]
