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
