# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Charts of the report, as SVG that goes into the page."""

import io
import math
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter


class Style(NamedTuple):
    """How a method looks in charts, and in text beside its name."""

    color: str
    marker: str
    glyph: str


class Point(NamedTuple):
    """A value and its interval, which is NaN if there is none."""

    value: float
    low: float
    high: float

    #: Whether so few areas are behind it that the interval is too narrow.
    has_few_areas: bool = False


#: Colors of Okabe and Ito that the color-blind can tell apart, without black and yellow.
#: They show on a dark and on a white page.
COLORS = ('#0072b2', '#d55e00', '#009e73', '#e69f00', '#56b4e9', '#cc79a7')

#: There are five, so that a color has the same one again only after thirty methods.
MARKERS = (('o', '●'), ('s', '■'), ('^', '▲'), ('D', '◆'), ('v', '▼'))

#: Gray is for what stays in the background, such as images that no method restored.
GRAY = '#808080'
BASELINE = Style(GRAY, 'x', '✕')
CLOUDY = Style(GRAY, '|', '|')
CLEAR = Style('#947600', 'P', '✚')

#: Width of a chart in inches; 3 are 288 CSS pixels.
WIDTH = 3.0

#: Longest line of the name of a stratum.
MAX_LETTERS = 15

#: Opacity of an interval that is too narrow.
NARROW_INTERVAL_OPACITY = 0.4

SETTINGS: dict[Any, Any] = {
    # Words stay words, in the font of the page
    'svg.fonttype': 'none',
    'font.family': ['DejaVu Sans'],
    'font.size': 9,
    'lines.linewidth': 1.4,
    'lines.markersize': 4.8,
    'lines.markeredgewidth': 1.4,
    # A $ in a name is no formula
    'text.parse_math': False,
    'axes.spines.left': False,
    'axes.spines.right': False,
    'axes.spines.top': False,
    'axes.edgecolor': GRAY,
    'axes.axisbelow': True,
    'xtick.color': GRAY,
    'ytick.left': False,
    'grid.color': GRAY,
    'grid.alpha': 0.25,
    'grid.linewidth': 0.6,
}


def method_styles(methods: Iterable[tuple[str, bool]]) -> dict[str, Style]:
    """Give each method its own color and marker.

    Args:
        methods: Name of each method, and whether it restores nothing.

    Returns:
        Style of each method.
    """
    styles: dict[str, Style] = {}
    number = 0
    for name, is_baseline in methods:
        if is_baseline and BASELINE not in styles.values():
            styles[name] = BASELINE
            continue
        color = COLORS[number % len(COLORS)]
        styles[name] = Style(color, *MARKERS[number % len(MARKERS)])
        number += 1
    return styles


def strata_chart(
    key: str,
    strata: Sequence[str],
    points: Mapping[str, Sequence[Point | None]],
    styles: Mapping[str, Style],
) -> Markup:
    """Draw values with their intervals, one row for each stratum.

    Args:
        key: A name that no other chart of the page has.
        strata: Names of the strata, from top to bottom.
        points: For each method a point, or None, for each stratum.
        styles: Style of each method.

    Returns:
        An ``<svg>`` element.
    """
    row = max(0.3, 0.12 * len(points) + 0.12)
    is_empty = [not any(column) for column in zip(*points.values())]
    labels = [
        textwrap.fill(f'{name} (none)' if empty else name, MAX_LETTERS)
        for name, empty in zip(strata, is_empty)
    ]
    with mpl.rc_context(SETTINGS | {'svg.hashsalt': key}):
        figure, axes = _axes(row * len(strata), labels)
        for index in range(0, len(strata), 2):
            axes.axhspan(index - 0.5, index + 0.5, color=GRAY, alpha=0.08, linewidth=0)
        # From top to bottom in the order of the legend
        offsets = 0.12 / row * (np.arange(len(points)) - (len(points) - 1) / 2)
        for (method, values), offset in zip(points.items(), offsets):
            drawn = [
                (float(y + offset), p) for y, p in enumerate(values) if p is not None
            ]
            _draw_points(axes, drawn, styles[method])
        axes.set(ylim=(len(strata) - 0.5, -0.5), yticks=range(len(strata)))
        axes.set_yticklabels(labels)
        axes.grid(axis='x')
        return _to_svg(figure)


def _draw_points(
    axes: Axes, points: Sequence[tuple[float, Point]], style: Style
) -> None:
    """Draw the points of a method at their heights, with their intervals."""
    for has_few_areas, alpha in ((True, NARROW_INTERVAL_OPACITY), (False, 1)):
        intervals = [
            (y, point.low, point.high)
            for y, point in points
            if not math.isnan(point.low) and point.has_few_areas == has_few_areas
        ]
        if intervals:
            axes.hlines(*zip(*intervals), color=style.color, alpha=alpha)
    axes.plot(
        [point.value for _, point in points],
        [y for y, _ in points],
        linestyle='none',
        marker=style.marker,
        color=style.color,
    )


def distribution_chart(
    key: str, values: Mapping[str, Sequence[float]], styles: Mapping[str, Style]
) -> Markup:
    """Draw the cumulative distribution of many values.

    Args:
        key: A name that no other chart of the page has.
        values: Values of each method.
        styles: Style of each method.

    Returns:
        An ``<svg>`` element.
    """
    with mpl.rc_context(SETTINGS | {'svg.hashsalt': key}):
        figure, axes = _axes(1.9, ['100 %'])
        for method, unsorted in values.items():
            style = styles[method]
            axes.plot(
                sorted(unsorted),
                np.arange(1, len(unsorted) + 1) / max(len(unsorted), 1),
                color=style.color,
                marker=style.marker,
                markevery=0.2,
            )
        axes.set(ylim=(0, 1.03), yticks=[0, 0.25, 0.5, 0.75, 1])
        axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=' %'))
        axes.grid()
        return _to_svg(figure)


def _axes(height: float, labels: Iterable[str]) -> tuple[Figure, Axes]:
    """Make axes with room for labels, in a figure that pyplot does not keep."""
    letters = max(len(line) for label in labels for line in label.split('\n'))
    left, top, right, bottom = 0.12 + 0.072 * letters, 0.03, 0.08, 0.26
    figure = Figure(figsize=(WIDTH, top + height + bottom))
    # A layout that measures its words would take most of the time of a report
    figure.subplots_adjust(
        left=left / WIDTH,
        right=1 - right / WIDTH,
        bottom=bottom / (top + height + bottom),
        top=1 - top / (top + height + bottom),
    )
    axes = figure.add_subplot()
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axes.margins(x=0.06)
    return figure, axes


def _to_svg(figure: Figure) -> Markup:
    """Draw a figure as an element of a page."""
    buffer = io.StringIO()
    no_metadata = dict.fromkeys(('Creator', 'Date', 'Format', 'Type'))
    figure.savefig(buffer, format='svg', transparent=True, metadata=no_metadata)
    svg = buffer.getvalue()
    svg = svg[svg.index('<svg') :]
    # These repeat from chart to chart, and nothing refers to them
    svg = re.sub(r'<g id="[^"]*"', '<g', svg)
    # Its rules would hold for the whole page
    svg = re.sub(r'<style.*?</style>', '', svg, flags=re.DOTALL)
    return Markup(svg)
