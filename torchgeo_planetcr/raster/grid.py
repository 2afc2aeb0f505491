# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Pixel grids."""

import functools
import math
from collections.abc import Iterable
from typing import NamedTuple, Self

from pyproj import CRS, Geod
from rasterio.transform import Affine
from rasterio.warp import transform as transform_points
from rasterio.warp import transform_bounds

#: (xmin, ymin, xmax, ymax)
type Bounds = tuple[float, float, float, float]


#: The Earth, on which distances are measured.
WGS84 = Geod(ellps='WGS84')

#: Coordinates of places on Earth are smaller, in each unit and with each false easting.
MAX_COORDINATE = 1e9

#: Pixels are larger, in each unit.
MIN_RESOLUTION = 1e-9


@functools.lru_cache(maxsize=1024)
def crs_name(crs: CRS | str | int) -> str:
    """Name a CRS so that equal CRSs get equal names.

    Args:
        crs: Anything that :meth:`pyproj.CRS.from_user_input` takes.

    Returns:
        The authority's code (such as ``'EPSG:32646'``), or WKT where there is none.
    """
    crs = CRS.from_user_input(crs)
    authority = crs.to_authority()
    return ':'.join(authority) if authority else crs.to_wkt()


@functools.lru_cache(maxsize=1024)
def parse_crs(name: str) -> CRS:
    """Parse the name of a CRS once."""
    return CRS.from_user_input(name)


@functools.lru_cache(maxsize=1024)
def epsg_code(name: str) -> int:
    """EPSG code of a CRS, 0 where it has none."""
    return parse_crs(name).to_epsg() or 0


def is_plausible(sizes: Iterable[float], coordinates: Iterable[float]) -> bool:
    """Whether a raster can have such pixels at such a place.

    Args:
        sizes: Width and height of a pixel.
        coordinates: Coordinates of its corners.

    Returns:
        False if one of them is NaN, infinite, tiny or huge.
    """
    return all(size >= MIN_RESOLUTION for size in sizes) and all(
        abs(coordinate) <= MAX_COORDINATE for coordinate in coordinates
    )


class Grid(NamedTuple):
    """A north-up pixel grid.

    The upper left corner is at (*xmin*, *ymax*) in units of the CRS that is called
    *crs* (see :func:`crs_name`); pixels are *xres* wide and *yres* high.
    """

    crs: str
    xmin: float
    ymax: float
    xres: float
    yres: float
    height: int
    width: int

    @classmethod
    def from_bounds(cls, crs: str, bounds: Bounds, res: tuple[float, float]) -> Self:
        """Grid that fills *bounds* with pixels of size *res*."""
        xmin, ymin, xmax, ymax = bounds
        xres, yres = res
        height = round((ymax - ymin) / yres)
        width = round((xmax - xmin) / xres)
        return cls(crs, xmin, ymax, xres, yres, height, width)

    @property
    def res(self) -> tuple[float, float]:
        """Pixel size as (xres, yres)."""
        return self.xres, self.yres

    @property
    def bounds(self) -> Bounds:
        """(xmin, ymin, xmax, ymax)."""
        ymin = self.ymax - self.height * self.yres
        return self.xmin, ymin, self.xmin + self.width * self.xres, self.ymax

    @property
    def transform(self) -> Affine:
        """Affine transform from (column, row) to (x, y)."""
        return Affine(self.xres, 0, self.xmin, 0, -self.yres, self.ymax)

    @property
    def is_plausible(self) -> bool:
        """Whether the pixels have a size, and lie at a place, that is possible."""
        return is_plausible(self.res, self.bounds)

    @property
    def ground_size(self) -> tuple[float, float]:
        """Width and height in meters of the pixel in the middle, measured on the ground."""
        left, bottom, right, top = self.bounds
        x, y = (left + right) / 2, (bottom + top) / 2
        lon, lat, *_ = transform_points(
            self.crs, 'EPSG:4326', [x, x + self.xres, x], [y, y, y + self.yres]
        )
        _, _, sizes = WGS84.inv(2 * lon[:1], 2 * lat[:1], lon[1:], lat[1:])
        return sizes[0], sizes[1]

    def bounds_in(self, crs: str) -> Bounds:
        """Bounds in another CRS, of all four edges."""
        if crs == self.crs:
            return self.bounds
        return transform_bounds(self.crs, crs, *self.bounds)

    def same_lattice(self, other: 'Grid') -> bool:
        """Whether *other* has the same CRS and pixel size."""
        return (
            self.crs == other.crs
            and math.isclose(self.xres, other.xres)
            and math.isclose(self.yres, other.yres)
        )

    def offset(self, other: 'Grid') -> tuple[int, int]:
        """Row and column, rounded, of the first pixel of *other* in this grid."""
        row = round((self.ymax - other.ymax) / self.yres)
        col = round((other.xmin - self.xmin) / self.xres)
        return row, col

    def holds(self, other: 'Grid') -> bool:
        """Whether *other*, of the same lattice, lies inside this grid."""
        row, col = self.offset(other)
        return 0 <= row <= self.height - other.height and (
            0 <= col <= self.width - other.width
        )

    def window(self, row: int, col: int, height: int, width: int) -> 'Grid':
        """Part of this grid, or of its continuation beyond the edges."""
        return self._replace(
            xmin=self.xmin + col * self.xres,
            ymax=self.ymax - row * self.yres,
            height=height,
            width=width,
        )

    def snap(self, bounds: Bounds) -> 'Grid':
        """Window of this grid, or of its continuation, that is nearest to *bounds*."""
        other = Grid.from_bounds(self.crs, bounds, self.res)
        return self.window(*self.offset(other), other.height, other.width)

    def inside(self, bounds: Bounds) -> tuple[slice, slice]:
        """Rows and columns whose pixel centers lie inside *bounds*."""
        xmin, ymin, xmax, ymax = bounds
        return (
            _between(self.ymax - ymax, self.ymax - ymin, self.yres, self.height),
            _between(xmin - self.xmin, xmax - self.xmin, self.xres, self.width),
        )


def _between(start: float, stop: float, res: float, size: int) -> slice:
    """Pixels of *size* whose centers lie between two distances from the first edge."""
    first = max(math.ceil(start / res - 0.5), 0)
    return slice(first, max(min(math.ceil(stop / res - 0.5), size), first))
