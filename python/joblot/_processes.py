"""The pool of worker processes of this process: made when it is first needed, shared by all calls."""

from __future__ import annotations

import atexit
import os
import sys
import threading

from . import _core, _forked, _setup, config
from ._settings import DEFAULT_MMAP_MODE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from ._settings import CallSettings

# Seconds that workers have to leave by themselves when the program ends: exit handlers, coverage data.
GRACE = 2.0

# Seconds after which a worker without work leaves, where nobody says otherwise: joblib's.
IDLE_WORKER_TIMEOUT = 300.0

# The codes of `enum core_map_mode`.
MAP_MODES = {None: 0, "r": 1, "r+": 2, "w+": 2, "c": 3, DEFAULT_MMAP_MODE: 4}

# The codes of `enum core_on_error`.
ON_ERROR = {"raise": 0, "return": 1, "skip": 2}

_lock = threading.Lock()
_pool: Any = None
_pool_identity: Any = None
_pool_initializer: bytes | None = None  # the one that its workers have called, or will have before their next task


def run(tasks: Iterator[Any], settings: CallSettings, pool: Any = None) -> list[Any]:
    """Run tasks in worker processes.

    Parameters
    ----------
    tasks : iterator of (function, args, kwargs)
        Drawn lazily, as far ahead as `settings.pre_dispatch` says.
    settings : CallSettings
        The settings of the call, resolved.
    pool : Pool, optional
        One that was forked off this process; without it the tasks run in the workers that all calls share.

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
    data, key, initializer = _settings_of(settings, None if pool is None else pool.main_names)
    if pool is None:
        pool = _hold_pool(initializer)
    else:
        pool.hold()
    try:
        results: list[Any] = pool.run(
            iter(tasks),
            n_jobs=settings.n_jobs,
            pre_dispatch=-1 if settings.pre_dispatch is None else settings.pre_dispatch,
            batch=0 if settings.batch_size == "auto" else settings.batch_size,
            timeout=-1.0 if settings.timeout is None else settings.timeout,
            retries=settings.retries,
            max_nbytes=-1 if settings.max_nbytes is None else settings.max_nbytes,
            mmap_mode=MAP_MODES[settings.mmap_mode],
            folder=settings.temp_folder,
            fallback_folder=_fallback_folder(),
            compare=settings.snapshot,
            settings_key=key,
            settings=data,
            progress=settings.progress,
            on_error=ON_ERROR[settings.on_error],
            max_tasks=settings.max_tasks_per_worker or 0,
            task_timeout_ns=_nanoseconds(settings.task_timeout, 0),
            memory_limit=settings.memory_limit or 0,
            idle_timeout_ns=_nanoseconds(settings.idle_worker_timeout, IDLE_WORKER_TIMEOUT),
            elastic=settings.elastic,
        )
    finally:
        pool.release()
        if pool.execs() and pool not in _told:
            _tell_of_exec(pool)
    return results


def _nanoseconds(seconds: float | None, default: float) -> int:
    """Return a time for the engine, to which 0 means for good."""
    if seconds is None:
        seconds = default
        if not seconds:
            return 0
    return max(int(seconds * 1e9), 1) if seconds < 1e9 else 0


# Pools of which it was said that their workers are exec'd.
_told: list[Any] = []


def _tell_of_exec(pool: Any) -> None:
    """Warn, once for a pool, that its workers take an interpreter's start each, and why."""
    reason = pool.execs()
    _told[:] = [pool]
    if reason < 0:
        why = f"the server of worker processes cannot count its threads ({os.strerror(-reason)}: is /proc mounted?)"
    else:
        why = (
            f"the server of worker processes has {reason} threads (one of the packages NumPy, SciPy and scikit-learn "
            "starts threads when it is imported)"
        )
    config.warn_caller(f"joblot starts each worker process anew, which takes longer than to fork it: {why}")


def shutdown() -> None:
    """End the workers and their server; the next call starts new ones.

    Where calls of other threads run, as a daemon thread's may when the program ends, the end of the last one does it,
    or the end of this process, which the server sees.
    """
    global _pool  # noqa: PLW0603 - the one pool of this process
    with _lock:
        pool, _pool = _pool, None
    _told.clear()
    if pool is not None:
        _close(pool)
    for forked in _forked.open_pools.copy():
        _forked.close_pool(forked, GRACE)


def _fallback_folder() -> str:
    """Return where segments go that memory would not hold.

    `tempfile` is not asked for its choice where it has not made one: it tries folders with files that have names.
    """
    chosen = getattr(_setup.loaded_module("tempfile"), "tempdir", None)
    if chosen is not None:
        return os.fsdecode(chosen)
    return os.fsdecode(_setup.variable(b"TMPDIR") or b"/tmp")  # noqa: S108 - nothing there gets a name


# ---- what workers are set up with ---------------------------------------------------------------------------------

_last_seen: Any = None  # what this process looked like at the last call, and its settings and their key
_last_key = 0
_keys: dict[bytes, int] = {}


def _settings_of(settings: CallSettings, main_names: dict[str, Any] | None) -> tuple[bytes, int, bytes | None]:
    """Return the settings for workers, pickled, a number for them, and the initializer that they name.

    Workers that have the settings of a number get no others.
    """
    global _last_seen  # noqa: PLW0603 - most calls find the process as the last one did
    seen = (_setup.look(), settings.worker_state, settings.inner_max_num_threads, settings.n_jobs)
    last = _last_seen
    if settings.initializer is None and last is not None and last[0] == seen:
        return last[1], last[2], None
    state = _setup.capture(seen[0], settings, main_names)
    data = _pickled(state)
    key = _key_of(data)
    if settings.initializer is None:
        _last_seen = (seen, data, key)
    return data, key, state["initializer"]


def _pickled(state: Any) -> bytes:
    import _pickle

    from ._transport import _pickle_bytes

    try:
        return _pickle.dumps(state, 5)
    except Exception:  # a path that is an object of a class of __main__, for one
        return _pickle_bytes(state)


def _key_of(data: bytes) -> int:
    global _last_key  # noqa: PLW0603 - a counter
    key = _keys.get(data)
    if key is None:
        if len(_keys) > 64:
            _keys.clear()
        _last_key += 1
        key = _keys[data] = _last_key
    return key


# ---- the pool -----------------------------------------------------------------------------------------------------


def _hold_pool(initializer: bytes | None) -> Any:
    """Return the pool, held: a call in another thread that needs another server must not close this one's.

    What an initializer did to a worker stays there, so calls with another one, or with none, get other workers.
    """
    global _pool, _pool_identity, _pool_initializer  # noqa: PLW0603 - the one pool of this process
    identity = _identity()
    with _lock:
        old = None
        if _pool is not None and (identity != _pool_identity or _pool_initializer not in (None, initializer)):
            old, _pool = _pool, None
        if _pool is None:
            _pool = _core.Pool(_server_command(), _server_environment())
            _pool_identity = identity
            _pool_initializer = None
        if initializer is not None:
            _pool_initializer = initializer
        pool = _pool
        pool.hold()
    if old is not None:
        _close(old)
    return pool


# Pools that are to be closed, and that calls of other threads hold.
_closing: list[Any] = []


def _close(pool: Any) -> None:
    _closing[:] = [other for other in _closing if not other.close(GRACE)]
    if not pool.close(GRACE):
        _closing.append(pool)


_last_identity: Any = None


def _identity() -> tuple[Any, ...]:
    """Return what a server takes from its start and cannot change later."""
    global _last_identity  # noqa: PLW0603 - most calls find the environment as the last one did
    seen = _setup.environ(), _executable(), _limits()
    if _last_identity is None or _last_identity[0] != seen:
        environ, executable, limits = seen
        fixed = tuple(sorted(item for item in environ.items() if _setup.is_fixed_at_start(item[0])))
        _last_identity = seen, (executable, limits, fixed)
    identity: tuple[Any, ...] = _last_identity[1]
    return identity


def _limits() -> tuple[tuple[int, int], ...]:
    """Return the limits that children of this process inherit; none where `resource`, which sets them, is not there."""
    resource = _setup.loaded_module("resource")
    if resource is None:
        return ()
    names = ("RLIMIT_NOFILE", "RLIMIT_AS", "RLIMIT_DATA", "RLIMIT_STACK", "RLIMIT_FSIZE", "RLIMIT_CORE")
    return tuple(resource.getrlimit(getattr(resource, name)) for name in names)


def _executable() -> str:
    spawn = _setup.loaded_module("multiprocessing.spawn")
    chosen = spawn.get_executable() if spawn is not None else None
    return os.fsdecode(chosen) if chosen else sys.executable


def _server_command() -> list[bytes]:
    home = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    code = f"import sys; sys.path.insert(0, {home!r}); from joblot._server import main; main()"
    return [os.fsencode(part) for part in (_executable(), *_interpreter_flags(), "-c", code)]


# Command-line options by the name of their flag in `sys.flags`; one given twice counts 2.
_OPTIONS = {
    "debug": "d",
    "dont_write_bytecode": "B",
    "no_site": "S",
    "verbose": "v",
    "bytes_warning": "b",
    "quiet": "q",
    "optimize": "O",
}


def _interpreter_flags() -> list[str]:
    """Return the options with which this interpreter was started, for another one that shall behave alike."""
    flags = ["-" + letter * getattr(sys.flags, name) for name, letter in _OPTIONS.items() if getattr(sys.flags, name)]
    if sys.flags.isolated:
        flags.append("-I")
    else:
        flags += [f"-{letter}" for name, letter in (("ignore_environment", "E"), ("no_user_site", "s"))
                  if getattr(sys.flags, name)]  # fmt: skip
    for option in sys.warnoptions:
        flags += ["-W", option]
    for name, value in sys._xoptions.items():
        flags += ["-X", name if value is True else f"{name}={value}"]
    return flags


def _server_environment() -> list[bytes]:
    # NumPy's OpenBLAS starts its threads when it is loaded; a server with threads could not fork.
    environ = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    return [os.fsencode(f"{name}={value}") for name, value in environ.items()]


def _forget_pool() -> None:
    """In a forked child: the parent's workers are not ours."""
    global _pool, _lock  # noqa: PLW0603 - the one pool of this process
    _lock = threading.Lock()
    for pool in (_pool, *_closing):
        if pool is not None:
            pool.abandon()
    _pool = None
    _closing.clear()
    _told.clear()
    _forked.abandon_pools()


os.register_at_fork(after_in_child=_forget_pool)
atexit.register(shutdown)
