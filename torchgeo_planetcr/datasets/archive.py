# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Layout of the Planet-CR archive: files, names, lists and splits."""

import csv
import math
import os
import re
import warnings
import zlib
from collections.abc import Iterable, Iterator
from pathlib import PurePath

import pandas as pd
from torchgeo.datasets.utils import Path

from .native import find_in_folder

SPLITS = ('train', 'val', 'test')
SEASONS = ('spring', 'summer', 'fall', 'winter')

#: Modality, and how its folders and files are called in the archive.
KINDS = {
    'cloudy': 'planet_cloudy',
    'clear': 'planet_cloudfree',
    'sentinel1': 'S1',
    'worldcover': 'landcover',
    'cloud_mask': 'cloudmask',
}

#: Modalities in the order of the columns of the authors' lists.
LIST_COLUMNS = ('clear', 'cloudy', 'sentinel1', 'worldcover', 'cloud_mask')

#: Share of the areas of the train folder that ``val`` takes where no list says.
VALIDATION_SHARE = 0.1

_COLUMNS = ('split', 'season', 'aoi', 'patch')
_FILENAME = re.compile(
    rf'(?P<kind>{"|".join(KINDS.values())})_(?P<season>{"|".join(SEASONS)})_'
    r'(?P<area>\d+)_p_(?P<number>\d+)\.(tif|npy)'
)


def list_patches(root: Path, split: str) -> pd.DataFrame:
    """List the patches of a split.

    The authors' lists are used where *root* has them (``csv/{split}.csv``,
    ``{split}.csv`` or ``one_{split}_sample.csv``), else the folders ``train`` and
    ``test``. Without a list, ``val`` is a tenth of the areas of ``train``, chosen by a
    hash of their names, and ``train`` the rest.

    Args:
        root: folder of the archive.
        split: one of ``'train'``, ``'val'`` and ``'test'``.

    Returns:
        One row for each patch, in the order of areas and numbers: ``split``, ``season``,
        ``aoi``, ``patch``, and for each modality its path, None where there is none.

    Raises:
        ValueError: If *split* is unknown, or a list is malformed.
    """
    if split not in SPLITS:
        raise ValueError(f'split={split!r} is not one of {SPLITS}')
    if split == 'test':
        return _read_split(root, 'test')
    train = _read_split(root, 'train')
    if _find_list(root, 'val'):
        val = _read_split(root, 'val')
    else:
        val = train[train['aoi'].isin(_validation_areas(train['aoi']))]
    if split == 'train':
        return train[~train['patch'].isin(val['patch'])]
    if val.empty and not train.empty:
        warnings.warn(
            f'No patch of the {train["aoi"].nunique()} area(s) in {root} is for '
            "validation: split='val' has the patches of split='train'. Do not report its "
            'figures.',
            UserWarning,
        )
        val = train
    return val.assign(split='val')


def _read_split(root: Path, split: str) -> pd.DataFrame:
    """Patches that a list names or, without one, those in the folder of the split."""
    folder = os.path.join(root, 'test' if split == 'test' else 'train')
    if listed := _find_list(root, split):
        patches = _to_frame(_read_list(listed, folder), split)
        # The lists of the public sample outlive an archive that is unpacked over it.
        if listed.endswith('_sample.csv'):
            surplus = len(_to_frame(_scan(folder), split)) - len(patches)
            if surplus > 0:
                warnings.warn(
                    f'{listed} names {len(patches)} patch(es), and {surplus} more in '
                    f'{folder} are not used: remove the list to use all.',
                    UserWarning,
                )
        return patches
    return _to_frame(_scan(folder), split)


def _scan(folder: str) -> Iterator[tuple[str, str]]:
    """Yield modality and file for each file in a folder."""
    for modality, kind in KINDS.items():
        for filepath in find_in_folder(folder, f'{kind}_*_p_*'):
            yield modality, filepath


def _to_frame(files: Iterable[tuple[str, str]], split: str) -> pd.DataFrame:
    """One row for each patch, in the order of areas and numbers."""
    patches: dict[tuple[int, int, int], dict[str, str | None]] = {}
    for modality, filepath in files:
        match = _FILENAME.fullmatch(os.path.basename(filepath))
        if match and match['kind'] == KINDS[modality]:
            season, area, number = match['season'], match['area'], match['number']
            aoi = f'{season}_{area}'
            row = {
                'split': split,
                'season': season,
                'aoi': aoi,
                'patch': f'{aoi}_p_{number}',
                **dict.fromkeys(KINDS),
            }
            key = (SEASONS.index(season), int(area), int(number))
            patches.setdefault(key, row)[modality] = filepath
    rows = [patches[key] for key in sorted(patches)]
    return pd.DataFrame(rows, columns=[*_COLUMNS, *KINDS], dtype=object)


def _find_list(root: Path, split: str) -> str | None:
    """The authors' list of a split, None if there is none."""
    for name in (f'csv/{split}.csv', f'{split}.csv', f'one_{split}_sample.csv'):
        path = os.path.join(root, name)
        if os.path.isfile(path):
            return path
    return None


def _read_list(path: str, folder: str) -> Iterator[tuple[str, str]]:
    """Yield modality and file for each entry of a list, in which paths are relative."""
    # A list that went through a spreadsheet starts with a byte order mark.
    with open(path, newline='', encoding='utf-8-sig') as file:
        try:
            rows = list(csv.reader(file))
        except (UnicodeDecodeError, csv.Error) as error:
            raise ValueError(f'{path} is not a CSV file: {error}') from error
        for number, row in enumerate(rows, start=1):
            if not row:
                continue
            if len(row) != len(LIST_COLUMNS):
                raise ValueError(
                    f'{path}, line {number}: {len(row)} columns instead of the '
                    f'{len(LIST_COLUMNS)} paths {", ".join(LIST_COLUMNS)}'
                )
            for modality, name in zip(LIST_COLUMNS, row):
                name = name.strip()
                if os.path.isabs(name) or '..' in PurePath(name).parts:
                    raise ValueError(
                        f'{path}, line {number}: {name!r} leads out of {folder}; paths '
                        'must be relative to this folder'
                    )
                match = _FILENAME.fullmatch(os.path.basename(name))
                if not match or match['kind'] != KINDS[modality]:
                    raise ValueError(
                        f'{path}, line {number}: {name!r} is not called like a '
                        f'{modality} file, {KINDS[modality]}_<season>_<n>_p_<m>'
                    )
                yield modality, os.path.join(folder, name)


def _validation_areas(aois: Iterable[str]) -> list[str]:
    """A fixed share of the areas, the same on every machine and in every run."""
    areas = sorted(set(aois), key=lambda aoi: (zlib.crc32(aoi.encode()), aoi))
    return areas[: math.floor(VALIDATION_SHARE * len(areas))]
