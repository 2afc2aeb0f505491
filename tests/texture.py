# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Statistics of the texture of images, to be compared with those of real ones."""

import torch
import torch.nn.functional as F
from torch import Tensor


def grain(image: Tensor, low: float, high: float) -> float:
    """How much pixels differ from their surroundings.

    Args:
        image: Reflectance of B, G, R and NIR in [0, 1], of shape (4, H, W).
        low: Least mean of B, G and R of the pixels that count.
        high: Largest mean of B, G and R of the pixels that count.

    Returns:
        Root mean square of B, G, R minus their 3 x 3 mean, x 10000, NaN without pixels.
    """
    visible = image[:3].double()
    difference = (visible - F.avg_pool2d(visible, 3, 1, 1))[:, 1:-1, 1:-1]
    mean = visible.mean(dim=0)[1:-1, 1:-1]
    counted = difference[:, (low <= mean) & (mean < high)]
    return 10000 * float(counted.square().mean().sqrt())


def relative_steps(image: Tensor, low: float) -> Tensor:
    """How much pixels at distances of 1, 2, 4 and 8 differ, relative to 16.

    Args:
        image: Reflectance of B, G, R and NIR in [0, 1], of shape (4, H, W).
        low: Least mean of B, G and R of the pixels that count.

    Returns:
        Mean absolute differences of the mean of B, G and R along rows, of shape (4,).
    """
    mean = image[:3].double().mean(dim=0)
    steps = []
    for distance in (1, 2, 4, 8, 16):
        first, second = mean[:, :-distance], mean[:, distance:]
        steps.append((first - second)[(first > low) & (second > low)].abs().mean())
    return torch.stack(steps[:4]) / steps[4]
