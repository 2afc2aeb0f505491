# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""What operating systems differ in."""

import contextlib
import os
import sys
from collections.abc import Iterator

import pytest

#: For tests that use signals, limits and shells as Linux and macOS have them.
needs_posix = pytest.mark.skipif(os.name != 'posix', reason='Windows has no such thing')

#: For tests that start processes, or count what they hold, as Linux does.
needs_linux = pytest.mark.skipif(sys.platform != 'linux', reason='only Linux does so')


@contextlib.contextmanager
def full_disk(limit: int) -> Iterator[None]:
    """Let no file grow beyond a number of bytes; Python makes an error of the signal."""
    resource = pytest.importorskip('resource', reason='Windows has no such limit')
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
