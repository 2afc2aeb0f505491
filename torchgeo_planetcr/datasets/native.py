# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Raster data sets whose pixels keep their own coordinate reference system."""

import abc
import copy
import functools
import glob
import os
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import pyarrow as pa
import rasterio.warp
import shapely
import torch
from geopandas import GeoDataFrame, GeoSeries
from numpy.typing import NDArray
from pyproj import CRS, Transformer
from torch import Tensor
from torchgeo.datasets import (
    DatasetNotFoundError,
    GeoDataset,
    IntersectionDataset,
    RasterDataset,
)
from torchgeo.datasets.utils import GeoSlice, Path, Sample, array_to_tensor, find_files

from .grid import Grid, crs_name, epsg_code, mosaic, parse_crs
from .header import HeaderTable, RasterHeader, pack, unpack
from .raster import FileChangedError, read_headers, read_pixels, read_raster_header

#: CRS of an index whose rows have different CRSs: global, equal area, for look-up only.
LOOKUP_CRS = 'EPSG:6933'

#: CRS of longitude and latitude.
DEGREES = 'EPSG:4326'

#: Pieces into which an edge is cut where it is converted to another CRS.
EDGE_PIECES = 32


class NativeSlice(tuple[slice, slice, slice]):
    """A :data:`~torchgeo.datasets.utils.GeoSlice` that knows its CRS.

    It is the tuple ``(x, y, t)`` that every TorchGeo data set accepts as a query, with
    x and y in the units of :attr:`crs`.
    """

    _crs_name: str
    filepath: str | None

    def __new__(
        cls,
        x: slice,
        y: slice,
        t: slice,
        crs: CRS | str | int,
        filepath: str | None = None,
    ) -> Self:
        """Create a new NativeSlice instance.

        Args:
            x: ``slice(xmin, xmax)`` in units of *crs*.
            y: ``slice(ymin, ymax)`` in units of *crs*.
            t: ``slice(tmin, tmax)`` of :class:`pandas.Timestamp`, ``slice(None)`` for any.
            crs: :term:`coordinate reference system (CRS)` of x and y.
            filepath: read from the row of the index with this file alone. Without it,
                a place that several rows cover gets the pixels of the first.
        """
        self = super().__new__(cls, (x, y, t))
        self._crs_name = crs_name(crs)
        self.filepath = filepath
        return self

    @property
    def x(self) -> slice:
        """``slice(xmin, xmax)`` in units of :attr:`crs`."""
        return self[0]

    @property
    def y(self) -> slice:
        """``slice(ymin, ymax)`` in units of :attr:`crs`."""
        return self[1]

    @property
    def t(self) -> slice:
        """``slice(tmin, tmax)``."""
        return self[2]

    @property
    def crs(self) -> CRS:
        """:term:`coordinate reference system (CRS)` of x and y."""
        return parse_crs(self._crs_name)

    def __eq__(self, other: object) -> bool:
        """Compare coordinates, CRS and file.

        Args:
            other: the object to compare with.

        Returns:
            True if both name the same place in the same CRS and file.
        """
        return (
            isinstance(other, NativeSlice)
            and tuple(self) == tuple(other)
            and self._crs_name == other._crs_name
            and self.filepath == other.filepath
        )

    def __ne__(self, other: object) -> bool:
        """Compare coordinates, CRS and file; a tuple has a comparison of its own."""
        return not self == other

    def __hash__(self) -> int:
        """Hash of what :meth:`__eq__` compares."""
        return hash((tuple(self), self._crs_name, self.filepath))

    def __repr__(self) -> str:
        """Expression that makes an equal object."""
        return (
            f'NativeSlice(x={self.x}, y={self.y}, t={self.t}, '
            f'crs={self._crs_name!r}, filepath={self.filepath!r})'
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the name of the CRS, which is small, instead of the CRS."""
        return NativeSlice, (*self, self._crs_name, self.filepath)


def find_in_folder(folder: Path, pattern: str) -> list[str]:
    """Find files in a folder and its folders.

    Args:
        folder: local folder, whatever characters its name has, or VSI path.
        pattern: glob expression for the names of the files.

    Returns:
        Sorted list of paths.
    """
    if os.path.isdir(folder):
        path = os.path.join(glob.escape(os.fspath(folder)), '**', pattern)
        return sorted(glob.iglob(path, recursive=True))
    return find_files(folder, pattern)


def native_index(
    columns: Mapping[str, Any], headers: HeaderTable, datetimes: pd.IntervalIndex
) -> GeoDataFrame:
    """Make the index of a native data set.

    Args:
        columns: columns of the index, ``filepath`` among them.
        headers: headers of the files whose grids the rows have.
        datetimes: time of each row.

    Returns:
        GeoDataFrame with an IntervalIndex named ``datetime``, *columns*, ``native_crs``
        (its name), ``native_res`` (xres, yres), ``native_bounds`` (xmin, ymin, xmax,
        ymax) and ``geometry``: in the native CRS if all rows share it, else in
        EPSG:6933.
    """
    res = zip(headers.numbers('xres').tolist(), headers.numbers('yres').tolist())
    data = {
        **columns,
        'native_crs': headers.objects('crs'),
        'native_res': list(res),
        'native_bounds': list(map(tuple, headers.bounds().tolist())),
    }
    frame = pd.DataFrame(data, index=datetimes.rename('datetime'))
    return GeoDataFrame(frame, geometry=_footprints(frame).array)


def to_boxes(bounds: NDArray[np.float64]) -> NDArray[np.object_]:
    """Make polygons of bounds.

    Args:
        bounds: (xmin, ymin, xmax, ymax) in the columns.

    Returns:
        One polygon for each row.
    """
    xmin, ymin, xmax, ymax = bounds.T
    return shapely.box(xmin, ymin, xmax, ymax)


def _footprints(index: pd.DataFrame) -> GeoSeries:
    """Footprints of the rows, in their one CRS or in EPSG:6933 if they have several."""
    boxes = to_boxes(np.array(index['native_bounds'].tolist()).reshape(-1, 4))
    names = index['native_crs'].to_numpy(dtype=object)
    crs = names[0] if len(set(names)) == 1 else LOOKUP_CRS
    return GeoSeries(reproject(boxes, names, crs), crs=parse_crs(crs))


def reproject(
    polygons: NDArray[np.object_],
    sources: NDArray[np.object_] | str,
    targets: NDArray[np.object_] | str,
) -> NDArray[np.object_]:
    """Convert polygons, each from a CRS of its own to a CRS of its own.

    Args:
        polygons: polygons to convert.
        sources: name of the CRS of each polygon, or of all.
        targets: name of the CRS to convert each polygon to, or all.

    Returns:
        The converted polygons.
    """
    coordinates, owners = shapely.get_coordinates(polygons, return_index=True)
    routes = pd.DataFrame(
        {
            'source': np.broadcast_to(
                np.asarray(sources, dtype=object), polygons.shape
            ),
            'target': np.broadcast_to(
                np.asarray(targets, dtype=object), polygons.shape
            ),
        }
    ).groupby(['source', 'target'])
    kinds = routes.ngroup().to_numpy()[owners]
    order = np.argsort(kinds, kind='stable')
    pairs: list[Any] = list(routes.groups)
    parts = np.split(order, np.cumsum(np.bincount(kinds))[:-1])
    for (source, target), rows in zip(pairs, parts):
        x, y = coordinates[rows].T
        for start, stop in _legs(source, target):
            x, y = _transformer(start, stop).transform(x, y)
        coordinates[rows] = np.stack([x, y], axis=1)
    return shapely.set_coordinates(polygons.copy(), coordinates)


def _legs(source: str, target: str) -> list[tuple[str, str]]:
    """Steps from one CRS to another."""
    if source == target:
        return []
    # PROJ finds the way to degrees forty times as fast as that to another projection.
    if LOOKUP_CRS in (source, target):
        return [(source, DEGREES), (DEGREES, target)]
    return [(source, target)]


@functools.lru_cache(maxsize=1024)
def _transformer(source: str, target: str) -> Transformer:
    """Function that converts coordinates from one CRS to another."""
    crs = parse_crs(source), parse_crs(target)
    return Transformer.from_crs(*crs, always_xy=True)


def kept_parts(index: GeoDataFrame) -> tuple[NDArray[np.object_], NDArray[np.bool_]]:
    """Parts of the patches that the geometry of a native index keeps.

    Split helpers cut the geometry, which need not be in the CRS of the patches.

    Args:
        index: index of a native data set, or of an intersection with one.

    Returns:
        A polygon for each row, in the native CRS of the row, and whether it is the whole
        patch.
    """
    boxes = to_boxes(np.array(index['native_bounds'].tolist()).reshape(-1, 4))
    names = index['native_crs'].to_numpy(dtype=object)
    geometry, crs = index.geometry.to_numpy(), crs_name(index.crs)
    kept, is_whole = boxes.copy(), geometry == reproject(boxes, names, crs)
    # Few are cut, which takes a hundred times as long to find out.
    cut = np.flatnonzero(~is_whole)
    parts = shapely.intersection(reproject(geometry[cut], crs, names[cut]), boxes[cut])
    # There and back again, a coordinate is off by a micrometre.
    is_cut = shapely.area(parts) <= (1 - 1e-7) * shapely.area(boxes[cut])
    kept[cut[is_cut]] = parts[is_cut]
    is_whole[cut] = ~is_cut
    return kept, is_whole


class NativeGeoDataset(GeoDataset, abc.ABC):
    """Abstract base class of data sets that keep the CRS of each row of their index.

    With one CRS, it is an ordinary :class:`~torchgeo.datasets.GeoDataset` that every
    TorchGeo sampler and split helper accepts. With several, the geometry of the index is
    in EPSG:6933 and serves look-up alone; a query must then say its CRS, which a
    :class:`NativeSlice` does.
    """

    transforms: Callable[[Sample], Sample] | None = None

    #: Resolution to resample pixels to, None for that of the files.
    resampled_to: tuple[float, float] | None = None

    #: Name of the CRS to warp pixels to, None for those of the files.
    warped_to: str | None = None

    @property
    def index(self) -> GeoDataFrame:
        """Index, see :func:`~torchgeo_planetcr.datasets.native.native_index`."""
        return self._index

    @index.setter
    def index(self, index: GeoDataFrame) -> None:
        if index.columns[0] == 0:
            # torchgeo.datasets.random_grid_cell_assignment loses the column names.
            index = index.set_axis([*self._index.columns, 'cell'], axis=1)
            index['geometry'] = index.pop('cell')
            index = index.set_geometry('geometry', crs=self._index.crs)
        self._index = index
        self._forget()

    #: What is made of the index at need.
    _made: ClassVar[tuple[str, ...]] = ('_native_crs', '_views', '_columns', '_rows')

    def _forget(self) -> None:
        """Forget what was made of another index."""
        for name in self._made:
            self.__dict__.pop(name, None)

    def __copy__(self) -> Self:
        """Copy without what is made again at need."""
        other = object.__new__(type(self))
        other.__dict__.update(
            {k: v for k, v in self.__dict__.items() if k not in self._made}
        )
        return other

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is made again at need, and compress texts, most of all paths."""
        state = {k: v for k, v in self.__dict__.items() if k not in self._made}
        if '_index' in state:
            index = state.pop('_index')
            dtypes = {
                name: dtype
                for name, dtype in index.dtypes.items()
                if isinstance(dtype, pd.StringDtype)
            }
            table = pa.table(
                {
                    name: pa.array(index[name], pa.string(), from_pandas=True)
                    for name in dtypes
                }
            )
            rest = index.drop(columns=list(dtypes))
            state['_parts_of_index'] = list(index.columns), rest, dtypes, pack(table)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Put the index together again."""
        if '_parts_of_index' in state:
            names, rest, dtypes, texts = state.pop('_parts_of_index')
            columns = unpack(texts).to_pandas().astype(dtypes).set_index(rest.index)
            state['_index'] = rest.assign(**columns)[names]
        self.__dict__.update(state)

    @functools.cached_property
    def _native_crs(self) -> str | None:
        """CRS of all samples, None if they have several."""
        names = self.index['native_crs'].unique()
        return self.warped_to or (str(names[0]) if len(names) == 1 else None)

    @functools.cached_property
    def _views(self) -> dict[str, Self]:
        """Single-CRS views that were queried."""
        return {}

    @functools.cached_property
    def _columns(self) -> dict[str, NDArray[Any]]:
        """Columns of the index that were needed."""
        return {}

    @functools.cached_property
    def _rows(self) -> dict[str, int]:
        """Row of each file."""
        return {path: row for row, path in enumerate(self.index['filepath'])}

    @property
    def crs(self) -> CRS:
        """:term:`coordinate reference system (CRS)` of the index."""
        return super().crs

    @crs.setter
    def crs(self, new_crs: CRS) -> None:
        if new_crs != self.crs:
            self._require_one_crs('`crs`')
            name = type(self).__name__
            raise ValueError(
                f'{name} keeps its pixels in their own CRS and cannot be converted from '
                f'{self._native_crs} to {crs_name(new_crs)}: put it first, as in '
                f'`{name.lower()}.in_crs({self._native_crs!r}) & other`'
            )

    @property
    def res(self) -> tuple[float, float]:
        """Resolution (xres, yres) in units of the CRS, that of the first row unless set.

        Raises:
            ValueError: If the data set has several CRSs. TorchGeo's own samplers, which
                would search the whole globe for a patch, learn it this way.
        """
        self._require_one_crs('`res`')
        return self.resampled_to or self._column('native_res')[0]

    @res.setter
    def res(self, new_res: float | tuple[float, float]) -> None:
        if isinstance(new_res, int | float):
            new_res = (new_res, new_res)
        if tuple(new_res) != self.res:
            print(
                f'Converting {type(self).__name__} res from {self.res} to {tuple(new_res)}'
            )
            self.resampled_to = tuple(new_res)

    @property
    def bounds(self) -> tuple[slice, slice, slice]:
        """Bounds of the index; without steps in x and y if it has several CRSs.

        Returns:
            Bounding x, y, and t slices.
        """
        xmin, ymin, xmax, ymax = self.index.total_bounds
        xres, yres = self.res if self._native_crs else (None, None)
        times = self.index.index
        return (
            slice(xmin, xmax, xres),
            slice(ymin, ymax, yres),
            slice(times.left.min(), times.right.max(), 1),
        )

    def in_crs(self, crs: CRS | str | int) -> Self:
        """Rows of one CRS.

        Args:
            crs: :term:`coordinate reference system (CRS)` of the wanted rows.

        Returns:
            A single-CRS data set that shares everything else with this one.

        Raises:
            ValueError: If no row has this CRS.
        """
        name = crs_name(crs)
        view = self._select((self.index['native_crs'] == name).to_numpy())
        if not len(view):
            known = ', '.join(sorted(self.index['native_crs'].unique()))
            raise ValueError(
                f'crs={name!r} is not among those of the data set: {known}'
            )
        return view

    def _select(self, rows: NDArray[Any]) -> Self:
        """Copy of this data set with some of the rows."""
        view = copy.copy(self)
        index = self.index[rows]
        if self._native_crs is None and index['native_crs'].nunique() == 1:
            geometry, _ = kept_parts(index)
            index = index.set_geometry(
                GeoSeries(geometry, crs=parse_crs(index['native_crs'].iloc[0])).array
            )
        view.index = index
        return view

    def __and__(self, other: GeoDataset) -> 'NativeIntersectionDataset':
        """Take the intersection with another data set.

        Args:
            other: another data set, which is converted to the CRS of this one.

        Returns:
            A single data set whose samples have the keys of both.

        Raises:
            ValueError: If this data set has several CRSs.
        """
        return NativeIntersectionDataset(self, other)

    def __or__(self, other: GeoDataset) -> Any:
        """Take the union with another data set of the same CRS.

        Args:
            other: another data set.

        Returns:
            A single data set.

        Raises:
            ValueError: If this data set has several CRSs.
        """
        for dataset in (self, other):
            if isinstance(dataset, NativeGeoDataset):
                dataset._require_one_crs('`|`')
        return super().__or__(other)

    def _require_one_crs(self, what: str) -> None:
        """Refuse what needs a single CRS.

        Raises:
            ValueError: If the data set has several CRSs.
        """
        if not len(self):
            raise ValueError(f'{what} needs a CRS, but this data set is empty')
        if self._native_crs is None:
            names = sorted(self.index['native_crs'].unique())
            raise ValueError(
                f'{what} needs one CRS, but this data set has {len(names)} '
                f'({", ".join(names[:3])}, ...): use `dataset.in_crs({names[0]!r})`, or '
                'query with a NativeSlice(x, y, t, crs), as the samplers of '
                'torchgeo_planetcr.samplers do'
            )

    def __getitem__(self, index: GeoSlice) -> Sample:
        """Retrieve a sample at a place.

        Args:
            index: [xmin:xmax, ymin:ymax, tmin:tmax] in units of the CRS of the data set,
                or a :class:`NativeSlice`. The window is moved to the nearest pixels of
                the first row that it meets, by half a pixel at most, unless pixels are
                resampled.

        Returns:
            What the data set holds at that place, with ``crs`` (EPSG code, 0 if there is
            none), ``bounds`` and ``transform`` (float64) of the sample's own grid.

        Raises:
            IndexError: If *index* is not found in the data set.
            ValueError: If the data set has several CRSs and *index* does not say which,
                or if *index* is empty.
        """
        sample = self._read(index)
        if self.transforms is not None:
            sample = self.transforms(sample)
        return sample

    def _read(self, index: GeoSlice) -> Sample:
        """Read a sample, see :meth:`__getitem__`."""
        if not len(self):
            raise IndexError(f'index: {index} not found: the dataset is empty')
        name, filepath = '', None
        if isinstance(index, NativeSlice):
            name, filepath = index._crs_name, index.filepath
            if self._native_crs not in (None, name):
                raise IndexError(
                    f'{index} not found in a data set in {self._native_crs}'
                )
            if self._native_crs is None and filepath is None:
                if name not in self._views:
                    try:
                        self._views[name] = self.in_crs(name)
                    except ValueError as error:
                        raise IndexError(f'{index} not found: {error}') from None
                return self._views[name]._read(index)

        if filepath is None:
            self._require_one_crs('A plain slice')
            x, y, t = self._complete(index)
            found = self._find_rows(x, y, t)
        else:
            found = self._find_file(filepath, name)
            x, y, t = self._complete(index, *found)
        if not (x.start < x.stop and y.start < y.stop):
            raise ValueError(f'{index} is empty: write [xmin:xmax, ymin:ymax]')
        grid = None
        rows = []
        for row in found:
            source = self._grid(row)
            if grid is None:
                xres, yres = self.resampled_to or source.res
                res = (x.step or xres, y.step or yres)
                window = (x.start, y.start, x.stop, y.stop)
                grid = Grid.from_bounds(self.warped_to or source.crs, window, res)
                # What is resampled can be had anywhere, the pixels of a file cannot.
                if source.same_lattice(grid):
                    grid = source.snap(window)
            # A row may meet the window with less than half a pixel.
            inside = grid.inside(source.bounds_in(grid.crs))
            if all(part.start < part.stop for part in inside):
                rows.append(row)
        if grid is None or not rows:
            raise IndexError(
                f'index: {index} not found in dataset with bounds: {self.bounds}'
            )

        xmin, ymin, xmax, ymax = grid.bounds
        times = t.start.timestamp(), t.stop.timestamp(), t.step or 1
        bounds = [xmin, xmax, grid.xres, ymin, ymax, grid.yres, *times]
        sample = self._load(rows, grid)
        sample['crs'] = torch.tensor(epsg_code(grid.crs))
        sample['bounds'] = torch.tensor(bounds, dtype=torch.float64)
        sample['transform'] = torch.tensor(tuple(grid.transform), dtype=torch.float64)
        return sample

    def _complete(self, index: GeoSlice, *rows: int) -> tuple[slice, slice, slice]:
        """Complete a partial query with the bounds of a row, or of the data set."""
        given = (index,) if isinstance(index, slice) else tuple(index)
        x, y, t = (*given, slice(None), slice(None), slice(None))[:3]
        if any(s.start is None or s.stop is None for s in (x, y, t)):
            x, y, t = (
                slice(
                    whole.start if part.start is None else part.start,
                    whole.stop if part.stop is None else part.stop,
                    part.step,
                )
                for part, whole in zip((x, y, t), self._bounds(*rows))
            )
        return x, y, t

    def _bounds(self, *rows: int) -> tuple[slice, slice, slice]:
        """Bounds of a row in the CRS of its samples, or of the data set."""
        if not rows:
            return self.bounds
        (row,) = rows
        grid, time = self._grid(row), self.index.index[row]
        xmin, ymin, xmax, ymax = grid.bounds_in(self.warped_to or grid.crs)
        return slice(xmin, xmax), slice(ymin, ymax), slice(time.left, time.right)

    def _find_file(self, filepath: str, crs: str) -> list[int]:
        """Row of a file, if its samples have this CRS."""
        row = self._rows.get(filepath)
        if row is None or crs != (self.warped_to or self._column('native_crs')[row]):
            return []
        return [row]

    def _find_rows(self, x: slice, y: slice, t: slice) -> NDArray[np.intp]:
        """Rows that meet a complete query, in the order of the index."""
        # Rows that only touch the window would add slivers without a pixel.
        dx, dy = (1e-3 * res for res in self.res)
        box = shapely.box(x.start + dx, y.start + dy, x.stop - dx, y.stop - dy)
        rows = np.sort(self.index.sindex.query(box, predicate='intersects'))
        times = self.index.index[rows]
        return rows[times.overlaps(pd.Interval(t.start, t.stop))][:: t.step]

    def _column(self, name: str) -> NDArray[Any]:
        """Column of the index; a look-up in pandas would cost as much as reading."""
        if name not in self._columns:
            self._columns[name] = self.index[name].to_numpy()
        return self._columns[name]

    def _grid(self, row: int) -> Grid:
        """Pixel grid of a row of the index."""
        columns = ('native_crs', 'native_bounds', 'native_res')
        return Grid.from_bounds(*(self._column(column)[row] for column in columns))

    @abc.abstractmethod
    def _load(self, rows: Sequence[int], grid: Grid) -> Sample:
        """Read pixels.

        Args:
            rows: positions of the rows of the index that meet *grid*, at least one.
            grid: grid of the sample.

        Returns:
            The sample without its georeference.
        """


class NativeRasterDataset(NativeGeoDataset, RasterDataset):
    """Raster files of any number of CRSs, each read on its own pixel grid.

    Unlike :class:`~torchgeo.datasets.RasterDataset`, no pixel is reprojected: its files
    keep their CRS, a window is read from the grid of the file, and a sample says in
    ``crs``, ``bounds`` and ``transform`` where that is. Only if the resolution or the
    CRS is set, as ``&`` does for its second data set, are pixels resampled.

    Subclasses may set :attr:`driver` and these class attributes of
    :class:`~torchgeo.datasets.RasterDataset`: ``filename_glob``, ``filename_regex``,
    ``date_format``, ``is_image``, ``all_bands``, ``rgb_bands`` and ``nodata``.

    Files must be north-up and georeferenced.
    """

    #: The one GDAL driver that may read the files, None for any.
    driver: str | None = None

    def __init__(
        self,
        paths: Path | Iterable[Path] = 'data',
        bands: Sequence[str] | None = None,
        transforms: Callable[[Sample], Sample] | None = None,
        strict: bool = False,
        headers: HeaderTable | None = None,
    ) -> None:
        """Initialize a new NativeRasterDataset instance.

        Args:
            paths: one or more root directories to search or files to load
            bands: bands to return (defaults to all bands)
            transforms: a function/transform that takes an input sample
                and returns a transformed version
            strict: raise an error for an unreadable file instead of a warning
            headers: headers of all files, if they are known already; *paths* is then
                not searched

        Raises:
            DatasetNotFoundError: If no readable file is found.
            OSError: If *strict* and a file is unreadable.
            ValueError: If *bands* are unknown.
        """
        self.paths = paths
        self.transforms = transforms
        self.bands = tuple(bands or self.all_bands)
        if unknown := set(self.bands) - set(self.all_bands):
            raise ValueError(
                f'bands={sorted(unknown)} are not among all_bands={self.all_bands}'
            )
        self.band_indexes = [self.all_bands.index(band) + 1 for band in self.bands]

        if headers is None:
            found, problems = read_headers(self.files, self.read_header)
            if problems:
                report_problems('file', problems, strict)
            headers = HeaderTable.from_headers(found.values())
        if not len(headers):
            raise DatasetNotFoundError(self)
        #: What is known of the files, in the order of the index at the start.
        self.headers = headers
        if self.nodata is None:
            self.nodata = headers[0].nodata

    @functools.cached_property
    def _index(self) -> GeoDataFrame:
        """Index of the data set, made when it is first used."""
        filepaths = self.headers.table['filepath'].to_pandas()
        times = [self._filepath_to_timestamp(filepath) for filepath in filepaths]
        index = pd.IntervalIndex.from_tuples(times, closed='both')
        return native_index({'filepath': filepaths.array}, self.headers, index)

    @property
    def crs(self) -> CRS:
        """:term:`coordinate reference system (CRS)` of the index.

        Pixels of files in another CRS than the one set are warped to it: those of
        Sentinel-1, say, to the CRS of a PlanetScope scene, which ``scenes & sentinel1``
        does.
        """
        return super().crs

    @crs.setter
    def crs(self, new_crs: CRS) -> None:
        name = crs_name(new_crs)
        if name == self._native_crs:
            return
        print(f'Converting {type(self).__name__} CRS from {self.crs} to {new_crs}')
        parts, _ = kept_parts(self.index)
        # The straight edge of a scene is a bow in another CRS.
        lengths = np.sqrt(shapely.area(parts)) / EDGE_PIECES
        parts = shapely.segmentize(parts, lengths)
        parts = reproject(parts, self._column('native_crs'), name)
        self.warped_to = name
        self.index = self.index.set_geometry(
            GeoSeries(parts, crs=parse_crs(name)).array
        )

    @property
    def files(self) -> list[str]:
        """All files of the data set.

        A folder is searched for ``filename_glob``; a file that is named in *paths*
        belongs to the data set whatever its name.
        """
        paths = (
            [self.paths] if isinstance(self.paths, str | os.PathLike) else self.paths
        )
        files: set[str] = set()
        for path in paths:
            if os.path.isfile(path):
                files.add(str(path))
            elif found := find_in_folder(path, self.filename_glob):
                regex = re.compile(self.filename_regex, re.VERBOSE)
                files.update(
                    file
                    for file in found
                    if regex.match(os.path.basename(file)) and not os.path.isdir(file)
                )
            elif not os.path.isdir(path):
                warnings.warn(
                    f"Could not find any relevant files for provided path '{path}'. "
                    'Path was ignored.',
                    UserWarning,
                )
        return sorted(files)

    @classmethod
    def read_header(cls, filepath: str) -> RasterHeader:
        """Read the header of one file.

        Args:
            filepath: file to read.

        Returns:
            The header.

        Raises:
            OSError: If the file cannot be read.
            ValueError: If the file does not suit the data set.
        """
        return read_raster_header(filepath, len(cls.all_bands), cls.driver)

    def read_window(
        self, header: RasterHeader, row: int, col: int, height: int, width: int
    ) -> NDArray[Any]:
        """Read a window inside a file.

        Args:
            header: header of the file.
            row: first row.
            col: first column.
            height: number of rows.
            width: number of columns.

        Returns:
            Array of shape (C, height, width), in the type of the file.

        Raises:
            OSError: If the file cannot be read, or has changed to one on another grid.
        """
        window = row, col, height, width
        try:
            return self._read_window(header, *window)
        except FileChangedError:
            current = self.read_header(header.filepath)
            if current.grid != header.grid:
                raise OSError(
                    f'{header.filepath} has changed: open the data set again'
                ) from None
            return self._read_window(current, *window)
        except OSError as error:
            raise OSError(
                f'{header.filepath} cannot be read, copy it again: {error}'
            ) from error

    def _read_window(
        self, header: RasterHeader, row: int, col: int, height: int, width: int
    ) -> NDArray[Any]:
        """Read a window of a file that has not changed, see :meth:`read_window`."""
        bands, driver = self.band_indexes or (), self.driver
        return read_pixels(header, row, col, height, width, bands, driver)

    @property
    def fill(self) -> float:
        """Value of pixels without data, ``nodata`` or 0 if there is none."""
        return 0 if self.nodata is None else self.nodata

    def read_mosaic(
        self, headers: Iterable[RasterHeader], grid: Grid, nodata: float | None = None
    ) -> NDArray[Any]:
        """Read files on one grid, the first on top.

        Args:
            headers: headers of the files that meet *grid*.
            grid: grid of the result.
            nodata: value of pixels through which the files below show, if any.

        Returns:
            Array of shape (C, H, W); pixels that no file covers are :attr:`fill`.
        """
        parts = []
        for header in headers:
            read = functools.partial(self._read_onto, header)
            parts.append((header.grid.bounds_in(grid.crs), read))
        return mosaic(grid, parts, self.fill, nodata)

    def _read_onto(self, header: RasterHeader, target: Grid) -> NDArray[Any]:
        """Read the part of a file that lies under *target*."""
        source = header.grid
        if source.same_lattice(target):
            row, col = source.offset(target)
            row = min(max(row, 0), source.height - target.height)
            col = min(max(col, 0), source.width - target.width)
            return self.read_window(header, row, col, target.height, target.width)
        # All source pixels that an interpolation at the edge of the target may need.
        xmin, ymin, xmax, ymax = target.bounds_in(source.crs)
        dx = 2 * max((xmax - xmin) / target.width, source.xres)
        dy = 2 * max((ymax - ymin) / target.height, source.yres)
        rows, cols = source.inside((xmin - dx, ymin - dy, xmax + dx, ymax + dy))
        height, width = rows.stop - rows.start, cols.stop - cols.start
        if not (height and width):
            shape = len(self.band_indexes or [1]), target.height, target.width
            return np.ma.masked_all(shape)
        array = self.read_window(header, rows.start, cols.start, height, width)
        window = source.window(rows.start, cols.start, height, width)
        grids: dict[str, Any] = {
            'src_transform': window.transform,
            'src_crs': window.crs,
            'dst_transform': target.transform,
            'dst_crs': target.crs,
        }
        shape = target.height, target.width
        result = np.full((len(array), *shape), self.fill, array.dtype)
        rasterio.warp.reproject(
            array,
            result,
            **grids,
            src_nodata=self.nodata,
            dst_nodata=self.nodata,
            resampling=self.resampling,
        )
        if source.crs == target.crs:
            return result
        # A rectangle in one CRS is none in the other: corners have no source pixel.
        covered = np.zeros(shape, dtype=np.uint8)
        rasterio.warp.reproject(np.ones(array.shape[1:], np.uint8), covered, **grids)
        return np.ma.MaskedArray(result, np.broadcast_to(covered == 0, result.shape))

    def _load(self, rows: Sequence[int], grid: Grid) -> Sample:
        """Read pixels, see :meth:`NativeGeoDataset._load`."""
        filepaths = self._column('filepath')[rows]
        headers = [self.headers[self.headers.find(path)] for path in filepaths]
        data = self.to_tensor(self.read_mosaic(headers, grid, self.nodata))
        return {'image': data} if self.is_image else {'mask': data.squeeze(0)}

    def to_tensor(self, array: NDArray[Any]) -> Tensor:
        """Turn pixels of the files into those of a sample.

        Args:
            array: pixels of the files, (C, H, W).

        Returns:
            Tensor of the same shape, in the ``dtype`` of the data set.
        """
        if self.dtype == torch.float32:
            return torch.from_numpy(array.astype(np.float32, order='C'))
        return array_to_tensor(array).to(self.dtype)


class NativeIntersectionDataset(IntersectionDataset):
    """Intersection of a native data set with another TorchGeo data set.

    TorchGeo's own intersection concatenates what both samples call ``image``. Here the
    sample of the first data set stays as it is, and a key of the second that the first
    has too is renamed to ``<key>_<second data set in lower case>``, such as
    ``image_sentinel2``, which Kornia still knows as an image.

    The index keeps the rows of the first data set, each with the part of its footprint
    that the second covers.
    """

    def __init__(
        self,
        dataset1: GeoDataset,
        dataset2: GeoDataset,
        spatial_only: bool = False,
        transforms: Callable[[Sample], Sample] | None = None,
    ) -> None:
        """Initialize a new NativeIntersectionDataset instance.

        Args:
            dataset1: the first data set, of one CRS
            dataset2: the second data set, whose copy is converted to that CRS: the
                pixels of a :class:`NativeRasterDataset` in another are warped
            spatial_only: if True, ignore temporal dimension when computing intersection
            transforms: a function/transform that takes a sample and returns a
                transformed version

        Raises:
            RuntimeError: if the data sets have no spatiotemporal intersection
            TypeError: if either data set is not a :class:`~torchgeo.datasets.GeoDataset`
            ValueError: if the first data set has several CRSs
        """
        if isinstance(dataset1, NativeGeoDataset):
            dataset1._require_one_crs('`&`')
        numbered = copy.copy(dataset1)
        numbered.index = dataset1.index.assign(row=np.arange(len(dataset1)))
        # TorchGeo converts the second data set in place, which may be in use elsewhere.
        super().__init__(
            numbered,
            copy.deepcopy(dataset2),
            spatial_only,
            self._join_samples,
            transforms,
        )
        self.datasets[0] = dataset1

        # TorchGeo's index has a row for each pair of files, which would cut patches to
        # pieces and count some of them twice.
        times = self.index.index
        pairs = GeoDataFrame(
            {'row': self.index['row'].array, 'left': times.left, 'right': times.right},
            geometry=self.index.geometry.array,
        )
        patches = pairs.dissolve(by=['row', 'left', 'right'])
        rows, left, right = map(patches.index.get_level_values, range(3))
        index = dataset1.index.iloc[rows].set_geometry(patches.geometry.array)
        self.index = index.set_index(
            pd.IntervalIndex.from_arrays(left, right, closed='both', name='datetime')
        )

    def __getitem__(self, index: GeoSlice) -> Sample:
        """Retrieve a sample at a place.

        Args:
            index: [xmin:xmax, ymin:ymax, tmin:tmax] coordinates to index. The file of a
                :class:`NativeSlice` is one of the first data set.

        Returns:
            The sample of the first data set, and what the second holds at that place.

        Raises:
            IndexError: If *index* is not found in both data sets.
        """
        first = self.datasets[0][index]
        # The first moves the window to its own pixels, and the second must follow.
        xmin, xmax, _, ymin, ymax, *_ = first['bounds'].tolist()
        x, y = slice(xmin, xmax), slice(ymin, ymax)
        t = index[2] if isinstance(index, tuple) and len(index) == 3 else slice(None)
        place = NativeSlice(x, y, t, self.crs)
        sample = self.collate_fn([first, self.datasets[1][place]])
        if self.transforms is not None:
            sample = self.transforms(sample)
        return sample

    @property
    def resampled_to(self) -> tuple[float, float] | None:
        """Resolution that the first data set is resampled to, None for its own."""
        return getattr(self.datasets[0], 'resampled_to', None)

    def __and__(self, other: GeoDataset) -> 'NativeIntersectionDataset':
        """Take the intersection with one more data set.

        Args:
            other: another data set.

        Returns:
            A single data set whose samples have the keys of all.
        """
        return NativeIntersectionDataset(self, other)

    def _join_samples(self, samples: Sequence[Sample]) -> Sample:
        """Join two samples of the same place without touching the first."""
        first, second = samples
        joined = dict(first)
        suffix = type(self.datasets[1]).__name__.lower()
        for key, value in second.items():
            if key in ('bounds', 'crs', 'transform'):
                continue
            name = f'{key}_{suffix}' if key in first else key
            if name in joined:
                raise ValueError(
                    f'two data sets give {name!r}: join them with '
                    'torchgeo.datasets.IntersectionDataset and a collate_fn of your own'
                )
            joined[name] = value
        return joined


class LeftOutWarning(UserWarning):
    """Some files or patches cannot be used and are left out."""


def report_problems(noun: str, problems: Mapping[str, str], strict: bool) -> None:
    """Report files or patches that cannot be used.

    Args:
        noun: what they are, in the singular.
        problems: the reason for each.
        strict: raise an error instead of a warning.

    Raises:
        OSError: If *strict*.
    """
    examples = '; '.join(list(problems.values())[:3])
    message = f'{len(problems)} {noun}(s) cannot be used: {examples}'
    if len(problems) > 3:
        message += '; ...'
    if strict:
        raise OSError(message)
    warnings.warn(f'{message}. The rest is used.', LeftOutWarning, stacklevel=3)
