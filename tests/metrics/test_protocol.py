# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import pytest

from torchgeo_planetcr.metrics import PROTOCOLS

HIGHER_IS_BETTER = {
    'PSNR': True,
    'SSIM': True,
    'SAM': False,
    'MAE': False,
    'RMSE': False,
}


def test_protocols() -> None:
    assert set(PROTOCOLS) == {'reference', 'standard'}
    reference, standard = PROTOCOLS['reference'], PROTOCOLS['standard']
    assert (reference.size, reference.alignment) == (160, 'reference')
    assert (standard.size, standard.alignment) == (None, 'geo')


@pytest.mark.parametrize('protocol', PROTOCOLS)
def test_metrics(protocol: str) -> None:
    metrics = PROTOCOLS[protocol].metrics
    assert {
        name: metric.higher_is_better for name, metric in metrics.items()
    } == HIGHER_IS_BETTER
    for name, metric in metrics.items():
        assert metric.__name__ == protocol.capitalize() + name
        assert metric.clamps == (protocol == 'standard')
    # Each has a definition of its own
    definitions = [
        metric.definition
        for chosen in PROTOCOLS.values()
        for metric in chosen.metrics.values()
    ]
    assert len(set(definitions)) == len(definitions)
