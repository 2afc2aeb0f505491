# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import torch

from torchgeo_planetcr.models import Copy, copy


class TestCopy:
    def test_returns_the_image(self) -> None:
        image, image_s1 = torch.rand(2, 4, 5, 7), torch.rand(2, 2, 5, 7)
        torch.testing.assert_close(Copy()(image, image_s1), image, rtol=0, atol=0)

    def test_no_parameters(self) -> None:
        assert not copy().state_dict()
