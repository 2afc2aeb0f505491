# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from cloudy_tree import make_cloudy
from playwright.sync_api import Browser, sync_playwright

NAMES = ('chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable')

# Root in a container has no sandbox, and no test may reach the network
ARGUMENTS = (
    '--no-sandbox',
    '--disable-gpu',
    '--disable-quic',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
)


@pytest.fixture(scope='session')
def cloudy_root(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fake Planet-CR tree with clouds where protocols look, to be read only."""
    return make_cloudy(root, tmp_path_factory.mktemp('cloudy') / 'root')


@pytest.fixture(scope='session')
def browser() -> Iterator[Browser]:
    """The browser of the system."""
    paths = [path for name in NAMES if (path := shutil.which(name))]
    if not paths:
        reason = f'none of {", ".join(NAMES)} is installed: install one of them'
        if 'CI' in os.environ:
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=paths[0], args=ARGUMENTS)
        yield browser
        browser.close()
