"""Which backend and which settings hold here: contexts, defaults and nesting levels.

The settings in force belong to a thread. A fresh thread or process has the defaults; the threads and worker
processes that run tasks are given the backend for the next level of nesting instead (threads once, then a plain
loop), so that nested calls do not multiply.
"""

from __future__ import annotations

import sys
import threading
import warnings

from ._settings import UNSET, Unset

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any

    from .backends import ParallelBackendBase

PREFERENCES = ("processes", "threads", None)
REQUIREMENTS = ("sharedmem", None)

# What tasks see in a worker process: name of the backend, nesting level, n_jobs.
FIRST_WORKER_STATE = ("threading", 1, None)


class _Thread(threading.local):
    """What holds in this thread."""

    config: dict[str, Any] = UNSET
    worker_state: tuple[Any, ...] = FIRST_WORKER_STATE


thread = _Thread()

# Not empty once a task may have left settings behind: workers then put them right before the next one.
changes: list[str] = []


def cpu_count(only_physical_cores: bool = False) -> int:
    """Return the number of CPUs that this process may use.

    Parameters
    ----------
    only_physical_cores : bool
        Count a core with several hardware threads once.

    Returns
    -------
    int
        The least of: CPUs online, the affinity mask, the CPU quotas of all control groups above this process
        (rounded up), and the environment variable ``LOKY_MAX_CPU_COUNT``; 1 when ``JOBLIB_MULTIPROCESSING`` is 0.
    """
    from . import _core
    from .backends import multiprocessing_is_off

    if multiprocessing_is_off():
        return 1
    usable: int = _core.cpu_count()
    if only_physical_cores:
        usable = min(usable, _physical_cores() or usable)
    return usable


def _physical_cores() -> int:
    """Return the number of cores that the kernel lists, or 0 where it does not tell."""
    import glob

    cores = set()
    for name in glob.glob("/sys/devices/system/cpu/cpu[0-9]*/topology/thread_siblings_list"):
        try:
            with open(name, encoding="ascii") as file:
                cores.add(file.read())
        except OSError:
            return 0
    return len(cores)


def effective_n_jobs(n_jobs: int | None = -1) -> int:
    """Return how many tasks would run at once.

    Parameters
    ----------
    n_jobs : int or None
        What a caller asks for: negative numbers count from the number of CPUs down (-1 is all, -2 all but one),
        None takes the value of the context.

    Returns
    -------
    int
        The number that a call of `Parallel` with this n_jobs would use here; at least 1.

    Raises
    ------
    ValueError
        n_jobs is 0, which has no meaning.
    """
    if n_jobs == 1:
        return 1
    backend, n_jobs_of_context = get_active_backend()
    if n_jobs is None:
        n_jobs = n_jobs_of_context
    return backend.effective_n_jobs(n_jobs)


def setting(given: Any, config: dict[str, Any], name: str) -> Any:
    """Return an argument if it was given, else the context's value, else the default."""
    if given is not UNSET[name]:
        return given
    value = config[name]
    return value.default if isinstance(value, Unset) else value


def get_active_backend(
    prefer: Any = UNSET["prefer"],
    require: Any = UNSET["require"],
    verbose: Any = UNSET["verbose"],
) -> tuple[ParallelBackendBase, int | None]:
    """Return the backend that holds here, and the n_jobs of the context (None when it sets none).

    Parameters
    ----------
    prefer : {'processes', 'threads'} or None
        Kind of worker wanted where no context names a backend.
    require : {'sharedmem'} or None
        'sharedmem' takes threads, whatever the context says.
    verbose : int
        From 10 on, a replaced backend is reported.

    Raises
    ------
    ValueError
        `prefer` or `require` is unknown, or they contradict each other.
    """
    backend, config = active_backend(prefer, require, verbose)
    return backend, setting(UNSET["n_jobs"], config, "n_jobs")


def active_backend(prefer: Any, require: Any, verbose: Any) -> tuple[ParallelBackendBase, dict[str, Any]]:
    """As `get_active_backend`, with the whole configuration."""
    from . import backends

    config = thread.config
    prefer = setting(prefer, config, "prefer")
    require = setting(require, config, "require")
    _check_wishes(prefer, require)
    chosen = setting(UNSET["backend"], config, "backend")
    backend = chosen if chosen is not None else backends.make_backend(None, nesting_level=0)
    if require == "sharedmem" and not backend.supports_sharedmem:
        threads = backends.ThreadingBackend(nesting_level=backend.nesting_level)
        if setting(verbose, config, "verbose") >= 10 and chosen is not None:
            print(
                f"Using {type(threads).__name__} as joblib backend instead of {type(backend).__name__} "
                "as the latter does not provide shared memory semantics."
            )
        # The n_jobs of the context was meant for the backend that cannot be used.
        return threads, {**config, "n_jobs": 1}
    if chosen is None and prefer == "threads" and not backend.uses_threads:
        return backends.ThreadingBackend(nesting_level=backend.nesting_level), {**config, "n_jobs": 1}
    if chosen is None and prefer == "processes" and backend.uses_threads and not backends.multiprocessing_is_off():
        return backends.LokyBackend(nesting_level=backend.nesting_level), config
    return backend, config


def _check_wishes(prefer: Any, require: Any) -> None:
    if prefer not in PREFERENCES:
        raise ValueError(f"prefer={prefer} is not a valid backend hint, expected one of {PREFERENCES}")
    if require not in REQUIREMENTS:
        raise ValueError(f"require={require} is not a valid backend constraint, expected one of {REQUIREMENTS}")
    if prefer == "processes" and require == "sharedmem":
        raise ValueError("prefer == 'processes' and require == 'sharedmem' are inconsistent settings")


class parallel_config:  # noqa: N801
    """Settings for every `Parallel` call of this thread, until the ``with`` block or `unregister` ends them.

    An argument that is given to `Parallel` goes before them. Contexts nest; what an inner one does not set stays
    as the outer one has it.

    Parameters
    ----------
    backend : str or ParallelBackendBase, optional
        'loky' (processes), 'multiprocessing' (forks of this one), 'threading', 'sequential', a registered name, or an
        instance.
    n_jobs : int, optional
        How many tasks run at once; -1 for all CPUs.
    verbose : int, optional
        Verbosity of progress messages.
    temp_folder : str, optional
        Folder for segments that need a file.
    max_nbytes : int, str or None, optional
        Arrays of more bytes ('10M' and such in units of 1024) arrive as `numpy.memmap`; None for no array.
    mmap_mode : {'r', 'r+', 'w+', 'c'} or None, optional
        How those arrays are mapped.
    prefer : {'processes', 'threads'} or None, optional
        Kind of worker wanted where nobody names a backend.
    require : {'sharedmem'} or None, optional
        'sharedmem' takes threads, whatever else is set.
    inner_max_num_threads : int, optional
        Threads of BLAS and OpenMP in each worker process.
    **backend_params
        For the constructor of a backend that is given by name; for 'loky': `initializer`, `initargs`,
        `idle_worker_timeout` (seconds).

    Raises
    ------
    ValueError
        The backend is unknown, or `backend_params` came without the name of a backend.

    Examples
    --------
    >>> with parallel_config(backend="threading", n_jobs=2):
    ...     Parallel()(delayed(abs)(i) for i in (-1, -2))
    [1, 2]
    """

    def __init__(
        self,
        backend: Any = UNSET["backend"],
        *,
        n_jobs: Any = UNSET["n_jobs"],
        verbose: Any = UNSET["verbose"],
        temp_folder: Any = UNSET["temp_folder"],
        max_nbytes: Any = UNSET["max_nbytes"],
        mmap_mode: Any = UNSET["mmap_mode"],
        prefer: Any = UNSET["prefer"],
        require: Any = UNSET["require"],
        inner_max_num_threads: int | None = None,
        **backend_params: Any,
    ) -> None:
        self.old_parallel_config = thread.config
        given = {
            "backend": self._resolve(backend, inner_max_num_threads, backend_params),
            "n_jobs": n_jobs,
            "verbose": verbose,
            "temp_folder": temp_folder,
            "max_nbytes": max_nbytes,
            "mmap_mode": mmap_mode,
            "prefer": prefer,
            "require": require,
        }
        changed = {name: value for name, value in given.items() if not isinstance(value, Unset)}
        self.parallel_config = {**self.old_parallel_config, **changed}
        thread.config = self.parallel_config
        if not changes:
            changes.append("config")

    def _resolve(self, backend: Any, inner_max_num_threads: int | None, params: dict[str, Any]) -> Any:
        """Return an instance of the backend that was asked for, or the mark for none."""
        from . import backends

        if backend is None or backend is UNSET["backend"]:
            if inner_max_num_threads is not None or params:
                raise ValueError(
                    "inner_max_num_threads and other constructor parameters backend_params are only supported "
                    "when backend is not None."
                )
            return UNSET["backend"]
        outer = self.old_parallel_config["backend"]
        level = 0 if isinstance(outer, Unset) else outer.nesting_level
        if isinstance(backend, str):
            backend = backends.make_backend(backend, **params)
        elif params:
            raise ValueError("Constructor parameters backend_params are only supported when backend is a string.")
        else:
            backends.check_backend(backend)
        if inner_max_num_threads is not None:
            if not backend.supports_inner_max_num_threads:
                # joblib's type; callers may catch it.
                raise AssertionError(
                    f"{type(backend).__name__} does not accept setting the inner_max_num_threads argument."
                )
            backend.inner_max_num_threads = inner_max_num_threads
        if backend.nesting_level is None:
            backend.nesting_level = level
        return backend

    def __enter__(self) -> Any:
        return self.parallel_config

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.unregister()

    def unregister(self) -> None:
        """Put the settings back that held before."""
        thread.config = self.old_parallel_config


class parallel_backend(parallel_config):  # noqa: N801
    """The older form of `parallel_config`: a backend, on all CPUs unless n_jobs says otherwise.

    Parameters
    ----------
    backend : str or ParallelBackendBase
        'loky' (processes), 'multiprocessing' (forks of this one), 'threading', 'sequential', a registered name, or an
        instance.
    n_jobs : int
        How many tasks run at once; -1 for all CPUs.
    inner_max_num_threads : int, optional
        Threads of BLAS and OpenMP in each worker process.
    **backend_params
        For the constructor of a backend that is given by name.

    Raises
    ------
    ValueError
        The backend is unknown.

    Notes
    -----
    The ``with`` statement gives the pair (backend, n_jobs).
    """

    def __init__(
        self,
        backend: Any,
        n_jobs: Any = -1,
        inner_max_num_threads: int | None = None,
        **backend_params: Any,
    ) -> None:
        super().__init__(backend=backend, n_jobs=n_jobs, inner_max_num_threads=inner_max_num_threads, **backend_params)
        before, after = self.old_parallel_config, self.parallel_config
        self.old_backend_and_jobs = (before["backend"], before["n_jobs"])
        self.new_backend_and_jobs = (after["backend"], after["n_jobs"])

    def __enter__(self) -> Any:
        return self.new_backend_and_jobs


def _nested(backend: ParallelBackendBase) -> tuple[ParallelBackendBase, int | None]:
    """Return what holds in tasks of a backend; one written for an older joblib names no n_jobs."""
    nested: Any = backend.get_nested_backend()
    return nested if isinstance(nested, tuple) else (nested, None)


def nested_config(backend: ParallelBackendBase) -> dict[str, Any]:
    """Return what tasks of this backend see: the backend of the next level, all else at its default."""
    nested, n_jobs = _nested(backend)
    return {**UNSET, "backend": nested, "n_jobs": n_jobs}


def state_for_workers(backend: ParallelBackendBase) -> tuple[Any, ...]:
    """Return what `apply_worker_state` shall be called with in the workers of this backend."""
    nested, n_jobs = _nested(backend)
    name = "sequential" if type(nested).__name__ == "SequentialBackend" else "threading"
    return name, nested.nesting_level, n_jobs


def worker_state() -> tuple[Any, ...]:
    """Return what workers of the call that runs in this thread shall know: (backend, nesting level, n_jobs)."""
    return thread.worker_state


def apply_worker_state(state: tuple[Any, ...]) -> None:
    """In a worker: let nested calls of `Parallel` see the next level of nesting.

    What a task before has set and not put back is forgotten. It takes well under a microsecond after the first time.
    """
    config = _configs_of_states.get(state)
    if config is None:
        from . import backends

        name, nesting_level, n_jobs = state
        backend = backends.make_backend(name, nesting_level=nesting_level)
        config = _configs_of_states[state] = {**UNSET, "backend": backend, "n_jobs": n_jobs}
    thread.config = config


# Contexts copy what they change, so one configuration serves all tasks.
_configs_of_states: dict[tuple[Any, ...], dict[str, Any]] = {}


def warn_caller(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the line outside of joblot that led here."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_globals["__name__"].partition(".")[0] == "joblot":
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
