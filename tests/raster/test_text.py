# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from torchgeo_planetcr.raster import text as texts
from torchgeo_planetcr.raster.text import read_json, read_text


class TestReadText:
    @pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig'])
    def test_content(self, tmp_path: Path, encoding: str) -> None:
        (tmp_path / 'a.txt').write_text('ä\n', encoding)
        assert read_text(tmp_path / 'a.txt') == 'ä\n'

    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match=r'a\.txt'):
            read_text(tmp_path / 'a.txt')

    @pytest.mark.parametrize(
        'damage',
        [
            os.mkfifo,
            os.mkdir,
            lambda path: path.symlink_to('/dev/zero'),
            lambda path: path.symlink_to(path),
            lambda path: path.write_bytes(b'a\0b'),
            lambda path: path.write_text('ä', encoding='utf-16'),
            lambda path: path.write_text('ä', encoding='latin-1'),
        ],
        ids=['pipe', 'folder', 'device', 'loop', 'NUL', 'UTF-16', 'Latin-1'],
    )
    def test_no_text(self, tmp_path: Path, damage: Callable[[Path], object]) -> None:
        path = tmp_path / 'a.txt'
        damage(path)
        with pytest.raises(OSError, match=re.escape(str(path))):
            read_text(path)

    def test_large(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(texts, 'MAX_SIZE', 5)
        (tmp_path / 'a.txt').write_text('12345')
        assert read_text(tmp_path / 'a.txt') == '12345'
        (tmp_path / 'a.txt').write_text('123456')
        with pytest.raises(OSError, match=r'a\.txt'):
            read_text(tmp_path / 'a.txt')


class TestReadJSON:
    def test_content(self, tmp_path: Path) -> None:
        (tmp_path / 'a.json').write_text('{"a": [1, null]}')
        assert read_json(tmp_path / 'a.json') == {'a': [1, None]}

    @pytest.mark.parametrize(
        'text', ['', '{"a": ', '[' * 100_000, '9' * 10_000, '{}{}']
    )
    def test_damaged(self, tmp_path: Path, text: str) -> None:
        (tmp_path / 'a.json').write_text(text)
        with pytest.raises(OSError, match=r'a\.json is damaged'):
            read_json(tmp_path / 'a.json')
