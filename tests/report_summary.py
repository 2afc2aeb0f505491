# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Made-up results of an evaluation."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from torchgeo_planetcr.datasets import PlanetCRWorldCover
from torchgeo_planetcr.datasets.patch_files import SEASONS
from torchgeo_planetcr.evaluation.report import Example, render_report
from torchgeo_planetcr.evaluation.report.charts import method_styles
from torchgeo_planetcr.evaluation.report.context import Context
from torchgeo_planetcr.evaluation.summary import from_json

#: Unit, whether higher is better, and value where nothing is restored.
METRICS = {
    'PSNR': ('dB', True, 17.0),
    'SSIM': ('', True, 0.61),
    'SAM': ('degrees', False, 9.0),
    'MAE': ('reflectance', False, 0.11),
    'RMSE': ('reflectance', False, 0.15),
}

POOLED = ('PSNR', 'SAM', 'MAE', 'RMSE')


def make_summary(
    methods: Sequence[str] = ('copy', 'dsen2cr'),
    areas: int = 40,
    landcover: bool = True,
    only: Sequence[str] = (),
    notes: Sequence[str] = ('LPIPS was not computed: its weights are not there.',),
) -> dict[str, Any]:
    """Make a summary, in which each method is a little better than the one before.

    Seasons have a quarter of the areas each, and a class of land cover only three.

    Args:
        methods: Names of the methods.
        areas: Number of areas.
        landcover: Whether land cover was mapped, too.
        only: Kinds of strata, if not all.
        notes: Notes.

    Returns:
        What the JSON file of an evaluation holds.
    """
    rng = np.random.default_rng(0)
    kinds: dict[str, Sequence[str]] = {
        'all': ['all'],
        'cloud': ['cloudy', 'clear'],
        'cloud cover': [f'{low} - {low + 20} %' for low in range(0, 100, 20)],
        'season': SEASONS,
        'class level 1': PlanetCRWorldCover.classes[1],
        'class level 2': PlanetCRWorldCover.classes[2],
        'area': [f'{SEASONS[n % 4]}_{n + 1}' for n in range(areas)],
    }
    if only:
        kinds = {kind: kinds[kind] for kind in ('all', *only)}
    empty = {'80 - 100 %', 'Mangroves', 'Snow and ice'}
    some = dict.fromkeys(SEASONS, areas // 4) | {'Herbaceous wetland': 3}
    some |= dict.fromkeys(empty, 0) | dict.fromkeys(kinds.get('area', []), 1)
    patches = 50 * areas
    figures, comparisons = [], []
    for kind, strata in kinds.items():
        is_pooled = kind == 'cloud' or kind.startswith('class')
        metrics = POOLED if is_pooled else METRICS
        for stratum in strata:
            is_empty = stratum in empty
            number_of_areas = min(areas, some.get(stratum, areas))
            has_interval = number_of_areas >= 5
            noise = rng.normal(0, 0.04)
            for number, method in enumerate(methods):
                for metric in metrics:
                    _, up, value = METRICS[metric]
                    factor = 1 + noise + 0.1 * number * (1 if up else -1)
                    value *= factor
                    count = 0 if is_empty else 50 if kind == 'area' else patches
                    figures.append(
                        {
                            'method': method,
                            'kind': kind,
                            'stratum': stratum,
                            'metric': metric,
                            'value': None if is_empty else value,
                            'low': value * 0.95 if has_interval else None,
                            'high': value * 1.05 if has_interval else None,
                            'patches': count,
                            'areas': number_of_areas,
                            'pixels': 90000 * count if is_pooled else None,
                        }
                    )
                    if number == 0 or kind == 'area' or is_empty:
                        continue
                    change = 0.1 * number * METRICS[metric][2] * (1 if up else -1)
                    comparisons.append(
                        {
                            'method': method,
                            'baseline': methods[0],
                            'kind': kind,
                            'stratum': stratum,
                            'metric': metric,
                            'difference': change,
                            'low': change - 0.01 if has_interval else None,
                            'high': change + 0.01 if has_interval else None,
                            'p_value': _p_value(metric, number_of_areas),
                            'share_better': None if is_pooled else 0.93,
                            'patches': count,
                            'areas': number_of_areas,
                        }
                    )
    details = {
        metric: {
            'unit': unit,
            'higher_is_better': up,
            'description': f'What {metric} is, and when not to believe it.',
        }
        for metric, (unit, up, _) in METRICS.items()
    }
    return {
        'format': 1,
        'created': '2026-11-23T03:00:00+00:00',
        'versions': {
            'python': '3.12.3',
            'torchgeo-planetcr': '0.1.0',
            'torch': '2.15.0',
        },
        'hardware': {
            'accelerator': 'cpu',
            'device': 'AMD EPYC 9B45',
            'processes': 1,
            'batch_size': 1,
            'precision': '32-true',
        },
        'data': {
            'root': '/data/planet-cr',
            'split': 'test',
            'patches': patches,
            'areas': areas,
            'fingerprint': '0123456789abcdef' * 4,
        },
        'protocol': {
            'name': 'standard',
            'size': None,
            'alignment': 'geo',
            'description': 'Whole patch; prediction and target clamped to [0, 1].',
            'metrics': details,
        },
        'bootstrap': {'unit': 'area', 'resamples': 10000, 'seed': 0, 'level': 0.95},
        'methods': {
            method: {'kind': 'copy', 'source': None, 'sha256': None}
            if method == 'copy'
            else {
                'kind': 'checkpoint',
                'source': f'runs/{method}.ckpt',
                'sha256': 'fedcba9876543210' * 4,
                'model': 'dsen2cr',
            }
            for method in methods
        },
        'figures': figures,
        'comparisons': comparisons,
        'landcover': _landcover(methods, areas) if landcover else None,
        'notes': list(notes),
    }


def render(summary: Mapping[str, Any], examples: Sequence[Example]) -> str:
    """Render a report from the content of the JSON file."""
    return render_report(from_json(summary), examples)


def make_context(content: Mapping[str, Any]) -> Context:
    """What all parts of a report share, from the content of the JSON file."""
    summary = from_json(content)
    styles = method_styles((name, name == 'copy') for name in summary.methods)
    return Context(summary, styles)


def _p_value(metric: str, areas: int) -> float | None:
    if areas < 2:
        return None
    # An interval of RMSE contradicts it.
    return 0.4 if metric == 'RMSE' else max(0.0002, 2.0 ** (1 - areas))


def _with_interval(key: str, value: float, areas: int) -> dict[str, Any]:
    return {
        key: value if areas else None,
        'low': value - 0.02 if areas >= 5 else None,
        'high': value + 0.02 if areas >= 5 else None,
        'areas': areas,
    }


def _landcover(methods: Sequence[str], areas: int) -> dict[str, Any]:
    """The wetland is in three areas, as in the figures of pixels."""
    figures, gaps, comparisons = [], [], []
    restored = [method for method in methods if method != 'copy']
    scores = dict(zip(['clear', 'cloudy', *restored], [0.62, 0.31, 0.45, 0.5, 0.55]))
    for image, score in scores.items():
        for pixels in ('all', 'cloudy', 'clear'):
            for label in ('mean', *PlanetCRWorldCover.classes[2]):
                number = {'Mangroves': 0, 'Herbaceous wetland': 3}.get(label, areas)
                row = {'pixels': pixels, 'class': label}
                iou = _with_interval('iou', score, number)
                count = {'count': 12345 if number else 0}
                figures.append({'image': image} | row | iou | count)
                if image != 'clear':
                    gap = _with_interval('gap', 0.62 - score, number)
                    gaps.append({'image': image} | row | gap)
                for baseline in list(scores)[1 : list(scores).index(image)]:
                    difference = score - scores[baseline]
                    comparisons.append(
                        {'image': image, 'baseline': baseline}
                        | row
                        | _with_interval('difference', difference, number)
                    )
    model = {
        'source': 'runs/landcover.ckpt',
        'sha256': 'a' * 64,
        'model': 'unet',
        'backbone': 'resnet18',
        'level': 2,
    }
    return {
        'model': model,
        'figures': figures,
        'gaps': gaps,
        'comparisons': comparisons,
    }


def make_examples(
    methods: Sequence[str] = ('copy', 'dsen2cr'), count: int = 1, size: int = 60
) -> list[Example]:
    """Make patches, dark where they are clear and bright where they are cloudy."""
    generator = torch.Generator().manual_seed(0)
    examples = []
    for number in range(count):
        clear = 400 + 1200 * torch.rand(4, size, size, generator=generator)
        cloud = torch.zeros(size, size, dtype=torch.int64)
        cloud[: size // 2] = 1
        cloudy = clear + 5000 * cloud
        mask = torch.tensor([0, 3, 7, 255]).repeat_interleave(-(-size // 4))[:size]
        weights = torch.linspace(0, 0.9, len(methods))
        examples.append(
            Example(
                f'summer_33_p_{number + 1}',
                [f'Best of {methods[-1]}', f'Worst of {methods[0]}'],
                {
                    'image': cloudy,
                    'image_clear': clear,
                    'image_s1': -20
                    + 10 * torch.rand(2, size, size, generator=generator),
                    'mask': mask.repeat(size, 1),
                    'mask_cloud': cloud,
                },
                {
                    method: torch.lerp(cloudy, clear, weight)
                    for method, weight in zip(methods, weights)
                },
                {
                    method: {metric: entry[2] for metric, entry in METRICS.items()}
                    for method in methods
                },
            )
        )
    return examples
