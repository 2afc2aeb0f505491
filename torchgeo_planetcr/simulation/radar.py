# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Backscatter of simulated landscapes as Sentinel-1 sees it."""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from .landscape import Random, look_up, slope_towards
from .optical import Ground
from .places import (
    BARE,
    BUILT_UP,
    CROPS,
    GRASS,
    MANGROVES,
    MOSS,
    SHRUBS,
    SNOW,
    TREES,
    WATER,
    WETLAND,
)

#: Mean backscatter of VV and VH in dB.
BACKSCATTER: dict[int, tuple[float, float]] = {
    TREES: (-8.5, -14.2),
    SHRUBS: (-11.0, -17.3),
    GRASS: (-12.0, -18.8),
    CROPS: (-11.0, -18.0),
    BUILT_UP: (-7.0, -14.5),
    BARE: (-14.0, -23.0),
    SNOW: (-13.0, -21.5),
    WATER: (-20.0, -28.0),
    WETLAND: (-10.5, -18.0),
    MANGROVES: (-8.0, -14.5),
    MOSS: (-13.5, -20.5),
}

#: Looks that are averaged in a pixel of 10 m. Neighbors share some of them.
LOOKS = 4

#: What the instrument measures of VV and VH where nothing comes back, in dB.
NOISE_FLOOR = (-24.0, -30.0)


def backscatter(rng: Random, ground: Ground) -> NDArray[np.float32]:
    """Compute the backscatter of the ground without speckle.

    Args:
        rng: Random numbers of the area.
        ground: What the ground is like.

    Returns:
        VV and VH as power, not in dB, of shape (2, H, W).
    """
    land, land_cover = ground.land, ground.land.land_cover
    number = land.fields.number
    # Rough soil is bright in both polarizations, dense crops mostly in VH
    rough = np.where(land_cover == CROPS, 1.6 * ground.soil_tone[number], 0)
    dense = np.where(land_cover == CROPS, 3 * (ground.growth[number] - 0.55), 0)
    uneven = 0.7 * ground.patchiness + 1.2 * ground.biome.relief * slope_towards(
        land.height, 0
    )
    # Walls reflect the beam straight back if they face it
    walls = rng.numbers.exponential(5, len(ground.roof)).astype(np.float32)
    corners = np.where(land.is_building, walls[land.plots.number], 0)
    decibels = np.stack(
        [
            look_up(
                {code: pair[band] for code, pair in BACKSCATTER.items()}, land_cover
            )
            + uneven
            + rough
            + dense * (0.6, 1.2)[band]
            + corners
            for band in (0, 1)
        ]
    ).astype(np.float32)
    decibels[:, land.is_road] -= 3
    return np.power(np.float32(10), decibels / 10)


def speckle(rng: Random, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Draw the speckle of images that were averaged and resampled.

    Args:
        rng: Random numbers of the area.
        shape: Shape of the image, (C, H, W).

    Returns:
        Factors of mean 1, of the same shape.
    """
    count, height, width = shape
    waves = rng.grain((height, width), 2 * LOOKS * count)
    tensor = torch.from_numpy(waves)[:, None]
    # Neighbors see some of the same ground
    weight = torch.tensor([0.3, 0.9, 0.3])
    weight = (weight / weight.norm()).view(1, 1, 3, 1)
    for kernel, padding in ((weight, (0, 0, 1, 1)), (weight.mT, (1, 1, 0, 0))):
        tensor = F.conv2d(F.pad(tensor, padding, mode='circular'), kernel)
    power = tensor.reshape(count, 2 * LOOKS, height, width).square().mean(dim=1)
    return power.numpy()


def to_decibels(power: NDArray[np.float32]) -> NDArray[np.float64]:
    """Add the noise of the instrument, and convert power to dB.

    Args:
        power: VV and VH as power, of shape (2, H, W).

    Returns:
        Backscatter in dB, of the same shape.
    """
    floor = np.array(NOISE_FLOOR)[:, None, None]
    return 10 * np.log10(power + 10 ** (floor / 10))
