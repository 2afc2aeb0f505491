# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Losses that treat cloudy and clear pixels differently."""

from abc import ABC, abstractmethod

from torch import Tensor, nn
from torch.nn.functional import l1_loss


class CloudAwareLoss(nn.Module, ABC):
    """Abstract base class for losses that know where the clouds are.

    The loss of a batch is the mean over its images.
    """

    @abstractmethod
    def forward(
        self, prediction: Tensor, target: Tensor, image: Tensor, mask_cloud: Tensor
    ) -> Tensor:
        """Compute the loss.

        Args:
            prediction: Restored image of shape (B, C, H, W), nominal range [0, 1].
            target: Clear image of shape (B, C, H, W) in [0, 1].
            image: Cloudy image of shape (B, C, H, W) in [0, 1].
            mask_cloud: Cloud mask of shape (B, H, W), 1 cloud and 0 no cloud.

        Returns:
            The loss, a scalar.
        """


class CARLLoss(CloudAwareLoss):
    r"""Cloud-adaptive regularized loss (CARL).

    Clear pixels shall be kept and cloudy pixels restored. A regularization term weighs
    all pixels alike. For the prediction *p*, the target *t*, the cloudy
    image *c* and the cloud mask *m*:

    .. math::

        \overline{(1 - m) |p - c| + m |p - t|} + \overline{|p - t|}

    where the line is the mean over all pixels and bands.

    If you use this loss in your research, please cite the following paper:

    * https://doi.org/10.1016/j.isprsjprs.2020.05.013
    """

    def forward(
        self, prediction: Tensor, target: Tensor, image: Tensor, mask_cloud: Tensor
    ) -> Tensor:
        """Compute the loss.

        Args:
            prediction: Restored image of shape (B, C, H, W), nominal range [0, 1].
            target: Clear image of shape (B, C, H, W) in [0, 1].
            image: Cloudy image of shape (B, C, H, W) in [0, 1].
            mask_cloud: Cloud mask of shape (B, H, W), 1 cloud and 0 no cloud.

        Returns:
            The loss, a scalar, not negative.
        """
        cloudy = mask_cloud.unsqueeze(1).to(prediction)
        reference = (1 - cloudy) * image + cloudy * target
        return l1_loss(prediction, reference) + l1_loss(prediction, target)


class EdgeWeightedCharbonnierLoss(CloudAwareLoss):
    r"""Generalized Charbonnier loss that weighs cloudy pixels six times.

    For the prediction *p*, the target *t* and the cloud mask *m*:

    .. math::

        \overline{(1 + 5 m) \left((p - t)^2 + 10^{-6}\right)^{0.45}}

    where the line is the mean over all pixels and bands. The cloudy image is not used.

    If you use this loss in your research, please cite the following paper:

    * https://doi.org/10.1109/TGRS.2023.3337845
    """

    def forward(
        self, prediction: Tensor, target: Tensor, image: Tensor, mask_cloud: Tensor
    ) -> Tensor:
        """Compute the loss.

        Args:
            prediction: Restored image of shape (B, C, H, W), nominal range [0, 1].
            target: Clear image of shape (B, C, H, W) in [0, 1].
            image: Cloudy image of shape (B, C, H, W), not used.
            mask_cloud: Cloud mask of shape (B, H, W), 1 cloud and 0 no cloud.

        Returns:
            The loss, a scalar, positive.
        """
        weight = 1 + 5 * mask_cloud.unsqueeze(1).to(prediction)
        return (weight * ((prediction - target) ** 2 + 1e-6) ** 0.45).mean()
