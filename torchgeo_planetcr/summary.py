# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Summary of a Planet-CR folder."""

import warnings
from collections.abc import Sequence

import pandas as pd
from pyproj import CRS
from torchgeo.datasets.utils import Path

from .datasets import PlanetCR
from .datasets.archive import SPLITS
from .datasets.index import open_index
from .datasets.native_raster import LeftOutWarning
from .datasets.patch_files import SEASONS
from .datasets.planetcr import PlanetCRNotFoundError
from .raster.write import remove_leftovers

#: Problems of each split that the summary names, at most.
MAX_PROBLEMS = 10


def index(root: Path) -> str:
    """Index a Planet-CR folder in advance, so that it opens at once.

    Opening a data set does the same if necessary. Only files that were added or changed
    are read.

    Args:
        root: Folder that holds ``train`` and ``test``.

    Returns:
        One line that says what was indexed and where the index is kept.

    Raises:
        DatasetNotFoundError: If *root* has no patch at all.
        OSError: If a folder cannot be read.
    """
    # Also if the index is there already, and nothing is to be written
    remove_leftovers(root)
    index = open_index(root)
    if not index.table.num_rows:
        raise PlanetCRNotFoundError(root, 'train')
    place = 'in no file' if index.path is None else f'in {index.path}'
    return f'{index.table.num_rows} patches of {root} are indexed {place}'


def info(root: Path) -> str:
    """Summarize the splits of a Planet-CR folder, and problems of their files.

    Args:
        root: Folder that holds ``train`` and ``test``.

    Returns:
        A table with the number of patches, areas and patches in each season, and the UTM
        zones, of each split, and the reasons why patches are left out.

    Raises:
        DatasetNotFoundError: If *root* has no patch at all.
        ValueError: If a list is malformed.
    """
    rows: dict[str, dict[str, object]] = {}
    notes: list[str] = []
    # Warnings, which may be the same in several splits
    splits_of: dict[str, list[str]] = {}
    not_found = None
    for split in SPLITS:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter('always', UserWarning)
            # The patches that are left out are listed below.
            warnings.simplefilter('ignore', LeftOutWarning)
            try:
                dataset = PlanetCR(root, split)
            except PlanetCRNotFoundError as error:
                not_found = error
                notes.append(f'{split}: no patches.')
                continue
            except OSError as error:
                notes.append(f'{split}: {error}')
                continue
        notes.extend(_list_problems(split, list(dataset.left_out.values())))
        for warning in caught:
            splits_of.setdefault(str(warning.message), []).append(split)
        rows[split] = _count_patches(dataset.index)
    if not rows and not_found is not None:
        raise not_found
    notes += [f'{", ".join(splits)}: {text}' for text, splits in splits_of.items()]
    lines = [f'Planet-CR in {root}', '']
    if rows:
        table = pd.DataFrame.from_dict(rows, orient='index')
        lines += [table.to_string(), '']
    return '\n'.join([*lines, *notes]).rstrip()


def _list_problems(split: str, problems: Sequence[str]) -> list[str]:
    """Lines with the reasons why patches of a split are left out."""
    if not problems:
        return []
    lines = [f'{split}: {len(problems)} more patch(es) cannot be used:']
    lines += [f'  {problem}' for problem in problems[:MAX_PROBLEMS]]
    if len(problems) > MAX_PROBLEMS:
        lines.append(f'  ... and {len(problems) - MAX_PROBLEMS} more')
    return lines


def _count_patches(index: pd.DataFrame) -> dict[str, object]:
    """Row of the summary for the index of a split."""
    zones = {CRS(crs).utm_zone or crs for crs in index['native_crs'].unique()}
    seasons = index['season'].value_counts()
    return {
        'patches': len(index),
        'areas': index['aoi'].nunique(),
        **{season: seasons.get(season, 0) for season in SEASONS},
        'UTM zones': ' '.join(sorted(zones)),
    }
