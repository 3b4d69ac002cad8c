"""One call on threads.

Threads take their tasks themselves: whoever has finished one draws the next from the input and takes the oldest
that waits (`_core.ThreadQueue`). So a task costs no wake-up of another thread, and never more than `pre_dispatch`
tasks are drawn and not finished. The calling thread draws the first ones and then sleeps until the call ends, or,
where there is a time limit, until the next result.
"""

from __future__ import annotations

import threading
import time

from . import _core, config
from ._arguments import is_task, no_task_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from ._settings import CallSettings

_PENDING: Any = object()
_SKIPPED: Any = object()


class ThreadCall(_core.ThreadQueue):
    """The state of one call, shared by its threads.

    Parameters
    ----------
    tasks : iterator of (function, args, kwargs)
        Advanced by one thread at a time, the configuration of the calling thread being in force.
    settings : CallSettings
        Of the call.
    nested : dict
        The configuration that tasks see.
    """

    def __init__(self, tasks: Iterator[Any], settings: CallSettings, nested: dict[str, Any]) -> None:
        super().__init__(tasks, _PENDING, config.thread, nested, settings.progress, settings.timeout is not None)
        self.settings = settings
        self.changed = threading.Condition(threading.Lock())
        self.error: BaseException | None = None

    def run(self) -> list[Any]:
        """Run all tasks; return their results in input order, or raise the first error.

        A thread cannot be killed, so after an error the tasks that run already end in the background; no further
        one is started.
        """
        try:
            self._start()
            with self.changed:
                self._wait()
            if self.error is not None:
                raise self.error
            results: list[Any] = self.results
            if self.settings.on_error == "skip":
                return [result for result in results if result is not _SKIPPED]
            return results
        finally:
            self.stopped = True
            self.error = None  # the exception knows this frame: no cycle

    def _start(self) -> None:
        """Draw the first tasks, and start a thread for each of them up to n_jobs."""
        ahead, n_jobs = self.settings.pre_dispatch, self.settings.n_jobs
        if ahead is None:
            while self.draw():
                pass
            self.end_is_told = True
            for _ in range(min(n_jobs, len(self.results))):
                self._start_thread()
            return
        for _ in range(ahead):
            if not self.draw():
                return
            if self.n_threads < n_jobs:
                self._start_thread()

    def _start_thread(self) -> None:
        self.n_threads += 1
        try:
            threading.Thread(target=self.work, name="joblot-thread", daemon=True).start()
        except BaseException:
            self.n_threads -= 1
            raise

    # ---- what the threads call ----

    def _keep_error(self, index: int, task: Any, error: BaseException) -> bool:
        """Put an error where its task's result would be; False when it ends the call instead."""
        well_formed, mode = is_task(task), self.settings.on_error
        if not well_formed or mode == "raise" or not isinstance(error, Exception):
            self._fail(error if well_formed else no_task_error(task, index))
            return False
        self.results[index] = error if mode == "return" else _SKIPPED
        return True

    def _fail(self, error: BaseException) -> None:
        """End the call with an error, unless it has ended."""
        with self.changed:
            if not self.stopped:
                self.stopped = True
                self.error = error
                self.changed.notify_all()

    def _notify(self) -> None:
        with self.changed:
            self.changed.notify_all()

    def _wait(self) -> None:
        """Sleep until all threads have ended or one has failed; with a time limit also until it is over."""
        limit = self.settings.timeout
        if limit is None:
            while self.n_threads and self.error is None:
                self.changed.wait()
            return
        head, since = 0, time.monotonic()
        while self.n_threads and self.error is None:
            reached = head
            while reached < len(self.results) and self.results[reached] is not _PENDING:
                reached += 1
            now = time.monotonic()
            if reached > head:
                head, since = reached, now
            if now - since >= limit and head < len(self.results):
                from .errors import TimeoutError

                raise TimeoutError(f"task {head} did not end within timeout={limit:g} seconds")
            self.changed.wait(max(limit - (now - since), 0) if head < len(self.results) else None)
