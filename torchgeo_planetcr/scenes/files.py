# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Files that belong to scenes, and how they are found."""

import functools
import glob
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd
import shapely
from rasterio.warp import transform_bounds
from torchgeo.datasets.utils import Path

from ..datasets.native_raster import find_in_folder, report_problems
from ..raster.read import check_place
from ..raster.text import read_text
from .assume import assume
from .layer import is_mosaic, open_layer
from .names import (
    closeness,
    count_others,
    is_address,
    is_dated,
    is_mask,
    is_old_udm,
    is_udm,
    item,
    split,
    stem,
)
from .polarizations import pair_polarizations

#: Names of rasters in a folder.
SUFFIXES = ('.tif', '.tiff')

#: What is said of masks and of clear images.
MASK, CLEAR = 'mask', 'clear image'

#: Folder of no scene.
AMBIGUOUS = '?'

#: Columns of a list of scenes, without and with masks.
COLUMNS = (['cloudy', 's1'], ['cloudy', 's1', 'mask'])


class SceneFiles(NamedTuple):
    """Files of one scene."""

    cloudy: str
    #: Images of Sentinel-1, of which those of the nearest pass are taken.
    s1: tuple[str, ...] = ()
    mask: str | None = None
    clear: str | None = None
    landcover: str | None = None
    #: Why the scene cannot be used; empty if nothing is known against it.
    problem: str = ''


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
        s1: Images of Sentinel-1, named in the same way, each in one file, or in two of VV
            and VH whose names differ in vv and vh alone. Each scene gets all that meet
            it. If there is an image for each file of *cloudy*, they are paired in order.
        masks: Cloud masks, named in the same way. Each scene gets the one of the same item
            by their names, such as ``..._3B_udm2.tif``, ``composite_udm2.tif`` or
            ``field_mask.tif``; of several, the one in the nearest folder. A single file is
            taken for a single scene, whatever it is called. If there is a file for each
            file of *cloudy*, and their names say nothing else, they are paired in order.
            A scene without one is restored as a whole.
        clear: Clear images of the same places, found as masks are.
        landcover: Maps of WorldCover. Each scene gets the first that meets it. If there
            is a file for each file of *cloudy*, they are paired in order.

    Returns:
        Files of each scene, and why it cannot be used if something is missing or unclear.

    Raises:
        OSError: If a file cannot be read.
        ValueError: If there is no scene, or if none can be used.
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
    scenes = _leave_out_others(scenes, named, (masks, clear, landcover))
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
    partners = zip(
        _find_partners(scenes, files, masks, MASK),
        _find_partners(scenes, files, clear, CLEAR),
        _find_maps(scenes, files, landcover),
        strict=True,
    )
    return _check_problems(
        [
            SceneFiles(scene, radar, *(path for path, _ in own), _first_problem(own))
            for scene, radar, own in zip(scenes, s1_of, partners, strict=True)
        ]
    )


def _first_problem(partners: Sequence[tuple[str | None, str]]) -> str:
    """Why a scene cannot be used with what was found for it."""
    return next((problem for _, problem in partners if problem), '')


def _check_problems(found: list[SceneFiles]) -> list[SceneFiles]:
    """Refuse scenes of which none can be used."""
    if all(files.problem for files in found):
        raise ValueError('\n'.join(files.problem for files in found))
    return found


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
    if not len(table):
        raise ValueError(f'{path} has no rows: name a scene in each')
    rows = [
        _read_row(os.fspath(path), number, row)
        for number, row in enumerate(table.to_dict('records'), start=1)
    ]
    return _check_problems(rows)


def _read_row(path: str, number: int, row: Mapping[Any, str]) -> SceneFiles:
    """Read a row of a list of scenes."""
    place, folder = f'{path}, row {number}', os.path.dirname(path) or os.curdir
    # What it begins with then never makes GDAL look elsewhere
    files = {key: os.path.join(folder, name) for key, name in row.items() if name}
    for name in files.values():
        if is_address(name) or is_mosaic(name):
            return SceneFiles(
                place,
                problem=f'{path} names {name} in row {number}, which is no file that holds '
                'pixels: name one, as `gdal_translate` makes it',
            )
    if not {'cloudy', 's1'} <= files.keys():
        return SceneFiles(
            place,
            problem=f'{path} has an empty cell in row {number}: name a scene and its '
            'Sentinel-1',
        )
    if 'mask' in row and 'mask' not in files:
        assume(
            f'{path} names no mask for {files["cloudy"]}, so all of it counts as cloud and '
            f'is restored: name one in row {number}'
        )
    return SceneFiles(files['cloudy'], (files['s1'],), files.get('mask'))


def _leave_out_others(
    found: Sequence[str],
    named: Sequence[Path],
    others: Sequence[Path | Sequence[Path] | None],
) -> list[str]:
    """Leave out masks, clear images and maps that a search for scenes has found, too."""
    kept = {os.fspath(path) for path in named}
    items = {item(path) for path in found if not is_mask(path)}
    left_out = {path for path in found if is_mask(path) and item(path) in items}
    searched = {os.path.realpath(path) for path in kept}
    for other in others:
        is_folder = isinstance(other, str | os.PathLike) and os.path.isdir(other)
        # A folder of scenes may be that of their masks
        if is_folder and os.path.realpath(other) not in searched:
            left_out |= _only_others(os.fspath(other), found)
    return [path for path in found if path in kept or path not in left_out]


def _only_others(folder: str, found: Sequence[str]) -> set[str]:
    """Files of a folder of masks, clear images or maps that are no scenes with masks."""
    files = find_in_folder(folder, '*')
    masked = {(os.path.dirname(path), item(path)) for path in files if is_mask(path)}
    real = {
        os.path.realpath(path)
        for path in files
        if (os.path.dirname(path), item(path)) not in masked
    }
    return {path for path in found if os.path.realpath(path) in real}


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


def _is_expression(name: str) -> bool:
    """Whether a name is a glob expression, and not that of a file."""
    if is_address(name) or os.path.exists(name):
        return False
    _, rest = _split_at_magic(name)
    return glob.has_magic(rest)


def _split_at_magic(name: str) -> tuple[str, str]:
    """Split a name into folders that exist, whatever characters they have, and the rest."""
    parts = name.split(os.sep)
    count = 0
    while count < len(parts) - 1 and os.path.isdir(
        os.sep.join(parts[: count + 1]) or os.sep
    ):
        count += 1
    return os.sep.join([*parts[:count], '']), os.sep.join(parts[count:])


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
    found: dict[tuple[str, str], str] = {}
    real, absolute = map(functools.cache, (os.path.realpath, os.path.abspath))
    for path in [paths] if isinstance(paths, str | os.PathLike) else paths:
        name = os.fspath(path)
        if os.path.isdir(name):
            files = find_in_folder(name, '*')
            files = [file for file in files if file.lower().endswith(SUFFIXES)]
        elif _is_expression(name):
            folder, rest = _split_at_magic(name)
            files = _expand(glob.escape(folder) + rest)
        else:
            found.setdefault(('', name), name)
            continue
        for file in files:
            if (with_masks or not is_udm(file)) and not is_mosaic(file):
                # Links may lead to a folder twice, which has a name of its own
                place, base = os.path.split(file)
                key = real(place), base
                if key not in found or key[0] == absolute(place):
                    found[key] = file
    return list(dict.fromkeys(found.values()))


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


def _find_maps(
    scenes: Sequence[str], named: Sequence[str], given: Path | Sequence[Path] | None
) -> list[tuple[str | None, str]]:
    """Find the land cover of each scene, or why the scene cannot be used without."""
    if given is None:
        return [(None, '')] * len(scenes)
    if pairs := _pair(named, given):
        return [(path, '') for path in pairs]
    maps = _find_rasters(given)
    if not maps:
        raise ValueError(
            f'{given} holds no land cover: give .tif files, a folder or a glob expression'
        )
    meetings = _find_meeting(scenes, [(path,) for path in maps])
    found: list[tuple[str | None, str]] = []
    for scene, meeting in zip(scenes, meetings, strict=True):
        problem = ''
        # One that cannot be read is refused for this when it is opened
        if not meeting and _has_footprint(scene):
            problem = f'{given} holds no land cover of {scene}: add a map of its place'
        found.append((next(iter(meeting), None), problem))
    return found


def _has_footprint(path: str) -> bool:
    """Whether it can be read where a raster lies."""
    try:
        _footprint(path)
    except (OSError, ValueError):
        return False
    return True


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


def _find_partners(
    scenes: Sequence[str],
    named: Sequence[str],
    given: Path | Sequence[Path] | None,
    noun: str,
) -> list[tuple[str | None, str]]:
    """Find the mask or the clear image of each scene.

    Args:
        scenes: The scenes.
        named: Those that are named one by one.
        given: Where to look; None if nothing is asked for.
        noun: What is looked for.

    Returns:
        For each scene the file, and why the scene cannot be used without one.

    Raises:
        ValueError: If there is no file at all.
    """
    if given is None:
        return [(None, '')] * len(scenes)
    pairs = _pair(named, given)
    if pairs and not _names_tell(scenes, pairs):
        return [(path, '') for path in pairs]
    files = _find_rasters(given, with_masks=noun == MASK)
    own = set(scenes)
    files = [file for file in files if file not in own]
    if not files:
        raise ValueError(
            f'{given} holds no {noun}: give .tif files, a folder or a glob expression'
        )
    if len(scenes) == len(files) == 1 and not _is_searched(given):
        return [(files[0], '')]
    place = (
        os.fspath(given) if isinstance(given, str | os.PathLike) else 'what is given'
    )
    return _find_named(scenes, files, noun, place)


def _names_tell(scenes: Sequence[str], files: Sequence[str]) -> bool:
    """Whether files have names of scenes, and other ones than those that they are beside."""
    own, others = [item(path) for path in scenes], [item(path) for path in files]
    return own != others and not set(own).isdisjoint(others)


def _find_named(
    scenes: Sequence[str], files: Sequence[str], noun: str, place: str
) -> list[tuple[str | None, str]]:
    """Find files by the names of scenes, see :func:`_find_partners`."""
    folders: dict[tuple[str, ...], set[str]] = {}
    for scene in scenes:
        folders.setdefault(item(scene), set()).add(os.path.dirname(scene))
    by_item: dict[tuple[str, ...], list[tuple[str, str | None]]] = {}
    for file in files:
        name, nearest = item(file), None
        # A mask is of one day, and only a name with a date is that of one day
        if noun == MASK and not is_dated(name):
            nearest = _nearest_folder(file, folders.get(name, ()))
        by_item.setdefault(name, []).append((file, nearest))
    found: list[tuple[str | None, str]] = []
    for scene in scenes:
        own = [
            file
            for file, nearest in by_item.get(item(scene), ())
            if nearest in (None, os.path.dirname(scene))
            and (noun != MASK or _is_mask_of(file, scene))
        ]
        try:
            chosen, problem = _choose(scene, own), ''
        except ValueError as error:
            chosen, problem = None, f'{error}: leave one of them in {place}'
        else:
            if chosen is None:
                problem = _miss(scene, noun, place)
        found.append((chosen, problem))
    return found


def _nearest_folder(file: str, folders: Iterable[str]) -> str:
    """The folder that a file is nearest to, if there is a single one."""
    place = os.path.dirname(file)
    near = {folder: closeness(place, folder) for folder in folders}
    most = max(near.values(), default=0)
    best = [folder for folder, count in near.items() if count == most]
    return best[0] if len(best) == 1 else AMBIGUOUS


def _miss(scene: str, noun: str, place: str) -> str:
    """Say what a scene lacks, and return why it cannot be used without."""
    text = f'{place} holds no {noun} of {scene}'
    if noun != MASK:
        return f'{text}: call it {os.path.basename(scene)}'
    assume(
        f'{text}, so all of it counts as cloud and is restored: call its mask '
        f'{stem(scene)}_udm2.tif, or name it in a CSV file'
    )
    return ''


def _choose(scene: str, files: Sequence[str]) -> str | None:
    """Choose the file of a scene among those with its name.

    Args:
        scene: The scene.
        files: The files.

    Returns:
        The one in the nearest folder, or with the most similar name; None if there is none.

    Raises:
        ValueError: If several are equally good.
    """
    place = os.path.dirname(scene)

    def rank(file: str) -> tuple[int, bool, int, int]:
        shared = set(split(file)) & set(split(scene))
        near, others = (
            closeness(os.path.dirname(file), place),
            count_others(file, scene),
        )
        return near, not is_old_udm(file), len(shared), -others

    if not files:
        return None
    best, *rest = sorted(files, key=rank, reverse=True)
    if rest and rank(rest[0]) == rank(best):
        raise ValueError(f'both {best} and {rest[0]} may belong to {scene}')
    return best


def _is_mask_of(file: str, scene: str) -> bool:
    """Whether a file of the item of a scene is a mask, and not another image of it."""
    return is_mask(file) or split(file) in (split(scene), item(scene))


def _is_searched(given: Path | Sequence[Path]) -> bool:
    """Whether files are found by a search, and not named one by one."""
    paths = [given] if isinstance(given, str | os.PathLike) else given
    return _plain_files(paths) is None
