# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""One of several processes, for tests of what each of them does."""

import contextlib
from collections.abc import Iterator

from torch import distributed
from torch.testing._internal.distributed.fake_pg import FakeStore


@contextlib.contextmanager
def process(rank: int, processes: int) -> Iterator[None]:
    """Be one of several processes, as far as one can without the others."""
    distributed.init_process_group(
        'fake', rank=rank, world_size=processes, store=FakeStore()
    )
    try:
        yield
    finally:
        distributed.destroy_process_group()
