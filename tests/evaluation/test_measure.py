# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn
from torchgeo.tasks import SemanticSegmentation

from torchgeo_planetcr import PlanetCR
from torchgeo_planetcr.evaluation import EvaluationPatches, load_methods
from torchgeo_planetcr.evaluation.landcover import confusion, predict_landcover
from torchgeo_planetcr.evaluation.measure import AreaConfusion, Measurement
from torchgeo_planetcr.metrics import PROTOCOLS
from torchgeo_planetcr.models import Copy
from torchgeo_planetcr.transforms import PlanetCRNormalize

SIZE = 40


class Noisy(nn.Module):
    """What it returns depends on its mode, as with dropout and batch normalization."""

    def forward(self, image: Tensor, image_s1: Tensor) -> Tensor:
        return image + 0.1 * self.training


class Darker(nn.Module):
    """Puts a value in the place of bright ones."""

    def __init__(self, value: float = 0) -> None:
        super().__init__()
        self.value = value

    def forward(self, image: Tensor, image_s1: Tensor) -> Tensor:
        return image.masked_fill(image > 0.6, self.value)


class Bad(nn.Module):
    """Fails on one image, in one pixel of a band."""

    def __init__(self, image: Tensor, value: float) -> None:
        super().__init__()
        self.image = image
        self.value = value

    def forward(self, image: Tensor, image_s1: Tensor) -> Tensor:
        image = image.clone()
        image[(image == self.image).all(dim=(1, 2, 3)), 1, 2, 3] = self.value
        return image


@pytest.fixture(scope='module')
def patches(cloudy_root: Path) -> EvaluationPatches:
    """Patches with clouds in their center."""
    return EvaluationPatches(PlanetCR(cloudy_root, 'test'), SIZE)


def measure(
    methods: Mapping[str, nn.Module | str], patches: EvaluationPatches, **kwargs: Any
) -> Measurement:
    measurement = Measurement(
        load_methods(methods, patches),
        PROTOCOLS['standard'].metrics,
        patches,
        [0, 1, 1],
        **kwargs,
    )
    trainer = Trainer(
        accelerator='cpu',
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.test(measurement, verbose=False)
    return measurement


def test_values(patches: EvaluationPatches) -> None:
    """Those of each patch, from its files."""
    measurement = measure({'copy': Copy(), 'other': Darker()}, patches)
    assert list(measurement.values) == ['copy', 'other']
    normalize = PlanetCRNormalize()
    for name, method in zip(('copy', 'other'), (Copy(), Darker())):
        values = measurement.values[name]
        for number in range(3):
            sample = normalize(patches[number])
            assert 0.3 < sample['mask_cloud'].double().mean() < 0.5
            pair = method(sample['image'], sample['image_s1']), sample['image_clear']
            expected = [
                metric().image_values(*(image[None] for image in pair)).item()
                for metric in PROTOCOLS['standard'].metrics.values()
            ]
            found = values.images[number].tolist()
            assert found == pytest.approx(expected, rel=1e-6)
            mae = (pair[0] - pair[1]).abs().mean(dim=0).double()
            for cloud in range(2):
                chosen = sample['mask_cloud'] == cloud
                assert values.pixels[number, cloud].sum() == chosen.sum()
                total = values.sums[number, 2, cloud].sum().item()
                assert total == pytest.approx(mae[chosen].sum().item(), rel=1e-6)
            for index in range(11):
                count = (sample['mask'] == index).sum()
                assert values.pixels[number, :, index].sum() == count
    assert measurement.num_no_data == 0
    assert measurement.landcover == {}


@pytest.mark.parametrize(('batch_size', 'num_workers'), [(2, 0), (3, 0), (1, 1)])
def test_batches(patches: EvaluationPatches, batch_size: int, num_workers: int) -> None:
    expected = measure({'copy': Copy()}, patches).values['copy']
    found = measure(
        {'copy': Copy()}, patches, batch_size=batch_size, num_workers=num_workers
    ).values['copy']
    for value, other in zip(found, expected):
        torch.testing.assert_close(value, other, rtol=1e-6, atol=0)


def test_evaluation_mode(patches: EvaluationPatches) -> None:
    """Also when a patch is restored again, after Lightning is done."""
    measurement = measure({'noisy': Noisy(), 'copy': Copy()}, patches)
    noisy, copy = measurement.values.values()
    assert torch.equal(noisy.images, copy.images)
    prediction = measurement.restore_patch(1)['prediction']
    assert torch.equal(prediction[0], prediction[1])


def test_restored_patch(patches: EvaluationPatches) -> None:
    measurement = measure({'copy': Copy(), 'other': Darker(0.1)}, patches)
    found, sample = measurement.restore_patch(2), patches[2]
    prediction = found.pop('prediction')
    assert prediction.shape == (2, 4, SIZE, SIZE)
    assert found.keys() == sample.keys()
    for key in ('image', 'image_clear', 'image_s1'):
        torch.testing.assert_close(found[key], sample[key], rtol=1e-5, atol=1e-2)
    for key in ('mask', 'mask_cloud', 'bounds', 'crs', 'patch'):
        assert torch.equal(found[key], sample[key])
    torch.testing.assert_close(prediction[0], sample['image'], rtol=1e-5, atol=1e-2)
    expected = sample['image'].masked_fill(sample['image'] > 6000, 1000)
    torch.testing.assert_close(prediction[1], expected, rtol=1e-5, atol=1e-2)


@pytest.mark.parametrize('value', [torch.nan, torch.inf, -1e20])
@pytest.mark.parametrize('number', [0, 2])
def test_invalid_values(patches: EvaluationPatches, number: int, value: float) -> None:
    """The error names the method and the patch."""
    bad = Bad(PlanetCRNormalize()(patches[number])['image'], value)
    match = f'bad makes values that are .* huge of {patches.names[number]}'
    with pytest.raises(ValueError, match=match):
        measure({'copy': Copy(), 'bad': bad}, patches, batch_size=3)


def test_other_shape(patches: EvaluationPatches) -> None:
    class Crop(nn.Module):
        def forward(self, image: Tensor, image_s1: Tensor) -> Tensor:
            return image[..., 1:]

    match = r'crop makes images of shape \(1, 4, 40, 39\) instead of \(1, 4, 40, 40\)'
    with pytest.raises(ValueError, match=match):
        measure({'crop': Crop()}, patches)


def test_no_data(own_root: Path) -> None:
    """Pixels are counted once, whether one image has no data or both."""
    columns = {'planet_cloudy': slice(140, 150), 'planet_cloudfree': slice(145, 160)}
    for kind, chosen in columns.items():
        (path,) = own_root.glob(f'test/{kind}_summer/*/*.tif')
        with rasterio.open(path, 'r+') as dst:
            array = dst.read()
            array[:, 150, chosen] = 0
            # There are other bands
            array[0, 151, chosen] = 0
            dst.write(array)
    patches = EvaluationPatches(PlanetCR(own_root, 'test'), SIZE)
    assert measure({'copy': Copy()}, patches).num_no_data == 20


@pytest.mark.parametrize('value', [np.nan, np.inf])
@pytest.mark.parametrize('kind', ['planet_cloudy', 'planet_cloudfree'])
def test_invalid_data(own_root: Path, kind: str, value: float) -> None:
    """The error names the patch, and no method."""
    path = max(own_root.glob(f'test/{kind}_*/*/*.tif'))
    with rasterio.open(path) as src:
        array, profile = src.read().astype('float32'), src.profile
    array[1, 150, 150] = value
    path.unlink()
    with rasterio.open(path, 'w', **(profile | {'dtype': 'float32'})) as dst:
        dst.write(array)
    patches = EvaluationPatches(PlanetCR(own_root, 'test'), SIZE)
    name = path.stem.removeprefix(f'{kind}_')
    assert name in patches.names
    with pytest.raises(ValueError, match=rf'{name}\.tif has values that are NaN or'):
        measure({'copy': 'copy'}, patches, batch_size=2)


@pytest.mark.parametrize('batch_size', [1, 2])
def test_values_beyond(patches: EvaluationPatches, batch_size: int) -> None:
    methods = {
        'copy': 'copy',
        'low': Darker(-0.1),
        'high': Darker(1.1),
        'one': Darker(1),
    }
    found = measure(methods, patches, batch_size=batch_size).share_beyond
    images = torch.stack([patches[number]['image'] for number in range(3)])
    share = (images > 6000).double().mean().item()
    assert 0.1 < share < 0.9
    assert list(found) == list(methods)
    assert found['low'] == pytest.approx(share)
    assert found['high'] == pytest.approx(share)
    assert found['one'] == 0
    assert found['copy'] == pytest.approx((images > 10000).double().mean().item())


class TestLandCover:
    @pytest.mark.parametrize('num_classes', [7, 11])
    def test_counts(self, patches: EvaluationPatches, num_classes: int) -> None:
        torch.manual_seed(0)
        model = SemanticSegmentation(
            'fcn', num_filters=8, in_channels=4, num_classes=num_classes
        ).eval()
        # Without biases, what is mapped depends on the image
        for parameter in model.parameters():
            if parameter.ndim == 1:
                nn.init.zeros_(parameter)
        methods = {'copy': 'copy', 'same': Copy(), 'other': Darker()}
        measurement = measure(methods, patches, landcover_model=model)
        found = measurement.landcover
        # 'copy' would be 'cloudy' once more
        assert list(found) == ['clear', 'cloudy', 'same', 'other']
        assert torch.equal(found['cloudy'], found['same'])
        assert not torch.equal(found['cloudy'], found['other'])
        assert not torch.equal(found['cloudy'], found['clear'])

        expected = torch.zeros(2, 2, num_classes, num_classes, dtype=torch.int64)
        labeled = PlanetCR(
            patches.dataset.root, 'test', landcover_level=1 if num_classes == 7 else 2
        )
        for number, area in enumerate((0, 1, 1)):
            sample = PlanetCRNormalize()(labeled[patches.windows[number]])
            prediction = predict_landcover(model, sample['image_clear'][None])
            mask, mask_cloud = sample['mask'][None], sample['mask_cloud'][None]
            counts = confusion(prediction, mask, mask_cloud, num_classes)
            expected[area] += counts[0]
        assert torch.equal(found['clear'], expected)

    def test_processes(self) -> None:
        generator = torch.Generator().manual_seed(0)
        shape = (5, 6, 7)
        prediction, mask = torch.randint(0, 4, (2, *shape), generator=generator)
        mask_cloud = torch.randint(0, 2, shape, generator=generator)
        areas = torch.tensor([1, 0, 1, 1, 2])

        def make(rows: list[int]) -> AreaConfusion:
            metric = AreaConfusion(3, 4)
            metric.update(areas[rows], prediction[rows], mask[rows], mask_cloud[rows])
            return metric

        whole, first = make([0, 1, 2, 3, 4]), make([3, 0])
        first.merge_state(make([4, 2, 1]))
        assert torch.equal(first.compute(), whole.compute())
        assert whole.compute().sum(dim=(1, 2, 3)).tolist() == [42, 126, 42]
