# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Make the pictures of a restored scene that the documentation shows.

    pip install satellite-cloud-generator spyndex
    PYTHONPATH=benchmarks python docs/scene_picture.py

As for the report, the ground is a Sentinel-2 image (contains modified Copernicus Sentinel
data), and clouds and backscatter are simulated. The network trains on the left half of the
image and restores the right half. It takes ten minutes on two CPU cores.
"""

import tempfile
from pathlib import Path

import numpy as np
import rasterio
import torch
from numpy.typing import NDArray
from PIL import Image
from rasterio.transform import from_origin
from report_picture import (
    PICTURES,
    SIZE,
    Quadrant,
    make_tree,
    read_ground,
    simulate,
    train,
)

from torchgeo_planetcr import remove_clouds

#: Where the network trains, each under many clouds.
QUADRANTS: tuple[Quadrant, ...] = (
    ('train', 'spring_1', (0, 0), 64),
    ('train', 'summer_2', (1, 0), 64),
)

#: Opacity of the thickest cloud: through most of it something of the ground is seen.
THICKNESS = (0.4, 0.7)

#: Epochs of training.
EPOCHS = 80

#: Seed of the clouds over the scene.
SEED = 6

#: Corner of the scene in its zone.
CRS, CORNER = 'EPSG:32723', (300_000, 7_500_000)


def write(path: Path, array: NDArray[np.generic], resolution: float) -> Path:
    """Write a GeoTIFF."""
    count, height, width = array.shape
    with rasterio.open(
        path,
        'w',
        driver='GTiff',
        count=count,
        height=height,
        width=width,
        dtype=array.dtype,
        crs=CRS,
        transform=from_origin(*CORNER, resolution, resolution),
        nodata=0 if count == 4 else None,
    ) as dataset:
        dataset.write(array)
    return path


def make_scene(folder: Path) -> dict[str, Path]:
    """Make a cloudy scene of the right half of the image.

    Args:
        folder: Where to.

    Returns:
        Paths of the scene, Sentinel-1 and the cloud mask.
    """
    torch.manual_seed(SEED)
    ground = read_ground()[:, :, SIZE:].contiguous()
    arrays = simulate(ground, np.random.default_rng(SEED), THICKNESS)
    cloudy = arrays['planet_cloudy']
    # A strip as it is recorded, in a frame that looks north
    row, col = np.indices(cloudy.shape[1:])
    cloudy[:, (col + 0.08 * row < 24) | (col + 0.08 * row > SIZE + 24)] = 0
    mask = arrays['cloudmask'].astype(np.uint8)[None]
    return {
        'cloudy': write(folder / 'cloudy.tif', cloudy, 3),
        's1': write(folder / 'sentinel1.tif', arrays['S1'].astype(np.float32), 10),
        'mask': write(folder / 'mask.tif', mask, 3),
    }


def main() -> None:
    """Simulate, train, restore and keep the pictures."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_tree(folder / 'data', QUADRANTS, THICKNESS)
        checkpoint = train(folder / 'data', folder / 'runs', EPOCHS, 'l1')
        scene = make_scene(folder)
        for picture, composite in (('scene', None), ('composite', scene['mask'])):
            out = folder / f'{picture}.tif'
            remove_clouds(checkpoint, scene['cloudy'], scene['s1'], out, composite)
            image = Image.open(out.with_suffix('.png')).convert('RGB')
            image.save(PICTURES / f'{picture}.jpg', quality=88)


if __name__ == '__main__':
    main()
