# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Tiles of scenes to restore."""

from collections.abc import Container
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Dataset
from torchgeo.datasets.utils import Sample
from tqdm import tqdm

from ..datasets.slices import NativeSlice
from ..samplers import TileBatchSampler, TileSampler
from ..scenes import PlanetScopeScenes, Survey
from ..transforms import PlanetCRNormalize
from .loader import ReadAheadDataLoader, stack_arrays

#: Seconds after which a bar shows that scenes are being looked at.
BAR_DELAY = 5


class ReadableTiles(Dataset[dict[str, Any]]):
    """Tiles of scenes, of which one that cannot be read does not stop the others.

    A sample also has ``problem``, why it could not be read, empty if it could.
    """

    def __init__(self, scenes: PlanetScopeScenes) -> None:
        """Initialize a new ReadableTiles instance.

        Args:
            scenes: The scenes.
        """
        self.scenes = scenes
        #: Index of the scenes.
        self.index = scenes.index

    def __getitem__(self, index: NativeSlice) -> dict[str, Any]:
        """Read a tile.

        Args:
            index: Window of a scene.

        Returns:
            The sample, with images of zeros if it could not be read.
        """
        try:
            return {**self.scenes[index], 'problem': ''}
        except (OSError, ValueError) as error:
            window = self.scenes.window(index)
            shape = window.height, window.width
            place = torch.zeros(9, dtype=torch.float64)
            return {
                'image': torch.zeros(4, *shape),
                'image_s1': torch.zeros(2, *shape),
                'has_data': torch.zeros(shape, dtype=torch.bool),
                'crs': torch.tensor(0),
                'bounds': place,
                'transform': place,
                'problem': str(error),
            }


class SceneTiles(LightningDataModule):
    """Tiles of scenes to restore, normalized on the device.

    When its processes have started, each one surveys the scenes that it takes.
    """

    def __init__(
        self,
        scenes: PlanetScopeScenes,
        *,
        tile_size: int,
        overlap: int,
        batch_size: int,
        num_workers: int,
        pin_memory: bool,
        done: Container[str],
        failed: Container[str],
    ) -> None:
        """Initialize a new SceneTiles instance.

        Args:
            scenes: The scenes.
            tile_size: Height and width of tiles in pixels.
            overlap: Number of pixels that neighboring tiles share.
            batch_size: Number of tiles of a batch at most.
            num_workers: Number of processes that read tiles; with 0, a thread does.
            pin_memory: Whether to copy batches to pinned memory, for a GPU.
            done: Scenes that were restored before.
            failed: Scenes that turn out to be unreadable meanwhile.

        Raises:
            ValueError: If an argument is out of range.
        """
        super().__init__()
        self.scenes = scenes
        self.sampler = TileSampler(
            scenes, size=tile_size, overlap=overlap, keep=self._is_wanted
        )
        self.done, self.failed = done, failed
        #: What was found in the scenes of this process that can be restored.
        self.surveys: dict[str, Survey] = {}
        #: What is wrong with the others.
        self.problems = dict(scenes.problems)
        self.normalize = PlanetCRNormalize()
        self._loader = ReadAheadDataLoader(
            ReadableTiles(scenes),
            batch_sampler=TileBatchSampler(self.sampler, batch_size),
            num_workers=num_workers,
            collate_fn=stack_arrays,
            pin_memory=pin_memory,
        )

    def setup(self, stage: str) -> None:
        """Survey the scenes of this process.

        Args:
            stage: 'predict'.
        """
        filepaths = self.scenes.index['filepath']
        paths = [filepaths.iloc[row] for row in self.sampler.own_rows()]
        wanted = [path for path in paths if path not in self.done]
        # One bar is enough, and a file that keeps what is printed needs none
        is_first = self.trainer is None or self.trainer.is_global_zero
        disable = None if is_first else True
        for path in tqdm(wanted, 'Surveying', delay=BAR_DELAY, disable=disable):
            try:
                self.surveys[path] = self.scenes.survey(path)
            except (OSError, ValueError) as error:
                self.problems[path] = error

    def predict_dataloader(self) -> DataLoader[Sample]:
        """Load the tiles of this process.

        Returns:
            The data loader.
        """
        return self._loader

    def on_after_batch_transfer(self, batch: Sample, dataloader_idx: int) -> Sample:
        """Normalize a batch.

        Args:
            batch: Images as they are in their files.
            dataloader_idx: Number of the data loader.

        Returns:
            Images in [0, 1].
        """
        return self.normalize(batch)

    def _is_wanted(self, tile: NativeSlice) -> bool:
        """Whether a tile has data, and its scene can be restored."""
        path = tile.filepath or ''
        survey = self.surveys.get(path)
        if survey is None or path in self.failed:
            return False
        if survey.may_have_data(self.scenes.window(tile)):
            return True
        try:
            return self.scenes.has_data(tile)
        except (OSError, ValueError):
            # The read will report the reason
            return True
