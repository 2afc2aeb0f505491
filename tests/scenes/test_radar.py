# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rasterio.enums import Resampling
from rasterio.transform import from_origin
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform
from rasterio.windows import Window
from rasters import write

from torchgeo_planetcr.raster.read import open_raster
from torchgeo_planetcr.scenes import Layer
from torchgeo_planetcr.scenes.radar import Sentinel1Layer

#: Rows and columns of the scene, of the radar, and of a hole in it.
SIZE, RADAR_SIZE, HOLE = 300, 120, slice(40, 46)


@pytest.mark.parametrize('crs', ['EPSG:32646', 'EPSG:32647'])
@pytest.mark.parametrize(
    ('nodata', 'missing'),
    [
        (None, 0),
        (None, np.nan),
        (-99, -99),
        (np.nan, np.nan),
        (-99, np.inf),
        # What programs fill images with, whatever they declare
        (np.nan, 0),
        (-9999, 0),
        (0, np.nan),
        (None, -9999),
        (np.nan, -9999),
    ],
)
def test_gaps(tmp_path: Path, crs: str, nodata: float | None, missing: float) -> None:
    """With a gap near or not, each window is that of the image whose gaps are known."""
    scene = write(tmp_path / 'scene.tif', np.ones((4, SIZE, SIZE), np.uint16))
    # The radar covers all but some meters at the left
    xs, ys = transform('EPSG:32646', crs, [500010], [2000100])[:2]
    values = np.random.default_rng(0).normal(-12, 3, (2, RADAR_SIZE, RADAR_SIZE))
    values[:, HOLE, HOLE] = missing
    options: dict[str, Any] = {'crs': crs, 'nodata': nodata}
    options['transform'] = from_origin(*xs, *ys, 10, 10)
    path = write(tmp_path / 's1.tif', values.astype(np.float32), **options)
    values[:, HOLE, HOLE] = np.nan
    options['nodata'] = np.nan
    plain = write(tmp_path / 'plain.tif', values.astype(np.float32), **options)
    with (
        Layer(scene) as image,
        Sentinel1Layer(path, image.grid) as radar,
        open_raster(str(plain)) as s1,
        WarpedVRT(
            s1,
            crs=image.grid.crs,
            transform=image.grid.transform,
            height=SIZE,
            width=SIZE,
            resampling=Resampling.bilinear,
            src_nodata=np.nan,
            nodata=np.nan,
            dtype='float32',
            UNIFIED_SRC_NODATA='NO',
        ) as known,
    ):
        gaps = 0
        for row in range(0, SIZE, 20):
            for col in range(0, SIZE, 20):
                window = image.grid.window(row, col, 20, 20)
                expected = known.read(window=Window(col, row, 20, 20))
                found = radar.read(window)
                assert found.dtype == np.float32
                np.testing.assert_allclose(found, expected, rtol=0, atol=1e-2)
                gaps += np.isnan(found).any()
        small = radar.read_small((SIZE // 10, SIZE // 10))
        whole = radar.read(image.grid)[:, 5::10, 5::10]
    assert 3 < gaps < 40
    assert (np.isnan(small) == np.isnan(whole)).mean() > 0.98
    assert np.nanmax(small) < 0


def test_band_missing(tmp_path: Path) -> None:
    scene = write(tmp_path / 'scene.tif', np.ones((4, 30, 30), np.uint16))
    path = write(tmp_path / 's1.tif', np.ones((1, 30, 30), np.float32))
    with (
        Layer(scene) as image,
        pytest.raises(ValueError, match=f'{path} has 1 band instead of VV and VH'),
    ):
        Sentinel1Layer(path, image.grid)
