# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""A simulated Planet-CR."""

import json
import math
import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from typing import Any, Literal

import numpy as np
import torch
from torchgeo.datasets.utils import Path
from tqdm import tqdm

from ..datasets.archive import LIST_COLUMNS, patch_path
from ..datasets.components import COARSE
from ..datasets.writing import write_patch, write_text
from .area import COARSE_PATCH, PATCH, Area, choose_area, describe, simulate_area

#: File that says what a folder holds.
RECORD = 'simulation.json'

#: Largest numbers of areas and of patches in each.
MAX_AREAS, MAX_PATCHES = 10_000, 100

#: Share of the areas for testing, and of the others for validation.
TEST_SHARE, VALIDATION_SHARE = 0.2, 0.1


def simulate(
    root: Path,
    areas: int = 24,
    patches: int = 4,
    seed: int = 0,
    num_workers: int | None = None,
    overwrite: bool = False,
) -> str:
    """Simulate a Planet-CR tree: land, clouds and radar in UTM zones around the world.

    It has the layout, names, types, nodata values and grids of the archive. Nothing in it
    is an image of the Earth, which each GeoTIFF says in its metadata. A run that was
    interrupted goes on where it was.

    Args:
        root: folder to make it in
        areas: number of areas, 2 to 10000; a fifth of them is for testing
        patches: number of patches of each area, 1 to 100
        seed: number that decides what it looks like, from 0
        num_workers: number of threads (defaults to one for each processor)
        overwrite: replace another simulation, and accept a folder with other files

    Returns:
        What was made.

    Raises:
        FileExistsError: If *root* holds anything else and *overwrite* is not set, or if it
            holds patches that were not simulated.
        OSError: If a file cannot be written.
        ValueError: If a number is out of range.
    """
    for name, value, low, high in (
        ('areas', areas, 2, MAX_AREAS),
        ('patches', patches, 1, MAX_PATCHES),
        ('seed', seed, 0, 2**32 - 1),
        ('num_workers', num_workers or 1, 1, 1024),
    ):
        if not low <= value <= high:
            msg = f'{name}={value} must be from {low} to {high}.'
            raise ValueError(msg)
    _claim(root, {'areas': areas, 'patches': patches, 'seed': seed}, overwrite)

    columns = math.ceil(math.sqrt(patches))
    rows = math.ceil(patches / columns)
    chosen = [choose_area(seed, n, rows, columns) for n in range(1, areas + 1)]
    split_of = _split(seed, areas)
    make = partial(_make_area, root, seed, patches, split_of)
    workers = num_workers or os.cpu_count() or 1
    with (
        _one_thread_each(),
        ThreadPoolExecutor(workers) as executor,
        tqdm(total=areas * patches, unit='patch') as bar,
    ):
        try:
            for future in as_completed(
                [executor.submit(make, area) for area in chosen]
            ):
                bar.update(future.result())
        except BaseException:
            executor.shutdown(wait=False, cancel_futures=True)
            raise
    _write_lists(root, chosen, patches, split_of)
    counts = [
        list(split_of.values()).count(split) for split in ('train', 'val', 'test')
    ]
    zones = len({area.grid.crs for area in chosen})
    train, val, test = (count * patches for count in counts)
    return (
        f'{root}: {areas * patches} simulated patches of {areas} areas in {zones} UTM '
        f'zones, {train} for training, {val} for validation and {test} for testing'
    )


def _claim(root: Path, arguments: dict[str, Any], overwrite: bool) -> None:
    """Say in the folder what it will hold, unless it holds something else."""
    record = {
        'about': 'Simulated by torchgeo-planetcr. Nothing here is an image of the Earth.',
        'version': version('torchgeo-planetcr'),
        **arguments,
    }
    path = os.path.join(root, RECORD)
    if os.path.isfile(path):
        with open(path, encoding='utf-8') as file:
            if json.load(file) == record:
                return
        if not overwrite:
            msg = f'{root} holds another simulation, see {path}: make this one in another '
            msg += 'folder, or replace that one with --overwrite (overwrite=True).'
            raise FileExistsError(msg)
        for folder in ('train', 'test', 'csv'):
            shutil.rmtree(os.path.join(root, folder), ignore_errors=True)
    elif os.path.exists(root) and os.listdir(root):
        for folder in ('train', 'test'):
            if os.path.exists(os.path.join(root, folder)):
                msg = f'{root} holds patches that were not simulated, and the two must '
                msg += 'not be mixed: take another folder.'
                raise FileExistsError(msg)
        if not overwrite:
            msg = f'{root} is not empty: take another folder, or use it all the same with '
            msg += '--overwrite (overwrite=True).'
            raise FileExistsError(msg)
    os.makedirs(root, exist_ok=True)
    write_text(path, json.dumps(record, indent=2) + '\n')


def _split(seed: int, areas: int) -> dict[int, Literal['train', 'val', 'test']]:
    """Split of each area."""
    order = (np.random.default_rng([seed, 0]).permutation(areas) + 1).tolist()
    test = max(round(TEST_SHARE * areas), 1)
    # With one area left, it is for training
    val = min(math.ceil(VALIDATION_SHARE * (areas - test)), areas - test - 1)
    return {
        number: 'test' if place < test else 'val' if place < test + val else 'train'
        for place, number in enumerate(order)
    }


def _make_area(
    root: Path,
    seed: int,
    patches: int,
    split_of: dict[int, Literal['train', 'val', 'test']],
    area: Area,
) -> int:
    """Make the patches of an area that are not there; returns the number of its patches."""
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
        row, column = divmod(number - 1, area.grid.width // PATCH)
        patch: dict[Any, Any] = {}
        for modality, image in images.items():
            is_coarse = modality in COARSE
            size = COARSE_PATCH if is_coarse else PATCH
            grid = area.coarse_grid if is_coarse else area.grid
            window = grid.window(size * row, size * column, size, size)
            rows = slice(size * row, size * (row + 1))
            columns = slice(size * column, size * (column + 1))
            patch[modality] = image[:, rows, columns], window
        write_patch(root, split, area.aoi, number, patch, describe(seed, area))
    return patches


def _write_lists(
    root: Path,
    areas: Sequence[Area],
    patches: int,
    split_of: dict[int, Literal['train', 'val', 'test']],
) -> None:
    """Write the lists of the splits, as the archive has them."""
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


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Let PyTorch use no threads of its own, where there is one for each area."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
