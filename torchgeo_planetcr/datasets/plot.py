# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Figures of Planet-CR samples."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray
from torch import Tensor
from torchgeo.datasets.utils import Sample

#: Ranges that a figure shows, in dB.
VV_RANGE = (-25.0, 0.0)
VH_RANGE = (-32.0, -7.0)
RATIO_RANGE = (-5.0, 20.0)

#: Least range of reflectance x 10000 that a stretch covers.
LEAST_CONTRAST = 250


def plot_sample(
    sample: Sample,
    rgb_indices: Sequence[int],
    classes: Sequence[str],
    colors: Sequence[str],
    show_titles: bool = True,
    suptitle: str | None = None,
) -> Figure:
    """Plot what is in a sample.

    The optical panels share one tone curve, so that they can be compared: steep over
    what the ground reflects, then flat up to the brightest cloud, so that haze and thin
    cloud keep their structure.

    Args:
        sample: a sample with some of ``image``, ``prediction`` (an optical image, or
            land cover if it has two dimensions), ``image_clear``, ``image_s1`` (dB),
            ``mask`` and ``mask_cloud``
        rgb_indices: positions of red, green and blue in the optical images
        classes: names of the land-cover classes
        colors: colours of the land-cover classes
        show_titles: flag indicating whether to show titles above each panel
        suptitle: optional string to use as a suptitle

    Returns:
        a matplotlib Figure with one panel for each key that is there

    Raises:
        ValueError: If none of the keys is there
    """
    optical = {
        'image': 'Cloudy',
        'prediction': 'Prediction',
        'image_clear': 'Cloud-free',
    }
    rgb = list(rgb_indices)
    others = {
        'image_s1': 'Sentinel-1 (VV, VH)',
        'mask': 'Land cover',
        'mask_cloud': 'Cloud mask',
    }
    if 'prediction' in sample and sample['prediction'].ndim == 2:
        others['prediction'] = optical.pop('prediction')
    titles = {key: t for key, t in (optical | others).items() if key in sample}
    if not titles:
        raise ValueError(f'sample has none of {", ".join(optical | others)}')
    images = {key: sample[key].detach().cpu() for key in titles}
    # A prediction, which may be off, decides only where nothing measured does.
    measured = [key for key in ('image_clear', 'image') if key in images]
    ground_first = [
        images[key][rgb].float() for key in measured or optical if key in images
    ]
    curve = tone_curve(ground_first)
    fig, axes = plt.subplots(
        ncols=len(titles),
        figsize=(3.2 * len(titles), 4.6),
        squeeze=False,
        layout='constrained',
    )
    for axis, (key, title) in zip(axes.flat, titles.items()):
        value = images[key]
        match key:
            case 'image_s1':
                axis.imshow(false_color(value))
            case 'mask' | 'prediction' if key in others:
                _plot_landcover(axis, value, classes, colors)
            case 'mask_cloud':
                axis.imshow(
                    value.numpy(), cmap='gray', vmin=0, vmax=1, interpolation='none'
                )
            case _:
                axis.imshow(true_color(value[rgb].float(), curve))
        axis.set(xticks=[], yticks=[])
        if show_titles:
            axis.set_title(title)
    if suptitle is not None:
        fig.suptitle(suptitle)
    return fig


def tone_curve(images: Sequence[Tensor]) -> tuple[list[float], list[float]]:
    """Tone curve of a group of images.

    Args:
        images: (3, H, W) red, green and blue, the least cloudy one first.

    Returns:
        Reflectance x 10000 and brightness in [0, 1] of the points of the curve, for
        :func:`numpy.interp`.
    """
    valid = [image[:, (image != 0).any(dim=0)].numpy() for image in images]
    valid = [pixels for pixels in valid if pixels.size]
    if not valid:
        return [0, 1, 2], [0, 0.85, 1]
    # Shadow may be darker than anything on the ground.
    lower = min(np.quantile(pixels, 0.01) for pixels in valid)
    # Without a least contrast, noise would fill the range over dark water.
    upper = np.quantile(valid[0].max(axis=0), 0.98)
    upper = max(upper, lower + LEAST_CONTRAST)
    brightest = max(np.quantile(pixels, 0.995) for pixels in valid)
    return [lower, upper, max(brightest, 1.2 * upper)], [0, 0.85, 1]


def true_color(
    image: Tensor, curve: tuple[list[float], list[float]]
) -> NDArray[np.float64]:
    """Show reflectance through a tone curve, brighter or darker in its own hue.

    Args:
        image: (3, H, W) red, green and blue, reflectance x 10000.
        curve: what :func:`tone_curve` returns.

    Returns:
        (H, W, 3) brightness in [0, 1].
    """
    lower = curve[0][0]
    bands = (image.numpy() - lower).clip(min=0)
    brightest = bands.max(axis=0)
    tone = np.interp(brightest + lower, *curve)
    return (bands * tone / brightest.clip(min=1)).transpose(1, 2, 0)


def false_color(image: Tensor) -> NDArray[np.float32]:
    """Show VV and VH as red and green, and their difference as blue.

    Args:
        image: (2, H, W) VV and VH in dB.

    Returns:
        (H, W, 3) brightness in [0, 1].
    """
    vv, vh = image.numpy()
    ranges = ((vv, VV_RANGE), (vh, VH_RANGE), (vv - vh, RATIO_RANGE))
    bands = [(band - low) / (high - low) for band, (low, high) in ranges]
    return np.stack(bands, axis=-1).clip(0, 1)


def _plot_landcover(
    axis: Axes, mask: Tensor, classes: Sequence[str], colors: Sequence[str]
) -> None:
    """Draw (H, W) class indices with a legend of those that are there."""
    # 255, no land cover, is beyond the last class and becomes white.
    palette = ListedColormap([*colors, 'white'])
    shown = mask.clamp(max=len(classes))
    axis.imshow(
        shown.numpy(),
        cmap=palette,
        vmin=-0.5,
        vmax=len(classes) + 0.5,
        interpolation='none',
    )
    names = [*classes, 'No land cover']
    handles = [
        Patch(facecolor=palette(index), edgecolor='gray', label=names[index])
        for index in shown.unique().tolist()
    ]
    axis.legend(
        handles=handles,
        loc='upper center',
        bbox_to_anchor=(0.5, 0),
        ncols=2,
        fontsize='small',
        frameon=False,
    )
