# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""What the names of files say of what they hold, and of what item they are."""

import functools
import os
import re
from collections.abc import Sequence
from itertools import pairwise

#: How addresses and archives begin that GDAL would read instead of a file.
ADDRESS = '/vsi'

#: Words for masks of Planet and of others in the names of files.
UDM_WORDS = (('udm',), ('udm2',))
MASK_WORDS = (*UDM_WORDS, ('mask',), ('cloudmask',), ('cloud', 'mask'))

#: Words that follow the name of an item of Planet in its files: assets, and what tools of
#: the Orders API have done, https://docs.planet.com/develop/apis/orders/tools/
PRODUCT_WORDS = (
    *(('analyticms',), ('analytic',), ('visual',), ('bgrn',), ('ortho',), ('basic',)),
    *(('panchromatic',), ('pansharpened',), ('sr',), ('dn',), ('8b',), ('4b',)),
    *(('clip',), ('harmonized',), ('toar',), ('reproject',), ('bandmath',), ('coreg',)),
    *(('file', 'format'), ('quad',)),
)

#: Level of a product of Planet, between the name of its item and these words.
LEVEL = re.compile('[13][ab]')

#: Names that are kept with what they say.
CACHE_SIZE = 10_000

#: Digits that a name has at least if it tells the day of an image.
DATE_DIGITS = 8


def is_address(name: str) -> bool:
    """Whether a name is what GDAL takes for an address, or for a part of an archive.

    Args:
        name: What a user names.

    Returns:
        True if it is no file or folder of this machine.
    """
    return name.startswith(ADDRESS) or '://' in name


def without_query(name: str) -> str:
    """Leave out what follows on the ``?`` of an address, which may be secret.

    Args:
        name: What a user names.

    Returns:
        The name; that of a file stays as it is.
    """
    return name.partition('?')[0] if is_address(name) else name


def stem(path: str) -> str:
    """Name of a file without folder, suffix and query.

    Args:
        path: File or address.

    Returns:
        The name.
    """
    return os.path.splitext(os.path.basename(without_query(path)))[0]


def is_mask(path: str) -> bool:
    """Whether a file is called as a mask of a scene is.

    Args:
        path: The file.

    Returns:
        True if its name has a word for a mask.
    """
    words = split(path)
    return _without(words, MASK_WORDS) != words


def is_udm(path: str) -> bool:
    """Whether a file is called as Planet's usable data masks are, old and new.

    Args:
        path: The file.

    Returns:
        True if it is.
    """
    return any(word in split(path) for (word,) in UDM_WORDS)


def is_old_udm(path: str) -> bool:
    """Whether a file is called as Planet's old masks are, whose values are bits.

    Args:
        path: The file.

    Returns:
        True if it is.
    """
    return 'udm' in split(path)


@functools.lru_cache(maxsize=CACHE_SIZE)
def item(path: str) -> tuple[str, ...]:
    """What the names of all files of an item share.

    It is what is left of ``..._3B_AnalyticMS_SR_8b_clip.tif``, ``..._3B_udm2_clip.tif``,
    ``composite_udm2.tif`` or ``field_mask.tif`` without the words for what a file holds.

    Args:
        path: A scene or a mask, or anything else that belongs to it.

    Returns:
        Words in lower case; none if the name has no others.
    """
    words = split(path)
    of_planet = {word for word, *_ in (*PRODUCT_WORDS, *UDM_WORDS)}
    for number, (word, following) in enumerate(pairwise(words)):
        # Fields may be called as levels are
        is_level = LEVEL.fullmatch(word) and following in of_planet
        if is_level and is_dated(words[:number]):
            return words[:number]
    words = _without(words, MASK_WORDS)
    while ending := _ending(words, PRODUCT_WORDS):
        words = words[:-ending]
    return words


def count_others(file: str, scene: str) -> int:
    """Number of words in the name of a file that neither its scene nor a product has.

    Args:
        file: The file.
        scene: The scene.

    Returns:
        Number of words.
    """
    known = {word for words in (*PRODUCT_WORDS, *MASK_WORDS) for word in words}
    return len({*split(file)} - {*split(scene)} - known)


def is_dated(words: Sequence[str]) -> bool:
    """Whether a name may tell the day of an image, so that no other item has it.

    Args:
        words: Words of the name.

    Returns:
        True if it has enough digits.
    """
    return sum(c.isdigit() for word in words for c in word) >= DATE_DIGITS


@functools.lru_cache(maxsize=CACHE_SIZE)
def split(path: str) -> tuple[str, ...]:
    """Words of the name of a file, in lower case.

    Args:
        path: The file.

    Returns:
        The words.
    """
    return tuple(re.findall(r'[^\W_]+', stem(path).lower()))


def closeness(first: str, second: str) -> int:
    """How near to each other two folders lie.

    Args:
        first: A folder.
        second: Another one.

    Returns:
        Number of folders that they share, from above and, as in trees of the same
        structure, from below.
    """
    here = os.getcwd()
    one, two = _parts(first, here), _parts(second, here)
    return _count_same(one, two) + _count_same(one[::-1], two[::-1])


@functools.lru_cache(maxsize=CACHE_SIZE)
def _parts(folder: str, here: str) -> list[str]:
    """Folders that a folder lies in, and itself."""
    return os.path.normpath(os.path.join(here, folder)).split(os.sep)


def _count_same(one: Sequence[str], two: Sequence[str]) -> int:
    """Number of folders that are the same, from the first one."""
    count = 0
    for a, b in zip(one, two, strict=False):
        if a != b:
            break
        count += 1
    return count


def _ending(words: Sequence[str], known: Sequence[tuple[str, ...]]) -> int:
    """Number of words at the end that are one of those that are known."""
    return max((len(k) for k in known if tuple(words[-len(k) :]) == k), default=0)


def _without(
    words: tuple[str, ...], known: Sequence[tuple[str, ...]]
) -> tuple[str, ...]:
    """Leave out words that are known, wherever they are; the longest first."""
    for k in sorted(known, key=len, reverse=True):
        for start in reversed(range(len(words))):
            if words[start : start + len(k)] == k:
                words = words[:start] + words[start + len(k) :]
    return words
