# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.ops import StochasticDepth

from torchgeo_planetcr.models import GLFCR, glfcr, load_reference_checkpoint
from torchgeo_planetcr.models.checkpoint import reference_names

# What the authors' code returns for the reference weights and the input of the test,
# in float32 on a CPU
GOLDEN_SUM = 8760.1303348355
GOLDEN_SUM_SQUARES = 6231.375939105795
GOLDEN_PIXELS = {
    (0, 0, 0): 0.6903215050697327,
    (1, 0, 63): 0.34983035922050476,
    (2, 63, 0): 0.9616283774375916,
    (3, 63, 63): 0.2125135362148285,
    (0, 31, 31): 0.003087881952524185,
    (1, 17, 42): 0.013295888900756836,
    (2, 5, 60): 0.9186902046203613,
    (3, 40, 9): 0.2531755268573761,
    (0, 63, 1): 0.3628058135509491,
    (3, 32, 33): 0.3394143581390381,
}

TINY: dict[str, Any] = {
    'features': 8,
    'growth': 8,
    'num_stages': 1,
    'num_layers': 1,
    'num_heads': 2,
    'drop_path': 0.0,
}


class TestGLFCR:
    def test_golden(self, reference_checkpoint: Callable[[nn.Module], Path]) -> None:
        model = glfcr().eval()
        load_reference_checkpoint(model, reference_checkpoint(model))
        generator = torch.Generator().manual_seed(2)
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
        with torch.device('meta'):
            model = GLFCR()
        names = reference_names(model)

        assert sum(value.numel() for value in model.parameters()) == 14_735_780
        assert len(names) == 946
        state_dict = model.state_dict()
        shapes = {name: (*state_dict[key].shape,) for name, key in names.items()}
        assert shapes['SFENet1.weight'] == (96, 16, 5, 5)
        assert shapes['SFENet1_SAR.weight'] == (96, 8, 5, 5)
        assert shapes['RDBs.5.convs.4.conv.0.weight'] == (48, 288, 3, 3)
        assert shapes['RDBs.0.convs.1.attn.relative_position_bias_table'] == (225, 8)
        assert shapes['RDBs.3.LFF_SAR.bias'] == (96,)
        assert shapes['DF.2.fac_warp.3.0.weight'] == (2400, 96, 1, 1)
        assert shapes['UPNet.2.weight'] == (4, 64, 3, 3)

    def test_drop_path_rises_linearly(self) -> None:
        with torch.device('meta'):
            model = GLFCR(drop_path=0.29)
        rates = [m.p for m in model.modules() if isinstance(m, StochasticDepth)]
        layers = [i / 100 for i in range(30) for _ in ('optical', 'sar')]
        assert rates == pytest.approx(layers)

    def test_drop_path_of_one_layer(self) -> None:
        options: dict[str, Any] = TINY | {'drop_path': 0.2}
        model = GLFCR(**options)
        rates = {m.p for m in model.modules() if isinstance(m, StochasticDepth)}
        assert rates == {0.0}

    def test_drop_path_in_training(self, make_tiny: Callable[..., GLFCR]) -> None:
        model = make_tiny(GLFCR, drop_path=0.5)
        image, image_s1 = torch.rand(2, 4, 16, 16), torch.rand(2, 2, 16, 16)
        expected = make_tiny(GLFCR, drop_path=0.0)(image, image_s1)
        for _ in range(2):
            assert torch.equal(model(image, image_s1), expected)

        model.train()
        torch.manual_seed(0)
        outputs = [model(image, image_s1) for _ in range(3)]
        assert not torch.equal(outputs[0], outputs[1])
        assert not torch.equal(outputs[1], outputs[2])

    def test_recompute_draws_the_same_paths(
        self, make_tiny: Callable[..., GLFCR]
    ) -> None:
        image, image_s1 = torch.rand(4, 4, 16, 16), torch.rand(4, 2, 16, 16)
        results = []
        for recompute in (False, True):
            model = make_tiny(GLFCR, drop_path=0.5, recompute=recompute).train()
            torch.manual_seed(1)
            output = model(image, image_s1)
            output.square().sum().backward()
            gradients = [p.grad for p in model.parameters() if p.requires_grad]
            results.append((output, gradients, torch.rand(1)))
        torch.testing.assert_close(results[0], results[1])

    def test_other_channels(self) -> None:
        model = glfcr(in_channels=3, sar_channels=1, **TINY)
        image, image_s1 = torch.rand(2, 3, 20, 35), torch.rand(2, 1, 20, 35)
        assert model(image, image_s1).shape == (2, 3, 20, 35)

    def test_residual(self) -> None:
        model = GLFCR(**TINY)
        nn.init.zeros_(model.get_parameter('head.2.weight'))
        nn.init.zeros_(model.get_parameter('head.2.bias'))
        image, image_s1 = torch.rand(2, 4, 17, 16), torch.rand(2, 2, 17, 16)
        assert torch.equal(model(image, image_s1), image)
