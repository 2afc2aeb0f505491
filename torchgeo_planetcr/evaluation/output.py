# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""What an evaluation leaves behind: files, and a few lines to read."""

import contextlib
import json
import math
import os
import tempfile
from collections.abc import Mapping
from typing import Any

import pandas as pd
from torchgeo.datasets.utils import Path

#: Names of what is written. The summary is the last.
TABLES = {'parquet': 'patches.parquet', 'csv': 'patches.csv'}
REPORT = 'report.html'
SUMMARY = 'summary.json'


def check_folder(out: Path, root: Path, overwrite: bool) -> None:
    """Refuse a folder that cannot or should not be written.

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
        msg = f'{out} is the folder of the data: write to another folder.'
        raise ValueError(msg)
    names = [
        name
        for name in (*TABLES.values(), REPORT, SUMMARY)
        if os.path.exists(os.path.join(out, name))
    ]
    if names and not overwrite:
        msg = f'{out} holds {", ".join(names)} already: write to another folder, or '
        msg += 'overwrite an earlier evaluation with --overwrite (overwrite=True).'
        raise FileExistsError(msg)
    parent = os.path.abspath(out)
    while not os.path.exists(parent):
        parent = os.path.dirname(parent)
    if not os.path.isdir(parent):
        msg = f'{parent} is not a folder: write to another one.'
        raise NotADirectoryError(msg)
    if not os.access(parent, os.W_OK):
        msg = f'{parent} cannot be written: write to another folder.'
        raise PermissionError(msg)


def without_nan(value: Any) -> Any:
    """Replace NaN, which JSON does not have, by None.

    Args:
        value: Dictionaries, lists, numbers and texts.

    Returns:
        The same without NaN.
    """
    if isinstance(value, Mapping):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def write(
    out: Path, table: str, rows: pd.DataFrame, summary: Mapping[str, Any], report: str
) -> None:
    """Write rows, report and summary, each of which appears whole or not at all.

    Args:
        out: Folder to write to.
        table: 'parquet' or 'csv'.
        rows: A row for each method and patch.
        summary: All figures, without NaN.
        report: The report as HTML.
    """
    os.makedirs(out, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix='.unfinished-') as folder:
        path = os.path.join(folder, TABLES[table])
        if table == 'csv':
            rows.to_csv(path, index=False)
        else:
            rows.to_parquet(path, index=False)
        with open(os.path.join(folder, REPORT), 'w', encoding='utf-8') as file:
            file.write(report)
        with open(os.path.join(folder, SUMMARY), 'w', encoding='utf-8') as file:
            json.dump(summary, file, indent=1, allow_nan=False)
        # Whatever happens next, no old summary is left beside new rows
        for name in (SUMMARY, *TABLES.values()):
            with contextlib.suppress(FileNotFoundError):
                os.remove(os.path.join(out, name))
        for name in (TABLES[table], REPORT, SUMMARY):
            os.replace(os.path.join(folder, name), os.path.join(out, name))


def to_text(summary: Mapping[str, Any], out: Path) -> str:
    """Main figures as text.

    Args:
        summary: All figures.
        out: Folder that they were written to.

    Returns:
        A few lines.
    """
    data, protocol = summary['data'], summary['protocol']
    cells: dict[str, dict[str, str]] = {}
    for figure in summary['figures']:
        if figure['kind'] == 'all':
            value = figure['value']
            text = 'none' if value is None else f'{value:.4g}'
            if figure['low'] is not None:
                text += f' ({figure["low"]:.4g} to {figure["high"]:.4g})'
            cells.setdefault(figure['method'], {})[figure['metric']] = text
    size = protocol['size']
    window = 'whole patches'
    if size is not None:
        window = f'{size[0]} x {size[1]} pixels in the centre of each patch'
    head = f'Split {data["split"]} of {data["root"]}: {data["patches"]} patches, '
    head += f'{data["areas"]} areas'
    lines = [
        head,
        f'Protocol: {protocol["name"]}, {window}',
        '',
        pd.DataFrame.from_dict(cells, orient='index').to_string(),
        '',
    ]
    if summary['landcover'] is not None:
        means = {
            figure['image']: figure['iou']
            for figure in summary['landcover']['figures']
            if figure['pixels'] == 'all' and figure['class'] == 'mean'
        }
        shown = (
            f'{name} {value:.4g}' for name, value in means.items() if value is not None
        )
        lines += [f'Land cover, mIoU on images: {", ".join(shown)}', '']
    lines += [
        *(f'Note: {note}' for note in summary['notes']),
        f'Report: {os.path.join(out, REPORT)}',
    ]
    return '\n'.join(lines)
