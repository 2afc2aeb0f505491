# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""The patches that methods are evaluated on."""

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import torch
from torch.utils.data import Dataset
from torchgeo.datasets.utils import Path, Sample

from ..datasets import PlanetCR
from ..raster.grid import Grid
from ..samplers import CenterNativePatchSampler


class EvaluationPatches(Dataset[Sample]):
    """The window of each patch that a protocol looks at, in the order of the index.

    A sample is one of :class:`~torchgeo_planetcr.datasets.PlanetCR` with the key
    ``patch``, the number of the patch, () int64.
    """

    def __init__(self, dataset: PlanetCR, size: int | None) -> None:
        """Initialize a new EvaluationPatches instance.

        Args:
            dataset: Data set with cloudy and clear images.
            size: Height and width of the window in the center of each patch in pixels,
                None for the whole patch.

        Raises:
            ValueError: If *size* is larger than a patch.
        """
        self.dataset = dataset
        self.windows = list(CenterNativePatchSampler(dataset, size=size))
        index = dataset.index.reset_index(drop=True)
        #: Name, area and season of each patch, and the CRS of its pixels.
        self.table = index[['patch', 'aoi', 'season', 'native_crs']].rename(
            columns={'native_crs': 'crs'}
        )
        self._bounds, self._res = index['native_bounds'], index['native_res']

    def __len__(self) -> int:
        """Number of patches."""
        return len(self.windows)

    def __getitem__(self, index: int) -> Sample:
        """Read the window of a patch.

        Args:
            index: Number of the patch.

        Returns:
            A sample.
        """
        sample = self.dataset[self.windows[index]]
        return {**sample, 'patch': torch.tensor(index)}

    @property
    def names(self) -> list[str]:
        """Name of each patch, such as ``'fall_1_p_457'``."""
        return self.table['patch'].tolist()

    def patch_grid(self, number: int) -> Grid:
        """Pixel grid of a whole patch.

        Args:
            number: Number of the patch.

        Returns:
            The grid.
        """
        crs = self.table['crs'][number]
        return Grid.from_bounds(crs, self._bounds[number], self._res[number])

    def window_grid(self, number: int) -> Grid:
        """Pixel grid of the window of a patch.

        Args:
            number: Number of the patch.

        Returns:
            The grid.
        """
        window = self.windows[number]
        bounds = window.x.start, window.y.start, window.x.stop, window.y.stop
        return self.patch_grid(number).snap(bounds)


def fingerprint(files: Mapping[str, Path]) -> str:
    """Identify files by their names and contents.

    This is the SHA-256 of what ``sha256sum`` prints of all files, ordered by name.

    Args:
        files: Paths by the names that count.

    Returns:
        64 hexadecimal digits.
    """
    names = sorted(files)
    with ThreadPoolExecutor() as executor:
        digests = executor.map(file_hash, (files[name] for name in names))
        lines = [f'{digest}  {name}\n' for digest, name in zip(digests, names)]
    return hashlib.sha256(''.join(lines).encode()).hexdigest()


def file_hash(path: Path) -> str:
    """Hash the content of a file.

    Args:
        path: Path of the file.

    Returns:
        Its SHA-256, 64 hexadecimal digits.
    """
    with open(path, 'rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()
