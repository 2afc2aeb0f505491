# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Values that the authors' code returns for the public patch fall_1_p_457."""

import math
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, l1_loss
from torchgeo.datasets.utils import Sample

from torchgeo_planetcr.datasets import PlanetCR, PlanetCRWorldCover
from torchgeo_planetcr.evaluation.statistics import Areas, estimate, strata
from torchgeo_planetcr.losses import CARLLoss, EdgeWeightedCharbonnierLoss
from torchgeo_planetcr.metrics import (
    PROTOCOLS,
    PatchMetrics,
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

#: MAE and SAM of each class of land cover of level 2; None where there is no pixel.
CLASS_VALUES: dict[tuple[int, str], dict[str, list[float | None]]] = {
    (300, 'copy'): {
        'MAE': [
            0.15611774460278421,
            None,
            0.07995674345228407,
            0.09544408246168604,
            0.1827639237190913,
            0.17976560524041704,
            None,
            None,
            None,
            None,
            None,
        ],
        'SAM': [
            35.48107638888889,
            None,
            27.903235057043652,
            21.479166666666668,
            25.37991599666262,
            23.49142592176259,
            None,
            None,
            None,
            None,
            None,
        ],
    },
    (300, 'blur'): {
        'MAE': [
            0.15469443238811728,
            None,
            0.08093192085387214,
            0.09419641260509287,
            0.18201402090128185,
            0.17983690440225944,
            None,
            None,
            None,
            None,
            None,
        ],
        'SAM': [
            35.522418338477365,
            None,
            28.250689794146826,
            21.469159917246238,
            25.32200963288835,
            23.38740164118705,
            None,
            None,
            None,
            None,
            None,
        ],
    },
    (160, 'copy'): {
        'MAE': [
            0.11164766467115277,
            None,
            0.09198333819707234,
            0.05720567217623514,
            0.12954992177535077,
            0.08911795182661576,
            None,
            None,
            None,
            None,
            None,
        ],
        'SAM': [
            33.04556644507952,
            None,
            33.912315368652344,
            21.113125266448773,
            26.18811497813411,
            27.562812943892045,
            None,
            None,
            None,
            None,
            None,
        ],
    },
    (160, 'blur'): {
        'MAE': [
            0.10833817590065078,
            None,
            0.09274749954541524,
            0.05646560608953863,
            0.11274441199121948,
            0.0887851281599565,
            None,
            None,
            None,
            None,
            None,
        ],
        'SAM': [
            33.10761213966203,
            None,
            34.28024546305338,
            21.101025531713326,
            25.992725605867346,
            27.44506170099432,
            None,
            None,
            None,
            None,
            None,
        ],
    },
}


@pytest.fixture
def sample(sample_root: Path) -> Sample:
    return PlanetCRNormalize()(PlanetCR(sample_root, 'train', alignment='reference')[:])


def crop_images(
    sample: Sample, crop: int, prediction: str
) -> tuple[Tensor, Tensor, Tensor, Sample]:
    """Cut out the center: input, target, prediction, and all as a batch of one."""
    start = (300 - crop) // 2
    window = slice(start, start + crop)
    batch = {
        key: value[None, ..., window, window]
        for key, value in sample.items()
        if value.ndim > 1
    }
    image, target = batch['image'], batch['image_clear']
    p = image if prediction == 'copy' else avg_pool2d(image, 5, stride=1, padding=2)
    return image, target, p, batch


@pytest.mark.parametrize(('crop', 'prediction'), VALUES)
def test_values(sample: Sample, crop: int, prediction: str) -> None:
    image, target, p, sample = crop_images(sample, crop, prediction)
    mask_cloud = sample['mask_cloud']

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


@pytest.mark.parametrize(('crop', 'prediction'), VALUES)
def test_values_of_patches(sample: Sample, crop: int, prediction: str) -> None:
    """The same values, and those of each class, follow from the sums of a patch."""
    _, target, p, sample = crop_images(sample, crop, prediction)
    names = {'PSNR', 'SSIM', 'SAM', 'MAE'}
    chosen = PROTOCOLS['reference'].metrics
    metrics = PatchMetrics({name: metric() for name, metric in chosen.items()}, 1, 11)
    number = torch.tensor([0])
    metrics.update(number, p, target, sample['mask_cloud'], sample['mask'])
    values = metrics.compute()
    patches = pd.DataFrame({'season': ['fall'], 'cloud_cover': [0.3]})
    areas = Areas(['fall_1'])
    figures = {
        (stratum.kind, stratum.name, metric): (value, found.pixels, found.patches)
        for stratum in strata(values, metrics, patches)
        for found in [estimate(stratum, metrics, areas)]
        for metric, value in zip(stratum.metrics, found.values.tolist())
    }
    expected = VALUES[crop, prediction]
    found = {name: figures['all', 'all', name][0] for name in names}
    assert found == pytest.approx({name: expected[name] for name in names}, rel=1e-5)

    total = 0
    for metric, by_class in CLASS_VALUES[crop, prediction].items():
        for number, (name, value) in enumerate(
            zip(PlanetCRWorldCover.classes[2], by_class, strict=True)
        ):
            figure, pixels, patches_with = figures['class level 2', name, metric]
            assert pixels == (sample['mask'] == number).sum()
            assert patches_with == (value is not None)
            wanted = math.nan if value is None else value
            assert figure == pytest.approx(wanted, rel=1e-5, nan_ok=True)
            total += pixels or 0
    assert total == 2 * crop**2
