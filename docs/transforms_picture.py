# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Make the pictures of augmentations for the documentation.

    python docs/transforms_picture.py

Everything in them is simulated. It takes half a minute on two CPU cores.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.utils.data import DataLoader
from torchgeo.datasets import stack_samples
from torchgeo.datasets.utils import Sample

from torchgeo_planetcr import PlanetCR
from torchgeo_planetcr.datasets.modalities import REFLECTANCE_SCALE, RGB_INDICES
from torchgeo_planetcr.datasets.plot import false_color, tone_curve, true_color
from torchgeo_planetcr.samplers import CenterNativePatchSampler
from torchgeo_planetcr.simulation import simulate
from torchgeo_planetcr.transforms import (
    PlanetCRNormalize,
    RandomBackscatterGain,
    RandomCloudPaste,
    RandomClouds,
    RandomModalityDropout,
    RandomSpeckle,
)

PICTURES = Path(__file__).parent / '_static' / 'transforms'

#: Number of areas of the simulated world, and seed of its random numbers.
AREAS, SEED = 12, 0

normalize = PlanetCRNormalize()


def load_batch(root: Path) -> Sample:
    """Load a patch of each area of the training split, as one batch."""
    simulate(root, areas=AREAS, patches=1, seed=SEED)
    dataset = PlanetCR(root, split='train')
    loader = DataLoader(
        dataset,
        batch_size=len(dataset),
        sampler=CenterNativePatchSampler(dataset, size=None),
        collate_fn=stack_samples,
    )
    return normalize(next(iter(loader)))


def true_colors(*images: Tensor, clear: Tensor) -> list[ArrayLike]:
    """Draw normalized images in true color, with the tone curve of a clear one."""
    images = (clear, *images)
    stored = [REFLECTANCE_SCALE * image[RGB_INDICES] for image in images]
    curve = tone_curve(stored)
    return [true_color(image, curve) for image in stored[1:]]


def false_colors(image_s1: Tensor) -> ArrayLike:
    """Draw normalized Sentinel-1 in false color."""
    return false_color(normalize.inverse({'image_s1': image_s1})['image_s1'])


def draw(name: str, rows: list[dict[str, ArrayLike]]) -> None:
    """Draw rows of panels.

    Args:
        name: Name of the picture.
        rows: Panels of each row by title. Only the titles of the first row are drawn.
    """
    columns = len(rows[0])
    fig, axes = plt.subplots(
        len(rows),
        columns,
        figsize=(2.8 * columns, 2.8 * len(rows) + 0.3),
        squeeze=False,
        layout='constrained',
    )
    for axis, title in zip(axes[0], rows[0], strict=True):
        axis.set_title(title)
    panels = [panel for row in rows for panel in row.values()]
    for axis, panel in zip(axes.flat, panels, strict=True):
        axis.imshow(panel, cmap='gray', vmin=0, vmax=1)
        axis.set(xticks=[], yticks=[])
    PICTURES.mkdir(parents=True, exist_ok=True)
    fig.savefig(
        PICTURES / f'{name}.jpg',
        dpi=100,
        bbox_inches='tight',
        pil_kwargs={'quality': 80},
    )
    plt.close(fig)


def draw_clouds(batch: Sample) -> None:
    """Draw two clear images with simulated clouds."""
    torch.manual_seed(4)
    output = RandomClouds(p=1)(batch)
    rows = []
    for i in (1, 4):
        clear = batch['image_clear'][i]
        before, after = true_colors(clear, output['image'][i], clear=clear)
        rows.append(
            {
                'image_clear': before,
                'image': after,
                'mask_cloud': output['mask_cloud'][i],
            }
        )
    draw('clouds', rows)


def draw_cloud_paste(batch: Sample) -> None:
    """Draw pairs of cloudy images, and the first of each with the clouds of both."""
    torch.manual_seed(0)
    rows = []
    for pair in ([7, 2], [8, 7]):
        two = {key: value[pair] for key, value in batch.items()}
        output = RandomCloudPaste(p=1)(two)
        (donor,) = true_colors(two['image'][1], clear=two['image_clear'][1])
        before, after = true_colors(
            two['image'][0], output['image'][0], clear=two['image_clear'][0]
        )
        rows.append(
            {
                'image': before,
                'image of another sample': donor,
                'image after': after,
                'mask_cloud after': output['mask_cloud'][0],
            }
        )
    draw('cloud_paste', rows)


def draw_sentinel1(batch: Sample) -> None:
    """Draw the augmentations of Sentinel-1."""
    image_s1 = batch['image_s1'][1:2]
    panels = {'image_s1': false_colors(image_s1[0])}
    torch.manual_seed(0)
    for looks in (20, 5):
        speckled = RandomSpeckle((looks, looks), p=1)(image_s1)
        panels[f'speckle of {looks} looks'] = false_colors(speckled[0])
    draw('speckle', [panels])

    panels = {'image_s1': false_colors(image_s1[0])}
    for vv, vh in ((1.5, -1.5), (-1.5, 1.5)):
        params = {'vv': torch.tensor([vv]), 'vh': torch.tensor([vh])}
        changed = RandomBackscatterGain(p=1)(image_s1, params=params)
        panels[f'{vv:+} dB in VV, {vh:+} dB in VH'] = false_colors(changed[0])
    draw('gain', [panels])

    missing = RandomModalityDropout(p=1)(image_s1)
    draw(
        'dropout',
        [
            {
                'image_s1': false_colors(image_s1[0]),
                'no Sentinel-1': false_colors(missing[0]),
            }
        ],
    )


def main() -> None:
    """Simulate a world and draw the pictures."""
    with tempfile.TemporaryDirectory() as folder:
        batch = load_batch(Path(folder))
    draw_clouds(batch)
    draw_cloud_paste(batch)
    draw_sentinel1(batch)


if __name__ == '__main__':
    main()
