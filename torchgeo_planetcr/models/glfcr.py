# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""GLF-CR, which fuses optical and Sentinel-1 images globally and locally."""

from typing import Any, ClassVar

from torch import Tensor, nn

from .fusion import (
    SCALE,
    DenseBlock,
    FusionNetwork,
    GatedTransformerBlock,
    Streams,
    TwoStream,
    convolution,
)


class Stage(nn.Module):
    """Dense block that is added to its input."""

    def __init__(self, dense: DenseBlock) -> None:
        """Initialize a new Stage instance.

        Args:
            dense: The dense block.
        """
        super().__init__()
        self.dense = dense

    def forward(self, x: Tensor, s: Tensor, mask: Tensor) -> Streams:
        """Forward pass of the stage.

        Args:
            x: Optical features of shape (B, features, H, W).
            s: Sentinel-1 features of the same shape.
            mask: Result of :func:`~torchgeo_planetcr.models.fusion.shift_mask`.

        Returns:
            Features of the same shape.
        """
        dx, ds = self.dense(x, s, mask)
        return x + dx, s + ds


class GLFCR(FusionNetwork):
    """GLF-CR, in which Sentinel-1 corrects the optical image globally and locally.

    In each layer of its dense blocks, attention in windows lets the Sentinel-1 stream
    correct how the optical pixels attend to each other (global fusion). After each
    block, filters that depend on both streams transfer Sentinel-1 features to the
    optical stream (local fusion).

    With the default arguments this is the network of the authors of Planet-CR, with
    14.7 million parameters, see
    :func:`~torchgeo_planetcr.models.load_reference_checkpoint`.

    If you use this model in your research, please cite the following papers:

    * https://doi.org/10.1016/j.isprsjprs.2022.08.002
    * https://doi.org/10.1109/TGRS.2023.3337845
    """

    #: Patterns of parameter names, and what the authors' checkpoints have instead.
    reference_names: ClassVar[tuple[tuple[str, str], ...]] = (
        (r'^first', 'SFENet1'),
        (r'^second', 'SFENet2'),
        (r'^stages\.(\d+)\.dense\.conv', r'RDBs.\1.LFF'),
        (r'^stages\.(\d+)\.dense\.layers\.(\d+)', r'RDBs.\1.convs.\2'),
        (r'\.block', ''),
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
        drop_path: float = 0.2,
        recompute: bool = False,
    ) -> None:
        """Initialize a new GLFCR instance.

        Args:
            in_channels: Number of channels of the optical image and of the output.
            sar_channels: Number of channels of the Sentinel-1 image.
            features: Number of channels of each stream.
            growth: Number of channels that each layer of a dense block appends, a
                multiple of *num_heads*.
            num_stages: Number of stages, each of which is a dense block and a fusion.
            num_layers: Number of layers of each dense block.
            num_heads: Number of heads of the attention.
            drop_path: Probability with which a sample skips the last layer's attention,
                and its perceptron, during training. It rises linearly from 0 in the
                first layer.
            recompute: Whether the backward pass computes attention and filters again
                instead of keeping their intermediate results. Training takes a fraction
                of the memory, and somewhat longer.

        Raises:
            ValueError: If *growth* is not a multiple of *num_heads*.
        """
        last = max(num_stages * num_layers - 1, 1)
        stages = []
        for stage in range(num_stages):
            blocks = [
                GatedTransformerBlock(
                    growth,
                    2 * growth,
                    num_heads=num_heads,
                    shifted=layer % 2 == 1,
                    normalize=False,
                    drop_path=drop_path * (stage * num_layers + layer) / last,
                    recompute=recompute,
                )
                for layer in range(num_layers)
            ]
            stages.append(Stage(DenseBlock(features, growth, blocks)))
        super().__init__(
            in_channels=in_channels,
            sar_channels=sar_channels,
            features=features,
            first=TwoStream(
                convolution(in_channels * SCALE**2, features, 5),
                convolution(sar_channels * SCALE**2, features, 5),
            ),
            second=TwoStream.of(convolution, features, features, 3),
            stages=stages,
            recompute=recompute,
        )


def glfcr(**kwargs: Any) -> GLFCR:
    """GLF-CR model.

    If you use this model in your research, please cite the following papers:

    * https://doi.org/10.1016/j.isprsjprs.2022.08.002
    * https://doi.org/10.1109/TGRS.2023.3337845

    No weights for Planet-CR have been published. Read a checkpoint of the authors'
    code with :func:`~torchgeo_planetcr.models.load_reference_checkpoint`.

    Args:
        **kwargs: Additional keyword arguments to pass to :class:`GLFCR`.

    Returns:
        A GLF-CR model.
    """
    return GLFCR(**kwargs)
