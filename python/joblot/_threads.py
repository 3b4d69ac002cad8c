"""One call on threads.

Threads take their tasks themselves: whoever has finished one draws the next from the input and takes the oldest
that waits, under one lock. So a task costs no wake-up of another thread, and never more than `pre_dispatch` tasks
are drawn and not finished. The calling thread draws the first ones and then sleeps until the call ends, or, where
there is a time limit, until the next result.
"""

from __future__ import annotations

import threading
import time
from collections import deque

from . import config
from ._arguments import is_task, no_task_error, without_own_frame

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from ._settings import CallSettings

_PENDING: Any = object()
_SKIPPED: Any = object()


class ThreadCall:
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
        self.tasks = tasks
        self.settings = settings
        self.nested = nested
        self.outer = config.thread.config
        self.changed = threading.Condition(threading.Lock())
        # All that follows is guarded by the lock of `changed`; an item of `results` has one writer.
        self.ready: deque[tuple[int, Any]] = deque()
        self.results: list[Any] = []
        self.n_threads = 0
        self.n_completed = 0
        self.exhausted = False
        self.end_is_told = False  # joblib's messages speak of the end from the next result on
        self.stopped = False
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
            if self.settings.on_error == "skip":
                return [result for result in self.results if result is not _SKIPPED]
            return self.results
        finally:
            self.stopped = True
            self.error = None  # the exception knows this frame: no cycle

    def _start(self) -> None:
        """Draw the first tasks, and start a thread for each of them up to n_jobs."""
        ahead, n_jobs = self.settings.pre_dispatch, self.settings.n_jobs
        if ahead is None:
            with self.changed:
                while self._draw():
                    pass
                self.end_is_told = True
            for _ in range(min(n_jobs, len(self.ready))):
                self._start_thread()
            return
        for _ in range(ahead):
            with self.changed:
                if not self._draw():
                    return
            if self.n_threads < n_jobs:
                self._start_thread()

    def _start_thread(self) -> None:
        with self.changed:
            self.n_threads += 1
        threading.Thread(target=self._work, name="joblot-thread", daemon=True).start()

    def _draw(self) -> bool:
        """Draw one task; False when there is none. An error in the input ends the call. The lock is held."""
        if self.exhausted or self.stopped:
            return False
        try:
            task = next(self.tasks)
        except StopIteration:
            self.exhausted = True
            return False
        except BaseException as error:
            self._fail(error)
            return False
        self.ready.append((len(self.results), task))
        self.results.append(_PENDING)
        return True

    def _work(self) -> None:
        """The body of a thread."""
        changed, ready, results, local = self.changed, self.ready, self.results, config.thread
        progress, notify = self.settings.progress, self.settings.timeout is not None
        local.config = self.nested
        with changed:
            more = bool(ready)
            if more:
                index, task = ready.popleft()
        while more:
            try:
                function, args, kwargs = task
                results[index] = function(*args, **kwargs)
            except BaseException as error:
                if not self._keep_error(index, task, error):
                    break
            task = function = args = kwargs = None  # not kept while the input is drawn from
            with changed:
                if self.stopped:
                    break
                self.n_completed += 1
                if progress is not None and not self._report(progress):
                    break
                if not self.exhausted:
                    local.config = self.outer
                    self._draw()
                    local.config = self.nested
                self.end_is_told = self.exhausted
                if notify:
                    changed.notify_all()
                more = bool(ready) and not self.stopped
                if more:
                    index, task = ready.popleft()
        with changed:
            self.n_threads -= 1
            if self.n_threads == 0:
                changed.notify_all()

    def _keep_error(self, index: int, task: Any, error: BaseException) -> bool:
        """Put an error where its task's result would be; False when it ends the call instead."""
        well_formed, mode = is_task(task), self.settings.on_error
        if not well_formed or mode == "raise" or not isinstance(error, Exception):
            with self.changed:
                self._fail(error if well_formed else no_task_error(task, index))
            return False
        self.results[index] = without_own_frame(error) if mode == "return" else _SKIPPED
        return True

    def _report(self, progress: Any) -> bool:
        try:
            progress(len(self.results), self.n_completed, self.end_is_told)
        except BaseException as error:
            self._fail(error)
            return False
        return True

    def _fail(self, error: BaseException) -> None:
        """End the call with an error, unless it has ended. The lock is held."""
        if not self.stopped:
            self.stopped = True
            self.error = error
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
