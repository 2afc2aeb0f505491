# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import shutil
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from torchgeo_planetcr.models.dynamic_filter import (
    _filter,
    _filter_backward,
    _filter_backward_op,
    _filter_op,
    dynamic_filter,
)


def _reference(features: Tensor, filters: Tensor) -> Tensor:
    """Filter all shifted copies of the features at once."""
    height, width = features.shape[-2:]
    offset = torch.arange(5) - 2
    rows = (torch.arange(height)[:, None] + offset).clamp(0, height - 1)
    columns = (torch.arange(width)[:, None] + offset).clamp(0, width - 1)
    seen = features[:, :, rows[:, None, :, None], columns[None, :, None, :]]
    weights = torch.where(filters > 0, filters, 0.1 * filters)
    return torch.einsum('bcyxij,bcijyx->bcyx', seen, weights.unflatten(2, (5, 5)))


def _make(
    *shape: int, dtype: torch.dtype = torch.float64, seed: int = 0
) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    batch_size, channels, height, width = shape
    features = torch.randn(shape, generator=generator, dtype=torch.float64)
    filters = torch.randn(
        batch_size,
        channels,
        25,
        height,
        width,
        generator=generator,
        dtype=torch.float64,
    )
    return features.to(dtype), filters.to(dtype)


class Allocations(TorchDispatchMode):
    """Lists the sizes in bytes of all tensors that are made, shared ones once."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []
        self._alive: dict[int, Tensor] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        inputs = tree_leaves((args, kwargs))
        known = {t.untyped_storage().data_ptr() for t in inputs if torch.is_tensor(t)}
        result = func(*args, **(kwargs or {}))
        for tensor in filter(torch.is_tensor, tree_leaves(result)):
            place = tensor.untyped_storage().data_ptr()
            if place not in known | self._alive.keys():
                self.sizes.append(tensor.untyped_storage().nbytes())
                # So that no other tensor takes its place
                self._alive[place] = tensor
        return result


SHAPES = [(2, 3, 7, 9), (1, 2, 1, 1), (1, 1, 2, 11), (3, 1, 16, 8)]


class TestDynamicFilter:
    @pytest.mark.parametrize('shape', SHAPES)
    def test_values(self, shape: tuple[int, ...]) -> None:
        features, filters = _make(*shape)
        torch.testing.assert_close(
            dynamic_filter(features, filters), _reference(features, filters)
        )

    @pytest.mark.parametrize('row', range(5))
    @pytest.mark.parametrize('column', range(5))
    def test_each_weight_applies_to_its_neighbor(self, row: int, column: int) -> None:
        features = torch.arange(42.0).view(1, 1, 6, 7)
        filters = torch.zeros(1, 1, 25, 6, 7)
        filters[:, :, 5 * row + column] = 1
        result = dynamic_filter(features, filters)
        y = (torch.arange(6) + row - 2).clamp(0, 5)
        x = (torch.arange(7) + column - 2).clamp(0, 6)
        assert torch.equal(result, features[:, :, y[:, None], x])

    def test_negative_weights_are_damped(self) -> None:
        features = torch.full((1, 1, 3, 3), 2.0)
        filters = torch.full((1, 1, 25, 3, 3), -4.0)
        filters[:, :, 12] = 4
        expected = torch.full((1, 1, 3, 3), 4 * 2 - 24 * 0.1 * 4 * 2)
        torch.testing.assert_close(dynamic_filter(features, filters), expected)

    @pytest.mark.parametrize('shape', [(2, 1, 2, 3), (1, 1, 1, 1), (1, 2, 4, 1)])
    def test_gradients(self, shape: tuple[int, ...]) -> None:
        inputs = [tensor.requires_grad_() for tensor in _make(*shape)]
        assert torch.autograd.gradcheck(dynamic_filter, inputs)

    def test_gradients_equal_those_of_the_reference(self) -> None:
        inputs = [tensor.requires_grad_() for tensor in _make(2, 3, 9, 6)]
        outer, _ = _make(2, 3, 9, 6, seed=1)
        torch.testing.assert_close(
            torch.autograd.grad(dynamic_filter(*inputs), inputs, outer),
            torch.autograd.grad(_reference(*inputs), inputs, outer),
        )

    @pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
    def test_sums_are_exact_in_mixed_precision(self, dtype: torch.dtype) -> None:
        inputs = [t.requires_grad_() for t in _make(2, 3, 9, 6, dtype=dtype)]
        exact = [tensor.detach().double().requires_grad_() for tensor in inputs]
        result, expected = dynamic_filter(*inputs), _reference(*exact)
        assert result.dtype == dtype
        # No more than one rounding, of the result
        rounding = torch.finfo(dtype).eps / 2
        torch.testing.assert_close(result.double(), expected, rtol=rounding, atol=1e-5)

        result.sum().backward()
        expected.sum().backward()
        features, filters = inputs
        assert features.grad is not None and filters.grad is not None
        assert features.grad.dtype == filters.grad.dtype == dtype
        torch.testing.assert_close(
            filters.grad.double(), exact[1].grad, rtol=1.01 * rounding, atol=1e-5
        )
        exact_grad = exact[0].grad
        assert exact_grad is not None
        # Rounded once for the padded features, and for each copy of the border
        torch.testing.assert_close(
            features.grad[..., 2:-2, 2:-2].double(),
            exact_grad[..., 2:-2, 2:-2],
            rtol=1.01 * rounding,
            atol=1e-5,
        )

    def test_type_is_that_of_the_filters(self) -> None:
        features, filters = _make(1, 2, 5, 6)
        for dtype in (torch.float32, torch.bfloat16):
            mixed = features.float().requires_grad_(), filters.to(dtype)
            result = dynamic_filter(*mixed)
            assert result.dtype == dtype
            assert torch.equal(
                result, dynamic_filter(features.float().to(dtype), filters.to(dtype))
            )
            result.sum().backward()
            assert mixed[0].grad is not None
            assert mixed[0].grad.dtype == torch.float32

    def test_any_strides(self) -> None:
        features, filters = _make(2, 3, 9, 6)
        expected = dynamic_filter(features, filters)
        wide, _ = _make(2, 3, 9, 12, seed=1)
        wide[..., ::2] = features
        by_pixel = filters.flatten(1, 2).contiguous(memory_format=torch.channels_last)
        by_pixel = by_pixel.unflatten(1, (3, 25))
        assert not by_pixel.is_contiguous()
        for strided in (
            features.contiguous(memory_format=torch.channels_last),
            features.mT.contiguous().mT,
            wide[..., ::2],
        ):
            assert not strided.is_contiguous()
            assert torch.equal(dynamic_filter(strided, filters), expected)
            assert torch.equal(dynamic_filter(strided, by_pixel), expected)

    def test_inputs_stay_as_they_are(self) -> None:
        inputs = _make(1, 2, 4, 4)
        copies = [tensor.clone() for tensor in inputs]
        dynamic_filter(*inputs)
        assert all(map(torch.equal, inputs, copies))

    def test_memory(self) -> None:
        features, filters = _make(2, 3, 32, 32, dtype=torch.float32)
        padded = F.pad(features, [2] * 4, mode='replicate')
        with Allocations() as allocations:
            result = _filter(padded, filters)
            _filter_backward(result, padded, filters)

        # The padded features are larger than the features
        large = [size for size in allocations.sizes if size > 2 * features.nbytes]
        assert large == [filters.nbytes]


class TestOperator:
    @pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
    @pytest.mark.parametrize('by_pixel', [False, True])
    def test_opcheck(self, dtype: torch.dtype, by_pixel: bool) -> None:
        features, filters = _make(2, 3, 5, 6, dtype=dtype)
        padded = F.pad(features, [2] * 4, mode='replicate').requires_grad_()
        if by_pixel:
            filters = filters.permute(0, 3, 4, 1, 2).contiguous()
            filters = filters.permute(0, 3, 4, 1, 2)
        torch.library.opcheck(_filter_op, (padded, filters.requires_grad_()))
        grad = features.flip(-1)
        inputs = (grad, padded.detach(), filters.detach())
        torch.library.opcheck(_filter_backward_op, inputs)


def test_shapes_that_do_not_fit() -> None:
    features = torch.rand(1, 2, 6, 7)
    for shape in ((1, 2, 9, 6, 7), (1, 1, 25, 6, 7), (1, 2, 25, 7, 6)):
        with pytest.raises(
            ValueError, match=r'^filters must have shape \(1, 2, 25, 6, 7'
        ):
            dynamic_filter(features, torch.rand(shape))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which('g++') is None, reason='needs a compiler')
@pytest.mark.usefixtures('compiler')
def test_compiled_with_channels_last() -> None:
    """The features that a network of attention passes on are channels_last."""
    compiled = torch.compile(dynamic_filter, fullgraph=True)
    features, filters = _make(2, 8, 6, 9, dtype=torch.float32)
    results = []
    for call in (dynamic_filter, compiled):
        inputs = [
            features.contiguous(memory_format=torch.channels_last).requires_grad_(),
            filters.clone().requires_grad_(),
        ]
        output = call(*inputs)
        results.append((output, *torch.autograd.grad(output.square().sum(), inputs)))
    torch.testing.assert_close(*results)
