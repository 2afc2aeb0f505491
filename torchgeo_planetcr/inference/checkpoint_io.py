# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Checkpoints that appear whole or not at all, and of which nothing is executed."""

import os
import pathlib
from typing import Any

import torch
from lightning.pytorch.plugins import TorchCheckpointIO
from torchgeo.datasets.utils import Path

from ..checkpoint import lightning_content, read_checkpoint
from ..raster.write import appears_whole, cannot_write, remove_leftovers


class WholeCheckpointIO(TorchCheckpointIO):
    """Write a checkpoint beside its place, and move it there when it is whole.

    Lightning writes it to the folder of temporary files first. If that is on another disk,
    moving it is copying it, which a full disk interrupts.
    """

    def load_checkpoint(
        self, path: Path, map_location: Any = 'cpu', weights_only: bool | None = True
    ) -> dict[str, Any]:
        """Read a checkpoint without executing any code in it.

        What a killed process has left beside it is removed.

        Args:
            path: The file, or an address.
            map_location: Device to read it onto, for addresses alone.
            weights_only: Nothing else is ever read.

        Returns:
            What it holds.

        Raises:
            ValueError: If it cannot be read, or is damaged.
        """
        if _is_address(path):
            return super().load_checkpoint(os.fspath(path), map_location, True)
        # Of a training that was killed, the next one writes to another folder
        remove_leftovers(os.path.dirname(os.path.abspath(path)))
        return lightning_content(path, read_checkpoint(path))

    def remove_checkpoint(self, path: Path) -> None:
        """Remove a checkpoint that a better one has replaced.

        Args:
            path: The file. That of a checkpoint which was gone on from may lead out of its
                folder, and is left alone then.
        """
        if os.pardir not in pathlib.PurePath(path).parts:
            super().remove_checkpoint(os.fspath(path))

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Path, storage_options: Any = None
    ) -> None:
        """Save a checkpoint.

        Args:
            checkpoint: What to save.
            path: Where to, a file or an address.
            storage_options: Not used.

        Raises:
            OSError: If it cannot be written.
        """
        if _is_address(path) or storage_options is not None:
            super().save_checkpoint(checkpoint, os.fspath(path), storage_options)
            return
        with appears_whole(path) as (unfinished,):
            try:
                with open(unfinished, 'wb') as file:
                    torch.save(checkpoint, file)
            except OSError as error:
                raise cannot_write(path, error) from error
            except RuntimeError as error:
                # PyTorch hides errors of files behind its own
                if not isinstance(error.__context__, OSError):
                    raise
                raise cannot_write(path, error.__context__) from error


def _is_address(path: Path) -> bool:
    """Whether a checkpoint lies elsewhere."""
    return '://' in os.fspath(path)
