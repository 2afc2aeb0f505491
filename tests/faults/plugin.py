# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Options of the campaign of faults, and the table of what came of it."""

from collections import Counter, defaultdict
from typing import Any

import pytest

#: What may come of a case.
GOOD = ('equal', 'named', 'left out')

#: Cases of the small campaign.
SMALL = 60


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the campaign."""
    group = parser.getgroup('faults', 'campaign of faults')
    group.addoption(
        '--faults',
        type=int,
        default=SMALL,
        help='number of damaged inputs, and scale of all else',
    )
    group.addoption('--fault-seed', type=int, default=0, help='seed of the campaign')
    group.addoption(
        '--all-faults',
        action='store_true',
        help='go on after a fault, and name all of them',
    )


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print how many cases of each kind came to what."""
    table: dict[str, Counter[str]] = defaultdict(Counter)
    reports = [r for found in terminalreporter.stats.values() for r in found]
    for report in reports:
        if getattr(report, 'when', '') == 'teardown':
            for name, counts in report.user_properties:
                if name.startswith('faults '):
                    table[name.removeprefix('faults ')].update(counts)
    if not table:
        return
    terminalreporter.section('faults')
    terminalreporter.line('| kind | cases | equal | named | left out | bad |')
    terminalreporter.line('|---|---:|---:|---:|---:|---:|')
    total: Counter[str] = Counter()
    for counts in table.values():
        total.update(counts)
    for kind, counts in [*sorted(table.items()), ('all', total)]:
        cases = counts.total()
        good = [counts[word] for word in GOOD]
        numbers = ' | '.join(map(str, [cases, *good, cases - sum(good)]))
        terminalreporter.line(f'| {kind} | {numbers} |')
