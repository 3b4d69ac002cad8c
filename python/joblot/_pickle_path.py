"""Find the part of an object that cannot be pickled, and name it as a user would write it."""

from __future__ import annotations

import types
from functools import partial

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    Part = tuple[str, Any]

# Bounds of a search: trial picklings, and depth of the path.
MAX_TRIALS = 2000
MAX_DEPTH = 40
# From this number of parts on, they are tried by halves.
HALVE_FROM = 8


def find_unpicklable(obj: Any, name: str, dumps: Callable[[Any], object]) -> tuple[str, BaseException] | None:
    """Return the path of the innermost part that `dumps` refuses, and its error; None where it takes the whole.

    Parameters
    ----------
    obj : object
        What could not be pickled.
    name : str
        How the path begins, such as ``'args'``.
    dumps : callable
        The pickler that refused it; it is called on parts.

    Returns
    -------
    (str, BaseException) or None
        Such as ``("args[1]['model'].lock", TypeError("cannot pickle '_thread.lock' object"))``.

    Notes
    -----
    At most `MAX_TRIALS` parts are tried and `MAX_DEPTH` levels descended; where that does not reach the innermost
    part, the one that was reached is named.
    """
    search = _Search(dumps)
    error = search.error_of(obj)
    if error is None:
        return None
    path, error, _ = search.descend(obj, name, error, 0)
    return path, error


def find_in_task(
    function: Any, args: Any, kwargs: Any, dumps: Callable[[Any], object]
) -> tuple[str, BaseException] | None:
    """As `find_unpicklable`, for the three parts of a task: 'function', 'args[...]', 'kwargs[...]'."""
    for part, name in ((args, "args"), (kwargs, "kwargs"), (function, "function")):
        found = find_unpicklable(part, name, dumps)
        if found is not None:
            return found
    return None


class _Search:
    """One search: how often it has pickled, and which objects lie on the path."""

    def __init__(self, dumps: Callable[[Any], object]) -> None:
        self.dumps = dumps
        self.trials = 0
        # Objects are kept alive, so that no id is used twice.
        self.seen: dict[int, Any] = {}

    def error_of(self, obj: Any) -> BaseException | None:
        self.trials += 1
        try:
            self.dumps(obj)
        except Exception as error:
            return error
        return None

    def descend(self, obj: Any, path: str, error: BaseException, depth: int) -> tuple[str, BaseException, bool]:
        """Name the innermost failing part of `obj`, which fails itself.

        The last value is False where `obj` may fail only because it leads back to an object on the way to it.
        """
        self.seen[id(obj)] = obj
        leads_back, undecided = False, None
        parts = self.failing(_parts_of(obj, path)) if depth < MAX_DEPTH else iter(())
        for part_name, part in parts:
            if id(part) in self.seen:
                leads_back = True
                continue
            part_error = self.error_of(part)
            if part_error is None:
                continue
            found = self.descend(part, part_name, part_error, depth + 1)
            if found[2]:
                return found
            undecided = undecided or found
        return undecided or (path, error, not leads_back)

    def failing(self, parts: list[Part]) -> Iterator[Part]:
        """Give the parts that may be at fault; halves that pickle are left out."""
        if self.trials >= MAX_TRIALS:
            return
        if len(parts) < HALVE_FROM:
            yield from parts
            return
        middle = len(parts) // 2
        for half in (parts[:middle], parts[middle:]):
            if self.error_of([part for _, part in half]) is not None:
                yield from self.failing(half)


_OF_EVERY_CLASS = ("__dict__", "__weakref__")


def _parts_of_dict(obj: Any, path: str) -> list[Part]:
    parts = [(f"{path} (key {_shown(key)})", key) for key in obj]
    return parts + [(f"{path}[{_shown(key)}]", value) for key, value in obj.items()] + _attributes(obj, path)


def _parts_of_sequence(obj: Any, path: str) -> list[Part]:
    return [(f"{path}[{i}]", item) for i, item in enumerate(obj)] + _attributes(obj, path)


def _parts_of_set(obj: Any, path: str) -> list[Part]:
    return [(f"{path} (element {_shown(item)})", item) for item in obj] + _attributes(obj, path)


def _parts_of_method(obj: Any, path: str) -> list[Part]:
    return [(f"{path}.__self__", obj.__self__), (f"{path}.__func__", obj.__func__)]


def _parts_of_partial(obj: Any, path: str) -> list[Part]:
    return [(f"{path}.func", obj.func), (f"{path}.args", obj.args), (f"{path}.keywords", obj.keywords)]


def _parts_of_class(obj: Any, path: str) -> list[Part]:
    return [(f"{path}.{name}", value) for name, value in vars(obj).items() if name not in _OF_EVERY_CLASS]


def _attributes(obj: Any, path: str) -> list[Part]:
    """Instance attributes, which subclasses of containers may have."""
    return [(f"{path}.{name}", value) for name, value in getattr(obj, "__dict__", {}).items()]


def _parts_of_function(function: types.FunctionType, path: str) -> list[Part]:
    """What a function that travels by value takes along: closure, defaults, attributes, the globals it names."""
    parts: list[Part] = []
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            parts.append((f"{path} (closure variable {name!r})", cell.cell_contents))
        except ValueError:
            continue  # an empty cell: not assigned yet
    for i, default in enumerate(function.__defaults__ or ()):
        parts.append((f"{path}.__defaults__[{i}]", default))
    for name, default in (function.__kwdefaults__ or {}).items():
        parts.append((f"{path}.__kwdefaults__[{name!r}]", default))
    parts.extend(_attributes(function, path))
    parts.extend((f"{path} (global variable {name!r})", value) for name, value in _globals_of(function))
    return parts


def _globals_of(function: types.FunctionType) -> Iterator[Part]:
    codes = [function.__code__]
    names: dict[str, None] = {}
    while codes:
        code = codes.pop()
        names.update(dict.fromkeys(code.co_names))
        codes.extend(constant for constant in code.co_consts if isinstance(constant, types.CodeType))
    for name in names:
        if name in function.__globals__:
            yield name, function.__globals__[name]


def _is_object_array(obj: Any) -> bool:
    return bool(getattr(getattr(obj, "dtype", None), "hasobject", False)) and hasattr(obj, "flat")


def _parts_of_array(array: Any, path: str) -> list[Part]:
    """Elements of a NumPy array of objects."""
    parts = []
    for number, item in enumerate(array.flat):
        index, rest = [], number
        for length in reversed(array.shape):
            rest, position = divmod(rest, length)
            index.append(str(position))
        parts.append((f"{path}[{', '.join(reversed(index)) or '()'}]", item))
    return parts


def _parts_of_reduced(obj: Any, path: str) -> list[Part]:
    """The parts that an object's own pickling support names; none where that support raises or is missing."""
    try:
        reduced = obj.__reduce_ex__(4)
    except Exception:
        return []  # the object itself is the offender, and its error is known
    if not isinstance(reduced, tuple):
        return []
    args, state, items, pairs = (tuple(reduced[1:5]) + (None,) * 4)[:4]
    parts = _parts_of_state(state, path)
    parts.extend((f"{path}[{i}]", item) for i, item in enumerate(items or ()))
    parts.extend((f"{path}[{_shown(key)}]", value) for key, value in pairs or ())
    parts.extend((f"{path}.__reduce_ex__(4)[1][{i}]", item) for i, item in enumerate(args or ()))
    return parts


def _parts_of_state(state: Any, path: str) -> list[Part]:
    """State is a dict of attributes, or a pair of such (the second for __slots__), or a class's own affair."""
    if isinstance(state, tuple) and len(state) == 2 and isinstance(state[1], dict):
        return _parts_of_state(state[0], path) + _parts_of_state(state[1], path)
    if isinstance(state, dict):
        return [(f"{path}.{key}" if isinstance(key, str) else f"{path}[{_shown(key)}]", v) for key, v in state.items()]
    return [] if state is None else [(f"{path}.__getstate__()", state)]


def _shown(key: Any) -> str:
    text = repr(key)
    return text if len(text) <= 40 else text[:37] + "..."


# Who knows the parts of what; the first that fits.
_KINDS: tuple[tuple[Any, Callable[[Any, str], list[Part]]], ...] = (
    (dict, _parts_of_dict),
    ((list, tuple), _parts_of_sequence),
    ((set, frozenset), _parts_of_set),
    (types.FunctionType, _parts_of_function),
    (types.MethodType, _parts_of_method),
    (partial, _parts_of_partial),
    (type, _parts_of_class),
)


def _parts_of(obj: Any, path: str) -> list[Part]:
    """Return the parts that pickling `obj` visits, with their paths."""
    for kind, parts_of in _KINDS:
        if isinstance(obj, kind):
            return parts_of(obj, path)
    if _is_object_array(obj):
        return _parts_of_array(obj, path)
    return _parts_of_reduced(obj, path)
