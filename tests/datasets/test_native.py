# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import copy
import itertools
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import rasterio
import rasterio.merge
import shapely
import torch
from native_data import GEOREFERENCE, KEYS, check_same, query, write
from pyproj import CRS, Transformer
from rasterio.transform import from_bounds
from rasterio.windows import Window
from shapely import Polygon
from torch import Generator
from torch.utils.data import DataLoader
from torchgeo.datasets import GeoDataset, RasterDataset
from torchgeo.datasets.splits import (
    random_bbox_assignment,
    random_bbox_splitting,
    random_grid_cell_assignment,
    roi_split,
)
from torchgeo.samplers import GriddedPatchSampler, RandomPatchSampler

from torchgeo_planetcr.datasets import (
    NativeIntersectionDataset,
    NativeRasterDataset,
    NativeSlice,
    PlanetCR,
    PlanetCRCloudy,
    PlanetCRSentinel1,
)
from torchgeo_planetcr.samplers import (
    CenterNativePatchSampler,
    GriddedNativePatchSampler,
    RandomNativePatchSampler,
)


def covered(dataset: GeoDataset, size: int) -> Any:
    """Everything that the windows of a data set show, in its CRS."""
    windows = GriddedNativePatchSampler(dataset, size=size)
    return shapely.union_all(
        [shapely.box(x.start, y.start, x.stop, y.stop) for x, y, _ in windows]
    )


class Longitude(RasterDataset):
    filename_glob = 'longitude*.tif'


class Latitude(RasterDataset):
    filename_glob = 'latitude*.tif'


class Grown(RasterDataset):
    filename_glob = 'longitude*.tif'
    is_image = False


DEGREES_PER_PIXEL = 2e-4


def write_degrees(folder: Path, view: PlanetCR) -> Path:
    """Rasters in EPSG:4326 that hold their own coordinates, from the lower left on."""
    west, south, east, north = (
        view.index.geometry.to_crs('EPSG:4326').union_all().buffer(0.01).bounds
    )
    width = round((east - west) / DEGREES_PER_PIXEL)
    height = round((north - south) / DEGREES_PER_PIXEL)
    transform = from_bounds(west, south, east, north, width, height)
    column = (np.arange(width) + 0.5) * transform.a
    row = north - south + (np.arange(height) + 0.5) * transform.e
    longitude, latitude = np.meshgrid(column, row)
    for name, array in (('longitude', longitude), ('latitude', latitude)):
        with rasterio.open(
            folder / f'{name}.tif',
            'w',
            driver='GTiff',
            count=1,
            height=height,
            width=width,
            dtype='float32',
            crs='EPSG:4326',
            transform=transform,
        ) as dst:
            dst.write(array.astype(np.float32), 1)
            dst.update_tags(west=west, south=south)
    return folder


class TestIndex:
    def test_pickle(self, root: Path) -> None:
        dataset = PlanetCR(root)
        window = next(iter(CenterNativePatchSampler(dataset, size=7)))
        expected = dataset[window]
        for other in (pickle.loads(pickle.dumps(dataset)), copy.deepcopy(dataset)):
            check_same(other[window], expected, KEYS | GEOREFERENCE)

    def test_str(self, view: PlanetCR) -> None:
        assert 'size: 3' in str(view)


class TestInCRS:
    @pytest.mark.parametrize(
        'crs',
        ['EPSG:32736', 32736, CRS.from_epsg(32736), CRS.from_epsg(32736).to_wkt()],
    )
    def test_in_crs(self, root: Path, crs: Any) -> None:
        dataset = PlanetCR(root)
        found = dataset.in_crs(crs)
        assert isinstance(found, PlanetCR)
        assert found.crs == CRS.from_epsg(32736)
        assert found.index['patch'].tolist() == ['summer_3_p_1', 'summer_3_p_2']
        assert found.index.geometry.iloc[0].bounds == (385308, 9214170, 386208, 9215070)
        assert len(dataset) > len(found)
        assert dataset.crs == CRS.from_epsg(6933)

    def test_of_one_crs(self, view: PlanetCR) -> None:
        assert len(view.in_crs(32646)) == 3

    def test_unknown(self, root: Path) -> None:
        with pytest.raises(ValueError, match=r'EPSG:4326.*EPSG:32633.*EPSG:32754'):
            PlanetCR(root).in_crs(4326)

    def test_not_a_crs(self, root: Path) -> None:
        with pytest.raises(Exception, match='zone 36'):
            PlanetCR(root).in_crs('zone 36')


class TestQuery:
    @pytest.mark.parametrize('number', [0, -1, 99, np.int64(3)])
    def test_number(self, root: Path, view: PlanetCR, number: Any) -> None:
        """What DataLoader asks for without a sampler."""
        parts = (PlanetCRCloudy(root), PlanetCRSentinel1(root))
        first, second = (part.in_crs('EPSG:32633') for part in parts)
        pair: Any = first & second
        for dataset in (PlanetCR(root), view, *parts, pair):
            with pytest.raises(TypeError, match=f'{number}.* sampler'):
                dataset[number]
        with pytest.raises(TypeError, match='sampler'):
            next(iter(DataLoader(view, shuffle=True)))

    def test_plain_slice_of_several_crss(self, root: Path) -> None:
        dataset = PlanetCR(root)
        with pytest.raises(ValueError, match=r'in_crs\(.*NativeSlice'):
            dataset[385308:386208, 9214170:9215070]

    def test_plain_slice_of_one_crs(self, root: Path) -> None:
        several = PlanetCR(root)
        dataset = several.in_crs(32736)
        window = (385308 + 30, 9215070 - 300, 385308 + 330, 9215070 - 60)
        expected = several[query(window, 32736)]
        assert expected['image'].shape == (4, 80, 100)
        xmin, ymin, xmax, ymax = window
        for sample in (
            dataset[xmin:xmax, ymin:ymax],
            dataset[xmin:xmax, ymin:ymax, :],
            dataset[xmin:xmax:3, ymin:ymax:3],
            dataset[query(window, 'EPSG:32736')],
        ):
            check_same(sample, expected, KEYS | GEOREFERENCE)

    def test_partial_slices(self, root: Path) -> None:
        dataset = PlanetCR(root, 'test').in_crs(32736)
        whole = dataset[:]
        assert whole['image'].shape == (4, 300, 300)
        strip = dataset[385308 + 30 : 385308 + 60]
        assert torch.equal(strip['image'], whole['image'][:, :, 10:20])
        strip = dataset[:, : 9315070 - 840]
        assert torch.equal(strip['image'], whole['image'][:, 280:, :])

    @pytest.mark.parametrize('crs', [32736, 4326, 'EPSG:3857'])
    def test_unknown_crs(self, root: Path, view: PlanetCR, crs: Any) -> None:
        window = query((760299, 1897512, 761199, 1898412), crs)
        for dataset in (PlanetCR(root), view):
            with pytest.raises(IndexError, match='not found'):
                dataset[window]

    @pytest.mark.parametrize('several', [True, False])
    def test_outside(self, root: Path, view: PlanetCR, several: bool) -> None:
        dataset = PlanetCR(root) if several else view
        with pytest.raises(IndexError, match='not found'):
            dataset[query((0, 0, 30, 30), 32646)]

    def test_hole(self, view: PlanetCR) -> None:
        """The L of patches has a hole in its bounds."""
        with pytest.raises(IndexError, match='not found'):
            view[760299 + 10 : 760299 + 100, 1898412 - 1700 : 1898412 - 1000]

    @pytest.mark.parametrize(
        ('x', 'y'),
        [
            (slice(760400, 760400), slice(1898000, 1898100)),
            (slice(760500, 760400), slice(1898000, 1898100)),
            (slice(760400, 760500), slice(1898100, 1898000)),
            (slice(float('nan'), 760500), slice(1898000, 1898100)),
        ],
    )
    def test_empty_window(self, view: PlanetCR, x: slice, y: slice) -> None:
        with pytest.raises(ValueError, match='is empty'):
            view[x, y]

    @pytest.mark.parametrize(
        'window',
        [
            pytest.param((1, 1, 2, 2), id='less than a pixel'),
            pytest.param((1, 1, 1.1, 30), id='thin'),
            pytest.param((-30, 30, 0.9, 60), id='less than a pixel of the patch'),
            pytest.param((30, -30, 60, 0.9), id='less than a row of the patch'),
        ],
    )
    @pytest.mark.parametrize('named', [True, False])
    def test_sliver(self, root: Path, window: Sequence[float], named: bool) -> None:
        """A window without a pixel is an error that says so, or has at least one."""
        dataset = PlanetCR(root, 'test').in_crs(32736)
        path = dataset.index['filepath'].iloc[0] if named else None
        xmin, ymin, xmax, ymax = window
        west, south = 385308, 9314170
        bounds = (west + xmin, south + ymin, west + xmax, south + ymax)
        try:
            sample = dataset[query(bounds, 32736, path)]
        except (IndexError, ValueError) as error:
            assert str(west)[:3] in str(error)
        else:
            assert sample['image'].numel() > 0

    def test_snaps_to_nearest_pixels(self, root: Path) -> None:
        dataset = PlanetCR(root, 'test').in_crs(32736)
        whole = dataset[:]['image']
        for shift in (-1.4, 0.0, 1.4):
            x, y = 385308 + 30 + shift, 9315070 - 60 - shift
            sample = dataset[x : x + 30, y - 30 : y]
            assert torch.equal(sample['image'], whole[:, 20:30, 10:20])
            west, north = 385308 + 30, 9315070 - 60
            expected = [west, west + 30, 3, north - 30, north, 3]
            assert sample['bounds'].tolist()[:6] == expected

    def test_fractions_of_meters(self, tmp_path: Path) -> None:
        """float32 would round these coordinates to meters."""
        xmin, ymax, res = 385308.123, 9315070.456, 0.7
        array = np.arange(600, dtype=np.uint16).reshape(1, 20, 30)
        path = write(tmp_path / 'a.tif', array, xmin, ymax, res, 'EPSG:32736')
        dataset = NativeRasterDataset(path)
        sample = dataset[
            xmin + 7 * res : xmin + 12 * res, ymax - 9 * res : ymax - 4 * res
        ]
        assert torch.equal(
            sample['image'], torch.from_numpy(array[:, 4:9, 7:12].astype(np.float32))
        )
        assert sample['bounds'].dtype == sample['transform'].dtype == torch.float64
        with rasterio.open(path) as src:
            transform = src.window_transform(Window(7, 4, 5, 5))
        assert sample['transform'].tolist() == pytest.approx(tuple(transform), abs=1e-8)
        assert sample['bounds'].tolist()[:6] == pytest.approx(
            [xmin + 7 * res, xmin + 12 * res, res, ymax - 9 * res, ymax - 4 * res, res],
            abs=1e-8,
        )

    def test_file_of_another_place(self, root: Path) -> None:
        dataset = PlanetCR(root).in_crs(32646)
        index = dataset.index
        with pytest.raises(IndexError, match='not found'):
            dataset[
                query(index['native_bounds'].iloc[0], 32646, index['filepath'].iloc[-1])
            ]
        with pytest.raises(IndexError, match='not found'):
            dataset[query(index['native_bounds'].iloc[0], 32646, '/no/such/file.tif')]

    def test_same_place(self, same_place: PlanetCR) -> None:
        index = same_place.index
        assert index['native_bounds'].nunique() == 1
        samples = {}
        for _, row in index.iterrows():
            window = query(row['native_bounds'], row['native_crs'], row['filepath'])
            samples[row['aoi']] = same_place[window]
            for modality, key in (('cloudy', 'image'), ('clear', 'image_clear')):
                with rasterio.open(row[modality]) as src:
                    expected = torch.from_numpy(src.read().astype(np.float32))
                assert torch.equal(samples[row['aoi']][key], expected)
        first = same_place[query(index['native_bounds'].iloc[0], 32633)]
        check_same(first, samples['spring_2'], KEYS - {'mask'})
        assert not torch.equal(first['image_s1'], samples['winter_10']['image_s1'])

    def test_transforms_set_later(self, root: Path) -> None:
        dataset = PlanetCR(root)
        window = next(iter(CenterNativePatchSampler(dataset, size=8)))
        assert 'added' not in dataset[window]
        dataset.transforms = lambda sample: {**sample, 'added': torch.tensor(1)}
        assert 'added' in dataset[window]

    def test_res_cannot_be_set(self, root: Path, view: PlanetCR) -> None:
        view.res = 3
        view.res = (3.0, 3.0)
        with pytest.raises(ValueError, match='put it first'):
            view.res = 6
        with pytest.raises(ValueError, match='needs one CRS'):
            PlanetCR(root).res = 6

    def test_torchgeo_sampler_of_several_crss(self, root: Path) -> None:
        """It would search the globe for a patch."""
        with pytest.raises(ValueError, match=r'torchgeo_planetcr\.samplers'):
            RandomPatchSampler(PlanetCR(root), size=64)


class TestMosaic:
    def test_straddles_patches(self, view: PlanetCR) -> None:
        """Three patches and a hole meet in this window."""
        x, y = 760299 + 900, 1898412 - 900
        sample = view[x - 60 : x + 90, y - 120 : y + 30]
        assert sample['image'].shape == (4, 50, 50)
        assert (sample['image'][:, 10:, :20] == 0).all()
        # Missing Sentinel-1 is the mean of what the patches have
        files = [
            view.components['sentinel1'].read_mosaic([h], h.grid)
            for h in view.components['sentinel1'].headers_of([0, 1, 2])
        ]
        means = torch.from_numpy(np.mean(files, axis=(0, 2, 3), dtype=np.float32))
        hole = sample['image_s1'][:, 10:, :20]
        torch.testing.assert_close(hole, means[:, None, None].expand(2, 40, 20))
        assert (sample['mask_cloud'][10:, :20] == 0).all()
        assert (sample['mask'][10:, :20] == 255).all()
        corners = {
            'spring_1_p_1': (slice(0, 10), slice(0, 20), (x - 60, y, x, y + 30)),
            'spring_1_p_2': (slice(0, 10), slice(20, 50), (x, y, x + 90, y + 30)),
            'spring_1_p_3': (slice(10, 50), slice(20, 50), (x, y - 120, x + 90, y)),
        }
        for patch, (rows, cols, bounds) in corners.items():
            path = view.index.set_index('patch')['filepath'][patch]
            expected = view[query(bounds, 32646, path)]
            for key in KEYS:
                assert torch.equal(sample[key][..., rows, cols], expected[key]), key

    def test_native_alignment_straddles(self, root: Path) -> None:
        view = PlanetCR(root, alignment='native').filter(aoi='spring_1')
        x, y = 760299 + 900, 1898412
        sample = view[x - 150 : x + 150, y - 300 : y]
        assert sample['image'].shape == (4, 100, 100)
        assert sample['image_s1'].shape == (2, 30, 30)
        assert (sample['image_s1'] != 0).all()
        assert sample['mask'].shape == (30, 30)

    @pytest.mark.parametrize('alignment', ['geo', 'reference', 'native'])
    def test_beyond_the_edge(self, root: Path, alignment: Any) -> None:
        dataset = PlanetCR(root, 'test', alignment=alignment).in_crs(32736)
        x, y = 385308, 9315070
        sample = dataset[x - 300 : x + 300, y - 300 : y + 300]
        inside = dataset[x : x + 300, y - 300 : y]
        assert sample['image'].shape == (4, 200, 200)
        assert torch.equal(sample['image'][:, 100:, 100:], inside['image'])
        assert (sample['image'][:, :100] == 0).all()
        assert (sample['image_clear'][:, :, :100] == 0).all()
        assert (sample['mask_cloud'][:100] == 0).all()
        half = sample['mask'].shape[0] // 2
        # In 'native', the grid is offset by 2 m, which is less than half of its pixel.
        assert (sample['mask'][:half] == 255).all()
        assert torch.equal(sample['mask'][half:, half:], inside['mask'])


class TestResolution:
    def test_step_resamples(self, root: Path) -> None:
        dataset = PlanetCR(root, 'test').in_crs(32736)
        sample = dataset[385308:386208:9, 9314170:9315070:9]
        assert sample['image'].shape == (4, 100, 100)
        assert sample['mask_cloud'].shape == (100, 100)
        assert sample['bounds'][2] == 9

    def test_components(self, tmp_path: Path) -> None:
        """Sentinel-1 that holds its own coordinates, on the grid of PlanetScope."""
        x, y = np.meshgrid(np.arange(90) * 10 + 5, np.arange(90) * 10 + 5)
        fine = np.ones((4, 300, 300), np.uint16)
        cloudy = PlanetCRCloudy(write(tmp_path / 'cloudy.tif', fine))
        coarse = np.stack([x, y]).astype(np.float64)
        sentinel1 = PlanetCRSentinel1(write(tmp_path / 's1.tif', coarse, res=10))
        joined = cloudy & sentinel1
        assert isinstance(joined, NativeIntersectionDataset)
        sample = joined[joined.bounds]
        assert (sample['image'] == 1).all()
        found = sample['image_planetcrsentinel1']
        assert found.shape == (2, 300, 300)
        center = torch.arange(300) * 3 + 1.5
        inner = slice(2, -2)
        torch.testing.assert_close(
            found[0, inner, inner], center[inner].expand(296, 296), atol=0.1, rtol=0
        )
        torch.testing.assert_close(
            found[1, inner, inner].T, center[inner].expand(296, 296), atol=0.1, rtol=0
        )

    def test_crs_cannot_be_set(self, root: Path, view: PlanetCR) -> None:
        view.crs = CRS.from_epsg(32646)
        with pytest.raises(ValueError, match=r"in_crs\('EPSG:32646'\) & other"):
            view.crs = CRS.from_epsg(4326)
        assert view.crs == CRS.from_epsg(32646)
        with pytest.raises(ValueError, match=r"in_crs\('EPSG:32\d{3}'\)"):
            PlanetCR(root).crs = CRS.from_epsg(32646)


class TestTorchGeo:
    def test_random_patch_sampler(self, root: Path) -> None:
        dataset = PlanetCR(root).in_crs(32646)
        sampler = RandomPatchSampler(dataset, size=64, length=8, generator=0)
        windows = list(sampler)
        assert len(windows) == 8
        for window in windows:
            sample = dataset[window]
            assert sample['image'].shape == (4, 64, 64)
            assert sample['mask_cloud'].shape == (64, 64)
            xmin, xmax, _, ymin, ymax, *_ = sample['bounds'].tolist()
            assert xmin == pytest.approx(window[0].start, abs=1.5)
            for modality, key in (('cloudy', 'image'), ('clear', 'image_clear')):
                expected, _ = rasterio.merge.merge(
                    dataset.index[modality].tolist(),
                    bounds=(xmin, ymin, xmax, ymax),
                    res=3,
                )
                assert (sample[key].numpy() == expected).all()

    def test_gridded_patch_sampler(self, view: PlanetCR) -> None:
        """The windows are the patches, as the hole is no window."""
        windows = list(GriddedPatchSampler(view, size=300))
        assert len(windows) == 3
        found = {view[window]['image'].sum().item() for window in windows}
        expected = set()
        for path in view.index['filepath']:
            with rasterio.open(path) as src:
                expected.add(float(torch.from_numpy(src.read().astype('f4')).sum()))
        assert found == expected

    def check_split(self, dataset: PlanetCR, parts: Sequence[GeoDataset]) -> None:
        areas = []
        for part in parts:
            assert isinstance(part, PlanetCR)
            assert part.crs == dataset.crs
            windows = [
                *RandomNativePatchSampler(part, size=30, length=5, generator=0),
                *RandomPatchSampler(part, size=30, length=5, generator=0),
            ]
            assert len(windows) == 10
            for window in windows:
                check_same(part[window], dataset[window], KEYS | GEOREFERENCE)
            areas.append(covered(part, size=10))
        whole = shapely.union_all(dataset.index.geometry.to_numpy())
        for area in areas:
            assert not area.is_empty
            assert shapely.covers(whole, area)
        for one, other in itertools.combinations(areas, 2):
            assert shapely.intersection(one, other).area == 0

    @pytest.mark.parametrize('queried', [True, False])
    @pytest.mark.parametrize(
        'split',
        [
            lambda dataset, rng: random_bbox_assignment(dataset, [2, 1], rng),
            lambda dataset, rng: random_bbox_assignment(dataset, [0.6, 0.4], rng),
            lambda dataset, rng: random_bbox_splitting(dataset, [0.5, 0.3, 0.2], rng),
            lambda dataset, rng: random_grid_cell_assignment(
                dataset, [0.7, 0.3], 6, rng
            ),
            lambda dataset, _: roi_split(
                dataset,
                [
                    shapely.box(760299, 1898412 - 1800, 760299 + 500, 1898412),
                    shapely.box(760299 + 500, 1898412 - 1800, 760299 + 1800, 1898412),
                ],
            ),
        ],
        ids=['assignment', 'fractions', 'splitting', 'grid cells', 'roi'],
    )
    def test_splits(
        self,
        view: PlanetCR,
        queried: bool,
        split: Callable[[PlanetCR, Generator], list[GeoDataset]],
    ) -> None:
        if queried:
            view[760299:760329, 1898382:1898412]
        self.check_split(view, split(view, Generator().manual_seed(1)))
        assert len(view) == 3

    def test_assignment_of_several_crss(self, root: Path) -> None:
        dataset = PlanetCR(root)
        parts = random_bbox_assignment(dataset, [0.5, 0.5], Generator().manual_seed(0))
        patches = [set(part.index['patch']) for part in parts]
        assert not patches[0] & patches[1]
        assert patches[0] | patches[1] == set(dataset.index['patch'])
        for part in parts:
            for window in CenterNativePatchSampler(part, size=20):
                check_same(part[window], dataset[window], KEYS | GEOREFERENCE)

    @pytest.mark.parametrize(
        'split',
        [
            lambda dataset, rng: random_bbox_splitting(dataset, [0.5, 0.5], rng),
            lambda dataset, rng: random_grid_cell_assignment(
                dataset, [0.5, 0.5], 2, rng
            ),
            lambda dataset, _: roi_split(
                dataset,
                [
                    shapely.box(-2e7, -1e7, 9210600, 1e7),
                    shapely.box(9210600, -1e7, 2e7, 1e7),
                ],
            ),
        ],
        ids=['splitting', 'grid cells', 'roi'],
    )
    def test_parts_of_several_crss_do_not_overlap(
        self, root: Path, split: Callable[[PlanetCR, Generator], list[GeoDataset]]
    ) -> None:
        """Patches cut in two must not leak from one part into the other."""
        parts = split(PlanetCR(root), Generator().manual_seed(0))
        areas: list[dict[str, list[Polygon]]] = []
        for part in parts:
            areas.append({})
            for window in GriddedNativePatchSampler(part, size=20):
                assert isinstance(window, NativeSlice)
                assert window.filepath
                x, y, _ = window
                box = shapely.box(x.start, y.start, x.stop, y.stop)
                areas[-1].setdefault(window.filepath, []).append(box)
        assert all(areas)
        # By file, as two areas lie at the same place.
        for path in set(areas[0]) & set(areas[1]):
            one, other = (shapely.union_all(area[path]) for area in areas)
            assert shapely.intersection(one, other).area == 0

    def test_union(self, root: Path) -> None:
        train, test = (
            PlanetCR(root, split).in_crs(32646) for split in ('train', 'test')
        )
        both = train | test
        assert len(both) == len(train) + len(test)
        for dataset in (train, test):
            window = next(iter(CenterNativePatchSampler(dataset, size=50)))
            check_same(both[window], dataset[window], KEYS | GEOREFERENCE)

    def test_union_of_several_crss(self, root: Path, view: PlanetCR) -> None:
        with pytest.raises(ValueError, match='in_crs'):
            PlanetCR(root) | view
        with pytest.raises(ValueError, match=r"in_crs\('EPSG:32\d{3}'\)"):
            view | PlanetCR(root)


class TestIntersection:
    def test_keys(self, tmp_path: Path, view: PlanetCR) -> None:
        other = Longitude(write_degrees(tmp_path, view))
        joined = view & other
        assert isinstance(joined, NativeIntersectionDataset)
        assert len(joined) == len(view)
        assert joined.crs == view.crs
        for window in RandomPatchSampler(joined, size=64, length=5, generator=0):
            sample = joined[window]
            assert set(sample) == KEYS | GEOREFERENCE | {'image_longitude'}
            assert sample['bounds'].shape == (9,)
            check_same(sample, view[window], KEYS | GEOREFERENCE)
            assert sample['image_longitude'].shape == (1, 64, 64)

    def test_place_of_other(self, tmp_path: Path, view: PlanetCR) -> None:
        folder = write_degrees(tmp_path, view)
        joined = view & Longitude(folder) & Latitude(folder)
        x, y = 760299 + 300, 1898412 - 300
        sample = joined[x : x + 150, y - 150 : y]
        assert set(sample) == KEYS | GEOREFERENCE | {
            'image_longitude',
            'image_latitude',
        }
        check_same(sample, view[x : x + 150, y - 150 : y], KEYS | GEOREFERENCE)
        with rasterio.open(folder / 'longitude.tif') as src:
            west, south = (float(src.tags()[name]) for name in ('west', 'south'))
        center = np.arange(50) * 3 + 1.5
        columns, rows = np.meshgrid(x + center, y - center)
        to_degrees = Transformer.from_crs(32646, 4326, always_xy=True)
        longitude, latitude = to_degrees.transform(columns, rows)
        expected = {
            'image_longitude': longitude - west,
            'image_latitude': latitude - south,
        }
        for key, value in expected.items():
            np.testing.assert_allclose(
                sample[key][0], value, rtol=0, atol=DEGREES_PER_PIXEL
            )

    def test_mask_of_other(self, tmp_path: Path, view: PlanetCR) -> None:
        joined = view & Grown(write_degrees(tmp_path, view))
        sample = joined[next(iter(CenterNativePatchSampler(view, size=20)))]
        assert set(sample) == KEYS | GEOREFERENCE | {'mask_grown'}
        assert sample['mask_grown'].shape == (20, 20)

    def test_same_name_twice(self, tmp_path: Path, view: PlanetCR) -> None:
        folder = write_degrees(tmp_path, view)
        joined = view & Longitude(folder) & Longitude(folder)
        with pytest.raises(ValueError, match='image_longitude'):
            joined[next(iter(CenterNativePatchSampler(view, size=20)))]

    def test_index(self, tmp_path: Path, view: PlanetCR) -> None:
        joined = view & Longitude(write_degrees(tmp_path, view))
        assert isinstance(joined.index.index, pd.IntervalIndex)
        columns = ['patch', 'aoi', 'season', 'split', 'native_crs', 'native_res']
        columns += ['native_bounds']
        for column in columns:
            assert joined.index[column].tolist() == view.index[column].tolist()

    def test_native_samplers(self, tmp_path: Path, view: PlanetCR) -> None:
        joined = view & Longitude(write_degrees(tmp_path, view))
        windows = [
            *RandomNativePatchSampler(joined, size=160, length=4, generator=0),
            *CenterNativePatchSampler(joined, size=160),
            *GriddedNativePatchSampler(joined, size=300),
        ]
        assert len(windows) == 10
        for window in windows:
            sample = joined[window]
            check_same(sample, view[window], KEYS | GEOREFERENCE)
            assert sample['image_longitude'].shape[1:] == sample['image'].shape[1:]

    def test_same_place(self, tmp_path: Path, same_place: PlanetCR) -> None:
        """Each of two patches at one place keeps its own pixels."""
        joined = same_place & Longitude(write_degrees(tmp_path, same_place))
        assert joined.index['patch'].tolist() == ['spring_2_p_1', 'winter_10_p_1']
        windows = list(CenterNativePatchSampler(joined, size=300))
        for window, path in zip(windows, same_place.index['clear'], strict=True):
            with rasterio.open(path) as src:
                assert (joined[window]['image_clear'].numpy() == src.read()).all()

    def test_native_second(self, root: Path, view: PlanetCR) -> None:
        joined = view & PlanetCRSentinel1(
            view.index['sentinel1'].tolist(), bands=['VH']
        )
        windows = list(CenterNativePatchSampler(joined, size=30))
        assert windows
        for window in windows:
            sample = joined[window]
            assert set(sample) == KEYS | GEOREFERENCE | {'image_planetcrsentinel1'}
            assert sample['image_planetcrsentinel1'].shape == (1, 30, 30)
            check_same(sample, view[window], KEYS | GEOREFERENCE)

    def test_part_of_the_patches(self, tmp_path: Path, root: Path) -> None:
        dataset = PlanetCR(root).in_crs(32646)
        near = dataset.filter(aoi='summer_4')
        joined = dataset & Longitude(write_degrees(tmp_path, near))
        assert joined.index['aoi'].tolist() == ['summer_4']

    def test_nothing_in_common(
        self, tmp_path: Path, root: Path, view: PlanetCR
    ) -> None:
        far = PlanetCR(root).in_crs(32736)
        with pytest.raises(RuntimeError, match='no spatial intersection'):
            view & Longitude(write_degrees(tmp_path, far))

    def test_transforms(self, tmp_path: Path, view: PlanetCR) -> None:
        joined = NativeIntersectionDataset(
            view,
            Longitude(write_degrees(tmp_path, view)),
            transforms=lambda sample: {'keys': torch.tensor(len(sample))},
        )
        assert joined[next(iter(CenterNativePatchSampler(view, size=9)))]['keys'] == 9

    @pytest.mark.parametrize('offset', [-1.4, 0, 1.4])
    @pytest.mark.parametrize('dataset', [RasterDataset, NativeRasterDataset])
    def test_same_place_off_the_pixels(
        self, tmp_path: Path, view: PlanetCR, dataset: Any, offset: float
    ) -> None:
        """The other follows where the window is moved to the nearest pixels."""
        xmin, _, _, ymax = view.index['native_bounds'].iloc[0]
        # Distances from the patch's corner, on a grid of 10 m that is off by 1.4 m.
        ramp = (np.arange(100) + 0.5) * 10 - 48.6
        array = np.tile(ramp, (100, 1))[np.newaxis].astype(np.float32)
        path = write(tmp_path / 'ramp.tif', array, xmin - 48.6, ymax + 50, 10)
        joined = view & dataset([path])
        x, y = xmin + 300 + offset, ymax - 300 + offset
        sample = joined[x : x + 150, y - 150 : y]
        assert sample['bounds'][0] == xmin + 300
        key = f'image_{dataset.__name__.lower()}'
        expected = 300 + (np.arange(50) + 0.5) * 3
        found = sample[key][0, 20].numpy()
        np.testing.assert_allclose(found, expected, rtol=0, atol=0.01)

    def test_leaves_the_other_alone(self, tmp_path: Path, root: Path) -> None:
        """One data set joined with two of different CRSs."""
        dataset = PlanetCR(root)
        views = [dataset.filter(aoi='spring_1'), dataset.filter(aoi='fall_5')]
        folders = [tmp_path / view.index['aoi'].iloc[0] for view in views]
        for folder, view in zip(folders, views, strict=True):
            folder.mkdir()
            write_degrees(folder, view)
        other = Longitude(folders)
        for _ in range(2):
            for joined in [view & other for view in views]:
                for window in CenterNativePatchSampler(joined, size=40):
                    assert (joined[window]['image_longitude'] > 0).all()
        assert other.crs == CRS.from_epsg(4326)

    def test_many_files_of_the_other(self, tmp_path: Path, view: PlanetCR) -> None:
        """Patches are neither cut nor counted twice by files that overlap or adjoin."""
        xmin, ymin, xmax, ymax = view.index['native_bounds'].iloc[0]
        array = np.ones((1, 300, 300), np.uint8)
        for i, x in enumerate((xmin - 450, xmin + 450, xmin, xmin, xmin)):
            write(tmp_path / f'longitude{i}.tif', array, x, ymax)
        joined = view & Longitude(tmp_path)
        row = joined.index[joined.index['patch'] == 'spring_1_p_1']
        assert len(row) == 1
        assert row.geometry.iloc[0].equals(shapely.box(xmin, ymin, xmax, ymax))
        assert len(list(CenterNativePatchSampler(joined, size=300))) == 1

    def test_several_crss(self, tmp_path: Path, root: Path, view: PlanetCR) -> None:
        other = Longitude(write_degrees(tmp_path, view))
        with pytest.raises(ValueError, match='in_crs'):
            PlanetCR(root) & other
        with pytest.raises(ValueError, match=r"in_crs\('EPSG:32\d{3}'\)"):
            view & PlanetCR(root)

    def test_other_first(self, tmp_path: Path, view: PlanetCR) -> None:
        other = Longitude(write_degrees(tmp_path, view))
        with pytest.raises(ValueError, match=r"in_crs\('EPSG:32646'\) & other"):
            other & view

    def test_not_a_dataset(self, view: PlanetCR) -> None:
        with pytest.raises(TypeError, match='GeoDataset'):
            view & 'longitude.tif'  # ty: ignore[unsupported-operator]
