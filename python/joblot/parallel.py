"""`Parallel`: the call that users write. It checks arguments, chooses the backend, counts and reports."""

from __future__ import annotations

import os
import sys
import threading
import time

from . import _arguments, _progress, _setup, _snapshot, backends
from ._settings import DEFAULT_MMAP_MODE, UNSET, CallSettings
from .config import active_backend, setting, warn_caller

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType
    from typing import Any, Literal, TypeVar

    T = TypeVar("T")


# Backends that a plain loop replaces where they could use one worker only.
_REPLACEABLE = (backends.LokyBackend, backends.MultiprocessingBackend, backends.ThreadingBackend)


class Parallel:
    """Run calls that `delayed` recorded on several cores, and return their results in input order.

    Parameters
    ----------
    n_jobs : int, optional
        How many tasks run at once. -1 is the number of CPUs, -2 one less; 1 runs a plain loop in this thread. None
        takes the value of the context, else 1.
    backend : str or ParallelBackendBase, optional
        'loky' (worker processes, the default), 'multiprocessing' (worker processes that are forks of this one, and see
        its globals), 'threading', 'sequential', a registered name, an instance, or a context of `multiprocessing`.
    return_as : {'list'}
        Form of the results.
    verbose : int
        0 prints nothing; above 10 every message is shown; from 50 on they go to stdout instead of stderr.
    timeout : float, optional
        Seconds to wait for the next result in order; not with n_jobs=1.
    pre_dispatch : int, 'all' or str
        How many tasks are drawn from the input ahead of the workers; a text may be arithmetic on `n_jobs`.
    batch_size : int or 'auto'
        How many tasks a message carries.
    temp_folder : str, optional
        Folder for large arrays; without it (and without ``JOBLIB_TEMP_FOLDER``) they stay in memory.
    max_nbytes : int, str or None
        Arrays of more bytes arrive in workers as `numpy.memmap`; '1M' and such are in units of 1024; None for no
        array.
    mmap_mode : {'r', 'r+', 'w+', 'c'} or None
        How those arrays are mapped. Left out, they can be written to, and what is written stays in the worker; 'r'
        makes them read-only, None sends copies.
    prefer : {'processes', 'threads'}, optional
        Kind of worker wanted where nobody names a backend.
    require : {'sharedmem'}, optional
        'sharedmem' takes threads, also where a context names another backend.
    retries : int
        How often a task is run again after its worker died.
    on_error : {'raise', 'return', 'skip'}
        'raise': the first error of a task ends the call. 'return': the exception object stands where the task's result
        would be. 'skip': such tasks are left out of the list. What the input raises, and KeyboardInterrupt and
        SystemExit from anywhere, end the call always; so does `timeout`.
    max_tasks_per_worker : int, optional
        A worker process that has run so many tasks, those of earlier calls included, ends and another takes its place.
    task_timeout : float, optional
        Seconds that one task may run, counted from its start in a worker. Its worker is then killed with what it has
        started, and the task's error is `TaskTimeout`.
    memory_limit : int or str, optional
        Bytes of its own that a worker process may hold while it runs a task ('2G' and such in units of 1024):
        anonymous and swapped memory, looked at every 30 ms; arrays that workers share do not count. Above it the
        worker is killed, and the task's error is `TaskMemoryError`. A worker that holds more when its task has ended
        is replaced.
    **backend_kwargs
        For worker processes: `initializer`, `initargs`, `idle_worker_timeout` (seconds without work after which a
        worker leaves; 300); for registered backends: what they take.

    Attributes
    ----------
    n_tasks : int or None
        Number of tasks of the last call, where the input has a length.
    n_dispatched_batches, n_dispatched_tasks, n_completed_tasks : int
        Counts of the call that runs, or of the last one.

    Raises
    ------
    ValueError
        An argument has no meaning; the message says what was got and what is expected.
    TypeError
        A keyword is unknown, or `retries` is no whole number.

    Notes
    -----
    In a ``with`` statement the workers stay for all calls of the block.

    Examples
    --------
    >>> Parallel(n_jobs=2, backend="threading")(delayed(pow)(i, 2) for i in range(4))
    [0, 1, 4, 9]
    """

    def __init__(
        self,
        n_jobs: Any = UNSET["n_jobs"],
        backend: Any = UNSET["backend"],
        return_as: Literal["list"] = "list",
        verbose: Any = UNSET["verbose"],
        timeout: float | None = None,
        pre_dispatch: int | str = "2 * n_jobs",
        batch_size: int | Literal["auto"] = "auto",
        temp_folder: Any = UNSET["temp_folder"],
        max_nbytes: Any = UNSET["max_nbytes"],
        mmap_mode: Any = DEFAULT_MMAP_MODE,
        prefer: Any = UNSET["prefer"],
        require: Any = UNSET["require"],
        *,
        retries: int = 0,
        on_error: Literal["raise", "return", "skip"] = "raise",
        max_tasks_per_worker: int | None = None,
        task_timeout: float | None = None,
        memory_limit: int | str | None = None,
        **backend_kwargs: Any,
    ) -> None:
        active, context = active_backend(prefer, require, verbose)
        self.verbose: int = setting(verbose, context, "verbose")
        _arguments.check_timeout(timeout)
        self.timeout = timeout
        self.pre_dispatch = pre_dispatch
        self.return_as = _arguments.check_return_as(return_as)
        self.return_generator = False
        self.return_ordered = True
        self.batch_size = _arguments.check_batch_size(batch_size)
        self.retries = _arguments.check_retries(retries)
        self.on_error = _arguments.check_on_error(on_error)
        self.max_tasks_per_worker = _arguments.check_max_tasks(max_tasks_per_worker)
        self.task_timeout = _arguments.check_task_timeout(task_timeout)
        self.memory_limit = _arguments.check_memory_limit(memory_limit)
        self._backend: Any = _chosen_backend(backend, active, require)
        self._needs_workers = self._check_limits()
        if backend_kwargs:
            self._check_keywords(backend_kwargs)
        self._backend_kwargs: dict[str, Any] = {
            **backend_kwargs,
            "max_nbytes": _arguments.check_max_nbytes(setting(max_nbytes, context, "max_nbytes")),
            "temp_folder": setting(temp_folder, context, "temp_folder"),
            "mmap_mode": _arguments.check_mmap_mode(setting(mmap_mode, context, "mmap_mode")),
            "prefer": setting(prefer, context, "prefer"),
            "require": setting(require, context, "require"),
            "verbose": max(0, self.verbose - 50),
        }
        mode_is_default = mmap_mode is DEFAULT_MMAP_MODE and context["mmap_mode"] is DEFAULT_MMAP_MODE
        self._mmap_mode = DEFAULT_MMAP_MODE if mode_is_default else self._backend_kwargs["mmap_mode"]
        self.n_jobs = self._chosen_n_jobs(n_jobs, context)
        self.n_tasks: int | None = None
        self.n_dispatched_batches = self.n_dispatched_tasks = self.n_completed_tasks = 0
        self._pre_dispatch_amount = 0
        self._iterating = self._aborting = self._managed_backend = self._calling = False
        self._running = threading.Lock()

    def _chosen_n_jobs(self, n_jobs: Any, context: dict[str, Any]) -> int:
        if n_jobs is None:
            n_jobs = UNSET["n_jobs"]
        n_jobs = setting(n_jobs, context, "n_jobs")
        return _arguments.check_n_jobs(self._backend.default_n_jobs if n_jobs is None else n_jobs)

    def _check_limits(self) -> bool:
        """True where one worker process has something over a plain loop; an error where there are none."""
        if self.task_timeout is None and self.memory_limit is None and self.max_tasks_per_worker is None:
            return False
        if getattr(self._backend, "supports_task_limits", False):
            return True
        for name, value in (("task_timeout", self.task_timeout), ("memory_limit", self.memory_limit)):
            if value is not None:
                raise ValueError(
                    f"{name}={value:g} needs worker processes, which can be killed, and {type(self._backend).__name__} "
                    "has none: use backend='loky', or leave it out"
                )
        return False

    def _check_keywords(self, keywords: dict[str, Any]) -> None:
        """Refuse a misspelt argument; what backends of others take is theirs to judge."""
        if type(self._backend) in (*_REPLACEABLE, backends.SequentialBackend):
            for name in keywords:
                if name not in backends.WORKER_PARAMETERS:
                    raise TypeError(f"Parallel() got an unexpected keyword argument {name!r}")

    def __enter__(self) -> Parallel:
        self._managed_backend = True
        self._initialize_backend()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._managed_backend = False
        self._backend.terminate()

    def __call__(self, iterable: Iterable[tuple[Callable[..., T], Any, Any]]) -> list[T]:
        """Run the tasks and return their results in input order.

        Parameters
        ----------
        iterable : iterable of (callable, args, kwargs)
            Drawn from as workers become free.

        Returns
        -------
        list
            One result for each task; with ``on_error="skip"`` for each that ended well.

        Raises
        ------
        RuntimeError
            A call of this object is running.
        TypeError
            An item is not such a triple.
        WorkerDied
            The worker process of a task died, and `retries` were used up.
        TaskTimeout, TaskMemoryError
            A task went over `task_timeout`, or `memory_limit`.
        joblot.errors.TimeoutError
            A result did not come within `timeout` seconds.
        Exception
            The first one that a task raised, unless `on_error` keeps it; or that the input raised.
        """
        if not self._running.acquire(blocking=False):
            raise RuntimeError("This Parallel instance is already running !")
        try:
            self._reset(iterable)
            n_jobs = self._effective_n_jobs() if self._managed_backend else self._initialize_backend()
            if n_jobs == 1 and not self._needs_workers:
                return self._run_loop(iterable)
            return self._run_backend(iterable, n_jobs)
        finally:
            self._running.release()

    def _reset(self, iterable: Any) -> None:
        self.n_dispatched_batches = self.n_dispatched_tasks = self.n_completed_tasks = 0
        self.n_tasks = len(iterable) if hasattr(iterable, "__len__") else None
        self._aborting = False
        self._iterating = self.n_tasks != 0
        self._start_time = time.time()

    def _effective_n_jobs(self) -> int:
        n_jobs: int = self._backend.effective_n_jobs(self.n_jobs)
        return n_jobs

    def _initialize_backend(self) -> int:
        """Get the backend ready; where it could use one worker only, a plain loop takes its place."""
        n_jobs: int = self._backend.configure(n_jobs=self.n_jobs, parallel=self, **self._backend_kwargs)
        if n_jobs == 1 and not self._needs_workers and type(self._backend) in _REPLACEABLE:
            self._backend = backends.SequentialBackend(nesting_level=self._backend.nesting_level)
        if self.timeout is not None and not self._backend.supports_timeout:
            warn_caller(
                f"The backend class {type(self._backend).__name__!r} does not support timeout. You have set "
                f"'timeout={self.timeout}' in Parallel but the 'timeout' parameter will not be used."
            )
        return n_jobs

    def _run_loop(self, iterable: Iterable[Any]) -> list[Any]:
        """Run the tasks one after the other, in this thread. The loop that reports nothing is kept bare."""
        results: list[Any] = []
        append = results.append
        task: Any = None
        started = False
        if self.batch_size not in ("auto", 1):
            iterable = _in_batches(iterable, self.batch_size)
        modules = sys.modules
        try:
            if self._reports_progress() or self.on_error != "raise":
                self._run_loop_counting(iterable, results)
            else:
                for task in iterable:
                    started = True
                    function, args, kwargs = task
                    if "joblot._shared" in modules:  # the input may be what imports it
                        args, kwargs = modules["joblot._shared"].replaced(args, kwargs)
                    append(function(*args, **kwargs))
        except (TypeError, ValueError) as error:
            self._aborting = True
            if started and not _arguments.is_task(task):
                raise _arguments.no_task_error(task, len(results)) from error
            raise
        except BaseException:
            self._aborting = True
            raise
        finally:
            self._iterating = False
            if not self.n_dispatched_tasks:
                self.n_completed_tasks = len(results)
                self.n_dispatched_tasks = self.n_dispatched_batches = len(results) + self._aborting
        return results

    def _run_loop_counting(self, iterable: Iterable[Any], results: list[Any]) -> None:
        for task in iterable:
            if not _arguments.is_task(task):
                raise _arguments.no_task_error(task, self.n_dispatched_tasks)
            function, args, kwargs = task
            self.n_dispatched_batches += 1
            self.n_dispatched_tasks += 1
            try:
                if "joblot._shared" in sys.modules:
                    args, kwargs = sys.modules["joblot._shared"].replaced(args, kwargs)
                results.append(function(*args, **kwargs))
            except Exception as error:
                if self.on_error == "raise":
                    raise
                if self.on_error == "return":
                    results.append(_arguments.without_own_frame(error))
            self.n_completed_tasks += 1
            self.print_progress()
        self._iterating = False
        self.print_progress()

    def _run_backend(self, iterable: Iterable[Any], n_jobs: int) -> list[Any]:
        """Let the backend run the tasks."""
        backend = self._backend
        if n_jobs == 0:
            raise RuntimeError(f"{type(backend).__name__} has no active worker.")
        self._print(f"Using backend {type(backend).__name__} with {n_jobs} concurrent workers.")
        settings = self._settings(iterable, n_jobs)
        self._pre_dispatch_amount = settings.pre_dispatch or 0
        tasks = iter(iterable)
        if backend.uses_threads and type(backend) is not backends.ThreadingBackend:
            tasks = _with_shared_objects(tasks)
        backend.start_call()
        self._calling = True
        try:
            results: list[Any] = backend.run(tasks, settings)
        except BaseException:
            self._aborting = True
            raise
        finally:
            self._calling = False
            backend.stop_call()
            if not self._managed_backend:
                backend.terminate()
        if not self._is_completed():
            # Without progress reports nothing was counted, and after a short input the end was not known at the last.
            done = self.n_completed_tasks if self.on_error == "skip" else len(results)
            self._count(done, done, True)
            if results and settings.progress is not None:
                self.print_progress()
        return results

    def _settings(self, iterable: Any, n_jobs: int) -> CallSettings:
        backend, keywords = self._backend, self._backend_kwargs
        workers = {**backend.backend_kwargs, **keywords}
        folder = keywords["temp_folder"] or _setup.variable(b"JOBLIB_TEMP_FOLDER") or None
        return CallSettings(
            n_jobs=n_jobs,
            pre_dispatch=_arguments.check_pre_dispatch(self.pre_dispatch, n_jobs),
            elastic=isinstance(self.pre_dispatch, str) and self.pre_dispatch == "2 * n_jobs",
            batch_size=self.batch_size,
            timeout=_arguments.check_timeout(self.timeout),
            retries=self.retries,
            on_error=self.on_error,
            max_tasks_per_worker=self.max_tasks_per_worker,
            task_timeout=self.task_timeout,
            memory_limit=self.memory_limit,
            max_nbytes=keywords["max_nbytes"],
            mmap_mode=self._mmap_mode,
            temp_folder=None if folder is None else os.fsdecode(folder),
            snapshot=_snapshot.kind_of(iterable),
            inner_max_num_threads=backend.inner_max_num_threads,
            initializer=workers.get("initializer"),
            initargs=tuple(workers.get("initargs", ())),
            idle_worker_timeout=_arguments.check_idle_worker_timeout(workers.get("idle_worker_timeout")),
            progress=self._progress_callback(),
            verbose=self.verbose,
        )

    def _reports_progress(self) -> bool:
        """True where messages are wanted, or `print_progress` is somebody's own."""
        return bool(self.verbose) or getattr(self.print_progress, "__func__", None) is not Parallel.print_progress

    def _progress_callback(self) -> Callable[..., None] | None:
        """Return what backends shall call: tasks that are skipped leave no other trace to be counted by."""
        if self._reports_progress():
            return self._on_progress
        return self._count if self.on_error == "skip" else None

    def _on_progress(self, n_dispatched: int, n_completed: int, exhausted: bool = False) -> None:
        """Called by backends after results have arrived."""
        self._count(n_dispatched, n_completed, exhausted)
        self.print_progress()

    def _count(self, n_dispatched: int, n_completed: int, exhausted: bool) -> None:
        self.n_dispatched_tasks = self.n_dispatched_batches = n_dispatched
        self.n_completed_tasks = n_completed
        self._iterating = not exhausted

    def _is_completed(self) -> bool:
        """True when all tasks have been drawn and have ended well."""
        return self.n_completed_tasks == self.n_dispatched_tasks and not (self._iterating or self._aborting)

    def _print(self, msg: str) -> None:
        """Write a message to stderr, from verbose=50 on to stdout."""
        if self.verbose:
            stream = sys.stderr if self.verbose < 50 else sys.stdout
            stream.write(f"[{self}]: {msg}\n")

    def print_progress(self) -> None:
        """Print how far the call is, as often as `verbose` wants. Subclasses may put their own reports here."""
        if self.verbose:
            message = _progress.progress_message(self, time.time() - self._start_time)
            if message is not None:
                self._print(message)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(n_jobs={self.n_jobs})"


def _with_shared_objects(tasks: Iterable[Any]) -> Iterator[Any]:
    """Give tasks with the objects of `joblot.share` in place of handles, for backends that know nothing of these."""
    for task in tasks:
        if "joblot._shared" in sys.modules and _arguments.is_task(task):
            function, args, kwargs = task
            task = function, *sys.modules["joblot._shared"].replaced(args, kwargs)  # noqa: PLW2901 - the same task
        yield task


def _in_batches(tasks: Iterable[Any], size: Any) -> Iterator[Any]:
    """Give tasks one by one that are drawn `size` at a time, as workers would draw them."""
    from itertools import islice

    remaining = iter(tasks)
    while batch := list(islice(remaining, size)):
        yield from batch


def _chosen_backend(backend: Any, active: Any, require: Any) -> Any:
    """Return the backend for a `Parallel` object: the one that it names, else the active one."""
    if backend is None or backend is UNSET["backend"]:
        chosen = active
    elif isinstance(backend, backends.ParallelBackendBase):
        chosen = backend
        if chosen.nesting_level is None:
            chosen.nesting_level = active.nesting_level
    else:
        chosen = backends.make_backend(backend, nesting_level=active.nesting_level)
    if require == "sharedmem" and not chosen.supports_sharedmem:
        raise ValueError(f"Backend {chosen} does not support shared memory")
    return chosen
