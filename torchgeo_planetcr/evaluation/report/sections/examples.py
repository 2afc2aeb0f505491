# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Part of the report on patches: their images, and what each method makes of them."""

import math
from typing import NamedTuple

from torch import Tensor
from torchgeo.datasets.utils import Sample

from ....datasets.modalities import MODALITIES, ModalityName
from ..context import Context, number, percent
from ..pictures import (
    cloud_picture,
    error_picture,
    landcover_picture,
    optical_pictures,
    radar_picture,
)
from ..tables import NO_FIGURE, Cell, Column, Table, mark_best, text_cell


class Example(NamedTuple):
    """A patch that the report shows.

    Args:
        patch: Name, such as 'summer_33_p_1'.
        reasons: Why it is shown, such as 'Best of dsen2cr'.
        sample: ``image`` and ``image_clear`` (reflectance x 10000) and, where there are
            such files, ``image_s1`` (dB), ``mask`` (class of land cover, level 2) and
            ``mask_cloud``.
        predictions: Restored image of each method, reflectance x 10000.
        values: Metrics of this patch, for each method.
    """

    patch: str
    reasons: list[str]
    sample: Sample
    predictions: dict[str, Tensor]
    values: dict[str, dict[str, float]]


class Picture(NamedTuple):
    """Picture and what it shows."""

    title: str
    source: str
    alt: str


class ExampleSection(NamedTuple):
    """Part of the report on a patch."""

    patch: str
    reasons: list[str]
    height: int
    width: int

    #: Share of cloud, empty without a cloud mask.
    cloud: str

    cloudy: Picture
    clear: Picture
    others: list[Picture]

    #: Restored image, and map of the error, of each method.
    restored: list[Picture]
    errors: list[Picture]

    #: Number of the image that the slider shows on the right at first.
    shown: int

    #: Names and colors of the classes of land cover.
    legend: list[tuple[str, str]]

    table: Table


def example_section(context: Context, example: Example) -> ExampleSection:
    """Show a patch.

    Args:
        context: What all parts of the report share.
        example: The patch.

    Returns:
        The part of the report.
    """
    sample = example.sample
    cloudy, restored, clear = optical_pictures(sample, example.predictions)
    cloud, legend = '', []
    sources: dict[ModalityName, str] = {}
    if 'image_s1' in sample:
        sources['sentinel1'] = radar_picture(sample['image_s1'])
    if 'mask_cloud' in sample:
        cloud = percent(round(sample['mask_cloud'].float().mean().item(), 2))
        sources['cloud_mask'] = cloud_picture(sample['mask_cloud'])
    if 'mask' in sample:
        sources['worldcover'], legend = landcover_picture(sample['mask'])
    height, width = sample['image'].shape[-2:]

    def picture(title: str, source: str, prefix: str = '') -> Picture:
        return Picture(title, source, f'{prefix}{title}, {example.patch}')

    return ExampleSection(
        patch=example.patch,
        reasons=example.reasons,
        height=height,
        width=width,
        cloud=cloud,
        cloudy=picture(MODALITIES['cloudy'].title, cloudy),
        clear=picture(MODALITIES['clear'].title, clear),
        others=[
            picture(MODALITIES[modality].title, source)
            for modality, source in sources.items()
        ],
        restored=[
            picture(name, source, 'Restored by ') for name, source in restored.items()
        ],
        errors=[
            picture(name, error_picture(prediction, sample['image_clear']), 'Error of ')
            for name, prediction in example.predictions.items()
        ],
        shown=_first_restored(context, list(restored)),
        legend=legend,
        table=_table(context, example),
    )


def _first_restored(context: Context, methods: list[str]) -> int:
    """Number of the first image that is no copy, else of the clear one."""
    for place, method in enumerate(methods, start=1):
        if context.summary.methods[method].kind != 'copy':
            return place
    return len(methods) + 1


def _table(context: Context, example: Example) -> Table:
    """Tabulate methods by the metrics of a patch."""
    metrics = context.sort_metrics(
        metric for values in example.values.values() for metric in values
    )
    rows = []
    for method, values in example.values.items():
        row = [text_cell(method, context.styles[method])]
        for metric in metrics:
            value = values.get(metric, math.nan)
            text = number(value, context.digits(metric))
            row.append(NO_FIGURE if math.isnan(value) else Cell(text, value))
        rows.append(row)
    for column, metric in enumerate(metrics, start=1):
        mark_best(rows, column, context.higher_is_better(metric))
    columns = [
        Column(metric, context.summary.protocol.metrics[metric].unit)
        for metric in metrics
    ]
    return Table(
        f'Patch {example.patch}', [Column('Method', is_number=False), *columns], rows
    )
