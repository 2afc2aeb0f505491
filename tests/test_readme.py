# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import re
from pathlib import Path
from typing import Any

import pytest

README = Path(__file__).parents[1] / 'README.md'


def test_python(
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The examples run as printed, one after the other."""
    (tmp_path / 'data').symlink_to(root)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    blocks = re.findall(r'```python\n(.*?)```', README.read_text(), re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(block, names)  # noqa: S102
    assert 'torch.Size([2, 4, 160, 160])' in capsys.readouterr().out
    assert names['zone'].crs.to_epsg() == 32646


def test_files() -> None:
    """What the README links to, and the configurations that it names, are there."""
    text = README.read_text()
    paths = re.findall(r'\]\(([\w/.]+)\)', text) + re.findall(
        r'--config (\S+\.yaml)', text
    )
    assert len(paths) > 5
    for path in paths:
        assert (README.parent / path).is_file(), path
