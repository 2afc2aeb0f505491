# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""New patches in the layout of the archive."""

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import RasterioError
from torchgeo.datasets.utils import Path

from .archive import GRID_ORDER, patch_path
from .components import Modality
from .grid import Grid

#: Type of each modality in the archive.
DTYPES: dict[str, type[np.generic]] = {
    'cloudy': np.uint16,
    'clear': np.uint16,
    'sentinel1': np.float64,
    'worldcover': np.uint8,
    'cloud_mask': np.bool_,
}

#: Value of pixels without data, in the modalities that declare one.
NODATA: dict[str, int] = {'cloudy': 0, 'clear': 0}


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


def write_patch(
    root: Path,
    split: Literal['train', 'test'],
    aoi: str,
    number: int,
    images: Mapping[Modality, tuple[NDArray[Any], Grid]],
    description: str = '',
) -> None:
    """Write the files of a patch as the archive has them.

    GeoTIFFs are uncompressed, striped and pixel-interleaved, and the cloud mask is a
    ``.npy`` file. Files appear under their names one after the other when all of them are
    written, that of the cloudy image last: where it is, the patch is whole.

    Args:
        root: folder that holds ``train`` and ``test``.
        split: folder to write to.
        aoi: name of the area, ``<season>_<number>``.
        number: number of the patch in it.
        images: array of shape (C, H, W) and grid, for each modality. The cloud mask has
            one channel and the grid of the cloudy image.
        description: what GeoTIFFs say of themselves (TIFF's ``ImageDescription``).

    Raises:
        OSError: If a file cannot be written.
    """
    os.makedirs(root, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root, prefix='.unfinished-') as folder:
        written = {}
        for modality in sorted(images, key=GRID_ORDER.index, reverse=True):
            path = patch_path(root, split, aoi, number, modality)
            array, grid = images[modality]
            array = array.astype(DTYPES[modality], copy=False)
            written[path] = os.path.join(folder, os.path.basename(path))
            try:
                if path.endswith('.npy'):
                    np.save(written[path], array[0])
                else:
                    nodata = NODATA.get(modality)
                    write_geotiff(written[path], array, grid, nodata, description)
            except (OSError, RasterioError) as error:
                raise unwritten(path, error) from error
        for path, unfinished in written.items():
            os.makedirs(os.path.dirname(path), exist_ok=True)
            os.replace(unfinished, path)


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
        msg = 'the disk took only a part of it'
        raise OSError(msg)
