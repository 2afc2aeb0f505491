# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Metrics that have a value for each image, or for each pixel."""

from abc import abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor
from torchmetrics import Metric


class ImageMetric(Metric):
    """Abstract base class for metrics that are a mean over images.

    Each image has a value of its own, so the result does not depend on the batch size,
    the order of the images, or the number of processes. Values are computed in float32,
    also under autocast, and summed in float64.
    """

    is_differentiable = True
    full_state_update = False

    #: Unit of the values, empty if they have none.
    unit: ClassVar[str] = ''

    #: What a reader of the figures must know, in a sentence or two.
    definition: ClassVar[str]

    #: Whether both images are clamped to [0, 1] first.
    clamps: ClassVar[bool] = False

    total: Tensor
    count: Tensor

    def __init__(self, **kwargs: Any) -> None:
        """Initialize a new ImageMetric instance.

        Args:
            **kwargs: Additional keyword arguments to pass to
                :class:`torchmetrics.Metric`.
        """
        super().__init__(**kwargs)
        self.add_state(
            'total', torch.tensor(0, dtype=torch.float64), dist_reduce_fx='sum'
        )
        self.add_state(
            'count', torch.tensor(0, dtype=torch.int64), dist_reduce_fx='sum'
        )

    def image_values(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Compute the metric of each image.

        Args:
            prediction: Restored images of shape (B, C, H, W), nominal range [0, 1].
            target: Clear images of shape (B, C, H, W) in [0, 1].

        Returns:
            One value for each image, of shape (B,), float64.

        Raises:
            ValueError: If the shapes differ or are not (B, C, H, W).
        """
        prediction, target = self._check(prediction, target)
        # In float16 the difference of two nearly equal moments would be lost
        with torch.autocast(prediction.device.type, enabled=False):
            return self._image_values(prediction, target).double()

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Add the images of a batch.

        Args:
            prediction: Restored images of shape (B, C, H, W), nominal range [0, 1].
            target: Clear images of shape (B, C, H, W) in [0, 1].

        Raises:
            ValueError: If the shapes differ or are not (B, C, H, W).
        """
        values = self.image_values(prediction, target)
        # Not in place, as Lightning resets metrics in inference mode: fitting after
        # validating would then change an inference tensor
        self.total = self.total + values.sum()
        self.count = self.count + len(values)

    def compute(self) -> Tensor:
        """Compute the mean over all images.

        Returns:
            The metric, a float64 scalar.
        """
        return self.total / self.count

    def _check(self, prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Check the shapes of two images, and return both in float32, maybe clamped."""
        if prediction.shape != target.shape or target.ndim != 4:
            raise ValueError(
                'prediction and target must have the same shape (B, C, H, W), got '
                f'{(*prediction.shape,)} and {(*target.shape,)}'
            )

        prediction, target = prediction.float(), target.float()
        if self.clamps:
            return prediction.clamp(0, 1), target.clamp(0, 1)
        return prediction, target

    @abstractmethod
    def _image_values(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Compute the metric of each image.

        Args:
            prediction: Restored images of shape (B, C, H, W), float32.
            target: Clear images of shape (B, C, H, W), float32.

        Returns:
            One value for each image, of shape (B,).
        """


class PixelMetric(ImageMetric):
    """Abstract base class for metrics that follow from a mean over pixels.

    The value of an image follows from the mean over its pixels. The value of a class
    follows from the mean over the pixels of that class in all images.
    """

    def pixel_values(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Compute what is averaged over pixels.

        Args:
            prediction: Restored images of shape (B, C, H, W), nominal range [0, 1].
            target: Clear images of shape (B, C, H, W) in [0, 1].

        Returns:
            One value for each pixel, of shape (B, H, W), float64.

        Raises:
            ValueError: If the shapes differ or are not (B, C, H, W).
        """
        prediction, target = self._check(prediction, target)
        with torch.autocast(prediction.device.type, enabled=False):
            return self._pixel_values(prediction, target).double()

    def from_mean(self, mean: Tensor) -> Tensor:
        """Compute the metric from the mean over pixels.

        Args:
            mean: Means of :meth:`pixel_values`, of any shape; NaN where there is no
                pixel.

        Returns:
            The metric, of the same shape; NaN where *mean* is.
        """
        return mean

    def _image_values(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Compute the metric of each image, see :meth:`ImageMetric._image_values`."""
        values = self._pixel_values(prediction, target).double()
        return self.from_mean(values.mean(dim=(1, 2)))

    @abstractmethod
    def _pixel_values(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Compute what is averaged over pixels.

        Args:
            prediction: Restored images of shape (B, C, H, W), float32.
            target: Clear images of shape (B, C, H, W), float32.

        Returns:
            One value for each pixel, of shape (B, H, W).
        """
