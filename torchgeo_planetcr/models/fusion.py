# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""What GLF-CR and Align-CR share: two streams of features that correct each other.

Both networks carry optical features ``x`` and Sentinel-1 features ``s``, at half the
resolution of the image, through several stages. After each stage the streams are fused.
"""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torchvision.ops import StochasticDepth

from .dynamic_filter import TAPS, dynamic_filter
from .utils import check_inputs, crop_to, pad_to_multiple

#: Optical and Sentinel-1 features of the same shape.
Streams = tuple[Tensor, Tensor]

#: Factor by which the streams are smaller than the image.
SCALE = 2

#: Side length of the windows of attention, in pixels of the streams.
WINDOW_SIZE = 8

#: Number of channels that the head rearranges to the resolution of the image.
HEAD_CHANNELS = 256


class TwoStream(nn.Module):
    """A layer for each stream.

    The names of its attributes are part of the names of weights in checkpoints.
    """

    def __init__(self, optical: nn.Module, sar: nn.Module) -> None:
        """Initialize a new TwoStream instance.

        Args:
            optical: Layer of the optical stream.
            sar: Layer of the Sentinel-1 stream.
        """
        super().__init__()
        self.optical = optical
        self.sar = sar

    @classmethod
    def of(cls, make: Callable[..., nn.Module], *args: Any) -> Self:
        """Create the same layer for both streams, each with weights of its own.

        Args:
            make: Class of the layer.
            *args: Arguments to pass to it.

        Returns:
            The layers.
        """
        return cls(make(*args), make(*args))

    def forward(self, x: Tensor, s: Tensor) -> Streams:
        """Forward pass of both layers.

        Args:
            x: Optical features.
            s: Sentinel-1 features.

        Returns:
            Optical and Sentinel-1 features.
        """
        return self.optical(x), self.sar(s)


def convolution(in_channels: int, out_channels: int, kernel_size: int) -> nn.Conv2d:
    """Create a convolution that keeps the size of its input.

    Args:
        in_channels: Number of input channels.
        out_channels: Number of output channels.
        kernel_size: Side length of the kernel, odd.

    Returns:
        The convolution.

    Raises:
        ValueError: If there is nothing to take as input.
    """
    if not in_channels:
        raise ValueError(
            'GLF-CR and Align-CR fuse two images, so in_channels and sar_channels must be '
            'at least 1: without Sentinel-1, take dsen2cr or an architecture such as unet'
        )
    padding = kernel_size // 2
    return nn.Conv2d(in_channels, out_channels, kernel_size, padding=padding)


def recomputed(function: Callable[..., Any], *inputs: Tensor) -> Any:
    """Call a function whose backward pass computes its intermediate results again.

    Args:
        function: Function that draws no random numbers.
        *inputs: Its inputs, which are all that is kept.

    Returns:
        Its result.
    """
    return checkpoint(function, *inputs, use_reentrant=False, preserve_rng_state=False)


def shift_mask(height: int, width: int, device: torch.device) -> Tensor:
    """Separate pixels that only a cyclic shift has brought into one window.

    Args:
        height: Height of the features, a multiple of 8.
        width: Width of the features, a multiple of 8.
        device: Device of the mask.

    Returns:
        What to add to the logits of shifted windows, 0 or -100, of shape (windows, 64,
        64).
    """

    def region(size: int) -> Tensor:
        position = torch.arange(size, device=device)
        border = position >= size - WINDOW_SIZE
        wrapped = position >= size - WINDOW_SIZE // 2
        return border.long() + wrapped.long()

    regions = 3 * region(height)[:, None] + region(width)
    (windows,) = to_windows(regions[None, ..., None])
    return -100.0 * (windows != windows.transpose(1, 2))


def to_windows(x: Tensor) -> Tensor:
    """Cut features into windows.

    Args:
        x: Features of shape (B, H, W, C), where H and W are multiples of 8.

    Returns:
        Windows of shape (B, H / 8 * W / 8, 64, C).
    """
    x = x.unflatten(2, (-1, WINDOW_SIZE)).unflatten(1, (-1, WINDOW_SIZE))
    return x.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def from_windows(windows: Tensor, height: int, width: int) -> Tensor:
    """Join windows again.

    Args:
        windows: Windows of shape (B, H / 8 * W / 8, 64, C).
        height: H.
        width: W.

    Returns:
        Features of shape (B, H, W, C).
    """
    x = windows.unflatten(2, (WINDOW_SIZE, WINDOW_SIZE))
    x = x.unflatten(1, (height // WINDOW_SIZE, width // WINDOW_SIZE))
    return x.transpose(2, 3).flatten(3, 4).flatten(1, 2)


class GatedWindowAttention(nn.Module):
    r"""Attention in windows of 8 x 8 pixels that Sentinel-1 corrects.

    With the logits :math:`A` of the optical and :math:`A_s` of the Sentinel-1 stream,
    the optical stream attends to its own values with the weights

    .. math::

        \mathrm{softmax}(A + (A_s - A) \, \sigma(g(A_s - A)))

    where the convolution :math:`g` mixes the heads, and the Sentinel-1 stream with
    :math:`\mathrm{softmax}(A_s)`. As in `Swin Transformer
    <https://arxiv.org/abs/2103.14030>`__, a bias that depends on the relative position
    of two pixels is added to the logits, here the same to both, and windows may be
    shifted by half of their size.
    """

    relative_position: Tensor

    def __init__(self, channels: int, num_heads: int, shifted: bool) -> None:
        """Initialize a new GatedWindowAttention instance.

        Args:
            channels: Number of channels of each stream, a multiple of *num_heads*.
            num_heads: Number of heads.
            shifted: Whether the windows are shifted.

        Raises:
            ValueError: If *channels* is not a multiple of *num_heads*.
        """
        super().__init__()
        if channels % num_heads:
            raise ValueError(
                f'num_heads must be a divisor of the {channels} channels of each '
                f'stream, got {num_heads}'
            )
        self.num_heads = num_heads
        self.shift = WINDOW_SIZE // 2 if shifted else 0
        self.qkv = TwoStream.of(nn.Linear, channels, 3 * channels)
        self.gate = nn.Conv2d(num_heads, num_heads, kernel_size=1)
        self.projection = TwoStream.of(nn.Linear, channels, channels)

        span = 2 * WINDOW_SIZE - 1
        self.bias = nn.Parameter(torch.empty(span**2, num_heads))
        nn.init.trunc_normal_(self.bias, std=0.02)
        axis = torch.arange(WINDOW_SIZE)
        position = torch.cartesian_prod(axis, axis)
        row, column = (position[:, None] - position + WINDOW_SIZE - 1).unbind(-1)
        self.register_buffer('relative_position', span * row + column, persistent=False)

    def forward(self, x: Tensor, s: Tensor, mask: Tensor) -> Streams:
        """Forward pass of the layer.

        Args:
            x: Optical features of shape (B, H, W, C), where H and W are multiples of 8.
            s: Sentinel-1 features of the same shape.
            mask: Result of :func:`shift_mask` for H and W.

        Returns:
            Features of the same shape.
        """
        height, width = x.shape[1:3]
        if self.shift:
            x, s = (y.roll((-self.shift, -self.shift), (1, 2)) for y in (x, s))
        qkv = self.qkv(to_windows(x), to_windows(s))
        (q, k, v), (q_s, k_s, v_s) = (
            y.unflatten(3, (3, self.num_heads, -1)).permute(3, 4, 0, 1, 2, 5)
            for y in qkv
        )
        scale = q.shape[-1] ** -0.5
        q, q_s = q * scale, q_s * scale

        # Tensors of this size are changed in place where autograd allows it, because
        # allocating them takes as long as computing them
        logits, logits_s = q @ k.mT, q_s @ k_s.mT
        difference = torch.cat([q_s, -q], dim=-1) @ torch.cat([k_s, k], dim=-1).mT
        logits += difference * self._gate(difference)
        bias = self.bias.T[:, None, None, self.relative_position]
        for y in (logits, logits_s):
            y += bias
            if self.shift:
                y += mask
        attended = (
            (y.softmax(dim=-1) @ values).permute(1, 2, 3, 0, 4).flatten(3)
            for y, values in ((logits, v), (logits_s, v_s))
        )

        x, s = (from_windows(y, height, width) for y in self.projection(*attended))
        if self.shift:
            x, s = (y.roll((self.shift, self.shift), (1, 2)) for y in (x, s))
        return x, s

    def _gate(self, difference: Tensor) -> Tensor:
        """Share of a difference of logits that the optical stream takes, in [0, 1]."""
        # A product of matrices costs a fraction of a convolution of so few channels
        mixed = self.gate.weight.flatten(1) @ difference.flatten(1)
        mixed += self.gate.bias[:, None]  # ty: ignore[not-subscriptable]
        return mixed.sigmoid_().view_as(difference)


class Perceptron(nn.Sequential):
    """Two layers that act on each pixel alone."""

    def __init__(self, channels: int, hidden_channels: int) -> None:
        """Initialize a new Perceptron instance.

        Args:
            channels: Number of input and output channels.
            hidden_channels: Number of channels between the layers.
        """
        super().__init__(
            nn.Linear(channels, hidden_channels),
            nn.GELU(),
            nn.Linear(hidden_channels, channels),
        )


class GatedTransformerBlock(nn.Module):
    """Gated window attention and a perceptron, each added to its input."""

    def __init__(
        self,
        channels: int,
        hidden_channels: int,
        *,
        num_heads: int,
        shifted: bool,
        normalize: bool,
        drop_path: float = 0.0,
        recompute: bool,
    ) -> None:
        """Initialize a new GatedTransformerBlock instance.

        Args:
            channels: Number of channels of each stream, a multiple of *num_heads*.
            hidden_channels: Number of channels within the perceptron.
            num_heads: Number of heads of the attention.
            shifted: Whether the windows of the attention are shifted.
            normalize: Whether the input of the attention is normalized.
            drop_path: Probability with which a sample skips the attention, and the
                perceptron, during training.
            recompute: Whether the backward pass computes the block again instead of
                keeping its intermediate results.
        """
        super().__init__()
        self.recompute = recompute
        norm = nn.LayerNorm if normalize else nn.Identity
        self.norm1 = TwoStream.of(norm, channels)
        self.attention = GatedWindowAttention(channels, num_heads, shifted)
        self.norm2 = TwoStream.of(nn.LayerNorm, channels)
        self.mlp = TwoStream.of(Perceptron, channels, hidden_channels)
        self.drop_path = TwoStream.of(StochasticDepth, drop_path, 'row')

    def forward(self, x: Tensor, s: Tensor, mask: Tensor) -> Streams:
        """Forward pass of the block.

        Args:
            x: Optical features of shape (B, C, H, W), where H and W are multiples of 8.
            s: Sentinel-1 features of the same shape.
            mask: Result of :func:`shift_mask` for H and W.

        Returns:
            Features of the same shape.
        """
        x, s = x.permute(0, 2, 3, 1), s.permute(0, 2, 3, 1)
        for branch in (self._attention, self._perceptron):
            if self.recompute and torch.is_grad_enabled():
                changes = recomputed(branch, x, s, mask)
            else:
                changes = branch(x, s, mask)
            dx, ds = self.drop_path(*changes)
            x, s = x + dx, s + ds
        return x.permute(0, 3, 1, 2), s.permute(0, 3, 1, 2)

    def _attention(self, x: Tensor, s: Tensor, mask: Tensor) -> Streams:
        """Attention of normalized features of shape (B, H, W, C)."""
        return self.attention(*self.norm1(x, s), mask)

    def _perceptron(self, x: Tensor, s: Tensor, mask: Tensor) -> Streams:
        """Perceptron of normalized features of shape (B, H, W, C)."""
        return self.mlp(*self.norm2(x, s))


class DenseLayer(nn.Module):
    """Layer that appends features to its input."""

    def __init__(
        self, in_channels: int, growth: int, block: GatedTransformerBlock | None = None
    ) -> None:
        """Initialize a new DenseLayer instance.

        Args:
            in_channels: Number of input channels of each stream.
            growth: Number of channels that are appended.
            block: Block that the new features pass.
        """
        super().__init__()
        self.conv = TwoStream(
            *(
                nn.Sequential(convolution(in_channels, growth, 3), nn.ReLU(True))
                for _ in range(2)
            )
        )
        self.block = block

    def forward(self, x: Tensor, s: Tensor, mask: Tensor) -> Streams:
        """Forward pass of the layer.

        Args:
            x: Optical features of shape (B, in_channels, H, W).
            s: Sentinel-1 features of the same shape.
            mask: Result of :func:`shift_mask` for H and W.

        Returns:
            Features of shape (B, in_channels + growth, H, W).
        """
        new_x, new_s = self.conv(x, s)
        if self.block is not None:
            new_x, new_s = self.block(new_x, new_s, mask)
        return torch.cat([x, new_x], dim=1), torch.cat([s, new_s], dim=1)


class DenseBlock(nn.Module):
    """Dense layers, and a convolution back to the width of the streams."""

    def __init__(
        self, channels: int, growth: int, blocks: Sequence[GatedTransformerBlock | None]
    ) -> None:
        """Initialize a new DenseBlock instance.

        Args:
            channels: Number of channels of each stream.
            growth: Number of channels that each layer appends.
            blocks: Block, if any, of each layer.
        """
        super().__init__()
        self.layers = nn.ModuleList(
            DenseLayer(channels + i * growth, growth, block)
            for i, block in enumerate(blocks)
        )
        wide = channels + len(blocks) * growth
        self.conv = TwoStream.of(convolution, wide, channels, 3)

    def forward(self, x: Tensor, s: Tensor, mask: Tensor) -> Streams:
        """Forward pass of the block.

        Args:
            x: Optical features of shape (B, channels, H, W).
            s: Sentinel-1 features of the same shape.
            mask: Result of :func:`shift_mask` for H and W.

        Returns:
            Features of the same shape.
        """
        for layer in self.layers:
            x, s = layer(x, s, mask)
        return self.conv(x, s)


class ResidualBlock(nn.Module):
    """Two convolutions that are added to their input."""

    def __init__(self, channels: int) -> None:
        """Initialize a new ResidualBlock instance.

        Args:
            channels: Number of input and output channels.
        """
        super().__init__()
        self.body = nn.Sequential(
            convolution(channels, channels, 3),
            nn.LeakyReLU(0.1, inplace=True),
            convolution(channels, channels, 3),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Forward pass of the block.

        Args:
            x: Features of shape (B, channels, H, W).

        Returns:
            Features of the same shape.
        """
        return x + self.body(x)


class DynamicFilter(nn.Module):
    """Filters the Sentinel-1 stream to resemble the optical one, pixel by pixel."""

    def __init__(self, channels: int, recompute: bool) -> None:
        """Initialize a new DynamicFilter instance.

        Args:
            channels: Number of channels of each stream.
            recompute: Whether the backward pass computes the filters again instead of
                keeping them.
        """
        super().__init__()
        self.recompute = recompute
        self.stem = nn.Sequential(
            convolution(2 * channels, channels, 3),
            nn.LeakyReLU(0.1, inplace=True),
            ResidualBlock(channels),
            ResidualBlock(channels),
        )
        self.filters = nn.Conv2d(channels, channels * TAPS, kernel_size=1)

    def forward(self, x: Tensor, s: Tensor) -> Tensor:
        """Forward pass of the layer.

        Args:
            x: Optical features of shape (B, channels, H, W).
            s: Sentinel-1 features of the same shape.

        Returns:
            Filtered Sentinel-1 features of the same shape.
        """
        y = self.stem(torch.cat([x, s], dim=1))
        if self.recompute and torch.is_grad_enabled():
            return recomputed(self._filter, y, s)
        return self._filter(y, s)

    def _filter(self, y: Tensor, s: Tensor) -> Tensor:
        """Filter Sentinel-1 features *s* by filters that follow from *y*."""
        # As a convolution, but without rearranging so many channels in memory
        weight = self.filters.weight.flatten(1).expand(y.shape[0], -1, -1)
        filters = weight @ y.flatten(2)
        filters += self.filters.bias[:, None]  # ty: ignore[not-subscriptable]
        filters = filters.unflatten(2, y.shape[2:]).unflatten(1, (-1, TAPS))
        return dynamic_filter(s, filters)


class Fusion(nn.Module):
    r"""Corrects each stream by the other.

    With the filtered Sentinel-1 features :math:`f` and two convolutions :math:`g`,

    .. math::

        x' &= x + (f - x) \, \sigma(g_x(f - x)) \\
        s' &= s + (x' - f) \, \sigma(g_s(x' - f))
    """

    def __init__(self, channels: int, recompute: bool) -> None:
        """Initialize a new Fusion instance.

        Args:
            channels: Number of channels of each stream.
            recompute: Whether the backward pass computes the filters again instead of
                keeping them.
        """
        super().__init__()
        self.filter = DynamicFilter(channels, recompute)
        self.gate = TwoStream.of(convolution, channels, channels, 1)

    def forward(self, x: Tensor, s: Tensor) -> Streams:
        """Forward pass of the layer.

        Args:
            x: Optical features of shape (B, channels, H, W).
            s: Sentinel-1 features of the same shape.

        Returns:
            Features of the same shape.
        """
        f = self.filter(x, s)
        difference = f - x
        x = x + difference * self.gate.optical(difference).sigmoid()
        difference = x - f
        s = s + difference * self.gate.sar(difference).sigmoid()
        return x, s


class FusionNetwork(nn.Module):
    """Network of stages, after each of which two streams are fused.

    Subclasses say what the stem and the stages are.
    """

    #: Patterns of parameter names, and what the authors' checkpoints have instead.
    reference_names: ClassVar[tuple[tuple[str, str], ...]] = (
        (r'^fusions\.(\d+)\.filter\.stem\.0', r'DF.\1.fac_warp.0.0'),
        (r'^fusions\.(\d+)\.filter\.stem\.2\.body', r'DF.\1.fac_warp.1.stem'),
        (r'^fusions\.(\d+)\.filter\.stem\.3\.body', r'DF.\1.fac_warp.2.stem'),
        (r'^fusions\.(\d+)\.filter\.filters', r'DF.\1.fac_warp.3.0'),
        (r'^fusions\.(\d+)\.gate\.optical', r'sar_fuse_1x1conv.\1'),
        (r'^fusions\.(\d+)\.gate\.sar', r'opt_distribute_1x1conv.\1'),
        (r'^collect', 'GFF'),
        (r'^head', 'UPNet'),
        (r'\.attention\.bias', '.attn.relative_position_bias_table'),
        (r'\.attention\.gate', '.attn.attn_fuse_1x1conv'),
        (r'\.attention\.projection', '.attn.proj'),
        (r'\.attention', '.attn'),
        (r'(mlp\.\w+)\.0', r'\1.fc1'),
        (r'(mlp\.\w+)\.2', r'\1.fc2'),
        (r'\.optical', ''),
        (r'\.sar', '_SAR'),
    )

    def __init__(
        self,
        *,
        in_channels: int,
        sar_channels: int,
        features: int,
        first: TwoStream,
        second: nn.Module,
        stages: Sequence[nn.Module],
        recompute: bool,
    ) -> None:
        """Initialize a new FusionNetwork instance.

        Args:
            in_channels: Number of channels of the optical image and of the output.
            sar_channels: Number of channels of the Sentinel-1 image.
            features: Number of channels of each stream.
            first: First part of the stem, whose optical output skips the stages.
            second: Second part of the stem, which is called with two streams.
            stages: Stages, which are called with two streams and a mask.
            recompute: Whether the backward pass computes the filters again instead of
                keeping them.
        """
        super().__init__()
        self.in_channels = in_channels
        self.sar_channels = sar_channels
        self.first = first
        self.second = second
        self.stages = nn.ModuleList(stages)
        fusions = [Fusion(features, recompute) for _ in stages]
        # Nothing reads the Sentinel-1 stream after the last fusion, and distributed
        # training waits for the gradients of all parameters that can be trained
        fusions[-1].gate.sar.requires_grad_(False)
        self.fusions = nn.ModuleList(fusions)
        self.collect = nn.Sequential(
            convolution(len(stages) * features, features, 1),
            convolution(features, features, 3),
        )
        self.head = nn.Sequential(
            convolution(features, HEAD_CHANNELS, 3),
            nn.PixelShuffle(SCALE),
            convolution(HEAD_CHANNELS // SCALE**2, in_channels, 3),
        )

    def forward(self, image: Tensor, image_s1: Tensor) -> Tensor:
        """Forward pass of the model.

        Args:
            image: Cloudy optical image of shape (B, in_channels, H, W), normalized to
                [0, 1]. H and W are at least 16; unless they are multiples of 16, the
                image is padded by reflection at the bottom and on the right, and the
                output cropped.
            image_s1: Sentinel-1 image of shape (B, sar_channels, H, W), normalized to
                [0, 1].

        Returns:
            The restored optical image of shape (B, in_channels, H, W), not clamped.

        Raises:
            ValueError: If *image* or *image_s1* has another shape, is smaller than one
                window of attention, or has values that are not finite.
        """
        multiple = SCALE * WINDOW_SIZE
        check_inputs(image, image_s1, self.in_channels, self.sar_channels, multiple)
        x, s = (
            F.pixel_unshuffle(pad_to_multiple(y, multiple), SCALE)
            for y in (image, image_s1)
        )
        mask = shift_mask(*x.shape[-2:], x.device)

        x, s = self.first(x, s)
        skip = x
        x, s = self.second(x, s)
        collected = []
        for stage, fusion in zip(self.stages, self.fusions, strict=True):
            x, s = fusion(*stage(x, s, mask))
            collected.append(x)
        residual = self.head(self.collect(torch.cat(collected, dim=1)) + skip)
        return image + crop_to(residual, image.shape[-2:])
