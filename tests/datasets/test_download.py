# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import hashlib
import os
from pathlib import Path

import pytest

from torchgeo_planetcr.datasets import PlanetCR, download, download_sample


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob('*')
        if path.is_file()
    }


def times(folder: Path) -> dict[Path, int]:
    return {
        path: path.stat().st_mtime_ns for path in folder.rglob('*') if path.is_file()
    }


@pytest.fixture
def server(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for the authors' repository."""
    server = tmp_path / 'server'
    checksums = {}
    for path in sorted((root / 'test').rglob('*_summer_33_p_1.*')):
        name = path.relative_to(root).as_posix()
        target = server / name
        target.parent.mkdir(parents=True)
        target.write_bytes(path.read_bytes())
        checksums[name] = sha256(path)
    assert len(checksums) == 5
    monkeypatch.setattr(download, 'SAMPLE_URL', f'{server.as_uri()}/')
    monkeypatch.setattr(download, 'SAMPLE_FILES', checksums)
    return server


def test_checksums(sample_root: Path) -> None:
    found = {
        path.relative_to(sample_root).as_posix(): sha256(path)
        for path in sample_root.rglob('*')
        if path.is_file() and path.name != 'planetcr_index.parquet'
    }
    assert dict(download.SAMPLE_FILES) == found


def test_address() -> None:
    """Of one commit, so that nobody can change what is fetched."""
    assert download.SAMPLE_URL.startswith('https://raw.githubusercontent.com/zhu-xlab/')
    assert '/52d05bdd0ccfbeb6c1d8c39ca748c8731f16eeb2/' in download.SAMPLE_URL
    assert download.SAMPLE_URL.endswith('/Planet-CR/')


@pytest.mark.parametrize('as_text', [True, False])
def test_download(server: Path, tmp_path: Path, as_text: bool) -> None:
    target = tmp_path / 'new' / 'folder'
    download_sample(str(target) if as_text else target)
    assert files(target) == files(server)
    assert len(PlanetCR(target, 'test', strict=True)) == 1


def test_idempotent(server: Path, tmp_path: Path) -> None:
    target = tmp_path / 'target'
    download_sample(target)
    before = times(target)
    download_sample(target)
    assert times(target) == before


def test_needs_no_network_twice(
    server: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / 'target'
    download_sample(target)
    monkeypatch.setattr(download, 'SAMPLE_URL', (tmp_path / 'gone').as_uri() + '/')
    download_sample(target)
    assert files(target) == files(server)


@pytest.mark.parametrize('damage', ['removed', 'cut', 'changed', 'left over'])
def test_resumes(server: Path, tmp_path: Path, damage: str) -> None:
    target = tmp_path / 'target'
    download_sample(target)
    before = times(target)
    path = target / list(download.SAMPLE_FILES)[2]
    content = path.read_bytes()
    if damage == 'removed':
        path.unlink()
    elif damage == 'left over':
        path.rename(f'{path}.tmp')
    else:
        path.write_bytes(content[:-9] if damage == 'cut' else b'\0' + content[1:])
        os.utime(path, (0, 0))
    download_sample(target)
    assert files(target) == files(server)
    after = times(target)
    changed = {file for file in after if before.get(file) != after[file]}
    assert changed == {path}


def test_keeps_other_files(server: Path, tmp_path: Path) -> None:
    target = tmp_path / 'target'
    target.mkdir()
    (target / 'mine.txt').write_text('mine')
    download_sample(target)
    assert (target / 'mine.txt').read_text() == 'mine'


def test_wrong_checksum(server: Path, tmp_path: Path) -> None:
    """What was fetched is not what it should be, and must not be taken for it."""
    name = list(download.SAMPLE_FILES)[1]
    (server / name).write_bytes(b'something else')
    target = tmp_path / 'target'
    with pytest.raises(RuntimeError, match=Path(name).name):
        download_sample(target)
    assert not (target / name).exists()
    assert all(path.suffix != '.tmp' for path in target.rglob('*'))


def test_wrong_checksum_keeps_what_was_there(server: Path, tmp_path: Path) -> None:
    """The next run mends it."""
    name = list(download.SAMPLE_FILES)[1]
    good = (server / name).read_bytes()
    (server / name).write_bytes(b'something else')
    target = tmp_path / 'target'
    with pytest.raises(RuntimeError, match=Path(name).name):
        download_sample(target)
    (server / name).write_bytes(good)
    download_sample(target)
    assert files(target) == files(server)


def test_no_connection(server: Path, tmp_path: Path) -> None:
    name = list(download.SAMPLE_FILES)[3]
    (server / name).unlink()
    target = tmp_path / 'target'
    with pytest.raises(RuntimeError, match=rf'{Path(name).name} cannot be fetched'):
        download_sample(target)
    # What came before stays, nothing of the rest does.
    assert set(files(target)) == set(list(download.SAMPLE_FILES)[:3])


def test_root_is_a_file(server: Path, tmp_path: Path) -> None:
    target = tmp_path / 'target'
    target.write_text('a file')
    with pytest.raises(RuntimeError, match='target'):
        download_sample(target)
    assert target.read_text() == 'a file'
