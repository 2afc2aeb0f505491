# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import math
import os
import re
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.enums import Interleaving

from torchgeo_planetcr.raster import write as writing
from torchgeo_planetcr.raster.grid import Grid
from torchgeo_planetcr.raster.write import (
    appears_whole,
    cannot_write,
    check_absent,
    exists_error,
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
