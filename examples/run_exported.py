# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Remove the clouds of a patch with an exported model, without this package.

Images are normalized as the authors of Planet-CR do, and as all examples are trained.
"""

import argparse
from pathlib import Path

import numpy as np
import rasterio
import torch
import torchvision  # noqa: F401, registers an operator of Align-CR
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT


def restore(model: Path, cloudy: Path, sentinel1: Path, out: Path) -> None:
    """Remove the clouds of a patch.

    Args:
        model: File that export_model.py has written.
        cloudy: GeoTIFF of surface reflectance x 10000: blue, green, red, near infrared.
        sentinel1: GeoTIFF of Sentinel-1 in dB: VV, VH.
        out: GeoTIFF to write, on the grid of the cloudy image.
    """
    with rasterio.open(cloudy) as src:
        image = src.read().astype(np.float32)
        profile = src.profile
    grid = {key: profile[key] for key in ('crs', 'transform', 'width', 'height')}
    with (
        rasterio.open(sentinel1) as src,
        WarpedVRT(src, resampling=Resampling.bilinear, **grid) as vrt,
    ):
        image_s1 = vrt.read().astype(np.float32)

    image = np.clip(image, 0, 10000) / 10000
    for band in image_s1:
        band[np.isnan(band)] = np.nanmean(band)
    lowest = np.array([-25, -32.5], np.float32)[:, None, None]
    image_s1 = 1 - np.clip(image_s1, lowest, 0) / lowest
    program = torch.export.load(model).module()
    with torch.inference_mode():
        restored = program(
            torch.from_numpy(image)[None], torch.from_numpy(image_s1)[None]
        )
    reflectance = (restored[0] * 10000).round().clamp(1, 65535).numpy()
    with rasterio.open(out, 'w', **profile) as dst:
        dst.write(reflectance.astype(np.uint16))


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ('model', 'cloudy', 'sentinel1', 'out'):
        parser.add_argument(name, type=Path)
    restore(**vars(parser.parse_args()))
