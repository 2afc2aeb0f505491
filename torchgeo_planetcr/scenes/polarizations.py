# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Where VV and VH are: in the bands of a file, or in files of their own."""

import os
import re
from collections.abc import Sequence

from rasterio.enums import ColorInterp
from rasterio.io import DatasetReader

from .dates import Moment, date_in_name
from .names import without_query

#: A polarization in the name of a file, or several, at the end of a word: iw-vv.rtc, Gamma0_VH, IWGRDVV.
IN_NAME = re.compile(r'((?:vv|vh|hh|hv)+)(?![a-z0-9])', re.IGNORECASE)

#: Separators between words of names.
SEPARATORS = '_-. '


def pair_polarizations(paths: Sequence[str]) -> list[tuple[str, ...]]:
    """Put the files of VV and of VH of a product side by side.

    Products of Planetary Computer, HyP3, OPERA, S1Tiling and others have a file for each
    polarization, whose names differ in it alone. If only one of the two is named, the
    other one is looked for beside it. What else belongs to such a product, such as the
    local incidence angle, is left out: it begins with the same name.

    Args:
        paths: Files.

    Returns:
        VV and VH for each product with files of their own, one file for any other image, in
        the order of *paths*.
    """
    # The files of a product may be signed one by one, by what follows a question mark
    named = {without_query(path): path for path in paths}
    images: dict[str, tuple[str, ...]] = {}
    beside: set[tuple[str, Moment | None]] = set()
    for name, path in named.items():
        place = _find_place(name)
        vv, vh = (name, name) if place is None else _swap(name, place)
        other = vh if name == vv else vv
        if vv != vh and (other in named or os.path.exists(other)):
            images[vv] = named.get(vv, vv), named.get(vh, vh)
            start = name[: place[0]].rstrip(SEPARATORS) if place else name
            beside.add((start, date_in_name(name)))
        else:
            images[name] = (path,)
    return [
        image
        for name, image in images.items()
        if len(image) == 2 or not _is_beside(name, beside)
    ]


def find_polarizations(dataset: DatasetReader) -> list[int]:
    """Find VV and VH in an image of Sentinel-1.

    Args:
        dataset: The image.

    Returns:
        Their positions, from 1: by the names of the bands, or else the first two.

    Raises:
        ValueError: If there is a single band, the names of the bands are unclear, or it is
            a picture.
    """
    if dataset.count < 2:
        raise ValueError(
            f'{dataset.name} has {dataset.count} band instead of VV and VH: give the files '
            'of both, with names that differ in vv and vh alone'
        )
    _check_values(dataset)
    found, names = _find_names(dataset)
    if not any(found.values()):
        return [1, 2]
    if not len(found['vv']) == len(found['vh']) == 1:
        raise ValueError(
            f'{dataset.name} has bands called {", ".join(names)}: name exactly one VV and '
            'one VH'
        )
    return [*found['vv'], *found['vh']]


def find_polarization(dataset: DatasetReader, polarization: str) -> list[int]:
    """Find a polarization in the file that holds no other one.

    Args:
        dataset: The image.
        polarization: 'VV' or 'VH'.

    Returns:
        Its position, from 1: by the names of the bands, or else the first one.

    Raises:
        ValueError: If the names of the bands are those of others, or it is a picture.
    """
    _check_values(dataset)
    found, names = _find_names(dataset)
    if not any(found.values()):
        return [1]
    if len(positions := found[polarization.lower()]) != 1:
        raise ValueError(
            f'{dataset.name} has bands called {", ".join(names)}, and its name says '
            f'{polarization}'
        )
    return positions


def _find_names(dataset: DatasetReader) -> tuple[dict[str, list[int]], list[str]]:
    """Positions of the bands that are called as polarizations, and the names of all."""
    names = [(name or '').lower() for name in dataset.descriptions]
    found = {
        polarization: [n for n, name in enumerate(names, 1) if polarization in name]
        for polarization in ('vv', 'vh', 'hh', 'hv')
    }
    return found, names


def _check_values(dataset: DatasetReader) -> None:
    """Refuse what is no backscatter: pictures, masks and complex numbers."""
    dtype = dataset.dtypes[0]
    if dtype == 'uint8' or dtype.startswith('complex'):
        raise ValueError(
            f'{dataset.name} is {dtype}, which is no backscatter: take VV and VH, '
            'calibrated and on a map'
        )
    if dataset.colorinterp[0] == ColorInterp.red:
        raise ValueError(
            f'{dataset.name} is a picture of red, green and blue: take VV and VH'
        )


def _find_place(name: str) -> tuple[int, int] | None:
    """Where the name of a file says VV or VH, None if it says both or neither."""
    found = [*IN_NAME.finditer(name, name.rfind('/') + 1)]
    if len(found) == 1 and found[0][0].lower() in ('vv', 'vh'):
        return found[0].span()
    return None


def _swap(name: str, place: tuple[int, int]) -> tuple[str, str]:
    """Names of the files of VV and VH, in upper or lower case as one is."""
    first, last = place
    vv, vh = ('vv', 'vh') if name[first:last].islower() else ('VV', 'VH')
    return f'{name[:first]}{vv}{name[last:]}', f'{name[:first]}{vh}{name[last:]}'


def _is_beside(name: str, beside: set[tuple[str, Moment | None]]) -> bool:
    """Whether a file belongs to a product that has files of VV and VH."""
    return any(
        not start.endswith('/')
        and name.startswith(tuple(f'{start}{separator}' for separator in SEPARATORS))
        and date_in_name(name) == moment
        for start, moment in beside
        if start
    )
