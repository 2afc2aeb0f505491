# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Which bands of an optical image are B, G, R and NIR, in scenes and in data sets."""

import fnmatch
import os
import re
from collections.abc import Sequence

from .modalities import MODALITIES

#: Positions of B, G, R and NIR, from 1, in PlanetScope's products by number of bands.
PRODUCTS = {4: (1, 2, 3, 4), 8: (2, 4, 6, 8)}

#: Names of B, G, R and NIR, as words in lower case. B1 or B2 is not among them: these are
#: other bands in each product.
NAMES = {
    'B': ('blue', 'b'),
    'G': ('green', 'g', 'green ii'),
    'R': ('red', 'r'),
    'NIR': ('nir', 'n', 'near infrared', 'nearinfrared', 'near ir', 'infrared'),
}

#: Words of names that do not say which band it is.
COMMON_WORDS = frozenset(
    (
        'sr',
        'toar',
        'boa',
        'band',
        'surface',
        'reflectance',
        'planet',
        'planetscope',
        'nm',
    )
)

#: What to do about a file that does not say which band is which.
ADVICE = (
    f'give the positions of {", ".join(MODALITIES["cloudy"].bands)}, for example '
    '`--bands 3 2 1 4` (bands=[3, 2, 1, 4], or positions=[3, 2, 1, 4] in a data set such as '
    'PlanetCRCloudy) if they are red, green, blue and NIR'
)

#: Words in names of files that say the order of four bands, such as BGRN.
ORDER = re.compile(r'(?<![a-z0-9])((?:NIR|[BGRN]){4})(?![a-z0-9])', re.IGNORECASE)

#: Words in names of PlanetScope's products with eight bands.
EIGHT_BANDS = re.compile(r'_8b(?![a-z0-9])', re.IGNORECASE)

#: Words in names of PlanetScope's products, whose bands are known.
PRODUCT = re.compile(
    r'_AnalyticMS(?![a-z0-9])|_\d[AB]_Analytic|_analytic_[48]b(?![a-z0-9])|_BGRN_',
    re.IGNORECASE,
)

#: Names that programs give to bands by their position.
POSITION = re.compile(r'(band|layer|channel)[ _-]?(\d+)', re.IGNORECASE)


def find_bands(
    path: str,
    count: int,
    names: Sequence[str | None] | None = None,
    advice: str = ADVICE,
) -> list[int]:
    """Find B, G, R and NIR.

    Args:
        path: The file, for errors.
        count: Number of its bands.
        names: Names of its bands, None for those without.
        advice: What to do if they are unclear, for errors.

    Returns:
        Their positions, from 1: by the names, or without names by the name of the file or
        those of PlanetScope's products.

    Raises:
        ValueError: If the names are unclear, or there are none and the number of bands is
            that of no product.
    """
    names = own_names(names or ())
    if not any(names):
        positions = _find_positions(os.path.basename(path), count)
        if positions is None:
            raise ValueError(f'{path} has {count} bands without names: {advice}')
        return positions
    words = [_words(name) for name in names]
    found = [
        [place for place, name in enumerate(words, start=1) if name in NAMES[band]]
        for band in MODALITIES['cloudy'].bands
    ]
    if any(len(places) != 1 for places in found):
        called = ', '.join(name or '-' for name in names)
        raise ValueError(
            f'{path} has bands called {called}, which do not say clearly which is which: '
            f'{advice}'
        )
    return [place for (place,) in found]


def check_positions(
    name: str, positions: Sequence[int], path: str, count: int
) -> list[int]:
    """Check positions that a user gives.

    Args:
        name: Name of the argument, for errors.
        positions: Positions of B, G, R and NIR, from 1.
        path: The file, for errors.
        count: Number of its bands.

    Returns:
        The same.

    Raises:
        ValueError: If there are not four, or a file does not have one of them.
    """
    bands = MODALITIES['cloudy'].bands
    if len(positions) != len(bands) or not all(1 <= n <= count for n in positions):
        raise ValueError(
            f'{name}={list(positions)} must be the positions of B, G, R and NIR among the '
            f'{count} bands of {path}, from 1'
        )
    return list(positions)


def tells_bands(path: str, names: Sequence[str | None]) -> bool:
    """Whether it is known which band of a file is which.

    Args:
        path: The file.
        names: Names of its bands, None for those without.

    Returns:
        True if its bands are named, or if it is called as PlanetScope's products or the
        archive's images are, and has as many bands.
    """
    name = os.path.basename(path)
    globs = (MODALITIES['cloudy'].filename_glob, MODALITIES['clear'].filename_glob)
    if any(own_names(names)) or any(fnmatch.fnmatch(name, glob) for glob in globs):
        return True
    # Somebody may have taken some bands of a product
    is_part = EIGHT_BANDS.search(name) is not None and len(names) < 8
    return PRODUCT.search(name) is not None and not is_part


def find_order(name: str) -> list[str]:
    """Find the order of four bands that the name of a file says.

    Args:
        name: The name.

    Returns:
        B, G, R and NIR in this order, none of them if the name does not say it.
    """
    bands = MODALITIES['cloudy'].bands
    for match in ORDER.finditer(name):
        letters = re.sub('N(?!IR)', 'NIR', match[1].upper())
        order = re.findall('NIR|[BGR]', letters)
        if sorted(order) == sorted(bands):
            return order
    return []


def _find_positions(name: str, count: int) -> list[int] | None:
    """Find B, G, R and NIR without names of bands, by the name of the file or their number."""
    bands = MODALITIES['cloudy'].bands
    if EIGHT_BANDS.search(name) and count >= 8:
        return list(PRODUCTS[8])
    order = find_order(name)
    if order and count >= len(order):
        return [order.index(band) + 1 for band in bands]
    return list(PRODUCTS[count]) if count in PRODUCTS and not order else None


def own_names(names: Sequence[str | None]) -> list[str]:
    """Find names of bands that say more than the position.

    Args:
        names: Names of the bands, None for those without.

    Returns:
        Names of all bands, empty for those that say no more.
    """
    return [
        '' if _is_position(name or '', place) else (name or '')
        for place, name in enumerate(names, start=1)
    ]


def _is_position(name: str, place: int) -> bool:
    """Whether a name says no more than the position of the band."""
    match = POSITION.fullmatch(name.strip())
    return match is not None and int(match[2]) == place


def _words(name: str) -> str:
    """Words of a name that say which band it is."""
    words = re.findall('[a-z]+|[0-9]+', name.lower())
    words = [word for word in words if word not in COMMON_WORDS]
    # Wavelengths; the number of a letter is that of a band
    letters = [word for word in words if not word.isdigit()]
    return ' '.join(letters if any(len(word) > 2 for word in letters) else words)
