# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import re
from pathlib import Path

import pytest
import rasterio
from PIL import Image

from torchgeo_planetcr.main import main

DEMO = 'torchgeo_planetcr.demo'


def result(printed: str, name: str) -> Path:
    """Path of a result that the demo has printed."""
    return Path(re.findall(f'^{name}: (.*)$', printed, re.MULTILINE)[-1])


def test_both(
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Run the demo twice, as people do, first on simulated and then on other data."""
    for name, value in (('NUM_AREAS', 3), ('NUM_PATCHES', 1), ('WINDOWS_PER_EPOCH', 4)):
        monkeypatch.setattr(f'{DEMO}.{name}', value)
    command = ['demo', '--out', str(tmp_path), '--epochs', '1']
    main(command)
    printed = capsys.readouterr().out
    assert f'{tmp_path / "simulated-world"}: 3 simulated patches of 3 areas' in printed
    assert 'restored' in result(printed, 'Report').read_text()
    with Image.open(result(printed, 'Scene before and after')) as image:
        assert image.width > 2 * image.height
    scene = result(printed, 'Cloud-free GeoTIFF')
    with rasterio.open(scene) as dataset:
        assert dataset.shape == (300, 300)

    main([*command, '--root', str(root)])
    printed = capsys.readouterr().out
    assert 'simulated' not in printed
    assert f'Split test of {root}: 3 patches' in printed
    # The test area with the most patches has two of them, side by side
    assert result(printed, 'Cloud-free GeoTIFF') == scene
    with rasterio.open(scene) as dataset:
        assert dataset.shape == (300, 600)


@pytest.mark.slow
def test_learns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The network restores images that it has not seen."""
    for name, value in (
        ('NUM_AREAS', 3),
        ('NUM_PATCHES', 2),
        ('WINDOWS_PER_EPOCH', 16),
    ):
        monkeypatch.setattr(f'{DEMO}.{name}', value)
    main(['demo', '--out', str(tmp_path), '--epochs', '2'])
    psnr = dict(
        re.findall(
            r'^(cloudy input|restored) +([\d.]+)', capsys.readouterr().out, re.MULTILINE
        )
    )
    assert float(psnr['restored']) > float(psnr['cloudy input'])


def test_another_world(tmp_path: Path) -> None:
    """A simulation that is there is never replaced."""
    root = tmp_path / 'simulated-world'
    root.mkdir()
    (root / 'simulation.json').write_text('{"areas": 2}')
    with pytest.raises(SystemExit, match='planetcr demo: .* holds another simulation'):
        main(['demo', '--out', str(tmp_path)])
    assert [path.name for path in root.iterdir()] == ['simulation.json']
