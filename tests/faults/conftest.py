# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

from collections.abc import Iterator
from pathlib import Path

import pytest

from . import inputs
from .campaign import Campaign
from .child import planetcr, run


@pytest.fixture(scope='session')
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Inputs of all kinds, to be read only."""
    folder = inputs.make_all(tmp_path_factory.mktemp('base'))
    # The first process waits for the server to import the package
    ended = run(folder, planetcr, 'index', folder / 'tree', seconds=300)
    assert ended.status == 0, ended.text
    return folder


@pytest.fixture
def campaign(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Campaign]:
    """A part of the campaign; at its end, all faults are named."""
    campaign = Campaign(tmp_path, request.config)
    yield campaign
    for kind, counts in campaign.counts.items():
        request.node.user_properties.append((f'faults {kind}', dict(counts)))
    assert not (campaign.goes_on and campaign.bad), '\n'.join(campaign.bad)
