# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Many reads of many files need few open files, and no more memory as they go on."""

from pathlib import Path

import numpy as np
import pytest
from rasters import write
from systems import needs_linux

from . import inputs, readers
from .campaign import Campaign
from .child import Limits, run

pytestmark = [needs_linux, pytest.mark.slow]

#: Files that may be open, of several hundred that are read.
MOST = 170
FEW = Limits(open_files=MOST)

#: Bytes that memory may grow, which differs a little from run to run.
GROWTH = 20e6

#: Reads of the small campaign.
READS = 4000


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """An archive with more files than may be open; GDAL reads most of them."""
    areas = [('train', f'fall_{number}', 8) for number in range(1, 9)]
    root = inputs.make_tree(tmp_path / 'many', areas)
    for path in [*root.rglob('planet_*.tif'), *root.rglob('S1_*.tif')]:
        array, profile = inputs.read(path)
        write(path, array, **profile | {'compress': 'deflate'})
    return root


def test_reads(campaign: Campaign, many: Path) -> None:
    count = int(READS * campaign.scale)
    ended = run(
        campaign.folder,
        readers.read_windows,
        many,
        count,
        campaign.seed,
        limits=FEW,
        seconds=600,
    )
    assert ended.value, ended.text
    assert ended.value['files'] < MOST
    assert ended.value['growth'] < GROWTH
    campaign.counts['reads with few open files']['equal'] += ended.value['reads']


def test_threads(campaign: Campaign, many: Path) -> None:
    rounds = int(20 * campaign.scale)
    ended = run(
        campaign.folder, readers.read_in_threads, many, rounds, limits=FEW, seconds=600
    )
    assert ended.value, ended.text
    assert ended.value['files'] < MOST
    campaign.counts['reads with few open files']['equal'] += ended.value['reads']


@pytest.mark.parametrize('method', ['fork', 'spawn'])
def test_processes(campaign: Campaign, many: Path, method: str) -> None:
    """Files that are open before a fork do no harm."""
    # PyTorch needs a file for each tensor that comes from another process
    limits = Limits(memory=None, open_files=2 * MOST)
    ended = run(
        campaign.folder,
        readers.read_in_processes,
        many,
        method,
        limits=limits,
        seconds=120,
    )
    assert ended.value, ended.text
    plain, sums = ended.value
    np.testing.assert_allclose(sums, plain, rtol=1e-5)
    campaign.counts['reads with few open files']['equal'] += len(sums)


def test_rewritten(campaign: Campaign, many: Path) -> None:
    count = int(100 * campaign.scale)
    ended = run(
        campaign.folder, readers.read_rewritten, many, count, limits=FEW, seconds=600
    )
    assert ended.value == 0, ended.text
    campaign.counts['reads of files written anew']['equal'] += count


def test_damaged(campaign: Campaign, many: Path) -> None:
    ended = run(campaign.folder, readers.fail_to_read, many, 30, limits=FEW)
    assert ended.value == 0, ended.text
