# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pyproj import CRS
from rasterio.transform import from_origin
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

from torchgeo_planetcr.datasets import PlanetCR, PlanetCRCloudy
from torchgeo_planetcr.datasets.modalities import MISSING_DECIBELS
from torchgeo_planetcr.samplers import TileBatchSampler, TileSampler
from torchgeo_planetcr.scenes import PlanetScopeScenes, SceneFiles
from torchgeo_planetcr.transforms import MISSING_BACKSCATTER, PlanetCRNormalize


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


class TestPlanetScopeScenes:
    def test_no_sentinel1(self, files: list[SceneFiles]) -> None:
        """It can be read, with what networks know, but not surveyed."""
        dataset = PlanetScopeScenes([files[0]._replace(s1=())])
        (tile,) = TileSampler(dataset, size=400)
        missing = torch.tensor(MISSING_DECIBELS)[:, None, None]
        assert (dataset[tile]['image_s1'] == missing).all()
        normalized = PlanetCRNormalize()(dataset[tile])['image_s1']
        assert (normalized == MISSING_BACKSCATTER).all()
        message = f'no image of Sentinel-1 covers {files[0].cloudy}'
        with pytest.raises(ValueError, match=message):
            dataset.survey(files[0].cloudy)

    def test_paths(self, files: list[SceneFiles]) -> None:
        """Files as a person names them, with the same samples."""
        (cloudy, (s1,), *_) = files[0]
        dataset, expected = PlanetScopeScenes(cloudy, s1), PlanetScopeScenes([files[0]])
        (tile,) = TileSampler(dataset, size=400)
        for key, value in expected[tile].items():
            assert torch.equal(dataset[tile][key], value), key

    def test_all_keys(self, files: list[SceneFiles], tmp_path: Path) -> None:
        """All modalities, of which each lies on the grid of the scene."""
        clouds = np.zeros((1, 105, 130), np.uint8)
        clouds[:, 20:30] = 1
        clear = write_scene(tmp_path / 'clear.tif', make_image()[::-1])
        mask = write(
            tmp_path / 'mask.tif', clouds, transform=from_origin(LEFT, TOP, 6, 6)
        )
        codes = np.full((1, 63, 78), 10, np.uint8)
        codes[:, :30], codes[:, -3:] = 80, 0
        landcover = write(
            tmp_path / 'map.tif', codes, transform=from_origin(LEFT, TOP, 10, 10)
        )
        (cloudy, (s1,), *_) = files[0]
        dataset = PlanetScopeScenes(cloudy, s1, mask, clear, landcover)
        (tile,) = TileSampler(dataset, size=400)
        sample = dataset[tile]
        assert set(PlanetCR.keys.values()) <= set(sample)
        dtypes = {key: sample[key].dtype for key in PlanetCR.keys.values()}
        assert {dtypes[key] for key in ('mask', 'mask_cloud')} == {torch.int64}
        assert (sample['image_clear'].numpy() == make_image()[::-1]).all()
        expected = clouds[0].repeat(2, axis=0).repeat(2, axis=1)
        assert (sample['mask_cloud'].numpy() == expected * make_mask(*SHAPE)).all()
        # Water of 300 m, trees, and none in the last 30 m
        assert (sample['mask'][:99] == 7).all()
        assert (sample['mask'][101:199] == 0).all()
        assert (sample['mask'][201:] == 255).all()

    def test_beyond_the_edge(self, files: list[SceneFiles]) -> None:
        """A window may reach beyond the scene, where there is no data."""
        dataset = PlanetScopeScenes([files[0]])
        x, y = slice(LEFT - 30, LEFT + 300), slice(TOP - 300, TOP + 60)
        sample = dataset[x, y]
        assert sample['image'].shape == (4, 120, 110)
        assert not sample['has_data'][:20].any()
        assert not sample['has_data'][:, :10].any()
        assert (
            sample['image'][:, 20:, 10:].numpy() == make_image()[:, :100, :100]
        ).all()
        assert sample['image_s1'].isfinite().all()

    def test_two_scenes(self, files: list[SceneFiles], tmp_path: Path) -> None:
        """Where the first has no data, the second shows."""
        below = write_scene(tmp_path / 'z.tif', np.full((4, *SHAPE), 5, np.uint16))
        dataset = PlanetScopeScenes([files[0], SceneFiles(str(below), files[0].s1)])
        sample = dataset[slice(LEFT, LEFT + 780), slice(TOP - 630, TOP)]
        expected = np.where(make_mask(*SHAPE), make_image(), 5)
        assert (sample['image'].numpy() == expected).all()
        assert sample['has_data'].all()

    def test_scene_without_mask(self, files: list[SceneFiles], tmp_path: Path) -> None:
        """All of it counts as cloud where others have masks, in batches with these."""
        mask = write_scene(tmp_path / 'mask.tif', np.zeros((1, *SHAPE), np.uint8))
        scenes = [files[0]._replace(mask=str(mask)), files[2]]
        dataset = PlanetScopeScenes(scenes)
        tiles = [
            next(iter(TileSampler(PlanetScopeScenes([s]), size=90, overlap=0)))
            for s in scenes
        ]
        batch = stack_samples([dataset[tile] for tile in tiles])
        assert (batch['mask_cloud'][0] == 0).all()
        assert batch['has_data'][1].any()
        assert (batch['mask_cloud'][1] == batch['has_data'][1]).all()
        assert 'mask_cloud' not in PlanetScopeScenes(files)[tiles[0]]

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
        dataset = PlanetScopeScenes([files[0]._replace(mask=str(mask))])
        with pytest.raises(ValueError, match=f'{mask} {message}'):
            dataset.survey(files[0].cloudy)

    def test_samples(self, files: list[SceneFiles]) -> None:
        dataset = PlanetScopeScenes([files[2], files[0]])
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
        dataset = PlanetScopeScenes(
            [files[2]], bands=[8, 1, 2, 3], transforms=PlanetCRNormalize()
        )
        (tile,) = TileSampler(dataset, size=400)
        sample = dataset[tile]
        expected = make_image(100, 300, count=8)[[7, 0, 1, 2]] / 10000
        assert np.abs(sample['image'].numpy() - expected).max() < 1e-6
        assert 0 < sample['image_s1'].min() < sample['image_s1'].max() < 1

    @pytest.mark.parametrize('size', [64, 96])
    def test_has_data(self, files: list[SceneFiles], size: int) -> None:
        dataset, mask = PlanetScopeScenes([files[0]]), make_mask(*SHAPE)
        sampler = TileSampler(dataset, size=size // 4, overlap=0)
        answers = []
        for tile in sampler:
            row, col = round((TOP - tile.y.stop) / 3), round((tile.x.start - LEFT) / 3)
            expected = mask[row : row + size // 4, col : col + size // 4].any()
            answers.append(dataset.has_data(tile))
            assert answers[-1] == expected
        assert set(answers) == {True, False}

    def test_other_grids(self, files: list[SceneFiles]) -> None:
        """Pixels of a scene are never resampled, and nobody gets others unawares."""
        dataset = PlanetScopeScenes([files[0]])
        dataset.res = 3
        dataset.crs = dataset.crs
        with pytest.raises(ValueError, match='keeps the grids of its scenes'):
            dataset.res = 6
        with pytest.raises(ValueError, match='keeps the grids of its scenes'):
            dataset.crs = CRS.from_epsg(32647)
        with pytest.raises(ValueError, match='keeps the grids of its scenes'):
            dataset[LEFT : LEFT + 60 : 6, TOP - 60 : TOP : 6]

    def test_files_twice(self, files: list[SceneFiles]) -> None:
        with pytest.raises(ValueError, match='give no s1'):
            PlanetScopeScenes([files[0]], 's1.tif')

    def test_survey(self, files: list[SceneFiles], tmp_path: Path) -> None:
        """What is found, and what is wrong."""
        image = np.zeros((4, 50, 50), dtype=np.uint16)
        empty = str(write_scene(tmp_path / 'empty.tif', image))
        dataset = PlanetScopeScenes([*files, SceneFiles(empty, files[0].s1)])
        assert dataset.survey(files[0].cloudy).coverage == 1
        with pytest.raises(ValueError, match=f'{empty} has no pixel with data'):
            dataset.survey(empty)
        message = f'{files[1].s1[0]} does not cover {files[1].cloudy} at all'
        with pytest.raises(ValueError, match=message):
            dataset.survey(files[1].cloudy)

    def test_may_have_data(self, files: list[SceneFiles]) -> None:
        """A small scene is seen as it is."""
        dataset = PlanetScopeScenes([files[0]])
        survey, mask = dataset.survey(files[0].cloudy), make_mask(*SHAPE)
        for row in range(0, 210, 21):
            for col in range(0, 260, 26):
                window = survey.grid.window(row, col, 21, 26)
                expected = mask[row : row + 21, col : col + 26].any()
                assert survey.may_have_data(window) == expected

    def test_one_bad_scene(self, files: list[SceneFiles], tmp_path: Path) -> None:
        """It is left out by name, and does not stop the others."""
        bad = str(tmp_path / 'bad.tif')
        Path(bad).write_text('no raster')
        given = [files[0], SceneFiles(bad, files[0].s1), files[2]]
        dataset = PlanetScopeScenes(given, strict=False)
        assert dataset.index['filepath'].tolist() == [files[0].cloudy, files[2].cloudy]
        assert set(dataset.problems) == {bad}
        assert bad in str(dataset.problems[bad])
        with pytest.raises(OSError, match=bad):
            PlanetScopeScenes(given)
        with pytest.raises(OSError, match=bad):
            PlanetScopeScenes(given[1:2], strict=False)

    def test_pickle(self, files: list[SceneFiles]) -> None:
        """No open file goes along."""
        dataset = PlanetScopeScenes([files[0], files[2]])
        tiles = list(TileSampler(dataset, size=96, overlap=32))
        expected = [dataset[tile] for tile in tiles[:2]]
        other = pickle.loads(pickle.dumps(dataset))
        for tile, sample in zip(tiles[:2], expected, strict=True):
            for key, value in other[tile].items():
                assert torch.equal(value, sample[key]), key

    @pytest.mark.parametrize('start', ['fork', 'spawn'])
    def test_workers(self, files: list[SceneFiles], start: str) -> None:
        """Processes that share nothing, and those that share what was open."""
        dataset = PlanetScopeScenes([files[0], files[2]])
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
            PlanetScopeScenes([scene, files[2], scene._replace(mask='m.tif')])
        missing = str(tmp_path / 'missing.tif')
        for wrong in (scene._replace(cloudy=missing), scene._replace(s1=(missing,))):
            with pytest.raises(OSError, match=f'{missing} is not a readable raster'):
                PlanetScopeScenes([files[2], wrong])
        with pytest.raises(ValueError, match=r'bands=\[1, 2\] must be the positions'):
            PlanetScopeScenes([scene], bands=[1, 2])
