# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Pictures of the report, as data: addresses that go into the page."""

import base64
import io
from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageColor
from torch import Tensor
from torchgeo.datasets.utils import Sample

from ...datasets import PlanetCRWorldCover
from ...datasets.modalities import REFLECTANCE_SCALE, RGB_INDICES
from ...datasets.plot import false_color, tone_curve, true_color

#: Largest error that the colors of an error map tell apart, in reflectance. It is the
#: same in every report, so that their maps can be compared.
LARGEST_ERROR = 0.2

#: Color of values that are not a number, as a diverged network gives them. It is none of
#: the colors of the scale of errors.
NAN_COLOR = '#00a0ff'

#: Names and colors of the classes of land cover.
CLASSES = (*PlanetCRWorldCover.classes[2], 'No land cover')
COLORS = (*PlanetCRWorldCover.colors[2], '#ffffff')


def optical_pictures(
    sample: Sample, predictions: Mapping[str, Tensor]
) -> tuple[str, dict[str, str], str]:
    """Show the optical images of a patch in true color, with one tone curve.

    Args:
        sample: A sample with ``image`` and ``image_clear``.
        predictions: Restored image of each method.

    Returns:
        Addresses of the cloudy image, the restored ones, and the clear one.
    """
    cloudy, clear = (_cpu(sample[key])[RGB_INDICES] for key in ('image', 'image_clear'))
    # No method changes how the other images look
    curve = tone_curve([clear, cloudy])

    def show(image: Tensor) -> str:
        return _encode(true_color(image.nan_to_num(), curve))

    restored = {
        name: show(_cpu(image)[RGB_INDICES]) for name, image in predictions.items()
    }
    return show(cloudy), restored, show(clear)


def error_picture(prediction: Tensor, target: Tensor) -> str:
    """Show the absolute error, mean over bands, from 0 to :data:`LARGEST_ERROR`.

    Args:
        prediction: Restored image of shape (4, H, W), reflectance x 10000.
        target: Clear image of shape (4, H, W), reflectance x 10000.

    Returns:
        Address of the picture.
    """
    error = (_cpu(prediction) - _cpu(target)).abs().mean(dim=0)
    return _encode(_error_colors(error.numpy() / REFLECTANCE_SCALE))


def error_scale() -> str:
    """Show the colors of error maps, from no error on the left to the largest.

    Returns:
        Address of the picture.
    """
    ramp = np.linspace(0, LARGEST_ERROR, 256)[np.newaxis]
    return _encode(_error_colors(ramp), lossless=True)


def radar_picture(image: Tensor) -> str:
    """Show Sentinel-1 in false color.

    Args:
        image: VV and VH in dB, of shape (2, H, W).

    Returns:
        Address of the picture.
    """
    return _encode(false_color(_cpu(image).nan_to_num()))


def landcover_picture(mask: Tensor) -> tuple[str, list[tuple[str, str]]]:
    """Show land cover.

    Args:
        mask: Index of the class of WorldCover, of shape (H, W), 255 where there is none.

    Returns:
        Address of the picture, and name and color of each class in it.
    """
    shown = mask.cpu().clamp(max=len(CLASSES) - 1)
    palette = np.array([ImageColor.getrgb(color) for color in COLORS]) / 255
    present = shown.unique().tolist()
    legend = [(CLASSES[index], COLORS[index]) for index in present]
    return _encode(palette[shown.numpy()], lossless=True), legend


def cloud_picture(mask: Tensor) -> str:
    """Show a cloud mask, cloud white.

    Args:
        mask: 1 where there is cloud, of shape (H, W).

    Returns:
        Address of the picture.
    """
    gray = mask.cpu().numpy()[..., np.newaxis].astype(np.float64)
    return _encode(gray.repeat(3, axis=-1), lossless=True)


def _error_colors(error: NDArray[np.floating]) -> NDArray[np.float64]:
    """Color an error in reflectance."""
    colormap = mpl.colormaps['inferno'].with_extremes(bad=NAN_COLOR)
    return colormap(error / LARGEST_ERROR)[..., :3]


def _cpu(image: Tensor) -> Tensor:
    """Bring an image to the CPU in float32, without its gradient."""
    return image.detach().cpu().to(torch.float32)


def _encode(image: NDArray[np.floating], lossless: bool = False) -> str:
    """Write (H, W, 3) brightness in [0, 1] as the address of a WebP picture."""
    buffer = io.BytesIO()
    picture = Image.fromarray((image * 255).round().astype(np.uint8))
    picture.save(buffer, 'WEBP', quality=90, lossless=lossless)
    return f'data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}'
