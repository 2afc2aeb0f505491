# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Several processes at the same folder at once."""

import random
from collections import Counter
from pathlib import Path

import pytest
from systems import needs_linux

from . import readers
from .campaign import Campaign
from .child import Child, Ended, Limits, planetcr, planetcr_late, run
from .commands import WRITERS, results

pytestmark = [needs_linux, pytest.mark.slow]

UNLIMITED = Limits(memory=None)

#: Seconds that processes open what changes, in the small campaign.
SECONDS = 4


def test_openings(campaign: Campaign) -> None:
    """Each opening of an archive that changes gives what was there at some moment."""
    root = campaign.fresh('tree')
    for number in range(1, readers.PATCHES):
        readers.write_constant(root, number, 100 * number)
    seconds = min(SECONDS * campaign.scale, 60)
    openers = [
        Child(campaign.folder, readers.open_again, root, seconds, limits=UNLIMITED)
        for _ in range(2)
    ]
    changer = Child(
        campaign.folder, readers.change, root, seconds, campaign.seed, limits=UNLIMITED
    )
    changed = changer.end(seconds + 60)
    assert changed.value, changed.text
    problems: Counter[str] = Counter()
    for opener in openers:
        ended = opener.end(seconds + 60)
        assert ended.value, ended.text
        problems.update(ended.value['problems'])
        campaign.counts['openings while files change']['equal'] += ended.value['opened']
    for text, count in problems.items():
        campaign.count('openings while files change', 'wrong', f'{count} x {text}')

    ended = run(campaign.folder, readers.open_twice, root, limits=UNLIMITED)
    kept, anew = ended.value
    assert kept == anew
    assert not [
        path for path in root.iterdir() if path.is_file() and path.suffix != '.parquet'
    ]


def word_for(both: list[Ended], odd: list[str], wrong: list[str]) -> tuple[str, str]:
    """A word for what two runs at once have left, and more about it."""
    for ended in both:
        if ended.status is None or ended.status < 0 or 'Traceback' in ended.text:
            return 'traceback', f'{ended.status} {ended.text[-600:]}'
        if ended.status and not any(
            word in ended.last_line for word in ('exists', 'holds')
        ):
            return 'fails', ended.last_line
    if all(ended.status for ended in both):
        return 'fails', 'both have refused'
    if odd or wrong:
        return ('half-written' if odd else 'different'), f'{odd} {wrong}'
    return 'equal', ''


@pytest.mark.parametrize('name', [name for name in WRITERS if name != 'fit'])
def test_two_writers(campaign: Campaign, base: Path, name: str) -> None:
    """What two runs at once leave is what one leaves."""
    writer, rng = WRITERS[name], random.Random(f'{campaign.seed} {name}')
    out = campaign.fresh('out')
    writer.prepare(base, out)
    arguments = writer.arguments(base, out)
    alone = run(campaign.folder, planetcr, *arguments, limits=UNLIMITED)
    expected, _ = results(out)
    for _ in range(max(round(campaign.scale / 2), 1)):
        campaign.fresh('out')
        writer.prepare(base, out)
        first = Child(campaign.folder, planetcr, *arguments, limits=UNLIMITED)
        # The second one begins while the first one works, or at once
        delay = rng.choice([0, rng.uniform(0, alone.seconds)])
        second = Child(
            campaign.folder, planetcr_late, delay, *arguments, limits=UNLIMITED
        )
        both = [first.end(60), second.end(60)]
        found, odd = results(out)
        word, text = word_for(both, odd, writer.differences(found, expected))
        campaign.count('two writers at once', word, f'{name}: {text}')
