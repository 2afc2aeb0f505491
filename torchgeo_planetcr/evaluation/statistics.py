# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Figures of groups of patches and pixels, and how sure they are.

A figure is a mean over patches, or over the pixels of all patches. Patches of one area
look alike, so intervals come from resampling whole areas (B. Efron and R. J. Tibshirani,
*An Introduction to the Bootstrap*, 1993, chapters 8.4 and 13).
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any, NamedTuple, cast

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from ..datasets.components import PlanetCRWorldCover
from ..datasets.modalities import ModalityName
from ..datasets.patch_files import SEASONS
from ..metrics import ImageMetric, PatchMetrics, PatchValues, PixelMetric

#: Resamples of the areas, and the seed that draws them.
RESAMPLES = 10000
SEED = 0

#: Share of the resamples that lie within an interval.
LEVEL = 0.95

#: Fewer areas have no interval, as it would hold the truth far less often than it says.
MIN_AREAS = 5

#: Modality that says which patches or pixels belong to a stratum, of those kinds that
#: need one.
MODALITY_OF_KIND: Mapping[str, ModalityName] = {
    'cloud': 'cloud_mask',
    'cloud cover': 'cloud_mask',
    'class level 1': 'worldcover',
    'class level 2': 'worldcover',
}

#: Upper bounds of the bins of cloud cover of a patch.
CLOUD_BINS = (0.2, 0.4, 0.6, 0.8, 1.0)

type Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Figure:
    """A metric of a method on a stratum, with its interval."""

    method: str

    #: What the stratum is one of, such as 'season', and its name, such as 'fall'.
    kind: str
    stratum: str

    metric: str

    #: The figure is NaN if the stratum is empty.
    value: float

    #: The interval is NaN if there are fewer than five areas.
    low: float
    high: float

    #: Numbers of patches and areas, and of pixels if these are pooled.
    patches: int
    areas: int
    pixels: int | None

    @property
    def count(self) -> int:
        """Number of pixels if these are pooled, else of patches."""
        return self.patches if self.pixels is None else self.pixels


@dataclass(frozen=True, slots=True)
class Comparison:
    """The difference of two methods in a metric on a stratum, with its interval."""

    method: str
    baseline: str

    #: What the stratum is one of, such as 'season', and its name, such as 'fall'.
    kind: str
    stratum: str

    metric: str

    #: The figure of the method minus that of the baseline.
    difference: float

    #: The interval is NaN if there are fewer than five areas.
    low: float
    high: float

    #: Result of :func:`sign_flip_test`, NaN if there are fewer than two areas.
    p_value: float

    #: Share of patches where the method is better, NaN if pixels are pooled.
    share_better: float

    patches: int
    areas: int


class Areas:
    """Areas of patches, and resamples of them."""

    def __init__(self, names: Sequence[str]) -> None:
        """Initialize a new Areas instance.

        Args:
            names: Area of each patch.
        """
        codes, found = pd.factorize(np.asarray(names, dtype=object), sort=True)
        #: Names of the areas, and the number of the area of each patch.
        self.names: list[str] = found.tolist()
        self.codes = codes
        count = len(self.names)
        rng = np.random.default_rng(SEED)
        #: How often each area is drawn in each resample, of shape (R, A).
        self.weights = rng.multinomial(
            count, np.full(count, 1 / count), RESAMPLES
        ).astype(np.float64)
        #: Signs of the areas under the hypothesis of no difference, of shape (R', A):
        #: all combinations if they are few, or random ones after the observed one.
        if 2**count <= RESAMPLES:
            self.signs = np.array(list(product([1.0, -1.0], repeat=count)))
        else:
            self.signs = rng.choice([-1.0, 1.0], (RESAMPLES + 1, count))
            self.signs[0] = 1

    def sum(self, values: NDArray[Any]) -> Array:
        """Sum over the patches of each area.

        Args:
            values: Values of N patches, of shape (N, ...).

        Returns:
            Sums of shape (A, ...).
        """
        sums = np.zeros((len(self.names), *values.shape[1:]))
        np.add.at(sums, self.codes, values)
        return sums


class Stratum(NamedTuple):
    """A part of the data: some of the patches, or some of the pixels of all patches."""

    kind: str
    name: str
    #: Names of the metrics.
    metrics: Sequence[str]
    #: What is summed up, of shape (N, M), and by what it is divided, of shape (N,).
    sums: Array
    counts: Array
    #: Whether pixels are counted, and not patches.
    is_pooled: bool


class Estimate(NamedTuple):
    """Figures of a stratum."""

    stratum: Stratum
    #: Figures of shape (M,), NaN if the stratum is empty.
    values: Array
    #: Figures of each resample, of shape (R, M), NaN where it has no area of the stratum.
    resampled: Array
    #: Numbers of patches, areas and pixels (None if patches are counted).
    patches: int
    areas: int
    pixels: int | None


def interval(resampled: Array, areas: int) -> tuple[Array, Array]:
    """Percentile interval of a figure.

    Args:
        resampled: Figures of each resample, of shape (R, ...).
        areas: Number of areas that the figure is of.

    Returns:
        Lower and upper bound, of shape (...); NaN if there are fewer than five areas.
    """
    if areas < MIN_AREAS:
        missing = np.full(resampled.shape[1:], np.nan)
        return missing, missing
    tail = (1 - LEVEL) / 2
    low, high = np.nanquantile(resampled, (tail, 1 - tail), axis=0)
    return low, high


def strata(
    values: PatchValues,
    metrics: PatchMetrics,
    patches: pd.DataFrame,
    missing: Collection[ModalityName] = (),
) -> Iterator[Stratum]:
    """List all strata of a method but the areas.

    Args:
        values: Values of the method.
        metrics: Metrics that computed them.
        patches: Table with ``season`` and ``cloud_cover`` of each patch.
        missing: Modalities that no patch has.

    Yields:
        Strata, empty ones too, but for those that a missing modality would tell.
    """
    for stratum in _all_strata(values, metrics, patches):
        if MODALITY_OF_KIND.get(stratum.kind) not in missing:
            yield stratum


def _all_strata(
    values: PatchValues, metrics: PatchMetrics, patches: pd.DataFrame
) -> Iterator[Stratum]:
    """List all strata, see :func:`strata`."""
    images, names = values.images.numpy(), list(metrics.metrics)
    cover = patches['cloud_cover'].to_numpy()
    bins = np.digitize(cover, CLOUD_BINS[:-1])
    lower = 0.0
    groups = [('all', 'all', np.ones(len(patches), dtype=bool))]
    for number, upper in enumerate(CLOUD_BINS):
        groups.append(
            ('cloud cover', f'{lower * 100:.0f} - {upper * 100:.0f} %', bins == number)
        )
        lower = upper
    groups += [('season', season, patches['season'] == season) for season in SEASONS]

    sums, pixels = values.sums.numpy(), values.pixels.numpy()
    for kind, name, cells in _cells():
        yield Stratum(
            kind,
            name,
            metrics.pixel_metrics,
            sums[:, :, cells].sum(axis=-1),
            pixels[:, cells].sum(axis=-1).astype(np.float64),
            True,
        )
    for kind, name, chosen in groups:
        weight = np.asarray(chosen, dtype=np.float64)
        yield Stratum(kind, name, names, images * weight[:, None], weight, False)


def _cells() -> Iterator[tuple[str, str, NDArray[np.bool_]]]:
    """Kind, name and cells, of shape (2, K + 1), of each stratum of pixels."""
    codes, classes = PlanetCRWorldCover.codes, PlanetCRWorldCover.classes
    shape = (2, len(classes[2]) + 1)
    for row, name in ((1, 'cloudy'), (0, 'clear')):
        cells = np.zeros(shape, dtype=bool)
        cells[row] = True
        yield 'cloud', name, cells
    numbers = {code: number for number, (code,) in enumerate(codes[2])}
    for level in (1, 2):
        for name, members in zip(classes[level], codes[level]):
            cells = np.zeros(shape, dtype=bool)
            cells[:, [numbers[code] for code in members]] = True
            yield f'class level {level}', name, cells


def estimate(stratum: Stratum, metrics: PatchMetrics, areas: Areas) -> Estimate:
    """Compute the figures of a stratum, and those of each resample.

    Args:
        stratum: The stratum.
        metrics: Metrics that its sums are of.
        areas: Areas of the patches.

    Returns:
        The figures.
    """
    sums, counts = areas.sum(stratum.sums), areas.sum(stratum.counts)
    with np.errstate(invalid='ignore'):
        values = sums.sum(axis=0) / counts.sum()
        resampled = (areas.weights @ sums) / (areas.weights @ counts)[:, None]
    if stratum.is_pooled:
        values = _from_means(values, stratum.metrics, metrics)
        resampled = _from_means(resampled, stratum.metrics, metrics)
    return Estimate(
        stratum,
        values,
        resampled,
        int(np.count_nonzero(stratum.counts)),
        int(np.count_nonzero(counts)),
        int(counts.sum()) if stratum.is_pooled else None,
    )


def _from_means(means: Array, names: Sequence[str], metrics: PatchMetrics) -> Array:
    """Compute metrics from means over pixels, the last axis of which are the metrics."""
    columns = [
        cast(PixelMetric, metrics.metrics[name]).from_mean(torch.as_tensor(column))
        for name, column in zip(names, np.moveaxis(means, -1, 0).copy())
    ]
    return torch.stack(columns, dim=-1).numpy()


def figures(method: str, estimates: Sequence[Estimate]) -> list[Figure]:
    """List the figures of a method with their intervals.

    Args:
        method: Name of the method.
        estimates: Figures of all strata.

    Returns:
        A figure for each stratum and metric.
    """
    found = []
    for stratum, values, resampled, patches, areas, pixels in estimates:
        low, high = interval(resampled, areas)
        for column, metric in enumerate(stratum.metrics):
            found.append(
                Figure(
                    method=method,
                    kind=stratum.kind,
                    stratum=stratum.name,
                    metric=metric,
                    value=float(values[column]),
                    low=float(low[column]),
                    high=float(high[column]),
                    patches=patches,
                    areas=areas,
                    pixels=pixels,
                )
            )
    return found


def area_figures(
    method: str, values: PatchValues, names: Sequence[str], areas: Areas
) -> list[Figure]:
    """List the figures of each area, means over its patches.

    Args:
        method: Name of the method.
        values: Values of the method.
        names: Names of the metrics.
        areas: Areas of the patches.

    Returns:
        A figure for each area and metric, without an interval.
    """
    counts = areas.sum(np.ones(len(areas.codes)))
    means = areas.sum(values.images.numpy()) / counts[:, None]
    return [
        Figure(
            method=method,
            kind='area',
            stratum=area,
            metric=metric,
            value=value,
            low=np.nan,
            high=np.nan,
            patches=int(count),
            areas=1,
            pixels=None,
        )
        for area, row, count in zip(areas.names, means.tolist(), counts)
        for metric, value in zip(names, row)
    ]


def comparisons(
    estimates: Mapping[str, Sequence[Estimate]], metrics: PatchMetrics, areas: Areas
) -> list[Comparison]:
    """Compare each method with those before it, on the same patches and resamples.

    Args:
        estimates: Figures of all strata, by method.
        metrics: Metrics that they are of.
        areas: Areas of the patches.

    Returns:
        A comparison for each pair, stratum that is not empty, and metric. Ties count as
        half of a patch where the method is better.
    """
    found = []
    for baseline, method in combinations(estimates, 2):
        for before, after in zip(estimates[baseline], estimates[method]):
            if after.areas:
                found += _compare(baseline, before, method, after, metrics, areas)
    return found


def _compare(
    baseline: str,
    before: Estimate,
    method: str,
    after: Estimate,
    metrics: PatchMetrics,
    areas: Areas,
) -> Iterator[Comparison]:
    """Compare two methods on a stratum that is not empty."""
    stratum = after.stratum
    difference = after.values - before.values
    low, high = interval(after.resampled - before.resampled, after.areas)
    gains = stratum.sums - before.stratum.sums
    p_value = np.full(len(difference), np.nan)
    if after.areas > 1:
        p_value = sign_flip_test(areas.sum(gains), areas.signs)
    for column, metric in enumerate(stratum.metrics):
        share = np.nan
        if not stratum.is_pooled:
            gain = gains[stratum.counts > 0, column]
            if not cast(ImageMetric, metrics.metrics[metric]).higher_is_better:
                gain = -gain
            share = ((gain > 0) + 0.5 * (gain == 0)).mean()
        yield Comparison(
            method=method,
            baseline=baseline,
            kind=stratum.kind,
            stratum=stratum.name,
            metric=metric,
            difference=float(difference[column]),
            low=float(low[column]),
            high=float(high[column]),
            p_value=float(p_value[column]),
            share_better=float(share),
            patches=after.patches,
            areas=after.areas,
        )


def sign_flip_test(differences: Array, signs: Array) -> Array:
    """Test whether two methods differ.

    If they do not, they might as well be swapped in any area, which changes the sign of
    its difference. The p-value is the share of such swaps that make a sum of differences
    at least as large, in either direction (R. A. Fisher, *The Design of Experiments*,
    1935, section 21). With *A* areas it is 2 / 2^A at least.

    Args:
        differences: Sum over each area of the differences of what is averaged, of shape
            (A, M); for figures of pooled pixels their values and not the figure, such as
            squared errors for PSNR.
        signs: Signs of the areas in each swap, no swap among them, of shape (R, A).

    Returns:
        Two-sided p-values of shape (M,).
    """
    observed = np.abs(differences.sum(axis=0))
    # A sum that is equal but for rounding is as large
    tolerance = 1e-12 * np.abs(differences).sum(axis=0)
    reached = np.abs(signs @ differences) >= observed - tolerance
    return reached.mean(axis=0)


def patch_table(
    values: PatchValues,
    metrics: PatchMetrics,
    patches: pd.DataFrame,
    missing: Collection[ModalityName] = (),
) -> pd.DataFrame:
    """Make a row for each patch.

    Args:
        values: Values of a method.
        metrics: Metrics that computed them.
        patches: Table with names, areas, seasons and cloud cover of the patches.
        missing: Modalities that no patch has.

    Returns:
        This table, and columns with each metric and, for cloudy and clear pixels and
        each class of level 2, the number of ``pixels_<stratum>`` and each
        ``<metric>_<stratum>`` that follows from a mean over pixels, NaN where there is
        no pixel.
    """
    columns: dict[Any, Any] = dict(patches.items())
    columns |= zip(metrics.metrics, values.images.numpy().T)
    for stratum in strata(values, metrics, patches, missing):
        if stratum.kind in ('cloud', 'class level 2'):
            name = stratum.name.lower().replace(' / ', '_').replace(' ', '_')
            columns[f'pixels_{name}'] = stratum.counts.astype(np.int64)
            with np.errstate(invalid='ignore'):
                means = stratum.sums / stratum.counts[:, None]
            means = _from_means(means, stratum.metrics, metrics)
            for metric, column in zip(stratum.metrics, means.T):
                columns[f'{metric}_{name}'] = column
    return pd.DataFrame(columns)
