# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from torchgeo_planetcr.metrics import (
    ImageMetric,
    StandardMAE,
    StandardPSNR,
    StandardRMSE,
    StandardSAM,
    StandardSSIM,
)

Array = NDArray[np.float64]


def psnr(p: Array, t: Array) -> float:
    squares = [(x - y) ** 2 for x, y in zip(p.ravel(), t.ravel())]
    return min(100, 10 * math.log10(len(squares) / math.fsum(squares)))


def ssim(p: Array, t: Array) -> float:
    w = [math.exp(-(i**2) / (2 * 1.5**2)) for i in range(-5, 6)]
    window = np.outer(w, w)
    window /= window.sum()
    values = []
    for x, y in zip(p, t):
        x, y = (np.pad(z, 5, 'reflect') for z in (x, y))
        for row in range(p.shape[1]):
            for col in range(p.shape[2]):
                place = slice(row, row + 11), slice(col, col + 11)
                a, b = x[place], y[place]
                ma, mb = (window * a).sum(), (window * b).sum()
                va, vb = (window * (a - ma) ** 2).sum(), (window * (b - mb) ** 2).sum()
                cov = (window * (a - ma) * (b - mb)).sum()
                values.append(
                    (2 * ma * mb + 0.01**2)
                    * (2 * cov + 0.03**2)
                    / ((ma**2 + mb**2 + 0.01**2) * (va + vb + 0.03**2))
                )
    return float(np.mean(values))


def angle(u: Array, v: Array) -> float:
    if not u.any() and not v.any():
        return 0
    if not u.any() or not v.any():
        return 90
    cosine = u @ v / math.sqrt(u @ u) / math.sqrt(v @ v)
    return math.degrees(math.acos(min(cosine, 1)))


def sam(p: Array, t: Array) -> float:
    pairs = zip(p.reshape(len(p), -1).T, t.reshape(len(t), -1).T)
    return float(np.mean([angle(u, v) for u, v in pairs]))


def mae(p: Array, t: Array) -> float:
    return float(np.mean([abs(x - y) for x, y in zip(p.ravel(), t.ravel())]))


def rmse(p: Array, t: Array) -> float:
    return math.sqrt(np.mean([(x - y) ** 2 for x, y in zip(p.ravel(), t.ravel())]))


EXPECTED: dict[type[ImageMetric], Callable[[Array, Array], float]] = {
    StandardPSNR: psnr,
    StandardSSIM: ssim,
    StandardSAM: sam,
    StandardMAE: mae,
    StandardRMSE: rmse,
}


@pytest.fixture
def images() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(4, 4, 13, 17, generator=generator)
    target[:, :, :3] *= 0.001
    noise = torch.randn(target.shape, generator=generator)
    levels = torch.tensor([0.001, 0.05, 0.2, 0.5])[:, None, None, None]
    # Beyond [0, 1] on both sides
    prediction = target + levels * noise
    prediction[:, :, 5, :4] = -0.1
    target[:, :, 5, 2:6] = 0
    return prediction, target * 1.1


@pytest.mark.parametrize('metric_class', EXPECTED)
def test_formula(
    metric_class: type[ImageMetric], images: tuple[Tensor, Tensor]
) -> None:
    arrays = (image.double().clamp(0, 1).numpy() for image in images)
    expected = [EXPECTED[metric_class](p, t) for p, t in zip(*arrays)]
    metric = metric_class()
    assert metric.image_values(*images).tolist() == pytest.approx(expected, rel=1e-5)
    metric.update(*images)
    assert metric.compute().item() == pytest.approx(np.mean(expected), rel=1e-5)


def test_psnr_is_limited() -> None:
    target = torch.full((1, 4, 8, 8), 0.5)
    for error, expected in ((0, 100), (5e-6, 100), (1e-3, 60)):
        found = StandardPSNR().image_values(target + error, target)
        assert found.item() == pytest.approx(expected, rel=1e-3)
    # Errors beyond [0, 1] do not count
    assert StandardPSNR().image_values(target + 1, target + 7) == 100


def test_ssim_window_is_centered() -> None:
    """Mirrored images are as similar as the originals."""
    generator = torch.Generator().manual_seed(0)
    prediction, target = torch.rand(2, 1, 4, 12, 15, generator=generator)
    metric = StandardSSIM()
    value = metric.image_values(prediction, target).item()
    for dims in ((2,), (3,), (2, 3)):
        flipped = prediction.flip(dims), target.flip(dims)
        assert metric.image_values(*flipped).item() == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize('size', [(5, 20), (20, 5)])
def test_ssim_of_small_images(size: tuple[int, int]) -> None:
    image = torch.rand(1, 4, *size)
    with pytest.raises(ValueError, match=f'at least 6 x 6 pixels, got {size[0]} x'):
        StandardSSIM().update(image, image)
    image = torch.rand(1, 4, 6, 6)
    assert StandardSSIM().image_values(image, image).item() == pytest.approx(1)


def test_sam_of_black_pixels() -> None:
    """Pairs in which the prediction, the target, both or none are black."""
    prediction, target = torch.zeros(2, 1, 4, 2, 2)
    prediction[..., 1, :] = 0.3
    target[..., 1] = 0.2
    # Negative values are black once they are clamped
    prediction[:, 2, 0] = -0.1
    angles = StandardSAM().pixel_values(prediction, target)
    assert angles[0].tolist() == [[0, 90], [90, pytest.approx(0, abs=1e-4)]]
    assert StandardSAM().image_values(prediction, target).item() == pytest.approx(45)


@pytest.mark.parametrize('brightness', [1e-4, 0.01, 1])
@pytest.mark.parametrize('expected', [0, 1e-3, 0.1, 1, 30, 90])
def test_small_angles(brightness: float, expected: float) -> None:
    """Small angles are exact, unlike those of an arc cosine in float32."""
    radians = math.radians(expected)
    p = torch.tensor([math.cos(radians), math.sin(radians), 0, 0])
    t = torch.tensor([1.0, 0, 0, 0])
    # The angle does not depend on the brightness of either
    images = (brightness * p)[None, :, None, None], (0.5 * t)[None, :, None, None]
    assert StandardSAM().pixel_values(*images).item() == pytest.approx(
        expected, rel=1e-5
    )


def test_sam_of_equal_pixels() -> None:
    target = torch.rand(1, 4, 30, 30, generator=torch.Generator().manual_seed(0))
    assert StandardSAM().image_values(target, target) == 0
    assert StandardSAM().image_values(target * 0.5, target).item() < 1e-4
