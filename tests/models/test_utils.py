# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import numpy as np
import pytest
import torch

from torchgeo_planetcr.models.utils import check_inputs, pad_to_multiple


class TestCheckInputs:
    def test_valid(self) -> None:
        check_inputs(torch.rand(2, 3, 5, 6), torch.rand(2, 1, 5, 6), 3, 1)
        check_inputs(torch.rand(2, 3, 5, 6), torch.rand(2, 1, 5, 6), 3, 1, 5)
        check_inputs(torch.ones(1, 1, 1, 1).int(), torch.ones(1, 1, 1, 1).int(), 1, 1)

    @pytest.mark.parametrize('size', [(4, 5), (5, 4), (0, 9)])
    def test_too_small(self, size: tuple[int, int]) -> None:
        match = f'^image must have at least 5 x 5 pixels, got {size[0]} x {size[1]}'
        with pytest.raises(ValueError, match=match):
            check_inputs(torch.rand(2, 3, *size), torch.rand(2, 1, *size), 3, 1, 5)

    @pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize('name', ['image', 'image_s1'])
    def test_not_finite(self, name: str, value: float) -> None:
        inputs = {'image': torch.rand(2, 3, 5, 6), 'image_s1': torch.rand(2, 1, 5, 6)}
        inputs[name][1, 0, 4, 5] = value
        with pytest.raises(ValueError, match=f'^{name} has values that are NaN or'):
            check_inputs(inputs['image'], inputs['image_s1'], 3, 1)


class TestPadToMultiple:
    @pytest.mark.parametrize('size', [(16, 16), (17, 31), (9, 24), (8, 15)])
    def test_reflects(self, size: tuple[int, int]) -> None:
        image = torch.rand(2, 3, *size)
        rest = [(0, -length % 8) for length in size]
        expected = np.pad(image.numpy(), [(0, 0), (0, 0), *rest], mode='reflect')
        assert np.array_equal(pad_to_multiple(image, 8).numpy(), expected)
