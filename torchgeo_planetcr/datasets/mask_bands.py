# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Which bands of a cloud mask say that there is cloud, in scenes and in data sets."""

import re
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rasterio.io import DatasetReader

#: Bands of Planet's usable data mask (UDM2), each 0 or 1 but for the last two:
#: https://docs.planet.com/data/imagery/udm/
UDM2_BANDS = (
    'clear',
    'snow',
    'shadow',
    'haze_light',
    'haze_heavy',
    'cloud',
    'confidence',
    'unusable',
)

#: Bands of UDM2 in which 1 says that there is cloud, and that there is none.
UDM2_CLOUDY = ('shadow', 'haze_light', 'haze_heavy', 'cloud')
UDM2_CLEAR = ('clear', 'snow')


class MaskBands(NamedTuple):
    """Positions of the bands of a mask, from 1."""

    #: Bands that are 1 where there is cloud.
    cloudy: tuple[int, ...]

    #: Bands that are 1 where there is none.
    clear: tuple[int, ...] = ()

    @property
    def positions(self) -> list[int]:
        """The bands to read."""
        return [*self.cloudy, *self.clear]

    def find_cloud(self, ones: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Find cloud.

        Args:
            ones: Where each of the bands at :attr:`positions` is 1, (C, H, W).

        Returns:
            Where there is cloud, of shape (H, W).
        """
        if not self.cloudy:
            return ~ones.any(axis=0)
        return ones[: len(self.cloudy)].any(axis=0)

    def find_unknown(self, ones: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Find pixels of no class.

        Args:
            ones: As for :meth:`find_cloud`.

        Returns:
            Where a mask of several classes has none of them, of shape (H, W).
        """
        if not self.clear:
            return np.zeros(ones.shape[1:], dtype=bool)
        return ~ones.any(axis=0)


def find_mask_bands(dataset: DatasetReader) -> MaskBands:
    """Find the bands of a cloud mask.

    Args:
        dataset: The mask.

    Returns:
        Those that have the names of classes of UDM2. Without names, the order of UDM2 holds
        for eight bands, and a single band is 1 where there is cloud.

    Raises:
        ValueError: If the bands are none of these.
    """
    names = [_words(name or '') for name in dataset.descriptions]
    if dataset.count == len(UDM2_BANDS) and not any(names):
        names = [_words(name) for name in UDM2_BANDS]
    cloudy, clear = (
        tuple(names.index(_words(band)) + 1 for band in bands if _words(band) in names)
        for bands in (UDM2_CLOUDY, UDM2_CLEAR)
    )
    if cloudy or clear:
        return MaskBands(cloudy, clear)
    if dataset.count == 1:
        return MaskBands((1,))
    called = ', '.join(name or '-' for name in dataset.descriptions)
    raise ValueError(
        f'{dataset.name} has {dataset.count} bands, called {called}: take a UDM2 file of '
        f'{len(UDM2_BANDS)} bands, or a mask with one band, 1 cloud and 0 clear'
    )


def _words(name: str) -> frozenset[str]:
    """Words of a name, which products put in any order."""
    return frozenset(re.findall('[a-z]+', name.lower()))
