# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Evaluation of methods on a split: rows, summary and report."""

import contextlib
import datetime
import json
import math
import os
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any, Literal, cast

import numpy as np
import pandas as pd
from lightning.pytorch import Trainer
from torch import nn
from torchgeo.datasets.utils import Path
from torchgeo.tasks import SemanticSegmentation

from ..datasets import PlanetCR
from ..datasets.components import PlanetCRWorldCover
from ..metrics import LPIPS, PROTOCOLS, PatchMetrics
from .landcover import landcover_figures, landcover_level, load_landcover_model
from .measure import Measurement
from .methods import load_methods
from .patches import EvaluationPatches, file_hash, fingerprint
from .report import Example, render_report
from .statistics import (
    LEVEL,
    RESAMPLES,
    SEED,
    Areas,
    area_figures,
    comparisons,
    estimate,
    figures,
    patch_table,
    strata,
)

#: Packages on which the figures depend.
PACKAGES = (
    'torchgeo-planetcr',
    'torchgeo',
    'torch',
    'torchmetrics',
    'lightning',
    'rasterio',
    'numpy',
)

#: Metric by which the patches to look at are chosen.
EXAMPLE_METRIC = 'PSNR'

#: Names of what is written, besides the rows. The summary is the last.
REPORT = 'report.html'
SUMMARY = 'summary.json'


def evaluate(
    root: Path,
    methods: Sequence[Path] | Mapping[str, Path | nn.Module],
    out: Path = 'evaluation',
    split: Literal['train', 'val', 'test'] = 'test',
    protocol: Literal['standard', 'reference'] = 'standard',
    size: int | None = None,
    alignment: Literal['geo', 'reference'] | None = None,
    landcover_model: Path | None = None,
    table: Literal['parquet', 'csv'] = 'parquet',
    batch_size: int = 1,
    num_workers: int = 0,
    accelerator: str = 'auto',
    devices: int | str = 'auto',
    overwrite: bool = False,
) -> str | None:
    """Evaluate methods of cloud removal on a split.

    Writes a row for each patch and method (``patches.parquet`` or ``patches.csv``), all
    figures with their intervals (``summary.json``, where NaN is null), and a report to
    look at in a browser (``report.html``).

    Args:
        root: folder that holds ``train`` and ``test``
        methods: what to evaluate: 'copy' (the cloudy image), paths of checkpoints, and
            folders of predictions made elsewhere, called PATCH.tif or PATCH.npy; each
            also as NAME=PATH
        out: folder to write to
        split: one of 'train', 'val' and 'test'
        protocol: 'standard', or 'reference' for what the authors of Planet-CR do
        size: size of the window in the centre of each patch in pixels (defaults to the
            whole patch in the standard protocol and to 160 in the reference protocol)
        alignment: how Sentinel-1 and land cover meet the 3 m grid, 'geo' or 'reference'
            (defaults to 'geo' in the standard and to 'reference' in the reference
            protocol)
        landcover_model: checkpoint of TorchGeo's SemanticSegmentation, which maps land
            cover on clear, cloudy and restored images
        table: 'parquet' or 'csv'
        batch_size: size of each mini-batch
        num_workers: number of workers for parallel data loading
        accelerator: 'cpu', 'gpu', or 'auto' for what there is
        devices: number of processes that share the patches, each with a device of its
            own
        overwrite: replace what *out* holds of an earlier evaluation

    Returns:
        The main figures, as text; None in all processes but the first.

    Raises:
        DatasetNotFoundError: If there is no patch of this split.
        FileExistsError: If *out* holds an evaluation and *overwrite* is not set.
        OSError: If no patch can be used, or a file cannot be read or written.
        ValueError: If an argument is unknown, a checkpoint does not fit, or predictions
            are missing, too many or wrong.
    """
    if protocol not in PROTOCOLS:
        msg = f'protocol={protocol!r} is not one of {", ".join(PROTOCOLS)}.'
        raise ValueError(msg)
    if table not in ('parquet', 'csv'):
        msg = f'table={table!r} is not one of parquet, csv.'
        raise ValueError(msg)
    _check_out(out, overwrite)
    chosen = PROTOCOLS[protocol]
    chosen = chosen._replace(
        size=chosen.size if size is None else size,
        alignment=alignment or chosen.alignment,
    )

    with warnings.catch_warnings(record=True) as caught:
        # What is left out belongs beside the figures
        warnings.simplefilter('always', UserWarning)
        dataset = PlanetCR(root, split, alignment=chosen.alignment)
    notes = [str(warning.message) for warning in caught]
    patches = EvaluationPatches(dataset, chosen.size)
    loaded = load_methods(methods, patches)
    landcover = None
    if landcover_model is not None:
        landcover = load_landcover_model(landcover_model)
    metrics = dict(chosen.metrics)
    if protocol == 'standard':
        if os.path.isfile(LPIPS.weights_path()):
            metrics['LPIPS'] = LPIPS
        else:
            notes.append(
                'LPIPS was not computed, as the weights of AlexNet are not installed '
                f'in {LPIPS.weights_path()}.'
            )

    areas = Areas(patches.table['aoi'].tolist())
    measurement = Measurement(
        loaded, metrics, patches, areas.codes, landcover, batch_size, num_workers
    )
    trainer = Trainer(
        accelerator=accelerator,
        devices=devices,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.test(measurement, verbose=False)
    if not trainer.is_global_zero:
        return None

    if measurement.num_no_data:
        notes.append(
            f'{measurement.num_no_data} pixels have no data in the cloudy or the '
            'cloud-free image (0 in all bands). They are measured like all others.'
        )
    rows, records = _count(measurement, areas)
    summary = {
        'created': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
        'versions': {package: version(package) for package in PACKAGES},
        'data': {
            'root': os.fspath(root),
            'split': split,
            'patches': len(patches),
            'areas': len(areas.names),
            'fingerprint': fingerprint(
                {os.path.relpath(path, root): path for path in dataset.files}
            ),
        },
        'protocol': {
            'name': protocol,
            'size': chosen.size and [chosen.size, chosen.size],
            'alignment': chosen.alignment,
            'description': chosen.description,
            'metrics': {
                name: {
                    'unit': metric.unit,
                    'higher_is_better': metric.higher_is_better,
                    'description': metric.definition,
                }
                for name, metric in metrics.items()
            },
        },
        'bootstrap': {
            'unit': 'area',
            'resamples': RESAMPLES,
            'seed': SEED,
            'level': LEVEL,
        },
        'methods': {name: method.describe() for name, method in loaded.items()},
        **records,
        'landcover': None,
        'notes': notes,
    }
    if landcover is not None and landcover_model is not None:
        summary['landcover'] = _landcover(
            measurement, areas, landcover, landcover_model
        )
    summary = _without_nan(summary)

    # Models are off the device again
    measurement.to(trainer.strategy.root_device)
    examples = _examples(measurement, rows)
    _write(out, table, rows, summary, examples)
    return _text(summary, os.path.join(out, REPORT))


def _count(
    measurement: Measurement, areas: Areas
) -> tuple[pd.DataFrame, dict[str, list[dict[str, Any]]]]:
    """Make the rows of all patches and methods, the figures and the comparisons."""
    tables, records, estimates = [], [], {}
    for (name, values), module in zip(measurement.values.items(), measurement.metrics):
        metrics = cast(PatchMetrics, module)
        pixels = values.pixels.sum(dim=2)
        patches = measurement.patches.table.assign(
            cloud_cover=(pixels[:, 1].double() / pixels.sum(dim=1)).numpy()
        )
        estimates[name] = [
            estimate(stratum, metrics, areas)
            for stratum in strata(values, metrics, patches)
        ]
        records += figures(name, estimates[name])
        records += area_figures(name, values, list(metrics.metrics), areas)
        rows = patch_table(values, metrics, patches)
        rows.insert(0, 'method', name)
        tables.append(rows)
    compared = comparisons(estimates, cast(PatchMetrics, measurement.metrics[0]))
    return (
        pd.concat(tables, ignore_index=True),
        {'figures': records, 'comparisons': compared},
    )


def _landcover(
    measurement: Measurement, areas: Areas, model: SemanticSegmentation, path: Path
) -> dict[str, Any]:
    """Summarize how well land cover is mapped from each image."""
    level = landcover_level(model)
    found, gaps = landcover_figures(
        {name: counts.numpy() for name, counts in measurement.landcover.items()},
        areas.weights,
        PlanetCRWorldCover.classes[level],
    )
    return {
        'model': {
            'source': os.fspath(path),
            'sha256': file_hash(path),
            'model': model.hparams['model'],
            'backbone': model.hparams['backbone'],
            'level': level,
        },
        'figures': found,
        'gaps': gaps,
    }


def _examples(measurement: Measurement, rows: pd.DataFrame) -> list[Example]:
    """Restore the best, the median and the worst patch of each method once more."""
    reasons: dict[int, list[str]] = {}
    for name in measurement.names:
        values = rows.loc[rows['method'] == name, EXAMPLE_METRIC].to_numpy()
        order = np.argsort(-values, kind='stable')
        for reason, place in (
            ('Best', 0),
            ('Median', len(order) // 2),
            ('Worst', len(order) - 1),
        ):
            reasons.setdefault(int(order[place]), []).append(f'{reason} of {name}')
    names = list(cast(PatchMetrics, measurement.metrics[0]).metrics)
    examples = []
    for number, texts in reasons.items():
        sample = measurement.restore_patch(number)
        patch = measurement.patches.names[number]
        values = rows[rows['patch'] == patch].set_index('method')[names]
        examples.append(
            Example(
                patch,
                texts,
                sample,
                dict(zip(measurement.names, sample.pop('prediction'))),
                {str(name): dict(row) for name, row in values.iterrows()},
            )
        )
    return examples


def _without_nan(value: Any) -> Any:
    """Replace NaN, which JSON does not have, by None."""
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _check_out(out: Path, overwrite: bool) -> None:
    """Refuse a folder that cannot be written, before anything is computed."""
    if os.path.exists(os.path.join(out, SUMMARY)) and not overwrite:
        msg = f'{out} holds an evaluation already: write to another folder, or '
        msg += 'overwrite it with --overwrite (overwrite=True).'
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


def _write(
    out: Path,
    table: str,
    rows: pd.DataFrame,
    summary: Mapping[str, Any],
    examples: Sequence[Example],
) -> None:
    """Write rows, report and summary, each of which appears whole or not at all."""
    os.makedirs(out, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix='.unfinished-') as folder:
        name = f'patches.{table}'
        path = os.path.join(folder, name)
        if table == 'csv':
            rows.to_csv(path, index=False)
        else:
            rows.to_parquet(path, index=False)
        with open(os.path.join(folder, REPORT), 'w', encoding='utf-8') as file:
            file.write(render_report(summary, examples))
        with open(os.path.join(folder, SUMMARY), 'w', encoding='utf-8') as file:
            json.dump(summary, file, indent=1, allow_nan=False)
        for written in (name, REPORT, SUMMARY):
            os.replace(os.path.join(folder, written), os.path.join(out, written))
    # Rows of the earlier evaluation are not of this one
    for other in {'patches.csv', 'patches.parquet'} - {name}:
        with contextlib.suppress(FileNotFoundError):
            os.remove(os.path.join(out, other))


def _text(summary: Mapping[str, Any], report: str) -> str:
    """Main figures as text."""
    data, protocol = summary['data'], summary['protocol']
    cells: dict[str, dict[str, str]] = {}
    for figure in summary['figures']:
        if figure['kind'] == 'all':
            text = f'{figure["value"]:.4g}'
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
    lines += [*(f'Note: {note}' for note in summary['notes']), f'Report: {report}']
    return '\n'.join(lines)
