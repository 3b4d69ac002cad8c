"""Servers that are forks of this process (backend 'multiprocessing'): what stands around the fork.

Such a server, and the workers that it forks, see every module as it was at that moment, ``__main__`` included. None of
them returns into the frames of the call that they were forked from: workers leave through `leave_worker`.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

from . import _core, _setup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Pools of this process whose servers are forks of it.
open_pools: list[Any] = []
# Pools are opened one after the other: each server closes what it inherits of those that are open.
_opening = threading.Lock()


def open_pool() -> Any:
    """Fork a server off this process; return its pool, to be given to `close_pool`."""
    # Functions and classes: what else is there is not looked for by name, and may be large.
    names = vars(sys.modules["__main__"]).copy() if "__main__" in sys.modules else {}
    names = {name: value for name, value in names.items() if callable(value)}
    with _opening:
        pool = _core.Pool([], [], names)
        open_pools.append(pool)
    return pool


def close_pool(pool: Any, grace: float) -> None:
    """End a pool's processes, now or at the end of the calls that hold it."""
    if pool in open_pools:
        open_pools.remove(pool)
    pool.close(grace)


def abandon_pools() -> None:
    """In a forked child: these are the parent's."""
    global _opening  # noqa: PLW0603 - a thread that is not here may hold it
    _opening = threading.Lock()
    for pool in open_pools:
        pool.abandon()
    open_pools.clear()


# ---- called by `joblot._core`, around the fork and at the end of workers ------------------------------------------


def before_server() -> None:
    """Run in the parent before the fork: what it has written is not to be written again by its children."""
    _flush()
    if "numpy" in sys.modules:
        import threadpoolctl  # noqa: F401 - once here, and not in each server


def become_server(main_names: dict[str, Any]) -> None:
    """Run in the forked server: what is the parent's to do is forgotten."""
    _forget_imports()
    import atexit

    from . import _processes, _transport

    atexit._clear()
    atexit.register(_processes.shutdown)
    _transport.main_names = main_names
    _setup.worker_kind = "multiprocessing"
    _forget_handlers()
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - /dev/null by now, for as long as this lives
    _forget_children()
    if "numpy" in sys.modules:
        _setup.libraries = _setup.find_libraries()


def _forget_imports() -> None:
    """Modules that another thread was just importing are not there yet; it holds their locks, and is not here.

    What this thread imports, as it may at the time of the call, stays as it is.
    """
    bootstrap = sys.modules["_frozen_importlib"]
    locks: dict[Any, Any] = getattr(bootstrap, "_module_locks", {})
    for name, reference in locks.copy().items():
        lock = reference()
        if getattr(lock, "owner", None) not in (None, threading.get_ident()):
            del locks[name]
            if _setup.loaded_module(name) is None:
                sys.modules.pop(name, None)


def _forget_handlers() -> None:
    """Say in Python what the engine has done: signals have their default effects, and no handler of the parent's runs.

    But for the two that every Python program ignores, so that a closed pipe or a size limit is an exception.
    """
    for number in signal.valid_signals() - {signal.SIGINT, signal.SIGKILL, signal.SIGSTOP}:
        handler = signal.getsignal(number)
        if number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_IGN if handler is signal.SIG_IGN else signal.SIG_DFL)
        elif handler not in (signal.SIG_DFL, None):
            signal.signal(number, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.set_wakeup_fd(-1)


def _forget_children() -> None:
    """The parent's children, threads and finalizers are not ours; those of tasks are seen to when a worker leaves."""
    import atexit

    futures = _setup.loaded_module("concurrent.futures.thread")
    getattr(futures, "_threads_queues", {}).clear()  # threads of executors, which are not here; one may be this one
    util = _setup.loaded_module("multiprocessing.util")
    if util is None:
        return
    util._finalizer_registry.clear()
    util._run_after_forkers()
    process = _setup.loaded_module("multiprocessing.process")
    if process is not None:
        process._children = set()
    atexit.register(util._exit_function)


def leave_worker() -> None:
    """End this worker as a program ends, but for the parent's objects: their finalizers are not to run here."""
    import atexit

    try:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        _save_coverage()
    except BaseException:
        sys.excepthook(*sys.exc_info())
    _flush()
    os._exit(0)


def _save_coverage() -> None:
    """Let coverage.py write what ran here, where it was told that there are several processes.

    It would do so in an exit handler, which is the parent's and was forgotten with all others.
    """
    coverage = _setup.loaded_module("coverage")
    current = coverage.Coverage.current() if coverage is not None else None
    if current is not None and current.get_option("run:parallel"):
        current.stop()
        current.save()


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:  # noqa: S112, PERF203 - closed, full, or not there: nobody is left to be told
            continue
