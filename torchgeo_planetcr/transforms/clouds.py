# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Simulated clouds, shadow and haze over clear images."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..datasets.modalities import MODALITIES
from .noise import fractal_noise

#: Position of the red band.
RED = MODALITIES['cloudy'].bands.index('R')

#: Brightness of a cloud in B, G, R and NIR relative to red: the air above it scatters
#: and absorbs.
CLOUD_COLOR = (0.95, 0.99, 1.0, 1.19)

#: Optical thickness of haze in B, G, R and NIR relative to blue: small particles
#: scatter short wavelengths most (Ångström exponent of 1.3).
HAZE_COLOR = (1.0, 0.85, 0.69, 0.49)

#: Share of light in B, G, R and NIR that comes from the sky, and so reaches the shadow.
SKYLIGHT = (0.45, 0.38, 0.32, 0.22)

#: Asymmetry parameter of droplets: how much more light they scatter forward than back.
ASYMMETRY = 0.85

#: Optical thickness at which most of the light that comes through a cloud has lost its
#: place on the ground. At twice as much, what is left is less than the noise of a camera.
DIFFUSE_THICKNESS = 10.0

#: How far a cloud blurs the ground below it, in pixels.
BLUR_RADIUS = 12

#: Standard deviation in pixels of the Gaussian that makes clouds smooth: light spreads in
#: them (https://doi.org/10.1029/95JD02895).
SMOOTHNESS = 3.0

#: Optical thickness from which on operational masks detect a cloud.
MASKED_THICKNESS = 3.0

#: Sides of the blocks of operational masks, in pixels.
MASK_BLOCK = 12

#: Reflectance of the whitest cloud that is found in an image.
MAX_WHITE = 0.99


class CloudLayers(NamedTuple):
    """Optical thickness of all that is above the ground, each of shape (B, H, W)."""

    #: Clouds of droplets, with edges.
    cloud: Tensor
    #: Clouds of ice and mist, thin and without edges.
    veil: Tensor
    #: Haze, in blue.
    haze: Tensor
    #: Clouds between the sun and each pixel of the ground.
    sunward: Tensor


def draw_clouds(
    cover: Tensor,
    height: int,
    width: int,
    *,
    scale: float = 300.0,
    generator: torch.Generator | None = None,
) -> CloudLayers:
    """Draw clouds.

    Each sample has clouds of its own thickness, wispy or dense, a veil and haze, and
    its own position of the sun and height of the clouds, which place the shadows.

    Args:
        cover: Share of each sample under clouds, in expectation, of shape (B,), in
            (0, 1).
        height: Number of rows.
        width: Number of columns.
        scale: Size of the largest clouds in pixels.
        generator: Source of random numbers, on the device of *cover*.

    Returns:
        The layers.
    """
    device, count = cover.device, len(cover)

    def uniform(low: float, high: float) -> Tensor:
        """Draw a number for each sample."""
        numbers = torch.rand(count, 1, 1, generator=generator, device=device)
        return low + (high - low) * numbers

    def noise(exponent: float, scale: float, stretch: float = 1.0) -> Tensor:
        """Draw a field for each sample."""
        return fractal_noise(
            count,
            height,
            width,
            exponent=exponent,
            scale=scale,
            stretch=stretch,
            blur=SMOOTHNESS,
            generator=generator,
            device=device,
        )

    # There is cloud where the Gaussian field is above this quantile
    quantile = math.sqrt(2) * torch.erfinv(1 - 2 * cover.clamp(1e-3, 1 - 1e-3))
    detail = uniform(0.05, 0.25)
    shape = noise(3.6, scale) + detail * noise(2.5, scale / 8)
    above = (shape / (1 + detail**2).sqrt() - quantile[:, None, None]).clamp(min=0)
    cloud = 10 ** uniform(0.4, 1.25) * above ** uniform(1.2, 2.2)

    veil = uniform(0, 1) ** 2 * (0.6 * noise(3.4, scale, 2.0)).exp()
    haze = uniform(0.05, 0.4) * (0.3 * noise(3.8, 2 * scale)).exp()

    # A cloud at a height of 1 km may throw its shadow 300 m, or 100 pixels, away
    azimuth, length = uniform(0, 2 * math.pi), uniform(0.2, 1.0) * scale
    sunward = _shift(cloud, length * azimuth.sin(), length * azimuth.cos())
    return CloudLayers(cloud, veil, haze, sunward)


def _shift(fields: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Move each periodic field of (B, H, W) by its own number of whole pixels."""
    count, height, width = fields.shape
    sample, row, column = (
        torch.arange(size, device=fields.device) for size in (count, height, width)
    )
    row = (row[:, None] - rows.round().long()) % height
    column = (column - columns.round().long()) % width
    return fields[sample[:, None, None], row, column]


def reflect(thickness: Tensor) -> Tensor:
    r"""Share of light that a cloud reflects.

    .. math::

        R = \frac{(1 - g) \tau}{2 + (1 - g) \tau}

    in the two-stream approximation for droplets that absorb nothing, with the optical
    thickness :math:`\tau` and the asymmetry parameter *g*.

    * https://doi.org/10.1175/1520-0469(1980)037<0630:TSATRT>2.0.CO;2

    Args:
        thickness: Optical thickness, of any shape.

    Returns:
        Reflectance in [0, 1) of the same shape.
    """
    scattered = (1 - ASYMMETRY) * thickness
    return scattered / (2 + scattered)


def lay_clouds(ground: Tensor, layers: CloudLayers) -> Tensor:
    """Look at the ground through clouds, shadow and haze.

    Args:
        ground: Reflectance of B, G, R and NIR in [0, 1], of shape (B, 4, H, W).
        layers: Clouds, haze and shadow above it.

    Returns:
        Reflectance in [0, 1] of the same shape.
    """
    cloud, veil, haze, sunward = (layer[:, None] for layer in layers)
    skylight = _per_band(SKYLIGHT, ground)
    # A cloud between the sun and the ground throws shadow, unless it is above the same
    # pixel, where it already takes the light
    sunlight = (-0.5 * (sunward - cloud).clamp(min=0)).exp()
    image = ground * (skylight + (1 - skylight) * sunlight)

    # Small particles scatter half of the light back
    scattered = 0.25 * haze * _per_band(HAZE_COLOR, ground)
    image = scattered + image * (-scattered).exp()

    # Droplets deflect light on its way up, which blurs the ground. Light that is deflected
    # again and again comes from all around, and tells nothing of the ground below
    thickness = cloud + veil
    sharp = (-2 * (1 - ASYMMETRY) * thickness).exp().to(image.dtype)
    near = (-((thickness / DIFFUSE_THICKNESS) ** 2)).exp().to(image.dtype)
    below = torch.lerp(_blur(image), image, sharp)
    below = torch.lerp(image.mean(dim=(2, 3), keepdim=True), below, near)
    return lay_white(below, reflect(thickness))


def _blur(image: Tensor) -> Tensor:
    """Average the surroundings of each pixel of (B, C, H, W)."""
    side = 2 * BLUR_RADIUS + 1
    # Rows, then columns, which gives the same and is much faster
    for kernel, padding in (
        ((side, 1), (BLUR_RADIUS, 0)),
        ((1, side), (0, BLUR_RADIUS)),
    ):
        image = F.avg_pool2d(image, kernel, 1, padding, count_include_pad=False)
    return image


def lay_white(ground: Tensor, white: Tensor) -> Tensor:
    r"""Look at the ground through something white.

    A cloud of reflectance *R* over ground of reflectance *r* lets light through twice,
    and both reflect it back and forth:

    .. math::

        c R + \frac{(1 - R)^2 r}{1 - R r}

    with the color *c* of the cloud, :data:`CLOUD_COLOR`.

    Args:
        ground: Reflectance of B, G, R and NIR in [0, 1], of shape (B, 4, H, W).
        white: Reflectance of the cloud in red in [0, 1), of shape (B, 1, H, W).

    Returns:
        Reflectance in [0, 1] of the shape of *ground*.
    """
    through = (1 - white) ** 2 / (1 - white * ground)
    return (_per_band(CLOUD_COLOR, ground) * white + ground * through).clamp(0, 1)


def find_white(image: Tensor, ground: Tensor) -> Tensor:
    r"""Find how white a cloud is from what is seen through it: undo :func:`lay_white`.

    In red, in which it is exact, the image *i* over ground of reflectance *r* gives

    .. math::

        R = \frac{i - r}{(1 - r)^2 + r (i - r)}

    Args:
        image: Reflectance of B, G, R and NIR in [0, 1], of shape (B, 4, H, W).
        ground: Reflectance of the same place without cloud, of the same shape.

    Returns:
        Reflectance of the cloud in red in [0, 1), of shape (B, 1, H, W): 0 where the
        image is no brighter than the ground.
    """
    red = ground[:, RED : RED + 1]
    excess = (image[:, RED : RED + 1] - red).clamp(min=0)
    white = excess / ((1 - red) ** 2 + red * excess).clamp(min=1e-6)
    return white.clamp(max=MAX_WHITE)


def _per_band(values: tuple[float, ...], image: Tensor) -> Tensor:
    """Turn a number for each band into an image that broadcasts with another one."""
    numbers = torch.tensor(values, dtype=image.dtype).view(-1, 1, 1)
    return numbers.to(image.device, non_blocking=True)


def coarse_cloud_mask(layers: CloudLayers, angle: Tensor | float) -> Tensor:
    """Mask clouds as operational masks do: in blocks, and without haze and shadow.

    Args:
        layers: Clouds above the ground.
        angle: Direction of the blocks in radians, a number or of shape (B,): scenes are
            rotated on their grid.

    Returns:
        Whether there is cloud, of shape (B, H, W).
    """
    cloud = layers.cloud
    count, height, width = cloud.shape
    mean = F.avg_pool2d(
        cloud[:, None], MASK_BLOCK + 1, 1, MASK_BLOCK // 2, count_include_pad=False
    )
    sample, rows, columns = (
        torch.arange(size, device=cloud.device) for size in (count, height, width)
    )
    rows, sample = rows[:, None], sample[:, None, None]
    angle = torch.as_tensor(angle, device=cloud.device).view(-1, 1, 1)
    cos, sin = angle.cos(), angle.sin()
    along = ((cos * columns + sin * rows) / MASK_BLOCK).floor() + 0.5
    across = ((cos * rows - sin * columns) / MASK_BLOCK).floor() + 0.5
    # Back from the center of each block to its pixel
    column = MASK_BLOCK * (cos * along - sin * across)
    row = MASK_BLOCK * (cos * across + sin * along)
    row = row.round().long().clamp(0, height - 1)
    column = column.round().long().clamp(0, width - 1)
    return mean[sample, 0, row, column] > MASKED_THICKNESS
