"""How an array may change between the drawing of two tasks, which decides how sharing it is checked.

An array that several tasks of a call have is copied once. That is right as long as nobody writes to it between two
draws. A list cannot: no code runs while it is read. A generator function can, so the whole array is compared each
time. A generator expression over plain containers runs nothing but itself, and could only write through a call in
it: a sample is compared.
"""

from __future__ import annotations

import types
from opcode import opmap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# What `python/_core/shares.c` compares before it takes an array for the one that it has copied.
NOTHING, SAMPLE, WHOLE = range(3)

_CONTAINERS: tuple[Any, ...] = (
    *([], (), {}, {}.values(), {}.items(), set(), "", "\u0394", b"", bytearray(), range(0), range(1 << 70)),
)
_PLAIN_ITERATORS: frozenset[type] = frozenset(type(iter(container)) for container in _CONTAINERS) | {type(reversed([]))}
_MAX_DEPTH = 20
_FOR_ITER = opmap["FOR_ITER"]


class SnapshotWarning(UserWarning):
    """Arrays were compared between tasks, since the input of the call could have written to them, and that took long.

    Nothing is wrong but the time. The message says what avoids it.
    """


def warn_of_comparing(compared: float, total: float) -> None:
    """Warn, at the line of the call, that comparing arrays took `compared` of its `total` seconds."""
    from .config import warn_caller

    warn_caller(
        f"{compared:.2g} of {total:.2g} seconds of this call went into comparing arrays with copies: its input is "
        "an iterator, which may change an array between two tasks. To avoid that, pass a list of tasks, or "
        "joblot.share(array) in place of the array, or make it read-only (array.flags.writeable = False).",
        SnapshotWarning,
    )


def kind_of(tasks: Any) -> int:
    """Return how far the input of a call can be trusted not to write to what it has handed out.

    Parameters
    ----------
    tasks : iterable
        What the user gave to `Parallel`.

    Returns
    -------
    int
        `NOTHING`, `SAMPLE` or `WHOLE`.
    """
    if type(tasks) in (list, tuple):
        return NOTHING
    return SAMPLE if _is_plain(tasks, 0) else WHOLE


def _is_plain(iterator: Any, depth: int) -> bool:
    """True for iterators that run no code but that of generator expressions."""
    kind = type(iterator)
    if kind in _PLAIN_ITERATORS:
        return True
    if depth > _MAX_DEPTH:
        return False
    if kind is types.GeneratorType:
        frame = iterator.gi_frame
        if iterator.gi_code.co_name != "<genexpr>" or frame is None or _has_inner_loop(iterator.gi_code):
            return False
        return _is_plain(frame.f_locals.get(".0"), depth + 1)
    if kind in (zip, enumerate):
        return all(_is_plain(inner, depth + 1) for inner in iterator.__reduce__()[1] if hasattr(inner, "__next__"))
    return False


def _has_inner_loop(code: types.CodeType) -> bool:
    """True where a generator expression loops over more than what it was given: that may be any iterator."""
    return code.co_code[::2].count(_FOR_ITER) > 1
