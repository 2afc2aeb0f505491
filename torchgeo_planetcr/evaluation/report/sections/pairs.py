# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Part of the report on pairs of methods: verdicts in words, and differences."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple, get_args

from ...statistics import Comparison
from ..context import Context, group_by, percent, signed
from ..tables import (
    NO_FIGURE,
    Cell,
    Column,
    Table,
    areas_cell,
    count_cell,
    text_cell,
    value_cell,
)

#: Fewer areas than these have no clear difference, as their p is at least 2^(1 - n).
MIN_AREAS_TO_DIFFER = 6

#: Verdicts in the order in which a sentence names them.
type Verdict = Literal[
    'better', 'worse', 'no clear difference', 'too few areas', 'unknown'
]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict.__value__)


class JudgedComparison(NamedTuple):
    """What a difference means, by its p alone."""

    #: The comparison, without an interval that contradicts p.
    comparison: Comparison

    #: How the method is, compared with the baseline.
    verdict: Verdict


class VerdictSentence(NamedTuple):
    """Parts of a sentence that says how a pair of methods compares."""

    method: str
    #: What stands between the names of the methods.
    phrase: str
    baseline: str
    #: What stands behind the names.
    details: str
    #: Verdicts on the metrics but the first.
    others: str


def judge(context: Context, comparison: Comparison) -> JudgedComparison:
    """Say what a difference means, by its p alone.

    Args:
        context: What all parts of the report share.
        comparison: The comparison.

    Returns:
        It with its verdict.
    """
    difference, p_value = comparison.difference, comparison.p_value
    is_clear = p_value <= 1 - context.summary.bootstrap.level
    verdict: Verdict
    if math.isnan(difference):
        verdict = 'unknown'
    elif math.isnan(p_value) or comparison.areas < MIN_AREAS_TO_DIFFER:
        verdict = 'too few areas'
    elif not is_clear:
        verdict = 'no clear difference'
    elif (difference > 0) == context.higher_is_better(comparison.metric):
        verdict = 'better'
    else:
        verdict = 'worse'
    if (comparison.low <= 0 <= comparison.high) == is_clear:
        comparison = replace(comparison, low=math.nan, high=math.nan)
    return JudgedComparison(comparison, verdict)


def verdict_sentences(
    context: Context, judged: Sequence[JudgedComparison]
) -> list[VerdictSentence]:
    """Say in a sentence how each pair of methods compares, metric by metric.

    Args:
        context: What all parts of the report share.
        judged: Comparisons over all patches.

    Returns:
        A sentence for each pair.
    """
    first = next(iter(context.summary.protocol.metrics))
    pairs: dict[tuple[str, str], dict[str, JudgedComparison]] = {}
    for item in judged:
        comparison = item.comparison
        pair = comparison.method, comparison.baseline
        pairs.setdefault(pair, {})[comparison.metric] = item
    sentences = []
    for (method, baseline), by_metric in pairs.items():
        main = by_metric.pop(first, None)
        if main is not None:
            phrase, details = _headline(context, *main)
            others = _other_verdicts(by_metric)
            sentences.append(VerdictSentence(method, phrase, baseline, details, others))
    return sentences


def _other_verdicts(by_metric: Mapping[str, JudgedComparison]) -> str:
    """List the metrics of each verdict."""
    parts = []
    for verdict in VERDICTS:
        metrics = [name for name, item in by_metric.items() if item.verdict == verdict]
        if metrics:
            parts.append(f'{verdict} in {", ".join(metrics)}')
    return '; '.join(parts)


def _headline(
    context: Context, comparison: Comparison, verdict: Verdict
) -> tuple[str, str]:
    """Say how a pair of methods compares, between and behind their names."""
    name = comparison.metric
    words = (
        ('higher', 'lower') if context.higher_is_better(name) else ('lower', 'higher')
    )
    word = words[verdict == 'worse']
    phrase = {
        'no clear difference': f'does not clearly differ in {name} from',
        'too few areas': f'is on too few areas to tell its {name} from that of',
        'unknown': f'could not be compared in {name} with',
    }.get(verdict, f'has a {word} {name} than')
    if math.isnan(comparison.difference):
        return phrase, ''
    unit = context.summary.protocol.metrics[name].unit
    difference = signed(comparison.difference, context.digits(name))
    details = f'{difference} {unit}'.strip()
    more = _details(context, comparison, verdict, word)
    return phrase, f'{details} ({", ".join(more)})' if more else details


def _details(
    context: Context, comparison: Comparison, verdict: Verdict, word: str
) -> list[str]:
    """Interval, p, and share of patches of a comparison."""
    details = []
    digits = context.digits(comparison.metric)
    low, high = comparison.low, comparison.high
    if not math.isnan(low):
        limits = f'{signed(low, digits)} to {signed(high, digits)}'
        details.append(f'{context.level} interval {limits}')
    if not math.isnan(comparison.p_value):
        shown = _show_p(comparison.p_value, context.summary.bootstrap.level)
        shown = f'p {shown}' if shown.startswith('<') else f'p = {shown}'
        details.append(shown.replace(' ', '\N{NO-BREAK SPACE}'))
    share = comparison.share_better
    if not math.isnan(share):
        share = round(1 - share if verdict == 'worse' else share, 2)
        details.append(f'{word} in {percent(share)} of {comparison.patches:,} patches')
    return details


def _show_p(value: float, level: float) -> str:
    """Show p, with so many digits that it is on the side of the level where it is."""
    if value < 0.001:
        return '< 0.001'
    alpha = 1 - level
    digits = 3
    while digits < 16 and (round(value, digits) <= alpha) != (value <= alpha):
        digits += 1
    return f'{value:.{digits}f}'


def comparison_table(
    context: Context, judged: Sequence[JudgedComparison]
) -> Table | None:
    """Tabulate differences between pairs of methods.

    Args:
        context: What all parts of the report share.
        judged: Comparisons on one stratum or several.

    Returns:
        The table, None without comparisons.
    """
    if not judged:
        return None
    strata = list(group_by(judged, 'comparison.stratum'))
    has_strata = len(strata) > 1
    has_share = any(not math.isnan(item.comparison.share_better) for item in judged)
    rows = []
    for comparison, verdict in judged:
        row = _comparison_row(context, comparison, verdict, has_share)
        if has_strata:
            stratum = comparison.stratum
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
    if has_strata:
        columns.insert(0, Column('Stratum', is_number=False))
    return Table('Differences in pairs', columns, rows)


def _comparison_row(
    context: Context, comparison: Comparison, verdict: Verdict, has_share: bool
) -> list[Cell]:
    """Make a row of a comparison."""
    metrics = list(context.summary.protocol.metrics)
    metric, p_value = comparison.metric, comparison.p_value
    p_cell = NO_FIGURE
    if not math.isnan(p_value):
        p_cell = Cell(_show_p(p_value, context.summary.bootstrap.level), p_value)
    row = [
        text_cell(comparison.method, context.styles[comparison.method]),
        text_cell(comparison.baseline, context.styles[comparison.baseline]),
        Cell(context.label(metric), metrics.index(metric)),
        value_cell(
            context,
            comparison.difference,
            comparison,
            context.digits(metric),
            comparison.patches,
            with_sign=True,
        ),
        text_cell(verdict),
        p_cell,
    ]
    if has_share:
        share = comparison.share_better
        share_cell = NO_FIGURE
        if not math.isnan(share):
            share_cell = Cell(percent(round(share, 2)), share)
        row.append(share_cell)
    return [*row, count_cell(comparison.patches), areas_cell(context, comparison.areas)]
