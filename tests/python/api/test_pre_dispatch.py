"""No more is drawn from the input than pre_dispatch says, however quick the tasks are."""

import os

import numpy as np
import pytest
from joblot import Parallel, delayed


def leave_a_byte(path, data=None):
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, b".")
    os.close(descriptor)


@pytest.mark.parametrize("backend", ["loky", "multiprocessing", "threading"])
@pytest.mark.parametrize(("ahead", "batch"), [(1, 1), (2, 1), ("n_jobs", 1), (2, 5)])
def test_so_many_tasks_are_drawn_and_not_done(tmp_path, backend, ahead, batch):
    done = tmp_path / "done"
    done.touch()
    most = (2 if isinstance(ahead, str) else ahead) * (1 if backend == "threading" else batch)

    def tasks():
        for drawn in range(600):
            assert drawn - done.stat().st_size < most
            yield delayed(leave_a_byte)(done)

    Parallel(n_jobs=2, backend=backend, batch_size=batch, pre_dispatch=ahead)(tasks())
    assert done.stat().st_size == 600


def test_by_default_tasks_with_arrays_are_drawn_no_further_ahead(tmp_path):
    done = tmp_path / "done"
    done.touch()

    def tasks():
        for drawn in range(400):
            assert drawn - done.stat().st_size < 4
            yield delayed(leave_a_byte)(done, np.zeros(10))

    Parallel(n_jobs=2, batch_size=1)(tasks())


def test_a_worker_has_the_limits_that_the_program_gave_itself_last():
    import resource

    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft = min(before[0], 512)
    assert Parallel(n_jobs=2)([delayed(resource.getrlimit)(resource.RLIMIT_NOFILE)] * 2) == [before] * 2
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, before[1]))
        seen = Parallel(n_jobs=2)([delayed(resource.getrlimit)(resource.RLIMIT_NOFILE)] * 2)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert seen == [(soft, before[1])] * 2
    assert Parallel(n_jobs=2)([delayed(resource.getrlimit)(resource.RLIMIT_NOFILE)] * 2) == [before] * 2
