# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Indexes of files of several CRSs, and the footprints in them."""

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import shapely
from geopandas import GeoDataFrame, GeoSeries
from numpy.typing import NDArray
from pyproj import Transformer

from ..raster.grid import crs_name, parse_crs
from ..raster.header import HeaderTable

#: CRS of an index whose rows have different CRSs: global, equal area, for look-up only.
LOOKUP_CRS = 'EPSG:6933'

#: CRS of longitude and latitude.
WGS84 = 'EPSG:4326'

#: Shares of the area of a patch that differ by less than this are the same.
AREA_TOLERANCE = 1e-7


def native_index(
    columns: Mapping[str, Any], headers: HeaderTable, datetimes: pd.IntervalIndex
) -> GeoDataFrame:
    """Make the index of a native data set.

    Args:
        columns: Columns of the index, ``filepath`` among them.
        headers: Headers of the files that give the rows their grids.
        datetimes: Time of each row.

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
        bounds: Bounds (xmin, ymin, xmax, ymax), of shape (N, 4).

    Returns:
        One polygon for each row.
    """
    xmin, ymin, xmax, ymax = bounds.T
    return shapely.box(xmin, ymin, xmax, ymax)


def native_bounds(index: pd.DataFrame) -> NDArray[np.float64]:
    """Bounds of the patches, each in its own CRS.

    Args:
        index: Index of a native data set, or of an intersection with one.

    Returns:
        Bounds (xmin, ymin, xmax, ymax), of shape (N, 4).
    """
    return np.array(index['native_bounds'].tolist()).reshape(-1, 4)


def _footprints(index: pd.DataFrame) -> GeoSeries:
    """Footprints of the rows, in their one CRS or in EPSG:6933 if they have several."""
    names = index['native_crs'].to_numpy(dtype=object)
    crs = names[0] if len(set(names)) == 1 else LOOKUP_CRS
    boxes = to_boxes(native_bounds(index))
    return GeoSeries(reproject(boxes, names, crs), crs=parse_crs(crs))


def reproject(
    polygons: NDArray[np.object_],
    sources: NDArray[np.object_] | str,
    targets: NDArray[np.object_] | str,
) -> NDArray[np.object_]:
    """Convert polygons, each from its own CRS to its own CRS.

    Args:
        polygons: Polygons to convert.
        sources: Name of the CRS of each polygon, or one name for all.
        targets: Name of the CRS to convert each polygon to, or one name for all.

    Returns:
        The converted polygons.
    """
    coordinates, owners = shapely.get_coordinates(polygons, return_index=True)
    pairs = pd.DataFrame(
        {
            'source': np.broadcast_to(
                np.asarray(sources, dtype=object), polygons.shape
            ),
            'target': np.broadcast_to(
                np.asarray(targets, dtype=object), polygons.shape
            ),
        }
    ).groupby(['source', 'target'])
    # Coordinates with the same source and target are converted in one call.
    numbers = pairs.ngroup().to_numpy()[owners]
    order = np.argsort(numbers, kind='stable')
    keys: list[Any] = list(pairs.groups)
    parts = np.split(order, np.cumsum(np.bincount(numbers))[:-1])
    for (source, target), rows in zip(keys, parts):
        x, y = coordinates[rows].T
        for start, stop in _conversion_steps(source, target):
            x, y = _transformer(start, stop).transform(x, y)
        coordinates[rows] = np.stack([x, y], axis=1)
    return shapely.set_coordinates(polygons.copy(), coordinates)


def _conversion_steps(source: str, target: str) -> list[tuple[str, str]]:
    """Pairs of CRSs through which coordinates get from one CRS to another."""
    if source == target:
        return []
    # PROJ finds a conversion to degrees forty times as fast as one between projections.
    if LOOKUP_CRS in (source, target):
        return [(source, WGS84), (WGS84, target)]
    return [(source, target)]


@functools.lru_cache(maxsize=1024)
def _transformer(source: str, target: str) -> Transformer:
    """Function that converts coordinates from one CRS to another."""
    crs = parse_crs(source), parse_crs(target)
    return Transformer.from_crs(*crs, always_xy=True)


def clip_footprints(
    index: GeoDataFrame,
) -> tuple[NDArray[np.object_], NDArray[np.bool_]]:
    """Clip the patches to the geometry of their index.

    TorchGeo's split helpers cut the geometry, which need not be in the CRS of the
    patches.

    Args:
        index: Index of a native data set, or of an intersection with one.

    Returns:
        The part of each patch that the geometry covers, in the native CRS of the row,
        and whether that is the whole patch.
    """
    boxes = to_boxes(native_bounds(index))
    names = index['native_crs'].to_numpy(dtype=object)
    geometry, crs = index.geometry.to_numpy(), crs_name(index.crs)
    parts, is_whole = boxes.copy(), geometry == reproject(boxes, names, crs)
    # Most patches are whole. For the others, the check takes a hundred times as long.
    others = np.flatnonzero(~is_whole)
    clipped = shapely.intersection(
        reproject(geometry[others], crs, names[others]), boxes[others]
    )
    # Converted to another CRS and back, a coordinate is off by a micrometer.
    whole_area = (1 - AREA_TOLERANCE) * shapely.area(boxes[others])
    is_cut = shapely.area(clipped) <= whole_area
    parts[others[is_cut]] = clipped[is_cut]
    is_whole[others] = ~is_cut
    return parts, is_whole
