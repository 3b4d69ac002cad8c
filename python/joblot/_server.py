"""The program of a server process: it forks workers on request, and each fork returns from the same call."""

from __future__ import annotations

import sys


def main() -> None:
    """Serve on descriptors 3 and 4; in a worker, return when its last task is done."""
    # All workers need these: imported once, before the first fork.
    from . import _core, _setup, _transport, backends, config  # noqa: F401

    _core.serve(3, 4)
    sys.exit(0)
