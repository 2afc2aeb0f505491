# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Places around the world, and the biomes there."""

from typing import NamedTuple


class Biome(NamedTuple):
    """What the land is like in a biome."""

    #: Relative share of each natural class of land cover, by code of WorldCover.
    natural: dict[int, float]
    #: Share of farmland.
    farmland: float
    #: Share of settlements.
    built_up: float
    #: Reflectance of the soil in B, G, R and NIR.
    soil: tuple[float, float, float, float]
    #: Share of the ground that plants hide when they have grown most and least.
    green: tuple[float, float]
    #: How much hills change the brightness of optical and radar images.
    relief: float
    #: Mean size of a field in meters.
    field: float


#: Codes of WorldCover.
TREES, SHRUBS, GRASS, CROPS, BUILT_UP, BARE, SNOW, WATER, WETLAND, MANGROVES, MOSS = (
    *(10, 20, 30, 40, 50, 60, 70, 80, 90, 95),
    100,
)

#: Reflectance of soils in B, G, R and NIR.
LOAM = (0.055, 0.075, 0.095, 0.16)
BROWN = (0.06, 0.095, 0.13, 0.22)
LATERITE = (0.05, 0.085, 0.16, 0.26)
SAND = (0.13, 0.19, 0.27, 0.36)
CLAY = (0.09, 0.12, 0.15, 0.21)
BRIGHT_SAND = (0.16, 0.26, 0.39, 0.48)
SALT = (0.42, 0.47, 0.5, 0.52)

#: Biomes by name.
BIOMES = {
    'temperate farmland': Biome(
        {TREES: 0.55, GRASS: 0.42, WATER: 0.03},
        0.65,
        0.1,
        BROWN,
        (0.95, 0.4),
        0.15,
        220,
    ),
    'prairie': Biome(
        {GRASS: 0.83, TREES: 0.15, WATER: 0.02}, 0.8, 0.03, LOAM, (0.9, 0.2), 0.05, 450
    ),
    'smallholdings': Biome(
        {TREES: 0.65, GRASS: 0.3, WATER: 0.05}, 0.7, 0.12, BROWN, (0.85, 0.35), 0.05, 70
    ),
    'delta': Biome(
        {TREES: 0.4, WETLAND: 0.4, WATER: 0.2}, 0.6, 0.08, CLAY, (0.9, 0.4), 0.0, 100
    ),
    'rain forest': Biome(
        {TREES: 0.85, GRASS: 0.1, WATER: 0.03},
        0.12,
        0.02,
        LATERITE,
        (1.0, 0.9),
        0.3,
        90,
    ),
    'savanna': Biome(
        {TREES: 0.3, SHRUBS: 0.25, GRASS: 0.43, WATER: 0.02},
        *(0.15, 0.02, LATERITE, (0.8, 0.3), 0.1, 90),
    ),
    'steppe': Biome(
        {GRASS: 0.8, SHRUBS: 0.1, BARE: 0.1}, 0.15, 0.01, CLAY, (0.6, 0.2), 0.3, 400
    ),
    'desert': Biome(
        {BARE: 0.9, SHRUBS: 0.1}, 0.03, 0.03, SAND, (0.25, 0.15), 0.25, 150
    ),
    'oasis': Biome(
        {BARE: 0.75, SHRUBS: 0.22, WATER: 0.03}, 0.5, 0.1, SAND, (0.9, 0.5), 0.05, 80
    ),
    'maquis': Biome(
        {SHRUBS: 0.4, TREES: 0.4, GRASS: 0.15, BARE: 0.05},
        *(0.3, 0.06, CLAY, (0.75, 0.5), 0.6, 120),
    ),
    'taiga': Biome(
        {TREES: 0.75, WETLAND: 0.12, GRASS: 0.07, WATER: 0.06},
        *(0.03, 0.01, LOAM, (0.95, 0.5), 0.25, 200),
    ),
    'tundra': Biome(
        {MOSS: 0.5, WETLAND: 0.15, GRASS: 0.15, WATER: 0.1, SNOW: 0.05},
        *(0.0, 0.0, LOAM, (0.7, 0.3), 0.2, 200),
    ),
    'high mountains': Biome(
        {SNOW: 0.3, BARE: 0.35, GRASS: 0.25, TREES: 0.1},
        *(0.0, 0.01, CLAY, (0.7, 0.2), 1.0, 100),
    ),
    'mangrove coast': Biome(
        {MANGROVES: 0.65, WATER: 0.28, WETLAND: 0.07},
        *(0.1, 0.03, CLAY, (0.95, 0.8), 0.0, 80),
    ),
    'suburbs': Biome(
        {TREES: 0.55, GRASS: 0.42, WATER: 0.03}, 0.2, 0.6, BROWN, (0.9, 0.45), 0.1, 120
    ),
    'dunes': Biome({BARE: 1.0}, 0.0, 0.0, BRIGHT_SAND, (0.05, 0.0), 0.5, 150),
    'salt flat': Biome(
        {BARE: 0.9, WATER: 0.1}, 0.0, 0.01, SALT, (0.05, 0.0), 0.02, 150
    ),
    'snow field': Biome(
        {SNOW: 0.8, BARE: 0.15, TREES: 0.05}, 0.0, 0.01, CLAY, (0.3, 0.1), 0.4, 100
    ),
    'sea coast': Biome(
        {WATER: 0.75, BARE: 0.1, GRASS: 0.15}, 0.1, 0.1, SAND, (0.8, 0.4), 0.1, 100
    ),
}


class Place(NamedTuple):
    """A place on Earth."""

    #: In degrees east and north.
    longitude: float
    latitude: float
    #: One of :data:`BIOMES`.
    biome: str


#: Around these places, areas are simulated.
PLACES = (
    Place(-93.5, 42.0, 'prairie'),
    Place(11.5, 48.5, 'temperate farmland'),
    Place(90.4, 24.4, 'smallholdings'),
    Place(34.6, -7.1, 'savanna'),
    Place(-60.0, -3.2, 'rain forest'),
    Place(105.8, 10.1, 'delta'),
    Place(139.4, 35.9, 'suburbs'),
    Place(-3.9, 37.3, 'maquis'),
    Place(61.0, 62.5, 'taiga'),
    Place(30.9, 30.6, 'oasis'),
    Place(103.5, 47.3, 'steppe'),
    Place(-68.3, -22.6, 'desert'),
    Place(89.3, 21.9, 'mangrove coast'),
    Place(-149.5, 68.8, 'tundra'),
    Place(86.6, 28.0, 'high mountains'),
    Place(2.3, 49.6, 'temperate farmland'),
    Place(-61.5, -34.5, 'prairie'),
    Place(75.6, 30.9, 'smallholdings'),
    Place(23.2, -15.4, 'savanna'),
    Place(113.5, 0.8, 'rain forest'),
    Place(-91.0, 29.8, 'delta'),
    Place(-43.4, -22.8, 'suburbs'),
    Place(116.3, -32.3, 'maquis'),
    Place(-78.5, 51.0, 'taiga'),
    Place(36.3, 33.5, 'oasis'),
    Place(-106.5, 45.2, 'steppe'),
    Place(15.4, -24.6, 'desert'),
    Place(133.0, -12.1, 'mangrove coast'),
    Place(27.0, 70.3, 'tundra'),
    Place(8.1, 46.5, 'high mountains'),
    Place(172.0, -43.7, 'temperate farmland'),
    Place(33.5, 49.3, 'prairie'),
    Place(95.1, 21.7, 'smallholdings'),
    Place(146.4, -20.3, 'savanna'),
    Place(23.5, 0.9, 'rain forest'),
    Place(120.6, 31.3, 'delta'),
    Place(28.1, -26.0, 'suburbs'),
)

#: Places that are bright without clouds, or mostly water.
EXTREME_PLACES = (
    Place(-3.0, 24.5, 'dunes'),
    Place(-67.5, -20.2, 'salt flat'),
    Place(-45.0, 61.5, 'snow field'),
    Place(-8.8, 42.5, 'sea coast'),
    Place(84.0, 39.0, 'dunes'),
    Place(137.3, -28.5, 'salt flat'),
    Place(79.5, 34.5, 'snow field'),
    Place(150.2, -35.7, 'sea coast'),
)
