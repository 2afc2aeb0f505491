# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Tasks from checkpoints."""

from collections.abc import Mapping

from torchgeo.datasets.utils import Path

from ..checkpoint import read_checkpoint
from ..models.checkpoint import (
    likely_reference_network,
    load_reference_weights,
    read_network,
)
from .cloud_removal import CloudRemoval
from .restore import restore_task


def load_task(path: Path) -> CloudRemoval:
    """Load a task from a checkpoint of Lightning or of the authors' code, to restore images.

    No code in it is executed, and no class that it names is imported. The network of a
    checkpoint of the authors' code is chosen by the names of its weights. Loss, optimizer
    and scheduler are the defaults: only training needs others.

    Args:
        path: Path of the checkpoint.

    Returns:
        The task, on the CPU.

    Raises:
        ValueError: If *path* is not such a checkpoint, is damaged, does not fit its
            network, has weights that are not finite, or if its model was given as a
            module: load it by ``CloudRemoval.load_from_checkpoint(path, model=...)``.
    """
    checkpoint = read_checkpoint(path)
    if isinstance(checkpoint, Mapping) and 'network' in checkpoint:
        network = read_network(path, checkpoint)
        task = CloudRemoval(likely_reference_network(network, path))
        load_reference_weights(task.model, network, path)
        return task
    return restore_task(
        CloudRemoval,
        path,
        checkpoint,
        loss='carl',
        optimizer=None,
        lr_scheduler=None,
        compile=False,
    )
