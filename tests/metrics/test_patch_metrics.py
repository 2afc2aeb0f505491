# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

from collections.abc import Sequence
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from torchgeo_planetcr.metrics import PROTOCOLS, PatchMetrics, PatchValues, PixelMetric

N, K = 6, 3

Batch = dict[str, Tensor]


@pytest.fixture(scope='module')
def batch() -> Batch:
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(N, 4, 12, 14, generator=generator)
    mask = torch.randint(0, K - 1, (N, 12, 14), generator=generator)
    # Only one patch has the last class, and some pixels have no class
    mask[0, :2] = K - 1
    mask[1, 3:5] = 255
    mask_cloud = torch.randint(0, 2, mask.shape, generator=generator)
    mask_cloud[2] = 0
    mask_cloud[3] = 1
    return {
        'patches': torch.arange(N),
        'prediction': target + 0.2 * torch.randn(target.shape, generator=generator),
        'target': target,
        'mask_cloud': mask_cloud,
        'mask': mask,
    }


def make(protocol: str = 'standard') -> PatchMetrics:
    chosen = PROTOCOLS[protocol].metrics
    return PatchMetrics({name: metric() for name, metric in chosen.items()}, N, K)


def add(metrics: PatchMetrics, batch: Batch, rows: Sequence[int]) -> None:
    metrics.update(**{key: value[list(rows)] for key, value in batch.items()})


def measure(batch: Batch, order: Sequence[int], splits: Sequence[int]) -> PatchValues:
    metrics = make()
    for start, stop in pairwise(splits):
        add(metrics, batch, order[start:stop])
    return metrics.compute()


@pytest.mark.parametrize('protocol', PROTOCOLS)
def test_values(batch: Batch, protocol: str) -> None:
    metrics = make(protocol)
    metrics.update(**batch)
    values = metrics.compute()
    chosen = {name: metric() for name, metric in PROTOCOLS[protocol].metrics.items()}
    pooled = [
        name for name, metric in chosen.items() if isinstance(metric, PixelMetric)
    ]
    assert metrics.pixel_metrics == pooled == ['PSNR', 'SAM', 'MAE', 'RMSE']
    assert values.images.shape == (N, len(chosen))
    assert values.sums.shape == (N, len(pooled), 2, K + 1)
    assert values.pixels.shape == (N, 2, K + 1)
    assert values.images.dtype == values.sums.dtype == torch.float64
    assert values.pixels.dtype == torch.int64

    pair = batch['prediction'], batch['target']
    for column, metric in enumerate(chosen.values()):
        expected = metric.image_values(*pair)
        torch.testing.assert_close(values.images[:, column], expected)
    sums = torch.zeros_like(values.sums)
    pixels = torch.zeros_like(values.pixels)
    for column, name in enumerate(pooled):
        metric = chosen[name]
        assert isinstance(metric, PixelMetric)
        found = metric.pixel_values(*pair)
        for n in range(N):
            for row in range(12):
                for col in range(14):
                    number = min(int(batch['mask'][n, row, col]), K)
                    cell = n, int(batch['mask_cloud'][n, row, col]), number
                    sums[cell[0], column, cell[1], cell[2]] += found[n, row, col]
                    pixels[cell] += column == 0
    assert torch.equal(values.pixels, pixels)
    torch.testing.assert_close(values.sums, sums, rtol=1e-12, atol=0)
    assert values.pixels.sum() == N * 12 * 14
    assert values.pixels[1, :, K].sum() == 2 * 14
    assert not values.pixels[2, 1].any()
    assert not values.pixels[3, 0].any()


@pytest.mark.parametrize('splits', [(0, 1, 2, 3, 4, 5, 6), (0, 4, 6), (0, 3, 6)])
def test_batches(batch: Batch, splits: tuple[int, ...]) -> None:
    expected = measure(batch, range(N), (0, N))
    found = measure(batch, [4, 1, 0, 5, 2, 3], splits)
    for value, other in zip(found, expected):
        torch.testing.assert_close(value, other, rtol=1e-6, atol=0)


def test_processes(batch: Batch) -> None:
    first, second = make(), make()
    add(first, batch, [0, 2, 4])
    add(second, batch, [1, 3, 5])
    first.merge_state(second)
    expected = measure(batch, range(N), (0, N))
    for value, other in zip(first.compute(), expected):
        torch.testing.assert_close(value, other, rtol=1e-6, atol=0)


def test_missing_patch(batch: Batch) -> None:
    metrics = make()
    add(metrics, batch, [0, 1, 2, 4, 5])
    with pytest.raises(RuntimeError, match='patch 3 was added 0 times'):
        metrics.compute()
    add(metrics, batch, [3])
    assert metrics.compute().images.isfinite().all()


@pytest.mark.parametrize('rows', [[0, 1, 2, 3, 4, 5, 1], [0, 1, 2, 3, 1, 4, 5]])
@pytest.mark.parametrize('splits', [(0, 7), (0, 3, 7)])
def test_patch_added_twice(
    batch: Batch, rows: list[int], splits: tuple[int, ...]
) -> None:
    with pytest.raises(RuntimeError, match='patch 1 was added 2 times'):
        measure(batch, rows, splits)


def test_patch_in_two_processes(batch: Batch) -> None:
    first, second = make(), make()
    add(first, batch, [0, 1, 2])
    add(second, batch, [2, 3, 4, 5])
    first.merge_state(second)
    with pytest.raises(RuntimeError, match='patch 2 was added 2 times'):
        first.compute()


def test_reset(batch: Batch) -> None:
    metrics = make()
    metrics.update(**batch)
    first = metrics.compute()
    metrics.reset()
    assert not metrics.seen.any()
    metrics.update(**batch)
    for value, other in zip(metrics.compute(), first):
        assert torch.equal(value, other)


def test_invalid_shape(batch: Batch) -> None:
    with pytest.raises(ValueError, match='must have the same shape'):
        make().update(**(batch | {'prediction': batch['prediction'][:, :3]}))


def test_precision(batch: Batch) -> None:
    half = batch | {'prediction': batch['prediction'].bfloat16()}
    expected = measure(
        half | {'prediction': half['prediction'].float()}, range(N), (0, N)
    )
    with torch.autocast('cpu', torch.bfloat16):
        found = measure(half, range(N), (0, N))
    for value, other in zip(found, expected):
        assert torch.equal(value, other)
