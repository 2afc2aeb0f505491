# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""From data to a cloud-free scene, to see that all works."""

import os
import sys
import warnings
import webbrowser
from functools import partial
from pathlib import Path as PurePath

from lightning.pytorch import Trainer
from rasterio.merge import merge
from torch.optim.lr_scheduler import CosineAnnealingLR
from torchgeo.datasets.utils import Path

from .datamodules import PlanetCRDataModule
from .datasets import PlanetCR
from .evaluation import evaluate
from .inference import remove_clouds
from .simulation import simulate
from .tasks import CloudRemoval

#: Areas of the world that is simulated where there are no data, and patches of each.
AREAS, PATCHES = 40, 4

#: Epochs of training, and windows in each.
EPOCHS, LENGTH = 20, 80

#: Patches of the test split that are restored as one scene, at most.
MAX_SCENE = 100


def demo(root: Path | None = None, out: Path = 'demo', epochs: int = EPOCHS) -> str:
    """Train a small network for minutes, evaluate it, and remove the clouds of a scene.

    Without data, a small world is simulated first. The network is a short DSen2-CR: it
    shows that everything works, not how well.

    Args:
        root: folder that holds ``train`` and ``test`` (defaults to a simulated world in
            *out*)
        out: folder for the results, which replace those of an earlier run
        epochs: number of epochs of training, some seconds each

    Returns:
        The figures, and where to look.

    Raises:
        DatasetNotFoundError: If *root* has no patches.
        OSError: If a file cannot be read or written.
    """
    out = PurePath(out)
    if root is None:
        root = out / 'simulated-world'
        _say('Simulate a world')
        print(simulate(root, AREAS, PATCHES))

    _say('Train a short DSen2-CR')
    checkpoint = _train(root, out / 'training', epochs)

    _say('Evaluate it on the test split, beside the untouched input')
    methods = {'cloudy input': 'copy', 'restored': checkpoint}
    report = out / 'evaluation' / 'report.html'
    figures = evaluate(root, methods, report.parent, overwrite=True)

    _say('Remove the clouds of a scene')
    cloudy, s1 = _make_scene(root, out / 'scene')
    clear = out / 'scene' / 'clear.tif'
    print(remove_clouds(checkpoint, cloudy, s1, clear, overwrite=True))

    picture = clear.with_suffix('.png').resolve()
    if sys.stdout.isatty() and _has_screen():
        webbrowser.open(picture.as_uri())
    lines = [str(figures), '', f'Report: {report.resolve()}']
    lines += [
        f'Scene before and after: {picture}',
        f'Cloud-free GeoTIFF: {clear.resolve()}',
    ]
    return '\n'.join(lines)


def _say(what: str) -> None:
    """Announce a step."""
    print(f'\n== {what}', flush=True)


def _has_screen() -> bool:
    """Whether pictures can be shown."""
    names = ('DISPLAY', 'WAYLAND_DISPLAY')
    return sys.platform != 'linux' or any(map(os.environ.get, names))


def _train(root: Path, folder: PurePath, epochs: int) -> str:
    """Train a network; returns the path of its checkpoint."""
    datamodule = PlanetCRDataModule(
        root,
        batch_size=4,
        patch_size=128,
        length=LENGTH,
        modalities=('cloudy', 'clear', 'sentinel1'),
    )
    task = CloudRemoval(
        model_kwargs={'features': 32, 'num_blocks': 4},
        # CARL wants haze to stay where the mask has missed it
        loss='l1',
        lr=2e-3,
        lr_scheduler=partial(CosineAnnealingLR, T_max=epochs),
    )
    trainer = Trainer(
        max_epochs=epochs,
        # It takes as long as an epoch
        check_val_every_n_epoch=epochs,
        default_root_dir=folder,
        log_every_n_steps=10,
        enable_model_summary=False,
    )
    with warnings.catch_warnings():
        # Two processes that read would cost a machine of two cores more than they give
        warnings.filterwarnings('ignore', '.* does not have many workers')
        trainer.fit(task, datamodule)
    return trainer.checkpoint_callback.best_model_path


def _make_scene(root: Path, folder: PurePath) -> tuple[PurePath, PurePath]:
    """Put patches of a test area together; returns the paths of both images."""
    index = PlanetCR(root, 'test', ('cloudy', 'sentinel1')).index
    _, area = max(index.groupby(['aoi', 'native_crs']), key=lambda group: len(group[1]))
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / 'cloudy.tif', folder / 'sentinel1.tif'
    for path, column in zip(paths, ('cloudy', 'sentinel1'), strict=True):
        merge(list(area[column][:MAX_SCENE]), dst_path=path)
    return paths
