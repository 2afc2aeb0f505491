# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import math
import re
from pathlib import Path

import pytest

from torchgeo_planetcr.raster import write as writing
from torchgeo_planetcr.raster.write import cannot_write, write_text


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
