"""The text of progress messages: joblib's, letter by letter, because people and programs read them."""

from __future__ import annotations

import math

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .parallel import Parallel


def short_time(seconds: float) -> str:
    """Return seconds as joblib prints them: '    0.8s', and ' 1.2min' above one minute."""
    return f"{seconds / 60:4.1f}min" if seconds > 60 else f" {seconds:5.1f}s"


def is_left_out(index: int, verbose: int) -> bool:
    """True where the message after the index-th batch is not shown.

    Above 10 all are shown; below, those at which index passes a multiple of (11 - verbose)**2 / 2 squared: the
    gaps grow with the number of tasks.
    """
    if verbose > 10:
        return False
    if not verbose:
        return True
    if index == 0:
        return False
    gap = 0.5 * (11 - verbose) ** 2
    return int(math.sqrt((index + 1) / gap)) == int(math.sqrt(index / gap))


def progress_message(parallel: Parallel, elapsed: float) -> str | None:
    """Return the message for the state of a call, or None where this one is left out.

    Parameters
    ----------
    parallel : Parallel
        Its counters are read.
    elapsed : float
        Seconds since the call began.
    """
    done, total = parallel.n_completed_tasks, parallel.n_tasks
    width = math.floor(math.log10(total)) + 1 if total else 3
    time = short_time(elapsed)
    if parallel._is_completed():
        return f"Done {done:{width}d} out of {done:{width}d} | elapsed: {time} finished"
    if parallel._iterating:
        if is_left_out(parallel.n_dispatched_batches, parallel.verbose):
            return None
        if total is not None:
            return f"Done {done:{width}d} out of {total:{width}d} | elapsed: {time}"
        gap = " " * (len("out of ") + width - len("tasks"))
        return f"Done {done:{width}d} tasks {gap}| elapsed: {time}"
    return _ending_message(parallel, width, elapsed)


def _ending_message(parallel: Parallel, width: int, elapsed: float) -> str | None:
    """The message while the last tasks run: the total is known, so the remaining time can be guessed."""
    done, total = parallel.n_completed_tasks, parallel.n_dispatched_tasks
    if done:
        # Every step-th one, counted from the moment the input ended; the last is left to the closing message.
        position = total - done + 1 - parallel._pre_dispatch_amount
        step = total // parallel.verbose + 1
        if done + 1 == total or position % step:
            return None
    remaining = elapsed / max(done, 1) * (total - done)
    return (
        f"Done {done:{width}d} out of {total:{width}d} | elapsed: {short_time(elapsed)} "
        f"remaining: {short_time(remaining)}"
    )
