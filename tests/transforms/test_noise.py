# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

from typing import Any

import pytest
import torch
from torch import Tensor

from torchgeo_planetcr.transforms.noise import fractal_noise


def draw(seed: int, count: int = 3, **kwargs: Any) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    settings: dict[str, Any] = {'exponent': 3.0, 'scale': 30.0, **kwargs}
    return fractal_noise(count, 60, 90, generator=generator, **settings)


def roughness(field: Tensor, dim: int) -> Tensor:
    """Mean square difference of neighbors."""
    return field.diff(dim=dim).square().mean()


def test_moments() -> None:
    field = draw(0)
    assert field.shape == (3, 60, 90)
    torch.testing.assert_close(field.mean((1, 2)), torch.zeros(3), rtol=0, atol=1e-5)
    torch.testing.assert_close(field.std((1, 2)), torch.ones(3))


def test_seed() -> None:
    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))
    first, second, _ = draw(1)
    assert not torch.equal(first, second)


@pytest.mark.parametrize('stretch', [1.0, 2.0])
def test_spectrum(stretch: float) -> None:
    """The mean spectrum of many fields is that of von Kármán."""
    exponent, scale = 3.0, 15.0
    fields = draw(0, 2000, exponent=exponent, scale=scale, stretch=stretch)
    power = torch.fft.rfft2(fields).abs().square().mean(dim=0)
    rows = torch.fft.fftfreq(60)[:, None]
    columns = stretch * torch.fft.rfftfreq(90)
    expected = (rows**2 + columns**2 + scale**-2) ** (-exponent / 2)
    expected[0, 0] = 0
    ratio = (power / expected)[1:, 1:-1]
    # Four standard deviations of the mean of 2000 exponentially distributed numbers
    torch.testing.assert_close(
        ratio / ratio.mean(), torch.ones_like(ratio), rtol=0, atol=0.1
    )
    assert power[0, 0] < 1e-6 * power[0, 1]


def test_smoothness() -> None:
    rough, smooth = (draw(0, exponent=exponent) for exponent in (2.5, 4.0))
    assert roughness(smooth, 1) < 0.5 * roughness(rough, 1)


def test_stretch() -> None:
    """Features are longer along rows."""
    plain, long = (draw(0, 20, stretch=stretch) for stretch in (1.0, 3.0))
    assert 0.8 < roughness(plain, 1) / roughness(plain, 2) < 1.25
    assert roughness(long, 1) > 2 * roughness(long, 2)


def test_periodic() -> None:
    """Opposite edges are neighbors."""
    field = draw(0, 20)
    seam = (field[..., 0] - field[..., -1]).square().mean()
    assert 0.6 < seam / roughness(field, 2) < 1.6


def test_blur() -> None:
    """A blurred field is one that is convolved with a Gaussian, and has its moments."""
    sharp, blurred = draw(0), draw(0, blur=1.5)
    distance = torch.arange(-12, 13)
    weights = torch.softmax(-(distance**2) / (2 * 1.5**2), 0)
    for dim in (1, 2):
        sharp = sum(
            weight * sharp.roll(int(shift), dim)
            for weight, shift in zip(weights, distance, strict=True)
        )
    expected = sharp / sharp.std((1, 2), keepdim=True)
    torch.testing.assert_close(blurred, expected, rtol=0, atol=1e-3)
