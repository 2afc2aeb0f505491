# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Checkpoints in the format of the authors of Planet-CR."""

import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

#: Index tables and attention masks that such checkpoints contain although they follow
#: from the architecture.
CONSTANTS = ('relative_position_index', 'attn_mask')


def load_reference_checkpoint(model: nn.Module, path: str | os.PathLike[str]) -> None:
    """Load a checkpoint of the authors' code into a model.

    Such a file is a dictionary whose entry ``'network'`` is the state dict of the
    model wrapped in :class:`torch.nn.DataParallel`, so each key starts with
    ``'module.'``. The file is read without executing any code in it, onto the CPU. The
    model either takes over every weight or, on an error, stays as it was.

    Args:
        model: Model whose state dict has the key names of the checkpoint.
        path: Path of the checkpoint.

    Raises:
        ValueError: If *path* does not exist, is not a checkpoint, is truncated,
            contains anything but tensors and plain Python objects, has no
            ``'network'``, or does not fit *model*.
    """
    state_dict = {
        key: value
        for key, value in _read_network(path).items()
        if not key.endswith(CONSTANTS)
    }
    expected = model.state_dict()

    problems = {
        'missing': [key for key in expected if key not in state_dict],
        'surplus': [key for key in state_dict if key not in expected],
        'of another shape': [
            f'{key} {(*state_dict[key].shape,)} instead of {(*expected[key].shape,)}'
            for key in expected
            if key in state_dict and state_dict[key].shape != expected[key].shape
        ],
    }
    if any(problems.values()):
        msg = f"'{path}' does not fit {type(model).__name__}: "
        msg += '; '.join(
            f'{len(keys)} {problem} ({", ".join(keys[:3])}{", ..." * (len(keys) > 3)})'
            for problem, keys in problems.items()
            if keys
        )
        msg += (
            '. Use the model, and its arguments, that the checkpoint was trained with.'
        )
        raise ValueError(msg)

    model.load_state_dict(state_dict)


def read_checkpoint(path: str | os.PathLike[str]) -> Any:
    """Read a checkpoint onto the CPU without executing any code in it.

    Args:
        path: Path of the checkpoint.

    Returns:
        What the file holds: tensors and plain Python objects.

    Raises:
        ValueError: If *path* does not exist, is not a checkpoint, is truncated, or
            contains anything else.
    """
    if not os.path.isfile(path):
        msg = f"'{path}' does not exist or is not a file, check the path."
        raise ValueError(msg)

    try:
        return torch.load(path, map_location='cpu', weights_only=True)
    # A damaged file makes the unpickler raise almost anything
    except Exception as error:
        msg = f"'{path}' cannot be read as a checkpoint: it is truncated, not written "
        msg += 'by torch.save, or contains objects other than tensors, whose code is '
        msg += f'not executed ({type(error).__name__}). Download or save it again.'
        raise ValueError(msg) from error


def _read_network(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read the state dict of a reference checkpoint.

    Args:
        path: Path of the checkpoint.

    Returns:
        The state dict without the ``'module.'`` prefixes.

    Raises:
        ValueError: If *path* is not such a checkpoint.
    """
    checkpoint = read_checkpoint(path)
    network = checkpoint.get('network') if isinstance(checkpoint, Mapping) else None
    if not isinstance(network, Mapping) or not all(
        isinstance(key, str) and isinstance(value, Tensor)
        for key, value in network.items()
    ):
        msg = f"'{path}' has no entry 'network' with a state dict, so it is not in the "
        msg += "format of the authors' code. Load a checkpoint of Lightning with "
        msg += 'CloudRemoval.load_from_checkpoint instead.'
        raise ValueError(msg)

    return {key.removeprefix('module.'): value for key, value in network.items()}
