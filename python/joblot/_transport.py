"""What the C code of `joblot._core` asks of Python: pickling, odd arrays, errors, and the set-up of workers.

`_core` imports this module when the first message is written or read, in the parent and in workers.
"""

from __future__ import annotations

import _pickle
import sys
from functools import lru_cache
from io import TextIOWrapper
from types import FunctionType

from . import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

PROTOCOL = 5


# ---- pickling -----------------------------------------------------------------------------------------------------


class _Plain(_pickle.Pickler):
    """The C pickler; a subclass, since only those take a `reducer_override` for each instance."""


def dump_plain(encoder: Any, obj: Any) -> None:
    """Pickle obj into the encoder; it raises `_core.ByValue` at what only cloudpickle can send."""
    pickler = _Plain(encoder, PROTOCOL, buffer_callback=encoder.take_buffer)
    pickler.reducer_override = encoder  # type: ignore[method-assign]
    pickler.dump(obj)


def dump_by_value(encoder: Any, obj: Any) -> None:
    """Pickle obj with cloudpickle: what lives in ``__main__`` or inside functions goes by value."""
    import cloudpickle

    main = sys.modules.get("__mp_main__")
    is_spawned = getattr(main, "__name__", None) == "__mp_main__"  # in a child that multiprocessing spawned
    if is_spawned and "__mp_main__" not in cloudpickle.list_registry_pickle_by_value():
        cloudpickle.register_pickle_by_value(main)
    class_of = _by_value_pickler(cloudpickle)
    pickler = class_of(encoder, PROTOCOL, buffer_callback=encoder.take_buffer)
    pickler.names = encoder.main_names
    encoder.fallback = pickler.reducer_override  # bound, before the encoder stands in its place
    pickler.__dict__["reducer_override"] = encoder
    pickler.dump(obj)


def _by_value_pickler(cloudpickle: Any) -> Any:
    global _ByValue  # noqa: PLW0603 - cloudpickle is imported when it is first needed
    if _ByValue is None:

        class ByValue(cloudpickle.Pickler):
            """cloudpickle's pickler; a subclass, so that an instance can have its own `reducer_override`."""

            names: dict[str, Any] | None = None

            def reducer_override(self, obj: Any) -> Any:
                named = self.names is not None and isinstance(obj, (type, FunctionType, _Cached))
                if named and _core.is_by_reference(obj, self.names):
                    return NotImplemented
                if type(obj) is _Cached and not _core.is_by_reference(obj):
                    return _make_cached, (obj.__wrapped__, obj.cache_parameters(), obj.__dict__)
                return super().reducer_override(obj)

        _ByValue = ByValue
    return _ByValue


_ByValue: Any = None

# In what was forked off a program: what its __main__ was then, which goes by name in both directions.
main_names: dict[str, Any] | None = None


_Cached = type(lru_cache(abs))  # it pickles by name only, also where the name is one of ``__main__``


def _make_cached(function: Any, parameters: dict[str, Any], attributes: dict[str, Any]) -> Any:
    cached = lru_cache(**parameters)(function)
    cached.__dict__.update(attributes)
    return cached


def dumps(obj: Any) -> int:
    """Pickle obj as a task's part would be, and throw the bytes away; raise what the pickler raises."""
    encoder = _core.Encoder()
    encoder.by_value = True
    dump_by_value(encoder, obj)
    return 0


# ---- errors -------------------------------------------------------------------------------------------------------


def explain_task(task: Any, error: BaseException, number: int) -> BaseException:
    """Return the error that says which part of a task cannot be pickled."""
    from ._pickle_path import find_in_task
    from .errors import TaskPicklingError

    found = find_in_task(task[0], task[1], task[2], dumps)
    part, reason = found if found is not None else ("the task", error)
    explained = TaskPicklingError(part, reason, number)
    explained.__cause__ = error
    return explained


def explain_result(result: Any, error: BaseException) -> BaseException:
    """Return the error that says which part of a result cannot be pickled."""
    from ._pickle_path import find_unpicklable
    from .errors import TaskPicklingError

    found = find_unpicklable(result, "result", dumps)
    part, reason = found if found is not None else ("result", error)
    explained = TaskPicklingError(part, _portable(reason), is_result=True)
    explained.__cause__ = error
    return explained


def explain_no_task(task: Any, error: BaseException, number: int) -> BaseException:
    """Return the error for an item of the input that is no (function, args, kwargs)."""
    from ._arguments import no_task_error

    return no_task_error(task, number)


def make_death(
    number: int,
    pid: int,
    status_known: int,
    signal: int,
    exit_code: int,
    peak_memory: int,
    attempts: int,
    results: dict[int, Any],
    server_died: int,
    oom_likely: int,
    crash: bytes | None,
    cause: int,
    task_timeout: float,
    memory_limit: int,
    seen: int,
) -> BaseException:
    """Return the error of a task whose last attempt ended with its worker; `cause` is of `enum joblot_death_cause`."""
    from .errors import TaskMemoryError, TaskTimeout, WorkerDied

    if cause == 1:
        return TaskTimeout(number, task_timeout, pid, peak_memory or None, results)
    if cause == 2:
        return TaskMemoryError(number, memory_limit, seen, pid, peak_memory or None, results)
    return WorkerDied(
        oom_likely=None if oom_likely < 0 else bool(oom_likely),
        stack=None if crash is None else crash.decode("utf-8", "replace"),
        task=number,
        pid=pid or None,
        signal=signal if status_known and signal else None,
        exit_code=exit_code if status_known and not signal else None,
        peak_memory=peak_memory or None,
        results=results,
        attempts=attempts,
    )


def make_no_workers(message: str, results: dict[int, Any]) -> BaseException:
    """Return `WorkerDied` for workers that die one after the other before they take a task."""
    from .errors import WorkerDied

    error = WorkerDied(results=results, attempts=0)
    error.args = (message,)
    return error


def make_timeout(number: int, timeout: float) -> BaseException:
    """Return the error for a result that did not come in time."""
    from .errors import TimeoutError  # noqa: A004 - joblib's name

    return TimeoutError(f"the result of task {number} did not come within timeout={timeout:g} seconds")


def _rebuild_error(cls: Any, args: tuple[Any, ...], state: dict[str, Any]) -> BaseException:
    """Make an exception without its ``__init__``, which may want arguments that nobody has."""
    error: BaseException = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


def _can_travel(obj: Any) -> bool:
    """True when obj comes back from a pickle as what it was."""
    try:
        return type(loads(_pickle_bytes(obj))) is type(obj)
    except Exception:
        return False


def _pickle_bytes(obj: Any, names: dict[str, Any] | None = None) -> bytes:
    """Return obj pickled; what is in `names` goes by name, since who reads it was forked off this process."""
    import io

    import cloudpickle

    file = io.BytesIO()
    pickler = _by_value_pickler(cloudpickle)(file, PROTOCOL)
    pickler.names = names if names is not None else main_names
    if sys.modules.get("numpy") is not None:
        from ._arrays import in_band

        pickler.__dict__["reducer_override"] = in_band(pickler.reducer_override)
    pickler.dump(obj)
    return file.getvalue()


loads = _pickle.loads


def _portable(error: BaseException) -> BaseException:
    """Return the error, or the nearest thing to it that can be pickled."""
    if _can_travel(error):
        return error
    args = tuple(a if _can_travel(a) else repr(a) for a in error.args)
    state = {k: v for k, v in getattr(error, "__dict__", {}).items() if _can_travel(v)}
    try:
        if _can_travel(type(error)) and type(_rebuild_error(type(error), args, state)) is type(error):
            return _Rebuilt(type(error), args, state)
    except Exception:  # noqa: S110 - a class that cannot be made again: told by name below
        pass
    return RuntimeError(f"{type(error).__qualname__}: {error}")


class _Rebuilt(Exception):  # noqa: N818 - stands for an exception in a pickle, and is none there
    """Pickles as the exception that it stands for."""

    def __init__(self, cls: Any, args: tuple[Any, ...], state: dict[str, Any]) -> None:
        super().__init__(cls, args, state)
        self.parts = (cls, args, state)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild_error, self.parts


def pack_error(error: BaseException) -> bytes:
    """Return the bytes that tell the parent of an exception in a worker, its traceback included."""
    import traceback

    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    error.__traceback__ = None
    return b"E" + _pickle_bytes((_portable(error), text))


def unpack_error(data: bytes) -> BaseException:
    """Return the exception of `pack_error`, with the worker's traceback as its cause."""
    from .errors import with_remote_traceback

    error, text = loads(data)
    return with_remote_traceback(error, text)


# ---- arrays that are not plain: see _arrays -----------------------------------------------------------------------


_OF_ARRAYS = frozenset(
    (
        "special_dtype",
        "reduce_date_dtype",
        "reduce_masked",
        "reduce_odd_matrix",
        "reduce_subclass",
        "reduce_memmap",
        "reduce_view",
    )
)


def __getattr__(name: str) -> Any:
    """Find what lives in modules that are imported when they are needed: `_functions`, and `_arrays` with NumPy."""
    if name == "checks_of":
        from ._functions import checks_of

        return checks_of
    if name == "warn_of_comparing":
        from ._snapshot import warn_of_comparing

        return warn_of_comparing
    if name == "make_shared":
        from ._shared import Shared

        return Shared
    if name in ("before_server", "become_server", "leave_worker"):
        from . import _forked

        return getattr(_forked, name)
    if name in _OF_ARRAYS:
        from . import _arrays

        value = getattr(_arrays, name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


# ---- set-up of servers and workers --------------------------------------------------------------------------------

# Packages that leave one thread when imported, so that a server that has them can fork.
SHARED = ("numpy", "scipy", "sklearn")


def preload_for(stream: bytes, has_arrays: int, by_value: int) -> bytes:
    """Return the names of what the server should import before it forks, as far as the first task tells."""
    names = ["cloudpickle"] if by_value else []
    for name in SHARED:
        if name in sys.modules and (name.encode() in stream or (name == "numpy" and has_arrays)):
            names.append(name)
    return ",".join(names).encode()


def preload(names: bytes) -> None:
    """Import packages in the server, for all workers."""
    from importlib import import_module

    for name in names.decode().split(","):
        try:
            import_module(name)
        except ImportError:  # noqa: PERF203 - not to be had here: workers will say so where it matters
            continue


def before_fork() -> None:
    """Make the server's objects permanent, so that collections in workers leave their pages alone."""
    import gc

    gc.freeze()


def _tell_of_crashes(file: int) -> None:
    """Let the interpreter write its stack into a descriptor when it crashes: the parent reads it there."""
    import faulthandler
    import os

    faulthandler.enable(file=file, all_threads=True)
    ours = [file]

    def close_in_child() -> None:
        # A child of a task's is nobody's worker, and its crash is not this one's. The handler stays, since it may be
        # one that the task has set up; ours finds its descriptor closed.
        try:
            while ours:
                os.close(ours.pop())
        except OSError:
            return  # a task has closed it before

    os.register_at_fork(after_in_child=close_in_child)


def start_worker(crash_file: int) -> list[Any]:
    """Run in each worker before its first task.

    Parameters
    ----------
    crash_file : int
        Descriptor for the stack of a crash; -1 for none.

    Returns
    -------
    list
        Streams that hold text which no newline has sent yet: `flush_streams` is called after a task where it is not
        empty.
    """
    from . import _setup

    _setup.worker_kind = _setup.worker_kind or "loky"
    if crash_file >= 0:
        _tell_of_crashes(crash_file)
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:  # imported before the fork: its generator is the same in all workers
        numpy_random.seed()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(line_buffering=True)  # what a task prints is there when it has printed it
            _watch(stream)
    return unflushed


unflushed: list[Any] = []


def _watch(stream: Any) -> None:
    """Note when a text without a newline is written, which stays in the stream."""
    write = stream.write

    def watched(text: str, /) -> int:
        written: int = write(text)
        if "\n" not in text and stream not in unflushed:
            unflushed.append(stream)
        return written

    stream.write = watched


def flush_streams() -> None:
    """Send what a task has written and not ended with a newline."""
    while unflushed:
        unflushed.pop().flush()


def apply_settings(data: bytes) -> tuple[Callable[[], object], list[Any], list[Any]]:
    """Take over what the parent's process looks like (see `_setup.capture`).

    Where that fails, as an initializer may, each task fails with it: none runs in a worker that is not set up.

    Returns
    -------
    (callable, list, list)
        What is to be called before a task when one of the lists is not empty: something has changed since.
    """
    from functools import partial

    from . import _setup, config

    try:
        settings = loads(data)
        _setup.apply(settings)
    except BaseException as error:
        return partial(_raise_again, error, error.__traceback__), [error], []
    config.changes.clear()
    return partial(_setup.before_task, settings["state"]), config.changes, _setup.waiting_filters


def _raise_again(error: BaseException, traceback: Any) -> None:
    raise error.with_traceback(traceback)
