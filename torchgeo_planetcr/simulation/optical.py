# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Reflectance of landscapes as PlanetScope sees it."""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from .landscape import NUMBERS, Array, Landscape, Random, look_up, slope_towards
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
    Biome,
)

#: Reflectance in B, G, R and NIR where plants hide all of the ground, and their share of
#: what the biome says.
PLANTS: dict[int, tuple[tuple[float, float, float, float], float]] = {
    TREES: ((0.022, 0.042, 0.028, 0.27), 1.1),
    SHRUBS: ((0.028, 0.055, 0.05, 0.25), 0.75),
    GRASS: ((0.03, 0.07, 0.05, 0.32), 0.8),
    CROPS: ((0.028, 0.068, 0.04, 0.42), 0.9),
    BUILT_UP: ((0.03, 0.06, 0.045, 0.28), 0.45),
    BARE: ((0.03, 0.06, 0.05, 0.25), 0.08),
    SNOW: ((0.03, 0.06, 0.05, 0.25), 0.0),
    WATER: ((0.03, 0.06, 0.05, 0.25), 0.0),
    WETLAND: ((0.03, 0.06, 0.045, 0.26), 0.7),
    MANGROVES: ((0.022, 0.042, 0.03, 0.3), 1.0),
    MOSS: ((0.04, 0.065, 0.07, 0.2), 0.8),
}

#: Spread of brightness from pixel to pixel: crowns and gaps in forest, roofs in towns.
GRAIN: dict[int, float] = {
    TREES: 0.22,
    SHRUBS: 0.18,
    GRASS: 0.05,
    CROPS: 0.035,
    BUILT_UP: 0.15,
    BARE: 0.06,
    SNOW: 0.02,
    WATER: 0.02,
    WETLAND: 0.1,
    MANGROVES: 0.12,
    MOSS: 0.08,
}

#: Reflectance of clear and of muddy water, of snow and of asphalt.
CLEAR_WATER = (0.025, 0.03, 0.018, 0.01)
MUD = (0.06, 0.09, 0.1, 0.05)
SNOW_COLOR = (0.75, 0.76, 0.75, 0.7)
ASPHALT = (0.085, 0.1, 0.115, 0.15)

#: Roofs: concrete, tiles, sheet iron, bitumen.
ROOFS = (
    (0.16, 0.18, 0.2, 0.24),
    (0.08, 0.11, 0.19, 0.26),
    (0.3, 0.32, 0.33, 0.36),
    (0.07, 0.08, 0.09, 0.12),
)

#: Noise of the camera, as reflectance, which products store times 10000.
NOISE, SCALE = 0.0012, 10000

#: Weights of a line of pixels that one pixel sees: the optics are softer than the grid.
BLUR = (0.2, 0.6, 0.2)


class Ground:
    """What stays of a landscape from one image to the next."""

    def __init__(self, rng: Random, land: Landscape, biome: Biome) -> None:
        """Draw what differs from parcel to parcel and from place to place.

        Args:
            rng: Random numbers.
            land: The landscape.
            biome: What the land is like.
        """
        shape = land.cover.shape
        self.land, self.biome = land, biome
        self.patchiness = rng.field(shape, 60, 2.6)
        self.grain = 0.75 * _blur(rng.grain(shape)) / 0.44 + 0.6 * rng.field(
            shape, 5, 2
        )
        self.mud = rng.uniform(0, 1) ** 2
        #: Soil and growth of each parcel.
        self.tilth = rng.numbers.normal(0, 1, NUMBERS).astype(np.float32)
        self.growth = rng.numbers.beta(1.5, 1.1, NUMBERS).astype(np.float32)
        self.roof = rng.numbers.choice(len(ROOFS), NUMBERS, p=(0.3, 0.35, 0.1, 0.25))
        self.roof_shade = rng.numbers.lognormal(0, 0.3, NUMBERS).astype(np.float32)
        soil = np.array(biome.soil) * rng.numbers.lognormal(0, 0.15)
        self.soil = (soil * rng.numbers.lognormal(0, 0.06, 4)).astype(np.float32)
        self.rows = rng.uniform(2.5, 5)

    def image(
        self, rng: Random, season: float, azimuth: float, changed: float = 0.0
    ) -> Array:
        """Take an image.

        Args:
            rng: Random numbers of the date.
            season: Stage of growth, in [0, 1].
            azimuth: Direction of the sun in radians.
            changed: Share of the fields that were ploughed or harvested meanwhile.

        Returns:
            Reflectance of B, G, R and NIR without the noise of the camera, of shape
            (4, H, W).
        """
        land, cover = self.land, self.land.cover
        rest, high = self.biome.green[1], self.biome.green[0]
        green = rest + (high - rest) * season

        growth = self.growth.copy()
        is_changed = rng.numbers.random(NUMBERS) < changed
        growth[is_changed] = 1 - growth[is_changed]
        field = growth[land.fields.number]
        is_crops = cover == CROPS
        plants = look_up({code: share for code, (_, share) in PLANTS.items()}, cover)
        plants = green * plants * (1 + 0.18 * self.patchiness)
        # Each field has its own crop, and lines of work
        lines = 1 + 0.05 * np.sin(2 * np.pi / self.rows * land.fields.along)
        plants = np.where(is_crops, (0.15 + 1.1 * green * field) * lines, plants)
        plants = plants.clip(0, 1)

        tilth = 1 + np.where(is_crops, 0.13 * self.tilth[land.fields.number], 0)
        tilth = tilth * (1 + 0.1 * self.patchiness)
        grain = 1 + look_up(GRAIN, cover) * self.grain
        slope = slope_towards(land.height, azimuth)
        light = grain.clip(0.25) * (1 + self.biome.relief * slope).clip(0.3, 1.8)

        is_water, is_snow = cover == WATER, cover == SNOW
        bands: list[Array] = []
        for band, soil in enumerate(self.soil.tolist()):
            leaves = look_up(
                {code: color[band] for code, (color, _) in PLANTS.items()}, cover
            )
            pixels = soil * tilth
            pixels += plants * (leaves - pixels)
            pixels[land.is_road] = ASPHALT[band]
            roofs = np.array(ROOFS, dtype=np.float32)[self.roof, band] * self.roof_shade
            pixels[land.is_building] = roofs[land.plots.number[land.is_building]]
            pixels[is_snow] = SNOW_COLOR[band]
            pixels *= light
            water = CLEAR_WATER[band] + self.mud * (MUD[band] - CLEAR_WATER[band])
            pixels[is_water] = water * (1 + 0.08 * self.patchiness[is_water])
            bands.append(pixels)
        image = _blur(np.stack(bands)) * np.float32(rng.numbers.normal(1, 0.03))
        return image.clip(0, 1)


def record(rng: Random, image: Array) -> NDArray[np.uint16]:
    """Record an image as the camera and its products do.

    Args:
        rng: Random numbers.
        image: Reflectance of shape (4, H, W).

    Returns:
        Reflectance x 10000 with the noise of the camera, at least 1.
    """
    image = image + NOISE * rng.grain(image.shape[1:], len(image))
    return (SCALE * image).round().clip(1, 65535).astype(np.uint16)


def _blur(image: Array) -> Array:
    """Blur a little, along both axes."""
    tensor = torch.from_numpy(image).reshape(-1, 1, *image.shape[-2:])
    weight = torch.tensor(BLUR)
    for shape in ((1, 1, 3, 1), (1, 1, 1, 3)):
        padding = (0, 0, 1, 1) if shape[2] == 3 else (1, 1, 0, 0)
        padded = F.pad(tensor, padding, mode='replicate')
        tensor = F.conv2d(padded, weight.view(shape))
    return tensor.reshape(image.shape).numpy()
