# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Processes that read an archive for long, and one that changes it meanwhile."""

import contextlib
import gc
import os
import random
import resource
import time
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from torch.utils.data import DataLoader
from torchgeo.datasets import stack_samples

from torchgeo_planetcr import NativeSlice, PlanetCR
from torchgeo_planetcr.datasets import PlanetCRCloudy
from torchgeo_planetcr.datasets.modalities import MODALITIES
from torchgeo_planetcr.datasets.patch_files import patch_path, write_patch
from torchgeo_planetcr.samplers import (
    CenterNativePatchSampler,
    RandomNativePatchSampler,
)

from .inputs import FINE, make_images

#: Number of patches of which some are there, see `change`.
PATCHES = 12


def open_files() -> int:
    """Number of files that this process has open."""
    return len(os.listdir('/proc/self/fd'))


def resident() -> int:
    """Bytes of memory that this process has."""
    return int(Path('/proc/self/statm').read_text().split()[1]) * resource.getpagesize()


def open_archive(root: Path) -> PlanetCR:
    """Open an archive without a word."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        return PlanetCR(root, 'train')


def read_windows(root: Path, count: int, seed: int) -> dict[str, int]:
    """Read random windows of random patches of all modalities.

    Returns:
        Number of reads, most files open, and growth of memory in bytes.
    """
    dataset, rng = open_archive(root), random.Random(seed)
    index = dataset.index
    rows = [*zip(index['native_bounds'], index['native_crs'], index['filepath'])]
    most = first = 0
    steps = max(count // len(MODALITIES), 8)
    for number in range(steps):
        (xmin, ymin, _, _), crs, path = rng.choice(rows)
        x, y = (start + 3 * rng.randrange(FINE - 16) for start in (xmin, ymin))
        window = NativeSlice(slice(x, x + 48), slice(y, y + 48), slice(None), crs, path)
        assert dataset[window]['image'].shape == (4, 16, 16)
        if number == steps // 4:
            gc.collect()
            first = resident()
        if number % 50 == 0:
            most = max(most, open_files())
    gc.collect()
    return {
        'reads': steps * len(MODALITIES),
        'files': most,
        'growth': resident() - first,
    }


def read_in_processes(root: Path, method: str) -> list[list[float]]:
    """Sums of samples as this process and those of a data loader read them."""
    dataset = open_archive(root)

    def windows() -> RandomNativePatchSampler:
        return RandomNativePatchSampler(dataset, size=16, length=100, generator=1)

    plain = [dataset[window]['image'].sum().item() for window in windows()]
    loader = DataLoader(
        dataset,
        batch_size=10,
        sampler=windows(),
        num_workers=2,
        multiprocessing_context=method,
        collate_fn=stack_samples,
    )
    sums = [
        value for batch in loader for value in batch['image'].sum((1, 2, 3)).tolist()
    ]
    return [plain, sums]


def read_in_threads(root: Path, rounds: int) -> dict[str, int]:
    """Read in threads that come and go; numbers of reads and of files that are open."""
    dataset = PlanetCRCloudy(sorted(map(str, root.rglob('planet_cloudy_*.tif'))))

    def read(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(20):
            header = dataset.headers[rng.randrange(len(dataset.headers))]
            assert dataset.read_window(header, 0, 0, 16, 16).shape == (4, 16, 16)

    most = 0
    for number in range(rounds):
        with ThreadPoolExecutor(2) as executor:
            assert [*executor.map(read, (2 * number, 2 * number + 1))] == [None, None]
        most = max(most, open_files())
    return {'reads': 40 * rounds, 'files': most}


def read_rewritten(root: Path, count: int) -> int:
    """Read files that are written anew again and again; number of wrong reads."""
    paths = sorted(map(str, root.rglob('planet_cloudy_*.tif')))[:10]
    dataset, rng, wrong = PlanetCRCloudy(paths), random.Random(0), 0
    for number in range(count):
        path = rng.choice(paths)
        with rasterio.open(path) as source:
            profile: Any = {**source.profile, 'compress': [None, 'deflate'][number % 2]}
        with rasterio.open(f'{path}.new', 'w', **profile) as target:
            target.write(np.full((4, FINE, FINE), number + 1, np.uint16))
        os.replace(f'{path}.new', path)
        header = dataset.headers[dataset.headers.find(path)]
        wrong += not (dataset.read_window(header, 0, 0, FINE, FINE) == number + 1).all()
    return wrong


def fail_to_read(root: Path, count: int) -> int:
    """Open damaged files again and again; number of files that stay open."""
    paths = sorted(root.rglob('planet_cloudy_*.tif'))[:10]
    for number, path in enumerate(paths):
        os.truncate(path, path.stat().st_size - 100 * (number + 1))
    opened = []
    for path in count * paths:
        with contextlib.suppress(OSError):
            PlanetCRCloudy.read_header(str(path))
        opened.append(open_files())
    # GDAL opens some files of its own
    return opened[-1] - opened[len(paths)]


def change(root: Path, seconds: float, seed: int) -> int:
    """Add, replace and remove patches whose images have one value each; number of changes."""
    rng, changes, end = random.Random(seed), 0, time.monotonic() + seconds
    while time.monotonic() < end:
        number = rng.randint(1, PATCHES)
        if rng.random() < 0.6:
            write_constant(root, number, rng.randint(1, 9999))
        else:
            for modality in rng.sample(list(MODALITIES), len(MODALITIES)):
                Path(patch_path(root, 'train', 'fall_1', number, modality)).unlink(True)
        changes += 1
        time.sleep(rng.uniform(0, 0.05))
    return changes


def write_constant(root: Path, number: int, value: int) -> None:
    """Write a patch whose optical images have one value."""
    rng = np.random.default_rng(number)
    images: Any = make_images(rng, 'EPSG:32612', 300_000 + 3000 * number, 5_000_010)
    for modality in ('cloudy', 'clear'):
        array, grid = images[modality]
        images[modality] = np.full_like(array, value), grid
    write_patch(root, 'train', 'fall_1', number, images)


def open_again(root: Path, seconds: float) -> dict[str, Any]:
    """Open and read an archive that changes, see `change`.

    Returns:
        Number of openings and of reads, and what was wrong, with how often.
    """
    problems: Counter[str] = Counter()
    opened, read, end = 0, 0, time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            dataset = open_archive(root)
            opened += 1
            for window in CenterNativePatchSampler(dataset, size=None):
                sample = dataset[window]
                read += 1
                if any(
                    sample[key].unique().numel() > 1 for key in ('image', 'image_clear')
                ):
                    problems[f'mixed pixels of {window.filepath}'] += 1
        # A file that has gone or changed is named
        except (OSError, ValueError) as error:
            if 'fall_1_p_' not in str(error) and 'not found' not in str(error):
                problems[f'{type(error).__name__}: {error}'[:300]] += 1
    return {'opened': opened, 'read': read, 'problems': dict(problems)}


def open_twice(root: Path) -> list[list[str]]:
    """Patches with the kept index, and without it."""
    kept = open_archive(root).index['patch'].tolist()
    (root / 'planetcr_index.parquet').unlink()
    return [kept, open_archive(root).index['patch'].tolist()]
