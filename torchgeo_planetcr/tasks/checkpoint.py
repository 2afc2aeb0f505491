# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Tasks from checkpoints."""

import pkgutil
from collections.abc import Mapping
from typing import Any

from torch import nn
from torchgeo.datasets.utils import Path

from ..checkpoint import lightning_content, read_checkpoint, show
from ..models.checkpoint import (
    likely_reference_network,
    load_reference_weights,
    read_network,
)
from .cloud_removal import CloudRemoval
from .restore import is_plain, restore_task

#: How the class of a model is named.
HOW = '--model {1} on the command line, or load_task(..., model={1!r})'


def load_task(path: Path, model: str | type[nn.Module] | None = None) -> CloudRemoval:
    """Load a task from a checkpoint of Lightning or of the authors' code, to restore images.

    No code in it is executed, and no class that it names is imported. The network of a
    checkpoint of the authors' code is chosen by the names of its weights. Loss, optimizer
    and scheduler are the defaults: only training needs others.

    Args:
        path: Path of the checkpoint.
        model: Class of the model, or its name, such as 'my_models.Mine', which is imported
            then. It is called with the arguments in the checkpoint, if they are numbers,
            names or a few of them. Only for a checkpoint whose model was given as a
            module, and not by the name of one of this package.

    Returns:
        The task, on the CPU.

    Raises:
        ValueError: If *path* is not such a checkpoint, is damaged, does not fit its
            network, has weights that are not finite, or if its model was given as a
            module and *model* is missing or no class of modules.
    """
    checkpoint = read_checkpoint(path)
    if isinstance(checkpoint, Mapping) and 'network' in checkpoint:
        network = read_network(path, checkpoint)
        task = CloudRemoval(likely_reference_network(network, path))
        load_reference_weights(task.model, network, path)
        return task
    content = lightning_content(path, checkpoint)
    description = content['hyper_parameters'].get('model')
    given: dict[str, Any] = {}
    if model is not None and not isinstance(description, str):
        given['model'] = _make_model(model, description, path)
    return restore_task(
        CloudRemoval,
        path,
        content,
        how=HOW,
        **given,
        loss='carl',
        optimizer=None,
        lr_scheduler=None,
        compile=False,
    )


def _make_model(
    model: str | type[nn.Module], description: object, path: Path
) -> nn.Module:
    """Make the model of a class that the user has named."""
    kind: Any = model
    if isinstance(model, str):
        try:
            kind = pkgutil.resolve_name(model)
        except (AttributeError, ImportError, ValueError) as error:
            raise ValueError(f'model={model!r} cannot be imported: {error}') from error
    is_module = isinstance(kind, type) and issubclass(kind, nn.Module)
    if not is_module:
        raise ValueError(
            f'model={model!r} is no class of modules, such as my_models.Mine'
        )
    kwargs = description.get('init_args') if isinstance(description, Mapping) else None
    kwargs = kwargs or {}
    if not isinstance(kwargs, Mapping) or not is_plain(dict(kwargs)):
        raise ValueError(
            f"'{path}' has arguments of its model that are neither numbers, nor names, "
            f'nor a few of them: {show(kwargs)}. Nothing else is taken from a checkpoint'
        )
    try:
        return kind(**kwargs)
    except TypeError as error:
        raise ValueError(
            f"{kind.__name__} does not take the arguments in '{path}', "
            f'{show(dict(kwargs))}: {error}'
        ) from error
