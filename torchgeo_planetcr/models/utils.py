# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""What the models share: checks of their inputs, padding and cropping."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def check_inputs(
    image: Tensor,
    image_s1: Tensor,
    in_channels: int,
    sar_channels: int,
    min_size: int = 1,
) -> None:
    """Check that both inputs of a cloud-removal model fit it and each other.

    Values are not checked while a model is compiled or exported, as the graph cannot
    depend on them.

    Args:
        image: Cloudy optical image, expected to have shape (B, in_channels, H, W).
        image_s1: Sentinel-1 image, expected to have shape (B, sar_channels, H, W).
        in_channels: Number of optical channels of the model.
        sar_channels: Number of Sentinel-1 channels of the model.
        min_size: Smallest height and width of the model.

    Raises:
        ValueError: If *image* or *image_s1* has another shape, is smaller than
            *min_size*, or has values that are not finite.
    """
    if image.ndim != 4 or image.shape[1] != in_channels:
        raise ValueError(
            f'image must have shape (B, {in_channels}, H, W), got {(*image.shape,)}'
        )

    expected = (image.shape[0], sar_channels, *image.shape[2:])
    if image_s1.shape != expected:
        raise ValueError(
            f'image_s1 must have shape {expected}, on the grid of image, '
            f'got {(*image_s1.shape,)}'
        )

    if image.shape[2] < min_size or image.shape[3] < min_size:
        raise ValueError(
            f'image must have at least {min_size} x {min_size} pixels, '
            f'got {image.shape[2]} x {image.shape[3]}'
        )

    if not torch.compiler.is_compiling():
        check_finite(image, image_s1)


def check_finite(image: Tensor, image_s1: Tensor) -> None:
    """Check that the inputs of a cloud-removal model are numbers.

    Args:
        image: Cloudy optical image.
        image_s1: Sentinel-1 image.

    Raises:
        ValueError: If one of them has values that are not finite.
    """
    for name, value in (('image', image), ('image_s1', image_s1)):
        if not is_finite(value):
            raise ValueError(
                f'{name} has values that are NaN or infinite: replace them first'
            )


def is_finite(values: Tensor) -> bool:
    """Check that no value of an image is NaN or infinite.

    Args:
        values: Images of any shape.

    Returns:
        True if all are finite.
    """
    if not values.numel():
        return True
    # One pass over the values, whereas isfinite takes several
    return bool(torch.stack(values.detach().aminmax()).isfinite().all())


def pad_to_multiple(image: Tensor, multiple: int) -> Tensor:
    """Pad an image by reflection at the bottom and on the right.

    Args:
        image: Image of shape (B, C, H, W).
        multiple: Number of which the height and width of the result are multiples.

    Returns:
        Image of shape (B, C, H', W').
    """
    # Not -size % multiple, because torch.export sees that this size can be halved
    bottom, right = (
        (size + multiple - 1) // multiple * multiple - size for size in image.shape[-2:]
    )
    return F.pad(image, (0, right, 0, bottom), mode='reflect')


def crop_to(image: Tensor, size: Sequence[int]) -> Tensor:
    """Crop an image at the bottom and on the right.

    Args:
        image: Image of shape (B, C, H', W').
        size: Height and width of the result.

    Returns:
        Image of shape (B, C, H, W).
    """
    # A slice would tie an exported model to images that have, or have not, been padded
    height, width = image.shape[-2:]
    return F.pad(image, (0, size[1] - width, 0, size[0] - height))
