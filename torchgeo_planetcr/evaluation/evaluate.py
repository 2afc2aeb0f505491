# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Evaluation of methods on a split: rows, summary and report."""

import datetime
import os
import platform
import sys
import warnings
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any, Literal, cast

import numpy as np
import pandas as pd
import torch
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
from .output import check_folder, to_text, without_nan, write
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

#: Format of the summary.
FORMAT = 1

#: Largest share of values outside of [0, 1] that is not worth a note.
LARGEST_SHARE_BEYOND = 0.01


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
    devices: int = 1,
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
            own; from Python each of them runs the whole script
        overwrite: replace what *out* holds of an earlier evaluation

    Returns:
        The main figures, as text; None in all processes but the first.

    Raises:
        DatasetNotFoundError: If there is no patch of this split.
        FileExistsError: If *out* holds a file of one of these names and *overwrite* is
            not set.
        OSError: If no patch can be used, or a file cannot be read or written.
        TypeError: If *methods* is a single path.
        ValueError: If an argument is unknown, if *out* is *root*, if the data are NaN,
            a checkpoint does not fit, or predictions are missing, too many or wrong.
    """
    if protocol not in PROTOCOLS:
        msg = f'protocol={protocol!r} is not one of {", ".join(PROTOCOLS)}.'
        raise ValueError(msg)
    if alignment not in (None, 'geo', 'reference'):
        msg = f'alignment={alignment!r} is not one of geo, reference.'
        raise ValueError(msg)
    if table not in ('parquet', 'csv'):
        msg = f'table={table!r} is not one of parquet, csv.'
        raise ValueError(msg)
    check_folder(out, root, overwrite)
    chosen = PROTOCOLS[protocol]
    chosen = chosen._replace(
        size=chosen.size if size is None else size,
        alignment=alignment or chosen.alignment,
    )

    with warnings.catch_warnings(record=True) as caught:
        # What is left out belongs beside the figures
        warnings.simplefilter('always', UserWarning)
        dataset = PlanetCR(root, split, alignment=chosen.alignment)
    notes = [str(w.message) for w in caught if issubclass(w.category, UserWarning)]
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
        # What Lightning would choose in a notebook leaves the results in other processes
        strategy='auto' if devices == 1 else 'ddp',
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=sys.stdout.isatty(),
        use_distributed_sampler=False,
    )
    # TF32 would make figures of a GPU others than those of a CPU
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        trainer.test(measurement, verbose=False)
    if not trainer.is_global_zero:
        return None

    rows, records = _count(measurement, areas)
    device = trainer.strategy.root_device
    summary = {
        'format': FORMAT,
        'created': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
        'versions': {
            'python': platform.python_version(),
            **{package: version(package) for package in PACKAGES},
        },
        'hardware': {
            'accelerator': device.type,
            'device': _name_device(device),
            'processes': trainer.world_size,
            'batch_size': batch_size,
            'precision': trainer.precision,
        },
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
            'name': protocol + ' (modified)' * (chosen != PROTOCOLS[protocol]),
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
        'notes': [*notes, *_notes(measurement)],
    }
    if landcover is not None and landcover_model is not None:
        summary['landcover'] = _landcover(
            measurement, areas, landcover, landcover_model
        )
    summary = without_nan(summary)

    # Models are off the device again
    measurement.to(device)
    examples = _examples(measurement, rows)
    write(out, table, rows, summary, render_report(summary, examples))
    return to_text(summary, out)


def _name_device(device: torch.device) -> str:
    """Name a device as its maker does, if that can be known."""
    if device.type == 'cuda':
        return torch.cuda.get_device_name(device)
    return platform.processor() or platform.machine()


def _notes(measurement: Measurement) -> list[str]:
    """Say what a reader of the figures should know of the values behind them."""
    notes = []
    if measurement.num_no_data:
        notes.append(
            f'{measurement.num_no_data} pixels have no data in the cloudy or the '
            'cloud-free image (0 in all bands). They are measured like all others.'
        )
    for name, share in measurement.share_beyond.items():
        if share > LARGEST_SHARE_BEYOND:
            notes.append(
                f'{100 * share:.2g} % of the values of {name} lie outside of [0, 1], '
                'beyond any reflectance. The standard protocol clamps them.'
            )
    return notes


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
    metrics = cast(PatchMetrics, measurement.metrics[0])
    compared = comparisons(estimates, metrics, areas)
    return (
        pd.concat(tables, ignore_index=True),
        {'figures': records, 'comparisons': compared},
    )


def _landcover(
    measurement: Measurement, areas: Areas, model: SemanticSegmentation, path: Path
) -> dict[str, Any]:
    """Summarize how well land cover is mapped from each image."""
    level = landcover_level(model)
    records = landcover_figures(
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
        **records,
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
