# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

from collections import Counter
from collections.abc import Callable
from itertools import product

import kornia.augmentation as K
import pytest
import torch
from torch import Tensor
from torchgeo.datasets.utils import Sample

from torchgeo_planetcr.transforms import RandomFlipsAndTurns, RandomTranspose

KEYS = ('image', 'image_clear', 'image_s1', 'mask', 'mask_cloud')


def _symmetry(quarter_turns: int, flip: bool) -> Callable[[Tensor], Tensor]:
    def apply(x: Tensor) -> Tensor:
        x = torch.rot90(x, quarter_turns, (-2, -1))
        return x.flip(-1) if flip else x

    return apply


SYMMETRIES = {
    (quarter_turns, flip): _symmetry(quarter_turns, flip)
    for quarter_turns, flip in product(range(4), (False, True))
}


def _batch(size: int, optical: tuple[int, int], sar: tuple[int, int]) -> Sample:
    generator = torch.Generator().manual_seed(0)
    return {
        'image': torch.rand(size, 4, *optical, generator=generator),
        'image_clear': torch.rand(size, 4, *optical, generator=generator),
        'image_s1': torch.rand(size, 2, *sar, generator=generator) * -30,
        'mask': torch.randint(256, (size, *sar), generator=generator),
        'mask_cloud': torch.randint(2, (size, *optical), generator=generator),
        'crs': torch.full((size,), 32646),
        'bounds': torch.rand(size, 9, generator=generator).double() * 1e7,
        'transform': torch.rand(size, 9, generator=generator).double() * 1e7,
    }


def _symmetries(before: Sample, after: Sample) -> list[tuple[int, bool]]:
    """Find the symmetry of each sample, which must be the same for all keys."""
    found = []
    for i in range(len(before['image'])):
        matching = [
            name
            for name, apply in SYMMETRIES.items()
            if all(torch.equal(apply(before[key][i]), after[key][i]) for key in KEYS)
        ]
        assert len(matching) == 1
        found += matching
    return found


class TestRandomFlipsAndTurns:
    # All on one grid, or Sentinel-1 and land cover on their own
    @pytest.mark.parametrize('sar', [(20, 20), (6, 6)])
    def test_square(self, sar: tuple[int, int]) -> None:
        torch.manual_seed(0)
        batch = _batch(160, (20, 20), sar)
        counts = Counter(_symmetries(batch, RandomFlipsAndTurns()(batch)))
        assert counts.keys() == SYMMETRIES.keys()
        assert min(counts.values()) > 5

    def test_not_square(self) -> None:
        torch.manual_seed(0)
        batch = _batch(80, (20, 10), (6, 3))
        counts = Counter(_symmetries(batch, RandomFlipsAndTurns()(batch)))
        assert counts.keys() == {(0, False), (0, True), (2, False), (2, True)}

    @pytest.mark.parametrize('size', [1, 2])
    def test_keys_and_types(self, size: int) -> None:
        batch = _batch(size, (20, 20), (20, 20))
        before = {key: value.clone() for key, value in batch.items()}
        output = RandomFlipsAndTurns()(batch)
        assert output.keys() == batch.keys()
        for key, value in before.items():
            assert torch.equal(batch[key], value)
            assert output[key].dtype == value.dtype
            assert output[key].shape == value.shape
        for key in ('crs', 'bounds', 'transform'):
            assert torch.equal(output[key], batch[key])

    def test_only_optical(self) -> None:
        image = torch.rand(4, 4, 20, 20)
        output = RandomFlipsAndTurns()({'image': image})
        assert output.keys() == {'image'}
        for before, after in zip(image, output['image'], strict=True):
            assert any(torch.equal(f(before), after) for f in SYMMETRIES.values())

    def test_seed(self) -> None:
        batch = _batch(8, (20, 20), (20, 20))
        augmentation = RandomFlipsAndTurns()
        outputs = []
        for seed in (1, 1, 2):
            torch.manual_seed(seed)
            outputs.append(augmentation(batch)['image'])
        assert torch.equal(outputs[0], outputs[1])
        assert not torch.equal(outputs[0], outputs[2])


class TestRandomTranspose:
    def test_transpose(self) -> None:
        x = torch.rand(3, 2, 5, 5)
        assert torch.equal(RandomTranspose(p=1)(x), x.mT)
        assert torch.equal(RandomTranspose(p=0)(x), x)

    @pytest.mark.parametrize('p', [0.5, 1])
    def test_not_square(self, p: float) -> None:
        x = torch.rand(3, 2, 5, 4)
        augmentation = RandomTranspose(p=p)
        assert torch.equal(augmentation(x), x)
        matrix = augmentation.transform_matrix
        assert matrix is not None
        assert torch.equal(matrix, torch.eye(3).expand(3, 3, 3))

    def test_keypoints(self) -> None:
        augmentation = K.AugmentationSequential(
            RandomTranspose(p=1), data_keys=['input', 'keypoints']
        )
        image = torch.zeros(1, 1, 5, 5)
        image[0, 0, 3, 1] = 1
        image, keypoints = augmentation(image, torch.tensor([[[1.0, 3.0]]]))
        assert image[0, 0, 1, 3] == 1
        assert keypoints.tolist() == [[[3, 1]]]
