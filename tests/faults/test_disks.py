# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Where nothing can be written, an error names the file, and nothing is half-written."""

import random
from pathlib import Path
from typing import Any

import pytest
from systems import needs_linux

from .campaign import Campaign
from .child import Ended, Limits, planetcr, run
from .commands import WRITERS, Writer, file_system, half_written, mount, results

pytestmark = [needs_linux, pytest.mark.slow]

#: Runs of each command in the small campaign.
RUNS = 1

#: Bytes of a page, the least that a file takes.
PAGE = 4096


def size_of(folder: Path) -> int:
    """Bytes that a folder takes on a disk."""
    sizes = [path.stat().st_size if path.is_file() else 1 for path in folder.rglob('*')]
    return sum(-(-size // PAGE) * PAGE for size in sizes) + PAGE


def judge(
    writer: Writer, ended: Ended, out: Path, expected: dict[str, Any]
) -> tuple[str, str]:
    """A word for a run that could not write all, and more about it."""
    found, odd = results(out)
    if half := half_written(odd):
        return 'half-written', half
    if odd:
        return 'left over', str(odd)
    if ended.status is None:
        return 'hang', ''
    if ended.status == 0:
        # An index that cannot be kept is made anew each time, and elsewhere if need be
        wrong = {*writer.differences(found, expected)} - {'planetcr_index.parquet'}
        return ('silent', str(sorted(wrong))) if wrong else ('equal', '')
    if ended.status < 0 or 'Traceback' in ended.text:
        return 'traceback', f'{ended.status} {ended.text[-600:]}'
    return ('named' if str(out) in ended.last_line else 'unnamed'), ended.last_line


def finish(
    campaign: Campaign, base: Path, out: Path, name: str, expected: dict[str, Any]
) -> None:
    """Run a command again where there is room, and compare."""
    ended = run(
        campaign.folder, planetcr, *WRITERS[name].again(base, out), limits=Limits(None)
    )
    found, odd = results(out)
    wrong, word = WRITERS[name].differences(found, expected), 'equal'
    if ended.status or odd or wrong:
        word = 'fails' if ended.status else 'left over' if odd else 'different'
    text = f'{name}: {odd} {wrong} {ended.text[-300:]}'
    campaign.count('runs after full disks', word, text)


@pytest.mark.parametrize('name', WRITERS)
def test_disk(campaign: Campaign, base: Path, name: str) -> None:
    writer, rng = WRITERS[name], random.Random(f'{campaign.seed} {name}')
    out = campaign.fresh('out')
    writer.prepare(base, out)
    before = size_of(out)
    arguments = writer.arguments(base, out)
    alone = run(campaign.folder, planetcr, *arguments, limits=Limits(memory=None))
    expected, odd = results(out)
    assert (alone.status, odd) == (0, []), alone.text
    after = size_of(out)
    files = [path for path in out.rglob('*') if path.is_file()]
    largest = max(path.stat().st_size for path in files)

    for _ in range(max(round(RUNS * campaign.scale), 1)):
        share = rng.random()
        campaign.fresh('out')
        size = before + int(share * (after - before))
        with file_system(out, max(size, 2 * PAGE)) as there:
            if there:
                writer.prepare(base, out)
                ended = run(
                    campaign.folder, planetcr, *arguments, limits=Limits(memory=None)
                )
                word, text = judge(writer, ended, out, expected)
                campaign.count('full disks', word, f'{name}: {size} bytes: {text}')
                assert mount(out, f'remount,size={8 * after + 2**27}')
                finish(campaign, base, out, name, expected)

        campaign.fresh('out')
        writer.prepare(base, out)
        # What the command prints goes to a file, too
        size = max(int(rng.random() * largest), PAGE)
        limits = Limits(memory=None, file_size=size)
        ended = run(campaign.folder, planetcr, *arguments, limits=limits)
        word, text = judge(writer, ended, out, expected)
        campaign.count(
            'files that may not grow', word, f'{name}: {limits.file_size}: {text}'
        )
        finish(campaign, base, out, name, expected)


@pytest.mark.parametrize('name', WRITERS)
def test_read_only(campaign: Campaign, base: Path, name: str) -> None:
    writer = WRITERS[name]
    out = campaign.fresh('out')
    with file_system(out, 2**27) as there:
        writer.prepare(base, out)
        if there:
            assert mount(out, 'remount,ro')
        else:
            out.chmod(0o555)
        ended = run(campaign.folder, planetcr, *writer.arguments(base, out))
        word, text = judge(
            writer, ended, out, {} if not writer.within else results(out)[0]
        )
        if word == 'equal' and not writer.within:
            word = 'silent'
        campaign.count('read-only folders', word, f'{name}: {text}')
    out.chmod(0o755)
