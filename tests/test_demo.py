# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import re
from pathlib import Path

import pytest
import rasterio
from PIL import Image

from torchgeo_planetcr.main import main
from torchgeo_planetcr.simulation import simulate


def test_simulated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A world, a training, an evaluation and a scene; less of each than there will be."""
    for name, value in (('AREAS', 3), ('PATCHES', 2), ('LENGTH', 16)):
        monkeypatch.setattr(f'torchgeo_planetcr.demo.{name}', value)
    main(['demo', '--out', str(tmp_path), '--epochs', '2'])
    printed = capsys.readouterr().out
    assert f'{tmp_path}/simulated-world: 6 simulated patches of 3 areas' in printed
    psnr = dict(
        re.findall(r'^(cloudy input|restored) +([\d.]+)', printed, re.MULTILINE)
    )
    assert float(psnr['restored']) > float(psnr['cloudy input'])

    report = Path(re.findall('^Report: (.*)$', printed, re.MULTILINE)[-1])
    assert 'restored' in report.read_text()
    (picture,) = re.findall('^Scene before and after: (.*)$', printed, re.MULTILINE)
    with Image.open(picture) as image:
        assert image.width > 2 * image.height
    (scene,) = re.findall('^Cloud-free GeoTIFF: (.*)$', printed, re.MULTILINE)
    with rasterio.open(scene) as dataset:
        assert dataset.shape == (300, 600)


def test_data_of_ones_own(
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Run twice, as people do."""
    monkeypatch.setattr('torchgeo_planetcr.demo.LENGTH', 4)
    for _ in range(2):
        command = ['demo', '--root', str(root), '--out', str(tmp_path), '--epochs', '1']
        main(command)
        printed = capsys.readouterr().out
        assert 'simulated' not in printed
        assert f'Split test of {root}: 3 patches' in printed
    # The patches of the test area that has most, side by side
    with rasterio.open(tmp_path / 'scene' / 'clear.tif') as dataset:
        assert dataset.shape == (300, 600)


def test_another_world(tmp_path: Path) -> None:
    """One that is there stays."""
    simulate(tmp_path / 'simulated-world', 2, 1)
    with pytest.raises(SystemExit, match='planetcr demo: .* holds another simulation'):
        main(['demo', '--out', str(tmp_path)])
