# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Figures of Planet-CR samples."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray
from torch import Tensor
from torchgeo.datasets.utils import Sample

from .modalities import MODALITIES, RGB_INDICES

CLOUDY, CLEAR = MODALITIES['cloudy'], MODALITIES['clear']
SENTINEL1, CLOUD_MASK = MODALITIES['sentinel1'], MODALITIES['cloud_mask']

#: Values of VV - VH that figures distinguish, in dB.
DIFFERENCE_RANGE = (-5.0, 20.0)

#: Least range of reflectance x 10000 that the steep part of a tone curve covers.
LEAST_CONTRAST = 250


def plot_sample(
    sample: Sample,
    classes: Sequence[str],
    colors: Sequence[str],
    show_titles: bool = True,
    suptitle: str | None = None,
) -> Figure:
    """Plot what is in a sample.

    The optical panels share one tone curve, so that they can be compared. It is steep over
    the reflectance of the ground, then flat up to the brightest cloud, so that haze and
    thin cloud keep their structure.

    Args:
        sample: A sample with some of ``image``, ``prediction`` (an optical image, or
            land cover if it has two dimensions), ``image_clear``, ``image_s1`` (dB),
            ``mask`` and ``mask_cloud``.
        classes: Names of the land-cover classes.
        colors: Colors of the land-cover classes.
        show_titles: Whether to show a title above each panel.
        suptitle: Title of the whole figure.

    Returns:
        A matplotlib Figure with one panel for each of these keys in the sample.

    Raises:
        ValueError: If the sample has none of these keys.
    """
    panels = _panels(sample)
    images = {key: sample[key].detach().cpu() for key in panels}
    curve = tone_curve([images[key][RGB_INDICES].float() for key in _measured(images)])
    fig, axes = plt.subplots(
        ncols=len(panels),
        figsize=(3.2 * len(panels), 4.6),
        squeeze=False,
        layout='constrained',
    )
    for axis, (key, title) in zip(axes.flat, panels.items()):
        value = images[key]
        if key == SENTINEL1.key:
            axis.imshow(false_color(value))
        elif key == CLOUD_MASK.key:
            axis.imshow(
                value.numpy(), cmap='gray', vmin=0, vmax=1, interpolation='none'
            )
        elif value.ndim == 2:
            _plot_landcover(axis, value, classes, colors)
        else:
            axis.imshow(true_color(value[RGB_INDICES].float(), curve))
        axis.set(xticks=[], yticks=[])
        if show_titles:
            axis.set_title(title)
    if suptitle is not None:
        fig.suptitle(suptitle)
    return fig


def _panels(sample: Sample) -> dict[str, str]:
    """Titles of the panels of a sample, by their keys."""
    titles = {row.key: row.title for row in MODALITIES.values()}
    titles[SENTINEL1.key] += f' ({", ".join(SENTINEL1.bands)})'
    restored = {'prediction': 'Restored'}
    if 'prediction' in sample and sample['prediction'].ndim == 2:
        titles['prediction'] = 'Predicted land cover'
    else:
        # Next to the cloudy image that it was restored from
        titles = {CLOUDY.key: titles.pop(CLOUDY.key), **restored, **titles}
    panels = {key: title for key, title in titles.items() if key in sample}
    if not panels:
        raise ValueError(f'sample has none of {", ".join(titles)}')
    return panels


def _measured(images: Mapping[str, Tensor]) -> list[str]:
    """Keys of the optical images that decide on the tone curve, the clear one first."""
    measured = [row.key for row in (CLEAR, CLOUDY) if row.key in images]
    if not measured and 'prediction' in images and images['prediction'].ndim == 3:
        # A restored image may be far off, and decides only if it is the only image.
        return ['prediction']
    return measured


def tone_curve(images: Sequence[Tensor]) -> tuple[list[float], list[float]]:
    """Tone curve of a group of images.

    Args:
        images: Red, green and blue (3, H, W), the least cloudy one first.

    Returns:
        Reflectance x 10000 and brightness in [0, 1] of the points of the curve, for
        :func:`numpy.interp`.
    """
    valid = [image[:, (image != CLEAR.nodata).any(dim=0)].numpy() for image in images]
    valid = [pixels for pixels in valid if pixels.size]
    if not valid:
        return [0, 1, 2], [0, 0.85, 1]
    # Shadow in any image may be darker than the ground in the first.
    lower = min(np.quantile(pixels, 0.01) for pixels in valid)
    # Without a least contrast, noise would fill the range over dark water.
    upper = np.quantile(valid[0].max(axis=0), 0.98)
    upper = max(upper, lower + LEAST_CONTRAST)
    brightest = max(np.quantile(pixels, 0.995) for pixels in valid)
    return [lower, upper, max(brightest, 1.2 * upper)], [0, 0.85, 1]


def true_color(
    image: Tensor, curve: tuple[list[float], list[float]]
) -> NDArray[np.float64]:
    """Apply a tone curve to reflectance, which changes brightness but not hue.

    Args:
        image: Red, green and blue (3, H, W), reflectance x 10000.
        curve: What :func:`tone_curve` returns.

    Returns:
        Brightness (H, W, 3) in [0, 1].
    """
    lower = curve[0][0]
    bands = (image.numpy() - lower).clip(min=0)
    brightest = bands.max(axis=0)
    tone = np.interp(brightest + lower, *curve)
    return (bands * tone / brightest.clip(min=1)).transpose(1, 2, 0)


def false_color(image: Tensor) -> NDArray[np.float32]:
    """Show VV and VH as red and green, and their difference as blue.

    Args:
        image: VV and VH (2, H, W) in dB.

    Returns:
        Brightness (H, W, 3) in [0, 1].
    """
    vv, vh = image.numpy()
    ranges = (*SENTINEL1.shown, DIFFERENCE_RANGE)
    bands = [
        (band - low) / (high - low)
        for band, (low, high) in zip((vv, vh, vv - vh), ranges)
    ]
    return np.stack(bands, axis=-1).clip(0, 1)


def _plot_landcover(
    axis: Axes, mask: Tensor, classes: Sequence[str], colors: Sequence[str]
) -> None:
    """Draw class indices (H, W) with a legend of the classes that occur."""
    # 255 (no land cover) is beyond the last class and becomes white.
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
