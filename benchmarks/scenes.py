# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Measure the time and memory of `planetcr remove-clouds`, and write a report.

    python benchmarks/scenes.py [--device cuda] [--output docs/benchmarks] [--quick]

On a CPU it takes about ten minutes, 3 GB of memory and 5 GB of disk. Nothing else should
run at the same time. ``--quick`` is a trial.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import rasterio
import torch
from data_loading import say
from evaluation import clock
from models import TRIAL, machine, memory
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.transform import from_origin
from rasterio.windows import Window
from report import Goal, goal_table, make_parser, publish, spread, table, wrap

from torchgeo_planetcr import remove_clouds
from torchgeo_planetcr.inference import TileSampler
from torchgeo_planetcr.memory import keep_memory
from torchgeo_planetcr.models import DSen2CR
from torchgeo_planetcr.scenes import PlanetScopeScenes

#: Default size and overlap of tiles in pixels.
TILE_SIZE, OVERLAP = 512, 64

#: Corner of the scenes, and corner of Sentinel-1 in the next UTM zone.
CORNER, RADAR_CORNER = (600_000, 5_500_000), (160_000, 5_530_000)

#: DSen2-CR that takes hardly any memory, so that the memory of all else shows.
SMALL_MODEL = {'features': 8, 'num_blocks': 1}


class Effort(NamedTuple):
    """How much to measure."""

    #: Rows and columns of the scene for which time is measured.
    size: int
    rounds: int
    #: Rows and columns of the scenes for which memory is compared.
    sizes: tuple[int, int]


#: The scene for time has 7 x 7 tiles.
FULL = Effort(3200, 8, (3000, 12000))
QUICK = Effort(960, 2, (1000, 2000))


class Settings(NamedTuple):
    """What differs between a CPU and a GPU."""

    accelerator: str
    #: Arguments of DSen2-CR, of `examples/dsen2cr_one_minute.yaml` or the defaults.
    model: dict[str, int]
    batch_size: int
    num_workers: int


SETTINGS = {
    'cpu': Settings('cpu', {'features': 32, 'num_blocks': 4}, 1, 0),
    'cuda': Settings('gpu', {}, 8, 8),
}


def make_scene(folder: Path, size: int) -> tuple[Path, Path]:
    """Write a scene of smooth noise, and Sentinel-1 in the next UTM zone.

    Args:
        folder: Folder to write to.
        size: Rows and columns of the scene.

    Returns:
        Paths of both. They are compressed, and the scene has overviews as PlanetScope's
        products have.
    """
    rng = np.random.default_rng(0)
    cloudy, s1 = folder / 'cloudy.tif', folder / 's1.tif'
    common: dict[str, Any] = {'driver': 'GTiff', 'tiled': True, 'compress': 'lzw'}
    overviews = [2**level for level in range(1, 6)]
    texture = torch.from_numpy(rng.normal(size=(1, 4, 64, 64)).astype(np.float32))
    smooth = torch.nn.functional.interpolate(texture, (512, 512), mode='bicubic')
    with rasterio.open(
        cloudy,
        'w',
        **common,
        height=size,
        width=size,
        count=4,
        dtype='uint16',
        nodata=0,
        crs='EPSG:32633',
        transform=from_origin(*CORNER, 3, 3),
        blockxsize=512,
        blockysize=512,
    ) as dataset:
        for row in range(0, size, 512):
            for col in range(0, size, 512):
                noise = rng.normal(size=(4, 512, 512))
                values = 3000 + 800 * smooth[0].numpy() + 50 * noise
                height, width = min(512, size - row), min(512, size - col)
                dataset.write(
                    values[:, :height, :width].clip(1, 10000).astype(np.uint16),
                    window=Window(col, row, width, height),
                )
        dataset.build_overviews(overviews, Resampling.average)
    side = int(0.3 * size) + 7000
    with rasterio.open(
        s1,
        'w',
        **common,
        height=side,
        width=side,
        count=2,
        dtype='float32',
        crs='EPSG:32634',
        transform=from_origin(*RADAR_CORNER, 10, 10),
    ) as dataset:
        for row in range(0, side, 512):
            height = min(512, side - row)
            values = rng.normal(size=(2, height, side)).astype(np.float32)
            values += np.array([-11, -18], np.float32)[:, None, None]
            dataset.write(values, window=Window(0, row, side, height))
    return cloudy, s1


def make_model(device: str) -> DSen2CR:
    """Make DSen2-CR with random weights."""
    torch.manual_seed(0)
    return DSen2CR(**SETTINGS[device].model).eval()


def restore(cloudy: Path, s1: Path, out: Path, device: str) -> None:
    """Remove the clouds of a scene."""
    settings = SETTINGS[device]
    remove_clouds(
        make_model(device),
        cloudy,
        s1,
        out,
        tile_size=TILE_SIZE,
        overlap=OVERLAP,
        batch_size=settings.batch_size,
        num_workers=settings.num_workers,
        accelerator=settings.accelerator,
        overwrite=True,
    )


def count_tiles(cloudy: Path, s1: Path) -> int:
    """Count the tiles of a scene."""
    scenes = PlanetScopeScenes(cloudy, s1)
    return len(TileSampler(scenes, size=TILE_SIZE, overlap=OVERLAP))


def measure_time(effort: Effort, device: str) -> tuple[int, NDArray[np.float64]]:
    """Measure the time of the bare model and of the command on the same number of tiles.

    Args:
        effort: How much to measure.
        device: 'cpu' or 'cuda'.

    Returns:
        Number of tiles, and seconds of both in each turn, of shape (turns, 2).
    """
    settings = SETTINGS[device]
    with tempfile.TemporaryDirectory() as folder:
        cloudy, s1 = make_scene(Path(folder), effort.size)
        out = Path(folder, 'out.tif')
        tiles = count_tiles(cloudy, s1)
        model = make_model(device).to(device)
        image, image_s1 = (
            torch.rand(settings.batch_size, bands, TILE_SIZE, TILE_SIZE, device=device)
            for bands in (4, 2)
        )

        def run_model() -> None:
            with torch.inference_mode():
                for _ in range(0, tiles, settings.batch_size):
                    model(image, image_s1)

        seconds = []
        for turn in range(effort.rounds + 1):
            say(f'turn {turn} of {effort.rounds}')
            times = [
                clock(run_model, device),
                clock(lambda: restore(cloudy, s1, out, device), device),
            ]
            # In the first turn, PyTorch chooses algorithms and loads libraries
            if turn:
                seconds.append(times)
    return tiles, np.array(seconds)


def work(folder: Path) -> None:
    """Restore a scene in this process, and print its time and memory."""
    cloudy, s1 = folder / 'cloudy.tif', folder / 's1.tif'
    before = memory('VmRSS')
    start = time.perf_counter()
    remove_clouds(
        DSen2CR(**SMALL_MODEL), cloudy, s1, folder / 'out.tif', accelerator='cpu'
    )
    seconds = time.perf_counter() - start
    tiles = count_tiles(cloudy, s1)
    result = {'before': before, 'peak': memory('VmHWM'), 'seconds': seconds}
    print(json.dumps({**result, 'tiles': tiles}))


def measure_memory(effort: Effort) -> list[dict[str, float]]:
    """Restore scenes of different sizes on the CPU, each in a process of its own.

    Args:
        effort: How much to measure.

    Returns:
        Memory before and at its peak in MB, seconds and number of tiles, of each scene.
    """
    results = []
    for size in effort.sizes:
        say(f'memory: {size} x {size}')
        with tempfile.TemporaryDirectory() as folder:
            make_scene(Path(folder), size)
            command = [sys.executable, __file__, '--work', folder]
            printed = subprocess.run(
                command, check=True, stdout=subprocess.PIPE, text=True
            ).stdout
        results.append(json.loads(printed.splitlines()[-1]))
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
    settings = SETTINGS[device]
    results = measure_memory(effort)
    tiles, seconds = measure_time(effort, device)
    shares = 100 * seconds[:, 0] / seconds[:, 1]
    small, large = (result['peak'] for result in results)
    growth = 100 * (large / small - 1)
    goals = [
        Goal(
            'tiles per second, against the bare model',
            'at least 85 %',
            f'{spread(shares)} %',
            bool(np.median(shares) >= 85),
        ),
        Goal(
            f'peak of memory of the process at {effort.sizes[1]} against '
            f'{effort.sizes[0]} rows and columns',
            'within 10 %',
            f'{growth:+.1f} %',
            abs(growth) <= 10,
        ),
    ]
    speeds = tiles / seconds
    time_table = table(
        ['', 's for the scene', 'tiles per second'],
        [
            [name, spread(seconds[:, column]), spread(speeds[:, column])]
            for column, name in enumerate(['the bare model', '`remove_clouds`'])
        ],
    )
    memory_table = table(
        ['rows and columns', 'tiles', 'MB before', 'MB at most', 's'],
        [
            [
                str(size),
                str(result['tiles']),
                f'{result["before"]:.0f}',
                f'{result["peak"]:.0f}',
                f'{result["seconds"]:.0f}',
            ]
            for size, result in zip(effort.sizes, results, strict=True)
        ],
    )
    workers = settings.num_workers
    reader = f'{workers} processes' if workers else 'a thread'
    name = f'scenes.py{" --device cuda" if device == "cuda" else ""}'
    network = ', '.join(f'{key}={value}' for key, value in settings.model.items())
    return wrap(f"""# What it takes to restore a scene

<!-- Written by `python benchmarks/{name}`: run it again instead of editing. -->

{TRIAL if effort is QUICK else ''}`python benchmarks/{name}` measured this on one machine and in
one run, and wrote this page. Figures are the median and, in brackets, the least and the
largest of all turns.

Machine: {machine(device, start, load)}

## Goals

{goal_table(goals)}

## Time

The bare model, `dsen2cr({network})`, runs on tensors that are in memory. `remove_clouds` runs
with it on a scene of {effort.size} x {effort.size} pixels, from opening the files to writing
the picture. Both run {effort.rounds} times in turns, on {tiles} tiles of {TILE_SIZE} x {TILE_SIZE} pixels with an overlap of
{OVERLAP}, {settings.batch_size} in a batch, in float32, read by {reader}. The scene has four bands in
EPSG:32633 and overviews, Sentinel-1 is warped from EPSG:32634, and both are compressed. The
process keeps the memory that it frees, as the process of the `planetcr` command does.
Without that, the bare model takes twice the time on a CPU.

{time_table}

## Memory

Resident memory of a process that restores a scene on the CPU, with scenes of different sizes,
and with a network that takes hardly any memory, `dsen2cr(features=8, num_blocks=1)`. "Before"
is the memory that libraries take.

{memory_table}
""")


def main() -> None:
    """Measure and write the report."""
    parser = make_parser(__doc__)
    parser.add_argument('--device', choices=('cpu', 'cuda'), default='cpu')
    # The script starts itself with this option
    parser.add_argument('--work', type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    # As the command does. It speeds the bare model up, too
    keep_memory()
    if args.work:
        work(args.work)
        return
    text = measure_all(QUICK if args.quick else FULL, args.device)
    suffix = '' if args.device == 'cpu' else f'-{args.device}'
    publish(text, args, f'scenes-cost{suffix}')


if __name__ == '__main__':
    main()
