# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Make the pictures of a report that the documentation shows.

    pip install playwright satellite-cloud-generator spyndex
    PYTHONPATH=benchmarks python docs/report_picture.py

Planet's images may not be shipped. The ground is a Sentinel-2 image that comes with
spyndex (contains modified Copernicus Sentinel data), enlarged; clouds, backscatter and
land cover are simulated. It needs Chromium, and takes ten minutes on two CPU cores.
"""

import json
import shutil
import tempfile
from functools import partial
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from fake_archive import load_data_module
from numpy.typing import NDArray
from playwright.sync_api import sync_playwright
from satellite_cloud_generator import add_cloud_and_shadow
from torch import Tensor

from torchgeo_planetcr import evaluate
from torchgeo_planetcr.main import run_trainer

DOCS = Path(__file__).parent
PICTURES = DOCS / '_static'
CONFIG = DOCS.parent / 'examples' / 'dsen2cr_one_minute.yaml'

#: Side length of a patch in pixels, and of a pixel of it in those of 10 m.
SIZE, COARSE = 300, 0.3

#: Pixels around a picture of a patch.
MARGIN = 20

#: A quadrant of the image: split, area, rows and columns, and number of patches.
type Quadrant = tuple[str, str, tuple[int, int], int]

#: Those of the report.
QUADRANTS: tuple[Quadrant, ...] = (
    ('train', 'spring_1', (0, 0), 8),
    ('train', 'summer_2', (1, 1), 8),
    ('test', 'fall_3', (0, 1), 2),
    ('test', 'winter_4', (1, 0), 2),
)


#: Opacity of the thickest cloud.
THICKNESS = (0.6, 0.95)


def read_ground() -> Tensor:
    """Read the image, enlarged to 600 x 600 pixels, as reflectance of B, G, R, NIR."""
    text = (files('spyndex') / 'data' / 'S2_10m.json').read_text()
    chip = torch.tensor(json.loads(text), dtype=torch.float32)[None] / 10000
    return F.interpolate(chip, scale_factor=2, mode='bicubic').clamp(0.001, 1)[0]


def simulate(
    clear: Tensor, rng: np.random.Generator, thickness: tuple[float, float]
) -> dict[str, NDArray[np.generic]]:
    """Simulate what belongs to a clear image.

    Args:
        clear: Reflectance of shape (4, H, W).
        rng: Random numbers.
        thickness: Least and largest opacity of the thickest cloud.

    Returns:
        Arrays by kind of file.
    """
    cloudy, cloud, _ = add_cloud_and_shadow(
        clear,
        min_lvl=(0.0, 0.1),
        max_lvl=thickness,
        clear_threshold=(0.3, 0.5),
        channel_offset=0,
        cloud_color=False,
        return_cloud=True,
    )
    mask = cloud[0].mean(dim=0).numpy() > 0.25

    shape = [round(COARSE * length) for length in clear.shape[1:]]
    coarse = F.interpolate(clear[None], shape, mode='area')[0]
    _, _, red, infrared = coarse.numpy()
    vegetation = (infrared - red) / (infrared + red)
    speckle = 10 * np.log10(rng.gamma(6, 1 / 6, (2, *shape)))
    vv = -15 + 6 * vegetation + 12 * red
    backscatter = np.stack([vv, vv - 9 + 4 * vegetation]) + speckle
    landcover = np.select(
        [vegetation > 0.7, vegetation > 0.5, vegetation > 0.35], [10, 40, 30], 60
    ).astype(np.uint8)
    return {
        'planet_cloudfree': (10000 * clear).numpy().astype(np.uint16),
        'planet_cloudy': (10000 * cloudy[0].clamp(0.001, 1)).numpy().astype(np.uint16),
        'S1': backscatter,
        'landcover': landcover[None],
        'cloudmask': mask,
    }


def make_tree(
    root: Path, quadrants: tuple[Quadrant, ...], thickness: tuple[float, float]
) -> None:
    """Make a tree in the layout of Planet-CR.

    Args:
        root: Folder to make it in.
        quadrants: Parts of the image to make it of.
        thickness: Least and largest opacity of the thickest cloud.
    """
    data = load_data_module()
    ground = read_ground()
    rng = np.random.default_rng(0)
    for position, (split, name, (row, col), patches) in enumerate(quadrants):
        top, left = row * SIZE, col * SIZE
        quadrant = ground[:, top : top + SIZE, left : left + SIZE]
        area = data.Area(split, name, 32723, 300000 + 90000 * position, 7500000, (0, 0))
        for number in range(patches):
            clear = quadrant
            if split == 'train':
                clear = torch.rot90(quadrant, number % 4, (1, 2))
                clear = clear.flip(2) if number // 4 % 2 else clear
            west = area.xmin + 900 * number
            path = partial(data.filepath, root, area, number + 1)
            arrays = simulate(clear.contiguous(), rng, thickness)
            for kind, array in arrays.items():
                if kind == 'cloudmask':
                    target = path(kind, '.npy')
                    target.parent.mkdir(parents=True, exist_ok=True)
                    np.save(target, array)
                else:
                    data.write(path(kind), array, area, west, area.ymax)


def train(root: Path, runs: Path, epochs: int = 40, loss: str = 'carl') -> Path:
    """Train a small DSen2-CR for some minutes.

    Args:
        root: Folder of the tree.
        runs: Folder for what training writes.
        epochs: Number of epochs.
        loss: Loss.

    Returns:
        Path of the checkpoint.
    """
    run_trainer(
        [
            'fit',
            f'--config={CONFIG}',
            f'--data.root={root}',
            f'--trainer.default_root_dir={runs}',
            f'--model.init_args.loss={loss}',
            f'--trainer.max_epochs={epochs}',
            f'--trainer.check_val_every_n_epoch={epochs}',
            '--lr_scheduler=torch.optim.lr_scheduler.CosineAnnealingLR',
            f'--lr_scheduler.T_max={epochs}',
        ]
    )
    (checkpoint,) = runs.glob('**/*.ckpt')
    return checkpoint


def take_pictures(report: Path) -> None:
    """Take pictures of the report in a browser.

    Args:
        report: Path of the report.
    """
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which('chromium'), args=['--no-sandbox']
        )
        page = browser.new_page(viewport={'width': 1100, 'height': 1500})
        page.goto(report.resolve().as_uri())
        page.screenshot(path=PICTURES / 'report.jpg', type='jpeg', quality=85)
        example = page.locator('.example').nth(1)
        example.scroll_into_view_if_needed()
        example.locator('input[type=range]').fill('45')
        page.evaluate('document.activeElement.blur()')
        # Pictures are decoded when they come into view
        page.wait_for_timeout(1000)
        box = example.bounding_box()
        assert box is not None
        clip = {
            'x': box['x'] - MARGIN,
            'y': box['y'],
            'width': box['width'] + 2 * MARGIN,
            'height': box['height'] + MARGIN,
        }
        page.screenshot(
            path=PICTURES / 'report-patch.jpg', type='jpeg', quality=85, clip=clip
        )
        browser.close()


def main() -> None:
    """Simulate, train, evaluate and take the pictures."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        root, runs, out = (Path(folder, name) for name in ('data', 'runs', 'out'))
        make_tree(root, QUADRANTS, THICKNESS)
        checkpoint = train(root, runs)
        print(evaluate(root, {'copy': 'copy', 'dsen2cr': checkpoint}, out))
        take_pictures(out / 'report.html')


if __name__ == '__main__':
    main()
