# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Tasks from what a checkpoint says of them, none of which is executed.

Lightning calls any class that the hyperparameters of a checkpoint name. Here a task is made
of plain values alone, and whoever loads a checkpoint names the classes that it needs.
"""

import inspect
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple, get_type_hints

import torch
from segmentation_models_pytorch import MODEL_ARCHITECTURES_MAPPING
from torch import Tensor, nn
from torchgeo.datasets.utils import Path
from torchgeo.tasks import BaseTask

from ..checkpoint import (
    check_values,
    check_weights,
    lightning_content,
    no_larger_than,
    show,
)
from ..models import EncoderDecoder

#: A text in a checkpoint: a name, but no path, address or code.
NAME = re.compile(r'[\w.+-]{1,100}', re.ASCII)

#: How deep values of a checkpoint may be nested, and how long each list may be.
MAX_DEPTH, MAX_LENGTH = 3, 100

#: Hyperparameters that are not arguments, or are no longer needed where weights are loaded.
UNUSED = ('_instantiator', '_class_path', 'weights')

#: Arguments that are functions.
FUNCTIONS = ('optimizer', 'lr_scheduler')

#: Arguments that only describe a model which is given by name.
OF_NAMED_MODEL = ('backbone', 'model_kwargs')


class Arguments(NamedTuple):
    """Arguments of a task in a checkpoint."""

    #: Those that are plain values.
    values: dict[str, Any]

    #: Class of each of those that were objects, for messages alone.
    objects: dict[str, str]

    def without(self, names: Collection[str]) -> 'Arguments':
        """Leave arguments out that are given in another way.

        Args:
            names: Names of the arguments.

        Returns:
            The other arguments.
        """
        left_out = {*names, *(OF_NAMED_MODEL if 'model' in names else ())}
        return Arguments(
            {
                name: value
                for name, value in self.values.items()
                if name not in left_out
            },
            {
                name: value
                for name, value in self.objects.items()
                if name not in left_out
            },
        )


def read_arguments(
    path: Path, checkpoint: Mapping[str, Any], kind: type[BaseTask]
) -> Arguments:
    """Read the arguments of a task from a checkpoint, and check them.

    Args:
        path: Path of the checkpoint, for errors.
        checkpoint: Result of :func:`~torchgeo_planetcr.checkpoint.lightning_content`.
        kind: Class of the task. The one that the checkpoint names is not used.

    Returns:
        The arguments.

    Raises:
        ValueError: If there is one that *kind* does not take, or that is neither a
            number, nor a name, nor a few of them, nor an object.
    """
    given = checkpoint['hyper_parameters']
    known = {
        name
        for parent in kind.__mro__
        for name in inspect.signature(parent.__init__).parameters
    }
    arguments = Arguments({}, {})
    for name, value in given.items():
        if name in UNUSED:
            continue
        if name not in known:
            raise ValueError(
                f"'{path}' has the hyperparameter {show(name)}, which {kind.__name__} "
                f'does not take{_other_class(given)}: it is of another task or version, so '
                f'take a checkpoint of {kind.__name__}'
            )
        if isinstance(value, Mapping) and 'class_path' in value:
            arguments.objects[name] = show(value['class_path'])
        elif name in FUNCTIONS and value is not None:
            arguments.objects[name] = show(value)
        elif is_plain(value):
            arguments.values[name] = value
        else:
            raise ValueError(
                f"'{path}' has a value of {name!r} that is neither a number, nor a name, "
                f'nor a few of them: {show(value)}. Nothing else is taken from a checkpoint'
            )
    _check_model_arguments(path, arguments.values, getattr(kind, 'models', {}))
    return arguments


def is_plain(value: object, depth: int = 0) -> bool:
    """Whether a value of a checkpoint is a number, a name, or a few of them.

    Args:
        value: The value.
        depth: How deep it is nested.

    Returns:
        Whether it is, so that it names no file, address or class.
    """
    if value is None or isinstance(value, bool | int | float):
        return True
    if isinstance(value, str):
        return NAME.fullmatch(value) is not None
    if isinstance(value, Tensor):
        return value.numel() <= MAX_LENGTH
    if depth == MAX_DEPTH or not isinstance(value, list | tuple | dict):
        return False
    parts = [*value, *(value.values() if isinstance(value, dict) else ())]
    return (
        len(parts) <= MAX_LENGTH
        and not (isinstance(value, dict) and 'class_path' in value)
        and all(is_plain(part, depth + 1) for part in parts)
    )


def _check_model_arguments(
    path: Path,
    values: Mapping[str, Any],
    models: Mapping[str, Callable[..., nn.Module]],
) -> None:
    """Check that a model takes its arguments in a checkpoint.

    An architecture hands those that it does not know on to libraries, which read files and
    addresses then.
    """
    name, kwargs = str(values.get('model')), values.get('model_kwargs')
    if not kwargs:
        return
    if name in models:
        kinds: list[Any] = [get_type_hints(models[name]).get('return', models[name])]
    else:
        architecture = MODEL_ARCHITECTURES_MAPPING.get(name.replace('+', 'plus'))
        kinds = [EncoderDecoder, architecture or EncoderDecoder]
    known = {
        parameter.name
        for kind in kinds
        for parameter in inspect.signature(kind).parameters.values()
        if parameter.kind is not parameter.VAR_KEYWORD
    }
    if not isinstance(kwargs, Mapping) or not kwargs.keys() <= known:
        raise ValueError(
            f"'{path}' has model_kwargs that {show(name)} does not take: {show(kwargs)}"
        )


def restore_task[Task: BaseTask](
    kind: type[Task],
    path: Path,
    checkpoint: object,
    strict: bool | None = None,
    how: str | None = None,
    **given: Any,
) -> Task:
    """Make a task from a checkpoint of Lightning, without executing anything in it.

    Args:
        kind: Class of the task.
        path: Path of the checkpoint, for errors.
        checkpoint: What it holds.
        strict: Whether all weights must be there, and no others.
        how: How to give an object that is missing, see :func:`check_objects`.
        **given: Arguments that replace those in the checkpoint.

    Returns:
        The task, with the weights of the checkpoint, on their device.

    Raises:
        ValueError: If it is not such a checkpoint, if it does not fit *kind*, or if it
            needs an object that is not given.
    """
    checkpoint = lightning_content(path, checkpoint)
    weights = checkpoint['state_dict']
    values, objects = read_arguments(path, checkpoint, kind).without(given.keys())
    loading = f'{kind.__name__}.load_from_checkpoint(..., {{}}=...)'
    check_objects(path, objects, how or loading)
    try:
        with no_larger_than(weights):
            task = kind(**values, **given)
        task.on_load_checkpoint(checkpoint)
    # Arguments that do not fit make PyTorch and other libraries raise various errors
    except Exception as error:
        reason = (str(error).splitlines() or [''])[0]
        raise ValueError(
            f"'{path}' does not fit {kind.__name__} ({type(error).__name__}: {reason}): if "
            'its model was given as a module, give the module itself, from Python'
        ) from error
    is_strict = task.strict_loading if strict is None else strict
    if is_strict:
        check_weights(task, weights, path)
    else:
        check_values(weights, path)
    task.load_state_dict(dict(weights), strict=is_strict)
    device = next((tensor.device for tensor in weights.values()), torch.device('cpu'))
    return task.to(device)


def check_objects(path: Path, objects: Mapping[str, str], how: str) -> None:
    """Refuse a checkpoint that needs objects, which nobody has given.

    Args:
        path: Path of the checkpoint.
        objects: Class of each object, by argument.
        how: How to give one, with ``{0}`` for the argument and ``{1}`` for the class.

    Raises:
        ValueError: If there is one.
    """
    for name, class_path in objects.items():
        # Nothing that a stranger has written is to be typed on a command line
        known = class_path if NAME.fullmatch(class_path) else 'CLASS'
        raise ValueError(
            f"'{path}' needs its {name}, which was of the class {class_path}. No class "
            'that a checkpoint names is ever imported. If you trust it, give the object '
            f'yourself: {how.format(name, known)}'
        )


def _other_class(hparams: Mapping[str, Any]) -> str:
    """Name the class that a checkpoint says it is of."""
    other = hparams.get('_class_path')
    return '' if other is None else f' (it names {show(other)})'
