# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil
import torch
from lightning import Trainer
from numpy.typing import NDArray
from PIL import Image
from rasterio.merge import merge
from rasterio.transform import from_origin
from small_scene import (
    LEFT,
    QUICK,
    SHAPE,
    SMALL,
    TOP,
    Constant,
    Convolution,
    Darker,
    Failing,
    Radar,
    expected_radar,
    make_image,
    make_mask,
    names,
    planetcr,
    read,
    save_checkpoint,
    write_radar,
    write_scene,
)
from systems import needs_posix

from torchgeo_planetcr.datasets import NativeRasterDataset, PlanetCR
from torchgeo_planetcr.inference import remove_clouds
from torchgeo_planetcr.inference.remove_clouds import _name_results
from torchgeo_planetcr.main import main
from torchgeo_planetcr.raster.write import MACHINE, UNFINISHED, _remove_leftovers
from torchgeo_planetcr.samplers import TileSampler
from torchgeo_planetcr.scenes import AssumptionWarning, Scene, SceneFiles
from torchgeo_planetcr.tasks import CloudRemoval
from torchgeo_planetcr.transforms import PlanetCRNormalize


@pytest.fixture(scope='module')
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A scene and Sentinel-1, to be read only."""
    folder = tmp_path_factory.mktemp('scene')
    return write_scene(folder / 'cloudy.tif'), write_radar(folder / 's1.tif')


@pytest.fixture(scope='module')
def one_piece(inputs: tuple[Path, Path]) -> NDArray[np.float32]:
    """What the convolution gives when it sees all at once."""
    cloudy, s1 = inputs
    with Scene(SceneFiles(str(cloudy), (str(s1),))) as scene:
        arrays = scene.read(scene.grid)
    sample = {key: torch.from_numpy(arrays[key])[None] for key in ('image', 'image_s1')}
    return Convolution()(**PlanetCRNormalize()(sample))[0].numpy()


def count_tiles(path: Path, size: int, overlap: int, wanted: Any = None) -> int:
    """Number of tiles of a scene, or of those that are wanted."""
    return sum(
        1
        for tile in TileSampler(NativeRasterDataset(path), size=size, overlap=overlap)
        if wanted is None or wanted(tile)
    )


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
            **QUICK,
        )
        actual, mask = read(out), make_mask(*SHAPE)
        assert np.abs(actual - one_piece)[:, mask].max() < 1e-5
        assert (actual[:, ~mask] == 0).all()
        assert ((actual != 0).any(axis=0) == mask).all()
        # No more than a tile is in memory, and all batches but the last are full
        assert {shape[1:] for shape in model.shapes} == {
            (4, min(size, SHAPE[0]), min(size, SHAPE[1]))
        }
        number = count_tiles(inputs[0], size, overlap)
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
    remove_clouds(
        Constant(value), cloudy, inputs[1], out, dtype=dtype, quicklook=False, **QUICK
    )
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
    remove_clouds(Constant(0.5), cloudy, inputs[1], out, quicklook=False, **QUICK)
    assert (read(out) == np.where(mask, 5000, 0)).all()


def test_value_of_nodata(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    """Whatever stands for no data, the model and the picture see 0."""
    results = []
    for nodata in (0, 65535):
        cloudy = tmp_path / f'cloudy{nodata}.tif'
        write_scene(cloudy, make_image(nodata=nodata), nodata=nodata)
        out = tmp_path / f'out{nodata}.tif'
        remove_clouds(Convolution(), cloudy, inputs[1], out, **SMALL)
        values = read(out)
        assert ((values == nodata).all(axis=0) == ~make_mask(*SHAPE)).all()
        picture = np.asarray(Image.open(out.with_suffix('.png')))
        results.append((values[:, make_mask(*SHAPE)], picture))
    for first, second in zip(*results):
        # 0 becomes 1 where it would say that there is no data
        assert np.abs(first.astype(int) - second).max() <= 1


def test_quicklook_changes_nothing(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    """Four of five bands say where there is data, with a picture and without."""
    image = np.concatenate([make_image(60, 80), np.full((1, 60, 80), 9, np.uint16)])
    cloudy = write_scene(tmp_path / 'cloudy.tif', image)
    for quicklook in (True, False):
        out = tmp_path / f'{quicklook}.tif'
        remove_clouds(
            *(Constant(0.5), cloudy, inputs[1], out),
            bands=[1, 2, 3, 4],
            quicklook=quicklook,
            **QUICK,
        )
        assert (read(out) == np.where(make_mask(60, 80), 5000, 0)).all()


def test_no_nodata(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    """Where the file names no value, it is 0."""
    cloudy = write_scene(tmp_path / 'cloudy.tif', make_image(60, 80), nodata=None)
    out = tmp_path / 'out.tif'
    remove_clouds(Constant(0.5), cloudy, inputs[1], out, quicklook=False, **QUICK)
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

    def wanted(tile: Any) -> bool:
        row, stop = round((TOP - tile.y.stop) / 3), round((TOP - tile.y.start) / 3)
        col, end = round((tile.x.start - LEFT) / 3), round((tile.x.stop - LEFT) / 3)
        return bool(image[:, row:stop, col:end].any())

    number = count_tiles(cloudy, 96, 32, wanted)
    assert len(model.shapes) == number < count_tiles(cloudy, 96, 32) / 2
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
        with pytest.raises(ValueError, match='is not a checkpoint of Lightning'):
            remove_clouds(checkpoint, *inputs, tmp_path / 'out.tif', **QUICK)
        assert names(tmp_path) == {'task.ckpt'}


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Lightning ignores the signal once it has seen one."""
    handler = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, handler)


class TestUnfinished:
    @pytest.mark.parametrize('call', [1, 5])
    def test_nothing_left(
        self, inputs: tuple[Path, Path], tmp_path: Path, call: int
    ) -> None:
        model = Failing(RuntimeError('stop'), call)
        with pytest.raises(RuntimeError, match='^stop$'):
            remove_clouds(model, *inputs, tmp_path / 'out.tif', **SMALL)
        assert not names(tmp_path)

    @pytest.mark.usefixtures('interruptible')
    @pytest.mark.parametrize('existing', [True, False])
    def test_interrupted(
        self, inputs: tuple[Path, Path], tmp_path: Path, existing: bool
    ) -> None:
        out = tmp_path / 'out.tif'
        if existing:
            out.write_text('mine')
        with pytest.raises(SystemExit) as caught:
            remove_clouds(
                Failing(KeyboardInterrupt(), 5), *inputs, out, overwrite=True, **SMALL
            )
        assert caught.value.code == 1
        assert names(tmp_path) == ({'out.tif'} if existing else set())
        assert not existing or out.read_text() == 'mine'

    def test_left_by_a_killed_process(
        self, many: tuple[Path, Path], tmp_path: Path
    ) -> None:
        """It goes even if the next process finds nothing to do."""
        scenes, radar = many
        options: Any = SMALL | {'quicklook': False}
        remove_clouds(Darker(), scenes, radar, tmp_path, **options)
        left = tmp_path / f'{UNFINISHED}{MACHINE}-abc'
        left.mkdir()
        # Each folder is looked at once in a process
        _remove_leftovers.cache_clear()
        remove_clouds(Darker(), scenes, radar, tmp_path, **options)
        assert names(tmp_path) == names(scenes)

    def test_old_file_stays(self, inputs: tuple[Path, Path], tmp_path: Path) -> None:
        out, picture = tmp_path / 'out.tif', tmp_path / 'out.png'
        remove_clouds(Darker(), *inputs, out, **SMALL)
        assert names(tmp_path) == {'out.tif', 'out.png'}
        old = out.read_bytes(), picture.read_bytes()
        model = Failing(RuntimeError('stop'), 5)
        with pytest.raises(RuntimeError, match='stop'):
            remove_clouds(model, *inputs, out, overwrite=True, **SMALL)
        assert names(tmp_path) == {'out.tif', 'out.png'}
        assert old == (out.read_bytes(), picture.read_bytes())

    @needs_posix
    @pytest.mark.slow
    def test_full_disk(self, inputs: tuple[Path, Path], tmp_path: Path) -> None:
        """What does not fit makes a message, and nothing is left."""
        cloudy, s1 = inputs
        command = Path(sys.executable).with_name('planetcr')
        arguments = ['remove-clouds', cloudy, '--s1', s1, '--accelerator', 'cpu']
        arguments += ['--checkpoint', save_checkpoint(tmp_path), '--num-workers', '0']
        out = tmp_path / 'out' / 'clear.tif'
        result = subprocess.run(
            # Files of at most 1 MB
            ['bash', '-c', 'ulimit -f 1000 && exec "$@"', 'bash', command]
            + [*arguments, '--out', out],
            check=False,
            capture_output=True,
            text=True,
        )
        assert result.returncode == 1
        assert f'planetcr remove-clouds: {out} cannot be written' in result.stderr
        assert 'Traceback' not in result.stderr
        assert not names(out.parent)

    @needs_posix
    @pytest.mark.slow
    @pytest.mark.parametrize(
        ('number', 'status'), [(signal.SIGINT, 1), (signal.SIGTERM, 143)]
    )
    def test_interrupted_command(
        self, tmp_path: Path, number: int, status: int
    ) -> None:
        """Control-C, which a terminal sends to the processes that read, too."""
        folder = tmp_path / 'scenes'
        folder.mkdir()
        image = np.full((4, 1100, 1200), 3000, dtype=np.uint16)
        cloudy = write_scene(folder / 'cloudy.tif', image, compress='deflate')
        s1, checkpoint = write_radar(folder / 's1.tif'), save_checkpoint(folder)
        out = tmp_path / 'out'
        command = [Path(sys.executable).with_name('planetcr'), 'remove-clouds', cloudy]
        command += ['--s1', s1, '--checkpoint', checkpoint, '--out', out / 'clear.tif']
        command += ['--tile-size', '64', '--overlap', '30', '--accelerator', 'cpu']
        with (tmp_path / 'printed').open('w') as printed:
            process = subprocess.Popen(
                command, stdout=printed, stderr=printed, start_new_session=True
            )
        try:
            while process.poll() is None and not list(
                tmp_path.glob('out/.unf*/raw.tif')
            ):
                time.sleep(0.05)
            if number == signal.SIGINT:
                os.killpg(process.pid, number)
            else:
                process.send_signal(number)
            assert process.wait(timeout=60) == status
        finally:
            process.kill()
        text = (tmp_path / 'printed').read_text()
        assert ('Detected KeyboardInterrupt' in text) == (number == signal.SIGINT)
        assert 'Traceback' not in text
        assert not names(out)

    def test_wrong_shape(self, inputs: tuple[Path, Path], tmp_path: Path) -> None:
        class Smaller(Darker):
            def forward(
                self, image: torch.Tensor, image_s1: torch.Tensor
            ) -> torch.Tensor:
                return image[..., 1:]

        with pytest.raises(ValueError, match=r'makes \(1, 4, 96, 95\) instead'):
            remove_clouds(Smaller(), *inputs, tmp_path / 'out.tif', **SMALL)
        assert not names(tmp_path)


class TestExists:
    def test_refused(self, inputs: tuple[Path, Path], tmp_path: Path) -> None:
        out, model = tmp_path / 'out.tif', Convolution()
        out.write_text('mine')
        with pytest.raises(FileExistsError, match=r'out\.tif exists: .* --overwrite'):
            remove_clouds(model, *inputs, out, **QUICK)
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
        remove_clouds(Darker(), *inputs, tmp_path / 'out.tif', **(QUICK | options))
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
        FloatingPointError,
        match=r'NaN or infinite, in .*cloudy\.tif at or after x = 500001, y = 2000004',
    ):
        remove_clouds(Constant(value), *inputs, tmp_path / 'out.tif', **SMALL)
    assert not names(tmp_path)


def test_checkpoint_not_finite(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    """The checkpoint is named, and not the scene alone."""
    path = save_checkpoint(tmp_path)
    content = torch.load(path, weights_only=True)
    for number, error in ((math.nan, ValueError), (1e38, FloatingPointError)):
        for value in content['state_dict'].values():
            value.fill_(number)
        torch.save(content, path)
        with pytest.raises(error, match=re.escape(str(path))):
            remove_clouds(path, *inputs, tmp_path / 'out.tif', **SMALL)
    assert names(tmp_path) == {path.name}


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
    # A picture that stands where the scene is read from
    own = write_scene(tmp_path / 'cloudy.png')
    with pytest.raises(ValueError, match='would replace what is read'):
        remove_clouds(Darker(), own, s1, tmp_path / 'cloudy.tif', **SMALL)
    assert names(tmp_path) == {'folder.tif', 'cloudy.png'}


def test_model_stays_as_it_was(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    model = CloudRemoval(model_kwargs={'features': 8, 'num_blocks': 1}).train()
    remove_clouds(model, *inputs, tmp_path / 'out.tif', **SMALL)
    assert model.training


@pytest.fixture(scope='module')
def many(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder of three scenes, and one of Sentinel-1 of the first two and last."""
    folder = tmp_path_factory.mktemp('many')
    for name in ('scenes', 'radar'):
        (folder / name).mkdir()
    for number, name in enumerate('abc'):
        transform = from_origin(LEFT + 60 * number, TOP, 3, 3)
        image = make_image(100 + 20 * number, 130)
        write_scene(folder / 'scenes' / f'{name}.tif', image, transform=transform)
    write_radar(folder / 'radar' / 's1.tif', 200)
    return folder / 'scenes', folder / 'radar'


class TestManyScenes:
    def test_restart(self, many: tuple[Path, Path], tmp_path: Path) -> None:
        """What is there is left as it is, and what is missing is made."""
        scenes, radar = many
        options: Any = {'quicklook': False, **SMALL}
        said = remove_clouds(Darker(), scenes, radar, tmp_path / 'out', **options)
        message = f'{tmp_path}/out: 3 scenes, of which Sentinel-1 covers 100 % or more'
        assert said == message
        outs = [tmp_path / 'out' / f'{name}.tif' for name in 'abc']
        assert names(tmp_path / 'out') == {path.name for path in outs}
        for out in outs:
            assert np.abs(read(out) - read(scenes / out.name) / 2).max() <= 1

        outs[1].unlink()
        stamps = [outs[0].stat(), outs[2].stat()]
        said = remove_clouds(Darker(), scenes, radar, tmp_path / 'out', **options)
        assert said == (
            f'{tmp_path}/out: 1 scene, of which Sentinel-1 covers 100 % or more; 2 were '
            'there already'
        )
        for path, stamp in zip((outs[0], outs[2]), stamps, strict=True):
            now = path.stat()
            assert (now.st_mtime_ns, now.st_ino) == (stamp.st_mtime_ns, stamp.st_ino)
        image = read(scenes / 'b.tif')
        assert np.abs(read(outs[1]) - image / 2).max() <= 1
        # Nothing is left to do, for many scenes or for one
        said = remove_clouds(Darker(), scenes, radar, tmp_path / 'out', **options)
        assert said == f'{tmp_path}/out: 0 scenes; 3 were there already'
        one = scenes / 'a.tif'
        said = remove_clouds(Darker(), one, radar, tmp_path / 'out', **options)
        assert said == f'{tmp_path}/out: 0 scenes; 1 were there already'

        copy = CloudRemoval('copy')
        remove_clouds(copy, scenes, radar, tmp_path / 'out', overwrite=True, **options)
        assert (read(outs[0]) == read(one)).all()

    @pytest.mark.parametrize(
        ('change', 'words'),
        [
            ({'tile_size': 128}, ['tile_size=96 instead of 128']),
            ({'overlap': 16}, ['overlap=32 instead of 16']),
            ({'bands': [2, 1, 3, 4]}, ['bands=1, 2, 3, 4 instead of 2, 1, 3, 4']),
            ({'dtype': 'float32'}, ['dtype=uint16 instead of float32']),
            ({'min_coverage': 0.5}, ['min_coverage=0.9 instead of 0.5']),
            ({'s1_unit': 'dB'}, ['s1_unit=null instead of dB']),
            ({'model': Constant(0.3)}, ['weights=']),
            ({'model': Darker()}, ['checkpoint=Constant instead of Darker']),
            ({'composite': Path('masks')}, ['mask=none instead of masks/a.tif (']),
            ({'s1': Path('other.tif')}, ['s1=radar/s1.tif (', '/other.tif (']),
        ],
        ids=lambda value: next(iter(value)) if isinstance(value, dict) else '',
    )
    def test_result_of_other_arguments(
        self,
        many: tuple[Path, Path],
        tmp_path: Path,
        change: dict[str, Any],
        words: list[str],
    ) -> None:
        """It is not there already, is not replaced, and does not stop the others."""
        scenes, radar = many
        (tmp_path / 'masks').mkdir()
        for name in 'abc':
            write_scene(
                tmp_path / 'masks' / f'{name}.tif', np.ones((1, 300, 300), np.uint8)
            )
        write_radar(tmp_path / 'other.tif', 200)
        out = tmp_path / 'out'
        before: Any = {'model': Constant(0.2), 's1': radar, 'quicklook': False, **SMALL}
        remove_clouds(cloudy=scenes / 'a.tif', out=out, **before)
        old = (out / 'a.tif').read_bytes()
        after = before | {
            key: tmp_path / value if isinstance(value, Path) else value
            for key, value in change.items()
        }
        given = [scenes / f'{name}.tif' for name in 'abc']
        with pytest.raises(OSError, match=r'2 scenes, .* 1 have other') as caught:
            remove_clouds(cloudy=given, out=out, **after)
        _, reason = str(caught.value).splitlines()
        assert reason.startswith(f'{out}/a.tif exists, and was made with ')
        assert all(word in reason for word in words)
        assert '--overwrite' in reason
        assert (out / 'a.tif').read_bytes() == old
        with pytest.raises(FileExistsError, match=r'a\.tif exists, and was made with'):
            remove_clouds(cloudy=given[0], out=out, **after)
        # The others are finished now, and the first one is made if that is asked for
        said = remove_clouds(cloudy=given[1:], out=out, **after)
        assert said == f'{out}: 0 scenes; 2 were there already'
        remove_clouds(cloudy=given[0], out=out, overwrite=True, **after)
        assert (out / 'a.tif').read_bytes() != old
        assert remove_clouds(cloudy=given, out=out, **after) == (
            f'{out}: 0 scenes; 3 were there already'
        )

    def test_result_of_another_scene(
        self, many: tuple[Path, Path], tmp_path: Path
    ) -> None:
        """A scene of its name, even of the same size and time, or a new version of it."""
        options: Any = {'quicklook': False, **SMALL}
        out, (_, radar) = tmp_path / 'out', many
        for month in ('May', 'June'):
            (tmp_path / month).mkdir()
            write_scene(tmp_path / month / 'field.tif', make_image(100, 130))
            os.utime(tmp_path / month / 'field.tif', (1, 1))
        remove_clouds(Darker(), tmp_path / 'May', radar, out, **options)
        message = 'cloudy=May/field.tif .* instead of June/field.tif'
        with pytest.raises(FileExistsError, match=message):
            remove_clouds(Darker(), tmp_path / 'June', radar, out, **options)
        os.utime(tmp_path / 'May' / 'field.tif', (2, 2))
        with pytest.raises(FileExistsError, match=r'00:00:01\.0+ UTC\) instead of'):
            remove_clouds(Darker(), tmp_path / 'May', radar, out, **options)
        assert names(out) == {'field.tif'}

    def test_result_of_nobody(self, many: tuple[Path, Path], tmp_path: Path) -> None:
        """A file that does not say what it is, and one that is cut short."""
        scenes, radar = many
        options: Any = {'quicklook': False, **SMALL}
        remove_clouds(Darker(), scenes, radar, tmp_path, **options)
        content = (tmp_path / 'a.tif').read_bytes()[:-9]
        for cut in (content, b''):
            (tmp_path / 'a.tif').write_bytes(cut)
            with pytest.raises(OSError, match='2 were there already') as caught:
                remove_clouds(Darker(), scenes, radar, tmp_path, **options)
            assert f'{tmp_path}/a.tif exists' in str(caught.value)
            assert (tmp_path / 'a.tif').read_bytes() == cut

    def test_says_what_it_is(self, many: tuple[Path, Path], tmp_path: Path) -> None:
        """For people, in tags that other programs show."""
        scenes, radar = many
        checkpoint = save_checkpoint(tmp_path)
        out = tmp_path / 'out.tif'
        remove_clouds(checkpoint, scenes / 'a.tif', radar, out, **SMALL)
        with rasterio.open(out) as dataset:
            tags = dataset.tags()
        size = (scenes / 'a.tif').stat().st_size
        assert tags['PLANETCR_CLOUDY'].startswith(f'scenes/a.tif ({size} bytes, 20')
        assert tags['PLANETCR_S1'].startswith('radar/s1.tif (')
        assert tags['PLANETCR_CHECKPOINT'].startswith(f'{tmp_path.name}/task.ckpt (')
        expected = {'MASK': 'none', 'BANDS': '1, 2, 3, 4', 'TILE_SIZE': '96'}
        expected |= {'OVERLAP': '32', 'DTYPE': 'uint16', 'MIN_COVERAGE': '0.9'}
        assert {key: tags[f'PLANETCR_{key}'] for key in expected} == expected

    def test_bad_scene(self, many: tuple[Path, Path], tmp_path: Path) -> None:
        """Of a place that Sentinel-1 has not seen, between two that it has."""
        scenes, radar = many
        elsewhere = from_origin(LEFT + 90_000, TOP, 3, 3)
        bad = write_scene(tmp_path / 'bad.tif', make_image(90, 90), transform=elsewhere)
        given = [scenes / 'a.tif', bad, scenes / 'b.tif']
        out = tmp_path / 'out'
        options: Any = {'quicklook': False, **SMALL}
        with pytest.raises(OSError, match='1 could not be used') as caught:
            remove_clouds(Darker(), given, radar, out, **options)
        first, *others = str(caught.value).splitlines()
        assert first == (
            f'{out}: 2 scenes, of which Sentinel-1 covers 100 % or more; 1 could not be '
            'used:'
        )
        s1 = radar / 's1.tif'
        (reason,) = others
        assert reason.startswith(f'{s1} does not cover {bad} at all: ')
        assert names(out) == {'a.tif', 'b.tif'}
        with pytest.raises(ValueError, match=f'{s1} does not cover {bad} at all'):
            remove_clouds(Darker(), bad, s1, tmp_path / 'bad' / 'x.tif', **options)
        with pytest.raises(ValueError, match=f'{s1} does not cover {bad} at all'):
            remove_clouds(Darker(), bad, s1, tmp_path / 'bad', **options)
        assert not (tmp_path / 'bad').exists() or not names(tmp_path / 'bad')

    def test_scene_without_mask(self, many: tuple[Path, Path], tmp_path: Path) -> None:
        """It is restored as a whole; one with a bad mask is named; the others are made."""
        scenes, radar = many
        (tmp_path / 'masks').mkdir()
        write_scene(
            tmp_path / 'masks' / 'a_udm2.tif', np.zeros((1, 200, 200), np.uint8)
        )
        bad = tmp_path / 'masks' / 'c_mask.tif'
        bad.write_text('no mask')
        given: Any = {'composite': tmp_path / 'masks', 'quicklook': False, **SMALL}
        # Tiles of scenes with a mask and without share a batch
        given['batch_size'] = 5
        with (
            pytest.warns(AssumptionWarning, match=f'{scenes}/b.tif'),
            pytest.raises(OSError, match='1 without a mask') as caught,
        ):
            remove_clouds(Constant(0.5), scenes, radar, tmp_path / 'out', **given)
        _, reason = str(caught.value).splitlines()
        assert str(bad) in reason
        assert names(tmp_path / 'out') == {'a.tif', 'b.tif'}
        before = read(scenes / 'a.tif')
        assert (read(tmp_path / 'out' / 'a.tif') == before).all()
        expected = np.where((read(scenes / 'b.tif') != 0).any(axis=0), 5000, 0)
        assert (read(tmp_path / 'out' / 'b.tif') == expected).all()
        # For one scene alone, too
        with pytest.warns(AssumptionWarning, match=f'{scenes}/b.tif'):
            said = remove_clouds(
                *(Constant(0.5), scenes / 'b.tif', radar, tmp_path / 'b.tif'), **given
            )
        assert said is not None
        assert 'restored as a whole' in said

    def test_command(
        self,
        many: tuple[Path, Path],
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """A missing mask and other arguments, as a user sees them."""
        scenes, radar = many
        (tmp_path / 'masks').mkdir()
        for name in ('a', 'c'):
            mask = np.zeros((1, 200, 200), np.uint8)
            write_scene(tmp_path / 'masks' / f'{name}_mask.tif', mask)
        out = tmp_path / 'out'
        command = ['remove-clouds', str(scenes), '--s1', str(radar), '--out', str(out)]
        command += ['--checkpoint', str(save_checkpoint(tmp_path))]
        command += ['--composite', str(tmp_path / 'masks'), '--accelerator', 'cpu']
        command += ['--quicklook', 'false', '--overlap', '32', '--tile_size']
        message = f'{tmp_path}/masks holds no mask of {scenes}/b.tif'
        with pytest.warns(AssumptionWarning, match=message):
            main([*command, '96'])
        printed = capsys.readouterr().out
        assert printed.startswith(f'{out}: 3 scenes, ')
        assert '1 without a mask, restored as a whole' in printed
        with pytest.warns(AssumptionWarning):
            main([*command, '96'])
        assert '3 were there already' in capsys.readouterr().out
        (out / 'b.tif').unlink()
        with pytest.warns(AssumptionWarning), pytest.raises(SystemExit) as caught:
            main([*command, '128'])
        first, *reasons = str(caught.value).splitlines()
        assert first.endswith(
            ': 1 scene, of which Sentinel-1 covers 100 % or more; '
            '1 without a mask, restored as a whole; 2 have other results, which stay as '
            'they are:'
        )
        assert len(reasons) == 2
        for name, reason in zip('ac', reasons, strict=True):
            assert reason.startswith(f'{out}/{name}.tif exists')
            assert 'tile_size=96 instead of 128' in reason

    def test_bad_row(self, many: tuple[Path, Path], tmp_path: Path) -> None:
        """A row of a table whose scene is missing, empty or an address."""
        scenes, radar = many
        s1, table = radar / 's1.tif', tmp_path / 'scenes.csv'
        cloudy = [scenes / 'a.tif', 'missing.tif', '', '/vsicurl/http://x.org/y.tif']
        rows = [f'{path},{s1}' for path in [*cloudy, scenes / 'b.tif']]
        table.write_text('\n'.join(['cloudy,s1', *rows]))
        options: Any = {'quicklook': False, **SMALL}
        with pytest.raises(
            OSError, match=r'2 scenes, .* 3 could not be used'
        ) as caught:
            remove_clouds(Darker(), table, None, tmp_path / 'out', **options)
        text = str(caught.value)
        assert all(word in text for word in ('missing.tif', 'row 3', 'row 4'))
        assert names(tmp_path / 'out') == {'a.tif', 'b.tif'}

    def test_same_names(self, many: tuple[Path, Path], tmp_path: Path) -> None:
        """An item of two orders, and others whose names are their own."""
        orders, out, (_, radar) = tmp_path / 'orders', tmp_path / 'out', many
        places = ['field1/PSScene/x', 'field2/PSScene/x', 'x', 'field2/y']
        for number, place in enumerate(places, start=1):
            path = orders / f'{place}.tif'
            path.parent.mkdir(parents=True, exist_ok=True)
            write_scene(path, np.full((4, 60, 60), 100 * number, np.uint16))
        (orders / 'field1' / 'up').symlink_to('..')
        (orders / 'again').symlink_to('field2')
        options: Any = {'quicklook': False, **SMALL}
        for said in ('4 scenes, of which', '0 scenes; 4 were there already'):
            text = remove_clouds(Darker(), orders, radar, out, **options)
            assert text is not None
            assert said in text
        results = {
            str(p.relative_to(out)): int(read(p).mean()) for p in out.rglob('*.tif')
        }
        assert results == {
            'field1/PSScene/x.tif': 50,
            'field2/PSScene/x.tif': 100,
            'x.tif': 150,
            'y.tif': 200,
        }

    @pytest.mark.parametrize(
        ('scenes', 'results'),
        [
            (['a.tif', 'b/a.tiff'], ['a', 'b/a']),
            (['c/a.tif', 'c/a.tiff', 'a.tif'], ['c/a.tif', 'c/a.tiff', 'a']),
            (['../x/a.tif', 'a.tif', 'd.tif'], ['x/a', 'here/a', 'd']),
            (['/vsicurl/http://x.org/a/b.tif?sig=c/d.tif'], ['b']),
        ],
    )
    def test_names_of_results(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        scenes: list[str],
        results: list[str],
    ) -> None:
        (tmp_path / 'here').mkdir()
        monkeypatch.chdir(tmp_path / 'here')
        assert _name_results(scenes) == dict(zip(scenes, results, strict=True))

    def test_masks(self, many: tuple[Path, Path], tmp_path: Path) -> None:
        """A table of scenes and masks: exact where it is clear and where there is cloud."""
        scenes, radar = many
        rows, clouds = ['cloudy,s1,mask'], np.zeros((1, 140, 130), dtype=np.uint8)
        clouds[:, 40:60, 50:80] = 1
        for number, name in enumerate('abc'):
            image = read(scenes / f'{name}.tif')
            path = tmp_path / f'mask-{name}.tif'
            transform = from_origin(LEFT + 60 * number, TOP, 3, 3)
            mask = clouds[:, : image.shape[1]]
            write_scene(path, mask, transform=transform, nodata=0)
            rows.append(f'{scenes}/{name}.tif,{radar}/s1.tif,{path.name}')
        (tmp_path / 'list.csv').write_text('\n'.join(rows))
        out = tmp_path / 'out'
        remove_clouds(
            Darker(),
            tmp_path / 'list.csv',
            None,
            out,
            tile_size=64,
            overlap=16,
            **QUICK,
        )
        for name in 'abc':
            before, after = read(scenes / f'{name}.tif'), read(out / f'{name}.tif')
            inside = np.zeros(before.shape[1:], dtype=bool)
            inside[40:60, 50:80] = True
            near = np.zeros_like(inside)
            near[20:80, 30:100] = True
            has_data = (before != 0).any(axis=0)
            assert after.dtype == before.dtype == np.uint16
            assert (after[:, ~near] == before[:, ~near]).all()
            darker = np.rint(np.float32(before / np.float32(10000)) / 2 * 10000)
            cloudy = inside & has_data
            assert cloudy.sum() > 100
            assert np.abs(after - darker.clip(1))[:, cloudy].max() <= 1
            between = near & ~inside & has_data
            assert (after <= before)[:, between].all()
            share = 1 - after[:, between] / before[:, between]
            assert 0 < share.min(initial=1, where=share > 0) < 0.1
            assert share.max() > 0.4


@pytest.fixture(scope='module')
def zones(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scenes made of the patches of areas in two zones, with Sentinel-1 of each."""
    folder = tmp_path_factory.mktemp('zones')
    for kind, target in (('planet_cloudy', 'scenes'), ('S1', 'radar')):
        (folder / target).mkdir()
        for area in ('spring_1', 'summer_3', 'winter_34'):
            files = sorted(root.glob(f'*/{kind}_*/{kind}_{area}/*.tif'))
            assert len(files) > 1
            merge(files, dst_path=folder / target / f'{area}.tif')
    save_checkpoint(folder)
    return folder


@pytest.mark.slow
class TestCommand:
    """The command line, in processes of its own."""

    def test_two_processes(self, zones: Path, tmp_path: Path) -> None:
        """Three scenes in two zones, shared by two processes."""
        out = tmp_path / 'out'
        command = ['remove-clouds', zones / 'scenes', '--s1', zones / 'radar']
        command += ['--checkpoint', zones / 'task.ckpt', '--out', out]
        command += ['--accelerator', 'cpu', '--devices', '2', '--tile-size', '160']
        status, printed, errors = planetcr(*command)
        assert status == 0, errors
        message = f'{out}: 3 scenes, of which Sentinel-1 covers '
        # By the first process only
        assert [line[: len(message)] for line in printed.splitlines()] == [message]
        # And what all of them find out, or one of them, is said once
        said = [line for line in errors.splitlines() if line.startswith(str(zones))]
        assert len(said) == len({*said}) >= 6
        scenes = sorted((zones / 'scenes').iterdir())
        suffixes = ('.png', '.tif')
        assert names(out) == {f'{path.stem}{s}' for path in scenes for s in suffixes}
        crs = set()
        for path in scenes:
            with rasterio.open(path) as before, rasterio.open(out / path.name) as after:
                for name in ('crs', 'transform', 'shape', 'bounds', 'nodata', 'count'):
                    assert getattr(after, name) == getattr(before, name), name
                assert after.dtypes == ('uint16',) * 4
                actual, image = after.read(), before.read()
                crs.add(after.crs.to_epsg())
            expected = in_one_piece(zones, path)
            has_data = (image != 0).any(axis=0)
            assert (actual[:, ~has_data] == 0).all()
            assert np.abs(actual - expected)[:, has_data].max() <= 0.5 + 0.1
            assert 0.5 < has_data.mean() <= 1
        assert crs == {32646, 32736}

    def test_fewer_scenes_than_processes(self, zones: Path, tmp_path: Path) -> None:
        out, scene = tmp_path / 'clear.tif', zones / 'scenes' / 'summer_3.tif'
        status, printed, errors = planetcr(
            *('remove-clouds', scene, '--s1', zones / 'radar'),
            *('--checkpoint', zones / 'task.ckpt', '--out', out),
            *('--accelerator', 'cpu', '--devices', '2', '--num-workers', '0'),
        )
        assert status == 0, errors
        assert printed == f'{out}: 600 x 300 pixels, Sentinel-1 covers 100 %\n'
        assert names(tmp_path) == {'clear.tif', 'clear.png'}
        assert np.abs(read(out) - in_one_piece(zones, scene)).max() <= 0.5 + 0.1


def in_one_piece(zones: Path, path: Path) -> NDArray[np.float32]:
    """Reflectance x 10000 of a scene that the network sees at once."""
    task = CloudRemoval.load_from_checkpoint(zones / 'task.ckpt', weights_only=True)
    files = SceneFiles(str(path), (str(zones / 'radar' / path.name),))
    with Scene(files) as scene:
        arrays = scene.read(scene.grid)
    sample = {key: torch.from_numpy(array)[None] for key, array in arrays.items()}
    sample = PlanetCRNormalize()(sample)
    with torch.no_grad():
        result = task.eval()(sample['image'], sample['image_s1'])[0].numpy()
    return (10000 * result).clip(1, 65535)


def test_public_sample(sample_root: Path, tmp_path: Path) -> None:
    """A real patch as a scene of one tile, and of several."""
    task = CloudRemoval.load_from_checkpoint(
        save_checkpoint(tmp_path), weights_only=True
    )
    (cloudy,) = sample_root.glob('test/planet_cloudy_*/*/*.tif')
    (s1,) = sample_root.glob('test/S1_*/*/*.tif')
    results = []
    for size in (300, 160):
        out = tmp_path / f'{size}.tif'
        said = remove_clouds(task, cloudy, s1, out, tile_size=size, **QUICK)
        assert said == f'{out}: 300 x 300 pixels, Sentinel-1 covers 100 %'
        with rasterio.open(cloudy) as before, rasterio.open(out) as after:
            assert (after.crs, after.transform) == (before.crs, before.transform)
            has_data = (before.read() != 0).any(axis=0)
            results.append(after.read().astype(int))
    assert has_data.mean() > 0.9
    assert np.abs(results[0] - results[1]).max() <= 1
    # As the data set has it
    sample = PlanetCRNormalize()(PlanetCR(sample_root, 'test')[:])
    with torch.no_grad():
        expected = task.eval()(sample['image'][None], sample['image_s1'][None])[0]
    difference = np.abs(10000 * expected.numpy().clip(0) - results[0])[:, has_data]
    assert np.median(difference) < 2


class TestDamaged:
    @pytest.mark.parametrize('num_workers', [0, 1])
    def test_cut_short(
        self, inputs: tuple[Path, Path], tmp_path: Path, num_workers: int
    ) -> None:
        whole = write_scene(tmp_path / 'cloudy.tif', compress='deflate', tiled=True)
        content = whole.read_bytes()
        whole.write_bytes(content[: len(content) // 2])
        options: Any = SMALL | {'num_workers': num_workers}
        with pytest.raises(OSError, match=f'{whole}'):
            remove_clouds(Darker(), whole, inputs[1], tmp_path / 'x.tif', **options)
        assert names(tmp_path) == {'cloudy.tif'}

    @pytest.mark.parametrize('num_workers', [0, 1])
    def test_half_way(self, tmp_path: Path, num_workers: int) -> None:
        """A scene that shows its damage late does not stop the others, nor appear."""
        (folder := tmp_path / 'scenes').mkdir()
        values = np.broadcast_to([[[-12.0]], [[-20.0]]], (2, 1100, 60))
        s1 = write_scene(tmp_path / 's1.tif', values.astype(np.float32), nodata=None)
        image = make_image(1100, 60)
        # Blocks of one line, of which the scene in small has every other one
        bad = write_scene(folder / 'b.tif', image, compress='deflate', blockysize=1)
        with rasterio.open(bad) as dataset:
            start = int(dataset.get_tag_item('BLOCK_OFFSET_0_600', 'TIFF', 1) or 0)
        content = bytearray(bad.read_bytes())
        content[start : start + 50] = bytes(50)
        bad.write_bytes(content)
        for name in 'ac':
            write_scene(folder / f'{name}.tif', make_image(90, 60))
        options: Any = SMALL | {'num_workers': num_workers, 'quicklook': False}
        out = tmp_path / 'out'
        with pytest.raises(OSError, match='1 could not be used') as caught:
            remove_clouds(Darker(), folder, s1, out, **options)
        first, reason = str(caught.value).splitlines()
        assert first.startswith(f'{out}: 2 scenes')
        assert reason.startswith(f'{bad} cannot be read')
        assert names(out) == {'a.tif', 'c.tif'}
        with pytest.raises(OSError, match=f'{bad} cannot be read'):
            remove_clouds(Darker(), bad, s1, tmp_path / 'x.tif', **options)
        assert names(tmp_path) == {'scenes', 'out', 's1.tif'}

    def test_no_raster(self, inputs: tuple[Path, Path], tmp_path: Path) -> None:
        """A scene that cannot be opened does not stop the others either."""
        (folder := tmp_path / 'scenes').mkdir()
        write_scene(folder / 'a.tif')
        (folder / 'b.tif').write_text('no raster')
        options: Any = SMALL | {'quicklook': False}
        with pytest.raises(OSError, match=r'1 scene, .* 1 could not be used') as caught:
            remove_clouds(Darker(), folder, inputs[1], tmp_path / 'out', **options)
        assert f'{folder}/b.tif is not a readable raster' in str(caught.value)
        assert names(tmp_path / 'out') == {'a.tif'}

    @pytest.mark.parametrize(
        'make',
        [
            os.mkfifo,
            lambda path: path.symlink_to('/dev/zero'),
            lambda path: path.symlink_to(path),
            lambda path: path.mkdir(),
            lambda path: rasterio.shutil.copy(
                write_scene(path.parents[1] / 'secret.tif'), path, driver='VRT'
            ),
            lambda path: write_scene(path, transform=from_origin(LEFT, TOP, 3, 1e300)),
            lambda path: write_scene(path, transform=from_origin(math.nan, TOP, 3, 3)),
            lambda path: write_scene(path, transform=from_origin(LEFT, -1e17, 3, 3)),
            lambda path: write_scene(path, transform=from_origin(LEFT, TOP, 1e-300, 3)),
        ],
        ids=[
            'pipe',
            'device',
            'loop',
            'folder',
            'mosaic',
            'giant pixels',
            'NaN',
            'giant place',
            'tiny pixels',
        ],
    )
    @pytest.mark.parametrize('part', ['scene', 's1', 'mask'])
    def test_no_scene(
        self,
        inputs: tuple[Path, Path],
        tmp_path: Path,
        part: str,
        make: Callable[[Path], object],
    ) -> None:
        """What only seems to be a scene, or what belongs to one, is named."""
        (folder := tmp_path / 'scenes').mkdir()
        scene, s1 = inputs
        mask = write_scene(tmp_path / 'mask.tif', np.zeros((1, *SHAPE), np.uint8))
        bad = folder / 'b.tif'
        make(bad)
        files = {'scene': scene, 's1': s1, 'mask': mask}
        rows = [files, files | {part: bad}]
        if part == 'scene':
            rows[0] = files | {part: write_scene(folder / 'a.tif')}
        else:
            rows[1]['scene'] = write_scene(folder / 'a.tif')
        table = tmp_path / 'scenes.csv'
        lines = ['cloudy,s1,mask', *(','.join(map(str, row.values())) for row in rows)]
        table.write_text('\n'.join(lines))
        options: Any = SMALL | {'quicklook': False}
        with pytest.raises(OSError, match=r'1 scene, .* 1 could not be used') as caught:
            remove_clouds(Darker(), table, None, tmp_path / 'out', **options)
        _, reason = str(caught.value).splitlines()
        assert str(bad) in reason
        assert len(names(tmp_path / 'out')) == 1
