# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Fast look-ups in the index of a native data set."""

import functools
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from geopandas import GeoDataFrame, GeoSeries
from numpy.typing import NDArray

from ..raster.grid import Grid, parse_crs
from ..raster.header import pack, unpack
from .footprints import clip_footprints


class IndexView:
    """An index, and what is computed from it when it is first needed.

    The index must not be changed afterwards: a changed one gets a new view. Pickling
    compresses the index and leaves the rest out.
    """

    def __init__(self, index: GeoDataFrame, warped_to: str | None = None) -> None:
        """Initialize a new IndexView instance.

        Args:
            index: What :func:`~.footprints.native_index` returns, or a part of it.
            warped_to: Name of the CRS to which pixels are warped, if they are. The
                geometry of *index* is then in this CRS.
        """
        self.index = index
        self.warped_to = warped_to
        self._columns: dict[str, NDArray[Any]] = {}
        self._views: dict[str, IndexView] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the index alone, with its texts, most of all paths, compressed."""
        # Texts have a type of their own from pandas 3 on only
        texts = {
            name: dtype
            for name, dtype in self.index.dtypes.items()
            if pd.api.types.infer_dtype(self.index[name], skipna=True) == 'string'
        }
        table = pa.table(
            {
                name: pa.array(self.index[name], pa.string(), from_pandas=True)
                for name in texts
            }
        )
        names, rest = list(self.index.columns), self.index.drop(columns=list(texts))
        return _unpack_view, (names, rest, texts, pack(table), self.warped_to)

    @functools.cached_property
    def crs(self) -> str | None:
        """Name of the CRS of all samples, None if they have several."""
        names = self.index['native_crs'].unique()
        return self.warped_to or (str(names[0]) if len(names) == 1 else None)

    @functools.cached_property
    def rows(self) -> dict[str, int]:
        """Row of each file."""
        return {path: row for row, path in enumerate(self.index['filepath'])}

    def column(self, name: str) -> NDArray[Any]:
        """Column of the index; a look-up in pandas takes as long as reading pixels.

        Args:
            name: Name of the column.

        Returns:
            Array with an element for each row.
        """
        if name not in self._columns:
            self._columns[name] = self.index[name].to_numpy()
        return self._columns[name]

    def grid(self, row: int) -> Grid:
        """Pixel grid of a row.

        Args:
            row: Position of the row.

        Returns:
            The grid, in the CRS of the file.
        """
        columns = ('native_crs', 'native_bounds', 'native_res')
        return Grid.from_bounds(*(self.column(column)[row] for column in columns))

    def select(self, rows: NDArray[np.bool_]) -> 'IndexView':
        """Part of the index, in the native CRS if that is left as the only one.

        Args:
            rows: Whether to keep each row.

        Returns:
            A view of the rows that are kept.
        """
        index = self.index[rows]
        if self.crs is None and index['native_crs'].nunique() == 1:
            parts, _ = clip_footprints(index)
            crs = parse_crs(index['native_crs'].iloc[0])
            index = index.set_geometry(GeoSeries(parts, crs=crs).array)
        return IndexView(index, self.warped_to)

    def in_crs(self, name: str) -> 'IndexView':
        """Rows whose native CRS is this one.

        Args:
            name: Name of the CRS.

        Returns:
            A view of these rows, the same object each time.

        Raises:
            ValueError: If there are no such rows.
        """
        if name not in self._views:
            view = self.select((self.index['native_crs'] == name).to_numpy())
            if not len(view.index):
                known = ', '.join(sorted(self.index['native_crs'].unique()))
                raise ValueError(
                    f'crs={name!r} is not among those of the data set: {known}'
                )
            self._views[name] = view
        return self._views[name]


def _unpack_view(
    names: list[str],
    rest: GeoDataFrame,
    dtypes: dict[str, Any],
    texts: bytes,
    warped_to: str | None,
) -> IndexView:
    """Make a view of what :meth:`IndexView.__reduce__` gives."""
    table = unpack(texts).to_pandas().astype(dtypes)
    columns = {name: table[name].array for name in dtypes}
    return IndexView(rest.assign(**columns)[names], warped_to)
