# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""What predictions were made of and with, which they say themselves."""

import hashlib
import json
import os
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from rasterio.errors import RasterioError
from rasterio.io import DatasetWriter
from torch import nn
from torchgeo.datasets.utils import Path

from ..raster.read import check_whole, open_raster
from ..scenes.names import without_query

#: How the names of tags begin.
PREFIX = 'PLANETCR_'

#: Tag with the short name of all that decides whether two predictions are the same.
ORIGIN = f'{PREFIX}ORIGIN'


class Origin(NamedTuple):
    """What a prediction is made of and with. Each entry becomes a tag of its GeoTIFF."""

    #: What decides whether two predictions are the same.
    facts: Mapping[str, str]

    #: What people want to know besides.
    notes: Mapping[str, str] = MappingProxyType({})

    @property
    def name(self) -> str:
        """Short name of the facts, which others do not have."""
        return digest(json.dumps(dict(self.facts), sort_keys=True))

    @property
    def tags(self) -> dict[str, str]:
        """Tags of the GeoTIFF."""
        said = {**self.notes, **self.facts}
        return {f'{PREFIX}{name.upper()}': text for name, text in said.items()}


def digest(*texts: str) -> str:
    """Make a short name of texts.

    Args:
        *texts: The texts.

    Returns:
        A name that other texts do not have.
    """
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:32]


def describe(task: nn.Module, settings: Mapping[str, Any]) -> dict[str, str]:
    """Describe a task and settings.

    Args:
        task: The task, with its weights.
        settings: Plain values.

    Returns:
        Facts, some of which differ for a task with other layers, plain attributes or
        weights, or for other settings.
    """
    weights = hashlib.sha256()
    for name, value in task.state_dict().items():
        weights.update(f'{name} {value.dtype} {tuple(value.shape)}'.encode())
        weights.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy())
    # A module without weights may keep what it does in attributes
    attributes = {
        f'{name}.{key}': value
        for name, module in task.named_modules()
        for key, value in vars(module).items()
        if isinstance(value, bool | int | float | str)
        and not key.startswith('_')
        and key != 'training'
    }
    layers = json.dumps(attributes, sort_keys=True)
    model = digest(str(task), layers, weights.hexdigest())
    return {'weights': model} | {
        name: value
        if isinstance(value, str)
        else json.dumps(value, sort_keys=True, default=str)
        for name, value in settings.items()
    }


def file_stamp(path: Path) -> str:
    """Tell a file from another one of its name.

    Args:
        path: The file.

    Returns:
        Its folder, name, size and time of change; its folder and name alone if it is not
        on this machine. What follows on the ``?`` of an address is left out, as it may be
        secret.
    """
    place = os.path.abspath(without_query(os.fspath(path)))
    folder = os.path.basename(os.path.dirname(place))
    text = f'{folder}/{os.path.basename(place)}'
    # A tag holds no characters that cannot be printed
    text = ''.join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    try:
        status = os.stat(path)
    except OSError:
        return text
    seconds, rest = divmod(status.st_mtime_ns, 10**9)
    changed = time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(seconds))
    return f'{text} ({status.st_size} bytes, {changed}.{rest:09d} UTC)'


def write_origin(dataset: DatasetWriter, origin: Origin | None) -> None:
    """Have a GeoTIFF tell what it was made of and with.

    Args:
        dataset: GeoTIFF that is written.
        origin: What it tells; nothing if that is not known.
    """
    if origin is not None:
        tags: dict[str, Any] = {ORIGIN: origin.name, **origin.tags}
        dataset.update_tags(**tags)


def read_origin(path: Path) -> str:
    """Read what a GeoTIFF was made of and with.

    Args:
        path: The GeoTIFF.

    Returns:
        Short name of it; empty if there is no such file, if it is not whole, or does not
        tell.
    """
    return _read_tags(path).get(ORIGIN, '')


def say_difference(path: Path, origin: Origin | None) -> str:
    """Say why a GeoTIFF is not the one that would be made.

    Args:
        path: What is there.
        origin: What the GeoTIFF would be made of and with, if that is known.

    Returns:
        A text that begins with the path; it is empty if it would be the same.
    """
    if origin is None:
        return f'{path} exists'
    tags = _read_tags(path)
    if ORIGIN not in tags:
        return f'{path} exists, and does not say what it was made of'
    if tags[ORIGIN] == origin.name:
        return ''
    differences = [
        f'{tag.removeprefix(PREFIX).lower()}={tags.get(tag, "unknown")} instead of {text}'
        for tag, text in origin.tags.items()
        if tags.get(tag) != text
    ]
    return f'{path} exists, and was made with {", ".join(differences)}'


def _read_tags(path: Path) -> dict[str, str]:
    """Read the tags of a GeoTIFF; none if there is no such file, or if it is not whole."""
    if not os.path.isfile(path):
        return {}
    try:
        with open_raster(os.fspath(path), 'GTiff') as dataset:
            tags = dataset.tags()
        check_whole(os.fspath(path))
    except (OSError, RasterioError):
        return {}
    return tags
