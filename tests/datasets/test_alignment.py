# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest
import rasterio
import torch
from numpy.typing import NDArray
from rasterio.enums import Resampling

from torchgeo_planetcr.datasets import NativeSlice, PlanetCR
from torchgeo_planetcr.samplers import (
    CenterNativePatchSampler,
    RandomNativePatchSampler,
)
from torchgeo_planetcr.transforms import PlanetCRNormalize

SPLITS: tuple[Literal['train', 'val', 'test'], ...] = ('train', 'val', 'test')
CODES = (10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 100)

# Sum, sum of squares, first and central value that the authors' loader returns
GOLDEN: dict[tuple[int, str], Mapping[str, tuple[float, float, float, float]]] = {
    (300, 'reference'): {
        'image': (
            76141.42580745369,
            19000.277318075496,
            0.15039999783039093,
            0.14399999380111694,
        ),
        'image_clear': (
            42846.323712769896,
            7683.78138286114,
            0.06849999725818634,
            0.06459999829530716,
        ),
        'image_s1': (
            102347.87526340783,
            61116.58645762612,
            0.7700756192207336,
            0.6085265874862671,
        ),
        'mask': (214655, 657381, 3, 3),
        'mask_cloud': (43582, 43582, 1, 0),
    },
    (300, 'native'): {
        'image_s1': (
            9211.021884858608,
            5500.3391371828275,
            0.7700756192207336,
            0.6085265874862671,
        ),
        'mask': (19295, 59071, 3, 3),
    },
    (160, 'reference'): {
        'image': (
            17517.346702724695,
            3165.966796316563,
            0.3968999981880188,
            0.14399999380111694,
        ),
        'image_clear': (
            13221.657702539116,
            2402.946911747017,
            0.02810000069439411,
            0.06459999829530716,
        ),
        'image_s1': (
            29274.266989648342,
            17432.185392481206,
            0.7497669458389282,
            0.6085265874862671,
        ),
        'mask': (65279, 198285, 4, 3),
        'mask_cloud': (3435, 3435, 1, 0),
    },
    (160, 'native'): {
        'image_s1': (
            2635.22472935915,
            1569.8045066809896,
            0.7497669458389282,
            0.6085265874862671,
        ),
        'mask': (5868, 17816, 4, 3),
    },
}


def rewrite(path: str, array: NDArray[Any]) -> None:
    with rasterio.open(path, 'r+') as dst:
        dst.write(array)


def patches(root: Path, **options: Any) -> Iterator[tuple[PlanetCR, pd.Series]]:
    for split in SPLITS:
        dataset = PlanetCR(root, split, **options)
        for _, row in dataset.index.iterrows():
            yield dataset, row


def windows(row: pd.Series) -> Iterator[tuple[NativeSlice, slice, slice]]:
    """The whole patch and windows in it, as queries and as rows and columns."""
    xmin, _, _, ymax = row['native_bounds']
    rng = np.random.default_rng(0)
    sizes = [(300, 300), (1, 1), (1, 300), (160, 160), *rng.integers(1, 300, (4, 2))]
    for height, width in sizes:
        top, left = rng.integers(301 - height), rng.integers(301 - width)
        query = NativeSlice(
            slice(xmin + 3 * left, xmin + 3 * (left + width)),
            slice(ymax - 3 * (top + height), ymax - 3 * top),
            slice(None),
            row['native_crs'],
            row['filepath'],
        )
        yield query, slice(top, top + height), slice(left, left + width)


@pytest.fixture(scope='module')
def coordinates(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree in which Sentinel-1 holds its place in the patch, in meters."""
    own = tmp_path_factory.mktemp('alignment') / 'own'
    shutil.copytree(root, own)
    rng = np.random.default_rng(0)
    for _, row in patches(own):
        xmin, _, _, ymax = row['native_bounds']
        with rasterio.open(row['sentinel1']) as src:
            x = src.bounds.left + 5 + 10 * np.arange(90)
            y = src.bounds.top - 5 - 10 * np.arange(90)
        x, y = np.meshgrid(x, y)
        rewrite(row['sentinel1'], np.stack([x - xmin, ymax - y]))
        codes = rng.choice([0, *CODES], (1, 90, 90)).astype(np.uint8)
        rewrite(row['worldcover'], codes)
    return own


def test_zones(coordinates: Path) -> None:
    """What follows is tested in these zones, and with these offsets."""
    rows = [row for _, row in patches(coordinates)]
    zones = {row['native_crs'] for row in rows}
    assert zones == {f'EPSG:{code}' for code in (32633, 32646, 32719, 32736, 32754)}
    offsets = set()
    for row in rows:
        with rasterio.open(row['sentinel1']) as src:
            offsets.add(
                (
                    src.bounds.left - row['native_bounds'][0],
                    src.bounds.top - row['native_bounds'][3],
                )
            )
    assert len(offsets) > 5
    assert {offset for pair in offsets for offset in pair} == {-2, -1, 0, 1, 2}


def test_geo_sentinel1(coordinates: Path) -> None:
    for dataset, row in patches(coordinates):
        with rasterio.open(row['sentinel1']) as src:
            dx = src.bounds.left - row['native_bounds'][0]
            dy = row['native_bounds'][3] - src.bounds.top
        center = np.arange(300) * 3 + 1.5
        # Half a pixel of Sentinel-1 at the edge is extended.
        x, y = center.clip(dx + 5, dx + 895), center.clip(dy + 5, dy + 895)
        for query, rows, cols in windows(row):
            found = dataset[query]['image_s1'].numpy()
            expected = np.stack(np.broadcast_arrays(x[cols], y[rows, np.newaxis]))
            assert found.dtype == np.float32
            # A hundredth of a pixel is 0.1 m
            np.testing.assert_allclose(found, expected, rtol=0, atol=0.01)


def test_geo_worldcover(coordinates: Path) -> None:
    for dataset, row in patches(coordinates):
        with rasterio.open(row['worldcover']) as src:
            codes = src.read(1)
            left, top = src.bounds.left, src.bounds.top
        xmin, _, _, ymax = row['native_bounds']
        lines, columns = [], []
        for i in range(300):
            y, x = ymax - 3 * i - 1.5, xmin + 3 * i + 1.5
            lines.append(min(max(int((top - y) // 10), 0), 89))
            columns.append(min(max(int((x - left) // 10), 0), 89))
        table = np.array([CODES.index(c) if c in CODES else 255 for c in range(256)])
        expected = table[codes[np.ix_(lines, columns)]]
        for query, rows, cols in windows(row):
            found = dataset[query]['mask'].numpy()
            assert (found == expected[rows, cols]).all()


def test_geo_edges_are_extended(own_root: Path) -> None:
    """No pixel of a patch is fill, wherever the 10 m grid lies."""
    for _, row in patches(own_root):
        rewrite(row['sentinel1'], np.full((2, 90, 90), -12.5))
        rewrite(row['worldcover'], np.full((1, 90, 90), 40, np.uint8))
    for dataset, row in patches(own_root):
        for query, _, _ in windows(row):
            sample = dataset[query]
            assert (sample['image_s1'] == -12.5).all()
            assert (sample['mask'] == 3).all()


def test_reference(coordinates: Path) -> None:
    for dataset, row in patches(coordinates, alignment='reference'):
        files = {}
        for modality in ('sentinel1', 'worldcover'):
            with rasterio.open(row[modality]) as src:
                files[modality] = src.read(
                    out_shape=(src.count, 300, 300), resampling=Resampling.nearest
                )
        for query, rows, cols in windows(row):
            sample = dataset[query]
            expected = files['sentinel1'][:, rows, cols].astype(np.float32)
            assert (sample['image_s1'].numpy() == expected).all()
            codes = files['worldcover'][0, rows, cols]
            found = sample['mask'].numpy()
            for index, code in enumerate(CODES):
                assert ((found == index) == (codes == code)).all()
            assert ((found == 255) == (codes == 0)).all()


def test_native_whole(coordinates: Path) -> None:
    for dataset, row in patches(coordinates, alignment='native'):
        query = next(windows(row))[0]
        sample = dataset[query]
        with rasterio.open(row['sentinel1']) as src:
            expected = src.read().astype(np.float32)
        assert sample['image_s1'].shape == (2, 90, 90)
        assert (sample['image_s1'].numpy() == expected).all()
        with rasterio.open(row['worldcover']) as src:
            codes = src.read(1)
        assert sample['mask'].shape == (90, 90)
        table = np.array([CODES.index(c) if c in CODES else 255 for c in range(256)])
        assert (sample['mask'].numpy() == table[codes]).all()


def test_native_crops(coordinates: Path) -> None:
    """Whole pixels of the file, by no more than a pixel beside the window."""
    for split in SPLITS:
        dataset = PlanetCR(coordinates, split, alignment='native')
        sampler = RandomNativePatchSampler(dataset, size=160, length=60, generator=0)
        for query in sampler:
            sample = dataset[query]
            row = dataset.index[dataset.index['filepath'] == query.filepath].iloc[0]
            assert sample['image'].shape == (4, 160, 160)
            assert sample['image_s1'].shape == (2, 48, 48)
            assert sample['mask'].shape == (48, 48)
            x, y = sample['image_s1'].numpy()
            xmin, _, _, ymax = row['native_bounds']
            left, top = query.x.start - xmin, ymax - query.y.stop
            with rasterio.open(row['sentinel1']) as src:
                whole = src.read().astype(np.float32)
            inside = (0 < left < 420) and (0 < top < 420)
            tolerance = 5 if inside else 10
            assert abs(x[0, 0] - 5 - left) <= tolerance
            assert abs(y[0, 0] - 5 - top) <= tolerance
            col = int(np.flatnonzero(whole[0, 0] == x[0, 0])[0])
            line = int(np.flatnonzero(whole[1, :, 0] == y[0, 0])[0])
            part = (slice(None), slice(line, line + 48), slice(col, col + 48))
            assert (sample['image_s1'].numpy() == whole[part]).all()


@pytest.mark.parametrize('size', [1, 2, 3, 7, 158, 299])
def test_native_of_any_size(coordinates: Path, size: int) -> None:
    """All crops of a size can be stacked, as their 10 m windows have one size."""
    dataset = PlanetCR(coordinates, alignment='native')
    shapes = {
        tuple(dataset[query]['image_s1'].shape)
        for query in RandomNativePatchSampler(
            dataset, size=size, length=40, generator=0
        )
    }
    assert len(shapes) == 1
    assert min(shapes.pop()) > 0


@pytest.mark.parametrize(('size', 'alignment'), GOLDEN)
def test_golden(sample_root: Path, size: int, alignment: Any) -> None:
    """The values that the authors' loader returns for the public train patch."""
    dataset = PlanetCR(sample_root, alignment=alignment)
    (query,) = CenterNativePatchSampler(dataset, size=size)
    sample = PlanetCRNormalize()(dataset[query])
    coarse = size * 3 // 10 if alignment == 'native' else size
    assert sample['image_s1'].shape == (2, coarse, coarse)
    for key, (total, squares, first, center) in GOLDEN[size, alignment].items():
        value = sample[key].double()
        assert value.sum().item() == pytest.approx(total, rel=1e-12)
        assert value.square().sum().item() == pytest.approx(squares, rel=1e-12)
        band = value if value.ndim == 2 else value[0]
        assert band[0, 0].item() == first
        assert band[band.shape[0] // 2, band.shape[1] // 2].item() == center


@pytest.mark.parametrize('split', ['train', 'test'])
def test_public_sample(sample_root: Path, split: Any) -> None:
    dataset = PlanetCR(sample_root, split, alignment='reference')
    row = dataset.index.iloc[0]
    (query,) = CenterNativePatchSampler(dataset, size=None)
    sample = dataset[query]
    for modality, key in (
        ('cloudy', 'image'),
        ('clear', 'image_clear'),
        ('sentinel1', 'image_s1'),
    ):
        with rasterio.open(row[modality]) as src:
            expected = src.read(
                out_shape=(src.count, 300, 300), resampling=Resampling.nearest
            )
            crs = src.crs.to_epsg()
        assert (sample[key].numpy() == expected.astype(np.float32)).all()
        assert sample['crs'] == crs
    mask = np.load(row['cloud_mask'], allow_pickle=False)
    assert (sample['mask_cloud'].numpy() == mask).all()
    assert torch.isfinite(sample['image_s1']).all()
