# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Triton kernels of the dynamic filter.

Each program computes some pixels of one channel of one image, in float32, or in float64
for such tensors. All tensors are contiguous; ``padded`` has two more rows and columns
on each side than the others.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from .dynamic_filter import FILTER_SIZE, NEGATIVE_SLOPE

SIZE = tl.constexpr(FILTER_SIZE)
SLOPE = tl.constexpr(NEGATIVE_SLOPE)

#: Number of pixels that a program computes.
PIXELS = 512


@triton.jit
def _activate(weight, value):
    """Multiply a value by the slope of the activation of a weight."""
    return tl.where(weight > 0, value, value * SLOPE)


@triton.jit
def _forward(
    result, padded, filters, height, width, EXACT: tl.constexpr, PIXELS: tl.constexpr
):
    """Sum the weighted pixels under each filter."""
    plane = tl.program_id(0).to(tl.int64)
    pixel = tl.program_id(1) * PIXELS + tl.arange(0, PIXELS)
    inside = pixel < height * width
    padded_width = width + SIZE - 1
    padded += plane * (height + SIZE - 1) * padded_width
    padded += (pixel // width) * padded_width + pixel % width
    filters += plane * SIZE * SIZE * height * width + pixel

    plane_size = tl.full((), height, tl.int64) * width
    total = tl.zeros((PIXELS,), EXACT)
    for row in tl.static_range(SIZE):
        for column in tl.static_range(SIZE):
            tap = (row * SIZE + column) * plane_size
            weight = tl.load(filters + tap, inside, 0).to(EXACT)
            shift = row * padded_width + column
            shifted = tl.load(padded + shift, inside, 0).to(EXACT)
            total += _activate(weight, weight) * shifted

    result += plane * height * width + pixel
    tl.store(result, total.to(result.dtype.element_ty), inside)


@triton.jit
def _backward_filters(
    grad_filters,
    grad,
    padded,
    filters,
    height,
    width,
    EXACT: tl.constexpr,
    PIXELS: tl.constexpr,
):
    """Compute the gradients of all weights of a pixel."""
    plane = tl.program_id(0).to(tl.int64)
    pixel = tl.program_id(1) * PIXELS + tl.arange(0, PIXELS)
    inside = pixel < height * width
    padded_width = width + SIZE - 1
    padded += plane * (height + SIZE - 1) * padded_width
    padded += (pixel // width) * padded_width + pixel % width
    filters += plane * SIZE * SIZE * height * width + pixel
    grad_filters += plane * SIZE * SIZE * height * width + pixel

    plane_size = tl.full((), height, tl.int64) * width
    outer = tl.load(grad + plane * height * width + pixel, inside, 0).to(EXACT)
    for row in tl.static_range(SIZE):
        for column in tl.static_range(SIZE):
            tap = (row * SIZE + column) * plane_size
            weight = tl.load(filters + tap, inside, 0).to(EXACT)
            shift = row * padded_width + column
            shifted = tl.load(padded + shift, inside, 0).to(EXACT)
            inner = _activate(weight, outer * shifted)
            tl.store(
                grad_filters + tap, inner.to(grad_filters.dtype.element_ty), inside
            )


@triton.jit
def _backward_padded(
    grad_padded, grad, filters, height, width, EXACT: tl.constexpr, PIXELS: tl.constexpr
):
    """Gather the gradient of a padded pixel from up to 25 pixels that it went into.

    Without atomic additions, so that the sum is the same in every run.
    """
    plane = tl.program_id(0).to(tl.int64)
    pixel = tl.program_id(1) * PIXELS + tl.arange(0, PIXELS)
    padded_width = width + SIZE - 1
    padded_pixels = (height + SIZE - 1) * padded_width
    inside = pixel < padded_pixels
    grad += plane * height * width
    filters += plane * SIZE * SIZE * height * width

    plane_size = tl.full((), height, tl.int64) * width
    total = tl.zeros((PIXELS,), EXACT)
    for row in tl.static_range(SIZE):
        for column in tl.static_range(SIZE):
            y = pixel // padded_width - row
            x = pixel % padded_width - column
            reached = inside & (y >= 0) & (y < height) & (x >= 0) & (x < width)
            target = y * width + x
            tap = (row * SIZE + column) * plane_size
            weight = tl.load(filters + tap + target, reached, 0).to(EXACT)
            outer = tl.load(grad + target, reached, 0).to(EXACT)
            total += _activate(weight, weight) * outer

    grad_padded += plane * padded_pixels + pixel
    tl.store(grad_padded, total.to(grad_padded.dtype.element_ty), inside)


def forward(padded: Tensor, filters: Tensor) -> Tensor:
    """Filter features.

    Args:
        padded: Features of shape (B, C, H + 4, W + 4).
        filters: Filters of shape (B, C, 25, H, W), before their activation.

    Returns:
        Filtered features of shape (B, C, H, W).
    """
    batch_size, channels, _, height, width = filters.shape
    result = filters.new_empty(batch_size, channels, height, width)
    _launch(_forward, height * width, result, padded, filters)
    return result


def backward(grad: Tensor, padded: Tensor, filters: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the gradients of filtered features.

    Args:
        grad: Gradient of the result, of shape (B, C, H, W).
        padded: Features of shape (B, C, H + 4, W + 4).
        filters: Filters of shape (B, C, 25, H, W), before their activation.

    Returns:
        Gradients of *padded* and of *filters*.
    """
    grad_padded = padded.new_empty(padded.shape)
    grad_filters = filters.new_empty(filters.shape)
    pixels = grad.shape[-2:].numel()
    _launch(_backward_filters, pixels, grad_filters, grad, padded, filters)
    pixels = padded.shape[-2:].numel()
    _launch(_backward_padded, pixels, grad_padded, grad, filters)
    return grad_padded, grad_filters


def _launch(kernel: Any, pixels: int, result: Tensor, *inputs: Tensor) -> None:
    """Run a kernel on as many *pixels* of each channel; *inputs* end with filters."""
    batch_size, channels, _, height, width = inputs[-1].shape
    grid = (batch_size * channels, triton.cdiv(pixels, PIXELS))
    exact = tl.float64 if result.dtype is torch.float64 else tl.float32
    inputs = tuple(tensor.contiguous() for tensor in inputs)
    with torch.cuda.device_of(result):
        kernel[grid](result, *inputs, height, width, exact, PIXELS)
