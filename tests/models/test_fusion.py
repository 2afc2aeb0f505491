# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import itertools
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from torchgeo_planetcr.models import GLFCR, AlignCR
from torchgeo_planetcr.models.dynamic_filter import dynamic_filter
from torchgeo_planetcr.models.fusion import (
    DynamicFilter,
    Fusion,
    FusionNetwork,
    GatedTransformerBlock,
    GatedWindowAttention,
    from_windows,
    shift_mask,
    to_windows,
)

Make = Callable[..., FusionNetwork]


def _inputs(
    *size: int, batch_size: int = 2, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(sum(size))
    image = torch.rand(batch_size, 4, *size, generator=generator)
    image_s1 = torch.rand(batch_size, 2, *size, generator=generator)
    return image.to(dtype), image_s1.to(dtype)


def _randomize(module: nn.Module, std: float = 0.5) -> None:
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=std)


def _weights(layer: nn.Module) -> tuple[Tensor, Tensor]:
    return layer.get_parameter('weight'), layer.get_parameter('bias')


def _regions(height: int, width: int) -> Tensor:
    """Number the regions of shifted windows as Swin Transformer does."""
    regions = torch.zeros(height, width)
    parts = slice(0, -8), slice(-8, -4), slice(-4, None)
    for number, (rows, columns) in enumerate(itertools.product(parts, parts)):
        regions[rows, columns] = number
    return regions


def _attend(layer: GatedWindowAttention, x: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    """Attend in one window, and with one head, after the other."""
    heads = layer.num_heads
    batch_size, height, width, channels = x.shape
    depth = channels // heads
    regions = _regions(height, width)
    table = layer.bias.new_empty(heads, 64, 64)
    for i, j in itertools.product(range(64), range(64)):
        row, column = i // 8 - j // 8, i % 8 - j % 8
        table[:, i, j] = layer.bias[15 * (row + 7) + column + 7]

    streams = [x, s]
    if layer.shift:
        streams = [y.roll((-4, -4), (1, 2)) for y in streams]
    results = [torch.zeros_like(y) for y in streams]
    for b, top, left in itertools.product(
        range(batch_size), range(0, height, 8), range(0, width, 8)
    ):
        place = slice(top, top + 8), slice(left, left + 8)
        logits, values = [], []
        for y, qkv in zip(streams, (layer.qkv.optical, layer.qkv.sar), strict=True):
            pixels = y[b][place].reshape(64, channels)
            q, k, v = F.linear(pixels, *_weights(qkv)).chunk(3, dim=-1)
            parts = [slice(h * depth, (h + 1) * depth) for h in range(heads)]
            products = [q[:, p] / depth**0.5 @ k[:, p].T for p in parts]
            logits.append(torch.stack(products) + table)
            values.append([v[:, p] for p in parts])
            if layer.shift:
                region = regions[place].flatten()
                logits[-1][:, region[:, None] != region] -= 100
        difference = logits[1] - logits[0]
        gate = F.conv2d(difference[None], layer.gate.weight, layer.gate.bias)[0]
        logits[0] = logits[0] + difference * gate.sigmoid()
        for result, weights, value, projection in zip(
            results,
            logits,
            values,
            (layer.projection.optical, layer.projection.sar),
            strict=True,
        ):
            attended = [w.softmax(-1) @ v for w, v in zip(weights, value, strict=True)]
            projected = F.linear(torch.cat(attended, 1), *_weights(projection))
            result[b][place] = projected.view(8, 8, channels)
    if layer.shift:
        results = [y.roll((4, 4), (1, 2)) for y in results]
    return results[0], results[1]


class TestWindows:
    def test_round_trip(self) -> None:
        x = torch.rand(2, 24, 16, 3)
        windows = to_windows(x)
        assert windows.shape == (2, 6, 64, 3)
        assert torch.equal(windows[1, 3, 10], x[1, 8 + 1, 8 + 2])
        assert torch.equal(from_windows(windows, 24, 16), x)

    @pytest.mark.parametrize('size', [(24, 16), (8, 8), (8, 32)])
    def test_shift_mask(self, size: tuple[int, int]) -> None:
        height, width = size
        regions = _regions(height, width)
        windows = [
            regions[top : top + 8, left : left + 8].flatten()
            for top in range(0, height, 8)
            for left in range(0, width, 8)
        ]
        expected = torch.stack([-100.0 * (w[:, None] != w) for w in windows])
        assert torch.equal(shift_mask(height, width, torch.device('cpu')), expected)

    def test_shift_mask_of_few_pixels(self) -> None:
        mask = shift_mask(24, 16, torch.device('cpu'))
        assert mask.shape == (6, 64, 64)
        assert (mask != 0).sum((1, 2)).tolist() == [0, 2048, 0, 2048, 2048, 3072]


class TestGatedWindowAttention:
    @pytest.mark.parametrize('shifted', [False, True])
    @pytest.mark.parametrize('num_heads', [1, 3])
    def test_values(self, num_heads: int, shifted: bool) -> None:
        torch.manual_seed(0)
        layer = GatedWindowAttention(6, num_heads, shifted).double()
        _randomize(layer)
        x, s = torch.randn(2, 2, 24, 16, 6, dtype=torch.float64)
        mask = shift_mask(24, 16, torch.device('cpu'))
        with torch.no_grad():
            torch.testing.assert_close(layer(x, s, mask), _attend(layer, x, s))

    def test_gradients(self) -> None:
        torch.manual_seed(0)
        layer = GatedWindowAttention(2, 2, True).double()
        _randomize(layer)
        x, s = torch.randn(2, 1, 8, 8, 2, dtype=torch.float64)
        inputs = [x.requires_grad_(), s.requires_grad_()]
        inputs += list(layer.parameters())
        outer = torch.randn(2, 1, 8, 8, 2, dtype=torch.float64)
        mask = shift_mask(8, 8, torch.device('cpu'))
        torch.testing.assert_close(
            torch.autograd.grad(layer(x, s, mask), inputs, list(outer)),
            torch.autograd.grad(_attend(layer, x, s), inputs, list(outer)),
        )


class TestGatedTransformerBlock:
    @pytest.mark.parametrize('normalize', [False, True])
    def test_values(self, normalize: bool) -> None:
        torch.manual_seed(0)
        block = GatedTransformerBlock(
            6, 10, num_heads=2, shifted=False, normalize=normalize, recompute=False
        ).double()
        _randomize(block)
        x, s = torch.randn(2, 2, 6, 8, 16, dtype=torch.float64)
        mask = shift_mask(8, 16, torch.device('cpu'))

        result = block(x, s, mask)

        streams = [y.permute(0, 2, 3, 1) for y in (x, s)]
        names = 'optical', 'sar'
        normed = [
            getattr(block.norm1, name)(y) if normalize else y
            for name, y in zip(names, streams, strict=True)
        ]
        attended = _attend(block.attention, *normed)
        for name, y, change, output in zip(
            names, streams, attended, result, strict=True
        ):
            y = y + change
            norm, mlp = getattr(block.norm2, name), getattr(block.mlp, name)
            centered = y - y.mean(-1, keepdim=True)
            scaled = centered / (y.var(-1, keepdim=True, correction=0) + 1e-5).sqrt()
            hidden = F.gelu(mlp[0](scaled * norm.weight + norm.bias))
            expected = y + mlp[2](hidden)
            torch.testing.assert_close(output, expected.permute(0, 3, 1, 2))


class TestDynamicFilter:
    def test_filters_are_a_convolution(self) -> None:
        torch.manual_seed(0)
        layer = DynamicFilter(3, recompute=False).double()
        _randomize(layer)
        x, s = torch.randn(2, 2, 3, 5, 6, dtype=torch.float64)
        y = F.conv2d(layer.stem(torch.cat([x, s], 1)), *_weights(layer.filters))
        expected = torch.stack(
            [
                dynamic_filter(s[:, c : c + 1], y[:, None, 25 * c : 25 * c + 25])[:, 0]
                for c in range(3)
            ],
            1,
        )
        torch.testing.assert_close(layer(x, s), expected)


class TestFusion:
    def test_gates(self) -> None:
        torch.manual_seed(0)
        fusion = Fusion(3, recompute=False).double()
        _randomize(fusion)
        x, s = torch.randn(2, 2, 3, 5, 6, dtype=torch.float64)
        f = fusion.filter(x, s)
        gates = fusion.gate.optical, fusion.gate.sar
        new_x = x + (f - x) * F.conv2d(f - x, *_weights(gates[0])).sigmoid()
        new_s = s + (new_x - f) * F.conv2d(new_x - f, *_weights(gates[1])).sigmoid()
        torch.testing.assert_close(fusion(x, s), (new_x, new_s))


@pytest.mark.parametrize('kind', [GLFCR, AlignCR])
class TestFusionNetwork:
    @pytest.mark.parametrize('size', [(16, 17), (31, 16), (50, 33)])
    def test_any_size(
        self, make_tiny: Make, kind: type[FusionNetwork], size: tuple[int, int]
    ) -> None:
        model, inputs = make_tiny(kind), _inputs(*size)
        rest = [(0, 0), (0, 0), *((0, -length % 16) for length in size)]
        padded = [
            torch.from_numpy(np.pad(y.numpy(), rest, mode='reflect')) for y in inputs
        ]
        with torch.no_grad():
            output, expected = model(*inputs), model(*padded)
        assert expected.shape[-2] % 16 == expected.shape[-1] % 16 == 0
        torch.testing.assert_close(
            output, expected[..., : size[0], : size[1]], rtol=0, atol=2e-6
        )
        assert (output - inputs[0]).abs().mean() > 0.01

    def test_sizes_in_turn(self, make_tiny: Make, kind: type[FusionNetwork]) -> None:
        model = make_tiny(kind)
        small, large = _inputs(32, 32, batch_size=1), _inputs(60, 76, batch_size=1)
        with torch.inference_mode():
            expected = model(*small)
            assert model(*large).shape == (1, 4, 60, 76)
            assert torch.equal(model(*small), expected)

    def test_batch(self, make_tiny: Make, kind: type[FusionNetwork]) -> None:
        model = make_tiny(kind)
        image, image_s1 = _inputs(32, 48)
        with torch.no_grad():
            output = model(image, image_s1)
            alone = [model(image[i : i + 1], image_s1[i : i + 1]) for i in range(2)]
        torch.testing.assert_close(output, torch.cat(alone), rtol=0, atol=2e-6)

    def test_recompute(self, make_tiny: Make, kind: type[FusionNetwork]) -> None:
        inputs, results, saved = _inputs(32, 48), [], []
        for recompute in (False, True):
            options: dict[str, Any] = {'drop_path': 0.0} if kind is GLFCR else {}
            model = make_tiny(kind, recompute=recompute, **options).train()
            kept: dict[int, int] = {}

            def keep(tensor: Tensor, kept: dict[int, int] = kept) -> Tensor:
                kept[tensor.untyped_storage().data_ptr()] = tensor.nbytes
                return tensor

            with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
                output = model(*inputs)
            output.square().sum().backward()
            gradients = {
                name: parameter.grad
                for name, parameter in model.named_parameters()
                if parameter.requires_grad
            }
            results.append((output, gradients))
            saved.append(kept.values())
        torch.testing.assert_close(results[0], results[1])
        filters = 4 * 2 * 8 * 25 * 16 * 24
        assert filters in saved[0] and filters not in saved[1]
        assert sum(saved[1]) < 0.7 * sum(saved[0])

    def test_all_that_can_be_trained_is(
        self, make_tiny: Make, kind: type[FusionNetwork]
    ) -> None:
        model = make_tiny(kind).train()
        model(*_inputs(32, 32)).square().sum().backward()
        frozen, without = set(), set()
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                frozen.add(name)
            if parameter.grad is None:
                without.add(name)
        gate = 'fusions.1.gate.sar'
        assert frozen == without == {f'{gate}.weight', f'{gate}.bias'}

    def test_what_is_frozen_has_no_effect(
        self, make_tiny: Make, kind: type[FusionNetwork]
    ) -> None:
        model, inputs = make_tiny(kind), _inputs(16, 16)
        expected = model(*inputs)
        for parameter in model.parameters():
            if not parameter.requires_grad:
                nn.init.normal_(parameter)
        assert torch.equal(model(*inputs), expected)

    def test_channels_last(self, make_tiny: Make, kind: type[FusionNetwork]) -> None:
        model, inputs = make_tiny(kind), _inputs(32, 48)
        expected = model(*inputs)
        model.to(memory_format=torch.channels_last)
        output = model(*(y.to(memory_format=torch.channels_last) for y in inputs))
        torch.testing.assert_close(output, expected, rtol=0, atol=5e-6)

    @pytest.mark.parametrize('recompute', [False, True])
    def test_autocast(
        self, make_tiny: Make, kind: type[FusionNetwork], recompute: bool
    ) -> None:
        model, inputs = make_tiny(kind, recompute=recompute), _inputs(32, 48)
        expected = model(*inputs)
        with torch.autocast('cpu', torch.bfloat16):
            output = model(*inputs)
        assert output.dtype == torch.float32
        assert not torch.equal(output, expected)
        torch.testing.assert_close(output, expected, rtol=0, atol=0.1)
        assert (output - expected).square().mean().sqrt() < 0.01
        output.square().sum().backward()
        gradients = [p.grad for p in model.parameters() if p.requires_grad]
        assert all(y is not None and y.isfinite().all() for y in gradients)

    @pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float64])
    def test_other_types(
        self, make_tiny: Make, kind: type[FusionNetwork], dtype: torch.dtype
    ) -> None:
        model, inputs = make_tiny(kind), _inputs(32, 48)
        expected = model(*inputs)
        output = model.to(dtype)(*_inputs(32, 48, dtype=dtype))
        assert output.dtype == dtype
        atol = 0.1 if dtype == torch.bfloat16 else 5e-6
        torch.testing.assert_close(output, expected.to(dtype), rtol=0, atol=atol)

    @pytest.mark.parametrize(
        ('image', 'image_s1', 'match'),
        [
            ((1, 3, 16, 16), (1, 2, 16, 16), 'image must have shape (B, 4, H, W)'),
            ((4, 16, 16), (2, 16, 16), 'image must have shape (B, 4, H, W)'),
            ((1, 4, 16, 16), (1, 4, 16, 16), 'image_s1 must have shape (1, 2, 16, 16)'),
            ((1, 4, 16, 16), (1, 2, 16, 17), 'image_s1 must have shape (1, 2, 16, 16)'),
            ((2, 4, 16, 16), (1, 2, 16, 16), 'image_s1 must have shape (2, 2, 16, 16)'),
            ((1, 4, 15, 16), (1, 2, 15, 16), 'image must have at least 16 x 16 pixels'),
            ((1, 4, 16, 15), (1, 2, 16, 15), 'image must have at least 16 x 16 pixels'),
        ],
    )
    def test_invalid_shapes(
        self,
        make_tiny: Make,
        kind: type[FusionNetwork],
        image: tuple[int, ...],
        image_s1: tuple[int, ...],
        match: str,
    ) -> None:
        model = make_tiny(kind, num_stages=1, num_layers=1)
        with pytest.raises(ValueError, match=f'^{re.escape(match)}'):
            model(torch.rand(image), torch.rand(image_s1))

    @pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize('index', [0, 1])
    def test_invalid_values(
        self, make_tiny: Make, kind: type[FusionNetwork], index: int, value: float
    ) -> None:
        model, inputs = make_tiny(kind, num_stages=1, num_layers=1), _inputs(16, 16)
        inputs[index][1, 1, 3, 4] = value
        name = ('image', 'image_s1')[index]
        with pytest.raises(ValueError, match=f'^{name} has values that are NaN or inf'):
            model(*inputs)


@pytest.mark.usefixtures('compiler')
@pytest.mark.parametrize(
    ('kind', 'sizes', 'recompute'),
    [
        # The second layer has shifted windows
        (GLFCR, {'num_stages': 1, 'num_layers': 2}, True),
        pytest.param(
            GLFCR, {'num_stages': 2, 'num_layers': 1}, False, marks=pytest.mark.slow
        ),
        pytest.param(
            AlignCR, {'num_stages': 2, 'num_layers': 1}, False, marks=pytest.mark.slow
        ),
        pytest.param(
            AlignCR, {'num_stages': 2, 'num_layers': 1}, True, marks=pytest.mark.slow
        ),
    ],
)
def test_compile(
    make_tiny: Make, kind: type[FusionNetwork], sizes: dict[str, int], recompute: bool
) -> None:
    model = make_tiny(kind, recompute=recompute, **sizes)
    inputs = _inputs(16, 33)
    trained = [p for p in model.parameters() if p.requires_grad]
    compiled = torch.compile(model, fullgraph=True, backend='aot_eager')
    results = []
    for network in (model, compiled):
        output = network(*inputs)
        results.append((output, torch.autograd.grad(output.square().sum(), trained)))
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-4)
