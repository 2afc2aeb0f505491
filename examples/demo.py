# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Train, test and look: what `make demo` runs."""

import argparse
import warnings
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch
from torchgeo.datasets import unbind_samples

from torchgeo_planetcr import CloudRemoval
from torchgeo_planetcr.main import run_trainer

CONFIG = Path(__file__).parent / 'dsen2cr_one_minute.yaml'


def demo(root: Path, out: Path, options: Sequence[str] = ()) -> None:
    """Train the one-minute config, test it beside the untouched input, draw a patch.

    Args:
        root: folder that holds ``train`` and ``test``.
        out: folder for the results.
        options: further arguments of ``planetcr fit``.
    """
    # Two workers would cost a machine of two cores more than they give.
    warnings.filterwarnings('ignore', 'The .*dataloader.* does not have many workers')
    paths = [f'--data.root={root}', f'--trainer.default_root_dir={out}']
    cli = run_trainer(['fit', f'--config={CONFIG}', *paths, *options])
    trainer, task, datamodule = cli.trainer, cli.model, cli.datamodule
    (restored,) = trainer.test(
        task, datamodule, 'best', verbose=False, weights_only=True
    )

    batch = next(iter(datamodule.test_dataloader()))
    batch = datamodule.normalize(batch)
    task.eval()
    with torch.no_grad():
        batch['prediction'] = task(batch['image'], batch['image_s1'])
    sample = unbind_samples(datamodule.normalize.inverse(batch))[0]
    shown = ('image', 'prediction', 'image_clear')
    figure = datamodule.test_dataset.plot({key: sample[key] for key in shown})
    picture = out / 'demo.png'
    figure.savefig(picture)

    (copied,) = trainer.test(CloudRemoval('copy'), datamodule, verbose=False)
    table = pd.DataFrame({'restored': restored, 'cloudy input': copied})
    table.index = table.index.str.removeprefix('test_')
    units = {
        'PSNR': 'dB',
        'SAM': 'degrees',
        'MAE': 'reflectance',
        'RMSE': 'reflectance',
    }
    table.insert(0, 'unit', [units.get(name, '') for name in table.index])
    print(f'\nTest split of {root}, reference protocol, whole patches:\n')
    print(table.drop('loss').round(4).to_string())
    print(f'\nCloudy, restored and cloud-free: {picture.resolve()}')


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('root', type=Path, help='folder that holds train/ and test/')
    parser.add_argument('--out', type=Path, default=Path('demo'))
    args, options = parser.parse_known_args()
    demo(args.root, args.out, options)
