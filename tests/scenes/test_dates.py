# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import json
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasters import write

from torchgeo_planetcr.scenes.dates import Moment, date_in_name, find_date, parse_date

DAY = date(2023, 2, 9)
MOMENT = datetime(2023, 2, 9, 5, 10, 23)


def find(path: Path, **tags: str) -> Moment | None:
    """Find the date of a file with tags."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, np.ones((1, 2, 2), np.uint16))
    namespace = tags.pop('ns', None)
    with rasterio.open(path, 'r+') as dataset:
        dataset.update_tags(0, namespace, **tags)
    with rasterio.open(path) as dataset:
        return find_date(dataset, str(path))


@pytest.mark.parametrize(
    ('name', 'expected'),
    [
        # https://docs.planet.com/data/imagery/planetscope/
        ('20230209_051023_33_2477_3B_AnalyticMS_SR_8b.tif', MOMENT),
        ('20230209_051023_1_0f22_3B_udm2_clip.tif', MOMENT),
        ('2023-02-09_strip_6300_composite.tif', DAY),
        ('4321_3363305_2023-02-09_1020_BGRN_SR.tif', DAY),
        # https://sentiwiki.copernicus.eu/web/s1-products
        (
            'S1A_IW_GRDH_1SDV_20230209T051023_20230209T051048_047162_05A89B_1.tif',
            MOMENT,
        ),
        (
            's1a-iw-grd-vv-20230209t051023-20230209t051048-047162-05a89b-001.tiff',
            MOMENT,
        ),
        # https://hyp3-docs.asf.alaska.edu/guides/rtc_product_guide/
        ('S1A_IW_20230209T051023_DVP_RTC10_G_gpuned_0A1B_VV.tif', MOMENT),
        # The second date is that of processing
        (
            'OPERA_L2_RTC-S1_T091-195252-IW3_20230209T051023Z_20230211T010203Z_S1A_30_v1.tif',
            MOMENT,
        ),
        # https://s1-tiling.pages.orfeo-toolbox.org/s1tiling/latest/files.html
        ('s1a_33NWB_vv_DES_007_20230209txxxxxx.tif', DAY),
        ('s1a_33NWB_vv_DES_007_20230209t051023.tif', MOMENT),
        # https://acube.eodc.eu, File naming convention
        ('SIG0_SGRTA02_S1A_IWRGDVV_20230209_EU10M_E090N066T6.tif', DAY),
        ('20230209051023.tif', MOMENT),
        ('field_2023_02_09.tif', DAY),
        # No dates: a number of a tile, of a month, of no month, and of a day in two ways
        ('field.tif', None),
        ('4321_20231301_SR.tif', None),
        ('global_monthly_2023_02_mosaic.tif', None),
        ('120230209.tif', None),
        ('field_2023-0209.tif', None),
        # The query of an address is no name
        ('iw-vv.rtc.tiff?st=2023-02-10T00%3A00%3A00Z&sig=abc%3D', None),
    ],
)
def test_name(name: str, expected: Moment | None) -> None:
    assert date_in_name(f'/vsicurl/https://x/2019-01-01/{name}') == expected


def test_wrong_time() -> None:
    """What follows a date may be no time of day."""
    assert parse_date('20230209_051093_1.tif') == DAY
    assert parse_date('20230209_251023') is None


@pytest.mark.parametrize(
    'tags',
    [
        {'ACQUISITIONDATETIME': '2023-02-09T05:10:23Z', 'ns': 'IMAGERY'},
        {'ACQUISITION_DATETIME': '2023-02-09T05:10:23Z'},
        {'ZERO_DOPPLER_START_TIME': '2023-02-09T05:10:23.123456Z'},
        {'acquired': '2023-02-09T05:10:23.1Z'},
        # https://gdal.org/en/stable/drivers/raster/safe.html
        {
            'ACQUISITION_STOP_TIME': '2023-02-09T05:10:48.1',
            'ACQUISITION_START_TIME': '2023-02-09T05:10:23.1',
            'PROCESSING_START_TIME': '2023-02-10T00:00:00',
        },
        {'SENSING_START': '2023-02-09T05:10:23Z'},
        # Attributes of https://wiki.esipfed.org/Attribute_Convention_for_Data_Discovery_1-3
        {
            'date_created': '2024-02-09T05:10:23Z',
            'time_coverage_end': '2023-02-09T06:00:00Z',
            'time_coverage_start': '2023-02-09T05:10:23Z',
        },
        {'date': '2023-02-09 05:10:23'},
        {'TIFFTAG_DATETIME': '2023:02:09 05:10:23'},
    ],
)
def test_tags(tmp_path: Path, tags: dict[str, str]) -> None:
    assert find(tmp_path / 'field.tif', **tags) == MOMENT


def test_order(tmp_path: Path) -> None:
    """A name counts more than tags, and the day of acquisition more than the file's.

    S1Tiling writes the time at which it has made a tile into ``TIFFTAG_DATETIME``:
    https://s1-tiling.pages.orfeo-toolbox.org/s1tiling/latest/files.html
    """
    tags = {
        'ACQUISITION_DATETIME': '2023-02-09T05:10:23Z',
        'TIFFTAG_DATETIME': '2024:05:06 07:08:09',
    }
    assert find(tmp_path / 'tile.tif', **tags) == MOMENT
    assert find(tmp_path / 'tile_20230210.tif', **tags) == date(2023, 2, 10)
    assert find(tmp_path / 'none.tif') is None


@pytest.mark.parametrize(
    ('name', 'item'),
    [
        ('field.json', {'properties': {'datetime': '2023-02-09T05:10:23Z'}}),
        ('field_metadata.json', {'properties': {'acquired': '2023-02-09T05:10:23.9Z'}}),
        (
            'item.json',
            {
                'properties': {
                    'start_datetime': '2023-02-09T05:10:23Z',
                    'datetime': None,
                },
                'assets': {'vv': {'href': 'https://x/field.tif?sig=a'}},
            },
        ),
    ],
)
def test_item(tmp_path: Path, name: str, item: dict[str, Any]) -> None:
    """STAC items and Planet's metadata; of other files, or damaged, they do not count."""
    other = {'properties': {'datetime': '2020-01-01T00:00:00Z'}, 'assets': {'a': 1}}
    (tmp_path / 'another.json').write_text(json.dumps(other))
    for number, text in enumerate(('{', '[]', '{"properties": 3}')):
        (tmp_path / f'a{number}.json').write_text(text)
    (tmp_path / name).write_text(json.dumps(item))
    assert find(tmp_path / 'field.tif') == MOMENT


def test_items(tmp_path: Path) -> None:
    """Above a file, and in a collection, an item must name this file, and not its name."""

    def make(day: str, href: str) -> dict[str, Any]:
        return {
            'properties': {'datetime': f'{day}T05:10:23Z'},
            'assets': {'vv': {'href': href}},
        }

    path = tmp_path / 'near' / 'iw-vv.rtc.tiff'
    far, near = (
        make('2020-02-09', './far/iw-vv.rtc.tiff'),
        make('2023-02-09', str(path)),
    )
    (tmp_path / 'a.json').write_text(json.dumps(far))
    assert find(path) is None
    items = {'type': 'FeatureCollection', 'features': [far, 1, near]}
    (tmp_path / 'b.json').write_text(json.dumps(items))
    assert find(path) == MOMENT
    (tmp_path / 'b.json').write_text(
        json.dumps(make('2023-02-09', './near/iw-vv.rtc.tiff'))
    )
    assert find(path) == MOMENT


@pytest.mark.parametrize(
    ('folder', 'expected'),
    [
        ('S1A_IW_GRDH_1SDV_20230209T051023_20230209T051048_047162_05A89B', MOMENT),
        ('2023-02-09', DAY),
        ('20230209', DAY),
        ('s1_2023-02-09_desc', DAY),
        ('Sentinel-1 20230209T051023', MOMENT),
        ('2023/02/09', DAY),
        ('2023/2/9', DAY),
        ('2023/02', None),
        ('radar', None),
        # That of an order, of a project
        ('order of 2023-02-09', None),
    ],
)
def test_folder(tmp_path: Path, folder: str, expected: Moment | None) -> None:
    assert find(tmp_path / folder / 'measurement' / 'iw-vv.rtc.tiff') == expected
