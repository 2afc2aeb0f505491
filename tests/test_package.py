# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import subprocess
import sys

import pytest

import torchgeo_planetcr


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
