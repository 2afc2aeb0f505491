# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Index of a Planet-CR folder, which is kept from one opening to the next.

The headers of all files are read once and kept in a GeoParquet file of all patches, which
geopandas and QGIS open too. An index that was made by another user, or changed since, is not
believed. The sizes and modification times of files are compared each time, and the headers of
files that have changed are read again.
"""

import contextlib
import hashlib
import json
import os
import warnings
from collections.abc import Container, Iterable, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
import platformdirs
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from geopandas import GeoDataFrame
from numpy.typing import NDArray
from torchgeo.datasets.utils import Path

from ..raster.header import (
    HEADER_SCHEMA,
    HeaderTable,
    RasterHeader,
    Stamp,
    open_regular,
)
from ..raster.read import read_headers
from ..raster.write import appears_whole
from .archive import TEXT_COLUMNS, Listing, list_patches
from .components import COMPONENTS, PlanetCRCloudMask
from .footprints import WGS84, reproject, to_boxes
from .mark import add_mark, has_mark, user_key
from .modalities import GRID_ORDER, MODALITIES, ModalityName
from .patch_files import check_patch_raster

#: Name of the index in the folder that it describes.
FILENAME = 'planetcr_index.parquet'

#: Version of the columns and what they mean, and of the way in which headers are read.
FORMAT = 1

#: Columns of a patch, without those of its files.
PATCH_COLUMNS = (*TEXT_COLUMNS, 'cloud_cover')

#: Columns of a file of a patch: its header, or the reason why it cannot be read.
FILE_SCHEMA = HEADER_SCHEMA.append(pa.field('problem', pa.string()))

#: Bytes of an index at most: for itself, and for each file that is there. Real ones have a
#: hundredth.
MIN_LIMIT, LIMIT_PER_FILE = 2**20, 2**12

#: Text that replaces the folder in the reasons why files cannot be read, as the folder may
#: be moved.
ROOT = '{root}/'


#: Why a file cannot be read that only a list names.
ABSENT = 'is in no folder of the archive: copy it there'


class IndexWarning(UserWarning):
    """Warning about a kept index, which says nothing of the data."""


class ArchiveIndex(NamedTuple):
    """Patches of a Planet-CR folder, and what is known of their files.

    *table* has a row for each patch: ``split`` (null if a list leaves it out), ``season``,
    ``aoi``, ``patch``, ``cloud_cover`` (null without a readable mask), and for each
    modality its path below *root*, null if there is none, and ``<modality>_<column>`` for
    the other columns of :data:`FILE_SCHEMA`.
    """

    root: Path
    table: pa.Table
    #: A note for the users of a split, of those that have one.
    notes: dict[str, str]
    #: The reason why a split cannot be used, of those that cannot.
    errors: dict[str, str]
    #: Where the index is kept, None if it is not.
    path: str | None = None

    def select(self, rows: pa.BooleanArray | NDArray[np.bool_]) -> 'ArchiveIndex':
        """Part of the index.

        Args:
            rows: Whether to keep each patch.

        Returns:
            An index of these patches.
        """
        return self._replace(table=self.table.filter(rows))

    def column(self, name: str) -> pd.Series:
        """One column.

        Args:
            name: Name of the column.

        Returns:
            The column, with a row for each patch.
        """
        return self.table[name].to_pandas()

    def filepaths(self, modality: ModalityName) -> pd.Series:
        """Paths of the files of a modality, null where there is none.

        Args:
            modality: The modality.

        Returns:
            A path for each patch.
        """
        return self._filepaths(modality).to_pandas()

    def _filepaths(self, modality: ModalityName) -> pa.ChunkedArray:
        """Paths of the files of a modality, see :meth:`filepaths`."""
        prefix = pa.scalar(_prefix(self.root))
        return pc.binary_join_element_wise(prefix, self.table[modality], '')

    def problems(self, modality: ModalityName) -> pd.Series:
        """Reasons why files of a modality cannot be read, null for those that can.

        Args:
            modality: The modality.

        Returns:
            A reason for each patch.
        """
        problems = self.column(f'{modality}_problem')
        return problems.str.replace(ROOT, _prefix(self.root), regex=False)

    def has(self, modality: ModalityName) -> bool:
        """Whether there is any file of a modality, readable or not.

        Args:
            modality: The modality.

        Returns:
            False if no patch has one, whatever a list names.
        """
        crs = self.table[f'{modality}_crs']
        if crs.null_count < len(crs):
            return True
        problems = self.column(f'{modality}_problem').dropna()
        return not problems.str.endswith(ABSENT).all()

    def error(self, split: str) -> str | None:
        """Reason why a split cannot be used.

        Args:
            split: The split.

        Returns:
            The reason, None if the split can be used.
        """
        error = self.errors.get(split)
        return error and error.replace(ROOT, _prefix(self.root))

    def headers(self, modality: ModalityName) -> HeaderTable:
        """Headers of the files of a modality. All of them must be readable.

        Args:
            modality: The modality.

        Returns:
            A header for each patch.
        """
        names = [_column_name(modality, name) for name in HEADER_SCHEMA.names]
        table = self.table.select(names).rename_columns(HEADER_SCHEMA.names)
        return HeaderTable(table.set_column(0, 'filepath', self._filepaths(modality)))


def open_index(root: Path) -> ArchiveIndex:
    """Open the index of a Planet-CR folder. Make or update it first if necessary.

    It is kept in ``planetcr_index.parquet`` in *root* or, if that cannot be written or is
    of another user, in the user's cache folder. Only files that were added or changed, and
    those that could not be read before, are read.

    Args:
        root: Folder that holds ``train`` and ``test``.

    Returns:
        The index; empty if there is no patch.

    Raises:
        OSError: If a folder cannot be read.
    """
    listing = Listing(root)
    try:
        key = user_key()
    except OSError as error:
        _warn_not_kept(root, [error])
        return _update(listing, _empty_index(root))
    known, fingerprint = _load(listing, key)
    if fingerprint == listing.fingerprint and not _can_read_more(listing, known):
        return known
    index = _update(listing, known)
    if index.table.num_rows:
        return index._replace(path=_save(index, listing.fingerprint, key))
    return index


def _prefix(root: Path) -> str:
    """Start of the paths of all files in a folder."""
    return os.path.join(root or os.curdir, '')


def _places(root: Path) -> tuple[str, str]:
    """Where an index may be kept: in the folder, or in the user's cache folder."""
    folder = os.fsencode(os.path.realpath(root))
    name = hashlib.blake2b(folder, digest_size=8).hexdigest()
    cache = platformdirs.user_cache_dir('torchgeo-planetcr', appauthor=False)
    return _prefix(root) + FILENAME, os.path.join(cache, f'{name}.parquet')


def _kept(root: Path) -> dict[str, os.stat_result]:
    """What lies in the possible places of an index, the newest first."""
    found: dict[str, os.stat_result] = {}
    for path in _places(root):
        # Another process may replace it at this moment.
        with contextlib.suppress(OSError):
            found[path] = os.lstat(path)
    return dict(sorted(found.items(), key=lambda item: -item[1].st_mtime_ns))


def _column_name(modality: ModalityName, name: str) -> str:
    """Name in the index of a column of :data:`FILE_SCHEMA`."""
    return modality if name == 'filepath' else f'{modality}_{name}'


def _index_schema() -> pa.Schema:
    """Columns of the index, without the geometry."""
    return pa.schema(
        [
            *((name, pa.string()) for name in TEXT_COLUMNS),
            ('cloud_cover', pa.float64()),
            *(
                (_column_name(modality, field.name), field.type)
                for modality in MODALITIES
                for field in FILE_SCHEMA
            ),
        ]
    )


def _empty_index(root: Path) -> ArchiveIndex:
    """Make an index without patches."""
    return ArchiveIndex(root, _index_schema().empty_table(), {}, {})


def _load(listing: Listing, key: bytes) -> tuple[ArchiveIndex, str | None]:
    """Load the newest index with the user's mark and the fingerprint of its files.

    If there is none, the index is empty and the fingerprint None.
    """
    root, problems = listing.root, []
    for path in _kept(root):
        try:
            content = _read(path, MIN_LIMIT + LIMIT_PER_FILE * listing.count)
            if not has_mark(content, key, FORMAT):
                raise ValueError('it was made by another user or version, or changed')
        except (OSError, ValueError) as error:
            problems.append(f'{path} cannot be used and is made again: {error}')
            continue
        with pq.ParquetFile(pa.BufferReader(content)) as file:
            kept = json.loads(file.schema_arrow.metadata[b'PANDAS_ATTRS'])
            table = file.read(_index_schema().names).cast(_index_schema())
        index = ArchiveIndex(root, table, kept['notes'], kept['errors'], path)
        return index, kept['fingerprint']
    if problems:
        warnings.warn(f'The index {problems[0]}', IndexWarning)
    return _empty_index(root), None


def _read(path: str, limit: int) -> bytes:
    """Read a regular file that is no link and has no more bytes than are plausible."""
    if os.path.islink(path):
        raise OSError('it is a link')
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise OSError(f'it has {size} bytes')
        return file.read(limit)


def _can_read_more(listing: Listing, index: ArchiveIndex) -> bool:
    """Whether a file can be read now that could not when the index was made."""
    for modality in MODALITIES:
        problems = index.column(f'{modality}_problem').notna()
        if problems.any():
            paths = index.column(modality)[problems].tolist()
            if any(_read_headers(listing, modality, paths)[0]):
                return True
    return False


def _update(listing: Listing, known: ArchiveIndex) -> ArchiveIndex:
    """Make an index, and reuse what is known of files that have not changed."""
    root, files = listing.root, listing.files
    patches, notes, errors = list_patches(root, files)
    errors = {
        split: error.replace(_prefix(root), ROOT) for split, error in errors.items()
    }
    columns = {name: pa.array(patches[name], pa.string()) for name in TEXT_COLUMNS}
    # Files that are read, as they are new or have changed
    new: set[str | None] = set()
    for modality in MODALITIES:
        names = [_column_name(modality, name) for name in FILE_SCHEMA.names]
        old = known.table.select(names).rename_columns(FILE_SCHEMA.names)
        rows = _unchanged_rows(old, files)
        paths = patches[modality].tolist()
        if modality == 'cloud_mask':
            # A mask has the georeference of its image.
            for path, image in zip(paths, patches['cloudy']):
                if image is None or image in new:
                    rows.pop(path, None)
        missing = [path for path in paths if path is not None and path not in rows]
        rows |= {path: row for row, path in enumerate(missing, start=len(old))}
        table = pa.concat_tables([old, _read_files(listing, modality, missing)])
        table = table.take(pa.array([rows.get(path) for path in paths], pa.int64()))
        columns |= zip(names, table.columns)
        new.update(missing)

    index = ArchiveIndex(root, pa.table(columns), notes, errors)
    columns |= _update_cloud_cover(index, known, new)
    schema = _index_schema()
    table = pa.table([columns[name] for name in schema.names], schema)
    return index._replace(table=table)


def _unchanged_rows(
    old: pa.Table, files: Mapping[str, Stamp | None]
) -> dict[str | None, int]:
    """Rows of the known files of a modality that need not be read again."""
    stamps = zip(old['size'].to_pylist(), old['mtime_ns'].to_pylist())
    known = zip(old['filepath'].to_pylist(), stamps, old['problem'].to_pylist())
    return {
        path: row
        for row, (path, stamp, problem) in enumerate(known)
        # A file that could not be read may be readable now.
        if path is not None and problem is None and files.get(path) == stamp
    }


def _update_cloud_cover(
    index: ArchiveIndex, known: ArchiveIndex, new: Container[str | None]
) -> dict[str, pa.Array]:
    """Columns with the share of cloud, and with problems of masks.

    Args:
        index: Index without the share of cloud.
        known: Index in which the share of cloud of files that are not new is known.
        new: Files that are new or have changed, by their paths below the root.

    Returns:
        The columns, by their names.
    """
    is_readable = pc.is_valid(index.table['cloud_mask_crs'])
    masks = index.select(is_readable).headers('cloud_mask')
    read, problems = _read_cloud_cover(index.root, masks, new)
    old = zip(*(known.table[n].to_pylist() for n in ('cloud_mask', 'cloud_cover')))
    cover = {path: share for path, share in old if path not in new} | read
    paths = index.table['cloud_mask'].to_pylist()
    reasons = zip(paths, index.table['cloud_mask_problem'].to_pylist())
    return {
        'cloud_cover': pa.array([cover.get(path) for path in paths], pa.float64()),
        'cloud_mask_problem': pa.array(
            [problems.get(path, problem) for path, problem in reasons], pa.string()
        ),
    }


def _read_headers(
    listing: Listing, modality: ModalityName, paths: Iterable[str]
) -> tuple[dict[str, RasterHeader], dict[str, str]]:
    """Read the headers of files of patches, or the reasons why they cannot be used."""
    prefix, files = _prefix(os.path.abspath(listing.root)), listing.files
    # A list may name what is not there, or lies behind a link that is not followed
    problems = {path: f'{prefix}{path} {ABSENT}' for path in paths if path not in files}

    def read(path: str) -> RasterHeader:
        header = COMPONENTS[modality].read_header(prefix + path)
        check_patch_raster(header, modality)
        return header._replace(filepath=path)

    present = [path for path in paths if path in files]
    headers, unreadable = read_headers(present, read, f'Indexing {modality}')
    return headers, {
        path: problem.replace(prefix, ROOT)
        for path, problem in (problems | unreadable).items()
    }


def _read_files(listing: Listing, modality: ModalityName, paths: list[str]) -> pa.Table:
    """Read the headers of files. Those that cannot be used have a problem instead."""
    headers, problems = _read_headers(listing, modality, paths)
    found = HeaderTable.from_headers(headers.values()).table
    unreadable = [
        {'filepath': path, 'problem': problem} for path, problem in problems.items()
    ]
    table = pa.concat_tables(
        [
            found.append_column('problem', pa.nulls(len(found), pa.string())),
            pa.Table.from_pylist(unreadable, FILE_SCHEMA),
        ]
    )
    order = {path: row for row, path in enumerate(table['filepath'].to_pylist())}
    return table.take(pa.array([order[path] for path in paths], pa.int64()))


def _read_cloud_cover(
    root: Path, masks: HeaderTable, paths: Container[str | None]
) -> tuple[dict[str, float], dict[str, str]]:
    """Read the share of cloud of the masks in *paths*, or the reasons for failure."""
    prefix = _prefix(root)

    def read(path: str) -> float:
        return PlanetCRCloudMask.read_cloud_cover(masks[masks.find(prefix + path)])

    known = [path.removeprefix(prefix) for path in masks.table['filepath'].to_pylist()]
    cover, problems = read_headers(
        [p for p in known if p in paths], read, 'Cloud cover'
    )
    return cover, {path: text.replace(prefix, ROOT) for path, text in problems.items()}


def _save(index: ArchiveIndex, fingerprint: str, key: bytes) -> str | None:
    """Keep an index, with the user's mark, in the first place that can be written."""
    # Columns of integers must stay such, even if numbers of missing files are null.
    frame = index.table.to_pandas(types_mapper=pd.ArrowDtype)
    patches = GeoDataFrame(frame, geometry=_footprints(index), crs=WGS84)
    patches.attrs = {
        # For those who read the file with other programs
        'format': FORMAT,
        'patches': len(patches),
        'fingerprint': fingerprint,
        'notes': index.notes,
        'errors': index.errors,
    }
    errors: list[OSError] = []
    for path in _places(index.root):
        try:
            _check_owner(path)
            # A process that opens the index meanwhile sees the old one or the new one.
            with appears_whole(path) as (unfinished,):
                patches.to_parquet(unfinished, compression='zstd', index=False)
                with open(unfinished, 'r+b') as file:
                    content = add_mark(file.read(), key, FORMAT)
                    file.seek(0)
                    file.write(content)
            return path
        except OSError as error:
            errors.append(error)
    _warn_not_kept(index.root, errors)
    return None


def _check_owner(path: str) -> None:
    """Refuse to replace the index of another user, who would replace it in turn."""
    # Windows does not tell whose a file is
    is_known = os.path.lexists(path) and hasattr(os, 'geteuid')
    if is_known and os.lstat(path).st_uid != os.geteuid():
        raise OSError(f'{path} is the index of another user')


def _warn_not_kept(root: Path, errors: Iterable[OSError]) -> None:
    """Warn that an index cannot be kept."""
    warnings.warn(
        f'The index of {root} cannot be kept and will be made again each time: '
        + '; '.join(map(str, errors)),
        IndexWarning,
    )


def _footprints(index: ArchiveIndex) -> NDArray[np.object_]:
    """Footprint of each patch, None for a patch without a readable file."""
    footprints = np.full(index.table.num_rows, None, dtype=object)
    for modality in GRID_ORDER:
        is_known = index.table[f'{modality}_crs'].is_valid().to_numpy()
        rows = np.flatnonzero(is_known & pd.isna(footprints))
        headers = index.headers(modality).take(rows)
        boxes = to_boxes(headers.bounds())
        footprints[rows] = reproject(boxes, headers.objects('crs'), WGS84)
    return footprints
