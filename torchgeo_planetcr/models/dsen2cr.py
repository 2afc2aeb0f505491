# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""DSen2-CR, a deep residual network for cloud removal."""

from typing import Any

import torch
from torch import Tensor, nn

from .utils import check_inputs


class ResidualBlock(nn.Module):
    """Two convolutions whose scaled output is added to their input.

    There is no normalization and no activation after the sum, as in
    `EDSR <https://arxiv.org/abs/1707.02921>`__.
    """

    def __init__(self, features: int, residual_scale: float) -> None:
        """Initialize a new ResidualBlock instance.

        Args:
            features: Number of input and output channels.
            residual_scale: Factor of the residual branch.
        """
        super().__init__()
        self.residual_scale = residual_scale
        self.body = nn.Sequential(
            nn.Conv2d(features, features, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(features, features, kernel_size=3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Forward pass of the block.

        Args:
            x: Features of shape (B, features, H, W).

        Returns:
            Features of the same shape.
        """
        return x + self.residual_scale * self.body(x)


class DSen2CR(nn.Module):
    r"""DSen2-CR, a deep residual network that fuses optical and Sentinel-1 images.

    The optical and the Sentinel-1 image are concatenated. The network predicts what has
    to be added to the optical image to remove its clouds:

    .. math::

        \hat{y} = x + f([x, s])

    With the default arguments this is the variant of the authors of Planet-CR, with
    18.9 million parameters and the parameter names of their checkpoints, see
    :func:`~torchgeo_planetcr.models.load_reference_checkpoint`.

    If you use this model in your research, please cite the following papers:

    * https://doi.org/10.1016/j.isprsjprs.2020.05.013
    * https://doi.org/10.1109/TGRS.2023.3337845
    """

    def __init__(
        self,
        *,
        in_channels: int = 4,
        sar_channels: int = 2,
        features: int = 256,
        num_blocks: int = 16,
        residual_scale: float = 0.1,
    ) -> None:
        """Initialize a new DSen2CR instance.

        Args:
            in_channels: Number of channels of the optical image and of the output.
            sar_channels: Number of channels of the Sentinel-1 image, 0 to do without.
            features: Width of the network.
            num_blocks: Number of residual blocks.
            residual_scale: Factor of the residual branch of each block.
        """
        super().__init__()
        self.in_channels = in_channels
        self.sar_channels = sar_channels
        self.head = nn.Sequential(
            nn.Conv2d(in_channels + sar_channels, features, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
        )
        self.body = nn.Sequential(
            *(ResidualBlock(features, residual_scale) for _ in range(num_blocks)),
            nn.Conv2d(features, in_channels, kernel_size=3, padding=1),
        )

    def forward(self, image: Tensor, image_s1: Tensor) -> Tensor:
        """Forward pass of the model.

        Args:
            image: Cloudy optical image of shape (B, in_channels, H, W), normalized to
                [0, 1]. H and W are arbitrary.
            image_s1: Sentinel-1 image of shape (B, sar_channels, H, W), normalized to
                [0, 1].

        Returns:
            The restored optical image of shape (B, in_channels, H, W), not clamped.

        Raises:
            ValueError: If *image* or *image_s1* has another shape, or values that are
                not finite.
        """
        check_inputs(image, image_s1, self.in_channels, self.sar_channels)
        residual: Tensor = self.body(self.head(torch.cat([image, image_s1], dim=1)))
        return image + residual


def dsen2cr(**kwargs: Any) -> DSen2CR:
    """DSen2-CR model.

    If you use this model in your research, please cite the following papers:

    * https://doi.org/10.1016/j.isprsjprs.2020.05.013
    * https://doi.org/10.1109/TGRS.2023.3337845

    No weights for Planet-CR have been published. Read a checkpoint of the authors'
    code with :func:`~torchgeo_planetcr.models.load_reference_checkpoint`.

    Args:
        **kwargs: Additional keyword arguments to pass to :class:`DSen2CR`.

    Returns:
        A DSen2-CR model.
    """
    return DSen2CR(**kwargs)
