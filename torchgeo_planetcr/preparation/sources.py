# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Scenes of one place, read on the grids of patches."""

import math
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from torchgeo.datasets.utils import Path

from ..datasets.components import PlanetCRWorldCover
from ..datasets.modalities import MODALITIES, ModalityName
from ..datasets.patch_files import PATCH_SIZE
from ..raster.grid import Grid, parse_crs
from ..scenes import Layer, RadarOptions, Scene, SceneFiles, Sentinel1
from ..scenes.layer import OpenFiles
from ..scenes.passes import DEFAULT_RADAR
from ..scenes.reflectance import OpticalLayer

#: Codes of land cover.
CODES = [code for (code,) in PlanetCRWorldCover.codes[2]]

#: Arrays of shape (C, H, W) and their grids.
type Images = dict[ModalityName, tuple[NDArray[Any], Grid]]


class PatchSources(OpenFiles):
    """A cloudy scene and what belongs to it, read patch by patch."""

    def __init__(
        self,
        files: SceneFiles,
        bands: Sequence[int] | None = None,
        scale: float | None = None,
        radar: RadarOptions = DEFAULT_RADAR,
    ) -> None:
        """Initialize a new PatchSources instance.

        Args:
            files: Files of the scene: Sentinel-1, a clear image, land cover, and a mask if
                there is one.
            bands: Positions of B, G, R and NIR in both scenes, from 1 (defaults to those
                of PlanetScope's products of four and eight bands).
            scale: Value in both scenes that is a reflectance of 1 (defaults to what they
                say, or what their values look like).
            radar: How Sentinel-1 is chosen and read.

        Raises:
            OSError: If a file cannot be read.
            ValueError: If a file is not what is expected, or of another place.
        """
        with ExitStack() as stack:
            self._scene = stack.enter_context(Scene(files, bands, scale, radar))
            #: Grid of the cloudy scene.
            self.grid = self._scene.grid
            _check_grid(files.cloudy, self.grid)
            clear, landcover = self._scene.clear, self._scene.landcover
            assert clear is not None and landcover is not None
            for layer in (clear, landcover):
                self._check_overlap(layer)
            self._scene.survey()
            sentinel1 = self._scene.sentinel1
            self._layers: dict[ModalityName, Layer | Sentinel1] = {
                'cloudy': self._scene.image,
                'clear': clear,
                'sentinel1': sentinel1.onto(
                    self._coarse_grid(sentinel1.layers[0], 'sentinel1')
                ),
                'worldcover': landcover.onto(
                    self._coarse_grid(landcover, 'worldcover'),
                    nodata=MODALITIES['worldcover'].nodata,
                    dtype=np.dtype(MODALITIES['worldcover'].dtype).name,
                ),
            }
            self._opened = stack.pop_all()

    def read(self, patch: Grid) -> Images:
        """Read a patch.

        Args:
            patch: Window of the grid of the cloudy scene.

        Returns:
            Array of shape (C, H, W) and grid for each modality: ``cloudy`` and ``clear``,
            reflectance x 10000, ``sentinel1`` in dB, ``worldcover``, codes, and
            ``cloud_mask``, 1 cloud and 0 no cloud, if there is one. Pixels without data
            have the value of :data:`~torchgeo_planetcr.datasets.modalities.MODALITIES`.

        Raises:
            OSError: If a file cannot be read.
            ValueError: If a class of land cover or a value of the mask is unknown.
        """
        images: Images = {}
        for modality, layer in self._layers.items():
            grid = layer.grid.snap(patch.bounds)
            values, nodata = layer.read(grid), MODALITIES[modality].nodata
            if isinstance(layer, Sentinel1):
                values = values.astype(MODALITIES[modality].dtype)
                values[:, ~np.isfinite(values).all(axis=0)] = nodata
            elif isinstance(layer, OpticalLayer):
                values = layer.to_product(values)
            images[modality] = values, grid
        codes, _ = images['worldcover']
        unknown = codes[~np.isin(codes, (*CODES, MODALITIES['worldcover'].nodata))]
        if unknown.size:
            raise ValueError(
                f'{self._scene.files.landcover} has the value {unknown[0]}, which is '
                f'no class of WorldCover ({", ".join(map(str, CODES))}): take the map of '
                'ESA WorldCover, or use its codes'
            )
        if self._scene.mask is not None:
            mask = self._scene.mask.read_cloud(patch)
            images['cloud_mask'] = mask[np.newaxis], patch
        return images

    def _coarse_grid(self, layer: Layer, modality: ModalityName) -> Grid:
        """Grid of a layer's own pixels if they suit patches, or of multiples of 10 m."""
        resolution = MODALITIES[modality].resolution
        lattice = Grid(self.grid.crs, 0, 0, resolution, resolution, 0, 0)
        own = layer.own_grid
        if own is not None and own.same_lattice(lattice):
            lattice = own
        # With an edge, as the window of a patch may round to one pixel past the scene
        xmin, ymin, xmax, ymax = self.grid.bounds
        return lattice.snap(
            (xmin - resolution, ymin - resolution, xmax + resolution, ymax + resolution)
        )

    def _check_overlap(self, layer: Layer) -> None:
        """Refuse a file of another place."""
        grid = layer.header.grid
        place = shapely.box(*self.grid.bounds_in(grid.crs))
        if not place.intersects(shapely.box(*grid.bounds)):
            raise ValueError(
                f'{layer.path} does not overlap {self._scene.image.path}: take one of the '
                'same place'
            )


def _check_grid(path: Path, grid: Grid) -> None:
    """Refuse a scene that holds no patch of 300 x 300 pixels of 3 m."""
    resolution = MODALITIES['cloudy'].resolution
    # PROJ has British names of units
    unit = parse_crs(grid.crs).axis_info[0].unit_name.replace('tre', 'ter')
    if unit != 'meter' or not all(math.isclose(res, resolution) for res in grid.res):
        raise ValueError(
            f'{path} has pixels of {grid.xres:g} x {grid.yres:g} {unit} instead of '
            f'{resolution:g} m in a UTM zone: warp it, for example with '
            '`gdalwarp -t_srs EPSG:32632 -tr 3 3`'
        )
    if min(grid.height, grid.width) < PATCH_SIZE:
        raise ValueError(
            f'{path} has {grid.height} x {grid.width} pixels, and a patch has '
            f'{PATCH_SIZE} x {PATCH_SIZE}: take a larger scene'
        )
