# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Checks shared by the models."""

from torch import Tensor


def check_inputs(
    image: Tensor, image_s1: Tensor, in_channels: int, sar_channels: int
) -> None:
    """Check that both inputs of a cloud-removal model fit it and each other.

    Args:
        image: Cloudy optical image, expected to have shape (B, in_channels, H, W).
        image_s1: SAR image, expected to have shape (B, sar_channels, H, W).
        in_channels: Number of optical channels of the model.
        sar_channels: Number of SAR channels of the model.

    Raises:
        ValueError: If *image* or *image_s1* has another shape.
    """
    if image.ndim != 4 or image.shape[1] != in_channels:
        msg = f'image must have shape (B, {in_channels}, H, W), got {(*image.shape,)}.'
        raise ValueError(msg)

    expected = (image.shape[0], sar_channels, *image.shape[2:])
    if image_s1.shape != expected:
        msg = f'image_s1 must have shape {expected}, on the grid of image, '
        msg += f'got {(*image_s1.shape,)}.'
        raise ValueError(msg)
