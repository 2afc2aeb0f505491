# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import os
import pickle
import shutil
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import rasterio
import rasterio.shutil
import shapely
import torch
from geopandas import GeoSeries
from patch_data import FILES, GEOREFERENCE, KEYS, RASTERS, patch, whole, write
from rasterio.transform import Affine, from_origin
from rasterio.windows import Window
from systems import needs_posix
from torchgeo.datasets import DatasetNotFoundError

from torchgeo_planetcr.datasets import NativeSlice, PlanetCR, PlanetCRCloudMask
from torchgeo_planetcr.datasets.components import COMPONENTS
from torchgeo_planetcr.datasets.modalities import LIST_COLUMNS, MODALITIES
from torchgeo_planetcr.datasets.native_raster import LeftOutWarning
from torchgeo_planetcr.datasets.planetcr import MissingModalityWarning
from torchgeo_planetcr.samplers import (
    CenterNativePatchSampler,
    RandomNativePatchSampler,
)


def take_out(root: Path, split: str, modality: Any) -> Path:
    """Move all files of a modality out of a split, and return where they are."""
    kept = root / 'kept' / split
    kept.mkdir(parents=True)
    for path in (root / split).glob(f'{MODALITIES[modality].folder}_*'):
        shutil.move(path, kept)
    return kept


class TestSample:
    @pytest.mark.parametrize('split', ['train', 'val', 'test'])
    def test_pixels(self, root: Path, data: Any, split: Any) -> None:
        """Pixel-identical with plain reads, in random windows of every patch."""
        dataset = PlanetCR(root, split)
        codes = {f'{area.name}': area.epsg for area in data.AREAS}
        rng = np.random.default_rng(0)
        for _, row in dataset.index.iterrows():
            sizes = [(300, 300), (1, 1), (300, 1), *rng.integers(1, 300, (4, 2))]
            for height, width in sizes:
                top, left = rng.integers(301 - height), rng.integers(301 - width)
                window = Window(left, top, width, height)
                with rasterio.open(row['cloudy']) as src:
                    cloudy = src.read(window=window)
                    xmin, ymin, xmax, ymax = src.window_bounds(window)
                    transform = src.window_transform(window)
                with rasterio.open(row['clear']) as src:
                    clear = src.read(window=window)
                mask = np.load(row['cloud_mask'], allow_pickle=False)
                mask = mask[top : top + height, left : left + width]

                sample = dataset[
                    NativeSlice(
                        slice(xmin, xmax),
                        slice(ymin, ymax),
                        slice(None),
                        row['native_crs'],
                        row['filepath'],
                    )
                ]
                assert (sample['image'].numpy() == cloudy).all()
                assert (sample['image_clear'].numpy() == clear).all()
                assert (sample['mask_cloud'].numpy() == mask).all()
                assert sample['crs'].item() == codes[row['aoi']]
                assert sample['bounds'].tolist() == [
                    xmin,
                    xmax,
                    3,
                    ymin,
                    ymax,
                    3,
                    pd.Timestamp.min.timestamp(),
                    pd.Timestamp.max.timestamp(),
                    1,
                ]
                assert sample['transform'].tolist() == list(transform)
                expected = {
                    'image': ((4, height, width), torch.float32),
                    'image_clear': ((4, height, width), torch.float32),
                    'image_s1': ((2, height, width), torch.float32),
                    'mask': ((height, width), torch.int64),
                    'mask_cloud': ((height, width), torch.int64),
                    'crs': ((), torch.int64),
                    'bounds': ((9,), torch.float64),
                    'transform': ((9,), torch.float64),
                }
                assert {
                    key: (tuple(value.shape), value.dtype)
                    for key, value in sample.items()
                } == expected

    def test_all_patches_are_300(self, root: Path) -> None:
        """No window of 299 pixels and no sliver where patches adjoin."""
        for split in ('train', 'val', 'test'):
            dataset = PlanetCR(root, split)
            assert dataset.index['patch'].is_unique
            for _, row in dataset.index.iterrows():
                xmin, ymin, xmax, ymax = row['native_bounds']
                assert (xmax - xmin, ymax - ymin) == (900, 900)
                # Also without the name of the file
                query = whole(row)
                query = NativeSlice(query.x, query.y, query.t, query.crs)
                sample = dataset[query]
                for key in KEYS.values():
                    assert sample[key].shape[-2:] == (300, 300)

    def test_samples_are_independent(self, root: Path) -> None:
        """To change a sample in place changes neither the next one nor the file."""
        dataset = PlanetCR(root, 'test')
        query = whole(dataset.index.iloc[0])
        first = dataset[query]
        expected = {key: value.clone() for key, value in first.items()}
        for value in first.values():
            value.zero_()
        for key, value in dataset[query].items():
            assert torch.equal(value, expected[key])

    @pytest.mark.parametrize(
        'modalities',
        [
            *([modality] for modality in KEYS),
            ['clear', 'cloudy'],
            ['worldcover', 'cloud_mask'],
            ['sentinel1', 'worldcover', 'cloudy', 'cloudy'],
            [modality for modality in KEYS if modality != 'cloudy'],
        ],
    )
    def test_modalities(self, root: Path, modalities: Any) -> None:
        everything = PlanetCR(root, 'test')
        dataset = PlanetCR(root, 'test', modalities=modalities)
        assert len(dataset) == 3
        row = patch(everything, 'winter_34_p_2')
        expected = everything[whole(row)]
        sample = dataset[whole(patch(dataset, 'winter_34_p_2'))]
        assert set(sample) == {KEYS[modality] for modality in modalities} | GEOREFERENCE
        if set(modalities) - {'sentinel1', 'worldcover'}:
            for key in sample:
                assert torch.equal(sample[key], expected[key])
        else:
            for modality in modalities:
                assert sample[KEYS[modality]].shape[-2:] == (90, 90)

    def test_unrequested_modalities_may_be_missing(self, own_root: Path) -> None:
        for path in (own_root / 'test').glob('S1_*'):
            shutil.rmtree(path)
        with warnings.catch_warnings():
            warnings.simplefilter('error')
            dataset = PlanetCR(own_root, 'test', modalities=['cloudy', 'clear'])
        assert len(dataset) == 3

    @pytest.mark.parametrize('modality', [name for name in FILES if name != 'cloudy'])
    def test_modality_missing_as_a_whole(self, own_root: Path, modality: Any) -> None:
        """All others are loaded, and the pixels are the same."""
        kept = take_out(own_root, 'test', modality)
        with pytest.warns(MissingModalityWarning) as record:
            dataset = PlanetCR(own_root, 'test')
        (message,) = [str(warning.message) for warning in record]
        assert f'{modality!r}' in message
        assert "split='test'" in message
        rest: list[Any] = [name for name in FILES if name != modality]
        assert set(dataset.modalities) == set(rest)
        row = patch(dataset, 'summer_33_p_1')
        sample = dataset[whole(row)]
        assert sample.keys() == {KEYS[name] for name in rest} | GEOREFERENCE
        expected = PlanetCR(own_root, 'test', rest)[whole(row)]
        assert all(torch.equal(sample[key], expected[key]) for key in sample)
        # It is back as soon as there is one, and patches without are left out
        shutil.copytree(kept, own_root / 'test', dirs_exist_ok=True)
        next((own_root / 'test').glob(f'{MODALITIES[modality].folder}_*/*/*')).unlink()
        with pytest.warns(LeftOutWarning, match=r'1 patch\(s\)'):
            dataset = PlanetCR(own_root, 'test')
        assert len(dataset) == 2
        assert set(dataset.modalities) == set(FILES)

    def test_modality_missing_in_all_splits(self, own_root: Path) -> None:
        """It is said once, in the same words, also if lists name the files."""
        for split in ('train', 'test'):
            lines = [
                ','.join(
                    str(path.relative_to(own_root / split)).replace(
                        'planet_cloudy', MODALITIES[modality].folder
                    )[:-4]
                    + MODALITIES[modality].suffix
                    for modality in LIST_COLUMNS
                )
                for path in sorted((own_root / split).glob('planet_cloudy_*/*/*.tif'))
            ]
            (own_root / f'{split}.csv').write_text('\n'.join(lines))
            take_out(own_root, split, 'sentinel1')
        with pytest.warns(MissingModalityWarning) as record:
            lengths = [len(PlanetCR(own_root, split)) for split in ('train', 'test')]
        assert lengths == [12, 3]
        assert len({str(warning.message) for warning in record}) == 1

    def test_filter_without_any_cloud_mask(self, own_root: Path) -> None:
        """To leave all patches out would look like cloud."""
        take_out(own_root, 'test', 'cloud_mask')
        with pytest.warns(MissingModalityWarning):
            dataset = PlanetCR(own_root, 'test')
        assert len(dataset.filter(season='winter')) == 2
        with pytest.raises(
            ValueError, match=r'cloud_cover=\(0, 0\.5\).* 3 patches'
        ) as e:
            dataset.filter(cloud_cover=(0, 0.5))
        assert str(own_root) in str(e.value)

    def test_cloudy_images_missing_as_a_whole(self, own_root: Path) -> None:
        """Cloud masks have their georeference."""
        take_out(own_root, 'test', 'cloudy')
        with (
            pytest.warns(MissingModalityWarning, match="'cloudy'"),
            pytest.raises(OSError, match=r'3 patch\(s\).*planet_cloudy_summer_33_p_1'),
        ):
            PlanetCR(own_root, 'test')

    def test_transforms(self, root: Path) -> None:
        dataset = PlanetCR(
            root, 'test', transforms=lambda sample: {'image': sample['image'] + 1}
        )
        sample = dataset[whole(dataset.index.iloc[0])]
        assert set(sample) == {'image'}

    def test_pickle(self, root: Path) -> None:
        dataset = PlanetCR(root, 'test')
        query = whole(dataset.index.iloc[0])
        other = pickle.loads(pickle.dumps(dataset))
        for key, value in dataset[query].items():
            assert torch.equal(other[query][key], value)

    def test_of_path(self, root: Path) -> None:
        for path in (str(root), f'{root}/'):
            dataset = PlanetCR(path, 'test')
            assert len(dataset) == 3
            assert dataset[whole(dataset.index.iloc[0])]['image'].any()

    def test_relative_root(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(root)
        dataset = PlanetCR('.', 'test')
        assert dataset[whole(dataset.index.iloc[0])]['image'].any()


class TestFilter:
    @pytest.fixture
    def dataset(self, root: Path) -> PlanetCR:
        return PlanetCR(root)

    @pytest.mark.parametrize(
        'season', ['fall', ['fall', 'winter'], ('spring',), {'summer', 'fall'}, []]
    )
    def test_season(self, dataset: PlanetCR, season: Any) -> None:
        seasons = {season} if isinstance(season, str) else set(season)
        expected = [
            row['patch']
            for _, row in dataset.index.iterrows()
            if row['patch'].split('_')[0] in seasons
        ]
        found = dataset.filter(season=season)
        assert isinstance(found, PlanetCR)
        assert found.index['patch'].tolist() == expected
        assert len(dataset) > len(expected)

    def test_aoi(self, dataset: PlanetCR) -> None:
        found = dataset.filter(aoi='spring_1')
        expected = ['spring_1_p_1', 'spring_1_p_2', 'spring_1_p_3']
        assert found.index['patch'].tolist() == expected
        assert found.crs.to_epsg() == 32646
        found = dataset.filter(aoi=['summer_3', 'fall_7'])
        expected = ['summer_3_p_1', 'summer_3_p_2', 'fall_7_p_1']
        assert found.index['patch'].tolist() == expected
        assert found.crs.to_epsg() == 6933

    @pytest.mark.parametrize('one_crs', [True, False])
    def test_roi(self, dataset: PlanetCR, one_crs: bool) -> None:
        """In degrees, whatever the CRS of the data set."""
        if one_crs:
            dataset = dataset.in_crs(32736)
        row = patch(dataset, 'summer_3_p_1')
        box = GeoSeries([shapely.box(*row['native_bounds'])], crs=row['native_crs'])
        point = box.centroid.to_crs(4326).iloc[0]
        found = dataset.filter(roi=point.buffer(0.001))
        assert found.index['patch'].tolist() == ['summer_3_p_1']
        # 900 m are 0.008 degrees
        found = dataset.filter(roi=point.buffer(0.009))
        assert found.index['patch'].tolist() == ['summer_3_p_1', 'summer_3_p_2']
        far = shapely.MultiPolygon([point.buffer(0.001), shapely.box(0, 0, 1, 1)])
        assert len(dataset.filter(roi=far)) == 1
        assert len(dataset.filter(roi=shapely.box(0, 0, 1, 1))) == 0
        assert len(dataset.filter(roi=shapely.box(-180, -90, 180, 90))) == len(dataset)

    def test_roi_of_several_zones(self, dataset: PlanetCR) -> None:
        found = dataset.filter(roi=shapely.box(-80, -40, 40, 0))
        assert set(found.index['native_crs']) == {'EPSG:32719', 'EPSG:32736'}

    @pytest.mark.parametrize(
        ('cloud_cover', 'numbers'),
        [
            ((0, 1), {1, 2, 3}),
            ((0, 0.06), {1}),
            ((0.1, 0.12), {2}),
            ((0.1, 1), {2, 3}),
            # The mask of patch 1 has 30 x 160 pixels of cloud.
            ((30 * 160 / 90000, 30 * 160 / 90000), {1}),
            ((0.5, 1), set()),
            ((0, 0), set()),
        ],
    )
    def test_cloud_cover(
        self, dataset: PlanetCR, cloud_cover: tuple[float, float], numbers: set[int]
    ) -> None:
        found = dataset.filter(cloud_cover=cloud_cover)
        assert {int(name.split('_')[-1]) for name in found.index['patch']} == numbers
        expected = sum(
            int(name.split('_')[-1]) in numbers for name in dataset.index['patch']
        )
        assert len(found) == expected

    def test_cloud_cover_of_one_crs(self, root: Path) -> None:
        dataset = PlanetCR(root, 'test').in_crs(32646).filter(cloud_cover=(0.1, 1))
        assert dataset.index['patch'].tolist() == ['winter_34_p_2']
        assert dataset[whole(dataset.index.iloc[0])]['mask_cloud'].sum() == 60 * 160

    def test_compose(self, dataset: PlanetCR) -> None:
        box = shapely.box(85, -90, 100, 90)
        together = dataset.filter(
            season=['spring', 'summer'],
            aoi=['spring_1', 'fall_5'],
            roi=box,
            cloud_cover=(0.1, 1),
        )
        one_by_one = (
            dataset.filter(cloud_cover=(0.1, 1))
            .filter(aoi='spring_1')
            .filter(season=['spring', 'summer'])
            .filter(roi=box)
        )
        expected = ['spring_1_p_2', 'spring_1_p_3']
        assert together.index['patch'].tolist() == expected
        assert one_by_one.index['patch'].tolist() == expected

    def test_order_of_filters(self, dataset: PlanetCR) -> None:
        """What another filter has left out is known nevertheless."""
        assert len(dataset.filter(season='fall', aoi='spring_1')) == 0
        assert len(dataset.filter(aoi='spring_1').filter(season='fall')) == 0
        assert len(dataset.filter(season='fall').filter(aoi='spring_1')) == 0

    def test_samples_stay(self, dataset: PlanetCR) -> None:
        found = dataset.filter(season='summer', cloud_cover=(0, 0.06))
        for _, row in found.index.iterrows():
            expected = dataset[whole(row)]
            for key, value in found[whole(row)].items():
                assert torch.equal(value, expected[key])

    def test_leaves_the_data_set_alone(self, dataset: PlanetCR) -> None:
        before = dataset.index['patch'].tolist()
        dataset.filter(season='fall', cloud_cover=(0, 0.5))
        assert dataset.index['patch'].tolist() == before
        assert len(dataset.filter()) == len(dataset)

    def test_nothing_left(self, dataset: PlanetCR) -> None:
        """An empty data set is one nevertheless."""
        query = whole(dataset.index.iloc[0])
        empty = dataset.filter(cloud_cover=(0.9, 1))
        assert isinstance(empty, PlanetCR)
        assert len(empty) == 0
        for question in (query, query[:2], (slice(None),), slice(None)):
            with pytest.raises(IndexError, match='not found'):
                empty[question]
        assert len(empty.filter(season='fall', cloud_cover=(0, 1))) == 0
        assert len(empty.filter(roi=shapely.box(0, 0, 1, 1))) == 0

    def test_str_of_nothing(self, dataset: PlanetCR) -> None:
        assert 'size: 0' in str(dataset.filter(cloud_cover=(0.9, 1)))

    def test_in_crs_of_nothing(self, dataset: PlanetCR) -> None:
        with pytest.raises(ValueError, match='EPSG:32646'):
            dataset.filter(cloud_cover=(0.9, 1)).in_crs(32646)

    @pytest.mark.parametrize('operator', ['__and__', '__or__'])
    def test_nothing_joined(self, dataset: PlanetCR, operator: str) -> None:
        empty = dataset.filter(cloud_cover=(0.9, 1))
        with pytest.raises((ValueError, RuntimeError), match=r'empty|no spatial'):
            getattr(empty, operator)(dataset.in_crs(32646))

    @pytest.mark.parametrize(
        ('arguments', 'message'),
        [
            ({'season': 'autumn'}, r"season=\['autumn'\]"),
            ({'season': ['fall', 'Fall']}, r"season=\['Fall'\]"),
            ({'aoi': 'fall_999'}, r"aoi=\['fall_999'\]"),
            ({'aoi': ['fall_5', 'fall_5_p_1']}, r"aoi=\['fall_5_p_1'\]"),
            ({'cloud_cover': (0.5, 0.1)}, 'cloud_cover'),
            ({'cloud_cover': (-0.1, 0.1)}, 'cloud_cover'),
            ({'cloud_cover': (0, 50)}, 'cloud_cover'),
            ({'cloud_cover': (float('nan'), 1)}, 'cloud_cover'),
        ],
    )
    def test_unknown(
        self, dataset: PlanetCR, arguments: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(ValueError, match=message):
            dataset.filter(**arguments)

    def test_cloud_cover_without_masks(self, root: Path) -> None:
        """The index knows the share of cloud."""
        expected = PlanetCR(root).filter(cloud_cover=(0.1, 1))
        dataset = PlanetCR(root, modalities=['cloudy']).filter(cloud_cover=(0.1, 1))
        assert dataset.index['patch'].tolist() == expected.index['patch'].tolist()
        assert 0 < len(dataset) < len(PlanetCR(root))


class Exploit:
    """An object that writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.path,)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def cut_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:20])


def empty(path: Path) -> None:
    path.write_bytes(b'')


def text(path: Path) -> None:
    path.write_text('<html>404: Not Found</html>')


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def without_georeference(path: Path) -> None:
    with rasterio.open(path) as src:
        array = src.read()
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        write(path, array, crs=None, transform=None)


def elsewhere(path: Path) -> None:
    with rasterio.open(path) as src:
        array, res = src.read(), src.res[0]
    write(path, array, res, transform=from_origin(500000, 9000000, res, res))


def other_zone(path: Path) -> None:
    with rasterio.open(path) as src:
        array, transform = src.read(), src.transform
    write(path, array, crs='EPSG:32636', transform=transform)


def fewer_bands(path: Path) -> None:
    with rasterio.open(path) as src:
        array, res = src.read(), src.res[0]
    write(path, array[:1], res)


def virtual(path: Path) -> None:
    """A file of instructions, which could lead anywhere, that GDAL would follow."""
    other = path.with_name('other.tif')
    path.rename(other)
    rasterio.shutil.copy(other, path, driver='VRT')
    assert path.read_bytes().startswith(b'<VRTDataset')


def pixels_of(factor: float) -> Callable[[Path], None]:
    """Another size of pixels in the header, at the same corner."""

    def damage(path: Path) -> None:
        with rasterio.open(path, 'r+') as dst:
            dst.transform = dst.transform @ Affine.scale(factor)

    return damage


def shifted_by(pixels: float) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        with rasterio.open(path, 'r+') as dst:
            dst.transform = dst.transform @ Affine.translation(pixels, 0)

    return damage


def larger(path: Path) -> None:
    """A raster that holds its patch and more, in pixels of the same lattice."""
    with rasterio.open(path) as src:
        array, transform, crs = src.read(), src.transform, src.crs
    array = np.pad(array, [(0, 0), (0, 2), (0, 2)])
    write(path, array, crs=crs, transform=transform)


def write_nothing(path: Path, **changes: Any) -> None:
    """Write a header alone, that of the file but for changes."""
    with rasterio.open(path) as src:
        profile: dict[str, Any] = dict(src.profile) | {'sparse_ok': True} | changes
    with rasterio.open(path, 'w', **profile):
        pass
    assert path.stat().st_size < 4_000_000


def sparse(path: Path) -> None:
    """Some bytes that claim ten thousand million pixels."""
    write_nothing(path, height=100_000, width=100_000)


def compressed_bomb(path: Path) -> None:
    blocks = {'tiled': True, 'blockxsize': 256, 'blockysize': 256}
    write_nothing(path, height=100_000, width=100_000, compress='deflate', **blocks)


def many_bands(path: Path) -> None:
    write_nothing(path, count=5000)


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def device(path: Path) -> None:
    path.unlink()
    path.symlink_to('/dev/zero')


def pipe_beside(path: Path) -> None:
    os.mkfifo(f'{path}.aux.xml')


def sparse_array(path: Path) -> None:
    """A header, and a hole on the disk."""
    side = 100_000
    header = {'descr': '|b1', 'fortran_order': False, 'shape': (side, side)}
    with path.open('wb') as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + side**2)


def object_array(path: Path) -> None:
    array = np.full((300, 300), None)
    array[0, 0] = Exploit(path.with_name('exploited'))
    np.save(path, array, allow_pickle=True)


def plain_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps(Exploit(path.with_name('exploited'))))


def archive_of_arrays(path: Path) -> None:
    with path.open('wb') as file:
        np.savez(file, np.zeros((300, 300), bool))


def damaged_header(path: Path) -> None:
    content = path.read_bytes().replace(b'300), }', b'300\x01, }')
    path.write_bytes(content)


def nested_header(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:10] + b'(' * 117 + content[127:])


def huge_header(path: Path) -> None:
    old, new = b'(300, 300), }            ', b'(4294967296, 4294967296)}'
    path.write_bytes(path.read_bytes().replace(old, new))


def array(*shape: int, dtype: Any = bool) -> Callable[[Path], None]:
    def save(path: Path) -> None:
        np.save(path, np.zeros(shape, dtype))

    return save


class TestBadInput:
    def check_left_out(self, own_root: Path, name: str) -> str:
        """The patch is left out with one warning that names it; the rest is used."""
        with warnings.catch_warnings(record=True) as record:
            warnings.simplefilter('always')
            dataset = PlanetCR(own_root, 'test')
        messages = [
            str(warning.message)
            for warning in record
            if issubclass(warning.category, UserWarning)
        ]
        assert len(messages) == 1
        assert '1 patch(s)' in messages[0]
        assert name in messages[0]
        patches = ['winter_34_p_1', 'winter_34_p_2']
        assert dataset.index['patch'].tolist() == patches
        assert list(dataset.left_out) == ['summer_33_p_1']
        assert dataset[whole(dataset.index.iloc[0])]['image'].any()
        with pytest.raises(OSError, match=name):
            PlanetCR(own_root, 'test', strict=True)
        return messages[0]

    @pytest.mark.parametrize('modality', FILES)
    def test_missing(self, own_root: Path, modality: str) -> None:
        (own_root / 'test' / FILES[modality]).unlink()
        message = self.check_left_out(own_root, 'summer_33_p_1')
        assert modality in message or Path(FILES[modality]).name in message

    @pytest.mark.parametrize(
        'damage',
        [
            cut,
            cut_header,
            empty,
            text,
            folder,
            without_georeference,
            elsewhere,
            other_zone,
        ],
    )
    @pytest.mark.parametrize('modality', RASTERS)
    def test_raster(
        self, own_root: Path, modality: str, damage: Callable[[Path], None]
    ) -> None:
        path = own_root / 'test' / FILES[modality]
        damage(path)
        message = self.check_left_out(own_root, 'summer_33_p_1')
        if modality not in ('cloudy',) or damage not in (elsewhere, other_zone):
            assert path.name in message

    @pytest.mark.parametrize(
        'damage',
        [
            pixels_of(2),
            pixels_of(0.5),
            pixels_of(1e5),
            pixels_of(1.0001),
            shifted_by(2),
            shifted_by(-2),
            larger,
            sparse,
            compressed_bomb,
            many_bands,
            *(pytest.param(f, marks=needs_posix) for f in (pipe, device, pipe_beside)),
        ],
    )
    @pytest.mark.parametrize('modality', RASTERS)
    @pytest.mark.parametrize('alignment', ['geo', 'reference', 'native'])
    def test_misfit(
        self,
        own_root: Path,
        modality: str,
        alignment: Any,
        damage: Callable[[Path], None],
    ) -> None:
        """A raster that is not on the grid of its modality is not stretched or cut."""
        path = own_root / 'test' / FILES[modality]
        damage(path)
        with pytest.warns(UserWarning, match='summer_33_p_1') as caught:
            dataset = PlanetCR(own_root, 'test', alignment=alignment)
        assert len(caught) == 1
        assert path.name in str(caught[0].message)
        assert list(dataset.left_out) == ['summer_33_p_1']
        assert len(dataset) == 2

    @pytest.mark.parametrize('pixels', [0.5, 0.02])
    @pytest.mark.parametrize('modality', ['cloudy', 'clear'])
    def test_part_of_a_pixel(
        self, own_root: Path, modality: str, pixels: float
    ) -> None:
        """Images of 3 m share their pixels."""
        path = own_root / 'test' / FILES[modality]
        shifted_by(pixels)(path)
        with pytest.warns(UserWarning, match=path.name):
            assert len(PlanetCR(own_root, 'test', ['cloudy', 'clear'])) == 2
        # By itself, it is in order
        assert len(PlanetCR(own_root, 'test', [modality], strict=True)) == 3  # ty: ignore[invalid-argument-type]

    @pytest.mark.parametrize('modality', RASTERS)
    def test_component_alone(self, own_root: Path, modality: str) -> None:
        """Rasters of one's own may have any pixels."""
        path = own_root / 'test' / FILES[modality]
        pixels_of(2)(path)
        component = COMPONENTS[modality]  # ty: ignore[invalid-argument-type]
        assert len(component(path, strict=True)) == 1

    @pytest.mark.parametrize('modality', ['cloudy', 'clear', 'sentinel1'])
    def test_fewer_bands(self, own_root: Path, modality: str) -> None:
        path = own_root / 'test' / FILES[modality]
        fewer_bands(path)
        assert 'bands instead of' in self.check_left_out(own_root, path.name)

    @pytest.mark.parametrize('modality', RASTERS)
    def test_virtual_raster(self, own_root: Path, modality: str) -> None:
        """It is no GeoTIFF and may name any file or address."""
        path = own_root / 'test' / FILES[modality]
        virtual(path)
        self.check_left_out(own_root, path.name)

    @pytest.mark.parametrize(
        'damage',
        [
            cut,
            cut_header,
            empty,
            text,
            folder,
            archive_of_arrays,
            damaged_header,
            nested_header,
            huge_header,
            array(300, 299),
            array(300 * 300),
            array(1, 300, 300),
            array(),
            array(0, 300),
            array(300, 300, dtype='U1'),
            array(300, 300, dtype='float32'),
            array(300, 300, dtype=[('a', 'u1'), ('b', 'u1')]),
            array(300, 300, dtype='datetime64[s]'),
            sparse_array,
            *(pytest.param(f, marks=needs_posix) for f in (pipe, device)),
        ],
    )
    def test_mask(self, own_root: Path, damage: Callable[[Path], None]) -> None:
        path = own_root / 'test' / FILES['cloud_mask']
        damage(path)
        self.check_left_out(own_root, path.name)

    @pytest.mark.parametrize('damage', [object_array, plain_pickle])
    def test_pickled_mask(self, own_root: Path, damage: Callable[[Path], None]) -> None:
        path = own_root / 'test' / FILES['cloud_mask']
        damage(path)
        self.check_left_out(own_root, path.name)
        with pytest.raises(OSError, match=path.name):
            PlanetCRCloudMask(path, strict=True)
        assert not path.with_name('exploited').exists()
        np.load(path, allow_pickle=True)
        assert path.with_name('exploited').exists()

    @pytest.mark.parametrize('dtype', ['uint8', 'int64', '>i2'])
    def test_mask_of_other_types(self, own_root: Path, dtype: str) -> None:
        path = own_root / 'test' / FILES['cloud_mask']
        mask = np.load(path)
        np.save(path, np.asfortranarray(mask.astype(dtype)))
        dataset = PlanetCR(own_root, 'test', strict=True)
        sample = dataset[whole(patch(dataset, 'summer_33_p_1'))]
        assert (sample['mask_cloud'].numpy() == mask).all()

    def test_many(self, own_root: Path) -> None:
        """One warning counts all patches and names some."""
        for path in (own_root / 'train').glob('S1_*/*/*.tif'):
            if 'spring_1' in path.name or 'fall' in path.name:
                text(path)
        whole_root = PlanetCR(own_root, modalities=['cloudy'])
        damaged = whole_root.index['patch'].str.contains('spring_1|fall').sum()
        with pytest.warns(UserWarning, match=rf'{damaged} patch\(s\)') as record:
            dataset = PlanetCR(own_root)
        assert len(record) == 1
        message = str(record[0].message)
        assert 1 <= message.count('.tif is not') <= 5
        assert len(dataset) == len(whole_root) - damaged

    def test_all(self, own_root: Path) -> None:
        for path in (own_root / 'test').glob('S1_*'):
            shutil.rmtree(path)
        arguments: list[dict[str, Any]] = [
            {'modalities': list(FILES)},
            {'strict': True},
        ]
        for asked in arguments:
            with pytest.raises(OSError, match=r"3 patch\(s\).*'sentinel1'"):
                PlanetCR(own_root, 'test', **asked)
        assert len(PlanetCR(own_root, 'test', ['cloudy'])) == 3

    def test_all_unreadable(self, own_root: Path) -> None:
        """What is there and damaged is not missing."""
        for path in (own_root / 'test').glob('S1_*/*/*.tif'):
            text(path)
        with pytest.raises(OSError, match=r'3 patch\(s\).*S1_'):
            PlanetCR(own_root, 'test')

    def test_slightly_smaller_raster(self, own_root: Path) -> None:
        """A 10 m grid that misses the patch by less than a pixel is extended."""
        path = own_root / 'test' / FILES['sentinel1']
        write(
            path,
            np.full((2, 90, 90), -12.5),
            10,
            transform=from_origin(385308 + 9, 9315070 - 9, 10, 10),
        )
        dataset = PlanetCR(own_root, 'test', strict=True)
        sample = dataset[whole(patch(dataset, 'summer_33_p_1'))]
        assert (sample['image_s1'] == -12.5).all()
        write(
            path,
            np.full((2, 90, 90), -12.5),
            10,
            transform=from_origin(385308 + 11, 9315070, 10, 10),
        )
        with pytest.warns(
            UserWarning, match=r'S1_summer_33_p_1\.tif .* does not cover'
        ):
            PlanetCR(own_root, 'test')

    @pytest.mark.parametrize(
        ('arguments', 'message'),
        [
            ({'split': 'validation'}, "split='validation'"),
            ({'modalities': ['cloudy', 'sar']}, r"modalities=\['sar'\]"),
            ({'modalities': 'sar'}, r"modalities=\['sar'\]"),
            ({'modalities': []}, 'modalities is empty'),
            ({'alignment': 'nearest'}, "alignment='nearest'"),
            ({'alignment': None}, 'alignment=None'),
            ({'landcover_level': 3}, 'level'),
        ],
    )
    def test_arguments(
        self, root: Path, arguments: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(ValueError, match=message):
            PlanetCR(root, **arguments)

    @pytest.mark.parametrize('exists', [True, False])
    def test_not_found(self, tmp_path: Path, exists: bool) -> None:
        path = tmp_path if exists else tmp_path / 'no such folder'
        with pytest.raises(DatasetNotFoundError) as error:
            PlanetCR(path, 'val')
        message = str(error.value)
        for expected in (
            str(path),
            "split='val'",
            'github.com/zhu-xlab/M3R-CR',
            'on request',
            f'planetcr download-sample {path}',
        ):
            assert expected in message

    def test_root_is_a_file(self, tmp_path: Path) -> None:
        path = tmp_path / 'planet-cr.zip'
        path.touch()
        with pytest.raises(DatasetNotFoundError, match=r'planet-cr\.zip'):
            PlanetCR(path)

    def test_root_is_the_split(self, root: Path) -> None:
        with pytest.raises(DatasetNotFoundError, match='holds `train/` and `test/`'):
            PlanetCR(root / 'train')

    def test_damaged_after_the_index(self, own_root: Path) -> None:
        """An error names the file."""
        dataset = PlanetCR(own_root, 'test')
        query = whole(patch(dataset, 'summer_33_p_1'))
        for name in FILES.values():
            path = own_root / 'test' / name
            content = path.read_bytes()
            cut(path)
            with pytest.raises(OSError, match=path.name):
                dataset[query]
            path.unlink()
            with pytest.raises(OSError, match=path.name):
                dataset[query]
            path.write_bytes(content)
        assert dataset[query]['image'].any()


class TestIndex:
    def test_columns(self, root: Path) -> None:
        dataset = PlanetCR(root, 'test')
        index = dataset.index
        expected: Sequence[tuple[str, str, str]] = [
            ('summer_33_p_1', 'summer_33', 'summer'),
            ('winter_34_p_1', 'winter_34', 'winter'),
            ('winter_34_p_2', 'winter_34', 'winter'),
        ]
        assert list(zip(index['patch'], index['aoi'], index['season'])) == expected
        assert index['split'].tolist() == ['test'] * 3
        assert index['filepath'].tolist() == index['cloudy'].tolist()
        for modality in KEYS:
            assert all(Path(path).is_file() for path in index[modality])

    def test_public_sample(self, sample_root: Path) -> None:
        dataset = PlanetCR(sample_root, 'test')
        assert dataset.crs.to_epsg() == 32736
        sample = dataset[:]
        assert sample['image'].shape == (4, 300, 300)
        (query,) = RandomNativePatchSampler(dataset, size=160, length=1)
        assert dataset[query]['crs'] == 32736
        train = PlanetCR(sample_root)
        assert train.crs.to_epsg() == 32646
        (query,) = CenterNativePatchSampler(train, size=None)
        assert train[query]['mask_cloud'].sum() == 43582


def test_one_modality(root: Path) -> None:
    dataset = PlanetCR(root, 'test', 'clear')
    assert dataset.modalities == ('clear',)
    assert set(dataset[whole(dataset.index.iloc[0])]) == GEOREFERENCE | {'image_clear'}


def test_nodata_keeps_the_season(own_root: Path) -> None:
    """Where two areas lie at one place, all keys are of the same one."""
    dataset = PlanetCR(own_root).filter(aoi=['spring_2', 'winter_10'])
    expected = dataset[whole(patch(dataset, 'spring_2_p_1'))]
    path = patch(dataset, 'spring_2_p_1')['cloudy']
    with rasterio.open(path, 'r+') as dst:
        array = dst.read()
        array[:, 50:150, 50:150] = 0
        dst.write(array)
    x, y, _ = dataset.bounds
    sample = dataset[x, y]
    assert (sample['image'][:, 50:150, 50:150] == 0).all()
    for key in set(KEYS.values()) - {'image'}:
        assert torch.equal(sample[key], expected[key])


def test_files(root: Path) -> None:
    dataset = PlanetCR(root, 'test', ['cloudy', 'cloud_mask'])
    assert len(dataset.files) == 2 * len(dataset)
    assert str(root / 'test' / FILES['cloud_mask']) in dataset.files


def test_error_travels_between_processes(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFoundError) as error:
        PlanetCR(tmp_path, 'val')
    assert str(pickle.loads(pickle.dumps(error.value))) == str(error.value)
