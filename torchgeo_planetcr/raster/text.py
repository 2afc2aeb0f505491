# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Texts that are read: tables, records and configurations."""

import json
import os
from typing import Any

from .header import open_regular

#: Bytes beyond which a file is no such text.
MAX_SIZE = 100_000_000


def read_text(path: str | os.PathLike[str]) -> str:
    """Read a text.

    Args:
        path: A file in UTF-8.

    Returns:
        Its content, with the line ends that it has.

    Raises:
        OSError: If it cannot be read, or is no text.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        content = b'' if size > MAX_SIZE else file.readall()
    if size > MAX_SIZE:
        raise OSError(f'{path} has {size / 1e6:.0f} MB, more than any text')
    try:
        text = content.decode('utf-8-sig')
    except UnicodeDecodeError as error:
        raise OSError(f'{path} is not in UTF-8: save it so ({error})') from error
    if '\0' in text:
        raise OSError(f'{path} is no text, as it has bytes of 0: write it again')
    return text


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file.

    Args:
        path: A file in UTF-8.

    Returns:
        What it holds.

    Raises:
        OSError: If it cannot be read, or is damaged.
    """
    try:
        return json.loads(read_text(path))
    # A number of too many digits is a ValueError, too
    except (ValueError, RecursionError) as error:
        raise OSError(f'{path} is damaged: {error}') from error
