# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""The cloudy input as a baseline."""

from torch import Tensor, nn


class Copy(nn.Module):
    """Returns the cloudy image untouched.

    Every other model has to be better than this one. It has no parameters, so it can be
    validated and tested but not fitted.
    """

    #: Number of channels of the Sentinel-1 image.
    sar_channels = 0

    def forward(self, image: Tensor, image_s1: Tensor) -> Tensor:
        """Forward pass of the model.

        Args:
            image: Cloudy optical image of shape (B, C, H, W).
            image_s1: Sentinel-1 image, not used.

        Returns:
            The same *image*.
        """
        return image


def copy() -> Copy:
    """The cloudy input as a baseline.

    Returns:
        A Copy model.
    """
    return Copy()
