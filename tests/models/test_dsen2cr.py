# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from torchgeo_planetcr.models import DSen2CR, dsen2cr

# What the authors' code returns for the reference weights and the input of the test,
# in float32 on a CPU
GOLDEN_SUM = 9970.011576883495
GOLDEN_SUM_SQUARES = 7781.4608167555325
GOLDEN_PIXELS = {
    (0, 0, 0): 0.8425173759460449,
    (1, 0, 63): 0.765711784362793,
    (2, 63, 0): 0.7553628087043762,
    (3, 63, 63): 0.1827583611011505,
    (0, 31, 31): 0.7064527869224548,
    (1, 17, 42): -0.008647166192531586,
    (2, 5, 60): 0.7682207226753235,
    (3, 40, 9): 0.4734536409378052,
    (0, 63, 1): 0.8513655662536621,
    (3, 32, 33): 0.49225154519081116,
}


class TestDSen2CR:
    def test_golden(
        self, reference_weights: Callable[[nn.Module], dict[str, Tensor]]
    ) -> None:
        model = dsen2cr().eval()
        model.load_state_dict(reference_weights(model))
        generator = torch.Generator().manual_seed(1)
        image = torch.rand(1, 4, 64, 64, generator=generator)
        image_s1 = torch.rand(1, 2, 64, 64, generator=generator)

        with torch.inference_mode():
            output = model(image, image_s1)

        assert output.shape == (1, 4, 64, 64)
        for (band, row, column), value in GOLDEN_PIXELS.items():
            assert output[0, band, row, column].item() == pytest.approx(value, abs=2e-6)
        total = output.double().sum().item()
        assert total == pytest.approx(GOLDEN_SUM, rel=1e-6)
        squares = output.double().square().sum().item()
        assert squares == pytest.approx(GOLDEN_SUM_SQUARES, rel=1e-6)

    def test_state_dict(self) -> None:
        layers: dict[str, tuple[int, ...]] = {
            'head.0': (256, 6, 3, 3),
            'body.16': (4, 256, 3, 3),
        }
        for block in range(16):
            layers[f'body.{block}.body.0'] = (256, 256, 3, 3)
            layers[f'body.{block}.body.2'] = (256, 256, 3, 3)
        expected = {f'{layer}.weight': shape for layer, shape in layers.items()}
        expected |= {f'{layer}.bias': shape[:1] for layer, shape in layers.items()}

        state_dict = DSen2CR().state_dict()

        assert {key: (*value.shape,) for key, value in state_dict.items()} == expected
        assert sum(value.numel() for value in state_dict.values()) == 18_905_860

    @pytest.mark.parametrize('size', [(1, 1), (7, 10), (90, 33)])
    def test_any_size(self, size: tuple[int, int]) -> None:
        model = DSen2CR(in_channels=3, sar_channels=1, features=8, num_blocks=2)
        image, image_s1 = torch.rand(2, 3, *size), torch.rand(2, 1, *size)
        assert model(image, image_s1).shape == (2, 3, *size)

    def test_residual(self) -> None:
        model = DSen2CR(features=8, num_blocks=1)
        for parameter in model.parameters():
            nn.init.zeros_(parameter)
        image, image_s1 = torch.rand(2, 4, 8, 8), torch.rand(2, 2, 8, 8)
        assert torch.equal(model(image, image_s1), image)

    def test_residual_scale(self) -> None:
        model = DSen2CR(features=8, num_blocks=2, residual_scale=0)
        image, image_s1 = torch.rand(1, 4, 8, 8), torch.rand(1, 2, 8, 8)
        expected = image + model.body[-1](model.head(torch.cat([image, image_s1], 1)))
        torch.testing.assert_close(model(image, image_s1), expected)

    @pytest.mark.parametrize(
        ('image', 'image_s1', 'match'),
        [
            ((1, 3, 8, 8), (1, 2, 8, 8), r'^image must have shape \(B, 4, H, W\)'),
            ((4, 8, 8), (2, 8, 8), r'^image must have shape .* got \(4, 8, 8\)'),
            ((1, 4, 8, 8), (1, 4, 8, 8), r'^image_s1 must have shape \(1, 2, 8, 8\)'),
            ((1, 4, 8, 8), (1, 2, 3, 3), r'^image_s1 must .* got \(1, 2, 3, 3\)'),
            ((2, 4, 8, 8), (1, 2, 8, 8), r'^image_s1 must have shape \(2, 2, 8, 8\)'),
        ],
    )
    def test_invalid_inputs(
        self, image: tuple[int, ...], image_s1: tuple[int, ...], match: str
    ) -> None:
        model = DSen2CR(features=8, num_blocks=1)
        with pytest.raises(ValueError, match=match):
            model(torch.rand(image), torch.rand(image_s1))
