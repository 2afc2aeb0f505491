# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""What predictions were made of and with, which they say themselves."""

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

import torch
from rasterio.errors import RasterioError
from rasterio.io import DatasetWriter
from torch import nn
from torchgeo.datasets.utils import Path

from ..raster.read import check_whole, open_raster


def digest(*texts: str) -> str:
    """Make a short name of texts.

    Args:
        *texts: The texts.

    Returns:
        A name that other texts do not have.
    """
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:32]


def describe(task: nn.Module, settings: Mapping[str, Any]) -> str:
    """Make a short name of a task and of settings.

    Args:
        task: The task, with its weights.
        settings: Plain values.

    Returns:
        A name that a task with other layers or weights, or other settings, do not have.
    """
    weights = hashlib.sha256()
    for name, value in task.state_dict().items():
        weights.update(f'{name} {value.dtype} {tuple(value.shape)}'.encode())
        weights.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy())
    text = json.dumps(settings, sort_keys=True, default=str)
    return digest(str(task), weights.hexdigest(), text)


def file_stamp(path: Path) -> str:
    """Tell a file from another one of its name.

    Args:
        path: The file.

    Returns:
        Its name, size and time of change; its name alone if it is not there.
    """
    name = os.path.basename(path)
    try:
        status = os.stat(path)
    except OSError:
        return name
    return f'{name} {status.st_size} {status.st_mtime_ns}'


def write_origin(dataset: DatasetWriter, origin: str) -> None:
    """Have a GeoTIFF tell what it was made of and with.

    Args:
        dataset: GeoTIFF that is written.
        origin: Short name of it; nothing is told if it is empty.
    """
    if origin:
        dataset.update_tags(PLANETCR_ORIGIN=origin)


def read_origin(path: Path) -> str:
    """Read what a GeoTIFF was made of and with.

    Args:
        path: The GeoTIFF.

    Returns:
        Short name of it; empty if there is no such file, if it is not whole, or does not
        tell.
    """
    if not os.path.isfile(path):
        return ''
    try:
        with open_raster(os.fspath(path), 'GTiff') as dataset:
            origin = dataset.tags().get('PLANETCR_ORIGIN', '')
        check_whole(os.fspath(path))
    except (OSError, RasterioError):
        return ''
    return origin
