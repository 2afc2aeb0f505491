# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Files that an evaluation writes, and its main figures as text."""

import contextlib
import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from operator import attrgetter
from typing import Any

import pandas as pd
from torchgeo.datasets.utils import Path

from ..raster.write import appears_whole, exists_error, write_csv
from .statistics import Comparison, Figure
from .summary import LandCoverSummary, Summary

#: Names of the files.
TABLES = {'parquet': 'patches.parquet', 'csv': 'patches.csv'}
REPORT = 'report.html'
SUMMARY = 'summary.json'


@dataclass(frozen=True, repr=False, eq=False)
class Evaluation:
    """What an evaluation has found. Its text is the main figures."""

    #: All figures, and what they were made with.
    summary: Summary

    #: A row for each method and patch, as in the file.
    patches: pd.DataFrame

    #: Folder that it was written to.
    out: Path

    def __repr__(self) -> str:
        """Main figures as text, see :func:`to_text`."""
        return to_text(self.summary, self.out)

    @property
    def report(self) -> str:
        """Path of the report."""
        return os.path.join(self.out, REPORT)

    @cached_property
    def figures(self) -> pd.DataFrame:
        """A row for each :class:`~torchgeo_planetcr.evaluation.statistics.Figure`."""
        return _tabulate(self.summary.figures, Figure)

    @cached_property
    def comparisons(self) -> pd.DataFrame:
        """A row for each :class:`~torchgeo_planetcr.evaluation.statistics.Comparison`."""
        return _tabulate(self.summary.comparisons, Comparison)


def _tabulate(records: Iterable[Any], kind: Any) -> pd.DataFrame:
    """Make a row of each record, with the fields of its kind as columns."""
    names = [field.name for field in fields(kind)]
    return pd.DataFrame(map(attrgetter(*names), records), columns=names)


def check_folder(out: Path, root: Path, overwrite: bool) -> None:
    """Check that the files can and may be written to a folder.

    Args:
        out: Folder to write to.
        root: Folder of the data.
        overwrite: Whether an earlier evaluation may be replaced.

    Raises:
        FileExistsError: If *out* holds one of the files to write already.
        OSError: If *out* cannot be written.
        ValueError: If *out* is the folder of the data.
    """
    if os.path.realpath(out) == os.path.realpath(root):
        raise ValueError(f'{out} is the folder of the data: write to another folder')
    names = [
        name
        for name in (*TABLES.values(), REPORT, SUMMARY)
        if os.path.exists(os.path.join(out, name))
    ]
    if names and not overwrite:
        raise exists_error(f'{out} holds {", ".join(names)} already')
    parent = os.path.abspath(out)
    while not os.path.exists(parent):
        parent = os.path.dirname(parent)
    if not os.path.isdir(parent):
        raise NotADirectoryError(f'{parent} is not a folder: write to another folder')
    if not os.access(parent, os.W_OK):
        raise PermissionError(f'{parent} cannot be written: write to another folder')


def write(
    out: Path, table: str, rows: pd.DataFrame, summary: Mapping[str, Any], report: str
) -> None:
    """Write rows, report and summary, each of which appears whole or not at all.

    Args:
        out: Folder to write to.
        table: 'parquet' or 'csv'.
        rows: A row for each method and patch.
        summary: Content of the summary, see
            :func:`~torchgeo_planetcr.evaluation.summary.to_json`.
        report: The report as HTML.

    Raises:
        OSError: If a file cannot be written.
    """
    names = TABLES[table], REPORT, SUMMARY
    with appears_whole(*(os.path.join(out, name) for name in names)) as paths:
        table_path, report_path, summary_path = paths
        if table == 'csv':
            write_csv(table_path, rows)
        else:
            rows.to_parquet(table_path, index=False)
        with open(report_path, 'w', encoding='utf-8') as file:
            file.write(report)
        with open(summary_path, 'w', encoding='utf-8') as file:
            json.dump(summary, file, indent=1, allow_nan=False)
        # Whatever happens next, no old summary is left beside new rows
        for name in (SUMMARY, *TABLES.values()):
            with contextlib.suppress(FileNotFoundError):
                os.remove(os.path.join(out, name))


def to_text(summary: Summary, out: Path) -> str:
    """Main figures as text.

    Args:
        summary: All figures.
        out: Folder that they were written to.

    Returns:
        A few lines.
    """
    data, protocol = summary.data, summary.protocol
    window = 'whole patches'
    if protocol.size is not None:
        height, width = protocol.size
        window = f'{height} x {width} pixels in the center of each patch'
    counts = f'{data.patches} patches, {data.areas} areas'
    lines = [
        f'Split {data.split} of {data.root}: {counts}',
        f'Protocol: {protocol.name}, {window}',
        '',
        _main_figures(summary).to_string(),
        '',
    ]
    if summary.landcover is not None:
        lines += [_main_landcover_figures(summary.landcover), '']
    lines += [f'Note: {note}' for note in summary.notes]
    lines.append(f'Report: {os.path.join(out, REPORT)}')
    return '\n'.join(lines)


def _main_figures(summary: Summary) -> pd.DataFrame:
    """Tabulate methods by metrics, over all patches."""
    cells: dict[str, dict[str, str]] = {}
    for figure in summary.figures:
        if figure.kind == 'all':
            text = 'none' if math.isnan(figure.value) else f'{figure.value:.4g}'
            if not math.isnan(figure.low):
                text += f' ({figure.low:.4g} to {figure.high:.4g})'
            cells.setdefault(figure.method, {})[figure.metric] = text
    return pd.DataFrame.from_dict(cells, orient='index')


def _main_landcover_figures(landcover: LandCoverSummary) -> str:
    """List the mean IoU on each image."""
    means = [
        f'{figure.image} {figure.iou:.4g}'
        for figure in landcover.figures
        if figure.pixels == 'all'
        and figure.label == 'mean'
        and not math.isnan(figure.iou)
    ]
    return f'Land cover, mIoU on images: {", ".join(means)}'
