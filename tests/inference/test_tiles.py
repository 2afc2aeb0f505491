# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from torchgeo_planetcr.inference import Blender, plan_tiles

Array = NDArray[np.float32]


def blend(
    image: Array, model: Callable[[Array], Array], size: int, overlap: int
) -> Array:
    blender = Blender(*image.shape[1:], len(image), size, overlap)
    lines = []
    for number, row in enumerate(blender.tiles):
        for top, left, height, width in row:
            tile = image[:, top : top + height, left : left + width]
            blender.add((row[0]._replace(col=left)), model(tile))
        first, done = blender.finish(number)
        assert first == sum(part.shape[1] for part in lines)
        lines.append(done)
    return np.concatenate(lines, axis=1)


@pytest.mark.parametrize(
    ('height', 'width', 'size', 'overlap'),
    [(1, 1, 8, 2), (8, 8, 8, 2), (9, 30, 8, 2), (100, 75, 32, 8), (64, 64, 16, 0)],
)
def test_plan(height: int, width: int, size: int, overlap: int) -> None:
    count = np.zeros((height, width), dtype=int)
    rows = plan_tiles(height, width, size, overlap)
    for row in rows:
        for tile in row:
            assert tile.row == row[0].row
            assert (tile.height, tile.width) == (min(size, height), min(size, width))
            assert tile.row + tile.height <= height
            assert tile.col + tile.width <= width
            count[tile.row :, tile.col :][: tile.height, : tile.width] += 1
    assert count.min() == 1
    for axis in ([row[0].row for row in rows], [tile.col for tile in rows[0]]):
        assert all(0 < b - a <= size - overlap for a, b in pairwise(axis))


@pytest.mark.parametrize(
    ('size', 'overlap'), [(32, 16), (48, 16), (64, 24), (100, 40), (512, 64)]
)
@pytest.mark.parametrize('shape', [(130, 97), (64, 200), (20, 20)])
def test_convolution_in_one_piece(
    shape: tuple[int, int], size: int, overlap: int
) -> None:
    """Tiles lack what lies beyond their edge, but that has no weight."""
    if overlap * 2 >= size:
        overlap = size // 2 - 1
    generator = torch.Generator().manual_seed(0)
    # It sees three pixels in each direction, no more than is thrown away
    weight = torch.randn(2, 2, 7, 7, generator=generator)

    def model(image: Array) -> Array:
        return F.conv2d(torch.from_numpy(image)[None], weight, padding=3)[0].numpy()

    image = torch.rand(2, *shape, generator=generator).numpy()
    expected = model(image)
    actual = blend(image, model, size, overlap)
    assert np.abs(actual - expected).max() < 1e-5 * np.abs(expected).max()


def test_no_seam() -> None:
    """Where tiles disagree, one fades into the other."""
    image = np.zeros((1, 40, 192), dtype=np.float32)
    levels = iter(np.linspace(0, 1, 100))
    actual = blend(image, lambda tile: tile + np.float32(next(levels)), 72, 32)
    steps = np.abs(np.diff(actual, axis=2))
    # Levels are a hundredth apart, and the fading takes 16 pixels
    assert 0 < steps.max() < 0.01 * np.pi / 2 / 16 * 1.01


def test_missing_tile() -> None:
    blender = Blender(20, 40, 1, 20, 4)
    first, *_ = blender.tiles[0]
    blender.add(first, np.ones((1, 20, 20), dtype=np.float32))
    row, lines = blender.finish(0)
    assert row == 0
    assert lines.shape == (1, 20, 40)
    assert (lines[..., :19] == 1).all()
    assert np.isnan(lines[..., 20:]).all()


@pytest.mark.parametrize(('size', 'overlap'), [(8, 4), (8, -1), (0, 0)])
def test_invalid(size: int, overlap: int) -> None:
    with pytest.raises(ValueError, match=f'overlap={overlap} must be less than half'):
        plan_tiles(20, 20, size, overlap)
