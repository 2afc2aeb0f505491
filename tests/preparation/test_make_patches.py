# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import rasterio
from lightning.pytorch import Trainer
from own_scenes import (
    BEFORE,
    CRS,
    LANDCOVER_CORNER,
    LEFT,
    RADAR_CORNER,
    TOP,
    UP,
    make_clear,
    make_clouds,
    make_cloudy,
    make_landcover,
    make_radar,
    write_ramp,
    write_scenes,
    write_udm2,
)
from rasterio.transform import from_origin
from rasters import write
from systems import needs_posix

from torchgeo_planetcr import (
    CloudRemoval,
    PlanetCR,
    PlanetCRDataModule,
    evaluate,
    make_patches,
)
from torchgeo_planetcr.main import main
from torchgeo_planetcr.samplers import CenterNativePatchSampler

COMMAND = Path(sys.executable).with_name('planetcr')

#: Overlap with which there are 5 x 9 patches.
MANY, COUNT = 225, 45


@pytest.fixture(scope='module')
def shared(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Scenes that stay as they are."""
    return write_scenes(tmp_path_factory.mktemp('scenes'))


def cut(root: Path, /, **arguments: Any) -> str:
    """Make patches of an area, summer_1 unless the arguments say otherwise."""
    both: dict[str, Any] = {'aoi': 'summer_1', **arguments}
    return make_patches(root, **both)


def numbers(root: Path, aoi: str = 'summer_1', split: str = 'train') -> set[int]:
    """Numbers of the patches of an area, all of which have all files."""
    found = [
        {
            int(path.stem.rpartition('_')[2])
            for path in root.glob(f'{split}/{kind}_*/{kind}_{aoi}/*')
        }
        for kind in ('planet_cloudy', 'planet_cloudfree', 'S1', 'landcover')
    ]
    assert all(others == found[0] for others in found)
    return found[0]


def contents(root: Path) -> dict[str, bytes]:
    """All that is in a tree but its index."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob('*')
        if path.is_file() and path.suffix != '.parquet'
    }


def options_of(scenes: dict[str, Any]) -> list[str]:
    """Scenes as options of the command."""
    return [
        word
        for name, path in scenes.items()
        for word in (f'--{name.replace("_", "-")}', str(path))
    ]


def test_tree(tmp_path: Path) -> None:
    """Areas in two zones become a tree that opens, with the pixels of the scenes."""
    root = tmp_path / 'tree'
    places: dict[str, tuple[str, dict[str, Any]]] = {
        'summer_1': ('train', {}),
        'winter_7': ('test', {'crs': 'EPSG:32733', 'left': 300000, 'top': 8000001}),
    }
    for aoi, (split, options) in places.items():
        scenes = write_scenes(tmp_path / aoi, **options)
        written = cut(root, aoi=aoi, split=split, **scenes)
        assert written == f'{root}: 6 of 6 patches of {aoi} made in {split}'
        assert numbers(root, aoi, split) == {1, 2, 3, 4, 5, 6}

    cloudy, clear = make_cloudy()[[1, 3, 5, 7]], make_clear()[:, UP:, 30:]
    splits: dict[Any, int] = {'train': 32646, 'test': 32733}
    for split, epsg in splits.items():
        dataset = PlanetCR(root, split, alignment='native', strict=True)
        assert len(dataset) == 6
        windows = list(CenterNativePatchSampler(dataset, size=None))
        for number, window in enumerate(windows):
            row, col = divmod(number, 3)
            part = slice(300 * row, 300 * row + 300), slice(300 * col, 300 * col + 300)
            sample = dataset[window]
            assert sample['crs'] == epsg
            assert (sample['image'].numpy() == cloudy[:, *part]).all()
            assert (sample['image_clear'].numpy() == clear[:, *part]).all()
            assert (sample['mask_cloud'].numpy() == make_clouds()[part]).all()
            assert sample['image_s1'].shape == (2, 90, 90)
        # The patch begins 49.8 of its pixels to the right and below
        radar = dataset[windows[0]]['image_s1'].numpy()
        assert (radar == make_radar()[:, 50:140, 50:140]).all()
        shares = dataset.index['cloud_cover'].tolist()
        assert shares == pytest.approx([1 / 3, 1 / 2, 0, 0, 0, 0])


@pytest.mark.filterwarnings('ignore:No patch of the 1 area')
def test_training_and_evaluation(shared: dict[str, Any], tmp_path: Path) -> None:
    root = tmp_path / 'tree'
    for aoi, split in (('summer_1', 'train'), ('fall_1', 'test')):
        cut(root, aoi=aoi, split=split, cloud_cover=(0.1, 1), **shared)
    data = PlanetCRDataModule(patch_size=32, length=2, root=root)
    task = CloudRemoval(model_kwargs={'features': 8, 'num_blocks': 1})
    trainer = Trainer(
        accelerator='cpu',
        max_epochs=1,
        default_root_dir=tmp_path,
        logger=False,
        enable_progress_bar=False,
        log_every_n_steps=1,
    )
    trainer.fit(task, data)
    checkpoint = tmp_path / 'task.ckpt'
    trainer.save_checkpoint(checkpoint)
    out = tmp_path / 'out'
    evaluate(root, ['copy', checkpoint], out, size=32, accelerator='cpu')
    rows = pd.read_parquet(out / 'patches.parquet').set_index(['method', 'patch'])
    assert len(rows) == 4
    cloudy = make_cloudy()[[1, 3, 5, 7], 134:166].clip(max=10000)
    clear = make_clear()[:, UP + 134 :][:, :32].clip(max=10000)
    for number, col in ((1, 134), (2, 434)):
        part = slice(col, col + 32), slice(BEFORE + col, BEFORE + col + 32)
        difference = cloudy[..., part[0]] - 1.0 * clear[..., part[1]]
        expected = np.abs(difference).mean() / 10000
        actual = rows.loc[('copy', f'fall_1_p_{number}'), 'MAE']
        assert actual == pytest.approx(expected, rel=1e-5)


def test_format(shared: dict[str, Any], tmp_path: Path) -> None:
    """Files are as those of the archive."""
    cut(tmp_path, **shared)
    for kind, count, dtype, size, res in (
        ('planet_cloudy', 4, 'uint16', 300, 3),
        ('planet_cloudfree', 4, 'uint16', 300, 3),
        ('S1', 2, 'float64', 90, 10),
        ('landcover', 1, 'uint8', 90, 10),
    ):
        name = f'{kind}_summer'
        path = tmp_path / 'train' / name / f'{name}_1' / f'{name}_1_p_2.tif'
        with rasterio.open(path) as dataset:
            assert (dataset.count, dataset.dtypes[0]) == (count, dtype)
            assert (dataset.shape, dataset.res) == ((size, size), (res, res))
            assert dataset.crs == CRS
            assert dataset.nodata == (0 if dtype == 'uint16' else None)
            assert abs(dataset.transform.c - LEFT - 900) <= 5
            assert abs(dataset.transform.f - TOP) <= 5
    name = 'cloudmask_summer'
    mask = np.load(tmp_path / 'train' / name / f'{name}_1' / f'{name}_1_p_2.npy')
    assert mask.dtype == np.bool_
    assert (mask == make_clouds()[:300, 300:600]).all()


def test_overlap(shared: dict[str, Any], tmp_path: Path) -> None:
    """Two rows of four patches, which share a third."""
    cut(tmp_path, overlap=100, **shared)
    assert numbers(tmp_path) == set(range(1, 9))
    for number in range(8):
        row, col = 200 * (number // 4), 200 * (number % 4)
        name = f'planet_cloudy_summer_1_p_{number + 1}.tif'
        (path,) = tmp_path.glob(f'train/planet_cloudy_summer/*/{name}')
        with rasterio.open(path) as dataset:
            expected = make_cloudy()[[1, 3, 5, 7], row : row + 300, col : col + 300]
            assert (dataset.read() == expected).all()
            corner = dataset.transform.c, dataset.transform.f
        assert corner == (LEFT + 3 * col, TOP - 3 * row)


def test_radar_in_other_zone(shared: dict[str, Any], tmp_path: Path) -> None:
    """What a model sees is Sentinel-1 of the place, in either zone."""
    scenes = shared | {'s1': write_ramp(tmp_path / 's1.tif')}
    cut(tmp_path / 'tree', **scenes)
    dataset = PlanetCR(tmp_path / 'tree')
    window = list(CenterNativePatchSampler(dataset, size=None))[5]
    radar = dataset[window]['image_s1'].numpy()
    cols, rows = np.meshgrid(np.arange(600, 900) + 0.5, np.arange(300, 600) + 0.5)
    x, y = 3 * cols, -3 * rows
    expected = np.stack([-12 + x / 300 + y / 500, -20 + x / 400 - y / 300])
    # Beyond the outermost centers of pixels at 10 m, PlanetCR goes on with their values
    assert np.abs(radar - expected)[:, 4:-4, 4:-4].max() < 0.01


class TestLeftOut:
    @pytest.mark.parametrize(
        ('largest', 'expected'),
        [(0, {2, 3}), (0.05, {1, 2, 3}), (0.2, {1, 2, 3, 4, 5})],
    )
    @pytest.mark.parametrize('name', ['cloudy', 'clear'])
    def test_nodata(
        self,
        shared: dict[str, Any],
        tmp_path: Path,
        name: str,
        largest: float,
        expected: set[int],
    ) -> None:
        """5 % of the first patch, 10 % of two, and all of the last are without data."""
        with rasterio.open(shared[name]) as dataset:
            image, transform = dataset.read(), dataset.transform
        row, col = round((transform.f - TOP) / 3), round((LEFT - transform.c) / 3)
        inside = image[:, row:, col:]
        inside[:, :15, :300] = 0
        inside[:, 300:330, :600] = 0
        inside[:, 300:, 600:] = 0
        path = write(tmp_path / 'holes.tif', image, transform=transform)
        root = tmp_path / 'tree'
        text = cut(root, max_nodata=largest, **shared | {name: path})
        assert numbers(root) == expected
        share = f'more than {100 * largest:g} % of ' if largest else ''
        assert text.splitlines() == [
            f'{root}: {len(expected)} of 6 patches of summer_1 made in train',
            f'left out: {6 - len(expected)} for {share}pixels without data in {path}',
        ]

    @pytest.mark.parametrize('value', [np.nan, -np.inf, 0])
    def test_radar(self, shared: dict[str, Any], tmp_path: Path, value: float) -> None:
        """A single pixel, in the second patch and in the fifth."""
        radar = make_radar()
        radar[1, 60, 150], radar[0, 150, 160] = value, value
        transform = from_origin(*RADAR_CORNER, 10, 10)
        scenes = shared | {'s1': write(tmp_path / 's1.tif', radar, transform=transform)}
        text = cut(tmp_path, **scenes)
        assert numbers(tmp_path) == {1, 3, 4, 6}
        assert f'left out: 2 for pixels without data in {scenes["s1"]}' in text

    def test_landcover(self, shared: dict[str, Any], tmp_path: Path) -> None:
        """It ends 100 m before the last column does."""
        transform = from_origin(*LANDCOVER_CORNER, 10, 10)
        codes = make_landcover()[:, :, :290]
        path = write(tmp_path / 'landcover.tif', codes, transform=transform)
        text = cut(tmp_path, **shared | {'landcover': path})
        assert numbers(tmp_path) == {1, 2, 4, 5}
        assert f'left out: 2 for pixels without data in {path}' in text

    def test_mask(self, shared: dict[str, Any], tmp_path: Path) -> None:
        transform = from_origin(LEFT, TOP, 3, 3)
        clouds = make_clouds()[:599]
        path = write_udm2(tmp_path / 'udm2.tif', clouds, transform=transform)
        text = cut(tmp_path, **shared | {'cloud_mask': path})
        assert numbers(tmp_path) == {1, 2, 3}
        assert f'left out: 3 for pixels without data in {path}' in text

    @pytest.mark.parametrize(
        ('limits', 'expected'),
        [
            ((0.1, 0.4), {1}),
            ((0, 0.5), {1, 2, 3, 4, 5, 6}),
            ((0.5, 1), {2}),
            ((0, 0), {3, 4, 5, 6}),
        ],
    )
    def test_cloud_cover(
        self,
        shared: dict[str, Any],
        tmp_path: Path,
        limits: tuple[float, float],
        expected: set[int],
    ) -> None:
        text = cut(tmp_path, cloud_cover=limits, **shared)
        assert numbers(tmp_path) == expected
        line = (
            f'left out: {6 - len(expected)} for less or more cloud than asked for in '
        )
        assert (line in text) == (len(expected) < 6)

    def test_all(self, shared: dict[str, Any], tmp_path: Path) -> None:
        """Nothing is written, not even a folder."""
        image = make_clear()
        image[:, : UP + 400] = 0
        transform = from_origin(LEFT - 90, TOP + 60, 3, 3)
        path = write(tmp_path / 'clear.tif', image, transform=transform)
        root = tmp_path / 'tree'
        message = rf'cloudy\.tif gives no patch\. Left out: 3 for pixels without data in {path}'
        message += r'; 3 for less or more cloud than asked for in .*udm2\.tif$'
        scenes = shared | {'clear': path}
        with pytest.raises(ValueError, match='no patch'):
            cut(root, cloud_cover=(0.9, 1), **scenes)
        image[:, UP + 300 :] = 1
        write(path, image, transform=transform)
        with pytest.raises(ValueError, match=message):
            cut(root, cloud_cover=(0.9, 1), **scenes)
        assert not root.exists()

    def test_numbers_stay(self, shared: dict[str, Any], tmp_path: Path) -> None:
        """A patch has the same pixels whatever else is left out."""
        cut(tmp_path / 'all', **shared)
        cut(tmp_path / 'one', cloud_cover=(0.5, 1), **shared)
        one, everything = contents(tmp_path / 'one'), contents(tmp_path / 'all')
        patches = {name for name in one if name.startswith('train')}
        assert len(patches) == 5
        assert all(one[name] == everything[name] for name in patches)


def test_without_mask(shared: dict[str, Any], tmp_path: Path) -> None:
    scenes = {name: path for name, path in shared.items() if name != 'cloud_mask'}
    text = cut(tmp_path, **scenes)
    assert 'no cloud masks' in text
    assert not list(tmp_path.rglob('*.npy'))
    modalities: Any = ('cloudy', 'clear', 'sentinel1', 'worldcover')
    assert len(PlanetCR(tmp_path, modalities=modalities, strict=True)) == 6
    message = r'cloud_cover=\[0\.1, 1\] needs a mask: name it with cloud_mask'
    with pytest.raises(ValueError, match=message):
        cut(tmp_path, aoi='summer_2', cloud_cover=(0.1, 1), **scenes)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'overlap': -1}, 'overlap=-1 is not between 0 and 299 pixels'),
        ({'overlap': 300}, 'overlap=300 is not between 0 and 299 pixels'),
        ({'max_nodata': 1.5}, r'max_nodata=1\.5 is not a share in \[0, 1\]'),
        ({'max_nodata': -0.1}, r'max_nodata=-0\.1 is not a share'),
        ({'cloud_cover': (0.6, 0.5)}, r'cloud_cover=\[0\.6, 0\.5\] is not a range'),
        ({'cloud_cover': (0, 40)}, r'cloud_cover=\[0, 40\] is not a range'),
        ({'bands': [1, 2, 3]}, r'bands=\[1, 2, 3\] must be the positions'),
        ({'split': 'val'}, "split='val' is not one of 'train' and 'test'"),
        ({'aoi': 'place_1'}, "aoi='place_1' is not the name of an area"),
    ],
)
def test_arguments(
    shared: dict[str, Any], tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        cut(tmp_path / 'tree', **shared | options)
    assert not (tmp_path / 'tree').exists()


class TestGoingOn:
    def test_again(self, shared: dict[str, Any], tmp_path: Path) -> None:
        """What is there is kept, and what is missing is made."""
        cut(tmp_path, **shared)
        before = contents(tmp_path)
        for kind in ('planet_cloudy', 'S1'):
            for number in (2, 5):
                name = f'{kind}_summer_1_p_{number}.tif'
                (path,) = tmp_path.glob(f'train/*/*/{name}')
                path.unlink()
        kept = next(tmp_path.glob('train/*/*/planet_cloudy_summer_1_p_1.tif'))
        stamp = kept.stat().st_mtime_ns
        text = cut(tmp_path, **shared)
        assert text.splitlines() == [
            f'{tmp_path}: 2 of 6 patches of summer_1 made in train',
            '4 more were there already',
        ]
        assert contents(tmp_path) == before
        assert kept.stat().st_mtime_ns == stamp
        text = cut(tmp_path, **shared)
        assert text.startswith(f'{tmp_path}: 0 of 6 patches')

    @needs_posix
    @pytest.mark.slow
    @pytest.mark.parametrize('number', [9, signal.SIGINT])
    def test_interrupted(
        self, shared: dict[str, Any], tmp_path: Path, number: int
    ) -> None:
        """What is there opens, and the next run makes the same as without a pause."""
        root, whole = tmp_path / 'tree', tmp_path / 'whole'
        command = [COMMAND, 'make-patches', root, 'summer_1', *options_of(shared)]
        command += ['--overlap', str(MANY)]
        pattern = 'train/planet_cloudy_*/*/*.tif'
        with (tmp_path / 'printed').open('w') as printed:
            process = subprocess.Popen(command, stdout=printed, stderr=printed)
        try:
            while process.poll() is None and not list(root.glob(pattern)):
                time.sleep(0.01)
            process.send_signal(number)
            assert process.wait(timeout=60) in (1, -9)
        finally:
            process.kill()
        there = len(list(root.glob(pattern)))
        assert 0 < there < COUNT
        assert len(PlanetCR(root)) == there
        if number == signal.SIGINT:
            text = (tmp_path / 'printed').read_text()
            # What is assumed of the files may come before
            assert text.splitlines()[-1] == 'planetcr make-patches: interrupted'
            assert not list(root.glob('.unfinished-*'))

        text = cut(root, overlap=MANY, **shared)
        assert f'{COUNT - there} of {COUNT} patches of summer_1 made' in text
        assert f'{there} more were there already' in text
        cut(whole, overlap=MANY, **shared)
        found = contents(root)
        for name in [name for name in found if name.startswith('.unfinished-')]:
            del found[name]
        assert found == contents(whole)

    @needs_posix
    @pytest.mark.slow
    def test_full_disk(self, shared: dict[str, Any], tmp_path: Path) -> None:
        """What does not fit makes a message, and the next run goes on."""
        result = subprocess.run(
            # Files of at most 0.5 MB, which is less than a PlanetScope image has
            ['bash', '-c', 'ulimit -f 500 && exec "$@"', 'bash', COMMAND]
            + ['make-patches', tmp_path, 'summer_1', *options_of(shared)],
            check=False,
            capture_output=True,
            text=True,
        )
        assert result.returncode == 1
        message = (
            r'planetcr make-patches: \S+planet_cloudfree_summer_1_p_1\.tif cannot be '
        )
        assert re.search(f'{message}written: ', result.stderr)
        assert 'Traceback' not in result.stderr
        assert set(contents(tmp_path)) == {'areas/summer_1.json'}
        cut(tmp_path, **shared)
        assert numbers(tmp_path) == {1, 2, 3, 4, 5, 6}

    def test_damaged_scene(self, shared: dict[str, Any], tmp_path: Path) -> None:
        """Patches above the damage stay."""
        path = tmp_path / 'clear.tif'
        transform = from_origin(LEFT - 90, TOP + 60, 3, 3)
        options: dict[str, Any] = {'transform': transform, 'compress': 'deflate'}
        write(path, make_clear(), interleave='pixel', **options)
        data = path.read_bytes()
        middle = 2 * len(data) // 3
        path.write_bytes(data[:middle] + 5000 * b'\xff' + data[middle + 5000 :])
        root = tmp_path / 'tree'
        with pytest.raises(OSError, match=r'clear\.tif cannot be read, copy it again'):
            cut(root, **shared | {'clear': path})
        assert numbers(root) == {1, 2, 3}
        assert len(PlanetCR(root, strict=True)) == 3


class TestOtherScenes:
    def test_refused(self, shared: dict[str, Any], tmp_path: Path) -> None:
        root = tmp_path / 'tree'
        cut(root, **shared)
        before = contents(root)
        other = write_scenes(tmp_path / 'other', 'EPSG:32633')
        for scenes, options, message in (
            (other, {}, r"cloudy '.*scenes\d*/cloudy\.tif' instead of '.*other/cloudy"),
            (shared, {'overlap': 10}, 'overlap 0 instead of 10'),
            (shared, {'split': 'test'}, "split 'train' instead of 'test'"),
            (shared, {'s1_unit': 'dB'}, "s1_unit None instead of 'dB'"),
            (shared, {'max_days': 3}, 'max_days 30 instead of 3'),
            (shared, {'bands': [1, 2, 3, 4]}, r'bands None instead of \[1, 2, 3, 4\]'),
        ):
            message = rf'summer_1 in {root} was made with {message}.* --overwrite'
            with pytest.raises(FileExistsError, match=message):
                cut(root, **scenes, **options)
        assert contents(root) == before
        cut(root, aoi='summer_2', **other)
        assert len(PlanetCR(root, strict=True)) == 12

    def test_archive(
        self, shared: dict[str, Any], own_root: Path, tmp_path: Path
    ) -> None:
        """An area that others made is not touched, and not added to."""
        before = contents(own_root)
        with pytest.raises(FileExistsError, match='not made by this command'):
            cut(own_root, aoi='summer_3', **shared)
        assert contents(own_root) == before
        cut(own_root, **shared)
        assert before.items() <= contents(own_root).items()

    def test_overwrite(self, shared: dict[str, Any], tmp_path: Path) -> None:
        root = tmp_path / 'tree'
        cut(root, overlap=100, **shared)
        before = contents(root)
        # No patch is left, so that there is nothing to replace them
        with pytest.raises(ValueError, match='gives no patch'):
            cut(root, cloud_cover=(0.9, 1), overwrite=True, **shared)
        assert contents(root) == before
        cut(root, split='test', overwrite=True, **shared)
        assert not numbers(root)
        cut(tmp_path / 'fresh', split='test', **shared)
        assert contents(root) == contents(tmp_path / 'fresh')

    @pytest.mark.parametrize('name', ['clear', 's1', 'landcover', 'cloud_mask'])
    def test_overwrite_what_is_read(
        self, shared: dict[str, Any], tmp_path: Path, name: str
    ) -> None:
        """No file that is read is among those that are replaced."""
        cut(tmp_path, **shared)
        folder = tmp_path / 'train' / 'planet_cloudy_summer' / 'planet_cloudy_summer_1'
        own = shutil.copy(shared[name], folder / 'own.tif')
        with pytest.raises(ValueError, match=r'own\.tif is among the patches'):
            cut(tmp_path, overwrite=True, **(shared | {name: own}))

    def test_changed_file(self, shared: dict[str, Any], tmp_path: Path) -> None:
        """A file of the same name, at the same place, may be that of another month."""
        root = tmp_path / 'root'
        own = shared | {'s1': tmp_path / 's1.tif'}
        shutil.copy2(shared['s1'], own['s1'])
        cut(root, **own)
        assert '6 more were there already' in cut(root, **own)
        os.utime(own['s1'], (1, 1))
        message = r'sentinel1_file .*s1\.tif \(.*\)\' instead of .*1970-01-01'
        with pytest.raises(FileExistsError, match=message):
            cut(root, **own)

    def test_relative(
        self, shared: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The same scenes by another path are the same."""
        cut(tmp_path, **shared)
        monkeypatch.chdir(shared['cloudy'].parent)
        names = {name: path.name for name, path in shared.items()}
        text = cut(tmp_path, **names)
        assert '6 more were there already' in text


class TestCommand:
    def test_options(
        self, shared: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        arguments = ['make-patches', str(tmp_path), 'summer_1', *options_of(shared)]
        arguments += ['--overlap', '100', '--max-nodata', '0.1', '--split', 'test']
        arguments += ['--cloud-cover', '[0.1, 0.6]', '--bands', '[2, 4, 6, 8]']
        arguments[arguments.index('--clear') + 1] = str(shared['cloudy'])
        main(arguments)
        assert capsys.readouterr().out.splitlines() == [
            f'{tmp_path}: 4 of 8 patches of summer_1 made in test',
            f'left out: 4 for less or more cloud than asked for in {shared["cloud_mask"]}',
        ]
        assert numbers(tmp_path, split='test') == {1, 2, 3, 7}
        record = json.loads((tmp_path / 'areas' / 'summer_1.json').read_text())
        for name in ('cloudy', 'clear', 'sentinel1', 'worldcover', 'cloud_mask'):
            assert 'bytes' in record.pop(f'{name}_file')
        assert record == {
            'cloudy': str(shared['cloudy']),
            'clear': str(shared['cloudy']),
            'sentinel1': str(shared['s1']),
            'worldcover': str(shared['landcover']),
            'cloud_mask': str(shared['cloud_mask']),
            'split': 'test',
            'overlap': 100,
            'max_nodata': 0.1,
            'cloud_cover': [0.1, 0.6],
            'bands': [2, 4, 6, 8],
            'scale': None,
            's1_unit': None,
            'date': None,
            'max_days': 30,
            'fill_gaps': False,
        }

    def test_files_of_polarizations(
        self, shared: dict[str, Any], tmp_path: Path
    ) -> None:
        """VV and VH in power, one named after the other, make the patches of one file of dB."""
        with rasterio.open(shared['s1']) as dataset:
            power = 10 ** (dataset.read() / 10)
            grid = {'crs': dataset.crs, 'transform': dataset.transform}
        pair = [tmp_path / f's1_{name}.tif' for name in ('vv', 'vh')]
        for path, band in zip(pair, power, strict=True):
            write(path, band[np.newaxis], **grid)
        cut(tmp_path / 'expected', **shared)
        options = options_of({k: v for k, v in shared.items() if k != 's1'})
        root = tmp_path / 'found'
        main(['make-patches', str(root), 'summer_1', '--s1', *map(str, pair), *options])
        (expected,) = tmp_path.glob('expected/train/S1_*/*/*_1.tif')
        with (
            rasterio.open(expected) as one,
            rasterio.open(root / expected.relative_to(tmp_path / 'expected')) as other,
        ):
            np.testing.assert_allclose(other.read(), one.read(), atol=1e-3)
        record = json.loads((root / 'areas' / 'summer_1.json').read_text())
        assert record['sentinel1'] == [str(path) for path in pair]

    def test_overwrite(
        self, shared: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        arguments = ['make-patches', str(tmp_path), 'summer_1', *options_of(shared)]
        main(arguments)
        assert (
            capsys.readouterr().out
            == f'{tmp_path}: 6 of 6 patches of summer_1 made in train\n'
        )
        message = (
            r'planetcr make-patches: summer_1 in .* was made with overlap 0 instead'
        )
        with pytest.raises(SystemExit, match=message):
            main([*arguments, '--overlap', '100'])
        main([*arguments, '--overlap', '100', '--overwrite'])
        assert ': 8 of 8 patches of summer_1 made in train\n' in capsys.readouterr().out

    @pytest.mark.parametrize('name', ['--cloudy', '--clear', '--s1', '--landcover'])
    def test_missing(
        self, shared: dict[str, Any], capsys: pytest.CaptureFixture[str], name: str
    ) -> None:
        arguments = options_of(shared)
        place = arguments.index(name)
        del arguments[place : place + 2]
        with pytest.raises(SystemExit):
            main(['make-patches', 'tree', 'summer_1', *arguments])
        assert name[2:] in capsys.readouterr().err

    def test_wrong_file(self, shared: dict[str, Any], tmp_path: Path) -> None:
        path = tmp_path / 's1.tif'
        path.write_text('no raster')
        arguments = options_of(shared | {'s1': path})
        message = rf'^planetcr make-patches: {path} is not a readable raster'
        with pytest.raises(SystemExit, match=message):
            main(['make-patches', str(tmp_path / 'tree'), 'summer_1', *arguments])
