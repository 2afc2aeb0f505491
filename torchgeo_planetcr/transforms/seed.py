# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Random numbers that do not depend on what was drawn before."""

import contextlib
from collections.abc import Iterator

import numpy as np
import torch


@contextlib.contextmanager
def seeded(device: torch.device | str, *numbers: int) -> Iterator[None]:
    """Draw what depends on the seed of PyTorch and on *numbers* alone.

    With the number of an epoch and of a batch, a training that goes on from a checkpoint
    draws what it would have drawn without a break. Afterwards, PyTorch's generators are as
    they were before.

    Args:
        device: Device whose generator is used, besides that of the CPU.
        *numbers: What tells one draw from another, none negative.

    Yields:
        Nothing.
    """
    device = torch.device(device)
    sequence = np.random.SeedSequence(torch.initial_seed(), spawn_key=numbers)
    (seed,) = sequence.generate_state(1, np.uint64).tolist()
    devices = [device] if device.type == 'cuda' else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        yield
