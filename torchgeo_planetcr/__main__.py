# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""The `planetcr` command, also `python -m torchgeo_planetcr`."""

import ctypes
import sys

from .main import main as run

#: Options of glibc's mallopt, see malloc.h.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def keep_memory() -> None:
    """Let the process keep the memory that it frees, for what it needs next.

    By default glibc gives each large tensor back to the system, which then spends more time
    on clearing its pages again and again than a network on a CPU does on its convolutions.
    """
    if sys.platform == 'linux':
        # Other C libraries for Linux have no such function
        mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
        if mallopt is not None:
            mallopt(M_MMAP_MAX, 0)
            mallopt(M_TRIM_THRESHOLD, -1)


def main() -> None:
    """Set up the process, which is the command's own, and run the command."""
    keep_memory()
    run()


if __name__ == '__main__':
    main()
