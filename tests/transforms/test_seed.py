# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import torch

from torchgeo_planetcr.transforms.seed import seeded


def draw(*numbers: int) -> float:
    with seeded('cpu', *numbers):
        return float(torch.rand(()))


def test_depends_on_seed_and_numbers_alone() -> None:
    torch.manual_seed(0)
    places = [(0, 0), (0, 1), (1, 0), (1,), (0, 0, 0)]
    first = [draw(*place) for place in places]
    assert len(set(first)) == len(places)
    torch.rand(10)
    assert [draw(*place) for place in reversed(places)] == first[::-1]
    torch.manual_seed(1)
    assert draw(0, 0) not in first


def test_leaves_other_draws_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(2).tolist()
    torch.manual_seed(0)
    first = float(torch.rand(()))
    draw(1, 2)
    assert torch.initial_seed() == 0
    assert [first, float(torch.rand(()))] == expected
