# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Protocols: what exactly is measured, and on which pixels."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

from .image import ImageMetric
from .reference import (
    ReferenceMAE,
    ReferencePSNR,
    ReferenceRMSE,
    ReferenceSAM,
    ReferenceSSIM,
)
from .standard import StandardMAE, StandardPSNR, StandardRMSE, StandardSAM, StandardSSIM


class Protocol(NamedTuple):
    """How methods are compared. Figures of two protocols cannot be compared."""

    #: Size of the window in the center of each patch, None for the whole patch.
    size: int | None
    #: How modalities of 10 m are put on the 3 m grid.
    alignment: Literal['geo', 'reference']
    #: Metrics by name.
    metrics: Mapping[str, type[ImageMetric]]
    #: What a reader of the figures has to know.
    description: str


#: Protocols by name. The reference is that of the code of the authors of Planet-CR, see
#: https://doi.org/10.1109/TGRS.2023.3337845.
PROTOCOLS: Mapping[str, Protocol] = {
    'reference': Protocol(
        160,
        'reference',
        {
            'PSNR': ReferencePSNR,
            'SSIM': ReferenceSSIM,
            'SAM': ReferenceSAM,
            'MAE': ReferenceMAE,
            'RMSE': ReferenceRMSE,
        },
        "As the authors' code does it: the prediction is not clamped, the window of SSIM "
        'lies half a pixel off, very dark pixels have large angles.',
    ),
    'standard': Protocol(
        None,
        'geo',
        {
            'PSNR': StandardPSNR,
            'SSIM': StandardSSIM,
            'SAM': StandardSAM,
            'MAE': StandardMAE,
            'RMSE': StandardRMSE,
        },
        'Prediction and target are clamped to [0, 1], the window of SSIM is centered, '
        'the angle is exact for dark pixels.',
    ),
}
