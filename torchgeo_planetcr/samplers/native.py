# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Samplers that stay inside the patches of a native data set."""

import abc
import math
import operator
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import shapely
import torch
from geopandas import GeoDataFrame
from numpy.random import BitGenerator, Generator, RandomState, SeedSequence
from numpy.typing import NDArray
from shapely import MultiPolygon, Polygon
from torch import distributed
from torch.utils.data import DistributedSampler
from torchgeo.datasets import GeoDataset
from torchgeo.datasets.utils import GeoSlice
from torchgeo.samplers import GeoSampler

from ..datasets.footprints import (
    WGS84,
    clip_footprints,
    native_bounds,
    reproject,
    to_boxes,
)
from ..datasets.slices import NativeSlice

#: Times that windows are drawn at most, until enough lie in the region of interest.
MAX_DRAWS = 1000

#: Windows that are drawn in addition, as some lie outside of the region of interest.
SPARE_DRAWS = 100

#: Row of the index and upper left corner, (row, column) in the patch, of each window.
Windows = tuple[NDArray[np.intp], NDArray[np.intp]]

#: Share of a pixel by which coordinates may be off.
TOLERANCE = 1e-3


def check_size(size: tuple[int, int] | int, name: str) -> tuple[int, int]:
    """Check a number of pixels, or a pair of them.

    Args:
        size: Number of rows and columns, or (rows, columns).
        name: Name of the argument, for the error.

    Returns:
        (rows, columns).

    Raises:
        ValueError: If *size* is neither, or not positive.
    """
    pair = size if isinstance(size, Sequence) else (size, size)
    try:
        height, width = (operator.index(number) for number in pair)
    except (TypeError, ValueError):
        height = width = 0
    if height < 1 or width < 1:
        raise ValueError(
            f'{name}={size!r} must be a positive number of pixels, or (height, width)'
        )
    return height, width


def count_processes() -> int:
    """Number of processes that share the windows: 1 without a process group."""
    initialized = distributed.is_available() and distributed.is_initialized()
    return distributed.get_world_size() if initialized else 1


def pixel_ranges(index: GeoDataFrame) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Ranges of pixels of the patches that the geometry of a native index covers.

    Args:
        index: Index of a native data set, or of an intersection with one.

    Returns:
        First and last (row, column), the last exclusive, of each patch, both of shape
        (N, 2).
    """
    parts, _ = clip_footprints(index)
    return _pixel_ranges(
        shapely.bounds(parts), native_bounds(index), _native_res(index)
    )


def _native_res(index: GeoDataFrame) -> NDArray[np.float64]:
    """Resolution (xres, yres) of the patches, of shape (N, 2)."""
    return np.array(index['native_res'].tolist()).reshape(-1, 2)


def _pixel_ranges(
    bounds: NDArray[np.float64],
    patch_bounds: NDArray[np.float64],
    res: NDArray[np.float64],
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """First and last (row, column), exclusive, of the whole pixels in *bounds*."""
    xmin, ymin, xmax, ymax = bounds.T
    west, _, _, north = patch_bounds.T
    xres, yres = res.T
    start = np.stack([(north - ymax) / yres, (xmin - west) / xres], axis=1)
    stop = np.stack([(north - ymin) / yres, (xmax - west) / xres], axis=1)
    start, stop = np.ceil(start - TOLERANCE), np.floor(stop + TOLERANCE)
    return start.astype(np.intp), stop.astype(np.intp)


class NativePatchSampler(GeoSampler, DistributedSampler[GeoSlice], abc.ABC):
    """Abstract base class of samplers on the pixel grid of each patch.

    A patch is a row of the index of the data set. Every window lies wholly inside one
    patch, inside the part of it that the geometry of the index covers (split helpers cut
    it), and inside the region of interest.

    If a process group of :mod:`torch.distributed` is set up when an epoch starts, its
    processes share the windows: process *r* of *W* takes windows *r*, *r + W*, and so on.
    If there are fewer windows than processes, each process takes all of them: Lightning
    fails if a process has no batch, and a mean over all processes stays the same.

    It is a :class:`~torch.utils.data.DistributedSampler` because Lightning wraps any other
    sampler in one, which would repeat windows and draw the same windows in each epoch.
    """

    def __init__(
        self,
        dataset: GeoDataset,
        *,
        size: tuple[int, int] | int | None,
        roi: Polygon | MultiPolygon | None = None,
    ) -> None:
        """Initialize a new NativePatchSampler instance.

        Args:
            dataset: Native data set to sample from, such as
                :class:`~torchgeo_planetcr.datasets.PlanetCR`, or an intersection with
                one.
            size: Height and width of each window in pixels; None for whole patches.
            roi: Region of interest in EPSG:4326 (longitude, latitude), in which a window
                must lie as a whole (defaults to everywhere).

        Raises:
            TypeError: If *dataset* does not keep native grids.
            ValueError: If *size* is larger than a patch, or the CRS of *dataset* was set.
        """
        # Without DistributedSampler.__init__, which needs the process group at once
        self.epoch = 0
        self._taken = 0, 0
        index = dataset.index
        if 'native_crs' not in index:
            raise TypeError(
                f'{type(dataset).__name__} has no native grids in its index: use the '
                'samplers of torchgeo.samplers'
            )
        if warped_to := getattr(dataset, 'warped_to', None):
            raise ValueError(
                f'pixels of {type(dataset).__name__} are warped to {warped_to}, where its '
                'files have no grid: use the samplers of torchgeo.samplers'
            )
        self._crs = index['native_crs'].to_numpy(dtype=object)
        self._times = index.index
        self._filepaths = index['filepath'].tolist() if 'filepath' in index else None
        self._bounds, self._res = native_bounds(index), _native_res(index)
        if resolution := getattr(dataset, 'resampled_to', None):
            self._res = np.broadcast_to(resolution, self._res.shape)
        self._roi = roi

        parts, is_whole = clip_footprints(index)
        start, stop = self._pixels_in(shapely.bounds(parts))
        self._sizes = self._window_sizes(size, stop - start)

        #: First and last row and column of the upper left corner of a window.
        self._first, self._last = start, stop - self._sizes
        #: Polygons that must cover the windows, None for whole patches.
        self._parts = np.full(len(index), None, dtype=object)
        cut = ~is_whole
        tolerance = TOLERANCE * self._res.min(axis=1)
        self._parts[cut] = shapely.buffer(
            parts[cut], tolerance[cut], join_style='mitre'
        )
        #: Whether all of a patch lies in the region of interest.
        self._in_roi = np.ones(len(index), dtype=bool)
        rows = np.flatnonzero((self._last >= self._first).all(axis=1))
        if roi is not None:
            footprints = reproject(to_boxes(self._bounds), self._crs, WGS84)
            self._in_roi = shapely.covers(roi, footprints)
            rows = rows[shapely.intersects(roi, footprints[rows])]
        #: Rows of the index in which windows may lie.
        self._rows = rows

    def __iter__(self) -> Iterator[NativeSlice]:
        """Iterate over the windows of this process, and go on to the next epoch.

        Yields:
            Window in the CRS of its patch.
        """
        rows, corners = self._windows()
        share = self._share(len(rows))
        epoch, taken = self._taken
        first = taken if epoch == self.epoch else 0
        # Lightning sets the epoch, a loop of one's own need not
        self.epoch += 1
        yield from self._slices(rows[share][first:], corners[share][first:])

    def __len__(self) -> int:
        """Number of windows of this process in an epoch."""
        total = self._total()
        return len(range(total)[self._share(total)])

    def resume(self, epoch: int, taken: int) -> None:
        """Go on in an epoch that was interrupted.

        Args:
            epoch: Number of the epoch.
            taken: Number of its windows that this process has taken before. They are left
                out, and still count in the length.
        """
        self.set_epoch(epoch)
        self._taken = epoch, taken

    @abc.abstractmethod
    def _windows(self) -> Windows:
        """Windows of all processes in an epoch, the same in each."""

    def _total(self) -> int:
        """Number of windows of all processes in an epoch."""
        if not hasattr(self, '_length'):
            self._length = len(self._windows()[0])
        return self._length

    def _share(self, total: int) -> slice:
        """Part of the windows of all processes that this process takes."""
        processes = count_processes()
        if total < processes:
            return slice(None)
        return slice(distributed.get_rank() if processes > 1 else 0, None, processes)

    def _pixels_in(
        self, bounds: NDArray[np.float64]
    ) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """First and last (row, column), exclusive, of the whole pixels in *bounds*."""
        return _pixel_ranges(bounds, self._bounds, self._res)

    def _window_sizes(
        self, size: tuple[int, int] | int | None, parts: NDArray[np.intp]
    ) -> NDArray[np.intp]:
        """Height and width of the windows of each patch."""
        if size is None:
            return parts
        height, width = check_size(size, 'size')
        start, stop = self._pixels_in(self._bounds)
        too_small = np.flatnonzero(((stop - start) < (height, width)).any(axis=1))
        if len(too_small):
            row = too_small[0]
            name = self._filepaths[row] if self._filepaths else f'row {row}'
            raise ValueError(
                f'size={size} is larger than {len(too_small)} patch(es), among them '
                f'{name} with {tuple((stop - start)[row].tolist())} pixels'
            )
        return np.broadcast_to(np.array([height, width]), parts.shape)

    def _admissible(self, rows: NDArray[np.intp], corners: NDArray[np.intp]) -> Windows:
        """Select the windows in the part of their patch and in the region of interest."""
        parts, in_roi = self._parts[rows], self._in_roi[rows]
        boxes = to_boxes(self._window_bounds(rows, corners))
        admissible = shapely.is_missing(parts) | shapely.covers(parts, boxes)
        if not in_roi.all():
            admissible[~in_roi] &= shapely.covers(
                self._roi, reproject(boxes[~in_roi], self._crs[rows[~in_roi]], WGS84)
            )
        return rows[admissible], corners[admissible]

    def _window_bounds(
        self, rows: NDArray[np.intp], corners: NDArray[np.intp]
    ) -> NDArray[np.float64]:
        """(xmin, ymin, xmax, ymax) of windows, each in the CRS of its patch."""
        west, north = self._bounds[rows, 0], self._bounds[rows, 3]
        xres, yres = self._res[rows].T
        (top, left), (bottom, right) = corners.T, (corners + self._sizes[rows]).T
        bounds = [
            west + left * xres,
            north - bottom * yres,
            west + right * xres,
            north - top * yres,
        ]
        return np.stack(bounds, axis=1)

    def _slices(
        self, rows: NDArray[np.intp], corners: NDArray[np.intp]
    ) -> Iterator[NativeSlice]:
        """Yield windows as queries."""
        bounds = self._window_bounds(rows, corners).tolist()
        for row, (xmin, ymin, xmax, ymax) in zip(rows.tolist(), bounds):
            time = self._times[row]
            yield NativeSlice(
                slice(xmin, xmax),
                slice(ymin, ymax),
                slice(time.left, time.right),
                self._crs[row],
                self._filepaths[row] if self._filepaths else None,
            )


class RandomNativePatchSampler(NativePatchSampler):
    """Sample windows at random.

    Each window that fits, in any patch, is drawn with the same probability. The windows
    depend only on *generator* and the epoch. Each iteration goes on to the next epoch, and
    ``set_epoch``, which Lightning calls, to any. Processes that share an epoch draw a few
    windows more if *length* is not a multiple of their number, as each must have the
    same number of batches in training.
    """

    def __init__(
        self,
        dataset: GeoDataset,
        *,
        size: tuple[int, int] | int,
        length: int | None = None,
        roi: Polygon | MultiPolygon | None = None,
        generator: int
        | BitGenerator
        | Generator
        | RandomState
        | SeedSequence
        | None = None,
    ) -> None:
        """Initialize a new RandomNativePatchSampler instance.

        Args:
            dataset: Native data set to sample from.
            size: Height and width of each window in pixels, up to the whole patch.
            length: Number of windows in an epoch (defaults to approximately the maximal
                number of non-overlapping windows).
            roi: Region of interest in EPSG:4326 (longitude, latitude), in which a window
                must lie as a whole (defaults to everywhere).
            generator: Seed, which must be the same in all processes (defaults to one
                drawn from PyTorch's generator, which ``seed_everything`` sets).

        Raises:
            TypeError: If *dataset* does not keep native grids.
            ValueError: If *size* is larger than a patch, no window fits, or *length* is
                not positive.
        """
        if length is not None and length < 1:
            raise ValueError(f'length={length} must be positive')
        super().__init__(dataset, size=size, roi=roi)
        if roi is not None:
            self._shrink_to_roi()
        places = np.clip(self._last - self._first + 1, 0, None)[self._rows]
        #: Number of places of a window in the patches up to each.
        self._places = np.cumsum(places.prod(axis=1))
        if generator is None:
            self.seed = int(torch.randint(2**62, ()))
        else:
            self.seed = int(np.random.default_rng(generator).integers(2**62))
        # If no window fits in the region, this fails now and not in the first epoch.
        self._draw(np.random.default_rng(0), 1)
        pixels = (places + self._sizes[self._rows] - 1).prod(axis=1).sum()
        self._length = length or math.ceil(pixels / self._sizes[0].prod())

    def _windows(self) -> Windows:
        """Windows of all processes in an epoch, the same in each."""
        return self._draw(np.random.default_rng([self.seed, self.epoch]), self._total())

    def _total(self) -> int:
        """Number of windows of all processes in an epoch, as many for each."""
        processes = count_processes()
        return math.ceil(self._length / processes) * processes

    def _draw(self, rng: Generator, count: int) -> Windows:
        """Draw the rows and upper left corners of admissible windows."""
        rows = np.empty(0, dtype=np.intp)
        corners = np.empty((0, 2), dtype=np.intp)
        total = self._places[-1] if len(self._places) else 0
        for _ in range(MAX_DRAWS if total else 0):
            place = rng.integers(total, size=count - len(rows) + SPARE_DRAWS)
            patch = np.searchsorted(self._places, place, side='right')
            row = self._rows[patch]
            width = self._last[row, 1] - self._first[row, 1] + 1
            # Number of the place in its patch, counted from the last one
            number = self._places[patch] - place - 1
            corner = self._first[row] + np.stack(np.divmod(number, width), axis=1)
            row, corner = self._admissible(row, corner)
            rows = np.append(rows, row)
            corners = np.append(corners, corner, axis=0)
            if len(rows) >= count:
                return rows[:count], corners[:count]
        raise ValueError(
            'no window of this size fits into the patches and the roi: reduce `size` or '
            'enlarge `roi`'
        )

    def _shrink_to_roi(self) -> None:
        """Leave out places outside of the bounds of the region, which saves draws."""
        rows = self._rows[~self._in_roi[self._rows]]
        boxes = to_boxes(self._bounds[rows])
        areas = reproject(boxes, self._crs[rows], WGS84)
        regions = shapely.intersection(areas, self._roi)
        bounds = self._bounds.copy()
        bounds[rows] = shapely.bounds(reproject(regions, WGS84, self._crs[rows]))
        start, stop = self._pixels_in(bounds)
        # A straight line in degrees is not quite straight in meters.
        self._first = np.maximum(self._first, start - 1)
        self._last = np.minimum(self._last, stop + 1 - self._sizes)
        fits = (self._last >= self._first).all(axis=1)
        self._rows = self._rows[fits[self._rows]]


class GriddedNativePatchSampler(NativePatchSampler):
    """Sample windows on a regular grid in each patch.

    The grid starts at the upper left corner of each patch. Its last row and column are
    moved inward to end at the edge.
    """

    def __init__(
        self,
        dataset: GeoDataset,
        *,
        size: tuple[int, int] | int,
        stride: tuple[int, int] | int | None = None,
        roi: Polygon | MultiPolygon | None = None,
    ) -> None:
        """Initialize a new GriddedNativePatchSampler instance.

        Args:
            dataset: Native data set to sample from.
            size: Height and width of each window in pixels, up to the whole patch.
            stride: Rows and columns from each window to the next (defaults to *size*).
            roi: Region of interest in EPSG:4326 (longitude, latitude), in which a window
                must lie as a whole (defaults to everywhere).

        Raises:
            TypeError: If *dataset* does not keep native grids.
            ValueError: If *size* is larger than a patch, or *stride* is not positive.
        """
        super().__init__(dataset, size=size, roi=roi)
        self.stride = check_size(size if stride is None else stride, 'stride')

    def _windows(self) -> Windows:
        """Windows of all processes in an epoch, the same in each."""
        first, last = self._first[self._rows], self._last[self._rows]
        # Most patches have the same size, and so the same grid.
        ranges, numbers = np.unique(
            np.concatenate([first, last], axis=1), axis=0, return_inverse=True
        )
        grids = [self._corners(*corners) for corners in ranges.tolist()]
        counts = np.array([len(grid) for grid in grids], dtype=np.intp)
        rows = np.repeat(self._rows, counts[numbers])
        empty = np.empty((0, 2), dtype=np.intp)
        return self._admissible(
            rows,
            np.concatenate([empty, *(grids[number] for number in numbers.tolist())]),
        )

    def _corners(
        self, top: int, left: int, bottom: int, right: int
    ) -> NDArray[np.intp]:
        """Upper left corners of windows from a first to a last one."""
        tops = np.append(np.arange(top, bottom, self.stride[0]), bottom)
        lefts = np.append(np.arange(left, right, self.stride[1]), right)
        rows, cols = np.meshgrid(tops, lefts, indexing='ij')
        return np.stack([rows.ravel(), cols.ravel()], axis=1)


class CenterNativePatchSampler(NativePatchSampler):
    """Sample the window in the center of each patch, as evaluations do."""

    def __init__(
        self,
        dataset: GeoDataset,
        *,
        size: tuple[int, int] | int | None,
        roi: Polygon | MultiPolygon | None = None,
    ) -> None:
        """Initialize a new CenterNativePatchSampler instance.

        Args:
            dataset: Native data set to sample from.
            size: Height and width of each window in pixels; None for the whole patch.
            roi: Region of interest in EPSG:4326 (longitude, latitude), in which a window
                must lie as a whole (defaults to everywhere).

        Raises:
            TypeError: If *dataset* does not keep native grids.
            ValueError: If *size* is larger than a patch.
        """
        super().__init__(dataset, size=size, roi=roi)

    def leave_out(self, filepaths: Iterable[str]) -> None:
        """Leave out files from now on.

        Args:
            filepaths: Files of the data set.
        """
        done = np.isin(np.array(self._filepaths, dtype=object), list(filepaths))
        self._rows = self._rows[~done[self._rows]]
        self._length = len(self._windows()[0])

    def _windows(self) -> Windows:
        """Windows of all processes in an epoch, the same in each."""
        rows = self._rows
        return self._admissible(rows, (self._first[rows] + self._last[rows]) // 2)
