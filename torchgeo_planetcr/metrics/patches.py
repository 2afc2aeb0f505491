# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Metrics of each patch, and of its pixels by cloud and class, in one pass."""

from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from .image import ImageMetric, PixelMetric


class PatchValues(NamedTuple):
    """What :class:`PatchMetrics` computes.

    There are N patches, K classes, and M metrics, P of which follow from a mean over
    pixels.
    """

    #: Metrics of shape (N, M), float64.
    images: Tensor
    #: Sums of the values of pixels of shape (N, P, 2, K + 1), float64, first of pixels
    #: without and with cloud, then of each class and of none.
    sums: Tensor
    #: Numbers of these pixels of shape (N, 2, K + 1), int64.
    pixels: Tensor


class PatchMetrics(Metric):
    """Metrics of each patch, and sums over its pixels by cloud and class.

    All figures over groups of patches, cloudy and clear pixels, and classes follow from
    these, so one pass is enough. The state has a row for each patch. It does not depend
    on the batch size, the order of the patches, or the number of processes.
    """

    full_state_update = False

    images: Tensor
    sums: Tensor
    pixels: Tensor
    seen: Tensor

    def __init__(
        self,
        metrics: Mapping[str, ImageMetric],
        num_patches: int,
        num_classes: int,
        **kwargs: Any,
    ) -> None:
        """Initialize a new PatchMetrics instance.

        Args:
            metrics: Metrics by name.
            num_patches: Number of patches.
            num_classes: Number of classes.
            **kwargs: Additional keyword arguments to pass to
                :class:`torchmetrics.Metric`.
        """
        super().__init__(**kwargs)
        self.metrics = nn.ModuleDict(dict(metrics))
        #: Names of the metrics that follow from a mean over pixels.
        self.pixel_metrics = [
            name for name, metric in metrics.items() if isinstance(metric, PixelMetric)
        ]
        cells = (2, num_classes + 1)
        sums = (num_patches, len(self.pixel_metrics), *cells)
        for name, shape, dtype in (
            ('images', (num_patches, len(metrics)), torch.float64),
            ('sums', sums, torch.float64),
            ('pixels', (num_patches, *cells), torch.int64),
            ('seen', (num_patches,), torch.int64),
        ):
            # The rows of other processes stay 0
            self.add_state(name, torch.zeros(shape, dtype=dtype), dist_reduce_fx='sum')

    def update(
        self,
        patches: Tensor,
        prediction: Tensor,
        target: Tensor,
        mask_cloud: Tensor,
        mask: Tensor,
    ) -> None:
        """Add the patches of a batch.

        Args:
            patches: Numbers of the patches, from 0, of shape (B,), int64.
            prediction: Restored images of shape (B, C, H, W), nominal range [0, 1].
            target: Clear images of shape (B, C, H, W) in [0, 1].
            mask_cloud: Cloud mask of shape (B, H, W), int64, 1 cloud and 0 no cloud.
            mask: Class indices of shape (B, H, W), int64. Pixels whose index is not
                below the number of classes belong to none.

        Raises:
            ValueError: If the shapes of the images differ or are not (B, C, H, W).
        """
        size, shape = len(patches), self.pixels.shape[1:]
        cells = mask.clamp(max=shape[1] - 1) + shape[1] * mask_cloud
        batch = torch.arange(size, device=cells.device)[:, None, None]
        cells = (cells + shape.numel() * batch).flatten()
        count = size * shape.numel()

        values, sums = [], []
        for module in self.metrics.values():
            metric = cast(ImageMetric, module)
            if isinstance(metric, PixelMetric):
                pixels = metric.pixel_values(prediction, target)
                values.append(metric.from_mean(pixels.mean(dim=(1, 2))))
                # Unlike bincount, deterministic on a GPU if PyTorch is told to be
                total = pixels.new_zeros(count).index_add_(0, cells, pixels.flatten())
                sums.append(total.view(size, *shape))
            else:
                values.append(metric.image_values(prediction, target))
        self.images[patches] = torch.stack(values, dim=1)
        self.sums[patches] = torch.stack(sums, dim=1)
        self.pixels[patches] = cells.bincount(minlength=count).view(size, *shape)
        # Unlike an assignment, counts a patch twice that a batch has twice
        self.seen.index_add_(0, patches, torch.ones_like(patches))

    def compute(self) -> PatchValues:
        """Return the rows of all patches.

        Returns:
            Metrics, sums and numbers of pixels.

        Raises:
            RuntimeError: If a patch was not added, or was added more than once.
        """
        if (self.seen != 1).any():
            patch = int((self.seen != 1).nonzero()[0])
            raise RuntimeError(
                f'Each patch must be added once: patch {patch} was added '
                f'{int(self.seen[patch])} times'
            )

        return PatchValues(self.images, self.sums, self.pixels)
