# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Files of patches: how they are called, and how new ones are written."""

import math
import os
import re
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torchgeo.datasets.utils import Path

from ..raster.grid import Grid
from ..raster.header import RasterHeader
from ..raster.write import appears_whole, cannot_write, write_geotiff
from .modalities import GRID_ORDER, MODALITIES, ModalityName

SEASONS = ('spring', 'summer', 'fall', 'winter')

#: Height and width of patches in pixels of 3 m.
PATCH_SIZE = 300

#: Pixels of a raster of a patch at most, and bytes of each of them: far more than any has,
#: and so few that memory holds them.
MAX_PIXELS, MAX_PIXEL_SIZE = 100 * PATCH_SIZE**2, 64

#: Share by which the size of pixels may differ from that of their modality.
SIZE_TOLERANCE = 1e-6

#: Name of an area: season and number.
AREA = re.compile(rf'({"|".join(SEASONS)})_(0|[1-9]\d*)')

#: Modality of each prefix of file names.
MODALITY_OF_PREFIX = {row.folder: name for name, row in MODALITIES.items()}

#: Name of a file of a patch.
FILENAME = re.compile(
    rf'(?P<prefix>{"|".join(MODALITY_OF_PREFIX)})_(?P<season>{"|".join(SEASONS)})_'
    r'(?P<area>[0-9]{1,18})_p_(?P<number>[0-9]{1,18})\.(tif|npy)'
)

#: Name of a folder: of a modality and season, or of an area.
FOLDER = re.compile(
    rf'({"|".join(MODALITY_OF_PREFIX)})_({"|".join(SEASONS)})(_[0-9]+)?'
)


def patch_path(
    root: Path, split: str, aoi: str, number: int, modality: ModalityName
) -> str:
    """Path of a file of a patch.

    Args:
        root: Folder of the archive.
        split: Folder of the split, ``train`` or ``test``.
        aoi: Name of the area, ``<season>_<number>``.
        number: Number of the patch in the area.
        modality: One of :data:`~.modalities.MODALITIES`.

    Returns:
        The path.
    """
    row, season = MODALITIES[modality], aoi.partition('_')[0]
    prefix = row.folder
    folder = os.path.join(root, split, f'{prefix}_{season}', f'{prefix}_{aoi}')
    return os.path.join(folder, f'{prefix}_{aoi}_p_{number}{row.suffix}')


def cloudy_path(mask_path: str) -> str:
    """Path of the cloudy image of a patch.

    Args:
        mask_path: Path of the cloud mask of the same patch.

    Returns:
        Path of the cloudy image, absolute.
    """
    head, *names = os.path.abspath(mask_path).rsplit(os.sep, 3)
    mask, image = MODALITIES['cloud_mask'], MODALITIES['cloudy']
    names = [name.replace(mask.folder, image.folder, 1) for name in names]
    return os.path.join(head, *names).removesuffix(mask.suffix) + image.suffix


def check_patch_raster(header: RasterHeader, modality: ModalityName) -> None:
    """Check that a raster can be one of a patch.

    Args:
        header: Header of the file.
        modality: Its modality.

    Raises:
        ValueError: If its pixels have another size than those of the modality, or if
            there are too many of them.
    """
    path, grid, layout = header.filepath, header.grid, header.layout
    resolution = MODALITIES[modality].resolution
    if not all(math.isclose(r, resolution, rel_tol=SIZE_TOLERANCE) for r in grid.res):
        raise ValueError(
            f'{path} has pixels of {grid.xres:g} x {grid.yres:g} instead of '
            f'{resolution:g} x {resolution:g}'
        )
    if grid.height * grid.width > MAX_PIXELS:
        raise ValueError(
            f'{path} has {grid.height} x {grid.width} pixels, too many for a patch'
        )
    if layout and layout.count * np.dtype(layout.dtype).itemsize > MAX_PIXEL_SIZE:
        raise ValueError(f'{path} has {layout.count} bands, too many for a patch')


def write_patch(
    root: Path,
    split: Literal['train', 'test'],
    aoi: str,
    number: int,
    images: Mapping[ModalityName, tuple[NDArray[Any], Grid]],
    description: str = '',
) -> None:
    """Write the files of a patch in the formats of the archive.

    GeoTIFFs are uncompressed, striped and pixel-interleaved, and the cloud mask is a
    ``.npy`` file. When all files are written, they appear under their names one after the
    other, that of the cloudy image last: if it is there, the patch is whole.

    Args:
        root: Folder that holds ``train`` and ``test``.
        split: Folder to write to.
        aoi: Name of the area, ``<season>_<number>``.
        number: Number of the patch in the area.
        images: Array of shape (C, H, W) and grid, for each modality. The cloud mask has
            one channel and the grid of the cloudy image.
        description: Text in the TIFF tag ``ImageDescription`` of the GeoTIFFs.

    Raises:
        OSError: If a file cannot be written.
    """
    names = sorted(images, key=GRID_ORDER.index, reverse=True)
    paths = [patch_path(root, split, aoi, number, name) for name in names]
    with appears_whole(*paths, folder=root) as unfinished:
        for name, path, unfinished_path in zip(names, paths, unfinished, strict=True):
            try:
                _write_image(unfinished_path, name, *images[name], description)
            except OSError as error:
                raise cannot_write(path, error) from error


def _write_image(
    path: Path,
    modality: ModalityName,
    array: NDArray[Any],
    grid: Grid,
    description: str,
) -> None:
    """Write one file of a patch, see :func:`write_patch`."""
    row = MODALITIES[modality]
    array = array.astype(row.dtype, copy=False)
    if row.suffix == '.npy':
        np.save(path, array[0])
    else:
        nodata = row.nodata if row.declares_nodata else None
        write_geotiff(path, array, grid, nodata, description)
