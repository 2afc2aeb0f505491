# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""What the authors' code returns on the patch fall_1_p_457 that they publish."""

import os
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, l1_loss
from torchgeo.datasets.utils import Sample

from torchgeo_planetcr.losses import CARLLoss, EdgeWeightedCharbonnierLoss
from torchgeo_planetcr.metrics import (
    ReferenceMAE,
    ReferencePSNR,
    ReferenceSAM,
    ReferenceSSIM,
)
from torchgeo_planetcr.transforms import PlanetCRNormalize

ROOT = os.environ.get('PLANETCR_SAMPLE')

pytestmark = pytest.mark.skipif(
    not ROOT, reason='PLANETCR_SAMPLE is not the folder of the published patches'
)

# Sum, sum of squares, first and central value of the normalized images
LOADER = {
    'image': (
        76141.42580745369,
        19000.277318075496,
        0.15039999783039093,
        0.14399999380111694,
    ),
    'image_clear': (
        42846.323712769896,
        7683.78138286114,
        0.06849999725818634,
        0.06459999829530716,
    ),
    'image_s1': (
        9211.021884858608,
        5500.3391371828275,
        0.7700756192207336,
        0.6085265874862671,
    ),
}

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


def _read(kind: str) -> Tensor:
    path = Path(ROOT or '', 'train', f'{kind}_fall', f'{kind}_fall_1')
    with rasterio.open(path / f'{kind}_fall_1_p_457.tif') as src:
        return torch.from_numpy(src.read().astype(np.float32))


@pytest.fixture
def sample() -> Sample:
    name = 'train/cloudmask_fall/cloudmask_fall_1/cloudmask_fall_1_p_457.npy'
    mask_cloud = np.load(Path(ROOT or '', name), allow_pickle=False)
    sample = {
        'image': _read('planet_cloudy'),
        'image_clear': _read('planet_cloudfree'),
        'image_s1': _read('S1'),
        'mask_cloud': torch.from_numpy(mask_cloud).long(),
    }
    return PlanetCRNormalize()(sample)


@pytest.mark.parametrize('key', LOADER)
def test_loader(sample: Sample, key: str) -> None:
    image = sample[key]
    total, squares, first, centre = LOADER[key]
    assert image.double().sum().item() == pytest.approx(total, rel=1e-12)
    assert image.double().square().sum().item() == pytest.approx(squares, rel=1e-12)
    assert image[0, 0, 0].item() == first
    assert image[0, image.shape[1] // 2, image.shape[2] // 2].item() == centre


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
