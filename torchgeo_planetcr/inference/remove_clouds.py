# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Removal of the clouds of whole scenes."""

import os
import signal
import warnings
from collections.abc import Collection, Mapping, Sequence
from copy import deepcopy
from datetime import timedelta
from typing import Any, Literal

import rasterio
import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import DDPStrategy
from torch import distributed, nn
from torch.utils.data import DataLoader
from torchgeo.datasets.utils import Path, Sample
from tqdm import tqdm

from ..tasks import CloudRemoval, load_task
from ..transforms import PlanetCRNormalize
from .loader import ReadAheadDataLoader, stack_arrays
from .output import picture_path
from .scenes import CloudyScenes, SceneFiles, find_scenes
from .tiles import TileBatchSampler, TileSampler
from .writer import GeoTIFFWriter

#: Bytes of pixels that GDAL keeps, so that a row of tiles finds those that the row above it has
#: read, in a strip of a scene. By default it takes a twentieth of all memory.
CACHE_SIZE = 128_000_000

#: How long a process waits for another, which may have a larger scene.
PATIENCE = timedelta(days=365)


def remove_clouds(
    model: Path | nn.Module,
    cloudy: Path | Sequence[Path],
    s1: Path | Sequence[Path] | None,
    out: Path,
    composite: Path | Sequence[Path] | None = None,
    tile_size: int = 512,
    overlap: int = 64,
    batch_size: int = 1,
    bands: Sequence[int] | None = None,
    min_coverage: float = 0.9,
    dtype: Literal['uint16', 'float32'] = 'uint16',
    quicklook: bool = True,
    num_workers: int = 0,
    accelerator: str = 'auto',
    devices: int = 1,
    num_nodes: int = 1,
    overwrite: bool = False,
) -> str | None:
    """Remove the clouds of whole PlanetScope scenes.

    Args:
        model: checkpoint of CloudRemoval, a module that is called as
            ``model(image, image_s1)`` on images normalized to [0, 1], or any task whose
            ``predict_step`` returns images of their size
        cloudy: PlanetScope scene, surface reflectance x 10000, or several: a folder, a
            glob expression, a sequence of these, or a CSV file with the columns cloudy,
            s1 and, for composites, mask
        s1: Sentinel-1 backscatter in dB, VV and VH, in any CRS and resolution; of
            several images, each scene takes those that meet it, the first one on top,
            unless there is one for each scene of a sequence; None with a CSV file
        out: GeoTIFF to write, cloud-optimized, on the grid of the scene, or the folder
            for those of several scenes, in which finished ones are left out
        composite: cloud mask, Planet's usable data mask (UDM2) or any raster of 1
            (cloud) and 0 (clear), where the scene is kept if it is clear; of several,
            each scene takes the one with its name
        tile_size: height and width of the tiles that the model sees, in pixels
        overlap: pixels that neighbouring tiles share; a quarter at each edge is thrown
            away, over the rest they fade into each other
        batch_size: number of tiles that the model restores at once
        bands: positions of B, G, R and NIR in the scene, from 1 (defaults to those of
            PlanetScope's products of four and eight bands)
        min_coverage: least share of a scene that Sentinel-1 must cover; elsewhere it
            is replaced by its mean
        dtype: 'uint16' for reflectance x 10000, 'float32' for reflectance
        quicklook: draw each scene before and after, beside its GeoTIFF
        num_workers: number of processes that read tiles; by default a thread does,
            beside the model
        accelerator: 'cpu', 'gpu', or 'auto' for what there is
        devices: number of processes on each machine that share the scenes, each with a
            device of its own; from Python each of them runs the whole script
        num_nodes: number of machines
        overwrite: replace what exists

    Returns:
        What was written; None in all processes but the first.

    Raises:
        FileExistsError: If *out* is a GeoTIFF that exists and *overwrite* is not set.
        OSError: If a file cannot be read or written, or if scenes among several could not
            be used, once the others are done.
        ValueError: If an argument is out of range, the checkpoint cannot be read, or a
            scene or Sentinel-1 is not what is expected.
    """
    if 'TORCHELASTIC_RUN_ID' in os.environ:
        processes = int(os.environ['WORLD_SIZE'])
        if processes != devices * num_nodes:
            msg = f'torchrun has started {processes} processes, and devices={devices} and '
            msg += f'num_nodes={num_nodes} make {devices * num_nodes}: give both.'
            raise ValueError(msg)
    scenes = find_scenes(cloudy, s1, composite)
    paths = _output_paths(scenes, out)
    _check_outputs(paths, scenes, cloudy)
    done = {scene for scene, path in paths.items() if os.path.exists(path)}
    if overwrite:
        done.clear()
    if done and os.fspath(out) in paths.values():
        msg = f'{out} exists: write to another file, or overwrite it with --overwrite '
        msg += '(overwrite=True).'
        raise FileExistsError(msg)

    dataset = CloudyScenes(scenes, bands, min_coverage)
    sampler = TileSampler(
        dataset,
        size=tile_size,
        overlap=overlap,
        keep=lambda tile: tile.filepath not in done and dataset.has_data(tile),
    )
    masks = {files.cloudy: files.mask for files in scenes if files.mask}
    # What may not be replaced is not among the tiles
    writer = GeoTIFFWriter(
        paths, overlap, dtype, dataset.bands_of, masks, quicklook, overwrite=True
    )
    trainer = _trainer([writer, _Progress()], accelerator, devices, num_nodes)
    loader = ReadAheadDataLoader(
        dataset,
        batch_sampler=TileBatchSampler(sampler, batch_size),
        num_workers=num_workers,
        collate_fn=stack_arrays,
        pin_memory=torch.cuda.is_available() and accelerator != 'cpu',
    )
    with rasterio.Env(GDAL_CACHEMAX=CACHE_SIZE), warnings.catch_warnings():
        # No tile is left out, and one thread that reads is enough for most models
        warnings.filterwarnings('ignore', 'You are using a custom batch sampler')
        warnings.filterwarnings('ignore', '.* does not have many workers')
        _predict(trainer, _task(model), _Tiles(loader))
    problems = _gather(dataset.problems)
    coverage = _gather(dataset.coverage)
    if not trainer.is_global_zero:
        return None
    if len(scenes) == 1 and not done:
        for error in problems.values():
            raise error
        height, width = dataset.headers[0].grid[-2:]
        share = f'{100 * coverage[scenes[0].cloudy]:.0f} %'
        return f'{out}: {height} x {width} pixels, Sentinel-1 covers {share}'
    return _summary(out, scenes, done, coverage, problems)


def _output_paths(scenes: Sequence[SceneFiles], out: Path) -> dict[str, str]:
    """GeoTIFF to write for each scene."""
    path = os.fspath(out)
    if path.lower().endswith(('.tif', '.tiff')):
        if len(scenes) > 1:
            msg = (
                f'{out} is one file, and there are {len(scenes)} scenes: give a folder.'
            )
            raise ValueError(msg)
        return {scenes[0].cloudy: path}
    if os.path.splitext(path)[1] and not os.path.isdir(path):
        msg = f'{out} must end with .tif, as it becomes a GeoTIFF, or be a folder; make a '
        msg += 'folder whose name has a dot first.'
        raise ValueError(msg)
    names: dict[str, str] = {}
    for files in scenes:
        stem, _ = os.path.splitext(os.path.basename(files.cloudy))
        name = os.path.join(path, f'{stem}.tif')
        if name in names.values():
            msg = f'two scenes are called {stem}: run them one after the other, with '
            msg += 'different folders to write to.'
            raise ValueError(msg)
        names[files.cloudy] = name
    return names


def _check_outputs(
    paths: Mapping[str, str],
    scenes: Sequence[SceneFiles],
    cloudy: Path | Sequence[Path],
) -> None:
    """Refuse to write to what is read, to a folder, or to where scenes are looked for."""
    given = [cloudy] if isinstance(cloudy, str | os.PathLike) else cloudy
    folders = {os.path.realpath(path) for path in given if os.path.isdir(path)}
    sources = {
        os.path.realpath(path)
        for files in scenes
        for path in (files.cloudy, *files.s1, files.mask)
        if path is not None
    }
    for path in paths.values():
        for written in (path, picture_path(path)):
            if os.path.isdir(written):
                msg = f'{written} is a folder: write to a file.'
                raise IsADirectoryError(msg)
            place = os.path.realpath(written)
            if place in sources:
                msg = f'{written} would replace what is read: write elsewhere.'
                raise ValueError(msg)
            for folder in folders:
                if os.path.commonpath([place, folder]) == folder:
                    msg = f'{written} lies in {folder}, which is searched for scenes: '
                    msg += 'write elsewhere.'
                    raise ValueError(msg)


def _task(model: Path | nn.Module) -> LightningModule:
    """The task that restores tiles."""
    if isinstance(model, LightningModule):
        task = model
    elif isinstance(model, nn.Module):
        # The device and the mode of what was given are not ours to change
        task = CloudRemoval(model=deepcopy(model))
    else:
        task = load_task(model)
    return task


def _trainer(
    callbacks: list[Callback], accelerator: str, devices: int, num_nodes: int
) -> Trainer:
    """A trainer that does nothing but predict."""
    return Trainer(
        accelerator=accelerator,
        devices=devices,
        num_nodes=num_nodes,
        # What Lightning would choose in a notebook cannot be interrupted there
        strategy='auto' if devices * num_nodes == 1 else DDPStrategy(timeout=PATIENCE),
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        use_distributed_sampler=False,
    )


def _predict(
    trainer: Trainer, task: LightningModule, datamodule: LightningDataModule
) -> None:
    """Run the trainer."""
    attribute = 'allow_zero_length_dataloader_with_multiple_devices'
    before = getattr(task, attribute)
    # For a process that no scene is left for
    setattr(task, attribute, True)
    try:
        trainer.predict(task, datamodule=datamodule, return_predictions=False)
    except BaseException:
        # Processes that this one has started would go on without it
        kill = getattr(trainer.strategy.launcher, 'kill', None)
        if kill is not None:
            kill(signal.SIGTERM)
        raise
    finally:
        setattr(task, attribute, before)


def _gather[T](found: dict[str, T]) -> dict[str, T]:
    """Bring together what the processes have found of their scenes."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return found
    parts: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(parts, found)
    return {scene: value for part in parts for scene, value in part.items()}


def _summary(
    out: Path,
    scenes: Sequence[SceneFiles],
    done: Collection[str],
    coverage: Mapping[str, float],
    problems: Mapping[str, Exception],
) -> str:
    """Say what became of several scenes.

    Raises:
        OSError: If something is wrong with one of them.
    """
    made = [files.cloudy for files in scenes if files.cloudy in coverage]
    text = f'{out}: {len(made)} scene{"" if len(made) == 1 else "s"}'
    if made:
        least = min(coverage[scene] for scene in made)
        text += f', of which Sentinel-1 covers {100 * least:.0f} % or more'
    if done:
        text += f'; {len(done)} were there already'
    if problems:
        text += f'; {len(problems)} could not be used:'
        raise OSError('\n'.join([text, *map(str, problems.values())]))
    return text


class _Tiles(LightningDataModule):
    """Tiles to predict, normalized on the device."""

    def __init__(self, loader: DataLoader[Sample]) -> None:
        """Take a data loader of images as they are in their files."""
        super().__init__()
        self.loader = loader
        self.normalize = PlanetCRNormalize()

    def predict_dataloader(self) -> DataLoader[Sample]:
        """The data loader."""
        return self.loader

    def on_after_batch_transfer(self, batch: Sample, dataloader_idx: int) -> Sample:
        """Normalize a batch."""
        return self.normalize(batch)


class _Progress(Callback):
    """Bar with tiles per second and the time left, in the first process."""

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the bar, in a terminal."""
        loaders: Any = trainer.predict_dataloaders
        self.sampler: TileSampler = loaders.batch_sampler.sampler
        self.count = 0
        # A file that keeps what is printed has no use for it
        disable = None if trainer.is_global_zero else True
        self.bar = tqdm(total=len(self.sampler), unit='tile', disable=disable)

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count the tiles that are done, or were not wanted."""
        self.count += len(batch['image'])
        # Lightning keeps the windows of all batches, which of many scenes are millions
        trainer.predict_loop.current_batch_indices.clear()
        self.bar.update(self.count + self.sampler.skipped - self.bar.n)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the bar full."""
        self.bar.update(len(self.sampler) - self.bar.n)
        self.bar.close()
