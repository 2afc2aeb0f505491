# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import os
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from systems import needs_posix
from torch import Tensor, nn

from torchgeo_planetcr.checkpoint import (
    check_values,
    describe_misfit,
    lightning_content,
    no_larger_than,
    read_checkpoint,
    show,
)
from torchgeo_planetcr.models import DSen2CR

CHECKPOINT = {'network': {'weight': torch.arange(1000.0)}, 'epoch': 3}


class MakeDirectory:
    """Creates a directory when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / 'model.pth'


def test_round_trip(path: Path) -> None:
    torch.save(CHECKPOINT, path)
    for name in (path, str(path)):
        content = read_checkpoint(name)
        assert content.keys() == CHECKPOINT.keys()
        assert content['epoch'] == 3
        assert torch.equal(content['network']['weight'], torch.arange(1000.0))


def test_not_a_file(tmp_path: Path) -> None:
    for path in (tmp_path / 'missing.pth', tmp_path):
        with pytest.raises(ValueError, match=f"'{path}' does not exist or is not"):
            read_checkpoint(path)


@pytest.mark.parametrize('share', [0, 0.01, 0.5, 0.99, 0.999])
def test_truncated(path: Path, share: float) -> None:
    torch.save(CHECKPOINT, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=f"'{path}' cannot be read .* truncated"):
        read_checkpoint(path)


@pytest.mark.parametrize('content', [b'not a checkpoint\n', b'\x80\x02}.', b'II*'])
def test_not_a_checkpoint(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"'{path}' cannot be read"):
        read_checkpoint(path)


def test_pickled_code(path: Path, tmp_path: Path) -> None:
    evidence = tmp_path / 'executed'
    torch.save(CHECKPOINT | {'code': MakeDirectory(evidence)}, path)
    with pytest.raises(ValueError, match='code is not executed'):
        read_checkpoint(path)
    assert not evidence.exists()

    # The file is as harmful as it is meant to be
    torch.load(path, weights_only=False)
    assert evidence.exists()


def test_plain_pickle(path: Path, tmp_path: Path) -> None:
    evidence = tmp_path / 'executed'
    path.write_bytes(pickle.dumps({'network': MakeDirectory(evidence)}, protocol=2))
    with pytest.raises(ValueError, match=f"'{path}' cannot be read"):
        read_checkpoint(path)
    assert not evidence.exists()


def test_flipped_bits(path: Path) -> None:
    """One of each part of the archive."""
    torch.save(CHECKPOINT, path)
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        parts = [(part, archive.read(part)) for part in archive.infolist()]
    for part, content in parts:
        damaged = bytearray(whole)
        first = whole.index(content, part.header_offset)
        damaged[first + part.file_size // 2] ^= 4
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=f"'{path}' cannot be read .*checksum"):
            read_checkpoint(path)
        path.write_bytes(whole)
    assert torch.equal(read_checkpoint(path)['network']['weight'], torch.arange(1000.0))


def test_without_checksums(path: Path) -> None:
    """A file of PyTorch before 1.6."""
    torch.save(CHECKPOINT, path, _use_new_zipfile_serialization=False)
    assert torch.equal(read_checkpoint(path)['network']['weight'], torch.arange(1000.0))


def test_bomb(path: Path, tmp_path: Path) -> None:
    """Some kilobytes that become 100 MB."""
    torch.save({'network': {'weight': torch.zeros(25_000_000)}}, path)
    bomb = tmp_path / 'bomb.pth'
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(bomb, 'w', 8) as other:
        for part in archive.infolist():
            other.writestr(part.filename, archive.read(part))
    assert bomb.stat().st_size < 200_000
    with pytest.raises(ValueError, match=f"'{bomb}' cannot be read .* compressed"):
        read_checkpoint(bomb)


@needs_posix
def test_not_a_regular_file(path: Path, tmp_path: Path) -> None:
    os.mkfifo(path)
    device = tmp_path / 'zero.pth'
    device.symlink_to('/dev/zero')
    for name in (path, device):
        with pytest.raises(
            ValueError, match=f"'{name}' does not exist or is not a file"
        ):
            read_checkpoint(name)


@pytest.mark.parametrize(
    'content',
    [
        {'state_dict': None},
        {'state_dict': {}, 'hyper_parameters': 5},
        {'state_dict': {}, 'pytorch-lightning_version': 5.0j},
        {'hyper_parameters': {}},
        [1, 2],
        None,
    ],
)
def test_lightning_content(content: object) -> None:
    with pytest.raises(ValueError, match="'a.ckpt' is not a checkpoint of Lightning"):
        lightning_content('a.ckpt', content)
    assert lightning_content('a', {'state_dict': {}})['hyper_parameters'] == {}


def test_misfit() -> None:
    expected = {'a': torch.zeros(2), 'b': torch.zeros(3), 'c': torch.tensor(0)}
    assert describe_misfit(expected, expected) == ''
    assert describe_misfit(expected, {'a': torch.ones(2).double(), 'c': 1}) == (
        '1 missing (b); 1 without plain values (c)'
    )
    for weight, problem in (
        (torch.zeros(2, dtype=torch.int8), 'another type (a torch.int8'),
        (torch.zeros(2, dtype=torch.complex64), 'another type (a torch.complex64'),
        (torch.zeros(1, 2), 'another shape (a (1, 2) instead of (2,))'),
        (torch.zeros(2).to_sparse(), 'without plain values (a)'),
        (torch.zeros(2, device='meta'), 'without plain values (a)'),
        ([0.0, 0.0], 'without plain values (a)'),
    ):
        assert problem in describe_misfit(expected, expected | {'a': weight})
    misfit = describe_misfit({}, {'\x1b[31m': torch.zeros(1)})
    assert '1 surplus' in misfit
    assert '\x1b' not in misfit


@pytest.mark.parametrize('value', [torch.nan, torch.inf, -torch.inf])
def test_not_finite(value: float) -> None:
    weights = {'a': torch.zeros(2), 'b': torch.tensor([0, value]), 'c': torch.tensor(1)}
    with pytest.raises(ValueError, match=r"'x\.ckpt' has .* 1 of its 3 .* b: "):
        check_values(weights, 'x.ckpt')
    check_values({'c': torch.tensor(1)}, 'x.ckpt')


class TestNoLargerThan:
    def _weights(self, features: int, num_blocks: int) -> dict[str, Tensor]:
        return DSen2CR(features=features, num_blocks=num_blocks).state_dict()

    def test_of_its_size(self) -> None:
        weights = self._weights(features=64, num_blocks=40)
        with no_larger_than(weights):
            DSen2CR(features=64, num_blocks=40)

    @pytest.mark.parametrize(
        ('features', 'num_blocks'), [(4, 3_000_000), (60_000, 1), (4000, 1)]
    )
    def test_larger(self, features: int, num_blocks: int) -> None:
        weights = self._weights(features=4, num_blocks=1)
        # A view of one number is as large as one wants
        weights['view'] = torch.zeros(1).expand(60_000, 60_000)
        # Or there is not so much memory
        error = pytest.raises((ValueError, RuntimeError), match='larger|memory')
        with error, no_larger_than(weights):
            DSen2CR(features=features, num_blocks=num_blocks)
        # It is over
        nn.Linear(4000, 4000)


def test_show() -> None:
    assert show('layer.weight') == 'layer.weight'
    assert show('\x1b[2J\n') == repr('\x1b[2J\n')
    assert re.fullmatch(r'x{100}\.\.\.', show('x' * 1000))
    assert len(show({'a': 'b' * 10_000})) < 110
