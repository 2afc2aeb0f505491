# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Scenes of one's own as a data set."""

import os
import warnings
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pyproj import CRS
from torchgeo.datasets.utils import Path, Sample

from ..datasets.modalities import MODALITIES, RGB_BANDS
from ..datasets.native_raster import NativeRasterDataset
from ..datasets.slices import NativeSlice
from ..raster.grid import Grid, crs_name
from ..raster.header import HeaderTable
from .assume import AssumptionWarning
from .files import SceneFiles, find_scenes
from .passes import DEFAULT_RADAR, RadarOptions
from .scene import Scene, Survey


class PlanetScopeScenes(NativeRasterDataset):
    """Cloudy scenes of PlanetScope with all that belongs to them on their grids.

    Each scene keeps its own CRS and pixel grid. What lies in another CRS or resolution is
    warped onto it. A sample has the keys of :class:`~torchgeo_planetcr.datasets.PlanetCR`:

    * ``image``: cloudy PlanetScope, surface reflectance x 10000, (4, H, W) float32
    * ``image_s1``: Sentinel-1, VV and VH in dB, (2, H, W) float32
    * ``image_clear``: clear PlanetScope, (4, H, W) float32, where one is given
    * ``mask``: land cover of WorldCover, (H, W) int64, where one is given
    * ``mask_cloud``: 1 where there is cloud or no mask, 0 where it is clear or the scene
      has no data, (H, W) int64, where one is given
    * ``crs``, ``bounds``, ``transform``: as TorchGeo's, in this CRS

    and ``has_data``, (H, W) bool: where the scene has data. Missing Sentinel-1 is replaced
    by its mean over the scene, and by
    :data:`~torchgeo_planetcr.datasets.modalities.MISSING_DECIBELS` if there is none at all.
    """

    all_bands = MODALITIES['cloudy'].bands
    rgb_bands = RGB_BANDS

    #: The scene that is open, and the process that has opened it.
    _opened: tuple[tuple[str, int], Scene] | None = None

    def __init__(
        self,
        cloudy: Path | Sequence[Path | SceneFiles],
        s1: Path | Sequence[Path] | None = None,
        masks: Path | Sequence[Path] | None = None,
        clear: Path | Sequence[Path] | None = None,
        landcover: Path | Sequence[Path] | None = None,
        *,
        bands: Sequence[int] | None = None,
        scale: float | None = None,
        radar: RadarOptions = DEFAULT_RADAR,
        transforms: Callable[[Sample], Sample] | None = None,
        strict: bool = True,
    ) -> None:
        """Initialize a new PlanetScopeScenes instance.

        Args:
            cloudy: Scenes, named as for :func:`~torchgeo_planetcr.scenes.find_scenes`, or
                what that has found.
            s1: Images of Sentinel-1, see :func:`~torchgeo_planetcr.scenes.find_scenes`.
            masks: Cloud masks, see there.
            clear: Clear images, see there.
            landcover: Maps of WorldCover, see there.
            bands: Positions of B, G, R and NIR in the cloudy and clear images, from 1
                (defaults to those of PlanetScope's products of four and eight bands).
            scale: Value in the cloudy and clear images that is a reflectance of 1 (defaults
                to what they say, or what their values look like).
            radar: How Sentinel-1 is chosen and read.
            transforms: A function/transform that takes an input sample and returns a
                transformed version.
            strict: Raise an error for a scene that cannot be used. Otherwise it is left
                out, see :attr:`problems`.

        Raises:
            OSError: If a file cannot be read.
            ValueError: If a scene is named twice, or if a file has no place on Earth, or
                not the bands or the type that are expected.
        """
        radar.check()
        scenes = _to_files(cloudy, s1, masks, clear, landcover)
        self.scenes = {files.cloudy: files for files in scenes}
        if len(self.scenes) < len(scenes):
            raise ValueError('a scene is named more than once: name each once')
        self.positions, self.scale, self.radar = bands, scale, radar
        self._has_masks = any(files.mask for files in scenes)
        #: Positions of B, G, R and NIR in each scene, from 1.
        self.bands_of: dict[str, list[int]] = {}
        #: What is wrong with each scene that is left out.
        self.problems: dict[str, OSError | ValueError] = {}
        headers = []
        for path, files in sorted(self.scenes.items()):
            try:
                with Scene(files, bands, scale, radar) as scene:
                    headers.append(scene.image.header)
                    self.bands_of[path] = scene.image.bands
            except (OSError, ValueError) as error:
                if strict:
                    raise
                self.problems[path] = error
        if not headers:
            raise OSError('\n'.join(map(str, self.problems.values())))
        super().__init__(
            list(self.scenes),
            transforms=transforms,
            headers=HeaderTable.from_headers(headers),
        )

    def survey(self, path: str) -> Survey:
        """Read a whole scene at low resolution, and check that its files fit it.

        Args:
            path: The cloudy image.

        Returns:
            What was found.

        Raises:
            OSError: If a file cannot be read.
            ValueError: If something does not fit, see
                :meth:`Scene.survey <torchgeo_planetcr.scenes.Scene.survey>`.
        """
        return self._open(path).survey()

    def has_data(self, tile: NativeSlice) -> bool:
        """Whether any pixel of a tile has data.

        Args:
            tile: Window of a scene.

        Returns:
            True if there is one.

        Raises:
            OSError: If the scene cannot be read.
        """
        scene = self._open(tile.filepath or '')
        return scene.has_data(self.window(tile))

    def window(self, tile: NativeSlice) -> Grid:
        """Pixel grid of a tile.

        Args:
            tile: Window of a scene.

        Returns:
            The window of the grid of the scene that is nearest to it.
        """
        header = self.headers[self.headers.find(tile.filepath or '')]
        x, y = tile.x, tile.y
        return header.grid.snap((x.start, y.start, x.stop, y.stop))

    @property
    def crs(self) -> CRS:
        """:term:`coordinate reference system (CRS)` of the index, which cannot be set."""
        return super().crs

    @crs.setter
    def crs(self, new_crs: CRS) -> None:
        self._refuse_other_grid(crs_name(new_crs) != self.index_view.crs, new_crs)

    @property
    def res(self) -> tuple[float, float]:
        """Resolution (xres, yres) of the scenes, which cannot be set."""
        return super().res

    @res.setter
    def res(self, new_res: float | tuple[float, float]) -> None:
        self._refuse_other_grid(new_res not in (self.res, self.res[0]), new_res)

    def _refuse_other_grid(self, is_other: bool, wanted: object) -> None:
        """Refuse to put scenes onto another grid."""
        if is_other:
            raise ValueError(
                f'PlanetScopeScenes keeps the grids of its scenes and cannot be converted '
                f'to {wanted}: put it first, as in `scenes & other`'
            )

    def _load(self, rows: Sequence[int], grid: Grid) -> Sample:
        """Read pixels, those of the first scene that has any."""
        for row in rows:
            own = self.index_view.grid(row)
            self._refuse_other_grid(not own.same_lattice(grid), grid.res)
        paths = self.index_view.column('filepath')[list(rows)].tolist()
        arrays = self._read_scene(paths[0], grid)
        for path in paths[1:]:
            if arrays['has_data'].all():
                break
            below, has_data = self._read_scene(path, grid), arrays['has_data']
            arrays = {
                key: np.where(has_data, array, below.get(key, array))
                for key, array in arrays.items()
            }
        return {key: torch.from_numpy(array) for key, array in arrays.items()}

    def _read_scene(self, path: str, grid: Grid) -> dict[str, NDArray[Any]]:
        """Read a window of a scene, which counts as cloud if it alone has no mask."""
        arrays = self._open(path).read(grid)
        if self._has_masks and 'mask_cloud' not in arrays:
            arrays['mask_cloud'] = arrays['has_data'].astype(np.int64)
        return arrays

    def _open(self, path: str) -> Scene:
        """Open a scene, which stays open until another one is asked for."""
        # GDAL's files must not be shared with another process
        key = path, os.getpid()
        if self._opened is None or self._opened[0] != key:
            with warnings.catch_warnings():
                # What is taken for granted when it is opened was said before
                warnings.simplefilter('ignore', AssumptionWarning)
                scene = Scene(self.scenes[path], self.positions, self.scale, self.radar)
            self._opened = key, scene
        return self._opened[1]

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the scene that is open."""
        return {k: v for k, v in self.__dict__.items() if k != '_opened'}


def _to_files(
    cloudy: Path | Sequence[Path | SceneFiles], *others: Any
) -> Sequence[SceneFiles]:
    """Find the files of scenes, if that was not done before."""
    if not isinstance(cloudy, str | os.PathLike):
        found = [files for files in cloudy if isinstance(files, SceneFiles)]
        if found and len(found) == len(cloudy):
            if any(other is not None for other in others):
                raise ValueError(
                    'SceneFiles name all files of a scene: give no s1, masks, clear or '
                    'landcover beside them'
                )
            return found
    return find_scenes(cast(Path | Sequence[Path], cloudy), *others)
