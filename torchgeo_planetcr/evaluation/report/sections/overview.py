# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Part of the report on all patches."""

from collections.abc import Sequence

from ...statistics import MIN_AREAS, Figure
from ..context import MIN_AREAS_OF_SOUND_INTERVAL, Context
from ..tables import (
    NO_FIGURE,
    Cell,
    Column,
    Table,
    mark_best,
    metric_column,
    text_cell,
    value_cell,
)
from .pairs import MIN_AREAS_TO_DIFFER


def overview_table(context: Context, figures: Sequence[Figure]) -> Table:
    """Tabulate methods by metrics.

    Args:
        context: What all parts of the report share.
        figures: Figures of all patches.

    Returns:
        The table.
    """
    metrics = context.sort_metrics(figure.metric for figure in figures)
    figure_of = {(figure.method, figure.metric): figure for figure in figures}

    def cell(method: str, metric: str) -> Cell:
        figure = figure_of.get((method, metric))
        if figure is None:
            return NO_FIGURE
        digits = context.digits(metric)
        return value_cell(context, figure.value, figure, digits, figure.count)

    rows = [
        [text_cell(method, style), *(cell(method, metric) for metric in metrics)]
        for method, style in context.styles.items()
    ]
    for column, metric in enumerate(metrics, start=1):
        mark_best(rows, column, context.higher_is_better(metric))
    columns = [metric_column(context, metric) for metric in metrics]
    return Table('All patches', [Column('Method', is_number=False), *columns], rows)


def caution(context: Context) -> str:
    """Say what few areas mean for the intervals, and for the comparison of pairs.

    Args:
        context: What all parts of the report share.

    Returns:
        A sentence or two, empty if there are enough areas.
    """
    areas = context.summary.data.areas
    if areas >= MIN_AREAS_OF_SOUND_INTERVAL:
        return ''
    there_are = (
        'There is only one area' if areas == 1 else f'There are only {areas} areas'
    )
    if areas < MIN_AREAS:
        text = f'{there_are}: too few for intervals (five are needed)'
    else:
        text = (
            f'{there_are}. Intervals from so few tend to be too narrow: take them as a '
            'hint'
        )
    sentences = [text]
    if len(context.summary.methods) > 1 and areas < MIN_AREAS_TO_DIFFER:
        sentences.append(
            'No difference of two methods can be told from chance with so few (six are '
            'needed)'
        )
    return ' '.join(f'{sentence}.' for sentence in sentences)
