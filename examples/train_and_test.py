# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Train and test a small DSen2-CR: `python examples/train_and_test.py FOLDER`."""

import argparse
from pathlib import Path

from lightning.pytorch import Trainer, seed_everything

from torchgeo_planetcr import CloudRemoval, PlanetCRDataModule


def main(root: Path, out: Path, max_epochs: int) -> None:
    """Train on the training split of *root*, and test on its test split."""
    seed_everything(0)
    datamodule = PlanetCRDataModule(
        root,
        batch_size=2,
        patch_size=128,
        length=40,
        modalities=('cloudy', 'clear', 'sentinel1', 'cloud_mask'),
    )
    task = CloudRemoval(
        model='dsen2cr',
        model_kwargs={'features': 32, 'num_blocks': 4},
        loss='carl',
        lr=1e-3,
    )
    trainer = Trainer(max_epochs=max_epochs, default_root_dir=out, log_every_n_steps=1)
    trainer.fit(task, datamodule)
    # The best checkpoint is the one with the highest validation PSNR
    trainer.test(task, datamodule, ckpt_path='best', weights_only=True)

    print('For comparison, the untouched cloudy images:')
    trainer.test(CloudRemoval('copy'), datamodule)


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('root', type=Path, help='folder that holds train/ and test/')
    parser.add_argument('--out', type=Path, default=Path('output'))
    parser.add_argument('--max-epochs', type=int, default=10)
    args = parser.parse_args()
    main(args.root, args.out, args.max_epochs)
