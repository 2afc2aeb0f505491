# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Milliseconds for a random 160 x 160 crop of all five modalities.

    python benchmarks/crops.py [FOLDER]

PlanetCR beside plain TorchGeo (`RasterDataset`s joined with `&`) and plain rasterio, on
the same files and windows, in turns; PlanetCR and TorchGeo with files that are still open
from an earlier crop, and opened anew, as in a data set of many patches. FOLDER is a
Planet-CR folder, of whose train split the patches of one CRS are read; without it, 36
patches of fake data are made.
"""

import argparse
import importlib.util
import tempfile
import time
from collections.abc import Callable
from functools import reduce
from operator import and_
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import rasterio
import torch
from rasterio.enums import Resampling
from rasterio.transform import from_origin
from rasterio.windows import from_bounds
from torchgeo.datasets import GeoDataset, RasterDataset
from torchgeo.datasets.utils import Sample

from torchgeo_planetcr import NativeSlice, PlanetCR
from torchgeo_planetcr.datasets.native import _open_version
from torchgeo_planetcr.datasets.planetcr import COARSE
from torchgeo_planetcr.samplers import RandomNativePatchSampler

#: Times that each contestant has its turn.
ROUNDS = 3


class Mask(RasterDataset):
    """Land cover or cloud mask."""

    is_image = False


def make_fake_data(root: Path) -> None:
    """Make 36 patches in one UTM zone."""
    path = Path(__file__).parents[1] / 'tests' / 'data' / 'planetcr' / 'data.py'
    spec = importlib.util.spec_from_file_location('data', path)
    assert spec and spec.loader
    data = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(data)
    patches = tuple((col, row) for col in range(6) for row in range(6))
    data.AREAS = (
        data.Area('train', 'fall_1', 32646, 760299, 1898412, (1, -2), patches),
    )
    data.create(root)


def write_masks(dataset: PlanetCR, folder: Path) -> list[str]:
    """Write the cloud masks as GeoTIFFs, which plain TorchGeo and rasterio can read."""
    paths = []
    for _, row in dataset.index.iterrows():
        mask = np.load(row['cloud_mask'], allow_pickle=False).astype(np.uint8)
        xmin, _, _, ymax = row['native_bounds']
        paths.append(str(folder / f'{row["patch"]}.tif'))
        with rasterio.open(
            paths[-1],
            'w',
            driver='GTiff',
            height=mask.shape[0],
            width=mask.shape[1],
            count=1,
            dtype=mask.dtype,
            crs=row['native_crs'],
            transform=from_origin(xmin, ymax, *row['native_res']),
        ) as dst:
            dst.write(mask, 1)
    return paths


def plain_torchgeo(dataset: PlanetCR, masks: list[str], cache: bool) -> GeoDataset:
    """Join the files as TorchGeo does."""
    datasets: list[GeoDataset] = []
    for modality in dataset.modalities:
        is_mask = modality in ('worldcover', 'cloud_mask')
        paths = dataset.index[modality].tolist()
        datasets.append(
            (Mask if is_mask else RasterDataset)(
                masks if modality == 'cloud_mask' else paths, cache=cache
            )
        )
    return reduce(and_, datasets)


def plain_rasterio(
    rows: pd.DataFrame, masks: dict[str, str], query: NativeSlice
) -> dict[str, torch.Tensor]:
    """Open each file and read the window, Sentinel-1 bilinear."""
    assert query.filepath
    (row,) = rows.loc[[query.filepath]].to_dict('records')
    sample = {}
    for modality, key in PlanetCR.keys.items():
        path = masks[query.filepath] if modality == 'cloud_mask' else row[modality]
        is_mask = key.startswith('mask')
        with rasterio.open(path) as src:
            bounds = (query.x.start, query.y.start, query.x.stop, query.y.stop)
            window = from_bounds(*bounds, src.transform)
            array = src.read(
                window=window,
                out_shape=(src.count, 160, 160) if modality in COARSE else None,
                resampling=Resampling.nearest if is_mask else Resampling.bilinear,
            )
        dtype = np.int64 if is_mask else np.float32
        sample[key] = torch.from_numpy(array.astype(dtype))
    return sample


def measure(root: Path, count: int) -> pd.DataFrame:
    """Time *count* crops of each contestant, in turns."""
    whole = PlanetCR(root, 'train')
    dataset = whole.in_crs(whole.index['native_crs'].mode().iloc[0])
    sampler = RandomNativePatchSampler(dataset, size=160, length=count, generator=0)
    with tempfile.TemporaryDirectory() as folder:
        paths = write_masks(dataset, Path(folder))
        masks = dict(zip(dataset.index['filepath'], paths))
        rows = dataset.index.set_index('filepath')
        opened = plain_torchgeo(dataset, paths, cache=False)
        cached = plain_torchgeo(dataset, paths, cache=True)

        def planetcr_opened(query: NativeSlice) -> Sample:
            _open_version.cache_clear()
            return dataset[query]

        contestants: dict[str, Callable[[NativeSlice], Any]] = {
            'PlanetCR': lambda query: dataset[query],
            'plain rasterio': lambda query: plain_rasterio(rows, masks, query),
            'plain TorchGeo, cache=True': lambda query: cached[query],
            'PlanetCR, files opened anew': planetcr_opened,
            'plain TorchGeo, cache=False': lambda query: opened[query],
        }
        times: dict[str, list[float]] = {name: [] for name in contestants}
        for name, read in list(contestants.items()) * ROUNDS:
            for query in sampler:
                start = time.perf_counter()
                read(query)
                times[name].append(1e3 * (time.perf_counter() - start))
    table = pd.DataFrame(times).quantile([0.5, 0.1, 0.9]).T
    table.columns = ['median / ms', '10 %', '90 %']
    medians = table['median / ms']
    for name in ('PlanetCR', 'PlanetCR, files opened anew'):
        table[f'{name} / it'] = medians[name] / medians
    print(f'{len(dataset)} patches, {ROUNDS} x {count} crops each, in turns\n')
    return table


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('root', type=Path, nargs='?')
    parser.add_argument('--count', type=int, default=200)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        if args.root is None:
            make_fake_data(Path(scratch))
        print(measure(args.root or Path(scratch), args.count).round(2).to_string())
