# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Tables of the report."""

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from .charts import Style
from .context import Context, number, signed


class Cell(NamedTuple):
    """Cell of a table: what it shows, and what its column is sorted by."""

    text: str

    #: An empty one comes last, whatever the order.
    sort: str | float = ''

    #: Interval of a number.
    detail: str = ''

    style: Style | None = None
    is_best: bool = False

    #: Whether so few areas are behind it that its interval is too narrow.
    has_few_areas: bool = False


#: Cell of a figure that was not computed.
NO_FIGURE = Cell('–')


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
    def marks_few_areas(self) -> bool:
        """Whether a cell is marked because few areas are behind it."""
        return any(cell.has_few_areas for row in self.rows for cell in row)


class WithInterval(Protocol):
    """A record with an interval, NaN if there is none, and its number of areas."""

    @property
    def low(self) -> float:
        """Lower bound."""

    @property
    def high(self) -> float:
        """Upper bound."""

    @property
    def areas(self) -> int:
        """Number of areas."""


def value_cell(
    context: Context,
    value: float,
    record: WithInterval,
    digits: int,
    count: int = 0,
    with_sign: bool = False,
) -> Cell:
    """Show a figure or a difference with its interval, or why there is none.

    Args:
        context: What all parts of the report share.
        value: Figure or difference, NaN if there is none.
        record: What it is of.
        digits: Number of digits after the point.
        count: How many patches or pixels there are.
        with_sign: Whether to show a plus.

    Returns:
        The cell.
    """
    if math.isnan(value):
        return Cell('undefined' if count else 'none')
    show = signed if with_sign else number
    detail = ''
    if not math.isnan(record.low):
        detail = f'{show(record.low, digits)} to {show(record.high, digits)}'
    return Cell(
        show(value, digits),
        float(f'{value:.6g}'),
        detail,
        has_few_areas=context.has_few_areas(record.areas),
    )


def count_cell(count: int) -> Cell:
    """Show how many there are, large numbers in millions."""
    if not count:
        return Cell('none')
    is_long = count >= 1_000_000
    return Cell(f'{count / 1_000_000:,.1f} M' if is_long else f'{count:,}', count)


def areas_cell(context: Context, areas: int) -> Cell:
    """Show how many areas there are, and mark few."""
    return count_cell(areas)._replace(has_few_areas=context.has_few_areas(areas))


def text_cell(text: str, style: Style | None = None) -> Cell:
    """Show a text, by which the column is sorted."""
    return Cell(text, text, style=style)


def metric_column(context: Context, metric: str) -> Column:
    """Name a metric, its unit, and which way is better."""
    return Column(context.label(metric), context.direction(metric))


def mark_best(rows: Sequence[list[Cell]], column: int, higher_is_better: bool) -> None:
    """Mark the best cells of a column, if there is something to choose from."""
    values = [row[column].sort for row in rows if isinstance(row[column].sort, float)]
    if len(set(values)) < 2:
        return
    best = max(values) if higher_is_better else min(values)
    for row in rows:
        row[column] = row[column]._replace(is_best=row[column].sort == best)
