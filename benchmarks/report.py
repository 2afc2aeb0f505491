# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Write reports: what all of them share, and the report of ``data_loading.py``."""

import argparse
import datetime
import os
import platform
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import contestants
import matplotlib as mpl
import numpy as np
import rasterio
import torch
import torchgeo
from contestants import FLOOR, PLANETCR, RASTERIO, UNCACHED
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from numpy.typing import NDArray

#: Name of the files, without their suffix.
NAME = 'data-loading'

#: Number of files of a quartet: four GeoTIFFs and the cloud mask.
FILES = 5

#: Colors of PlanetCR, of other contestants, and of text.
BLUE, GRAY, TEXT = '#1f5fa8', '#a8b0b8', '#333333'


class Measurements(NamedTuple):
    """What was measured in seconds and MB. *speeds* are crops per second."""

    #: What was compared with PlanetCR, and in how many windows.
    compared: list[str]
    windows: int
    #: For each contestant, with a row for each turn.
    times: dict[str, NDArray[Any]]
    speeds: dict[str, NDArray[Any]]
    #: By number of quartets, without (``cold``) and with (``warm``) an index.
    openings: dict[int, dict[str, list[dict[str, float]]]]
    #: For each repetition, by kind of file.
    torchgeo: list[dict[str, dict[str, float]]]
    #: By number of quartets, for the ``first`` reading and for reading ``again``.
    crops: dict[int, dict[str, NDArray[Any]]]
    #: Load of the machine at the start, folder of the archives, and duration.
    load: float
    disk: Path
    minutes: float
    is_trial: bool

    def opening(self, n: int, state: str, name: str) -> NDArray[np.float64]:
        """One figure of each opening of an archive."""
        return np.array([opening[name] for opening in self.openings[n][state]])

    def times_as_fast(self, name: str) -> NDArray[np.float64]:
        """How many times as fast as a contestant PlanetCR is, in each turn."""
        medians = {key: np.median(self.times[key], axis=1) for key in (name, PLANETCR)}
        return medians[name] / medians[PLANETCR]

    def indexing_per_file(self, n: int) -> NDArray[np.float64]:
        """Seconds for each file, for each time that an archive was indexed."""
        return self.opening(n, 'cold', 'open') / (FILES * n)

    def torchgeo_per_file(self) -> NDArray[np.float64]:
        """Seconds for each file, for each time that plain TorchGeo opened all kinds."""
        seconds = [sum(k['open'] for k in kinds.values()) for kinds in self.torchgeo]
        files = [sum(k['files'] for k in kinds.values()) for kinds in self.torchgeo]
        return np.array(seconds) / np.array(files)

    def indexing_ratio(self, n: int) -> NDArray[np.float64]:
        """How many times as fast as plain TorchGeo PlanetCR indexes a file, each time."""
        return self.torchgeo_per_file() / self.indexing_per_file(n)

    def crop_ratio(self, n: int, reading: str) -> NDArray[np.float64]:
        """Ratio of the cost of a crop to that in the smallest archive, in each turn."""
        smallest = self.crops[min(self.crops)]
        costs = [np.median(c[reading], axis=1) for c in (self.crops[n], smallest)]
        return costs[0] / costs[1]


def _number(value: float) -> str:
    """Write a number with three digits."""
    digits = max(0, 2 - int(np.floor(np.log10(value)))) if value > 0 else 0
    return f'{value:.{digits}f}'


def spread(values: Iterable[float]) -> str:
    """Write the median, the least and the largest number."""
    values = np.array(list(values))
    low, high = _number(values.min()), _number(values.max())
    return f'{_number(float(np.median(values)))} ({low} to {high})'


def _quantiles(values: NDArray[Any]) -> str:
    """Write the median, and the quantiles of 10 % and 90 %."""
    low, median, high = np.quantile(values, (0.1, 0.5, 0.9))
    return f'{_number(median)} ({_number(low)} to {_number(high)})'


def _count(number: int) -> str:
    """Write a number with spaces between thousands."""
    return f'{number:,}'.replace(',', ' ')


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table in Markdown, whose first column is text."""
    align = ['---', *['---:'] * (len(header) - 1)]
    return '\n'.join(f'| {" | ".join(row)} |' for row in (header, align, *rows))


def hardware() -> str:
    """Describe the processor and the memory of the machine."""
    cpu = platform.processor() or platform.machine()
    for line in Path('/proc/cpuinfo').read_text().splitlines():
        if line.startswith('model name'):
            cpu = line.partition(':')[2].strip()
    memory = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 1e9
    return f'{cpu}, {os.cpu_count()} cores, {memory:.0f} GB of memory'


def _machine(result: Measurements) -> str:
    """Describe the machine and the versions of software."""
    versions = {
        'Python': platform.python_version(),
        'PyTorch': torch.__version__,
        'TorchGeo': torchgeo.__version__,
        'rasterio': rasterio.__version__,
        'GDAL': rasterio.__gdal_version__,
        'NumPy': np.__version__,
    }
    names = ', '.join(f'{name} {version}' for name, version in versions.items())
    return (
        f'{hardware()}, {_disk(result.disk)}, {platform.system()}; {names}. '
        f'{datetime.date.today().isoformat()}, {result.minutes:.0f} minutes, load average '
        f'{result.load:.1f} at the start.'
    )


def _disk(folder: Path) -> str:
    """Describe the disk of a folder, which may no longer exist."""
    mounts = [line.split() for line in Path('/proc/mounts').read_text().splitlines()]
    found = [mount for mount in mounts if folder.is_relative_to(mount[1])]
    device, _, system, *_ = max(found, key=lambda mount: len(mount[1]))
    name = Path(device).name
    if name.startswith('vd'):
        return f'a virtual disk ({system})'
    # The disk of a partition is the folder above it
    for place in (f'{name}/queue', f'{name}/../queue'):
        path = Path('/sys/class/block') / place / 'rotational'
        if path.exists():
            kind = 'a hard disk' if path.read_text().strip() == '1' else 'an SSD'
            return f'{kind} ({system})'
    return f'a disk of unknown kind ({system})'


class Goal(NamedTuple):
    """A goal, and whether it is reached."""

    what: str
    asked: str
    measured: str
    is_reached: bool


def _goals(result: Measurements) -> list[Goal]:
    """Goals, and what was measured."""
    goals = []
    for name, least in ((UNCACHED, 10), (RASTERIO, 5)):
        ratios = result.times_as_fast(name)
        goals.append(
            Goal(
                f'crops per second, 1 process, against {name}',
                f'at least {least} times',
                f'{spread(ratios)} times',
                bool(np.median(ratios) >= least),
            )
        )
    shares = 100 * result.times_as_fast(FLOOR)
    goals.append(
        Goal(
            'crops per second, 1 process, against the floor',
            'at least 40 %',
            f'{spread(shares)} %',
            bool(np.median(shares) >= 40),
        )
    )
    # The benchmark has ended with an error if a pixel differs
    goals.append(
        Goal('pixels', 'identical', f'identical in {result.windows} windows', True)
    )
    largest, smallest = max(result.openings), min(result.openings)
    title = f'{_count(largest)} quartets'
    seconds = result.opening(largest, 'warm', 'open')
    before = result.opening(largest, 'warm', 'memory_import')
    after = result.opening(largest, 'warm', 'memory_open')
    ratios = result.indexing_ratio(largest)
    costs = result.crop_ratio(largest, 'again')
    goals += [
        Goal(
            f'opening an indexed root of {title}',
            'at most 2 s',
            f'{spread(seconds)} s',
            bool(np.median(seconds) <= 2),
        ),
        Goal(
            f'resident memory that opening {title} adds',
            'at most 600 MB',
            f'{spread(after - before)} MB',
            bool(np.median(after - before) <= 600),
        ),
        Goal(
            'the same, together with the memory of `import` (PyTorch and TorchGeo)',
            'at most 600 MB',
            f'{spread(after)} MB',
            bool(np.median(after) <= 600),
        ),
        Goal(
            f'first indexing of {title}, for each file, against plain TorchGeo',
            'at least 5 times',
            f'{spread(ratios)} times',
            bool(np.median(ratios) >= 5),
        ),
        Goal(
            f'cost of a crop at {title} against {_count(smallest)}',
            'at most 1.2 times',
            f'{spread(costs)} times',
            bool(np.median(costs) <= 1.2),
        ),
    ]
    return goals


def goal_table(goals: Iterable[Goal]) -> str:
    """Goals, and what was measured."""
    return table(
        ['', 'asked', 'measured', 'reached'],
        [
            [
                goal.what,
                goal.asked,
                goal.measured,
                'yes' if goal.is_reached else '**no**',
            ]
            for goal in goals
        ],
    )


def _crop_table(result: Measurements) -> str:
    """Table of the crops per second of each contestant."""
    rows = []
    for name, times in result.times.items():
        speeds = result.speeds[name]
        if name == PLANETCR:
            one = two = ''
        else:
            one = spread(result.times_as_fast(name))
            two = spread(result.speeds[PLANETCR] / speeds)
        rows.append(
            [
                name,
                _number(1 / float(np.median(times))),
                _quantiles(1e3 * times),
                one,
                spread(speeds),
                two,
            ]
        )
    return table(
        [
            '',
            '1 process: crops per second',
            'ms for a crop (10 % to 90 %)',
            'PlanetCR is so many times as fast',
            f'{contestants.WORKERS} workers: crops per second',
            'PlanetCR is so many times as fast',
        ],
        rows,
    )


def _opening_table(result: Measurements) -> str:
    """Table of the seconds to open an archive and to read its first crop."""
    rows = []
    for n in result.openings:
        for state, title in (('cold', 'none'), ('warm', 'kept')):
            seconds = [
                spread(result.opening(n, state, name))
                for name in ('import', 'open', 'first')
            ]
            rows.append([_count(n), _count(FILES * n), title, *seconds])
    return table(
        [
            'quartets',
            'files',
            'index',
            's to import, before',
            's to open',
            's to open and read a first crop',
        ],
        rows,
    )


def _memory_table(result: Measurements) -> str:
    """Table of the memory that an open archive takes."""
    names = ('memory_import', 'memory_open', 'memory_first', 'memory_peak')
    rows = []
    for n in result.openings:
        for state, title in (('cold', 'none'), ('warm', 'kept')):
            before, opened, first, peak = (
                result.opening(n, state, name) for name in names
            )
            columns = [before, opened - before, opened, first, peak]
            rows.append(
                [_count(n), title, *(f'{np.median(column):.0f}' for column in columns)]
            )
    return table(
        [
            'quartets',
            'index',
            'MB after import',
            'MB that opening adds',
            'MB once open',
            'MB after the first crop',
            'MB at most',
        ],
        rows,
    )


def _indexing_table(result: Measurements) -> str:
    """Table of the time for each file when an archive is indexed."""
    rows = []
    for kind, first in result.torchgeo[0].items():
        seconds = np.array([kinds[kind]['open'] for kinds in result.torchgeo])
        files = int(first['files'])
        name = f'plain TorchGeo, `{kind}`'
        rows.append([name, _count(files), spread(1e3 * seconds / files), ''])
    files = sum(int(kind['files']) for kind in result.torchgeo[0].values())
    name = 'plain TorchGeo, all four kinds'
    rows.append([name, _count(files), spread(1e3 * result.torchgeo_per_file()), ''])
    for n in result.openings:
        per_file = spread(1e3 * result.indexing_per_file(n))
        ratio = spread(result.indexing_ratio(n))
        name = f'PlanetCR, {_count(n)} quartets'
        rows.append([name, _count(FILES * n), per_file, ratio])
    return table(
        ['', 'files', 'ms for a file', 'times as fast as plain TorchGeo'], rows
    )


def _cost_table(result: Measurements) -> str:
    """Table of the cost of a crop by number of quartets."""
    rows = []
    for n, times in result.crops.items():
        row = [_count(n)]
        for reading in ('again', 'first'):
            row.append(_quantiles(1e3 * times[reading]))
            ratio = result.crop_ratio(n, reading)
            row.append('1' if n == min(result.crops) else spread(ratio))
        rows.append(row)
    return table(
        [
            'quartets',
            'ms for a crop, read before (10 % to 90 %)',
            'ratio',
            'ms for a crop, first reading (10 % to 90 %)',
            'ratio',
        ],
        rows,
    )


def to_markdown(result: Measurements) -> str:
    """Write the report of ``data_loading.py``.

    Args:
        result: What was measured.

    Returns:
        Markdown.
    """
    turns, count = result.times[PLANETCR].shape
    cost_turns, cost_count = result.crops[min(result.crops)]['again'].shape
    cold, warm = (
        len(result.openings[min(result.openings)][k]) for k in ('cold', 'warm')
    )
    size, coarse = contestants.SIZE, contestants.COARSE_SIZE
    *compared, last = (f'`{n}`' if n == FLOOR else n for n in result.compared)
    before = np.median(result.opening(max(result.openings), 'warm', 'memory_import'))
    imports = (
        f'`import` alone takes {before:.0f} MB, nearly all of it PyTorch and TorchGeo.'
    )
    fastest = {
        name: (1 / float(np.median(times)), float(np.median(result.speeds[name])))
        for name, times in result.times.items()
    }
    slower = [name for name, (one, workers) in fastest.items() if workers < one]
    workers = ''
    if slower:
        workers = (
            f'With workers, {" and ".join(slower)} gave fewer crops per second than '
            'without: putting a crop into a batch and sending it to another process takes '
            'longer than reading it.'
        )
    sizes = ', '.join(map(_count, list(result.openings)[:-1]))
    sizes += f' and {_count(max(result.openings))}'
    trial = '**A trial: its figures mean nothing.**\n\n' if result.is_trial else ''
    return wrap(f"""# How fast data are loaded

<!-- Written by `python benchmarks/data_loading.py`: run it again instead of editing. -->

{trial}`python benchmarks/data_loading.py` measured this on one machine and in one run, and
wrote this page. It writes its archives itself. One has 36 patches with pixels in one UTM
zone, because plain TorchGeo needs one CRS. Others have {sizes} quartets in 780
areas and 60 UTM zones. Their files have a real header, and a hole of the file system in the
place of their pixels, which reads as zeros. Contestants read the same windows in turns, and
ratios are taken within each turn. Unless said otherwise, figures are the median and, in
brackets, the least and the largest of all turns or repetitions.

The cache of the operating system is always warm, because only an administrator can empty
it. "Without index" means that PlanetCR had not read the files before. It does not mean that
they were read from the disk.

Machine: {_machine(result)}

![Crops per second, time to open an archive, and cost of a crop]({NAME}.png)

## Goals

{goal_table(_goals(result))}

{imports}

## Crops per second

Random {size} x {size} crops of all five modalities, Sentinel-1 and land cover placed on the
3 m grid by coordinates. One process, with one thread: {turns} turns of {count} crops. {contestants.WORKERS} workers: a
`DataLoader` with batches of {contestants.BATCH_SIZE}, {len(result.speeds[PLANETCR])} turns. Ranges of ratios are those of all turns.

{_crop_table(result)}

{workers}

- {FLOOR}: reads the bytes of each window and converts them to tensors, and nothing more. It
  knows where the bytes are, leaves the 10 m modalities as {coarse} x {coarse} pixels, and neither
  checks anything nor says where a crop is. Its batches also have fewer bytes.
- {RASTERIO}: each file opened, and the window read, by GDAL; 10 m modalities with
  `out_shape`. Cloud masks as GeoTIFFs.
- plain TorchGeo: `RasterDataset`s joined with `&`, cloud masks as GeoTIFFs. With its cache
  on, each process keeps 128 of the 180 files open. It would keep as many files of a whole
  archive open.

Before, all five modalities were compared in {result.windows} random windows. The pixels of PlanetCR are
identical to those of {'; '.join(compared)}; and {last}. In the last comparison, PlanetCR
reads with GDAL instead of straight from the file. Land cover was compared as classes.

## Opening an archive

Each time in a new process, {cold} times without an index and {warm} times with one; `PlanetCR(root,
'train')`, without and with the first item of `RandomNativePatchSampler`. Without an index, it
reads the headers of all files of all splits and all cloud masks, and keeps the index.

{_opening_table(result)}

Memory that is resident (`VmRSS`; at most: `VmHWM` after the first crop), medians:

{_memory_table(result)}

Time to index each file, compared with plain TorchGeo (`RasterDataset`) on files of one UTM zone
in the largest of these archives. The time of PlanetCR is that of opening without an index,
divided by the number of files. TorchGeo was not measured on more files.

{_indexing_table(result)}

## Cost of a crop by size of the archive

{cost_turns} turns of {cost_count} random crops of each archive in one process. All windows are read for the
first time, and then again. At the first reading, the operating system has to find pages for
the holes. It has to find more if fewer windows share a patch.

{_cost_table(result)}
""")


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """Make a parser of the arguments that all measurements have.

    Args:
        description: Docstring of the script.

    Returns:
        A parser of ``output`` and ``quick``.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--output',
        type=Path,
        help='folder of the report (defaults to docs/benchmarks; a trial is only printed)',
    )
    parser.add_argument('--quick', action='store_true', help='a trial')
    return parser


def publish(text: str, args: argparse.Namespace, name: str) -> Path | None:
    """Print a report. Write it unless it is a trial for which no folder is given.

    Args:
        text: The report.
        args: Arguments of :func:`make_parser`.
        name: Name of the file, without its suffix.

    Returns:
        Folder to which it was written, or None.
    """
    print(text)
    folder: Path | None = args.output
    if folder is None and not args.quick:
        folder = Path(__file__).parents[1] / 'docs' / 'benchmarks'
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f'{name}.md').write_text(text)
    return folder


def wrap(markdown: str) -> str:
    """Break the lines of paragraphs and lists again, and remove empty paragraphs."""
    blocks = []
    for block in filter(None, map(str.strip, markdown.split('\n\n'))):
        if block.startswith('- '):
            items = block.removeprefix('- ').split('\n- ')
        elif block[0] in '|#!<':
            blocks.append(block)
            continue
        else:
            items = [block]
        marks = ('- ', '  ') if block.startswith('- ') else ('', '')
        lines = [
            textwrap.fill(
                ' '.join(item.split()),
                90,
                initial_indent=marks[0],
                subsequent_indent=marks[1],
                break_long_words=False,
                break_on_hyphens=False,
            )
            for item in items
        ]
        blocks.append('\n'.join(lines))
    return '\n\n'.join(blocks) + '\n'


def _clean(axes: Axes, title: str) -> None:
    """Set the title, and remove lines and ticks that show nothing."""
    axes.set_title(title, loc='left', fontsize=9, color=TEXT, fontweight='bold')
    axes.spines[['top', 'right']].set_visible(False)
    axes.spines[['left', 'bottom']].set_color(GRAY)
    axes.tick_params(colors=TEXT, labelsize=8, length=2, which='both')
    axes.minorticks_off()


def _draw_crops(axes: Axes, result: Measurements) -> None:
    """Draw bars of crops per second in one process and with workers."""
    names = list(result.times)[::-1]
    one = [1 / float(np.median(result.times[name])) for name in names]
    two = [float(np.median(result.speeds[name])) for name in names]
    titles = [f'{contestants.WORKERS} workers', '1 process']
    for row, (name, values) in enumerate(zip(names, zip(two, one))):
        color = BLUE if name == PLANETCR else GRAY
        for offset, value, title in zip((-0.2, 0.2), values, titles):
            axes.barh(row + offset, value, 0.36, color=color)
            text = f' {_number(value)}'
            if row == len(names) - 1:
                text += f'  ({title})'
            axes.text(value, row + offset, text, va='center', fontsize=7, color=TEXT)
    labels = [name.replace(', ', ',\n').replace(' (', '\n(') for name in names]
    axes.set_yticks(range(len(names)), labels)
    axes.set_xticks([])
    axes.spines['bottom'].set_visible(False)
    axes.set_xlim(0, 1.35 * max(*one, *two))
    _clean(axes, 'Crops per second')
    axes.spines['bottom'].set_visible(False)


def _draw_lines(
    axes: Axes, lines: dict[str, tuple[str, dict[int, float]]], unit: str
) -> None:
    """Draw lines over the number of quartets, with a label at the end of each."""
    for label, (color, values) in lines.items():
        ns, ys = list(values), list(values.values())
        axes.plot(ns, ys, 'o-', color=color, markersize=3.5, linewidth=1.5)
        for n, y in values.items():
            axes.annotate(
                f'{_number(y)} {unit}',
                (n, y),
                (2, -11),
                textcoords='offset points',
                fontsize=7,
                color=TEXT,
            )
        axes.annotate(
            label,
            (ns[-1], ys[-1]),
            (12, 9),
            textcoords='offset points',
            ha='right',
            fontsize=8,
            color=color,
        )
    axes.set_xscale('log')
    axes.set_xticks(ns, [_count(n) for n in ns])
    axes.set_xlim(0.6 * ns[0], 2.6 * ns[-1])
    axes.set_xlabel('quartets', fontsize=8, color=TEXT)


def draw(result: Measurements, path: Path) -> None:
    """Draw the chart of ``data_loading.py``.

    Args:
        result: What was measured.
        path: PNG file to write.
    """
    mpl.use('Agg')
    figure, panels = plt.subplots(
        1, 3, figsize=(11, 3.4), width_ratios=(1.25, 1, 1), layout='constrained'
    )
    left, middle, right = panels
    _draw_crops(left, result)

    opening: dict[str, dict[int, float]] = {
        state: {
            n: float(np.median(result.opening(n, state, 'open')))
            for n in result.openings
        }
        for state in ('cold', 'warm')
    }
    _draw_lines(
        middle,
        {
            'without index': (TEXT, opening['cold']),
            'with index': (BLUE, opening['warm']),
        },
        's',
    )
    middle.set_yscale('log')
    low, high = min(opening['warm'].values()), max(opening['cold'].values())
    middle.set_ylim(low / 3, high * 2)
    middle.set_yticks([])
    _clean(middle, 'Time to open an archive (logarithmic)')

    costs: dict[str, dict[int, float]] = {
        reading: {
            n: 1e3 * float(np.median(times[reading]))
            for n, times in result.crops.items()
        }
        for reading in ('first', 'again')
    }
    _draw_lines(
        right,
        {
            'read before': (BLUE, costs['again']),
            'first reading': (TEXT, costs['first']),
        },
        'ms',
    )
    right.set_ylim(0, 1.4 * max(costs['first'].values()))
    right.set_yticks([])
    _clean(right, 'Time for a crop')
    figure.savefig(path, dpi=130, facecolor='white')
    plt.close(figure)
