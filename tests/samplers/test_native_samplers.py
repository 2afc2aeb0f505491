# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import functools
import itertools
import pickle
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasters
import shapely
import torch
from fake_process import process
from geopandas import GeoSeries
from rasterio.transform import from_origin
from torch.utils.data import DataLoader
from torchgeo.datasets import RasterDataset
from torchgeo.datasets.utils import stack_samples
from torchgeo.samplers import GeoSampler

from torchgeo_planetcr.datasets import (
    NativeRasterDataset,
    NativeSlice,
    PlanetCR,
    PlanetCRClear,
    PlanetCRCloudy,
)
from torchgeo_planetcr.samplers import (
    CenterNativePatchSampler,
    GriddedNativePatchSampler,
    RandomNativePatchSampler,
)

SAMPLERS = (
    RandomNativePatchSampler,
    GriddedNativePatchSampler,
    CenterNativePatchSampler,
)

Place = tuple[str, int, int, int, int]


def write(
    path: Path, height: int, width: int, xmin: float, crs: str, res: float = 3
) -> Path:
    array = np.ones((1, height, width), np.uint8)
    transform = from_origin(xmin, 2000000, res, res)
    return rasters.write(path, array, crs=crs, transform=transform)


@functools.cache
def header(filepath: str) -> tuple[Any, ...]:
    with rasterio.open(filepath) as src:
        return src.crs.to_epsg(), src.bounds, src.res, src.shape


def place(window: NativeSlice) -> Place:
    """File, row, column, height and width of a window; whole numbers or an error."""
    assert window.filepath is not None
    epsg, bounds, (xres, yres), size = header(window.filepath)
    assert epsg == window.crs.to_epsg()
    exact = (
        (bounds.top - window.y.stop) / yres,
        (window.x.start - bounds.left) / xres,
        (window.y.stop - window.y.start) / yres,
        (window.x.stop - window.x.start) / xres,
    )
    row, col, height, width = (round(value) for value in exact)
    assert exact == pytest.approx((row, col, height, width), abs=1e-5)
    assert 0 <= row <= size[0] - height
    assert 0 <= col <= size[1] - width
    return window.filepath, row, col, height, width


def places(sampler: Iterable[Any]) -> list[Place]:
    return [place(window) for window in sampler]


def lonlat(window: NativeSlice) -> shapely.Polygon:
    x, y, _ = window
    box = shapely.box(x.start, y.start, x.stop, y.stop)
    return GeoSeries([box], crs=window.crs).to_crs(4326).iloc[0]


@pytest.fixture(scope='module')
def dataset(root: Path) -> PlanetCR:
    return PlanetCR(root)


@pytest.fixture(scope='module')
def uneven(tmp_path_factory: pytest.TempPathFactory) -> NativeRasterDataset:
    """Patches of several sizes, resolutions and zones."""
    folder = tmp_path_factory.mktemp('uneven')
    paths = [
        write(folder / 'a.tif', 6, 9, 500000.3, 'EPSG:32646'),
        write(folder / 'b.tif', 12, 5, 300000, 'EPSG:32736', 10),
        write(folder / 'c.tif', 5, 4, 600000, 'EPSG:32646', 0.7),
        write(folder / 'd.tif', 20, 20, 400000, 'EPSG:32719'),
    ]
    return NativeRasterDataset(paths)


@pytest.fixture(scope='module')
def triangle(dataset: PlanetCR) -> shapely.Polygon:
    """Half of the first patch, in degrees."""
    row = dataset.index.iloc[0]
    xmin, ymin, xmax, ymax = row['native_bounds']
    corners = shapely.Polygon([(xmin, ymin), (xmax, ymin), (xmin, ymax)])
    return GeoSeries([corners], crs=row['native_crs']).to_crs(4326).iloc[0]


class TestAll:
    @pytest.mark.parametrize('sampler', SAMPLERS)
    @pytest.mark.parametrize('size', [1, 160, 299, 300, (300, 1), (40, 213), [30, 20]])
    def test_windows(self, dataset: PlanetCR, sampler: Any, size: Any) -> None:
        """Inside their patches, on their grids, and of the right size."""
        if size == 1 and sampler is not CenterNativePatchSampler:
            size = 50
        expected = (size, size) if isinstance(size, int) else tuple(size)
        windows = list(sampler(dataset, size=size))
        assert isinstance(sampler(dataset, size=size), GeoSampler)
        assert len(windows) >= len(dataset)
        files = set()
        for window in windows:
            assert isinstance(window, NativeSlice)
            filepath, _, _, height, width = place(window)
            assert (height, width) == expected
            files.add(filepath)
        if sampler is not RandomNativePatchSampler:
            assert files == set(dataset.index['filepath'])
        for window in windows[:5]:
            assert dataset[window]['image'].shape == (4, *expected)

    @pytest.mark.parametrize('sampler', SAMPLERS)
    def test_length(self, dataset: PlanetCR, sampler: Any) -> None:
        for size in (100, 160, 300):
            instance = sampler(dataset, size=size)
            assert len(instance) == len(list(instance))

    @pytest.mark.parametrize('sampler', SAMPLERS)
    @pytest.mark.parametrize('size', [301, (301, 10), (10, 301), 10**9])
    def test_too_large(self, dataset: PlanetCR, sampler: Any, size: Any) -> None:
        with pytest.raises(
            ValueError, match=r'larger than 12 patch.*p_1\.tif with \(300, 300\)'
        ):
            sampler(dataset, size=size)

    @pytest.mark.parametrize('sampler', SAMPLERS)
    def test_larger_than_one_patch(
        self, uneven: NativeRasterDataset, sampler: Any
    ) -> None:
        with pytest.raises(ValueError, match=r'larger than 1 patch.*c\.tif.*\(5, 4\)'):
            sampler(uneven, size=5)

    @pytest.mark.parametrize('sampler', SAMPLERS)
    @pytest.mark.parametrize('size', [0, -1, (0, 5), (5, -5)])
    def test_not_positive(self, dataset: PlanetCR, sampler: Any, size: Any) -> None:
        with pytest.raises(ValueError, match='positive'):
            sampler(dataset, size=size)

    @pytest.mark.parametrize('sampler', SAMPLERS)
    @pytest.mark.parametrize('size', [160.0, (160.5, 160), '160', (1, 2, 3), (160,)])
    def test_not_a_size(self, dataset: PlanetCR, sampler: Any, size: Any) -> None:
        """An error that speaks of the size, or a whole number is taken for one."""
        if size == 160.0:
            try:
                windows = places(sampler(dataset, size=size))
            except (TypeError, ValueError) as error:
                assert 'size' in str(error)
            else:
                assert {window[3:] for window in windows} == {(160, 160)}
        else:
            with pytest.raises((TypeError, ValueError), match='size'):
                list(sampler(dataset, size=size))

    @pytest.mark.parametrize('sampler', SAMPLERS)
    def test_size_of_numpy(self, dataset: PlanetCR, sampler: Any) -> None:
        windows = places(sampler(dataset, size=np.int64(160)))
        assert {window[3:] for window in windows} == {(160, 160)}

    @pytest.mark.parametrize('sampler', SAMPLERS)
    def test_torchgeo_dataset(self, root: Path, sampler: Any) -> None:
        class Plain(RasterDataset):
            filename_glob = 'planet_cloudy_*.tif'

        with pytest.raises(TypeError, match=r'Plain.*torchgeo\.samplers'):
            sampler(Plain(root / 'test'), size=10)

    def test_nothing_to_sample(self, dataset: PlanetCR) -> None:
        empty = dataset.filter(cloud_cover=(0.9, 1))
        assert list(GriddedNativePatchSampler(empty, size=10)) == []
        assert list(CenterNativePatchSampler(empty, size=10)) == []
        assert list(CenterNativePatchSampler(empty, size=None)) == []
        with pytest.raises(ValueError, match='no window'):
            RandomNativePatchSampler(empty, size=10)

    @pytest.mark.parametrize('sampler', SAMPLERS)
    def test_one_crs(self, dataset: PlanetCR, sampler: Any) -> None:
        """The same places as in the data set of all zones."""
        view = dataset.in_crs(32646)
        expected = [
            window
            for window in sampler(dataset, size=300)
            if window.crs.to_epsg() == 32646
        ]
        windows = list(sampler(view, size=300))
        assert set(windows) <= set(view_windows(view))
        if sampler is not RandomNativePatchSampler:
            assert windows == expected

    @pytest.mark.parametrize('sampler', SAMPLERS)
    @pytest.mark.parametrize('workers', [0, 2])
    def test_data_loader(self, dataset: PlanetCR, sampler: Any, workers: int) -> None:
        """Batches hold patches of several zones."""
        instance = sampler(dataset, size=150)
        loader = DataLoader(
            dataset,
            batch_size=8,
            sampler=instance,
            num_workers=workers,
            collate_fn=stack_samples,
        )
        windows = list(instance)
        instance.set_epoch(0)
        batches = list(loader)
        assert len(batches) == -(-len(windows) // 8)
        assert any(len(batch['crs'].unique()) > 1 for batch in batches)
        found = []
        for batch in batches:
            assert batch['image'].shape[1:] == (4, 150, 150)
            assert batch['image_s1'].shape[1:] == (2, 150, 150)
            assert batch['bounds'].shape[1:] == (9,)
            found += list(zip(batch['crs'].tolist(), batch['bounds'].tolist()))
        assert [(crs, b[0], b[3]) for crs, b in found] == [
            (w.crs.to_epsg(), w.x.start, w.y.start) for w in windows
        ]

    def test_workers_read_what_is_read_here(self, dataset: PlanetCR) -> None:
        """Also if the files are open here when the workers start."""
        sampler = RandomNativePatchSampler(dataset, size=64, length=60, generator=0)
        windows = list(sampler)
        expected = [dataset[window] for window in windows]
        sampler.set_epoch(0)
        loader = DataLoader(dataset, batch_size=None, sampler=sampler, num_workers=2)
        for sample, other in zip(loader, expected, strict=True):
            for key, value in other.items():
                assert torch.equal(sample[key], value), key
        with ThreadPoolExecutor(4) as pool:
            for sample, other in zip(pool.map(dataset.__getitem__, windows), expected):
                for key, value in other.items():
                    assert torch.equal(sample[key], value), key


def view_windows(view: PlanetCR) -> list[NativeSlice]:
    return [
        NativeSlice(
            slice(row['native_bounds'][0], row['native_bounds'][2]),
            slice(row['native_bounds'][1], row['native_bounds'][3]),
            slice(interval.left, interval.right),
            row['native_crs'],
            row['filepath'],
        )
        for interval, row in view.index.iterrows()
    ]


class TestRandom:
    @pytest.mark.parametrize('size', [3, (2, 4), (5, 1)])
    def test_uniform(self, uneven: NativeRasterDataset, size: Any) -> None:
        """Each place in any patch is as likely as each other."""
        height, width = (size, size) if isinstance(size, int) else size
        every = []
        for path in uneven.index['filepath']:
            with rasterio.open(path) as src:
                rows, cols = src.height - height + 1, src.width - width + 1
            every += [
                (path, row, col, height, width)
                for row, col in itertools.product(range(rows), range(cols))
            ]
        draws = 60 * len(every)
        sampler = RandomNativePatchSampler(uneven, size=size, length=draws, generator=0)
        bounds = {
            (window.filepath, window.x.start, window.y.stop): window
            for window in set(sampler)
        }
        known = {key: place(window) for key, window in bounds.items()}
        counts = Counter(
            known[window.filepath, window.x.start, window.y.stop] for window in sampler
        )
        assert set(counts) == set(every)
        chi_square = sum((count - 60) ** 2 / 60 for count in counts.values())
        freedom = len(every) - 1
        # Five standard deviations
        assert abs(chi_square - freedom) < 5 * np.sqrt(2 * freedom)

    def test_uniform_in_roi(self, dataset: PlanetCR) -> None:
        """Also in a region that leaves out a corner of the patch."""
        size, draws = 280, 20000
        patch = dataset.filter(aoi='summer_4')
        west, south, east, north = patch.index['native_bounds'].iloc[0]
        corners = [
            (west - 5, south - 5),
            (east - 40, south - 5),
            (east + 5, south + 40),
            (east + 5, north + 5),
            (west - 5, north + 5),
        ]
        region = GeoSeries([shapely.Polygon(corners)], crs=patch.crs)
        roi = region.to_crs(4326).iloc[0]
        expected = {
            (row, col)
            for row, col in itertools.product(range(21), range(21))
            # The lower right corner of a window lies on the right side of the cut.
            if (east - 60 + 3 * col) - (east - 40)
            <= (south + 60 - 3 * row) - (south - 5)
        }
        assert 300 < len(expected) < 441
        sampler = RandomNativePatchSampler(
            dataset, size=size, length=draws, generator=0, roi=roi
        )
        windows = list(sampler)
        found = {window: place(window)[1:3] for window in set(windows)}
        counts = Counter(found[window] for window in windows)
        assert set(counts) == expected
        mean = draws / len(expected)
        chi_square = sum((count - mean) ** 2 / mean for count in counts.values())
        freedom = len(expected) - 1
        assert abs(chi_square - freedom) < 5 * np.sqrt(2 * freedom)

    def test_seed(self, dataset: PlanetCR) -> None:
        def draw(generator: Any, epoch: int = 0) -> list[NativeSlice]:
            sampler = RandomNativePatchSampler(
                dataset, size=100, length=50, generator=generator
            )
            sampler.set_epoch(epoch)
            windows = list(sampler)
            sampler.set_epoch(epoch)
            assert list(sampler) == windows
            return windows

        assert draw(1) == draw(1)
        assert draw(1) != draw(2)
        assert draw(1, 5) == draw(1, 5)
        assert draw(1, 5) != draw(1, 6)
        assert draw(1, 1) != draw(2, 0)
        assert draw(np.random.default_rng(3)) == draw(np.random.default_rng(3))
        assert draw(np.random.SeedSequence(3)) == draw(3)

    def test_seed_of_torch(self, dataset: PlanetCR) -> None:
        drawn = []
        for seed in (0, 0, 1):
            torch.manual_seed(seed)
            np.random.seed(seed + len(drawn))
            sampler = RandomNativePatchSampler(dataset, size=100, length=50)
            other = RandomNativePatchSampler(dataset, size=100, length=50)
            drawn.append(list(sampler))
            assert list(other) != drawn[-1]
        assert drawn[0] == drawn[1]
        assert drawn[0] != drawn[2]

    def test_epoch_leaves_global_state_alone(self, dataset: PlanetCR) -> None:
        sampler = RandomNativePatchSampler(dataset, size=100, generator=0)
        torch.manual_seed(0)
        expected = torch.rand(1)
        torch.manual_seed(0)
        list(sampler)
        assert torch.rand(1) == expected

    def test_length(self, dataset: PlanetCR) -> None:
        """Approximately the number of windows side by side, or as asked for."""
        for size, count in ((300, 1), (150, 4), (100, 9), (160, 3.5)):
            sampler = RandomNativePatchSampler(dataset, size=size)
            assert len(sampler) == pytest.approx(count * len(dataset), abs=1)
        assert len(list(RandomNativePatchSampler(dataset, size=300, length=77))) == 77

    def test_epochs_differ(self, dataset: PlanetCR) -> None:
        sampler = RandomNativePatchSampler(dataset, size=100, length=30, generator=0)
        epochs = []
        for epoch in range(5):
            sampler.set_epoch(epoch)
            epochs.append(tuple(sampler))
        assert len(set(epochs)) == 5

    @pytest.mark.parametrize('workers', [0, 2])
    def test_plain_loop(self, dataset: PlanetCR, workers: int) -> None:
        """Its epochs are those that Lightning sets, also after one that is broken off."""
        sampler = RandomNativePatchSampler(dataset, size=100, length=8, generator=0)
        expected = []
        for epoch in range(4):
            sampler.set_epoch(epoch)
            expected.append([(window.x.start, window.y.start) for window in sampler])
        sampler.set_epoch(0)
        loader = DataLoader(
            dataset, batch_size=None, sampler=sampler, num_workers=workers
        )
        found = []
        for epoch in range(4):
            found.append([])
            for sample in loader:
                found[-1].append(
                    (float(sample['bounds'][0]), float(sample['bounds'][3]))
                )
                if epoch == 1:
                    break
        assert found[1] == expected[1][:1]
        assert found[::2] == expected[::2]
        assert found[3] == expected[3]

    @pytest.mark.parametrize('sampler', SAMPLERS)
    def test_pickle(self, dataset: PlanetCR, sampler: Any) -> None:
        """Other processes get the same windows."""
        instance = sampler(dataset, size=100)
        other = pickle.loads(pickle.dumps(instance))
        assert list(other) == list(instance)

    def test_whole_patch(self, dataset: PlanetCR) -> None:
        windows = places(
            RandomNativePatchSampler(dataset, size=300, length=100, generator=0)
        )
        assert {window[1:] for window in windows} == {(0, 0, 300, 300)}
        assert {window[0] for window in windows} == set(dataset.index['filepath'])


class TestGridded:
    @pytest.mark.parametrize(
        ('size', 'stride'),
        [
            (100, None),
            (160, None),
            (160, 70),
            ((160, 90), None),
            ((160, 90), (50, 80)),
            (299, 1),
            (300, 1),
            (64, 64),
            (7, 290),
        ],
    )
    def test_grid(self, dataset: PlanetCR, size: Any, stride: Any) -> None:
        height, width = (size, size) if isinstance(size, int) else size
        steps = size if stride is None else stride
        down, right = (steps, steps) if isinstance(steps, int) else steps
        tops = [*range(0, 300 - height, down), 300 - height]
        lefts = [*range(0, 300 - width, right), 300 - width]
        expected = [
            (path, top, left, height, width)
            for path in dataset.index['filepath']
            for top in tops
            for left in lefts
        ]
        sampler = GriddedNativePatchSampler(dataset, size=size, stride=stride)
        assert places(sampler) == expected
        assert places(sampler) == expected

    def test_covers_every_pixel(self, uneven: NativeRasterDataset) -> None:
        covered = {}
        for path in uneven.index['filepath']:
            with rasterio.open(path) as src:
                covered[path] = np.zeros(src.shape, int)
        for path, row, col, height, width in places(
            GriddedNativePatchSampler(uneven, size=4)
        ):
            covered[path][row : row + height, col : col + width] += 1
        for array in covered.values():
            assert array.min() == 1

    @pytest.mark.parametrize('stride', [0, -3, (0, 1), (1, -1)])
    def test_stride(self, dataset: PlanetCR, stride: Any) -> None:
        with pytest.raises(ValueError, match='stride'):
            GriddedNativePatchSampler(dataset, size=100, stride=stride)


class TestCenter:
    @pytest.mark.parametrize(
        ('size', 'offset'),
        [
            (160, (70, 70)),
            (300, (0, 0)),
            (299, (0, 0)),
            (161, (69, 69)),
            ((100, 160), (100, 70)),
        ],
    )
    def test_offset(
        self, dataset: PlanetCR, size: Any, offset: tuple[int, int]
    ) -> None:
        """The reference's center crop."""
        windows = places(CenterNativePatchSampler(dataset, size=size))
        assert [window[0] for window in windows] == dataset.index['filepath'].tolist()
        assert {window[1:3] for window in windows} == {offset}

    def test_whole_patches(
        self, dataset: PlanetCR, uneven: NativeRasterDataset
    ) -> None:
        windows = places(CenterNativePatchSampler(dataset, size=None))
        assert {window[1:] for window in windows} == {(0, 0, 300, 300)}
        windows = places(CenterNativePatchSampler(uneven, size=None))
        sizes = [(0, 0, 6, 9), (0, 0, 12, 5), (0, 0, 5, 4), (0, 0, 20, 20)]
        assert [window[1:] for window in windows] == sizes


class TestRegion:
    @pytest.mark.parametrize('sampler', SAMPLERS)
    @pytest.mark.parametrize('one_crs', [True, False])
    def test_inside(
        self, dataset: PlanetCR, triangle: shapely.Polygon, sampler: Any, one_crs: bool
    ) -> None:
        """Wholly in the region, also where only its bounds hold a window."""
        source = dataset.in_crs(32646) if one_crs else dataset
        windows = list(sampler(source, size=40, roi=triangle))
        if sampler is CenterNativePatchSampler:
            # The center of the patch lies on the edge of the triangle.
            assert windows == []
            return
        assert len(windows) > 1
        for window in windows:
            assert shapely.covers(triangle, lonlat(window))
            assert place(window)[0] == dataset.index['filepath'].iloc[0]

    def test_all_that_fit(self, dataset: PlanetCR, triangle: shapely.Polygon) -> None:
        expected = [
            window
            for window in GriddedNativePatchSampler(dataset, size=25)
            if shapely.covers(triangle, lonlat(window))
        ]
        found = list(GriddedNativePatchSampler(dataset, size=25, roi=triangle))
        assert found == expected
        assert len(found) > 30

    @pytest.mark.parametrize('sampler', SAMPLERS)
    def test_several_parts(self, dataset: PlanetCR, sampler: Any) -> None:
        """Two patches in two zones, each wholly in a part of the region."""
        patches = dataset.index[
            dataset.index['patch'].isin(['summer_4_p_1', 'winter_9_p_1'])
        ]
        assert patches['native_crs'].tolist() == ['EPSG:32646', 'EPSG:32719']
        parts = [
            GeoSeries([shapely.box(*row['native_bounds'])], crs=row['native_crs'])
            .buffer(10)
            .to_crs(4326)
            .iloc[0]
            for _, row in patches.iterrows()
        ]
        options = {'size': 300, 'roi': shapely.MultiPolygon(parts)}
        if sampler is RandomNativePatchSampler:
            options |= {'length': 50, 'generator': 0}
        windows = places(sampler(dataset, **options))
        assert {window[0] for window in windows} == set(patches['filepath'])

    @pytest.mark.parametrize('sampler', SAMPLERS)
    def test_everywhere(self, dataset: PlanetCR, sampler: Any) -> None:
        roi = shapely.box(-180, -90, 180, 90)
        torch.manual_seed(0)
        expected = list(sampler(dataset, size=160))
        torch.manual_seed(0)
        assert list(sampler(dataset, size=160, roi=roi)) == expected

    @pytest.mark.parametrize('size', [40, 300])
    @pytest.mark.parametrize('where', ['elsewhere', 'too small'])
    def test_no_room(
        self, dataset: PlanetCR, triangle: shapely.Polygon, size: int, where: str
    ) -> None:
        roi = (
            shapely.box(0, 0, 1, 1)
            if where == 'elsewhere'
            else triangle.centroid.buffer(1e-4)
        )
        with pytest.raises(ValueError, match='no window'):
            RandomNativePatchSampler(dataset, size=size, roi=roi)
        assert list(GriddedNativePatchSampler(dataset, size=size, roi=roi)) == []
        assert list(CenterNativePatchSampler(dataset, size=size, roi=roi)) == []

    def test_narrow(self, dataset: PlanetCR) -> None:
        """One place in 68121 is found."""
        row = dataset.index.iloc[0]
        xmin, _, _, ymax = row['native_bounds']
        box = shapely.box(xmin + 120, ymax - 330, xmin + 240, ymax - 210)
        roi = GeoSeries([box], crs=row['native_crs']).buffer(1).to_crs(4326).iloc[0]
        sampler = RandomNativePatchSampler(
            dataset, size=40, length=10, roi=roi, generator=0
        )
        assert set(places(sampler)) == {(row['filepath'], 70, 40, 40, 40)}


@pytest.mark.parametrize('sampler', SAMPLERS)
def test_resampled(root: Path, sampler: Any) -> None:
    """Sizes are in pixels of the samples."""
    other = PlanetCRClear(root).in_crs(32736)
    dataset = PlanetCRCloudy(root).in_crs(32736)
    dataset.res = 6
    for resampled in (dataset, dataset & other):
        for window in list(sampler(resampled, size=100))[:3]:
            assert resampled[window]['image'].shape == (4, 100, 100)


@pytest.mark.parametrize('length', [0, -5])
def test_length(dataset: PlanetCR, length: int) -> None:
    with pytest.raises(ValueError, match=f'length={length}'):
        RandomNativePatchSampler(dataset, size=100, length=length)


class TestProcesses:
    """Samplers made before the process group, as Lightning's launchers have it."""

    @pytest.mark.parametrize('processes', [1, 2, 3, 5, 12])
    @pytest.mark.parametrize('sampler', SAMPLERS[1:])
    def test_exactly_once(
        self, dataset: PlanetCR, sampler: Any, processes: int
    ) -> None:
        instance = sampler(dataset, size=160)
        expected = list(instance)
        shares = []
        for rank in range(processes):
            with process(rank, processes):
                shares.append(list(instance))
                assert len(instance) == len(shares[-1])
        lengths = {len(share) for share in shares}
        assert max(lengths) - min(lengths) <= 1
        rounds = itertools.zip_longest(*shares)
        assert [window for each in rounds for window in each if window] == expected
        assert len(instance) == len(expected)

    @pytest.mark.parametrize('processes', [1, 2, 3, 7, 64])
    @pytest.mark.parametrize('length', [1, 12, 13, 300])
    @pytest.mark.parametrize('region', [True, False])
    def test_draws(
        self,
        dataset: PlanetCR,
        triangle: shapely.Polygon,
        processes: int,
        length: int,
        region: bool,
    ) -> None:
        """Those of one process, and a few more for all to have as many."""
        options: dict[str, Any] = {'size': 40, 'generator': 0}
        options['roi'] = triangle if region else None
        sampler = RandomNativePatchSampler(dataset, length=length, **options)
        each = -(-length // processes)
        longer = RandomNativePatchSampler(dataset, length=each * processes, **options)
        for epoch in range(2):
            sampler.set_epoch(epoch)
            longer.set_epoch(epoch)
            expected = list(longer)
            assert expected[:length] == list(sampler)
            # Of many processes, the first and last
            ranks = sorted({*range(processes)[:7], *range(processes)[-2:]})
            for rank in ranks:
                sampler.set_epoch(epoch)
                with process(rank, processes):
                    assert list(sampler) == expected[rank::processes]
                    assert len(sampler) == each
        assert len(sampler) == length

    @pytest.mark.parametrize('sampler', SAMPLERS[1:])
    def test_fewer_windows_than_processes(
        self, dataset: PlanetCR, sampler: Any
    ) -> None:
        """All for each, so that none is without a batch, and means are right."""
        instance = sampler(dataset, size=300)
        expected = list(instance)
        for rank in (0, 12):
            with process(rank, 13):
                assert list(instance) == expected
                assert len(instance) == 12
