# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Collection
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from systems import full_disk
from texture import grain

from torchgeo_planetcr import PlanetCR, simulate
from torchgeo_planetcr.main import main
from torchgeo_planetcr.raster.tiff import read_plain_header
from torchgeo_planetcr.raster.write import unfinished_folder
from torchgeo_planetcr.samplers import CenterNativePatchSampler

#: The command in a process of its own, and the module that simulates.
PLANETCR = Path(sys.executable).with_name('planetcr')
MODULE = import_module('torchgeo_planetcr.simulation.simulate')

#: Type, number of bands, side and pixel size of the rasters of the archive.
RASTERS = {
    'planet_cloudy': ('uint16', 4, 300, 3),
    'planet_cloudfree': ('uint16', 4, 300, 3),
    'S1': ('float64', 2, 90, 10),
    'landcover': ('uint8', 1, 90, 10),
}


@pytest.fixture(scope='module')
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulation of ten areas, to be read only."""
    root = tmp_path_factory.mktemp('simulated') / 'world'
    message = simulate(root, areas=10, patches=2, seed=1)
    assert re.fullmatch(
        rf'{re.escape(str(root))}: 20 simulated patches of 10 areas in \d+ UTM zones, 14 for training, '
        '2 for validation and 4 for testing',
        message,
    )
    return root


@pytest.fixture(scope='session')
def small_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulation of two patches, to be read only."""
    root = tmp_path_factory.mktemp('simulated') / 'small-world'
    simulate(root, 2, 1, num_workers=1)
    return root


def digest(root: Path, suffixes: Collection[str] = ()) -> str:
    """Hash the names and contents of all files but the index, or of some of them."""
    total = hashlib.sha256()
    for path in sorted(root.rglob('*')):
        is_chosen = path.suffix in suffixes if suffixes else path.suffix != '.parquet'
        if path.is_file() and is_chosen:
            total.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return total.hexdigest()


def unfinished(root: Path) -> list[Path]:
    """Files and folders that a run left unfinished."""
    return [path for path in root.rglob('*') if 'unfinished' in path.name]


def read_images(root: Path, kind: str) -> np.ndarray:
    """Read all images of a kind, of shape (N, C, H, W)."""
    arrays = []
    for path in sorted(root.glob(f'*/{kind}_*/*/*')):
        if path.suffix == '.npy':
            arrays.append(np.load(path, allow_pickle=False)[None])
        else:
            with rasterio.open(path) as dataset:
                arrays.append(dataset.read())
    return np.stack(arrays)


class TestTree:
    """The simulation has the files of the archive."""

    @pytest.mark.parametrize('kind', RASTERS)
    def test_files(self, world: Path, kind: str) -> None:
        dtype, count, side, res = RASTERS[kind]
        files = sorted(world.glob(f'*/{kind}_*/*/*.tif'))
        assert len(files) == 20
        for path in files:
            with rasterio.open(path) as dataset:
                assert dataset.dtypes == (dtype,) * count
                assert dataset.shape == (side, side)
                assert dataset.res == (res, res)
                assert dataset.nodata == (0 if dtype == 'uint16' else None)
                assert dataset.compression is None
                assert dataset.block_shapes[0][1] == side
                assert dataset.transform.c % res == dataset.transform.f % res == 0
                description = dataset.tags()['TIFFTAG_IMAGEDESCRIPTION']
            assert description.startswith(
                'Simulated by torchgeo-planetcr (seed 1), not '
            )
            # Such files are read without GDAL
            assert read_plain_header(str(path)) is not None

    def test_masks(self, world: Path) -> None:
        masks = read_images(world, 'cloudmask')
        assert masks.shape == (20, 1, 300, 300)
        assert masks.dtype == bool

    def test_offsets(self, world: Path) -> None:
        """Grids of 10 m are up to 2 m away from those of 3 m, the same in all of an area."""
        offsets: dict[str, set[tuple[float, float]]] = {}
        for path in world.glob('*/planet_cloudy_*/*/*.tif'):
            radar = str(path).replace('planet_cloudy', 'S1')
            cover = str(path).replace('planet_cloudy', 'landcover')
            transforms = []
            for name in (path, radar, cover):
                with rasterio.open(name) as dataset:
                    transforms.append(dataset.transform)
            fine, coarse, other = transforms
            assert coarse == other
            offset = coarse.c - fine.c, coarse.f - fine.f
            offsets.setdefault(path.parent.name, set()).add(offset)
        assert {len(found) for found in offsets.values()} == {1}
        found = {offset for area in offsets.values() for offset in area}
        assert max(abs(number) for offset in found for number in offset) == 2
        assert len(found) > 5

    def test_around_the_world(self, world: Path) -> None:
        index = PlanetCR(world, 'train').index
        zones = {crs.split(':')[1] for crs in index['native_crs']}
        assert len(zones) > 4
        assert {zone[:3] for zone in zones} == {'326', '327'}
        assert len(set(index['season'])) > 2

    def test_splits(self, world: Path) -> None:
        with warnings.catch_warnings():
            # A split without some of its files would warn
            warnings.simplefilter('error')
            areas = {
                split: set(PlanetCR(world, split).index['aoi'])
                for split in ('train', 'val', 'test')
            }
        assert [len(found) for found in areas.values()] == [7, 1, 2]
        assert len(set.union(*areas.values())) == 10

    def test_record(self, world: Path) -> None:
        record = json.loads((world / 'simulation.json').read_text())
        assert record['about'].startswith('Simulated by torchgeo-planetcr.')
        assert (record['areas'], record['patches'], record['seed']) == (10, 2, 1)

    def test_another_process_writes_it(self, tmp_path: Path) -> None:
        """What that has not finished does not make the folder one of others."""
        with unfinished_folder(tmp_path):
            simulate(tmp_path, areas=2, patches=1)
        assert json.loads((tmp_path / 'simulation.json').read_text())['areas'] == 2

    @pytest.mark.parametrize('text', ['', '[' * 100_000, '9' * 10_000, 'ä'])
    def test_damaged_record(self, tmp_path: Path, text: str) -> None:
        """It is named, and replaced if that is asked for."""
        record = tmp_path / 'simulation.json'
        record.write_text(text, encoding='latin-1')
        with pytest.raises(OSError, match=f'{record} .*--overwrite'):
            simulate(tmp_path, areas=2, patches=1)
        assert list(tmp_path.iterdir()) == [record]
        simulate(tmp_path, areas=2, patches=1, overwrite=True)
        assert json.loads(record.read_text())['areas'] == 2

    def test_neighbors(self, world: Path) -> None:
        """Patches of an area adjoin, and the land continues from one to the next."""
        for path in sorted(world.glob('*/planet_cloudfree_*/*/*_p_1.tif')):
            other = path.with_name(path.name.replace('_p_1', '_p_2'))
            with rasterio.open(path) as left, rasterio.open(other) as right:
                assert left.bounds.right == right.bounds.left
                assert left.bounds.top == right.bounds.top
                image = np.concatenate([left.read(), right.read()], axis=2).astype(
                    float
                )
            steps = np.abs(np.diff(image, axis=2)).mean(axis=(0, 1))
            assert steps[299] < 2 * steps.mean() + 5


class TestContent:
    """The images look roughly like the two patches of the public sample."""

    def test_reflectance(self, world: Path) -> None:
        clear = read_images(world, 'planet_cloudfree')
        blue, green, red, infrared = clear.mean(axis=(0, 2, 3))
        assert 300 < blue < green < 1500
        assert red < infrared
        assert 1500 < infrared < 4000
        assert clear.min() > 0

    def test_clouds(self, world: Path) -> None:
        cloudy, clear = (
            read_images(world, f'planet_{kind}').astype(float)
            for kind in ('cloudy', 'cloudfree')
        )
        masks = read_images(world, 'cloudmask')[:, 0]
        cover = masks.mean(axis=(1, 2))
        assert 0.1 < cover.mean() < 0.6
        assert cover.std() > 0.05
        has_data = (cloudy != 0).any(axis=1)
        # Clouds are bright in all bands
        brighter = cloudy - clear
        assert brighter.transpose(0, 2, 3, 1)[masks].mean() > 1500
        # Haze is not in the mask
        unmasked = brighter.transpose(0, 2, 3, 1)[~masks & has_data]
        assert (np.abs(unmasked).max(axis=1) > 200).mean() > 0.3
        assert not masks[~has_data].any()

    def test_shadow(self, tmp_path: Path) -> None:
        """Shadow is not in the mask. Areas differ much, so that it takes more of them."""
        simulate(tmp_path, areas=12, patches=1, seed=1)
        cloudy, clear = (
            read_images(tmp_path, f'planet_{kind}').astype(float)
            for kind in ('cloudy', 'cloudfree')
        )
        masks = read_images(tmp_path, 'cloudmask')[:, 0]
        unmasked = ~masks & (cloudy != 0).any(axis=1)
        darker = (cloudy - clear).max(axis=1) < -50
        assert darker[unmasked].mean() > 0.01

    def test_grain(self, world: Path) -> None:
        """Land and clouds are about as smooth as those of the public sample.

        There, the grain of dark land is 12, and that of bright cloud is 20 to 25. Land
        of Sentinel-2 with pixels of 10 m has 30 to 50.
        """
        for kind, low, high, least, most in (
            ('cloudfree', 0.0, 0.1, 8, 25),
            ('cloudy', 0.3, 0.5, 10, 35),
            ('cloudy', 0.5, 0.7, 7, 35),
        ):
            images = torch.from_numpy(read_images(world, f'planet_{kind}') / 10000)
            found = torch.tensor([grain(image, low, high) for image in images])
            assert least < found.nanmedian() < most

    def test_edges(self, world: Path) -> None:
        """Edges are sharp: most of a step over 8 pixels is within 2 of them."""
        images = read_images(world, 'planet_cloudfree')[:, 1].astype(float)
        far = abs(images[..., 8:] - images[..., :-8])
        near = abs(images[..., 2:] - images[..., :-2])
        steepest = np.lib.stride_tricks.sliding_window_view(near, 7, axis=-1).max(-1)
        is_edge = far > np.quantile(far, 0.98)
        assert np.median((steepest / far.clip(1))[is_edge]) > 0.5

    def test_masks_are_coarse(self, world: Path) -> None:
        """Few pixels have a neighbor of the other class."""
        masks = read_images(world, 'cloudmask')[:, 0]
        changes = (masks[:, 1:] != masks[:, :-1]).mean()
        assert 0 < changes < 0.05

    def test_radar(self, world: Path) -> None:
        radar = read_images(world, 'S1')
        assert np.isfinite(radar).all()
        vv, vh = radar.mean(axis=(0, 2, 3))
        assert -16 < vv < -8
        assert vh < vv - 4
        # Speckle of about four looks
        assert 1.5 < np.diff(radar, axis=3).std() / np.sqrt(2) < 4

    def test_radar_tells_of_land(self, world: Path) -> None:
        """Water is dark and towns are bright, also below clouds."""
        radar = read_images(world, 'S1')[:, 0]
        cover = read_images(world, 'landcover')[:, 0]
        mean = {code: radar[cover == code].mean() for code in np.unique(cover)}
        assert len(mean) > 5
        assert mean[80] + 5 < mean[10] < mean[50]

    def test_land_cover(self, world: Path) -> None:
        codes = {10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 100}
        assert set(np.unique(read_images(world, 'landcover'))) <= codes


class TestRuns:
    def test_deterministic(self, small_world: Path, tmp_path: Path) -> None:
        """The seed decides what is made, and the number of threads does not."""
        suffixes = ('.tif', '.npy')
        expected = digest(small_world, suffixes)
        for seed, workers in ((0, 3), (1, 1)):
            root = tmp_path / f'seed-{seed}'
            simulate(root, 2, 1, seed, num_workers=workers)
            assert (digest(root, suffixes) == expected) == (seed == 0)

    def test_threads_are_given_back(
        self, small_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        threads = []

        def write_area(*_: object) -> int:
            threads.append(torch.get_num_threads())
            return 1

        monkeypatch.setattr(MODULE, '_write_area', write_area)
        before = torch.get_num_threads()
        torch.set_num_threads(2)
        try:
            simulate(shutil.copytree(small_world, tmp_path / 'world'), 2, 1)
            assert torch.get_num_threads() == 2
        finally:
            torch.set_num_threads(before)
        assert threads == [1, 1]

    def test_goes_on(self, world: Path, tmp_path: Path) -> None:
        """A second run makes what is missing, and nothing else."""
        root = Path(shutil.copytree(world, tmp_path / 'world'))
        lost = max(root.glob('*/planet_cloudy_*/*/*_p_2.tif'))
        kept = [path for path in root.rglob('*.tif') if path.stem[-4:] == '_p_1']
        stamps = [path.stat().st_mtime_ns for path in kept]
        lost.unlink()
        assert digest(root) != digest(world)
        simulate(root, 10, 2, seed=1)
        assert digest(root) == digest(world)
        assert [path.stat().st_mtime_ns for path in kept] == stamps

    def test_interrupt(
        self, small_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """After an interruption, whole patches stay, and the next run makes the others."""
        write_patch, written = MODULE.write_patch, []

        def write(*args: Any) -> None:
            if written:
                raise KeyboardInterrupt
            written.append(args)
            write_patch(*args)

        root = tmp_path / 'world'
        command = ['simulate', str(root), '--areas', '2', '--patches', '1']
        with monkeypatch.context() as patch:
            patch.setattr(MODULE, 'write_patch', write)
            with pytest.raises(SystemExit, match='planetcr simulate: interrupted'):
                main([*command, '--num_workers', '1'])
        assert len(list(root.glob('*/planet_cloudy_*/*/*.tif'))) == 1
        assert not unfinished(root)
        main(command)
        assert digest(root) == digest(small_world)

    @pytest.mark.slow
    @pytest.mark.skipif(os.name != 'posix', reason='sends a signal')
    def test_interrupted_process(self, tmp_path: Path) -> None:
        """After Ctrl+C, what is there can be read."""
        root = tmp_path / 'world'
        command = [PLANETCR, 'simulate', root, '--areas', '40', '--patches', '1']
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            while not list(root.glob('*/planet_cloudy_*/*/*.tif')):
                assert process.poll() is None
                time.sleep(0.02)
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate()
        assert process.returncode == 1
        assert errors.splitlines()[-1] == 'planetcr simulate: interrupted'
        made = sorted(root.glob('*/planet_cloudy_*/*/*.tif'))
        assert 0 < len(made) < 40
        assert not unfinished(root)
        for path in made:
            for kind in ('planet_cloudfree', 'S1', 'landcover'):
                with rasterio.open(str(path).replace('planet_cloudy', kind)) as dataset:
                    assert np.isfinite(dataset.read()).all(), path
        with pytest.raises(FileExistsError, match='holds another simulation'):
            simulate(root, 41, 1)

    def test_full_disk(self, tmp_path: Path) -> None:
        root = tmp_path / 'world'
        with pytest.raises(SystemExit) as error, full_disk(300_000):
            main(['simulate', str(root), '--areas', '2', '--patches', '1'])
        assert re.match(
            rf'planetcr simulate: {root}/\S+ cannot be written: ', str(error.value)
        )
        assert not list(root.rglob('*.tif'))
        assert not unfinished(root)


class TestRefusals:
    @pytest.mark.parametrize(
        ('arguments', 'message'),
        [
            ({'areas': 1}, 'areas=1 must be from 2 to 10000'),
            ({'areas': 10001}, 'areas=10001 must be from 2 to 10000'),
            ({'patches': 0}, 'patches=0 must be from 1 to 100'),
            ({'patches': 101}, 'patches=101 must be from 1 to 100'),
            ({'seed': -1}, 'seed=-1 must be from 0 to 4294967295'),
            ({'seed': 2**32}, 'seed=4294967296 must be from 0 to 4294967295'),
            ({'num_workers': -1}, 'num_workers=-1 must be from 1 to 1024'),
        ],
    )
    def test_range(
        self, tmp_path: Path, arguments: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(ValueError, match=message):
            simulate(tmp_path / 'world', **arguments)
        assert not (tmp_path / 'world').exists()

    def test_not_empty(self, small_world: Path, tmp_path: Path) -> None:
        notes = tmp_path / 'notes.txt'
        notes.write_text('mine')
        with pytest.raises(
            FileExistsError, match=re.escape(f'{tmp_path} is not empty')
        ):
            simulate(tmp_path, 2, 1)
        simulate(tmp_path, 2, 1, overwrite=True)
        assert notes.read_text() == 'mine'
        notes.unlink()
        assert digest(tmp_path) == digest(small_world)

    def test_another_world(
        self, world: Path, small_world: Path, tmp_path: Path
    ) -> None:
        root = shutil.copytree(world, tmp_path / 'world')
        with pytest.raises(FileExistsError, match=r'another simulation, see .*\.json'):
            simulate(root, 2, 1)
        assert digest(root) == digest(world)
        simulate(root, 2, 1, overwrite=True)
        assert digest(root) == digest(small_world)

    def test_real_data(self, own_root: Path) -> None:
        """Real and simulated patches are never mixed, and real ones never replaced."""
        before = digest(own_root)
        for overwrite in (False, True):
            with pytest.raises(FileExistsError, match='that were not simulated'):
                simulate(own_root, 2, 1, overwrite=overwrite)
        assert digest(own_root) == before


def test_command(
    small_world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = shutil.copytree(small_world, tmp_path / 'world')
    command = ['simulate', str(root), '--areas', '2', '--patches', '1', '--seed', '7']
    with pytest.raises(SystemExit) as error:
        main(command)
    assert str(error.value).startswith(f'planetcr simulate: {root} holds another')
    main([*command, '--overwrite'])
    assert capsys.readouterr().out == (
        f'{root}: 2 simulated patches of 2 areas in 2 UTM zones, 1 for training, 0 for '
        'validation and 1 for testing\n'
    )
    dataset = PlanetCR(root, 'test')
    (window,) = CenterNativePatchSampler(dataset, size=None)
    assert dataset[window]['image'].shape == (4, 300, 300)
