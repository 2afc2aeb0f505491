# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Properties that all augmentations of batches share."""

from collections.abc import Callable

import kornia.augmentation as K
import pytest
import torch
from augmentations import CHANGES
from torch import Tensor
from torchgeo.datasets.utils import Sample

from torchgeo_planetcr.transforms import (
    BatchAugmentation,
    RandomBackscatterGain,
    RandomClouds,
    RandomFlipsAndTurns,
    RandomModalityDropout,
    RandomSpeckle,
)

#: Those that take images, and the key of theirs.
OF_IMAGES: dict[type[BatchAugmentation], str] = {
    RandomBackscatterGain: 'image_s1',
    RandomClouds: 'image_clear',
    RandomModalityDropout: 'image_s1',
    RandomSpeckle: 'image_s1',
}

type MakeBatch = Callable[..., Sample]

each = pytest.mark.parametrize('augmentation', CHANGES)
each_of_images = pytest.mark.parametrize('augmentation', OF_IMAGES)


def equal(first: Sample, second: Sample) -> bool:
    assert first.keys() == second.keys()
    return all(torch.equal(first[key], second[key]) for key in first)


def changed(before: Tensor, after: Tensor) -> list[bool]:
    """Find the samples that differ."""
    return [not torch.equal(*pair) for pair in zip(before, after, strict=True)]


@each
def test_only_own_keys(
    augmentation: type[BatchAugmentation], make_batch: MakeBatch
) -> None:
    torch.manual_seed(0)
    batch = make_batch()
    before = {key: value.clone() for key, value in batch.items()}
    output = augmentation(p=1)(batch)
    assert equal(before, batch)
    assert output.keys() == batch.keys()
    for key, value in output.items():
        if key in CHANGES[augmentation]:
            assert all(changed(batch[key], value))
            assert value.shape == batch[key].shape
            assert value.dtype == batch[key].dtype
        else:
            assert value is batch[key]
    for key in ('image', 'image_s1'):
        assert 0 <= output[key].min() < output[key].max() <= 1 or (
            augmentation is RandomModalityDropout
        )


@each
def test_never(augmentation: type[BatchAugmentation], make_batch: MakeBatch) -> None:
    batch = make_batch()
    assert equal(augmentation(p=0)(batch), batch)


@each
def test_each_sample_or_not(
    augmentation: type[BatchAugmentation], make_batch: MakeBatch
) -> None:
    torch.manual_seed(1)
    batch, transform = make_batch(), augmentation(p=0.5)
    output = transform(batch)
    chosen = (transform._params['batch_prob'] > 0.5).tolist()
    assert 0 < sum(chosen) < len(chosen)
    for key in CHANGES[augmentation]:
        assert changed(batch[key], output[key]) == chosen


@each
@pytest.mark.parametrize('same_on_batch', [False, True])
def test_params_repeat(
    augmentation: type[BatchAugmentation], same_on_batch: bool, make_batch: MakeBatch
) -> None:
    torch.manual_seed(0)
    batch = make_batch()
    transform = augmentation(p=0.7, same_on_batch=same_on_batch)
    first = transform(batch)
    params = {key: value.clone() for key, value in transform._params.items()}
    # No parameter is a field, which would have to be copied to the device
    assert all(value.numel() <= 6 for value in params.values())
    assert not all(equal(first, transform(batch)) for _ in range(10))
    again = augmentation(p=0.7, same_on_batch=same_on_batch)(batch, params=params)
    assert equal(first, again)


@each
def test_seed(augmentation: type[BatchAugmentation], make_batch: MakeBatch) -> None:
    outputs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        outputs.append(augmentation(p=0.5)(make_batch()))
    assert equal(outputs[0], outputs[1])
    assert not equal(outputs[0], outputs[2])


@each
def test_same_on_batch(
    augmentation: type[BatchAugmentation], make_batch: MakeBatch
) -> None:
    """Equal samples stay equal."""
    batch = {key: torch.cat([value[:1]] * 3) for key, value in make_batch().items()}
    torch.manual_seed(0)
    results = set()
    for _ in range(10):
        output = augmentation(p=0.5, same_on_batch=True)(batch)
        for value in output.values():
            assert torch.equal(value, value[:1].expand_as(value))
        results.add(equal(output, batch))
    assert results == {False, True}


@each
@pytest.mark.parametrize(
    ('count', 'optical', 'sar'),
    [(1, (30, 44), None), (2, (160, 160), (48, 48)), (3, (20, 30), (6, 9))],
)
def test_any_size(
    augmentation: type[BatchAugmentation],
    count: int,
    optical: tuple[int, int],
    sar: tuple[int, int] | None,
    make_batch: MakeBatch,
) -> None:
    """A batch may have one sample, and Sentinel-1 its own grid."""
    batch = make_batch(count, optical, sar)
    output = augmentation(p=1)(batch)
    for key, value in batch.items():
        assert output[key].shape == value.shape
        assert output[key].isfinite().all()


@each
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16, torch.float64])
def test_types(
    augmentation: type[BatchAugmentation], dtype: torch.dtype, make_batch: MakeBatch
) -> None:
    batch = make_batch()
    torch.manual_seed(0)
    expected = augmentation(p=1)(batch)
    images = {k: v.to(dtype) for k, v in batch.items() if k.startswith('image')}
    mask = {'mask_cloud': batch['mask_cloud'].bool()}
    torch.manual_seed(0)
    output = augmentation(p=1)({**batch, **images, **mask})
    for key in images:
        assert output[key].dtype == dtype
        torch.testing.assert_close(
            output[key].double(), expected[key].double(), rtol=0, atol=0.02
        )
    assert output['mask_cloud'].dtype == torch.bool


@each
def test_autocast(augmentation: type[BatchAugmentation], make_batch: MakeBatch) -> None:
    outputs = []
    for enabled in (False, True):
        torch.manual_seed(0)
        with torch.autocast('cpu', torch.bfloat16, enabled=enabled):
            outputs.append(augmentation(p=1)(make_batch()))
    assert equal(*outputs)


@each
def test_missing_key(
    augmentation: type[BatchAugmentation], make_batch: MakeBatch
) -> None:
    batch = make_batch()
    for key in augmentation.keys:
        rest = {name: value for name, value in batch.items() if name != key}
        if augmentation.is_optional:
            assert equal(augmentation(p=1)(rest), rest)
            continue
        message = f"no '{key}', which {augmentation.__name__} needs"
        with pytest.raises(ValueError, match=message):
            augmentation()(rest)


def test_radar_is_optional() -> None:
    """Whoever trains without Sentinel-1 need not change the augmentations."""
    optional = {kind for kind in CHANGES if kind.is_optional}
    assert optional == {kind for kind in CHANGES if kind.keys == ('image_s1',)}


@each_of_images
def test_images(augmentation: type[BatchAugmentation], make_batch: MakeBatch) -> None:
    """They work in Kornia's containers, which leave masks as they are."""
    torch.manual_seed(0)
    key = OF_IMAGES[augmentation]
    batch = make_batch()
    image, mask = batch[key], batch['mask_cloud'].float()[:, None]
    sequential = K.AugmentationSequential(
        augmentation(p=0.5), data_keys=['input', 'mask']
    )
    output = sequential(image, mask)
    assert torch.equal(output[1], mask)
    transform = sequential[0]
    assert isinstance(transform, augmentation)
    chosen = (transform._params['batch_prob'] > 0.5).tolist()
    assert changed(image, output[0]) == chosen
    again = sequential(image, mask, params=sequential._params)
    assert torch.equal(again[0], output[0])

    # It does the same to a batch
    augmented = augmentation(p=0.5)(batch, params=transform._params)
    for i in range(len(chosen)):
        if chosen[i]:
            target = 'image' if key == 'image_clear' else key
            assert torch.equal(augmented[target][i], output[0][i])


@each_of_images
def test_one_image(
    augmentation: type[BatchAugmentation], make_batch: MakeBatch
) -> None:
    image = make_batch()[OF_IMAGES[augmentation]][0]
    assert augmentation(p=1)(image).shape == (1, *image.shape)
    assert augmentation(p=1, keepdim=True)(image).shape == image.shape


def test_in_sequence(make_batch: MakeBatch) -> None:
    """They work one after the other, as in the data module."""
    torch.manual_seed(0)
    batch = make_batch()
    sequence = torch.nn.Sequential(
        *(augmentation(p=1) for augmentation in CHANGES), RandomFlipsAndTurns()
    )
    output = sequence(batch)
    assert output.keys() == batch.keys()
    for key in ('image', 'image_s1', 'mask_cloud'):
        assert all(changed(batch[key], output[key]))
