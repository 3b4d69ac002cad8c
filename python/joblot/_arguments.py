"""Checks and conversions of what users pass to `Parallel`; each error says what was got and what is expected."""

from __future__ import annotations

import operator

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ast
    from typing import Any, Literal

# Limits of an expression: longer text can crash the parser, and a larger number of batches is a slip.
EXPRESSION_LENGTH = 30
EXPRESSION_VALUE = 10**6

RETURN_MODES = ("list", "generator", "generator_unordered")
MMAP_MODES = {
    "r": "r",
    "r+": "r+",
    "w+": "r+",
    "c": "c",
    "readonly": "r",
    "readwrite": "r+",
    "write": "r+",
    "copyonwrite": "c",
}
SIZE_UNITS = {"K": 1024, "M": 1024**2, "G": 1024**3}


def check_n_jobs(n_jobs: Any) -> int:
    """Return n_jobs as an int; 2.7 is 2 and '2' is 2, as in joblib. What 0 and less mean is the backend's affair."""
    try:
        return int(n_jobs)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(
            f"n_jobs could not be converted to int: got {n_jobs!r}, expected a whole number such as 2, or "
            "-1 for all cores"
        ) from error


def check_batch_size(batch_size: Any) -> Any:
    """Return batch_size, either 'auto' or an int of at least 1."""
    if isinstance(batch_size, str) and batch_size == "auto":
        return batch_size
    try:
        size = operator.index(batch_size)
    except TypeError:
        size = 0
    if size < 1:
        raise ValueError(f"batch_size must be 'auto' or a positive integer, got: {batch_size!r}")
    return size


def check_return_as(return_as: Any) -> str:
    """Return return_as; only 'list' is there yet."""
    if return_as not in RETURN_MODES:
        raise ValueError(
            'Expected `return_as` parameter to be a string equal to "list","generator" or "generator_unordered", '
            f"but got {return_as} instead."
        )
    if return_as != "list":
        raise ValueError(
            f"return_as={return_as!r} is not available in this version of joblot: what is available is return_as='list'"
        )
    return "list"


def check_timeout(timeout: Any) -> float | None:
    """Return the timeout in seconds, or None."""
    if timeout is None:
        return None
    try:
        seconds = float(timeout)
    except (TypeError, ValueError) as error:
        raise ValueError(f"timeout must be a number of seconds or None, got: {timeout!r}") from error
    if not seconds >= 0:
        raise ValueError(f"timeout must not be negative, got: {timeout!r}")
    return seconds


def check_retries(retries: Any) -> int:
    """Return how often a task is tried again after its worker died."""
    try:
        count = operator.index(retries)
    except TypeError as error:
        raise TypeError(f"retries must be a whole number of at least 0, got: {retries!r}") from error
    if count < 0:
        raise ValueError(f"retries must be a whole number of at least 0, got: {retries!r}")
    return count


def check_on_error(on_error: Any) -> Literal["raise", "return", "skip"]:
    """Return on_error, one of three words."""
    if isinstance(on_error, str) and on_error in {"raise", "return", "skip"}:
        chosen: Any = on_error
        return chosen
    raise ValueError(
        f"on_error must be 'raise' (the first error ends the call), 'return' (errors stand in the list) or 'skip' "
        f"(those tasks are left out of it), got: {on_error!r}"
    )


def check_max_tasks(max_tasks: Any) -> int | None:
    """Return max_tasks_per_worker, an int of at least 1, or None."""
    if max_tasks is None:
        return None
    try:
        count = operator.index(max_tasks)
    except TypeError as error:
        raise TypeError(f"max_tasks_per_worker must be a whole number or None, got: {max_tasks!r}") from error
    if count < 1:
        raise ValueError(f"max_tasks_per_worker must be at least 1, or None for no limit, got: {max_tasks!r}")
    return min(count, (1 << 63) - 1)


def check_task_timeout(seconds: Any) -> float | None:
    """Return task_timeout as a float above 0, or None."""
    if seconds is None:
        return None
    try:
        limit = float(seconds)
    except (TypeError, ValueError) as error:
        raise ValueError(f"task_timeout must be a number of seconds or None, got: {seconds!r}") from error
    if not limit > 0:
        raise ValueError(f"task_timeout must be above 0, or None for no limit, got: {seconds!r}")
    return limit


def check_idle_worker_timeout(seconds: Any) -> float | None:
    """Return idle_worker_timeout as a float, or None for the default."""
    if seconds is None:
        return None
    try:
        limit = float(seconds)
    except (TypeError, ValueError) as error:
        raise ValueError(f"idle_worker_timeout must be a number of seconds or None, got: {seconds!r}") from error
    if not limit >= 0:
        raise ValueError(f"idle_worker_timeout must not be negative, got: {seconds!r}")
    return limit


def check_memory_limit(limit: Any) -> int | None:
    """Return memory_limit in bytes from a number or a text such as '2G' (units of 1024), or None."""
    if limit is None:
        return None
    try:
        size = int(SIZE_UNITS[limit[-1:]] * float(limit[:-1])) if isinstance(limit, str) else operator.index(limit)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(
            f"memory_limit={limit!r} is not a size: expected a whole number of bytes, a text with a unit such as "
            "'2G' or '500M', or None"
        ) from error
    if not 1 <= size < 1 << 63:
        raise ValueError(f"memory_limit={limit!r} must be above 0 and below 8 EiB, or None for no limit")
    return size


def check_max_nbytes(max_nbytes: Any) -> int | None:
    """Return max_nbytes in bytes from a number or a text such as '10M' (units of 1024), or None."""
    if max_nbytes is None:
        return None
    try:
        if isinstance(max_nbytes, str):
            size = int(SIZE_UNITS[max_nbytes[-1:]] * float(max_nbytes[:-1]))
        else:
            size = int(max_nbytes)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(
            f"max_nbytes={max_nbytes!r} is not a size: expected a number of bytes, a text with a unit "
            "such as '10G', '500M' or '50K', or None"
        ) from error
    return max(size, 0)  # joblib takes negative numbers, and maps every array then


def check_mmap_mode(mode: Any) -> str | None:
    """Return the mode as 'r', 'r+', 'c' or None; 'w+' is 'r+', since the array exists already."""
    if mode is None:
        return None
    if not isinstance(mode, str) or mode not in MMAP_MODES:
        raise ValueError(f"mmap_mode={mode!r} is not a valid mode, expected one of 'r', 'r+', 'w+', 'c' or None")
    return MMAP_MODES[mode]


def check_pre_dispatch(pre_dispatch: Any, n_jobs: int) -> int | None:
    """Return how many batches are drawn ahead; None for 'all'."""
    if isinstance(pre_dispatch, str):
        if pre_dispatch == "all":
            return None
        # The default is known: no parser is imported for it.
        default = pre_dispatch == "2 * n_jobs"
        amount = 2 * n_jobs if default else evaluate(pre_dispatch.replace("n_jobs", str(n_jobs)))
    else:
        amount = pre_dispatch
    try:
        batches = int(amount)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(
            f"pre_dispatch must be 'all', a number or arithmetic such as '2 * n_jobs', got: {pre_dispatch!r}"
        ) from error
    if batches < 1:
        raise ValueError(f"pre_dispatch={pre_dispatch!r} gives {batches}: no task would be drawn; the least is 1")
    return batches


def evaluate(expression: str) -> int | float:
    """Evaluate arithmetic (numbers, + - * / // % ** and brackets) without running code.

    Raises
    ------
    ValueError
        The text is too long, is not arithmetic, or a number in it or on the way is too large.
    """
    import ast

    if len(expression) > EXPRESSION_LENGTH:
        raise ValueError(
            f"Expression {expression[:EXPRESSION_LENGTH]!r}... is too long. "
            f"Max length is {EXPRESSION_LENGTH}, got {len(expression)}."
        )
    try:
        return _value(ast.parse(expression.strip(), mode="eval").body)
    except (TypeError, SyntaxError, OverflowError, KeyError, ZeroDivisionError) as error:
        raise ValueError(f"{expression!r} is not a valid or supported arithmetic expression.") from error


_BINARY = {
    "Add": operator.add,
    "Sub": operator.sub,
    "Mult": operator.mul,
    "Div": operator.truediv,
    "FloorDiv": operator.floordiv,
    "Mod": operator.mod,
    "Pow": operator.pow,
}


def _value(node: ast.expr) -> int | float:
    """Value of one node; every value on the way is held against the limit, so that powers cannot run away."""
    import ast

    value: Any
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        value = node.value
    elif isinstance(node, ast.BinOp):
        value = _BINARY[type(node.op).__name__](_value(node.left), _value(node.right))
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value = -_value(node.operand)
    else:
        raise TypeError(f"{type(node).__name__} is not arithmetic")
    if not abs(value) <= EXPRESSION_VALUE:
        raise ValueError(f"Numeric literal {value} is too large, max is {EXPRESSION_VALUE}.")
    return value if isinstance(value, int) else float(value)


def no_task_error(task: Any, index: int | None = None) -> TypeError:
    """Return the error for something in the input that is not a (callable, args, kwargs) triple."""
    where = "A task" if index is None else f"Task {index}"
    if isinstance(task, tuple) and len(task) == 3 and not callable(task[0]):
        what = f"a triple whose first part is {_shown(task[0])} and cannot be called"
    elif isinstance(task, tuple) and len(task) == 3:
        what = f"a triple with arguments {_shown(task[1])} and keywords {_shown(task[2])}"
    else:
        what = _shown(task)
    return TypeError(
        f"{where} must be a (callable, args, kwargs) triple, but got {what}. Write delayed(f)(x): "
        "Parallel(n_jobs=2)(delayed(f)(x) for x in data)."
    )


def is_task(task: Any) -> bool:
    """True where a task is well formed."""
    try:
        function, args, kwargs = task
    except (TypeError, ValueError):
        return False
    return callable(function) and hasattr(type(args), "__iter__") and hasattr(type(kwargs), "keys")


def without_own_frame(error: BaseException) -> BaseException:
    """Return an error of a task without the frame that caught it, which holds the results of the whole call."""
    trace = error.__traceback__
    return error.with_traceback(None if trace is None else trace.tb_next)


def _shown(value: Any) -> str:
    text = repr(value)
    if len(text) > 80:
        text = text[:77] + "..."
    return f"{text} of type {type(value).__name__}"
