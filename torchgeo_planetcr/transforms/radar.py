# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Augmentations of Sentinel-1."""

import math
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from kornia.augmentation import random_generator
from torch import Tensor

from .batch import BatchAugmentation, make_generator
from .normalize import PLANETCR_RANGES

#: Value of normalized ``image_s1`` where there is no image of Sentinel-1: what
#: :data:`~torchgeo_planetcr.transforms.PlanetCRNormalize` makes of -25 dB in VV and
#: -32.5 dB in VH, the lower ends of both ranges. Hardly any ground returns so little in
#: both.
MISSING_BACKSCATTER = 0.0


def add_decibels(image_s1: Tensor, decibels: Tensor) -> Tensor:
    """Add decibels to normalized backscatter.

    Args:
        image_s1: VV and VH of shape (B, 2, H, W), in [0, 1].
        decibels: What to add, of a shape that broadcasts with it.

    Returns:
        Backscatter clipped to [0, 1], of the shape and type of *image_s1*.
    """
    lower, upper = torch.tensor(PLANETCR_RANGES['image_s1'])
    span = (upper - lower)[:, None, None].to(image_s1.device, non_blocking=True)
    return (image_s1 + decibels / span).clamp(0, 1).to(image_s1.dtype)


class RandomSpeckle(BatchAugmentation):
    """Multiply backscatter by speckle.

    Speckle of *L* looks is a factor of the power, with a gamma distribution of mean 1
    and variance 1 / *L*, independent in VV and VH and in each pixel of Sentinel-1. Real
    images already have speckle, of about five looks in a pixel of 10 m. This adds more.

    In a batch, ``image_s1`` changes, if it is there.
    """

    keys: ClassVar[tuple[str, ...]] = ('image_s1',)
    is_optional: ClassVar[bool] = True
    draws_fields: ClassVar[bool] = True

    def __init__(
        self,
        looks: tuple[float, float] = (5, 20),
        pixel: float = 10 / 3,
        p: float = 0.5,
        same_on_batch: bool = False,
        keepdim: bool = False,
    ) -> None:
        """Initialize a new RandomSpeckle instance.

        Args:
            looks: Least and largest number of looks. Each sample draws one.
            pixel: Size of a pixel of Sentinel-1 in pixels of ``image_s1``: 10 / 3 on
                the grid of 3 m, to which speckle is interpolated, and 1 on its own grid
                (``alignment='native'``).
            p: Probability of applying the augmentation to each sample.
            same_on_batch: Apply the same speckle across the batch.
            keepdim: Whether to keep the output shape the same as input (True)
                or broadcast it to the batch form (False).

        Raises:
            ValueError: If *looks* are not positive and in order, or if *pixel* is less
                than 1.
        """
        super().__init__(p=p, same_on_batch=same_on_batch, keepdim=keepdim)
        if not 0 < looks[0] <= looks[1]:
            raise ValueError(f'looks={looks} must be two positive numbers, in order')
        if pixel < 1:
            raise ValueError(f'pixel={pixel} must be at least 1')
        self._param_generator = random_generator.PlainUniformGenerator(
            (looks, 'looks', None, None)
        )
        self.flags = {'pixel': pixel}

    def apply_transform(
        self,
        input: Tensor,
        params: dict[str, Tensor],
        flags: dict[str, Any],
        transform: Tensor | None = None,
    ) -> Tensor:
        """Multiply backscatter by speckle.

        Args:
            input: VV and VH of shape (B, 2, H, W), in [0, 1].
            params: Generated parameters.
            flags: Static parameters.
            transform: The geometric transformation tensor.

        Returns:
            Backscatter in [0, 1], of the same shape.
        """
        count, channels, *size = input.shape
        count = 1 if self.same_on_batch else count
        looks = params['looks'][:count, None, None, None]
        looks = looks.to(input.device, torch.float32, non_blocking=True)
        coarse = (math.ceil(length / flags['pixel']) for length in size)
        # PyTorch has no public function that takes a generator
        gamma = torch._standard_gamma(
            looks.expand(count, channels, *coarse),
            generator=make_generator(params, input.device),
        )
        factor = F.interpolate(gamma / looks, tuple(size), mode='bilinear')
        return add_decibels(input, 10 * factor.log10())


class RandomBackscatterGain(BatchAugmentation):
    """Multiply backscatter by a gain, one for VV and another one for VH.

    It simulates what differs from one image to the next: calibration, which is
    specified to 1 dB for Sentinel-1, the angle of incidence, and the wetness of the
    soil.

    In a batch, ``image_s1`` changes, if it is there.
    """

    keys: ClassVar[tuple[str, ...]] = ('image_s1',)
    is_optional: ClassVar[bool] = True

    def __init__(
        self,
        gain: tuple[float, float] = (-1.5, 1.5),
        p: float = 0.5,
        same_on_batch: bool = False,
        keepdim: bool = False,
    ) -> None:
        """Initialize a new RandomBackscatterGain instance.

        Args:
            gain: Least and largest gain in dB. Each sample draws one for VV and one for
                VH.
            p: Probability of applying the augmentation to each sample.
            same_on_batch: Apply the same gains across the batch.
            keepdim: Whether to keep the output shape the same as input (True)
                or broadcast it to the batch form (False).

        Raises:
            ValueError: If *gain* is not in order.
        """
        super().__init__(p=p, same_on_batch=same_on_batch, keepdim=keepdim)
        if not gain[0] <= gain[1]:
            raise ValueError(f'gain={gain} must be two numbers in dB, in order')
        self._param_generator = random_generator.PlainUniformGenerator(
            (gain, 'vv', None, None), (gain, 'vh', None, None)
        )

    def apply_transform(
        self,
        input: Tensor,
        params: dict[str, Tensor],
        flags: dict[str, Any],
        transform: Tensor | None = None,
    ) -> Tensor:
        """Multiply backscatter by a gain.

        Args:
            input: VV and VH of shape (B, 2, H, W), in [0, 1].
            params: Generated parameters.
            flags: Static parameters.
            transform: The geometric transformation tensor.

        Returns:
            Backscatter in [0, 1], of the same shape.
        """
        gain = torch.stack([params['vv'], params['vh']], dim=1)[..., None, None]
        return add_decibels(input, gain.to(input.device, non_blocking=True))


class RandomModalityDropout(BatchAugmentation):
    """Leave out Sentinel-1 of whole samples.

    Their ``image_s1`` becomes :data:`MISSING_BACKSCATTER` everywhere. A network that
    was trained with this also restores images without Sentinel-1, if ``image_s1`` is
    the same constant.

    In a batch, ``image_s1`` changes, if it is there. This augmentation comes after others of
    ``image_s1``, which would change the constant.
    """

    keys: ClassVar[tuple[str, ...]] = ('image_s1',)
    is_optional: ClassVar[bool] = True

    def __init__(
        self, p: float = 0.2, same_on_batch: bool = False, keepdim: bool = False
    ) -> None:
        """Initialize a new RandomModalityDropout instance.

        Args:
            p: Probability of leaving out Sentinel-1 of each sample.
            same_on_batch: Leave out Sentinel-1 of all samples of a batch, or of none.
            keepdim: Whether to keep the output shape the same as input (True)
                or broadcast it to the batch form (False).
        """
        super().__init__(p=p, same_on_batch=same_on_batch, keepdim=keepdim)

    def apply_transform(
        self,
        input: Tensor,
        params: dict[str, Tensor],
        flags: dict[str, Any],
        transform: Tensor | None = None,
    ) -> Tensor:
        """Leave out Sentinel-1.

        Args:
            input: VV and VH of shape (B, 2, H, W), in [0, 1].
            params: Generated parameters.
            flags: Static parameters.
            transform: The geometric transformation tensor.

        Returns:
            :data:`MISSING_BACKSCATTER`, of the same shape.
        """
        return torch.full_like(input, MISSING_BACKSCATTER)
