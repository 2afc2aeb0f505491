# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from rasterio.transform import from_origin
from rasterio.warp import transform
from rasters import write
from small_scene import (
    LEFT,
    SHAPE,
    TOP,
    expected_radar,
    make_image,
    make_mask,
    write_radar,
    write_scene,
)
from torch.utils.data import DataLoader
from torchgeo.datasets import stack_samples

from torchgeo_planetcr.datasets import PlanetCRCloudy
from torchgeo_planetcr.inference import (
    CloudyScenes,
    SceneFiles,
    TileBatchSampler,
    TileSampler,
    find_scenes,
)
from torchgeo_planetcr.transforms import PlanetCRNormalize

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
            tmp_path / 'scenes', 'a.tif', f'deep/er/{SCENE}', 'm.TIFF', 'n[1].vrt'
        )
        touch(tmp_path / 'scenes', f'deep/er/{UDM2}', 'a.xml', 'b.png', 'c_DN_UDM.tif')
        s1 = tmp_path / 's1.tif'
        found = find_scenes(tmp_path / 'scenes', s1)
        assert found == [SceneFiles(str(path), (str(s1),)) for path in scenes]

    def test_glob(self, tmp_path: Path) -> None:
        touch(tmp_path, 'x/a.tif', 'x/b.img', 'y/a.tif', 'y/deep/c.tif', 'y/c_udm2.tif')
        s1 = tmp_path / 's1.tif'

        def names(pattern: str) -> list[str]:
            found = find_scenes(str(tmp_path / pattern), s1)
            return [str(Path(files.cloudy).relative_to(tmp_path)) for files in found]

        assert names('*/a.tif') == ['x/a.tif', 'y/a.tif']
        assert names('x/*') == ['x/a.tif', 'x/b.img']
        assert names('**/*.tif') == ['x/a.tif', 'y/a.tif', 'y/deep/c.tif']
        # What is called so is no expression
        touch(tmp_path, 'z[1].tif')
        assert names('z[1].tif') == ['z[1].tif']

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
        masks[1].unlink()
        message = (
            f'{masks[0].parent} holds no mask called b.v2.tif or, as Planet does, '
        )
        with pytest.raises(ValueError, match=rf'{message}b.v2_3B_udm2\.tif'):
            find_scenes(scenes, s1, masks[0].parent)

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
            ('cloudy,s1\na.tif,\n', ValueError, 'cells that are empty'),
            ('cloudy,s1,mask\na,b,c\na,b\n', ValueError, 'cells that are empty'),
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
        with pytest.raises(error, match=f'{table} .*{message}'):
            find_scenes(table)

    def test_wrong_arguments(self, tmp_path: Path) -> None:
        table, scene, s1 = touch(tmp_path, 'list.csv', 'a.tif', 's1.tif')
        for others in ((s1, None), (None, s1)):
            with pytest.raises(ValueError, match=f'{table} names the images'):
                find_scenes(table, *others)
        with pytest.raises(ValueError, match='s1 is missing: give .*--s1'):
            find_scenes(scene)
        empty = tmp_path / 'empty'
        touch(empty, UDM2, 'readme.txt')
        for nothing in (empty, str(empty / '*.vrt'), [empty], []):
            with pytest.raises(ValueError, match='holds no scene') as caught:
                find_scenes(nothing, s1)
            assert str(nothing) in str(caught.value)
        image = write_at(tmp_path / 'b.tif', 'EPSG:32646', 93.4, 18.0)
        with pytest.raises(ValueError, match=f'{empty} holds no image of Sentinel-1'):
            find_scenes(image, empty)
        # Of several images the place is read
        with pytest.raises(OSError, match=f'{s1} is not a readable raster'):
            find_scenes(image, [s1, image])


@pytest.fixture(scope='module')
def files(tmp_path_factory: pytest.TempPathFactory) -> list[SceneFiles]:
    """Two scenes and Sentinel-1, to be read only, and between them one without radar."""
    folder = tmp_path_factory.mktemp('scenes')
    image = make_image(100, 300, count=8)
    paths = [
        write_scene(folder / 'a.tif'),
        write_scene(folder / 'b.tif', transform=from_origin(LEFT + 30_000, TOP, 3, 3)),
        write_scene(folder / 'c.tif', image),
    ]
    s1 = str(write_radar(folder / 's1.tif'))
    return [SceneFiles(str(path), (s1,)) for path in paths]


def radar_of(sample: Any) -> NDArray[np.float32]:
    return sample['image_s1'].numpy()


class TestCloudyScenes:
    def test_no_radar(self, files: list[SceneFiles]) -> None:
        dataset = CloudyScenes([files[0]._replace(s1=())])
        tile = next(iter(TileSampler(dataset)))
        assert not dataset.has_data(tile)
        message = f'there is no image of Sentinel-1 of the place of {files[0].cloudy}'
        assert message in str(dataset.problems[files[0].cloudy])

    @pytest.mark.parametrize(
        ('value', 'left', 'message'),
        [(3, LEFT, 'has values other than'), (1, LEFT + 9000, 'does not cover')],
    )
    def test_wrong_mask(
        self,
        files: list[SceneFiles],
        tmp_path: Path,
        value: int,
        left: int,
        message: str,
    ) -> None:
        """It is found before anything of the scene is done."""
        array = np.full((1, 210, 260), value, np.uint8)
        mask = write(
            tmp_path / 'mask.tif', array, transform=from_origin(left, TOP, 3, 3)
        )
        dataset = CloudyScenes([files[0]._replace(mask=str(mask))])
        tile = next(iter(TileSampler(dataset)))
        assert not dataset.has_data(tile)
        assert f'{mask} {message}' in str(dataset.problems[files[0].cloudy])

    def test_samples(self, files: list[SceneFiles]) -> None:
        dataset = CloudyScenes([files[2], files[0]])
        assert len(dataset) == 2
        assert dataset.all_bands == PlanetCRCloudy.all_bands
        tiles = list(TileSampler(dataset, size=400))
        first, second = (dataset[tile] for tile in tiles)
        keys = {'image', 'image_s1', 'has_data', 'crs', 'bounds', 'transform'}
        assert set(first) == keys
        assert (first['has_data'].numpy() == make_mask(*SHAPE)).all()
        assert {first[key].dtype for key in ('image', 'image_s1')} == {torch.float32}
        assert (first['image'].numpy() == make_image()).all()
        expected = make_image(100, 300, count=8)[[1, 3, 5, 7]]
        assert (second['image'].numpy() == expected).all()
        for sample, shape in ((first, SHAPE), (second, (100, 300))):
            assert np.abs(radar_of(sample) - expected_radar(*shape)).max() < 0.01
            assert sample['crs'].item() == 32646
            assert sample['transform'].tolist()[:6] == [3, 0, LEFT, 0, -3, TOP]

    def test_transforms_and_bands(self, files: list[SceneFiles]) -> None:
        dataset = CloudyScenes(
            [files[2]], bands=[8, 1, 2, 3], transforms=PlanetCRNormalize()
        )
        (tile,) = TileSampler(dataset, size=400)
        sample = dataset[tile]
        expected = make_image(100, 300, count=8)[[7, 0, 1, 2]] / 10000
        assert np.abs(sample['image'].numpy() - expected).max() < 1e-6
        assert 0 < sample['image_s1'].min() < sample['image_s1'].max() < 1

    @pytest.mark.parametrize('size', [64, 96])
    def test_has_data(self, files: list[SceneFiles], size: int) -> None:
        dataset, mask = CloudyScenes([files[0]]), make_mask(*SHAPE)
        sampler = TileSampler(dataset, size=size // 4, overlap=0)
        answers = []
        for tile in sampler:
            row, col = round((TOP - tile.y.stop) / 3), round((tile.x.start - LEFT) / 3)
            expected = mask[row : row + size // 4, col : col + size // 4].any()
            answers.append(dataset.has_data(tile))
            assert answers[-1] == expected
        assert set(answers) == {True, False}
        assert dataset.coverage == {files[0].cloudy: 1}
        assert dataset.problems == {}

    def test_problems(self, files: list[SceneFiles], tmp_path: Path) -> None:
        """A scene that cannot be used is left out, and why is kept."""
        image = np.zeros((4, 50, 50), dtype=np.uint16)
        empty = str(write_scene(tmp_path / 'empty.tif', image))
        dataset = CloudyScenes([*files, SceneFiles(empty, files[0].s1)])
        sampler = TileSampler(dataset, size=96, overlap=32, keep=dataset.has_data)
        kept = {tile.filepath for tile in sampler}
        assert kept == {files[0].cloudy, files[2].cloudy}
        assert dataset.coverage == dict.fromkeys(kept, 1)
        assert set(dataset.problems) == {files[1].cloudy, empty}
        assert isinstance(dataset.problems[empty], ValueError)
        assert 'has no pixel with data' in str(dataset.problems[empty])
        message = f'{files[1].s1[0]} does not cover {files[1].cloudy} at all'
        assert str(dataset.problems[files[1].cloudy]).startswith(message)

    def test_pickle(self, files: list[SceneFiles]) -> None:
        """No open file goes along, and what was found out does."""
        dataset = CloudyScenes([files[0], files[2]])
        tiles = list(TileSampler(dataset, size=96, overlap=32))
        expected = [dataset[tile] for tile in tiles[:2]]
        assert dataset.has_data(tiles[0])
        other = pickle.loads(pickle.dumps(dataset))
        assert other.coverage == dataset.coverage != {}
        for tile, sample in zip(tiles[:2], expected, strict=True):
            for key, value in other[tile].items():
                assert torch.equal(value, sample[key]), key

    @pytest.mark.parametrize('start', ['fork', 'spawn'])
    def test_workers(self, files: list[SceneFiles], start: str) -> None:
        """Processes that share nothing, and those that share what was open."""
        dataset = CloudyScenes([files[0], files[2]])
        sampler = TileSampler(dataset, size=96, overlap=32, keep=dataset.has_data)
        expected = [dataset[tile] for tile in sampler]
        loader = DataLoader(
            dataset,
            batch_sampler=TileBatchSampler(sampler, 4),
            num_workers=1,
            multiprocessing_context=start,
            collate_fn=stack_samples,
        )
        batches = list(loader)
        assert [len(batch['image']) for batch in batches] == [4, 4, 4, 4, 4, 2]
        for key in ('image', 'image_s1', 'transform'):
            images = [image for batch in batches for image in batch[key]]
            assert len(images) == len(expected)
            for image, sample in zip(images, expected, strict=True):
                assert torch.equal(image, sample[key]), key

    def test_errors_at_once(self, files: list[SceneFiles], tmp_path: Path) -> None:
        scene, *_ = files
        with pytest.raises(ValueError, match='a scene is named more than once'):
            CloudyScenes([scene, files[2], scene._replace(mask='m.tif')])
        missing = str(tmp_path / 'missing.tif')
        for wrong in (scene._replace(cloudy=missing), scene._replace(s1=(missing,))):
            with pytest.raises(OSError, match=f'{missing} is not a readable raster'):
                CloudyScenes([files[2], wrong])
        with pytest.raises(ValueError, match=r'bands=\[1, 2\] must be the positions'):
            CloudyScenes([scene], bands=[1, 2])
        with pytest.raises(ValueError, match='min_coverage=2 is not a share'):
            CloudyScenes([scene], min_coverage=2)
