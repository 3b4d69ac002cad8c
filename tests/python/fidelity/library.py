"""The library that the lane runs against.

``JOBLOT_TEST_LIBRARY`` chooses it: ``joblot`` (the default), ``joblib`` (shows which cases joblib
fails) or ``plain`` (a plain loop in this process, which checks the tests themselves: every test
that needs no second process must pass with it).
"""

import contextlib
import os

import pytest

NAME = os.environ.get("JOBLOT_TEST_LIBRARY", "joblot")


class PlainParallel:
    """A loop with the calling convention of `Parallel`; parameters are accepted and ignored."""

    def __init__(self, n_jobs=None, **parameters):
        self.n_jobs = n_jobs
        self.parameters = parameters

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        return None

    def __call__(self, tasks):
        return [function(*args, **kwargs) for function, args, kwargs in tasks]


def plain_delayed(function):
    def delayed_call(*args, **kwargs):
        return function, args, kwargs

    return delayed_call


if NAME == "joblot":
    from joblot import Parallel, delayed, parallel_config
elif NAME == "joblib":
    from joblib import Parallel, delayed, parallel_config
elif NAME == "plain":
    Parallel = PlainParallel
    delayed = plain_delayed

    @contextlib.contextmanager
    def parallel_config(*args, **kwargs):
        yield
else:
    raise ValueError(f"JOBLOT_TEST_LIBRARY={NAME!r}: use joblot, joblib or plain")

needs_workers = pytest.mark.skipif(
    NAME == "plain", reason="the plain loop has no worker process, and this is about one"
)

# joblib's documented default is read-only; counting that in every case would hide the rest.
DEFAULT_MMAP_MODE = "r" if NAME == "joblib" else "c"

PROCESSES = ("loky", "multiprocessing")
BACKENDS = (*PROCESSES, "threading", "sequential")


def shares_memory(backend):
    """Whether tasks of this backend get the very objects of the caller."""
    return NAME == "plain" or backend not in PROCESSES
