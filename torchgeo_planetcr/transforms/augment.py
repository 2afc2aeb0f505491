# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Augmentations that only move pixels, so that no value changes."""

from typing import Any, cast

import kornia.augmentation as K
from torch import Tensor
from torchgeo.datasets.utils import Sample


def _is_square(params: dict[str, Tensor]) -> bool:
    """Whether the images that the parameters were drawn for are square."""
    height, width = params['forward_input_shape'][-2:].tolist()
    return height == width


class RandomTranspose(K.GeometricAugmentationBase2D):
    """Swap rows and columns of square images.

    Together with flips this reaches every quarter turn.
    :class:`kornia.augmentation.RandomRotation90` resamples, by default bilinearly,
    which is not exact in general.

    A transposed rectangle has another shape and could not be stacked with the rest of
    its batch, so images that are not square are left as they are.
    """

    # Pixels are moved without the transformation matrix
    _compute_matrix_lazily = True

    def __init__(
        self, p: float = 0.5, same_on_batch: bool = False, keepdim: bool = False
    ) -> None:
        """Initialize a new RandomTranspose instance.

        Args:
            p: Probability of transposing each sample.
            same_on_batch: Apply the same transformation across the batch.
            keepdim: Whether to keep the output shape the same as input (True)
                or broadcast it to the batch form (False).
        """
        super().__init__(p=p, same_on_batch=same_on_batch, keepdim=keepdim)

    def compute_transformation(
        self, input: Tensor, params: dict[str, Tensor], flags: dict[str, Any]
    ) -> Tensor:
        """Compute the matrix that maps input to output pixel coordinates.

        Args:
            input: The input tensor of shape (B, C, H, W).
            params: Generated parameters.
            flags: Static parameters.

        Returns:
            The transformation matrices of shape (B, 3, 3).
        """
        matrix = self.identity_matrix(input)
        return matrix[:, [1, 0, 2]] if _is_square(params) else matrix

    def apply_transform(
        self,
        input: Tensor,
        params: dict[str, Tensor],
        flags: dict[str, Any],
        transform: Tensor | None = None,
    ) -> Tensor:
        """Swap rows and columns of square images.

        Args:
            input: The input tensor of shape (B, C, H, W).
            params: Generated parameters.
            flags: Static parameters.
            transform: The geometric transformation tensor.

        Returns:
            The transposed tensor of shape (B, C, H, W).
        """
        return input.transpose(-2, -1) if _is_square(params) else input


class RandomFlipsAndTurns(K.AugmentationSequential):
    """Flip and turn all images and masks of a batch alike.

    Each sample of a batch of square images takes one of the eight symmetries of the
    square with equal probability, and images that are not square one of the four that
    keep their shape: the identity, both flips and the half turn.

    Every key that starts with ``image`` or ``mask`` takes part, on any grid, so also
    the land cover of ``alignment='native'``. Pixels are moved and never resampled:
    values and dtypes stay the same. Other keys are passed on, including ``bounds`` and
    ``transform``, which describe the patch before it is turned.
    """

    def __init__(self) -> None:
        """Initialize a new RandomFlipsAndTurns instance."""
        super().__init__(
            K.RandomHorizontalFlip(p=0.5),
            K.RandomVerticalFlip(p=0.5),
            RandomTranspose(p=0.5),
            data_keys=None,
            keepdim=True,
        )

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Augment a batch.

        Args:
            *args: The batch, with images of shape (B, C, H, W), floating point, and
                masks of shape (B, H, W), any type with values up to 2^24.
            **kwargs: Additional keyword arguments to pass to
                :class:`kornia.augmentation.AugmentationSequential`.

        Returns:
            A new dictionary with the same keys, shapes and types.
        """
        (batch,) = args
        masks = [key for key in batch if key.startswith('mask')]
        images = {key: value for key, value in batch.items() if key not in masks}
        # Kornia requires masks to be on the grid of the image, but not other images
        for key in masks:
            images[f'image_{key}'] = batch[key].unsqueeze(-3).float()
        images = cast(Sample, super().forward(images, **kwargs))
        for key in masks:
            mask = images.pop(f'image_{key}')
            images[key] = mask.squeeze(-3).to(batch[key].dtype)
        return images
