# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import Dataset
from torchgeo.datasets import stack_samples
from torchgeo.datasets.utils import Sample

from torchgeo_planetcr.inference.loader import AHEAD, ReadAheadDataLoader, stack_arrays

#: Threads of this process.
TASKS = Path('/proc/self/task')


class Numbers(Dataset[dict[str, torch.Tensor]]):
    """Numbers that know the thread in which they were read."""

    def __init__(self, bad: int = -1) -> None:
        self.bad = bad
        self.read: list[int] = []
        self.threads: set[int] = set()

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        if index == self.bad:
            raise OSError(f'number {index} is damaged')
        self.read.append(index)
        self.threads.add(threading.get_ident())
        return {'image': torch.tensor(index)}

    def __len__(self) -> int:
        return 10


@pytest.mark.parametrize('num_workers', [0, 2])
def test_order(num_workers: int) -> None:
    loader = ReadAheadDataLoader(Numbers(), batch_size=3, num_workers=num_workers)
    for _ in range(2):
        batches = [batch['image'].tolist() for batch in loader]
        assert batches == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]


def test_ahead() -> None:
    """While a batch is used, others are read in a thread, and no more than a few."""
    numbers = Numbers()
    batches = iter(ReadAheadDataLoader(numbers, batch_size=1))
    next(batches)
    deadline = time.monotonic() + 10
    while len(numbers.read) < 1 + AHEAD and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    assert numbers.read == list(range(1 + AHEAD))
    assert numbers.threads.isdisjoint({threading.get_ident()})


def test_end() -> None:
    """Who stops half-way leaves no thread behind."""
    before = threading.active_count()
    batches = iter(ReadAheadDataLoader(Numbers(), batch_size=1))
    next(batches)
    assert threading.active_count() == before + 1
    del batches
    assert threading.active_count() == before


def test_error() -> None:
    """It comes in its turn, as it is."""
    batches = iter(ReadAheadDataLoader(Numbers(bad=1), batch_size=1))
    assert next(batches)['image'].item() == 0
    with pytest.raises(OSError, match='^number 1 is damaged$'):
        next(batches)


@pytest.mark.parametrize('count', [1, 3])
def test_stack(count: int) -> None:
    """As TorchGeo does, types included."""
    samples: list[Sample] = [
        {
            'image': torch.full((2, 3, 4), number + 0.5),
            'has_data': torch.eye(3, dtype=torch.bool),
            'crs': torch.tensor(32633 + number),
        }
        for number in range(count)
    ]
    actual, expected = stack_arrays(samples), stack_samples(samples)
    assert actual.keys() == expected.keys()
    for key in expected:
        torch.testing.assert_close(actual[key], expected[key], rtol=0, atol=0)


@pytest.mark.skipif(not TASKS.exists(), reason='threads are counted as Linux does')
def test_stack_starts_no_threads() -> None:
    """Those of the model would wait for them."""
    samples: list[Sample] = [{'image': torch.ones(4, 512, 512)}]
    threads: list[set[str]] = []
    with ThreadPoolExecutor(1) as executor:
        functions: list[Any] = [len, stack_arrays, stack_samples]
        for function in functions:
            executor.submit(function, samples).result()
            threads.append({path.name for path in TASKS.iterdir()})
    # Those of other tests may end meanwhile
    assert not threads[1] - threads[0]
    if torch.get_num_threads() > 1:
        assert threads[2] - threads[1]
