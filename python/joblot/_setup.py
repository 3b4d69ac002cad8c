"""What a worker is set up with, so that code behaves there as it does in the parent."""

from __future__ import annotations

import os
import sys
from time import monotonic

from . import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ._settings import CallSettings

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

# The backend whose worker this process is; None: it is no worker.
worker_kind: str | None = None

# Variables whose change cannot reach a process that has started.
FIXED_PREFIXES = (b"PYTHON", b"LD_", b"MALLOC_", b"GLIBC_")
_FIXED = frozenset(name.encode() for name in THREAD_VARIABLES)

# Seconds for which a count of CPUs is believed: it reads the files of all control groups.
CPU_COUNT_AGE = 5.0


def is_fixed_at_start(name: bytes) -> bool:
    """True for environment variables that are read once, when a process or a library starts."""
    return name in _FIXED or name.startswith(FIXED_PREFIXES)


def loaded_module(name: str) -> Any:
    """Return a module that is imported already, or None; None also while another thread is just importing it."""
    module = sys.modules.get(name)
    return None if getattr(getattr(module, "__spec__", None), "_initializing", False) else module


def environ() -> dict[bytes, bytes]:
    """Return a copy of the environment, as bytes: the form that `os.environ` keeps, quick to copy and to compare."""
    kept = getattr(os.environ, "_data", None)
    if type(kept) is dict:
        return kept.copy()
    return {os.fsencode(name): os.fsencode(value) for name, value in os.environ.items()}


def variable(name: bytes) -> bytes | None:
    """Return one variable of the environment, in a tenth of the time that `os.environ.get` takes to convert names."""
    kept = getattr(os.environ, "_data", None)
    return kept.get(name) if type(kept) is dict else os.environb.get(name)


def look() -> tuple[Any, ...]:
    """Return what this process looks like, in a form that is quick to make and to compare."""
    try:
        cwd = os.getcwd()
    except OSError:  # removed under us
        cwd = None
    warnings = loaded_module("warnings")
    logging = loaded_module("logging")
    process = loaded_module("multiprocessing.process")
    return (
        environ(),
        cwd,
        _umask(),
        sys.path.copy(),
        sys.argv.copy(),
        _filters(warnings) if warnings is not None else None,
        _logging_levels(logging) if logging is not None else None,
        bytes(process.current_process().authkey) if process is not None else None,
        _tracker(),
    )


def _tracker() -> tuple[int, int] | None:
    """Return (pid of this process, its descriptor for multiprocessing's resource tracker), None where it has none.

    Workers that tell the same tracker of what they make and remove do not see it removed a second time.
    """
    module = loaded_module("multiprocessing.resource_tracker")
    if module is None:
        return None
    tracker = module._resource_tracker
    if tracker._fd is None:
        tracker.ensure_running()
    return os.getpid(), tracker._fd


def _umask() -> int:
    """Return the umask without changing it, where other threads could create a file meanwhile."""
    if len(sys._current_frames()) == 1:
        mask = os.umask(0o077)
        os.umask(mask)
        return mask
    try:
        with open("/proc/self/status", "rb") as status:
            for line in status:
                if line.startswith(b"Umask:"):
                    return int(line.split()[1], 8)
    except OSError:  # no /proc
        pass
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def capture(
    seen: tuple[Any, ...], settings: CallSettings, main_names: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Return what workers take over: what `look` saw, and what the call adds to it.

    `main_names`: what ``__main__`` was when the workers' server was forked off, or None for an exec'd one.
    """
    names = ("environ", "cwd", "umask", "path", "argv", "filters", "levels", "authkey", "tracker")
    state = dict(zip(names, seen, strict=True))
    if state["filters"] is not None:
        state["filters"] = [
            (action, LazyPattern.of(message), home, name, LazyPattern.of(module), line)
            for action, message, home, name, module, line in state["filters"]
        ]
    threads = settings.inner_max_num_threads or max(_cpu_count() // settings.n_jobs, 1)
    variables = {b"ENABLE_IPC": b"1"}
    for name in _FIXED:
        if settings.inner_max_num_threads is not None or name not in state["environ"]:
            variables[name] = str(threads).encode()
    state["environ"] = {**state["environ"], **variables}
    state["threads"] = _asked_threads(state["environ"], threads)
    state["state"] = settings.worker_state
    state["initializer"] = None
    if settings.initializer is not None:
        from ._transport import _pickle_bytes

        # As bytes: a function that goes by value would be another one each time it arrives.
        state["initializer"] = _pickle_bytes((settings.initializer, settings.initargs), main_names)
    return state


# Variables by the names that threadpoolctl has for the libraries that read them.
_VARIABLES = {
    "openmp": b"OMP_NUM_THREADS",
    "openblas": b"OPENBLAS_NUM_THREADS",
    "mkl": b"MKL_NUM_THREADS",
    "blis": b"BLIS_NUM_THREADS",
}


def _asked_threads(environ: dict[bytes, bytes], default: int) -> dict[str, int]:
    """Return how many threads the environment of workers asks for, by library, as these would read it."""
    asked = {}
    for library, name in _VARIABLES.items():
        text = environ.get(name, b"").split(b",")[0].strip()
        asked[library] = int(text) if text.isdigit() and int(text) > 0 else default
    return asked


_counted: tuple[float, int] = (float("-inf"), 1)


def _cpu_count() -> int:
    global _counted  # noqa: PLW0603 - the last count
    now = monotonic()
    if now - _counted[0] > CPU_COUNT_AGE:
        _counted = now, _core.cpu_count()
    return _counted[1]


def _filters(warnings: Any) -> list[Any]:
    """Return the warning filters with their categories by name: pickled by reference they would import packages."""
    return [(action, message, cat.__module__, cat.__qualname__, module, line)
            for action, message, cat, module, line in warnings.filters]  # fmt: skip


class LazyPattern:
    """What a warning filter needs of a compiled pattern, compiled when a warning is first held against it.

    To unpickle the pattern itself would import `re`, a third of what the start of a worker takes.
    """

    __slots__ = ("flags", "made", "pattern")

    def __init__(self, pattern: Any, flags: int) -> None:
        self.pattern = pattern
        self.flags = flags
        self.made: Any = None

    @classmethod
    def of(cls, pattern: Any) -> Any:
        """Return it in place of a compiled pattern, and anything else as it is."""
        if pattern is None or type(pattern).__name__ != "Pattern":
            return pattern
        return cls(pattern.pattern, pattern.flags)

    def __reduce__(self) -> tuple[Any, ...]:
        return LazyPattern, (self.pattern, self.flags)

    def __getattr__(self, name: str) -> Any:
        if self.made is None:
            import re

            self.made = re.compile(self.pattern, self.flags)
        return getattr(self.made, name)

    def __eq__(self, other: object) -> bool:
        same = (self.pattern, self.flags) == (getattr(other, "pattern", None), getattr(other, "flags", None))
        return same and (type(other) is LazyPattern or type(other).__name__ == "Pattern")

    def __hash__(self) -> int:
        return hash((self.pattern, self.flags))

    def __repr__(self) -> str:
        return f"re.compile({self.pattern!r}, {self.flags})"


def _logging_levels(logging: Any) -> dict[str, tuple[int, bool]]:
    """Return levels by name, and whether the logger is of the class that any logger has."""
    loggers = logging.root.manager.loggerDict
    levels = {
        name: (item.level, type(item) is logging.Logger) for name, item in loggers.items() if getattr(item, "level", 0)
    }
    levels[""] = logging.root.level, False
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
    if settings["filters"] is not None:
        import warnings

        warnings.filters[:] = []  # type: ignore[index]
        waiting_filters[:] = settings["filters"]
        add_filters()
    if settings["levels"] is not None:
        _apply_levels(settings["levels"])
    if settings["authkey"] is not None:
        import multiprocessing.process

        multiprocessing.process.current_process().authkey = settings["authkey"]
    if settings["tracker"] is not None:
        _join_tracker(settings["tracker"])
    config.apply_worker_state(settings["state"])
    _limit_threads(settings["threads"])
    _initialize(settings["initializer"])


_tracker_joined: tuple[int, int] | None = None


def _join_tracker(where: tuple[int, int]) -> None:
    """Write to the parent's resource tracker, where a fork has not given us its descriptor already."""
    global _tracker_joined  # noqa: PLW0603 - the one that this process writes to
    from multiprocessing import resource_tracker

    tracker: Any = resource_tracker._resource_tracker
    if where == _tracker_joined or (_tracker_joined is None and tracker._fd is not None):
        return
    try:
        fd = os.open(f"/proc/{where[0]}/fd/{where[1]}", os.O_WRONLY | os.O_CLOEXEC)
    except OSError:  # no /proc: a tracker of our own, which may complain of what others remove
        return
    if _tracker_joined is not None:
        os.close(tracker._fd)
    tracker._fd = fd
    _tracker_joined = where


# Filters whose categories belong to packages that are not imported here, with what stood around them.
waiting_filters: list[Any] = []


def add_filters() -> None:
    """Set the parent's warning filters, as far as the packages of their categories are there; the rest waits."""
    import warnings

    filters: list[Any] = []
    known: list[Any] = []
    for item in waiting_filters:
        action, message, home, name, module, line = item
        category = sys.modules.get(home)
        for part in name.split("."):
            category = getattr(category, part, None)
        if isinstance(category, type):
            filters.append((action, message, category, module, line))
        else:
            known.append(item)
    # Packages set filters when they are imported: what stands here already goes first.
    warnings.filters[:] = [*warnings.filters, *(f for f in filters if f not in warnings.filters)]  # type: ignore[index]
    waiting_filters[:] = known
    mutated = getattr(warnings, "_filters_mutated", None) or getattr(warnings, "_filters_mutated_lock_held", None)
    if mutated is not None:
        mutated()  # caches of what was shown are void


# Levels that were set here and, of loggers that are not there yet, those that are still to be set.
_levels: dict[str, tuple[int, bool]] = {}
_waiting_levels: dict[str, tuple[int, bool]] = {}


def _apply_levels(levels: dict[str, tuple[int, bool]]) -> None:
    unset = {name: (0, False) for name in _levels if name not in levels}
    _levels.clear()
    _levels.update(levels)
    _waiting_levels.clear()
    _waiting_levels.update(unset)
    _waiting_levels.update(levels)
    _set_levels()


def _set_levels() -> None:
    """Set the levels of loggers that are there, and of plain ones, which are made.

    To make one of another class would take it from the package that it belongs to.
    """
    import logging

    there = logging.root.manager.loggerDict
    for name, (level, is_plain) in list(_waiting_levels.items()):
        if not name or is_plain or hasattr(there.get(name), "setLevel"):
            logging.getLogger(name or None).setLevel(level)
            del _waiting_levels[name]


def before_task(state: tuple[Any, ...]) -> None:
    """Put right what a task before may have left, or what came with the packages of this one."""
    from . import config

    config.changes.clear()
    config.apply_worker_state(state)
    if waiting_filters and any(item[2] in sys.modules for item in waiting_filters):
        add_filters()
    if _waiting_levels:
        _set_levels()


_initialized: bytes | None = None


def _initialize(initializer: bytes | None) -> None:
    """Call the initializer, once for each one that a worker meets."""
    global _initialized  # noqa: PLW0603 - what this process was initialized with
    if initializer is None or initializer == _initialized:
        return
    import _pickle

    function, args = _pickle.loads(initializer)
    function(*args)
    _initialized = initializer


def _apply_environ(wanted: dict[bytes, bytes]) -> None:
    have = environ()
    for name in have.keys() - wanted.keys():
        del os.environb[name]
    for name, value in wanted.items():
        if have.get(name) != value:
            os.environb[name] = value


# How many threads libraries that are loaded here use: a server that was exec'd loads them with one, since it could not
# fork with more.
_threads = dict.fromkeys(_VARIABLES, 1)


# Libraries that a forked server has found for its workers, to be used once: tasks may load more.
libraries: Any = None


def find_libraries() -> Any:
    """Return a controller for each numerical library that is loaded."""
    import threadpoolctl

    return threadpoolctl.ThreadpoolController().lib_controllers


def _limit_threads(threads: dict[str, int]) -> None:
    """Tell numerical libraries that are loaded already how many threads they may use; others read the environment."""
    global _threads, libraries  # noqa: PLW0603 - what holds in this process
    same = threads == _threads and worker_kind == "loky"
    _threads = threads
    if same or "numpy" not in sys.modules:
        return
    found, libraries = libraries or find_libraries(), None
    for library in found:
        library.set_num_threads(threads.get(library.internal_api, threads["openmp"]))
