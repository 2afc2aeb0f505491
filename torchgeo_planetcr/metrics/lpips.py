# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Perceptual similarity, whose weights must be installed."""

import os
from typing import Any

import torch
from torch import Tensor
from torchmetrics.functional.image.lpips import _NoTrainLpips
from torchvision.models import AlexNet_Weights

from ..checkpoint import read_checkpoint
from ..datasets.modalities import RGB_INDICES
from .image import ImageMetric


class LPIPS(ImageMetric):
    """Learned perceptual image patch similarity (LPIPS), lower is better.

    Distance between the features that AlexNet finds in both images, of which it sees
    red, green and blue, as reflectance clamped to [0, 1] without a stretch. Range: not
    negative, and 0 where both are equal. Computed by torchmetrics, whose package holds
    the weights of the distance. The weights of AlexNet are those of torchvision, and
    are not downloaded.

    The metric is described in https://doi.org/10.1109/CVPR.2018.00068.
    """

    higher_is_better = False
    clamps = True
    definition = (
        'Distance of AlexNet features of red, green and blue, clamped to [0, 1], '
        'without a stretch: satellite images are dark in it, so it differs from papers '
        'that stretch them.'
    )

    def __init__(self, **kwargs: Any) -> None:
        """Initialize a new LPIPS instance.

        Args:
            **kwargs: Additional keyword arguments to pass to
                :class:`torchmetrics.Metric`.

        Raises:
            FileNotFoundError: If the weights of AlexNet are not installed.
            ValueError: If their file is damaged, or holds something else.
        """
        super().__init__(**kwargs)
        path = self.weights_path()
        if not os.path.isfile(path):
            raise FileNotFoundError(
                f"The weights of AlexNet are not in '{path}': download "
                f'{AlexNet_Weights.DEFAULT.url} and put the file there'
            )

        # torchvision would unpickle the file, so the backbone starts at random
        self.network = _NoTrainLpips(net='alex', pnet_rand=True)
        weights = read_checkpoint(path)
        backbone = self.network.net
        try:
            backbone.load_state_dict(
                {
                    name: weights[name.replace(name.split('.')[0], 'features')]
                    for name in backbone.state_dict()
                }
            )
        # A file of something else may hold anything
        except Exception as error:
            raise ValueError(
                f"'{path}' does not hold the weights of AlexNet: download "
                f'{AlexNet_Weights.DEFAULT.url} again'
            ) from error

    @staticmethod
    def weights_path() -> str:
        """Path where torchvision keeps the weights of AlexNet.

        Returns:
            A path in the cache of :mod:`torch.hub`, whether there is a file or not.
        """
        name = os.path.basename(AlexNet_Weights.DEFAULT.url)
        return os.path.join(torch.hub.get_dir(), 'checkpoints', name)

    def _image_values(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Compute the LPIPS of each image, see :meth:`ImageMetric._image_values`."""
        distance: Tensor = self.network(
            prediction[:, RGB_INDICES], target[:, RGB_INDICES], normalize=True
        )
        return distance.flatten()
