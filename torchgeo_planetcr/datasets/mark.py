# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""A mark in Parquet files that nobody but their user can make.

An index that came with somebody's archive could say anything: that pixels lie in another
file, at another place, or in another split. To check each number would be to make it again.
So an index is believed if it has the mark of its user, which is computed of its content and
a secret key in the user's data folder.
"""

import contextlib
import hashlib
import hmac
import os
import secrets

import platformdirs

from ..raster.header import open_regular
from ..raster.write import unfinished_folder

#: Bytes of a mark, and of a key.
SIZE = 32

#: Bytes at the end of a Parquet file: length of the footer before them, and a signature.
END_SIZE = 8


def user_key() -> bytes:
    """Read the secret key of the user. Make it first if there is none.

    Returns:
        The key.

    Raises:
        OSError: If there is no key, and none can be kept.
    """
    folder = platformdirs.user_data_dir('torchgeo-planetcr', appauthor=False)
    path = os.path.join(folder, 'index.key')
    if not os.path.lexists(path):
        with unfinished_folder(folder) as unfinished:
            new = os.path.join(unfinished, 'index.key')
            with open(new, 'wb', opener=_open_privately) as file:
                file.write(secrets.token_bytes(SIZE))
            # Of several processes, the first makes the key of all
            with contextlib.suppress(FileExistsError):
                os.link(new, path)
    with open_regular(path) as file:
        key = file.read(SIZE + 1)
    if len(key) != SIZE:
        raise OSError(f'{path} is not a key: remove it')
    return key


def _open_privately(path: str, flags: int) -> int:
    """Open a new file that nobody else may read."""
    return os.open(path, flags, 0o600)


def add_mark(content: bytes, key: bytes, version: int) -> bytes:
    """Add a mark to a Parquet file.

    Args:
        content: The file.
        key: The user's key.
        version: Version of what is in the file.

    Returns:
        The file with a mark before its footer, where readers do not look.
    """
    place = _footer_place(content)
    mark = _make_mark(content[:place], content[place:], key, version)
    return content[:place] + mark + content[place:]


def has_mark(content: bytes, key: bytes, version: int) -> bool:
    """Check that a Parquet file is as it was when its mark was added.

    Args:
        content: The file.
        key: The user's key.
        version: Version of what is in the file.

    Returns:
        True if the mark was made with this key of this content and version.
    """
    place = _footer_place(content)
    if place < SIZE:
        return False
    view = memoryview(content)
    mark = _make_mark(view[: place - SIZE], view[place:], key, version)
    return hmac.compare_digest(mark, view[place - SIZE : place])


def _footer_place(content: bytes) -> int:
    """Where the footer of a Parquet file begins; negative in other files."""
    length = int.from_bytes(content[-END_SIZE : -END_SIZE + 4], 'little')
    return len(content) - END_SIZE - length


def _make_mark(
    start: bytes | memoryview, end: bytes | memoryview, key: bytes, version: int
) -> bytes:
    """Make a mark of what lies before and after it."""
    head = f'{version} {len(start)} {len(end)}\n'.encode()
    digest = hashlib.blake2b(head, key=key, digest_size=SIZE)
    digest.update(start)
    digest.update(end)
    return digest.digest()
