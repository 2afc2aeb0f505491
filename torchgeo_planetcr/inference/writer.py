# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Predictions of Lightning's trainer as GeoTIFFs."""

import os
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import MappingProxyType
from typing import Any, get_args

import numpy as np
import pandas as pd
from geopandas import GeoDataFrame
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import Tensor
from torchgeo.datasets.utils import Path

from ..datasets.modalities import MODALITIES
from ..datasets.slices import NativeSlice
from ..models.utils import is_finite
from ..raster.read import UnreadableError
from ..raster.write import check_absent, exists_error
from ..samplers.native import pixel_ranges
from ..scenes.files import SUFFIXES
from .origin import Origin, describe, file_stamp, read_origin, say_difference
from .output import NO_CLASS, Content, FileType, OutputFile

#: Exit status of a process that was told to end.
TERMINATED = 143

#: Predictions that wait to be written, at most.
AHEAD = 8


class GeoTIFFWriter(BasePredictionWriter):
    """Write what a task predicts as cloud-optimized GeoTIFFs, each on its own grid.

    There is one for each row of the index that is predicted, on the grid and in the CRS of
    its file, put together from windows that may overlap. It is written in a thread beside
    the model, and appears under its name when it is whole.

    For any TorchGeo task whose ``predict_step`` returns images, (B, C, H, W), as they are
    or as ``prediction``, probabilities of classes, (B, C, H, W), as ``probabilities``, or
    whole numbers of classes, (B, H, W), from 0 to 254; and any
    :class:`~torchgeo_planetcr.datasets.NativeRasterDataset` with a sampler of this
    package: :class:`~torchgeo_planetcr.samplers.TileSampler` for scenes, so that each
    process takes whole ones, or
    :class:`~torchgeo_planetcr.samplers.CenterNativePatchSampler` for patches. Samples may
    tell with ``has_data``, (H, W), where their file has data, which is read again otherwise,
    and with ``problem``, a text, why they could not be read: then no GeoTIFF of their file is
    written.
    """

    def __init__(
        self,
        out: Path | Mapping[str, Path],
        overlap: int = 0,
        dtype: FileType = 'float32',
        bands: Mapping[str, Sequence[int]] | None = None,
        masks: Mapping[str, Path] | None = None,
        quicklook: bool = False,
        scale: float | None = None,
        name: str = 'filepath',
        overwrite: bool = False,
        settings: Mapping[str, Any] = MappingProxyType({}),
        origins: Mapping[str, Origin] = MappingProxyType({}),
    ) -> None:
        """Initialize a new GeoTIFFWriter instance.

        Args:
            out: Folder to write to, or the GeoTIFF to write for each file.
            overlap: Number of pixels that neighboring windows share, half of which is
                thrown away, while they fade into each other over the rest. Classes do
                not fade: each pixel is taken from the window that weighs most.
            dtype: 'uint16' for reflectance x 10000, 'float32' for values as they are,
                'uint8' for the most likely class of probabilities, 255 without data.
                Classes are always written as this one.
            bands: Bands by file, from 1, that say where it has data (defaults to all).
                For composites and quicklooks those of B, G, R and NIR (defaults to those
                of PlanetScope's products of four and eight bands).
            masks: Cloud masks by file; where one is clear, the file is kept, see
                :class:`~torchgeo_planetcr.scenes.CloudMask`.
            quicklook: Draw a picture beside each GeoTIFF, before and after.
            scale: Value in the files that is a reflectance of 1, for composites and
                quicklooks (defaults to what they say, or what their values look like).
            name: Column of the index that names the GeoTIFFs in a folder.
            overwrite: Replace GeoTIFFs that exist.
            settings: What predictions depend on besides the task and the files, as plain
                values, for :meth:`find_finished`.
            origins: What the GeoTIFF of each file is made of and with, which it tells
                (defaults to what :meth:`find_finished` finds).

        Raises:
            ValueError: If *dtype* is unknown.
        """
        super().__init__('batch')
        if dtype not in get_args(FileType.__value__):
            raise ValueError(f'dtype={dtype!r} is not one of uint8, uint16, float32')
        self.out, self.name, self.overwrite = out, name, overwrite
        self.masks, self.bands = masks or {}, bands or {}
        self.options: dict[str, Any] = {
            'overlap': overlap,
            'dtype': dtype,
            'quicklook': quicklook,
            'scale': scale,
        }
        self.settings, self.origins = settings, origins
        #: Files whose GeoTIFFs were there already.
        self.finished: frozenset[str] = frozenset()
        self._content: Content = 'image'
        #: GeoTIFFs that this process has written.
        self.written: list[str] = []
        #: Why files could not be predicted, of those that this process has tried.
        self.problems: dict[str, str] = {}
        self._executor: ThreadPoolExecutor | None = None
        self._pending: deque[Future[None]] = deque()
        self._current: tuple[str, OutputFile] | None = None
        self._names: dict[str, str] = {}
        self._regions: dict[str, tuple[int, int, int, int]] = {}

    def find_finished(self, trainer: Trainer, index: GeoDataFrame) -> frozenset[str]:
        """Find out which files need not be predicted, the same in all processes.

        GeoTIFFs that are written after this say what they were made of and with.

        Args:
            trainer: The trainer, whose task has its weights.
            index: Index of the data set.

        Returns:
            Files whose GeoTIFFs are whole, and were made of the same files, with the same
            weights and settings; none if GeoTIFFs are to be replaced.
        """
        task = trainer.lightning_module
        settings = {**self.settings, **self.options, 'precision': trainer.precision}
        facts = describe(task, settings)
        self._names = dict(zip(index['filepath'], index[self.name], strict=True))
        self.origins = {
            path: Origin(
                facts | {name: file_stamp(file) for name, file in files.items()}
            )
            for path, files in _source_files(index).items()
        }
        finished: frozenset[str] = frozenset()
        if trainer.is_global_zero and not self.overwrite:
            finished = frozenset(filter(self._is_finished, self._names))
        # Other processes may see files that this one writes meanwhile
        self.finished = trainer.strategy.broadcast(finished)
        return self.finished

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the thread, and find out what the files will be called.

        Args:
            trainer: The trainer.
            pl_module: The task.

        Raises:
            FileExistsError: If a GeoTIFF exists and is not to be replaced.
            ValueError: If there is not one data loader, of a native data set, or if what
                is read would be replaced.
        """
        loaders: Any = trainer.predict_dataloaders
        index: Any = getattr(getattr(loaders, 'dataset', None), 'index', {})
        if 'filepath' not in index or self.name not in index:
            raise ValueError(
                'GeoTIFFs need one data loader, of a data set with an index of files and a '
                f'column {self.name!r} in it'
            )
        self._names = dict(zip(index['filepath'], index[self.name], strict=True))
        self._regions = _kept_regions(index)
        paths: dict[str, str] = {}
        for filepath in self._names:
            if filepath not in self.finished:
                self._check_path(filepath)
            other = paths.setdefault(self.output_path(filepath), filepath)
            if other != filepath:
                raise ValueError(
                    f'{other} and {filepath} would be written to the same file: predict '
                    'them one after the other'
                )
        self.written.clear()
        self.problems.clear()
        self._executor = ThreadPoolExecutor(1)
        # No process may write what another one would take for older. Where files are
        # replaced, one without a batch does not come here
        if not self.overwrite:
            trainer.strategy.barrier('predictions')

    def write_on_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        prediction: Any,
        batch_indices: Sequence[Any] | None,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Take the predictions of a batch.

        Args:
            trainer: The trainer.
            pl_module: The task.
            prediction: Images of shape (B, C, H, W), classes of shape (B, H, W), or a
                dictionary with one of them as ``prediction``, or with ``probabilities``.
            batch_indices: Windows of the batch.
            batch: The batch.
            batch_idx: Number of the batch.
            dataloader_idx: Number of the data loader.

        Raises:
            FloatingPointError: If the prediction has values that are not finite.
            OSError: If a file cannot be read or written.
            SIGTERMException: If the process is to end.
            ValueError: If the windows do not say of which file they are, or if the
                prediction is no image of them.
        """
        images, self._content = _take(prediction)
        if trainer.received_sigterm:
            # Lightning looks for it in training alone
            raise SIGTERMException(TERMINATED)
        windows: list[Any] = list(batch_indices or [])
        if not all(isinstance(w, NativeSlice) and w.filepath for w in windows):
            raise ValueError(
                'windows do not say of which file they are: use a sampler of '
                'torchgeo_planetcr'
            )
        _check(images, self._content, batch['image'], windows)
        array = images.float().cpu().numpy()
        count = len(windows)
        has_data = [None] * count
        if 'has_data' in batch:
            has_data = list(batch['has_data'].cpu().numpy())
        problems = batch.get('problem', [''] * count)
        assert self._executor is not None
        tiles = list(zip(windows, array, has_data, problems, strict=True))
        self._pending.append(self._executor.submit(self._add, tiles))
        while len(self._pending) > AHEAD or (self._pending and self._pending[0].done()):
            self._pending.popleft().result()

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Wait until all is written.

        Args:
            trainer: The trainer.
            pl_module: The task.
        """
        assert self._executor is not None
        self._pending.append(self._executor.submit(self._finish))
        while self._pending:
            self._pending.popleft().result()
        self._executor.shutdown()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Leave nothing unfinished behind.

        Args:
            trainer: The trainer.
            pl_module: The task.
            exception: What went wrong.
        """
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)
        self._pending.clear()
        if self._current is not None:
            self._current[1].close()
            self._current = None

    def output_path(self, filepath: str) -> str:
        """Where the prediction of a file goes.

        Args:
            filepath: The file.

        Returns:
            Path of the GeoTIFF.
        """
        if isinstance(self.out, Mapping):
            return os.fspath(self.out[filepath])
        name = os.path.basename(self._names[filepath])
        stem, suffix = os.path.splitext(name)
        stem = stem if suffix.lower() in SUFFIXES else name
        return os.path.join(self.out, f'{stem}.tif')

    def _add(self, tiles: Sequence[tuple[NativeSlice, Any, Any, str]]) -> None:
        """Add predictions to their files, in the thread."""
        for window, values, has_data, problem in tiles:
            filepath = window.filepath
            assert filepath is not None
            if problem:
                self.problems.setdefault(filepath, problem)
            if self._current is None or self._current[0] != filepath:
                self._finish()
            # What cannot be read is a problem of its file alone, other errors are not
            try:
                if filepath not in self.problems:
                    if self._current is None:
                        self._current = filepath, self._open(filepath)
                    self._current[1].add(window, values, has_data)
            except UnreadableError as error:
                self.problems[filepath] = str(error)

    def _check_path(self, filepath: str) -> None:
        """Refuse to replace the file that is predicted, and results unless asked to."""
        path = self.output_path(filepath)
        if os.path.realpath(path) == os.path.realpath(filepath):
            raise ValueError(
                f'{path} would replace what is read: write to another folder'
            )
        if not self.overwrite and os.path.isfile(path):
            raise exists_error(say_difference(path, self.origins.get(filepath)))
        check_absent(path, self.overwrite)

    def _is_finished(self, filepath: str) -> bool:
        """Whether the GeoTIFF of a file is whole, and was made of and with the same."""
        path = self.output_path(filepath)
        return read_origin(path) == self.origins[filepath].name

    def _open(self, filepath: str) -> OutputFile:
        """Open the GeoTIFF of a file."""
        path = self.output_path(filepath)
        if path in self.written:
            raise ValueError(
                f'windows of {filepath} do not follow each other: use a sampler that does '
                'not shuffle them'
            )
        mask = self.masks.get(filepath)
        bands = self.bands.get(filepath)
        region = self._regions[filepath]
        return OutputFile(
            path,
            filepath,
            bands=bands,
            mask=mask,
            region=region,
            origin=self.origins.get(filepath),
            content=self._content,
            **self.options,
        )

    def _finish(self) -> None:
        """Finish the GeoTIFF that is open, in the thread."""
        if self._current is not None:
            filepath, file = self._current
            self._current = None
            try:
                if filepath not in self.problems:
                    file.finish()
                    self.written.append(file.path)
            except UnreadableError as error:
                self.problems[filepath] = str(error)
            finally:
                file.close()


def _kept_regions(index: GeoDataFrame) -> dict[str, tuple[int, int, int, int]]:
    """First row and column, and size, of the part of each file that an index keeps."""
    edges = pd.DataFrame(np.hstack(pixel_ranges(index)), index=index['filepath'])
    # Split helpers make several rows of a file
    kept = edges.groupby(level=0).agg({0: 'min', 1: 'min', 2: 'max', 3: 'max'})
    return {
        str(filepath): (top, left, bottom - top, right - left)
        for filepath, (top, left, bottom, right) in zip(
            kept.index, kept.to_numpy().tolist(), strict=True
        )
    }


def _source_files(index: GeoDataFrame) -> dict[str, dict[str, str]]:
    """Files of each row of an index and what they are, by the one that is predicted."""
    columns = ['filepath', *(name for name in MODALITIES if name in index)]
    rows = index[columns].to_numpy().tolist()
    return {
        row[0]: {
            name: path
            for name, path in zip(columns, row, strict=True)
            if isinstance(path, str)
        }
        for row in rows
    }


def _take(prediction: Any) -> tuple[Any, Content]:
    """Take the images of a prediction, and tell what they are."""
    content: Content = 'image'
    if isinstance(prediction, dict):
        if 'prediction' in prediction:
            prediction = prediction['prediction']
        elif 'probabilities' in prediction:
            prediction, content = prediction['probabilities'], 'probabilities'
        else:
            raise ValueError(
                f'the model makes {", ".join(map(str, prediction))}, of which nothing is '
                'called prediction or probabilities'
            )
    if isinstance(prediction, Tensor) and not prediction.is_floating_point():
        if prediction.ndim == 3:
            prediction = prediction[:, None]
        if prediction.ndim == 4 and prediction.shape[1] == 1:
            content = 'classes'
    return prediction, content


def _check(
    images: Any, content: Content, inputs: Tensor, windows: Sequence[NativeSlice]
) -> None:
    """Refuse predictions that are not images of their windows."""
    size = (*inputs.shape[-2:],)
    found = (*images.shape,) if isinstance(images, Tensor) else type(images).__name__
    if not isinstance(images, Tensor) or (
        images.ndim != 4 or (len(images), *images.shape[-2:]) != (len(windows), *size)
    ):
        raise ValueError(
            f'the model makes {found} instead of images of shape '
            f'({len(windows)}, bands, {size[0]}, {size[1]}), or of classes as whole '
            f'numbers of shape ({len(windows)}, {size[0]}, {size[1]})'
        )
    if content == 'classes' and not 0 <= images.min() <= images.max() < NO_CLASS:
        raise ValueError(
            f'the model makes classes from {int(images.min())} to {int(images.max())}: '
            f'number them from 0 to {NO_CLASS - 1}'
        )
    if not is_finite(images):
        x, y = windows[0].x, windows[0].y
        raise FloatingPointError(
            f'the model makes values that are NaN or infinite, in {windows[0].filepath} at '
            f'or after x = {x.start:.0f}, y = {y.stop:.0f}: take another checkpoint'
        )
