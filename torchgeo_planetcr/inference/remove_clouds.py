# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Removal of the clouds of a whole scene."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from copy import deepcopy
from itertools import batched
from typing import Literal

import numpy as np
import rasterio
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchgeo.datasets.utils import Path
from tqdm import tqdm

from ..tasks import load_task
from ..transforms import PlanetCRNormalize
from .output import SceneWriter, picture_path
from .scene import Scene
from .tiles import Blender, Tile

#: Tiles that are read ahead, and batches that wait to be written.
AHEAD = 4

#: Bytes of pixels that GDAL keeps. By default it takes a twentieth of all memory.
CACHE_SIZE = 128_000_000

#: Number of its row of tiles, and a tile.
type Place = tuple[int, Tile]

#: The same with what was read of it.
type Item = tuple[int, Tile, dict[str, NDArray[np.float32]]]


def remove_clouds(
    model: Path | nn.Module,
    cloudy: Path,
    s1: Path,
    out: Path,
    tile_size: int = 512,
    overlap: int = 64,
    batch_size: int = 1,
    bands: Sequence[int] | None = None,
    min_coverage: float = 0.9,
    dtype: Literal['uint16', 'float32'] = 'uint16',
    quicklook: bool = True,
    device: str = 'auto',
    overwrite: bool = False,
) -> str:
    """Remove the clouds of a whole PlanetScope scene.

    Args:
        model: checkpoint of CloudRemoval, or a module that is called as
            ``model(image, image_s1)`` on images normalized to [0, 1]
        cloudy: PlanetScope scene, surface reflectance x 10000
        s1: Sentinel-1 backscatter in dB, VV and VH, in any CRS and resolution
        out: GeoTIFF to write, cloud-optimized, on the grid of the scene
        tile_size: height and width of the tiles that the model sees, in pixels
        overlap: pixels that neighbouring tiles share; a quarter at each edge is thrown
            away, over the rest they fade into each other
        batch_size: number of tiles that the model restores at once
        bands: positions of B, G, R and NIR in the scene, from 1 (defaults to those of
            PlanetScope's products of four and eight bands)
        min_coverage: least share of the scene that Sentinel-1 must cover; elsewhere it
            is replaced by its mean
        dtype: 'uint16' for reflectance x 10000, 'float32' for reflectance
        quicklook: draw the scene before and after, beside *out*
        device: 'cpu', 'cuda', or 'auto' for a GPU if there is one
        overwrite: replace *out*

    Returns:
        What was written.

    Raises:
        FileExistsError: If *out* exists and *overwrite* is not set.
        OSError: If a file cannot be read or written.
        ValueError: If an argument is out of range, the checkpoint cannot be read, or the
            scene or Sentinel-1 is not what is expected.
    """
    _check_arguments(cloudy, s1, out, batch_size, dtype, overwrite)
    place = torch.device(
        ('cuda' if torch.cuda.is_available() else 'cpu') if device == 'auto' else device
    )
    network = model if isinstance(model, nn.Module) else load_task(model)
    restore = _Restorer(network, place)
    with (
        rasterio.Env(GDAL_CACHEMAX=CACHE_SIZE),
        Scene(cloudy, s1, bands, min_coverage) as scene,
    ):
        blender = Blender(scene.height, scene.width, 5, tile_size, overlap)
        with SceneWriter(out, scene, dtype) as writer:
            _run(scene, blender, restore, writer, batch_size)
            writer.finish(quicklook)
        share = f'{100 * scene.coverage:.0f} %'
    return f'{out}: {scene.height} x {scene.width} pixels, Sentinel-1 covers {share}'


def _check_arguments(
    cloudy: Path, s1: Path, out: Path, batch_size: int, dtype: str, overwrite: bool
) -> None:
    """Refuse what cannot be done, before anything is computed."""
    path = os.fspath(out)
    if not path.lower().endswith(('.tif', '.tiff')):
        msg = f'{out} must end with .tif, as it becomes a GeoTIFF.'
        raise ValueError(msg)
    for written in (path, picture_path(path)):
        if os.path.isdir(written):
            msg = f'{written} is a folder: write to a file.'
            raise IsADirectoryError(msg)
        if os.path.exists(written) and not overwrite:
            msg = f'{written} exists: write to another file, or overwrite it with '
            msg += '--overwrite (overwrite=True).'
            raise FileExistsError(msg)
        for source in (cloudy, s1):
            if os.path.realpath(written) == os.path.realpath(source):
                msg = f'{written} would replace what is read: write to another file.'
                raise ValueError(msg)
    if batch_size < 1:
        msg = f'batch_size={batch_size} must be positive.'
        raise ValueError(msg)
    if dtype not in ('uint16', 'float32'):
        msg = f'dtype={dtype!r} is not one of uint16, float32.'
        raise ValueError(msg)


class _Restorer:
    """A model on its device, from file units to reflectance."""

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        # The device and the mode of what was given are not ours to change
        self.model, self.device = deepcopy(model).eval().to(device), device
        self.normalize = PlanetCRNormalize().to(device)

    @torch.inference_mode()
    def __call__(self, batch: Sequence[Item]) -> NDArray[np.float32]:
        """Restore tiles; returns (B, 4, H, W), nominal range [0, 1]."""
        sample = self.normalize(
            {
                key: torch.from_numpy(
                    np.stack([arrays[key] for _, _, arrays in batch])
                ).to(self.device, non_blocking=True)
                for key in ('image', 'image_s1')
            }
        )
        restored: Tensor = self.model(sample['image'], sample['image_s1'])
        if restored.shape != sample['image'].shape:
            msg = f'the model makes images of shape {(*restored.shape,)} instead of '
            msg += f'{(*sample["image"].shape,)}.'
            raise ValueError(msg)
        if not restored.isfinite().all():
            row, col, *_ = batch[0][1]
            msg = 'the model makes values that are NaN or infinite, in a tile at or after '
            msg += f'row {row} and column {col}: take another checkpoint.'
            raise ValueError(msg)
        return restored.float().cpu().numpy()


def _run(
    scene: Scene,
    blender: Blender,
    restore: Callable[[Sequence[Item]], NDArray[np.float32]],
    writer: SceneWriter,
    batch_size: int,
) -> None:
    """Read, restore and write at the same time."""
    tiles = [(number, tile) for number, row in enumerate(blender.tiles) for tile in row]
    bar = tqdm(total=len(tiles), unit='tile', desc=os.path.basename(writer.path))
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as finisher, bar:
        finish = _Finisher(blender, writer)
        pending: deque[Future[None]] = deque()
        full = (item for item in _read(scene, tiles, reader, bar) if item is not None)
        for batch in batched(full, batch_size):
            restored = restore(batch)
            pending.append(finisher.submit(finish.add, batch, restored))
            if len(pending) > AHEAD:
                pending.popleft().result()
        for future in pending:
            future.result()
        finish.close()


def _read(
    scene: Scene, tiles: Sequence[Place], reader: ThreadPoolExecutor, bar: tqdm
) -> Iterator[Item | None]:
    """Read tiles some way ahead of their use; None for one without data."""

    def read(place: Place) -> Item | None:
        arrays = scene.read(place[1])
        return (*place, arrays) if arrays['has_data'].any() else None

    pending: deque[Future[Item | None]] = deque()
    for place in tiles:
        pending.append(reader.submit(read, place))
        if len(pending) > AHEAD:
            yield pending.popleft().result()
            bar.update()
    for future in pending:
        yield future.result()
        bar.update()


class _Finisher:
    """Blends tiles in their order and writes the lines that are complete."""

    def __init__(self, blender: Blender, writer: SceneWriter) -> None:
        self.blender, self.writer = blender, writer
        self.number = 0

    def add(self, batch: Sequence[Item], restored: NDArray[np.float32]) -> None:
        """Add the tiles of a batch."""
        for (number, tile, arrays), image in zip(batch, restored, strict=True):
            while self.number < number:
                self._finish_row()
            # What is the same in all tiles stays what it is
            has_data = arrays['has_data'][np.newaxis]
            self.blender.add(tile, np.concatenate([image, has_data]))

    def close(self) -> None:
        """Write the rest."""
        while self.number < len(self.blender.tiles):
            self._finish_row()

    def _finish_row(self) -> None:
        row, lines = self.blender.finish(self.number)
        self.writer.write(row, lines[:-1], lines[-1] > 0.5)
        self.number += 1
