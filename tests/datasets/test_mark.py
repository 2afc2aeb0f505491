# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import multiprocessing
import os
import stat
from io import BytesIO
from pathlib import Path

import pandas as pd
import pytest
from systems import needs_linux, needs_posix

from torchgeo_planetcr.datasets.mark import SIZE, add_mark, has_mark, user_key

KEY, OTHER_KEY = bytes(range(SIZE)), bytes(SIZE)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's data folder, of each test its own."""
    monkeypatch.setenv('XDG_DATA_HOME', str(tmp_path / 'data'))
    return tmp_path / 'data' / 'torchgeo-planetcr'


@pytest.fixture(scope='module')
def content() -> bytes:
    """A Parquet file."""
    file = BytesIO()
    pd.DataFrame({'a': range(1000), 'b': ['text'] * 1000}).to_parquet(file)
    return file.getvalue()


class TestMark:
    def test_of_the_same(self, content: bytes) -> None:
        marked = add_mark(content, KEY, 1)
        assert has_mark(marked, KEY, 1)
        assert not has_mark(content, KEY, 1)
        assert not has_mark(marked, OTHER_KEY, 1)
        assert not has_mark(marked, KEY, 2)

    def test_readers_do_not_see_it(self, content: bytes) -> None:
        found = pd.read_parquet(BytesIO(add_mark(content, KEY, 1)))
        pd.testing.assert_frame_equal(found, pd.read_parquet(BytesIO(content)))

    def test_each_byte_counts(self, content: bytes) -> None:
        marked = add_mark(content, KEY, 1)
        for place in (
            *range(0, len(marked), 13),
            *range(len(marked) - 80, len(marked)),
        ):
            changed = bytearray(marked)
            changed[place] ^= 1
            assert not has_mark(bytes(changed), KEY, 1), place
        for length in range(0, len(marked), 101):
            assert not has_mark(marked[:length], KEY, 1)
        assert not has_mark(marked + b'more', KEY, 1)

    def test_moved_footer(self, content: bytes) -> None:
        """The mark says where the footer begins, too."""
        marked = add_mark(content, KEY, 1)
        length = int.from_bytes(marked[-8:-4], 'little')
        for change in (1, -1, SIZE, -SIZE, 10**6):
            moved = marked[:-8] + (length + change).to_bytes(4, 'little') + b'PAR1'
            assert not has_mark(moved, KEY, 1)


class TestKey:
    def test_stays(self, folder: Path) -> None:
        key = user_key()
        assert len(key) == SIZE
        assert user_key() == key
        (path,) = folder.iterdir()
        assert path.read_bytes() == key

    @needs_posix
    def test_private(self, folder: Path) -> None:
        user_key()
        (path,) = folder.iterdir()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    def test_of_each_user_another(
        self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        key = user_key()
        monkeypatch.setenv('XDG_DATA_HOME', str(tmp_path / 'other'))
        assert user_key() != key

    @pytest.mark.parametrize('content', [b'', b'short', bytes(SIZE + 1)])
    def test_damaged(self, folder: Path, content: bytes) -> None:
        folder.mkdir(parents=True)
        (folder / 'index.key').write_bytes(content)
        with pytest.raises(OSError, match=r'index\.key'):
            user_key()

    @needs_posix
    def test_pipe(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        os.mkfifo(folder / 'index.key')
        with pytest.raises(OSError, match=r'index\.key'):
            user_key()

    @needs_linux
    @pytest.mark.filterwarnings('ignore:.*use of fork:DeprecationWarning')
    def test_at_once(self, folder: Path) -> None:
        """Processes that start together have one key."""
        with multiprocessing.get_context('fork').Pool(4) as pool:
            keys = pool.starmap(user_key, [()] * 8, chunksize=1)
        assert len(set(keys)) == 1
        assert [path.name for path in folder.iterdir()] == ['index.key']
