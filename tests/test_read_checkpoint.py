# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from torchgeo_planetcr.checkpoint import read_checkpoint

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
