"""What a worker is set up with, so that code behaves there as it does in the parent."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Thread counts of numerical libraries, which they read when they are loaded.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMBA_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)

# What a changed value of cannot reach a process that has started.
IMPORT_TIME_PREFIXES = ("PYTHON", "LD_", "MALLOC_", "GLIBC_")


def capture(worker_state: tuple[Any, ...], initializer: Any, initargs: tuple[Any, ...]) -> dict[str, Any]:
    """Return what workers take over from this process.

    Parameters
    ----------
    worker_state : tuple
        For `config.apply_worker_state`.
    initializer, initargs : callable or None, tuple
        Called once in each worker.
    """
    umask = os.umask(0o077)
    os.umask(umask)
    try:
        cwd = os.getcwd()
    except OSError:  # removed under us
        cwd = None
    settings = {
        "environ": dict(os.environ),
        "cwd": cwd,
        "umask": umask,
        "path": list(sys.path),
        "argv": list(sys.argv),
        "state": worker_state,
        "initializer": (initializer, initargs) if initializer is not None else None,
    }
    warnings = sys.modules.get("warnings")
    if warnings is not None:
        settings["filters"] = list(warnings.filters)
    logging = sys.modules.get("logging")
    if logging is not None:
        settings["levels"] = _logging_levels(logging)
    process = sys.modules.get("multiprocessing.process")
    if process is not None:
        settings["authkey"] = bytes(process.current_process().authkey)
    return settings


def _logging_levels(logging: Any) -> dict[str, int]:
    loggers = logging.root.manager.loggerDict
    levels = {name: item.level for name, item in loggers.items() if getattr(item, "level", 0)}
    levels[""] = logging.root.level
    return levels


def apply(settings: dict[str, Any]) -> None:
    """Make this process look as `capture` saw the parent."""
    from . import config

    _apply_environ(settings["environ"])
    if settings["cwd"] is not None:
        try:
            os.chdir(settings["cwd"])
        except OSError as error:
            print(f"joblot worker: {error}: going on in {os.getcwd()}", file=sys.stderr)
    os.umask(settings["umask"])
    sys.path[:] = settings["path"]
    sys.argv[:] = settings["argv"]
    if "filters" in settings:
        import warnings

        warnings.filters[:] = settings["filters"]  # type: ignore[index]
        warnings._filters_mutated() if hasattr(warnings, "_filters_mutated") else None  # type: ignore[attr-defined]
    if "levels" in settings:
        import logging

        # Only on loggers that are there: making one here would take its class from the package that it belongs to.
        there = logging.root.manager.loggerDict
        for name, level in settings["levels"].items():
            if not name or hasattr(there.get(name), "setLevel"):
                logging.getLogger(name or None).setLevel(level)
    if "authkey" in settings:
        import multiprocessing.process

        multiprocessing.process.current_process().authkey = settings["authkey"]
    config.apply_worker_state(settings["state"])
    _initialize(settings["initializer"])


_initialized: Any = None


def _initialize(initializer: Any) -> None:
    """Call the initializer, once for each one that a worker meets."""
    global _initialized  # noqa: PLW0603 - what this process was initialized with
    if initializer is None or initializer == _initialized:
        return
    _initialized = initializer
    function, args = initializer
    function(*args)


def _apply_environ(environ: dict[str, str]) -> None:
    if environ == dict(os.environ):
        return
    for name in set(os.environ) - set(environ):
        del os.environ[name]
    os.environ.update(environ)
