# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Checkpoints as initial weights, also in the format of the authors of Planet-CR."""

import os
import re
from collections.abc import Collection, Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from ..checkpoint import (
    check_values,
    check_weights,
    describe_misfit,
    lightning_content,
    read_checkpoint,
)
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

#: What tasks, several processes and compilers put before the names of weights.
WRAPPERS = re.compile(r'(?:(?:model|module|_orig_mod)\.)*')


def load_weights(
    model: nn.Module, checkpoint: object, path: str | os.PathLike[str]
) -> None:
    """Load the weights of a whole model, from which its training begins.

    Args:
        model: The model, which on an error stays as it was.
        checkpoint: What the file holds, see
            :func:`~torchgeo_planetcr.checkpoint.read_checkpoint`: a checkpoint of
            `planetcr fit` or of the authors' code, or a state dict alone.
        path: Path of the file, for errors.

    Raises:
        ValueError: If it holds no weights, or if they do not fit *model* or are not
            finite.
    """
    if isinstance(checkpoint, Mapping) and 'network' in checkpoint:
        load_reference_weights(model, read_network(path, checkpoint), path)
        return
    weights = _read_weights(checkpoint, path)
    prefix = _find_prefix(model, weights)
    # A task may have other modules than its model, such as a loss with weights
    own = {k[len(prefix) :]: v for k, v in weights.items() if k.startswith(prefix)}
    check_weights(model, own, path)
    model.load_state_dict(own)


def holds_weights(model: nn.Module, checkpoint: object) -> bool:
    """Tell from their names whether a file holds the weights of a whole model.

    Args:
        model: The model.
        checkpoint: What the file holds.

    Returns:
        Whether it holds one of its weights.
    """
    names = checkpoint if isinstance(checkpoint, Mapping) else {}
    names = names.get('state_dict', names)
    known = model.state_dict()
    return isinstance(names, Mapping) and any(
        WRAPPERS.sub('', str(name), count=1) in known for name in names
    )


def _read_weights(
    checkpoint: object, path: str | os.PathLike[str]
) -> Mapping[str, Any]:
    """Take the state dict of a checkpoint of Lightning, or one that stands alone."""
    if isinstance(checkpoint, Mapping) and all(
        isinstance(value, Tensor) for value in checkpoint.values()
    ):
        return checkpoint
    return lightning_content(path, checkpoint)['state_dict']


def _find_prefix(model: nn.Module, weights: Mapping[str, Any]) -> str:
    """Find what stands before the names of the weights of a model in a file."""
    first = next(iter(model.state_dict()), '')
    found = [name.removesuffix(first) for name in weights if name.endswith(first)]
    return next(filter(WRAPPERS.fullmatch, found), '')


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
    load_reference_weights(model, read_network(path, read_checkpoint(path)), path)


def load_reference_weights(
    model: nn.Module, network: Mapping[str, Tensor], path: str | os.PathLike[str]
) -> None:
    """Load the weights of a checkpoint of the authors' code into a model.

    Args:
        model: Model of one of the authors' networks, which on an error stays as it was.
        network: Result of :func:`read_network`.
        path: Path of the checkpoint, for errors.

    Raises:
        ValueError: If the weights do not fit *model*, or are not finite.
    """
    state_dict, names = model.state_dict(), reference_names(model)
    misfit = describe_misfit({n: state_dict[key] for n, key in names.items()}, network)
    if misfit:
        raise ValueError(
            f"'{path}' does not fit {type(model).__name__}: {misfit}. "
            f'{_describe_origin(network, model)}'
        )
    check_values(network, path)
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


def likely_reference_network(
    network: Collection[str], path: str | os.PathLike[str]
) -> str:
    """Tell from the names of its weights which network a checkpoint is for.

    Shapes are not compared, and weights may be missing: whether all of them fit is for
    :func:`load_reference_weights` to say.

    Args:
        network: Result of :func:`read_network`, or names of the weights.
        path: Path of the checkpoint, for errors.

    Returns:
        Name of the network: 'dsen2cr', 'glfcr' or 'aligncr'.

    Raises:
        ValueError: If they are the weights of none of the networks.
    """
    name = _most_likely_network(network)
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


def read_network(path: str | os.PathLike[str], checkpoint: object) -> dict[str, Tensor]:
    """Take the weights from a checkpoint of the authors' code.

    Args:
        path: Path of the checkpoint, for errors.
        checkpoint: What it holds.

    Returns:
        State dict without ``'module.'`` and constants.

    Raises:
        ValueError: If it is not such a checkpoint.
    """
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
