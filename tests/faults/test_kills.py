# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""SIGKILL at any moment leaves nothing half-written, and the next run goes on."""

import random
from pathlib import Path

import pytest
from systems import needs_linux

from .campaign import Campaign
from .child import Child, Ended, Limits, planetcr, run
from .commands import WRITERS, Arguments, half_written, results

pytestmark = [needs_linux, pytest.mark.slow]

#: Kills of each command in the small campaign, and those between two runs to the end.
KILLS, CHAIN = 4, 2

#: Memory is not limited, since what is killed may be anywhere.
UNLIMITED = Limits(memory=None)


def kill(
    campaign: Campaign,
    rng: random.Random,
    arguments: Arguments,
    out: Path,
    alone: Ended,
) -> tuple[Ended, str]:
    """Kill a command at a random moment, or before a random change of its folder."""
    if rng.random() < 0.5:
        dies_at = rng.randint(1, max(alone.changes, 1))
        # At once, or while what is opened there is written
        delay = rng.choice([0, rng.uniform(0, 0.003)])
        limits = Limits(memory=None, dies_at=dies_at, delay=delay, watched=out)
        ended = run(campaign.folder, planetcr, *arguments, limits=limits)
        return ended, f'{1000 * delay:.2f} ms after change {dies_at}'
    moment = rng.uniform(0, alone.seconds)
    child = Child(campaign.folder, planetcr, *arguments, limits=UNLIMITED)
    return child.end(moment, kill=True), f'{moment:.3f} s'


@pytest.mark.parametrize('name', WRITERS)
def test_kill(campaign: Campaign, base: Path, name: str) -> None:
    writer, rng = WRITERS[name], random.Random(f'{campaign.seed} {name}')
    out = campaign.fresh('out')
    writer.prepare(base, out)
    watched = Limits(memory=None, watched=out)
    alone = run(campaign.folder, planetcr, *writer.arguments(base, out), limits=watched)
    expected, odd = results(out)
    assert (alone.status, odd) == (0, []), alone.text

    for _ in range(max(round(KILLS * campaign.scale) // CHAIN, 1)):
        campaign.fresh('out')
        writer.prepare(base, out)
        moments = []
        arguments = writer.arguments(base, out)
        for _ in range(CHAIN):
            ended, moment = kill(campaign, rng, arguments, out, alone)
            moments.append(moment)
            _, odd = results(out)
            half = half_written(odd)
            if ended.was_killed or half:
                campaign.count(
                    'kills',
                    'half-written' if half else 'equal',
                    f'{name}: {moment}: {half}',
                )
            arguments = writer.again(base, out)
        ended = run(campaign.folder, planetcr, *arguments, limits=UNLIMITED)
        word, text = 'equal', ''
        found, odd = results(out)
        if ended.status != 0:
            word, text = 'fails', ended.text[-600:]
        elif odd:
            word, text = 'left over', str(odd)
        elif wrong := writer.differences(found, expected):
            word, text = 'different', str(wrong)
        campaign.count('runs after kills', word, f'{name}: {moments}: {text}')
