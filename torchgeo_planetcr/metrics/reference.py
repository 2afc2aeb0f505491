# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Metrics as the authors of Planet-CR compute them.

Details of these metrics differ from one paper to the next by more than the methods that
they compare. The metrics of this module repeat, to float32 accuracy, the protocol of the
code that accompanies the data set, including its off-center SSIM window. Use them to
compare with results of that code, and only with those.
"""

from abc import abstractmethod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric


class ReferenceMetric(Metric):
    """Abstract base class for metrics that are a mean over images.

    Each image has a value of its own, so the result depends neither on the batch size,
    nor on the order of the images, nor on the number of processes. Values are computed
    in float32 and summed in float64.

    If you use these metrics in your research, please cite the following paper:

    * https://doi.org/10.1109/TGRS.2023.3337845
    """

    is_differentiable = True
    full_state_update = False

    total: Tensor
    count: Tensor

    def __init__(self, **kwargs: Any) -> None:
        """Initialize a new ReferenceMetric instance.

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

    @abstractmethod
    def image_values(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Compute the metric of each image.

        Args:
            prediction: Restored images of shape (B, C, H, W), float32.
            target: Cloud-free images of shape (B, C, H, W), float32.

        Returns:
            One value for each image, of shape (B,).
        """

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Add the images of a batch.

        Args:
            prediction: Restored images of shape (B, C, H, W), nominal range [0, 1], not
                clamped.
            target: Cloud-free images of shape (B, C, H, W) in [0, 1].

        Raises:
            ValueError: If the shapes differ or are not (B, C, H, W).
        """
        if prediction.shape != target.shape or target.ndim != 4:
            msg = 'prediction and target must have the same shape (B, C, H, W), got '
            msg += f'{(*prediction.shape,)} and {(*target.shape,)}.'
            raise ValueError(msg)

        values = self.image_values(prediction.float(), target.float())
        # Not in place, as Lightning resets metrics in inference mode: fitting after
        # validating would then change an inference tensor
        self.total = self.total + values.double().sum()
        self.count = self.count + len(values)

    def compute(self) -> Tensor:
        """Compute the mean over all images.

        Returns:
            The metric, a float64 scalar.
        """
        return self.total / self.count


class ReferencePSNR(ReferenceMetric):
    r"""Peak signal-to-noise ratio (PSNR) in dB, higher is better.

    For a prediction *p* and a target *t*, neither clamped, with a peak value of 1:

    .. math::

        20 \log_{10} \frac{1}{\sqrt{\overline{(p - t)^2}}}

    where the line is the mean over all pixels and bands. Range: any, and 100 where both
    are equal.
    """

    higher_is_better = True

    def image_values(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Compute the PSNR of each image.

        Args:
            prediction: Restored images of shape (B, C, H, W), float32.
            target: Cloud-free images of shape (B, C, H, W), float32.

        Returns:
            PSNR in dB, of shape (B,).
        """
        mse = ((prediction - target) ** 2).mean(dim=(1, 2, 3)).double()
        return torch.where(mse == 0, 100, -10 * mse.log10())


class ReferenceSSIM(ReferenceMetric):
    r"""Structural similarity (SSIM), higher is better.

    For a prediction *p* and a target *t*, with local means :math:`\mu`, variances
    :math:`\sigma^2` and covariance :math:`\sigma_{pt}`:

    .. math::

        \overline{\frac
            {(2 \mu_p \mu_t + 10^{-4}) (2 \sigma_{pt} + 9 \cdot 10^{-4})}
            {(\mu_p^2 + \mu_t^2 + 10^{-4}) (\sigma_p^2 + \sigma_t^2 + 9 \cdot 10^{-4})}
        }

    where the line is the mean over all pixels and bands. The local statistics of each
    band are weighted by an 11 x 11 Gaussian window of standard deviation 1.5 pixels,
    whose center lies half a pixel below and to the right of the pixel, and outside of
    the image there are zeros. Range: [-1, 1], and 1 where both are equal.

    The index itself is described in https://doi.org/10.1109/TIP.2003.819861.
    """

    higher_is_better = True

    size = 11
    sigma = 1.5

    def image_values(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Compute the SSIM of each image.

        Args:
            prediction: Restored images of shape (B, C, H, W), float32.
            target: Cloud-free images of shape (B, C, H, W), float32.

        Returns:
            SSIM of shape (B,).
        """
        products = (prediction**2, target**2, prediction * target)
        means = self._local_mean(torch.cat([prediction, target, *products], dim=1))
        mean_p, mean_t, mean_pp, mean_tt, mean_pt = means.chunk(5, dim=1)
        variances = mean_pp - mean_p**2 + mean_tt - mean_t**2
        covariance = mean_pt - mean_p * mean_t
        ssim = (2 * mean_p * mean_t + 1e-4) * (2 * covariance + 9e-4)
        ssim /= (mean_p**2 + mean_t**2 + 1e-4) * (variances + 9e-4)
        return ssim.mean(dim=(1, 2, 3))

    def _local_mean(self, x: Tensor) -> Tensor:
        """Average the surroundings of each pixel, weighted by the window.

        Args:
            x: Images of shape (B, C, H, W).

        Returns:
            Local means of the same shape.
        """
        offset = torch.arange(self.size, dtype=x.dtype, device=x.device) - self.size / 2
        weight = torch.exp(-(offset**2) / (2 * self.sigma**2))
        weight = (weight / weight.sum()).expand(x.shape[1], 1, 1, self.size)
        padding = self.size // 2
        groups = x.shape[1]
        # In float16 the difference of two nearly equal moments would be lost. The same
        # holds for TF32, but depthwise convolutions in float32 do not go through cuDNN.
        with torch.autocast(x.device.type, enabled=False):
            x = F.conv2d(x, weight, padding=(0, padding), groups=groups)
            return F.conv2d(x, weight.mT, padding=(padding, 0), groups=groups)


class ReferenceSAM(ReferenceMetric):
    r"""Spectral angle mapper (SAM) in degrees, lower is better.

    For the band vectors *p* of the prediction and *t* of the target in a pixel:

    .. math::

        \overline{\arccos \frac{p \cdot t}
            {\sqrt{\max(|p|^2, 2^{-10}) \max(|t|^2, 2^{-10})}}}

    where the line is the mean over all pixels, and the cosine is clipped to [-1, 1].
    Range: [0, 180]. It is not 0 for equal but very dark pixels.
    """

    higher_is_better = False

    def image_values(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Compute the SAM of each image.

        Args:
            prediction: Restored images of shape (B, C, H, W), float32.
            target: Cloud-free images of shape (B, C, H, W), float32.

        Returns:
            SAM in degrees, of shape (B,).
        """
        epsilon = torch.finfo(torch.float16).eps
        norm_p = (prediction**2).sum(dim=1).clamp(min=epsilon)
        norm_t = (target**2).sum(dim=1).clamp(min=epsilon)
        cosine = (prediction * target).sum(dim=1) / (norm_p * norm_t).sqrt()
        return cosine.clamp(-1, 1).acos().mean(dim=(1, 2)).rad2deg()


class ReferenceMAE(ReferenceMetric):
    r"""Mean absolute error (MAE) in units of reflectance, lower is better.

    For a prediction *p* and a target *t*:

    .. math::

        \overline{|p - t|}

    where the line is the mean over all pixels and bands. Range: not negative.
    """

    higher_is_better = False

    def image_values(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Compute the MAE of each image.

        Args:
            prediction: Restored images of shape (B, C, H, W), float32.
            target: Cloud-free images of shape (B, C, H, W), float32.

        Returns:
            MAE of shape (B,).
        """
        return (prediction - target).abs().mean(dim=(1, 2, 3))
