# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Simulated areas with the images of all modalities."""

import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pyproj import Transformer

from ..datasets.modalities import MODALITIES
from ..datasets.patch_files import PATCH_SIZE, SEASONS
from ..raster.grid import Grid
from ..transforms.clouds import coarse_cloud_mask, draw_clouds, lay_clouds
from .landscape import RESOLUTION, Random, make_landscape
from .optical import Ground, to_digital_numbers
from .places import BIOMES, Place
from .presets import Conditions, Preset, draw_conditions
from .radar import backscatter, speckle, to_decibels

#: Height and width of a patch in pixels of 10 m.
COARSE_PATCH_SIZE = 90

#: Size of a pixel of Sentinel-1 and of land cover in meters.
COARSE_RESOLUTION = MODALITIES['sentinel1'].resolution

#: Land is simulated with a margin of so many pixels. Its sides are multiples of a number,
#: because Fourier transforms of such sizes are fast.
MARGIN, SIZE_MULTIPLE = 8, 64

#: Largest distance between the corners of the grids of 3 m and 10 m in meters.
MAX_OFFSET = 2

#: Stage of growth in spring, summer, fall and winter of the north, from 0 to 1.
SEASON_STAGES = (0.6, 1.0, 0.5, 0.1)

#: Up to this latitude, growth does not follow these seasons.
TROPICAL_LATITUDE = 20


class Area(NamedTuple):
    """Place, season and conditions of an area."""

    number: int
    season: str
    place: Place
    #: Grids of its pixels of 3 m and of 10 m.
    grid: Grid
    coarse_grid: Grid
    conditions: Conditions

    @property
    def aoi(self) -> str:
        """Name of the area, ``<season>_<number>``."""
        return f'{self.season}_{self.number}'


class AreaImages(NamedTuple):
    """Images of an area by modality, of shape (C, H, W), with the types of the archive."""

    cloudy: NDArray[np.uint16]
    clear: NDArray[np.uint16]
    sentinel1: NDArray[np.float64]
    worldcover: NDArray[np.uint8]
    cloud_mask: NDArray[np.bool_]


def choose_area(
    preset: Preset, seed: int, number: int, rows: int, columns: int
) -> Area:
    """Choose the place, the season and the conditions of an area.

    Args:
        preset: What they are chosen from.
        seed: Seed of the world.
        number: Number of the area, from 1.
        rows: Number of patches from north to south.
        columns: Number of patches from west to east.

    Returns:
        The area.
    """
    places = preset.places
    order = np.random.default_rng(seed).permutation(len(places))
    rng = np.random.default_rng([seed, number])
    longitude, latitude, biome = places[order[(number - 1) % len(places)]]
    longitude = (longitude + rng.uniform(-2, 2) + 180) % 360 - 180
    latitude += rng.uniform(-1, 1)
    zone = int((longitude + 180) // 6) + 1
    crs = f'EPSG:{32600 + zone if latitude >= 0 else 32700 + zone}'
    transformer = Transformer.from_crs('EPSG:4326', crs, always_xy=True)
    x, y = transformer.transform(longitude, latitude)
    right, down = rng.integers(-MAX_OFFSET, MAX_OFFSET + 1, 2).tolist()
    left, coarse_left = _aligned_corners(math.floor(x), right)
    top, coarse_top = _aligned_corners(math.floor(y), down)
    return Area(
        number,
        str(rng.choice(SEASONS)),
        Place(longitude, latitude, biome),
        Grid(
            crs, left, top, *2 * (RESOLUTION,), PATCH_SIZE * rows, PATCH_SIZE * columns
        ),
        Grid(
            crs,
            coarse_left,
            coarse_top,
            *2 * (COARSE_RESOLUTION,),
            COARSE_PATCH_SIZE * rows,
            COARSE_PATCH_SIZE * columns,
        ),
        draw_conditions(preset, seed, number),
    )


def _aligned_corners(start: int, offset: int) -> tuple[int, int]:
    """Find a multiple of 3 m and one of 10 m with a given distance."""
    fine = next(
        number
        for number in range(start, start + 30)
        if number % RESOLUTION == 0 and (number + offset) % COARSE_RESOLUTION == 0
    )
    return fine, fine + offset


def image_description(seed: int, area: Area) -> str:
    """Write the description that files of an area hold.

    Args:
        seed: Seed of the world.
        area: The area.

    Returns:
        A sentence that says that the image is simulated, and how.
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
        The images. They depend on nothing but the seed and the area.
    """
    rng, biome = Random(seed, area.number, 1), BIOMES[area.place.biome]
    height, width = area.grid.height, area.grid.width
    shape = _padded_size(height), _padded_size(width)
    inside = slice(MARGIN, MARGIN + height), slice(MARGIN, MARGIN + width)

    land = make_landscape(rng, shape, biome)
    ground = Ground(rng, land, biome)
    stage, azimuth = _growth_stage(rng, area), _sun_azimuth(rng, area)
    clear = ground.image(rng, stage, azimuth)
    # The cloudy image was taken some weeks before or after the clear one
    other = float(np.clip(stage + rng.numbers.normal(0, 0.08), 0, 1))
    below = ground.image(rng, other, azimuth + rng.uniform(-0.3, 0.3), changed=0.05)

    conditions = area.conditions
    cloud_share = torch.tensor([rng.uniform(*conditions.cover)])
    layers = conditions.through(
        draw_clouds(cloud_share, *shape, generator=rng.generator)
    )
    below = np.roll(below, conditions.shift, (1, 2))
    cloudy = lay_clouds(torch.from_numpy(below)[None], layers)[0].numpy()
    mask = coarse_cloud_mask(layers, rng.uniform(-0.3, 0.3))[0].numpy()
    cloudy = to_digital_numbers(rng, conditions.gain * cloudy[:, *inside])
    if rng.uniform(0, 1) < 0.1:
        cloudy[:, _outside_scene(rng, (height, width))] = MODALITIES['cloudy'].nodata

    power = _to_coarse(backscatter(rng, ground), area)
    sentinel1 = to_decibels(power * speckle(rng, power.shape)) + conditions.radar
    return AreaImages(
        cloudy,
        to_digital_numbers(rng, clear[:, *inside]),
        sentinel1,
        _sample_coarse(land.land_cover[None], area),
        mask[None, *inside] & has_data(cloudy),
    )


def has_data(image: NDArray[np.uint16]) -> NDArray[np.bool_]:
    """Find the pixels of an image of PlanetScope that have data.

    Args:
        image: Reflectance x 10000 of shape (C, H, W).

    Returns:
        Whether each pixel has data, of shape (H, W).
    """
    return (image != MODALITIES['cloudy'].nodata).any(axis=0)


def _padded_size(size: int) -> int:
    """Side of the land that is simulated for an area in pixels."""
    return math.ceil((size + 2 * MARGIN) / SIZE_MULTIPLE) * SIZE_MULTIPLE


def _growth_stage(rng: Random, area: Area) -> float:
    """Stage of growth in the season of an area, from 0 to 1."""
    latitude = area.place.latitude
    if abs(latitude) < TROPICAL_LATITUDE:
        return rng.uniform(0.3, 1)
    season = SEASONS.index(area.season)
    return SEASON_STAGES[season if latitude > 0 else (season + 2) % 4]


def _sun_azimuth(rng: Random, area: Area) -> float:
    """Direction of the morning sun in radians, from columns to rows."""
    south = math.pi / 4 if area.place.latitude > 0 else -math.pi / 4
    return south + rng.uniform(-0.3, 0.3)


def _outside_scene(rng: Random, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Pixels beyond an edge of the scene, which is not parallel to the grid."""
    rows = np.arange(shape[0])[:, None] / shape[0] - 0.5
    columns = np.arange(shape[1]) / shape[1] - 0.5
    angle = rng.uniform(-0.3, 0.3) + math.pi / 2 * int(rng.numbers.integers(4))
    return math.cos(angle) * columns + math.sin(angle) * rows > rng.uniform(0.25, 0.6)


def _to_coarse(power: NDArray[np.float32], area: Area) -> NDArray[np.float32]:
    """Average power to pixels of about 10 m."""
    pooled = F.avg_pool2d(torch.from_numpy(power)[None], 3, 1, 1)[0].numpy()
    return _sample_coarse(pooled, area)


def _sample_coarse[T: np.generic](image: NDArray[T], area: Area) -> NDArray[T]:
    """Take the pixel of 3 m at the center of each pixel of 10 m."""
    coarse, grid = area.coarse_grid, area.grid
    right, down = coarse.xmin - grid.xmin, grid.ymax - coarse.ymax
    rows = down + COARSE_RESOLUTION * (np.arange(coarse.height) + 0.5)
    columns = right + COARSE_RESOLUTION * (np.arange(coarse.width) + 0.5)
    row = MARGIN + (rows // RESOLUTION).astype(int)
    column = MARGIN + (columns // RESOLUTION).astype(int)
    return image[:, row[:, None], column]
