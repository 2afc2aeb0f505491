# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

README = Path(__file__).parents[1] / 'README.md'


def write(
    path: Path,
    count: int,
    dtype: str,
    crs: str,
    origin: tuple[int, int, int],
    size: int,
) -> None:
    xmin, ymax, res = origin
    with rasterio.open(
        path,
        'w',
        driver='GTiff',
        width=size,
        height=size,
        count=count,
        dtype=dtype,
        crs=crs,
        transform=from_origin(xmin, ymax, res, res),
    ) as dst:
        dst.write(np.ones((count, size, size), dtype))


def test_python(
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The examples run as printed, one after the other."""
    (tmp_path / 'data').symlink_to(root)
    write(tmp_path / 'scene.tif', 4, 'uint16', 'EPSG:32633', (499998, 5400000, 3), 1000)
    # The same place in the next zone.
    write(
        tmp_path / 'sentinel1.tif',
        2,
        'float32',
        'EPSG:32632',
        (936000, 5422000, 10),
        1500,
    )
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    blocks = re.findall(r'```python\n(.*?)```', README.read_text(), re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        exec(block, names)  # noqa: S102
    assert 'torch.Size([2, 4, 160, 160])' in capsys.readouterr().out
    assert names['zone'].crs.to_epsg() == 32646
    assert names['sample']['crs'] == 32633
    assert names['sample']['image'].shape == (4, 512, 512)
    assert (names['sample']['image_planetcrsentinel1'] == 1).all()


def test_files() -> None:
    """What the README links to, and the configurations that it names, are there."""
    text = README.read_text()
    paths = re.findall(r'\]\(([\w/.]+)\)', text) + re.findall(
        r'--config (\S+\.yaml)', text
    )
    assert len(paths) > 5
    for path in paths:
        assert (README.parent / path).is_file(), path
