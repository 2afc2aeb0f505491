# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from lightning import Trainer
from numpy.typing import NDArray
from PIL import Image
from small_scene import (
    Constant,
    Convolution,
    Darker,
    Failing,
    Radar,
    expected_radar,
    make_image,
    make_mask,
    read,
    write_radar,
    write_scene,
)

from torchgeo_planetcr.inference import Scene, Tile, plan_tiles, remove_clouds
from torchgeo_planetcr.tasks import CloudRemoval
from torchgeo_planetcr.transforms import PlanetCRNormalize

SHAPE = 210, 260

#: Tiles that are small, for speed.
SMALL: dict[str, Any] = {'tile_size': 96, 'overlap': 32, 'device': 'cpu'}


@pytest.fixture(scope='module')
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A scene and Sentinel-1, to be read only."""
    folder = tmp_path_factory.mktemp('scene')
    return write_scene(folder / 'cloudy.tif'), write_radar(folder / 's1.tif')


@pytest.fixture(scope='module')
def one_piece(inputs: tuple[Path, Path]) -> NDArray[np.float32]:
    """What the convolution gives when it sees all at once."""
    with Scene(*inputs) as scene:
        arrays = scene.read(Tile(0, 0, *SHAPE))
    sample = {key: torch.from_numpy(arrays[key])[None] for key in ('image', 'image_s1')}
    return Convolution()(**PlanetCRNormalize()(sample))[0].numpy()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


class TestOnePiece:
    @pytest.mark.parametrize('batch_size', [1, 3])
    @pytest.mark.parametrize('overlap', [32, 40])
    @pytest.mark.parametrize('size', [96, 128, 512])
    def test_float(
        self,
        inputs: tuple[Path, Path],
        one_piece: NDArray[np.float32],
        tmp_path: Path,
        size: int,
        overlap: int,
        batch_size: int,
    ) -> None:
        out, model = tmp_path / 'out.tif', Convolution()
        remove_clouds(
            model,
            *inputs,
            out,
            tile_size=size,
            overlap=overlap,
            batch_size=batch_size,
            dtype='float32',
            quicklook=False,
            device='cpu',
        )
        actual, mask = read(out), make_mask(*SHAPE)
        assert np.abs(actual - one_piece)[:, mask].max() < 1e-5
        assert (actual[:, ~mask] == 0).all()
        assert ((actual != 0).any(axis=0) == mask).all()
        # No more than a tile is in memory, and all batches but the last are full
        assert {shape[1:] for shape in model.shapes} == {
            (4, min(size, SHAPE[0]), min(size, SHAPE[1]))
        }
        number = sum(len(row) for row in plan_tiles(*SHAPE, size, overlap))
        sizes = [shape[0] for shape in model.shapes]
        assert sizes == [
            min(batch_size, number - i) for i in range(0, number, batch_size)
        ]

    def test_uint16(
        self, inputs: tuple[Path, Path], one_piece: NDArray[np.float32], tmp_path: Path
    ) -> None:
        out, mask = tmp_path / 'out.tif', make_mask(*SHAPE)
        remove_clouds(Convolution(), *inputs, out, **SMALL)
        actual = read(out)
        assert actual.dtype == np.uint16
        # What is less than nothing is as dark as a pixel with data can be
        expected = (10000 * one_piece).clip(1, 65535)
        assert np.abs(actual - expected)[:, mask].max() < 0.5 + 0.1
        assert (actual[:, mask] > 0).all()
        assert (actual[:, ~mask] == 0).all()


@pytest.mark.parametrize('dtype', ['uint16', 'float32'])
@pytest.mark.parametrize('nodata', [0, 7, 65535])
@pytest.mark.parametrize('value', [0, 0.0007, 100, -100])
def test_data_never_becomes_nodata(
    inputs: tuple[Path, Path], tmp_path: Path, dtype: Any, nodata: int, value: float
) -> None:
    image = make_image(60, 80, nodata=nodata)
    cloudy = write_scene(tmp_path / 'cloudy.tif', image, nodata=nodata)
    out, mask = tmp_path / 'out.tif', make_mask(60, 80)
    remove_clouds(Constant(value), cloudy, inputs[1], out, dtype=dtype, quicklook=False)
    actual = read(out)
    assert ((actual != nodata) == mask).all()
    expected, step = value, 1e-5
    if dtype == 'uint16':
        expected, step = np.clip(10000 * value, 0, 65535), 1
    assert np.abs(actual[:, mask] - np.float64(expected)).max() <= step
    with rasterio.open(out) as dataset:
        assert (dataset.dataset_mask().astype(bool) == mask).all()


def test_dark_bands(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    """A pixel without data is so in all bands."""
    image = make_image(60, 80)
    image[:3, 20:30, 20:30] = 0
    cloudy = write_scene(tmp_path / 'cloudy.tif', image)
    out, mask = tmp_path / 'out.tif', (image != 0).any(axis=0)
    assert mask[20:30, 20:30].any()
    remove_clouds(Constant(0.5), cloudy, inputs[1], out, quicklook=False)
    assert (read(out) == np.where(mask, 5000, 0)).all()


def test_no_nodata(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    """Where the file names no value, it is 0."""
    cloudy = write_scene(tmp_path / 'cloudy.tif', make_image(60, 80), nodata=None)
    out = tmp_path / 'out.tif'
    remove_clouds(Constant(0.5), cloudy, inputs[1], out, quicklook=False)
    assert (read(out) == np.where(make_mask(60, 80), 5000, 0)).all()
    with rasterio.open(out) as dataset:
        assert dataset.nodata == 0


def test_radar_on_grid(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    """The model gets Sentinel-1 from the place of each pixel."""
    out, mask = tmp_path / 'out.tif', make_mask(*SHAPE)
    written = remove_clouds(Radar(), *inputs, out, dtype='float32', **SMALL)
    assert written == f'{out}: 210 x 260 pixels, Sentinel-1 covers 100 %'
    lower = np.array([-25, -32.5])[:, None, None]
    decibels = read(out) * np.tile(-lower, (2, 1, 1)) + np.tile(lower, (2, 1, 1))
    expected = np.tile(expected_radar(*SHAPE), (2, 1, 1))
    # A pixel of Sentinel-1 differs from the next by 0.03 dB
    assert np.abs(decibels - expected)[:, mask].max() < 0.01


def test_tiles_without_data(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    image = make_image(380, 390)
    image[:, 100:] = 0
    image[..., 90:-20] = 0
    cloudy = write_scene(tmp_path / 'cloudy.tif', image)
    out, model = tmp_path / 'out.tif', Convolution()
    remove_clouds(model, cloudy, inputs[1], out, quicklook=False, **SMALL)
    tiles = [
        image[:, row : row + height, col : col + width].any()
        for tiles in plan_tiles(380, 390, 96, 32)
        for row, col, height, width in tiles
    ]
    assert len(model.shapes) == sum(tiles) < len(tiles) / 2
    assert ((read(out) != 0) == (image != 0).any(axis=0)).all()


class TestModel:
    def test_copy(self, inputs: tuple[Path, Path], tmp_path: Path) -> None:
        cloudy, s1 = inputs
        out = tmp_path / 'out.tif'
        remove_clouds(CloudRemoval('copy'), cloudy, s1, out, batch_size=3, **SMALL)
        assert (read(out) == read(cloudy)).all()

    def test_checkpoint(self, inputs: tuple[Path, Path], tmp_path: Path) -> None:
        task = CloudRemoval(model_kwargs={'features': 8, 'num_blocks': 1})
        trainer = Trainer(accelerator='cpu', logger=False, default_root_dir=tmp_path)
        trainer.strategy.connect(task)
        checkpoint = tmp_path / 'task.ckpt'
        trainer.save_checkpoint(checkpoint)
        results = []
        cloudy = write_scene(tmp_path / 'cloudy.tif', make_image(70, 100))
        for model in (checkpoint, str(checkpoint), task):
            out = tmp_path / f'{len(results)}.tif'
            remove_clouds(model, cloudy, inputs[1], out, **SMALL)
            results.append(read(out))
        assert (results[0] == results[1]).all()
        assert (results[0] == results[2]).all()
        assert len(np.unique(results[0])) > 1000

    def test_no_checkpoint(self, inputs: tuple[Path, Path], tmp_path: Path) -> None:
        checkpoint = tmp_path / 'task.ckpt'
        torch.save({'weights': torch.zeros(1)}, checkpoint)
        with pytest.raises(ValueError, match='is no checkpoint of Lightning'):
            remove_clouds(checkpoint, *inputs, tmp_path / 'out.tif')
        assert names(tmp_path) == {'task.ckpt'}


class TestUnfinished:
    @pytest.mark.parametrize('call', [1, 5])
    @pytest.mark.parametrize('error', [RuntimeError, KeyboardInterrupt])
    def test_nothing_left(
        self,
        inputs: tuple[Path, Path],
        tmp_path: Path,
        error: type[BaseException],
        call: int,
    ) -> None:
        with pytest.raises(error, match='stop'):
            remove_clouds(
                Failing(error('stop'), call), *inputs, tmp_path / 'out.tif', **SMALL
            )
        assert not names(tmp_path)

    @pytest.mark.parametrize('error', [RuntimeError, KeyboardInterrupt])
    def test_old_file_stays(
        self, inputs: tuple[Path, Path], tmp_path: Path, error: type[BaseException]
    ) -> None:
        out, picture = tmp_path / 'out.tif', tmp_path / 'out.png'
        remove_clouds(Darker(), *inputs, out, **SMALL)
        assert names(tmp_path) == {'out.tif', 'out.png'}
        old = out.read_bytes(), picture.read_bytes()
        with pytest.raises(error, match='stop'):
            remove_clouds(
                Failing(error('stop'), 5), *inputs, out, overwrite=True, **SMALL
            )
        assert names(tmp_path) == {'out.tif', 'out.png'}
        assert old == (out.read_bytes(), picture.read_bytes())

    def test_wrong_shape(self, inputs: tuple[Path, Path], tmp_path: Path) -> None:
        class Smaller(Darker):
            def forward(
                self, image: torch.Tensor, image_s1: torch.Tensor
            ) -> torch.Tensor:
                return image[..., 1:]

        with pytest.raises(ValueError, match=r'makes images of shape \(1, 4, 96, 95\)'):
            remove_clouds(Smaller(), *inputs, tmp_path / 'out.tif', **SMALL)
        assert not names(tmp_path)


class TestExists:
    def test_refused(self, inputs: tuple[Path, Path], tmp_path: Path) -> None:
        out, model = tmp_path / 'out.tif', Convolution()
        out.write_text('mine')
        with pytest.raises(FileExistsError, match=r'out\.tif exists: .* --overwrite'):
            remove_clouds(model, *inputs, out)
        assert out.read_text() == 'mine'
        assert names(tmp_path) == {'out.tif'}
        assert not model.shapes

    def test_overwrite(self, inputs: tuple[Path, Path], tmp_path: Path) -> None:
        out = tmp_path / 'out.tif'
        for model in (CloudRemoval('copy'), Darker()):
            remove_clouds(model, *inputs, out, overwrite=True, **SMALL)
        expected = np.rint(read(inputs[0]) / 2)
        mask = make_mask(*SHAPE)
        assert np.abs(read(out) - expected)[:, mask].max() <= 1
        assert names(tmp_path) == {'out.tif', 'out.png'}

    def test_new_folder(self, inputs: tuple[Path, Path], tmp_path: Path) -> None:
        out = tmp_path / 'deep' / 'out.tif'
        remove_clouds(Darker(), *inputs, out, quicklook=False, **SMALL)
        assert names(out.parent) == {'out.tif'}

    def test_relative(
        self, inputs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        remove_clouds(Darker(), *inputs, 'out.tif', **SMALL)
        assert names(tmp_path) == {'out.tif', 'out.png'}


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'batch_size': 0}, 'batch_size=0 must be positive'),
        ({'tile_size': 64, 'overlap': 32}, 'must be less than half'),
        ({'bands': [1, 2, 3]}, r'bands=\[1, 2, 3\] must be'),
        ({'min_coverage': 1.1}, r'min_coverage=1.1 is not a share'),
        ({'dtype': 'int16'}, "dtype='int16' is not one of"),
    ],
)
def test_invalid(
    inputs: tuple[Path, Path], tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        remove_clouds(Darker(), *inputs, tmp_path / 'out.tif', **options)
    assert not names(tmp_path)


class TestQuicklook:
    def test_before_and_after(self, inputs: tuple[Path, Path], tmp_path: Path) -> None:
        remove_clouds(Darker(), *inputs, tmp_path / 'out.v1.tif', **SMALL)
        with Image.open(tmp_path / 'out.v1.png') as picture:
            assert picture.size == (2 * 260 + 2, 210)
            drawn = np.asarray(picture).astype(int)
        before, after = drawn[:, :260], drawn[:, 262:]
        assert (drawn[:, 260:262] == 255).all()
        mask = make_mask(*SHAPE)
        assert (after[mask] <= before[mask]).all()
        assert (before - after)[mask].mean() > 20

    @pytest.mark.parametrize('dtype', ['uint16', 'float32'])
    def test_same(self, inputs: tuple[Path, Path], tmp_path: Path, dtype: Any) -> None:
        out = tmp_path / 'out.tif'
        remove_clouds(CloudRemoval('copy'), *inputs, out, dtype=dtype, **SMALL)
        with Image.open(tmp_path / 'out.png') as picture:
            drawn = np.asarray(picture).astype(int)
        assert np.abs(drawn[:, :260] - drawn[:, 262:]).max() <= 1

    def test_none(self, inputs: tuple[Path, Path], tmp_path: Path) -> None:
        remove_clouds(Darker(), *inputs, tmp_path / 'out.tif', quicklook=False, **SMALL)
        assert names(tmp_path) == {'out.tif'}


@pytest.mark.parametrize('value', [math.nan, math.inf])
def test_not_finite(inputs: tuple[Path, Path], tmp_path: Path, value: float) -> None:
    with pytest.raises(
        ValueError, match='NaN or infinite, in a tile at or after row 0'
    ):
        remove_clouds(Constant(value), *inputs, tmp_path / 'out.tif', **SMALL)
    assert not names(tmp_path)


def test_places(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    """Nothing that is read or not to be overwritten is replaced."""
    cloudy, s1 = inputs
    before = cloudy.read_bytes(), s1.read_bytes()
    for source in inputs:
        with pytest.raises(ValueError, match='would replace what is read'):
            remove_clouds(Darker(), *inputs, source, overwrite=True, **SMALL)
    assert (cloudy.read_bytes(), s1.read_bytes()) == before
    with pytest.raises(ValueError, match=r'must end with \.tif'):
        remove_clouds(Darker(), *inputs, tmp_path / 'out.png', **SMALL)
    (tmp_path / 'folder.tif').mkdir()
    with pytest.raises(IsADirectoryError, match='is a folder'):
        remove_clouds(
            Darker(), *inputs, tmp_path / 'folder.tif', overwrite=True, **SMALL
        )
    picture = tmp_path / 'out.png'
    picture.write_text('mine')
    with pytest.raises(FileExistsError, match=f'{picture} exists'):
        remove_clouds(Darker(), *inputs, tmp_path / 'out.tif', **SMALL)
    assert picture.read_text() == 'mine'


def test_model_stays_as_it_was(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    model = CloudRemoval(model_kwargs={'features': 8, 'num_blocks': 1}).train()
    remove_clouds(model, *inputs, tmp_path / 'out.tif', **SMALL)
    assert model.training
