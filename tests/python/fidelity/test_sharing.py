"""One copy for many tasks, and the ways in which what looks like the same array is another one.

Arrays that several tasks of a call have are copied once. Each test here makes arrays that lie at the
place of an earlier one, or that were written to, and compares with the plain loop.
"""

import numpy as np
import pytest

from .library import NAME, Parallel, delayed, needs_workers

COUNT = (1 << 20) // 8 + 4096
SPOT = COUNT * 2 // 3 + 1  # no sample of lines looks here


def at_spot(x):
    return float(x[SPOT]), float(x[0])


def first(x):
    return float(x[0])


def plain(tasks):
    return [function(*args, **kwargs) for function, args, kwargs in tasks]


def changed_copy(base, value):
    """What a jackknife does: a copy of its own for each task, with one element changed."""
    out = base.copy()
    out[SPOT] = value
    return out


@pytest.mark.parametrize("pre_dispatch", [1, "2 * n_jobs", "all"])
@pytest.mark.parametrize("mode", ["default", "r+", "r", None])
def test_copies_that_differ_in_one_element(pre_dispatch, mode):
    """Each copy dies when its task is drawn, and the next one takes its place in memory."""
    base = np.arange(COUNT, dtype=">f8")
    parameters = {} if mode == "default" else {"mmap_mode": mode}
    got = Parallel(n_jobs=2, pre_dispatch=pre_dispatch, batch_size=1, **parameters)(
        delayed(at_spot)(changed_copy(base, value)) for value in range(10)
    )
    assert got == [(float(value), 0.0) for value in range(10)]


def test_views_of_copies_that_differ_in_one_element():
    base = np.arange(COUNT, dtype=">f8")
    got = Parallel(n_jobs=2)(delayed(at_spot)(changed_copy(base, value)[:-5]) for value in range(10))
    assert got == [(float(value), 0.0) for value in range(10)]


def one_element_at_a_time(x, count=8):
    for value in range(count):
        x[SPOT] = value
        yield x


def test_inner_loop_of_a_generator_expression():
    """The outer loop runs over a range, but the inner one over a generator that writes."""
    x = np.zeros(COUNT)
    got = Parallel(n_jobs=2)(delayed(at_spot)(y) for _ in range(2) for y in one_element_at_a_time(x))
    assert got == [(float(value), 0.0) for value in range(8)] * 2


def test_an_array_that_is_read_only_when_it_is_drawn():
    def draw(x):
        for value in range(8):
            x.flags.writeable = True
            x[:] = value
            x.flags.writeable = False
            yield delayed(at_spot)(x)

    assert Parallel(n_jobs=2)(draw(np.zeros(COUNT))) == plain(draw(np.zeros(COUNT)))


class Model:
    """An object whose state is made when it is asked for."""

    scratch = np.zeros(COUNT)

    def __init__(self, value, use_scratch):
        self.value, self.use_scratch = value, use_scratch

    def __getstate__(self):
        if not self.use_scratch:
            return {"weights": np.full(COUNT, float(self.value))}
        Model.scratch[:] = self.value
        return {"weights": Model.scratch}


def weight(model):
    return float(model.weights[SPOT]), float(model.weights[0])


@needs_workers
@pytest.mark.parametrize("use_scratch", [False, True])
@pytest.mark.parametrize("make", [list, iter, lambda tasks: (task for task in tasks)])
def test_state_that_is_made_when_an_object_is_pickled(use_scratch, make):
    models = [Model(value, use_scratch) for value in range(8)]
    got = Parallel(n_jobs=2)(make([delayed(weight)(model) for model in models]))
    assert got == [(float(value), float(value)) for value in range(8)]


def write_one(x, at):
    x[at] = 7
    return [float(value) for value in x[:6]]


@needs_workers
@pytest.mark.parametrize("kind", ["list", "expression", "generator"])
def test_tasks_of_a_call_share_what_is_mapped_with_r_plus(kind):
    """Whatever the input is: a task that runs after another sees what that one wrote."""
    x = np.zeros(COUNT)
    tasks = [delayed(write_one)(x, at) for at in range(6)]
    given = {"list": tasks, "expression": (t for t in tasks), "generator": map(tuple, tasks)}[kind]
    got = Parallel(n_jobs=2, batch_size=1, pre_dispatch=1, mmap_mode="r+")(given)
    assert got == [[7.0] * (at + 1) + [0.0] * (5 - at) for at in range(6)]
    assert not x.any()


@needs_workers
def test_a_refilled_array_that_tasks_write_to_is_another_one():
    if NAME == "joblib":
        pytest.skip("joblib shares an array by its id, whatever has become of it")
    x = np.zeros(COUNT)

    def draw():
        for value in (1, 1, 2, 2):
            x[:] = value
            yield delayed(write_one)(x, int(value))

    got = Parallel(n_jobs=2, batch_size=1, pre_dispatch=1, mmap_mode="r+")(draw())
    assert [row[0] for row in got] == [1.0, 1.0, 2.0, 2.0]
    assert x[1] == 2


def file_of(x):
    return x.filename, x.offset


@needs_workers
@pytest.mark.parametrize("kind", ["list", "expression", "generator", "views", "read-only"])
def test_an_array_of_several_tasks_is_copied_once(kind):
    """What all this is for: all tasks find it in one place."""
    if NAME == "joblib":
        pytest.skip("joblib names its files by task too")
    x = np.zeros(COUNT)
    if kind == "read-only":
        x.flags.writeable = False
    views = [x[1:] if kind == "views" else x for _ in range(8)]
    tasks = [delayed(file_of)(view) for view in views]
    given = {"list": tasks, "generator": map(tuple, tasks)}.get(kind, (t for t in tasks))
    assert len(set(Parallel(n_jobs=2, pre_dispatch="all")(given))) == 1
