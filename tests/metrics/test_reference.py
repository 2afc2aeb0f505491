# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from torch import Tensor

from torchgeo_planetcr.metrics import (
    ImageMetric,
    ReferenceMAE,
    ReferencePSNR,
    ReferenceRMSE,
    ReferenceSAM,
    ReferenceSSIM,
)

Array = NDArray[np.float64]


def psnr(p: Array, t: Array) -> float:
    return float(20 * np.log10(1 / np.sqrt(np.mean((p - t) ** 2))))


def ssim(p: Array, t: Array) -> float:
    w = np.exp(-((np.arange(11) - 5.5) ** 2) / (2 * 1.5**2))
    window = np.outer(w, w) / w.sum() ** 2

    def local(x: Array) -> Array:
        views = sliding_window_view(
            np.pad(x, ((0, 0), (5, 5), (5, 5))), (11, 11), (1, 2)
        )
        return np.einsum('chwij,ij->chw', views, window)

    mp, mt = local(p), local(t)
    vp, vt, cov = local(p * p) - mp**2, local(t * t) - mt**2, local(p * t) - mp * mt
    numerator = (2 * mp * mt + 1e-4) * (2 * cov + 9e-4)
    return float(np.mean(numerator / ((mp**2 + mt**2 + 1e-4) * (vp + vt + 9e-4))))


def sam(p: Array, t: Array) -> float:
    angles = []
    for u, v in zip(p.reshape(len(p), -1).T, t.reshape(len(t), -1).T, strict=True):
        norm = np.sqrt(max(u @ u, 2**-10)) * np.sqrt(max(v @ v, 2**-10))
        angles.append(np.degrees(np.arccos(np.clip(u @ v / norm, -1, 1))))
    return float(np.mean(angles))


def mae(p: Array, t: Array) -> float:
    return float(np.mean(np.abs(p - t)))


def rmse(p: Array, t: Array) -> float:
    return float(np.sqrt(np.mean((p - t) ** 2)))


EXPECTED: dict[type[ImageMetric], Callable[[Array, Array], float]] = {
    ReferencePSNR: psnr,
    ReferenceSSIM: ssim,
    ReferenceSAM: sam,
    ReferenceMAE: mae,
    ReferenceRMSE: rmse,
}


@pytest.fixture
def images() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(5, 4, 20, 31, generator=generator)
    # Dark pixels, whose norm is raised
    target[:, :, :5] *= 0.01
    noise = torch.randn(target.shape, generator=generator)
    levels = torch.tensor([0.01, 0.05, 0.1, 0.2, 0.5])[:, None, None, None]
    # Not clamped
    return target + levels * noise, target


@pytest.mark.parametrize('metric_class', EXPECTED)
def test_formula(
    metric_class: type[ImageMetric], images: tuple[Tensor, Tensor]
) -> None:
    expected = [
        EXPECTED[metric_class](p.double().numpy(), t.double().numpy())
        for p, t in zip(*images, strict=True)
    ]
    metric = metric_class()
    assert metric.image_values(*images).tolist() == pytest.approx(expected, rel=1e-5)
    metric.update(*images)
    assert metric.compute().item() == pytest.approx(np.mean(expected), rel=1e-5)


def test_psnr_and_rmse_agree(images: tuple[Tensor, Tensor]) -> None:
    psnr = ReferencePSNR().image_values(*images)
    rmse = ReferenceRMSE().image_values(*images)
    torch.testing.assert_close(psnr, -20 * rmse.log10())


def test_ssim_window_is_off_center() -> None:
    """The center of the window lies half a pixel below and to the right."""
    ssim = ReferenceSSIM()
    impulse = torch.zeros(1, 1, 21, 21)
    impulse[..., 10, 10] = 1
    window = ssim._local_mean(impulse)[0, 0]
    assert window.sum().item() == pytest.approx(1, abs=1e-6)
    assert window[10, 9] == window[10, 10]
    assert window[9, 10] == window[10, 10]
    assert window[10, 11] < window[10, 10]


def test_sam_of_black_pixels() -> None:
    black = torch.zeros(1, 4, 8, 8)
    metric = ReferenceSAM()
    metric.update(black, black)
    assert metric.compute().item() == pytest.approx(90)
