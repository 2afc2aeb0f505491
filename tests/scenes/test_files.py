# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rasterio.transform import from_origin
from rasterio.warp import transform
from rasters import write

from torchgeo_planetcr.datasets.native_raster import LeftOutWarning
from torchgeo_planetcr.scenes import AssumptionWarning, Scene, SceneFiles, find_scenes

#: Names as Planet gives them to scenes and to their usable data masks.
ITEM = '20240607_014015_72_24e1'
SCENE, UDM2 = f'{ITEM}_3B_AnalyticMS_SR_8b_clip.tif', f'{ITEM}_3B_udm2_clip.tif'


def touch(folder: Path, *names: str) -> list[Path]:
    """Files without content, which are found all the same."""
    paths = [folder / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return paths


def write_at(path: Path, crs: str, longitude: float, latitude: float) -> Path:
    """Write an image of 3 km around a place."""
    (x,), (y,) = transform('EPSG:4326', crs, [longitude], [latitude])[:2]
    path.parent.mkdir(exist_ok=True, parents=True)
    array = np.zeros((2, 10, 10), dtype=np.float32)
    return write(
        path, array, crs=crs, transform=from_origin(x - 1500, y + 1500, 300, 300)
    )


class TestFindScenes:
    def test_file(self, tmp_path: Path) -> None:
        cloudy, s1, mask = touch(tmp_path, 'a.tif', 'b.tif', 'c.tif')
        expected = SceneFiles(str(cloudy), (str(s1),), None)
        assert find_scenes(cloudy, s1) == [expected]
        assert find_scenes(str(cloudy), str(s1)) == [expected]
        # A single mask goes with a single scene, whatever its name
        assert find_scenes(cloudy, s1, mask) == [expected._replace(mask=str(mask))]

    def test_folder(self, tmp_path: Path) -> None:
        scenes = touch(
            tmp_path / 'scenes', 'a.tif', f'deep/er/{SCENE}', 'm.TIFF', 'n[1].tif'
        )
        touch(tmp_path / 'scenes', f'deep/er/{UDM2}', 'a.xml', 'b.png', 'c_DN_UDM.tif')
        touch(tmp_path / 'scenes', 'd.vrt')
        s1 = tmp_path / 's1.tif'
        found = find_scenes(tmp_path / 'scenes', s1)
        assert found == [SceneFiles(str(path), (str(s1),)) for path in scenes]

    def test_glob(self, tmp_path: Path) -> None:
        touch(tmp_path, 'x/a.tif', 'x/b.img', 'y/a.tif', 'y/deep/c.tif', 'y/c_udm2.tif')
        touch(tmp_path, 'x/c.VRT')
        s1 = tmp_path / 's1.tif'

        def names(pattern: str) -> list[str]:
            found = find_scenes(str(tmp_path / pattern), s1)
            return [str(Path(files.cloudy).relative_to(tmp_path)) for files in found]

        assert names('*/a.tif') == ['x/a.tif', 'y/a.tif']
        assert names('x/*') == ['x/a.tif', 'x/b.img']
        assert names('**/*.tif') == ['x/a.tif', 'y/a.tif', 'y/deep/c.tif']
        assert names('y/**') == ['y/a.tif', 'y/deep', 'y/deep/c.tif']
        assert names('**/deep/**/c.tif') == ['y/deep/c.tif']
        # What is called so is no expression
        touch(tmp_path, 'z[1].tif')
        assert names('z[1].tif') == ['z[1].tif']

    @pytest.mark.parametrize(
        'link',
        [
            '/vsicurl/http://127.0.0.1:9/s1/vv.tiff?st=2023-02-10T00%3A00%3A00Z&sig=abc%3D',
            'https://x.org/s1[1]/vv*.tif?sig=a/b',
            's3://bucket/s1/vv[a].tif',
            '/vsizip/orders[1].zip/vv.tif',
        ],
    )
    def test_addresses(self, tmp_path: Path, link: str) -> None:
        """They are no glob expressions, whatever characters they have."""
        (scene,) = touch(tmp_path, 'a.tif')
        expected = SceneFiles(str(scene), (link,), link)
        assert find_scenes(scene, link, link) == [expected]
        assert find_scenes([scene], [link], [link]) == [expected]
        assert find_scenes(link)[0].cloudy == link

    def test_brackets_in_folders(self, tmp_path: Path) -> None:
        """Folders that exist are meant as they are called, before an expression, too."""
        scenes = touch(tmp_path, *(f'orders [2023]/x?{n}/a{n}.tif' for n in '12'))
        touch(tmp_path, 'orders 2/x?1/a1.tif')
        top = tmp_path / 'orders [2023]'
        for name in (top, top / '**' / '*.tif', top / 'x*' / 'a[12].tif'):
            found = find_scenes(str(name))
            assert [files.cloudy for files in found] == list(map(str, scenes))
        # A file that is missing is named when it is opened
        missing = str(top / 'b.tif')
        assert find_scenes(missing) == [SceneFiles(missing)]

    def test_folder_by_two_ways(self, tmp_path: Path) -> None:
        scenes = touch(tmp_path, 'a/x.tif', 'a/y.tif')
        (tmp_path / 'latest').symlink_to('a')
        (tmp_path / 'a' / 'z.tif').symlink_to('x.tif')
        found = find_scenes([tmp_path, tmp_path / 'latest', f'{tmp_path}/*/*.tif'])
        expected = [*scenes, tmp_path / 'a' / 'z.tif']
        assert [files.cloudy for files in found] == list(map(str, expected))

    def test_expression_in_this_folder(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        touch(tmp_path, 'a.tif', 'x/b.tif')
        monkeypatch.chdir(tmp_path)
        assert [files.cloudy for files in find_scenes('**/*.tif')] == [
            'a.tif',
            'x/b.tif',
        ]

    @pytest.mark.parametrize('name', ['', '**/*.tif', '**'])
    def test_links_in_circles(self, tmp_path: Path, name: str) -> None:
        """They end, and files are found once or twice."""
        (scene,) = touch(tmp_path, 'a/s.tif')
        for place, target in (('a/up', '..'), ('a/again', '.'), ('self', '.')):
            (tmp_path / place).symlink_to(target)
        found = find_scenes(os.path.join(tmp_path, name))
        assert str(scene) in [files.cloudy for files in found]
        assert len(found) < 10

    def test_sequence(self, tmp_path: Path) -> None:
        """Files, folders and expressions, each file once."""
        touch(tmp_path, 'b.tif', 'x/a.tif', 'x/c.tif', 'y/d.tif')
        given = [tmp_path / 'b.tif', tmp_path / 'x', str(tmp_path / '*' / '[ad].tif')]
        found = find_scenes(given, tmp_path / 's1.tif')
        assert [Path(files.cloudy).name for files in found] == [
            'b.tif',
            'a.tif',
            'c.tif',
            'd.tif',
        ]

    def test_one_by_one(self, tmp_path: Path) -> None:
        """Neither opened nor named alike."""
        scenes, radar, masks = (
            touch(tmp_path, *(f'{kind}{number}.tif' for number in (3, 1, 2)))
            for kind in ('scene', 's', 'm')
        )
        expected = [
            SceneFiles(str(scene), (str(s1),), str(mask))
            for scene, s1, mask in zip(scenes, radar, masks, strict=True)
        ]
        assert find_scenes(scenes, radar, masks) == expected
        assert find_scenes(tuple(map(str, scenes)), radar) == [
            files._replace(mask=None) for files in expected
        ]

    def test_images_that_meet(self, tmp_path: Path) -> None:
        """Among many in other zones and places; some scenes have two, in their order."""
        places = [(93.4, 18.0), (35.0, -10.0), (-69.2, -33.0), (179.999, 10.0)]
        zones = ['EPSG:32646', 'EPSG:32736', 'EPSG:32719', 'EPSG:32660']
        scenes = [
            write_at(tmp_path / 'scenes' / f'{number}.tif', zone, *place)
            for number, (zone, place) in enumerate(zip(zones, places, strict=True))
        ]
        radar = tmp_path / 'radar'
        # In another zone than the scene, or in degrees
        write_at(radar / 'z.tif', 'EPSG:32647', 93.41, 18.01)
        write_at(radar / 'a.tif', 'EPSG:32646', 93.39, 18.0)
        write_at(radar / 'm.tif', 'EPSG:32735', 35.01, -10.01)
        write_at(radar / 'e.tif', 'EPSG:32601', -179.999, 10.0)
        transform = from_origin(-70, -32, 0.02, 0.02)
        degrees = np.zeros((2, 100, 100), dtype=np.float32)
        write(radar / 'g.tif', degrees, crs='EPSG:4326', transform=transform)
        for number, longitude in enumerate(np.linspace(-60, 30, 20)):
            write_at(radar / f'other{number}.tif', 'EPSG:32633', longitude / 9, 50)
        found = find_scenes(scenes[0].parent, radar)
        assert [[Path(path).stem for path in files.s1] for files in found] == [
            ['a', 'z'],
            ['m'],
            ['g'],
            ['e'],
        ]
        paths = [radar / f'{name}.tif' for name in 'zmagem']
        found = find_scenes(scenes[0], paths)
        assert [Path(path).stem for path in found[0].s1] == ['z', 'a']

        lost = write_at(tmp_path / 'lost.tif', 'EPSG:32633', 15.0, 20.0)
        # The others can be used
        found = find_scenes([lost, *scenes], radar)
        assert [bool(files.s1) for files in found] == [False, True, True, True, True]

    def test_sequence_of_folders(self, tmp_path: Path) -> None:
        """One for each scene are files, not folders."""
        scene = write_at(tmp_path / 'scene.tif', 'EPSG:32646', 93.4, 18.0)
        image = write_at(tmp_path / 's1' / 'a.tif', 'EPSG:32646', 93.4, 18.0)
        write_at(tmp_path / 's1' / 'b.tif', 'EPSG:32646', 94.4, 18.0)
        found = find_scenes([scene], [image.parent])
        assert found == [SceneFiles(str(scene), (str(image),))]

    @pytest.mark.parametrize('beside', [True, False])
    def test_masks_of_planet(self, tmp_path: Path, beside: bool) -> None:
        other = ITEM.replace('72', '99')
        folder = tmp_path / 'masks'
        masks = folder if not beside else tmp_path / 'scenes'
        scenes = touch(tmp_path / 'scenes', SCENE, f'{other}_3B_AnalyticMS_SR.tif')
        expected = touch(masks, UDM2, f'{other}_3B_udm2.tif')
        found = find_scenes(tmp_path / 'scenes', tmp_path / 's1.tif', masks)
        assert [files.cloudy for files in found] == [str(path) for path in scenes]
        assert [files.mask for files in found] == [str(path) for path in expected]

    def test_masks_of_same_name(self, tmp_path: Path) -> None:
        scenes = touch(tmp_path / 'scenes', 'a.tif', 'b.v2.tiff', 'x/c.tif')
        masks = touch(tmp_path / 'masks', 'a.tif', 'b.v2.tif', 'c.tif', 'd.tif')
        s1 = tmp_path / 's1.tif'
        found = find_scenes(scenes[0].parent, s1, masks[0].parent)
        assert [files.mask for files in found] == [str(path) for path in masks[:3]]
        (first,) = find_scenes(scenes[2], s1, masks[0].parent)
        assert first.mask == str(masks[2])

    def test_scene_without_mask(self, tmp_path: Path) -> None:
        """It is said, and does not stop the others."""
        scenes = touch(tmp_path / 'scenes', 'a.tif', 'b.v2.tiff', 'c.tif')
        masks = touch(tmp_path / 'masks', 'a_udm2.tif', 'c_mask.tif', 'd_udm2.tif')
        with pytest.warns(AssumptionWarning) as said:
            found = find_scenes(scenes[0].parent, masks=masks[0].parent)
        assert [files.mask for files in found] == [str(masks[0]), None, str(masks[1])]
        assert not any(files.problem for files in found)
        (text,) = [str(warning.message) for warning in said]
        assert str(scenes[1]) in text
        assert 'b.v2_udm2.tif' in text
        touch(tmp_path / 'masks', 'b.v2_udm2.tif')
        found = find_scenes(scenes[0].parent, masks=masks[0].parent)
        assert Path(found[1].mask or '').name == 'b.v2_udm2.tif'

    def test_only_mask_of_another_scene(self, tmp_path: Path) -> None:
        """In a folder it is not used for the one scene; a file that is named is."""
        (scene,) = touch(tmp_path / 'scenes', SCENE)
        (mask,) = touch(tmp_path / 'masks', '20221224_101500_33_2477_3B_udm2.tif')
        for place in (mask.parent, f'{mask.parent}/*.tif', [mask.parent]):
            with pytest.warns(AssumptionWarning, match='holds no mask'):
                (found,) = find_scenes(scene.parent, masks=place)
            assert found.mask is None
        for named in (mask, str(mask), [mask]):
            (found,) = find_scenes(scene.parent, masks=named)
            assert found.mask == str(mask)
        empty = tmp_path / 'empty'
        empty.mkdir()
        with pytest.raises(ValueError, match=f'{empty} holds no mask'):
            find_scenes(scene, masks=empty)

    @pytest.mark.parametrize(
        ('scene', 'mask'),
        [
            ('composite', 'composite_udm2'),
            ('composite', 'composite_udm'),
            ('composite_file_format', 'composite_udm2_file_format'),
            ('2023-02-10_strip_6300_composite', '2023-02-10_strip_6300_composite_udm2'),
            (
                '4321_3363305_2019-01-09_1020_BGRN_SR',
                '4321_3363305_2019-01-09_1020_udm2',
            ),
            (
                '4321_3363305_2019-01-09_1020_BGRN_SR_clip',
                '4321_3363305_2019-01-09_1020_udm2_clip',
            ),
            ('3163208_2017-06-14_RE3_3A_Analytic_SR', '3163208_2017-06-14_RE3_3A_udm'),
            (f'{ITEM}_3B_AnalyticMS_SR_8b_harmonized_clip', f'{ITEM}_3B_udm2_clip'),
            (f'{ITEM}_3B_AnalyticMS_SR', f'{ITEM}_3B_AnalyticMS_DN_udm'),
            (f'{ITEM}_3B_AnalyticMS_SR', f'{ITEM}_3B_AnalyticMS_SR_mask'),
            (f'{ITEM}_3B_AnalyticMS_SR', ITEM),
            ('L15-1281E-1241N_quad', 'L15-1281E-1241N_ortho_udm2'),
            ('field', 'field_udm2'),
            ('field', 'field_mask'),
            ('field', 'FIELD_UDM2'),
            ('Field', 'field-cloud-mask'),
            ('field', 'mask_field'),
            ('field_clip', 'field_udm2'),
            ('field_20230210', 'field_mask_20230210'),
            (f'{ITEM}_3B_AnalyticMS_SR_utm33', f'{ITEM}_3B_udm2_utm33'),
            (f'{ITEM}_3B_AnalyticMS_SR_utm33', f'{ITEM}_3B_udm2'),
            ('field_3b', 'field_3b_udm2'),
            ('north_cloud_forest_3', 'north_cloud_forest_3_mask'),
        ],
    )
    def test_names_of_an_item(self, tmp_path: Path, scene: str, mask: str) -> None:
        """In a folder of others, beside the scene or elsewhere, in any case.

        Names of composites are those of
        https://docs.planet.com/develop/apis/orders/delivery/, and those of assets and tools
        of https://docs.planet.com/develop/apis/orders/tools/.
        """
        others = (
            'north_cloud_forest_4',
            'field_2',
            'field_3a',
            '20240608_014015_72_24e1_3B',
        )
        for folder in ('scenes', 'masks'):
            touch(tmp_path, f'scenes/{scene}.tif', f'{folder}/{mask}.TIF')
            touch(tmp_path / folder, *(f'{other}_mask.tif' for other in others))
            expected = str(tmp_path / folder / f'{mask}.TIF')
            named = find_scenes(
                tmp_path / 'scenes' / f'{scene}.tif', masks=tmp_path / folder
            )
            assert [files.mask for files in named] == [expected]
            Path(expected).unlink()

    def test_masks_are_no_scenes(self, tmp_path: Path) -> None:
        """Beside their scenes; and a scene with such a word in its name is one."""
        scenes = touch(
            tmp_path, 'Gudmundsdal.tif', 'a.tif', 'mask_forest.tif', 'x/b_SR.tif'
        )
        masks = touch(tmp_path, 'a_mask.tif', 'b_cloudmask.tif', 'udm2_c.tif')
        found = find_scenes(tmp_path)
        assert [files.cloudy for files in found] == list(map(str, scenes))
        # Whoever names one means it
        found = find_scenes([tmp_path, masks[0]])
        assert {files.cloudy for files in found} == set(map(str, [*scenes, masks[0]]))

    @pytest.mark.parametrize('kind', ['masks', 'clear', 'landcover'])
    def test_others_in_the_folder_of_scenes(self, tmp_path: Path, kind: str) -> None:
        """They are no scenes, whatever their names; scenes beside their masks are."""
        scenes = touch(tmp_path, 'x/a.tif', 'x/b_SR.tif')
        others = touch(tmp_path, f'x/{kind}/a.tif', f'x/{kind}/b.tif')
        given: Any = {kind: tmp_path / 'x' / kind}
        if kind == 'landcover':
            others[1].unlink()
        found = find_scenes(tmp_path / 'x', **given)
        assert [files.cloudy for files in found] == list(map(str, scenes))
        if kind == 'masks':
            assert [files.mask for files in found] == list(map(str, others))
            (mask,) = touch(tmp_path, 'x/masks/a_udm2.tif')
            found = find_scenes([tmp_path / 'x'], masks=mask.parent)
            assert [files.cloudy for files in found] == [
                *map(str, scenes),
                str(others[0]),
            ]

    def test_mask_in_the_nearest_folder(self, tmp_path: Path) -> None:
        """Composites of all orders have one name."""
        touch(tmp_path, *(f'orders/{x}/composite.tif' for x in 'abcd'))
        touch(tmp_path, *(f'orders/{x}/composite_udm2.tif' for x in 'acd'))
        with pytest.warns(AssumptionWarning, match='b/composite.tif'):
            found = find_scenes(tmp_path / 'orders', masks=tmp_path / 'orders')
        expected = [f'{tmp_path}/orders/{x}/composite_udm2.tif' for x in 'abcd']
        assert [files.mask for files in found] == [expected[0], None, *expected[2:]]
        # Trees of the same structure
        touch(tmp_path, *(f'masks/{x}/composite_udm2.tif' for x in 'bd'))
        with pytest.warns(AssumptionWarning):
            found = find_scenes(tmp_path / 'orders', masks=tmp_path / 'masks')
        expected = [f'{tmp_path}/masks/{x}/composite_udm2.tif' for x in 'bd']
        assert [files.mask for files in found] == [None, expected[0], None, expected[1]]
        # One mask cannot be that of all
        for x in 'bd':
            (tmp_path / f'masks/{x}/composite_udm2.tif').unlink()
        touch(tmp_path, 'masks/composite_udm2.tif')
        with pytest.warns(AssumptionWarning):
            found = find_scenes(tmp_path / 'orders', masks=tmp_path / 'masks')
        assert [files.mask for files in found] == [None] * 4

    def test_mask_of_an_item_in_two_orders(self, tmp_path: Path) -> None:
        scenes = touch(tmp_path / 'orders', f'a/{SCENE}', f'b/{SCENE}')
        (mask,) = touch(tmp_path / 'masks', f'{ITEM}_3B_udm2.tif')
        found = find_scenes(scenes[0].parents[1], masks=mask.parent)
        assert [files.mask for files in found] == [str(mask)] * 2

    def test_better_mask(self, tmp_path: Path) -> None:
        """A new one before an old one; a toss-up is refused for its scene alone."""
        names = (SCENE, 'a.tif', 'b.tif', f'{ITEM}_3B_AnalyticMS_DN_udm_clip.tif', UDM2)
        touch(tmp_path, *names, 'a_mask.tif', 'b_mask.tif', 'b_udm2.tif')
        found = find_scenes(tmp_path, masks=tmp_path)
        assert [Path(files.mask or '-').name for files in found] == [
            UDM2,
            'a_mask.tif',
            '-',
        ]
        assert [bool(files.problem) for files in found] == [False, False, True]
        assert {'b_mask.tif', 'b_udm2.tif'} <= {
            Path(word).name for word in found[2].problem.split()
        }
        with pytest.raises(ValueError, match=r'b_mask\.tif'):
            find_scenes(tmp_path / 'b.tif', masks=tmp_path)

    def test_order_that_names_contradict(self, tmp_path: Path) -> None:
        scenes = touch(tmp_path, 'a.tif', 'b.tif', 'c.tif')
        masks = touch(tmp_path, 'b_udm2.tif', 'a_udm2.tif', 'd_udm2.tif')
        with pytest.warns(AssumptionWarning, match=r'c\.tif'):
            found = find_scenes(scenes, masks=masks)
        assert [files.mask for files in found] == [str(masks[1]), str(masks[0]), None]

    @pytest.mark.parametrize('suffix', ['csv', 'CSV'])
    def test_table(self, tmp_path: Path, suffix: str) -> None:
        """Paths start at the folder of the table, wherever one is."""
        folder = tmp_path / 'list'
        folder.mkdir()
        table = folder / f'scenes.{suffix}'
        table.write_text('cloudy,s1\na.tif,../s1/b.tif\n/abs/c.tif,d.tif\n')
        assert find_scenes(table) == [
            SceneFiles(f'{folder}/a.tif', (f'{folder}/../s1/b.tif',)),
            SceneFiles('/abs/c.tif', (f'{folder}/d.tif',)),
        ]
        table.write_text('cloudy,s1,mask\na.tif,b.tif,m/c.tif\n')
        assert find_scenes(str(table)) == [
            SceneFiles(f'{folder}/a.tif', (f'{folder}/b.tif',), f'{folder}/m/c.tif')
        ]

    @pytest.mark.parametrize(
        ('text', 'error', 'message'),
        [
            ('cloudy\na.tif\n', ValueError, 'has the columns cloudy instead of'),
            ('s1,cloudy\nb,a\n', ValueError, 'has the columns s1, cloudy instead'),
            ('cloudy,s1,masks\na,b,c\n', ValueError, 'columns cloudy, s1, masks ins'),
            ('cloudy,s1\n', ValueError, 'has no rows'),
            ('cloudy,s1\na.tif,\n', ValueError, 'empty cell in row 1'),
            ('cloudy,s1,mask\n,b,c\na,,d\n', ValueError, 'empty cell in row 2'),
            ('', OSError, 'is not a readable CSV file'),
            ('cloudy,s1\na,b\nc,d,e\n', OSError, 'is not a readable CSV file'),
            (None, OSError, 'is not a readable CSV file'),
        ],
    )
    def test_wrong_table(
        self, tmp_path: Path, text: str | None, error: type[Exception], message: str
    ) -> None:
        table = tmp_path / 'scenes.csv'
        if text is not None:
            table.write_text(text)
        with pytest.raises(error, match=f'(?s){table} .*{message}'):
            find_scenes(table)

    @pytest.mark.parametrize(
        'name',
        ['/vsicurl/http://127.0.0.1/x.tif', '/vsizip/x.zip/x.tif', 'x.vrt', '../X.VRT'],
    )
    def test_table_of_other_than_files(self, tmp_path: Path, name: str) -> None:
        """An address, an archive or a mosaic, by the row."""
        table = tmp_path / 'scenes.csv'
        table.write_text(f'cloudy,s1\na.tif,b.tif\nc.tif,{name}\n')
        first, second = find_scenes(table)
        assert first == SceneFiles(f'{tmp_path}/a.tif', (f'{tmp_path}/b.tif',))
        assert re.search(f'{table} .* in row 2', second.problem)
        assert name in second.problem
        # Nothing of the row is opened
        assert second == SceneFiles(f'{table}, row 2', problem=second.problem)
        with pytest.raises(ValueError, match=f'{table} .* in row 2') as caught:
            Scene(second)
        table.write_text(f'cloudy,s1\n{name},b.tif\n')
        with pytest.raises(ValueError, match=f'{table} .* in row 1') as caught:
            find_scenes(table)
        assert name in str(caught.value)

    def test_table_with_empty_cells(self, tmp_path: Path) -> None:
        """No mask is no problem, no scene or Sentinel-1 is one of its row."""
        table = tmp_path / 'scenes.csv'
        table.write_text('cloudy,s1,mask\na,b,c\nd,e,\n,f,g\nh,,i\n')
        with pytest.warns(AssumptionWarning, match=f'{tmp_path}/d.* row 2'):
            found = find_scenes(table)
        assert [Path(files.mask or '-').name for files in found] == ['c', '-', '-', '-']
        for number, files in enumerate(found, start=1):
            assert (f'in row {number}' in files.problem) == (number > 2)

    def test_table_in_this_folder(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A name in it never becomes a prefix of GDAL's."""
        (tmp_path / 'scenes.csv').write_text('cloudy,s1\nGTIFF_DIR:1:/x.tif,b.tif\n')
        monkeypatch.chdir(tmp_path)
        (found,) = find_scenes('scenes.csv')
        assert found == SceneFiles('./GTIFF_DIR:1:/x.tif', ('./b.tif',))

    @pytest.mark.parametrize(
        'damage',
        [
            lambda path: os.mkfifo(path),
            lambda path: path.symlink_to('/dev/zero'),
            lambda path: path.mkdir(),
            lambda path: path.symlink_to(path),
            lambda path: path.write_bytes(b'cloudy,s1\na\0.tif,b.tif\n'),
            lambda path: path.write_text('cloudy,s1\nä,b\n', encoding='utf-16'),
            lambda path: path.write_text('cloudy,s1\nä,b\n', encoding='latin-1'),
        ],
        ids=['pipe', 'device', 'folder', 'loop', 'NUL', 'UTF-16', 'Latin-1'],
    )
    def test_table_that_is_no_text(
        self, tmp_path: Path, damage: Callable[[Path], object]
    ) -> None:
        table = tmp_path / 'scenes.csv'
        damage(table)
        with pytest.raises(OSError, match=re.escape(str(table))):
            find_scenes(table)

    def test_wrong_arguments(self, tmp_path: Path) -> None:
        table, scene, s1 = touch(tmp_path, 'list.csv', 'a.tif', 's1.tif')
        for others in ((s1, None), (None, s1)):
            with pytest.raises(ValueError, match=f'{table} names the images'):
                find_scenes(table, *others)
        assert find_scenes(scene) == [SceneFiles(str(scene))]
        empty = tmp_path / 'empty'
        touch(empty, UDM2, 'readme.txt')
        for nothing in (empty, str(empty / '*.vrt'), [empty], []):
            with pytest.raises(ValueError, match='holds no scene') as caught:
                find_scenes(nothing, s1)
            assert str(nothing) in str(caught.value)
        image = write_at(tmp_path / 'b.tif', 'EPSG:32646', 93.4, 18.0)
        with pytest.raises(ValueError, match=f'{empty} holds no image of Sentinel-1'):
            find_scenes(image, empty)
        # Of several images the place is read, and one that is bad does not stop others
        with pytest.warns(LeftOutWarning, match=f'{s1} is not a readable raster'):
            found = find_scenes(image, [s1, image])
        assert found == [SceneFiles(str(image), (str(image),))]
        other = touch(tmp_path, 's2.tif')[0]
        with pytest.raises(OSError, match=f'{s1} is not a readable raster'):
            find_scenes(image, [s1, other])

    def test_clear_images(self, tmp_path: Path) -> None:
        """By their names, beside Planet's masks, which are none."""
        scenes = touch(tmp_path / 'scenes', SCENE)
        clear = touch(tmp_path / 'clear', SCENE, UDM2)
        touch(tmp_path / 'scenes', 'b.tif')
        found = find_scenes(scenes, None, clear=tmp_path / 'clear')
        assert [files.clear for files in found] == [str(clear[0])]
        # One without does not stop the others, and is refused when it is opened
        first, second = find_scenes(tmp_path / 'scenes', clear=tmp_path / 'clear')
        assert (first.clear, first.problem) == (str(clear[0]), '')
        assert (second.clear, second.cloudy) == (None, f'{tmp_path}/scenes/b.tif')
        with pytest.raises(ValueError, match=r'clear holds no clear image of .*b\.tif'):
            Scene(second)
        with pytest.raises(ValueError, match=r'clear holds no clear image of .*b\.tif'):
            find_scenes(second.cloudy, clear=tmp_path / 'clear')

    def test_land_cover(self, tmp_path: Path) -> None:
        """Each scene gets the map that it meets."""
        scene = write_at(tmp_path / 'scene.tif', 'EPSG:32646', 93.4, 18.0)
        write_at(tmp_path / 'maps' / 'a.tif', 'EPSG:32646', 90.4, 18.0)
        near = write_at(tmp_path / 'maps' / 'b.tif', 'EPSG:32646', 93.4, 18.0)
        (only,) = find_scenes(scene, landcover=tmp_path / 'maps')
        assert only.landcover == str(near)
        lost = write_at(tmp_path / 'lost.tif', 'EPSG:32646', 91.9, 18.0)
        found = find_scenes([scene, lost], landcover=tmp_path / 'maps')
        assert [files.landcover for files in found] == [str(near), None]
        assert not found[0].problem
        assert str(lost) in found[1].problem
        (bad,) = touch(tmp_path, 'bad.tif')
        _, unreadable = find_scenes([scene, bad], landcover=tmp_path / 'maps')
        with pytest.raises(OSError, match=f'{bad} is not a readable raster'):
            Scene(unreadable)
        (tmp_path / 'empty').mkdir()
        with pytest.raises(ValueError, match='empty holds no land cover'):
            find_scenes(scene, landcover=tmp_path / 'empty')
