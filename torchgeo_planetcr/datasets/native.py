# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Data sets whose pixels keep their own coordinate reference system."""

import abc
import copy
from collections.abc import Callable, Sequence
from typing import Any, Self, SupportsIndex

import numpy as np
import pandas as pd
import shapely
import torch
from geopandas import GeoDataFrame
from numpy.typing import NDArray
from pyproj import CRS
from torchgeo.datasets import GeoDataset, IntersectionDataset
from torchgeo.datasets.utils import GeoSlice, Sample

from ..raster.grid import Grid, crs_name, epsg_code
from .index_view import IndexView
from .slices import NativeSlice

#: Share of a pixel by which rows must overlap with a window to be found.
MIN_OVERLAP = 1e-3


class NativeGeoDataset(GeoDataset, abc.ABC):
    """Abstract base class of data sets that keep the CRS of each row of their index.

    With one CRS, it is an ordinary :class:`~torchgeo.datasets.GeoDataset` that every
    TorchGeo sampler and split helper accepts. With several, the geometry of the index is
    in EPSG:6933 and serves look-up alone; a query must then say its CRS, which a
    :class:`NativeSlice` does.

    Subclasses set :attr:`index` at the start, or override ``_make_index``, and read
    pixels in ``_load``. What must not be pickled, such as open files, they replace in
    ``__getstate__``.
    """

    transforms: Callable[[Sample], Sample] | None = None

    #: Resolution to resample pixels to, None for that of the files.
    resampled_to: tuple[float, float] | None = None

    #: Name of the CRS to warp pixels to, None for those of the files.
    warped_to: str | None = None

    #: View of the index, None until it is first needed.
    _index_view: IndexView | None = None

    @property
    def index(self) -> GeoDataFrame:
        """Index, see :func:`~torchgeo_planetcr.datasets.footprints.native_index`."""
        return self.index_view.index

    @index.setter
    def index(self, index: GeoDataFrame) -> None:
        if index.columns[0] == 0:
            # torchgeo.datasets.random_grid_cell_assignment loses the column names.
            index = index.set_axis([*self.index.columns, 'cell'], axis=1)
            index['geometry'] = index.pop('cell')
            index = index.set_geometry('geometry', crs=self.index.crs)
        self._index_view = IndexView(index, self.warped_to)

    @property
    def index_view(self) -> IndexView:
        """Fast look-ups in the index. A new index gets a new one."""
        if self._index_view is None:
            self._index_view = IndexView(self._make_index(), self.warped_to)
        return self._index_view

    def _make_index(self) -> GeoDataFrame:
        """Make the index of a data set that does not set it at the start."""
        raise NotImplementedError(
            f'{type(self).__name__} has no index: set it, or override `_make_index`'
        )

    def _with_view(self, view: IndexView) -> Self:
        """Copy of this data set with another index."""
        other = copy.copy(self)
        other._index_view = view
        return other

    @property
    def crs(self) -> CRS:
        """:term:`coordinate reference system (CRS)` of the index."""
        return super().crs

    @crs.setter
    def crs(self, new_crs: CRS) -> None:
        if new_crs != self.crs:
            self._require_one_crs('`crs`')
            name, own = type(self).__name__, self.index_view.crs
            raise ValueError(
                f'{name} keeps its pixels in their own CRS and cannot be converted from '
                f'{own} to {crs_name(new_crs)}: put it first, as in '
                f'`{name.lower()}.in_crs({own!r}) & other`'
            )

    @property
    def res(self) -> tuple[float, float]:
        """Resolution (xres, yres) in units of the CRS, that of the first row unless set.

        Raises:
            ValueError: If the data set has several CRSs. This stops TorchGeo's own
                samplers, which would search the whole globe for a patch.
        """
        self._require_one_crs('`res`')
        return self.resampled_to or self.index_view.column('native_res')[0]

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
        xres, yres = self.res if self.index_view.crs else (None, None)
        times = self.index.index
        return (
            slice(xmin, xmax, xres),
            slice(ymin, ymax, yres),
            slice(times.left.min(), times.right.max(), 1),
        )

    def in_crs(self, crs: CRS | str | int) -> Self:
        """Rows of one CRS.

        Args:
            crs: The :term:`coordinate reference system (CRS)` of the wanted rows.

        Returns:
            A single-CRS data set that shares everything else with this one.

        Raises:
            ValueError: If no row has this CRS.
        """
        return self._with_view(self.index_view.in_crs(crs_name(crs)))

    def __and__(self, other: GeoDataset) -> 'NativeIntersectionDataset':
        """Take the intersection with another data set.

        Args:
            other: Another data set, which is converted to the CRS of this one.

        Returns:
            A single data set whose samples have the keys of both.

        Raises:
            ValueError: If this data set has several CRSs.
        """
        return NativeIntersectionDataset(self, other)

    def __or__(self, other: GeoDataset) -> Any:
        """Take the union with another data set of the same CRS.

        Args:
            other: Another data set.

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
        if self.index_view.crs is None:
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
            index: Query [xmin:xmax, ymin:ymax, tmin:tmax] in units of the CRS of the data
                set, or a :class:`NativeSlice`. The window is moved to the nearest pixels
                of the first row that it meets, by half a pixel at most, unless pixels are
                resampled.

        Returns:
            What the data set holds at that place, with ``crs`` (EPSG code, 0 if there is
            none), ``bounds`` and ``transform`` (float64) of the sample's own grid.

        Raises:
            IndexError: If *index* is not found in the data set.
            TypeError: If *index* is a number.
            ValueError: If the data set has several CRSs and *index* does not say which,
                or if *index* is empty.
        """
        if isinstance(index, SupportsIndex):
            raise TypeError(
                f'{type(self).__name__} has no sample number {index}, but one for each '
                'window: give DataLoader a sampler, such as RandomNativePatchSampler, and '
                'no shuffle'
            )
        if not len(self):
            raise IndexError(f'index: {index} not found: the dataset is empty')
        sample = self._for_query(index)._read(index)
        if self.transforms is not None:
            sample = self.transforms(sample)
        return sample

    def _for_query(self, query: GeoSlice) -> Self:
        """This data set, or its part in the CRS of a query that names no file."""
        if not isinstance(query, NativeSlice):
            return self
        crs = self.index_view.crs
        if crs not in (None, query.crs_name):
            raise IndexError(f'{query} not found in a data set in {crs}')
        if crs is not None or query.filepath is not None:
            return self
        try:
            return self._with_view(self.index_view.in_crs(query.crs_name))
        except ValueError as error:
            raise IndexError(f'{query} not found: {error}') from None

    def _read(self, query: GeoSlice) -> Sample:
        """Read a sample, see :meth:`__getitem__`."""
        candidates, (x, y, t) = self._resolve(query)
        if not (x.start < x.stop and y.start < y.stop):
            raise ValueError(f'{query} is empty: write [xmin:xmax, ymin:ymax]')
        sources = [self.index_view.grid(row) for row in candidates]
        rows: list[Any] = []
        if sources:
            grid = self._choose_grid(sources[0], x, y)
            rows = [r for r, s in zip(candidates, sources) if _has_pixels(s, grid)]
        if not rows:
            raise IndexError(
                f'index: {query} not found in dataset with bounds: {self.bounds}'
            )

        xmin, ymin, xmax, ymax = grid.bounds
        times = t.start.timestamp(), t.stop.timestamp(), t.step or 1
        bounds = [xmin, xmax, grid.xres, ymin, ymax, grid.yres, *times]
        sample = self._load(rows, grid)
        sample['crs'] = torch.tensor(epsg_code(grid.crs))
        sample['bounds'] = torch.tensor(bounds, dtype=torch.float64)
        sample['transform'] = torch.tensor(tuple(grid.transform), dtype=torch.float64)
        return sample

    def _resolve(
        self, query: GeoSlice
    ) -> tuple[Sequence[int] | NDArray[np.intp], tuple[slice, slice, slice]]:
        """Rows that a query may meet, and the complete query."""
        if isinstance(query, NativeSlice) and query.filepath is not None:
            row = self._find_file(query.filepath, query.crs_name)
            return [] if row is None else [row], self._complete(query, row)
        self._require_one_crs('A plain slice')
        x, y, t = self._complete(query)
        return self._find_rows(x, y, t), (x, y, t)

    def _find_file(self, filepath: str, crs: str) -> int | None:
        """Row of a file, if its samples have this CRS."""
        view = self.index_view
        row = view.rows.get(filepath)
        if row is None or crs != (self.warped_to or view.column('native_crs')[row]):
            return None
        return row

    def _find_rows(self, x: slice, y: slice, t: slice) -> NDArray[np.intp]:
        """Rows that meet a complete query, in the order of the index."""
        # Rows that only touch the window would add slivers without a pixel.
        dx, dy = (MIN_OVERLAP * res for res in self.res)
        box = shapely.box(x.start + dx, y.start + dy, x.stop - dx, y.stop - dy)
        rows = np.sort(self.index.sindex.query(box, predicate='intersects'))
        times = self.index.index[rows]
        return rows[times.overlaps(pd.Interval(t.start, t.stop))][:: t.step]

    def _complete(
        self, query: GeoSlice, row: int | None = None
    ) -> tuple[slice, slice, slice]:
        """Complete a partial query with the bounds of a row, or of the data set."""
        given = (query,) if isinstance(query, slice) else tuple(query)
        x, y, t = (*given, slice(None), slice(None), slice(None))[:3]
        if any(s.start is None or s.stop is None for s in (x, y, t)):
            bounds = self.bounds if row is None else self._row_bounds(row)
            x, y, t = (
                slice(
                    whole.start if part.start is None else part.start,
                    whole.stop if part.stop is None else part.stop,
                    part.step,
                )
                for part, whole in zip((x, y, t), bounds)
            )
        return x, y, t

    def _row_bounds(self, row: int) -> tuple[slice, slice, slice]:
        """Bounds of a row in the CRS of its samples."""
        grid, time = self.index_view.grid(row), self.index.index[row]
        xmin, ymin, xmax, ymax = grid.bounds_in(self.warped_to or grid.crs)
        return slice(xmin, xmax), slice(ymin, ymax), slice(time.left, time.right)

    def _choose_grid(self, source: Grid, x: slice, y: slice) -> Grid:
        """Grid of the sample at a place whose first row has this grid."""
        xres, yres = self.resampled_to or source.res
        res = (x.step or xres, y.step or yres)
        window = (x.start, y.start, x.stop, y.stop)
        grid = Grid.from_bounds(self.warped_to or source.crs, window, res)
        # Resampled pixels can lie anywhere, the pixels of a file cannot.
        return source.snap(window) if source.same_lattice(grid) else grid

    @abc.abstractmethod
    def _load(self, rows: Sequence[int], grid: Grid) -> Sample:
        """Read pixels.

        Args:
            rows: Positions of the rows of the index that meet *grid*, at least one.
            grid: Grid of the sample.

        Returns:
            The sample without its georeference.
        """


def _has_pixels(source: Grid, grid: Grid) -> bool:
    """Whether a raster covers the center of a pixel of the grid."""
    inside = grid.inside(source.bounds_in(grid.crs))
    return all(part.start < part.stop for part in inside)


class NativeIntersectionDataset(IntersectionDataset):
    """Intersection of a native data set with another TorchGeo data set.

    TorchGeo's own intersection concatenates what both samples call ``image``. Here the
    sample of the first data set stays as it is. A key of the second that the first has
    too is renamed to ``<key>_<second data set in lower case>``, such as
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
            dataset1: The first data set, of one CRS.
            dataset2: The second data set. A copy of it is converted to that CRS: the
                pixels of a :class:`NativeRasterDataset` in another CRS are warped.
            spatial_only: If True, ignore the temporal dimension in the intersection.
            transforms: A function/transform that takes a sample and returns a
                transformed version.

        Raises:
            RuntimeError: If the data sets have no spatiotemporal intersection.
            TypeError: If either data set is not a
                :class:`~torchgeo.datasets.GeoDataset`.
            ValueError: If the first data set has several CRSs.
        """
        if isinstance(dataset1, NativeGeoDataset):
            dataset1._require_one_crs('`&`')
        numbered = copy.copy(dataset1)
        numbered.index = dataset1.index.assign(row=np.arange(len(dataset1)))
        # TorchGeo converts the second data set in place, and others may be using it.
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
            index: Query [xmin:xmax, ymin:ymax, tmin:tmax]. The file of a
                :class:`NativeSlice` is one of the first data set.

        Returns:
            The sample of the first data set, and what the second holds at that place.

        Raises:
            IndexError: If *index* is not found in both data sets.
        """
        first = self.datasets[0][index]
        # The first data set moves the window to its own pixels, and the second follows.
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
            other: Another data set.

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
                    'torchgeo.datasets.IntersectionDataset and your own collate_fn'
                )
            joined[name] = value
        return joined
