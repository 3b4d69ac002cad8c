"""The program of a server process: it forks workers on request, and each fork returns from the same call."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Serve on descriptors 3 and 4; in a worker, return when its last task is done.

    With two numbers as arguments this process is a worker, which a server started that could not fork it.
    """
    # All workers need these: imported once, before the first fork.
    import faulthandler  # noqa: F401

    from . import _core, _setup, _transport, backends, config  # noqa: F401

    numbers = sys.argv[1:]
    del sys.argv[1:]
    if numbers:  # exec'd by a server that cannot fork
        _core.work(int(numbers[0]), int(numbers[1]))
    else:
        _core.serve(3, 4, [os.fsencode(part) for part in sys.orig_argv])
    sys.exit(0)
