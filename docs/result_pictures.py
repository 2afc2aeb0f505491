# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Make the pictures of a report and of restored scenes for the documentation.

    python docs/result_pictures.py

It runs `planetcr demo` with a longer training, on its simulated world. It needs Chromium, and
takes ten minutes on two CPU cores.
"""

import shutil
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from torchgeo_planetcr import remove_clouds, simulate_scene
from torchgeo_planetcr.demo import demo

PICTURES = Path(__file__).parent / '_static'

#: Number of epochs of training. Each takes some seconds.
EPOCHS = 100

#: Rows and columns of the scene, and seed of its random numbers.
SIZE, SEED = 800, 5

#: Pixels around the picture of a patch.
MARGIN = 20


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
        # The browser decodes pictures when they come into view
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


def restore_scene(checkpoint: Path, folder: Path) -> None:
    """Restore a scene, and make a composite of it.

    Args:
        checkpoint: Path of the checkpoint.
        folder: Folder to work in.
    """
    simulate_scene(folder, SIZE, SEED)
    cloudy, s1, mask = (
        folder / f'{name}.tif' for name in ('scene', 'sentinel1', 'scene_udm2')
    )
    for picture, composite in (('scene', None), ('composite', mask)):
        out = folder / f'restored-{picture}.tif'
        remove_clouds(checkpoint, cloudy, s1, out, composite)
        image = Image.open(out.with_suffix('.png')).convert('RGB')
        image.save(PICTURES / f'{picture}.jpg', quality=85)


def main() -> None:
    """Run the demo, and take the pictures."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print(demo(out=folder, epochs=EPOCHS))
        take_pictures(folder / 'evaluation' / 'report.html')
        (checkpoint,) = folder.glob('training/**/*.ckpt')
        restore_scene(checkpoint, folder / 'whole')


if __name__ == '__main__':
    main()
