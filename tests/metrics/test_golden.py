# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""What the authors' code returns on the patch fall_1_p_457 that they publish."""

from pathlib import Path

import pytest
from torch.nn.functional import avg_pool2d, l1_loss
from torchgeo.datasets.utils import Sample

from torchgeo_planetcr.datasets import PlanetCR
from torchgeo_planetcr.losses import CARLLoss, EdgeWeightedCharbonnierLoss
from torchgeo_planetcr.metrics import (
    ReferenceMAE,
    ReferencePSNR,
    ReferenceSAM,
    ReferenceSSIM,
)
from torchgeo_planetcr.transforms import PlanetCRNormalize

VALUES = {
    (300, 'copy'): {
        'PSNR': 16.744679937477272,
        'SSIM': 0.6523928046226501,
        'SAM': 24.59504508972168,
        'MAE': 0.11078882217407227,
        'CARL': 0.18732765316963196,
        'Charbonnier': 0.5849608778953552,
    },
    (300, 'blur'): {
        'PSNR': 16.852154407678547,
        'SSIM': 0.6570661664009094,
        'SAM': 24.59477424621582,
        'MAE': 0.10952407866716385,
        'CARL': 0.18641602993011475,
        'Charbonnier': 0.5775412321090698,
    },
    (160, 'copy'): {
        'PSNR': 21.88338274278033,
        'SSIM': 0.770215630531311,
        'SAM': 23.090463638305664,
        'MAE': 0.06688600033521652,
        'CARL': 0.0820060446858406,
        'Charbonnier': 0.17861182987689972,
    },
    (160, 'blur'): {
        'PSNR': 22.09292221824174,
        'SSIM': 0.7720706462860107,
        'SAM': 23.087289810180664,
        'MAE': 0.06552925705909729,
        'CARL': 0.08282580226659775,
        'Charbonnier': 0.17140334844589233,
    },
}


@pytest.fixture
def sample(sample_root: Path) -> Sample:
    return PlanetCRNormalize()(PlanetCR(sample_root, 'train')[:])


@pytest.mark.parametrize(('crop', 'prediction'), VALUES)
def test_values(sample: Sample, crop: int, prediction: str) -> None:
    start = (300 - crop) // 2
    window = slice(start, start + crop)
    image = sample['image'][None, :, window, window]
    target = sample['image_clear'][None, :, window, window]
    mask_cloud = sample['mask_cloud'][None, window, window]
    p = image if prediction == 'copy' else avg_pool2d(image, 5, stride=1, padding=2)

    values = {
        'CARL': CARLLoss()(p, target, image, mask_cloud).item(),
        'Charbonnier': EdgeWeightedCharbonnierLoss()(
            p, target, image, mask_cloud
        ).item(),
    }
    for name, metric in {
        'PSNR': ReferencePSNR(),
        'SSIM': ReferenceSSIM(),
        'SAM': ReferenceSAM(),
        'MAE': ReferenceMAE(),
    }.items():
        metric.update(p, target)
        values[name] = metric.compute().item()

    expected = VALUES[crop, prediction]
    assert values == pytest.approx(expected, rel=1e-5)
    assert l1_loss(p, target).item() == pytest.approx(expected['MAE'], rel=1e-5)
