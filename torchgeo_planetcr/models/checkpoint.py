# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Checkpoints in the format of the authors of Planet-CR."""

import os
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .aligncr import AlignCR
from .dsen2cr import DSen2CR
from .glfcr import GLFCR

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
        model: Model of one of the authors' networks, e.g.
            :class:`~torchgeo_planetcr.models.GLFCR`.
        path: Path of the checkpoint.

    Raises:
        ValueError: If *path* does not exist, is not a checkpoint, is truncated,
            contains anything but tensors and plain Python objects, has no
            ``'network'``, or does not fit *model*.
    """
    network = _read_network(path)
    state_dict = model.state_dict()
    names = reference_names(model)

    problems = {
        'missing': [name for name in names if name not in network],
        'surplus': [name for name in network if name not in names],
        'of another shape': [
            f'{name} {(*network[name].shape,)} instead of {(*state_dict[key].shape,)}'
            for name, key in names.items()
            if name in network and network[name].shape != state_dict[key].shape
        ],
    }
    if any(problems.values()):
        msg = f"'{path}' does not fit {type(model).__name__}: "
        msg += '; '.join(
            f'{len(keys)} {problem} ({", ".join(keys[:3])}{", ..." * (len(keys) > 3)})'
            for problem, keys in problems.items()
            if keys
        )
        msg += f'. {_advise(model, network)}'
        raise ValueError(msg)

    model.load_state_dict({key: network[name] for name, key in names.items()})


def reference_names(model: nn.Module) -> dict[str, str]:
    """List the names that the authors' checkpoints have for the weights of a model.

    Args:
        model: Model, whose attribute ``reference_names``, if any, lists patterns of its
            names and what to put in their place, in order.

    Returns:
        The keys of its state dict by those names.
    """
    names = {}
    for key in model.state_dict():
        name = key
        for pattern, replacement in getattr(model, 'reference_names', ()):
            name = re.sub(pattern, replacement, name)
        names[name] = key
    return names


def _advise(model: nn.Module, network: Mapping[str, Tensor]) -> str:
    """Say which network a checkpoint seems to be for.

    Args:
        model: Model that it does not fit.
        network: State dict of the checkpoint.

    Returns:
        A sentence.
    """
    with torch.device('meta'):
        known = {
            type(other): reference_names(other)
            for other in (DSen2CR(), GLFCR(), AlignCR())
        }
    # GLF-CR and Align-CR share many names, and both may have fewer stages
    shares = {
        kind: len(names.keys() & network.keys()) / max(len(network), 1)
        for kind, names in known.items()
    }
    kind = max(shares, key=lambda kind: shares[kind])
    if shares[kind] < 0.5:
        return 'It seems to be for none of the networks of Planet-CR.'
    if isinstance(model, kind):
        return (
            f'It seems to be for {kind.__name__}, but with other arguments, or damaged.'
        )
    return f'It seems to be for {kind.__name__}.'


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
        The state dict without the ``'module.'`` prefixes and without constants.

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

    return {
        key.removeprefix('module.'): value
        for key, value in network.items()
        if not key.endswith(CONSTANTS)
    }
