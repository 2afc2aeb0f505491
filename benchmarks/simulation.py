# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Measure `planetcr simulate` and `planetcr demo`, and write a report.

    python benchmarks/simulation.py [--sample sample] [--output docs/benchmarks] [--quick]

On two cores it takes about five minutes, 3 GB of memory and 1 GB of disk. Nothing else should
run at the same time. ``--quick`` is a trial. ``--sample`` names the folder of the public sample
of Planet-CR (``planetcr download-sample``), with which simulated images are compared.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from data_loading import say
from evaluation import clock
from models import TRIAL, machine
from numpy.typing import NDArray
from report import Goal, goal_table, make_parser, publish, spread, table, wrap

from torchgeo_planetcr import PlanetCR, simulate
from torchgeo_planetcr.samplers import CenterNativePatchSampler

#: Number of patches of each area.
PATCHES = 4

#: Name, key of the sample, channel and number of decimal places of what is compared.
QUANTITIES = [
    *(
        (f'{name} {band}', key, channel, 0)
        for name, key in (('clear', 'image_clear'), ('cloudy', 'image'))
        for channel, band in enumerate(PlanetCR.all_bands)
    ),
    ('VV in dB', 'image_s1', 0, 1),
    ('VH in dB', 'image_s1', 1, 1),
    ('share of cloud in the mask', 'mask_cloud', ..., 2),
]


class Effort(NamedTuple):
    """How much to measure."""

    #: Number of areas of the simulations whose time is measured.
    areas: int
    rounds: int
    #: Arguments of the demo.
    demo: tuple[str, ...]
    #: Number of areas of the simulation that is compared with the sample.
    compared: int


FULL = Effort(20, 3, (), 60)
QUICK = Effort(4, 2, ('--epochs=1',), 4)


def write_bytes(contents: dict[Path, bytes], folder: Path) -> None:
    """Write files whose bytes are in memory, on all cores."""

    def write(item: tuple[Path, bytes]) -> None:
        path, content = folder / item[0], item[1]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    with ThreadPoolExecutor(os.cpu_count()) as executor:
        list(executor.map(write, contents.items()))


def time_simulation(areas: int, seed: int) -> tuple[float, float]:
    """Measure the seconds of a simulation, and of writing its bytes alone."""
    with tempfile.TemporaryDirectory() as name:
        world, copy = Path(name, 'world'), Path(name, 'copy')
        simulated = clock(lambda: simulate(world, areas, PATCHES, seed), 'cpu')
        files = [path for path in world.rglob('*') if path.is_file()]
        contents = {path.relative_to(world): path.read_bytes() for path in files}
        return simulated, clock(lambda: write_bytes(contents, copy), 'cpu')


def measure_simulation(effort: Effort) -> NDArray[np.float64]:
    """Measure the time of simulations with different seeds.

    Args:
        effort: How much to measure.

    Returns:
        Seconds of the simulation and of writing its bytes in each turn, of shape (turns, 2).
    """
    seconds = []
    for turn in range(effort.rounds):
        say(f'simulate, turn {turn + 1} of {effort.rounds}')
        seconds.append(time_simulation(effort.areas, turn))
    return np.array(seconds)


def measure_demo(effort: Effort) -> tuple[float, dict[str, float]]:
    """Run the demo as a user does.

    Args:
        effort: How much to measure.

    Returns:
        Seconds, and the PSNR of each method in dB.
    """
    say('the demo')
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, 'demo')
        command = [Path(sys.executable).with_name('planetcr'), 'demo', f'--out={out}']
        start = time.perf_counter()
        subprocess.run([*command, *effort.demo], check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - start
        summary = json.loads((out / 'evaluation' / 'summary.json').read_text())
    return seconds, {
        figure['method']: figure['value']
        for figure in summary['figures']
        if figure['kind'] == 'all' and figure['metric'] == 'PSNR'
    }


def patch_means(root: Path, split: Literal['train', 'test']) -> NDArray[np.float64]:
    """Compute the means of each patch of a split.

    Args:
        root: Folder that holds ``train`` and ``test``.
        split: Name of the split.

    Returns:
        Means of shape (patches, quantities).
    """
    dataset = PlanetCR(root, split=split)
    means = []
    for window in CenterNativePatchSampler(dataset, size=None):
        sample = dataset[window]
        means.append(
            [
                float(sample[key][channel].float().nanmean())
                for _, key, channel, _ in QUANTITIES
            ]
        )
    return np.array(means)


def compare(effort: Effort, sample: Path) -> str:
    """Compare a simulation with the public sample.

    Args:
        effort: How much to measure.
        sample: Folder of the public sample.

    Returns:
        Table in Markdown.
    """
    say('compare with the sample')
    real = np.concatenate([patch_means(sample, 'train'), patch_means(sample, 'test')])
    with tempfile.TemporaryDirectory() as folder:
        simulate(folder, effort.compared, PATCHES)
        simulated = patch_means(Path(folder), 'train')
    low, median, high = np.percentile(simulated, (5, 50, 95), axis=0)
    rows = []
    for column, (name, _, _, places) in enumerate(QUANTITIES):
        cells = [
            f'{value:.{places}f}'
            for value in (*real[:, column], median[column], low[column], high[column])
        ]
        cells[-2:] = [f'{cells[-2]} to {cells[-1]}']
        rows.append([name, *cells])
    return table(
        [
            'mean of a patch',
            'real, to train',
            'real, to test',
            'simulated',
            '90 % of them',
        ],
        rows,
    )


def measure_all(effort: Effort, sample: Path | None) -> str:
    """Measure everything.

    Args:
        effort: How much to measure.
        sample: Folder of the public sample, if there is one.

    Returns:
        The report.
    """
    start, load = time.time(), os.getloadavg()[0]
    seconds = measure_simulation(effort)
    demo, psnr = measure_demo(effort)
    count = effort.areas * PATCHES
    rates = 60 * count / seconds
    gain = psnr['restored'] - psnr['cloudy input']
    goals = [
        Goal(
            'patches that `planetcr simulate` makes a minute on two cores',
            'at least 300',
            spread(rates[:, 0]),
            bool(np.median(rates[:, 0]) >= 300),
        ),
        Goal(
            '`planetcr demo`, from its start to its end',
            'under 6 minutes',
            f'{demo / 60:.1f} minutes',
            demo < 360,
        ),
        Goal(
            'PSNR of its network on areas of the test split, compared with the cloudy image',
            'at least +3 dB',
            f'{gain:+.1f} dB',
            gain >= 3,
        ),
    ]
    rate_table = table(
        ['', 's', 'patches a minute'],
        [
            [name, spread(seconds[:, column]), spread(rates[:, column])]
            for column, name in enumerate(['`simulate`', 'the bytes alone'])
        ],
    )
    comparison = ''
    if sample is not None:
        comparison = f"""## Beside real data

Means of the two patches of the public sample, and of {effort.compared * PATCHES} simulated patches: the median, and the
range from 5 to 95 %. Reflectance is times 10000. Two patches say little about the archive.
The range of simulated patches should contain them.

{compare(effort, sample)}"""
    return wrap(f"""# What it takes to simulate a world

<!-- Written by `python benchmarks/simulation.py`: run it again instead of editing. -->

{TRIAL if effort is QUICK else ''}`python benchmarks/simulation.py` measured this on one machine and in
one run, and wrote this page. Figures are the median and, in brackets, the least and the
largest of all turns.

Machine: {machine('cpu', start, load)}

## Goals

{goal_table(goals)}

## Time

{effort.areas} areas of {PATCHES} patches with all five modalities are simulated {effort.rounds} times with different seeds.
The bytes of the same files are also written from memory.

{rate_table}

## The demo

`planetcr demo{''.join(f' {argument}' for argument in effort.demo)}` simulates a data set, trains a short DSen2-CR, evaluates it, and removes the
clouds of a scene. PSNR on its test split: {psnr['cloudy input']:.1f} dB for the cloudy image, {psnr['restored']:.1f} dB
for the restored one. It shows that everything works. Real images are harder to restore.

{comparison}
""")


def main() -> None:
    """Measure and write the report."""
    parser = make_parser(__doc__)
    parser.add_argument('--sample', type=Path, help='folder of the public sample')
    args = parser.parse_args()
    text = measure_all(QUICK if args.quick else FULL, args.sample)
    publish(text, args, 'simulation')


if __name__ == '__main__':
    main()
