# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Tasks from checkpoints."""

import os
from collections.abc import Mapping

from torchgeo.datasets.utils import Path

from ..models import read_checkpoint
from .cloud_removal import CloudRemoval


def load_task(path: Path) -> CloudRemoval:
    """Load a task from a checkpoint of Lightning or of the authors' code.

    No code in it is executed.

    Args:
        path: Path of the checkpoint.

    Returns:
        The task.

    Raises:
        ValueError: If it is none, or does not fit.
    """
    checkpoint = read_checkpoint(path)
    if isinstance(checkpoint, Mapping) and 'network' in checkpoint:
        errors = []
        for model in ('dsen2cr', 'glfcr', 'aligncr'):
            try:
                return CloudRemoval(model, weights=os.fspath(path))
            except ValueError as error:
                errors.append(error)
        raise errors[-1]
    if not isinstance(checkpoint, Mapping) or 'state_dict' not in checkpoint:
        msg = f"'{path}' is no checkpoint of Lightning: take one that `planetcr "
        msg += 'fit` has written.'
        raise ValueError(msg)
    try:
        return CloudRemoval.load_from_checkpoint(
            os.fspath(path), map_location='cpu', weights_only=True, compile=False
        )
    # What does not fit makes the task and PyTorch raise one or the other
    except Exception as error:
        msg = (
            f"'{path}' does not fit CloudRemoval. If its model was given as a module, "
        )
        msg += 'give the module itself, from Python. '
        msg += f'({type(error).__name__}: {str(error).splitlines()[0]})'
        raise ValueError(msg) from error
