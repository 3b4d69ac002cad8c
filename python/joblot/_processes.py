"""The pool of worker processes of this process: made when it is first needed, shared by all calls."""

from __future__ import annotations

import atexit
import os
import sys
import threading

from . import _core, _setup
from ._settings import DEFAULT_MMAP_MODE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from ._settings import CallSettings

# Seconds that workers have to leave by themselves when the program ends: exit handlers, coverage data.
GRACE = 2.0

# The codes of `enum core_map_mode`.
MAP_MODES = {None: 0, "r": 1, "r+": 2, "w+": 2, "c": 3, DEFAULT_MMAP_MODE: 4}

_lock = threading.Lock()
_pool: Any = None
_pool_identity: Any = None
_settings_keys: dict[bytes, int] = {}


def run(tasks: Iterator[Any], settings: CallSettings) -> list[Any]:
    """Run tasks in worker processes.

    Parameters
    ----------
    tasks : iterator of (function, args, kwargs)
        Drawn lazily, as far ahead as `settings.pre_dispatch` says.
    settings : CallSettings
        The settings of the call, resolved.

    Returns
    -------
    list
        Results in input order.

    Raises
    ------
    WorkerDied
        A worker died and its task had no attempts left.
    TaskPicklingError
        A task or a result cannot be pickled.
    TimeoutError
        A result did not come within `settings.timeout` seconds.
    BaseException
        What a task raised, with the worker's traceback as its cause; or what the iterator raised.
    """
    data = _settings_bytes(settings)
    folder = settings.temp_folder or os.environ.get("JOBLIB_TEMP_FOLDER")
    results: list[Any] = _get_pool(settings).run(
        iter(tasks),
        n_jobs=settings.n_jobs,
        pre_dispatch=-1 if settings.pre_dispatch is None else settings.pre_dispatch,
        batch=0 if settings.batch_size == "auto" else settings.batch_size,
        timeout=-1.0 if settings.timeout is None else settings.timeout,
        retries=settings.retries,
        max_nbytes=-1 if settings.max_nbytes is None else settings.max_nbytes,
        mmap_mode=MAP_MODES[settings.mmap_mode],
        folder=None if folder is None else os.fspath(folder),
        fallback_folder=_fallback_folder(),
        compare=not settings.input_is_sequence,
        settings_key=_key_of(data),
        settings=data,
        progress=settings.progress,
    )
    return results


def shutdown() -> None:
    """End the workers and their server; the next call starts new ones."""
    global _pool  # noqa: PLW0603 - the one pool of this process
    with _lock:
        pool, _pool = _pool, None
    if pool is not None:
        pool.close(GRACE)


def _fallback_folder() -> str:
    import tempfile

    return tempfile.gettempdir()


# ---- what workers are set up with ------------------------------------------------------------------------------------


def _settings_bytes(settings: CallSettings) -> bytes:
    from ._transport import _pickle_bytes

    state = _setup.capture(settings.worker_state, settings.initializer, settings.initargs)
    threads = settings.inner_max_num_threads or max(_core.cpu_count() // settings.n_jobs, 1)
    for name in _setup.THREAD_VARIABLES:
        if settings.inner_max_num_threads is not None or name not in state["environ"]:
            state["environ"][name] = str(threads)
    state["environ"]["ENABLE_IPC"] = "1"
    import _pickle

    try:
        return _pickle.dumps(state, 5)
    except Exception:  # an initializer, or a warning category, that only goes by value
        return _pickle_bytes(state)


def _key_of(data: bytes) -> int:
    """Return a number for these settings: workers that have them do not get them again."""
    key = _settings_keys.get(data)
    if key is None:
        if len(_settings_keys) > 64:
            _settings_keys.clear()
        key = _next_key()
        _settings_keys[data] = key
    return key


_last_key = 0


def _next_key() -> int:
    global _last_key  # noqa: PLW0603 - a counter
    _last_key += 1
    return _last_key


# ---- the pool --------------------------------------------------------------------------------------------------------


def _get_pool(settings: CallSettings) -> Any:
    global _pool, _pool_identity  # noqa: PLW0603 - the one pool of this process
    identity = _identity()
    with _lock:
        old = None
        if _pool is not None and identity != _pool_identity:
            old, _pool = _pool, None
        if _pool is None:
            _pool = _core.Pool(_server_command(), _server_environment())
            _pool_identity = identity
        pool = _pool
    if old is not None:
        old.close(GRACE)
    return pool


def _identity() -> tuple[Any, ...]:
    """Return what a server takes from its start and cannot change later."""
    prefixes = _setup.IMPORT_TIME_PREFIXES
    environ = [(k, v) for k, v in os.environ.items() if k.startswith(prefixes) or k in _setup.THREAD_VARIABLES]
    return _executable(), tuple(sorted(environ))


def _executable() -> str:
    spawn = sys.modules.get("multiprocessing.spawn")
    chosen = spawn.get_executable() if spawn is not None else None
    return os.fsdecode(chosen) if chosen else sys.executable


def _server_command() -> list[bytes]:
    import subprocess

    home = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    code = f"import sys; sys.path.insert(0, {home!r}); from joblot._server import main; main()"
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    return [os.fsencode(part) for part in (_executable(), *flags, "-c", code)]


def _server_environment() -> list[bytes]:
    # NumPy's OpenBLAS starts its threads when it is loaded; a server with threads could not fork.
    environ = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    return [os.fsencode(f"{name}={value}") for name, value in environ.items()]


def _forget_pool() -> None:
    """In a forked child: the parent's workers are not ours."""
    global _pool, _lock  # noqa: PLW0603 - the one pool of this process
    _lock = threading.Lock()
    pool, _pool = _pool, None
    if pool is not None:
        pool.abandon()


os.register_at_fork(after_in_child=_forget_pool)
atexit.register(shutdown)
