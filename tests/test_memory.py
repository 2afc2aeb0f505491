# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import platform
import subprocess
import sys

import pytest

#: Allocates, fills and frees 40 MB as a tensor does. Prints how many pages the system has
#: to give for that, after memory of this size was freed.
SCRIPT = """
import resource

from torchgeo_planetcr.memory import keep_memory

{allocate}

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

{call}
# glibc takes some turns to find a size that fits
for _ in range(20):
    allocate()
before = faults()
allocate()
print(faults() - before)
"""

#: Without PyTorch, which takes seconds to import, and with it.
MALLOC = """
import ctypes

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]

def allocate():
    pointer = libc.malloc(40_000_000)
    ctypes.memset(pointer, 1, 40_000_000)
    libc.free(pointer)
"""
TENSOR = """
import torch

def allocate():
    torch.ones(10_000_000)
"""


def count_pages(allocate: str, call: str) -> int:
    """Number of pages that a process of its own gets."""
    command = [sys.executable, '-c', SCRIPT.format(allocate=allocate, call=call)]
    return int(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='needs glibc')
@pytest.mark.parametrize(
    'allocate',
    [
        pytest.param(MALLOC, id='malloc'),
        pytest.param(TENSOR, id='tensor', marks=pytest.mark.slow),
    ],
)
def test_keep_memory(allocate: str) -> None:
    pages = count_pages(allocate, '')
    assert count_pages(allocate, 'keep_memory()') < pages / 10
