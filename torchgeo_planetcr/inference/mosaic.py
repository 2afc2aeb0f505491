# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Mosaics of the predictions of patches."""

import os

import rasterio
from geopandas import GeoDataFrame
from rasterio.merge import merge
from torchgeo.datasets.utils import Path

from ..raster.cog import write_cog
from ..raster.read import open_raster
from ..raster.write import appears_whole, cannot_write, exists_error
from .origin import Origin, digest, read_origin, say_difference, write_origin
from .output import CLASS_TYPE


def mosaic_areas(
    index: GeoDataFrame, predictions: Path, out: Path, overwrite: bool = False
) -> list[str]:
    """Put the predictions of the patches of each area together.

    An area whose patches lie in two UTM zones becomes two files, as no pixel is
    reprojected. Where patches overlap, the first one wins.

    A mosaic that exists, and was made of the same predictions, is kept.

    Args:
        index: Index of :class:`~torchgeo_planetcr.datasets.PlanetCR`.
        predictions: Folder that holds ``<patch>.tif`` for each patch of it.
        out: Folder to write ``<area>.tif`` to, or ``<area>_<EPSG code>.tif`` for an area
            in several zones.
        overwrite: Replace mosaics that exist.

    Returns:
        Paths of the mosaics.

    Raises:
        FileExistsError: If a mosaic of other predictions exists and *overwrite* is not set.
        FileNotFoundError: If a prediction is missing.
        OSError: If a file cannot be read or written.
    """
    written = []
    for area, patches in index.groupby('aoi'):
        zones = patches.groupby('native_crs')
        for crs, rows in zones:
            name = area if len(zones) == 1 else f'{area}_{str(crs).split(":")[-1]}'
            files = [
                os.path.join(predictions, f'{patch}.tif') for patch in rows['patch']
            ]
            path = os.path.join(out, f'{name}.tif')
            origins = [read_origin(file) for file in files]
            origin = Origin({'patches': digest(*origins)}) if all(origins) else None
            if not overwrite and os.path.lexists(path):
                if reason := say_difference(path, origin):
                    raise exists_error(reason)
            else:
                _merge(files, path, origin)
            written.append(path)
    return written


def _merge(files: list[str], path: str, origin: Origin | None) -> None:
    """Merge rasters of one grid into a cloud-optimized GeoTIFF."""
    if missing := [file for file in files if not os.path.exists(file)]:
        raise FileNotFoundError(f'{missing[0]} is missing: predict all patches first')
    with appears_whole(path) as (whole,):
        raw = os.path.join(os.path.dirname(whole), 'raw.tif')
        try:
            merge(files, dst_path=raw)
            with (
                open_raster(files[0], 'GTiff') as first,
                rasterio.open(raw, 'r+') as dataset,
            ):
                dataset.descriptions = first.descriptions
                write_origin(dataset, origin)
                has_classes = dataset.dtypes[0] == CLASS_TYPE
            write_cog(raw, whole, has_classes=has_classes)
        # Some errors of GDAL are not OSErrors
        except Exception as error:
            raise cannot_write(path, error) from error
