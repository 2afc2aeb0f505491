# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Metrics as the authors of Planet-CR compute them.

Details of these metrics differ from one paper to the next by more than the methods that
they compare. The metrics of this module repeat, to float32 accuracy, the protocol of
the code that accompanies the data set, including its off-center SSIM window. Use them
only to compare with results of that code.

If you use these metrics in your research, please cite the following paper:

* https://doi.org/10.1109/TGRS.2023.3337845
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .image import ImageMetric, PixelMetric


class ReferencePSNR(PixelMetric):
    r"""Peak signal-to-noise ratio (PSNR) in dB, higher is better.

    For a prediction *p* and a target *t*, neither clamped, with a peak value of 1:

    .. math::

        20 \log_{10} \frac{1}{\sqrt{\overline{(p - t)^2}}}

    where the line is the mean over all pixels and bands. Range: any, and 100 where both
    are equal.
    """

    higher_is_better = True
    unit = 'dB'
    definition = (
        'From the mean squared error over pixels and bands, for a peak of 1; 100 where '
        'there is no error. The prediction is not clamped.'
    )

    def from_mean(self, mean: Tensor) -> Tensor:
        """Compute the PSNR from mean squared errors.

        Args:
            mean: Mean squared errors of any shape.

        Returns:
            PSNR in dB, of the same shape.
        """
        return torch.where(mean == 0, 100, -10 * mean.log10())

    def _pixel_values(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Compute the squared error of each pixel, of shape (B, H, W)."""
        return ((prediction - target) ** 2).mean(dim=1)


class ReferenceSSIM(ImageMetric):
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
    definition = (
        'Each band by itself, 11 x 11 Gaussian window whose center lies half a pixel '
        'off, zeros outside of the image. The prediction is not clamped.'
    )

    size = 11
    sigma = 1.5

    def _image_values(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Compute the SSIM of each image, see :meth:`ImageMetric._image_values`."""
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
        # TF32 is not exact enough, but depthwise convolutions in float32 do not use it
        x = F.conv2d(x, weight, padding=(0, padding), groups=groups)
        return F.conv2d(x, weight.mT, padding=(padding, 0), groups=groups)


class ReferenceSAM(PixelMetric):
    r"""Spectral angle mapper (SAM) in degrees, lower is better.

    For the band vectors *p* of the prediction and *t* of the target in a pixel:

    .. math::

        \overline{\arccos \frac{p \cdot t}
            {\sqrt{\max(|p|^2, 2^{-10}) \max(|t|^2, 2^{-10})}}}

    where the line is the mean over all pixels, and the cosine is clipped to [-1, 1].
    Range: [0, 180]. It is not 0 for equal but very dark pixels.
    """

    higher_is_better = False
    unit = 'degrees'
    definition = (
        'Mean angle between the spectra. Very dark pixels (norm below 1/32) have a '
        'large angle even where both are equal.'
    )

    def _pixel_values(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Compute the angle of each pixel in degrees, of shape (B, H, W)."""
        epsilon = torch.finfo(torch.float16).eps
        norm_p = (prediction**2).sum(dim=1).clamp(min=epsilon)
        norm_t = (target**2).sum(dim=1).clamp(min=epsilon)
        cosine = (prediction * target).sum(dim=1) / (norm_p * norm_t).sqrt()
        return cosine.clamp(-1, 1).acos().rad2deg()


class ReferenceMAE(PixelMetric):
    r"""Mean absolute error (MAE) in units of reflectance, lower is better.

    For a prediction *p* and a target *t*:

    .. math::

        \overline{|p - t|}

    where the line is the mean over all pixels and bands. Range: not negative.
    """

    higher_is_better = False
    unit = 'reflectance'
    definition = (
        'Mean absolute error over pixels and bands. The prediction is not clamped.'
    )

    def _pixel_values(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Compute the absolute error of each pixel, of shape (B, H, W)."""
        return (prediction - target).abs().mean(dim=1)


class ReferenceRMSE(PixelMetric):
    r"""Root mean squared error (RMSE) in units of reflectance, lower is better.

    For a prediction *p* and a target *t*:

    .. math::

        \sqrt{\overline{(p - t)^2}}

    where the line is the mean over all pixels and bands. Range: not negative. The
    authors do not report it; their PSNR follows from it.
    """

    higher_is_better = False
    unit = 'reflectance'
    definition = (
        'Root of the mean squared error over pixels and bands. The prediction is not '
        'clamped.'
    )

    def from_mean(self, mean: Tensor) -> Tensor:
        """Compute the RMSE from mean squared errors.

        Args:
            mean: Mean squared errors of any shape.

        Returns:
            RMSE of the same shape.
        """
        return mean.sqrt()

    def _pixel_values(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Compute the squared error of each pixel, of shape (B, H, W)."""
        return ((prediction - target) ** 2).mean(dim=1)
