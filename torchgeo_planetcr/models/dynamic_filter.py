# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Dynamic filters, which differ from pixel to pixel and from channel to channel."""

from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

#: Side length of the filters in pixels.
FILTER_SIZE = 5

#: Number of weights of a filter.
TAPS = FILTER_SIZE**2

#: Slope of the activation of the filters where they are negative.
NEGATIVE_SLOPE = 0.1


def dynamic_filter(features: Tensor, filters: Tensor) -> Tensor:
    r"""Filter each pixel of each channel with a filter of its own.

    .. math::

        f_{c,y,x} = \sum_{i=0}^{4} \sum_{j=0}^{4}
            \mathrm{LeakyReLU}_{0.1}(k_{c,5i+j,y,x}) \, s_{c,y+i-2,x+j-2}

    Beyond its border, *s* is continued by its outermost pixels. Neither the result nor
    its gradients make 25 shifted copies of *s*, as :func:`torch.nn.Unfold` would: on a
    GPU with Triton one kernel computes each of them, elsewhere one shift is added after
    the other.

    If you use this function in your research, please cite the following paper:

    * https://doi.org/10.1016/j.isprsjprs.2022.08.002

    Args:
        features: Features *s* of shape (B, C, H, W).
        filters: Filters *k* before their activation, of shape (B, C, 25, H, W), in
            which the weights of a filter are in row-major order.

    Returns:
        Filtered features *f* of shape (B, C, H, W), of the type of *filters*.

    Raises:
        ValueError: If the shapes of *features* and *filters* do not fit.
    """
    expected = (*features.shape[:2], TAPS, *features.shape[2:])
    if filters.shape != expected:
        raise ValueError(f'filters must have shape {expected}, got {(*filters.shape,)}')

    padded = _pad(features.to(filters.dtype))
    if torch.compiler.is_exporting():
        # So that the exported file needs nothing but PyTorch
        return _filter(padded, filters)
    return _filter_op(padded, filters)


def _pad(features: Tensor) -> Tensor:
    """Continue features beyond their border by their outermost pixels, two wide."""
    # Compiled, the backward pass of torch.nn.functional.pad fails on channels_last
    rows, columns = (
        torch.arange(
            -(FILTER_SIZE // 2), size + FILTER_SIZE // 2, device=features.device
        ).clamp(0, size - 1)
        for size in features.shape[-2:]
    )
    return features.index_select(2, rows).index_select(3, columns)


def _shifts(padded: Tensor) -> list[Tensor]:
    """List views of padded features, one for each of the 25 weights of a filter."""
    height, width = (size - FILTER_SIZE + 1 for size in padded.shape[-2:])
    return [
        padded[..., row : row + height, column : column + width]
        for row in range(FILTER_SIZE)
        for column in range(FILTER_SIZE)
    ]


def _filter(padded: Tensor, filters: Tensor) -> Tensor:
    """Filter features that are padded by two pixels on each side."""
    # A sum of 25 is not exact enough in the types of mixed precision
    exact = torch.promote_types(filters.dtype, torch.float32)
    shifts = _shifts(padded)
    result = padded.new_zeros(shifts[0].shape, dtype=exact)
    for shifted, weight in zip(shifts, filters.unbind(2), strict=True):
        weight = F.leaky_relu(weight.to(exact), NEGATIVE_SLOPE)
        result.addcmul_(weight, shifted.to(exact))
    return result.to(filters.dtype)


def _filter_backward(
    grad: Tensor, padded: Tensor, filters: Tensor
) -> tuple[Tensor, Tensor]:
    """Compute the gradients of the padded features and of the filters."""
    exact = torch.promote_types(filters.dtype, torch.float32)
    grad = grad.to(exact)
    grad_padded = padded.new_zeros(padded.shape, dtype=exact)
    grad_filters = filters.new_empty(filters.shape)
    for shifted, grad_shifted, weight, grad_weight in zip(
        _shifts(padded),
        _shifts(grad_padded),
        filters.unbind(2),
        grad_filters.unbind(2),
        strict=True,
    ):
        weight = weight.to(exact)
        grad_shifted.addcmul_(F.leaky_relu(weight, NEGATIVE_SLOPE), grad)
        torch.ops.aten.leaky_relu_backward.grad_input(
            grad * shifted, weight, NEGATIVE_SLOPE, False, grad_input=grad_weight
        )
    return grad_padded.to(padded.dtype), grad_filters


@torch.library.custom_op('torchgeo_planetcr::dynamic_filter', mutates_args=())
def _filter_op(padded: Tensor, filters: Tensor) -> Tensor:
    """As :func:`_filter`, with gradients, and on a GPU in one kernel."""
    if _has_kernels(padded):
        from . import dynamic_filter_kernels

        return dynamic_filter_kernels.forward(padded, filters)
    return _filter(padded, filters)


@_filter_op.register_fake
def _(padded: Tensor, filters: Tensor) -> Tensor:
    batch_size, channels, _, height, width = filters.shape
    return filters.new_empty(batch_size, channels, height, width)


@torch.library.custom_op('torchgeo_planetcr::dynamic_filter_backward', mutates_args=())
def _filter_backward_op(
    grad: Tensor, padded: Tensor, filters: Tensor
) -> tuple[Tensor, Tensor]:
    """As :func:`_filter_backward`, on a GPU in two kernels."""
    if _has_kernels(padded):
        from . import dynamic_filter_kernels

        return dynamic_filter_kernels.backward(grad, padded, filters)
    return _filter_backward(grad, padded, filters)


@_filter_backward_op.register_fake
def _(grad: Tensor, padded: Tensor, filters: Tensor) -> tuple[Tensor, Tensor]:
    return padded.new_empty(padded.shape), filters.new_empty(filters.shape)


def _setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
    """Save the inputs for the backward pass."""
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the gradients of both inputs."""
    return _filter_backward_op(grad, *ctx.saved_tensors)


_filter_op.register_autograd(_backward, setup_context=_setup_context)


def _has_kernels(tensor: Tensor) -> bool:
    """Whether Triton, which comes with PyTorch for Linux, has kernels for a tensor."""
    return tensor.is_cuda and find_spec('triton') is not None
