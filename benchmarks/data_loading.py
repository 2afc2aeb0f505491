# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Measure how fast Planet-CR is opened and read, and write a report.

    python benchmarks/data_loading.py [--output docs/benchmarks] [--quick]

It takes about eight minutes, and 2 GB in the folder of temporary files. It needs no data:
it writes archives, and removes them at the end, also after Ctrl+C. Nothing else should run
at the same time. ``--quick`` is a trial of two minutes with small archives.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import contestants
import fake_archive
import report

from torchgeo_planetcr.datasets.index import FILENAME


class Effort(NamedTuple):
    """How much to measure."""

    #: Numbers of quartets of the large archives.
    quartets: tuple[int, ...]
    #: Number of windows whose pixels are compared.
    compared: int
    #: Number of turns in one process, and of crops in each turn.
    rounds: int
    crops: int
    #: Number of turns with workers, and approximate seconds and minimum number of batches of
    #: each turn.
    worker_rounds: int
    worker_seconds: float
    worker_batches: int
    #: How often an archive is opened without and with its index.
    cold: int
    warm: int
    #: Number of files of each kind that plain TorchGeo opens.
    torchgeo_files: int


FULL = Effort((1000, 10000, 70000), 100, 12, 50, 4, 2.0, 12, 2, 4, 1000)
QUICK = Effort((1000, 3000), 20, 4, 15, 2, 0.5, 3, 2, 2, 100)


def say(text: str) -> None:
    """Print what happens now, and the time."""
    print(f'{time.strftime("%H:%M:%S")} {text}', flush=True)


def run_opening(*arguments: object) -> dict[str, Any]:
    """Run ``opening.py`` in a process of its own."""
    script = Path(__file__).with_name('opening.py')
    command = [sys.executable, str(script), *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(f'{script} failed:\n{result.stderr}')
    return json.loads(result.stdout.splitlines()[-1])


def measure_opening(
    roots: dict[int, Path], effort: Effort
) -> tuple[dict[int, dict[str, list[dict[str, float]]]], list[dict[str, Any]]]:
    """Open each archive without and with its index, in turns.

    Args:
        roots: Folder of each archive, by number of quartets.
        effort: How much to measure.

    Returns:
        Costs of each opening by number of quartets, and costs of plain TorchGeo.
    """
    openings: dict[int, dict[str, list[dict[str, float]]]]
    openings = {n: {'cold': [], 'warm': []} for n in roots}
    torchgeo = []
    largest = roots[max(roots)]
    for _ in range(effort.cold):
        torchgeo.append(run_opening('torchgeo', largest, effort.torchgeo_files))
        for n, root in roots.items():
            (root / FILENAME).unlink(missing_ok=True)
            openings[n]['cold'].append(run_opening('planetcr', root))
            assert (root / FILENAME).exists()
    for _ in range(effort.warm):
        for n, root in roots.items():
            openings[n]['warm'].append(run_opening('planetcr', root))
    return openings, torchgeo


def measure(folder: Path, effort: Effort) -> report.Measurements:
    """Measure everything.

    Args:
        folder: Empty folder for archives.
        effort: How much to measure.

    Returns:
        What was measured.
    """
    start, load = time.time(), os.getloadavg()[0]
    say('write 36 patches, and compare the pixels of all contestants')
    contest = contestants.Contestants(folder)
    compared = contest.compare(contest.windows(effort.compared, seed=123))
    say(f'pixels are identical in {effort.compared} windows: {", ".join(compared)}')
    say('crops per second, 2 workers')
    speeds = contest.time_workers(
        effort.worker_rounds, effort.worker_seconds, effort.worker_batches
    )
    say('crops per second, 1 process')
    times = contest.time_one_process(effort.rounds, effort.crops)

    roots = {}
    for n in effort.quartets:
        say(f'write {n} quartets')
        roots[n] = folder / str(n)
        fake_archive.make_headers(roots[n], n)
    say('open the archives, without and with an index')
    openings, torchgeo = measure_opening(roots, effort)
    say('cost of a crop')
    crops = contestants.time_archives(roots, 2 * effort.rounds, effort.crops // 2)
    return report.Measurements(
        compared=compared,
        windows=effort.compared,
        times=times,
        speeds=speeds,
        openings=openings,
        torchgeo=torchgeo,
        crops=crops,
        load=load,
        disk=folder,
        minutes=(time.time() - start) / 60,
        is_trial=effort is QUICK,
    )


def stop(number: int, _: object) -> None:
    """Exit with an exception, so that the archives are removed."""
    sys.exit(128 + number)


def main() -> None:
    """Measure and write the report."""
    parser = report.make_parser(__doc__)
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, stop)
    with tempfile.TemporaryDirectory(prefix='planetcr-benchmark-') as folder:
        result = measure(Path(folder), QUICK if args.quick else FULL)
        text = report.to_markdown(result)
    written = report.publish(text, args, report.NAME)
    if written is not None:
        report.draw(result, written / f'{report.NAME}.png')


if __name__ == '__main__':
    main()
