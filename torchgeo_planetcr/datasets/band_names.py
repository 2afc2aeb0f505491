# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Which bands of an optical image are B, G, R and NIR, in scenes and in data sets."""

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
    '`--bands 3 2 1 4` (bands=[3, 2, 1, 4]) if they are red, green, blue and NIR'
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
        Their positions, from 1: by the names, or without names those of PlanetScope's
        products.

    Raises:
        ValueError: If the names are unclear, or there are none and the number of bands is
            that of no product.
    """
    names = (
        []
        if names is None
        else [
            '' if _is_position(name or '', place) else (name or '')
            for place, name in enumerate(names, start=1)
        ]
    )
    if not any(names):
        if count not in PRODUCTS:
            raise ValueError(f'{path} has {count} bands without names: {advice}')
        return list(PRODUCTS[count])
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
