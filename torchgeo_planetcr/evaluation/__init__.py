# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Evaluation of methods on a split."""

from .evaluate import evaluate
from .landcover import (
    confusion,
    convert_level,
    landcover_figures,
    landcover_level,
    load_landcover_model,
    predict_landcover,
)
from .methods import Method, Network, Predictions, load_methods
from .output import Evaluation
from .patches import EvaluationPatches, fingerprint
from .report import Example, render_report

__all__ = (
    'Evaluation',
    'EvaluationPatches',
    'Example',
    'Method',
    'Network',
    'Predictions',
    'confusion',
    'convert_level',
    'evaluate',
    'fingerprint',
    'landcover_figures',
    'landcover_level',
    'load_landcover_model',
    'load_methods',
    'predict_landcover',
    'render_report',
)
