# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import itertools
import math
from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray

from torchgeo_planetcr.datasets import PlanetCRWorldCover
from torchgeo_planetcr.datasets.patch_files import SEASONS
from torchgeo_planetcr.evaluation.statistics import (
    MIN_AREAS,
    RESAMPLES,
    Areas,
    Comparison,
    Estimate,
    Stratum,
    area_figures,
    comparisons,
    estimate,
    figures,
    interval,
    patch_table,
    sign_flip_test,
    strata,
)
from torchgeo_planetcr.metrics import (
    PROTOCOLS,
    ImageMetric,
    PatchMetrics,
    PatchValues,
    StandardMAE,
    StandardSSIM,
)

#: A data frame, whose elements may be anything to a type checker.
type Frame = Any

N, K = 30, 11
METRICS = list(PROTOCOLS['standard'].metrics)
POOLED = ['PSNR', 'SAM', 'MAE', 'RMSE']
CLASSES = PlanetCRWorldCover.classes
BINS = ('0 - 20 %', '20 - 40 %', '40 - 60 %', '60 - 80 %', '80 - 100 %')

#: Patches without and with nothing but cloud, and at the edges of the bins.
COVERS = (0.0, 1.0, 0.2, 0.4, 0.6, 0.8, 0.1999, 0.7999)


@pytest.fixture(scope='module')
def metrics() -> PatchMetrics:
    chosen = PROTOCOLS['standard'].metrics
    return PatchMetrics({name: metric() for name, metric in chosen.items()}, N, K)


@pytest.fixture(scope='module')
def patches() -> Frame:
    """Patches of seven areas in three seasons."""
    rng = np.random.default_rng(0)
    area = rng.integers(0, 7, N)
    area[:7] = range(7)
    return pd.DataFrame(
        {
            'patch': [f'p_{n}' for n in range(N)],
            'aoi': [f'{SEASONS[a % 3]}_{a}' for a in area],
            'season': [SEASONS[a % 3] for a in area],
            'cloud_cover': [*COVERS, *rng.random(N - len(COVERS))],
        }
    )


def make_values(patches: Frame, seed: int) -> PatchValues:
    """Values of random pixels; there is no snow, and mangrove in one area alone."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(1, 50, (N, 2, K + 1))
    pixels[:, :, CLASSES[2].index('Snow and ice')] = 0
    pixels[1:, :, CLASSES[2].index('Mangroves')] = 0
    pixels[patches['cloud_cover'] == 0, 1] = 0
    pixels[patches['cloud_cover'] == 1, 0] = 0
    squares = pixels * rng.uniform(0.001, 0.04, pixels.shape)
    sums = np.stack(
        [
            squares,
            pixels * rng.uniform(1, 20, pixels.shape),
            pixels * rng.uniform(0.01, 0.1, pixels.shape),
            squares,
        ],
        axis=1,
    )
    images = rng.uniform(1, 20, (N, len(METRICS)))
    return PatchValues(*map(torch.from_numpy, (images, sums, pixels)))


@pytest.fixture(scope='module')
def values(patches: Frame) -> PatchValues:
    return make_values(patches, 1)


@pytest.fixture(scope='module')
def areas(patches: Frame) -> Areas:
    return Areas(patches['aoi'].tolist())


@pytest.fixture(scope='module')
def estimates(
    values: PatchValues, metrics: PatchMetrics, patches: Frame, areas: Areas
) -> list[Estimate]:
    return [estimate(s, metrics, areas) for s in strata(values, metrics, patches)]


@pytest.fixture(scope='module')
def table(estimates: list[Estimate]) -> Frame:
    rows = pd.DataFrame(figures('a', estimates))
    return rows.set_index(['kind', 'stratum', 'metric']).sort_index()


@pytest.fixture(scope='module')
def cells(values: PatchValues, patches: Frame) -> Frame:
    """A row for each patch, cloudy or clear pixels, and class."""
    rows = [
        {
            'aoi': patches['aoi'][n],
            'cloud': ('clear', 'cloudy')[cloud],
            'number': number,
            'n': n,
            'pixels': int(values.pixels[n, cloud, number]),
        }
        | {
            name: float(values.sums[n, column, cloud, number])
            for column, name in enumerate(POOLED)
        }
        for n, cloud, number in product(range(N), range(2), range(K))
    ]
    return pd.DataFrame(rows)


def pooled(cells: Frame) -> dict[str, float]:
    """Metrics of pixels together."""
    total = cells[['pixels', *POOLED]].sum()
    square = total['RMSE'] / total['pixels']
    return {
        'PSNR': min(100, -10 * math.log10(square)),
        'SAM': total['SAM'] / total['pixels'],
        'MAE': total['MAE'] / total['pixels'],
        'RMSE': math.sqrt(square),
    }


class TestFigures:
    def test_strata(self, table: Frame) -> None:
        found = table.groupby('kind', sort=False)['value'].size().to_dict()
        assert found == {
            'cloud': 2 * 4,
            'class level 1': 7 * 4,
            'class level 2': 11 * 4,
            'all': 5,
            'cloud cover': 5 * 5,
            'season': 4 * 5,
        }
        assert table.index.is_unique
        assert (table['method'] == 'a').all()

    def test_means_over_patches(
        self, table: Frame, values: PatchValues, patches: Frame
    ) -> None:
        rows = pd.DataFrame(values.images.numpy(), columns=METRICS)
        rows = pd.concat([patches, rows], axis=1)
        rows['bin'] = [
            BINS[sum(cover >= edge for edge in (0.2, 0.4, 0.6, 0.8))]
            for cover in rows['cloud_cover']
        ]
        groups: dict[tuple[Any, ...], Frame] = {('all', 'all'): rows}
        groups |= {('cloud cover', name): g for name, g in rows.groupby('bin')}
        groups |= {('season', name): g for name, g in rows.groupby('season')}
        assert len(groups) == 1 + 5 + 3
        for group, members in groups.items():
            for metric in METRICS:
                figure = table.loc[(*group, metric)]
                assert figure['value'] == pytest.approx(members[metric].mean())
                assert figure['patches'] == len(members)
                assert figure['areas'] == members['aoi'].nunique()
                assert pd.isna(figure['pixels'])

    def test_bins(self, metrics: PatchMetrics, values: PatchValues) -> None:
        covers = [0.0, 0.2, 0.1999, 0.4, 0.6, 0.8, 0.7999, 1.0, 18000 / 90000]
        expected = [0, 1, 0, 2, 3, 4, 3, 4, 1]
        patches = pd.DataFrame({'season': 'fall', 'cloud_cover': covers})
        part = PatchValues(*(value[: len(covers)] for value in values))
        found = {
            stratum.name: stratum.counts.tolist()
            for stratum in strata(part, metrics, patches)
            if stratum.kind == 'cloud cover'
        }
        assert tuple(found) == BINS
        for number, name in enumerate(BINS):
            assert found[name] == [float(number == e) for e in expected]

    def test_pooled_pixels(self, table: Frame, cells: Frame) -> None:
        groups = {
            ('class level 2', CLASSES[2][n]): g for n, g in cells.groupby('number')
        }
        for name, codes in zip(CLASSES[1], PlanetCRWorldCover.codes[1], strict=True):
            members = [PlanetCRWorldCover.codes[2].index((code,)) for code in codes]
            part = cells[cells['number'].isin(members)]
            groups['class level 1', name] = part
        for group, part in groups.items():
            part = part[part['pixels'] > 0]
            for metric in POOLED:
                figure = table.loc[(*group, metric)]
                assert figure['pixels'] == part['pixels'].sum()
                assert figure['patches'] == part['n'].nunique()
                assert figure['areas'] == part['aoi'].nunique()
                if len(part):
                    assert figure['value'] == pytest.approx(pooled(part)[metric])
                else:
                    assert group == ('class level 2', 'Snow and ice')
                    assert math.isnan(figure['value'])

    def test_cloudy_and_clear_pixels(
        self, table: Frame, values: PatchValues, patches: Frame
    ) -> None:
        """Those of no class, too."""
        for row, name, without in ((1, 'cloudy', 0), (0, 'clear', 1)):
            counts, sums = values.pixels[:, row], values.sums[:, :, row]
            mean = sums.sum(dim=(0, 2)) / counts.sum()
            figure = table.loc['cloud', name]
            assert (figure['pixels'] == int(counts.sum())).all()
            assert (
                figure['patches'] == (patches['cloud_cover'] != without).sum()
            ).all()
            assert figure['value']['SAM'] == pytest.approx(mean[1].item())
            assert figure['value']['RMSE'] == pytest.approx(mean[3].sqrt().item())
            assert figure['value']['PSNR'] == pytest.approx(
                -10 * math.log10(mean[0].item())
            )
            # Which is not the mean of the PSNR of each patch
            squares = sums[:, 0].sum(dim=1) / counts.sum(dim=1)
            means = -10 * squares[counts.sum(dim=1) > 0].log10()
            assert figure['value']['PSNR'] < means.mean().item() - 0.01

    def test_empty_strata(self, table: Frame) -> None:
        empty = table[table['patches'] == 0]
        assert set(empty.index.droplevel('metric')) == {
            ('season', SEASONS[3]),
            ('class level 2', 'Snow and ice'),
        }
        assert empty[['value', 'low', 'high']].isna().all(axis=None)
        assert (empty['areas'] == 0).all()
        rest = table[table['patches'] > 0]
        assert rest['value'].notna().all()

    def test_few_areas(self, table: Frame) -> None:
        one = table[table['areas'] == 1]
        assert ('class level 2', 'Mangroves') in set(one.index.droplevel('metric'))
        assert MIN_AREAS == 5
        few = table[(table['areas'] > 0) & (table['areas'] < 5)]
        assert few['areas'].nunique() > 1
        assert few['value'].notna().all()
        assert few[['low', 'high']].isna().all(axis=None)
        more = table[table['areas'] >= 5]
        assert len(more) > 50
        assert (more['low'] < more['value']).all()
        assert (more['value'] < more['high']).all()

    def test_areas(self, values: PatchValues, patches: Frame, areas: Areas) -> None:
        found = area_figures('a', values, METRICS, areas)
        rows = pd.DataFrame(values.images.numpy(), columns=METRICS)
        groups = rows.groupby(patches['aoi'])
        assert len(found) == 7 * len(METRICS)
        for figure in found:
            group = groups.get_group(figure.stratum)[figure.metric]
            assert figure.value == pytest.approx(group.mean())
            assert figure.patches == len(group)
            assert (figure.kind, figure.areas) == ('area', 1)
            assert math.isnan(figure.low)
            assert math.isnan(figure.high)

    @pytest.mark.parametrize('cover', [0.0, 1.0])
    def test_all_cloud_or_none(
        self, metrics: PatchMetrics, areas: Areas, patches: Frame, cover: float
    ) -> None:
        patches = patches.assign(cloud_cover=cover)
        estimates = [
            estimate(s, metrics, areas)
            for s in strata(make_values(patches, 3), metrics, patches)
        ]
        found = pd.DataFrame(figures('a', estimates)).set_index(['kind', 'stratum'])
        empty, full = ('cloudy', 'clear') if cover == 0 else ('clear', 'cloudy')
        assert (found['pixels']['cloud', empty] == 0).all()
        assert found['value']['cloud', empty].isna().all()
        assert found['low']['cloud', empty].isna().all()
        assert (found['patches']['cloud', full] == N).all()
        assert found['low']['cloud', full].notna().all()
        name = BINS[0] if cover == 0 else BINS[4]
        assert (found['patches']['cloud cover', name] == N).all()
        assert found['patches']['cloud cover'].sum() == 5 * N


class TestPatchTable:
    def test_columns(
        self, values: PatchValues, metrics: PatchMetrics, patches: Frame
    ) -> None:
        rows = patch_table(values, metrics, patches)
        assert len(rows) == N
        assert rows[list(patches.columns)].equals(patches)
        np.testing.assert_array_equal(rows[METRICS], values.images)
        assert (rows['pixels_snow_and_ice'] == 0).all()
        assert rows['MAE_snow_and_ice'].isna().all()
        for number, name in ((0, 'tree_cover'), (5, 'bare_sparse_vegetation')):
            pixels = values.pixels[:, :, number].sum(dim=1)
            assert rows[f'pixels_{name}'].tolist() == pixels.tolist()
            square = values.sums[:, 3, :, number].sum(dim=1) / pixels
            np.testing.assert_allclose(rows[f'RMSE_{name}'], square.sqrt())
            np.testing.assert_allclose(rows[f'PSNR_{name}'], -10 * square.log10())
        for row, name, without in ((1, 'cloudy', 0), (0, 'clear', 1)):
            pixels = values.pixels[:, row].sum(dim=1)
            assert rows[f'pixels_{name}'].tolist() == pixels.tolist()
            mean = values.sums[:, 2, row].sum(dim=1) / pixels
            np.testing.assert_allclose(rows[f'MAE_{name}'], mean)
            assert (
                rows[f'MAE_{name}'].isna() == (rows['cloud_cover'] == without)
            ).all()
        assert len(rows.columns) == len(patches.columns) + 5 + 13 * 5


def naive_quantile(values: Sequence[float], share: float) -> float:
    ordered = sorted(value for value in values if not math.isnan(value))
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


class TestIntervals:
    def test_weights(self, areas: Areas, patches: Frame) -> None:
        assert areas.names == sorted(set(patches['aoi']))
        assert [areas.names[code] for code in areas.codes] == patches['aoi'].tolist()
        assert areas.weights.shape == (RESAMPLES, 7)
        assert (areas.weights.sum(axis=1) == 7).all()
        assert np.abs(areas.weights.mean(axis=0) - 1).max() < 0.05
        # Each draw is independent: the variance of a count is that of a binomial
        assert areas.weights.var(axis=0) == pytest.approx(6 / 7, abs=0.05)
        again = Areas(patches['aoi'].tolist()[::-1])
        np.testing.assert_array_equal(again.weights, areas.weights)

    @pytest.mark.parametrize(
        ('kind', 'name'),
        [
            ('all', 'all'),
            ('season', SEASONS[0]),
            ('cloud cover', '80 - 100 %'),
            ('cloud', 'cloudy'),
            ('class level 1', 'Urban'),
        ],
    )
    def test_loop(
        self, estimates: list[Estimate], areas: Areas, kind: str, name: str
    ) -> None:
        """Patches of the areas that were drawn, one resample after the other."""
        (found,) = (
            e for e in estimates if (e.stratum.kind, e.stratum.name) == (kind, name)
        )
        stratum = found.stratum
        resampled: list[NDArray[np.float64]] = []
        weights = areas.weights.astype(int)
        for drawn in weights[:, areas.codes]:
            rows = np.repeat(np.arange(N), drawn)
            count = stratum.counts[rows].sum()
            if not count:
                resampled.append(np.full(len(stratum.metrics), np.nan))
                continue
            means = stratum.sums[rows].sum(axis=0) / count
            if stratum.is_pooled:
                square = means[3]
                means = np.array(
                    [-10 * np.log10(square), means[1], means[2], np.sqrt(square)]
                )
            resampled.append(means)
        np.testing.assert_allclose(found.resampled, resampled, rtol=1e-9)
        low, high = interval(found.resampled, found.areas)
        assert (found.areas < MIN_AREAS) == (name in (SEASONS[0], '80 - 100 %'))
        if found.areas < MIN_AREAS:
            assert np.isnan([low, high]).all()
            return
        for column, values in enumerate(np.transpose(resampled).tolist()):
            assert low[column] == pytest.approx(naive_quantile(values, 0.025))
            assert high[column] == pytest.approx(naive_quantile(values, 0.975))

    def test_coverage(self) -> None:
        """Resampling areas covers the truth, and resampling patches does not."""
        count, size, tries = 40, 5, 200
        rng = np.random.default_rng(0)
        of_area = rng.normal(0, 1, (count, 1, tries))
        sums = 3 + of_area + rng.normal(0, 0.5, (count, size, tries))
        sums = sums.reshape(-1, tries)
        ones = np.ones(len(sums))
        names = [f'm{number}' for number in range(tries)]
        stratum = Stratum('all', 'all', names, sums, ones, False)
        metrics = PatchMetrics({}, len(sums), K)

        def coverage(names: Sequence[str]) -> float:
            found = estimate(stratum, metrics, Areas(names))
            low, high = interval(found.resampled, found.areas)
            return float(((low < 3) & (high > 3)).mean())

        few, many = (interval(sums, count) for count in (4, 5))
        assert np.isnan(few).all()
        assert np.isfinite(many).all()
        assert 0.9 <= coverage([f'a_{n // size}' for n in range(len(sums))]) <= 0.99
        assert coverage([f'p_{n}' for n in range(len(sums))]) < 0.8


def make_estimates(
    images: NDArray[np.float64], names: Sequence[str], metrics: PatchMetrics
) -> list[Estimate]:
    """Figures of all patches from their values (N, M)."""
    ones = np.ones(len(images))
    stratum = Stratum('all', 'all', list(metrics.metrics), images, ones, False)
    return [estimate(stratum, metrics, Areas(names))]


class TestComparisons:
    #: A metric that is better if higher, and one if lower.
    metrics = PatchMetrics({'SSIM': StandardSSIM(), 'MAE': StandardMAE()}, 60, K)
    names = tuple(f'a_{number // 3}' for number in range(60))

    def compare(
        self, *methods: NDArray[np.float64]
    ) -> dict[tuple[str, str, str], Comparison]:
        found = comparisons(
            {
                f'm{number}': make_estimates(images, self.names, self.metrics)
                for number, images in enumerate(methods)
            },
            self.metrics,
            Areas(self.names),
        )
        return {(c.baseline, c.method, c.metric): c for c in found}

    def test_pairs(self) -> None:
        images = np.random.default_rng(0).random((3, 60, 2))
        found = self.compare(*images)
        pairs = [('m0', 'm1'), ('m0', 'm2'), ('m1', 'm2')]
        assert list(found) == [(*pair, m) for pair in pairs for m in ('SSIM', 'MAE')]
        for (baseline, method, metric), row in found.items():
            a, b = images[int(baseline[1])], images[int(method[1])]
            column = ('SSIM', 'MAE').index(metric)
            difference = (b - a)[:, column]
            assert row.difference == pytest.approx(difference.mean())
            better = difference > 0 if metric == 'SSIM' else difference < 0
            assert row.share_better == pytest.approx(better.mean())
            assert row.low < row.difference < row.high
            assert (row.patches, row.areas) == (60, 20)

    def test_identical(self) -> None:
        images = np.random.default_rng(0).random((60, 2))
        for row in self.compare(images, images.copy()).values():
            assert row.share_better == 0.5
            assert row.p_value == 1
            assert row.difference == row.low == row.high == 0

    def test_ties(self) -> None:
        images = np.random.default_rng(0).random((60, 2))
        other = images.copy()
        other[:20] += 0.1
        found = self.compare(images, other)
        assert found['m0', 'm1', 'SSIM'].share_better == pytest.approx(40 / 60)
        assert found['m0', 'm1', 'MAE'].share_better == pytest.approx(20 / 60)

    def test_clearly_better(self) -> None:
        rng = np.random.default_rng(0)
        images = rng.random((60, 2))
        better = images + [0.1, -0.1] + rng.normal(0, 0.02, (60, 2))
        for row in self.compare(images, better).values():
            # Swapping any areas makes the difference smaller
            assert row.p_value == 1 / (RESAMPLES + 1)
            assert row.share_better > 0.95
        for row in self.compare(better, images).values():
            assert row.p_value == 1 / (RESAMPLES + 1)
            assert row.share_better < 0.05

    def test_swapped(self) -> None:
        rng = np.random.default_rng(0)
        images = rng.random((60, 2))
        other = images + rng.normal(0.005, 0.03, (60, 2))
        there, back = self.compare(images, other), self.compare(other, images)
        for row, swapped in zip(there.values(), back.values()):
            assert swapped.difference == pytest.approx(-row.difference)
            assert swapped.low == pytest.approx(-row.high)
            assert swapped.high == pytest.approx(-row.low)
            assert swapped.p_value == row.p_value
            assert 0 < row.p_value < 1
            assert swapped.share_better == pytest.approx(1 - row.share_better)

    def test_paired(self) -> None:
        """What is hard for both does not blur the difference."""
        rng = np.random.default_rng(0)
        images = rng.random((60, 2))
        other = images + rng.normal(0.02, 0.02, (60, 2))
        (first,) = make_estimates(images, self.names, self.metrics)
        low, high = interval(first.resampled, first.areas)
        for column, row in enumerate(self.compare(images, other).values()):
            width = row.high - row.low
            assert width < 0.25 * (high - low)[column]
            assert row.p_value < 0.01

    def test_p_values(self) -> None:
        """Of methods that do not differ, about a twentieth is below 0.05."""
        tries = 200
        chosen: dict[str, ImageMetric] = {f'm{n}': StandardMAE() for n in range(tries)}
        metrics = PatchMetrics(chosen, 200, K)
        rng = np.random.default_rng(0)
        images = rng.random((200, tries))
        # Areas of one to nine patches
        codes = np.repeat(np.arange(40), [1, 3, 5, 7, 9] * 8)
        other = images + rng.normal(0, 1, (40, tries))[codes]
        other += rng.normal(0, 0.5, (200, tries))
        names = [f'a_{code}' for code in codes]
        found = comparisons(
            {
                'a': make_estimates(images, names, metrics),
                'b': make_estimates(other, names, metrics),
            },
            metrics,
            Areas(names),
        )
        p_values = np.array([row.p_value for row in found])
        assert len(p_values) == tries
        assert 0.01 <= (p_values < 0.05).mean() <= 0.11
        assert 0.4 <= (p_values < 0.5).mean() <= 0.6
        assert np.abs(np.sort(p_values) - np.linspace(0, 1, tries)).max() < 0.1
        # An interval without 0 and a p-value below 0.05 are nearly the same
        beyond = np.array([row.low > 0 or row.high < 0 for row in found])
        assert (beyond == (p_values < 0.05)).mean() > 0.9

    def test_all_swaps(self) -> None:
        """Each of the 256 ways to swap methods in eight areas."""
        rng = np.random.default_rng(0)
        shift = [0.0, 0.5, 1.0, 2.0, -1.0, 30.0]
        differences = rng.normal(shift, 1, (8, 6)) * np.arange(1, 9)[:, None]
        expected = []
        for column in differences.T.tolist():
            sums = [
                abs(math.fsum(s * d for s, d in zip(signs, column)))
                for signs in itertools.product((-1, 1), repeat=8)
            ]
            expected.append(sum(s >= sums[0] * (1 - 1e-12) for s in sums) / 256)
        # The smallest that there is
        assert expected[-1] == 2 / 256
        assert 0.2 < max(expected) < 1
        areas = Areas([f'a_{number}' for number in range(8)])
        assert areas.signs.shape == (256, 8)
        found = sign_flip_test(differences, areas.signs)
        assert found.tolist() == expected
        assert sign_flip_test(-differences, areas.signs).tolist() == expected

    @pytest.mark.parametrize(('count', 'swaps'), [(13, 8192), (14, RESAMPLES + 1)])
    def test_random_swaps(self, count: int, swaps: int) -> None:
        """Of more areas than have all swaps in the resamples, some of them."""
        rng = np.random.default_rng(0)
        differences = rng.normal(np.linspace(0, 2, 20), 1, (count, 20))
        areas = Areas([f'a_{number}' for number in range(count)])
        assert areas.signs.shape == (swaps, count)
        assert np.unique(areas.signs).tolist() == [-1, 1]
        # No swap is one of them
        assert (areas.signs == 1).all(axis=1).any()
        if swaps > RESAMPLES:
            assert np.abs(areas.signs.mean(axis=0)).max() < 0.05
            correlation = np.corrcoef(areas.signs.T) - np.eye(count)
            assert np.abs(correlation).max() < 0.05
        every = np.array(list(itertools.product((-1.0, 1.0), repeat=count)))
        assert len(every) == 2**count
        sums = np.abs(every @ differences)
        exact = (sums >= sums[-1] - 1e-9).mean(axis=0)
        assert exact.min() < 0.001
        assert exact.max() > 0.5
        found = sign_flip_test(differences, areas.signs)
        error = 4 * np.sqrt(exact * (1 - exact) / swaps) + 2 / swaps
        assert (np.abs(found - exact) <= error * (swaps > RESAMPLES)).all()
        assert found.min() > 0
        swapped = sign_flip_test(-differences, areas.signs)
        np.testing.assert_array_equal(swapped, found)

    def test_rounding(self) -> None:
        """Sums that are equal but for rounding are as large, in whatever order."""
        areas = Areas(list('abc'))
        for values, expected in (
            ([0.1, 0.2, 0.3], 2 / 8),
            ([0.3, 0.1, -0.4], 1),
            ([0.1, 0.2, -0.3], 1),
            ([0.1, 0.1, -0.1], 1),
        ):
            for order in itertools.permutations(values):
                found = sign_flip_test(np.array(order)[:, None], areas.signs)
                assert found.tolist() == [expected]

    def test_strata(
        self,
        estimates: list[Estimate],
        metrics: PatchMetrics,
        patches: Frame,
        areas: Areas,
    ) -> None:
        """Of pixels there is no share of patches, and of nothing no comparison."""
        other = [
            estimate(s, metrics, areas)
            for s in strata(make_values(patches, 2), metrics, patches)
        ]
        found = pd.DataFrame(comparisons({'a': estimates, 'b': other}, metrics, areas))
        is_pooled = found['kind'].isin(['cloud', 'class level 1', 'class level 2'])
        assert (found['share_better'].isna() == is_pooled).all()
        assert 'Snow and ice' not in set(found['stratum'])
        assert SEASONS[3] not in set(found['stratum'])
        one = found['areas'] == 1
        assert one.sum() >= 4
        assert (found['p_value'].isna() == one).all()
        assert (found['low'].isna() == (found['areas'] < 5)).all()
        assert set(found['areas'][found['low'].isna()]) > {1}
        assert found['low'].notna().sum() > 50
        assert found['difference'].notna().all()

        # Of pooled pixels, squared errors are what is averaged
        p_values = found.set_index(['kind', 'stratum', 'metric'])['p_value']
        for before, after in zip(estimates, other):
            stratum = after.stratum
            if (stratum.kind, stratum.name) not in (
                ('cloud', 'cloudy'),
                ('class level 1', 'Urban'),
                ('all', 'all'),
            ):
                continue
            gains = pd.DataFrame(stratum.sums - before.stratum.sums)
            gains = gains.groupby(patches['aoi']).sum().to_numpy()
            for column, metric in enumerate(stratum.metrics):
                sums = np.abs(areas.signs @ gains[:, column])
                expected = (sums >= abs(gains[:, column].sum()) - 1e-9).mean()
                assert p_values[stratum.kind, stratum.name, metric] == expected
        for name in ('cloudy', 'clear'):
            assert p_values['cloud', name, 'PSNR'] == p_values['cloud', name, 'RMSE']
            assert 0 < p_values['cloud', name, 'PSNR'] < 1

        tables = [
            pd.DataFrame(figures('', e)).set_index(['kind', 'stratum', 'metric'])
            for e in (estimates, other)
        ]
        gap = (tables[1]['value'] - tables[0]['value']).dropna()
        found = found.set_index(['kind', 'stratum', 'metric'])['difference']
        assert set(found.index) == set(gap.index)
        np.testing.assert_allclose(found, gap[found.index])
