# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Random fields that look the same at many scales, as clouds and landscapes do."""

import math

import torch
from torch import Tensor


def fractal_noise(
    count: int,
    height: int,
    width: int,
    *,
    exponent: float,
    scale: float,
    stretch: float = 1.0,
    blur: float = 0.0,
    generator: torch.Generator | None = None,
    device: torch.device | str = 'cpu',
) -> Tensor:
    r"""Draw Gaussian random fields with the spectrum of von Kármán.

    The power at wavenumber *k* (cycles per pixel) is proportional to

    .. math::

        \left(k^2 + l^{-2}\right)^{-\beta / 2}

    with the exponent :math:`\beta` and the scale *l* of the largest features. Fields
    are periodic: opposite edges fit each other.

    Args:
        count: Number of fields.
        height: Number of rows.
        width: Number of columns.
        exponent: The larger it is, the smoother are the fields; 8/3 for passive tracers
            in turbulent air.
        scale: Size of the largest features in pixels.
        stretch: How many times longer features are along rows than across them.
        blur: Standard deviation in pixels of the Gaussian that blurs the fields.
        generator: Source of random numbers, on *device*.
        device: Device to draw on.

    Returns:
        Fields of shape (count, height, width), of mean 0 and standard deviation 1.
    """
    white = torch.randn(count, height, width, generator=generator, device=device)
    rows = torch.fft.fftfreq(height, device=device)[:, None]
    columns = torch.fft.rfftfreq(width, device=device)
    wavenumber = rows**2 + (stretch * columns) ** 2 + scale**-2
    amplitude = wavenumber ** (-exponent / 4)
    if blur:
        amplitude *= (-2 * (math.pi * blur) ** 2 * (rows**2 + columns**2)).exp()
    # A random mean would change the cloud cover, which the caller chooses
    amplitude[0, 0] = 0
    field = torch.fft.irfft2(torch.fft.rfft2(white) * amplitude, s=(height, width))
    return field / field.std(dim=(1, 2), keepdim=True)
