"""The ways to run tasks: worker processes, threads, or a plain loop; and the registry of their names."""

from __future__ import annotations

import os
import threading
from types import MappingProxyType

from . import _setup, config
from ._settings import CallSettings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

    from .parallel import Parallel

# What worker processes are made with. `Parallel` takes them with every backend, since a context may choose it;
# where there are no worker processes they have no effect.
WORKER_PARAMETERS = ("initializer", "initargs", "idle_worker_timeout")


def multiprocessing_is_off() -> bool:
    """True where the environment variable JOBLIB_MULTIPROCESSING is 0, joblib's switch to serial runs."""
    value = _setup.variable(b"JOBLIB_MULTIPROCESSING")
    if value is None:
        return False
    try:
        return int(value) == 0
    except ValueError:
        raise ValueError(
            f"the environment variable JOBLIB_MULTIPROCESSING must be 0 or 1, got: {os.fsdecode(value)!r}"
        ) from None


def in_daemon_process() -> bool:
    """True in a worker of the multiprocessing backend, and in a daemonic child of multiprocessing.

    Where that was never imported, this is none of its children.
    """
    if _setup.worker_kind == "multiprocessing":
        return True
    process = _setup.loaded_module("multiprocessing.process")
    return process is not None and bool(process.current_process().daemon)


def count_workers(n_jobs: int | None) -> int:
    """Return n_jobs with negative numbers counted from the number of CPUs down."""
    if n_jobs == 0:
        raise ValueError("n_jobs == 0 in Parallel has no meaning")
    if n_jobs is None or multiprocessing_is_off():
        return 1
    if n_jobs < 0:
        return max(config.cpu_count() + 1 + n_jobs, 1)
    return n_jobs


class ParallelBackendBase:
    """What `Parallel` asks of a backend.

    A backend of your own derives from this class, has `effective_n_jobs` and `run`, and is given to `Parallel` as
    an instance or registered under a name.

    Parameters
    ----------
    nesting_level : int, optional
        0 at the top, 1 inside a task, and so on; None takes the level of the place where it is used.
    inner_max_num_threads : int, optional
        Threads of BLAS and OpenMP in each worker.
    **backend_kwargs
        Kept in `backend_kwargs`.
    """

    default_n_jobs = 1
    uses_threads = False
    supports_sharedmem = False
    supports_timeout = False
    supports_inner_max_num_threads = False
    supports_task_limits = False  # workers can be killed, and replaced

    # What a class has whose __init__ does not call this one's.
    nesting_level: int | None = None
    inner_max_num_threads: int | None = None
    backend_kwargs: Mapping[str, Any] = MappingProxyType({})

    def __init__(
        self,
        nesting_level: int | None = None,
        inner_max_num_threads: int | None = None,
        **backend_kwargs: Any,
    ) -> None:
        self.nesting_level = nesting_level
        self.inner_max_num_threads = inner_max_num_threads
        self.backend_kwargs = backend_kwargs

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Return how many tasks run at once when n_jobs is asked for; ValueError for 0."""
        raise NotImplementedError(f"{type(self).__name__} must define effective_n_jobs(n_jobs)")

    def configure(self, n_jobs: int = 1, parallel: Parallel | None = None, **settings: Any) -> int:
        """Get ready for the calls of a `Parallel` object; return the number of workers."""
        self.parallel = parallel
        return self.effective_n_jobs(n_jobs)

    def run(self, tasks: Iterator[Any], settings: CallSettings) -> list[Any]:
        """Run (function, args, kwargs) triples; return their results in input order or raise the first error."""
        raise NotImplementedError(
            f"{type(self).__name__} must define run(tasks, settings): joblib's submit() protocol is not "
            "available in this version of joblot"
        )

    def start_call(self) -> None:
        """Called before each call with more than one worker."""

    def stop_call(self) -> None:
        """Called after each such call."""

    def terminate(self) -> None:
        """Called when the call, or the ``with`` block around it, has ended."""

    def get_nested_backend(self) -> tuple[ParallelBackendBase, int | None]:
        """Return (backend, n_jobs) for `Parallel` inside tasks: threads once, then a plain loop."""
        level = (self.nesting_level or 0) + 1
        if level > 1:
            return SequentialBackend(nesting_level=level), None
        return ThreadingBackend(nesting_level=level), None

    def __repr__(self) -> str:
        return f"{type(self).__name__}(nesting_level={self.nesting_level})"


class SequentialBackend(ParallelBackendBase):
    """A plain loop in the calling thread. `Parallel` runs it itself, so that a task costs next to nothing."""

    uses_threads = True
    supports_sharedmem = True

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Return 1."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        return 1

    def get_nested_backend(self) -> tuple[ParallelBackendBase, int | None]:
        """Return what holds here: a loop is no level of nesting."""
        return config.get_active_backend()


class ThreadingBackend(ParallelBackendBase):
    """Threads of this process: nothing is copied. Of use where tasks wait, or release the interpreter's lock."""

    uses_threads = True
    supports_sharedmem = True
    supports_timeout = True

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Return n_jobs; negative numbers count from the number of CPUs down."""
        return count_workers(n_jobs)

    def run(self, tasks: Iterator[Any], settings: CallSettings) -> list[Any]:
        """Run tasks in threads; return their results in input order or raise the first error."""
        from ._threads import ThreadCall

        return ThreadCall(tasks, settings, config.nested_config(self)).run()


class LokyBackend(ParallelBackendBase):
    """Worker processes of the C engine.

    Parameters
    ----------
    nesting_level, inner_max_num_threads : int, optional
        As in `ParallelBackendBase`.
    initializer, initargs : callable, tuple, optional
        Called once in each worker before its first task.
    idle_worker_timeout : float, optional
        Seconds after which a worker without work ends.

    Raises
    ------
    TypeError
        A parameter is unknown.
    """

    supports_task_limits = True
    supports_timeout = True
    supports_inner_max_num_threads = True

    def __init__(
        self,
        nesting_level: int | None = None,
        inner_max_num_threads: int | None = None,
        **backend_kwargs: Any,
    ) -> None:
        if "timeout" in backend_kwargs:
            raise ValueError(
                "The 'timeout' parameter is not supported by the LokyBackend. "
                "Please use the `idle_worker_timeout` parameter instead."
            )
        unknown = sorted(set(backend_kwargs) - set(WORKER_PARAMETERS)) if backend_kwargs else None
        if unknown:
            raise TypeError(f"LokyBackend has no parameter {unknown[0]!r}; it takes {', '.join(WORKER_PARAMETERS)}")
        super().__init__(nesting_level, inner_max_num_threads, **backend_kwargs)

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Return n_jobs, with joblib's fallbacks to 1 inside daemonic processes and nested threads."""
        workers = count_workers(n_jobs)
        if workers == 1:
            return 1
        if in_daemon_process():
            config.warn_caller("Loky-backed parallel loops cannot be called in a multiprocessing, setting n_jobs=1")
            return 1
        if self.nesting_level != 0 and threading.current_thread() is not threading.main_thread():
            config.warn_caller("Loky-backed parallel loops cannot be nested below threads, setting n_jobs=1")
            return 1
        return workers

    def run(self, tasks: Iterator[Any], settings: CallSettings) -> list[Any]:
        """Run tasks in worker processes; return their results in input order or raise the first error."""
        results: list[Any] = _run_in_processes(self, tasks, settings, None)
        return results


class MultiprocessingBackend(ParallelBackendBase):
    """Worker processes that are forks of this one, and see its modules, ``__main__`` included, as they were then.

    They are forked when a call begins, or the ``with`` block of its `Parallel`, and end with it. All else is as in
    `LokyBackend`.

    Parameters
    ----------
    nesting_level, inner_max_num_threads : int, optional
        As in `ParallelBackendBase`.
    initializer, initargs : callable, tuple, optional
        Called once in each worker before its first task.
    context : multiprocessing context, optional
        One that starts processes by 'spawn' or 'forkserver' gives workers that start anew, as in `LokyBackend`.

    Raises
    ------
    TypeError
        A parameter is unknown.
    """

    supports_task_limits = True
    supports_timeout = True

    def __init__(
        self,
        nesting_level: int | None = None,
        inner_max_num_threads: int | None = None,
        context: Any = None,
        **backend_kwargs: Any,
    ) -> None:
        unknown = sorted(set(backend_kwargs) - set(WORKER_PARAMETERS))
        if unknown:
            raise TypeError(
                f"MultiprocessingBackend has no parameter {unknown[0]!r}; it takes context, "
                f"{', '.join(WORKER_PARAMETERS)}"
            )
        super().__init__(nesting_level, inner_max_num_threads, **backend_kwargs)
        method = os.environ.get("JOBLIB_START_METHOD") if context is None else context.get_start_method()
        self._forks = method in (None, "", "fork")
        self._pool: Any = None
        self._pool_pid = 0

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Return n_jobs, with joblib's fallbacks to 1 inside workers, daemonic processes and nested threads."""
        workers = count_workers(n_jobs)
        if workers == 1:
            return 1
        where = None
        if in_daemon_process():
            where = ""
        elif _setup.worker_kind is not None:
            where = ", below loky"
        elif self.nesting_level != 0 and threading.current_thread() is not threading.main_thread():
            where = " below threads"
        if where is None:
            return workers
        config.warn_caller(f"Multiprocessing-backed parallel loops cannot be nested{where}, setting n_jobs=1")
        return 1

    def configure(self, n_jobs: int = 1, parallel: Parallel | None = None, **settings: Any) -> int:
        """Get ready; for a ``with`` block the processes are forked here."""
        workers = super().configure(n_jobs, parallel, **settings)
        if workers > 1 and getattr(parallel, "_managed_backend", False):
            self._fork()
        return workers

    def _fork(self) -> Any:
        """Return the pool of a ``with`` block, forked now where there is none of this process."""
        from . import _forked

        if self._pool is None or self._pool_pid != os.getpid():
            self._pool, self._pool_pid = _forked.open_pool(), os.getpid()
        return self._pool

    def run(self, tasks: Iterator[Any], settings: CallSettings) -> list[Any]:
        """Run tasks in worker processes; return their results in input order or raise the first error."""
        from . import _forked, _processes

        if not self._forks:
            return _run_in_processes(self, tasks, settings, None)
        if self._pool is not None:
            return _run_in_processes(self, tasks, settings, self._fork())
        pool = _forked.open_pool()
        try:
            return _run_in_processes(self, tasks, settings, pool)
        finally:
            _forked.close_pool(pool, _processes.GRACE)

    def terminate(self) -> None:
        """End the processes of a ``with`` block."""
        pool, self._pool = self._pool, None
        if pool is not None:
            from . import _forked, _processes

            _forked.close_pool(pool, _processes.GRACE)


def _run_in_processes(backend: ParallelBackendBase, tasks: Iterator[Any], settings: CallSettings, pool: Any) -> Any:
    from . import _processes

    outer = config.thread.worker_state
    settings.worker_state = config.thread.worker_state = config.state_for_workers(backend)
    try:
        return _processes.run(tasks, settings, pool)
    finally:
        config.thread.worker_state = outer


BACKENDS: dict[str, Callable[..., Any]] = {
    "loky": LokyBackend,
    "multiprocessing": MultiprocessingBackend,
    "sequential": SequentialBackend,
    "threading": ThreadingBackend,
}
DEFAULT_BACKEND = "loky"


def register_parallel_backend(name: str, factory: Callable[..., Any], make_default: bool = False) -> None:
    """Make a backend known under a name.

    Parameters
    ----------
    name : str
        What `Parallel(backend=name)` and `parallel_config(backend=name)` shall accept.
    factory : callable
        Called with the keyword `nesting_level` and the parameters of `parallel_config`; returns the backend.
    make_default : bool
        Use it where nobody names a backend.

    Raises
    ------
    TypeError
        `factory` is not callable.
    """
    global DEFAULT_BACKEND  # noqa: PLW0603 - joblib's: one default for the program
    if not callable(factory):
        raise TypeError(f"factory must be a callable that returns a backend, got {factory!r}")
    BACKENDS[name] = factory
    if make_default:
        DEFAULT_BACKEND = name


def make_backend(name: Any, /, **params: Any) -> Any:
    """Return a new backend by its name; None for the default.

    Raises
    ------
    ValueError
        There is none of that name.
    """
    off = multiprocessing_is_off()
    if name is None:
        name = "threading" if off and DEFAULT_BACKEND == "loky" else DEFAULT_BACKEND
    elif hasattr(name, "Pool") and hasattr(name, "Lock"):
        name, params = "multiprocessing", {**params, "context": name}
    if off and name in ("loky", "multiprocessing"):
        config.warn_caller(
            f"joblot backend {name!r} is not available because JOBLIB_MULTIPROCESSING is 0, falling back to threading."
        )
        return ThreadingBackend(nesting_level=params.get("nesting_level"))
    factory = BACKENDS.get(name) if isinstance(name, str) else None
    if factory is None:
        raise ValueError(f"Invalid backend: {name}, expected one of {sorted(BACKENDS)}")
    return factory(**params)


def check_backend(backend: Any) -> None:
    """Refuse an object that is no backend."""
    if not (hasattr(backend, "effective_n_jobs") and hasattr(backend, "run")):
        make_backend(backend)  # raises: says what is there
