# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Segmentation architectures that predict what removes the clouds."""

import os
import warnings
from pickle import UnpicklingError
from typing import Any

import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn
from torchgeo.models import get_weight
from torchgeo.tasks.utils import extract_backbone
from torchvision.models._api import WeightsEnum

from ..checkpoint import read_checkpoint
from .checkpoint import holds_weights, load_weights
from .utils import check_inputs, crop_to, pad_to_multiple

#: Names of the architectures: those of segmentation_models_pytorch, and TorchGeo's for
#: one of them.
ARCHITECTURES: tuple[str, ...] = (*smp.MODEL_ARCHITECTURES_MAPPING, 'deeplabv3+')


class EncoderDecoder(nn.Module):
    r"""Architecture of segmentation_models_pytorch, with any backbone.

    The optical and the Sentinel-1 image are concatenated. The network predicts what has
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
                None for random weights, or the path of a checkpoint of TorchGeo. Or
                those of the whole network: the path of a checkpoint of `planetcr fit`,
                or of a file with its state dict.
            in_channels: Number of channels of the optical image and of the output.
            sar_channels: Number of channels of the Sentinel-1 image, 0 to do without.
            **kwargs: Additional keyword arguments to pass to the architecture.

        Raises:
            ValueError: If *architecture* or *weights* is not known, or the weights
                cannot be read or do not fit.

        Warns:
            UserWarning: If the weights are for images of other channels, so that the
                first layer starts from random values.
        """
        super().__init__()
        self.in_channels = in_channels
        self.sar_channels = sar_channels
        if architecture not in ARCHITECTURES:
            raise ValueError(
                f'architecture must be one of {", ".join(map(repr, ARCHITECTURES))}, '
                f'got {architecture!r}'
            )

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
            raise ValueError(
                f'backbone {backbone!r} is not known, or has no such weights: {error}'
            ) from error
        #: Whether all initial weights were given, and not only those of the backbone.
        self.has_all_weights = False
        if weights and weights is not True:
            self._load(backbone, weights)

    def forward(self, image: Tensor, image_s1: Tensor) -> Tensor:
        """Forward pass of the model.

        Args:
            image: Cloudy optical image of shape (B, in_channels, H, W), normalized to
                [0, 1]. H and W are at least the output stride of the backbone, 32 for
                most; unless they are multiples of it, the image is padded by
                reflection at the bottom and on the right, and the output cropped.
            image_s1: Sentinel-1 image of shape (B, sar_channels, H, W), normalized to
                [0, 1].

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

    def _load(self, backbone: str, weights: WeightsEnum | str) -> None:
        """Load the weights of the whole network, or of its backbone."""
        if not isinstance(weights, str) or not os.path.exists(weights):
            state_dict = _published_weights(weights)
        else:
            checkpoint = read_checkpoint(weights)
            self.has_all_weights = holds_weights(self, checkpoint)
            if self.has_all_weights:
                load_weights(self, checkpoint, weights)
                return
            state_dict = _backbone_of_task(weights)
        _load_backbone(self.network.encoder, backbone, state_dict, weights)


def _load_backbone(
    encoder: nn.Module,
    backbone: str,
    state_dict: dict[str, Tensor],
    weights: WeightsEnum | str,
) -> None:
    """Load weights into a backbone, or raise a ValueError."""
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
        warnings.warn(
            f'{weights} are for {given.shape[1]} channels and not for '
            f'{layer.weight.shape[1]}: the first layer starts from random values',
            UserWarning,
            stacklevel=4,
        )
        state_dict[f'{name}.weight'] = layer.weight.detach()
    try:
        encoder.load_state_dict(state_dict)
    except RuntimeError as error:
        raise ValueError(
            f'weights {weights} do not fit the backbone {backbone}: {error}'
        ) from error


def _backbone_of_task(path: str) -> dict[str, Tensor]:
    """Read the weights of a backbone from a checkpoint of TorchGeo."""
    try:
        return dict(extract_backbone(path)[1])
    # Of a file without pickle, PyTorch says that it is damaged
    except (AttributeError, KeyError, TypeError, ValueError, UnpicklingError) as error:
        raise ValueError(
            f"'{path}' is not a checkpoint of a task of TorchGeo that has a "
            'backbone, nor one of this network'
        ) from error


def _published_weights(weights: WeightsEnum | str) -> dict[str, Tensor]:
    """Fetch the weights of a backbone that TorchGeo has."""
    if isinstance(weights, str):
        try:
            weights = get_weight(weights)
        except ValueError as error:
            raise ValueError(
                f"{weights!r} is neither an existing file nor the name of TorchGeo's "
                "weights, e.g. 'ResNet50_Weights.SENTINEL2_ALL_MOCO'"
            ) from error
    return dict(
        weights.get_state_dict(progress=True, check_hash=True, weights_only=True)
    )
