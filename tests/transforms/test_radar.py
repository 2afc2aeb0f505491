# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torchgeo.datasets.utils import Sample

from torchgeo_planetcr.datasets.modalities import MISSING_DECIBELS
from torchgeo_planetcr.transforms import (
    MISSING_BACKSCATTER,
    PlanetCRNormalize,
    RandomBackscatterGain,
    RandomModalityDropout,
    RandomSpeckle,
)

normalize = PlanetCRNormalize()


def to_decibels(image_s1: Tensor) -> Tensor:
    return normalize.inverse({'image_s1': image_s1})['image_s1']


def speckle(count: int = 1, size: int = 300, **kwargs: Any) -> Tensor:
    """Factors by which a flat image is multiplied."""
    torch.manual_seed(0)
    flat = torch.full((count, 2, size, size), 0.5)
    change = to_decibels(RandomSpeckle(p=1, **kwargs)(flat)) - to_decibels(flat)
    return 10 ** (change / 10)


def correlation(factor: Tensor, distance: int) -> float:
    first, second = factor[..., distance:].flatten(), factor[..., :-distance].flatten()
    return float(torch.corrcoef(torch.stack([first, second]))[0, 1])


class TestRandomSpeckle:
    @pytest.mark.parametrize('looks', [4, 20])
    def test_distribution(self, looks: float) -> None:
        """Mean, variance and skewness of a gamma distribution, in VV and in VH."""
        factor = speckle(looks=(looks, looks), pixel=1)
        for band in factor[0]:
            deviation = band - band.mean()
            # Several standard deviations of a mean of 90 000 numbers
            assert abs(band.mean() - 1) < 0.01
            assert abs(deviation.square().mean() * looks - 1) < 0.04
            skewness = deviation.pow(3).mean() / deviation.square().mean() ** 1.5
            assert abs(skewness - 2 / looks**0.5) < 0.1

    def test_independent(self) -> None:
        factor = speckle(count=2, looks=(5, 5), pixel=1)
        assert abs(correlation(factor, 1)) < 0.01
        (vv, vh), (other, _) = factor.flatten(2)
        table = torch.corrcoef(torch.stack([vv, vh, other]))
        torch.testing.assert_close(table, torch.eye(3), rtol=0, atol=0.02)

    def test_pixels_of_ten_meters(self) -> None:
        """Neighboring pixels of 3 m share speckle, which is weaker, of the same mean."""
        factor = speckle(looks=(5, 5))
        assert abs(factor.mean() - 1) < 0.01
        assert 0.2 < factor.var() * 5 < 0.6
        assert correlation(factor, 1) > 0.8
        assert abs(correlation(factor, 8)) < 0.03

    def test_looks(self) -> None:
        """Each sample has its own number of looks."""
        factor = speckle(count=40, size=60, looks=(5, 20), pixel=1)
        looks = 1 / factor.var(dim=(1, 2, 3))
        assert 4.5 < looks.min() < 8
        assert 16 < looks.max() < 23

    def test_clipped(self) -> None:
        image = torch.rand(1, 2, 50, 50)
        output = RandomSpeckle((0.1, 0.1), p=1)(image)
        assert output.min() == 0
        assert output.max() == 1

    def test_gradient(self) -> None:
        image = torch.full((1, 2, 20, 20), 0.5, requires_grad=True)
        RandomSpeckle(p=1)(image).sum().backward()
        assert image.grad is not None
        assert torch.equal(image.grad, torch.ones_like(image))

    @pytest.mark.parametrize('looks', [(0, 5), (-1, 5), (5, 4)])
    def test_looks_error(self, looks: tuple[float, float]) -> None:
        with pytest.raises(ValueError, match=r'looks=\(.*must be two positive numbers'):
            RandomSpeckle(looks)

    def test_pixel_error(self) -> None:
        with pytest.raises(ValueError, match=r'pixel=0\.5 must be at least 1'):
            RandomSpeckle(pixel=0.5)


class TestRandomBackscatterGain:
    def test_constant(self) -> None:
        """The gain is constant in dB within an image and a polarization."""
        torch.manual_seed(0)
        image = 0.3 + 0.4 * torch.rand(50, 2, 9, 7)
        output = RandomBackscatterGain((-3, 2), p=1)(image)
        change = to_decibels(output) - to_decibels(image)
        gain = change.mean(dim=(2, 3), keepdim=True)
        torch.testing.assert_close(change, gain.expand_as(change), rtol=0, atol=1e-4)
        for band in gain.squeeze().T:
            assert -3 < band.min() < -2.5
            assert 1.5 < band.max() < 2
        vv, vh = gain.squeeze().T
        assert abs(torch.corrcoef(torch.stack([vv, vh]))[0, 1]) < 0.3

    def test_before_or_after_normalization(self) -> None:
        """Including clipping, it is a gain of the values in the file."""
        decibels = torch.tensor([-24.0, -12, -0.5])[:, None].expand(1, 2, 3, 3)
        gain = torch.tensor([1.0, -2.0])
        params = {'vv': gain[:1], 'vh': gain[1:]}
        output = RandomBackscatterGain(p=1)(
            normalize({'image_s1': decibels})['image_s1'], params=params
        )
        expected = normalize({'image_s1': decibels + gain[:, None, None]})
        torch.testing.assert_close(output, expected['image_s1'])
        assert output[0, 0, -1, 0] == 1

    def test_gradient(self) -> None:
        image = torch.full((1, 2, 20, 20), 0.5, requires_grad=True)
        RandomBackscatterGain(p=1)(image).sum().backward()
        assert image.grad is not None
        assert torch.equal(image.grad, torch.ones_like(image))

    def test_error(self) -> None:
        with pytest.raises(ValueError, match=r'gain=\(1, -1\) must be .* in order'):
            RandomBackscatterGain((1, -1))


class TestRandomModalityDropout:
    def test_whole_samples(self, make_batch: Callable[..., Sample]) -> None:
        torch.manual_seed(0)
        batch = make_batch(400, (4, 4))
        output = RandomModalityDropout(p=0.2)(batch)
        missing = (output['image_s1'] == MISSING_BACKSCATTER).all(dim=(1, 2, 3))
        # Five standard deviations
        assert abs(missing.float().mean() - 0.2) < 0.1
        rest = ~missing
        assert torch.equal(output['image_s1'][rest], batch['image_s1'][rest])

    def test_constant(self) -> None:
        """The constant is what the normalization makes of missing backscatter."""
        assert MISSING_DECIBELS == (-25, -32.5)
        lowest = torch.tensor(MISSING_DECIBELS)[:, None, None].expand(2, 3, 3)
        for decibels in (lowest, lowest - 10):
            normalized = normalize({'image_s1': decibels})['image_s1']
            assert torch.equal(normalized, torch.full((2, 3, 3), MISSING_BACKSCATTER))
