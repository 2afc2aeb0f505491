# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import math
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from numpy.typing import NDArray
from torch import Tensor
from torchgeo.tasks import BaseTask, ChangeDetection, SemanticSegmentation
from torchmetrics.classification import MulticlassJaccardIndex
from torchmetrics.functional.classification import multiclass_confusion_matrix

from torchgeo_planetcr import CloudRemoval, PlanetCR
from torchgeo_planetcr.datasets import PlanetCRWorldCover
from torchgeo_planetcr.evaluation.landcover import (
    confusion,
    convert_level,
    landcover_figures,
    landcover_level,
    load_landcover_model,
    predict_landcover,
)
from torchgeo_planetcr.samplers import CenterNativePatchSampler

K = 5
CLASSES = tuple('abcde')
AREAS = 6
IMAGES = ('clear', 'cloudy', 'restored')
PIXELS = ('all', 'cloudy', 'clear')

Pixels = dict[str, Tensor]


@pytest.fixture(scope='module')
def pixels() -> Pixels:
    """Labels of two patches in each area, and predictions that are often right."""
    generator = torch.Generator().manual_seed(0)
    shape = (2 * AREAS, 8, 9)
    mask = torch.randint(0, 3, shape, generator=generator)
    # Class 3 is in one area alone, and 4 only predicted
    mask[0, 0] = 3
    mask[torch.rand(shape, generator=generator) < 0.1] = 255
    mask_cloud = torch.randint(0, 2, shape, generator=generator)
    mask_cloud[1] = 1
    mask_cloud[2] = 0
    found = {'mask': mask, 'mask_cloud': mask_cloud}
    for image, error in zip(IMAGES, (0.1, 0.6, 0.3)):
        prediction = torch.where(mask == 255, 1, mask)
        wrong = torch.rand(shape, generator=generator) < error
        prediction[wrong] = torch.randint(0, K, shape, generator=generator)[wrong]
        found[image] = prediction
    return found


@pytest.fixture(scope='module')
def confusions(pixels: Pixels) -> dict[str, NDArray[np.int64]]:
    return {
        image: confusion(pixels[image], pixels['mask'], pixels['mask_cloud'], K)
        .reshape(AREAS, 2, 2, K, K)
        .sum(dim=1)
        .numpy()
        for image in IMAGES
    }


@pytest.fixture(scope='module')
def weights() -> NDArray[np.int64]:
    rng = np.random.default_rng(0)
    return rng.multinomial(AREAS, np.full(AREAS, 1 / AREAS), size=50)


def slow_iou(
    pixels: Pixels, image: str, region: str, areas: list[int]
) -> dict[str, float]:
    """The same from the sets of pixels of each class, one after the other."""
    rows = [2 * area + patch for area in areas for patch in range(2)]
    mask = pixels['mask'][rows].numpy()
    prediction = pixels[image][rows].numpy()
    cloud = pixels['mask_cloud'][rows].numpy()
    counted = mask != 255
    if region != 'all':
        counted &= cloud == (region == 'cloudy')
    result = {}
    for i, name in enumerate(CLASSES):
        labeled = {*np.flatnonzero(counted & (mask == i))}
        predicted = {*np.flatnonzero(counted & (prediction == i))}
        if labeled:
            result[name] = len(labeled & predicted) / len(labeled | predicted)
    result['mean'] = sum(result.values()) / len(result)
    return result


def test_confusion(pixels: Pixels) -> None:
    mask, mask_cloud = pixels['mask'], pixels['mask_cloud']
    counts = confusion(pixels['cloudy'], mask, mask_cloud, K)
    assert counts.shape == (2 * AREAS, 2, K, K)
    assert counts.dtype == torch.int64
    assert counts.sum() == (mask != 255).sum()
    assert counts[1, 0].sum() == counts[2, 1].sum() == 0
    for i in range(2 * AREAS):
        for cloud in range(2):
            there = mask_cloud[i] == cloud
            if there.any():
                expected = multiclass_confusion_matrix(
                    pixels['cloudy'][i][there], mask[i][there], K, ignore_index=255
                )
                assert torch.equal(counts[i, cloud], expected)


def test_confusion_of_other_types(pixels: Pixels) -> None:
    mask, mask_cloud = pixels['mask'], pixels['mask_cloud']
    expected = confusion(pixels['cloudy'], mask, mask_cloud, K)
    counts = confusion(pixels['cloudy'].byte(), mask.byte(), mask_cloud.bool(), K)
    assert torch.equal(counts, expected)


def test_confusion_without_labels(pixels: Pixels) -> None:
    nothing = torch.full_like(pixels['mask'], 255)
    counts = confusion(pixels['cloudy'], nothing, pixels['mask_cloud'], K)
    assert counts.shape == (2 * AREAS, 2, K, K)
    assert not counts.any()


def test_confusion_errors(pixels: Pixels) -> None:
    mask, mask_cloud = pixels['mask'], pixels['mask_cloud']
    with pytest.raises(ValueError, match='must be on the same grid'):
        confusion(pixels['cloudy'], mask[:, :4], mask_cloud, K)
    with pytest.raises(ValueError, match=r'mask has values outside of 0 \.\.\. 2'):
        confusion(pixels['cloudy'], mask, mask_cloud, 3)
    with pytest.raises(ValueError, match='prediction has values outside'):
        confusion(pixels['cloudy'] - 1, mask, mask_cloud, K)
    with pytest.raises(ValueError, match='mask_cloud has values outside'):
        confusion(pixels['cloudy'], mask, 255 * mask_cloud, K)


def test_convert_level(root: Path) -> None:
    """As the data set has it, which translates WorldCover's codes at once."""
    levels: dict[Any, PlanetCR] = {
        level: PlanetCR(root, 'train', ['worldcover'], landcover_level=level)
        for level in (1, 2)
    }
    seen = set()
    for query in CenterNativePatchSampler(levels[2], size=None):
        mask = levels[2][query]['mask']
        seen |= {*mask.unique().tolist()}
        assert torch.equal(convert_level(mask, 1), levels[1][query]['mask'])
        assert torch.equal(convert_level(mask.byte(), 2), mask)
    assert seen == {*range(11), 255}


def test_figures(
    pixels: Pixels, confusions: dict[str, NDArray[np.int64]], weights: NDArray[np.int64]
) -> None:
    figures, gaps, comparisons = landcover_figures(confusions, weights, CLASSES)
    names = ['mean', *CLASSES]
    order = [(i, p, c) for p in PIXELS for i in IMAGES for c in names]
    assert [(f.image, f.pixels, f.label) for f in figures] == order
    order = [key for key in order if key[0] != 'clear']
    assert [(g.image, g.pixels, g.label) for g in gaps] == order

    order = [(p, c) for p in PIXELS for c in names]
    assert [(c.pixels, c.label) for c in comparisons] == order
    pairs = {(c.image, c.baseline) for c in comparisons}
    assert pairs == {('restored', 'cloudy')}

    everywhere = list(range(AREAS))
    draws = [everywhere, *(np.repeat(everywhere, row).tolist() for row in weights)]
    # The figures themselves, then those of each resample
    ious = {
        (image, region): [slow_iou(pixels, image, region, draw) for draw in draws]
        for image in IMAGES
        for region in PIXELS
    }
    comparison_of = {(c.pixels, c.label): c for c in comparisons}
    gap_of = {(g.image, g.pixels, g.label): g for g in gaps}
    for figure in figures:
        image, region, name = figure.image, figure.pixels, figure.label
        iou, *resampled = ious[image, region]
        if name == 'e':
            assert figure.count == 0
            assert math.isnan(figure.iou)
            continue
        assert figure.iou == pytest.approx(iou[name], rel=1e-12)
        gap = gap_of.get((image, region, name))
        cases: list[tuple[Any, list[float]]]
        cases = [(figure, [r[name] for r in resampled if name in r])]
        if gap:
            clear, *others = ious['clear', region]
            assert gap.gap == pytest.approx(clear[name] - iou[name], abs=1e-12)
            pairs = zip(others, resampled)
            cases.append((gap, [c[name] - r[name] for c, r in pairs if name in r]))
        if image == 'restored':
            row = comparison_of[region, name]
            cloudy, *others = ious['cloudy', region]
            difference = iou[name] - cloudy[name]
            assert row.difference == pytest.approx(difference, abs=1e-12)
            pairs = zip(others, resampled)
            cases.append((row, [r[name] - c[name] for c, r in pairs if name in r]))
        for row, values in cases:
            if name == 'd':
                assert math.isnan(row.low)
                assert math.isnan(row.high)
            else:
                limits = np.percentile(values, [2.5, 97.5])
                assert [row.low, row.high] == pytest.approx(limits, abs=1e-12)
                assert row.low < row.high


def test_figures_against_torchmetrics(
    pixels: Pixels, confusions: dict[str, NDArray[np.int64]], weights: NDArray[np.int64]
) -> None:
    figures = landcover_figures(confusions, weights, CLASSES).figures
    for image in IMAGES:
        for region in PIXELS:
            metric = MulticlassJaccardIndex(K, average='none', ignore_index=255)
            there = torch.ones_like(pixels['mask'], dtype=torch.bool)
            if region != 'all':
                there = pixels['mask_cloud'] == (region == 'cloudy')
            expected = metric(pixels[image][there], pixels['mask'][there])[:4].tolist()
            found = [
                figure.iou
                for figure in figures
                if (figure.image, figure.pixels) == (image, region)
            ]
            assert found[1:5] == pytest.approx(expected, rel=1e-6)
            # torchmetrics counts the fifth, which is only predicted, with 0
            assert found[0] == pytest.approx(np.mean(expected), rel=1e-6)


def test_figures_are_plain(
    confusions: dict[str, NDArray[np.int64]], weights: NDArray[np.int64]
) -> None:
    figures, gaps, comparisons = landcover_figures(confusions, weights, CLASSES)
    for row in (*figures, *gaps, *comparisons):
        assert {type(value) for value in astuple(row)} <= {str, float, int}
    counts = [f.count for f in figures if f.pixels == 'all'][: K + 1]
    assert counts[0] == sum(counts[1:])
    assert type(counts[0]) is int


def test_order_of_areas(
    confusions: dict[str, NDArray[np.int64]], weights: NDArray[np.int64]
) -> None:
    order = np.random.default_rng(1).permutation(AREAS)
    expected = landcover_figures(confusions, weights, CLASSES)
    permuted = {image: counts[order] for image, counts in confusions.items()}
    found = landcover_figures(permuted, weights[:, order], CLASSES)
    for rows, others in zip(found, expected, strict=True):
        for row, other in zip(rows, others, strict=True):
            for value, wanted in zip(astuple(row), astuple(other), strict=True):
                if isinstance(value, str):
                    assert value == wanted
                else:
                    assert value == pytest.approx(wanted, abs=1e-12, nan_ok=True)


def test_perfect_prediction(pixels: Pixels, weights: NDArray[np.int64]) -> None:
    mask, mask_cloud = pixels['mask'], pixels['mask_cloud']
    counts = confusion(mask.clamp(max=K - 1), mask, mask_cloud, K)
    perfect = counts.reshape(AREAS, 2, 2, K, K).sum(dim=1).numpy()
    figures, gaps, comparisons = landcover_figures(
        {'clear': perfect, 'cloudy': perfect}, weights, CLASSES
    )
    assert comparisons == []
    for figure in figures:
        if figure.label in ('mean', 'a', 'b', 'c'):
            assert [figure.iou, figure.low, figure.high] == [1, 1, 1]
    for gap in gaps:
        if gap.label in ('mean', 'a', 'b', 'c'):
            assert [gap.gap, gap.low, gap.high] == [0, 0, 0]


@pytest.mark.parametrize('number', [1, 4, 5])
def test_few_areas(confusions: dict[str, NDArray[np.int64]], number: int) -> None:
    few = {image: counts[:number] for image, counts in confusions.items()}
    rng = np.random.default_rng(0)
    weights = rng.multinomial(number, np.full(number, 1 / number), size=20)
    figures, gaps, comparisons = landcover_figures(few, weights, CLASSES)
    for row in (*figures, *gaps, *comparisons):
        if row.label == 'mean' and row.pixels == 'all':
            assert math.isnan(row.low) == (number < 5)
            assert math.isnan(row.high) == (number < 5)
        elif row.label == 'd' or number < 5:
            assert math.isnan(row.low)
            assert math.isnan(row.high)
    assert figures[0].iou > 0.5


def test_pairs(
    confusions: dict[str, NDArray[np.int64]], weights: NDArray[np.int64]
) -> None:
    more = confusions | {'a': confusions['cloudy'], 'b': confusions['restored']}
    found = landcover_figures(more, weights, CLASSES)
    pairs = [(c.image, c.baseline) for c in found.comparisons]
    assert list(dict.fromkeys(pairs)) == [
        ('restored', 'cloudy'),
        ('a', 'cloudy'),
        ('b', 'cloudy'),
        ('a', 'restored'),
        ('b', 'restored'),
        ('b', 'a'),
    ]
    for row in found.comparisons:
        same = (row.image, row.baseline) in (('a', 'cloudy'), ('b', 'restored'))
        if row.label == 'mean':
            assert (row.difference == row.low == row.high == 0) == same


def test_no_cloud_anywhere(pixels: Pixels, weights: NDArray[np.int64]) -> None:
    mask = pixels['mask']
    counts = confusion(pixels['clear'], mask, torch.zeros_like(mask), K)
    areas = counts.reshape(AREAS, 2, 2, K, K).sum(dim=1).numpy()
    figures = landcover_figures({'clear': areas}, weights, CLASSES).figures
    of_all, cloudy, clear = (
        [f for f in figures if f.pixels == region] for region in PIXELS
    )
    for figure in cloudy:
        assert figure.count == 0
        assert all(map(math.isnan, (figure.iou, figure.low, figure.high)))
    for figure, same in zip(clear, of_all):
        for key in ('iou', 'low', 'high', 'count'):
            wanted = getattr(same, key)
            assert getattr(figure, key) == pytest.approx(wanted, nan_ok=True)


def save(task: BaseTask, path: Path) -> Path:
    """Write a checkpoint as Lightning does."""
    trainer = Trainer(accelerator='cpu', logger=False, enable_progress_bar=False)
    trainer.strategy.connect(task)
    trainer.save_checkpoint(path)
    return path


def segmentation(**kwargs: Any) -> SemanticSegmentation:
    arguments: dict[str, Any]
    arguments = {'model': 'fcn', 'num_filters': 2, 'in_channels': 4, 'num_classes': 11}
    return SemanticSegmentation(**(arguments | kwargs))


@pytest.mark.parametrize(('num_classes', 'level'), [(7, 1), (11, 2)])
def test_load(tmp_path: Path, num_classes: int, level: int) -> None:
    # Weights of classes are a part of the state of the loss
    task = segmentation(num_classes=num_classes, class_weights=[1.0] * num_classes)
    model = load_landcover_model(save(task, tmp_path / 'model.ckpt'))
    assert landcover_level(model) == level
    assert not model.training
    image = torch.rand(2, 4, 16, 16)
    with torch.inference_mode():
        torch.testing.assert_close(model(image), task.eval()(image), rtol=0, atol=0)


@pytest.mark.parametrize(
    ('kwargs', 'problem'),
    [
        ({'task': 'binary', 'loss': 'bce'}, "task='binary' instead of 'multiclass'"),
        ({'in_channels': 3}, 'in_channels=3 instead of 4'),
        ({'num_classes': 12}, 'num_classes=12 instead of 7 or 11'),
    ],
)
def test_load_another_network(
    tmp_path: Path, kwargs: dict[str, Any], problem: str
) -> None:
    path = save(segmentation(**kwargs), tmp_path / 'model.ckpt')
    with pytest.raises(ValueError, match=problem) as error:
        load_landcover_model(path)
    assert str(path) in str(error.value)


def test_load_another_task(tmp_path: Path) -> None:
    path = save(CloudRemoval('copy'), tmp_path / 'removal.ckpt')
    with pytest.raises(ValueError, match='checkpoint of .*Segmentation') as error:
        load_landcover_model(path)
    assert str(path) in str(error.value)

    # It has the same arguments
    task = ChangeDetection(
        backbone='resnet18', in_channels=4, num_classes=11, task='multiclass'
    )
    path = save(task, tmp_path / 'change.ckpt')
    with pytest.raises(ValueError, match='does not fit .*Segmentation') as error:
        load_landcover_model(path)
    assert str(path) in str(error.value)


def test_load_no_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / 'model.ckpt'
    with pytest.raises(ValueError, match=r'model\.ckpt.* does not exist'):
        load_landcover_model(path)
    torch.save(torch.ones(3), path)
    with pytest.raises(ValueError, match=r'model\.ckpt.* is not a checkpoint of'):
        load_landcover_model(path)
    save(segmentation(), path)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ValueError, match=r'model\.ckpt.* cannot be read'):
        load_landcover_model(path)


def test_load_calls_nothing(tmp_path: Path) -> None:
    """Not even what a checkpoint names for Lightning to call."""
    path = save(segmentation(), tmp_path / 'model.ckpt')
    checkpoint = torch.load(path, weights_only=True)
    checkpoint['hyper_parameters']['_instantiator'] = 'no_module.no_function'
    torch.save(checkpoint, path)
    assert landcover_level(load_landcover_model(path)) == 2

    for name, value in (
        ('loss', {'class_path': 'no_module.NoLoss'}),
        ('backbone', 'tu-hf-hub:nobody/nothing'),
        ('num_filters', {'init': ['rm -r folder']}),
    ):
        hostile = checkpoint['hyper_parameters'] | {name: value}
        torch.save(checkpoint | {'hyper_parameters': hostile}, path)
        with pytest.raises(ValueError, match=rf'model\.ckpt.*{name}'):
            load_landcover_model(path)


@pytest.mark.parametrize('size', [(64, 32), (70, 45)])
def test_predict(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    model = segmentation(model='unet', backbone='resnet18').eval()
    image = torch.rand(2, 4, *size)
    prediction = predict_landcover(model, image)
    assert prediction.shape == (2, *size)
    assert prediction.dtype == torch.int64
    assert len(prediction.unique()) > 1
    if size == (64, 32):
        with torch.inference_mode():
            assert torch.equal(prediction, model(image).argmax(dim=1))
    beyond = predict_landcover(model, image * 4 - 1)
    assert torch.equal(beyond, predict_landcover(model, (image * 4 - 1).clamp(0, 1)))


def test_predict_without_encoder() -> None:
    model = segmentation().eval()
    image = torch.rand(1, 4, 19, 23)
    with torch.inference_mode():
        expected = model(image).argmax(dim=1)
    assert torch.equal(predict_landcover(model, image), expected)


def test_public_sample(sample_root: Path) -> None:
    """Each labeled pixel counts once, whatever predicts it."""
    dataset = PlanetCR(sample_root, 'test')
    sample = {key: value[None] for key, value in dataset[:].items()}
    torch.manual_seed(0)
    model = segmentation(num_classes=7).eval()
    mask = convert_level(sample['mask'], landcover_level(model))
    confusions = {}
    for image, key in (('clear', 'image_clear'), ('cloudy', 'image')):
        prediction = predict_landcover(model, sample[key] / 10000)
        counts = confusion(prediction, mask, sample['mask_cloud'], 7)
        confusions[image] = counts.numpy()
    figures, gaps, _ = landcover_figures(
        confusions, np.ones((5, 1)), PlanetCRWorldCover.classes[1]
    )
    mean = {(f.image, f.pixels): f for f in figures if f.label == 'mean'}
    whole, cloudy, clear = (mean['clear', region].count for region in PIXELS)
    assert whole == cloudy + clear == (mask != 255).sum()
    assert cloudy == (sample['mask_cloud'] == 1)[mask != 255].sum()
    gap = mean['clear', 'all'].iou - mean['cloudy', 'all'].iou
    assert gaps[0].gap == pytest.approx(gap)
