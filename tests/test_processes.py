# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

#: Starts another process with some variables, says which, and waits.
PARENT = """
import json, os, subprocess, sys, time
from torchgeo_planetcr.processes import end_with_parent
end_with_parent()
variables = json.loads(sys.argv[2])
child = subprocess.Popen([sys.executable, '-c', sys.argv[1]], env=os.environ | variables)
print(child.pid, flush=True)
time.sleep(100)
"""

#: May be held up before it looks at its parent for the first time.
CHILD = """
import time
time.sleep({delay})
from torchgeo_planetcr.processes import end_with_parent
end_with_parent()
end_with_parent()
open('started', 'w').close()
time.sleep(100)
"""


def is_alive(process: int) -> bool:
    """Whether a process has not ended."""
    try:
        stat = Path(f'/proc/{process}/stat').read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(') ')[2][0] != 'Z'


def wait(condition: Callable[[], bool], seconds: float = 30) -> bool:
    """Wait until something is true, and return whether it is."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.1)
    return condition()


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='looks in /proc')
@pytest.mark.parametrize(
    ('variables', 'delay', 'ends'),
    [
        ({'LOCAL_RANK': '1'}, 0, True),
        # The parent is killed while it starts
        ({'LOCAL_RANK': '1'}, 2, True),
        ({'LOCAL_RANK': '0', 'TORCHELASTIC_RUN_ID': 'a'}, 0, True),
        ({'LOCAL_RANK': '0'}, 0, False),
        ({}, 0, False),
    ],
)
def test_parent_is_killed(
    tmp_path: Path, variables: dict[str, str], delay: float, ends: bool
) -> None:
    """A process that was started for a share of the work ends, one of a user's goes on."""
    ours = {'LOCAL_RANK', 'TORCHELASTIC_RUN_ID'}
    parent = subprocess.Popen(
        [
            sys.executable,
            '-c',
            PARENT,
            CHILD.format(delay=delay),
            json.dumps(variables),
        ],
        cwd=tmp_path,
        env={k: v for k, v in os.environ.items() if k not in ours},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    try:
        if not delay:
            assert wait((tmp_path / 'started').exists)
        parent.kill()
        parent.wait()
        assert wait(lambda: not is_alive(child), 30 if ends else 3) == ends
    finally:
        parent.stdout.close()
        if is_alive(child):
            os.kill(child, signal.SIGKILL)
