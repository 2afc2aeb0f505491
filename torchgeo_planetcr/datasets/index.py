# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Index of a Planet-CR folder, which is kept from one opening to the next.

The headers of all files are read once and kept in a GeoParquet file of all patches, which
geopandas and QGIS open too. Its content is checked each time: the size and modification time
of each file are compared, and the headers of files that have changed are read again.
"""

import contextlib
import hashlib
import json
import os
import warnings
from collections.abc import Container, Mapping
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

from ..raster.header import HEADER_SCHEMA, HeaderTable, RasterHeader, Stamp
from ..raster.read import read_headers
from ..raster.write import appears_whole
from .archive import TEXT_COLUMNS, Listing, list_patches
from .components import COMPONENTS, PlanetCRCloudMask
from .footprints import WGS84, reproject, to_boxes
from .modalities import GRID_ORDER, MODALITIES, ModalityName

#: Name of the index in the folder that it describes.
FILENAME = 'planetcr_index.parquet'

#: Version of the columns and what they mean, and of the way in which headers are read.
FORMAT = 1

#: Columns of a patch, without those of its files.
PATCH_COLUMNS = (*TEXT_COLUMNS, 'cloud_cover')

#: Columns of a file of a patch: its header, or the reason why it cannot be read.
FILE_SCHEMA = HEADER_SCHEMA.append(pa.field('problem', pa.string()))

#: Text that replaces the folder in the reasons why files cannot be read, as the folder may
#: be moved.
ROOT = '{root}/'


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

    It is kept in ``planetcr_index.parquet`` in *root* or, if that cannot be written, in
    the user's cache folder. Only files that were added or changed, and those that could
    not be read before, are read.

    Args:
        root: Folder that holds ``train`` and ``test``.

    Returns:
        The index; empty if there is no patch.

    Raises:
        OSError: If a folder cannot be read.
    """
    listing = Listing(root)
    known, fingerprint = _load(root)
    if fingerprint == listing.fingerprint and not _can_read_more(known):
        return known
    index = _update(listing, known)
    if index.table.num_rows:
        _save(index, listing.fingerprint)
    return index


def _prefix(root: Path) -> str:
    """Start of the paths of all files in a folder."""
    return os.path.join(root or os.curdir, '')


def index_path(root: Path) -> str | None:
    """Path of the kept index of a folder.

    Args:
        root: Folder that holds ``train`` and ``test``.

    Returns:
        The newest index in the possible places, None if there is none.
    """
    times: dict[str, float] = {}
    for path in _places(root):
        # Another process may replace it at this moment.
        with contextlib.suppress(OSError):
            if os.path.isfile(path):
                times[path] = os.path.getmtime(path)
    return max(times, key=lambda path: times[path], default=None)


def _places(root: Path) -> tuple[str, str]:
    """Where an index may be kept: in the folder, or in the user's cache folder."""
    folder = os.fsencode(os.path.realpath(root))
    name = hashlib.blake2b(folder, digest_size=8).hexdigest()
    cache = platformdirs.user_cache_dir('torchgeo-planetcr', appauthor=False)
    return _prefix(root) + FILENAME, os.path.join(cache, f'{name}.parquet')


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


def _load(root: Path) -> tuple[ArchiveIndex, str | None]:
    """Load the kept index and the fingerprint of its files, or make an empty index."""
    schema = _index_schema()
    path = index_path(root)
    if path is not None:
        try:
            with pq.ParquetFile(path, page_checksum_verification=True) as file:
                kept = json.loads(file.schema_arrow.metadata[b'PANDAS_ATTRS'])
                if kept['format'] != FORMAT:
                    raise ValueError(f'it has format {kept["format"]}, not {FORMAT}')
                if kept['patches'] != file.metadata.num_rows:
                    raise ValueError('it holds other patches than were indexed')
                table = file.read(schema.names).cast(schema)
            index = ArchiveIndex(root, table, kept['notes'], kept['errors'])
            return index, kept['fingerprint']
        # Arrow raises almost any kind of error for a damaged file.
        except Exception as error:  # noqa: BLE001
            warnings.warn(
                f'The index {path} cannot be used and is made again: {error}',
                UserWarning,
            )
    return ArchiveIndex(root, schema.empty_table(), {}, {}), None


def _can_read_more(index: ArchiveIndex) -> bool:
    """Whether a file can be read now that could not when the index was made."""
    for modality in MODALITIES:
        problems = index.column(f'{modality}_problem')
        if problems.notna().any():
            paths = index.filepaths(modality)[problems.notna()].tolist()
            found, _ = read_headers(paths, COMPONENTS[modality].read_header)
            if found:
                return True
    return False


def _update(listing: Listing, known: ArchiveIndex) -> ArchiveIndex:
    """Make an index, and reuse what is known of files that have not changed."""
    root, files = listing.root, listing.files()
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
        table = pa.concat_tables([old, _read_files(root, modality, missing)])
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


def _read_files(root: Path, modality: ModalityName, paths: list[str]) -> pa.Table:
    """Read the headers of files. Those that cannot be read have a problem instead."""
    prefix = _prefix(os.path.abspath(root))

    def read(path: str) -> RasterHeader:
        header = COMPONENTS[modality].read_header(prefix + path)
        return header._replace(filepath=path)

    headers, problems = read_headers(paths, read, f'Indexing {modality}')
    found = HeaderTable.from_headers(headers.values()).table
    unreadable = [
        {'filepath': path, 'problem': problem.replace(prefix, ROOT)}
        for path, problem in problems.items()
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


def _save(index: ArchiveIndex, fingerprint: str) -> None:
    """Keep an index in the first place that can be written."""
    # Columns of integers must stay such, even if numbers of missing files are null.
    frame = index.table.to_pandas(types_mapper=pd.ArrowDtype)
    patches = GeoDataFrame(frame, geometry=_footprints(index), crs=WGS84)
    patches.attrs = {
        'format': FORMAT,
        'fingerprint': fingerprint,
        'patches': len(patches),
        'notes': index.notes,
        'errors': index.errors,
    }
    errors = []
    for path in _places(index.root):
        try:
            # A process that opens the index meanwhile sees the old one or the new one.
            with appears_whole(path) as (unfinished,):
                patches.to_parquet(
                    unfinished,
                    compression='zstd',
                    index=False,
                    write_page_checksum=True,
                )
            return
        except OSError as error:
            errors.append(str(error))
    warnings.warn(
        f'The index of {index.root} cannot be kept and will be made again each time: '
        + '; '.join(errors),
        UserWarning,
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
