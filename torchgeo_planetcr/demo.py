# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""A demonstration of the package, from data to a cloud-free scene."""

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
from .raster.write import appears_whole
from .simulation import simulate
from .tasks import CloudRemoval

#: Number of areas that are simulated if there are no data, and of patches in each area.
NUM_AREAS, NUM_PATCHES = 40, 4

#: Number of epochs of training, and of windows in each epoch.
EPOCHS, WINDOWS_PER_EPOCH = 20, 80

#: Largest number of patches that are put together to a scene.
MAX_SCENE_PATCHES = 100


def demo(root: Path | None = None, out: Path = 'demo', epochs: int = EPOCHS) -> str:
    """Train a small network for some minutes, evaluate it, and remove clouds from a scene.

    Without data, a small data set is simulated first. The network is a short DSen2-CR. It
    shows that everything works, and not how good results can be.

    Args:
        root: Folder that holds ``train`` and ``test`` (defaults to a simulated data set in
            *out*)
        out: Folder for the results, which replace those of an earlier run
        epochs: Number of epochs of training, each of which takes some seconds

    Returns:
        The figures of the evaluation, and the paths of the results.

    Raises:
        DatasetNotFoundError: If *root* has no patches.
        OSError: If a file cannot be read or written.
    """
    out = PurePath(out)
    if root is None:
        root = out / 'simulated-world'
        _announce('Simulate a data set')
        print(simulate(root, NUM_AREAS, NUM_PATCHES))

    _announce('Train a short DSen2-CR')
    checkpoint = _train(root, out / 'training', epochs)

    _announce('Evaluate it on the test split, and compare it with the cloudy images')
    methods = {'cloudy input': 'copy', 'restored': checkpoint}
    report = out / 'evaluation' / 'report.html'
    figures = evaluate(root, methods, report.parent, overwrite=True)

    _announce('Remove the clouds from a scene')
    cloudy, sentinel1 = _make_scene(root, out / 'scene')
    clear = out / 'scene' / 'clear.tif'
    print(remove_clouds(checkpoint, cloudy, sentinel1, clear, overwrite=True))

    picture = clear.with_suffix('.png').resolve()
    if sys.stdout.isatty() and _has_display():
        webbrowser.open(picture.as_uri())
    return '\n'.join(
        [
            str(figures),
            '',
            f'Report: {report.resolve()}',
            f'Scene before and after: {picture}',
            f'Cloud-free GeoTIFF: {clear.resolve()}',
        ]
    )


def _announce(step: str) -> None:
    """Print what comes next."""
    print(f'\n== {step}', flush=True)


def _has_display() -> bool:
    """Whether a browser can show pictures."""
    variables = ('DISPLAY', 'WAYLAND_DISPLAY')
    return sys.platform != 'linux' or any(map(os.environ.get, variables))


def _train(root: Path, folder: PurePath, epochs: int) -> str:
    """Train a network, and return the path of its checkpoint."""
    datamodule = PlanetCRDataModule(
        root,
        batch_size=4,
        patch_size=128,
        length=WINDOWS_PER_EPOCH,
        modalities=('cloudy', 'clear', 'sentinel1'),
    )
    task = CloudRemoval(
        model_kwargs={'features': 32, 'num_blocks': 4},
        # The default loss, CARL, would keep the haze that the cloud mask misses
        loss='l1',
        lr=2e-3,
        lr_scheduler=partial(CosineAnnealingLR, T_max=epochs),
    )
    trainer = Trainer(
        max_epochs=epochs,
        # Validation takes as long as an epoch of training
        check_val_every_n_epoch=epochs,
        default_root_dir=folder,
        log_every_n_steps=10,
        enable_model_summary=False,
    )
    with warnings.catch_warnings():
        # On two cores, processes that read data would slow training down
        warnings.filterwarnings('ignore', '.* does not have many workers')
        trainer.fit(task, datamodule)
    return trainer.checkpoint_callback.best_model_path


def _make_scene(root: Path, folder: PurePath) -> tuple[PurePath, PurePath]:
    """Put patches of a test area together, and return the paths of both images."""
    index = PlanetCR(root, 'test', ('cloudy', 'sentinel1')).index
    _, area = max(index.groupby(['aoi', 'native_crs']), key=lambda group: len(group[1]))
    cloudy, sentinel1 = folder / 'cloudy.tif', folder / 'sentinel1.tif'
    with appears_whole(cloudy, sentinel1) as unfinished:
        for modality, path in zip(('cloudy', 'sentinel1'), unfinished, strict=True):
            merge(list(area[modality][:MAX_SCENE_PATCHES]), dst_path=path)
    return cloudy, sentinel1
