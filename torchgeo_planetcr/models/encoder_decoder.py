# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Segmentation architectures that predict what removes the clouds."""

import os
import warnings
from typing import Any

import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn
from torchgeo.models import get_weight
from torchgeo.tasks.utils import extract_backbone
from torchvision.models._api import WeightsEnum

from .checkpoint import read_checkpoint
from .utils import check_inputs, crop_to, pad_to_multiple

#: Names of the architectures: those of segmentation_models_pytorch, and TorchGeo's for
#: one of them.
ARCHITECTURES: tuple[str, ...] = (*smp.MODEL_ARCHITECTURES_MAPPING, 'deeplabv3+')


class EncoderDecoder(nn.Module):
    r"""Architecture of segmentation_models_pytorch, with any backbone.

    The optical and the SAR image are concatenated, and the network predicts what has
    to be added to the optical image to remove its clouds:

    .. math::

        \hat{y} = x + f([x, s])

    If you use this model in your research, please cite the paper of the architecture,
    see https://smp.readthedocs.io/en/latest/models.html.
    """

    def __init__(
        self,
        architecture: str = 'unet',
        *,
        backbone: str = 'resnet50',
        weights: WeightsEnum | str | bool | None = None,
        in_channels: int = 4,
        sar_channels: int = 2,
        **kwargs: Any,
    ) -> None:
        """Initialize a new EncoderDecoder instance.

        Args:
            architecture: Name of the
                `architecture <https://smp.readthedocs.io/en/latest/models.html>`__, one
                of :data:`ARCHITECTURES`.
            backbone: Name of the
                `timm <https://smp.readthedocs.io/en/latest/encoders_timm.html>`__ or
                `smp <https://smp.readthedocs.io/en/latest/encoders.html>`__ backbone.
            weights: Initial weights of the backbone. Either a weight enum of TorchGeo,
                the string representation of one, True for ImageNet weights, False or
                None for random weights, or the path of a checkpoint of TorchGeo.
            in_channels: Number of channels of the optical image and of the output.
            sar_channels: Number of channels of the SAR image.
            **kwargs: Additional keyword arguments to pass to the architecture.

        Raises:
            ValueError: If *architecture* or *weights* is not known, or the weights
                cannot be read or do not fit *backbone*.

        Warns:
            UserWarning: If the weights are for images of other channels, so that the
                first layer starts from random values.
        """
        super().__init__()
        self.in_channels = in_channels
        self.sar_channels = sar_channels
        if architecture not in ARCHITECTURES:
            msg = f'architecture must be one of {", ".join(map(repr, ARCHITECTURES))}, '
            msg += f'got {architecture!r}.'
            raise ValueError(msg)

        # What smp calls the weights of its own backbones and of those of timm
        pretrained: Any = True if backbone.startswith('tu-') else 'imagenet'
        try:
            self.network: Any = smp.create_model(
                architecture.replace('+', 'plus'),
                encoder_name=backbone,
                encoder_weights=pretrained if weights is True else None,
                in_channels=in_channels + sar_channels,
                classes=in_channels,
                **kwargs,
            )
        except KeyError as error:
            msg = f'backbone {backbone!r} is not known, or has no such weights: {error}'
            raise ValueError(msg) from error
        if weights and weights is not True:
            _load_backbone(self.network.encoder, backbone, weights)

    def forward(self, image: Tensor, image_s1: Tensor) -> Tensor:
        """Forward pass of the model.

        Args:
            image: Cloudy optical image of shape (B, in_channels, H, W), normalized to
                [0, 1]. H and W are at least the output stride of the backbone, 32 for
                most; unless they are multiples of it, the image is padded by
                reflection at the bottom and on the right, and the output cropped.
            image_s1: SAR image of shape (B, sar_channels, H, W), normalized to [0, 1].

        Returns:
            The restored optical image of shape (B, in_channels, H, W), not clamped.

        Raises:
            ValueError: If *image* or *image_s1* has another shape, is too small, or has
                values that are not finite.
        """
        stride = self.network.encoder.output_stride
        check_inputs(image, image_s1, self.in_channels, self.sar_channels, stride)
        inputs = pad_to_multiple(torch.cat([image, image_s1], dim=1), stride)
        residual: Tensor = self.network(inputs)
        return image + crop_to(residual, image.shape[-2:])


def _load_backbone(
    encoder: nn.Module, backbone: str, weights: WeightsEnum | str
) -> None:
    """Load weights into a backbone.

    Args:
        encoder: The backbone.
        backbone: Its name.
        weights: Weights of TorchGeo, their name, or the path of a checkpoint.

    Raises:
        ValueError: If the weights are not known, cannot be read, or do not fit.
    """
    if isinstance(weights, str) and os.path.exists(weights):
        read_checkpoint(weights)
        try:
            _, state_dict = extract_backbone(weights)
        except (KeyError, TypeError, ValueError) as error:
            msg = f"'{weights}' is not a checkpoint of a task of TorchGeo that has a "
            msg += 'backbone.'
            raise ValueError(msg) from error
    else:
        if isinstance(weights, str):
            try:
                weights = get_weight(weights)
            except ValueError as error:
                msg = f'{weights!r} is neither an existing file nor the name of '
                msg += "TorchGeo's weights, e.g. 'ResNet50_Weights.SENTINEL2_ALL_MOCO'."
                raise ValueError(msg) from error
        state_dict = dict(
            weights.get_state_dict(progress=True, check_hash=True, weights_only=True)
        )

    if backbone.startswith('tu-'):
        # smp wraps the backbones of timm, and leaves out their head
        encoder: Any = encoder.model
        head = state_dict.keys() - encoder.state_dict().keys()
        state_dict = {k: v for k, v in state_dict.items() if k not in head}
    name, layer = next(
        (name, module)
        for name, module in encoder.named_modules()
        if isinstance(module, nn.Conv2d)
    )
    given = state_dict.get(f'{name}.weight', layer.weight)
    if given.shape[1] != layer.weight.shape[1]:
        msg = f'{weights} are for {given.shape[1]} channels and not for '
        msg += f'{layer.weight.shape[1]}: the first layer starts from random values.'
        warnings.warn(msg, UserWarning, stacklevel=3)
        state_dict[f'{name}.weight'] = layer.weight.detach()
    try:
        encoder.load_state_dict(state_dict)
    except RuntimeError as error:
        msg = f'weights {weights} do not fit the backbone {backbone}: {error}'
        raise ValueError(msg) from error
