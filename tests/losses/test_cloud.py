# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import numpy as np
import pytest
import torch
from torch import Tensor

from torchgeo_planetcr.losses import (
    CARLLoss,
    CloudAwareLoss,
    EdgeWeightedCharbonnierLoss,
)


@pytest.fixture
def batch() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    prediction, target, image = torch.rand(3, 2, 4, 9, 7, generator=generator)
    mask_cloud = torch.randint(2, (2, 9, 7), generator=generator)
    return prediction, target, image, mask_cloud


def test_abstract() -> None:
    with pytest.raises(TypeError, match='abstract'):
        CloudAwareLoss()  # ty: ignore[abstract-class-instantiation]


class TestCARLLoss:
    def test_formula(self, batch: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
        p, t, c = (x.double().numpy() for x in batch[:3])
        m = batch[3].numpy()
        values = []
        for i in range(2):
            cloudy, clear = m[i] == 1, m[i] == 0
            kept = np.abs(p[i] - c[i])[:, clear].sum()
            restored = np.abs(p[i] - t[i])[:, cloudy].sum()
            values.append((kept + restored) / p[i].size + np.abs(p[i] - t[i]).mean())
        assert CARLLoss()(*batch).item() == pytest.approx(np.mean(values), rel=1e-6)

    def test_perfect(self, batch: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
        _, target, image, mask_cloud = batch
        image = torch.where(mask_cloud.unsqueeze(1) == 1, image, target)
        assert CARLLoss()(target, target, image, mask_cloud) == 0

    def test_gradient(self, batch: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
        prediction = batch[0].requires_grad_()
        CARLLoss()(*batch).backward()
        assert prediction.grad is not None
        assert prediction.grad.abs().max() <= 2 / prediction.numel() + 1e-9
        assert prediction.grad.any()


class TestEdgeWeightedCharbonnierLoss:
    def test_formula(self, batch: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
        p, t = (x.double().numpy() for x in batch[:2])
        m = batch[3].numpy()
        values = []
        for i in range(2):
            charbonnier = ((p[i] - t[i]) ** 2 + 1e-6) ** 0.45
            values.append((charbonnier * np.where(m[i] == 1, 6, 1)).mean())
        loss = EdgeWeightedCharbonnierLoss()(*batch).item()
        assert loss == pytest.approx(np.mean(values), rel=1e-6)

    def test_perfect(self, batch: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
        _, target, image, mask_cloud = batch
        target = target.requires_grad_()
        prediction = target.detach().clone().requires_grad_()
        loss = EdgeWeightedCharbonnierLoss()(prediction, target, image, mask_cloud)
        loss.backward()
        cloudiness = mask_cloud.double().mean().item()
        assert loss.item() == pytest.approx((1 + 5 * cloudiness) * 1e-6**0.45, rel=1e-5)
        # A power below one has no gradient at zero, which the small constant avoids
        assert prediction.grad is not None
        assert prediction.grad.isfinite().all()
