# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Pictures of scenes, before and after."""

import math
import os

import numpy as np
from PIL import Image
from rasterio.enums import Resampling
from torch import from_numpy

from ..datasets.modalities import RGB_INDICES
from ..datasets.plot import tone_curve, true_color
from ..scenes.layer import Layer

#: Pixels along the longer edge of a picture's images, at most.
QUICKLOOK_SIZE = 1000


def picture_path(path: str) -> str:
    """Name the picture beside a GeoTIFF.

    Args:
        path: The GeoTIFF.

    Returns:
        Path of the picture.
    """
    return f'{os.path.splitext(path)[0]}.png'


def draw_quicklook(path: str, source: Layer, restored: str, scale: float = 1) -> None:
    """Draw a scene and the restored image side by side.

    Args:
        path: PNG to write.
        source: The scene, reflectance x 10000 of B, G, R and NIR.
        restored: GeoTIFF of the same bands on the same grid.
        scale: What its values have to be multiplied by for reflectance x 10000.

    Raises:
        OSError: If a file cannot be read or written.
    """
    height, width = source.grid.height, source.grid.width
    # The size of an overview, which need not be computed
    level = max(math.ceil(math.log2(max(height, width) / QUICKLOOK_SIZE)), 0)
    shape = math.ceil(height / 2**level), math.ceil(width / 2**level)
    images = []
    with Layer(restored) as after:
        for layer, factor in ((source, 1), (after, scale)):
            image = layer.read_small(shape, Resampling.average).astype(np.float32)
            has_data = layer.find_data(image)
            image *= factor
            image[:, ~has_data] = 0
            images.append(from_numpy(image[RGB_INDICES]))
    cloudy, clear = images
    curve = tone_curve([clear, cloudy])
    gap = np.ones((shape[0], max(shape[1] // 100, 2), 3))
    drawn = [true_color(cloudy, curve), gap, true_color(clear, curve)]
    array = (255 * np.concatenate(drawn, axis=1)).round().astype(np.uint8)
    Image.fromarray(array).save(path, compress_level=1)
