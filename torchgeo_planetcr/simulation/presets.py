# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Presets: under which skies, in which places and how the images of a simulation are taken."""

from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from ..datasets.modalities import MODALITIES
from ..transforms.clouds import CloudLayers
from .places import EXTREME_PLACES, PLACES, Place

#: Names of presets.
type PresetName = Literal[
    'usual', 'wide', 'clear', 'haze', 'cirrus', 'overcast', 'shadow'
]

type Range = tuple[float, float]

#: Largest distance in pixels by which the ground of two images is misplaced.
MAX_SHIFT = 2


class Sky(NamedTuple):
    """Ranges of the share under clouds, and of factors of the thickness of each layer."""

    cover: Range = (0.15, 0.8)
    cloud: Range = (1, 1)
    veil: Range = (1, 1)
    haze: Range = (1, 1)
    #: Of the clouds that throw shadow.
    sunward: Range = (1, 1)


#: Skies by name.
SKIES = {
    'cloudy': Sky(),
    'clear': Sky(cloud=(0, 0), veil=(0, 0), haze=(0, 0), sunward=(0, 0)),
    'haze': Sky(cloud=(0, 0), veil=(0, 0), haze=(0.3, 4), sunward=(0, 0)),
    'cirrus': Sky(cloud=(0, 0), veil=(1, 5), sunward=(0, 0)),
    'overcast': Sky(cover=(0.9, 0.99), cloud=(3, 8), sunward=(3, 8)),
    # The clouds themselves are beyond the image
    'shadow': Sky(cloud=(0, 0), veil=(0, 0), haze=(0, 0.3)),
}


class Preset(NamedTuple):
    """How areas are simulated."""

    #: Share of the areas under each sky, by its name.
    skies: dict[str, float]
    places: tuple[Place, ...] = PLACES
    #: Standard deviation of the gain of each band of the cloudy image.
    gain: float = 0.0
    #: Standard deviation of the distance in pixels by which its ground is misplaced.
    shift: float = 0.0
    #: Range of what is added to Sentinel-1 in dB: gamma0 is higher than sigma0.
    radar: Range = (0, 0)


#: Presets by name.
PRESETS = {
    'usual': Preset({'cloudy': 1}),
    'wide': Preset(
        {
            'cloudy': 0.5,
            'clear': 0.12,
            'haze': 0.1,
            'cirrus': 0.1,
            'overcast': 0.1,
            'shadow': 0.08,
        },
        PLACES + EXTREME_PLACES,
        gain=0.03,
        shift=0.6,
        radar=(-0.5, 1.6),
    ),
    **{sky: Preset({sky: 1}) for sky in SKIES if sky != 'cloudy'},
}


class Conditions(NamedTuple):
    """Under which conditions the images of an area are taken."""

    #: Range of the share under clouds.
    cover: Range
    #: Factor of the thickness of each layer.
    thickness: tuple[float, ...]
    #: Gain of each band of the cloudy image, of shape (4, 1, 1).
    gain: NDArray[np.float32]
    #: Rows and columns by which its ground is misplaced.
    shift: tuple[int, int]
    #: What is added to Sentinel-1 in dB.
    radar: float

    def through(self, layers: CloudLayers) -> CloudLayers:
        """Make layers as thick as they are under these conditions."""
        factors = zip(layers, self.thickness, strict=True)
        return CloudLayers(*(layer * factor for layer, factor in factors))


def find_preset(name: str) -> Preset:
    """Look up a preset.

    Args:
        name: Its name.

    Returns:
        The preset.

    Raises:
        ValueError: If there is no preset of this name.
    """
    if name not in PRESETS:
        raise ValueError(
            f'preset={name!r} must be one of '
            f'{", ".join(get_args(PresetName.__value__))}'
        )
    return PRESETS[name]


def draw_conditions(preset: Preset, seed: int, number: int) -> Conditions:
    """Draw the conditions of an area.

    Args:
        preset: What they are drawn from.
        seed: Seed of the world.
        number: Number of the area.

    Returns:
        The conditions.
    """
    # Numbers of their own, so that the same land is seen under other conditions
    rng = np.random.default_rng([seed, number, 2])
    sky = SKIES[rng.choice(list(preset.skies), p=list(preset.skies.values()))]
    bands = len(MODALITIES['cloudy'].bands)
    gain = rng.normal(1, preset.gain, (bands, 1, 1)).astype(np.float32)
    down, right = (
        rng.normal(0, preset.shift, 2).round().clip(-MAX_SHIFT, MAX_SHIFT).astype(int)
    ).tolist()
    return Conditions(
        sky.cover,
        tuple(rng.uniform(*factor) for factor in sky[1:]),
        gain,
        (down, right),
        rng.uniform(*preset.radar),
    )
