# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Memory management of processes that run networks on the CPU."""

import ctypes
import sys

#: Options of ``mallopt``, from ``malloc.h`` of glibc.
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8


def keep_memory() -> None:
    """Let the process keep the memory that it frees, and use it again.

    By default, glibc gives the memory of each large tensor back to Linux. Linux has to clear
    the memory before a process gets it again, which can take longer than the convolutions in
    between. Keeping it hardly changes the peak of memory. The ``planetcr`` command calls this
    function. Scripts and notebooks can call it at their beginning. Without Linux and glibc,
    it does nothing.
    """
    if sys.platform == 'linux':
        mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
        if mallopt is not None:
            mallopt(M_MMAP_MAX, 0)
            mallopt(M_TRIM_THRESHOLD, -1)
            # With one arena, each thread can use what another one frees
            mallopt(M_ARENA_MAX, 1)
