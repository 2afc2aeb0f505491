# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Tasks from checkpoints."""

import os
from collections.abc import Mapping

from torchgeo.datasets.utils import Path

from ..checkpoint import read_checkpoint
from ..models.checkpoint import likely_reference_network
from .cloud_removal import CloudRemoval


def load_task(path: Path) -> CloudRemoval:
    """Load a task from a checkpoint of Lightning or of the authors' code.

    No code in it is executed. The network of a checkpoint of the authors' code is
    chosen by the names of its weights.

    Args:
        path: Path of the checkpoint.

    Returns:
        The task.

    Raises:
        ValueError: If *path* is not such a checkpoint, or does not fit its network.
    """
    checkpoint = read_checkpoint(path)
    if isinstance(checkpoint, Mapping) and 'network' in checkpoint:
        return CloudRemoval(likely_reference_network(path), weights=os.fspath(path))
    if not isinstance(checkpoint, Mapping) or 'state_dict' not in checkpoint:
        raise ValueError(
            f"'{path}' is not a checkpoint of Lightning: take one that `planetcr fit` has "
            'written'
        )
    try:
        return CloudRemoval.load_from_checkpoint(
            os.fspath(path), map_location='cpu', weights_only=True, compile=False
        )
    # A checkpoint that does not fit makes Lightning and PyTorch raise various errors
    except Exception as error:
        raise ValueError(
            f"'{path}' does not fit CloudRemoval "
            f'({type(error).__name__}: {str(error).splitlines()[0]}): if its model was '
            'given as a module, give the module itself, from Python'
        ) from error
