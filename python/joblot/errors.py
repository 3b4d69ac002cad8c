"""The exceptions of joblot, and how a traceback of a worker is shown in the parent."""

from __future__ import annotations

import builtins
import concurrent.futures
import multiprocessing
import pickle
from concurrent.futures.process import BrokenProcessPool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class WorkerDied(BrokenProcessPool):
    """A worker process died, and the task that it was running could not be tried again.

    Only this task is lost: the results that were finished are in `results`, and the pool goes on working. It
    derives from `concurrent.futures.process.BrokenProcessPool`, so what catches joblib's error catches this one.

    Attributes
    ----------
    task : int or None
        Position of the task in the input, from 0; None when the worker was not running one.
    pid : int or None
        Process id of the worker.
    signal : int or None
        Signal that killed it.
    exit_code : int or None
        Its exit code, where it was not a signal. Both are None when the server died and took its workers with it.
    peak_memory : int or None
        Largest resident size of the worker, in bytes.
    oom_likely : bool or None
        Whether the kernel's out-of-memory killer is the likely cause: it has killed a process of this control group
        since shortly before the call, and the signal was not one of ours. None where the kernel does not tell.
    stack : str or None
        Python stacks of the worker's threads when it crashed (a segmentation fault, an abort), as `faulthandler` writes
        them, innermost call first. None after SIGKILL or an exit, of which nobody in the worker is told.
    results : dict of int to object
        Results of the tasks that had finished, by position in the input.
    attempts : int
        How often the task was started.
    """

    def __init__(
        self,
        task: int | None = None,
        pid: int | None = None,
        signal: int | None = None,
        exit_code: int | None = None,
        peak_memory: int | None = None,
        oom_likely: bool | None = None,
        stack: str | None = None,
        results: dict[int, Any] | None = None,
        attempts: int = 1,
    ) -> None:
        self.task = task
        self.pid = pid
        self.signal = signal
        self.exit_code = exit_code
        self.peak_memory = peak_memory
        self.oom_likely = oom_likely
        self.stack = stack
        self.results = {} if results is None else results
        self.attempts = attempts
        super().__init__(self._message())

    def _message(self) -> str:
        lost = "A worker process died" if self.task is None else f"The worker process that ran task {self.task} died"
        parts = [lost, f" (pid {self.pid})" if self.pid is not None else "", ": ", self._cause()]
        if self.oom_likely:
            parts.append(", likely killed by the kernel because memory ran out")
        if self.peak_memory is not None:
            parts.append(f"; peak memory {_shown_size(self.peak_memory)}")
        parts.append(f"; attempts: {self.attempts}. ")
        if self.results:
            parts.append(f"{len(self.results)} finished results are kept in the attribute `results`. ")
        parts.append(f"Parallel(..., retries={max(self.attempts, 1)}) runs such a task again; ")
        if self.oom_likely:
            parts.append("a smaller n_jobs needs less memory.")
        else:
            parts.append("n_jobs=1 runs it in this process, where a debugger reaches it.")
        if self.stack:
            parts.append(f"\n\nStack of the worker when it died:\n{_innermost(self.stack)}")
        return "".join(parts)

    def _cause(self) -> str:
        if self.signal is not None:
            return f"killed by signal {self.signal} ({_signal_name(self.signal)})"
        if self.exit_code is not None:
            return f"it left with exit code {self.exit_code}"
        return "the server process ended and took it along"

    def __reduce__(self) -> tuple[Any, ...]:
        fields = (
            self.task,
            self.pid,
            self.signal,
            self.exit_code,
            self.peak_memory,
            self.oom_likely,
            self.stack,
            self.results,
            self.attempts,
        )
        return type(self), fields


# Lines of a stack in a message; the attribute has all of them.
SHOWN_LINES = 12


def _innermost(stack: str) -> str:
    lines = stack.rstrip().splitlines()
    if len(lines) > SHOWN_LINES:
        lines[SHOWN_LINES:] = [f"  ... and {len(lines) - SHOWN_LINES} lines more in the attribute `stack`"]
    return "\n".join(lines)


def _signal_name(number: int) -> str:
    import signal

    try:
        return signal.Signals(number).name
    except ValueError:
        return "a real-time signal"


def _shown_size(size: float) -> str:
    for unit in ("bytes", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def _shown_peak(size: int | None) -> str:
    return "" if size is None else f"; peak memory {_shown_size(size)}"


# One class from Python 3.11 on, two before.
_TIMEOUT_BASES = tuple(
    dict.fromkeys((multiprocessing.TimeoutError, concurrent.futures.TimeoutError, builtins.TimeoutError))
)


class TimeoutError(*_TIMEOUT_BASES):  # type: ignore[misc]  # noqa: A001
    """The result that the call was waiting for did not come within `timeout` seconds.

    It is joblib's `multiprocessing.TimeoutError`, and also the built-in one and that of `concurrent.futures`.
    """


class TaskTimeout(TimeoutError):
    """A task ran for longer than `task_timeout` seconds, and its worker was killed.

    It is not tried again, whatever `retries` says. Other tasks lose nothing by it.

    Attributes
    ----------
    task : int
        Position of the task in the input, from 0.
    seconds : float
        The limit.
    pid : int
        Process id of the worker.
    peak_memory : int or None
        Largest resident size of the worker, in bytes.
    results : dict of int to object
        Results of the tasks that had finished, by position in the input.
    """

    def __init__(
        self,
        task: int,
        seconds: float,
        pid: int,
        peak_memory: int | None = None,
        results: dict[int, Any] | None = None,
    ) -> None:
        self.task = task
        self.seconds = seconds
        self.pid = pid
        self.peak_memory = peak_memory
        self.results = {} if results is None else results
        super().__init__(
            f"Task {task} ran for longer than task_timeout={seconds:g} seconds: its worker process (pid {pid}) was "
            f"killed with the programs that it had started{_shown_peak(peak_memory)}. The task is not tried again; "
            "the other tasks go on where on_error='return' or 'skip' is given."
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.task, self.seconds, self.pid, self.peak_memory, self.results)


class TaskMemoryError(MemoryError):
    """The worker of a task held more than `memory_limit` bytes of its own memory while the task ran, and was killed.

    It is not tried again, whatever `retries` says. Other tasks lose nothing by it.

    Attributes
    ----------
    task : int
        Position of the task in the input, from 0.
    limit, seen : int
        The limit, and what the worker held when it was looked at, in bytes.
    pid : int
        Process id of the worker.
    peak_memory : int or None
        Largest resident size of the worker, in bytes; shared memory counts in this one.
    results : dict of int to object
        Results of the tasks that had finished, by position in the input.
    """

    def __init__(
        self,
        task: int,
        limit: int,
        seen: int,
        pid: int,
        peak_memory: int | None = None,
        results: dict[int, Any] | None = None,
    ) -> None:
        self.task = task
        self.limit = limit
        self.seen = seen
        self.pid = pid
        self.peak_memory = peak_memory
        self.results = {} if results is None else results
        super().__init__(
            f"Task {task} took its worker process (pid {pid}) to {_shown_size(seen)} of memory, above memory_limit="
            f"{_shown_size(limit)}: the worker was killed{_shown_peak(peak_memory)}. The task is not tried again. "
            "Raise the limit, make the tasks smaller, or pass large arrays as arguments: what workers share does not "
            "count."
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.task, self.limit, self.seen, self.pid, self.peak_memory, self.results)


class TaskPicklingError(pickle.PicklingError):
    """A task or a result cannot be pickled.

    Attributes
    ----------
    part : str
        Where the offending part is, such as ``args[1]['model'].lock``.
    original : BaseException or None
        What the pickler said.
    task : int or None
        Position of the task in the input, from 0.
    is_result : bool
        True when it is the result of the task that cannot be sent back.
    """

    def __init__(
        self,
        part: str,
        original: BaseException | None = None,
        task: int | None = None,
        is_result: bool = False,
    ) -> None:
        self.part = part
        self.original = original
        self.task = task
        self.is_result = is_result
        super().__init__(self._message())

    def _message(self) -> str:
        if self.is_result:
            what = "Could not pickle the result of a task to send it back from the worker."
        else:
            what = "Could not pickle the task to send it to the workers."
        number = "" if self.task is None else f" of task {self.task}"
        reason = "" if self.original is None else f" ({type(self.original).__name__}: {self.original})"
        return (
            f"{what} {self.part}{number} cannot be pickled{reason}: leave it out, make it inside the task, or use "
            "backend='threading'."
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.part, self.original, self.task, self.is_result)


class _RemoteTraceback(Exception):
    """The traceback of a worker as text: the cause of the exception that is raised in the parent."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'


def with_remote_traceback(error: BaseException, text: str) -> BaseException:
    """Return `error` with the text of its traceback in the worker as its cause."""
    error.__cause__ = _RemoteTraceback(text)
    return error
