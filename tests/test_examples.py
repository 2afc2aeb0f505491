# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import re
import subprocess
import sys
from pathlib import Path

from PIL import Image

EXAMPLES = Path(__file__).parents[1] / 'examples'


def run(*args: str | Path) -> str:
    result = subprocess.run(
        [sys.executable, *args], check=False, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_train_and_test(root: Path, tmp_path: Path) -> None:
    script = EXAMPLES / 'train_and_test.py'
    assert len(script.read_text().splitlines()) < 60
    printed = run(script, root, '--out', tmp_path, '--max-epochs', '1')
    assert printed.count('test_PSNR') == 2


def test_demo(root: Path, tmp_path: Path) -> None:
    options = ('--trainer.max_epochs=3', '--data.patch_size=64')
    printed = run(EXAMPLES / 'demo.py', root, '--out', tmp_path, *options)
    rows = dict(re.findall(r'^(\w+) .*?([\d.]+) +[\d.]+$', printed, re.MULTILINE))
    copied = dict(re.findall(r'^(\w+) .*?[\d.]+ +([\d.]+)$', printed, re.MULTILINE))
    assert set(rows) == {'PSNR', 'SSIM', 'SAM', 'MAE'}
    # The fake clouds are easy to recognize and to darken.
    assert float(rows['PSNR']) > float(copied['PSNR']) + 1

    picture = Path(printed.rsplit('cloud-free: ')[1].strip())
    assert picture.parent == tmp_path
    with Image.open(picture) as image:
        assert image.width > 2 * image.height
        assert len(image.getcolors(image.width * image.height) or []) > 100
