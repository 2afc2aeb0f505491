# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from lightning.pytorch import Trainer

from torchgeo_planetcr import CloudRemoval

EXAMPLES = Path(__file__).parents[1] / 'examples'


def run(*args: str | Path) -> str:
    result = subprocess.run(
        [sys.executable, *args], check=False, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.slow
def test_train_and_test(root: Path, tmp_path: Path) -> None:
    script = EXAMPLES / 'train_and_test.py'
    assert len(script.read_text().splitlines()) < 60
    printed = run(script, root, '--out', tmp_path, '--max-epochs', '1')
    assert printed.count('test_PSNR') == 2


@pytest.mark.slow
def test_export(root: Path, tmp_path: Path) -> None:
    task = CloudRemoval(model_kwargs={'features': 8, 'num_blocks': 1})
    trainer = Trainer(accelerator='cpu', logger=False, default_root_dir=tmp_path)
    trainer.strategy.connect(task)
    checkpoint = tmp_path / 'task.ckpt'
    trainer.save_checkpoint(checkpoint)

    model, out = tmp_path / 'model.pt2', tmp_path / 'restored.tif'
    assert 'DSen2CR is in' in run(EXAMPLES / 'export_model.py', checkpoint, model)
    cloudy = next(root.glob('test/planet_cloudy_*/*/*.tif'))
    name = cloudy.name.replace('planet_cloudy', 'S1')
    (sentinel1,) = root.glob(f'test/S1_*/*/{name}')
    run(EXAMPLES / 'run_exported.py', model, cloudy, sentinel1, out)

    with rasterio.open(cloudy) as before, rasterio.open(out) as after:
        assert after.crs == before.crs
        assert after.transform == before.transform
        image, restored = before.read().astype(float), after.read().astype(float)
    assert after.dtypes == ('uint16',) * 4
    # A network of random weights changes an image a little
    assert 0 < np.abs(restored - image).mean() < 3000
