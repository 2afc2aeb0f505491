# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Many cloudy scenes as a data set, and the files that belong together."""

import glob
import os
from collections.abc import Callable, Sequence
from typing import ClassVar, NamedTuple

import pandas as pd
import shapely
import torch
from rasterio.warp import transform_bounds
from torchgeo.datasets.utils import Path, Sample

from ..datasets import PlanetCRCloudy
from ..datasets.grid import Grid
from ..datasets.native import NativeRasterDataset, NativeSlice, find_in_folder
from .mask import CloudMask
from .raster import open_raster
from .scene import Scene

#: Names of rasters in a folder.
SUFFIXES = ('.tif', '.tiff', '.vrt')

#: Part of the name of Planet's usable data masks, which lie beside the scenes.
UDM = 'udm'

#: What follows in the names of Planet's files on what scene and mask have in common.
PLANET_SUFFIX = '_3B'


class SceneFiles(NamedTuple):
    """Files of one scene."""

    cloudy: str
    #: One or more images of Sentinel-1; where several have data, the first is taken.
    s1: tuple[str, ...]
    mask: str | None = None


def find_scenes(
    cloudy: Path | Sequence[Path],
    s1: Path | Sequence[Path] | None = None,
    masks: Path | Sequence[Path] | None = None,
) -> list[SceneFiles]:
    """Find scenes and what belongs to each.

    Args:
        cloudy: A scene, a folder, a glob expression, or a sequence of these; or a CSV
            file with the columns ``cloudy``, ``s1`` and, if there are masks, ``mask``,
            whose paths start at its own folder. Planet's masks (UDM) are not taken from
            folders and glob expressions.
        s1: Images of Sentinel-1, named in the same way. Each scene gets all that meet
            it. A sequence as long as one of scenes goes with it, one by one.
        masks: Cloud masks, named in the same way. Each scene gets the one with its name,
            or with that of the same item of Planet. A sequence as long as one of scenes
            goes with it, one by one.

    Returns:
        Files of each scene.

    Raises:
        OSError: If a file cannot be read.
        ValueError: If there is no scene, or something is missing for one.
    """
    if isinstance(cloudy, str | os.PathLike) and str(cloudy).lower().endswith('.csv'):
        if s1 is not None or masks is not None:
            msg = f'{cloudy} names the images of Sentinel-1 and the masks: give no others.'
            raise ValueError(msg)
        return _read_table(cloudy)
    if s1 is None:
        msg = 's1 is missing: give the images of Sentinel-1 (--s1).'
        raise ValueError(msg)

    one_by_one = _plain_files(cloudy)
    scenes = _find_rasters(cloudy)
    images = _find_rasters(s1)
    named = [cloudy] if isinstance(cloudy, str | os.PathLike) else cloudy
    # Radar may lie in a folder of scenes
    elsewhere = set(images) - {os.fspath(path) for path in named}
    scenes = [path for path in scenes if path not in elsewhere]
    if not scenes:
        msg = (
            f'{cloudy} holds no scene: give .tif files, a folder or a glob expression.'
        )
        raise ValueError(msg)

    def pairs(other: Path | Sequence[Path] | None) -> list[str] | None:
        """Files that go with the scenes one by one."""
        files = _plain_files(other) if one_by_one == scenes else None
        return files if files and len(files) == len(scenes) else None

    radar, mask = pairs(s1), pairs(masks)
    if not images:
        msg = f'{s1} holds no image of Sentinel-1: give .tif files, a folder or a glob '
        msg += 'expression.'
        raise ValueError(msg)
    if radar is not None:
        s1_of = [(path,) for path in radar]
    else:
        s1_of = _meeting(scenes, images)
    if masks is None:
        names: Sequence[str | None] = [None] * len(scenes)
    elif mask is not None:
        names = mask
    else:
        names = _named_alike(scenes, _find_rasters(masks, with_masks=True), masks)
    return [SceneFiles(*files) for files in zip(scenes, s1_of, names, strict=True)]


def _read_table(path: Path) -> list[SceneFiles]:
    """Read a list of scenes."""
    try:
        table = pd.read_csv(
            path, dtype=str, keep_default_na=False, skipinitialspace=True
        )
    except (OSError, ValueError) as error:
        msg = f'{path} is not a readable CSV file: {error}'
        raise OSError(msg) from error
    columns = list(table.columns)
    if columns not in (['cloudy', 's1'], ['cloudy', 's1', 'mask']):
        msg = f'{path} has the columns {", ".join(columns)} instead of cloudy, s1 and, if '
        msg += 'there are masks, mask.'
        raise ValueError(msg)
    if not len(table) or (table == '').to_numpy().any():
        msg = f'{path} has no rows, or cells that are empty: name a file in each.'
        raise ValueError(msg)
    folder = os.path.dirname(path)
    files = table.map(lambda name: os.path.join(folder, name))
    return [
        SceneFiles(row['cloudy'], (row['s1'],), row.get('mask'))
        for _, row in files.iterrows()
    ]


def _plain_files(paths: Path | Sequence[Path] | None) -> list[str] | None:
    """Files of a sequence in which nothing is a folder or a glob expression."""
    if paths is None or isinstance(paths, str | os.PathLike):
        return None
    names = [os.fspath(path) for path in paths]
    if any(os.path.isdir(name) or _is_expression(name) for name in names):
        return None
    return names


def _is_expression(name: str) -> bool:
    """Whether a name is a glob expression, and not that of a file."""
    return glob.has_magic(name) and not os.path.exists(name)


def _find_rasters(paths: Path | Sequence[Path], with_masks: bool = False) -> list[str]:
    """Find the rasters that are named, and those in folders and expressions."""
    found: list[str] = []
    for path in [paths] if isinstance(paths, str | os.PathLike) else paths:
        name = os.fspath(path)
        if os.path.isdir(name):
            files = find_in_folder(name, '*')
            files = [file for file in files if file.lower().endswith(SUFFIXES)]
        elif _is_expression(name):
            files = sorted(glob.glob(name, recursive=True))
        else:
            found.append(name)
            continue
        found += [
            file
            for file in files
            if with_masks or UDM not in os.path.basename(file).lower()
        ]
    return list(dict.fromkeys(found))


def _meeting(scenes: Sequence[str], images: Sequence[str]) -> list[tuple[str, ...]]:
    """Images that meet each scene; none where that is the case, as others can be used."""
    # Most often there is one, and whether it meets the scene is seen when it is read
    if len(images) == 1:
        return [tuple(images)] * len(scenes)
    tree = shapely.STRtree([_footprint(image) for image in images])
    result = []
    for scene in scenes:
        meeting = sorted(tree.query(_footprint(scene)).tolist())
        result.append(tuple(images[number] for number in meeting))
    return result


def _footprint(path: str) -> shapely.Polygon:
    """Bounds of a raster in longitude and latitude."""
    with open_raster(path) as dataset:
        left, bottom, right, top = transform_bounds(
            dataset.crs, 'EPSG:4326', *dataset.bounds
        )
    # Across the antimeridian
    if left > right:
        left, right = -180, 180
    return shapely.box(left, bottom, right, top)


def _named_alike(
    scenes: Sequence[str], masks: Sequence[str], given: object
) -> list[str]:
    """The mask of each scene."""
    if len(scenes) == len(masks) == 1:
        return list(masks)
    by_name = {_item(mask): mask for mask in masks if mask not in scenes}
    for scene in scenes:
        if _item(scene) not in by_name:
            msg = (
                f'{given} holds no mask called {_item(scene)}.tif or, as Planet does, '
            )
            msg += f'{_item(scene)}{PLANET_SUFFIX}_udm2.tif.'
            raise ValueError(msg)
    return [by_name[_item(scene)] for scene in scenes]


def _item(path: str) -> str:
    """Name of a scene, or of the item of Planet that it is of."""
    stem, _ = os.path.splitext(os.path.basename(path))
    return stem.split(PLANET_SUFFIX)[0]


class CloudyScenes(NativeRasterDataset):
    """Cloudy scenes of PlanetScope with Sentinel-1 on their grids.

    A sample has the keys ``image`` (4, H, W), surface reflectance x 10000 of B, G, R and
    NIR, ``image_s1`` (2, H, W), VV and VH in dB, ``has_data`` (H, W), where the scene has
    data, ``crs``, ``bounds`` and ``transform``.
    """

    all_bands = PlanetCRCloudy.all_bands
    rgb_bands = PlanetCRCloudy.rgb_bands

    #: Also the scene that is open.
    _made: ClassVar[tuple[str, ...]] = (*NativeRasterDataset._made, '_open_scene')

    def __init__(
        self,
        scenes: Sequence[SceneFiles],
        bands: Sequence[int] | None = None,
        min_coverage: float = 0.9,
        transforms: Callable[[Sample], Sample] | None = None,
    ) -> None:
        """Initialize a new CloudyScenes instance.

        Args:
            scenes: Files of each scene, see :func:`find_scenes`.
            bands: Positions of B, G, R and NIR in the scenes, from 1 (defaults to those
                of PlanetScope's products of four and eight bands).
            min_coverage: Least share of a scene that Sentinel-1 must cover.
            transforms: A function/transform that takes an input sample and returns a
                transformed version.

        Raises:
            OSError: If a file cannot be read.
            ValueError: If a scene is named twice, or if a file has no CRS, or not the
                bands or the type that are expected.
        """
        self.scenes = {files.cloudy: files for files in scenes}
        if len(self.scenes) < len(scenes):
            msg = 'a scene is named more than once: name each once.'
            raise ValueError(msg)
        self.positions, self.min_coverage = bands, min_coverage
        #: Positions of B, G, R and NIR in each scene, from 1.
        self.bands_of: dict[str, list[int]] = {}
        for files in scenes:
            # Before anything is computed
            with self._scene(files.cloudy) as scene:
                self.bands_of[files.cloudy] = scene.bands
        super().__init__(list(self.scenes), transforms=transforms, strict=True)
        #: Share of each scene that radar covers, of those that were looked at.
        self.coverage: dict[str, float] = {}
        #: What is wrong with a scene, of those that were looked at.
        self.problems: dict[str, OSError | ValueError] = {}

    def has_data(self, tile: NativeSlice) -> bool:
        """Whether a tile has data. False, too, if something is wrong with its scene.

        Args:
            tile: Window of a scene.

        Returns:
            True if a pixel of it has data, and the scene can be used.

        Raises:
            OSError: If the tile cannot be read.
        """
        path = tile.filepath or ''
        if path in self.problems:
            return False
        # What goes wrong later must end all, as a part of the scene is done by then
        if path not in self.coverage:
            try:
                self.coverage[path] = self._survey(path)
            except (OSError, ValueError) as error:
                self.problems[path] = error
                return False
        x, y = tile.x, tile.y
        grid = self._grid(self._rows[path])
        part = grid.snap((x.start, y.start, x.stop, y.stop))
        window = *grid.offset(part), part.height, part.width
        return self._opened(path).has_data(*window)

    def _load(self, rows: Sequence[int], grid: Grid) -> Sample:
        """Read pixels, see :meth:`NativeGeoDataset._load`."""
        scene = self._opened(self._column('filepath')[rows[0]])
        offset = self._grid(rows[0]).offset(grid)
        arrays = scene.read(*offset, grid.height, grid.width)
        return {key: torch.from_numpy(array) for key, array in arrays.items()}

    def _survey(self, path: str) -> float:
        """See that radar and mask go with a scene; returns the share of radar."""
        coverage = self._opened(path).survey()
        mask = self.scenes[path].mask
        if mask is not None:
            with open_raster(path) as image, CloudMask(mask, image) as cloud_mask:
                cloud_mask.survey()
        return coverage

    def _scene(self, path: str) -> Scene:
        """Open a scene."""
        files = self.scenes[path]
        return Scene(path, files.s1, self.positions, self.min_coverage)

    def _opened(self, path: str) -> Scene:
        """The scene, which stays open until another is asked for."""
        # GDAL's files must not be shared with another process
        key = path, os.getpid()
        opened = self.__dict__.get('_open_scene')
        if opened is None or opened[0] != key:
            opened = self._open_scene = key, self._scene(path)
        return opened[1]
