# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import shutil
from pathlib import Path

import pytest
import torch
from systems import full_disk

from torchgeo_planetcr.inference.checkpoint_io import WholeCheckpointIO
from torchgeo_planetcr.raster.write import MACHINE, UNFINISHED

CHECKPOINT = {'state_dict': {'weight': torch.arange(1000.0)}, 'epoch': 3}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A checkpoint, in a folder of its own."""
    path = tmp_path / 'kept' / 'last.ckpt'
    WholeCheckpointIO().save_checkpoint(CHECKPOINT, path)
    return path


def test_round_trip(path: Path) -> None:
    content = WholeCheckpointIO().load_checkpoint(path)
    assert content['epoch'] == 3
    assert torch.equal(content['state_dict']['weight'], torch.arange(1000.0))
    assert [name.name for name in path.parent.iterdir()] == ['last.ckpt']


def test_leftover(path: Path) -> None:
    """What a killed training has left beside its last checkpoint."""
    # Each process removes them once from a folder
    other = Path(shutil.copytree(path.parent, path.parent / 'other'))
    left = other / f'{UNFINISHED}{MACHINE}-abc'
    left.mkdir()
    WholeCheckpointIO().load_checkpoint(other / 'last.ckpt')
    assert not left.exists()


def test_damaged(path: Path) -> None:
    """Whatever Lightning is told of what may be read."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"'{path}' cannot be read"):
        WholeCheckpointIO().load_checkpoint(path, weights_only=False)


def test_remove(path: Path, tmp_path: Path) -> None:
    """What a checkpoint says of others must not lead to files elsewhere."""
    thesis = tmp_path / 'thesis.tex'
    thesis.write_text('years of work')
    WholeCheckpointIO().remove_checkpoint(path.parent / '..' / 'thesis.tex')
    assert thesis.exists()
    WholeCheckpointIO().remove_checkpoint(path)
    assert not path.exists()


def test_replaced_when_whole(tmp_path: Path) -> None:
    path = tmp_path / 'folder' / 'a.ckpt'
    saver = WholeCheckpointIO()
    saver.save_checkpoint({'a': torch.zeros(9)}, path)
    with full_disk(10_000), pytest.raises(OSError, match=r'a\.ckpt.*too large'):
        saver.save_checkpoint({'a': torch.zeros(90_000)}, path)
    assert [file.name for file in path.parent.iterdir()] == ['a.ckpt']
    assert torch.load(path, weights_only=True)['a'].shape == (9,)
    saver.save_checkpoint({'a': torch.zeros(90_000)}, path)
    assert torch.load(path, weights_only=True)['a'].shape == (90_000,)


def test_what_cannot_be_saved(tmp_path: Path) -> None:
    with pytest.raises((AttributeError, TypeError), match='lambda|local'):
        WholeCheckpointIO().save_checkpoint({'a': lambda: 0}, tmp_path / 'a.ckpt')
    assert not list(tmp_path.iterdir())


def test_addresses() -> None:
    path = 'memory://planetcr/a.ckpt'
    saver = WholeCheckpointIO()
    saver.save_checkpoint({'a': 1}, path)
    assert saver.load_checkpoint(path, weights_only=True) == {'a': 1}
