# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Removal of the clouds of whole scenes."""

import os
import signal
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from datetime import timedelta
from typing import Any, Literal

import rasterio
import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities import rank_zero_only
from torch import distributed, nn
from torchgeo.datasets.utils import Path

from ..processes import end_with_parent
from ..raster.read import CACHE_SIZE
from ..raster.write import check_absent, exists_error, remove_leftovers
from ..scenes import (
    AssumptionWarning,
    PlanetScopeScenes,
    RadarOptions,
    SceneFiles,
    find_scenes,
)
from ..scenes.backscatter import Unit
from ..scenes.names import stem, without_query
from ..tasks import CloudRemoval, load_task
from .origin import Origin, describe, file_stamp, say_difference
from .progress import TileProgress
from .quicklook import picture_path
from .scene_tiles import SceneTiles
from .writer import GeoTIFFWriter

#: How long a process waits for another, which may have a larger scene.
PROCESS_TIMEOUT = timedelta(days=365)


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
    scale: float | None = None,
    min_coverage: float = 0.9,
    s1_unit: Unit | None = None,
    date: str | None = None,
    max_days: float = 30,
    fill_gaps: bool = False,
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
        model: Checkpoint of CloudRemoval, a module that is called as
            ``model(image, image_s1)`` on images normalized to [0, 1], or any task whose
            ``predict_step`` returns images of their size
        cloudy: PlanetScope scene, surface reflectance x 10000, or several: a folder, a
            glob expression, a sequence of these, or a CSV file with the columns cloudy,
            s1 and, for composites, mask
        s1: Sentinel-1 backscatter, VV and VH in one file or in two whose names differ in
            vv and vh alone, in any CRS and resolution; of several images, each scene takes
            those of the pass that is nearest in time, unless there is one for each scene of
            a sequence; None with a CSV file
        out: GeoTIFF to write, cloud-optimized, on the grid of the scene, or the folder
            for those of several scenes, in which those are left out that were made
            of the same files with the same weights and arguments
        composite: Cloud mask, Planet's usable data mask (UDM2) or any raster of 1
            (cloud) and 0 (clear), where the scene is kept if it is clear; of several,
            each scene takes the one with its name, and is restored as a whole if there
            is none
        tile_size: Height and width of the tiles that the model sees, in pixels
        overlap: Pixels that neighboring tiles share; a quarter at each edge is thrown
            away, over the rest they fade into each other
        batch_size: Number of tiles that the model restores at once
        bands: Positions of B, G, R and NIR in the scene, from 1 (defaults to those of
            PlanetScope's products of four and eight bands)
        scale: Value in the scene that is a reflectance of 1, such as 10000, 1 or 100
            (defaults to what the scene says, or what its values look like)
        min_coverage: Least share of a scene that Sentinel-1 and the cloud mask must
            cover; elsewhere Sentinel-1 is replaced by its mean
        s1_unit: Unit of Sentinel-1, 'dB', 'power' (linear) or 'amplitude' (defaults to the
            one that its values are like)
        date: Day of scenes whose files do not tell it for sure, such as '2023-02-10'
        max_days: Largest number of days between a scene and Sentinel-1
        fill_gaps: Fill gaps of the nearest pass of Sentinel-1 from others, the nearest in
            time first
        dtype: 'uint16' for reflectance x 10000, 'float32' for reflectance
        quicklook: Draw each scene before and after, beside its GeoTIFF
        num_workers: Number of processes that read tiles; by default a thread does,
            beside the model
        accelerator: 'cpu', 'gpu', or 'auto' for what there is
        devices: Number of processes on each machine that share the scenes, each with a
            device of its own; from Python each of them runs the whole script
        num_nodes: Number of machines
        overwrite: Replace what exists

    Returns:
        What was written; None in all processes but the first.

    Raises:
        FileExistsError: If *out* is a GeoTIFF that exists and *overwrite* is not set.
        OSError: If a file cannot be read or written, or if scenes among several could not
            be used, once the others are done.
        FloatingPointError: If the model makes values that are NaN or infinite.
        ValueError: If an argument is out of range, the checkpoint cannot be read, or a
            scene or Sentinel-1 is not what is expected.
    """
    end_with_parent()
    _check_processes(devices, num_nodes)
    with _said_once():
        files = _find_files(cloudy, s1, composite)
    paths = _output_paths(files, out)
    _check_outputs(paths, files, cloudy)
    for folder in {os.path.dirname(path) for path in paths.values()}:
        remove_leftovers(folder or os.curdir)
    if os.fspath(out) in paths.values():
        check_absent(out, overwrite)

    radar = RadarOptions(s1_unit, date, max_days, fill_gaps, min_coverage)
    with _said_once():
        scenes = PlanetScopeScenes(
            files, bands=bands, scale=scale, radar=radar, strict=len(files) == 1
        )
    masks = {scene.cloudy: scene.mask for scene in files if scene.mask}
    # Scenes of which nothing is kept although that is asked for
    whole = paths.keys() - masks.keys() if masks or composite is not None else set()
    # Scenes whose results stay as they are have no tiles
    writer = GeoTIFFWriter(
        paths,
        overlap,
        dtype,
        scenes.bands_of,
        masks,
        quicklook,
        scale=scale,
        overwrite=True,
    )
    task = _make_task(model)
    settings = {
        'tile_size': tile_size,
        'scale': scale,
        # By the names that users give
        's1_unit': s1_unit,
        'date': date,
        'max_days': max_days,
        'fill_gaps': fill_gaps,
        'min_coverage': min_coverage,
        **writer.options,
    }
    writer.origins = _describe_results(scenes, task, model, settings)
    done, others = _find_results(paths, {} if overwrite else writer.origins)
    tiles = SceneTiles(
        scenes,
        tile_size=tile_size,
        overlap=overlap,
        batch_size=batch_size,
        num_workers=num_workers,
        pin_memory=torch.cuda.is_available() and accelerator != 'cpu',
        done=done | others.keys(),
        failed=writer.problems,
    )
    progress = TileProgress(tiles.sampler)
    trainer = _make_trainer([writer, progress], accelerator, devices, num_nodes)
    with rasterio.Env(GDAL_CACHEMAX=CACHE_SIZE), warnings.catch_warnings():
        # No tile is left out, and one thread that reads is enough for most models
        warnings.filterwarnings('ignore', 'You are using a custom batch sampler')
        warnings.filterwarnings('ignore', '.* does not have many workers')
        try:
            _predict(trainer, task, tiles)
        except FloatingPointError as error:
            if isinstance(model, nn.Module):
                raise
            raise FloatingPointError(f'{model}: {error}') from error
    unreadable = {scene: OSError(text) for scene, text in writer.problems.items()}
    problems = _gather(tiles.problems | unreadable)
    problems |= others
    coverage = _gather({s: found.coverage for s, found in tiles.surveys.items()})
    if not trainer.is_global_zero:
        return None
    if len(files) == 1 and not done:
        for error in problems.values():
            raise error
        height, width = scenes.headers[0].grid[-2:]
        share = f'{100 * coverage[files[0].cloudy]:.0f} %'
        text = f'{out}: {height} x {width} pixels, Sentinel-1 covers {share}'
        return f'{text}; restored as a whole, as it has no mask' if whole else text
    made = {scene: share for scene, share in coverage.items() if scene not in problems}
    # Processes of several machines may see different files
    known = made.keys() | problems.keys() | done
    for scene in paths.keys() - known:
        problems[scene] = OSError(f'{scene} was left out: run the same command again')
    return _summarize(out, made, len(done), len(whole & made.keys()), problems)


def _check_processes(devices: int, num_nodes: int) -> None:
    """Refuse another number of processes than torchrun has started."""
    if 'TORCHELASTIC_RUN_ID' in os.environ:
        processes = int(os.environ['WORLD_SIZE'])
        if processes != devices * num_nodes:
            raise ValueError(
                f'torchrun has started {processes} processes, and devices={devices} and '
                f'num_nodes={num_nodes} make {devices * num_nodes}: give both'
            )


@contextmanager
def _said_once() -> Iterator[None]:
    """Let the first of several processes alone say what all of them find out."""
    with warnings.catch_warnings():
        if rank_zero_only.rank:
            warnings.simplefilter('ignore', AssumptionWarning)
        yield


def _find_files(
    cloudy: Path | Sequence[Path],
    s1: Path | Sequence[Path] | None,
    masks: Path | Sequence[Path] | None,
) -> list[SceneFiles]:
    """Find scenes, each of which must have Sentinel-1."""
    files = find_scenes(cloudy, s1, masks)
    if s1 is None and not all(scene.s1 or scene.problem for scene in files):
        raise ValueError('s1 is missing: give the images of Sentinel-1 (--s1)')
    return files


def _output_paths(scenes: Sequence[SceneFiles], out: Path) -> dict[str, str]:
    """GeoTIFF to write for each scene."""
    path = os.fspath(out)
    if path.lower().endswith(('.tif', '.tiff')):
        if len(scenes) > 1:
            raise ValueError(
                f'{out} is one file, and there are {len(scenes)} scenes: give a folder'
            )
        return {scenes[0].cloudy: path}
    if os.path.splitext(path)[1] and not os.path.isdir(path):
        raise ValueError(
            f'{out} must end with .tif, as it becomes a GeoTIFF, or be a folder: if its '
            'name has a dot, make the folder first'
        )
    names = _name_results([files.cloudy for files in scenes])
    return {scene: os.path.join(path, f'{name}.tif') for scene, name in names.items()}


def _name_results(scenes: Sequence[str]) -> dict[str, str]:
    """Name the results of scenes, in folders as theirs if several are called the same."""
    same: dict[str, list[str]] = {}
    for scene in dict.fromkeys(scenes):
        same.setdefault(stem(scene), []).append(scene)
    names: dict[str, str] = {}
    for name, group in same.items():
        folders = [os.path.dirname(os.path.abspath(without_query(s))) for s in group]
        top = os.path.commonpath(folders)
        for scene, folder in zip(group, folders, strict=True):
            # Beside each other they differ in what follows on this name
            own = name if folders.count(folder) == 1 else os.path.basename(scene)
            names[scene] = os.path.normpath(
                os.path.join(os.path.relpath(folder, top), own)
            )
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
                raise IsADirectoryError(f'{written} is a folder: write to a file')
            place = os.path.realpath(written)
            if place in sources:
                raise ValueError(
                    f'{written} would replace what is read: write elsewhere'
                )
            for folder in folders:
                if os.path.commonpath([place, folder]) == folder:
                    raise ValueError(
                        f'{written} lies in {folder}, which is searched for scenes: write '
                        'elsewhere'
                    )


def _describe_results(
    scenes: PlanetScopeScenes,
    task: LightningModule,
    model: Path | nn.Module,
    settings: Mapping[str, Any],
) -> dict[str, Origin]:
    """Describe what each scene that can be used is restored of and with."""
    facts = describe(task, settings)
    name = type(model).__name__ if isinstance(model, nn.Module) else file_stamp(model)
    notes = {'checkpoint': name}
    origins = {}
    for path, bands in scenes.bands_of.items():
        files = scenes.scenes[path]
        own = {
            'cloudy': file_stamp(path),
            's1': ', '.join(map(file_stamp, files.s1)) or 'none',
            'mask': file_stamp(files.mask) if files.mask else 'none',
            'bands': ', '.join(map(str, bands)),
        }
        origins[path] = Origin({**own, **facts}, notes)
    return origins


def _find_results(
    paths: Mapping[str, str], origins: Mapping[str, Origin]
) -> tuple[set[str], dict[str, OSError | ValueError]]:
    """Find what is there: finished scenes, and why others would replace something."""
    done: set[str] = set()
    others: dict[str, OSError | ValueError] = {}
    for scene, origin in origins.items():
        if os.path.lexists(paths[scene]):
            if reason := say_difference(paths[scene], origin):
                others[scene] = exists_error(reason)
            else:
                done.add(scene)
    return done, others


def _make_task(model: Path | nn.Module) -> LightningModule:
    """Make the task that restores tiles."""
    if isinstance(model, LightningModule):
        task = model
    elif isinstance(model, nn.Module):
        # The device and the mode of what was given are not ours to change
        task = CloudRemoval(model=deepcopy(model))
    else:
        task = load_task(model)
    return task


def _make_trainer(
    callbacks: list[Callback], accelerator: str, devices: int, num_nodes: int
) -> Trainer:
    """Make a trainer that does nothing but predict."""
    return Trainer(
        accelerator=accelerator,
        devices=devices,
        num_nodes=num_nodes,
        # The strategy that Lightning would choose in a notebook cannot be interrupted
        strategy='auto'
        if devices * num_nodes == 1
        else DDPStrategy(timeout=PROCESS_TIMEOUT),
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


def _summarize(
    out: Path,
    coverage: Mapping[str, float],
    num_done: int,
    num_whole: int,
    problems: Mapping[str, Exception],
) -> str:
    """Say what became of several scenes.

    Raises:
        OSError: If something is wrong with one of them.
    """
    text = f'{out}: {len(coverage)} scene{"" if len(coverage) == 1 else "s"}'
    if coverage:
        least = 100 * min(coverage.values())
        text += f', of which Sentinel-1 covers {least:.0f} % or more'
    if num_whole:
        text += f'; {num_whole} without a mask, restored as a whole'
    if num_done:
        text += f'; {num_done} were there already'
    num_other = sum(isinstance(error, FileExistsError) for error in problems.values())
    if num_other:
        text += f'; {num_other} have other results, which stay as they are'
    if num_bad := len(problems) - num_other:
        text += f'; {num_bad} could not be used'
    if problems:
        raise OSError('\n'.join([f'{text}:', *map(str, problems.values())]))
    return text
