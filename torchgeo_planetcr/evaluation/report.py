# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Report of an evaluation, as one HTML file that needs nothing else."""

import base64
import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from torch import Tensor
from torchgeo.datasets.utils import Sample

from .charts import (
    CLOUDY,
    TARGET,
    Point,
    Style,
    distribution_chart,
    method_styles,
    strata_chart,
)
from .pictures import (
    LARGEST_ERROR,
    cloud_picture,
    error_picture,
    error_scale,
    landcover_picture,
    optical_pictures,
    radar_picture,
)
from .statistics import MIN_AREAS

FOLDER = Path(__file__).parent

#: Title, name of the strata, and explanation of each kind of stratum.
KINDS = {
    'cloud': (
        'Cloudy and clear pixels',
        'Pixels',
        'All pixels inside, and all outside, of the coarse cloud masks (no shadow or haze).',
    ),
    'cloud cover': (
        'Cloud cover',
        'Cloud cover',
        'Mean over patches, by how much of a patch is cloud in its mask.',
    ),
    'season': ('Season', 'Season', 'Mean over the patches of a season.'),
    'class level 1': (
        'Land cover, seven classes',
        'Class',
        'All pixels of a class, in the seven classes of the authors of Planet-CR.',
    ),
    'class level 2': (
        'Land cover, eleven classes',
        'Class',
        'All pixels of a class, in the eleven classes of ESA WorldCover 2020.',
    ),
    'area': ('Areas', 'Area', 'Mean over the patches of each area.'),
}

#: Metrics that are drawn. RMSE would show what PSNR and MAE do.
CHARTS = ('PSNR', 'SSIM', 'SAM', 'MAE', 'LPIPS')

#: Largest number of areas that have a row of their own in a chart.
MAX_ROWS = 20

#: Fewer areas than these have no clear difference, as their p is at least 2^(1 - n).
AREAS_TO_DIFFER = 6

#: Intervals of fewer areas than these are too narrow: those of level 95 % hold the truth
#: in 84 % of cases with 5 areas, in 89 % with 10, and in 94 % with 20.
FEW_AREAS = 20

DIGITS = {'dB': 2, 'degrees': 2}

#: Ends the name of a protocol whose window or alignment was changed.
MODIFIED = ' (modified)'

PIXELS = {'all': 'all pixels', 'cloudy': 'cloudy pixels', 'clear': 'clear pixels'}


class Example(NamedTuple):
    """A patch that the report shows.

    Args:
        patch: name, such as 'summer_33_p_1'
        reasons: why it is shown, such as 'Best of dsen2cr'
        sample: ``image`` and ``image_clear`` (reflectance x 10000), ``image_s1`` (dB),
            ``mask`` (class of land cover, level 2) and ``mask_cloud``
        predictions: restored image of each method, reflectance x 10000
        values: metrics of this patch, for each method
    """

    patch: str
    reasons: list[str]
    sample: Sample
    predictions: dict[str, Tensor]
    values: dict[str, dict[str, float]]


class Cell(NamedTuple):
    """Cell of a table: what it shows, and what its column is sorted by."""

    text: str
    #: An empty one comes last, whatever the order.
    sort: str | float = ''
    detail: str = ''
    style: Style | None = None
    is_best: bool = False
    #: Whether so few areas are behind it that its interval is too narrow.
    is_few: bool = False


class Column(NamedTuple):
    """Column of a table; a number is aligned on the right, and sorted as one."""

    label: str
    hint: str = ''
    is_number: bool = True


class Table(NamedTuple):
    """Table whose first column names its rows."""

    caption: str
    columns: list[Column]
    rows: list[list[Cell]]

    @property
    def has_few(self) -> bool:
        """Whether a cell is marked for its few areas."""
        return any(cell.is_few for row in self.rows for cell in row)


class Chart(NamedTuple):
    """Chart, and what to say about it to those who do not see it."""

    title: str
    hint: str
    text: str
    svg: Markup


class Picture(NamedTuple):
    """Picture and what it shows."""

    title: str
    source: str
    alt: str


def render_report(summary: Mapping[str, Any], examples: Sequence[Example]) -> str:
    """Write the report of an evaluation.

    Args:
        summary: what was evaluated, how, and all figures, as in the JSON file of the
            evaluation.
        examples: patches to show, with what each method makes of them.

    Returns:
        An HTML page that shows in a browser without a network.
    """
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = (FOLDER / 'report.js').read_text('utf-8')
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    methods = summary['methods']
    styles = method_styles(
        (name, method['kind'] == 'copy') for name, method in methods.items()
    )
    figures = _group(summary['figures'], 'kind')
    level = summary['bootstrap']['level']
    comparisons = _group(
        (
            _judge(comparison, summary['protocol']['metrics'], level)
            for comparison in summary['comparisons']
        ),
        'kind',
    )
    landcover = summary['landcover']
    page = environment.get_template('report.html.jinja').render(
        style=Markup((FOLDER / 'report.css').read_text('utf-8')),
        script=Markup(script),
        script_digest=digest,
        summary=summary,
        created=f'{datetime.fromisoformat(summary["created"]):%d %B %Y, %H:%M %Z}',
        level=_percent(level),
        has_intervals=any(figure['low'] is not None for figure in figures['all']),
        alpha=f'{1 - level:.2g}',
        few_areas=FEW_AREAS,
        protocol_name=_protocol_name(summary['protocol']),
        window=_window(summary['protocol']['size']),
        stamp=_stamp(summary),
        styles=styles,
        caution=_caution(summary),
        overall=_summary_table(summary, figures['all'], styles),
        verdicts=_verdicts(summary, comparisons.get('all', [])),
        comparisons=_comparison_table(summary, comparisons.get('all', []), styles),
        sections=[
            {
                'title': title,
                'caption': _caption(summary, kind, figures[kind]),
                'text': text,
                'table': _strata_table(summary, kind, figures[kind], styles),
                'charts': _strata_charts(summary, kind, figures[kind], styles),
                'comparisons': _comparison_table(
                    summary, comparisons.get(kind, []), styles
                ),
                # Hundreds of rows would be in the way.
                'is_long': kind == 'area',
            }
            for kind, (title, _, text) in KINDS.items()
            if kind in figures
        ],
        landcover=_landcover(summary, styles) if landcover else None,
        examples=[_example(summary, example, styles) for example in examples],
        error_scale=error_scale(),
        largest_error=LARGEST_ERROR,
    )
    # A name of a file may hold what UTF-8 does not.
    return page.encode('utf-8', 'backslashreplace').decode('utf-8')


def _group(
    figures: Iterable[Mapping[str, Any]], key: str
) -> dict[str, list[Mapping[str, Any]]]:
    """Sort figures into groups that keep their order."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for figure in figures:
        groups.setdefault(figure[key], []).append(figure)
    return groups


def _percent(share: float) -> str:
    return f'{100 * share:.3g}\N{NO-BREAK SPACE}%'


def _window(size: Sequence[int] | None) -> str:
    return f'central {size[0]} × {size[1]} pixels' if size else 'whole patch'


def _protocol_name(protocol: Mapping[str, Any]) -> str:
    """Name the protocol within a sentence."""
    name = protocol['name'].removesuffix(MODIFIED)
    return f'{"" if name == protocol["name"] else "modified "}{name} protocol'


def _stamp(summary: Mapping[str, Any]) -> str:
    """Say what every number of the page depends on, beside each group of them."""
    protocol = summary['protocol']
    window = _window(protocol['size'])
    return f'{_protocol_name(protocol)}, {window}, {summary["data"]["split"]} split'


def _caution(summary: Mapping[str, Any]) -> str:
    """Say what few areas mean for the intervals, and for the comparison of pairs."""
    areas = summary['data']['areas']
    if areas >= FEW_AREAS:
        return ''
    text = f'There {"is" if areas == 1 else "are"} only '
    text += 'one area' if areas == 1 else f'{areas} areas'
    if areas < MIN_AREAS:
        text += ': too few for intervals (five are needed)'
    else:
        text += '. Intervals from so few tend to be too narrow: take them as a hint'
    if len(summary['methods']) > 1 and areas < AREAS_TO_DIFFER:
        text += '. No difference of two methods can be told from chance with so few '
        text += '(six are needed)'
    return f'{text}.'


def _is_few(summary: Mapping[str, Any], figure: Mapping[str, Any]) -> bool:
    """Whether a figure is of few areas, where that is not true of the whole report."""
    areas = figure.get('areas')
    return areas is not None and 0 < areas < FEW_AREAS <= summary['data']['areas']


def _number(value: float, digits: int) -> str:
    return f'{value:,.{digits}f}'.replace('-', '−')


def _signed(value: float, digits: int) -> str:
    return f'{value:+,.{digits}f}'.replace('-', '−')


def _digits(summary: Mapping[str, Any], metric: str) -> int:
    return DIGITS.get(summary['protocol']['metrics'][metric]['unit'], 4)


def _value_cell(
    summary: Mapping[str, Any],
    figure: Mapping[str, Any] | None,
    digits: int,
    key: str = 'value',
) -> Cell:
    """Show a figure, a difference with its sign, with its interval, or why not."""
    if figure is None:
        return Cell('–')
    value, low, high = figure[key], figure['low'], figure['high']
    if value is None:
        return Cell('undefined' if _count(figure) else 'none')
    show = _signed if key == 'difference' else _number
    detail = ''
    if low is not None and high is not None:
        detail = f'{show(low, digits)} to {show(high, digits)}'
    return Cell(
        show(value, digits),
        float(f'{value:.6g}'),
        detail,
        is_few=_is_few(summary, figure),
    )


def _count(figure: Mapping[str, Any]) -> int:
    """How much there is behind a figure: pixels if they are pooled, else patches."""
    counts = (figure.get(key) for key in ('count', 'pixels', 'patches'))
    return next((count for count in counts if isinstance(count, int)), 0)


def _count_cell(count: int) -> Cell:
    if not count:
        return Cell('none')
    is_long = count >= 1_000_000
    return Cell(f'{count / 1_000_000:,.1f} M' if is_long else f'{count:,}', count)


def _areas_cell(summary: Mapping[str, Any], figure: Mapping[str, Any]) -> Cell:
    return _count_cell(figure['areas'])._replace(is_few=_is_few(summary, figure))


def _text_cell(text: str, style: Style | None = None) -> Cell:
    return Cell(text, text, style=style)


def _metric_label(summary: Mapping[str, Any], metric: str) -> str:
    unit = summary['protocol']['metrics'][metric]['unit']
    return f'{metric} ({unit})' if unit else metric


def _metric_column(summary: Mapping[str, Any], metric: str) -> Column:
    """Name a metric, its unit, and which way is better."""
    return Column(
        _metric_label(summary, metric),
        _direction(summary['protocol']['metrics'][metric]),
    )


def _direction(metric: Mapping[str, Any]) -> str:
    return 'higher is better' if metric['higher_is_better'] else 'lower is better'


def _mark_best(rows: Sequence[list[Cell]], column: int, higher_is_better: bool) -> None:
    """Mark the best cells of a column, if there is something to choose from."""
    values = [row[column].sort for row in rows if isinstance(row[column].sort, float)]
    if len(set(values)) < 2:
        return
    best = max(values) if higher_is_better else min(values)
    for row in rows:
        row[column] = row[column]._replace(is_best=row[column].sort == best)


def _metrics_of(
    summary: Mapping[str, Any], figures: Iterable[Mapping[str, Any]]
) -> list[str]:
    there = {figure['metric'] for figure in figures}
    return [metric for metric in summary['protocol']['metrics'] if metric in there]


def _summary_table(
    summary: Mapping[str, Any],
    figures: Sequence[Mapping[str, Any]],
    styles: Mapping[str, Style],
) -> Table:
    """Tabulate methods by metrics."""
    metrics = _metrics_of(summary, figures)
    cells = {(figure['method'], figure['metric']): figure for figure in figures}
    rows = [
        [
            _text_cell(method, style),
            *(
                _value_cell(
                    summary, cells.get((method, metric)), _digits(summary, metric)
                )
                for metric in metrics
            ),
        ]
        for method, style in styles.items()
    ]
    for column, metric in enumerate(metrics, start=1):
        entry = summary['protocol']['metrics'][metric]
        _mark_best(rows, column, entry['higher_is_better'])
    columns = [_metric_column(summary, metric) for metric in metrics]
    return Table('All patches', [Column('Method', is_number=False), *columns], rows)


def _strata_table(
    summary: Mapping[str, Any],
    kind: str,
    figures: Sequence[Mapping[str, Any]],
    styles: Mapping[str, Style],
) -> Table:
    """Tabulate strata and methods by metrics."""
    metrics = _metrics_of(summary, figures)
    is_pooled = any(figure['pixels'] is not None for figure in figures)
    rows = []
    for number, (stratum, members) in enumerate(_group(figures, 'stratum').items()):
        group = []
        by_method = _group(members, 'method')
        for method, own in by_method.items():
            cells = {figure['metric']: figure for figure in own}
            counts = [_count_cell(own[0]['patches'])]
            if is_pooled:
                counts.insert(0, _count_cell(own[0]['pixels']))
            if kind != 'area':
                counts.append(_areas_cell(summary, own[0]))
            group.append(
                [
                    # In the order of the strata, which is not that of their names.
                    Cell(stratum, number),
                    _text_cell(method, styles[method]),
                    *(
                        _value_cell(
                            summary, cells.get(metric), _digits(summary, metric)
                        )
                        for metric in metrics
                    ),
                    *counts,
                ]
            )
        for column, metric in enumerate(metrics, start=2):
            entry = summary['protocol']['metrics'][metric]
            _mark_best(group, column, entry['higher_is_better'])
        rows.extend(group)
    labels = ['Patches'] if kind == 'area' else ['Patches', 'Areas']
    if is_pooled:
        labels.insert(0, 'Pixels')
    columns = [
        Column(KINDS[kind][1], is_number=False),
        Column('Method', is_number=False),
        *(_metric_column(summary, metric) for metric in metrics),
        *map(Column, labels),
    ]
    return Table(KINDS[kind][0], columns, rows)


def _point(
    summary: Mapping[str, Any], figure: Mapping[str, Any] | None, key: str = 'value'
) -> Point | None:
    if figure is None or figure[key] is None or not math.isfinite(figure[key]):
        return None
    low, high = figure['low'], figure['high']
    return Point(figure[key], low, high, _is_few(summary, figure))


def _strata_charts(
    summary: Mapping[str, Any],
    kind: str,
    figures: Sequence[Mapping[str, Any]],
    styles: Mapping[str, Style],
) -> list[Chart]:
    """Draw a kind of stratum, a chart for each metric."""
    title = KINDS[kind][0]
    charts = []
    for metric, own in _group(figures, 'metric').items():
        if metric not in CHARTS:
            continue
        cells = {(figure['method'], figure['stratum']): figure for figure in own}
        strata = list(_group(own, 'stratum'))
        if kind == 'area' and len(strata) <= MAX_ROWS:
            strata.sort(key=lambda stratum: _mean(cells, stratum), reverse=True)
        values = {
            method: [
                _point(summary, cells.get((method, stratum))) for stratum in strata
            ]
            for method in _group(own, 'method')
        }
        if not any(point for points in values.values() for point in points):
            continue
        key = f'{kind} {metric}'
        label = _metric_label(summary, metric)
        hint = _direction(summary['protocol']['metrics'][metric])
        if len(strata) > MAX_ROWS:
            svg = distribution_chart(
                key,
                {
                    method: [point.value for point in points if point]
                    for method, points in values.items()
                },
                styles,
            )
        else:
            svg = strata_chart(key, strata, values, styles)
        text = f'Chart of {label} of {", ".join(values)}: {title}. Its numbers are in '
        charts.append(Chart(label, hint, f'{text}the table.', svg))
    return charts


def _mean(figures: Mapping[tuple[str, str], Mapping[str, Any]], stratum: str) -> float:
    """Mean over methods, by which areas are sorted."""
    values = [row['value'] for (_, name), row in figures.items() if name == stratum]
    values = [value for value in values if value is not None]
    return sum(values) / len(values) if values else -math.inf


def _caption(
    summary: Mapping[str, Any], kind: str, figures: Sequence[Mapping[str, Any]]
) -> str:
    """Say what a chart shows beside values."""
    if kind == 'area':
        if summary['data']['areas'] > MAX_ROWS:
            return 'share of the areas that have at most this value'
        return 'areas are in the order of the values'
    there = [figure for figure in figures if figure['low'] is not None]
    if not there:
        return ''
    caption = f'lines are {_percent(summary["bootstrap"]["level"])} intervals'
    if any(_is_few(summary, figure) for figure in there):
        caption += f', pale ones of fewer than {FEW_AREAS} areas'
    return caption


def _judge(
    comparison: Mapping[str, Any], metrics: Mapping[str, Any], level: float
) -> dict[str, Any]:
    """Say in words what a difference means, by its p alone.

    Args:
        comparison: difference, interval and p.
        metrics: which way is better, for each metric.
        level: share that intervals hold.

    Returns:
        The comparison with its ``verdict``, and without an interval that contradicts it.
    """
    difference, p_value = comparison['difference'], comparison['p_value']
    low, high = comparison['low'], comparison['high']
    is_clear = p_value is not None and p_value <= 1 - level
    if difference is None:
        verdict = 'unknown'
    elif p_value is None or comparison['areas'] < AREAS_TO_DIFFER:
        verdict = 'too few areas'
    elif not is_clear:
        verdict = 'no clear difference'
    elif (difference > 0) == metrics[comparison['metric']]['higher_is_better']:
        verdict = 'better'
    else:
        verdict = 'worse'
    if low is None or high is None or (low <= 0 <= high) == is_clear:
        low = high = None
    return {**comparison, 'low': low, 'high': high, 'verdict': verdict}


def _p_value(value: float, level: float) -> str:
    """Show p, with so many digits that it is on the side of the level where it is."""
    if value < 0.001:
        return '< 0.001'
    alpha = 1 - level
    digits = 3
    while digits < 16 and (round(value, digits) <= alpha) != (value <= alpha):
        digits += 1
    return f'{value:.{digits}f}'


def _verdicts(
    summary: Mapping[str, Any], comparisons: Sequence[Mapping[str, Any]]
) -> list[dict[str, str]]:
    """Say in a sentence how each pair of methods compares, metric by metric."""
    first = next(iter(summary['protocol']['metrics']))
    pairs: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for comparison in comparisons:
        pair = comparison['method'], comparison['baseline']
        pairs.setdefault(pair, []).append(comparison)
    sentences = []
    for (method, baseline), members in pairs.items():
        by_metric = {comparison['metric']: comparison for comparison in members}
        main = by_metric.pop(first, None)
        if main is None:
            continue
        others = [
            f'{verdict} in {", ".join(row["metric"] for row in rows)}'
            for verdict in (
                'better',
                'worse',
                'no clear difference',
                'too few areas',
                'unknown',
            )
            if (rows := [r for r in by_metric.values() if r['verdict'] == verdict])
        ]
        phrase, details = _headline(summary, main)
        sentences.append(
            {
                'method': method,
                'baseline': baseline,
                'phrase': phrase,
                'details': details,
                'others': '; '.join(others),
            }
        )
    return sentences


def _headline(
    summary: Mapping[str, Any], comparison: Mapping[str, Any]
) -> tuple[str, str]:
    """Say how a pair of methods compares by a metric.

    Args:
        summary: the summary.
        comparison: difference and its verdict.

    Returns:
        What stands between the names of the methods, and after them.
    """
    name, verdict = comparison['metric'], comparison['verdict']
    metric = summary['protocol']['metrics'][name]
    level = summary['bootstrap']['level']
    words = ('higher', 'lower') if metric['higher_is_better'] else ('lower', 'higher')
    word = words[verdict == 'worse']
    phrase = {
        'no clear difference': f'does not clearly differ in {name} from',
        'too few areas': f'is on too few areas to tell its {name} from that of',
        'unknown': f'could not be compared in {name} with',
    }.get(verdict, f'has a {word} {name} than')
    if comparison['difference'] is None:
        return phrase, ''
    digits = _digits(summary, name)
    details = f'{_signed(comparison["difference"], digits)} {metric["unit"]}'.strip()
    more = []
    low, high, p_value = (comparison[key] for key in ('low', 'high', 'p_value'))
    if low is not None:
        limits = f'{_signed(low, digits)} to {_signed(high, digits)}'
        more.append(f'{_percent(level)} interval {limits}')
    if p_value is not None:
        shown = _p_value(p_value, level)
        shown = f'p {shown}' if shown.startswith('<') else f'p = {shown}'
        more.append(shown.replace(' ', '\N{NO-BREAK SPACE}'))
    share = comparison['share_better']
    if share is not None:
        share = _percent(round(1 - share if verdict == 'worse' else share, 2))
        more.append(f'{word} in {share} of {comparison["patches"]:,} patches')
    return phrase, f'{details} ({", ".join(more)})' if more else details


def _comparison_table(
    summary: Mapping[str, Any],
    comparisons: Sequence[Mapping[str, Any]],
    styles: Mapping[str, Style],
) -> Table | None:
    """Tabulate differences between pairs of methods."""
    if not comparisons:
        return None
    strata = list(_group(comparisons, 'stratum'))
    metrics = list(summary['protocol']['metrics'])
    level = summary['bootstrap']['level']
    has_share = any(row['share_better'] is not None for row in comparisons)
    rows = []
    for comparison in comparisons:
        metric, stratum = comparison['metric'], comparison['stratum']
        p_value, share = comparison['p_value'], comparison['share_better']
        row = [
            _text_cell(comparison['method'], styles[comparison['method']]),
            _text_cell(comparison['baseline'], styles[comparison['baseline']]),
            Cell(_metric_label(summary, metric), metrics.index(metric)),
            _value_cell(summary, comparison, _digits(summary, metric), 'difference'),
            _text_cell(comparison['verdict']),
            Cell('–') if p_value is None else Cell(_p_value(p_value, level), p_value),
        ]
        if has_share:
            row.append(
                Cell('–') if share is None else Cell(_percent(round(share, 2)), share)
            )
        row.append(_count_cell(comparison['patches']))
        row.append(_areas_cell(summary, comparison))
        if len(strata) > 1:
            row.insert(0, Cell(stratum, strata.index(stratum)))
        rows.append(row)
    columns = [
        Column('Method', is_number=False),
        Column('Compared with', is_number=False),
        Column('Metric', is_number=False),
        Column('Difference', 'method minus the other'),
        Column('The method is', is_number=False),
        Column('p'),
    ]
    if has_share:
        columns.append(Column('Better in', 'of the patches'))
    columns += [Column('Patches'), Column('Areas')]
    if len(strata) > 1:
        columns.insert(0, Column('Stratum', is_number=False))
    return Table('Differences in pairs', columns, rows)


def _landcover(
    summary: Mapping[str, Any], styles: Mapping[str, Style]
) -> dict[str, Any]:
    """Tables and charts of what a network for land cover makes of each image."""
    landcover = summary['landcover']
    figures, gaps = (
        {(row['image'], row['pixels'], row['class']): row for row in landcover[key]}
        for key in ('figures', 'gaps')
    )
    images = list(_group(landcover['figures'], 'image'))
    classes = list(_group(landcover['figures'], 'class'))
    pixels = [name for name in PIXELS if any(key[1] == name for key in figures)]
    styles = {'clear': TARGET, 'cloudy': CLOUDY, **styles}

    def values(image: str, label: str) -> list[Cell]:
        cells = []
        for name in pixels:
            key = (image, name, label)
            cells.append(_value_cell(summary, figures.get(key), 3, 'iou'))
            cells.append(_value_cell(summary, gaps.get(key), 3, 'gap'))
        return cells

    def columns(label: str) -> list[Column]:
        return [
            Column(title, PIXELS[name])
            for name in pixels
            for title in (label, 'Gap to clear')
        ]

    rows = [
        [_text_cell(image, styles[image]), *values(image, 'mean')] for image in images
    ]
    class_rows = [
        [
            Cell(label, number),
            _text_cell(image, styles[image]),
            *values(image, label),
            *(
                _count_cell(_count(figures.get((image, name, label), {})))
                for name in pixels
            ),
        ]
        for number, label in enumerate(classes)
        for image in images
        if label != 'mean'
    ]
    class_columns = [
        Column('Class', is_number=False),
        Column('Image', is_number=False),
        *columns('IoU'),
        *(Column('Pixels', PIXELS[name]) for name in pixels),
    ]
    charts = [
        Chart(
            f'IoU, {PIXELS[name]}',
            'higher is better',
            f'Chart of the IoU of {", ".join(images)}, {PIXELS[name]}, by class. Its '
            'numbers are in the table.',
            strata_chart(
                f'landcover {name}',
                ['Mean' if label == 'mean' else label for label in classes],
                {
                    image: [
                        _point(summary, figures.get((image, name, label)), 'iou')
                        for label in classes
                    ]
                    for image in images
                },
                styles,
            ),
        )
        for name in pixels
    ]
    return {
        'model': landcover['model'],
        'styles': {image: styles[image] for image in images},
        'table': Table(
            'Mean over classes',
            [Column('Image', is_number=False), *columns('mIoU')],
            rows,
        ),
        'comparisons': _landcover_comparisons(summary, pixels, styles),
        'charts': charts,
        'caption': _caption(summary, 'landcover', landcover['figures']),
        'classes': Table('Each class', class_columns, class_rows),
    }


def _landcover_comparisons(
    summary: Mapping[str, Any], pixels: Sequence[str], styles: Mapping[str, Style]
) -> Table | None:
    """Tabulate differences of the mean over classes between pairs of images."""
    pairs: dict[tuple[str, str], dict[str, Mapping[str, Any]]] = {}
    for row in summary['landcover']['comparisons']:
        if row['class'] == 'mean':
            pair = row['image'], row['baseline']
            pairs.setdefault(pair, {})[row['pixels']] = row
    if not pairs:
        return None
    rows = [
        [
            _text_cell(image, styles[image]),
            _text_cell(baseline, styles[baseline]),
            *(
                _value_cell(summary, cells.get(name), 3, 'difference')
                for name in pixels
            ),
        ]
        for (image, baseline), cells in pairs.items()
    ]
    columns = [
        Column('Image', is_number=False),
        Column('Compared with', is_number=False),
        *(Column('Difference of mIoU', PIXELS[name]) for name in pixels),
    ]
    return Table('Differences in pairs', columns, rows)


def _example(
    summary: Mapping[str, Any], example: Example, styles: Mapping[str, Style]
) -> dict[str, Any]:
    """Pictures and figures of a patch."""
    sample = example.sample
    cloudy, restored, clear = optical_pictures(sample, example.predictions)
    landcover, legend = landcover_picture(sample['mask'])
    height, width = sample['image'].shape[-2:]

    def picture(title: str, source: str, prefix: str = '') -> Picture:
        return Picture(title, source, f'{prefix}{title}, {example.patch}')

    target = sample['image_clear']
    kinds = [summary['methods'][name]['kind'] for name in restored]
    return {
        'patch': example.patch,
        'reasons': example.reasons,
        'height': height,
        'width': width,
        'cloud': _percent(round(sample['mask_cloud'].float().mean().item(), 2)),
        'cloudy': picture('Cloudy', cloudy),
        'target': picture('Clear', clear),
        'others': [
            picture('Sentinel-1', radar_picture(sample['image_s1'])),
            picture('Cloud mask', cloud_picture(sample['mask_cloud'])),
            picture('Land cover', landcover),
        ],
        'restored': [
            picture(name, uri, 'Restored by ') for name, uri in restored.items()
        ],
        'errors': [
            picture(name, error_picture(prediction, target), 'Error of ')
            for name, prediction in example.predictions.items()
        ],
        # The slider shows the first image that was really restored, else the clear one.
        'shown': next(
            (number for number, kind in enumerate(kinds, start=1) if kind != 'copy'),
            len(kinds) + 1,
        ),
        'legend': legend,
        'table': _example_table(summary, example, styles),
    }


def _example_table(
    summary: Mapping[str, Any], example: Example, styles: Mapping[str, Style]
) -> Table:
    """Tabulate methods by the metrics of a patch."""
    there = {metric for values in example.values.values() for metric in values}
    metrics = [metric for metric in summary['protocol']['metrics'] if metric in there]
    rows = []
    for method, values in example.values.items():
        row = [_text_cell(method, styles[method])]
        for metric in metrics:
            value = values.get(metric, math.nan)
            text = _number(value, _digits(summary, metric))
            row.append(Cell('–') if math.isnan(value) else Cell(text, value))
        rows.append(row)
    for column, metric in enumerate(metrics, start=1):
        entry = summary['protocol']['metrics'][metric]
        _mark_best(rows, column, entry['higher_is_better'])
    columns = [
        Column(metric, summary['protocol']['metrics'][metric]['unit'])
        for metric in metrics
    ]
    return Table(
        f'Patch {example.patch}', [Column('Method', is_number=False), *columns], rows
    )
