# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Safe reading of checkpoints, which may come from anybody."""

import contextlib
import os
import re
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

#: Suffix of files that hold tensors and nothing else.
SAFETENSORS = '.safetensors'

#: How a version begins.
VERSION = re.compile(r'\d+(\.|$)')

#: Number of weights that an error names for each problem.
NAMED_WEIGHTS = 3

#: Number of characters of a text in a checkpoint that an error shows.
MAX_TEXT = 100

#: What a network may have in addition to its weights in a checkpoint while it is made: some
#: are made twice, and heads that are not kept.
SURPLUS_TENSORS, SURPLUS_ELEMENTS = 100, 10_000_000


def read_checkpoint(
    path: str | os.PathLike[str], map_location: str | torch.device = 'cpu'
) -> Any:
    """Read a checkpoint without executing any code in it.

    Args:
        path: Path of the checkpoint, or of a safetensors file.
        map_location: Device to read it onto.

    Returns:
        What the file holds, which is tensors and plain Python objects.

    Raises:
        ValueError: If *path* does not exist, is not a checkpoint, is truncated, does not
            match its own checksums, becomes larger when it is unpacked, or contains
            anything else.
    """
    if not os.path.isfile(path):
        raise ValueError(f"'{path}' does not exist or is not a file: check the path")

    try:
        if os.fspath(path).endswith(SAFETENSORS):
            return load_file(path, str(map_location))
        damage = _find_damage(path)
        if damage is None:
            return torch.load(path, map_location=map_location, weights_only=True)
    # A damaged file makes the unpickler raise almost anything
    except Exception as error:
        raise ValueError(
            f"'{path}' cannot be read as a checkpoint ({type(error).__name__}): it is "
            'truncated, was not written by torch.save, or contains objects other than '
            'tensors, whose code is not executed. Download or save it again'
        ) from error
    raise ValueError(
        f"'{path}' cannot be read as a checkpoint: {damage}. Download or save it again"
    )


def _find_damage(path: str | os.PathLike[str]) -> str | None:
    """Compare a checkpoint with its own checksums, which PyTorch does not do."""
    # Files of PyTorch before 1.6 have none
    if not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as archive:
        if sum(part.file_size for part in archive.infolist()) > os.path.getsize(path):
            return 'it is compressed, and may take all memory'
        part = archive.testzip()
    return part and f'{part!r} in it does not match its checksum'


def lightning_content(
    path: str | os.PathLike[str], checkpoint: object
) -> dict[str, Any]:
    """Check that what a file holds is a checkpoint of Lightning.

    Args:
        path: Path of the file, for errors.
        checkpoint: What it holds.

    Returns:
        The same, in which ``state_dict`` and ``hyper_parameters`` are mappings.

    Raises:
        ValueError: If it is not such a checkpoint.
    """
    content = checkpoint if isinstance(checkpoint, dict) else {}
    content.setdefault('hyper_parameters', {})
    if (
        not isinstance(content.get('state_dict'), Mapping)
        or not isinstance(content['hyper_parameters'], Mapping)
        or not VERSION.match(str(content.get('pytorch-lightning_version', '2')))
    ):
        raise ValueError(
            f"'{path}' is not a checkpoint of Lightning: take one that `planetcr fit` has "
            'written'
        )
    return content


def check_weights(
    module: nn.Module, weights: Mapping[str, Any], path: str | os.PathLike[str]
) -> None:
    """Check that weights are those of a module.

    Args:
        module: The module.
        weights: State dict of a checkpoint.
        path: Path of the checkpoint, for errors.

    Raises:
        ValueError: If they are not, or if one is NaN or infinite.
    """
    misfit = describe_misfit(module.state_dict(), weights)
    if misfit:
        raise ValueError(
            f"'{path}' does not fit {type(module).__name__}: {misfit}. Take another "
            'checkpoint, or give the arguments that it was trained with'
        )
    check_values(weights, path)


def describe_misfit(expected: Mapping[str, Tensor], weights: Mapping[str, Any]) -> str:
    """Say why weights are not those of a module.

    Args:
        expected: State dict of the module.
        weights: State dict of a checkpoint.

    Returns:
        Numbers of weights that have each problem, and names of some; empty if all fit.
    """
    problems = {
        'missing': [name for name in expected if name not in weights],
        'surplus': [show(name) for name in weights if name not in expected],
    }
    for name, wanted in expected.items():
        kind, detail = _compare(wanted, weights[name]) if name in weights else ('', '')
        problems.setdefault(kind, []).append(name + detail)
    return '; '.join(
        f'{len(names)} {problem} ({", ".join(names[:NAMED_WEIGHTS])}'
        f'{", ..." * (len(names) > NAMED_WEIGHTS)})'
        for problem, names in problems.items()
        if problem and names
    )


def show(value: object) -> str:
    """Show what a stranger has written, without control characters and not all of it.

    Args:
        value: Anything in a checkpoint.

    Returns:
        A short text that can be printed.
    """
    text = value if isinstance(value, str) and value.isprintable() else repr(value)
    return text if len(text) <= MAX_TEXT else f'{text[:MAX_TEXT]}...'


def _compare(wanted: Tensor, weight: object) -> tuple[str, str]:
    """Problem of a weight, and what is to be said of it; empty if it fits."""
    if (
        not isinstance(weight, Tensor)
        or weight.layout != torch.strided
        or weight.is_quantized
        or weight.is_meta
    ):
        return 'without plain values', ''
    if weight.shape != wanted.shape:
        return 'of another shape', f' {(*weight.shape,)} instead of {(*wanted.shape,)}'
    kinds = [(x.is_floating_point(), x.is_complex()) for x in (weight, wanted)]
    if kinds[0] != kinds[1]:
        return 'of another type', f' {weight.dtype} instead of {wanted.dtype}'
    return '', ''


def check_values(weights: Mapping[str, Tensor], path: str | os.PathLike[str]) -> None:
    """Check that all weights are finite.

    Args:
        weights: State dict of a checkpoint.
        path: Path of the checkpoint, for errors.

    Raises:
        ValueError: If one is NaN or infinite.
    """
    bad = [name for name, value in weights.items() if not torch.isfinite(value).all()]
    if bad:
        raise ValueError(
            f"'{path}' has NaN or infinity in {len(bad)} of its {len(weights)} weights, "
            f'such as {show(bad[0])}: its training has failed, so take an earlier checkpoint'
        )


@contextlib.contextmanager
def no_larger_than(weights: Mapping[str, Any]) -> Iterator[None]:
    """Refuse to make modules that are much larger than the weights for them.

    A few bytes of hyperparameters could otherwise describe a network that takes all
    memory.

    Args:
        weights: State dict of a checkpoint.

    Raises:
        ValueError: If more parameters are made than there are weights.
    """
    tensors = [value for value in weights.values() if isinstance(value, Tensor)]
    # What lies in the file: a view may have any size
    storages = [t.untyped_storage() for t in tensors if t.layout == torch.strided]
    stored = {storage.data_ptr(): storage.nbytes() for storage in storages}
    number = 2 * len(tensors) + SURPLUS_TENSORS
    # None has less than a byte
    elements = sum(stored.values()) + SURPLUS_ELEMENTS

    def count(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal number, elements
        number -= 1
        elements -= 0 if parameter is None else parameter.numel()
        if number < 0 or elements < 0:
            raise ValueError('its hyperparameters are of a much larger network')

    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()
