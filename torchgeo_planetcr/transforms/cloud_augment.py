# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Augmentations that put clouds where there were none."""

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from kornia.augmentation import random_generator
from torch import Tensor
from torchgeo.datasets.utils import Sample

from .batch import BatchAugmentation, make_generator
from .clouds import (
    MASK_BLOCK,
    CloudLayers,
    coarse_cloud_mask,
    draw_clouds,
    find_white,
    lay_clouds,
    lay_white,
)

#: Least and largest angle of the blocks of a mask, in radians.
MASK_ANGLES = (-0.3, 0.3)


class RandomClouds(BatchAugmentation):
    """Lay simulated clouds, shadow and haze over clear images.

    In a batch, ``image`` becomes ``image_clear`` as it is seen through drawn clouds,
    and ``mask_cloud`` becomes their mask. The mask is as coarse as the masks of the
    data set, without haze, shadow and thin cloud, so that it means the same in samples
    with drawn and with real clouds. Pixels without data in ``image_clear`` have neither
    data nor cloud.

    A plain tensor gets clouds laid over it. A mask beside it in
    :class:`kornia.augmentation.AugmentationSequential` stays as it is.
    """

    keys: ClassVar[tuple[str, ...]] = ('image_clear', 'image')
    draws_fields: ClassVar[bool] = True

    def __init__(
        self,
        cover: tuple[float, float] = (0.15, 0.8),
        p: float = 0.5,
        same_on_batch: bool = False,
        keepdim: bool = False,
    ) -> None:
        """Initialize a new RandomClouds instance.

        Args:
            cover: Least and largest share of an image under clouds, however thin. Each
                sample draws one.
            p: Probability of applying the augmentation to each sample.
            same_on_batch: Lay the same clouds across the batch.
            keepdim: Whether to keep the output shape the same as input (True)
                or broadcast it to the batch form (False).

        Raises:
            ValueError: If *cover* is not in [0, 1] and in order.
        """
        super().__init__(p=p, same_on_batch=same_on_batch, keepdim=keepdim)
        if not 0 <= cover[0] <= cover[1] <= 1:
            raise ValueError(f'cover={cover} must be two numbers in [0, 1], in order')
        self._param_generator = random_generator.PlainUniformGenerator(
            (cover, 'cover', None, None), (MASK_ANGLES, 'angle', None, None)
        )

    def apply_transform(
        self,
        input: Tensor,
        params: dict[str, Tensor],
        flags: dict[str, Any],
        transform: Tensor | None = None,
    ) -> Tensor:
        """Lay clouds over clear images.

        Args:
            input: Reflectance of B, G, R and NIR in [0, 1], of shape (B, 4, H, W).
            params: Generated parameters.
            flags: Static parameters.
            transform: The geometric transformation tensor.

        Returns:
            Reflectance in [0, 1], of the same shape.
        """
        image = lay_clouds(input, self._draw(input, params))
        return (image * _has_data(input)).to(input.dtype)

    def apply_batch(self, batch: Sample, params: dict[str, Tensor]) -> Sample:
        """Lay clouds over the clear images of a batch, and mask them.

        Args:
            batch: A batch, not to be changed.
            params: Generated parameters.

        Returns:
            The cloudy images and their masks.
        """
        clear = batch['image_clear']
        has_data = _has_data(clear)
        layers = self._draw(clear, params)
        angle = params['angle'].to(clear.device, non_blocking=True)
        mask = coarse_cloud_mask(layers, angle[: len(layers.cloud)])
        return {
            'image': lay_clouds(clear, layers) * has_data,
            'mask_cloud': mask & has_data[:, 0],
        }

    def _draw(self, clear: Tensor, params: dict[str, Tensor]) -> CloudLayers:
        """Draw clouds, the same ones for the same parameters."""
        count, _, height, width = clear.shape
        cover = params['cover'][: 1 if self.same_on_batch else count]
        return draw_clouds(
            cover.to(clear.device, non_blocking=True),
            height,
            width,
            generator=make_generator(params, clear.device),
        )


class RandomCloudPaste(BatchAugmentation):
    """Lay the clouds of other samples of the batch over cloudy images.

    How white the cloud of another sample is, pixel by pixel, follows from its ``image``
    and its ``image_clear`` in red. It is pasted where the ``mask_cloud`` of that sample
    says cloud, and fades out over 24 pixels around it, because such masks miss the
    edges of clouds. There, haze and veil are pasted too, as white as cloud. Shadow is
    not pasted, nor anything from farther away. Ground that became brighter between the
    two images is taken for cloud.

    In a batch, ``image`` gets another layer of cloud, and ``mask_cloud`` becomes the
    union of both masks. Pixels without data stay without data, and nothing is pasted
    from such pixels. A batch of one sample stays as it is. Put it before
    :class:`~torchgeo_planetcr.transforms.RandomClouds` to paste real clouds only.
    """

    keys: ClassVar[tuple[str, ...]] = ('image', 'image_clear', 'mask_cloud')

    def __init__(self, p: float = 0.5, same_on_batch: bool = False) -> None:
        """Initialize a new RandomCloudPaste instance.

        Args:
            p: Probability of applying the augmentation to each sample.
            same_on_batch: Paste to all samples of a batch or to none, from the sample
                at the same distance behind each.
        """
        super().__init__(p=p, same_on_batch=same_on_batch)

    def forward_parameters(self, batch_shape: tuple[int, ...]) -> dict[str, Tensor]:
        """Draw which samples get clouds, and from which other samples.

        Args:
            batch_shape: Shape of the images, (B, C, H, W).

        Returns:
            Parameters, among them positions in the batch (``donor``), of shape (B,).
        """
        params = super().forward_parameters(batch_shape)
        count = batch_shape[0]
        steps = torch.randint(1, max(count, 2), (1 if self.same_on_batch else count,))
        params['donor'] = (torch.arange(count) + steps) % count
        if count == 1:
            params['batch_prob'] = torch.zeros(1)
        return params

    def apply_transform(
        self,
        input: Tensor,
        params: dict[str, Tensor],
        flags: dict[str, Any],
        transform: Tensor | None = None,
    ) -> Tensor:
        """Refuse plain tensors, which do not say where the clouds are.

        Args:
            input: The input tensor of shape (B, C, H, W).
            params: Generated parameters.
            flags: Static parameters.
            transform: The geometric transformation tensor.

        Raises:
            TypeError: Always.
        """
        raise TypeError(
            'RandomCloudPaste takes a batch, a dictionary with image, image_clear and '
            f'mask_cloud, but got a tensor of shape {tuple(input.shape)}'
        )

    def apply_batch(self, batch: Sample, params: dict[str, Tensor]) -> Sample:
        """Lay the clouds of other samples over the cloudy images of a batch.

        Args:
            batch: A batch, not to be changed.
            params: Generated parameters.

        Returns:
            The cloudy images and their masks.
        """
        image, clear, mask = (batch[key] for key in self.keys)
        has_data = _has_data(image)
        is_known = has_data & _has_data(clear)
        cloud = is_known & (mask != 0)[:, None]
        white = find_white(image, clear) * _fade(cloud.to(image.dtype)) * is_known

        donor = params['donor'].to(image.device, non_blocking=True)
        return {
            'image': lay_white(image, white[donor]) * has_data,
            'mask_cloud': (mask != 0) | (cloud[donor] & has_data)[:, 0],
        }


def _has_data(image: Tensor) -> Tensor:
    """Whether pixels of (B, C, H, W) have data, of shape (B, 1, H, W)."""
    return (image != 0).any(dim=1, keepdim=True)


def _fade(mask: Tensor) -> Tensor:
    """Make masks of shape (B, 1, H, W) fade out over 24 pixels around themselves."""
    side = 2 * MASK_BLOCK + 1
    # Rows, then columns, which gives the same and is much faster
    lines = (((side, 1), (MASK_BLOCK, 0)), ((1, side), (0, MASK_BLOCK)))
    for kernel, padding in lines:
        mask = F.max_pool2d(mask, kernel, 1, padding)
    for kernel, padding in lines:
        mask = F.avg_pool2d(mask, kernel, 1, padding, count_include_pad=False)
    return mask
