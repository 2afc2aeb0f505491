# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Task for cloud removal."""

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar, Self

import matplotlib.pyplot as plt
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities.model_helpers import _restricted_classmethod
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import CyclicLR, OneCycleLR, ReduceLROnPlateau
from torchgeo.datamodules import BaseDataModule
from torchgeo.datasets import unbind_samples
from torchgeo.datasets.utils import Path, Sample
from torchgeo.tasks import BaseTask
from torchmetrics import MetricCollection
from torchvision.models._api import WeightsEnum

from ..checkpoint import read_checkpoint
from ..datasets.modalities import MODALITIES
from ..losses import CARLLoss, CloudAwareLoss, EdgeWeightedCharbonnierLoss
from ..metrics import PROTOCOLS
from ..models import ARCHITECTURES, EncoderDecoder, aligncr, copy, dsen2cr, glfcr
from ..models.checkpoint import load_weights
from ..models.utils import check_finite
from ..transforms.seed import seeded
from .restore import restore_task
from .resume import ResumedSchedulers

#: Modality of PlanetCR that provides each key.
MODALITY_OF_KEY = {row.key: row.name for row in MODALITIES.values()}

#: What else can be done about the lack of a key.
ADVICE = {'mask_cloud': ", or take a loss that needs no cloud masks, such as loss='l1'"}

#: Schedulers that count steps, and not epochs.
OF_STEPS = (CyclicLR, OneCycleLR)

#: Stages whose batches are measured.
STAGES = ('train', 'val', 'test')


class CloudRemoval(BaseTask):
    """Remove clouds from optical images with the help of Sentinel-1.

    Batches hold normalized images, see
    :class:`~torchgeo_planetcr.transforms.PlanetCRNormalize`:

    * ``image``: cloudy image of shape (B, C, H, W)
    * ``image_s1``: Sentinel-1 image of shape (B, 2, H, W), only for models that use it
    * ``image_clear``: clear image of shape (B, C, H, W), not for prediction
    * ``mask_cloud``: cloud mask of shape (B, H, W), 1 cloud and 0 no cloud, only for
      losses that treat clouds differently
    * ``bounds``, ``transform``, ``crs``: georeference, only for prediction

    A model whose attribute ``sar_channels`` is 0 gets a Sentinel-1 image without channels,
    whether batches have one or not. DSen2-CR and architectures are made so by
    ``model_kwargs={'sar_channels': 0}``.

    .. note::
       A checkpoint holds nothing but tensors and plain Python objects, and no class that
       it names is ever imported. So give a *model* or *loss* that is a module, an
       *optimizer* and an *lr_scheduler* again when loading, see
       :meth:`load_from_checkpoint`.
    """

    #: Models of cloud removal by name. *model* may also be any of
    #: :data:`~torchgeo_planetcr.models.ARCHITECTURES`.
    models: ClassVar[dict[str, Callable[..., nn.Module]]] = {
        'aligncr': aligncr,
        'copy': copy,
        'dsen2cr': dsen2cr,
        'glfcr': glfcr,
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
        backbone: str = 'resnet50',
        weights: WeightsEnum | Path | bool | None = None,
        model_kwargs: dict[str, Any] | None = None,
        loss: str | nn.Module = 'carl',
        lr: float = 1e-4,
        patience: int = 10,
        optimizer: OptimizerCallable | None = None,
        lr_scheduler: LRSchedulerCallable | None = None,
        lr_factors: dict[str, float] | None = None,
        compile: bool = False,
    ) -> None:
        """Initialize a new CloudRemoval instance.

        Args:
            model: Name of the model to use: 'aligncr', 'copy', 'dsen2cr', 'glfcr', or
                an architecture of segmentation_models_pytorch, e.g. 'unet', see
                :class:`~torchgeo_planetcr.models.EncoderDecoder`. Or a module that is
                called as ``model(image, image_s1)``.
            backbone: Name of the
                `timm <https://smp.readthedocs.io/en/latest/encoders_timm.html>`__ or
                `smp <https://smp.readthedocs.io/en/latest/encoders.html>`__ backbone
                to use. Only applicable to architectures.
            weights: Initial model weights: the path of a checkpoint of this task, of one
                of the authors' code, or of a file with the state dict of the model, also
                as safetensors. For an architecture also those of its backbone alone: a
                weight enum, the string representation of a weight enum, True for
                ImageNet weights, False or None for random weights, or the path of a
                checkpoint of TorchGeo.
            model_kwargs: Additional keyword arguments to pass to a model given by name.
            loss: Name of the loss to use, 'carl', 'edge_charbonnier' or 'l1', or a
                module that is called as ``loss(prediction, target)``, or as
                ``loss(prediction, target, image, mask_cloud)`` if it is a
                :class:`~torchgeo_planetcr.losses.CloudAwareLoss`.
            lr: Learning rate for optimizer.
            patience: Number of validations without a lower loss after which the default
                scheduler reduces the learning rate.
            optimizer: Function that makes an optimizer of parameters, instead of AdamW
                with *lr*.
            lr_scheduler: Function that makes a learning rate scheduler of an optimizer,
                instead of ReduceLROnPlateau with *patience*. It is called in each epoch,
                but OneCycleLR and CyclicLR in each step.
            lr_factors: Factors of the learning rate, by names of modules of the model:
                ``{'alignment': 0.1}`` trains all modules of that name at a tenth. Not
                for schedulers that set the rate themselves, as OneCycleLR does.
            compile: Whether to compile the model, see :func:`torch.compile`.

        Raises:
            ValueError: If *model* or *loss* is not a known name, if *weights* cannot
                be read or do not fit *model*, or if the model has no module of a name
                in *lr_factors*.
        """
        self.weights = weights
        # Under LightningCLI, hparams hold a description of an object and not the object
        self.given: dict[str, Any] = {
            'model': model,
            'loss': loss,
            'optimizer': optimizer,
            'lr_scheduler': lr_scheduler,
        }
        super().__init__()

    @_restricted_classmethod
    def load_from_checkpoint(  # ty: ignore[incompatible-method-override]
        cls,
        checkpoint_path: Path,
        map_location: str | torch.device = 'cpu',
        hparams_file: None = None,
        strict: bool | None = None,
        weights_only: bool | None = True,
        **kwargs: Any,
    ) -> Self:
        """Load a task from a checkpoint of Lightning, without executing anything in it.

        Args:
            checkpoint_path: Path of the checkpoint.
            map_location: Device to load it onto.
            hparams_file: Not used: give arguments instead.
            strict: Whether all weights must be there, and no others.
            weights_only: Nothing else is ever read.
            **kwargs: Arguments that replace those in the checkpoint, and those that it
                cannot hold: ``model=model`` if that was given as a module, as well as
                *loss*, *optimizer* and *lr_scheduler*.

        Returns:
            The task.

        Raises:
            ValueError: If *checkpoint_path* cannot be read, is damaged, does not fit, has
                weights that are not finite, or needs an object that is not given.
        """
        if hparams_file is not None or weights_only is False:
            raise ValueError(
                'hparams_file and weights_only=False are not for CloudRemoval: give '
                'arguments instead'
            )
        checkpoint = read_checkpoint(checkpoint_path, map_location)
        return restore_task(cls, checkpoint_path, checkpoint, strict, **kwargs)

    def remove_ignored_hparams(self, ignore_list: list[str]) -> None:
        """Remove hyperparameters that must not end up in a checkpoint.

        Args:
            ignore_list: Names of hyperparameters to remove, to which modules and
                functions are added: a checkpoint with one in it would have to be
                unpickled.
        """
        objects = [key for key, value in self.hparams.items() if callable(value)]
        super().remove_ignored_hparams([*ignore_list, *objects])

    def configure_models(self) -> None:
        """Initialize the model.

        Raises:
            ValueError: If the model is not known, if the weights cannot be read or do
                not fit it, or if it has no module of a name in *lr_factors*.
        """
        models = dict(self.models)
        weights: Any = self.weights
        if isinstance(weights, os.PathLike):
            weights = os.fspath(weights)
        for architecture in ARCHITECTURES:
            models[architecture] = partial(
                EncoderDecoder,
                architecture,
                backbone=self.hparams['backbone'],
                weights=weights,
            )
        kwargs = self.hparams['model_kwargs'] or {}
        self.model = _create('model', self.given['model'], models, **kwargs)
        if weights and self.given['model'] not in ARCHITECTURES:
            if not isinstance(weights, str):
                raise ValueError(
                    f'weights of {type(self.model).__name__} must be the path of a '
                    f'checkpoint, got {weights}'
                )
            load_weights(self.model, read_checkpoint(weights), weights)
        self._parameter_groups()
        if self.hparams['compile']:
            self.model.compile()

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
        * :class:`~torchgeo_planetcr.metrics.ReferenceRMSE` (``RMSE``) in units of
          reflectance. Lower is better.
        """
        metrics = MetricCollection(
            {name: metric() for name, metric in PROTOCOLS['reference'].metrics.items()},
            # Metrics that agree on the first batch would be taken for the same metric
            # from then on, as SAM = MAE = 0 if nothing is to be restored
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
            ValueError: If the model has no parameters to train.
        """
        groups = self._parameter_groups()
        if not any(group['params'] for group in groups):
            raise ValueError(
                f'{type(self.model).__name__} has no parameters to train: validate or '
                'test it instead, or fit another model'
            )

        # Lightning's tuner sets the learning rate there
        default = partial(AdamW, lr=self.hparams['lr'])
        plateau = partial(ReduceLROnPlateau, patience=self.hparams['patience'])
        factors = [group.pop('factor') for group in groups]
        optimizer = (self.given['optimizer'] or default)(groups)
        for group, factor in zip(optimizer.param_groups, factors, strict=True):
            group['lr'] = factor * group['lr']
        scheduler = (self.given['lr_scheduler'] or plateau)(optimizer)
        config: Any = {'scheduler': scheduler, 'monitor': self.monitor}
        if isinstance(scheduler, ReduceLROnPlateau) and self._trainer:
            # Figures of an epoch without validation would be those of an earlier one
            config['frequency'] = self._trainer.check_val_every_n_epoch or 1
            # Without any validation, the learning rate stays as it is
            config['strict'] = False
        elif isinstance(scheduler, OF_STEPS):
            config['interval'] = 'step'
        return {'optimizer': optimizer, 'lr_scheduler': config}

    def _parameter_groups(self) -> list[dict[str, Any]]:
        """Group the parameters (``params``) by their learning rate (``factor``)."""
        factors: dict[str, float] = {'': 1, **(self.hparams['lr_factors'] or {})}
        groups: dict[str, list[nn.Parameter]] = {name: [] for name in factors}
        for name, parameter in self.model.named_parameters():
            modules = name.split('.')[-2::-1]
            group = next((module for module in modules if module in factors), '')
            if parameter.requires_grad:
                groups[group].append(parameter)
        known = {
            part for name, _ in self.model.named_modules() for part in name.split('.')
        }
        unknown = [name for name in factors if name not in known]
        if unknown:
            raise ValueError(
                f'{type(self.model).__name__} has no module named '
                f'{", ".join(map(repr, unknown))}: check lr_factors'
            )
        return [
            {'params': params, 'factor': factors[name]}
            for name, params in groups.items()
            if params
        ]

    def on_fit_start(self) -> None:
        """Check that *lr_factors*, if any, have an effect.

        Raises:
            ValueError: If the command line has replaced the optimizer, which then
                ignores *lr_factors*.
        """
        if self.hparams['lr_factors'] and 'configure_optimizers' in vars(self):
            raise ValueError(
                'lr_factors have no effect on the optimizer of the command line: give '
                'optimizer and lr_scheduler among the init_args of the model instead'
            )

    @property
    def uses_sentinel1(self) -> bool:
        """Whether the model takes Sentinel-1, which one without channels for it does not."""
        return getattr(self.model, 'sar_channels', None) != 0

    def forward(self, image: Tensor, image_s1: Tensor | None = None) -> Tensor:
        """Restore cloudy images.

        Args:
            image: Cloudy optical image of shape (B, C, H, W), normalized to [0, 1].
            image_s1: Sentinel-1 image of shape (B, 2, H, W), normalized to [0, 1]. Not
                needed if the model does not use it.

        Returns:
            The restored optical image of shape (B, C, H, W), not clamped.

        Raises:
            ValueError: If *image* or *image_s1* has values that are not finite.
        """
        # Of no channel
        nothing = image[:, :0]
        if image_s1 is None:
            image_s1 = nothing
        # Also here, because a compiled model cannot check values
        check_finite(image, image_s1)
        if not self.uses_sentinel1:
            image_s1 = nothing
        restored: Tensor = self.model(image, image_s1)
        return restored

    def configure_callbacks(self) -> Sequence[Callback]:
        """Keep the checkpoints with the best validation PSNR and of the last epoch.

        A plain :class:`~lightning.pytorch.callbacks.ModelCheckpoint`, as Lightning has it
        by default, writes that of the last epoch to ``last.ckpt``, to go on from without a
        gap. All others of the trainer stay as they are.

        Returns:
            The callback for schedulers when training goes on, and those that keep
            checkpoints. Only the first one if checkpointing is switched off, or if the
            trainer has a ModelCheckpoint that monitors a value.
        """
        callbacks = [
            callback
            for callback in self.trainer.checkpoint_callbacks
            if isinstance(callback, ModelCheckpoint)
        ]
        if not callbacks or any(callback.monitor for callback in callbacks):
            return [ResumedSchedulers()]

        best = ModelCheckpoint(monitor='val_PSNR', mode='max')
        last = ModelCheckpoint(filename='last', save_on_train_epoch_end=True)
        plain = vars(ModelCheckpoint())
        for callback in callbacks:
            if vars(callback) == plain:
                # The user may hold it, and ask it for its path
                vars(callback).update(vars(last))
        # Lightning keeps one state for each key
        if all(callback.state_key != last.state_key for callback in callbacks):
            callbacks.append(last)
        # These replace all callbacks of their type
        return [ResumedSchedulers(), best, *callbacks]

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
        loss, _ = self._step(batch, batch_idx, 'train', self.train_metrics)
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
            FloatingPointError: If the loss is NaN or infinite.
        """
        _, prediction = self._step(batch, batch_idx, 'val', self.val_metrics)

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
            FloatingPointError: If the loss is NaN or infinite.
        """
        self._step(batch, batch_idx, 'test', self.test_metrics)

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
        prediction = self(*self._inputs(batch))
        georeference = {key: batch[key] for key in ('bounds', 'transform', 'crs')}
        return {'prediction': prediction, **georeference}

    def on_train_epoch_end(self) -> None:
        """Log train metrics.

        Raises:
            FloatingPointError: If the last loss is NaN or infinite.
        """
        self._log_metrics(self.train_metrics)
        loss = self.trainer.callback_metrics.get('train_loss')
        # An epoch that was interrupted after its last batch has none
        if loss is not None:
            check_loss('train', loss)

    def on_validation_epoch_end(self) -> None:
        """Log validation metrics."""
        self._log_metrics(self.val_metrics)

    def on_test_epoch_end(self) -> None:
        """Log test metrics."""
        self._log_metrics(self.test_metrics)

    def _inputs(self, batch: Sample) -> tuple[Tensor, Tensor | None]:
        """Look up the images that the model is called with."""
        (image,) = _get(batch, 'image')
        if 'image_s1' not in batch and self.uses_sentinel1:
            raise MissingKeyError(
                "The batch has no image_s1: add 'sentinel1' to the modalities of the data "
                'set, or train a model without Sentinel-1 (sar_channels=0 in model_kwargs '
                'of dsen2cr or an architecture)'
            )
        return image, batch.get('image_s1')

    def _log_metrics(self, metrics: MetricCollection) -> None:
        """Log the metrics of an epoch, and reset them."""
        # Already the same in all processes, which Lightning does not know
        self.log_dict(metrics.compute(), sync_dist=True)
        metrics.reset()

    def _step(
        self, batch: Sample, batch_idx: int, stage: str, metrics: MetricCollection
    ) -> tuple[Tensor, Tensor]:
        """Restore a batch, log its loss and update the metrics."""
        image, image_s1 = self._inputs(batch)
        (target,) = _get(batch, 'image_clear')
        context: Sequence[Tensor] = ()
        if isinstance(self.criterion, CloudAwareLoss):
            context = (image, *_get(batch, 'mask_cloud'))
        place = self.global_rank, self.current_epoch, batch_idx
        # Dropout must not depend on whether training was interrupted before
        with seeded(image.device, STAGES.index(stage), *place):
            prediction: Tensor = self(image, image_s1)
            loss: Tensor = self.criterion(prediction, target, *context)
        if stage != 'train':
            # In training, the end of an epoch must do, as a look waits for the device
            check_loss(stage, loss)
        # A float, because Lightning rounds the mean of integers over processes down to
        # an integer. A training step need not wait for the other processes
        size: Any = float(len(image))
        self.log(f'{stage}_loss', loss, batch_size=size, sync_dist=stage != 'train')
        metrics.update(prediction.detach(), target)
        return loss, prediction


class MissingKeyError(KeyError):
    """A batch lacks a key."""

    def __str__(self) -> str:
        """What to do, without the quotes of a key."""
        return str(self.args[0])


def check_loss(stage: str, loss: Tensor) -> None:
    """Refuse to go on with weights that make no numbers.

    Args:
        stage: Where the loss is from.
        loss: The loss, of shape ().

    Raises:
        FloatingPointError: If it is NaN or infinite.
    """
    if not loss.isfinite():
        raise FloatingPointError(
            f'{stage}_loss is {float(loss)}, as the model makes values that are NaN or '
            'infinite: take another checkpoint, or train with a smaller learning rate '
            '(lr)'
        )


def _create(
    argument: str,
    given: str | nn.Module,
    known: dict[str, Callable[..., nn.Module]],
    **kwargs: Any,
) -> nn.Module:
    """Create the module of a name with *kwargs*, or return a given module."""
    if isinstance(given, nn.Module):
        if kwargs:
            raise ValueError(
                f'{argument}_kwargs are for a {argument} given by name: pass them to '
                f'{type(given).__name__} instead'
            )
        return given

    if given not in known:
        names = ', '.join(repr(name) for name in known)
        raise ValueError(
            f'{argument} must be one of {names} or a module, got {given!r}'
        )

    return known[given](**kwargs)


def _get(batch: Sample, *keys: str) -> list[Tensor]:
    """Look up keys of a batch, or raise an error that names the modalities."""
    missing = [key for key in keys if key not in batch]
    if missing:
        names = ', '.join(repr(MODALITY_OF_KEY[key]) for key in missing)
        raise MissingKeyError(
            f'The batch has no {", ".join(missing)}: add {names} to the modalities of '
            f'the data set{ADVICE.get(missing[0], "")}'
        )

    return [batch[key] for key in keys]
