# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Measure the time and memory of `planetcr evaluate`, and write a report.

    python benchmarks/evaluation.py [--device cuda] [--output docs/benchmarks] [--quick]

On a CPU it takes about ten minutes, 5 GB of memory and 2 GB of disk. Nothing else should
run at the same time. ``--quick`` is a trial.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from data_loading import say
from fake_archive import load_data_module
from models import TRIAL, machine, memory
from numpy.typing import NDArray
from report import Goal, goal_table, make_parser, publish, spread, table, wrap

from torchgeo_planetcr import evaluate
from torchgeo_planetcr.metrics import PROTOCOLS, PatchMetrics
from torchgeo_planetcr.models import DSen2CR

#: Classes of land cover.
NUM_CLASSES = 11

#: Number of areas of the archives, and their distance in meters, at which they do not touch.
AREAS = 10
DISTANCE = 100_000


class Effort(NamedTuple):
    """How much to measure."""

    #: Side of the window of each protocol in pixels.
    sizes: dict[str, int]
    rounds: int
    #: Numbers of patches for which memory is compared.
    patches: tuple[int, int]


FULL = Effort({'reference': 160, 'standard': 300}, 5, (100, 400))
QUICK = Effort({'reference': 32, 'standard': 64}, 2, (10, 20))


def clock(function: Callable[[], object], device: str) -> float:
    """Measure how many seconds a call takes."""
    if device == 'cuda':
        torch.cuda.synchronize()
    start = time.perf_counter()
    function()
    if device == 'cuda':
        torch.cuda.synchronize()
    return time.perf_counter() - start


def measure_metrics(protocol: str, effort: Effort, device: str) -> NDArray[np.float64]:
    """Measure the time of DSen2-CR and of all metrics and strata on the same patch.

    Args:
        protocol: Name of the protocol.
        effort: How much to measure.
        device: 'cpu' or 'cuda'.

    Returns:
        Seconds of both in each turn, of shape (turns, 2).
    """
    size = effort.sizes[protocol]
    torch.manual_seed(0)
    model = DSen2CR().eval().to(device)
    image, image_s1, target = (
        torch.rand(1, channels, size, size, device=device) for channels in (4, 2, 4)
    )
    mask_cloud = torch.randint(2, (1, size, size), device=device)
    mask = torch.randint(NUM_CLASSES, (1, size, size), device=device)
    metrics = PatchMetrics(
        {name: metric() for name, metric in PROTOCOLS[protocol].metrics.items()},
        1,
        NUM_CLASSES,
    ).to(device)
    patch = torch.tensor([0], device=device)

    def restore() -> None:
        model(image, image_s1)

    def measure() -> None:
        metrics.update(patch, image, target, mask_cloud, mask)

    seconds = []
    with torch.inference_mode():
        for turn in range(effort.rounds + 1):
            times = [clock(restore, device), clock(measure, device)]
            # In the first turn, PyTorch chooses algorithms
            if turn:
                seconds.append(times)
    return np.array(seconds)


def make_archive(root: Path, patches: int) -> None:
    """Write a test split of fake patches in ten areas.

    Args:
        root: Folder to write to.
        patches: Number of patches.
    """
    data = load_data_module()
    rows = tuple((0, row) for row in range(patches // AREAS))
    data.AREAS = tuple(
        data.Area(
            'test', f'spring_{area}', 32646, DISTANCE * area, 9_000_000, (0, 0), rows
        )
        for area in range(1, AREAS + 1)
    )
    data.create(root)


def work(root: Path) -> None:
    """Evaluate the cloudy images in this process, and print what that took."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as out:
        evaluate(root, ['copy'], out, accelerator='cpu')
        sizes = {path.name: path.stat().st_size for path in Path(out).iterdir()}
    seconds = time.perf_counter() - start
    print(json.dumps({'seconds': seconds, 'memory': memory('VmHWM'), 'sizes': sizes}))


def measure_memory(effort: Effort) -> list[dict[str, Any]]:
    """Evaluate archives of different sizes, each in a process of its own.

    Args:
        effort: How much to measure.

    Returns:
        Seconds, peak of memory in MB and sizes of the written files, of each archive.
    """
    results = []
    for patches in effort.patches:
        with tempfile.TemporaryDirectory() as root:
            make_archive(Path(root), patches)
            command = [sys.executable, __file__, '--work', root]
            output = subprocess.run(
                command, check=True, capture_output=True, text=True
            ).stdout
        results.append(json.loads(output.splitlines()[-1]))
    return results


def measure_all(effort: Effort, device: str) -> str:
    """Measure everything.

    Args:
        effort: How much to measure.
        device: 'cpu' or 'cuda'.

    Returns:
        The report.
    """
    start, load = time.time(), os.getloadavg()[0]
    goals, rows = [], []
    for protocol, size in effort.sizes.items():
        say(f'{protocol} protocol: metrics against DSen2-CR')
        seconds = measure_metrics(protocol, effort, device)
        shares = 100 * seconds[:, 1] / seconds[:, 0]
        goals.append(
            Goal(
                f'{protocol} protocol: all metrics and strata against the forward pass '
                'of DSen2-CR',
                'less than 15 %',
                f'{spread(shares)} %',
                bool(np.median(shares) < 15),
            )
        )
        rows.append(
            [
                f'{protocol}, {size} x {size}',
                *(spread(1e3 * column) for column in seconds.T),
                spread(shares),
            ]
        )
    say('memory')
    results = measure_memory(effort)
    few, many = effort.patches
    growth = 1e3 * (results[1]['memory'] - results[0]['memory']) / (many - few)
    per_row = (
        results[1]['sizes']['patches.parquet'] - results[0]['sizes']['patches.parquet']
    )
    goals.append(
        Goal(
            f'peak of memory from {few} to {many} patches',
            'no growth except for the rows',
            f'{growth:.0f} kB for each patch',
            growth < 20,
        )
    )
    memory_table = table(
        ['patches', 'MB at most', 's', 's for each patch', 'kB of the report'],
        [
            [
                str(patches),
                f'{result["memory"]:.0f}',
                f'{result["seconds"]:.1f}',
                f'{result["seconds"] / patches:.2f}',
                f'{result["sizes"]["report.html"] / 1e3:.0f}',
            ]
            for patches, result in zip(effort.patches, results)
        ],
    )
    time_table = table(
        ['', 'DSen2-CR, ms', 'metrics and strata, ms', 'share in %'], rows
    )
    name = f'evaluation.py{" --device cuda" if device == "cuda" else ""}'
    return wrap(f"""# What it takes to evaluate

<!-- Written by `python benchmarks/{name}`: run it again instead of editing. -->

{TRIAL if effort is QUICK else ''}`python benchmarks/{name}` measured this on one machine and in
one run, and wrote this page. Figures are the median and, in brackets, the least and the
largest of all turns.

Machine: {machine(device, start, load)}

## Goals

{goal_table(goals)}

## Time

DSen2-CR restores a patch. Then all metrics of a protocol are computed, also for cloudy and
clear pixels and for each class of land cover. Both are done {effort.rounds} times in turns, in float32.

{time_table}

## Memory

`planetcr evaluate ROOT copy` on the CPU, from reading the files to the report, on fake
patches of 300 x 300 pixels in {AREAS} areas. Each run is a process of its own. The rows of a
patch take {per_row / (many - few):.0f} bytes in `patches.parquet`.

{memory_table}

Most of the memory is taken by the libraries: `import lightning, torchgeo` alone takes about
1 GB with this build of PyTorch.
""")


def main() -> None:
    """Measure and write the report."""
    parser = make_parser(__doc__)
    parser.add_argument('--device', choices=('cpu', 'cuda'), default='cpu')
    # The script starts itself with this option
    parser.add_argument('--work', type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        work(args.work)
        return
    text = measure_all(QUICK if args.quick else FULL, args.device)
    suffix = '' if args.device == 'cpu' else f'-{args.device}'
    publish(text, args, f'evaluation-cost{suffix}')


if __name__ == '__main__':
    main()
