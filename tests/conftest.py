# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import importlib.util
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

# One thread for each worker of pytest-xdist, and for the processes that tests start: more
# threads than cores are slower. It must be set before torch is imported
os.environ.setdefault('OMP_NUM_THREADS', '1')

import matplotlib
import matplotlib.pyplot as plt
import pytest

from torchgeo_planetcr.memory import keep_memory

# The options of the campaign of faults
pytest_plugins = ['faults.plugin']

matplotlib.use('Agg')
# A job of a shell may ignore Control-C, which some tests send to processes of theirs
if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)
# As the command does
keep_memory()


@pytest.fixture(scope='session')
def data() -> ModuleType:
    """The script that makes the fake data."""
    path = Path(__file__).parent / 'data' / 'planetcr' / 'data.py'
    spec = importlib.util.spec_from_file_location('planetcr_data', path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='session')
def root(data: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fake Planet-CR tree, to be read only."""
    root = tmp_path_factory.mktemp('planetcr')
    data.create(root)
    return root


@pytest.fixture
def own_root(root: Path, tmp_path: Path) -> Path:
    """A fake Planet-CR tree that the test may change."""
    return Path(shutil.copytree(root, tmp_path / 'own'))


@pytest.fixture(scope='session')
def sample_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the two quartets that the authors publish."""
    if 'PLANETCR_SAMPLE' not in os.environ:
        pytest.skip('PLANETCR_SAMPLE does not name the folder of the public sample')
    root = tmp_path_factory.mktemp('sample') / 'planet-cr'
    return Path(shutil.copytree(os.environ['PLANETCR_SAMPLE'], root))


@pytest.fixture(autouse=True, scope='session')
def cache_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep out of the user's cache and data folders, also in processes of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ('XDG_CACHE_HOME', 'XDG_DATA_HOME', 'LOCALAPPDATA'):
            patch.setenv(name, str(tmp_path_factory.mktemp('cache')))
        yield


@pytest.fixture(autouse=True)
def close_figures() -> Iterator[None]:
    """Let no test leave figures behind."""
    yield
    plt.close('all')
