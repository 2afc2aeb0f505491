# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from minimum_versions import constraints

import torchgeo_planetcr

REPOSITORY = Path(__file__).parents[1]
WORKFLOWS = sorted((REPOSITORY / '.github' / 'workflows').glob('*.yaml'))


@pytest.fixture(scope='module')
def pyproject() -> dict[str, Any]:
    """The package's settings."""
    return tomllib.loads((REPOSITORY / 'pyproject.toml').read_text())


def modules_after(statement: str) -> set[str]:
    """Names of the modules that a new process has after a statement."""
    code = f'import sys; {statement}; print(*sys.modules)'
    run = subprocess.run(
        [sys.executable, '-c', code], check=True, capture_output=True, text=True
    )
    return set(run.stdout.split())


def test_importing_a_data_set_is_quick() -> None:
    """What takes time to import is what torchgeo.datasets does not import either."""
    ours = modules_after('from torchgeo_planetcr import PlanetCR')
    theirs = modules_after('import torchgeo.datasets')
    added = {name.split('.')[0] for name in ours - theirs}
    assert 'torchgeo_planetcr.datasets' in ours
    quick = {'torchgeo_planetcr', 'platformdirs', 'pyarrow'}
    assert added <= quick | sys.stdlib_module_names


def test_public_names() -> None:
    assert 'evaluate' in torchgeo_planetcr.__all__
    for name in torchgeo_planetcr.__all__:
        assert getattr(torchgeo_planetcr, name).__name__ == name
        assert name in dir(torchgeo_planetcr)
    with pytest.raises(AttributeError, match="no attribute 'Planet'"):
        getattr(torchgeo_planetcr, 'Planet')  # noqa: B009


def test_version(pyproject: dict[str, Any]) -> None:
    assert re.fullmatch(r'\d+\.\d+\.\d+(\.dev\d+)?', torchgeo_planetcr.__version__)
    assert '__version__' in dir(torchgeo_planetcr)
    # Nothing else names it
    assert 'version' not in pyproject['project']
    attribute = pyproject['tool']['setuptools']['dynamic']['version']['attr']
    assert attribute == 'torchgeo_planetcr.__version__'


def test_importing_the_package_alone_is_quick() -> None:
    added = modules_after('import torchgeo_planetcr') - modules_after('pass')
    assert {name.split('.')[0] for name in added} <= {
        'torchgeo_planetcr',
        *sys.stdlib_module_names,
    }


def test_minimum_versions(pyproject: dict[str, Any]) -> None:
    assert constraints(['a>=1.2', 'b-c[d]>=3,<4']) == ['a==1.2', 'b-c==3']
    with pytest.raises(ValueError, match='numpy<2'):
        constraints(['numpy<2'])
    dependencies = pyproject['project']['dependencies']
    assert 'torchgeo==0.10.1' in constraints(dependencies)


def commands(workflow: dict[str, Any]) -> Iterator[str]:
    """Yield all commands of a workflow."""
    for job in workflow['jobs'].values():
        yield from (step['run'] for step in job['steps'] if 'run' in step)


@pytest.mark.parametrize('path', WORKFLOWS, ids=lambda path: path.stem)
def test_workflows(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text())
    assert workflow['permissions'] == {'contents': 'read'}
    assert 'concurrency' in workflow
    targets = re.findall(
        r'^([\w-]+):', (REPOSITORY / 'Makefile').read_text(), re.MULTILINE
    )
    for command in commands(workflow):
        if command.startswith('make '):
            assert command.removeprefix('make ') in targets


def test_only_publishing_may_do_more_than_read() -> None:
    jobs = {
        (path.stem, name): job['permissions']
        for path in WORKFLOWS
        for name, job in yaml.safe_load(path.read_text())['jobs'].items()
        if 'permissions' in job
    }
    assert jobs == {('release', 'pypi'): {'id-token': 'write'}}


def test_ci_runs_all_tests() -> None:
    lines = (REPOSITORY / '.ci' / 'run').read_text().splitlines()
    assert {'make lint', 'make test-all', 'make docs'} <= set(lines)


def test_tests_use_one_thread() -> None:
    """Each process of pytest-xdist has one, unless the environment says otherwise."""
    assert torch.get_num_threads() == int(os.environ['OMP_NUM_THREADS'])
