# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""The cloudy input as a baseline."""

from torch import Tensor, nn
from torchvision.models._api import WeightsEnum


class Copy(nn.Module):
    """Returns the cloudy image untouched.

    This is what every other model has to beat. It has no parameters, so it can be
    validated and tested but not fitted.
    """

    def forward(self, image: Tensor, image_s1: Tensor) -> Tensor:
        """Forward pass of the model.

        Args:
            image: Cloudy optical image of shape (B, C, H, W).
            image_s1: SAR image, not used.

        Returns:
            The same *image*.
        """
        return image


def copy(weights: WeightsEnum | None = None) -> Copy:
    """The cloudy input as a baseline.

    Args:
        weights: Pre-trained model weights. There are none, as there are no parameters.

    Returns:
        A Copy model.

    Raises:
        ValueError: If *weights* are given.
    """
    if weights is not None:
        msg = (
            f'The copy model has no parameters, so weights must be None, got {weights}.'
        )
        raise ValueError(msg)

    return Copy()
