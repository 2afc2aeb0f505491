# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Queries that know their coordinate reference system."""

from typing import Any, Self

from pyproj import CRS

from ..raster.grid import crs_name, parse_crs


class NativeSlice(tuple[slice, slice, slice]):
    """A :data:`~torchgeo.datasets.utils.GeoSlice` that knows its CRS.

    It is the tuple ``(x, y, t)`` that every TorchGeo data set accepts as a query, with
    x and y in the units of :attr:`crs`.
    """

    #: Name of the CRS of x and y, see :func:`~.grid.crs_name`.
    crs_name: str

    #: The file to read from, None for any.
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
            x: ``slice(xmin, xmax)`` in the units of *crs*.
            y: ``slice(ymin, ymax)`` in the units of *crs*.
            t: ``slice(tmin, tmax)`` of :class:`pandas.Timestamp`, ``slice(None)`` for any.
            crs: :term:`coordinate reference system (CRS)` of x and y.
            filepath: Read only from the row of the index that has this file. Without it,
                a place that several rows cover gets the pixels of the first.
        """
        self = super().__new__(cls, (x, y, t))
        self.crs_name = crs_name(crs)
        self.filepath = filepath
        return self

    @property
    def x(self) -> slice:
        """``slice(xmin, xmax)`` in the units of :attr:`crs`."""
        return self[0]

    @property
    def y(self) -> slice:
        """``slice(ymin, ymax)`` in the units of :attr:`crs`."""
        return self[1]

    @property
    def t(self) -> slice:
        """``slice(tmin, tmax)``."""
        return self[2]

    @property
    def crs(self) -> CRS:
        """:term:`coordinate reference system (CRS)` of x and y."""
        return parse_crs(self.crs_name)

    def __eq__(self, other: object) -> bool:
        """Compare coordinates, CRS and file.

        Args:
            other: The object to compare with.

        Returns:
            True if both name the same place in the same CRS and file.
        """
        return (
            isinstance(other, NativeSlice)
            and tuple(self) == tuple(other)
            and self.crs_name == other.crs_name
            and self.filepath == other.filepath
        )

    def __ne__(self, other: object) -> bool:
        """Compare coordinates, CRS and file, unlike the method of tuples."""
        return not self == other

    def __hash__(self) -> int:
        """Hash of what :meth:`__eq__` compares."""
        return hash((tuple(self), self.crs_name, self.filepath))

    def __repr__(self) -> str:
        """Expression that makes an equal object."""
        return (
            f'NativeSlice(x={self.x}, y={self.y}, t={self.t}, '
            f'crs={self.crs_name!r}, filepath={self.filepath!r})'
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the name of the CRS, which is small, instead of the CRS."""
        return NativeSlice, (*self, self.crs_name, self.filepath)
