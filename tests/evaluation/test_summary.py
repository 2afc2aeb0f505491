# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import json
import math
from dataclasses import replace

import pytest
from report_summary import make_summary

from torchgeo_planetcr.evaluation.summary import (
    MethodDescription,
    NetworkDescription,
    from_json,
    to_json,
)


@pytest.mark.parametrize('landcover', [True, False])
def test_there_and_back(landcover: bool) -> None:
    """The content stays, and each record has the keys of the format in their order."""
    content = make_summary(areas=4, landcover=landcover, only=['season', 'cloud'])
    content['protocol']['size'] = [160, 160] if landcover else None
    found = to_json(from_json(content))
    assert found == content
    assert list(found) == list(content)
    text = json.dumps(found, indent=1, allow_nan=False)
    assert json.dumps(to_json(from_json(json.loads(text))), indent=1) == text


def test_missing_values() -> None:
    """They are NaN in Python, and null in JSON."""
    content = make_summary(areas=4, only=['cloud'])
    summary = from_json(content)
    figures = summary.figures
    assert all(math.isnan(figure.low) for figure in figures)
    assert {figure.pixels is None for figure in figures} == {True, False}
    assert math.isnan(summary.comparisons[-1].share_better)
    summary = replace(summary, figures=[replace(figures[0], value=math.nan)])
    assert to_json(summary)['figures'] == [content['figures'][0] | {'value': None}]


def test_methods() -> None:
    """Only a network has a model."""
    methods = from_json(make_summary(only=['season'])).methods
    assert type(methods['copy']) is MethodDescription
    assert isinstance(methods['dsen2cr'], NetworkDescription)
    assert list(to_json(methods['copy'])) == ['kind', 'source', 'sha256']
    assert list(to_json(methods['dsen2cr'])) == ['kind', 'source', 'sha256', 'model']


def test_to_json() -> None:
    inner = [1.5, math.nan, {'b': math.nan, 'c': 'nan'}]
    value = {'a': inner, 'd': 3, 'e': None, 'f': (1, 2)}
    expected = {'a': [1.5, None, {'b': None, 'c': 'nan'}], 'd': 3, 'e': None}
    assert to_json(value) == expected | {'f': [1, 2]}
    # What was given stays
    assert inner[1] is not None
