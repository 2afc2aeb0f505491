# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Summary of a Planet-CR folder."""

import warnings

import pandas as pd
from pyproj import CRS
from torchgeo.datasets.utils import Path

from .datasets import PlanetCR
from .datasets.archive import SEASONS, SPLITS
from .datasets.index import index_path, open_index
from .datasets.native import LeftOutWarning
from .datasets.planetcr import PlanetCRNotFoundError

#: Problems of each split that are written out.
MAX_PROBLEMS = 10


def index(root: Path) -> str:
    """Index a Planet-CR folder ahead of time, so that it opens at once.

    Opening a data set does the same if need be. Only files that were added or changed
    since are read.

    Args:
        root: folder that holds ``train`` and ``test``

    Returns:
        What was indexed, and where the index is kept.

    Raises:
        DatasetNotFoundError: If *root* has no patch at all.
        OSError: If a folder cannot be read.
    """
    patches = open_index(root).table
    if not patches.num_rows:
        raise PlanetCRNotFoundError(root, 'train')
    return f'{patches.num_rows} patches of {root} are indexed in {index_path(root)}'


def info(root: Path) -> str:
    """Summarize the splits of a Planet-CR folder, and what is missing.

    Args:
        root: folder that holds ``train`` and ``test``

    Returns:
        A table with the number of patches, areas and patches in each season, and the UTM
        zones, of each split; below it, why patches are left out.

    Raises:
        DatasetNotFoundError: If *root* has no patch at all.
        ValueError: If a list is malformed.
    """
    rows: dict[str, dict[str, object]] = {}
    notes: list[str] = []
    not_found = None
    for split in SPLITS:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter('always', UserWarning)
            # What is left out is listed below.
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
        problems = list(dataset.left_out.values())
        if problems:
            notes.append(f'{split}: {len(problems)} more patch(es) cannot be used:')
            notes.extend(f'  {problem}' for problem in problems[:MAX_PROBLEMS])
            if len(problems) > MAX_PROBLEMS:
                notes.append(f'  ... and {len(problems) - MAX_PROBLEMS} more')
        notes.extend(f'{split}: {warning.message}' for warning in caught)

        patches = dataset.index
        zones = {CRS(crs).utm_zone or crs for crs in patches['native_crs'].unique()}
        seasons = patches['season'].value_counts()
        rows[split] = {
            'patches': len(patches),
            'areas': patches['aoi'].nunique(),
            **{season: seasons.get(season, 0) for season in SEASONS},
            'UTM zones': ' '.join(sorted(zones)),
        }
    if not rows and not_found is not None:
        raise not_found
    table = pd.DataFrame.from_dict(rows, orient='index')
    return '\n'.join(
        [f'Planet-CR in {root}', '', table.to_string(), '', *notes]
    ).rstrip()
