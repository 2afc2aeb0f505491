# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Planet-CR datamodule."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any, Literal

import torch
from lightning.pytorch import Trainer
from matplotlib.figure import Figure
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler, SequentialSampler
from torchgeo.datamodules import GeoDataModule
from torchgeo.datasets.utils import GeoSlice, Path, Sample

from ..datasets import PlanetCR
from ..datasets.index import open_index
from ..datasets.modalities import MODALITIES, REFLECTANCE_SCALE, ModalityName
from ..samplers import (
    CenterNativePatchSampler,
    NativePatchSampler,
    RandomNativePatchSampler,
)
from ..transforms import PlanetCRNormalize, RandomFlipsAndTurns
from ..transforms.seed import seeded


class SameWindows(SequentialSampler, DistributedSampler):
    """The windows of an epoch again and again, for a trainer with ``overfit_batches``.

    Lightning replaces any sampler of another type by one that draws whole numbers.
    """

    def __init__(self, sampler: Iterable[GeoSlice]) -> None:
        """Initialize a new SameWindows instance.

        Args:
            sampler: Sampler of the windows.
        """
        self.windows = tuple(sampler)
        super().__init__(self.windows)

    def __iter__(self) -> Iterator[GeoSlice]:  # ty: ignore[incompatible-method-override]
        """Iterate over the windows.

        Yields:
            Window.
        """
        yield from self.windows


class PlanetCRDataModule(GeoDataModule):
    """LightningDataModule implementation for the Planet-CR dataset.

    Training draws random windows. Validation and testing take the whole patch, or the
    window in its center. Prediction uses the test split unless another is named. Images
    are normalized to [0, 1], and training batches are augmented, flipped and turned, on
    the device of the batch.
    """

    #: TorchGeo's own tasks undo the normalization of optical images with *mean* and
    #: *std* before they plot.
    std = torch.tensor(REFLECTANCE_SCALE)

    def __init__(
        self,
        root: Path = 'data',
        batch_size: int = 1,
        patch_size: int | tuple[int, int] = 160,
        eval_size: int | tuple[int, int] | None = None,
        length: int | None = None,
        num_workers: int = 0,
        augment: bool = True,
        augmentations: Sequence[nn.Module] = (),
        modalities: ModalityName | Sequence[ModalityName] | None = None,
        alignment: Literal['geo', 'reference', 'native'] = 'geo',
        landcover_level: Literal[1, 2] = 2,
        strict: bool = False,
        rename: dict[str, str] | None = None,
        predict_split: Literal['train', 'val', 'test'] = 'test',
    ) -> None:
        """Initialize a new PlanetCRDataModule instance.

        Args:
            root: Folder that holds ``train`` and ``test``.
            batch_size: Size of each mini-batch.
            patch_size: Size of each training window in pixels, either ``size`` or
                ``(height, width)``.
            eval_size: Size of the window in the center of each patch that is validated,
                tested and predicted (defaults to the whole patch; the authors use 160).
            length: Number of windows in each training epoch (defaults to the number of
                patches, as the authors do).
            num_workers: Number of workers for parallel data loading.
            augment: Whether to flip and turn training batches. The authors do not.
            augmentations: Further augmentations of training batches, each of which
                takes and returns a normalized batch, such as
                :class:`~torchgeo_planetcr.transforms.RandomClouds`. They come before
                flips and turns, in this order.
            modalities: See :class:`~torchgeo_planetcr.datasets.PlanetCR`.
            alignment: See :class:`~torchgeo_planetcr.datasets.PlanetCR`.
            landcover_level: See :class:`~torchgeo_planetcr.datasets.PlanetCR`.
            strict: See :class:`~torchgeo_planetcr.datasets.PlanetCR`.
            rename: Keys of the batches to rename, once these are normalized and
                augmented, for tasks that need other keys: with
                ``{'image_clear': 'image'}`` TorchGeo's own tasks take the clear image
                as their input.
            predict_split: Split that is predicted.
        """
        super().__init__(
            PlanetCR,
            batch_size,
            patch_size,
            length,
            num_workers,
            root=root,
            modalities=modalities,
            alignment=alignment,
            landcover_level=landcover_level,
            strict=strict,
        )
        self.eval_size = eval_size
        self.rename = rename or {}
        self.predict_split = predict_split
        #: Tells which files need not be predicted, once the weights are loaded.
        self.find_finished: Callable[[], Iterable[str]] = tuple
        # Nodes that do not share the disk of the first one build the index in setup
        self.prepare_data_per_node = False

        #: Maps reflectance and backscatter to [0, 1], and back.
        self.normalize = PlanetCRNormalize()
        self.aug = self.normalize
        moves = [RandomFlipsAndTurns()] if augment else []
        self.train_aug = nn.Sequential(self.normalize, *augmentations, *moves)

    def prepare_data(self) -> None:
        """Build the index of the folder, in one process only."""
        # Errors are raised by setup, in all processes: if only one failed, the messages
        # of the others would hide its own
        with suppress(OSError, ValueError):
            open_index(self.kwargs['root'])

    def setup(self, stage: str) -> None:
        """Set up datasets and samplers.

        Args:
            stage: Either 'fit', 'validate', 'test', or 'predict'.

        Raises:
            ValueError: If the trainer's precision would round coordinates, or if
                *rename* names a key that batches do not have, or one name twice.
        """
        precision = self.trainer.precision if self.trainer else None
        if precision in ('16-true', 'bf16-true'):
            raise ValueError(
                f'precision={precision!r} would round the coordinates of each batch to '
                f'kilometers: use {precision.replace("true", "mixed")!r}'
            )
        if stage == 'fit':
            train = self._open('train')
            length = self.length or len(train)
            # Unlike numbers from PyTorch's generator, this seed does not depend on what
            # was drawn before, which differs between one process and several
            seed = torch.initial_seed()
            if self.trainer:
                seed = self.trainer.strategy.broadcast(seed)
            self.train_dataset = train
            self.train_sampler = RandomNativePatchSampler(
                train, size=self.patch_size, length=length, generator=seed
            )
        if stage in ('fit', 'validate'):
            self.val_dataset = self._open('val')
            self.val_sampler = CenterNativePatchSampler(
                self.val_dataset, size=self.eval_size
            )
        if stage == 'test':
            self.test_dataset = self._open('test')
            self.test_sampler = CenterNativePatchSampler(
                self.test_dataset, size=self.eval_size
            )
        if stage == 'predict':
            self.predict_dataset = self._open(self.predict_split)
            self.predict_sampler = CenterNativePatchSampler(
                self.predict_dataset, size=self.eval_size
            )

        if stage == 'fit' and self.trainer and self.trainer.overfit_batches > 0:
            samplers: Any = self.train_sampler, self.val_sampler
            repeated: list[Any] = [SameWindows(sampler) for sampler in samplers]
            self.train_sampler, self.val_sampler = repeated

    def _open(self, split: Literal['train', 'val', 'test']) -> PlanetCR:
        """Open a split, and check that its batches have the keys to rename."""
        dataset = PlanetCR(split=split, **self.kwargs)
        _check_rename(self.rename, dataset.modalities)
        return dataset

    def train_dataloader(self) -> DataLoader[Sample]:
        """Load training batches, from where a checkpoint has left off.

        Returns:
            The data loader.
        """
        sampler = self.train_sampler
        if self.trainer and isinstance(sampler, NativePatchSampler):
            epoch, batches = _next_batch(self.trainer)
            sampler.resume(epoch, batches * self.batch_size)
        loader: DataLoader[Sample] = super().train_dataloader()
        return loader

    @property
    def prediction_settings(self) -> dict[str, Any]:
        """Settings on which the samples that are predicted depend."""
        return {'alignment': self.kwargs['alignment'], 'eval_size': self.eval_size}

    def predict_dataloader(self) -> DataLoader[Sample]:
        """Load the patches that are not finished.

        Returns:
            The data loader.
        """
        dataset: Any = self.predict_dataset
        sampler: Any = self.predict_sampler
        sampler.leave_out(self.find_finished())
        if not len(sampler):
            # TorchGeo would refuse
            return DataLoader(dataset, sampler=sampler)
        loader: DataLoader[Sample] = super().predict_dataloader()
        return loader

    def on_after_batch_transfer(self, batch: Sample, dataloader_idx: int) -> Sample:
        """Normalize and augment a batch on its device, then rename its keys.

        What is drawn for a training batch depends on the seed, the epoch, the number of the
        batch and the process alone.

        Args:
            batch: A batch of data.
            dataloader_idx: The index of the dataloader to which the batch belongs.

        Returns:
            A batch of data.
        """
        draw: AbstractContextManager[None] = nullcontext()
        if self.trainer and self.trainer.training:
            number = self.trainer.fit_loop.epoch_loop.batch_progress.current.ready
            place = self.trainer.global_rank, self.trainer.current_epoch, number
            draw = seeded(batch['crs'].device, *place)
        with draw:
            batch = super().on_after_batch_transfer(batch, dataloader_idx)
        return _rename_keys(batch, self.rename)

    def plot(self, sample: Sample, *args: Any, **kwargs: Any) -> Figure | None:
        """Plot a sample of the validation dataset.

        Args:
            sample: A sample whose keys may be renamed, otherwise as in
                :meth:`PlanetCR.plot() <torchgeo_planetcr.datasets.PlanetCR.plot>`.
            *args: Further arguments of that method.
            **kwargs: Further arguments of that method.

        Returns:
            A matplotlib Figure, with the titles of the keys before they were renamed.
        """
        sample = _rename_keys(sample, {new: old for old, new in self.rename.items()})
        return super().plot(sample, *args, **kwargs)


def _next_batch(trainer: Trainer) -> tuple[int, int]:
    """Find the epoch and the batch in it with which training begins or goes on."""
    loop = trainer.fit_loop
    epochs = loop.epoch_progress.current
    batches = loop.epoch_loop.batch_progress
    if not loop.restarting or epochs.ready == epochs.processed:
        return epochs.processed, 0
    if batches.is_last_batch:
        return epochs.processed + 1, 0
    return epochs.processed, batches.current.processed


def _rename_keys(sample: Sample, names: Mapping[str, str]) -> Sample:
    """Rename keys of a sample or a batch."""
    return {names.get(key, key): value for key, value in sample.items()}


def _check_rename(
    rename: Mapping[str, str], modalities: Collection[ModalityName]
) -> None:
    """Check that batches have the keys to rename, and that new names are free."""
    rows = {row.key: row for row in MODALITIES.values()}
    for key in rename:
        if key not in rows:
            known = ', '.join(map(repr, rows))
            raise ValueError(f'{key!r} in rename is none of the keys {known}')
        if rows[key].name not in modalities:
            raise ValueError(
                f'Batches have no {key!r} to rename: add {rows[key].name!r} to the '
                'modalities'
            )

    keys = [key for key, row in rows.items() if row.name in modalities]
    names = [rename.get(key, key) for key in (*keys, 'crs', 'bounds', 'transform')]
    for name in rename.values():
        if names.count(name) > 1:
            raise ValueError(
                f'rename={dict(rename)} gives the name {name!r} to several keys: '
                'rename the others too, or leave out their modality'
            )
