# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""A fake Planet-CR tree with clouds where protocols look."""

import shutil
from pathlib import Path

import numpy as np
import rasterio


def make_cloudy(root: Path, folder: Path) -> Path:
    """Copy a tree, and put clouds all over its patches for tests and validation."""
    folder = Path(shutil.copytree(root, folder))
    rng = np.random.default_rng(0)
    for place in ('test/cloudmask_*/*/*.npy', 'train/cloudmask_fall/*/*.npy'):
        for path in sorted(folder.glob(place)):
            mask = rng.random((300, 300)) < 0.4
            np.save(path, mask)
            image = str(path).replace('cloudmask', 'planet_cloudy')
            with rasterio.open(Path(image).with_suffix('.tif'), 'r+') as dst:
                clear = dst.read().clip(max=4000)
                dst.write(np.where(mask, 5000 + clear // 2, clear))
    return folder
