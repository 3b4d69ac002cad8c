"""joblot: joblib's job on a C engine.

`Parallel` runs the calls that `delayed` recorded on all cores; arrays arrive in the workers exactly as they were
sent, and a worker that dies costs one attempt at one task. Everything that is not needed to say `import joblot` is
imported when it is first used.
"""

from ._core import delayed
from ._core import version as __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._shared import Shared, empty, share
    from ._snapshot import SnapshotWarning
    from .backends import ParallelBackendBase, register_parallel_backend
    from .config import cpu_count, effective_n_jobs, parallel_backend, parallel_config
    from .errors import TaskMemoryError, TaskPicklingError, TaskTimeout, WorkerDied
    from .parallel import Parallel

__all__ = [
    "Parallel",
    "ParallelBackendBase",
    "Shared",
    "SnapshotWarning",
    "TaskMemoryError",
    "TaskPicklingError",
    "TaskTimeout",
    "WorkerDied",
    "__version__",
    "cpu_count",
    "delayed",
    "effective_n_jobs",
    "empty",
    "parallel_backend",
    "parallel_config",
    "register_parallel_backend",
    "share",
]

# Where the names live that are imported on first use.
_HOMES = {
    "Parallel": "parallel",
    "ParallelBackendBase": "backends",
    "Shared": "_shared",
    "SnapshotWarning": "_snapshot",
    "TaskMemoryError": "errors",
    "TaskPicklingError": "errors",
    "TaskTimeout": "errors",
    "WorkerDied": "errors",
    "cpu_count": "config",
    "effective_n_jobs": "config",
    "empty": "_shared",
    "parallel_backend": "config",
    "parallel_config": "config",
    "register_parallel_backend": "backends",
    "share": "_shared",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'joblot' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
