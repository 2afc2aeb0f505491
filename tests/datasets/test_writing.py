# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import math
import re
from pathlib import Path

import pytest

from torchgeo_planetcr.datasets import writing
from torchgeo_planetcr.datasets.writing import unwritten, write_text


class TestUnwritten:
    def test_message(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(writing, 'LITTLE', 0)
        error = unwritten(tmp_path / 'no' / 'folder' / 'a.tif', OSError('5 of 9'))
        assert str(error) == f'{tmp_path}/no/folder/a.tif cannot be written: 5 of 9'

    def test_little_space(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """However much there is."""
        monkeypatch.setattr(writing, 'LITTLE', math.inf)
        pattern = r'a\.tif cannot be written, with \d+\.\d MB left on its disk: 5 of 9'
        assert re.fullmatch(pattern, str(unwritten('a.tif', OSError('5 of 9'))))


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
