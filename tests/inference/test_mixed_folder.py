# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""A folder as people have it: many products, bad files, several dates, a missing mask."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from rasterio.transform import from_origin
from rasters import write
from small_scene import planetcr, read, save_checkpoint

from torchgeo_planetcr.tasks import CloudRemoval

SIZE = 120

#: B, G, R and NIR, reflectance x 10000.
VALUES = (600, 800, 1000, 2500)

#: Sentinel-1 by day: a product of HyP3 in power, images in dB, and one of another year.
RADAR = {'20230209': -10.0, '20230214': -12.0, '20191231': -20.0}


def make(dtype: str = 'uint16', scale: float = 1, order: Any = (0, 1, 2, 3)) -> Any:
    """An image without data in its first rows."""
    image = np.ones((len(order), SIZE, SIZE))
    for band, place in zip(image, order, strict=True):
        band *= VALUES[place] * scale if place is not None else 77
    image[:, :10] = 0
    return image.astype(dtype)


def write_products(folder: Path) -> dict[str, str]:
    """Write ten products, and what becomes of each: the day of Sentinel-1."""
    eight = (None, 0, None, 1, None, 2, None, 3)
    missing = make('float32', 1e-4)
    missing[:, :10] = np.nan
    negative = make('int16')
    negative[:, :10] = -9999
    alpha = np.concatenate([make(), np.full((1, SIZE, SIZE), 65535, np.uint16)])
    alpha[4, :10] = 0
    alpha[:4, :10] = 4321
    products: dict[str, tuple[NDArray[Any], str, dict[str, Any]]] = {
        '20230210_101500_33_2477_3B_AnalyticMS_SR': (make(), '20230209', {}),
        '20230211_101500_33_2477_3B_AnalyticMS_SR_8b_clip': (
            make(order=eight),
            '20230209',
            {},
        ),
        '4321_3363305_2023-02-13_1020_BGRN_SR': (make(), '20230214', {}),
        '2023-02-15_strip_6300_composite': (make(), '20230214', {}),
        'composite': (make(), '20230209', {'ACQUISITIONDATETIME': '2023-02-08'}),
        'field_20230216': (
            make(order=(2, 1, 0, 3)),
            '20230214',
            {'names': ('red', 'green', 'blue', 'nir')},
        ),
        'openEO_2023-02-10Z': (missing, '20230209', {'nodata': np.nan}),
        'xarray_20230214': (negative, '20230214', {'nodata': -9999}),
        'qgis_20230214': (alpha, '20230214', {'alpha': 'unspecified'}),
        'item': (make(), '20230214', {}),
    }
    for name, (image, _, options) in products.items():
        date = options.pop('ACQUISITIONDATETIME', None)
        names = options.pop('names', None)
        path = write(folder / f'{name}.tif', image, **({'nodata': 0} | options))
        with rasterio.open(path, 'r+') as dataset:
            dataset.descriptions = names or dataset.descriptions
            if dataset.count == 5:
                gray, undefined = ColorInterp.gray, ColorInterp.undefined
                dataset.colorinterp = [gray, *[undefined] * 3, ColorInterp.alpha]
            if date:
                dataset.update_tags(ns='IMAGERY', ACQUISITIONDATETIME=date)
    item = {'properties': {'datetime': '2023-02-14T10:00:00Z'}}
    (folder / 'item.json').write_text(json.dumps(item))
    return {name: day for name, (_, day, _) in products.items()}


def write_radar(folder: Path) -> None:
    """Write Sentinel-1 of three days, and what else lies beside it."""
    folder.mkdir()
    grid: dict[str, Any] = {'transform': from_origin(500001 - 30, 2000004 + 30, 10, 10)}
    for day, vv in RADAR.items():
        values = np.full((2, 50, 50), vv, np.float32)
        values[1] -= 7
        if day == '20230209':
            name = f'S1A_IW_{day}T051023_DVP_RTC10_G_gpuned_0A1B'
            for number, polarization in enumerate(('VV', 'VH')):
                power = 10 ** (values[number : number + 1] / 10)
                write(folder / f'{name}_{polarization}.tif', power, nodata=0, **grid)
            write(folder / f'{name}_dem.tif', values[:1], **grid)
        else:
            write(folder / f'S1A_IW_GRDH_1SDV_{day}T051023.tif', values, **grid)


@pytest.mark.filterwarnings('ignore::UserWarning')
def test_mixed_folder(tmp_path: Path) -> None:
    """All that can be is restored, with the right radar; what cannot is named at the end."""
    scenes, masks = tmp_path / 'scenes', tmp_path / 'masks'
    for folder in (scenes, masks):
        folder.mkdir()
    days = write_products(scenes)
    write(scenes / 'visual.tif', np.ones((3, SIZE, SIZE), np.uint8), photometric='RGB')
    whole = (scenes / 'composite.tif').read_bytes()
    (scenes / 'broken_20230214.tif').write_bytes(whole[: len(whole) // 2])
    cloudy = np.zeros((1, SIZE, SIZE), np.uint8)
    cloudy[:, 60:] = 1
    for name in days:
        stem = name.replace('3B_AnalyticMS_SR_8b', '3B_udm2')
        if name != 'item':
            write(masks / f'{stem.replace("AnalyticMS_SR", "udm2")}.tif', cloudy)
    write_radar(tmp_path / 'radar')
    checkpoint = save_checkpoint(
        tmp_path, CloudRemoval(model_kwargs={'features': 8, 'num_blocks': 1})
    )
    status, _, errors = planetcr(
        'remove-clouds',
        'scenes',
        *('--s1', 'radar', '--composite', 'masks', '--checkpoint', str(checkpoint)),
        *('--out', 'clear', '--accelerator', 'cpu'),
        folder=tmp_path,
    )
    assert status == 1
    assert {path.stem for path in (tmp_path / 'clear').glob('*.tif')} == {*days}
    lines = errors.splitlines()
    for name, day in days.items():
        when = f'{day[:4]}-{day[4:6]}-{day[6:]}'
        (said,) = [
            line for line in lines if f'scenes/{name}.tif: Sentinel-1 of ' in line
        ]
        assert when in said
        clear = read(tmp_path / 'clear' / f'{name}.tif')
        assert (clear[:, :10] == 0).all()
        kept = np.array(VALUES)[:, None, None] == clear[:, 12:40, :]
        # Where a mask calls the scene clear, it is kept
        assert kept.all() == (name != 'item')
    assert any('item.tif' in line and 'mask' in line for line in lines)
    end = '\n'.join(lines[-4:])
    assert '10 scenes' in end and 'visual.tif' in end and 'broken_20230214.tif' in end
    for noise in ('Traceback', 'UserWarning', 'site-packages'):
        assert noise not in errors
