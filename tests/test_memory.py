# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import platform
import subprocess
import sys

import pytest

#: Pages that the system has to give for a tensor, after one of that size was freed.
SCRIPT = """
import resource

import torch

from torchgeo_planetcr.memory import keep_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

{call}
# glibc takes some turns to find a size that fits
for _ in range(20):
    torch.ones(10_000_000)
before = faults()
torch.ones(10_000_000)
print(faults() - before)
"""


def count_pages(call: str) -> int:
    """Pages that are given in a process of its own."""
    command = [sys.executable, '-c', SCRIPT.format(call=call)]
    return int(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='for glibc')
def test_keep_memory() -> None:
    pages = count_pages('')
    assert count_pages('keep_memory()') < pages / 10
