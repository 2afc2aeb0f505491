# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Print the minimum versions that pyproject.toml names, as constraints for pip."""

import re
import tomllib
from collections.abc import Iterable
from pathlib import Path

PYPROJECT = Path(__file__).parents[1] / 'pyproject.toml'

#: Name, extras, minimum version, and anything else that follows after a comma.
REQUIREMENT = re.compile(r'([\w.-]+)(?:\[[\w,]+\])?>=([\w.]+)(?:,.*)?')


def constraints(requirements: Iterable[str]) -> list[str]:
    """Turn the lower bound of each requirement into the only version that is allowed.

    Args:
        requirements: Requirements as in ``project.dependencies``, e.g.
            ``'torchgeo>=0.10.1,<0.11'``.

    Returns:
        A constraint for each of them, e.g. ``'torchgeo==0.10.1'``.

    Raises:
        ValueError: If a requirement does not begin with its minimum version.
    """
    pinned = []
    for requirement in requirements:
        match = REQUIREMENT.fullmatch(requirement)
        if not match:
            raise ValueError(
                f'{requirement!r} names no minimum version: write name>=1.2'
            )
        pinned.append(f'{match[1]}=={match[2]}')
    return pinned


if __name__ == '__main__':
    project = tomllib.loads(PYPROJECT.read_text())['project']
    print('\n'.join(constraints(project['dependencies'])))
