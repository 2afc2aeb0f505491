# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Simulated landscapes of rivers, fields, towns and forest."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ..datasets.modalities import MODALITIES
from ..transforms.noise import fractal_noise
from .places import BARE, BUILT_UP, CROPS, GRASS, MANGROVES, SNOW, WATER, WETLAND, Biome

type Array = NDArray[np.float32]

#: Size of a pixel in meters.
RESOLUTION = MODALITIES['cloudy'].resolution

#: Parcels have numbers from 0 up to this. Parcels of the same number look the same.
PARCEL_NUMBERS = 2**18

#: Land cover that depends on moisture: 1 where it takes the wettest ground, -1 where it
#: takes the driest. It is placed in this order, before all other land cover.
MOISTURE = {WATER: 1, MANGROVES: 1, WETLAND: 1, SNOW: -1, BARE: -1}


class Random:
    """Random numbers and random fields of one area."""

    def __init__(self, *seed: int) -> None:
        """Initialize a new Random instance.

        Args:
            *seed: Integers that decide all that is drawn.
        """
        self.numbers = np.random.default_rng(seed)
        self.generator = torch.Generator().manual_seed(
            int(self.numbers.integers(2**63))
        )

    def uniform(self, low: float, high: float) -> float:
        """Draw a number between *low* and *high*."""
        return float(self.numbers.uniform(low, high))

    def field(
        self,
        shape: tuple[int, int],
        scale: float,
        exponent: float = 3.4,
        blur: float = 0.0,
    ) -> Array:
        """Draw a fractal field of mean 0 and standard deviation 1."""
        (field,) = fractal_noise(
            1,
            *shape,
            exponent=exponent,
            scale=scale,
            blur=blur,
            generator=self.generator,
        )
        return field.numpy()

    def grain(self, shape: tuple[int, int], count: int = 1) -> Array:
        """Draw white noise of mean 0 and standard deviation 1."""
        size = (count, *shape) if count > 1 else shape
        return torch.randn(size, generator=self.generator).numpy()


class Parcels(NamedTuple):
    """Land that is divided into parcels, which are nearly rectangles."""

    #: Number of the parcel of each pixel, below :data:`PARCEL_NUMBERS`, of shape (H, W).
    number: NDArray[np.intp]
    #: Distance to the edge of the parcel in pixels.
    edge: Array
    #: Position along the longer side of the parcels in pixels.
    along: Array


class Landscape(NamedTuple):
    """What covers the ground at each pixel, all of shape (H, W)."""

    #: Codes of WorldCover.
    land_cover: NDArray[np.uint8]
    #: Height of the ground, of standard deviation 1.
    height: Array
    #: Fields of farmland.
    fields: Parcels
    #: Building plots in settlements.
    plots: Parcels
    #: Whether there is a road.
    is_road: NDArray[np.bool_]
    #: Whether there is a building.
    is_building: NDArray[np.bool_]


def make_landscape(rng: Random, shape: tuple[int, int], biome: Biome) -> Landscape:
    """Make a landscape.

    Args:
        rng: Random numbers of the area.
        shape: Height and width in pixels of 3 m.
        biome: What the land is like.

    Returns:
        The landscape.
    """
    height = rng.field(shape, 500, 3.8, blur=3)
    # Water gathers mostly, but not only, on low ground
    dryness = 0.8 * height + 0.6 * rng.field(shape, 200, 3.6)
    river = _zero_line(rng.field(shape, 500, 5), rng.uniform(1, 6))
    road = _zero_line(rng.field(shape, 900, 6), 1.2)

    shares = {
        code: share * rng.uniform(0.5, 1.5) for code, share in biome.natural.items()
    }
    land_cover = _natural_land_cover(rng, dryness, shares)
    if WATER in shares and rng.uniform(0, 1) < 0.6:
        land_cover[river] = WATER

    # Farmland and settlements consist of whole parcels, and stop at water and snow
    fields = _parcels(rng, shape, biome.field / RESOLUTION)
    is_dry = (land_cover != WATER) & (land_cover != SNOW)
    tame = _parcel_mean(fields, 0.7 * rng.field(shape, 400) - 0.3 * abs(dryness))
    is_farmland = _highest_share(tame, biome.farmland * rng.uniform(0.6, 1.3)) & is_dry
    land_cover[is_farmland] = CROPS
    # Some fields lie fallow
    fallow = rng.numbers.random(PARCEL_NUMBERS, dtype=np.float32)[fields.number] < 0.07
    land_cover[is_farmland & fallow] = GRASS

    plots = _parcels(rng, shape, rng.uniform(22, 40) / RESOLUTION)
    crowded = rng.field(shape, 250) + 0.5 * _share_around(road, 12)
    settled = _parcel_mean(plots, crowded)
    is_town = _highest_share(settled, biome.built_up * rng.uniform(0.4, 1.4)) & is_dry
    land_cover[is_town] = BUILT_UP

    lots = rng.numbers.random(PARCEL_NUMBERS, dtype=np.float32)[plots.number]
    is_building = is_town & (lots < 0.7) & (plots.edge > 1.7)
    has_roads = bool((land_cover == CROPS).any() or is_town.any())
    is_road = (road if has_roads else np.zeros_like(road)) & is_dry
    is_road |= is_town & (lots > 0.5) & (plots.edge < 1.0)
    # Some fields have tracks along their edges
    tracks = rng.numbers.random(PARCEL_NUMBERS, dtype=np.float32)[fields.number]
    is_road |= (land_cover == CROPS) & (tracks < 0.25) & (fields.edge < 0.7)
    return Landscape(
        land_cover,
        height,
        fields,
        plots,
        is_road & ~is_building,
        is_building & ~is_road,
    )


def look_up(table: dict[int, float], land_cover: NDArray[np.uint8]) -> Array:
    """Replace codes of WorldCover by the numbers of a table.

    Args:
        table: Number of each code.
        land_cover: Codes of WorldCover.

    Returns:
        Numbers of the shape of *land_cover*. Codes that are not in the table give 0.
    """
    values = np.zeros(256, dtype=np.float32)
    for code, value in table.items():
        values[code] = value
    return values[land_cover]


def slope_towards(height: Array, azimuth: float) -> Array:
    """Compute how much the ground faces a direction.

    Args:
        height: Height of the ground, of shape (H, W).
        azimuth: Direction in radians, from columns to rows.

    Returns:
        About -1 to 1, of the shape of *height*.
    """
    rows, columns = np.gradient(height)
    slope = np.sin(azimuth) * rows + np.cos(azimuth) * columns
    return (slope / (slope.std() + 1e-6)).clip(-3, 3) * np.float32(0.35)


def _natural_land_cover(
    rng: Random, dryness: Array, shares: dict[int, float]
) -> NDArray[np.uint8]:
    """Divide land among classes of land cover, each with its share."""
    total = sum(shares.values())
    rest = np.ones(dryness.shape, dtype=bool)
    land_cover = np.zeros(dryness.shape, dtype=np.uint8)
    codes = sorted(
        shares, key=lambda code: list(MOISTURE).index(code) if code in MOISTURE else 9
    )
    for code in codes[:-1]:
        field = (
            -MOISTURE[code] * dryness
            if code in MOISTURE
            else rng.field(dryness.shape, 150)
        )
        share = shares[code] / total
        found = rest & _highest_share(np.where(rest, field, -np.inf), share)
        land_cover[found], rest = code, rest & ~found
    land_cover[rest] = codes[-1]
    return land_cover


def _highest_share(field: Array, share: float) -> NDArray[np.bool_]:
    """Pixels with the highest values of a field, as many as the share asks for."""
    if share <= 0:
        return np.zeros(field.shape, dtype=bool)
    # Each fifth row and column is enough for the quantile
    return field > np.quantile(field[::5, ::5], 1 - min(share, 1))


def _zero_line(field: Array, half_width: float) -> NDArray[np.bool_]:
    """Pixels near the lines along which a smooth field is zero."""
    rows, columns = np.gradient(field)
    return abs(field) < half_width * np.hypot(rows, columns)


def _share_around(mask: NDArray[np.bool_], distance: int) -> Array:
    """Share of the pixels around each pixel that are true."""
    pooled = torch.nn.functional.avg_pool2d(
        torch.from_numpy(mask)[None].float(), 2 * distance + 1, 1, distance
    )
    return pooled[0].numpy()


def _parcel_mean(parcels: Parcels, field: Array) -> Array:
    """Mean of a field over each parcel."""
    number = parcels.number.ravel()
    totals = np.bincount(number, field.ravel(), PARCEL_NUMBERS)
    means = totals / np.bincount(number, minlength=PARCEL_NUMBERS).clip(1)
    return means.astype(np.float32)[parcels.number]


def _parcels(rng: Random, shape: tuple[int, int], size: float) -> Parcels:
    """Divide land into parcels of two directions, each in its own part of the land.

    Args:
        rng: Random numbers of the area.
        shape: Height and width in pixels.
        size: Mean side of a parcel in pixels.

    Returns:
        The parcels.
    """
    first, second = (_strips(rng, shape, size) for _ in range(2))
    choice = rng.field(shape, 300, 4) > rng.uniform(0, 1)
    return Parcels(
        *(np.where(choice, b, a) for a, b in zip(first, second, strict=True))
    )


def _strips(rng: Random, shape: tuple[int, int], size: float) -> Parcels:
    """Divide land into parallel strips, and each strip into parcels."""
    rows = np.arange(shape[0], dtype=np.float32)[:, None]
    columns = np.arange(shape[1], dtype=np.float32)
    angle = rng.uniform(0, np.pi)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    bend = np.float32(0.25 * size) * rng.field(shape, 600, 4.5)
    across = cos * rows - sin * columns + bend
    along = cos * columns + sin * rows

    start, stop = float(across.min()), float(across.max())
    count = int((stop - start) / size * 2.5) + 2
    widths = size * rng.numbers.lognormal(-0.35, 0.45, count)
    edges = (start - widths[0] + np.cumsum(widths)).astype(np.float32)
    strip = np.searchsorted(edges, across)
    lengths = size * rng.numbers.lognormal(0.35, 0.4, count + 1).astype(np.float32)
    phases = rng.numbers.uniform(0, 1, count + 1).astype(np.float32)
    position = along / lengths[strip] + phases[strip]
    whole = np.floor(position)
    number = (strip * 10007 + whole.astype(np.intp) * 131) % PARCEL_NUMBERS
    low = edges[np.maximum(strip - 1, 0)]
    high = edges[np.minimum(strip, count - 1)]
    beside = np.minimum(across - low, high - across)
    ahead = np.minimum(position - whole, whole + 1 - position) * lengths[strip]
    return Parcels(number, np.minimum(beside, ahead), along)
