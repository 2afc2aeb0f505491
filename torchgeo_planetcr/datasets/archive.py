# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Layout of the Planet-CR archive: files, names, lists and splits."""

import codecs
import csv
import functools
import hashlib
import math
import os
import zlib
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BufferedReader, TextIOWrapper
from pathlib import PureWindowsPath
from typing import NamedTuple

import numpy as np
import pandas as pd
from pyarrow.fs import FileInfo, FileSelector, FileType, LocalFileSystem
from torchgeo.datasets.utils import Path

from ..raster.header import Stamp, open_regular
from .modalities import LIST_COLUMNS, MODALITIES
from .patch_files import FILENAME, FOLDER, MODALITY_OF_PREFIX, SEASONS

SPLITS = ('train', 'val', 'test')

#: Splits that have a folder.
FOLDERS = ('train', 'test')

#: Levels of folders: of a split, a modality and season, and an area.
DEPTH = 3

#: Bytes of a list at most. One of all patches of Planet-CR has less than a tenth.
MAX_LIST_SIZE = 200_000_000

#: Characters of a name in a list that a message shows.
MAX_NAME = 200

#: Share of the areas of the folder ``train`` that are for ``val`` if there is no list.
VALIDATION_SHARE = 0.1

#: Threads that list folders. On a network disk they wait most of the time.
THREADS = 4

#: Columns with texts about a patch.
TEXT_COLUMNS = ('split', 'season', 'aoi', 'patch')


class Listing:
    """All files in the folders of the splits, and the lists of the authors."""

    def __init__(self, root: Path) -> None:
        """Initialize a new Listing instance.

        Args:
            root: Folder of the archive.

        Raises:
            OSError: If a folder cannot be read.
        """
        self.root = root
        #: Of each folder: paths below the root, sizes and modification times of its files.
        self.folders: list[tuple[list[str], list[int], list[int]]] = []
        start = os.path.abspath(root)
        folders = [os.path.join(start, split) for split in FOLDERS]
        # The operating system lists several folders at once, without Python's lock.
        with ThreadPoolExecutor(THREADS) as executor:
            for level in range(DEPTH):
                parts = [folders[i::THREADS] for i in range(THREADS)]
                folders = []
                for entries in executor.map(_list_folders, parts):
                    self._add(entries)
                    if level < DEPTH - 1:
                        folders += [e.path for e in entries if _may_be_entered(e)]

    def _add(self, entries: list[FileInfo]) -> None:
        """Add the files among the entries of a folder."""
        skip = len(os.path.join(os.path.abspath(self.root), ''))
        files, sizes = [], []
        for entry in entries:
            # Only files have a size. A folder or named pipe with the name of a file, or of
            # what overrules it, is a problem that the index reports.
            size, name = entry.size, entry.base_name.removesuffix('.aux.xml')
            if size is not None or FILENAME.fullmatch(name):
                files.append(entry)
                sizes.append(-1 if size is None else size)
        paths = [entry.path[skip:] for entry in files]
        mtimes_ns = [-1 if s < 0 else e.mtime_ns for e, s in zip(files, sizes)]
        self.folders.append((paths, sizes, mtimes_ns))

    @functools.cached_property
    def fingerprint(self) -> str:
        """Text that changes when a file or list is added, removed or changed."""
        digest = hashlib.blake2b(digest_size=16)
        for paths, sizes, mtimes_ns in self.folders:
            digest.update('\0'.join(paths).encode())
            digest.update(np.array([sizes, mtimes_ns], dtype=np.int64).tobytes())
        for split in SPLITS:
            if path := find_list(self.root, split):
                # A link to nothing has no more than itself
                stat = os.stat(path, follow_symlinks=os.path.exists(path))
                listed = (
                    os.path.relpath(path, self.root),
                    stat.st_size,
                    stat.st_mtime_ns,
                )
                digest.update(repr(listed).encode())
        return digest.hexdigest()

    @property
    def count(self) -> int:
        """Number of files of any name."""
        return sum(len(paths) for paths, _, _ in self.folders)

    @functools.cached_property
    def files(self) -> dict[str, Stamp | None]:
        """Stamps of the files of the data set, by their paths below the root.

        They have names that follow the rule of the archive. The stamp is None for a file
        that has an ``.aux.xml`` file beside it, as it depends on that.
        """
        files: dict[str, Stamp | None] = {}
        for paths, sizes, mtimes_ns in self.folders:
            for path, size, mtime_ns in zip(paths, sizes, mtimes_ns):
                if FILENAME.fullmatch(path.rpartition('/')[2]) and '/.' not in path:
                    files[path] = Stamp(size, mtime_ns)
        for paths, _, _ in self.folders:
            for path in paths:
                image = path.removesuffix('.aux.xml')
                if image != path and image in files:
                    files[image] = None
        return files


def _list_folders(folders: Iterable[str]) -> list[FileInfo]:
    """List what is in folders, which need not exist."""
    entries: list[FileInfo] = []
    for folder in folders:
        selector = FileSelector(folder, allow_not_found=True)
        try:
            entries += LocalFileSystem().get_file_info(selector)
        except NotADirectoryError:
            continue
        except UnicodeError as error:
            raise OSError(
                f'{folder} holds a file or folder whose name is not UTF-8: rename it '
                f'({error})'
            ) from error
    return entries


def _may_be_entered(entry: FileInfo) -> bool:
    """Whether to list what is in a folder.

    A link to a folder could lead back, or through the whole disk: only one that is called
    like a folder of the archive is followed.
    """
    return entry.type == FileType.Directory and (
        FOLDER.fullmatch(entry.base_name) is not None or not os.path.islink(entry.path)
    )


class ListError(ValueError):
    """Raised when a list cannot be used."""


class Patches(NamedTuple):
    """Patches of all splits.

    *frame* has a row for each patch, sorted by split, area and number: ``split`` (None if
    a list leaves the patch out), ``season``, ``aoi``, ``patch``, and for each modality the
    path below the root (None if there is no file).
    """

    frame: pd.DataFrame
    #: A note for the users of a split, of those that have one.
    notes: dict[str, str]
    #: The reason why a split cannot be used, of those that cannot.
    errors: dict[str, str]


def list_patches(root: Path, files: Collection[str]) -> Patches:
    """List the patches of all splits.

    The authors' lists are used where *root* has them (``csv/{split}.csv``,
    ``{split}.csv`` or ``one_{split}_sample.csv``), else the folders ``train`` and
    ``test``. Without a list, ``val`` is a tenth of the areas of ``train``, chosen by a
    hash of their names, and ``train`` the rest.

    Args:
        root: Folder of the archive.
        files: Files in the folders, by their paths below *root*.

    Returns:
        The patches. A split with a malformed list has none.
    """
    notes: dict[str, str] = {}
    errors: dict[str, str] = {}
    folders = {}
    for folder in FOLDERS:
        found = sorted(path for path in files if path.startswith(f'{folder}/'))
        folders[folder] = _to_frame(found)
    splits = {}
    for split, folder in (('train', 'train'), ('val', 'train'), ('test', 'test')):
        if listed := find_list(root, split):
            try:
                splits[split] = _to_frame(_read_list(listed, folder))
            except ListError as error:
                # Neither train nor val is known without the list of the other.
                for name in (split,) if split == 'test' else ('train', 'val'):
                    errors[name] = str(error)
                splits[split] = _to_frame(())
                continue
            # The lists of the public sample stay if an archive is unpacked over it.
            surplus = len(folders[folder]) - len(splits[split])
            if listed.endswith('_sample.csv') and surplus > 0:
                name = os.path.relpath(listed, root)
                notes[split] = (
                    f'{name} names {len(splits[split])} patch(es), and {surplus} more in '
                    f'{folder} are not used: remove the list to use all.'
                )
    train = splits.get('train', folders['train'])
    if 'val' not in splits:
        splits['val'] = train[train['aoi'].isin(_validation_areas(train['aoi']))]
    splits['train'] = train[~train['patch'].isin(splits['val']['patch'])]
    splits.setdefault('test', folders['test'])

    used = {'train': [*splits['train']['patch'], *splits['val']['patch']]}
    used['test'] = splits['test']['patch']
    unused = [
        frame[~frame['patch'].isin(used[name])] for name, frame in folders.items()
    ]
    parts = [splits[split].assign(split=split) for split in SPLITS]
    return Patches(pd.concat([*parts, *unused], ignore_index=True), notes, errors)


def _to_frame(files: Iterable[str]) -> pd.DataFrame:
    """One row for each patch, in the order of areas and numbers."""
    patches: dict[tuple[int, int, str, int, str], dict[str, str | None]] = {}
    for filepath in files:
        match = FILENAME.fullmatch(filepath.rpartition('/')[2])
        if match:
            prefix, season, area, number, _ = match.groups()
            # Numbers with zeros in front are those of other patches
            key = (SEASONS.index(season), int(area), area, int(number), number)
            row = patches.get(key)
            if row is None:
                aoi = f'{season}_{area}'
                row = patches[key] = {
                    'split': None,
                    'season': season,
                    'aoi': aoi,
                    'patch': f'{aoi}_p_{number}',
                    **dict.fromkeys(MODALITIES),
                }
            row[MODALITY_OF_PREFIX[prefix]] = filepath
    rows = [patches[key] for key in sorted(patches)]
    return pd.DataFrame(rows, columns=[*TEXT_COLUMNS, *MODALITIES], dtype=object)


def find_list(root: Path, split: str) -> str | None:
    """Find the authors' list of a split.

    Args:
        root: Folder of the archive.
        split: The split.

    Returns:
        Path of the list, None if there is none.
    """
    for name in (f'csv/{split}.csv', f'{split}.csv', f'one_{split}_sample.csv'):
        path = os.path.join(root, name)
        # To pass over what is no file would change the splits in silence
        if os.path.lexists(path):
            return path
    return None


def _read_list(path: str, folder: str) -> Iterator[str]:
    """Yield the files in a list, whose paths are relative to the folder."""
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size > MAX_LIST_SIZE:
                raise ValueError(f'it has {size} bytes')
            buffer = BufferedReader(file)
            # Spreadsheet programs write a byte order mark at the start, PowerShell UTF-16
            is_wide = buffer.peek(2)[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
            encoding = 'utf-16' if is_wide else 'utf-8-sig'
            with TextIOWrapper(buffer, encoding, newline='') as text:
                for number, row in enumerate(csv.reader(text), start=1):
                    yield from _read_row(row, f'{path}, line {number}', folder)
    except ListError:
        raise
    except (OSError, ValueError, csv.Error) as error:
        raise ListError(f'{path} is not a readable list: {error}') from error


def _read_row(row: list[str], place: str, folder: str) -> Iterator[str]:
    """Yield the files in a row of a list."""
    if not row:
        return
    if len(row) != len(LIST_COLUMNS):
        raise ListError(
            f'{place}: {len(row)} columns instead of the {len(LIST_COLUMNS)} paths '
            f'{", ".join(LIST_COLUMNS)}'
        )
    for modality, name in zip(LIST_COLUMNS, row):
        # Understands both separators, as lists may have been written anywhere
        path = PureWindowsPath(name.strip())
        if path.anchor or '..' in path.parts:
            raise ListError(
                f'{place}: {_shorten(name)} leads out of {folder}: write paths that are '
                'relative to this folder'
            )
        match = FILENAME.fullmatch(path.name)
        prefix = MODALITIES[modality].folder
        if not match or match['prefix'] != prefix:
            raise ListError(
                f'{place}: {_shorten(name)} is not the name of a {modality} file, '
                f'{prefix}_<season>_<n>_p_<m>'
            )
        yield f'{folder}/{path.as_posix()}'


def _shorten(name: str) -> str:
    """Name of a file for a message, which must not grow with it."""
    return repr(name if len(name) <= MAX_NAME else f'{name[:MAX_NAME]}...')


def _validation_areas(aois: Iterable[str]) -> list[str]:
    """A fixed share of the areas, the same on every machine and in every run."""
    areas = sorted(set(aois), key=lambda aoi: (zlib.crc32(aoi.encode()), aoi))
    return areas[: math.floor(VALIDATION_SHARE * len(areas))]
