# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""A part of the campaign of faults: tries cases, and counts what comes of them."""

import shutil
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import SearchStrategy

from . import oracles
from .child import Ended, run
from .mutations import UNDAMAGED
from .plugin import GOOD, SMALL


class Campaign:
    """Tries cases, and counts what comes of them."""

    def __init__(self, folder: Path, config: pytest.Config) -> None:
        """Initialize a new Campaign instance.

        Args:
            folder: Folder to work in.
            config: Options.
        """
        self.folder = folder
        self.size: int = config.getoption('faults')
        self.seed: int = config.getoption('fault_seed')
        self.goes_on: bool = config.getoption('all_faults')
        self.counts: dict[str, Counter[str]] = defaultdict(Counter)
        self.bad: list[str] = []

    @property
    def scale(self) -> float:
        """How much larger than the small campaign it is."""
        return self.size / SMALL

    def search(
        self,
        kind: str,
        share: float,
        damages: SearchStrategy[Any],
        try_one: Callable[[Any], tuple[str, str]],
        control: Any = UNDAMAGED,
    ) -> None:
        """Look for damage that is not withstood, and make it as small as possible.

        Args:
            kind: Name of the kind of input.
            share: Share of all cases.
            damages: What to try.
            try_one: Function that gives a word for what came of it, and more about it.
            control: A case without damage, of which 'equal' must come.
        """
        assert try_one(control) == ('equal', '')

        @seed(self.seed)
        @settings(
            max_examples=max(round(share * self.size), 3),
            deadline=None,
            database=None,
            phases=[Phase.generate] if self.goes_on else [Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        )
        @given(damages)
        def try_all(damage: Any) -> None:
            word, text = try_one(damage)
            self.count(kind, word, f'{damage}: {text}')

        try_all()

    def judge(self, check: Callable[..., str], *args: Any) -> tuple[str, str]:
        """Check something in a process of its own.

        Args:
            check: One of the functions of `oracles`.
            *args: Its arguments.

        Returns:
            A word for what came of it, and more about it.
        """
        ended = run(self.folder, oracles.judge, check, *args)
        if (self.folder / 'canary').exists():
            shutil.rmtree(self.folder / 'canary', ignore_errors=True)
            (self.folder / 'canary').unlink(missing_ok=True)
            return 'executed', 'the canary is there'
        if ended.value is None:
            return how_it_failed(ended), ended.text[-1500:]
        word, text = ended.value
        return word, text

    def count(self, kind: str, word: str, text: str = '') -> None:
        """Count a case, and fail if it is a bad one.

        Args:
            kind: Name of the kind of case.
            word: A word for what came of it.
            text: More about it.
        """
        self.counts[kind][word] += 1
        if word not in GOOD:
            self.bad.append(f'{kind}: {word}: {text}')
            assert self.goes_on, self.bad[-1]

    def fresh(self, name: str) -> Path:
        """An empty folder of this name."""
        shutil.rmtree(self.folder / name, ignore_errors=True)
        (self.folder / name).mkdir()
        return self.folder / name

    def clone(self, source: Path) -> Path:
        """A copy of a folder that may be changed."""
        target = self.folder / source.name
        shutil.rmtree(target, ignore_errors=True)
        return Path(shutil.copytree(source, target))


def how_it_failed(ended: Ended) -> str:
    """A word for a process that gave nothing back."""
    if ended.status is None:
        return 'hang'
    if ended.status < 0:
        return f'signal {-ended.status}'
    return 'memory' if 'MemoryError' in ended.text else 'traceback'
