# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Files that appear whole or not at all."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import rasterio
from numpy.typing import NDArray
from torchgeo.datasets.utils import Path

from .grid import Grid

#: Free space that is mentioned where a file cannot be written, in bytes.
LITTLE = 100_000_000


def unwritten(path: Path, error: Exception) -> OSError:
    """Error of a file that cannot be written.

    Args:
        path: the file.
        error: what libraries say about it, which often is nothing of a full disk.

    Returns:
        An error that names the file and, if there is little, the space that is left.
    """
    folder = os.path.dirname(os.path.abspath(path))
    while not os.path.exists(folder):
        folder = os.path.dirname(folder)
    free = shutil.disk_usage(folder).free
    left = f', with {free / 1e6:.1f} MB left on its disk' if free < LITTLE else ''
    return OSError(f'{path} cannot be written{left}: {error}')


@contextmanager
def appears_whole(*paths: Path, folder: Path | None = None) -> Iterator[list[str]]:
    """Write files that appear whole or not at all.

    Args:
        *paths: The files.
        folder: Existing folder, on the same disk, for a hidden folder that holds the files
            until they are finished (defaults to that of the first file).

    Yields:
        Path to write each file to. At the end, the files are renamed in this order.

    Raises:
        OSError: If a file cannot be renamed.
    """
    if folder is None:
        folder = os.path.dirname(paths[0]) or os.curdir
    with tempfile.TemporaryDirectory(dir=folder, prefix='.unfinished-') as hidden:
        unfinished = [os.path.join(hidden, os.path.basename(path)) for path in paths]
        yield unfinished
        for path, unfinished_path in zip(paths, unfinished):
            os.replace(unfinished_path, path)


def write_text(path: Path, text: str) -> None:
    """Write a text file, which appears whole or not at all.

    Args:
        path: the file.
        text: what it holds.

    Raises:
        OSError: If it cannot be written.
    """
    unfinished = f'{os.fspath(path)}.unfinished'
    try:
        with open(unfinished, 'w', encoding='utf-8') as file:
            file.write(text)
        os.replace(unfinished, path)
    except OSError as error:
        with suppress(OSError):
            os.remove(unfinished)
        raise unwritten(path, error) from error


def write_geotiff(
    path: Path,
    array: NDArray[Any],
    grid: Grid,
    nodata: float | None = None,
    description: str = '',
    bands: Sequence[str] = (),
) -> None:
    """Write a GeoTIFF the way the archive has them.

    Args:
        path: the file.
        array: values of shape (C, H, W).
        grid: their grid.
        nodata: value of pixels without data.
        description: what the file says of itself (TIFF's ``ImageDescription``).
        bands: names of the bands.

    Raises:
        OSError: If it cannot be written.
    """
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
        # Before the pixels, else the header goes behind them
        if description:
            dataset.update_tags(TIFFTAG_IMAGEDESCRIPTION=description)
        for number, name in enumerate(bands, start=1):
            dataset.set_band_description(number, name)
        dataset.write(array)
    # GDAL does not tell of a full disk on closing a file
    if os.path.getsize(path) < array.nbytes:
        raise OSError('the disk took only a part of it')
