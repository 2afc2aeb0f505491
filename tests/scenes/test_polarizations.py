# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasters import write

from torchgeo_planetcr.scenes.polarizations import (
    find_polarization,
    find_polarizations,
    pair_polarizations,
)

#: Names of products whose first two files are VV and VH, and the others neither.
PRODUCTS = [
    # https://hyp3-docs.asf.alaska.edu/guides/rtc_product_guide/
    [f'S1A_IW_20230209T051023_DVP_RTC10_G_gpuned_0A1B_{name}.tif' for name in
     ('VV', 'VH', 'area', 'dem', 'inc_map', 'ls_map', 'rgb')],
    [f'OPERA_L2_RTC-S1_T091-195252-IW3_20230209T051023Z_S1A_30_v1.0_{name}.tif' for name in
     ('VV', 'VH', 'mask', 'BROWSE')],
    ['iw-vv.rtc.tiff', 'iw-vh.rtc.tiff'],
    # https://s1-tiling.pages.orfeo-toolbox.org/s1tiling/latest/files.html
    ['s1a_33NWB_vv_DES_007_20230209t051023_NormLim.tif',
     's1a_33NWB_vh_DES_007_20230209t051023_NormLim.tif'],
    # https://acube.eodc.eu, File naming convention
    ['SIG0_S1A_IWRGDVV_20170131_EU10M.tif', 'SIG0_S1A_IWRGDVH_20170131_EU10M.tif'],
    ['Gamma0_VV_db.tif', 'Gamma0_VH_db.tif'],
    ['VV.tiff', 'VH.tiff'],
]  # fmt: skip


@pytest.mark.parametrize('names', PRODUCTS)
def test_products(tmp_path: Path, names: list[str]) -> None:
    """Two files are one image, whichever come first, and others are left out."""
    paths = [str(tmp_path / name) for name in names]
    pair = (paths[0], paths[1])
    assert pair_polarizations(paths) == [pair]
    assert pair_polarizations(sorted(paths)) == [pair]
    assert pair_polarizations(names) == [tuple(names[:2])]


def test_other_images(tmp_path: Path) -> None:
    """Files of both polarizations, of another date and of other names stay."""
    folder = str(tmp_path)
    others = ['S1_20230209_VVVH.tif', 's1.tif', 'S1_VV_VH.tif', 'a_HH.tif', 'a_HV.tif']
    pair = ['x_20230209_VV.tif', 'x_20230209_VH.tif']
    named = [*others, *pair, 'x_20230221.tif', 'x.tif']
    found = pair_polarizations([f'{folder}/{name}' for name in named])
    files = [
        tuple(path.removeprefix(f'{folder}/') for path in image) for image in found
    ]
    expected = [(name,) for name in others]
    assert files == [*expected, tuple(pair), ('x_20230221.tif',), ('x.tif',)]


def test_one_named(tmp_path: Path) -> None:
    """The other one is looked for; without it there is one file."""
    first, second = str(tmp_path / 'a_vv.tif'), str(tmp_path / 'a_vh.tif')
    assert pair_polarizations([first]) == [(first,)]
    Path(second).touch()
    assert pair_polarizations([first]) == [(first, second)]
    Path(first).touch()
    assert pair_polarizations([second]) == [(first, second)]


def test_signed_links() -> None:
    """Each of the two may be signed by itself."""
    start = '/vsicurl/https://x/S1A_IW_GRDH_1SDV_20230209T051023/measurement/iw-'
    vv = f'{start}vv.rtc.tiff?st=2023-02-10&sig=abc%3D'
    vh = f'{start}vh.rtc.tiff?st=2023-02-11&sig=def%3D'
    assert pair_polarizations([vh, vv]) == [(vv, vh)]


@pytest.mark.parametrize(
    ('options', 'named', 'match'),
    [
        ({'dtype': 'uint8'}, None, 'uint8'),
        ({'dtype': 'complex64'}, None, 'complex64'),
        ({'dtype': 'uint16', 'photometric': 'RGB', 'count': 3}, None, 'picture'),
        ({'dtype': 'float32', 'count': 1}, None, 'VV and VH'),
        ({'dtype': 'float32'}, ('VV', 'angle'), 'VH'),
    ],
)
def test_no_backscatter(
    tmp_path: Path, options: dict[str, Any], named: Any, match: str
) -> None:
    count = options.pop('count', 2)
    array = np.ones((count, 4, 4), options.pop('dtype'))
    path = write(tmp_path / 's1.tif', array, **options)
    with rasterio.open(path, 'r+') as dataset:
        dataset.descriptions = named or dataset.descriptions
    with (
        rasterio.open(path) as dataset,
        pytest.raises(ValueError, match=rf's1\.tif .*{match}'),
    ):
        find_polarizations(dataset)


def test_bands(tmp_path: Path) -> None:
    """By name in any order, also in a file of one polarization beside an angle."""
    path = write(tmp_path / 's1.tif', np.ones((2, 4, 4), np.float32))
    for named, both, vv in (
        ((None, None), [1, 2], [1]),
        (('Gamma0_VH_db', 'Gamma0_VV_db'), [2, 1], [2]),
    ):
        with rasterio.open(path, 'r+') as dataset:
            dataset.descriptions = named
        with rasterio.open(path) as dataset:
            assert find_polarizations(dataset) == both
            assert find_polarization(dataset, 'VV') == vv
    with rasterio.open(path, 'r+') as dataset:
        dataset.descriptions = ('VH', 'angle')
    with rasterio.open(path) as dataset:
        assert find_polarization(dataset, 'VH') == [1]
        with pytest.raises(ValueError, match=r's1\.tif has bands called vh, angle'):
            find_polarization(dataset, 'VV')
