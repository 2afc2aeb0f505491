# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Files of new patches in the layout of the archive."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torchgeo.datasets.utils import Path

from ..raster.grid import Grid
from ..raster.write import appears_whole, cannot_write, write_geotiff
from .archive import patch_path
from .modalities import GRID_ORDER, MODALITIES, ModalityName


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
