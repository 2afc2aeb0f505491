# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Metrics in the variants that most of the field uses.

Both images are clamped to [0, 1], the window of SSIM is centered, and the angle of SAM
is exact for equal pixels, however dark. Use them for new results, and name the protocol
with every figure.
"""

import torch
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from .image import ImageMetric, PixelMetric
from .reference import ReferenceMAE, ReferencePSNR, ReferenceRMSE


class StandardPSNR(ReferencePSNR):
    r"""Peak signal-to-noise ratio (PSNR) in dB, higher is better.

    For a prediction *p* and a target *t*, both clamped to [0, 1], with a peak value of
    1:

    .. math::

        \min \left( 100, -10 \log_{10} \overline{(p - t)^2} \right)

    where the line is the mean over all pixels and bands. Range: [0, 100]. 100 dB are an
    RMSE of :math:`10^{-5}`, a tenth of the unit of the files, which cannot tell smaller
    errors apart. The limit keeps a perfect image from making the mean over images
    infinite.
    """

    clamps = True
    definition = (
        'From the mean squared error over pixels and bands, for a peak of 1, at most '
        '100. Both images are clamped to [0, 1].'
    )

    def from_mean(self, mean: Tensor) -> Tensor:
        """Compute the PSNR from mean squared errors.

        Args:
            mean: Mean squared errors of any shape.

        Returns:
            PSNR in dB, of the same shape.
        """
        return super().from_mean(mean).clamp(max=100)


class StandardSSIM(ImageMetric):
    r"""Structural similarity (SSIM), higher is better.

    For a prediction *p* and a target *t*, both clamped to [0, 1], with local means
    :math:`\mu`, variances :math:`\sigma^2` and covariance :math:`\sigma_{pt}`:

    .. math::

        \overline{\frac
            {(2 \mu_p \mu_t + 10^{-4}) (2 \sigma_{pt} + 9 \cdot 10^{-4})}
            {(\mu_p^2 + \mu_t^2 + 10^{-4}) (\sigma_p^2 + \sigma_t^2 + 9 \cdot 10^{-4})}
        }

    where the line is the mean over all pixels and bands. The local statistics of each
    band are weighted by a centered 11 x 11 Gaussian window of standard deviation 1.5
    pixels, and the image is mirrored at its edges. Range: [-1, 1], and 1 where both are
    equal. Computed by torchmetrics.

    The index is described in https://doi.org/10.1109/TIP.2003.819861.
    """

    higher_is_better = True
    clamps = True
    definition = (
        'Each band by itself, centered 11 x 11 Gaussian window of 1.5 pixels, data '
        'range 1, mirrored edges. Both images are clamped to [0, 1].'
    )

    def _image_values(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Compute the SSIM of each image, see :meth:`ImageMetric._image_values`."""
        if min(target.shape[-2:]) < 6:
            raise ValueError(
                'SSIM needs at least 6 x 6 pixels, got '
                f'{target.shape[-2]} x {target.shape[-1]}'
            )

        values = structural_similarity_index_measure(
            prediction, target, sigma=1.5, data_range=1.0, reduction='none'
        )
        assert isinstance(values, Tensor)
        return values


class StandardSAM(PixelMetric):
    r"""Spectral angle mapper (SAM) in degrees, lower is better.

    For the band vectors *p* of the prediction and *t* of the target in a pixel, both
    clamped to [0, 1]:

    .. math::

        \overline{2 \operatorname{atan2} \left(
            \bigl| |t| p - |p| t \bigr|, \bigl| |t| p + |p| t \bigr|
        \right)}

    where the line is the mean over all pixels. This is the angle between both, without
    the loss of digits that the arc cosine has for small angles. It is 0 where both are
    black, and 90 where one of them is. Range: [0, 90].

    The angle is described in https://doi.org/10.1016/0034-4257(93)90013-N, the formula
    in W. Kahan, *How Futile are Mindless Assessments of Roundoff in Floating-Point
    Computation?* (2006), section 12.
    """

    higher_is_better = False
    unit = 'degrees'
    clamps = True
    definition = (
        'Mean angle between the spectra, both clamped to [0, 1]; 0 where both are '
        'black, 90 where one of them is.'
    )

    def _pixel_values(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Compute the angle of each pixel in degrees, of shape (B, H, W)."""
        norm_p = prediction.norm(dim=1, keepdim=True)
        norm_t = target.norm(dim=1, keepdim=True)
        p, t = norm_t * prediction, norm_p * target
        angle = 2 * torch.atan2((p - t).norm(dim=1), (p + t).norm(dim=1)).rad2deg()
        one_is_black = ((norm_p == 0) != (norm_t == 0)).squeeze(1)
        return angle.masked_fill(one_is_black, 90)


class StandardMAE(ReferenceMAE):
    r"""Mean absolute error (MAE) in units of reflectance, lower is better.

    For a prediction *p* and a target *t*, both clamped to [0, 1]:

    .. math::

        \overline{|p - t|}

    where the line is the mean over all pixels and bands. Range: [0, 1].
    """

    clamps = True
    definition = (
        'Mean absolute error over pixels and bands. Both images are clamped to [0, 1].'
    )


class StandardRMSE(ReferenceRMSE):
    r"""Root mean squared error (RMSE) in units of reflectance, lower is better.

    For a prediction *p* and a target *t*, both clamped to [0, 1]:

    .. math::

        \sqrt{\overline{(p - t)^2}}

    where the line is the mean over all pixels and bands. Range: [0, 1].
    """

    clamps = True
    definition = (
        'Root of the mean squared error over pixels and bands. Both images are clamped '
        'to [0, 1].'
    )
