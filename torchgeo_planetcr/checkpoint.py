# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Safe reading of checkpoints."""

import os
from typing import Any

import torch


def read_checkpoint(path: str | os.PathLike[str]) -> Any:
    """Read a checkpoint onto the CPU without executing any code in it.

    Args:
        path: Path of the checkpoint.

    Returns:
        What the file holds, which is tensors and plain Python objects.

    Raises:
        ValueError: If *path* does not exist, is not a checkpoint, is truncated, or
            contains anything else.
    """
    if not os.path.isfile(path):
        raise ValueError(f"'{path}' does not exist or is not a file: check the path")

    try:
        return torch.load(path, map_location='cpu', weights_only=True)
    # A damaged file makes the unpickler raise almost anything
    except Exception as error:
        raise ValueError(
            f"'{path}' cannot be read as a checkpoint ({type(error).__name__}): it is "
            'truncated, was not written by torch.save, or contains objects other than '
            'tensors, whose code is not executed. Download or save it again'
        ) from error
