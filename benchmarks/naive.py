# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""The same networks as ours, written exactly as their formulas, for ``models.py``.

Each term of a formula is a tensor of its own, and autograd keeps what it needs.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from torchgeo_planetcr.models.dynamic_filter import FILTER_SIZE, NEGATIVE_SLOPE, TAPS
from torchgeo_planetcr.models.fusion import (
    WINDOW_SIZE,
    DynamicFilter,
    FusionNetwork,
    GatedWindowAttention,
    Streams,
)


class NaiveFilter(nn.Module):
    """Dynamic filter that copies the input of each of its taps."""

    def __init__(self, ours: DynamicFilter) -> None:
        """Initialize a new NaiveFilter instance.

        Args:
            ours: Layer whose weights to use.
        """
        super().__init__()
        self.stem = ours.stem
        self.filters = ours.filters

    def forward(self, x: Tensor, s: Tensor) -> Tensor:
        """Filter the SAR stream.

        Args:
            x: Optical features of shape (B, C, H, W).
            s: SAR features of the same shape.

        Returns:
            Filtered SAR features of the same shape.
        """
        filters = self.filters(self.stem(torch.cat([x, s], dim=1)))
        filters = F.leaky_relu(filters, NEGATIVE_SLOPE)
        padded = F.pad(s, [FILTER_SIZE // 2] * 4, mode='replicate')
        batch_size, channels, height, width = s.shape
        shape = (batch_size, channels, TAPS, height, width)
        copies = F.unfold(padded, FILTER_SIZE).view(shape)
        return (copies * filters.view(shape)).sum(dim=2)


class NaiveAttention(nn.Module):
    """Gated attention in windows with a tensor for each term of the logits."""

    relative_position: Tensor

    def __init__(self, ours: GatedWindowAttention) -> None:
        """Initialize a new NaiveAttention instance.

        Args:
            ours: Layer whose weights to use.
        """
        super().__init__()
        self.num_heads = ours.num_heads
        self.shift = ours.shift
        self.qkv = ours.qkv
        self.gate = ours.gate
        self.projection = ours.projection
        self.bias = ours.bias
        self.register_buffer(
            'relative_position', ours.relative_position, persistent=False
        )

    def forward(self, x: Tensor, s: Tensor, mask: Tensor) -> Streams:
        """Forward pass of the layer.

        Args:
            x: Optical features of shape (B, H, W, C).
            s: SAR features of the same shape.
            mask: Numbers to add to the logits of shifted windows.

        Returns:
            Features of the same shape.
        """
        logits, values = self._logits(x, self.qkv.optical, mask)
        logits_s, values_s = self._logits(s, self.qkv.sar, mask)
        difference = logits_s - logits
        logits = logits + difference * torch.sigmoid(self.gate(difference))
        return (
            self._attend(logits, values, self.projection.optical, x.shape),
            self._attend(logits_s, values_s, self.projection.sar, x.shape),
        )

    def _logits(
        self, x: Tensor, projection: nn.Module, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Compare the pixels of each window.

        Args:
            x: Features of shape (B, H, W, C).
            projection: Layer from features to queries, keys and values.
            mask: Numbers to add to the logits of shifted windows.

        Returns:
            Logits of shape (B * windows, heads, 64, 64), and values.
        """
        batch_size, height, width, channels = x.shape
        if self.shift:
            x = torch.roll(x, (-self.shift, -self.shift), (1, 2))
        rows, columns = height // WINDOW_SIZE, width // WINDOW_SIZE
        x = x.view(batch_size, rows, WINDOW_SIZE, columns, WINDOW_SIZE, channels)
        x = x.permute(0, 1, 3, 2, 4, 5).reshape(-1, WINDOW_SIZE**2, channels)
        qkv = projection(x).view(*x.shape[:2], 3, self.num_heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        logits = q * q.shape[-1] ** -0.5 @ k.transpose(-2, -1)
        logits = logits + self.bias[self.relative_position].permute(2, 0, 1)
        if self.shift:
            logits = logits.unflatten(0, (batch_size, -1)) + mask[:, None]
            logits = logits.flatten(0, 1)
        return logits, v

    def _attend(
        self, logits: Tensor, values: Tensor, projection: nn.Module, shape: torch.Size
    ) -> Tensor:
        """Weight the values, and put the windows together again.

        Args:
            logits: Logits of shape (B * windows, heads, 64, 64).
            values: Values of shape (B * windows, heads, 64, C / heads).
            projection: Layer from values to features.
            shape: (B, H, W, C).

        Returns:
            Features of that shape.
        """
        batch_size, height, width, channels = shape
        rows, columns = height // WINDOW_SIZE, width // WINDOW_SIZE
        y = (torch.softmax(logits, dim=-1) @ values).transpose(1, 2).flatten(2)
        y = projection(y)
        y = y.view(batch_size, rows, columns, WINDOW_SIZE, WINDOW_SIZE, channels)
        y = y.permute(0, 1, 3, 2, 4, 5).reshape(shape)
        return torch.roll(y, (self.shift, self.shift), (1, 2)) if self.shift else y


def make_naive(model: FusionNetwork) -> None:
    """Replace the filters and the attention of a network, and keep its weights.

    Args:
        model: The network.
    """
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, DynamicFilter):
                setattr(parent, name, NaiveFilter(child))
            elif isinstance(child, GatedWindowAttention):
                setattr(parent, name, NaiveAttention(child))
