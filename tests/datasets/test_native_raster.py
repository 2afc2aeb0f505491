# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import rasterio
import torch
from native_data import write
from rasterio.transform import Affine, from_origin
from systems import needs_posix
from torchgeo.datasets import DatasetNotFoundError

from torchgeo_planetcr.datasets import (
    NativeRasterDataset,
    PlanetCRCloudy,
    PlanetCRSentinel1,
)


class TestFiles:
    ARRAY = np.ones((1, 20, 20), np.uint8)

    def test_any_name(self, tmp_path: Path) -> None:
        path = write(tmp_path / 'my own scene.TIFF', self.ARRAY)
        for paths in (path, str(path), [path]):
            assert len(NativeRasterDataset(paths)) == 1
        assert len(NativeRasterDataset(tmp_path)) == 1

    @pytest.mark.filterwarnings('error::UserWarning')
    def test_files_of_several_folders(self, tmp_path: Path) -> None:
        for name in 'ab':
            (tmp_path / name).mkdir()
            write(tmp_path / name / 'x.tif', self.ARRAY)
        assert len(NativeRasterDataset([tmp_path / 'a', tmp_path / 'b'])) == 2
        assert len(NativeRasterDataset([tmp_path, tmp_path / 'b'])) == 2

    @needs_posix
    @pytest.mark.parametrize('names', [['again'], ['a', 'b']])
    @pytest.mark.parametrize('target', ['.', '..', '../..', '/'])
    def test_links(self, tmp_path: Path, names: list[str], target: str) -> None:
        """A link leads neither in circles nor through the whole disk."""
        folder = tmp_path / 'below' / 'folder'
        folder.mkdir(parents=True)
        write(folder / 'x.tif', self.ARRAY)
        write(tmp_path / 'y.tif', self.ARRAY)
        for name in names:
            (folder / name).symlink_to(target)
        dataset = NativeRasterDataset(folder.parent)
        assert dataset.files == [str(folder / 'x.tif')]

    @needs_posix
    def test_linked_folder(self, tmp_path: Path) -> None:
        """What lies on another disk belongs to the data set, once."""
        for name in ('data', 'disk'):
            (tmp_path / name).mkdir()
        write(tmp_path / 'disk' / 'x.tif', self.ARRAY)
        (tmp_path / 'disk' / 'back').symlink_to(tmp_path / 'data')
        (tmp_path / 'data' / 'a').symlink_to(tmp_path / 'disk')
        (tmp_path / 'root').symlink_to(tmp_path / 'data')
        for root in ('data', 'root'):
            dataset = NativeRasterDataset(tmp_path / root)
            assert dataset.files == [str(tmp_path / root / 'a' / 'x.tif')]

    def test_missing_path(self, tmp_path: Path) -> None:
        path = write(tmp_path / 'a.tif', self.ARRAY)
        with pytest.warns(UserWarning, match='no_such'):
            dataset = NativeRasterDataset([path, tmp_path / 'no_such'])
        assert len(dataset) == 1
        with (
            pytest.warns(UserWarning, match='no_such'),
            pytest.raises(DatasetNotFoundError, match='no_such'),
        ):
            NativeRasterDataset(tmp_path / 'no_such')

    @pytest.mark.parametrize(
        ('arguments', 'reason'),
        [
            ({'crs': None}, 'no georeference'),
            ({'xmin': 0, 'ymax': 0}, None),
            ({'res': -3}, 'not north-up'),
        ],
        ids=['no CRS', 'at the origin', 'south-up'],
    )
    def test_georeference(
        self, tmp_path: Path, arguments: dict[str, Any], reason: str | None
    ) -> None:
        write(tmp_path / 'fine.tif', self.ARRAY)
        write(tmp_path / 'odd.tif', self.ARRAY, **arguments)
        if reason is None:
            assert len(NativeRasterDataset(tmp_path)) == 2
            return
        with pytest.warns(
            UserWarning, match=rf'1 file\(s\).*odd\.tif.*{reason}'
        ) as record:
            dataset = NativeRasterDataset(tmp_path)
        assert len(record) == 1
        assert len(dataset) == 1
        assert (dataset[:]['image'] == 1).all()
        with pytest.raises(OSError, match=rf'odd\.tif.*{reason}'):
            NativeRasterDataset(tmp_path, strict=True)

    def test_rotated(self, tmp_path: Path) -> None:
        path = tmp_path / 'rotated.tif'
        transform = Affine(3, 1, 500000, 1, -3, 2000000)
        with rasterio.open(
            path,
            'w',
            driver='GTiff',
            count=1,
            height=20,
            width=20,
            dtype='uint8',
            crs='EPSG:32646',
            transform=transform,
        ) as dst:
            dst.write(self.ARRAY)
        with pytest.raises(OSError, match=r'rotated\.tif.*not north-up'):
            NativeRasterDataset(path, strict=True)

    def test_nothing_readable(self, tmp_path: Path) -> None:
        (tmp_path / 'a.tif').write_text('not a TIFF')
        with (
            pytest.warns(UserWarning, match=r'a\.tif'),
            pytest.raises(DatasetNotFoundError),
        ):
            NativeRasterDataset(tmp_path)

    @pytest.mark.parametrize('compress', [None, 'deflate'])
    @pytest.mark.parametrize('interleave', ['pixel', 'band'])
    @pytest.mark.parametrize('tiled', [True, False])
    def test_truncated(
        self, tmp_path: Path, compress: str | None, interleave: str, tiled: bool
    ) -> None:
        path = tmp_path / 'cut.tif'
        rng = np.random.default_rng(0)
        array = rng.integers(0, 255, (3, 100, 100), np.uint8)
        with rasterio.open(
            path,
            'w',
            driver='GTiff',
            count=3,
            height=100,
            width=100,
            dtype='uint8',
            crs='EPSG:32646',
            transform=from_origin(5e5, 2e6, 3, 3),
            compress=compress,
            interleave=interleave,
            tiled=tiled,
            blockysize=32,
            blockxsize=32,
        ) as dst:
            dst.write(array)
        assert len(NativeRasterDataset(path, strict=True)) == 1
        path.write_bytes(path.read_bytes()[:-100])
        with pytest.raises(OSError, match=r'cut\.tif'):
            NativeRasterDataset(path, strict=True)

    def test_damaged_inside(self, tmp_path: Path) -> None:
        """What the header cannot tell shows as an error that names the file."""
        path = tmp_path / 'damaged.tif'
        rng = np.random.default_rng(0)
        with rasterio.open(
            path,
            'w',
            driver='GTiff',
            count=1,
            height=100,
            width=100,
            dtype='uint8',
            crs='EPSG:32646',
            transform=from_origin(5e5, 2e6, 3, 3),
            compress='deflate',
        ) as dst:
            dst.write(rng.integers(0, 255, (1, 100, 100), np.uint8))
        content = bytearray(path.read_bytes())
        middle = len(content) // 2
        content[middle : middle + 500] = bytes(500)
        path.write_bytes(content)
        dataset = NativeRasterDataset(path)
        with pytest.raises(OSError, match=r'damaged\.tif'):
            dataset[:]

    def test_removed_later(self, tmp_path: Path) -> None:
        path = write(tmp_path / 'a.tif', self.ARRAY)
        dataset = NativeRasterDataset(path)
        path.unlink()
        with pytest.raises(OSError, match=r'a\.tif'):
            dataset[:]

    def test_bands(self, root: Path) -> None:
        path = root / 'test' / 'planet_cloudy_summer'
        whole = PlanetCRCloudy(path)[:]['image']
        found = PlanetCRCloudy(path, bands=['NIR', 'B'])[:]['image']
        assert torch.equal(found, whole[[3, 0]])
        with pytest.raises(ValueError, match='SWIR'):
            PlanetCRCloudy(path, bands=['NIR', 'SWIR'])

    def test_too_few_bands(self, tmp_path: Path) -> None:
        path = write(tmp_path / 'rgb.tif', np.ones((3, 9, 9), np.uint16))
        with pytest.raises(OSError, match=r'rgb\.tif has 3 bands instead of 4'):
            PlanetCRCloudy(path, strict=True)


class TestMosaic:
    def test_nan_is_no_data(self, tmp_path: Path) -> None:
        nan, five = np.full((1, 9, 9), np.nan, 'f4'), np.full((1, 9, 9), 5, 'f4')
        paths = [
            write(tmp_path / 'a.tif', nan, nodata=np.nan),
            write(tmp_path / 'b.tif', five, nodata=np.nan),
        ]
        assert (NativeRasterDataset(paths)[:]['image'] == 5).all()

    def test_first_on_top(self, tmp_path: Path) -> None:
        a = np.full((2, 10, 10), 5, np.uint16)
        a[:, 2:4, 5:7] = 0
        a[0, 8, 8] = 0
        b = np.full((2, 10, 10), 9, np.uint16)
        b[:, :3] = 0
        paths = [
            write(tmp_path / 'a.tif', a, nodata=0),
            write(tmp_path / 'b.tif', b, 500000 + 15, 2000000 + 3, nodata=0),
        ]
        expected = np.zeros((2, 11, 15), np.float32)
        expected[:, :10, 5:] = b
        valid = (a != 0).any(axis=0)
        expected[:, 1:, :10][:, valid] = a[:, valid]
        dataset = NativeRasterDataset(paths)
        assert torch.equal(dataset[:]['image'], torch.from_numpy(expected))


class TestIndex:
    def test_dates(self, tmp_path: Path) -> None:
        class Dated(NativeRasterDataset):
            filename_glob = 'scene_*.tif'
            filename_regex = r'scene_(?P<date>\d{8})'

        for value, day in enumerate(('20200105', '20210607'), start=1):
            write(tmp_path / f'scene_{day}.tif', np.full((1, 5, 5), value, np.uint8))
        write(tmp_path / 'scene_of_no_date.tif', np.full((1, 5, 5), 9, np.uint8))
        dataset = Dated(tmp_path)
        assert len(dataset) == 2
        june = slice(pd.Timestamp(2021, 6, 1), pd.Timestamp(2021, 6, 30))
        sample = dataset[:, :, june]
        assert (sample['image'] == 2).all()
        assert sample['bounds'][6] == june.start.timestamp()
        with pytest.raises(IndexError, match='not found'):
            dataset[:, :, slice(pd.Timestamp(2022, 1, 1), pd.Timestamp(2022, 2, 1))]


class TestResolution:
    def test_resamples(self, root: Path) -> None:
        dataset = PlanetCRSentinel1(root / 'test' / 'S1_summer')
        assert dataset.res == (10, 10)
        assert dataset[:]['image'].shape == (2, 90, 90)
        dataset.res = 3
        assert dataset.res == (3, 3)
        assert dataset[:]['image'].shape == (2, 300, 300)


def test_crs_without_a_place(tmp_path: Path) -> None:
    array = np.ones((1, 9, 9), np.uint8)
    good = write(tmp_path / 'good.tif', array)
    write(tmp_path / 'local.tif', array, crs='LOCAL_CS["here",UNIT["meter",1]]')
    with pytest.warns(UserWarning, match=r'local\.tif has a CRS without a place'):
        dataset = NativeRasterDataset(tmp_path)
    assert dataset.index['filepath'].tolist() == [str(good)]
