# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from torch import Tensor

from torchgeo_planetcr.metrics import (
    ReferenceMAE,
    ReferenceMetric,
    ReferencePSNR,
    ReferenceSAM,
    ReferenceSSIM,
)

Array = NDArray[np.float64]

METRICS = (ReferencePSNR, ReferenceSSIM, ReferenceSAM, ReferenceMAE)


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


EXPECTED: dict[type[ReferenceMetric], Callable[[Array, Array], float]] = {
    ReferencePSNR: psnr,
    ReferenceSSIM: ssim,
    ReferenceSAM: sam,
    ReferenceMAE: mae,
}


@pytest.fixture
def images() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(5, 4, 20, 31, generator=generator)
    # Dark pixels, for which the norm is raised
    target[:, :, :5] *= 0.01
    noise = torch.randn(target.shape, generator=generator)
    levels = torch.tensor([0.01, 0.05, 0.1, 0.2, 0.5])[:, None, None, None]
    # Not clamped
    return target + levels * noise, target


@pytest.mark.parametrize('metric_class', METRICS)
class TestReferenceMetrics:
    def test_formula(
        self, metric_class: type[ReferenceMetric], images: tuple[Tensor, Tensor]
    ) -> None:
        expected = np.mean(
            [
                EXPECTED[metric_class](p.double().numpy(), t.double().numpy())
                for p, t in zip(*images, strict=True)
            ]
        )
        metric = metric_class()
        metric.update(*images)
        assert metric.compute().item() == pytest.approx(expected, rel=1e-5)

    @pytest.mark.parametrize(
        'splits', [(0, 5), (0, 1, 2, 3, 4, 5), (0, 2, 5), (0, 4, 5)]
    )
    def test_batches(
        self,
        metric_class: type[ReferenceMetric],
        images: tuple[Tensor, Tensor],
        splits: tuple[int, ...],
    ) -> None:
        whole, parts = metric_class(), metric_class()
        whole.update(*images)
        order = torch.randperm(5, generator=torch.Generator().manual_seed(1))
        for start, stop in pairwise(splits):
            parts.update(*(x[order[start:stop]] for x in images))
        assert parts.compute().item() == pytest.approx(whole.compute().item(), rel=1e-6)

    def test_processes(
        self, metric_class: type[ReferenceMetric], images: tuple[Tensor, Tensor]
    ) -> None:
        whole, first, second = metric_class(), metric_class(), metric_class()
        whole.update(*images)
        first.update(*(x[:2] for x in images))
        second.update(*(x[2:] for x in images))
        first.merge_state(second)
        assert first.compute().item() == pytest.approx(whole.compute().item(), rel=1e-6)

    def test_reset(
        self, metric_class: type[ReferenceMetric], images: tuple[Tensor, Tensor]
    ) -> None:
        metric = metric_class()
        metric.update(*images)
        first = metric.compute()
        metric.reset()
        assert metric.count == 0
        metric.update(*images)
        assert metric.compute() == first

    def test_precision(
        self, metric_class: type[ReferenceMetric], images: tuple[Tensor, Tensor]
    ) -> None:
        expected, metric = metric_class(), metric_class()
        half = images[0].bfloat16(), images[1]
        expected.update(half[0].float(), half[1])
        with torch.autocast('cpu', torch.bfloat16):
            metric.update(*half)
        assert metric.compute() == expected.compute()
        assert metric.compute().dtype == torch.float64

    @pytest.mark.parametrize('shape', [(4, 20, 31), (5, 4, 20, 30), (1, 4, 20, 31)])
    def test_invalid_shape(
        self,
        metric_class: type[ReferenceMetric],
        images: tuple[Tensor, Tensor],
        shape: tuple[int, ...],
    ) -> None:
        with pytest.raises(
            ValueError, match='prediction and target must have the same'
        ):
            metric_class().update(torch.rand(shape), images[1])


class TestPerfectPrediction:
    @pytest.mark.parametrize(
        ('metric_class', 'expected', 'tolerance'),
        [
            (ReferencePSNR, 100, 0),
            (ReferenceSSIM, 1, 1e-6),
            # The arc cosine turns one unit in the last place of 1 into 0.02 degrees
            (ReferenceSAM, 0, 0.05),
            (ReferenceMAE, 0, 0),
        ],
    )
    def test_value(
        self, metric_class: type[ReferenceMetric], expected: float, tolerance: float
    ) -> None:
        target = 0.1 + torch.rand(3, 4, 16, 16, generator=torch.manual_seed(0))
        metric = metric_class()
        metric.update(target, target)
        assert metric.compute().item() == pytest.approx(expected, abs=tolerance)

    def test_one_of_two(self, images: tuple[Tensor, Tensor]) -> None:
        prediction, target = (x[:2].clone() for x in images)
        prediction[0] = target[0]
        metric, other = ReferencePSNR(), ReferencePSNR()
        metric.update(prediction, target)
        other.update(prediction[1:], target[1:])
        assert metric.compute() == (100 + other.compute()) / 2


def test_ssim_window_is_off_center() -> None:
    """An impulse up and to the left is seen from farther away than one on the right."""
    ssim = ReferenceSSIM()
    impulse = torch.zeros(1, 1, 21, 21)
    impulse[..., 10, 10] = 1
    window = ssim._local_mean(impulse)[0, 0]
    assert window.sum().item() == pytest.approx(1, abs=1e-6)
    assert window[10, 9] == window[10, 10]
    assert window[9, 10] == window[10, 10]
    assert window[10, 11] < window[10, 10]


def test_higher_is_better() -> None:
    assert [metric_class.higher_is_better for metric_class in METRICS] == [
        True,
        True,
        False,
        False,
    ]


def test_sam_of_black_pixels() -> None:
    black = torch.zeros(1, 4, 8, 8)
    metric = ReferenceSAM()
    metric.update(black, black)
    assert metric.compute().item() == pytest.approx(90)
