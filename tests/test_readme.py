# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin
from rasters import write

from torchgeo_planetcr.models import copy

ROOT = Path(__file__).parents[1]
README = ROOT / 'README.md'
DOCS = ROOT / 'docs'


def test_python(
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The examples run as printed, one after the other."""
    (tmp_path / 'data').symlink_to(root)
    write(
        tmp_path / 'scene.tif',
        np.ones((4, 1000, 1000), np.uint16),
        crs='EPSG:32633',
        transform=from_origin(499998, 5400000, 3, 3),
    )
    # The same place in the next zone.
    write(
        tmp_path / 'sentinel1.tif',
        np.ones((2, 1500, 1500), np.float32),
        crs='EPSG:32632',
        transform=from_origin(936000, 5422000, 10, 10),
    )
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    blocks = re.findall(r'```python\n(.*?)```', README.read_text(), re.DOTALL)
    assert len(blocks) == 4
    for block in blocks:
        exec(block, names)  # noqa: S102
    assert 'torch.Size([2, 4, 160, 160])' in capsys.readouterr().out
    assert names['zone'].crs.to_epsg() == 32646
    assert names['restored'].shape == (1, 4, 100, 150)
    assert names['sample']['crs'] == 32633
    assert names['sample']['image'].shape == (4, 512, 512)
    assert (names['sample']['image_planetcrsentinel1'] == 1).all()


def test_evaluation(
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The example of the page on evaluation runs as printed."""
    (tmp_path / 'data').symlink_to(root)
    monkeypatch.chdir(tmp_path)
    text = (DOCS / 'evaluation.md').read_text()
    (block,) = re.findall(r'```python\n(.*?)```', text, re.DOTALL)
    exec(block, {'model': copy()})  # noqa: S102
    assert 'mine  ' in capsys.readouterr().out
    assert (tmp_path / 'evaluation' / 'report.html').is_file()


def test_scenes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The examples of the page on scenes run as printed."""
    (tmp_path / 'scenes').mkdir()
    scene = np.full((4, 260, 300), 3000, np.uint16)
    write(tmp_path / 'scene.tif', scene)
    write(tmp_path / 'scenes' / 'one.tif', scene, crs='EPSG:32633')
    write(tmp_path / 'scenes' / 'two.tif', scene[:, :256, :256])
    radar = np.full((2, 200, 200), -10, np.float32)
    transform = from_origin(499000, 2001000, 10, 10)
    write(tmp_path / 'sentinel1.tif', radar, transform=transform)
    monkeypatch.chdir(tmp_path)
    text = (DOCS / 'scenes.md').read_text()
    blocks = re.findall(r'```python\n(.*?)```', text, re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(block, {})  # noqa: S102
    assert 'clear.tif: 260 x 300 pixels' in capsys.readouterr().out
    for name, crs in (('one', 32633), ('two', 32646)):
        with rasterio.open(tmp_path / 'heights' / f'{name}.tif') as dataset:
            assert dataset.crs.to_epsg() == crs
            assert (dataset.count, dataset.dtypes) == (1, ('float32',))


@pytest.mark.parametrize('page', [README, *sorted(DOCS.glob('*.md'))])
def test_files(page: Path) -> None:
    """What a page links to, and the configurations that it names, are there."""
    text = page.read_text()
    links = re.findall(r'\]\(([\w/.-]+)\)', text)
    configs = re.findall(r'--config (\S+\.yaml)', text)
    assert links or page != README
    for path in [*(page.parent / link for link in links), *map(ROOT.joinpath, configs)]:
        assert path.is_file(), path
