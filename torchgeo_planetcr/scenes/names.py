# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""What the names of files say of what they hold, and of what item they are."""

import os
import re
from collections.abc import Sequence

#: How addresses and archives begin that GDAL would read instead of a file.
ADDRESS = '/vsi'

#: Words for masks of Planet and of others, which follow or go before the name of a scene.
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
        True if its name has a word for a mask after or before that of a scene.
    """
    words = split(path)
    while ending := _ending(words, PRODUCT_WORDS):
        words = words[:-ending]
    return bool(_ending(words, MASK_WORDS) or _beginning(words))


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
    if beginning := _beginning(words):
        words = words[beginning:]
    is_product = False
    while ending := _ending(words, (*PRODUCT_WORDS, *MASK_WORDS)):
        is_product |= words[-ending:] in (*PRODUCT_WORDS, *UDM_WORDS)
        words = words[:-ending]
    # Fields may be called so, too
    if is_product and len(words) > 1 and LEVEL.fullmatch(words[-1]) and is_dated(words):
        words = words[:-1]
    return words


def is_dated(words: Sequence[str]) -> bool:
    """Whether a name may tell the day of an image, so that no other item has it.

    Args:
        words: Words of the name.

    Returns:
        True if it has enough digits.
    """
    return sum(c.isdigit() for word in words for c in word) >= DATE_DIGITS


def split(path: str) -> tuple[str, ...]:
    """Words of the name of a file, in lower case.

    Args:
        path: The file.

    Returns:
        The words.
    """
    return tuple(re.findall(r'[^\W_]+', stem(path).lower()))


def closeness(first: str, second: str) -> int:
    """How near to each other two files lie.

    Args:
        first: A file.
        second: Another one.

    Returns:
        Number of folders that they share, from above and, as in trees of the same
        structure, from below.
    """
    one, two = (
        os.path.dirname(os.path.abspath(path)).split(os.sep) for path in (first, second)
    )
    return _count_same(one, two) + _count_same(one[::-1], two[::-1])


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


def _beginning(words: Sequence[str]) -> int:
    """Number of words for a mask before the name of a scene."""
    return max((len(k) for k in MASK_WORDS if tuple(words[: len(k)]) == k), default=0)
