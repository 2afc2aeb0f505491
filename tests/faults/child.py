# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Functions and commands in processes of their own, with limits, and how they ended.

A server imports the package once and is forked for each of them, so that a crash, a hang or
too much memory is seen and stops nothing else.
"""

import contextlib
import io
import itertools
import multiprocessing
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

#: What processes need not import any more.
PRELOADED = (
    'torchgeo_planetcr.main',
    'torchgeo_planetcr.evaluation.report',
    'matplotlib.pyplot',
    'PIL.Image',
    'rasterio.merge',
    'torchvision',
)

#: Bytes of memory that a process may take on top of those of the server.
EXTRA_MEMORY = 2 * 2**30

#: Seconds after which a process hangs.
HANG = 30.0

#: Numbers of the processes, for the names of files of their output.
NUMBERS = itertools.count()

#: What changes a folder, by the names of Python's audit events; files are opened besides.
CHANGES = {'os.rename', 'os.remove', 'os.mkdir', 'os.rmdir', 'os.link', 'os.truncate'}


@dataclass(frozen=True)
class Limits:
    """What a process may do."""

    memory: int | None = EXTRA_MEMORY
    #: Bytes to which a file may grow.
    file_size: int | None = None
    #: Number of files that may be open.
    open_files: int | None = None
    #: Change of the watched folder before which the process kills itself.
    dies_at: int | None = None
    #: Seconds from there to its death.
    delay: float = 0
    #: Folder whose changes count.
    watched: Path | None = None


@dataclass(frozen=True)
class Ended:
    """How a process ended."""

    #: Exit status, or minus the number of the signal that killed it; None if it hung.
    status: int | None
    seconds: float
    #: What the function gave back.
    value: Any
    #: What it printed.
    text: str
    #: How often it changed the watched folder.
    changes: int

    @property
    def was_killed(self) -> bool:
        """Whether it was killed, without a word."""
        return self.status in (-signal.SIGKILL, -signal.SIGALRM)

    @property
    def last_line(self) -> str:
        """The last line that it printed."""
        return (self.text.strip().splitlines() or [''])[-1]


class Child:
    """A function that runs in a process of its own."""

    def __init__(
        self,
        folder: Path,
        function: Callable[..., Any],
        *args: Any,
        limits: Limits | None = None,
    ) -> None:
        """Start it.

        Args:
            folder: Where it runs; its home, caches and output are there.
            function: Function of a module.
            *args: Its arguments.
            limits: What it may do.
        """
        context = multiprocessing.get_context('forkserver')
        context.set_forkserver_preload(list(PRELOADED))
        self.output = folder / f'.output-{next(NUMBERS)}'
        self.start = time.monotonic()
        self.pipe, other = context.Pipe(duplex=False)
        self.process = context.Process(
            target=_play,
            args=(other, folder, self.output, limits or Limits(), function, args),
        )
        self.process.start()
        other.close()

    def end(self, seconds: float = HANG, kill: bool = False) -> Ended:
        """Wait for the process.

        Args:
            seconds: How long at most.
            kill: Whether it is to be killed then, and has not hung.

        Returns:
            How it ended.
        """
        changes, value, sentinel = 0, None, self.process.sentinel
        end = self.start + seconds
        with self.pipe, contextlib.suppress(EOFError, OSError):
            # It cannot end before what it gives back is read
            wait([self.pipe, sentinel], max(end - time.monotonic(), 0))
            if self.pipe.poll():
                changes, value = self.pipe.recv()
        ended = bool(wait([sentinel], max(end - time.monotonic(), 0)))
        self._kill()
        self.process.join()
        duration = time.monotonic() - self.start
        # Its own processes may outlive it
        self._kill()
        text = self.output.read_text(errors='replace') if self.output.exists() else ''
        self.output.unlink(missing_ok=True)
        status = self.process.exitcode if ended or kill else None
        return Ended(status, duration, value, text, changes)

    def _kill(self) -> None:
        """Kill the process and all that it has started."""
        pid = self.process.pid
        assert pid
        if self.process.is_alive():
            self.process.kill()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)


def run(
    folder: Path,
    function: Callable[..., Any],
    *args: Any,
    limits: Limits | None = None,
    seconds: float = HANG,
) -> Ended:
    """Run a function in a process of its own, see :class:`Child`."""
    return Child(folder, function, *args, limits=limits).end(seconds)


def planetcr(*args: str | Path) -> None:
    """Do what the console script does."""
    from torchgeo_planetcr.main import main

    sys.argv = ['planetcr', *map(str, args)]
    main()


def planetcr_late(seconds: float, *args: str | Path) -> None:
    """Do the same some time later."""
    time.sleep(seconds)
    planetcr(*args)


def _play(
    pipe: Connection,
    folder: Path,
    output: Path,
    limits: Limits,
    function: Callable[..., Any],
    args: tuple[Any, ...],
) -> None:
    """Be the process."""
    status, counter = 1, Counter(limits)
    try:
        os.setsid()
        _redirect(folder, output)
        _limit(limits)
        sys.addaudithook(counter)
        value = function(*args)
        pipe.send((counter.count, value))
        status = 0
    except SystemExit as error:
        pipe.send((counter.count, None))
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
        else:
            status = error.code or 0
    sys.exit(status)


def _redirect(folder: Path, path: Path) -> None:
    """Print into a file, read nothing, and be at home in a folder."""
    with path.open('wb') as output, open(os.devnull, 'rb') as nothing:
        for source, target in ((nothing, 0), (output, 1), (output, 2)):
            os.dup2(source.fileno(), target)
    sys.stdout, sys.stderr = (
        io.TextIOWrapper(io.FileIO(number, 'w'), errors='replace', write_through=True)
        for number in (1, 2)
    )
    os.chdir(folder)
    cache = str(folder / '.cache')
    os.environ.update(XDG_CACHE_HOME=cache, HOME=str(folder), TMPDIR=str(folder))


def _limit(limits: Limits) -> None:
    """Set the limits of this process."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    used = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()
    numbers: Mapping[int, int | None] = {
        resource.RLIMIT_AS: None if limits.memory is None else used + limits.memory,
        resource.RLIMIT_FSIZE: limits.file_size,
        resource.RLIMIT_NOFILE: limits.open_files,
    }
    for kind, number in numbers.items():
        if number is not None:
            resource.setrlimit(kind, (number, number))


class Counter:
    """Counts the changes of a folder, and may kill this process before one of them."""

    def __init__(self, limits: Limits) -> None:
        """Initialize a new Counter instance."""
        self.folder = None if limits.watched is None else str(limits.watched)
        self.dies_at, self.delay = limits.dies_at, limits.delay
        self.count = 0
        self.owner = os.getpid()

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        """Look at an audit event of Python, which comes before what it tells of."""
        if self.folder is None or os.getpid() != self.owner:
            return
        if (event in CHANGES or _is_write(event, args)) and str(args[0]).startswith(
            self.folder
        ):
            self.count += 1
            if self.count == self.dies_at and self.delay:
                signal.setitimer(signal.ITIMER_REAL, self.delay)
            elif self.count == self.dies_at:
                os.kill(self.owner, signal.SIGKILL)


def _is_write(event: str, args: tuple[Any, ...]) -> bool:
    """Whether a file is opened that need not be there."""
    return event == 'open' and bool((args[2] or 0) & os.O_CREAT)
