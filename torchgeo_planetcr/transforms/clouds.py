# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Simulated clouds, shadow and haze over clear images."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .noise import fractal_noise

#: Position of the red band.
RED = 2

#: Brightness of a cloud in B, G, R and NIR against that in red: what lies above it
#: scatters and absorbs.
CLOUD_COLOR = (0.95, 0.99, 1.0, 1.19)

#: Optical thickness of haze in B, G, R and NIR against that in blue: small particles
#: scatter short wavelengths most (Ångström exponent of 1.3).
HAZE_COLOR = (1.0, 0.85, 0.69, 0.49)

#: Share of light in B, G, R and NIR that comes from the sky and so reaches shadow.
SKYLIGHT = (0.45, 0.38, 0.32, 0.22)

#: Light that droplets scatter forwards (asymmetry parameter).
FORWARD = 0.85

#: How far a cloud spreads the light from below, in pixels.
SPREAD = 12

#: Optical thickness from which operational masks know a cloud.
MASKED_THICKNESS = 3.0

#: Sides of the blocks of operational masks, in pixels.
MASK_BLOCK = 12


#: Reflectance of the whitest cloud that is found in an image.
MAX_WHITE = 0.99


class CloudLayers(NamedTuple):
    """Optical thickness of what is above the ground, of shape (B, H, W)."""

    #: Clouds of droplets, with edges.
    cloud: Tensor
    #: Those of ice and of mist, thin and without edges.
    veil: Tensor
    #: Haze, in blue.
    haze: Tensor
    #: Clouds through which sunlight comes.
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

    Each sample has clouds of its own thickness, wispy or dense, a veil and haze. Shadow
    falls to where sun and clouds of its own height throw it.

    Args:
        cover: Share of each sample under clouds, in expectation, of shape (B,), in
            (0, 1).
        height: Number of rows.
        width: Number of columns.
        scale: Size of the largest clouds in pixels.
        generator: Random numbers, on the device of *cover*.

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
            generator=generator,
            device=device,
        )

    # Where the Gaussian field is above its quantile
    level = math.sqrt(2) * torch.erfinv(1 - 2 * cover.clamp(1e-3, 1 - 1e-3))
    detail = uniform(0.05, 0.25)
    shape = noise(3.6, scale) + detail * noise(2.5, scale / 8)
    above = (shape / (1 + detail**2).sqrt() - level[:, None, None]).clamp(min=0)
    cloud = 10 ** uniform(0.4, 1.25) * above ** uniform(1.2, 2.2)

    veil = uniform(0, 1) ** 2 * (0.6 * noise(3.4, scale, 2.0)).exp()
    haze = uniform(0.05, 0.4) * (0.3 * noise(3.8, 2 * scale)).exp()

    # A kilometre of height and a sun half up are 300 m, or 100 pixels
    azimuth, length = uniform(0, 2 * math.pi), uniform(0.2, 1.0) * scale
    sunward = _shift(cloud, length * azimuth.sin(), length * azimuth.cos())
    return CloudLayers(cloud, veil, haze, sunward)


def _shift(fields: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Move each periodic field by its own number of pixels.

    Args:
        fields: Fields of shape (B, H, W).
        rows: How far down, of shape (B, 1, 1), rounded to whole pixels.
        columns: How far to the right, likewise.

    Returns:
        Fields of the same shape.
    """
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
    scattered = (1 - FORWARD) * thickness
    return scattered / (2 + scattered)


def lay_clouds(ground: Tensor, layers: CloudLayers) -> Tensor:
    """Look at the ground through clouds, shadow and haze.

    Args:
        ground: Reflectance of B, G, R and NIR in [0, 1], of shape (B, 4, H, W).
        layers: What is above it.

    Returns:
        Reflectance in [0, 1] of the same shape.
    """

    cloud, veil, haze, sunward = (layer[:, None] for layer in layers)
    skylight = _per_band(SKYLIGHT, ground)
    # No sun where a cloud is in its way, unless that same cloud already takes its light
    sunlight = (-0.5 * (sunward - cloud).clamp(min=0)).exp()
    image = ground * (skylight + (1 - skylight) * sunlight)

    # Of small particles, half of what they scatter goes back
    scattered = 0.25 * haze * _per_band(HAZE_COLOR, ground)
    image = scattered + image * (-scattered).exp()

    # Light that droplets turn aside on its way up no longer shows where it comes from
    thickness = cloud + veil
    sharp = (-2 * (1 - FORWARD) * thickness).exp()
    below = torch.lerp(_spread(image), image, sharp.to(image.dtype))
    return lay_white(below, reflect(thickness))


def _spread(image: Tensor) -> Tensor:
    """Mean over what lies around each pixel of (B, C, H, W), of the same shape."""
    side = 2 * SPREAD + 1
    # Rows and columns one after the other, which is the same and much quicker
    for kernel, padding in (((side, 1), (SPREAD, 0)), ((1, side), (0, SPREAD))):
        image = F.avg_pool2d(image, kernel, 1, padding, count_include_pad=False)
    return image


def lay_white(ground: Tensor, white: Tensor) -> Tensor:
    r"""Look at the ground through something white.

    A cloud of reflectance *R* over ground of reflectance *r* lets light through twice,
    and both throw it back and forth:

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
        ground: That of the same place without cloud.

    Returns:
        Reflectance of the cloud in red in [0, 1), of shape (B, 1, H, W): 0 where the
        image is no brighter than the ground.
    """
    red = ground[:, RED : RED + 1]
    excess = (image[:, RED : RED + 1] - red).clamp(min=0)
    white = excess / ((1 - red) ** 2 + red * excess).clamp(min=1e-6)
    return white.clamp(max=MAX_WHITE)


def _per_band(values: tuple[float, ...], image: Tensor) -> Tensor:
    """Numbers of each band, as an image on the same device."""
    numbers = torch.tensor(values, dtype=image.dtype).view(-1, 1, 1)
    return numbers.to(image.device, non_blocking=True)


def coarse_cloud_mask(layers: CloudLayers, angle: Tensor | float) -> Tensor:
    """Mask clouds as operational masks do: in blocks, and without haze and shadow.

    Args:
        layers: What is above the ground.
        angle: Direction of the blocks in radians, one or of shape (B,); scenes lie
            askew on their grid.

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
    # Back from the centre of each block to its pixel
    column = MASK_BLOCK * (cos * along - sin * across)
    row = MASK_BLOCK * (cos * across + sin * along)
    row = row.round().long().clamp(0, height - 1)
    column = column.round().long().clamp(0, width - 1)
    return mean[sample, 0, row, column] > MASKED_THICKNESS
