# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Evaluation of methods on a split: rows, summary and report."""

import datetime
import math
import os
import platform
import sys
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Literal, NamedTuple, cast

import numpy as np
import pandas as pd
import torch
from lightning.pytorch import Trainer
from torch import nn
from torchgeo.datasets.utils import Path
from torchgeo.tasks import SemanticSegmentation

from ..datasets import PlanetCR, PlanetCRWorldCover
from ..datasets.index import IndexWarning
from ..datasets.modalities import MODALITIES, ModalityName
from ..metrics import LPIPS, PROTOCOLS, ImageMetric, PatchMetrics, Protocol
from ..processes import end_with_parent
from .landcover import REGIONS, landcover_figures, landcover_level, load_landcover_model
from .measure import Measurement
from .methods import Method, load_methods
from .output import TABLES, Evaluation, check_folder, write
from .patches import EvaluationPatches, file_hash, fingerprint
from .report import Example, render_report
from .statistics import (
    LEVEL,
    RESAMPLES,
    SEED,
    Areas,
    Comparison,
    Figure,
    area_figures,
    comparisons,
    estimate,
    figures,
    patch_table,
    strata,
)
from .summary import (
    FORMAT,
    Bootstrap,
    Data,
    Hardware,
    LandCoverModel,
    LandCoverSummary,
    MetricDescription,
    ProtocolDescription,
    Summary,
    to_json,
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

#: A larger share of values outside of [0, 1] gets a note.
LARGEST_SHARE_BEYOND = 0.01

#: Ways to put modalities of 10 m on the 3 m grid.
ALIGNMENTS = ('geo', 'reference')

#: What a modality tells, without which the figures of it are left out.
FIGURES_BY: Mapping[ModalityName, str] = {
    'cloud_mask': 'cloud',
    'worldcover': 'land cover',
}


class Inputs(NamedTuple):
    """What is evaluated, on which patches, and how."""

    #: The protocol with its window and alignment, and its name in the summary.
    protocol: Protocol
    protocol_name: str

    #: The protocol's metrics, and LPIPS if its weights are installed.
    metrics: Mapping[str, type[ImageMetric]]

    patches: EvaluationPatches
    areas: Areas
    methods: Mapping[str, Method]

    #: Network that maps land cover, and the path of its checkpoint, if there is one.
    landcover_model: SemanticSegmentation | None
    landcover_path: Path | None

    #: What a reader of the figures should know.
    notes: list[str]

    @property
    def missing(self) -> list[ModalityName]:
        """Modalities that no patch has."""
        present = self.patches.dataset.modalities
        return [name for name in MODALITIES if name not in present]


class Results(NamedTuple):
    """What follows from a measurement."""

    summary: Summary

    #: A row for each method and patch.
    rows: pd.DataFrame


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
    model: str | None = None,
) -> Evaluation | None:
    """Evaluate methods of cloud removal on a split.

    Writes a row for each patch and method (``patches.parquet`` or ``patches.csv``), all
    figures with their intervals (``summary.json``, where NaN is null), and a report to
    look at in a browser (``report.html``).

    Args:
        root: Folder that holds ``train`` and ``test``.
        methods: What to evaluate: 'copy' (the cloudy image), paths of checkpoints, and
            folders of predictions made elsewhere, called PATCH.tif or PATCH.npy, or as
            :func:`~torchgeo_planetcr.inference.remove_clouds` calls them; each also as
            NAME=PATH.
        out: Folder to write to.
        split: One of 'train', 'val' and 'test'.
        protocol: 'standard', or 'reference' for what the authors of Planet-CR do.
        size: Size of the window in the center of each patch in pixels (defaults to the
            whole patch in the standard protocol and to 160 in the reference protocol).
        alignment: How Sentinel-1 and land cover are put on the 3 m grid, 'geo' or
            'reference' (defaults to 'geo' in the standard and to 'reference' in the
            reference protocol).
        landcover_model: Checkpoint of TorchGeo's SemanticSegmentation, which maps land
            cover on clear, cloudy and restored images.
        table: 'parquet' or 'csv'.
        batch_size: Size of each mini-batch.
        num_workers: Number of workers for parallel data loading.
        accelerator: 'cpu', 'gpu', or 'auto' for what there is.
        devices: Number of processes that share the patches, each with a device of its
            own; from Python each of them runs the whole script.
        overwrite: Replace an earlier evaluation in *out*.
        model: Class of your own, such as my_models.Mine, of the model of a checkpoint. It
            is imported.

    Returns:
        All figures as tables, whose text is the main ones; None in all processes but the
        first.

    Raises:
        DatasetNotFoundError: If there is no patch of this split.
        FileExistsError: If *out* holds a file of one of these names and *overwrite* is
            not set.
        OSError: If no patch can be used, or a file cannot be read or written.
        TypeError: If *methods* is a single path.
        ValueError: If an argument is unknown, if *out* is *root*, if the data are NaN,
            a checkpoint does not fit, or predictions are missing, too many or wrong.
    """
    end_with_parent()
    _check_choice('protocol', protocol, PROTOCOLS)
    if alignment is not None:
        _check_choice('alignment', alignment, ALIGNMENTS)
    _check_choice('table', table, TABLES)
    check_folder(out, root, overwrite)

    chosen, name = choose_protocol(protocol, size, alignment)
    inputs = _load(root, split, methods, model, landcover_model, chosen, name)
    measurement, trainer = _measure(
        inputs, batch_size, num_workers, accelerator, devices
    )
    if not trainer.is_global_zero:
        return None
    results = _summarize(inputs, measurement, trainer)
    _write(results, measurement, trainer, out, table)
    return Evaluation(results.summary, results.rows, out)


def _check_choice(name: str, value: str, choices: Iterable[str]) -> None:
    """Check that an argument is one of several values."""
    if value not in choices:
        raise ValueError(f'{name}={value!r} is not one of {", ".join(choices)}')


def choose_protocol(
    name: str, size: int | None, alignment: Literal['geo', 'reference'] | None
) -> tuple[Protocol, str]:
    """Choose a protocol, and perhaps another window or alignment.

    Args:
        name: Name of the protocol.
        size: Size of the window in pixels, None for that of the protocol.
        alignment: 'geo' or 'reference', None for that of the protocol.

    Returns:
        The protocol, and its name, which says whether it was modified.
    """
    original = PROTOCOLS[name]
    chosen = original._replace(
        size=original.size if size is None else size,
        alignment=alignment or original.alignment,
    )
    return chosen, name if chosen == original else f'{name} (modified)'


def _load(
    root: Path,
    split: Literal['train', 'val', 'test'],
    methods: Sequence[Path] | Mapping[str, Path | nn.Module],
    model: str | None,
    landcover_path: Path | None,
    protocol: Protocol,
    protocol_name: str,
) -> Inputs:
    """Load data and networks."""
    with warnings.catch_warnings(record=True) as caught:
        # A warning about patches that are left out becomes a note beside the figures
        warnings.simplefilter('always', UserWarning)
        dataset = PlanetCR(root, split, alignment=protocol.alignment)
    notes = []
    for warning in caught:
        if issubclass(warning.category, IndexWarning):
            # What is measured does not depend on it
            warnings.warn(warning.message, warning.category, stacklevel=2)
        elif issubclass(warning.category, UserWarning):
            notes.append(str(warning.message))
    _check_modalities(dataset, 'evaluate', 'cloudy', 'clear')
    notes += [
        f'There are no figures by {what}.'
        for modality, what in FIGURES_BY.items()
        if modality not in dataset.modalities
    ]
    patches = EvaluationPatches(dataset, protocol.size)
    loaded = load_methods(methods, patches, model)
    landcover_model = None
    if landcover_path is not None:
        _check_modalities(dataset, 'landcover_model', 'worldcover')
        landcover_model = load_landcover_model(landcover_path)
    metrics = dict(protocol.metrics)
    if protocol_name.startswith('standard'):
        if os.path.isfile(LPIPS.weights_path()):
            metrics['LPIPS'] = LPIPS
        else:
            notes.append(
                'LPIPS was not computed, as the weights of AlexNet are not installed '
                f'in {LPIPS.weights_path()}.'
            )
    return Inputs(
        protocol=protocol,
        protocol_name=protocol_name,
        metrics=metrics,
        patches=patches,
        areas=Areas(patches.table['aoi'].tolist()),
        methods=loaded,
        landcover_model=landcover_model,
        landcover_path=landcover_path,
        notes=notes,
    )


def _check_modalities(dataset: PlanetCR, user: str, *needed: ModalityName) -> None:
    """Check that there are files of the modalities that are needed."""
    missing = [name for name in needed if name not in dataset.modalities]
    if missing:
        raise ValueError(
            f'{user} needs {" and ".join(map(repr, missing))}, of which '
            f'split={dataset.split!r} of {dataset.root} has no file: add these files'
        )


def _measure(
    inputs: Inputs, batch_size: int, num_workers: int, accelerator: str, devices: int
) -> tuple[Measurement, Trainer]:
    """Measure all methods on all patches."""
    measurement = Measurement(
        inputs.methods,
        inputs.metrics,
        inputs.patches,
        inputs.areas.codes,
        inputs.landcover_model,
        batch_size,
        num_workers,
    )
    trainer = Trainer(
        accelerator=accelerator,
        devices=devices,
        # In a notebook, Lightning's own choice leaves the results in other processes
        strategy='auto' if devices == 1 else 'ddp',
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=sys.stdout.isatty(),
        use_distributed_sampler=False,
    )
    # With TF32, figures of a GPU would differ from those of a CPU
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        trainer.test(measurement, verbose=False)
    return measurement, trainer


def _summarize(inputs: Inputs, measurement: Measurement, trainer: Trainer) -> Results:
    """Compute all figures and rows, and say what they were made with."""
    rows, all_figures, all_comparisons = _count(
        measurement, inputs.areas, inputs.missing
    )
    summary = Summary(
        format=FORMAT,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
        versions={
            'python': platform.python_version(),
            **{package: version(package) for package in PACKAGES},
        },
        hardware=_describe_hardware(trainer, measurement.batch_size),
        data=_describe_data(inputs),
        protocol=_describe_protocol(inputs),
        bootstrap=Bootstrap('area', RESAMPLES, SEED, LEVEL),
        methods={name: method.describe() for name, method in inputs.methods.items()},
        figures=all_figures,
        comparisons=all_comparisons,
        landcover=_landcover(inputs, measurement),
        notes=[*inputs.notes, *_notes(measurement)],
    )
    return Results(summary, rows)


def _write(
    results: Results, measurement: Measurement, trainer: Trainer, out: Path, table: str
) -> None:
    """Write rows, report and summary."""
    # Lightning has moved the models off the device
    measurement.to(trainer.strategy.root_device)
    examples = list(_examples(measurement, results.rows))
    report = render_report(results.summary, examples)
    write(out, table, results.rows, to_json(results.summary), report)


def _describe_hardware(trainer: Trainer, batch_size: int) -> Hardware:
    """Say what the evaluation ran on."""
    device = trainer.strategy.root_device
    if device.type == 'cuda':
        name = torch.cuda.get_device_name(device)
    else:
        name = platform.processor() or platform.machine()
    return Hardware(
        accelerator=device.type,
        device=name,
        processes=trainer.world_size,
        batch_size=batch_size,
        precision=str(trainer.precision),
    )


def _describe_data(inputs: Inputs) -> Data:
    """Say which data the methods were evaluated on."""
    dataset = inputs.patches.dataset
    root = os.fspath(dataset.root)
    return Data(
        root=root,
        split=dataset.split,
        patches=len(inputs.patches),
        areas=len(inputs.areas.names),
        fingerprint=fingerprint(
            {os.path.relpath(path, root): path for path in dataset.files}
        ),
    )


def _describe_protocol(inputs: Inputs) -> ProtocolDescription:
    """Say what exactly was measured."""
    size = inputs.protocol.size
    return ProtocolDescription(
        name=inputs.protocol_name,
        size=None if size is None else (size, size),
        alignment=inputs.protocol.alignment,
        description=inputs.protocol.description,
        metrics={
            name: MetricDescription(
                metric.unit, bool(metric.higher_is_better), metric.definition
            )
            for name, metric in inputs.metrics.items()
        },
    )


def _notes(measurement: Measurement) -> Iterator[str]:
    """Say what a reader of the figures should know of the values behind them."""
    if measurement.num_no_data:
        yield (
            f'{measurement.num_no_data} pixels have no data in the cloudy or the '
            'clear image (0 in all bands). They are measured like all others.'
        )
    for name, share in measurement.share_beyond.items():
        if share > LARGEST_SHARE_BEYOND:
            yield (
                f'{100 * share:.2g} % of the values of {name} lie outside of [0, 1], '
                'beyond any reflectance. The standard protocol clamps them.'
            )


def _count(
    measurement: Measurement, areas: Areas, missing: Collection[ModalityName]
) -> tuple[pd.DataFrame, list[Figure], list[Comparison]]:
    """Make the rows of all patches and methods, the figures and the comparisons."""
    tables: list[pd.DataFrame] = []
    found: list[Figure] = []
    estimates = {}
    for (name, values), module in zip(measurement.values.items(), measurement.metrics):
        metrics = cast(PatchMetrics, module)
        pixels = values.pixels.sum(dim=2)
        cover = (pixels[:, 1].double() / pixels.sum(dim=1)).numpy()
        patches = measurement.patches.table.assign(
            cloud_cover=math.nan if 'cloud_mask' in missing else cover
        )
        estimates[name] = [
            estimate(stratum, metrics, areas)
            for stratum in strata(values, metrics, patches, missing)
        ]
        found += figures(name, estimates[name])
        found += area_figures(name, values, list(metrics.metrics), areas)
        rows = patch_table(values, metrics, patches, missing)
        rows.insert(0, 'method', name)
        tables.append(rows)
    metrics = cast(PatchMetrics, measurement.metrics[0])
    rows = pd.concat(tables, ignore_index=True)
    return rows, found, comparisons(estimates, metrics, areas)


def _landcover(inputs: Inputs, measurement: Measurement) -> LandCoverSummary | None:
    """Summarize how well land cover is mapped from each image, if it is."""
    model, path = inputs.landcover_model, inputs.landcover_path
    if model is None or path is None:
        return None
    level = landcover_level(model)
    found = landcover_figures(
        {name: counts.numpy() for name, counts in measurement.landcover.items()},
        inputs.areas.weights,
        PlanetCRWorldCover.classes[level],
        ('all',) if 'cloud_mask' in inputs.missing else tuple(REGIONS),
    )
    network = LandCoverModel(
        source=os.fspath(path),
        sha256=file_hash(path),
        model=model.hparams['model'],
        backbone=model.hparams['backbone'],
        level=level,
    )
    return LandCoverSummary(network, *found)


def _examples(measurement: Measurement, rows: pd.DataFrame) -> Iterator[Example]:
    """Restore the best, the median and the worst patch of each method once more."""
    names = list(cast(PatchMetrics, measurement.metrics[0]).metrics)
    for number, reasons in _choose_examples(measurement.names, rows).items():
        sample = measurement.restore_patch(number)
        patch = measurement.patches.names[number]
        values = rows[rows['patch'] == patch].set_index('method')[names]
        yield Example(
            patch,
            reasons,
            sample,
            dict(zip(measurement.names, sample.pop('prediction'))),
            {str(name): dict(row) for name, row in values.iterrows()},
        )


def _choose_examples(
    methods: Sequence[str], rows: pd.DataFrame
) -> dict[int, list[str]]:
    """Choose patches to look at, by number, and say why."""
    reasons: dict[int, list[str]] = {}
    for name in methods:
        values = rows.loc[rows['method'] == name, EXAMPLE_METRIC].to_numpy()
        order = np.argsort(-values, kind='stable')
        for reason, place in (
            ('Best', 0),
            ('Median', len(order) // 2),
            ('Worst', len(order) - 1),
        ):
            reasons.setdefault(int(order[place]), []).append(f'{reason} of {name}')
    return reasons
