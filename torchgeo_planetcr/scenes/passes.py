# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Which images of Sentinel-1 a scene takes: those of the pass that is nearest in time."""

import os
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import datetime, timedelta
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torchgeo.datasets.utils import Path

from ..datasets.missing_sentinel1 import is_measured
from .assume import assume
from .backscatter import FACTORS, Unit
from .dates import Moment, date_in_name, find_date, parse_date, to_day
from .layer import Layer, OpenFiles, open_layer
from .names import without_query
from .polarizations import pair_polarizations
from .radar import Sentinel1, leave_out

#: Largest time between two images of a pass. A satellite is back in the same place from the
#: other side twelve hours later.
PASS_LENGTH = timedelta(minutes=15)

#: Names of files in a line, at most.
MAX_NAMES = 3


class RadarOptions(NamedTuple):
    """How Sentinel-1 is chosen and read."""

    #: Unit of Sentinel-1, None for the one that its values are like.
    unit: Unit | None = None
    #: Day of scenes whose files do not tell it, such as '2023-02-10'.
    date: str | None = None
    #: Largest number of days between a scene and Sentinel-1.
    max_days: float = 30
    #: Whether gaps of the nearest pass are filled from others, the nearest in time first.
    fill_gaps: bool = False
    #: Least share of a scene that Sentinel-1 must cover.
    min_coverage: float = 0.9

    @property
    def moment(self) -> Moment | None:
        """The day that is given, if it is one."""
        return None if self.date is None else parse_date(self.date)

    def check(self) -> None:
        """Refuse what cannot be meant.

        Raises:
            ValueError: If the unit is unknown, the date is no day, or a number is out of
                range.
        """
        if self.unit not in (None, *FACTORS):
            raise ValueError(
                f's1_unit={self.unit!r} is unknown: take one of {", ".join(FACTORS)}'
            )
        if self.date is not None and self.moment is None:
            raise ValueError(f'date={self.date!r} is not a day, such as 2023-02-10')
        if not self.max_days >= 0:
            raise ValueError(f'max_days={self.max_days} is negative: take 0 or more')
        if not 0 <= self.min_coverage <= 1:
            raise ValueError(
                f'min_coverage={self.min_coverage} is not a share in [0, 1]'
            )


#: How Sentinel-1 is chosen and read unless a user says otherwise.
DEFAULT_RADAR = RadarOptions()


class Pass(NamedTuple):
    """Images that a satellite has taken one after the other."""

    #: When; None if they do not tell it.
    moment: Moment | None
    #: Their files.
    files: tuple[str, ...]


class Passes(OpenFiles):
    """Images of Sentinel-1 of a scene, by the pass in which they were taken."""

    def __init__(
        self, paths: Sequence[Path], scene: Layer, options: RadarOptions
    ) -> None:
        """Initialize a new Passes instance.

        Args:
            paths: Images of Sentinel-1.
            scene: The scene.
            options: How they are chosen and read.

        Raises:
            OSError: If no image can be read.
            ValueError: If no image is what is expected, if all were taken too many days
                before or after the scene, or if there are several passes and the day of the
                scene is not known.
        """
        self.scene, self.options = scene, options
        #: When the scene was taken.
        self.moment = find_date(scene.dataset, scene.path, options.moment)
        self._opened = ExitStack()
        #: Passes, the nearest in time first.
        ordered = self._order(group_passes([str(path) for path in paths]))
        self.passes = ordered or [Pass(None, ())]
        self._images: dict[Pass, Sentinel1] = {}
        with self._opened as stack:
            # The others are opened if this one does not do
            self._leave_out_unusable()
            self._opened = stack.pop_all()

    def choose(self, has_data: NDArray[np.bool_]) -> Sentinel1:
        """Choose the images of a scene, and say which.

        Args:
            has_data: Where the scene has data, at low resolution.

        Returns:
            The images of the nearest pass that covers enough of the scene, or else of the
            one that covers most; of all passes, the nearest first, if gaps are to be filled.

        Raises:
            OSError: If no image can be read.
            ValueError: If the unit of all images is unclear.
        """
        coverages: dict[Pass, float] = {}
        problems: list[Exception] = []
        for found in self.passes:
            try:
                small = self._open(found).read_small(has_data.shape)
            except (OSError, ValueError) as error:
                problems.append(error)
                continue
            covered = is_measured(small) & has_data
            coverages[found] = covered.sum() / max(has_data.sum(), 1)
            if coverages[found] > 0 and coverages[found] >= self.options.min_coverage:
                break
        leave_out(problems, bool(coverages))
        found = max(coverages, key=coverages.__getitem__)
        self._say(found)
        return self._open(found)

    def _open(self, found: Pass) -> Sentinel1:
        """Open the images of a pass."""
        if found not in self._images:
            images = Sentinel1(found.files, self.scene.grid, self.options.unit)
            self._images[found] = self._opened.enter_context(images)
        return self._images[found]

    def _leave_out_unusable(self) -> None:
        """Leave out passes before the first one that can be opened."""
        problems: list[Exception] = []
        while self.passes:
            try:
                self._open(self.passes[0])
                break
            except (OSError, ValueError) as error:
                problems.append(error)
                del self.passes[0]
        leave_out(problems, bool(self.passes))

    def _order(self, passes: list[Pass]) -> list[Pass]:
        """Sort passes by their distance in time, and leave out those that are too far."""
        known = [found for found in passes if found.moment is not None]
        scene, limit = self.scene.path, self.options.max_days
        unknown = [found for found in passes if found.moment is None]
        if self.moment is None:
            # With the time, which tells two passes of a day from each other
            days = [moment.isoformat() for moment, _ in known if moment is not None]
            if len(days) > 1:
                raise ValueError(
                    f'{scene} does not tell its day, and Sentinel-1 of {", ".join(days)} '
                    f'meets it: give the day of the scene, as in `--date {days[0]}` (date), '
                    'or the one image to take'
                )
            return [*known, *unknown]
        known.sort(key=self._distance)
        near = [found for found in known if self._days(found) <= limit]
        if known and not near and not unknown:
            raise ValueError(
                f'{scene} is of {to_day(self.moment)}, and the nearest image of Sentinel-1 '
                f'is {self._describe(known[0])}: add one of at most {limit:g} days before or '
                'after, or allow more with --max_days (max_days)'
            )
        ordered = [*near, *unknown]
        if self.options.fill_gaps and ordered:
            files = [path for found in ordered for path in found.files]
            return [Pass(ordered[0].moment, tuple(files))]
        return ordered

    def _distance(self, found: Pass) -> float:
        """Seconds between a pass and the scene, by days if either time is not known."""
        if isinstance(found.moment, datetime) and isinstance(self.moment, datetime):
            return abs((found.moment - self.moment).total_seconds())
        return 86400.0 * self._days(found)

    def _days(self, found: Pass) -> int:
        """Days between a pass and the scene."""
        assert found.moment is not None and self.moment is not None
        return abs((to_day(found.moment) - to_day(self.moment)).days)

    def _describe(self, found: Pass) -> str:
        """Say when a pass was."""
        assert found.moment is not None and self.moment is not None
        day, days = to_day(found.moment), self._days(found)
        if not days:
            return f'of {day}, the same day'
        side = 'before' if day < to_day(self.moment) else 'after'
        return f'of {day}, {days} day{"s" * (days > 1)} {side}'

    def _say(self, found: Pass) -> None:
        """Say which pass is taken, or that it cannot be known how near it is."""
        if not found.files:
            return
        scene = self.scene.path
        files = self._open(found).files
        names = _shorten([os.path.basename(without_query(path)) for path in files])
        if found.moment is not None and self.moment is not None:
            assume(f'{scene}: Sentinel-1 {self._describe(found)} ({names})')
        elif found.moment is not None:
            assume(
                f'{scene}: Sentinel-1 of {to_day(found.moment)} ({names}), although the day '
                'of the scene is not known (--date gives it)'
            )
        else:
            assume(
                f'{scene}: Sentinel-1 of an unknown day, taken to be of about the same '
                f'({names})'
            )


def _shorten(names: Sequence[str]) -> str:
    """Name files, but not all of many."""
    if len(names) <= MAX_NAMES:
        return ', '.join(names)
    return f'{", ".join(names[:MAX_NAMES])} and {len(names) - MAX_NAMES} more'


def group_passes(paths: Sequence[str]) -> list[Pass]:
    """Group images of Sentinel-1 by the pass in which they were taken.

    Args:
        paths: The images.

    Returns:
        Passes from the first to the last, with their images in the order of *paths*; those
        that do not tell their day are one pass, the last.
    """
    moments: dict[tuple[str, ...], Moment | None] = {}
    for files in pair_polarizations(paths):
        moments[files] = date_in_name(files[0]) or _date_of(files[0])
    groups: list[tuple[Moment, list[tuple[str, ...]]]] = []
    dated = [(moment, files) for files, moment in moments.items() if moment is not None]
    for moment, files in sorted(dated, key=lambda pair: pair[0].isoformat()):
        if groups and _is_same_pass(groups[-1][0], moment):
            # A pass may be longer than the time between two of its images
            groups[-1] = moment, [*groups[-1][1], files]
        else:
            groups.append((moment, [files]))
    passes = [
        Pass(
            moment, tuple(path for files in moments if files in group for path in files)
        )
        for moment, group in groups
    ]
    unknown = [path for files, m in moments.items() if m is None for path in files]
    return [*passes, Pass(None, tuple(unknown))] if unknown else passes


def _is_same_pass(first: Moment, second: Moment) -> bool:
    """Whether two images are of the same pass, or of the same day if that is all we know."""
    if isinstance(first, datetime) and isinstance(second, datetime):
        return abs(second - first) <= PASS_LENGTH
    return to_day(first) == to_day(second)


def _date_of(path: str) -> Moment | None:
    """Date of a file whose name does not tell it, None if it cannot be read."""
    try:
        with open_layer(path) as dataset:
            return find_date(dataset, path)
    except OSError:
        # It is refused by name when its pass is opened
        return None
