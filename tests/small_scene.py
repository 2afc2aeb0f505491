# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""A small cloudy scene and Sentinel-1 around it, and models whose answer is known."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import rasterio
import torch
from lightning.pytorch import Trainer
from numpy.typing import NDArray
from rasterio.transform import from_origin
from rasterio.warp import transform
from rasters import write
from torch import Tensor, nn

from torchgeo_planetcr.tasks import CloudRemoval

CRS, RADAR_CRS = 'EPSG:32646', 'EPSG:32647'

#: Upper left corner of the scene, in its CRS.
LEFT, TOP = 500001, 2000004

SHAPE = 210, 260

#: No process beside this one, which takes a second to start.
QUICK: dict[str, Any] = {'num_workers': 0, 'accelerator': 'cpu'}

#: Tiles that are small, so that there are several.
SMALL: dict[str, Any] = {'tile_size': 96, 'overlap': 32, **QUICK}


def make_mask(height: int, width: int) -> NDArray[np.bool_]:
    """Where a scene has data: a rotated rectangle with a hole."""
    y, x = np.mgrid[:height, :width]
    inside = np.ones((height, width), dtype=bool)
    for side in (x + 0.2 * y, width - x + 0.2 * (height - y)):
        inside &= side > 0.15 * width
    for side in (y - 0.2 * x, height - y - 0.2 * (width - x)):
        inside &= side > -0.1 * height
    inside[height // 2 :, width // 2 :][:23, :41] = False
    return inside


def make_image(
    height: int = 210, width: int = 260, count: int = 4, nodata: int = 0
) -> NDArray[np.uint16]:
    """Random reflectance x 10000 with pixels without data."""
    rng = np.random.default_rng([height, width, count])
    image = rng.integers(1, 9000, (count, height, width))
    image = np.where(make_mask(height, width), image, nodata)
    return image.astype(np.uint16)


def write_scene(path: Path, image: NDArray[Any] | None = None, **options: Any) -> Path:
    """Write a scene at 3 m."""
    options = {'nodata': 0, 'transform': from_origin(LEFT, TOP, 3, 3)} | options
    return write(path, make_image() if image is None else image, **options)


def backscatter(x: NDArray[Any], y: NDArray[Any]) -> NDArray[np.float64]:
    """VV and VH in dB at places in the CRS of the scene."""
    x, y = x - LEFT, y - TOP
    return np.stack([-12 + x / 300 + y / 500, -20 + x / 400 - y / 300])


def write_radar(path: Path, size: int = 400, **options: Any) -> Path:
    """Write Sentinel-1 in the next zone at 10 m, around the first 400 pixels.

    Args:
        path: Where to.
        size: Number of rows and columns.
        **options: ``holes``, where there is none but ``fill``, ``linear``, and those of the
            file.
    """
    (x, *_), (y, *_) = transform(CRS, RADAR_CRS, [LEFT], [TOP])[:2]
    left, top = round(x, -1) - 500, round(y, -1) + 500
    eastings, northings = np.meshgrid(
        left + 10 * (np.arange(size) + 0.5), top - 10 * (np.arange(size) + 0.5)
    )
    places = transform(RADAR_CRS, CRS, eastings.ravel(), northings.ravel())[:2]
    values = backscatter(*(np.reshape(place, (size, size)) for place in places))
    if options.pop('linear', False):
        values = 10 ** (values / 10)
    if 'holes' in options:
        values[:, options.pop('holes')] = options.pop('fill', np.nan)
    grid = {'crs': RADAR_CRS, 'transform': from_origin(left, top, 10, 10)}
    return write(path, values.astype(np.float32), **(grid | options))


def expected_radar(height: int, width: int) -> NDArray[np.float64]:
    """What Sentinel-1 is on the grid of the scene."""
    x, y = np.meshgrid(
        LEFT + 3 * (np.arange(width) + 0.5), TOP - 3 * (np.arange(height) + 0.5)
    )
    return backscatter(x, y)


def read(path: Path) -> NDArray[Any]:
    with rasterio.open(path) as dataset:
        return dataset.read()


def names(folder: Path) -> set[str]:
    """Names of all that is in a folder."""
    return {path.name for path in folder.iterdir()}


def save_checkpoint(folder: Path, task: CloudRemoval | None = None) -> Path:
    """Write a checkpoint of a small network with random weights, or of a task."""
    torch.manual_seed(0)
    task = task or CloudRemoval(model_kwargs={'features': 8, 'num_blocks': 1})
    trainer = Trainer(accelerator='cpu', logger=False, default_root_dir=folder)
    trainer.strategy.connect(task)
    trainer.save_checkpoint(folder / 'task.ckpt')
    return folder / 'task.ckpt'


def planetcr(*args: str | Path, folder: Path | None = None) -> tuple[int, str, str]:
    """Run the command as a user calls it, in a folder.

    Returns:
        Exit status, and what it prints.
    """
    path = Path(sys.executable).with_name('planetcr')
    environment = {k: v for k, v in os.environ.items() if not k.startswith('PL_')}
    result = subprocess.run(
        [path, *args],
        check=False,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        cwd=folder,
        env=environment,
        timeout=300,
    )
    return result.returncode, result.stdout, result.stderr


class Convolution(nn.Module):
    """Sees three pixels in each direction."""

    #: Shapes of what the last one has seen, of its copies too.
    shapes: ClassVar[list[tuple[int, ...]]] = []

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = torch.randn(4, 6, 7, 7, generator=generator) / 20
        self.shapes.clear()

    def forward(self, image: Tensor, image_s1: Tensor) -> Tensor:
        self.shapes.append(tuple(image.shape))
        both = torch.cat([image, image_s1], dim=1)
        return torch.conv2d(both, self.weight, padding=3)


class Radar(nn.Module):
    """Gives back Sentinel-1 in its normalized form, twice."""

    def forward(self, image: Tensor, image_s1: Tensor) -> Tensor:
        return torch.cat([image_s1, image_s1], dim=1)


class Constant(nn.Module):
    """Gives the same everywhere."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, image: Tensor, image_s1: Tensor) -> Tensor:
        return torch.full_like(image, self.value)


class Darker(nn.Module):
    """Gives half of the reflectance."""

    def forward(self, image: Tensor, image_s1: Tensor) -> Tensor:
        return image / 2


class Failing(nn.Module):
    """Copies, and fails at one of its calls."""

    def __init__(self, error: BaseException, call: int) -> None:
        super().__init__()
        self.error, self.left = error, call

    def forward(self, image: Tensor, image_s1: Tensor) -> Tensor:
        self.left -= 1
        if not self.left:
            raise self.error
        return image
