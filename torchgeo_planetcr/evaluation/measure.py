# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""One pass over the patches, with all methods."""

from collections.abc import Iterable, Mapping
from typing import Any, cast

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.utils.data import DataLoader, default_collate
from torchgeo.datasets.utils import Sample
from torchgeo.tasks import SemanticSegmentation
from torchmetrics import MeanMetric, Metric, SumMetric

from ..datasets import PlanetCRWorldCover
from ..datasets.components import NO_CLASS
from ..datasets.modalities import MODALITIES
from ..metrics import ImageMetric, PatchMetrics, PatchValues
from ..transforms import PlanetCRNormalize
from .landcover import confusion, convert_level, landcover_level, predict_landcover
from .methods import Method
from .patches import EvaluationPatches

#: Reflectance that no image reaches, far below where metrics overflow in float32.
LARGEST_REFLECTANCE = 1e6

#: Keys in a sample of the images that land cover is mapped from besides those of each
#: method.
MAPPED_KEYS = {name: MODALITIES[name].key for name in ('clear', 'cloudy')}


class AreaConfusion(Metric):
    """Confusions of land cover, summed over the patches of each area."""

    full_state_update = False

    counts: Tensor

    def __init__(self, num_areas: int, num_classes: int, **kwargs: Any) -> None:
        """Initialize a new AreaConfusion instance.

        Args:
            num_areas: Number of areas.
            num_classes: Number of classes.
            **kwargs: Additional keyword arguments to pass to
                :class:`torchmetrics.Metric`.
        """
        super().__init__(**kwargs)
        self.num_classes = num_classes
        counts = torch.zeros(num_areas, 2, num_classes, num_classes, dtype=torch.int64)
        self.add_state('counts', counts, dist_reduce_fx='sum')

    def update(
        self, areas: Tensor, prediction: Tensor, mask: Tensor, mask_cloud: Tensor
    ) -> None:
        """Add the patches of a batch.

        Args:
            areas: Numbers of the areas, from 0, of shape (B,), int64.
            prediction: Predicted class indices of shape (B, H, W).
            mask: Labeled class indices of shape (B, H, W), 255 where there is none.
            mask_cloud: Cloud masks of shape (B, H, W), 1 cloud and 0 no cloud.
        """
        counts = confusion(prediction, mask, mask_cloud, self.num_classes)
        self.counts.index_add_(0, areas, counts)

    def compute(self) -> Tensor:
        """Return the counts.

        Returns:
            Counts of shape (A, 2, K, K), see :func:`~.landcover.confusion`.
        """
        return self.counts


class Measurement(LightningModule):
    """Measures all methods, patch by patch.

    :meth:`lightning.pytorch.Trainer.test` runs it on any device, in any number of
    processes that share the patches.
    """

    def __init__(
        self,
        methods: Mapping[str, Method],
        metrics: Mapping[str, type[ImageMetric]],
        patches: EvaluationPatches,
        areas: Iterable[int],
        landcover_model: SemanticSegmentation | None = None,
        batch_size: int = 1,
        num_workers: int = 0,
    ) -> None:
        """Initialize a new Measurement instance.

        Args:
            methods: Methods by name.
            metrics: Metrics by name.
            patches: Patches to measure on.
            areas: Number of the area of each patch.
            landcover_model: Network that maps land cover.
            batch_size: Size of each mini-batch.
            num_workers: Number of workers for parallel data loading.
        """
        super().__init__()
        self.names = list(methods)
        self.methods = nn.ModuleList(methods.values())
        self.patches = patches
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.normalize = PlanetCRNormalize()
        classes = PlanetCRWorldCover.classes
        self.metrics = nn.ModuleList(
            PatchMetrics(
                {name: metric() for name, metric in metrics.items()},
                len(patches),
                len(classes[2]),
            )
            for _ in methods
        )
        self.areas: Tensor
        self.register_buffer('areas', torch.tensor(list(areas)), persistent=False)
        self.landcover_model = landcover_model
        #: Names of the images that land cover is mapped from.
        self.mapped = [
            *MAPPED_KEYS,
            *(name for name, method in methods.items() if method.kind != 'copy'),
        ]
        self.confusions = nn.ModuleList()
        if landcover_model is not None:
            num_classes = len(classes[landcover_level(landcover_model)])
            count = int(self.areas.max()) + 1
            for _ in self.mapped:
                self.confusions.append(AreaConfusion(count, num_classes))

        # Pixels without data, and the share of values beyond [0, 1] of each method
        self.no_data = SumMetric().set_dtype(torch.float64)
        self.beyond = nn.ModuleList(
            MeanMetric().set_dtype(torch.float64) for _ in methods
        )

        #: Number of pixels without data.
        self.num_no_data = 0
        #: Share of the values of each method that lie outside of [0, 1].
        self.share_beyond: dict[str, float] = {}
        #: Values of each method.
        self.values: dict[str, PatchValues] = {}
        #: Counts of shape (A, 2, K, K) of each image that land cover is mapped from.
        self.landcover: dict[str, Tensor] = {}

    @property
    def _patch_metrics(self) -> Iterable[PatchMetrics]:
        """Metrics of each method."""
        return cast(Iterable[PatchMetrics], self.metrics)

    @property
    def _area_confusions(self) -> Iterable[AreaConfusion]:
        """Confusions of each image; there are none without a network."""
        return cast(Iterable[AreaConfusion], self.confusions)

    def test_dataloader(self) -> DataLoader[Sample]:
        """Load the patches of this process. No other process loads one of them.

        Returns:
            A loader of batches.
        """
        rank, processes = self.trainer.global_rank, self.trainer.world_size
        share = range(rank, len(self.patches), processes)
        return DataLoader(
            self.patches,
            self.batch_size,
            # Lightning fails if a process has no batch
            sampler=share or range(1),
            num_workers=self.num_workers,
        )

    def restore(self, batch: Sample) -> dict[str, Tensor]:
        """Restore the images of a batch with each method.

        Args:
            batch: Normalized batch.

        Returns:
            Restored images of shape (B, C, H, W), nominal range [0, 1], by method.

        Raises:
            ValueError: If an image has values that are NaN, infinite or huge, or
                another shape.
        """
        images = {}
        for name, method in zip(self.names, self.methods):
            image: Tensor = method(batch)
            if image.shape != batch['image_clear'].shape:
                raise ValueError(
                    f'{name} makes images of shape {(*image.shape,)} instead of '
                    f'{(*batch["image_clear"].shape,)}'
                )
            # Also false for NaN
            is_valid = (image.abs() < LARGEST_REFLECTANCE).flatten(1).all(dim=1)
            if not is_valid.all():
                number = int(batch['patch'][~is_valid][0])
                source = cast(Method, method).describe().source
                raise ValueError(
                    f'{name}{f" ({source})" if source else ""} makes values that are NaN, infinite or huge of '
                    f'{self.patches.names[number]}: it cannot be evaluated'
                )
            images[name] = image
        return images

    def test_step(self, batch: Sample, batch_idx: int) -> None:
        """Measure the methods on a batch.

        Args:
            batch: Samples of the patches.
            batch_idx: Number of the batch.

        Raises:
            ValueError: If an image of a method has values that are NaN or infinite, or
                another shape.
        """
        if self.trainer.global_rank >= len(self.patches):
            return
        pairs = torch.stack([batch['image'], batch['image_clear']])
        self.no_data.update((pairs == 0).all(dim=2).any(dim=0).sum())
        batch = self.normalize(batch)
        images = self.restore(batch)
        for share, image in zip(self.beyond, images.values()):
            cast(MeanMetric, share).update((image != image.clamp(0, 1)).double())
        patches, target = batch['patch'], batch['image_clear']
        mask, mask_cloud = _masks(batch)
        for metrics, image in zip(self._patch_metrics, images.values()):
            metrics.update(patches, image, target, mask_cloud, mask)

        if self.landcover_model is not None:
            images |= {name: batch[key] for name, key in MAPPED_KEYS.items()}
            mask = convert_level(mask, landcover_level(self.landcover_model))
            for confusions, name in zip(self._area_confusions, self.mapped):
                prediction = predict_landcover(self.landcover_model, images[name])
                confusions.update(self.areas[patches], prediction, mask, mask_cloud)

    def on_test_epoch_end(self) -> None:
        """Gather what all processes have measured."""
        self.num_no_data = int(self.no_data.compute())
        for name, metrics in zip(self.names, self._patch_metrics):
            values = metrics.compute()
            self.values[name] = PatchValues(*(value.cpu() for value in values))
        for name, share in zip(self.names, self.beyond):
            self.share_beyond[name] = float(cast(MeanMetric, share).compute())
        for name, confusions in zip(self.mapped, self._area_confusions):
            self.landcover[name] = confusions.compute().cpu()

    def restore_patch(self, number: int) -> Sample:
        """Read and restore one patch.

        Args:
            number: Number of the patch.

        Returns:
            Its sample, of reflectance x 10000 and dB, with a ``prediction`` of each
            method, of shape (M, C, H, W).
        """
        # Lightning has put the models back into the mode before the test
        self.eval()
        batch = default_collate([self.patches[number]])
        batch = self.normalize(
            {key: value.to(self.device) for key, value in batch.items()}
        )
        with torch.inference_mode():
            batch['prediction'] = torch.cat(list(self.restore(batch).values()))
        batch = self.normalize.inverse(batch)
        return {
            key: value.cpu() if key == 'prediction' else value[0].cpu()
            for key, value in batch.items()
        }


def _masks(batch: Sample) -> tuple[Tensor, Tensor]:
    """Land cover and cloud masks of a batch; without such files no class and no cloud."""
    target = batch['image_clear'][:, 0]
    mask, mask_cloud = (
        batch[key]
        if key in batch
        else torch.full_like(target, value, dtype=torch.int64)
        for key, value in (('mask', NO_CLASS), ('mask_cloud', 0))
    )
    return mask, mask_cloud
