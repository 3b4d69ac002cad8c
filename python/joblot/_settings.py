"""What a call of `Parallel` hands to the engine, and the marks for "not given"."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Literal


class Unset:
    """Stands in a signature for an argument that was not given.

    It prints as the value that holds then, so that `help` shows what users know. Given or not matters because an
    argument goes before the context of `parallel_config`, and the context before the default.
    """

    __slots__ = ("default",)

    def __init__(self, default: Any) -> None:
        self.default = default

    def __repr__(self) -> str:
        return repr(self.default)


# Large arrays are then private copy-on-write maps; an explicit 'r' makes them read-only, as in joblib.
DEFAULT_MMAP_MODE = Unset("r")

# One mark for each setting that `parallel_config` knows.
UNSET: dict[str, Any] = {
    "backend": Unset(None),
    "n_jobs": Unset(None),
    "verbose": Unset(0),
    "temp_folder": Unset(None),
    "max_nbytes": Unset("1M"),
    "mmap_mode": DEFAULT_MMAP_MODE,
    "prefer": Unset(None),
    "require": Unset(None),
}


class CallSettings:
    """The settings of one call, checked and resolved.

    Attributes
    ----------
    n_jobs : int
        How many tasks may run at once; at least 1.
    elastic : bool
        Nobody named `pre_dispatch`: more may be drawn of quick tasks that hold no arrays.
    pre_dispatch : int or None
        How many batches are drawn ahead of the workers; None draws everything first.
    batch_size : int or 'auto'
        Tasks in a message.
    timeout : float or None
        Seconds that the caller waits for the next result in order.
    retries : int
        How often a task is run again after its worker died.
    on_error : {'raise', 'return', 'skip'}
        What becomes of the exception of a task.
    max_tasks_per_worker : int or None
        Tasks of a worker's life.
    task_timeout : float or None
        Seconds that one task may run.
    memory_limit : int or None
        Bytes of its own that a worker may hold.
    max_nbytes : int or None
        Arrays of more bytes arrive as `numpy.memmap`; None means that no array does.
    mmap_mode : {'r', 'r+', 'c'}, None or DEFAULT_MMAP_MODE
        How those arrays are mapped; None sends copies.
    temp_folder : str or None
        Where segments that need a file get it.
    snapshot : int
        How far the input can be trusted between the drawing of two tasks: see `joblot._snapshot`.
    inner_max_num_threads : int or None
        Threads of BLAS and OpenMP in each worker; None shares the cores out.
    initializer, initargs : callable or None, tuple
        Called once in each worker before its first task.
    idle_worker_timeout : float or None
        Seconds after which a worker without work ends.
    progress : callable or None
        ``progress(n_dispatched_tasks, n_completed_tasks, exhausted)``, to be called in the calling thread once for
        each message of results; `exhausted` says that the iterator has ended.
    verbose : int
        Verbosity of the call.
    worker_state : tuple
        What `joblot.config.apply_worker_state` shall be called with in the workers.
    """

    __slots__ = (
        "batch_size",
        "elastic",
        "idle_worker_timeout",
        "initargs",
        "initializer",
        "inner_max_num_threads",
        "max_nbytes",
        "max_tasks_per_worker",
        "memory_limit",
        "mmap_mode",
        "n_jobs",
        "on_error",
        "pre_dispatch",
        "progress",
        "retries",
        "snapshot",
        "task_timeout",
        "temp_folder",
        "timeout",
        "verbose",
        "worker_state",
    )

    def __init__(
        self,
        n_jobs: int = 1,
        pre_dispatch: int | None = None,
        batch_size: int | Literal["auto"] = "auto",
        timeout: float | None = None,
        retries: int = 0,
        on_error: Literal["raise", "return", "skip"] = "raise",
        max_tasks_per_worker: int | None = None,
        task_timeout: float | None = None,
        memory_limit: int | None = None,
        max_nbytes: int | None = 1 << 20,
        mmap_mode: Any = DEFAULT_MMAP_MODE,
        temp_folder: str | None = None,
        snapshot: int = 2,
        inner_max_num_threads: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        idle_worker_timeout: float | None = None,
        progress: Callable[..., object] | None = None,
        verbose: int = 0,
        elastic: bool = False,
        worker_state: tuple[Any, ...] = ("threading", 1, None),
    ) -> None:
        self.n_jobs = n_jobs
        self.pre_dispatch = pre_dispatch
        self.elastic = elastic
        self.batch_size = batch_size
        self.timeout = timeout
        self.retries = retries
        self.on_error = on_error
        self.max_tasks_per_worker = max_tasks_per_worker
        self.task_timeout = task_timeout
        self.memory_limit = memory_limit
        self.max_nbytes = max_nbytes
        self.mmap_mode = mmap_mode
        self.temp_folder = temp_folder
        self.snapshot = snapshot
        self.inner_max_num_threads = inner_max_num_threads
        self.initializer = initializer
        self.initargs = initargs
        self.idle_worker_timeout = idle_worker_timeout
        self.progress = progress
        self.verbose = verbose
        self.worker_state = worker_state

    def __repr__(self) -> str:
        return f"CallSettings({', '.join(f'{name}={getattr(self, name)!r}' for name in self.__slots__)})"
