# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Checkpoints that appear whole or not at all."""

import os
from typing import Any

import torch
from lightning.pytorch.plugins import TorchCheckpointIO
from torchgeo.datasets.utils import Path

from ..raster.write import appears_whole, cannot_write


class WholeCheckpointIO(TorchCheckpointIO):
    """Write a checkpoint beside its place, and move it there when it is whole.

    Lightning writes it to the folder of temporary files first. If that is on another disk,
    moving it is copying it, which a full disk interrupts.
    """

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
        if '://' in os.fspath(path) or storage_options is not None:
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
