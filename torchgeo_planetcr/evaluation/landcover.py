# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""What restored images are worth to a network that maps land cover."""

import inspect
import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchgeo.datasets.utils import Path
from torchgeo.tasks import SemanticSegmentation

from ..datasets import PlanetCRClear, PlanetCRWorldCover
from ..models import read_checkpoint
from ..models.utils import crop_to, pad_to_multiple
from .statistics import interval

#: Class index of pixels without land cover.
NO_LANDCOVER = 255

#: Positions, in the confusions of an image, of the pixels that figures are about.
REGIONS = {'all': [0, 1], 'cloudy': [1], 'clear': [0]}


def load_landcover_model(path: Path) -> SemanticSegmentation:
    """Load a network that maps land cover from clear images.

    Args:
        path: Path of a checkpoint of TorchGeo's
            :class:`~torchgeo.tasks.SemanticSegmentation`. No code in it is executed.

    Returns:
        The task on the CPU, in evaluation mode.

    Raises:
        ValueError: If *path* cannot be read, is of another task or damaged, or if its
            network is not one of the four bands of PlanetScope and the classes of a
            level of :class:`~torchgeo_planetcr.datasets.PlanetCRWorldCover`.
    """
    checkpoint = read_checkpoint(path)
    checkpoint = checkpoint if isinstance(checkpoint, Mapping) else {}
    hparams = checkpoint.get('hyper_parameters')
    hparams = hparams if isinstance(hparams, Mapping) else {}
    # LightningCLI adds names of what Lightning is to call
    arguments = {k: v for k, v in hparams.items() if not str(k).startswith('_')}
    # Initial weights, which TorchGeo does not save
    known = inspect.signature(SemanticSegmentation).parameters.keys() - {'weights'}
    if arguments.keys() != known or 'state_dict' not in checkpoint:
        msg = f"'{path}' is not a checkpoint of torchgeo.tasks.SemanticSegmentation"
        if '_class_path' in hparams:
            msg += f', but of {hparams["_class_path"]}'
        msg += '. examples/landcover_reference.yaml trains one.'
        raise ValueError(msg)

    numbers = [len(classes) for classes in PlanetCRWorldCover.classes.values()]
    for name, wanted in (
        ('task', ['multiclass']),
        ('in_channels', [len(PlanetCRClear.all_bands)]),
        ('num_classes', numbers),
    ):
        if arguments[name] not in wanted:
            msg = f"'{path}' has {name}={arguments[name]!r} instead of "
            msg += f'{" or ".join(map(repr, wanted))}.'
            raise ValueError(msg)

    try:
        model = SemanticSegmentation(**arguments)
        model.load_state_dict(checkpoint['state_dict'])
    # A damaged file may hold anything
    except Exception as error:
        msg = f"'{path}' holds no weights of {arguments['model']!r} with the backbone "
        msg += f'{arguments["backbone"]!r}, or is damaged: {error}'
        raise ValueError(msg) from error
    return model.eval()


def landcover_level(model: SemanticSegmentation) -> Literal[1, 2]:
    """Level of the classes that a network tells apart.

    Args:
        model: What :func:`load_landcover_model` has loaded.

    Returns:
        1 for the authors' seven classes, 2 for WorldCover's eleven.
    """
    return (
        1 if model.hparams['num_classes'] == len(PlanetCRWorldCover.classes[1]) else 2
    )


def to_level(mask: Tensor, level: Literal[1, 2]) -> Tensor:
    """Translate WorldCover's eleven classes into those of a level.

    Args:
        mask: Class indices of level 2, of any shape; 255 where there is none.
        level: Level of the result.

    Returns:
        Class indices of *level*, int64; 255 where there is none.
    """
    codes = PlanetCRWorldCover.codes
    indices = {code: i for i, group in enumerate(codes[level]) for code in group}
    table = torch.full((256,), NO_LANDCOVER)
    for index, (code,) in enumerate(codes[2]):
        table[index] = indices[code]
    return table.to(mask.device)[mask.long()]


def predict_landcover(model: SemanticSegmentation, image: Tensor) -> Tensor:
    """Map the land cover of images.

    Args:
        model: What :func:`load_landcover_model` has loaded.
        image: Clear, cloudy or restored images of shape (B, 4, H, W), normalized to
            [0, 1]. As in training, values beyond are clipped. Unless H and W are
            multiples of the output stride of the backbone, 32 for most, the images are
            padded by reflection at the bottom and on the right, and the output cropped.

    Returns:
        Class indices of shape (B, H, W), int64.
    """
    encoder = getattr(model.model, 'encoder', None)
    stride = 1 if encoder is None else encoder.output_stride
    with torch.inference_mode():
        logits = model(pad_to_multiple(image.clamp(0, 1), stride))
    return crop_to(logits, image.shape[-2:]).argmax(dim=1)


def confusion(
    prediction: Tensor, mask: Tensor, mask_cloud: Tensor, num_classes: int
) -> Tensor:
    """Count the pixels of each image by cloud, labelled class and predicted class.

    Args:
        prediction: Predicted class indices of shape (B, H, W).
        mask: Labelled class indices of shape (B, H, W); pixels of 255 are not counted.
        mask_cloud: Cloud masks of shape (B, H, W), 1 cloud and 0 no cloud.
        num_classes: Number of classes *K*.

    Returns:
        Number of pixels without and with cloud, (B, 2, K, K) int64, with a row for each
        label and a column for each prediction.

    Raises:
        ValueError: If the shapes differ, or a class index is not below *num_classes*.
    """
    if not prediction.shape == mask.shape == mask_cloud.shape:
        msg = 'prediction, mask and mask_cloud must be on the same grid, got '
        msg += f'{(*prediction.shape,)}, {(*mask.shape,)} and {(*mask_cloud.shape,)}.'
        raise ValueError(msg)

    labelled = mask != NO_LANDCOVER
    # One number for each combination, which is its place in the result
    place = torch.arange(len(mask), device=mask.device)[:, None, None].expand_as(mask)
    place = place[labelled]
    sizes = {'mask_cloud': 2, 'mask': num_classes, 'prediction': num_classes}
    for (name, size), value in zip(sizes.items(), (mask_cloud, mask, prediction)):
        value = value[labelled].long()
        if ((value < 0) | (value >= size)).any():
            msg = f'{name} has values outside of 0 ... {size - 1}.'
            raise ValueError(msg)

        place = place * size + value
    shape = (len(mask), *sizes.values())
    return place.bincount(minlength=math.prod(shape)).reshape(shape)


def landcover_figures(
    confusions: Mapping[str, NDArray[Any]],
    weights: NDArray[Any],
    classes: Sequence[str],
) -> dict[str, list[dict[str, Any]]]:
    r"""Intersection over union of land cover on images, and how it differs.

    The intersection over union of a class, the Jaccard index, is

    .. math::

        \text{IoU} = \frac{TP}{TP + FP + FN}

    over all labelled pixels of all areas together, as in PASCAL VOC
    (https://doi.org/10.1007/s11263-014-0733-5). A class without a labelled pixel has
    none: what is mistaken for it counts against the classes that it really is. The mean
    is that of the classes with labelled pixels, however few.

    Intervals come from bootstrap resamples of the areas, see
    :func:`~torchgeo_planetcr.evaluation.statistics.interval`. A class without a labelled
    pixel in a resample is left out of the mean of that resample, and that resample out
    of the interval of the class. A difference is taken in each resample, so that its
    interval is not the difference of intervals.

    Args:
        confusions: What :func:`confusion` has counted, summed over each area, of shape
            (A, 2, K, K), for each image: ``'clear'``, ``'cloudy'``, and methods.
        weights: How often each area is drawn in each resample, of shape (R, A).
        classes: Names of the *K* classes.

    Returns:
        Records by name. All of them have ``pixels`` (``'all'``, ``'cloudy'`` or
        ``'clear'`` ones), ``class`` (or ``'mean'``), ``low``, ``high`` and ``areas``, the
        number of areas with labelled pixels.

        ``figures`` have ``image``, ``iou`` and ``count``, the number of labelled pixels
        of the class, for the mean of all classes.

        ``gaps`` have ``image`` (each but ``'clear'``) and ``gap``, the IoU on clear
        images minus that on *image*.

        ``comparisons`` have ``image``, ``baseline`` (an image before it, but not
        ``'clear'``) and ``difference``, the IoU on *image* minus that on *baseline*.

        Figures and differences are NaN where there is no labelled pixel, and intervals
        where fewer than five areas have one.
    """
    # The first resample has each area once: the figures themselves.
    draws = np.concatenate([np.ones((1, weights.shape[1])), weights])
    names = ('mean', *classes)
    records: dict[str, list[dict[str, Any]]] = {
        'figures': [],
        'gaps': [],
        'comparisons': [],
    }
    for pixels, places in REGIONS.items():
        matrices = {
            image: counts[:, places].sum(axis=1) for image, counts in confusions.items()
        }
        # The labels are those of the data, whatever the image
        labels = matrices['clear'].sum(axis=2)
        labels = np.concatenate([labels.sum(axis=1, keepdims=True), labels], axis=1)
        areas = (labels > 0).sum(axis=0).tolist()
        counts = labels.sum(axis=0).tolist()
        ious = {image: _resampled_iou(m, draws) for image, m in matrices.items()}
        for image, iou in ious.items():
            for i, name in enumerate(names):
                row = {'image': image, 'pixels': pixels, 'class': name}
                figure = _summarize('iou', iou[:, i], areas[i])
                records['figures'].append(row | figure | {'count': counts[i]})
                if image != 'clear':
                    gap = ious['clear'][:, i] - iou[:, i]
                    records['gaps'].append(row | _summarize('gap', gap, areas[i]))
        for baseline, image in combinations([i for i in ious if i != 'clear'], 2):
            for i, name in enumerate(names):
                row = {'image': image, 'baseline': baseline}
                row |= {'pixels': pixels, 'class': name}
                difference = ious[image][:, i] - ious[baseline][:, i]
                records['comparisons'].append(
                    row | _summarize('difference', difference, areas[i])
                )
    return records


def _resampled_iou(
    matrices: NDArray[Any], draws: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Intersection over union in resamples.

    Args:
        matrices: Confusion matrices of areas, of shape (A, K, K).
        draws: How often each area is drawn in each resample, of shape (R, A).

    Returns:
        The mean and the values of the classes, of shape (R, 1 + K), NaN where there is
        no label.
    """
    hits = draws @ np.diagonal(matrices, axis1=1, axis2=2)
    labels = draws @ matrices.sum(axis=2)
    union = labels + draws @ matrices.sum(axis=1) - hits
    iou = np.full_like(union, np.nan)
    np.divide(hits, union, out=iou, where=labels > 0)
    number = (labels > 0).sum(axis=1)
    mean = np.full(len(iou), np.nan)
    np.divide(np.nansum(iou, axis=1), number, out=mean, where=number > 0)
    return np.column_stack([mean, iou])


def _summarize(name: str, values: NDArray[np.float64], areas: int) -> dict[str, Any]:
    """A figure and its interval, from its values in resamples after the figure itself."""
    low, high = interval(values[1:], areas)
    return {
        name: float(values[0]),
        'low': float(low),
        'high': float(high),
        'areas': areas,
    }
