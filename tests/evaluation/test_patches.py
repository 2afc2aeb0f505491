# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from rasterio.transform import Affine
from torch.utils.data import DataLoader

from torchgeo_planetcr import PlanetCR
from torchgeo_planetcr.evaluation import EvaluationPatches, fingerprint
from torchgeo_planetcr.samplers import CenterNativePatchSampler


@pytest.fixture(scope='module')
def dataset(root: Path) -> PlanetCR:
    return PlanetCR(root, 'train')


@pytest.mark.parametrize('size', [None, 160, 33])
def test_windows(dataset: PlanetCR, size: int | None) -> None:
    """All patches in the order of the index, in several CRSs."""
    patches = EvaluationPatches(dataset, size)
    assert len(patches) == len(dataset) == 12
    assert patches.names == dataset.index['patch'].tolist()
    assert patches.table['crs'].nunique() == 5
    assert list(patches.table.columns) == ['patch', 'aoi', 'season', 'crs']
    windows = list(CenterNativePatchSampler(dataset, size=size))
    for number in (0, 5, 11):
        sample = patches[number]
        expected = dataset[windows[number]]
        assert sample.pop('patch') == number
        assert sample.keys() == expected.keys()
        for key, value in expected.items():
            assert torch.equal(sample[key], value)
        season, _, rest = patches.names[number].partition('_')
        row = patches.table.loc[number]
        assert row['season'] == season
        assert row['aoi'] == f'{season}_{rest.split("_p_")[0]}'

        window, patch = patches.window_grid(number), patches.patch_grid(number)
        assert (patch.height, patch.width) == (300, 300)
        assert (window.height, window.width) == sample['image'].shape[-2:]
        assert window.crs == patch.crs == row['crs'] == f'EPSG:{int(sample["crs"])}'
        assert window.transform == Affine(*sample['transform'][:6].tolist())
        margin = (300 - (size or 300)) // 2
        assert patch.offset(window) == (margin, margin)


def test_batches(dataset: PlanetCR) -> None:
    patches = EvaluationPatches(dataset, 16)
    batches = list(DataLoader(patches, batch_size=5))
    assert torch.cat([batch['patch'] for batch in batches]).tolist() == list(range(12))


def test_size_beyond_a_patch(dataset: PlanetCR) -> None:
    with pytest.raises(ValueError, match='size=301 is larger than 12 patch'):
        EvaluationPatches(dataset, 301)


def test_fingerprint(tmp_path: Path) -> None:
    """What sha256sum prints, of all files ordered by name."""
    files = {}
    for name in ('b/x.tif', 'a.npy', 'b/b.tif', 'B.tif'):
        path = tmp_path / 'one' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode() * 1000)
        files[name] = path
    lines = ''
    for name in sorted(files):
        lines += f'{hashlib.sha256(files[name].read_bytes()).hexdigest()}  {name}\n'
    expected = hashlib.sha256(lines.encode()).hexdigest()
    assert fingerprint(files) == expected
    if program := shutil.which('sha256sum'):
        printed = subprocess.run(
            [program, *sorted(files)],
            check=True,
            capture_output=True,
            cwd=tmp_path / 'one',
        )
        assert hashlib.sha256(printed.stdout).hexdigest() == expected

    # It depends neither on the order nor on the place
    shutil.copytree(tmp_path / 'one', tmp_path / 'two')
    moved = {name: tmp_path / 'two' / name for name in reversed(files)}
    assert fingerprint(moved) == expected
    # But on each byte and name
    moved['a.npy'].write_bytes(b'b' + files['a.npy'].read_bytes()[1:])
    assert fingerprint(moved) != expected
    renamed = {name.replace('a.npy', 'c.npy'): path for name, path in files.items()}
    assert fingerprint(renamed) != expected
    assert fingerprint({k: v for k, v in files.items() if k != 'a.npy'}) != expected
