"""Which functions that travel by value mean the same at every draw, and how to see cheaply that they still do.

A function of ``__main__``, a lambda or a closure is pickled with the values that it refers to. It may be sent once
for a whole call only as long as those values are the same ones, and cannot change in themselves: modules, functions
and classes that workers import, other such functions, and immutable scalars.
"""

from __future__ import annotations

import sys
import types

from . import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_SCALARS = (type(None), bool, int, float, complex, str, bytes, type(Ellipsis), type(NotImplemented))
_MAX_CHECKS = 200

# Kinds of check, as `python/_core/functions.c` knows them: (kind, where, key, value).
IN_DICT, IN_CELL, CODE, DEFAULTS, KWDEFAULTS, ABSENT = range(6)


class _Changing(Exception):  # noqa: N818 - no error: an answer
    """The function refers to something that may change without being replaced."""


def checks_of(function: Any) -> list[tuple[int, Any, Any, Any]] | None:
    """Return what must still hold for the pickle of a function to be right, or None where that cannot be told.

    Parameters
    ----------
    function : types.FunctionType
        A function that travels by value.

    Returns
    -------
    list of (int, object, object, object), or None
        Each says: of this kind, in this place, under this key, there is this very object.
    """
    checks: list[tuple[int, Any, Any, Any]] = []
    try:
        _add_function(function, checks, set())
    except _Changing:
        return None
    return checks


def _add_function(function: Any, checks: list[Any], seen: set[int]) -> None:
    if id(function) in seen:
        return
    seen.add(id(function))
    if function.__dict__ or len(checks) > _MAX_CHECKS:
        raise _Changing
    checks.append((CODE, function, None, function.__code__))
    checks.append((DEFAULTS, function, None, function.__defaults__))
    checks.append((KWDEFAULTS, function, None, function.__kwdefaults__))
    if function.__kwdefaults__:
        raise _Changing  # a dict that anybody may write to
    for value in function.__defaults__ or ():
        _add_value(value, checks, seen)
    for cell in function.__closure__ or ():
        try:
            value = cell.cell_contents
        except ValueError:  # still empty
            raise _Changing from None
        checks.append((IN_CELL, cell, None, value))
        _add_value(value, checks, seen)
    for name in sorted(_names(function.__code__)):
        if name in function.__globals__:
            value = function.__globals__[name]
            checks.append((IN_DICT, function.__globals__, name, value))
            _add_value(value, checks, seen)
        else:
            checks.append((ABSENT, function.__globals__, name, None))


def _names(code: types.CodeType) -> set[str]:
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _names(constant)
    return names


def _add_value(value: Any, checks: list[Any], seen: set[int]) -> None:
    if type(value) in _SCALARS:
        return
    if isinstance(value, types.ModuleType):
        if sys.modules.get(value.__name__) is not value:
            raise _Changing  # made by hand: it goes with all that is in it
        return
    if type(value) is tuple:
        for item in value:
            _add_value(item, checks, seen)
        return
    if isinstance(value, (types.FunctionType, type, types.BuiltinFunctionType)) and _core.is_by_reference(value):
        return
    if type(value) is types.FunctionType:
        _add_function(value, checks, seen)
        return
    raise _Changing
