# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Memory of a process that runs networks on the CPU."""

import ctypes
import sys

#: Options of mallopt, see malloc.h of glibc.
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8


def keep_memory() -> None:
    """Let the process keep the memory that it frees, for what it needs next.

    By default, glibc gives the memory of each large tensor back to Linux, which has to clear
    it when it is next asked for, and takes longer for that than a CPU for the convolutions in
    between. The peak of memory hardly changes. The ``planetcr`` command does this for itself;
    a script or a notebook can, at its beginning. There is nothing to do elsewhere than on
    Linux, nor with another C library.
    """
    if sys.platform == 'linux':
        mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
        if mallopt is not None:
            mallopt(M_MMAP_MAX, 0)
            mallopt(M_TRIM_THRESHOLD, -1)
            # What one thread frees is there for the others, too
            mallopt(M_ARENA_MAX, 1)
