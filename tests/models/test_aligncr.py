# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from torchgeo_planetcr.models import AlignCR, aligncr, load_reference_checkpoint
from torchgeo_planetcr.models.aligncr import (
    DeformableConvolution,
    Pyramid,
    WideBlock,
    upsample,
)
from torchgeo_planetcr.models.checkpoint import reference_names

# What the authors' code returns for the reference weights and the input of the test,
# in float32 on a CPU
GOLDEN_SUM = 8349.400387623813
GOLDEN_SUM_SQUARES = 5988.654086016321
GOLDEN_PIXELS = {
    (0, 0, 0): -0.022936753928661346,
    (1, 0, 63): 0.04023952782154083,
    (2, 63, 0): 0.5251089930534363,
    (3, 63, 63): 0.7870418429374695,
    (0, 31, 31): 0.2688025236129761,
    (1, 17, 42): 0.787979781627655,
    (2, 5, 60): 0.3095131516456604,
    (3, 40, 9): 0.44885337352752686,
    (0, 63, 1): 1.0123847723007202,
    (3, 32, 33): 0.2117418795824051,
}

TINY: dict[str, Any] = {
    'features': 8,
    'growth': 8,
    'num_stages': 1,
    'num_layers': 1,
    'num_heads': 2,
}


class TestAlignCR:
    def test_golden(self, reference_checkpoint: Callable[[nn.Module], Path]) -> None:
        model = aligncr().eval()
        load_reference_checkpoint(model, reference_checkpoint(model))
        generator = torch.Generator().manual_seed(3)
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
            model = AlignCR()
        names = reference_names(model)

        assert sum(value.numel() for value in model.parameters()) == 45_528_532
        assert len(names) == 912
        state_dict = model.state_dict()
        shapes = {name: (*state_dict[key].shape,) for name, key in names.items()}
        assert shapes['SFE_conv.weight'] == (96, 16, 3, 3)
        assert shapes['SFE_conv_SAR.weight'] == (96, 8, 3, 3)
        assert shapes['SFE_module.4.body.2.weight_g'] == (76, 1, 1, 1)
        assert shapes['SFE_module_SAR.4.body.2.weight_v'] == (76, 576, 1, 1)
        assert shapes['SFAlign.5.src_L3_conv1.weight'] == (384, 192, 3, 3)
        offset = 'SFAlign.0.pcd_align.dcn_pack.l3.conv_offset.weight'
        assert shapes[offset] == (216, 96, 3, 3)
        assert shapes['RDBs.1.SwinTransformerBlock.mlp_SAR.fc1.weight'] == (384, 96)
        assert shapes['DF.2.fac_warp.3.0.weight'] == (2400, 96, 1, 1)

    def test_other_channels(self) -> None:
        model = aligncr(in_channels=3, sar_channels=1, **TINY)
        image, image_s1 = torch.rand(2, 3, 20, 35), torch.rand(2, 1, 20, 35)
        assert model(image, image_s1).shape == (2, 3, 20, 35)

    def test_alignment_can_be_told_by_name(self) -> None:
        with torch.device('meta'):
            model = AlignCR()
        names = reference_names(model)
        aligning = {key for name, key in names.items() if name.startswith('SFAlign')}
        assert aligning == {key for key in names.values() if 'alignment' in key}

    def test_copies(self, make_tiny: Callable[..., AlignCR]) -> None:
        model = make_tiny(AlignCR, num_stages=1)
        image, image_s1 = torch.rand(1, 4, 16, 16), torch.rand(1, 2, 16, 16)
        expected = model(image, image_s1)
        twin = copy.deepcopy(model)
        for parameter in model.parameters():
            nn.init.zeros_(parameter)
        assert torch.equal(twin(image, image_s1), expected)


def test_upsample() -> None:
    x = torch.tensor([[[[0.0, 1.0], [4.0, 5.0]]]])
    row = torch.tensor([0.0, 0.25, 0.75, 1.0])
    column = torch.tensor([0.0, 1.0, 3.0, 4.0])
    assert torch.equal(upsample(x)[0, 0], column[:, None] + row)


class TestWideBlock:
    def test_normalized_weights(self) -> None:
        block = WideBlock(10).double()
        names = dict(block.named_parameters())
        x = torch.rand(2, 10, 5, 6, dtype=torch.float64)
        y = x
        for layer in (0, 2, 3):
            key = f'body.{layer}.parametrizations.weight.original'
            magnitude, direction = names[f'{key}0'], names[f'{key}1']
            nn.init.uniform_(magnitude, 0.5, 2)
            weight = direction / direction.flatten(1).norm(dim=1)[:, None, None, None]
            padding = weight.shape[-1] // 2
            y = F.conv2d(
                y, magnitude * weight, names[f'body.{layer}.bias'], padding=padding
            )
            if layer == 0:
                assert y.shape[1] == 60
                y = y.relu()
            if layer == 2:
                assert y.shape[1] == 8
        torch.testing.assert_close(block(x), x + y)


class TestPyramid:
    def test_levels(self) -> None:
        levels = Pyramid(3)(torch.rand(2, 3, 8, 12))
        shapes = [(*level.shape,) for level in levels]
        assert shapes == [(2, 3, 2, 3), (2, 3, 4, 6), (2, 3, 8, 12)]


class TestDeformableConvolution:
    def test_starts_without_offsets(self) -> None:
        layer = DeformableConvolution(8)
        x, guide = torch.rand(2, 8, 6, 9), torch.rand(2, 8, 6, 9)
        # A weight of 0 is one half after its sigmoid
        expected = F.conv2d(x, layer.weight / 2, layer.bias, padding=1)
        torch.testing.assert_close(layer(x, guide), expected)

    @pytest.mark.parametrize(
        'dtype', [torch.float64, torch.float32, torch.bfloat16, torch.float16]
    )
    def test_offsets(self, dtype: torch.dtype) -> None:
        layer = DeformableConvolution(8)
        with torch.no_grad():
            layer.offset.get_parameter('bias')[:144:2] = 1
            layer.offset.get_parameter('bias')[1:144:2] = -2
            layer.offset.get_parameter('bias')[144:] = 100
        layer.to(dtype)
        x, guide = torch.rand(2, 8, 6, 9).to(dtype), torch.rand(2, 8, 6, 9).to(dtype)
        output = layer(x, guide)
        expected = F.conv2d(
            x.double(),
            layer.weight.double(),
            layer.get_parameter('bias').double(),
            padding=1,
        )
        assert output.dtype == dtype
        torch.testing.assert_close(
            output[:, :, :-1, 2:], expected[:, :, 1:, :-2].to(dtype)
        )

    def test_groups(self) -> None:
        layer = DeformableConvolution(16)
        nn.init.dirac_(layer.weight)
        nn.init.zeros_(layer.get_parameter('bias'))
        with torch.no_grad():
            # The fourth group of two channels looks one pixel to the right
            layer.offset.get_parameter('bias')[3 * 18 : 4 * 18][1::2] = 1
            layer.offset.get_parameter('bias')[144:] = 100
        x = torch.rand(1, 16, 5, 5)
        expected = x.clone()
        expected[:, 6:8] = F.pad(x[:, 6:8, :, 1:], (0, 1))
        torch.testing.assert_close(layer(x, torch.rand(1, 16, 5, 5)), expected)
