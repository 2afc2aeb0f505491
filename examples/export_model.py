# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Export a trained model to a file that runs without this package."""

import argparse
from pathlib import Path

from torchgeo_planetcr import CloudRemoval
from torchgeo_planetcr.models import export_model

if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('checkpoint', type=Path, help='checkpoint of planetcr fit')
    parser.add_argument('out', type=Path, help='file to write, such as model.pt2')
    args = parser.parse_args()

    task = CloudRemoval.load_from_checkpoint(
        args.checkpoint, map_location='cpu', weights_only=True, compile=False
    )
    export_model(task.model, args.out)
    print(f'{type(task.model).__name__} is in {args.out}')
