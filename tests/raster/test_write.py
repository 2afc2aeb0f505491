# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import contextlib
import errno
import math
import multiprocessing
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
from rasterio.enums import Interleaving
from rasterio.errors import RasterioIOError

from torchgeo_planetcr.raster import write as writing
from torchgeo_planetcr.raster.grid import Grid
from torchgeo_planetcr.raster.read import UnreadableError
from torchgeo_planetcr.raster.write import (
    UNFINISHED,
    appears_whole,
    cannot_write,
    check_absent,
    exists_error,
    unfinished_folder,
    write_csv,
    write_geotiff,
    write_text,
)


class TestAppearsWhole:
    def test_all_at_the_end(self, tmp_path: Path) -> None:
        """In the order in which they are named."""
        paths = [tmp_path / 'new' / 'b.txt', tmp_path / 'a.txt']
        with appears_whole(*paths) as unfinished:
            for path in unfinished:
                Path(path).write_text(path)
            assert [os.path.basename(path) for path in unfinished] == ['b.txt', 'a.txt']
            assert not any(path.exists() for path in paths)
            (hidden,) = (tmp_path / 'new').iterdir()
            assert hidden.name.startswith('.unfinished-')
        assert [path.read_text() for path in paths] == unfinished
        assert paths[0].stat().st_mtime_ns <= paths[1].stat().st_mtime_ns
        assert {path.name for path in tmp_path.iterdir()} == {'new', 'a.txt'}
        assert {path.name for path in (tmp_path / 'new').iterdir()} == {'b.txt'}

    @pytest.mark.parametrize('error', [RuntimeError, KeyboardInterrupt])
    def test_none_after_an_error(
        self, tmp_path: Path, error: type[BaseException]
    ) -> None:
        """What was there before stays as it was."""
        paths = [tmp_path / 'a.txt', tmp_path / 'b.txt']
        paths[0].write_text('before')
        with pytest.raises(error), appears_whole(*paths) as unfinished:
            for path in unfinished:
                Path(path).write_text('after')
            raise error
        assert paths[0].read_text() == 'before'
        assert {path.name for path in tmp_path.iterdir()} == {'a.txt'}

    def test_folder(self, tmp_path: Path) -> None:
        """What is not finished lies where nobody looks for files."""
        path = tmp_path / 'train' / 'a.txt'
        with appears_whole(path, folder=tmp_path) as (unfinished,):
            Path(unfinished).write_text('text')
            assert Path(unfinished).parents[1] == tmp_path
            assert not path.parent.exists()
        assert path.read_text() == 'text'

    def test_replaces(self, tmp_path: Path) -> None:
        (tmp_path / 'a.txt').write_text('before')
        with appears_whole(tmp_path / 'a.txt') as (unfinished,):
            Path(unfinished).write_text('after')
        assert (tmp_path / 'a.txt').read_text() == 'after'

    def test_two_at_once(self, tmp_path: Path) -> None:
        """Two that write the same file do not disturb each other."""
        path = tmp_path / 'a.txt'
        with appears_whole(path) as (first,), appears_whole(path) as (second,):
            assert first != second
            Path(first).write_text('first')
            Path(second).write_text('second')
        assert path.read_text() == 'first'

    def test_no_folder(self, tmp_path: Path) -> None:
        (tmp_path / 'a').write_text('a file')
        with (
            pytest.raises(OSError, match=r'a/b\.txt cannot be written'),
            appears_whole(tmp_path / 'a' / 'b.txt'),
        ):
            pass

    @pytest.mark.parametrize(
        'error',
        [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), RasterioIOError('no space')],
    )
    def test_names_the_file(self, tmp_path: Path, error: Exception) -> None:
        """Whatever a library says, the error tells which file cannot be written."""
        path = tmp_path / 'a.txt'
        with (
            pytest.raises(
                OSError, match=rf'{path} cannot be written.*{re.escape(str(error))}'
            ),
            appears_whole(path) as (unfinished,),
        ):
            Path(unfinished).write_text('half')
            raise error
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        'error', [UnreadableError('b.tif'), cannot_write('b.tif', OSError('full'))]
    )
    def test_keeps_other_names(self, tmp_path: Path, error: OSError) -> None:
        """Of a file that is read, or of one of several that are written."""
        with pytest.raises(type(error)) as caught, appears_whole(tmp_path / 'a.txt'):
            raise error
        assert caught.value is error


@contextlib.contextmanager
def writer(folder: Path) -> Iterator[tuple[int, Path]]:
    """A process that writes to a folder, and what it has not finished."""
    context = multiprocessing.get_context('fork')
    ready = context.Event()

    def write() -> None:
        with unfinished_folder(folder) as unfinished:
            Path(unfinished, 'raw.tif').write_text('half')
            ready.set()
            signal.pause()

    process = context.Process(target=write)
    process.start()
    assert process.pid is not None
    try:
        assert ready.wait(30)
        (unfinished,) = folder.glob(f'{UNFINISHED}*')
        yield process.pid, unfinished
    finally:
        process.kill()
        process.join()


@pytest.mark.skipif(writing.fcntl is None, reason='there are no locks on Windows')
class TestLeftovers:
    @pytest.fixture(autouse=True)
    def new_process(self) -> None:
        """A process looks for them once."""
        writing._remove_leftovers.cache_clear()

    def test_of_a_killed_process(self, tmp_path: Path) -> None:
        """They go when the next process writes there."""
        with writer(tmp_path) as (process, left):
            os.kill(process, signal.SIGKILL)
        assert (left / 'raw.tif').exists()
        write_text(tmp_path / 'a.txt', 'text')
        assert {path.name for path in tmp_path.iterdir()} == {'a.txt'}

    def test_of_a_living_process(self, tmp_path: Path) -> None:
        """What it has not finished stays."""
        with writer(tmp_path) as (_, unfinished):
            write_text(tmp_path / 'a.txt', 'text')
            assert (unfinished / 'raw.tif').exists()

    def test_of_others(self, tmp_path: Path) -> None:
        """Whoever cannot know whether a process lives leaves its folder alone."""
        other = tmp_path / f'{UNFINISHED}other-machine-abc'
        precious = tmp_path / 'precious'
        other.mkdir()
        precious.mkdir()
        link = tmp_path / f'{UNFINISHED}{writing.MACHINE}-link'
        link.symlink_to(precious)
        file = tmp_path / f'{UNFINISHED}{writing.MACHINE}-file'
        file.touch()
        before = set(tmp_path.iterdir())
        write_text(tmp_path / 'a.txt', 'text')
        assert set(tmp_path.iterdir()) == {*before, tmp_path / 'a.txt'}

    def test_no_locks(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """As on Windows: files are written all the same, and leftovers stay."""
        monkeypatch.setattr(writing, 'fcntl', None)
        left = tmp_path / f'{UNFINISHED}{writing.MACHINE}-abc'
        left.mkdir()
        write_text(tmp_path / 'a.txt', 'text')
        assert {path.name for path in tmp_path.iterdir()} == {left.name, 'a.txt'}

    def test_forked_process(self, tmp_path: Path) -> None:
        """One that lives on, with the same files open, keeps no lock."""
        with unfinished_folder(tmp_path) as unfinished:
            context = multiprocessing.get_context('fork')
            process = context.Process(target=signal.pause)
            process.start()
        try:
            assert not os.path.exists(unfinished)
            os.mkdir(unfinished)
            write_text(tmp_path / 'a.txt', 'text')
        finally:
            process.kill()
            process.join()


class TestWriteCSV:
    @pytest.mark.parametrize('start', '=+-@\t\r\n')
    def test_no_formulas(self, tmp_path: Path, start: str) -> None:
        """Neither in cells nor in names of columns; numbers stay numbers."""
        text = f'{start}HYPERLINK("http://x","y")'
        rows = pd.DataFrame({'method': [text, 'a=b'], text: [-1.5, 2.0], 'n': [-1, 2]})
        write_csv(tmp_path / 'a.csv', rows)
        found = pd.read_csv(
            tmp_path / 'a.csv', lineterminator='\n' if start == '\r' else None
        )
        assert list(found.columns) == ['method', f"'{text}", 'n']
        assert found['method'].tolist() == [f"'{text}", 'a=b']
        assert found[f"'{text}"].tolist() == [-1.5, 2.0]
        assert found['n'].tolist() == [-1, 2]
        # What was given is not changed
        assert rows['method'][0] == text


class TestCheckAbsent:
    def test_existing(self, tmp_path: Path) -> None:
        path = tmp_path / 'a.txt'
        check_absent(path, overwrite=False)
        path.touch()
        check_absent(path, overwrite=True)
        with pytest.raises(FileExistsError, match=f'{path} exists: .* --overwrite'):
            check_absent(path, overwrite=False)

    def test_link_that_leads_nowhere(self, tmp_path: Path) -> None:
        """It would be replaced, too."""
        (tmp_path / 'link').symlink_to(tmp_path / 'nowhere')
        with pytest.raises(FileExistsError):
            check_absent(tmp_path / 'link', overwrite=False)

    def test_other_reason(self) -> None:
        assert re.match('x holds y: .*overwrite=True', str(exists_error('x holds y')))


class TestWriteGeotiff:
    GRID = Grid('EPSG:32646', 500001, 2000004, 3, 3, 20, 30)

    def test_plain(self, tmp_path: Path) -> None:
        array = np.arange(2 * 20 * 30, dtype=np.uint16).reshape(2, 20, 30)
        path = tmp_path / 'a.tif'
        write_geotiff(path, array, self.GRID, 7, 'what it is', ('VV', 'VH'))
        with rasterio.open(path) as dataset:
            assert (dataset.read() == array).all()
            assert dataset.transform == self.GRID.transform
            assert dataset.crs == 'EPSG:32646'
            assert dataset.nodata == 7
            assert dataset.descriptions == ('VV', 'VH')
            assert dataset.tags()['TIFFTAG_IMAGEDESCRIPTION'] == 'what it is'
            assert dataset.compression is None
            assert dataset.interleaving is Interleaving.pixel

    def test_no_folder(self, tmp_path: Path) -> None:
        """An error of rasterio's own kind is an OSError."""
        with pytest.raises(OSError, match=r'a\.tif'):
            write_geotiff(tmp_path / 'no' / 'a.tif', np.ones((1, 20, 30)), self.GRID)


class TestCannotWrite:
    def test_message(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(writing, 'SCARCE_SPACE', 0)
        error = cannot_write(tmp_path / 'no' / 'folder' / 'a.tif', OSError('5 of 9'))
        assert str(error) == f'{tmp_path}/no/folder/a.tif cannot be written: 5 of 9'

    def test_little_space(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """However much there is."""
        monkeypatch.setattr(writing, 'SCARCE_SPACE', math.inf)
        pattern = r'a\.tif cannot be written, with \d+\.\d MB left on its disk: 5 of 9'
        assert re.fullmatch(pattern, str(cannot_write('a.tif', OSError('5 of 9'))))


class TestWriteText:
    def test_whole(self, tmp_path: Path) -> None:
        write_text(tmp_path / 'a.txt', 'rivière\n')
        assert (tmp_path / 'a.txt').read_bytes() == 'rivière\n'.encode()
        assert len(list(tmp_path.iterdir())) == 1

    def test_not_at_all(self, tmp_path: Path) -> None:
        path = tmp_path / 'a.txt'
        path.mkdir()
        with pytest.raises(OSError, match=r'a\.txt cannot be written: '):
            write_text(path, 'text')
        assert list(tmp_path.iterdir()) == [path]
