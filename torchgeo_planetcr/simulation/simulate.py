# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""A simulated Planet-CR data set."""

import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torchgeo.datasets.utils import Path
from tqdm import tqdm

from ..datasets.modalities import LIST_COLUMNS, MODALITIES, ModalityName
from ..datasets.patch_files import PATCH_SIZE, patch_path, write_patch
from ..raster.grid import Grid
from ..raster.text import read_json
from ..raster.write import UNFINISHED, exists_error, remove_leftovers, write_text
from .area import COARSE_PATCH_SIZE, Area, choose_area, image_description, simulate_area
from .checks import MAX_SEED, check_range
from .presets import PresetName, find_preset

type Split = Literal['train', 'val', 'test']

#: File in the root that says how the data set was simulated.
RECORD_NAME = 'simulation.json'

#: Largest number of areas, and of patches of each area.
MAX_AREAS, MAX_PATCHES = 10_000, 100

#: Share of the areas for testing, and share of the other areas for validation.
TEST_SHARE, VALIDATION_SHARE = 0.2, 0.1


def simulate(
    root: Path,
    areas: int = 24,
    patches: int = 4,
    seed: int = 0,
    preset: PresetName = 'usual',
    num_workers: int | None = None,
    overwrite: bool = False,
) -> str:
    """Simulate a Planet-CR data set with areas in UTM zones around the world.

    It has the layout, names, types, nodata values and grids of the archive. Nothing in it
    is an image of the Earth, and each GeoTIFF says so in its metadata. After an
    interruption, the same call makes the patches that are missing.

    Args:
        root: Folder to write to
        areas: Number of areas, 2 to 10000. A fifth of them is for testing
        patches: Number of patches of each area, 1 to 100
        seed: Number from 0 that decides what the data set looks like
        preset: Conditions: usual; clear, without any cloud and haze; haze, cirrus or shadow
            alone; overcast; or wide, to train on: all of them, more snow, sand, salt and
            water, cloudy images of other colors and misplaced by up to two pixels, and
            Sentinel-1 of other brightness
        num_workers: Number of threads (defaults to one for each processor)
        overwrite: Replace another simulation, and accept a folder with other files

    Returns:
        A sentence that says what was simulated.

    Raises:
        FileExistsError: If *root* holds anything else and *overwrite* is not set, or if it
            holds patches that were not simulated.
        OSError: If a file cannot be written.
        ValueError: If a number is out of range, or there is no preset of this name.
    """
    for name, value, low, high in (
        ('areas', areas, 2, MAX_AREAS),
        ('patches', patches, 1, MAX_PATCHES),
        ('seed', seed, 0, MAX_SEED),
        ('num_workers', num_workers or 1, 1, 1024),
    ):
        check_range(name, value, low, high)
    found = find_preset(preset)
    remove_leftovers(root)
    record = {'areas': areas, 'patches': patches, 'seed': seed, 'preset': preset}
    _claim_folder(root, record, overwrite)

    columns = math.ceil(math.sqrt(patches))
    rows = math.ceil(patches / columns)
    chosen = [choose_area(found, seed, n, rows, columns) for n in range(1, areas + 1)]
    split_of = _split_areas(seed, areas)
    write = partial(_write_area, root, seed, patches, split_of)
    with tqdm(total=areas * patches, unit='patch') as bar:
        _write_areas(write, chosen, num_workers, bar)
    _write_split_lists(root, chosen, patches, split_of)
    counts = [
        list(split_of.values()).count(split) for split in ('train', 'val', 'test')
    ]
    zones = len({area.grid.crs for area in chosen})
    train, val, test = (count * patches for count in counts)
    return (
        f'{root}: {areas * patches} simulated patches of {areas} areas in {zones} UTM '
        f'zones, {train} for training, {val} for validation and {test} for testing'
    )


def _claim_folder(root: Path, arguments: dict[str, Any], overwrite: bool) -> None:
    """Check that a folder can be used, and write there what it will hold."""
    record = {
        'about': 'Simulated by torchgeo-planetcr. Nothing here is an image of the Earth.',
        'version': version('torchgeo-planetcr'),
        **arguments,
    }
    path = os.path.join(root, RECORD_NAME)
    # Before the record: another process that simulates the same writes that first
    names = os.listdir(root) if os.path.exists(root) else []
    others = [name for name in names if not name.startswith(UNFINISHED)]
    if os.path.lexists(path):
        if _holds(path, record, overwrite):
            return
        if not overwrite:
            raise exists_error(f'{root} holds another simulation, see {path}')
        for folder in ('train', 'test', 'csv'):
            shutil.rmtree(os.path.join(root, folder), ignore_errors=True)
    elif others:
        for folder in ('train', 'test'):
            if os.path.exists(os.path.join(root, folder)):
                raise FileExistsError(
                    f'{root} holds patches that were not simulated: choose another '
                    'folder, because simulated and real patches must not be mixed'
                )
        if not overwrite:
            raise exists_error(
                f'{root} is not empty',
                'choose another folder, or add the simulation to it',
            )
    write_text(path, json.dumps(record, indent=2) + '\n')


def _holds(path: str, record: dict[str, Any], overwrite: bool) -> bool:
    """Whether the record of a simulation is this one."""
    try:
        return read_json(path) == record
    except OSError as error:
        if overwrite:
            return False
        raise OSError(
            f'{error}. It says what was simulated: replace it, and the simulation, with '
            '--overwrite (overwrite=True)'
        ) from error


def _split_areas(seed: int, areas: int) -> dict[int, Split]:
    """Split of each area, by its number."""
    order = (np.random.default_rng([seed, 0]).permutation(areas) + 1).tolist()
    test = max(round(TEST_SHARE * areas), 1)
    # At least one area is for training
    val = min(math.ceil(VALIDATION_SHARE * (areas - test)), areas - test - 1)
    return {
        number: 'test' if place < test else 'val' if place < test + val else 'train'
        for place, number in enumerate(order)
    }


def _write_area(
    root: Path, seed: int, patches: int, split_of: dict[int, Split], area: Area
) -> int:
    """Write the missing patches of an area, and return the number of all its patches."""
    split: Literal['train', 'test'] = (
        'test' if split_of[area.number] == 'test' else 'train'
    )
    missing = [
        number
        for number in range(1, patches + 1)
        if not os.path.exists(patch_path(root, split, area.aoi, number, 'cloudy'))
    ]
    if missing:
        images = simulate_area(seed, area)._asdict()
    for number in missing:
        row, column = divmod(number - 1, area.grid.width // PATCH_SIZE)
        patch: dict[ModalityName, tuple[NDArray[Any], Grid]] = {}
        for name, modality in MODALITIES.items():
            is_coarse = modality.is_coarse
            size = COARSE_PATCH_SIZE if is_coarse else PATCH_SIZE
            grid = area.coarse_grid if is_coarse else area.grid
            window = grid.window(size * row, size * column, size, size)
            rows = slice(size * row, size * (row + 1))
            columns = slice(size * column, size * (column + 1))
            patch[name] = images[name][:, rows, columns], window
        write_patch(root, split, area.aoi, number, patch, image_description(seed, area))
    return patches


def _write_split_lists(
    root: Path, areas: Sequence[Area], patches: int, split_of: dict[int, Split]
) -> None:
    """Write the list of each split as the archive has it."""
    folder = os.path.join(root, 'csv')
    os.makedirs(folder, exist_ok=True)
    for split in ('train', 'val', 'test'):
        lines = []
        for area in areas:
            if split_of[area.number] != split:
                continue
            for number in range(1, patches + 1):
                paths = (
                    patch_path('', '', area.aoi, number, modality).lstrip(os.sep)
                    for modality in LIST_COLUMNS
                )
                lines.append(','.join(path.replace(os.sep, '/') for path in paths))
        write_text(os.path.join(folder, f'{split}.csv'), '\n'.join(lines) + '\n')


def _write_areas(
    write: Callable[[Area], int],
    areas: Sequence[Area],
    num_workers: int | None,
    bar: tqdm,
) -> None:
    """Write areas in threads, and show on a bar how many patches are done."""
    workers = num_workers or os.cpu_count() or 1
    with _single_threaded_torch(), ThreadPoolExecutor(workers) as executor:
        try:
            for future in as_completed(
                [executor.submit(write, area) for area in areas]
            ):
                bar.update(future.result())
        except BaseException:
            executor.shutdown(wait=False, cancel_futures=True)
            raise


@contextmanager
def _single_threaded_torch() -> Iterator[None]:
    """Let PyTorch use one thread, because each area already has a thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
