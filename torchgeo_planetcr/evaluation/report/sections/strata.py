# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Parts of the report on strata: cloud, season, land cover and areas."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from ...statistics import Figure
from ..charts import Point, distribution_chart, strata_chart
from ..context import MIN_AREAS_OF_SOUND_INTERVAL, Context, group_by
from ..tables import (
    NO_FIGURE,
    Cell,
    Column,
    Table,
    WithInterval,
    areas_cell,
    count_cell,
    mark_best,
    metric_column,
    text_cell,
    value_cell,
)
from .pairs import JudgedComparison, comparison_table


class Kind(NamedTuple):
    """What strata are."""

    title: str

    #: Label of the column that names the strata.
    column: str

    explanation: str


#: Kinds of strata, in the order of their parts of the report.
KINDS: Mapping[str, Kind] = {
    'cloud': Kind(
        'Cloudy and clear pixels',
        'Pixels',
        'All pixels inside, and all outside, of the coarse cloud masks (no shadow or haze).',
    ),
    'cloud cover': Kind(
        'Cloud cover',
        'Cloud cover',
        'Mean over patches, by how much of a patch is cloud in its mask.',
    ),
    'season': Kind('Season', 'Season', 'Mean over the patches of a season.'),
    'class level 1': Kind(
        'Land cover, seven classes',
        'Class',
        'All pixels of a class, in the seven classes of the authors of Planet-CR.',
    ),
    'class level 2': Kind(
        'Land cover, eleven classes',
        'Class',
        'All pixels of a class, in the eleven classes of ESA WorldCover 2020.',
    ),
    'area': Kind('Areas', 'Area', 'Mean over the patches of each area.'),
}

#: Metrics that are drawn. RMSE would show what PSNR and MAE do.
DRAWN_METRICS: Sequence[str] = ('PSNR', 'SSIM', 'SAM', 'MAE', 'LPIPS')

#: Largest number of strata that have a row of their own in a chart.
MAX_CHART_ROWS = 20


class Chart(NamedTuple):
    """Chart, and what to say about it to those who do not see it."""

    title: str
    hint: str
    text: str
    svg: str


class StrataSection(NamedTuple):
    """Part of the report on strata of a kind."""

    title: str
    text: str
    charts: list[Chart]

    #: What the charts show beside values.
    caption: str

    table: Table
    comparisons: Table | None

    #: Whether the table has so many rows that it is folded.
    is_long: bool


def strata_section(
    context: Context,
    kind: str,
    figures: Sequence[Figure],
    judged: Sequence[JudgedComparison],
) -> StrataSection:
    """Show figures of strata of a kind.

    Args:
        context: What all parts of the report share.
        kind: Kind of the strata.
        figures: Figures of all methods on them.
        judged: Comparisons of methods on them.

    Returns:
        The part of the report.
    """
    if kind != 'area':
        caption = interval_caption(context, figures)
    elif context.summary.data.areas > MAX_CHART_ROWS:
        caption = 'share of the areas that have at most this value'
    else:
        caption = 'areas are in the order of the values'
    return StrataSection(
        title=KINDS[kind].title,
        text=KINDS[kind].explanation,
        charts=_charts(context, kind, figures),
        caption=caption,
        table=_table(context, kind, figures),
        comparisons=comparison_table(context, judged),
        is_long=kind == 'area',
    )


def interval_caption(context: Context, records: Iterable[WithInterval]) -> str:
    """Explain the lines of a chart.

    Args:
        context: What all parts of the report share.
        records: What the chart shows.

    Returns:
        A part of a sentence, empty if there are no lines.
    """
    drawn = [record for record in records if not math.isnan(record.low)]
    if not drawn:
        return ''
    caption = f'lines are {context.level} intervals'
    if any(context.has_few_areas(record.areas) for record in drawn):
        caption += f', pale ones of fewer than {MIN_AREAS_OF_SOUND_INTERVAL} areas'
    return caption


def make_point(context: Context, value: float, record: WithInterval) -> Point | None:
    """Make a point of a chart.

    Args:
        context: What all parts of the report share.
        value: Figure, NaN if there is none.
        record: What it is of.

    Returns:
        The point, None where there is nothing to draw.
    """
    if not math.isfinite(value):
        return None
    few = context.has_few_areas(record.areas)
    return Point(value, record.low, record.high, few)


def _table(context: Context, kind: str, figures: Sequence[Figure]) -> Table:
    """Tabulate strata and methods by metrics."""
    metrics = context.sort_metrics(figure.metric for figure in figures)
    is_pooled = any(figure.pixels is not None for figure in figures)
    rows = []
    for number, (stratum, members) in enumerate(group_by(figures, 'stratum').items()):
        group = [
            [
                # In the order of the strata, which is not that of their names
                Cell(stratum, number),
                text_cell(method, context.styles[method]),
                *_value_cells(context, metrics, own),
                *_count_cells(context, kind, own[0], is_pooled),
            ]
            for method, own in group_by(members, 'method').items()
        ]
        for column, metric in enumerate(metrics, start=2):
            mark_best(group, column, context.higher_is_better(metric))
        rows.extend(group)
    labels = ['Patches'] if kind == 'area' else ['Patches', 'Areas']
    if is_pooled:
        labels.insert(0, 'Pixels')
    columns = [
        Column(KINDS[kind].column, is_number=False),
        Column('Method', is_number=False),
        *(metric_column(context, metric) for metric in metrics),
        *map(Column, labels),
    ]
    return Table(KINDS[kind].title, columns, rows)


def _value_cells(
    context: Context, metrics: Sequence[str], figures: Sequence[Figure]
) -> list[Cell]:
    """Show the figures of a method on a stratum."""
    figure_of = {figure.metric: figure for figure in figures}
    return [
        value_cell(context, figure.value, figure, context.digits(metric), figure.count)
        if (figure := figure_of.get(metric))
        else NO_FIGURE
        for metric in metrics
    ]


def _count_cells(
    context: Context, kind: str, figure: Figure, is_pooled: bool
) -> list[Cell]:
    """Show how many pixels, patches and areas are behind a figure."""
    cells = [count_cell(figure.patches)]
    if is_pooled:
        cells.insert(0, count_cell(figure.pixels or 0))
    if kind != 'area':
        cells.append(areas_cell(context, figure.areas))
    return cells


def _charts(context: Context, kind: str, figures: Sequence[Figure]) -> list[Chart]:
    """Draw a chart for each metric."""
    charts = []
    for metric, own in group_by(figures, 'metric').items():
        if metric in DRAWN_METRICS:
            chart = _chart(context, kind, metric, own)
            if chart is not None:
                charts.append(chart)
    return charts


def _chart(
    context: Context, kind: str, metric: str, figures: Sequence[Figure]
) -> Chart | None:
    """Draw a metric, unless there is nothing to draw."""
    points = {
        (figure.method, figure.stratum): make_point(context, figure.value, figure)
        for figure in figures
    }
    strata = list(group_by(figures, 'stratum'))
    if kind == 'area' and len(strata) <= MAX_CHART_ROWS:
        means = _means(figures)
        strata.sort(key=lambda stratum: means[stratum], reverse=True)
    rows = {
        method: [points.get((method, stratum)) for stratum in strata]
        for method in group_by(figures, 'method')
    }
    if not any(points.values()):
        return None
    key = f'{kind} {metric}'
    if len(strata) > MAX_CHART_ROWS:
        values = {
            method: [point.value for point in row if point]
            for method, row in rows.items()
        }
        svg = distribution_chart(key, values, context.styles)
    else:
        svg = strata_chart(key, strata, rows, context.styles)
    label = context.label(metric)
    text = (
        f'Chart of {label} of {", ".join(rows)}: {KINDS[kind].title}. Its numbers are '
        'in the table.'
    )
    return Chart(label, context.direction(metric), text, svg)


def _means(figures: Sequence[Figure]) -> dict[str, float]:
    """Mean over methods of each stratum."""
    means = {}
    for stratum, members in group_by(figures, 'stratum').items():
        values = [f.value for f in members if not math.isnan(f.value)]
        means[stratum] = sum(values) / len(values) if values else -math.inf
    return means
