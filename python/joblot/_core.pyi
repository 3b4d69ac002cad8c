from collections.abc import Callable
from typing import Any, Generic, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

version: str

# What the modules of joblot use of the engine is described in python/_core.
def __getattr__(name: str) -> Any: ...
def cpu_count() -> int: ...

class delayed(Generic[P, R]):
    __wrapped__: Callable[P, R]
    def __init__(self, function: Callable[P, R]) -> None: ...
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> tuple[Callable[P, R], tuple[Any, ...], dict[str, Any]]: ...

class ThreadQueue:
    results: list[Any]
    n_completed: int
    n_threads: int
    exhausted: bool
    stopped: bool
    end_is_told: bool
    def __init__(
        self, tasks: Any, pending: Any, local: Any, nested: dict[str, Any], progress: Any, notify: bool
    ) -> None: ...
    def draw(self) -> bool: ...
    def work(self) -> None: ...
