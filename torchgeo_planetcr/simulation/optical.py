# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Reflectance of simulated landscapes as PlanetScope sees it."""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from ..datasets.modalities import REFLECTANCE_SCALE
from .landscape import PARCEL_NUMBERS, Array, Landscape, Random, look_up, slope_towards
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

#: Reflectance in B, G, R and NIR where plants hide all of the ground. The second number
#: multiplies the share of the ground that plants hide in the biome.
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

#: Mean relative spread of brightness from pixel to pixel, as of tree crowns and of roofs.
TEXTURE: dict[int, float] = {
    TREES: 0.13,
    SHRUBS: 0.1,
    GRASS: 0.03,
    CROPS: 0.02,
    BUILT_UP: 0.1,
    BARE: 0.03,
    SNOW: 0.008,
    WATER: 0.02,
    WETLAND: 0.06,
    MANGROVES: 0.08,
    MOSS: 0.05,
}

#: Reflectance in B, G, R and NIR of surfaces without plants.
CLEAR_WATER_REFLECTANCE = (0.025, 0.03, 0.018, 0.01)
MUDDY_WATER_REFLECTANCE = (0.06, 0.09, 0.1, 0.05)
SNOW_REFLECTANCE = (0.75, 0.76, 0.75, 0.7)
ASPHALT_REFLECTANCE = (0.085, 0.1, 0.115, 0.15)

#: The same of roofs of concrete, tiles, sheet iron and bitumen.
ROOF_REFLECTANCE = (
    (0.16, 0.18, 0.2, 0.24),
    (0.08, 0.11, 0.19, 0.26),
    (0.3, 0.32, 0.33, 0.36),
    (0.07, 0.08, 0.09, 0.12),
)

#: Standard deviation of the noise of the camera as reflectance.
CAMERA_NOISE = 0.0006

#: Weights of five adjacent pixels, as the optics of the camera blur an image.
BLUR_WEIGHTS = (0.06, 0.24, 0.4, 0.24, 0.06)


class Ground:
    """What stays the same from one image of a landscape to the next."""

    def __init__(self, rng: Random, land: Landscape, biome: Biome) -> None:
        """Draw what differs from parcel to parcel and from place to place.

        Args:
            rng: Random numbers of the area.
            land: The landscape.
            biome: What the land is like.
        """
        shape = land.land_cover.shape
        self.land, self.biome = land, biome
        #: How plants and brightness differ from place to place.
        self.patchiness = rng.field(shape, 60, 2.8, blur=1)
        #: How brightness differs from pixel to pixel.
        self.grain = rng.uniform(0.6, 1.6) * rng.field(shape, 6, 2.5)
        #: How muddy the water is, from 0 to 1.
        self.mud = rng.uniform(0, 1) ** 2
        #: Brightness of the soil and growth of the crop of each parcel.
        self.soil_tone = rng.numbers.normal(0, 1, PARCEL_NUMBERS).astype(np.float32)
        self.growth = rng.numbers.beta(1.5, 1.1, PARCEL_NUMBERS).astype(np.float32)
        #: Kind and brightness of the roof of each building plot.
        self.roof = rng.numbers.choice(
            len(ROOF_REFLECTANCE), PARCEL_NUMBERS, p=(0.3, 0.35, 0.1, 0.25)
        )
        self.roof_shade = rng.numbers.lognormal(0, 0.3, PARCEL_NUMBERS).astype(
            np.float32
        )
        soil = np.array(biome.soil) * rng.numbers.lognormal(0, 0.15)
        #: Reflectance of the soil in B, G, R and NIR.
        self.soil = (soil * rng.numbers.lognormal(0, 0.06, 4)).astype(np.float32)
        #: Distance between rows of crops in pixels.
        self.row_spacing = rng.uniform(2.5, 5)

    def image(
        self, rng: Random, season: float, azimuth: float, changed: float = 0.0
    ) -> Array:
        """Compute the reflectance at one date.

        Args:
            rng: Random numbers of the area.
            season: Stage of growth, in [0, 1].
            azimuth: Direction of the sun in radians.
            changed: Share of the fields that were plowed or harvested in between.

        Returns:
            Reflectance of B, G, R and NIR without the noise of the camera, of shape
            (4, H, W).
        """
        land, land_cover = self.land, self.land.land_cover
        rest, high = self.biome.green[1], self.biome.green[0]
        green = rest + (high - rest) * season

        growth = self.growth.copy()
        is_changed = rng.numbers.random(PARCEL_NUMBERS) < changed
        growth[is_changed] = 1 - growth[is_changed]
        field = growth[land.fields.number]
        is_crops = land_cover == CROPS
        plants = look_up(
            {code: share for code, (_, share) in PLANTS.items()}, land_cover
        )
        plants = green * plants * (1 + 0.18 * self.patchiness)
        # Each field has its own crop, in rows
        lines = 1 + 0.05 * np.sin(2 * np.pi / self.row_spacing * land.fields.along)
        plants = np.where(is_crops, (0.15 + 1.1 * green * field) * lines, plants)
        plants = plants.clip(0, 1)

        soil_tone = 1 + np.where(is_crops, 0.13 * self.soil_tone[land.fields.number], 0)
        soil_tone = soil_tone * (1 + 0.1 * self.patchiness)
        grain = 1 + look_up(TEXTURE, land_cover) * self.grain
        slope = slope_towards(land.height, azimuth)
        light = grain.clip(0.25) * (1 + self.biome.relief * slope).clip(0.3, 1.8)

        is_water, is_snow = land_cover == WATER, land_cover == SNOW
        bands: list[Array] = []
        for band, soil in enumerate(self.soil.tolist()):
            leaves = look_up(
                {code: color[band] for code, (color, _) in PLANTS.items()}, land_cover
            )
            pixels = soil * soil_tone
            pixels += plants * (leaves - pixels)
            pixels[land.is_road] = ASPHALT_REFLECTANCE[band]
            roofs = (
                np.array(ROOF_REFLECTANCE, dtype=np.float32)[self.roof, band]
                * self.roof_shade
            )
            pixels[land.is_building] = roofs[land.plots.number[land.is_building]]
            pixels[is_snow] = SNOW_REFLECTANCE[band]
            pixels *= light
            water = CLEAR_WATER_REFLECTANCE[band] + self.mud * (
                MUDDY_WATER_REFLECTANCE[band] - CLEAR_WATER_REFLECTANCE[band]
            )
            pixels[is_water] = water * (1 + 0.08 * self.patchiness[is_water])
            bands.append(pixels)
        image = _blur(np.stack(bands)) * np.float32(rng.numbers.normal(1, 0.03))
        return image.clip(0, 1)


def to_digital_numbers(rng: Random, image: Array) -> NDArray[np.uint16]:
    """Add the noise of the camera, and store reflectance as products of PlanetScope do.

    Args:
        rng: Random numbers of the area.
        image: Reflectance of shape (4, H, W).

    Returns:
        Reflectance x 10000 of the same shape. It is at least 1, as 0 means no data.
    """
    image = image + CAMERA_NOISE * rng.grain(image.shape[1:], len(image))
    return (REFLECTANCE_SCALE * image).round().clip(1, 65535).astype(np.uint16)


def _blur(image: Array) -> Array:
    """Blur an image slightly along both axes."""
    tensor = torch.from_numpy(image).reshape(-1, 1, *image.shape[-2:])
    weight = torch.tensor(BLUR_WEIGHTS)
    margin = len(BLUR_WEIGHTS) // 2
    for shape, padding in (
        ((1, 1, -1, 1), (0, 0, margin, margin)),
        ((1, 1, 1, -1), (margin, margin, 0, 0)),
    ):
        padded = F.pad(tensor, padding, mode='replicate')
        tensor = F.conv2d(padded, weight.view(shape))
    return tensor.reshape(image.shape).numpy()
