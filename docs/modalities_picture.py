# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Draw simulated patches with all modalities: `python docs/modalities_picture.py`."""

import io
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

from torchgeo_planetcr import PlanetCR, simulate

OUT = Path(__file__).parent / '_static' / 'modalities.jpg'

#: Number of areas of the simulated world.
AREAS = 20

#: Patches of it that are drawn.
PATCHES = ('summer_15_p_1', 'fall_4_p_1', 'winter_8_p_1')

#: Width of the picture in pixels.
WIDTH = 1200


def main() -> None:
    """Simulate a world, and draw the patches one below the other."""
    pictures = []
    with tempfile.TemporaryDirectory() as folder:
        simulate(Path(folder), AREAS, 1)
        datasets = [PlanetCR(folder, split) for split in ('train', 'val', 'test')]
        for name in PATCHES:
            dataset = next(
                dataset for dataset in datasets if name in set(dataset.index['patch'])
            )
            patch = dataset.index[dataset.index['patch'] == name].iloc[0]
            xmin, ymin, xmax, ymax = patch['native_bounds']
            crs = dataset.in_crs(patch['native_crs'])
            figure = dataset.plot(crs[xmin:xmax, ymin:ymax], show_titles=not pictures)
            buffer = io.BytesIO()
            figure.savefig(buffer, bbox_inches='tight', pad_inches=0.05)
            plt.close(figure)
            picture = Image.open(buffer).convert('RGB')
            height = round(picture.height * WIDTH / picture.width)
            pictures.append(np.asarray(picture.resize((WIDTH, height))))
    Image.fromarray(np.concatenate(pictures)).save(OUT, quality=85)


if __name__ == '__main__':
    main()
