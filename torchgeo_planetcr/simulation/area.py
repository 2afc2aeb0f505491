# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Areas: all modalities of a piece of land."""

import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pyproj import Transformer

from ..datasets.archive import SEASONS
from ..raster.grid import Grid
from ..transforms.clouds import coarse_cloud_mask, draw_clouds, lay_clouds
from .landscape import RESOLUTION, Random, make_landscape
from .optical import Ground, record
from .places import BIOMES, PLACES, Place
from .radar import backscatter, speckle, to_decibels

#: Rows and columns of a patch in pixels of 3 m, and in those of 10 m.
PATCH, COARSE_PATCH = 300, 90

#: Size of a pixel of the coarse modalities in metres.
COARSE_RESOLUTION = 10.0

#: Pixels of land around an area, and what sides are multiples of, for fast transforms.
MARGIN, MULTIPLE = 8, 64

#: Greatest distance of the corners of the grids of 3 m and 10 m in metres.
MAX_OFFSET = 2

#: Stage of growth in northern spring, summer, fall and winter.
STAGES = (0.6, 1.0, 0.5, 0.1)

#: Latitude up to which seasons are wet and dry, not warm and cold.
TROPICS = 20


class Area(NamedTuple):
    """Where an area is, and when it was seen."""

    number: int
    season: str
    place: Place
    #: Grid of its pixels of 3 m, and of those of 10 m.
    grid: Grid
    coarse_grid: Grid

    @property
    def aoi(self) -> str:
        """Name of the area."""
        return f'{self.season}_{self.number}'


class AreaImages(NamedTuple):
    """Images of an area, with the types of the archive, all of shape (C, H, W)."""

    cloudy: NDArray[np.uint16]
    clear: NDArray[np.uint16]
    sentinel1: NDArray[np.float64]
    worldcover: NDArray[np.uint8]
    cloud_mask: NDArray[np.bool_]


def choose_area(seed: int, number: int, rows: int, columns: int) -> Area:
    """Choose a place and a season.

    Args:
        seed: Seed of the world.
        number: Number of the area, from 1.
        rows: Number of patches from north to south.
        columns: Number of patches from west to east.

    Returns:
        The area. Others of the same world are elsewhere.
    """
    order = np.random.default_rng(seed).permutation(len(PLACES))
    rng = np.random.default_rng([seed, number])
    longitude, latitude, biome = PLACES[order[(number - 1) % len(PLACES)]]
    longitude = (longitude + rng.uniform(-2, 2) + 180) % 360 - 180
    latitude += rng.uniform(-1, 1)
    zone = int((longitude + 180) // 6) + 1
    crs = f'EPSG:{32600 + zone if latitude >= 0 else 32700 + zone}'
    transformer = Transformer.from_crs('EPSG:4326', crs, always_xy=True)
    x, y = transformer.transform(longitude, latitude)
    right, down = rng.integers(-MAX_OFFSET, MAX_OFFSET + 1, 2).tolist()
    left, coarse_left = _align(math.floor(x), right)
    top, coarse_top = _align(math.floor(y), down)
    return Area(
        number,
        str(rng.choice(SEASONS)),
        Place(longitude, latitude, biome),
        Grid(crs, left, top, *2 * (RESOLUTION,), PATCH * rows, PATCH * columns),
        Grid(
            crs,
            coarse_left,
            coarse_top,
            *2 * (COARSE_RESOLUTION,),
            COARSE_PATCH * rows,
            COARSE_PATCH * columns,
        ),
    )


def _align(start: int, offset: int) -> tuple[int, int]:
    """Find multiples of 3 and of 10 metres that are so far from each other."""
    fine = next(
        number
        for number in range(start, start + 30)
        if number % RESOLUTION == 0 and (number + offset) % COARSE_RESOLUTION == 0
    )
    return fine, fine + offset


def describe(seed: int, area: Area) -> str:
    """What a file of an area says of itself.

    Args:
        seed: Seed of the world.
        area: The area.

    Returns:
        That it is simulated, and how.
    """
    return (
        f'Simulated by torchgeo-planetcr (seed {seed}), not an image of the Earth: '
        f'{area.place.biome} in {area.season}'
    )


def simulate_area(seed: int, area: Area) -> AreaImages:
    """Simulate the images of an area.

    Args:
        seed: Seed of the world.
        area: The area.

    Returns:
        The images. The same numbers give the same images, whatever runs beside.
    """
    rng, biome = Random(seed, area.number, 1), BIOMES[area.place.biome]
    height, width = area.grid.height, area.grid.width
    shape = _canvas(height), _canvas(width)
    inside = slice(MARGIN, MARGIN + height), slice(MARGIN, MARGIN + width)

    land = make_landscape(rng, shape, biome)
    ground = Ground(rng, land, biome)
    stage, azimuth = _stage(rng, area), _sun(rng, area)
    clear = ground.image(rng, stage, azimuth)
    # Weeks before or after
    other = float(np.clip(stage + rng.numbers.normal(0, 0.08), 0, 1))
    below = ground.image(rng, other, azimuth + rng.uniform(-0.3, 0.3), changed=0.05)

    cover = torch.tensor([rng.uniform(0.15, 0.8)])
    layers = draw_clouds(cover, *shape, generator=rng.generator)
    cloudy = lay_clouds(torch.from_numpy(below)[None], layers)[0].numpy()
    mask = coarse_cloud_mask(layers, rng.uniform(-0.3, 0.3))[0].numpy()
    cloudy = record(rng, cloudy[:, *inside])
    if rng.uniform(0, 1) < 0.1:
        cloudy[:, _beyond_the_scene(rng, (height, width))] = 0

    power = _to_coarse(backscatter(rng, ground), area)
    radar = to_decibels(power * speckle(rng, power.shape))
    return AreaImages(
        cloudy,
        record(rng, clear[:, *inside]),
        radar,
        _nearest(land.cover[None], area),
        mask[None, *inside] & (cloudy != 0).any(axis=0),
    )


def _canvas(size: int) -> int:
    """Side of the land around an area in pixels."""
    return math.ceil((size + 2 * MARGIN) / MULTIPLE) * MULTIPLE


def _stage(rng: Random, area: Area) -> float:
    """Stage of growth in a season."""
    latitude = area.place.latitude
    if abs(latitude) < TROPICS:
        return rng.uniform(0.3, 1)
    season = SEASONS.index(area.season)
    return STAGES[season if latitude > 0 else (season + 2) % 4]


def _sun(rng: Random, area: Area) -> float:
    """Direction in which the ground gets the light of the morning."""
    south = math.pi / 4 if area.place.latitude > 0 else -math.pi / 4
    return south + rng.uniform(-0.3, 0.3)


def _beyond_the_scene(rng: Random, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Pixels beyond an edge of the scene, which lies askew."""
    rows = np.arange(shape[0])[:, None] / shape[0] - 0.5
    columns = np.arange(shape[1]) / shape[1] - 0.5
    angle = rng.uniform(-0.3, 0.3) + math.pi / 2 * int(rng.numbers.integers(4))
    return math.cos(angle) * columns + math.sin(angle) * rows > rng.uniform(0.25, 0.6)


def _to_coarse(power: NDArray[np.float32], area: Area) -> NDArray[np.float32]:
    """Mean over pixels of 10 m, about."""
    pooled = F.avg_pool2d(torch.from_numpy(power)[None], 3, 1, 1)[0].numpy()
    return _nearest(pooled, area)


def _nearest[T: np.generic](image: NDArray[T], area: Area) -> NDArray[T]:
    """Pixels of 3 m in which the centres of those of 10 m lie."""
    coarse, grid = area.coarse_grid, area.grid
    right, down = coarse.xmin - grid.xmin, grid.ymax - coarse.ymax
    rows = down + COARSE_RESOLUTION * (np.arange(coarse.height) + 0.5)
    columns = right + COARSE_RESOLUTION * (np.arange(coarse.width) + 0.5)
    row = MARGIN + (rows // RESOLUTION).astype(int)
    column = MARGIN + (columns // RESOLUTION).astype(int)
    return image[:, row[:, None], column]
