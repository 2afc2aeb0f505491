# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Read the same random crops in five ways, compare the pixels, and measure the time."""

import time
from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from operator import and_
from pathlib import Path
from typing import Any, NamedTuple

import fake_archive
import numpy as np
import rasterio
import torch
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.windows import from_bounds
from torch.utils.data import DataLoader, Dataset
from torchgeo.datasets import GeoDataset, RasterDataset, stack_samples
from torchgeo.datasets.utils import Sample

from torchgeo_planetcr import NativeSlice, PlanetCR
from torchgeo_planetcr.datasets.modalities import MODALITIES
from torchgeo_planetcr.samplers import RandomNativePatchSampler

#: Height and width of a crop in pixels of 3 m.
SIZE = 160

#: Modalities with pixels of 10 m.
COARSE = [name for name, modality in MODALITIES.items() if modality.is_coarse]

#: Height and width of a crop in pixels of 10 m.
COARSE_SIZE = 48

BATCH_SIZE = 16
WORKERS = 2

#: Names of the five ways, which are called contestants.
PLANETCR = 'PlanetCR'
FLOOR = 'floor (numpy.memmap)'
RASTERIO = 'plain rasterio'
CACHED = 'plain TorchGeo, cache on'
UNCACHED = 'plain TorchGeo, cache off'


class Mask(RasterDataset):
    """Land cover or cloud mask."""

    is_image = False


class Reader(Dataset[Sample]):
    """Data set that reads crops with any function."""

    def __init__(self, read: Callable[[NativeSlice], Sample]) -> None:
        """Initialize a new Reader instance.

        Args:
            read: Function that reads a crop.
        """
        self.read = read

    def __getitem__(self, index: NativeSlice) -> Sample:
        """Read a crop.

        Args:
            index: Where the crop is.

        Returns:
            The crop.
        """
        return self.read(index)


def plain_torchgeo(dataset: PlanetCR, masks: Sequence[str], cache: bool) -> GeoDataset:
    """Join the files with plain TorchGeo.

    Args:
        dataset: Data set of the files.
        masks: Cloud masks as GeoTIFFs.
        cache: Whether TorchGeo keeps files open.

    Returns:
        TorchGeo's intersection of five data sets.
    """
    datasets: list[GeoDataset] = []
    for modality, key in dataset.keys.items():
        paths = masks if modality == 'cloud_mask' else dataset.index[modality].tolist()
        create = Mask if key.startswith('mask') else RasterDataset
        datasets.append(create(paths, cache=cache))
    return reduce(and_, datasets)


def plain_rasterio(
    dataset: PlanetCR, masks: Sequence[str]
) -> Callable[[NativeSlice], Sample]:
    """Open each file with rasterio, and read the window, Sentinel-1 bilinear.

    Args:
        dataset: Data set of the files.
        masks: Cloud masks as GeoTIFFs.

    Returns:
        Function that reads a crop.
    """
    index = dataset.index.assign(cloud_mask=masks)
    files = dict(zip(index['filepath'], index[list(dataset.keys)].to_dict('records')))

    def read(query: NativeSlice) -> Sample:
        assert query.filepath
        bounds = (query.x.start, query.y.start, query.x.stop, query.y.stop)
        sample = {}
        paths = files[query.filepath]
        for modality, key in dataset.keys.items():
            is_mask = key.startswith('mask')
            with rasterio.open(paths[modality]) as src:
                array = src.read(
                    window=from_bounds(*bounds, src.transform),
                    out_shape=(src.count, SIZE, SIZE) if modality in COARSE else None,
                    resampling=Resampling.nearest if is_mask else Resampling.bilinear,
                )
            array = array.astype(np.int64 if is_mask else np.float32)
            sample[key] = torch.from_numpy(array[0] if is_mask else array)
        return sample

    return read


class FilePixels(NamedTuple):
    """Where the pixels of a file are in the file and on the ground."""

    key: str
    path: str
    dtype: str
    offset: int
    shape: tuple[int, int, int]
    xmin: float
    ymax: float
    res: float
    size: int


def floor(dataset: PlanetCR) -> Callable[[NativeSlice], Sample]:
    """Read the bytes of each window and convert them, and do nothing more.

    Where the bytes are is found out before. Pixels of 10 m are not put on the grid of 3 m,
    and codes of land cover stay as they are.

    Args:
        dataset: Data set of the files.

    Returns:
        Function that reads a crop.
    """
    files: dict[str, list[FilePixels]] = {
        path: [] for path in dataset.index['filepath']
    }
    for modality, key in dataset.keys.items():
        headers = dataset.components[modality].headers
        for row, places in enumerate(files.values()):
            path, grid, _, layout, _ = headers[row]
            assert layout and (layout.interleave == 'pixel' or layout.count == 1)
            places.append(
                FilePixels(
                    key,
                    path,
                    layout.dtype,
                    layout.offset,
                    (grid.height, grid.width, layout.count),
                    grid.xmin,
                    grid.ymax,
                    grid.xres,
                    COARSE_SIZE if modality in COARSE else SIZE,
                )
            )

    def read(query: NativeSlice) -> Sample:
        assert query.filepath
        sample = {}
        for key, path, dtype, offset, shape, xmin, ymax, res, size in files[
            query.filepath
        ]:
            row = min(max(round((ymax - query.y.stop) / res), 0), shape[0] - size)
            col = min(max(round((query.x.start - xmin) / res), 0), shape[1] - size)
            array = np.memmap(path, dtype, 'r', offset, shape)
            array = array[row : row + size, col : col + size].transpose(2, 0, 1)
            if key.startswith('mask'):
                sample[key] = torch.from_numpy(array[0].astype(np.int64, order='C'))
            else:
                sample[key] = torch.from_numpy(array.astype(np.float32, order='C'))
        return sample

    return read


def _differences(first: Sample, second: Sample) -> list[str]:
    """Keys of *second* whose pixels are not exactly those of *first*."""
    return [key for key, value in second.items() if not torch.equal(value, first[key])]


def _split_torchgeo(sample: Sample) -> Sample:
    """Split the tensors that TorchGeo's intersection has concatenated."""
    cloudy, clear, sentinel1 = sample['image'].split((4, 4, 2))
    landcover, cloud = sample['mask'].split(SIZE)
    return {
        'image': cloudy,
        'image_clear': clear,
        'image_s1': sentinel1,
        'mask': landcover,
        'mask_cloud': cloud,
    }


class Contestants:
    """Archive of 36 patches, and the functions that read crops of it."""

    def __init__(self, folder: Path) -> None:
        """Initialize a new Contestants instance.

        Args:
            folder: Folder to write the archive to.
        """
        self.folder = folder
        fake_archive.make_pixels(folder / 'pixels')
        masks = folder / 'masks'
        masks.mkdir()
        self.dataset = PlanetCR(folder / 'pixels', 'train')
        paths = fake_archive.write_masks(self.dataset, masks)
        cached = plain_torchgeo(self.dataset, paths, cache=True)
        uncached = plain_torchgeo(self.dataset, paths, cache=False)
        self.read: dict[str, Callable[[NativeSlice], Sample]] = {
            FLOOR: floor(self.dataset),
            PLANETCR: self.dataset.__getitem__,
            RASTERIO: plain_rasterio(self.dataset, paths),
            CACHED: cached.__getitem__,
            UNCACHED: uncached.__getitem__,
        }

    def windows(self, count: int, seed: int) -> list[NativeSlice]:
        """Draw random windows.

        Args:
            count: Number of windows.
            seed: Seed of the random numbers.

        Returns:
            Queries that all contestants understand.
        """
        sampler = RandomNativePatchSampler(
            self.dataset, size=SIZE, length=count, generator=seed
        )
        return list(sampler)

    def compare(self, windows: Sequence[NativeSlice]) -> list[str]:
        """Check that all contestants give exactly the pixels of PlanetCR.

        Args:
            windows: Windows to compare.

        Returns:
            What was compared with PlanetCR in all five modalities.

        Raises:
            RuntimeError: If a pixel differs.
        """
        native = PlanetCR(self.folder / 'pixels', 'train', alignment='native')
        fake_archive.compress(self.folder / 'pixels', self.folder / 'compressed')
        compressed = PlanetCR(self.folder / 'compressed', 'train')
        headers = compressed.components.values()
        tiffs = [c.headers[0] for c in headers if c.headers[0].filepath.endswith('tif')]
        assert len(tiffs) == 4 and all(header.layout is None for header in tiffs)
        codes = torch.from_numpy(self.dataset.components['worldcover'].ordinal_map)

        def through_gdal(query: NativeSlice) -> Sample:
            assert query.filepath
            path = Path(query.filepath).relative_to(self.folder / 'pixels')
            path = self.folder / 'compressed' / path
            return compressed[NativeSlice(*query, query.crs, str(path))]

        def with_classes(sample: Sample) -> Sample:
            return sample | {'mask': codes[sample['mask']].to(torch.int64)}

        def torchgeo(name: str) -> Callable[[NativeSlice], Sample]:
            return lambda query: with_classes(_split_torchgeo(self.read[name](query)))

        pairs: dict[str, tuple[Callable[[NativeSlice], Sample], ...]] = {
            RASTERIO: (
                self.dataset.__getitem__,
                lambda query: with_classes(self.read[RASTERIO](query)),
            ),
            CACHED: (self.dataset.__getitem__, torchgeo(CACHED)),
            UNCACHED: (self.dataset.__getitem__, torchgeo(UNCACHED)),
            "the floor (PlanetCR with `alignment='native'`)": (
                native.__getitem__,
                lambda query: with_classes(self.read[FLOOR](query)),
            ),
            'PlanetCR on the same GeoTIFFs, compressed': (
                self.dataset.__getitem__,
                through_gdal,
            ),
        }
        for name, (first, second) in pairs.items():
            for query in windows:
                if keys := _differences(first(query), second(query)):
                    raise RuntimeError(f'{keys} of {name} differ at {query}')
        return list(pairs)

    def time_one_process(self, rounds: int, count: int) -> dict[str, NDArray[Any]]:
        """Measure the time of crops in this process, with all contestants in turns.

        Args:
            rounds: Number of turns. Each turn has its own windows.
            count: Number of crops of a turn.

        Returns:
            Seconds of each crop, a row for each turn.
        """
        times = {name: np.empty((rounds, count)) for name in self.read}
        # The workers of a loader have one thread, too. More threads than free cores would wait
        # for each other, which would slow plain TorchGeo down most.
        torch.set_num_threads(1)
        # The first turn opens the files that stay open, and is not counted.
        for turn in range(-1, rounds):
            windows = self.windows(count, seed=turn + 1)
            for name, read in _in_turn(self.read, turn):
                for number, query in enumerate(windows):
                    start = time.perf_counter()
                    read(query)
                    times[name][max(turn, 0), number] = time.perf_counter() - start
        return times

    def time_workers(
        self, rounds: int, seconds: float, batches: int
    ) -> dict[str, NDArray[Any]]:
        """Measure the time of a loader with two workers, with all contestants in turns.

        Args:
            rounds: Number of turns.
            seconds: Approximate duration of a turn.
            batches: Minimum number of batches of a turn.

        Returns:
            Crops per second in each turn.
        """
        # Forked processes would share the positions in files that are open here.
        RasterDataset._cached_load_warp_file.cache_clear()
        windows = self.windows(BATCH_SIZE * batches, seed=0)
        queries: dict[str, list[NativeSlice]] = {}
        loaders: dict[str, DataLoader[Sample]] = {}
        for name, read in self.read.items():
            # The loader reads this list again in each turn.
            queries[name] = list(windows)
            loaders[name] = DataLoader(
                Reader(read),
                batch_size=BATCH_SIZE,
                sampler=queries[name],
                num_workers=WORKERS,
                collate_fn=stack_samples,
                multiprocessing_context='fork',
                persistent_workers=True,
            )
            # Start the workers and open the files that stay open. Then find out how many
            # crops fill the seconds.
            _run(loaders[name])
            repeats = seconds / _run(loaders[name])
            queries[name] *= max(round(repeats), 1)
        speeds = {name: np.empty(rounds) for name in loaders}
        for turn in range(rounds):
            for name, loader in _in_turn(loaders, turn):
                speeds[name][turn] = len(queries[name]) / _run(loader)
        return speeds


def _in_turn[T](contestants: dict[str, T], turn: int) -> Iterator[tuple[str, T]]:
    """Yield the contestants. Each turn begins with another one."""
    names = list(contestants)
    first = turn % len(names)
    for name in names[first:] + names[:first]:
        yield name, contestants[name]


def _run(loader: DataLoader[Sample]) -> float:
    """Seconds for all batches of a loader."""
    start = time.perf_counter()
    for _ in loader:
        pass
    return time.perf_counter() - start


def time_archives(
    roots: dict[int, Path], rounds: int, count: int
) -> dict[int, dict[str, NDArray[Any]]]:
    """Measure the time of random crops of several archives in turns, in this process.

    Each crop is read twice: ``first``, before the operating system has cached these
    pixels, and ``again``.

    Args:
        roots: Folder of each archive, by number of quartets.
        rounds: Number of turns.
        count: Number of crops of a turn.

    Returns:
        Seconds of each crop, a row for each turn.
    """
    datasets = {n: PlanetCR(root, 'train') for n, root in roots.items()}
    times: dict[int, dict[str, NDArray[Any]]] = {
        n: {name: np.empty((rounds, count)) for name in ('first', 'again')}
        for n in datasets
    }
    queries: dict[int, list[NativeSlice]] = {}
    for n, dataset in datasets.items():
        sampler = RandomNativePatchSampler(
            dataset, size=SIZE, length=rounds * count, generator=0
        )
        queries[n] = list(sampler)
        # The first crop of a data set takes longer, and is not counted.
        dataset[queries[n][-1]]
    for name in ('first', 'again'):
        for turn in range(rounds):
            order = list(datasets)
            for n in order if turn % 2 else order[::-1]:
                windows = queries[n][turn * count : (turn + 1) * count]
                for number, query in enumerate(windows):
                    start = time.perf_counter()
                    datasets[n][query]
                    times[n][name][turn, number] = time.perf_counter() - start
    return times
