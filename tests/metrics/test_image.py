# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Properties that all metrics share."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from torchgeo_planetcr.metrics import PROTOCOLS, ImageMetric, PixelMetric

METRICS = [
    metric for protocol in PROTOCOLS.values() for metric in protocol.metrics.values()
]
PIXEL_METRICS = [metric for metric in METRICS if issubclass(metric, PixelMetric)]

#: Of all images but the dark ones.
PERFECT = {'PSNR': 100, 'SSIM': 1, 'SAM': 0, 'MAE': 0, 'RMSE': 0}


@pytest.fixture
def images() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(5, 4, 20, 31, generator=generator)
    noise = torch.randn(target.shape, generator=generator)
    levels = torch.tensor([0.01, 0.05, 0.1, 0.2, 0.5])[:, None, None, None]
    return target + levels * noise, target


@pytest.mark.parametrize('metric_class', METRICS)
class TestImageMetrics:
    @pytest.mark.parametrize(
        'splits', [(0, 5), (0, 1, 2, 3, 4, 5), (0, 2, 5), (0, 4, 5)]
    )
    def test_batches(
        self,
        metric_class: type[ImageMetric],
        images: tuple[Tensor, Tensor],
        splits: tuple[int, ...],
    ) -> None:
        whole, parts = metric_class(), metric_class()
        whole.update(*images)
        order = torch.randperm(5, generator=torch.Generator().manual_seed(1))
        for start, stop in pairwise(splits):
            parts.update(*(x[order[start:stop]] for x in images))
        assert parts.compute().item() == pytest.approx(whole.compute().item(), rel=1e-6)

    def test_image_values(
        self, metric_class: type[ImageMetric], images: tuple[Tensor, Tensor]
    ) -> None:
        """The metric is the mean of its images, whose values are independent."""
        metric = metric_class()
        values = metric.image_values(*images)
        assert values.shape == (5,)
        assert values.dtype == torch.float64
        alone = [metric.image_values(p[None], t[None]).item() for p, t in zip(*images)]
        assert values.tolist() == pytest.approx(alone, rel=1e-6)
        metric.update(*images)
        assert metric.compute().item() == pytest.approx(sum(alone) / 5, rel=1e-6)
        # From the best to the worst
        ordered = sorted(alone, reverse=bool(metric.higher_is_better))
        assert alone == ordered

    def test_processes(
        self, metric_class: type[ImageMetric], images: tuple[Tensor, Tensor]
    ) -> None:
        whole, first, second = metric_class(), metric_class(), metric_class()
        whole.update(*images)
        first.update(*(x[:2] for x in images))
        second.update(*(x[2:] for x in images))
        first.merge_state(second)
        assert first.compute().item() == pytest.approx(whole.compute().item(), rel=1e-6)

    def test_reset(
        self, metric_class: type[ImageMetric], images: tuple[Tensor, Tensor]
    ) -> None:
        metric = metric_class()
        metric.update(*images)
        first = metric.compute()
        metric.reset()
        assert metric.count == 0
        metric.update(*images)
        assert metric.compute() == first

    @pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
    def test_precision(
        self,
        metric_class: type[ImageMetric],
        images: tuple[Tensor, Tensor],
        dtype: torch.dtype,
    ) -> None:
        """The values of images in half precision are exact, also under autocast."""
        expected, metric = metric_class(), metric_class()
        half = images[0].to(dtype), images[1]
        expected.update(half[0].float(), half[1])
        with torch.autocast('cpu', torch.bfloat16):
            metric.update(*half)
        assert metric.compute() == expected.compute()
        assert metric.compute().dtype == torch.float64

    def test_clamping(
        self, metric_class: type[ImageMetric], images: tuple[Tensor, Tensor]
    ) -> None:
        prediction, target = images
        metric, clamped = metric_class(), metric_class()
        metric.update(prediction, target * 1.5)
        clamped.update(prediction.clamp(0, 1), (target * 1.5).clamp(0, 1))
        assert (metric.compute() == clamped.compute()) == metric_class.clamps

    @pytest.mark.parametrize('shape', [(4, 20, 31), (5, 4, 20, 30), (1, 4, 20, 31)])
    def test_invalid_shape(
        self,
        metric_class: type[ImageMetric],
        images: tuple[Tensor, Tensor],
        shape: tuple[int, ...],
    ) -> None:
        metric = metric_class()
        match = 'prediction and target must have the same shape'
        with pytest.raises(ValueError, match=match):
            metric.update(torch.rand(shape), images[1])
        with pytest.raises(ValueError, match=match):
            metric.image_values(torch.rand(shape[-3:]), torch.rand(shape[-3:]))


@pytest.mark.parametrize('metric_class', PIXEL_METRICS)
class TestPixelMetrics:
    def test_pixel_values(
        self, metric_class: type[PixelMetric], images: tuple[Tensor, Tensor]
    ) -> None:
        """The value of an image, or of a part, follows from the mean of its pixels."""
        metric = metric_class()
        pixels = metric.pixel_values(*images)
        assert pixels.shape == (5, 20, 31)
        assert pixels.dtype == torch.float64
        found = metric.from_mean(pixels.mean(dim=(1, 2)))
        torch.testing.assert_close(
            found, metric.image_values(*images), rtol=1e-9, atol=0
        )
        part = [x[:, :, 3:9, 5:20] for x in images]
        found = metric.from_mean(pixels[:, 3:9, 5:20].mean(dim=(1, 2)))
        torch.testing.assert_close(found, metric.image_values(*part), rtol=1e-6, atol=0)

    def test_precision_of_pixels(
        self, metric_class: type[PixelMetric], images: tuple[Tensor, Tensor]
    ) -> None:
        metric = metric_class()
        half = images[0].bfloat16(), images[1]
        expected = metric.pixel_values(half[0].float(), half[1])
        with torch.autocast('cpu', torch.bfloat16):
            assert torch.equal(metric.pixel_values(*half), expected)

    def test_mean_of_nothing(
        self, metric_class: type[PixelMetric], images: tuple[Tensor, Tensor]
    ) -> None:
        means = torch.tensor([torch.nan, 0.25], dtype=torch.float64)
        found = metric_class().from_mean(means)
        assert found.isnan().tolist() == [True, False]

    def test_invalid_shape_of_pixels(
        self, metric_class: type[PixelMetric], images: tuple[Tensor, Tensor]
    ) -> None:
        with pytest.raises(ValueError, match='must have the same shape'):
            metric_class().pixel_values(images[0][:, :3], images[1])


@pytest.mark.parametrize('protocol', PROTOCOLS)
@pytest.mark.parametrize('name', PERFECT)
def test_perfect_prediction(protocol: str, name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    target = 0.1 + 0.8 * torch.rand(3, 4, 16, 16, generator=generator)
    metric = PROTOCOLS[protocol].metrics[name]()
    metric.update(target, target)
    # The arc cosine of the reference makes 0.02 degrees of one unit in the last place
    tolerance = {('reference', 'SAM'): 0.05}.get((protocol, name), 1e-6)
    assert metric.compute().item() == pytest.approx(PERFECT[name], abs=tolerance)


@pytest.mark.parametrize('protocol', PROTOCOLS)
def test_one_perfect_image_of_two(protocol: str, images: tuple[Tensor, Tensor]) -> None:
    prediction, target = (x[:2].clone() for x in images)
    prediction[0] = target[0]
    metric = PROTOCOLS[protocol].metrics['PSNR']()
    other = metric.clone()
    metric.update(prediction, target)
    other.update(prediction[1:], target[1:])
    assert metric.compute() == (100 + other.compute()) / 2
