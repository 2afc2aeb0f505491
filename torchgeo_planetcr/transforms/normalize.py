# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Normalization of each modality by its own range."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torchgeo.datasets.utils import Sample

from ..datasets.modalities import MODALITIES

#: Lower and upper bound of each channel that is mapped to [0, 1], for each key of a
#: sample: surface reflectance x 10000 of B, G, R, NIR, and backscatter of VV, VH in dB.
PLANETCR_RANGES: Mapping[str, tuple[Sequence[float], Sequence[float]]] = {
    **{row.key: (row.lower, row.upper) for row in MODALITIES.values() if row.is_image},
    'prediction': (MODALITIES['clear'].lower, MODALITIES['clear'].upper),
}


class PlanetCRNormalize(nn.Module):
    r"""Clip each channel to a range and scale the range to [0, 1].

    .. math::

        \min\left(\max\left(\frac{x - l}{u - l}, 0\right), 1\right)

    with the lower bound *l* and the upper bound *u* of the channel. The default ranges
    are those of the authors of Planet-CR:

    * https://doi.org/10.1109/TGRS.2023.3337845
    """

    def __init__(
        self,
        ranges: Mapping[str, tuple[Sequence[float], Sequence[float]]] = PLANETCR_RANGES,
    ) -> None:
        """Initialize a new PlanetCRNormalize instance.

        Args:
            ranges: Lower and upper bounds of the channels, for each key to normalize.
        """
        super().__init__()
        self.keys = tuple(ranges)
        for key in self.keys:
            bounds = torch.tensor(ranges[key], dtype=torch.float32)
            # Constants do not belong in a checkpoint
            self.register_buffer(
                f'{key}_range', bounds[..., None, None], persistent=False
            )

    def forward(self, sample: Sample) -> Sample:
        """Normalize a sample or a batch.

        Args:
            sample: Images of shape (C, H, W) or (B, C, H, W), as read from file.

        Returns:
            A new dictionary with images in [0, 1]. Other keys are passed on, and keys
            that the sample does not have are skipped.
        """
        sample = dict(sample)
        for key, (lower, upper) in self._ranges(sample):
            scaled = (sample[key] - lower).div_(upper - lower)
            # Plain numbers take a third of the time that bounds of each channel take
            sample[key] = scaled.clamp_(0, 1)
        return sample

    def inverse(self, sample: Sample) -> Sample:
        """Scale a normalized sample or batch back to its units, without clipping.

        Args:
            sample: Images of shape (C, H, W) or (B, C, H, W), nominal range [0, 1].

        Returns:
            A new dictionary with images in surface reflectance x 10000 and in dB.
            Other keys are passed on, and keys that the sample does not have are
            skipped.
        """
        sample = dict(sample)
        for key, (lower, upper) in self._ranges(sample):
            sample[key] = sample[key] * (upper - lower) + lower
        return sample

    def _ranges(self, sample: Sample) -> list[tuple[str, Tensor]]:
        """List the keys of a sample to normalize, and their bounds of (2, C, 1, 1)."""
        keys = [key for key in self.keys if key in sample]
        # Lightning does not move a data module, and what it holds, to the device
        return [
            (key, self.get_buffer(f'{key}_range').to(sample[key].device))
            for key in keys
        ]
