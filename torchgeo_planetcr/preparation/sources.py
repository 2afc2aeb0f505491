# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Scenes of one place, read on the grids of patches."""

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.io import DatasetReader
from rasterio.windows import Window
from torchgeo.datasets.utils import Path

from ..datasets.components import COMPONENTS, Modality, PlanetCRWorldCover
from ..datasets.grid import Grid, parse_crs
from ..datasets.raster import read_raster_header
from ..datasets.writing import DTYPES
from ..inference.mask import NO_MASK, CloudMask
from ..inference.raster import (
    find_bands,
    find_polarizations,
    open_raster,
    read_bands,
    warp,
)
from ..inference.scene import Scene

#: Height and width of patches in pixels.
SIZE = 300

#: Pixel size of PlanetScope, and of Sentinel-1 and land cover, in metres.
FINE, COARSE = 3.0, 10.0

#: Value where there is no data.
NODATA: dict[Modality, float] = {
    'cloudy': 0,
    'clear': 0,
    'sentinel1': math.nan,
    'worldcover': 0,
    'cloud_mask': NO_MASK,
}

#: Codes of land cover.
CODES = [code for (code,) in PlanetCRWorldCover.codes[2]]


class Layer(NamedTuple):
    """A file of a modality, and how it is read on the grid of a patch."""

    modality: Modality
    dataset: DatasetReader
    #: Bands to read, from 1.
    bands: Sequence[int]
    #: The grid of a patch is the window of it that is nearest to the patch.
    lattice: Grid

    def read(self, patch: Grid) -> tuple[NDArray[Any], Grid]:
        """Read what lies under a patch.

        Args:
            patch: window of the grid of the cloudy scene.

        Returns:
            Array of shape (C, H, W), and its grid.

        Raises:
            OSError: If the file cannot be read.
        """
        grid = self.lattice.snap(patch.bounds)
        is_image = COMPONENTS[self.modality].is_image
        with warp(
            self.dataset,
            Resampling.bilinear if is_image else Resampling.nearest,
            NODATA[self.modality],
            np.dtype(DTYPES[self.modality]).name,
            crs=grid.crs,
            transform=grid.transform,
            height=grid.height,
            width=grid.width,
        ) as warped:
            return read_bands(warped, self.dataset.name, self.bands), grid


class PatchSources:
    """A cloudy scene and what goes with it, read patch by patch."""

    def __init__(
        self, paths: Mapping[Modality, Path], bands: Sequence[int] | None = None
    ) -> None:
        """Initialize a new PatchSources instance.

        Args:
            paths: the file of each modality, that of ``cloud_mask`` if there is one.
            bands: positions of B, G, R and NIR in both scenes, from 1 (defaults to those
                of PlanetScope's products of four and eight bands).

        Raises:
            OSError: If a file cannot be read.
            ValueError: If a file is not what is expected, or of another place.
        """
        cloudy = paths['cloudy']
        #: Grid of the cloudy scene.
        self.grid = read_raster_header(str(cloudy)).grid
        _check_grid(cloudy, self.grid)
        with Scene(cloudy, [paths['sentinel1']], bands, min_coverage=0) as scene:
            scene.survey()
        self._landcover = paths['worldcover']
        grids = {
            modality: self._grid_of(paths[modality], cloudy)
            for modality in ('clear', 'sentinel1', 'worldcover')
        }
        coarse = Grid(self.grid.crs, 0, 0, COARSE, COARSE, 0, 0)
        lattices = {
            modality: grid if grid.same_lattice(coarse) else coarse
            for modality, grid in grids.items()
        }
        with ExitStack() as stack:
            image, clear, radar, landcover = (
                stack.enter_context(open_raster(paths[modality]))
                for modality in ('cloudy', 'clear', 'sentinel1', 'worldcover')
            )
            positions = find_bands(image, bands)
            self._layers = (
                Layer('cloudy', image, positions, self.grid),
                Layer('clear', clear, find_bands(clear, bands), self.grid),
                Layer(
                    'sentinel1', radar, find_polarizations(radar), lattices['sentinel1']
                ),
                Layer('worldcover', landcover, [1], lattices['worldcover']),
            )
            self._mask: CloudMask | None = None
            if 'cloud_mask' in paths:
                mask = CloudMask(paths['cloud_mask'], image, positions)
                self._mask = stack.enter_context(mask)
                mask.survey()
            self._opened = stack.pop_all()

    def read(self, patch: Grid) -> dict[Modality, tuple[NDArray[Any], Grid]]:
        """Read a patch.

        Args:
            patch: window of the grid of the cloudy scene.

        Returns:
            Array of shape (C, H, W) and grid for each modality: ``cloudy`` and ``clear``,
            reflectance x 10000, ``sentinel1`` in dB, ``worldcover``, codes, and
            ``cloud_mask``, 1 cloud and 0 no cloud, if there is one; :data:`NODATA` where
            there is none of it.

        Raises:
            OSError: If a file cannot be read.
            ValueError: If a class of land cover or a value of the mask is unknown.
        """
        images = {layer.modality: layer.read(patch) for layer in self._layers}
        radar, _ = images['sentinel1']
        radar[:, ~np.isfinite(radar).all(axis=0)] = NODATA['sentinel1']
        codes, _ = images['worldcover']
        unknown = codes[~np.isin(codes, (*CODES, NODATA['worldcover']))]
        if unknown.size:
            msg = f'{self._landcover} has the value {unknown[0]}, which is no class of '
            msg += f'WorldCover ({", ".join(map(str, CODES))}): take the map of ESA '
            msg += 'WorldCover, or write its codes into yours.'
            raise ValueError(msg)
        if self._mask is not None:
            row, col = self.grid.offset(patch)
            mask = self._mask.read(Window(col, row, patch.width, patch.height))
            images['cloud_mask'] = mask[np.newaxis], patch
        return images

    def _grid_of(self, path: Path, cloudy: Path) -> Grid:
        """Grid of a file, which must be of the same place."""
        grid = read_raster_header(str(path)).grid
        place = shapely.box(*self.grid.bounds_in(grid.crs))
        if not place.intersects(shapely.box(*grid.bounds)):
            msg = f'{path} does not overlap {cloudy}: take one of the same place.'
            raise ValueError(msg)
        return grid

    def __enter__(self) -> Self:
        """Use the scenes in a with statement."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the files at its end."""
        self._opened.close()


def _check_grid(path: Path, grid: Grid) -> None:
    """Refuse a scene that holds no patch of 300 x 300 pixels of 3 m."""
    unit = parse_crs(grid.crs).axis_info[0].unit_name
    if unit != 'metre' or not all(math.isclose(res, FINE) for res in grid.res):
        msg = (
            f'{path} has pixels of {grid.xres:g} x {grid.yres:g} {unit} instead of 3 m '
        )
        msg += 'in a UTM zone: warp it, for example with `gdalwarp -t_srs EPSG:32632 '
        msg += '-tr 3 3`.'
        raise ValueError(msg)
    if min(grid.height, grid.width) < SIZE:
        msg = f'{path} has {grid.height} x {grid.width} pixels, and a patch has '
        msg += f'{SIZE} x {SIZE}: take a larger scene.'
        raise ValueError(msg)
