# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Files that belong to scenes, and how they are found."""

import glob
import io
import os
from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd
import shapely
from rasterio.warp import transform_bounds
from torchgeo.datasets.utils import Path

from ..datasets.native_raster import find_in_folder, report_problems
from ..raster.read import check_place
from ..raster.text import read_text
from .layer import is_mosaic, open_layer
from .polarizations import pair_polarizations

#: Names of rasters in a folder.
SUFFIXES = ('.tif', '.tiff')

#: How addresses and archives begin that GDAL would read instead of a file.
ADDRESS = '/vsi'

#: Part of the name of Planet's usable data masks, which lie beside the scenes.
UDM = 'udm'

#: What follows in the names of Planet's files on what the files of an item share.
PLANET_SUFFIX = '_3B'

#: Columns of a list of scenes, without and with masks.
COLUMNS = (['cloudy', 's1'], ['cloudy', 's1', 'mask'])


class SceneFiles(NamedTuple):
    """Files of one scene."""

    cloudy: str
    #: Images of Sentinel-1; where several have data, the first is taken.
    s1: tuple[str, ...] = ()
    mask: str | None = None
    clear: str | None = None
    landcover: str | None = None


def find_scenes(
    cloudy: Path | Sequence[Path],
    s1: Path | Sequence[Path] | None = None,
    masks: Path | Sequence[Path] | None = None,
    clear: Path | Sequence[Path] | None = None,
    landcover: Path | Sequence[Path] | None = None,
) -> list[SceneFiles]:
    """Find scenes and what belongs to each.

    Args:
        cloudy: A scene, a folder, a glob expression, or a sequence of these; or a CSV
            file with the columns ``cloudy``, ``s1`` and, if there are masks, ``mask``,
            whose paths start at its own folder. Planet's masks (UDM) are not taken from
            folders and glob expressions. Neither these nor a CSV file bring mosaics
            (``.vrt``) or addresses, which name other files: name them yourself.
        s1: Images of Sentinel-1, named in the same way. Each scene gets all that meet
            it. If there is a file for each file of *cloudy*, they are paired in order.
        masks: Cloud masks, named in the same way. Each scene gets the one with its name,
            or with that of the same item of Planet. If there is a file for each file of
            *cloudy*, they are paired in order.
        clear: Clear images of the same places, found as masks are.
        landcover: Maps of WorldCover. Each scene gets the first that meets it. If there
            is a file for each file of *cloudy*, they are paired in order.

    Returns:
        Files of each scene.

    Raises:
        OSError: If a file cannot be read.
        ValueError: If there is no scene, or something is missing for one.
    """
    if isinstance(cloudy, str | os.PathLike) and str(cloudy).lower().endswith('.csv'):
        if any(other is not None for other in (s1, masks, clear, landcover)):
            raise ValueError(
                f'{cloudy} names the images of Sentinel-1 and the masks: give no others'
            )
        return _read_table(cloudy)

    radar = _find_rasters(() if s1 is None else s1)
    images = pair_polarizations(radar)
    named = [cloudy] if isinstance(cloudy, str | os.PathLike) else cloudy
    # Sentinel-1 may lie in a folder of scenes
    elsewhere = set(radar) - {os.fspath(path) for path in named}
    scenes = [path for path in _find_rasters(cloudy) if path not in elsewhere]
    if not scenes:
        raise ValueError(
            f'{cloudy} holds no scene: give .tif files, a folder or a glob expression'
        )
    if s1 is not None and not images:
        raise ValueError(
            f'{s1} holds no image of Sentinel-1: give .tif files, a folder or a glob '
            'expression'
        )
    # Files that are named one by one, not found by a search
    files = scenes if _plain_files(cloudy) == scenes else []
    are_named = (
        bool(files) and len(files) == len(images) and _plain_files(s1) is not None
    )
    s1_of = images if are_named else _find_meeting(scenes, images)
    maps = _pair(files, landcover)
    if landcover is not None and maps is None:
        found = _find_rasters(landcover)
        if not found:
            raise ValueError(
                f'{landcover} holds no land cover: give .tif files, a folder or a glob '
                'expression'
            )
        meeting = _find_meeting(scenes, [(path,) for path in found])
        maps = [next(iter(files), None) for files in meeting]
    return [
        SceneFiles(*row)
        for row in zip(
            scenes,
            s1_of,
            _pair(files, masks) or _find_named(scenes, masks, is_mask=True),
            _pair(files, clear) or _find_named(scenes, clear, is_mask=False),
            maps or [None] * len(scenes),
            strict=True,
        )
    ]


def _read_table(path: Path) -> list[SceneFiles]:
    """Read a list of scenes."""
    try:
        text = io.StringIO(read_text(path))
        table = pd.read_csv(
            text, dtype=str, keep_default_na=False, skipinitialspace=True
        )
    except (OSError, ValueError) as error:
        # What pandas says ends with a line break
        reason = str(error).strip()
        raise OSError(f'{path} is not a readable CSV file: {reason}') from error
    columns = list(table.columns)
    if columns not in COLUMNS:
        raise ValueError(
            f'{path} has the columns {", ".join(columns)} instead of cloudy, s1 and, if '
            'there are masks, mask'
        )
    if not len(table) or (table == '').to_numpy().any():
        raise ValueError(
            f'{path} has no rows, or cells that are empty: name a file in each'
        )
    # What it begins with then never makes GDAL look elsewhere
    folder = os.path.dirname(path) or os.curdir
    files = table.map(lambda name: os.path.join(folder, name))
    for number, row in enumerate(files.itertuples(index=False), start=1):
        for name in row:
            if name.startswith(ADDRESS) or is_mosaic(name):
                raise ValueError(
                    f'{path} names {name} in row {number}, which is no file that holds '
                    'pixels: name one, as `gdal_translate` makes it'
                )
    return [
        SceneFiles(row['cloudy'], (row['s1'],), row.get('mask'))
        for _, row in files.iterrows()
    ]


def _pair(
    scenes: Sequence[str], given: Path | Sequence[Path] | None
) -> list[str] | None:
    """Files that are paired with scenes in order, None if they are not as many."""
    files = _plain_files(given)
    return files if files and len(files) == len(scenes) else None


def _plain_files(paths: Path | Sequence[Path] | None) -> list[str] | None:
    """Files of a sequence in which nothing is a folder or a glob expression."""
    if paths is None or isinstance(paths, str | os.PathLike):
        return None
    names = [os.fspath(path) for path in paths]
    if any(os.path.isdir(name) or _is_expression(name) for name in names):
        return None
    return names


def is_address(name: str) -> bool:
    """Whether a name is what GDAL takes for an address, or for a part of an archive.

    Args:
        name: What a user names.

    Returns:
        True if it is no file or folder of this machine.
    """
    return name.startswith(ADDRESS) or '://' in name


def _is_expression(name: str) -> bool:
    """Whether a name is a glob expression, and not that of a file."""
    return glob.has_magic(name) and not os.path.exists(name)


def _expand(expression: str) -> list[str]:
    """Find what a glob expression names; links cannot lead ``**`` around in circles."""
    parts = expression.split(os.sep)
    if '**' not in parts:
        return sorted(glob.glob(expression))
    place = parts.index('**')
    head = os.sep.join(parts[:place]) or (os.sep if place else os.curdir)
    tail = os.sep.join(parts[place + 1 :]) or '*'
    found: set[str] = set()
    for top in glob.glob(head):
        for folder in filter(os.path.isdir, (top, *find_in_folder(top, '*'))):
            found.update(_expand(os.path.join(glob.escape(folder), tail)))
    return sorted(path.removeprefix(f'{os.curdir}{os.sep}') for path in found)


def _find_rasters(paths: Path | Sequence[Path], with_masks: bool = False) -> list[str]:
    """Find the rasters that are named, and those in folders and expressions."""
    found: list[str] = []
    for path in [paths] if isinstance(paths, str | os.PathLike) else paths:
        name = os.fspath(path)
        if os.path.isdir(name):
            files = find_in_folder(name, '*')
            files = [file for file in files if file.lower().endswith(SUFFIXES)]
        elif _is_expression(name):
            files = _expand(name)
        else:
            found.append(name)
            continue
        found += [
            file
            for file in files
            if (with_masks or UDM not in os.path.basename(file).lower())
            and not is_mosaic(file)
        ]
    return list(dict.fromkeys(found))


def _find_meeting(
    scenes: Sequence[str], images: Sequence[tuple[str, ...]]
) -> list[tuple[str, ...]]:
    """Find the images that meet each scene, which may be none.

    Args:
        scenes: The scenes.
        images: The files of each image, all of the same place.

    Returns:
        Files for each scene.
    """
    # Most often there is one, and whether it meets the scene is found when it is read
    if len(images) <= 1:
        return [tuple(path for image in images for path in image)] * len(scenes)
    footprints: dict[tuple[str, ...], shapely.Polygon] = {}
    problems: dict[str, str] = {}
    for image in images:
        try:
            footprints[image] = _footprint(image[0])
        except (OSError, ValueError) as error:
            problems[image[0]] = str(error)
    if problems:
        report_problems('image', problems, strict=not footprints)
    images = list(footprints)
    tree = shapely.STRtree(list(footprints.values()))
    result = []
    for scene in scenes:
        try:
            meeting = sorted(tree.query(_footprint(scene)).tolist())
        except (OSError, ValueError):
            # The scene is refused by name when it is opened, and does not stop the others
            meeting = []
        result.append(tuple(path for number in meeting for path in images[number]))
    return result


def _footprint(path: str) -> shapely.Polygon:
    """Bounds of a raster in longitude and latitude."""
    with open_layer(path) as dataset:
        check_place(dataset)
        left, bottom, right, top = transform_bounds(
            dataset.crs, 'EPSG:4326', *dataset.bounds
        )
    # Across the antimeridian
    if left > right:
        left, right = -180, 180
    return shapely.box(left, bottom, right, top)


def _find_named(
    scenes: Sequence[str], given: Path | Sequence[Path] | None, is_mask: bool
) -> list[str | None]:
    """Find the file with the name of each scene.

    Args:
        scenes: The scenes.
        given: Where to look; None if nothing is asked for.
        is_mask: Whether it holds masks, or clear images.

    Returns:
        A file for each scene.

    Raises:
        ValueError: If there is none for a scene.
    """
    if given is None:
        return [None] * len(scenes)
    files = _find_rasters(given, with_masks=is_mask)
    if len(scenes) == len(files) == 1:
        return list(files)
    by_name = {_item(file): file for file in files if file not in scenes}
    for item in map(_item, scenes):
        if item not in by_name:
            noun, ending = ('mask', 'udm2') if is_mask else ('clear image', '...')
            raise ValueError(
                f'{given} holds no {noun} called {item}.tif or, as Planet does, '
                f'{item}{PLANET_SUFFIX}_{ending}.tif'
            )
    return [by_name[_item(scene)] for scene in scenes]


def _item(path: str) -> str:
    """Name of a scene, or of the item of Planet that it is of."""
    stem, _ = os.path.splitext(os.path.basename(path))
    return stem.split(PLANET_SUFFIX)[0]
