# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil
import torch
from patch_data import FILES, GEOREFERENCE, KEYS, WORLDCOVER, patch, whole, write
from torchgeo.datasets import DatasetNotFoundError

from torchgeo_planetcr.datasets import (
    NativeRasterDataset,
    NativeSlice,
    PlanetCR,
    PlanetCRClear,
    PlanetCRCloudMask,
    PlanetCRCloudy,
    PlanetCRSentinel1,
    PlanetCRWorldCover,
)
from torchgeo_planetcr.samplers import GriddedNativePatchSampler


class TestComponents:
    @pytest.mark.parametrize(
        ('component', 'modality', 'key'),
        [
            (PlanetCRCloudy, 'cloudy', 'image'),
            (PlanetCRClear, 'clear', 'image'),
            (PlanetCRSentinel1, 'sentinel1', 'image'),
            (PlanetCRWorldCover, 'worldcover', 'mask'),
            (PlanetCRCloudMask, 'cloud_mask', 'mask'),
        ],
    )
    def test_on_their_own(
        self, root: Path, component: type[NativeRasterDataset], modality: str, key: str
    ) -> None:
        dataset = component(root)
        assert len(dataset) == 16
        native = PlanetCR(root, 'test', alignment='native')
        for _, row in native.index.iterrows():
            expected = native[whole(row)][KEYS[modality]]
            xmin, ymin, xmax, ymax = row['native_bounds']
            if modality in ('sentinel1', 'worldcover'):
                with rasterio.open(row[modality]) as src:
                    xmin, ymin, xmax, ymax = src.bounds
            sample = dataset[
                NativeSlice(
                    slice(xmin, xmax),
                    slice(ymin, ymax),
                    slice(None),
                    row['native_crs'],
                    row[modality],
                )
            ]
            assert set(sample) == {key} | GEOREFERENCE
            assert sample[key].dtype == expected.dtype
            assert torch.equal(sample[key], expected)

    def test_own_scene(self, tmp_path: Path) -> None:
        """A scene of any name and size, in crops on its own grid."""
        rng = np.random.default_rng(0)
        array = rng.integers(1, 5000, (4, 400, 700), np.uint16)
        path = write(tmp_path / '20240131_084512_ssc4.tif', array, nodata=0)
        dataset = PlanetCRCloudy(path)
        found = np.zeros((4, 400, 700), np.float32)
        for query in GriddedNativePatchSampler(dataset, size=128):
            sample = dataset[query]
            row = round((9315070 - query.y.stop) / 3)
            col = round((query.x.start - 385308) / 3)
            found[:, row : row + 128, col : col + 128] = sample['image']
        assert (found == array).all()

    def test_cloud_mask_as_geotiff(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        array = rng.choice([0, 1, 255], (1, 50, 60)).astype(np.uint8)
        dataset = PlanetCRCloudMask(write(tmp_path / 'mask.tif', array))
        mask = dataset[:]['mask']
        assert mask.dtype == torch.int64
        assert (mask.numpy() == (array[0] != 0)).all()

    @pytest.mark.parametrize('level', [1, 2])
    def test_worldcover_codes(self, tmp_path: Path, level: Any) -> None:
        codes = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
        path = write(tmp_path / 'ESA_WorldCover.tif', codes, 10)
        mask = PlanetCRWorldCover(path, level=level)[:]['mask']
        assert mask.dtype == torch.int64
        for code, index in enumerate(mask.flatten().tolist()):
            expected = WORLDCOVER[code][level - 1] if code in WORLDCOVER else 255
            assert index == expected, code

    @pytest.mark.parametrize('level', [1, 2])
    def test_worldcover_names(self, level: Any) -> None:
        count = 1 + max(classes[level - 1] for classes in WORLDCOVER.values())
        assert len(set(PlanetCRWorldCover.classes[level])) == count
        assert len(set(PlanetCRWorldCover.colors[level])) == count

    @pytest.mark.parametrize('dtype', ['uint16', 'int16', 'float32'])
    def test_worldcover_of_other_types(self, tmp_path: Path, dtype: str) -> None:
        array = np.array([[[10, 20, 0, 300, 100]]], dtype)
        mask = PlanetCRWorldCover(write(tmp_path / 'own.tif', array, 10))[:]['mask']
        assert mask.tolist() == [[0, 1, 255, 255, 10]]

    @pytest.mark.parametrize('level', [0, 3, '2', None])
    def test_worldcover_level(self, root: Path, level: Any) -> None:
        with pytest.raises(ValueError, match='level'):
            PlanetCRWorldCover(root, level=level)

    def test_level_of_planetcr(self, root: Path) -> None:
        fine, coarse = (
            PlanetCR(root, 'test', ['worldcover'], landcover_level=level)
            for level in (2, 1)
        )
        query = whole(fine.index.iloc[0])
        table = np.full(256, 255)
        for level1, level2 in WORLDCOVER.values():
            table[level2] = level1
        expected = table[fine[query]['mask'].numpy()]
        assert (coarse[query]['mask'].numpy() == expected).all()

    @pytest.mark.parametrize('modalities', [list(KEYS), ['cloudy']])
    @pytest.mark.parametrize('level', [0, 3, '2', None])
    def test_unknown_level_of_planetcr(
        self, root: Path, level: Any, modalities: Any
    ) -> None:
        with pytest.raises(ValueError, match='level'):
            PlanetCR(root, 'test', modalities, landcover_level=level)

    @pytest.mark.parametrize('alignment', ['geo', 'reference', 'native'])
    def test_zero_power(self, own_root: Path, alignment: Any) -> None:
        """-inf dB is far below all ranges, and no NaN comes of it."""
        path = own_root / 'test' / FILES['sentinel1']
        with rasterio.open(path, 'r+') as dst:
            array = dst.read()
            array[0, 40, 50] = -np.inf
            array[1, 3, 4] = np.nan
            dst.write(array)
        dataset = PlanetCR(own_root, 'test', alignment=alignment).in_crs(32736)
        found = dataset[:]['image_s1']
        assert found.isfinite().all()
        assert found.min() <= -50
        if alignment == 'native':
            array[0, 40, 50] = -100
            assert found[1, 3, 4] == pytest.approx(np.nanmean(array), rel=1e-6)

    def test_nan(self, own_root: Path) -> None:
        """NaN is replaced by the mean of the whole file, also in a window."""
        path = own_root / 'test' / FILES['sentinel1']
        with rasterio.open(path, 'r+') as dst:
            array = dst.read()
            array[0, :30, :30] = np.nan
            array[1, 5, 7] = np.nan
            dst.write(array)
        expected = np.where(np.isnan(array), np.nanmean(array), array).astype('f4')
        dataset = PlanetCR(own_root, 'test', alignment='native').in_crs(32736)
        x, y = 385308, 9315070
        found = dataset[x : x + 900, y - 900 : y]['image_s1']
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        found = dataset[x : x + 150, y - 150 : y]['image_s1']
        np.testing.assert_allclose(found, expected[:, :15, :15], rtol=1e-6)
        for alignment in ('geo', 'reference'):
            dataset = PlanetCR(own_root, 'test', alignment=alignment)
            sample = dataset[whole(patch(dataset, 'summer_33_p_1'))]
            assert torch.isfinite(sample['image_s1']).all()

    def test_nothing_but_nan(self, own_root: Path) -> None:
        path = own_root / 'test' / FILES['sentinel1']
        with rasterio.open(path, 'r+') as dst:
            dst.write(np.full((2, 90, 90), np.nan))
        dataset = PlanetCR(own_root, 'test')
        with pytest.raises(ValueError, match=r'S1_summer_33_p_1\.tif'):
            dataset[whole(patch(dataset, 'summer_33_p_1'))]
        assert dataset[whole(patch(dataset, 'winter_34_p_1'))]['image_s1'].any()

    @pytest.mark.parametrize(
        ('folder', 'path'),
        [
            ('', '.'),
            ('test', '.'),
            ('test', 'cloudmask_summer'),
            ('test/cloudmask_summer', 'cloudmask_summer_33'),
            (
                'test/cloudmask_summer/cloudmask_summer_33',
                'cloudmask_summer_33_p_1.npy',
            ),
        ],
    )
    def test_relative_path_of_mask(
        self, root: Path, monkeypatch: pytest.MonkeyPatch, folder: str, path: str
    ) -> None:
        """The image is found wherever the user stands."""
        monkeypatch.chdir(root / folder)
        dataset = PlanetCRCloudMask(path, strict=True)
        assert len(dataset) in (1, 3, 16)

    def test_mask_beside_image(self, root: Path, tmp_path: Path) -> None:
        """All files in one folder."""
        for modality in ('cloudy', 'cloud_mask'):
            shutil.copy(root / 'test' / FILES[modality], tmp_path)
        assert len(PlanetCRCloudMask(tmp_path, strict=True)) == 1

    def test_raster_mask_with_nan(self, tmp_path: Path) -> None:
        array = np.array([[[0, 1, np.nan]]], np.float32)
        path = write(tmp_path / 'mask.tif', array, nodata=np.nan)
        assert PlanetCRCloudMask(path)[:]['mask'].tolist() == [[0, 1, 0]]

    def test_raster_mask_with_nodata(self, tmp_path: Path) -> None:
        array = np.array([[[0, 1, 255, 7]]], np.uint8)
        path = write(tmp_path / 'mask.tif', array, nodata=255)
        assert PlanetCRCloudMask(path)[:]['mask'].tolist() == [[0, 1, 0, 1]]

    def test_not_found(self, tmp_path: Path) -> None:
        with pytest.raises(DatasetNotFoundError, match='Dataset not found'):
            PlanetCRSentinel1(tmp_path)
