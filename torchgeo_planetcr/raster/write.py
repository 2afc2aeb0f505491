# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Files that appear whole or not at all."""

import contextlib
import functools
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd
import rasterio
from numpy.typing import NDArray
from rasterio.errors import RasterioError

from .grid import Grid
from .read import UnreadableError, check_whole

try:
    import fcntl
except ImportError:
    # Windows has no such locks: there, what a killed process leaves stays
    fcntl = None

type Path = str | os.PathLike[str]

#: How the names of hidden folders begin that hold what is not finished.
UNFINISHED = '.unfinished-'

#: What follows in these names: only the machine that holds the lock knows whether it is held.
MACHINE = re.sub(r'\W', '-', platform.node() or 'machine')

#: What spreadsheets take for the beginning of a formula.
FORMULAS = ('=', '+', '-', '@', '\t', '\r', '\n')

#: Free space on a disk below which an error mentions it, in bytes.
SCARCE_SPACE = 100_000_000


class UnwritableError(OSError):
    """Raised when a file cannot be written."""


@contextlib.contextmanager
def unfinished_folder(parent: Path) -> Iterator[str]:
    """Make a hidden folder for what is not finished, and remove it at the end.

    It is locked meanwhile. The first time that a process writes to *parent*, it removes the
    folders of processes of this machine that were killed, whose locks have ended with them.

    Args:
        parent: Folder on the disk of the final files; it is made if need be.

    Yields:
        The folder.

    Raises:
        OSError: If the folder cannot be made.
    """
    os.makedirs(parent, exist_ok=True)
    remove_leftovers(parent)
    with contextlib.ExitStack() as stack:
        while True:
            folder = tempfile.TemporaryDirectory(
                dir=parent, prefix=f'{UNFINISHED}{MACHINE}-', ignore_cleanup_errors=True
            )
            is_locked = stack.enter_context(_lock(folder.name))
            # Another process may have taken it for a leftover meanwhile
            if is_locked is not False and os.path.isdir(folder.name):
                break
            folder.cleanup()
        stack.enter_context(folder)
        yield folder.name


def remove_leftovers(parent: Path) -> None:
    """Remove what killed processes of this machine have left, once in each process.

    Args:
        parent: Folder that they wrote to.
    """
    _remove_leftovers(os.path.realpath(parent), os.getpid())


@functools.lru_cache(maxsize=1024)
def _remove_leftovers(parent: str, process: int) -> None:
    """Remove what is left in a folder, see :func:`remove_leftovers`."""
    # What cannot be removed is in nobody's way
    with contextlib.suppress(OSError), os.scandir(parent) as entries:
        for entry in list(entries):
            if entry.name.startswith(f'{UNFINISHED}{MACHINE}-'):
                with _lock(entry.path) as is_left:
                    if is_left:
                        shutil.rmtree(entry.path, ignore_errors=True)


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[bool | None]:
    """Lock a folder, unless another process has; yield None where there are no locks."""
    is_locked = None
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            if fcntl is not None:
                file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
                stack.callback(os.close, file)
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    is_locked = True
                    # Processes that were forked meanwhile have the file open, too
                    stack.callback(fcntl.flock, file, fcntl.LOCK_UN)
                except BlockingIOError:
                    is_locked = False
        yield is_locked


@contextlib.contextmanager
def appears_whole(*paths: Path, folder: Path | None = None) -> Iterator[list[str]]:
    """Write files that appear under their names when all of them are whole.

    If anything goes wrong before, none of them appears. A file that is there already is
    replaced.

    Args:
        *paths: Files to write. They appear in this order, one after the other: where the
            last one is, all are.
        folder: Folder for what is not finished, on the same disk (defaults to that of the
            first file).

    Yields:
        For each file the path to write it to, with the same name, in a hidden folder.

    Raises:
        OSError: If a file cannot be written. Whatever error says so meanwhile, this one
            names the file, the last one if it is not known which.
    """
    parent = os.path.dirname(os.path.abspath(paths[0])) if folder is None else folder
    path = paths[-1]
    try:
        with unfinished_folder(parent) as unfinished:
            yield [os.path.join(unfinished, os.path.basename(path)) for path in paths]
            for path in paths:
                os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
                os.replace(os.path.join(unfinished, os.path.basename(path)), path)
    except (UnreadableError, UnwritableError):
        raise
    except (OSError, RasterioError) as error:
        raise cannot_write(path, error) from error


def cannot_write(path: Path, error: Exception) -> UnwritableError:
    """Make the error of a file that cannot be written.

    Args:
        path: The file.
        error: What libraries say about it, which often does not mention a full disk.

    Returns:
        An error that names the file and, if there is little, the space that is left.
    """
    folder = os.path.dirname(os.path.abspath(path))
    while not os.path.exists(folder):
        folder = os.path.dirname(folder)
    free = shutil.disk_usage(folder).free
    left = f', with {free / 1e6:.1f} MB left on its disk' if free < SCARCE_SPACE else ''
    return UnwritableError(f'{path} cannot be written{left}: {error}')


def exists_error(
    reason: str, advice: str = 'write to another place, or replace it'
) -> FileExistsError:
    """Make the error of files that would be replaced.

    Args:
        reason: What is there, such as 'out.tif exists'.
        advice: What to do, the last of it by ``--overwrite``.

    Returns:
        An error that says so.
    """
    return FileExistsError(f'{reason}: {advice} with --overwrite (overwrite=True)')


def check_absent(path: Path, overwrite: bool) -> None:
    """Refuse to replace a file.

    Args:
        path: The file.
        overwrite: Whether it may be replaced.

    Raises:
        FileExistsError: If it exists and must not be replaced.
    """
    if not overwrite and os.path.lexists(path):
        raise exists_error(f'{path} exists')


def write_text(path: Path, text: str) -> None:
    """Write a text file, which appears whole or not at all.

    Args:
        path: The file.
        text: Its content.

    Raises:
        OSError: If it cannot be written.
    """
    with (
        appears_whole(path) as (unfinished,),
        open(unfinished, 'w', encoding='utf-8') as file,
    ):
        file.write(text)


def write_csv(path: Path, rows: pd.DataFrame) -> None:
    """Write a CSV file in which no text is a formula to a spreadsheet.

    An apostrophe before a text keeps a spreadsheet from taking it for one. Numbers stay as
    they are.

    Args:
        path: The file. Use the path that :func:`appears_whole` gives.
        rows: Its rows.

    Raises:
        OSError: If it cannot be written.
    """
    safe = rows.copy(deep=False)
    for name in rows.select_dtypes(exclude=['number', 'bool']):
        safe[name] = rows[name].map(_as_text)
    safe.rename(columns=_as_text).to_csv(path, index=False)


def _as_text(value: Any) -> Any:
    """Make a text stay one in a spreadsheet."""
    is_formula = isinstance(value, str) and value.startswith(FORMULAS)
    return f"'{value}" if is_formula else value


def write_geotiff(
    path: Path,
    array: NDArray[Any],
    grid: Grid,
    nodata: float | None = None,
    description: str = '',
    bands: Sequence[str] = (),
) -> None:
    """Write a plain GeoTIFF: uncompressed, in strips, with interleaved pixels.

    Args:
        path: The file. Use the path that :func:`appears_whole` gives.
        array: Values of shape (C, H, W).
        grid: Their grid.
        nodata: Value of pixels without data.
        description: What the file says of itself (TIFF's ``ImageDescription``).
        bands: Names of the bands.

    Raises:
        OSError: If it cannot be written.
    """
    try:
        with rasterio.open(
            path,
            'w',
            driver='GTiff',
            width=grid.width,
            height=grid.height,
            count=len(array),
            dtype=array.dtype,
            nodata=nodata,
            crs=grid.crs,
            transform=grid.transform,
            interleave='pixel',
        ) as dataset:
            # Before the pixels, else the header is written after them
            if description:
                dataset.update_tags(TIFFTAG_IMAGEDESCRIPTION=description)
            for number, name in enumerate(bands, start=1):
                dataset.set_band_description(number, name)
            dataset.write(array)
        check_whole(os.fspath(path))
    except RasterioError as error:
        raise OSError(str(error)) from error
