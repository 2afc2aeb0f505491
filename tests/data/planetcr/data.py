#!/usr/bin/env python3

# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Make a fake Planet-CR tree: `python data.py FOLDER`.

It has the layout, names, types, nodata values and grids of the archive, in five UTM
zones, three of them southern, but noise for content.
"""

import sys
import zlib
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import rasterio
from rasterio.transform import from_origin

SIZE = 300
COARSE_SIZE = 90


class Area(NamedTuple):
    """An area: its split and name, UTM zone, upper left corner, offset, and patches."""

    split: str
    name: str
    epsg: int
    xmin: int
    ymax: int
    offset: tuple[int, int]
    patches: tuple[tuple[int, int], ...] = ((0, 0),)


#: Patches are given by column and row; neighbors adjoin.
AREAS = (
    Area(
        'train', 'spring_1', 32646, 760299, 1898412, (1, -2), ((0, 0), (1, 0), (1, 1))
    ),
    Area('train', 'spring_2', 32633, 500001, 5400012, (-1, -2)),
    Area('train', 'summer_3', 32736, 385308, 9215070, (2, 0), ((0, 0), (0, 1))),
    Area('train', 'summer_4', 32646, 700002, 1800000, (-2, 0)),
    Area('train', 'fall_5', 32719, 380001, 6300009, (-1, 1)),
    Area('train', 'fall_6', 32633, 420000, 5200002, (0, -2)),
    Area('train', 'fall_7', 32754, 299999, 6199998, (1, 2)),
    Area('train', 'winter_8', 32646, 650001, 1700001, (-1, -1)),
    Area('train', 'winter_9', 32719, 400002, 6400002, (-2, -2)),
    # The same place as spring_2 in another season.
    Area('train', 'winter_10', 32633, 500001, 5400012, (-1, -2)),
    Area('test', 'summer_33', 32736, 385308, 9315070, (2, 0)),
    Area('test', 'winter_34', 32646, 750300, 1858410, (0, 0), ((0, 0), (1, 0))),
)


def write(path: Path, array: np.ndarray, area: Area, left: int, top: int) -> None:
    """Write a GeoTIFF the way the archive has them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    res = 3 if array.shape[-1] == SIZE else 10
    with rasterio.open(
        path,
        'w',
        driver='GTiff',
        width=array.shape[2],
        height=array.shape[1],
        count=array.shape[0],
        dtype=array.dtype,
        nodata=0 if array.dtype == np.uint16 else None,
        crs=f'EPSG:{area.epsg}',
        transform=from_origin(left, top, res, res),
        interleave='pixel',
    ) as dst:
        dst.write(array)


def filepath(
    root: Path, area: Area, number: int, kind: str, suffix: str = '.tif'
) -> Path:
    """Path of a file of a patch."""
    name = f'{kind}_{area.name}'
    season = area.name.split('_')[0]
    folder = root / area.split / f'{kind}_{season}' / name
    return folder / f'{name}_p_{number}{suffix}'


def create(root: Path) -> None:
    """Make the tree."""
    for area in AREAS:
        for number, (col, row) in enumerate(area.patches, start=1):
            rng = np.random.default_rng([zlib.crc32(area.name.encode()), number])

            path = partial(filepath, root, area, number)
            left = area.xmin + 900 * col
            top = area.ymax - 900 * row
            dx, dy = area.offset

            mask = np.zeros((SIZE, SIZE), dtype=bool)
            mask[: 30 * number, 40:200] = True
            clear = rng.integers(200, 3000, (4, SIZE, SIZE), dtype=np.uint16)
            cloudy = np.where(mask, 5000 + clear // 2, clear).astype(np.uint16)
            backscatter = rng.normal(-10, 3, (2, COARSE_SIZE, COARSE_SIZE))
            backscatter[1] -= 7
            codes = np.array([0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 100], np.uint8)
            blocks = rng.choice(codes, (1, 9, 9))
            landcover = blocks.repeat(10, axis=1).repeat(10, axis=2)

            write(path('planet_cloudy'), cloudy, area, left, top)
            write(path('planet_cloudfree'), clear, area, left, top)
            write(path('S1'), backscatter, area, left + dx, top + dy)
            write(path('landcover'), landcover, area, left + dx, top + dy)
            path('cloudmask', '.npy').parent.mkdir(parents=True, exist_ok=True)
            np.save(path('cloudmask', '.npy'), mask)


if __name__ == '__main__':
    create(Path(sys.argv[1]))
