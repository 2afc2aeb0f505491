# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Files that appear whole or not at all."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import rasterio
from numpy.typing import NDArray
from rasterio.errors import RasterioError

from .grid import Grid
from .read import check_whole

type Path = str | os.PathLike[str]

#: How the names of hidden folders begin that hold what is not finished.
UNFINISHED = '.unfinished-'

#: Free space on a disk below which an error mentions it, in bytes.
SCARCE_SPACE = 100_000_000


def unfinished_folder(parent: Path) -> tempfile.TemporaryDirectory[str]:
    """Make a hidden folder for what is not finished.

    Args:
        parent: Folder on the disk of the final files; it is made if need be.

    Returns:
        A context manager that removes the folder at its end.

    Raises:
        OSError: If the folder cannot be made.
    """
    os.makedirs(parent, exist_ok=True)
    return tempfile.TemporaryDirectory(
        dir=parent, prefix=UNFINISHED, ignore_cleanup_errors=True
    )


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
        OSError: If a file cannot be written.
    """
    parent = os.path.dirname(os.path.abspath(paths[0])) if folder is None else folder
    with contextlib.ExitStack() as stack:
        try:
            unfinished = stack.enter_context(unfinished_folder(parent))
        except OSError as error:
            raise cannot_write(paths[0], error) from error
        written = [os.path.join(unfinished, os.path.basename(path)) for path in paths]
        yield written
        for path, source in zip(paths, written, strict=True):
            try:
                os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
                os.replace(source, path)
            except OSError as error:
                raise cannot_write(path, error) from error


def cannot_write(path: Path, error: Exception) -> OSError:
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
    return OSError(f'{path} cannot be written{left}: {error}')


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
    with appears_whole(path) as (unfinished,):
        try:
            with open(unfinished, 'w', encoding='utf-8') as file:
                file.write(text)
        except OSError as error:
            raise cannot_write(path, error) from error


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
