# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Checkpoints in the format of the authors of Planet-CR."""

import os
import re
from collections.abc import Collection, Mapping
from functools import cache

import torch
from torch import Tensor, nn

from ..checkpoint import read_checkpoint
from .aligncr import AlignCR
from .dsen2cr import DSen2CR
from .glfcr import GLFCR

#: The networks of the authors by the names that the task has for them.
REFERENCE_NETWORKS: Mapping[str, type[nn.Module]] = {
    'dsen2cr': DSen2CR,
    'glfcr': GLFCR,
    'aligncr': AlignCR,
}

#: Index tables and attention masks that such checkpoints contain although they follow
#: from the architecture.
CONSTANTS = ('relative_position_index', 'attn_mask')

#: Number of weights that an error names for each problem.
NAMED_WEIGHTS = 3


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
        raise ValueError(
            f"'{path}' does not fit {type(model).__name__}: "
            f'{_describe_problems(problems)}. {_describe_origin(network, model)}'
        )

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


def likely_reference_network(path: str | os.PathLike[str]) -> str:
    """Tell from the names of its weights which network a checkpoint is for.

    Shapes are not compared, and weights may be missing: whether all of them fit is for
    :func:`load_reference_checkpoint` to say.

    Args:
        path: Path of a checkpoint of the authors' code.

    Returns:
        Name of the network: 'dsen2cr', 'glfcr' or 'aligncr'.

    Raises:
        ValueError: If *path* is not such a checkpoint, or is for none of the networks.
    """
    name = _most_likely_network(_read_network(path))
    if name is None:
        raise ValueError(
            f"'{path}' does not fit any of the networks of Planet-CR, which are "
            f'{", ".join(kind.__name__ for kind in REFERENCE_NETWORKS.values())}: '
            'give a checkpoint of one of them'
        )
    return name


def _most_likely_network(weights: Collection[str]) -> str | None:
    """Name the network that has most of the weights, None if none has half of them."""
    # GLF-CR and Align-CR share many names, and both may have fewer stages
    shares = {
        network: len(known.intersection(weights)) / max(len(weights), 1)
        for network, known in _names_of_networks().items()
    }
    network = max(shares, key=lambda name: shares[name])
    return network if shares[network] >= 0.5 else None


@cache
def _names_of_networks() -> dict[str, frozenset[str]]:
    """List the names of all weights of each of the authors' networks."""
    with torch.device('meta'):
        return {
            network: frozenset(reference_names(kind()))
            for network, kind in REFERENCE_NETWORKS.items()
        }


def _describe_problems(problems: Mapping[str, list[str]]) -> str:
    """Count the weights that have each problem, and name some of them."""
    return '; '.join(
        f'{len(weights)} {problem} ({", ".join(weights[:NAMED_WEIGHTS])}'
        f'{", ..." * (len(weights) > NAMED_WEIGHTS)})'
        for problem, weights in problems.items()
        if weights
    )


def _describe_origin(weights: Collection[str], model: nn.Module) -> str:
    """Say which network the weights seem to be for that do not fit a model."""
    network = _most_likely_network(weights)
    if network is None:
        return 'It seems to be for none of the networks of Planet-CR'
    kind = REFERENCE_NETWORKS[network]
    if isinstance(model, kind):
        return (
            f'It seems to be for {kind.__name__}, but with other arguments, or damaged'
        )
    return f'It seems to be for {kind.__name__}'


def _read_network(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read the state dict of a checkpoint, without ``'module.'`` and constants."""
    checkpoint = read_checkpoint(path)
    network = checkpoint.get('network') if isinstance(checkpoint, Mapping) else None
    if not isinstance(network, Mapping) or not all(
        isinstance(key, str) and isinstance(value, Tensor)
        for key, value in network.items()
    ):
        raise ValueError(
            f"'{path}' has no entry 'network' with a state dict, so it is not in the "
            "format of the authors' code: load a checkpoint of Lightning with "
            'CloudRemoval.load_from_checkpoint instead'
        )

    return {
        key.removeprefix('module.'): value
        for key, value in network.items()
        if not key.endswith(CONSTANTS)
    }
