# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Processes that share the work of a command."""

import functools
import os
import sys
import threading
import time

#: Variable of the environment by which the others know the first of several processes,
#: even if it is killed while they start.
FIRST = 'PLANETCR_FIRST_PROCESS'

#: Exit status of a process whose parent has ended.
ORPHANED = 143

#: Seconds from one look at the parent to the next.
INTERVAL = 1.0


def end_with_parent() -> None:
    """End this process soon after the one that has started it for a share of the work.

    If that one is killed, the others would go on, and wait for it as long as they do for
    one that has much to do. It does nothing in a process that a user has started, and none
    on Windows, where processes do not learn of it.
    """
    if sys.platform == 'win32':
        return
    if 'TORCHELASTIC_RUN_ID' in os.environ:
        _watch(os.getppid())
    elif int(os.environ.get('LOCAL_RANK', '0')) > 0:
        _watch(int(os.environ.get(FIRST, os.getppid())))
    else:
        # Lightning hands it on to those that it starts
        os.environ[FIRST] = str(os.getpid())


@functools.cache
def _watch(parent: int) -> None:
    """Start a thread that ends this process when its parent has ended."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(INTERVAL)
        # The thread of the model may be in a call that never returns
        os._exit(ORPHANED)

    threading.Thread(target=watch, daemon=True).start()
