# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""What restored images are worth to a network that maps land cover."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchgeo.datasets.utils import Path
from torchgeo.tasks import SemanticSegmentation

from ..checkpoint import lightning_content, read_checkpoint
from ..datasets import PlanetCRWorldCover
from ..datasets.components import NO_CLASS
from ..datasets.modalities import MODALITIES
from ..models.utils import crop_to, pad_to_multiple
from ..tasks.restore import read_arguments, restore_task
from .statistics import interval

type PixelsName = Literal['all', 'cloudy', 'clear']

#: Positions, in the confusions of an image, of the pixels that figures are about.
REGIONS: Mapping[PixelsName, list[int]] = {'all': [0, 1], 'cloudy': [1], 'clear': [0]}


@dataclass(frozen=True, slots=True)
class LandCoverFigure:
    """Intersection over union of land cover on an image, with its interval."""

    #: 'clear', 'cloudy', or the name of a method.
    image: str

    #: Which pixels are counted.
    pixels: PixelsName

    #: Name of a class, or 'mean' for the mean over classes.
    label: str = field(metadata={'key': 'class'})

    iou: float
    low: float
    high: float

    #: Number of areas with labeled pixels, and of labeled pixels.
    areas: int
    count: int


@dataclass(frozen=True, slots=True)
class LandCoverGap:
    """IoU on clear images minus that on others, with its interval.

    Fields are those of :class:`LandCoverFigure`.
    """

    image: str
    pixels: PixelsName
    label: str = field(metadata={'key': 'class'})
    gap: float
    low: float
    high: float
    areas: int


@dataclass(frozen=True, slots=True)
class LandCoverComparison:
    """IoU on images minus that on images of a baseline, with its interval.

    Fields are those of :class:`LandCoverFigure`; the baseline is another image.
    """

    image: str
    baseline: str
    pixels: PixelsName
    label: str = field(metadata={'key': 'class'})
    difference: float
    low: float
    high: float
    areas: int


class LandCoverFigures(NamedTuple):
    """How well land cover is mapped from each image."""

    #: IoU on each image.
    figures: list[LandCoverFigure]

    #: What is lost on each image but the clear one.
    gaps: list[LandCoverGap]

    #: Difference of each pair of images, without the clear one.
    comparisons: list[LandCoverComparison]


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
    checkpoint = lightning_content(path, read_checkpoint(path))
    values = read_arguments(path, checkpoint, SemanticSegmentation).values
    numbers = [len(classes) for classes in PlanetCRWorldCover.classes.values()]
    for name, wanted in (
        ('task', ['multiclass']),
        ('in_channels', [len(MODALITIES['clear'].bands)]),
        ('num_classes', numbers),
    ):
        if values.get(name) not in wanted:
            raise ValueError(
                f"'{path}' has {name}={values.get(name)!r} instead of "
                f'{" or ".join(map(repr, wanted))}'
            )

    return restore_task(SemanticSegmentation, path, checkpoint).eval()


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


def convert_level(mask: Tensor, level: Literal[1, 2]) -> Tensor:
    """Convert WorldCover's eleven classes into those of a level.

    Args:
        mask: Class indices of level 2, of any shape; 255 where there is none.
        level: Level of the result.

    Returns:
        Class indices of *level*, int64; 255 where there is none.
    """
    codes = PlanetCRWorldCover.codes
    indices = {code: i for i, group in enumerate(codes[level]) for code in group}
    table = torch.full((256,), NO_CLASS)
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
    """Count the pixels of each image by cloud, labeled class and predicted class.

    Args:
        prediction: Predicted class indices of shape (B, H, W).
        mask: Labeled class indices of shape (B, H, W); pixels of 255 are not counted.
        mask_cloud: Cloud masks of shape (B, H, W), 1 cloud and 0 no cloud.
        num_classes: Number of classes *K*.

    Returns:
        Number of pixels without and with cloud, (B, 2, K, K) int64, with a row for each
        label and a column for each prediction.

    Raises:
        ValueError: If the shapes differ, or a class index is not below *num_classes*.
    """
    if not prediction.shape == mask.shape == mask_cloud.shape:
        raise ValueError(
            'prediction, mask and mask_cloud must be on the same grid, got '
            f'{(*prediction.shape,)}, {(*mask.shape,)} and {(*mask_cloud.shape,)}'
        )

    labeled = mask != NO_CLASS
    # One number for each combination, which is its place in the result
    place = torch.arange(len(mask), device=mask.device)[:, None, None].expand_as(mask)
    place = place[labeled]
    sizes = {'mask_cloud': 2, 'mask': num_classes, 'prediction': num_classes}
    for (name, size), value in zip(sizes.items(), (mask_cloud, mask, prediction)):
        value = value[labeled].long()
        if ((value < 0) | (value >= size)).any():
            raise ValueError(f'{name} has values outside of 0 ... {size - 1}')
        place = place * size + value
    shape = (len(mask), *sizes.values())
    return place.bincount(minlength=math.prod(shape)).reshape(shape)


def landcover_figures(
    confusions: Mapping[str, NDArray[Any]],
    weights: NDArray[Any],
    classes: Sequence[str],
    regions: Sequence[PixelsName] = tuple(REGIONS),
) -> LandCoverFigures:
    r"""Intersection over union of land cover on images, and how it differs.

    The intersection over union of a class, the Jaccard index, is

    .. math::

        \text{IoU} = \frac{TP}{TP + FP + FN}

    over all labeled pixels of all areas together, as in PASCAL VOC
    (https://doi.org/10.1007/s11263-014-0733-5). A class without a labeled pixel has
    none: what is mistaken for it counts against the classes that it really is. The mean
    is that of the classes with labeled pixels, however few.

    Intervals come from bootstrap resamples of the areas, see
    :func:`~torchgeo_planetcr.evaluation.statistics.interval`. A class without a labeled
    pixel in a resample is left out of the mean of that resample, and that resample out
    of the interval of the class. A difference is taken in each resample, so that its
    interval is not the difference of intervals.

    Args:
        confusions: What :func:`confusion` has counted, summed over each area, of shape
            (A, 2, K, K), for each image: ``'clear'``, ``'cloudy'``, and methods.
        weights: How often each area is drawn in each resample, of shape (R, A).
        classes: Names of the *K* classes.
        regions: Which pixels to count.

    Returns:
        Figures, gaps and comparisons of all pixels, and of cloudy and clear ones. Figures
        and differences are NaN where there is no labeled pixel, and intervals where
        fewer than five areas have one.
    """
    found = LandCoverFigures([], [], [])
    for pixels in regions:
        matrices = {
            image: counts[:, REGIONS[pixels]].sum(axis=1)
            for image, counts in confusions.items()
        }
        region = RegionConfusions(pixels, matrices, weights, classes)
        found.figures.extend(region.figures())
        found.gaps.extend(region.gaps())
        found.comparisons.extend(region.comparisons())
    return found


class RegionConfusions:
    """Confusions of land cover on some of the pixels, and the figures of them."""

    def __init__(
        self,
        pixels: PixelsName,
        matrices: Mapping[str, NDArray[Any]],
        weights: NDArray[Any],
        classes: Sequence[str],
    ) -> None:
        """Initialize a new RegionConfusions instance.

        Args:
            pixels: Which pixels were counted: 'all', 'cloudy' or 'clear'.
            matrices: Confusion matrices of areas, of shape (A, K, K), for each image.
            weights: How often each area is drawn in each resample, of shape (R, A).
            classes: Names of the *K* classes.
        """
        self.pixels = pixels
        #: What there are figures of: the mean over classes, and each class.
        self.labels = ('mean', *classes)
        # The labels are those of the data, whatever the image
        counts = matrices['clear'].sum(axis=2)
        counts = np.concatenate([counts.sum(axis=1, keepdims=True), counts], axis=1)
        #: Number of labeled pixels, and of areas that have some, for each label.
        self.counts: list[int] = counts.sum(axis=0).tolist()
        self.areas: list[int] = (counts > 0).sum(axis=0).tolist()
        # The first resample has each area once: the figures themselves
        draws = np.concatenate([np.ones((1, weights.shape[1])), weights])
        #: IoU of each image, of shape (1 + R, 1 + K).
        self.ious = {image: _resampled_iou(m, draws) for image, m in matrices.items()}

    def figures(self) -> Iterator[LandCoverFigure]:
        """Yield the IoU on each image."""
        for image, iou in self.ious.items():
            for column, label in enumerate(self.labels):
                yield LandCoverFigure(
                    image,
                    self.pixels,
                    label,
                    *self._with_interval(iou, column),
                    self.counts[column],
                )

    def gaps(self) -> Iterator[LandCoverGap]:
        """Yield the IoU on clear images minus that on each other image."""
        for image, iou in self.ious.items():
            if image == 'clear':
                continue
            gap = self.ious['clear'] - iou
            for column, label in enumerate(self.labels):
                yield LandCoverGap(
                    image, self.pixels, label, *self._with_interval(gap, column)
                )

    def comparisons(self) -> Iterator[LandCoverComparison]:
        """Yield the IoU on each image minus that on each image before it."""
        others = [image for image in self.ious if image != 'clear']
        for baseline, image in combinations(others, 2):
            difference = self.ious[image] - self.ious[baseline]
            for column, label in enumerate(self.labels):
                yield LandCoverComparison(
                    image,
                    baseline,
                    self.pixels,
                    label,
                    *self._with_interval(difference, column),
                )

    def _with_interval(
        self, values: NDArray[np.float64], column: int
    ) -> tuple[float, float, float, int]:
        """A figure of a label, its interval, and the number of areas."""
        areas = self.areas[column]
        low, high = interval(values[1:, column], areas)
        return float(values[0, column]), float(low), float(high), areas


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
