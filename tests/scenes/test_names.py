# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import pytest

from torchgeo_planetcr.scenes.names import (
    closeness,
    count_others,
    is_mask,
    is_old_udm,
    is_udm,
    item,
    stem,
)

ITEM = '20240607_014015_72_24e1'


class TestItem:
    @pytest.mark.parametrize(
        ('names', 'expected'),
        [
            (
                [
                    f'{ITEM}_3B_AnalyticMS.tif',
                    f'{ITEM}_3B_AnalyticMS_SR_8b_harmonized_clip_reproject.tif',
                    f'{ITEM}_3B_Visual_clip_file_format.tif',
                    f'{ITEM}_1A_udm2.tif',
                    f'{ITEM}_3B_udm2_utm33 (1).tif',
                    f'x/{ITEM}_3B_AnalyticMS_DN_udm.TIF',
                    f'/vsicurl/https://x.org/{ITEM}_3B_udm2.tif?sig=a/b.tif',
                ],
                '20240607 014015 72 24e1',
            ),
            (
                [
                    '3163208_2017-06-14_RE3_3A_Analytic_SR.tif',
                    '3163208_2017-06-14_RE3_3A_udm.tif',
                ],
                '3163208 2017 06 14 re3',
            ),
            (
                [
                    '20200814_162132_ssc4d3_0021_analytic_SR.tif',
                    '20200814_162132_ssc4d3_0021_udm2.tif',
                ],
                '20200814 162132 ssc4d3 0021',
            ),
            (
                ['Field.tif', 'field-mask.tif', 'FIELD_UDM2.tif', 'mask_field.tif'],
                'field',
            ),
            (['field_3a.tif', 'field_3a_mask.tif', 'field_3a_udm2.tif'], 'field 3a'),
            (
                ['20240607_field_3b.tif', '20240607_field_3b_mask.tif'],
                '20240607 field 3b',
            ),
            (['udm2.tif', 'analytic_sr.tif', 'mask.tif'], ''),
        ],
    )
    def test_same(self, names: list[str], expected: str) -> None:
        assert {' '.join(item(name)) for name in names} == {expected}


@pytest.mark.parametrize(
    ('name', 'kinds'),
    [
        ('a.tif', (False, False, False)),
        ('Gudmund_unmasked.tif', (False, False, False)),
        ('a_mask.tif', (True, False, False)),
        ('a_cloud_mask_2.tif', (True, False, False)),
        ('a_UDM2_clip.tif', (True, True, False)),
        ('a_DN_udm.tif', (True, True, True)),
    ],
)
def test_kinds(name: str, kinds: tuple[bool, bool, bool]) -> None:
    assert (is_mask(name), is_udm(name), is_old_udm(name)) == kinds


def test_count_others() -> None:
    assert count_others('a_3_udm2_clip.tif', 'a_3_SR.tif') == 0
    assert count_others('a_3_udm2 (1).tif', 'a_3_SR.tif') == 1


@pytest.mark.parametrize(
    ('second', 'expected'),
    [('/x/a/b', 8), ('/x/a', 3), ('/y/a/b', 3), ('/x/b', 3), ('/x/c/../a/b/.', 8)],
)
def test_closeness(second: str, expected: int) -> None:
    assert closeness('/x/a/b', second) == expected
    assert closeness(second, '/x/a/b') == expected


def test_stem() -> None:
    assert stem('a/b.v2.tif') == 'b.v2'
    assert stem('a/what?.tif') == 'what?'
    assert stem('https://x.org/a.tif?sig=b/c.d') == 'a'
