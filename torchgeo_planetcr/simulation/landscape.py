# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Landscapes of rivers, fields, towns and forest."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ..transforms.noise import fractal_noise
from .places import BARE, BUILT_UP, CROPS, GRASS, MANGROVES, SNOW, WATER, WETLAND, Biome

type Array = NDArray[np.float32]

#: Size of a pixel in metres.
RESOLUTION = 3.0

#: Parcels whose numbers differ by this share their looks.
NUMBERS = 2**18

#: Covers in the order in which they take their share, and whether low, wet ground is
#: theirs (1), or high, dry ground (-1).
ORDER = {WATER: 1, MANGROVES: 1, WETLAND: 1, SNOW: -1, BARE: -1}


class Random:
    """Random numbers and fields of one area."""

    def __init__(self, *seed: int) -> None:
        """Start from numbers."""
        self.numbers = np.random.default_rng(seed)
        self.generator = torch.Generator().manual_seed(
            int(self.numbers.integers(2**63))
        )

    def uniform(self, low: float, high: float) -> float:
        """Draw a number."""
        return float(self.numbers.uniform(low, high))

    def field(
        self, shape: tuple[int, int], scale: float, exponent: float = 3.4
    ) -> Array:
        """Draw a fractal field of mean 0 and standard deviation 1."""
        (field,) = fractal_noise(
            1, *shape, exponent=exponent, scale=scale, generator=self.generator
        )
        return field.numpy()

    def grain(self, shape: tuple[int, int], count: int = 1) -> Array:
        """Draw white noise of mean 0 and standard deviation 1."""
        size = (count, *shape) if count > 1 else shape
        return torch.randn(size, generator=self.generator).numpy()


class Parcels(NamedTuple):
    """Land divided into rectangles, more or less."""

    #: Number of the parcel of each pixel, below :data:`NUMBERS`.
    number: NDArray[np.intp]
    #: Pixels to the edge of the parcel.
    edge: Array
    #: Pixels along the longer side of the parcels.
    along: Array


class Landscape(NamedTuple):
    """What the ground is, pixel by pixel."""

    #: Codes of WorldCover.
    cover: NDArray[np.uint8]
    #: Height, of standard deviation 1.
    height: Array
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
        rng: Random numbers.
        shape: Height and width in pixels of 3 m.
        biome: What the land is like.

    Returns:
        The landscape.
    """
    height = rng.field(shape, 500, 3.8)
    # Water gathers low, and not only there
    dryness = 0.8 * height + 0.6 * rng.field(shape, 200, 3.6)
    river = _line(rng.field(shape, 500, 5), rng.uniform(1, 6))
    road = _line(rng.field(shape, 900, 6), 1.2)

    shares = {
        code: share * rng.uniform(0.5, 1.5) for code, share in biome.natural.items()
    }
    cover = _natural(rng, dryness, shares)
    if WATER in shares and rng.uniform(0, 1) < 0.6:
        cover[river] = WATER

    # Farmland and settlements end where their parcels do, and stop at water
    fields = _parcels(rng, shape, biome.field / RESOLUTION)
    is_dry = (cover != WATER) & (cover != SNOW)
    tame = _mean_of(fields, 0.7 * rng.field(shape, 400) - 0.3 * abs(dryness))
    is_farmland = _most(tame, biome.farmland * rng.uniform(0.6, 1.3)) & is_dry
    cover[is_farmland] = CROPS
    # Some lie fallow
    fallow = rng.numbers.random(NUMBERS, dtype=np.float32)[fields.number] < 0.07
    cover[is_farmland & fallow] = GRASS

    plots = _parcels(rng, shape, rng.uniform(22, 40) / RESOLUTION)
    crowded = rng.field(shape, 250) + 0.5 * _near(road, 12)
    settled = _mean_of(plots, crowded)
    is_town = _most(settled, biome.built_up * rng.uniform(0.4, 1.4)) & is_dry
    cover[is_town] = BUILT_UP

    lots = rng.numbers.random(NUMBERS, dtype=np.float32)[plots.number]
    is_building = is_town & (lots < 0.7) & (plots.edge > 1.7)
    has_roads = bool((cover == CROPS).any() or is_town.any())
    is_road = (road if has_roads else np.zeros_like(road)) & is_dry
    is_road |= is_town & (lots > 0.5) & (plots.edge < 1.0)
    # Tracks between fields
    tracks = rng.numbers.random(NUMBERS, dtype=np.float32)[fields.number]
    is_road |= (cover == CROPS) & (tracks < 0.25) & (fields.edge < 0.7)
    return Landscape(
        cover, height, fields, plots, is_road & ~is_building, is_building & ~is_road
    )


def look_up(table: dict[int, float], cover: NDArray[np.uint8]) -> Array:
    """Number of the cover of each pixel.

    Args:
        table: Numbers by code of WorldCover.
        cover: Codes.

    Returns:
        Numbers, of the shape of *cover*.
    """
    values = np.zeros(256, dtype=np.float32)
    for code, value in table.items():
        values[code] = value
    return values[cover]


def slope_towards(height: Array, azimuth: float) -> Array:
    """How much the ground faces a direction.

    Args:
        height: Height.
        azimuth: Direction in radians, from columns to rows.

    Returns:
        About -1 to 1, of the shape of *height*.
    """
    rows, columns = np.gradient(height)
    slope = np.sin(azimuth) * rows + np.cos(azimuth) * columns
    return (slope / (slope.std() + 1e-6)).clip(-3, 3) * np.float32(0.35)


def _natural(
    rng: Random, dryness: Array, shares: dict[int, float]
) -> NDArray[np.uint8]:
    """Divide land among covers, each with its share."""
    total = sum(shares.values())
    rest = np.ones(dryness.shape, dtype=bool)
    cover = np.zeros(dryness.shape, dtype=np.uint8)
    codes = sorted(
        shares, key=lambda code: list(ORDER).index(code) if code in ORDER else 9
    )
    for code in codes[:-1]:
        field = (
            -ORDER[code] * dryness if code in ORDER else rng.field(dryness.shape, 150)
        )
        share = shares[code] / total
        found = rest & _most(np.where(rest, field, -np.inf), share)
        cover[found], rest = code, rest & ~found
    cover[rest] = codes[-1]
    return cover


def _most(field: Array, share: float) -> NDArray[np.bool_]:
    """The share of all pixels where a field is greatest."""
    if share <= 0:
        return np.zeros(field.shape, dtype=bool)
    # A part of the pixels tells
    return field > np.quantile(field[::5, ::5], 1 - min(share, 1))


def _line(field: Array, half_width: float) -> NDArray[np.bool_]:
    """Pixels within a distance of where a smooth field is zero."""
    rows, columns = np.gradient(field)
    return abs(field) < half_width * np.hypot(rows, columns)


def _near(where: NDArray[np.bool_], distance: int) -> Array:
    """Share of pixels of a kind around each pixel."""
    pooled = torch.nn.functional.avg_pool2d(
        torch.from_numpy(where)[None].float(), 2 * distance + 1, 1, distance
    )
    return pooled[0].numpy()


def _mean_of(parcels: Parcels, field: Array) -> Array:
    """Mean of a field over each parcel."""
    number = parcels.number.ravel()
    totals = np.bincount(number, field.ravel(), NUMBERS)
    means = totals / np.bincount(number, minlength=NUMBERS).clip(1)
    return means.astype(np.float32)[parcels.number]


def _parcels(rng: Random, shape: tuple[int, int], size: float) -> Parcels:
    """Divide land into strips, and these into parcels.

    Args:
        rng: Random numbers.
        shape: Height and width in pixels.
        size: Mean side of a parcel in pixels.

    Returns:
        The parcels; in some parts of the land they lie in another direction.
    """
    first, second = (_strips(rng, shape, size) for _ in range(2))
    choice = rng.field(shape, 300, 4) > rng.uniform(0, 1)
    return Parcels(
        *(np.where(choice, b, a) for a, b in zip(first, second, strict=True))
    )


def _strips(rng: Random, shape: tuple[int, int], size: float) -> Parcels:
    """Divide land into parcels that lie in one direction."""
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
    number = (strip * 10007 + whole.astype(np.intp) * 131) % NUMBERS
    low = edges[np.maximum(strip - 1, 0)]
    high = edges[np.minimum(strip, count - 1)]
    beside = np.minimum(across - low, high - across)
    ahead = np.minimum(position - whole, whole + 1 - position) * lengths[strip]
    return Parcels(number, np.minimum(beside, ahead), along)
