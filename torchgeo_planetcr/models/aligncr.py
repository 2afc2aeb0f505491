# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Align-CR, which aligns Sentinel-1 to the optical image before it fuses them."""

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm
from torchvision.ops import deform_conv2d

from .fusion import (
    SCALE,
    DenseBlock,
    FusionNetwork,
    GatedTransformerBlock,
    Streams,
    TwoStream,
    convolution,
)

#: Number of groups of channels that are displaced together.
OFFSET_GROUPS = 8


def upsample(x: Tensor) -> Tensor:
    """Enlarge features to twice their size.

    Args:
        x: Features of shape (B, C, H, W).

    Returns:
        Features of shape (B, C, 2 * H, 2 * W).
    """
    return F.interpolate(x, scale_factor=2, mode='bilinear')


def activate(x: Tensor) -> Tensor:
    """Activate features.

    Args:
        x: Features.

    Returns:
        Features of the same shape.
    """
    return F.leaky_relu(x, 0.1)


class WideBlock(nn.Module):
    """Wide activation and a low-rank convolution that are added to their input.

    Weights are normalized, see `WDSR <https://arxiv.org/abs/1808.08718>`__.
    """

    def __init__(self, channels: int) -> None:
        """Initialize a new WideBlock instance.

        Args:
            channels: Number of input and output channels.
        """
        super().__init__()
        wide, narrow = 6 * channels, int(0.8 * channels)
        self.body = nn.Sequential(
            weight_norm(convolution(channels, wide, 1)),
            nn.ReLU(inplace=True),
            weight_norm(convolution(wide, narrow, 1)),
            weight_norm(convolution(narrow, channels, 3)),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Forward pass of the block.

        Args:
            x: Features of shape (B, channels, H, W).

        Returns:
            Features of the same shape.
        """
        return x + self.body(x)


class WideBlocks(nn.Sequential):
    """Five wide blocks."""

    def __init__(self, channels: int) -> None:
        """Initialize a new WideBlocks instance.

        Args:
            channels: Number of input and output channels.
        """
        super().__init__(*(WideBlock(channels) for _ in range(5)))


class Pyramid(nn.Module):
    """Feature pyramid of three levels, each half the size of the level below.

    See `Feature Pyramid Networks <https://arxiv.org/abs/1612.03144>`__.
    """

    def __init__(self, channels: int) -> None:
        """Initialize a new Pyramid instance.

        Args:
            channels: Number of channels of the input and of each level.
        """
        super().__init__()
        self.down = nn.ModuleList(
            nn.Conv2d(width, 2 * width, kernel_size=3, stride=2, padding=1)
            for width in (channels, 2 * channels)
        )
        self.top = convolution(4 * channels, channels, 1)
        self.lateral = nn.ModuleList(
            convolution(width, channels, 1) for width in (2 * channels, channels)
        )
        self.smooth = nn.ModuleList(convolution(channels, channels, 3) for _ in 'ab')

    def forward(self, x: Tensor) -> list[Tensor]:
        """Forward pass of the pyramid.

        Args:
            x: Features of shape (B, channels, H, W), where H and W are multiples of 4.

        Returns:
            Features of shape (B, channels, H / 4, W / 4), (B, channels, H / 2, W / 2)
            and (B, channels, H, W).
        """
        below = [x]
        for down in self.down:
            below.append(down(below[-1]).relu())
        levels = [self.top(below.pop()).relu()]
        for lateral, smooth in zip(self.lateral, self.smooth, strict=True):
            levels.append(smooth(upsample(levels[-1]) + lateral(below.pop())))
        return levels


class DeformableConvolution(nn.Conv2d):
    """Convolution at displaced positions, which follow from other features.

    See `Deformable ConvNets v2 <https://arxiv.org/abs/1811.11168>`__.
    """

    def __init__(self, channels: int) -> None:
        """Initialize a new DeformableConvolution instance.

        Args:
            channels: Number of channels of both inputs and of the output, a multiple of
                8.

        Raises:
            ValueError: If *channels* is not a multiple of 8.
        """
        if channels % OFFSET_GROUPS:
            raise ValueError(
                f'features must be a multiple of {OFFSET_GROUPS}, got {channels}'
            )
        super().__init__(channels, channels, kernel_size=3, padding=1)
        # Two coordinates and a weight for each pixel under the kernel
        self.offset = convolution(channels, 3 * 9 * OFFSET_GROUPS, 3)
        # Without displacements to start with
        for parameter in self.offset.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, guide: Tensor) -> Tensor:  # ty: ignore[incompatible-method-override]
        """Forward pass of the layer.

        Args:
            x: Features of shape (B, channels, H, W).
            guide: Features of the same shape from which the offsets follow.

        Returns:
            Features of the same shape.
        """
        offset = self.offset(guide)
        positions, weights = offset.tensor_split([2 * 9 * OFFSET_GROUPS], dim=1)
        # torchvision has no kernels for the types of mixed precision
        exact = torch.promote_types(x.dtype, torch.float32)
        tensors = (x, positions, self.weight, self.bias, weights.sigmoid())
        y, positions, weight, bias, mask = (t.to(exact) for t in tensors)  # ty: ignore[missing-union-attribute]
        y = deform_conv2d(y, positions, weight, bias, padding=(1, 1), mask=mask)
        return y.to(x.dtype)


class AlignmentLevel(nn.Module):
    """Level of the alignment, which refines the result of the level above."""

    def __init__(self, channels: int, *, top: bool) -> None:
        """Initialize a new AlignmentLevel instance.

        Args:
            channels: Number of channels of the features.
            top: Whether there is no level above.
        """
        super().__init__()
        self.compare = convolution(2 * channels, channels, 3)
        if top:
            guide = [convolution(channels, channels, 3)]
        else:
            guide = [
                convolution(2 * channels, channels, 3),
                nn.LeakyReLU(0.1),
                convolution(channels, channels, 3),
            ]
            self.combine = convolution(2 * channels, channels, 3)
        self.guide = nn.Sequential(*guide)
        self.deform = DeformableConvolution(channels)

    def forward(
        self, s: Tensor, x: Tensor, above: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, Tensor]:
        """Forward pass of the level.

        Args:
            s: Sentinel-1 features of shape (B, channels, H, W).
            x: Optical features of the same shape.
            above: Result of the level above, of half the size.

        Returns:
            Features from which the offsets follow, and aligned Sentinel-1 features
            before their activation, of the same shape.
        """
        guide = activate(self.compare(torch.cat([s, x], dim=1)))
        if above is not None:
            # An offset is twice as long in pixels of half the size
            guide = torch.cat([guide, 2 * upsample(above[0])], dim=1)
        guide = activate(self.guide(guide))
        aligned = self.deform(s, guide)
        if above is not None:
            aligned = torch.cat([aligned, upsample(activate(above[1]))], dim=1)
            aligned = self.combine(aligned)
        return guide, aligned


class Alignment(nn.Module):
    """Pyramidal, cascading and deformable alignment to the optical stream.

    See `EDVR <https://arxiv.org/abs/1905.02716>`__.
    """

    def __init__(self, channels: int) -> None:
        """Initialize a new Alignment instance.

        Args:
            channels: Number of channels of each stream, a multiple of 8.
        """
        super().__init__()
        self.pyramid = TwoStream.of(Pyramid, channels)
        self.levels = nn.ModuleList(
            AlignmentLevel(channels, top=top) for top in (True, False, False)
        )
        self.cascade = nn.Sequential(
            convolution(2 * channels, channels, 3),
            nn.LeakyReLU(0.1),
            convolution(channels, channels, 3),
            nn.LeakyReLU(0.1),
        )
        self.deform = DeformableConvolution(channels)

    def forward(self, x: Tensor, s: Tensor) -> Tensor:
        """Forward pass of the layer.

        Args:
            x: Optical features of shape (B, channels, H, W), where H and W are
                multiples of 4.
            s: Sentinel-1 features of the same shape.

        Returns:
            Sentinel-1 features of the same shape, aligned to the optical ones.
        """
        pyramid, pyramid_s = self.pyramid(x, s)
        above = None
        for level, reference, source in zip(
            self.levels, pyramid, pyramid_s, strict=True
        ):
            _, aligned = above = level(source, reference, above)
        guide = self.cascade(torch.cat([aligned, pyramid[-1]], dim=1))
        return activate(self.deform(aligned, guide))


class Stage(nn.Module):
    """Alignment, a dense block and a transformer, added to the input."""

    def __init__(
        self,
        features: int,
        growth: int,
        num_layers: int,
        transformer: GatedTransformerBlock,
    ) -> None:
        """Initialize a new Stage instance.

        Args:
            features: Number of channels of each stream, a multiple of 8.
            growth: Number of channels that each layer of the dense block appends.
            num_layers: Number of layers of the dense block.
            transformer: The transformer.
        """
        super().__init__()
        self.alignment = Alignment(features)
        self.dense = DenseBlock(features, growth, [None] * num_layers)
        self.transformer = transformer

    def forward(self, x: Tensor, s: Tensor, mask: Tensor) -> Streams:
        """Forward pass of the stage.

        Args:
            x: Optical features of shape (B, features, H, W).
            s: Sentinel-1 features of the same shape.
            mask: Result of :func:`~torchgeo_planetcr.models.fusion.shift_mask`.

        Returns:
            Features of the same shape.
        """
        s = self.alignment(x, s)
        dx, ds = self.transformer(*self.dense(x, s, mask), mask)
        return x + dx, s + ds


class AlignCR(FusionNetwork):
    """Align-CR, which aligns Sentinel-1 to the optical image before it fuses them.

    The two images have different resolutions, and were taken from different angles and
    on different days. Each stage therefore aligns the Sentinel-1 features to the
    optical ones by deformable convolutions, passes both streams through a dense block
    and a transformer in which Sentinel-1 corrects the optical attention, and fuses them
    by filters that depend on both.

    With the default arguments this is the network of the authors of Planet-CR, with
    45.5 million parameters, see
    :func:`~torchgeo_planetcr.models.load_reference_checkpoint`. They train its modules
    named ``alignment`` at a tenth of the learning rate.

    If you use this model in your research, please cite the following paper:

    * https://doi.org/10.1109/TGRS.2023.3337845
    """

    #: Patterns of parameter names, and what the authors' checkpoints have instead.
    reference_names: ClassVar[tuple[tuple[str, str], ...]] = (
        (r'^first\.(\w+)\.0', r'SFE_conv.\1'),
        (r'^second\.(\w+)', r'SFE_module.\1'),
        (r'parametrizations\.weight\.original0', 'weight_g'),
        (r'parametrizations\.weight\.original1', 'weight_v'),
        (r'^stages\.(\d+)\.dense\.conv', r'RDBs.\1.LFF'),
        (r'^stages\.(\d+)\.dense\.layers\.(\d+)', r'RDBs.\1.convs.\2'),
        (r'^stages\.(\d+)\.transformer', r'RDBs.\1.SwinTransformerBlock'),
        (r'^stages\.(\d+)\.alignment', r'SFAlign.\1'),
        (r'pyramid\.optical\.', 'ref_'),
        (r'pyramid\.sar\.', 'src_'),
        (r'_down\.0', '_L2_conv1'),
        (r'_down\.1', '_L3_conv1'),
        (r'_top', '_toplayer'),
        (r'_lateral\.0', '_latlayer1'),
        (r'_lateral\.1', '_latlayer2'),
        (r'_smooth\.0', '_smooth1'),
        (r'_smooth\.1', '_smooth2'),
        (r'levels\.0\.(.+)\.', r'pcd_align.\1.l3.'),
        (r'levels\.1\.(.+)\.', r'pcd_align.\1.l2.'),
        (r'levels\.2\.(.+)\.', r'pcd_align.\1.l1.'),
        (r'align\.compare', 'align.offset_conv1'),
        (r'align\.guide\.0', 'align.offset_conv2'),
        (r'align\.guide\.2', 'align.offset_conv3'),
        (r'align\.combine', 'align.feat_conv'),
        (r'align\.deform\.offset\.(\w+)', r'align.dcn_pack.\1.conv_offset'),
        (r'align\.deform', 'align.dcn_pack'),
        (r'(SFAlign\.\d+)\.cascade\.0', r'\1.pcd_align.cas_offset_conv1'),
        (r'(SFAlign\.\d+)\.cascade\.2', r'\1.pcd_align.cas_offset_conv2'),
        (r'(SFAlign\.\d+)\.deform\.offset', r'\1.pcd_align.cas_dcnpack.conv_offset'),
        (r'(SFAlign\.\d+)\.deform', r'\1.pcd_align.cas_dcnpack'),
        *FusionNetwork.reference_names,
    )

    def __init__(
        self,
        *,
        in_channels: int = 4,
        sar_channels: int = 2,
        features: int = 96,
        growth: int = 48,
        num_stages: int = 6,
        num_layers: int = 5,
        num_heads: int = 8,
        recompute: bool = False,
    ) -> None:
        """Initialize a new AlignCR instance.

        Args:
            in_channels: Number of channels of the optical image and of the output.
            sar_channels: Number of channels of the Sentinel-1 image.
            features: Number of channels of each stream, a multiple of 8 and of
                *num_heads*.
            growth: Number of channels that each layer of a dense block appends.
            num_stages: Number of stages, each of which is an alignment, a dense block,
                a transformer and a fusion.
            num_layers: Number of layers of each dense block.
            num_heads: Number of heads of the attention.
            recompute: Whether the backward pass computes attention and filters again
                instead of keeping their intermediate results. Training takes less
                memory, and somewhat longer.

        Raises:
            ValueError: If *features* is not a multiple of 8 and of *num_heads*.
        """
        stages = [
            Stage(
                features,
                growth,
                num_layers,
                GatedTransformerBlock(
                    features,
                    4 * features,
                    num_heads=num_heads,
                    shifted=stage % 2 == 1,
                    normalize=True,
                    recompute=recompute,
                ),
            )
            for stage in range(num_stages)
        ]
        super().__init__(
            in_channels=in_channels,
            sar_channels=sar_channels,
            features=features,
            first=TwoStream(
                *(
                    nn.Sequential(
                        convolution(channels * SCALE**2, features, 3), nn.ReLU(True)
                    )
                    for channels in (in_channels, sar_channels)
                )
            ),
            second=TwoStream.of(WideBlocks, features),
            stages=stages,
            recompute=recompute,
        )


def aligncr(**kwargs: Any) -> AlignCR:
    """Align-CR model.

    If you use this model in your research, please cite the following paper:

    * https://doi.org/10.1109/TGRS.2023.3337845

    No weights for Planet-CR have been published. Read a checkpoint of the authors'
    code with :func:`~torchgeo_planetcr.models.load_reference_checkpoint`.

    Args:
        **kwargs: Additional keyword arguments to pass to :class:`AlignCR`.

    Returns:
        An Align-CR model.
    """
    return AlignCR(**kwargs)
