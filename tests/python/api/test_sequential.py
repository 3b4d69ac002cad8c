"""n_jobs=1 is a plain loop in the calling thread."""

import threading

import pytest
from joblot import Parallel, delayed, parallel_config


def square(x):
    return x * x


@pytest.mark.parametrize("n_jobs", [None, 1, 1.9, "1"])
@pytest.mark.parametrize("backend", [None, "loky", "threading"])
def test_results_in_order(n_jobs, backend):
    parallel = Parallel(n_jobs=n_jobs, backend=backend)
    assert parallel(delayed(square)(i) for i in range(50)) == [i * i for i in range(50)]
    assert (parallel.n_dispatched_tasks, parallel.n_completed_tasks) == (50, 50)
    assert parallel.n_dispatched_batches == 50
    assert parallel.n_tasks is None


def test_the_sequential_backend_never_uses_more():
    thread = threading.get_ident()
    parallel = Parallel(n_jobs=4, backend="sequential")
    assert parallel(delayed(threading.get_ident)() for _ in range(3)) == [thread] * 3


def test_tasks_are_drawn_one_by_one():
    log = []

    def tasks():
        for i in range(3):
            log.append(f"drawn {i}")
            yield delayed(log.append)(f"run {i}")

    Parallel(n_jobs=1)(tasks())
    assert log == ["drawn 0", "run 0", "drawn 1", "run 1", "drawn 2", "run 2"]


def test_tasks_are_drawn_in_batches_where_that_is_asked_for():
    log = []

    def tasks():
        for i in range(3):
            log.append(f"drawn {i}")
            yield delayed(log.append)(f"run {i}")

    Parallel(n_jobs=1, batch_size=2)(tasks())
    assert log == ["drawn 0", "drawn 1", "run 0", "run 1", "drawn 2", "run 2"]


@pytest.mark.parametrize("given", [[], (), iter(())])
def test_no_tasks(given):
    assert Parallel(n_jobs=1)(given) == []


def test_the_first_error_ends_the_loop_and_the_object_stays_usable():
    ran = []

    def fail(i):
        ran.append(i)
        if i == 2:
            raise KeyError("two")

    parallel = Parallel(n_jobs=1)
    with pytest.raises(KeyError, match="two"):
        parallel(delayed(fail)(i) for i in range(5))
    assert ran == [0, 1, 2]
    assert (parallel.n_dispatched_tasks, parallel.n_completed_tasks) == (3, 2)
    assert parallel([delayed(square)(3)]) == [9]


@pytest.mark.parametrize("kind", [StopIteration, SystemExit, KeyboardInterrupt, GeneratorExit, TypeError, ValueError])
def test_errors_of_tasks_keep_their_type(kind):
    def fail():
        raise kind("mine")

    with pytest.raises(kind, match="mine"):
        Parallel(n_jobs=1)([delayed(fail)()])


def test_an_error_of_the_input_passes_through():
    def tasks():
        yield delayed(square)(1)
        raise TypeError("the generator's own")

    with pytest.raises(TypeError, match="the generator's own"):
        Parallel(n_jobs=1)(tasks())


def test_a_timeout_is_reported_as_unused():
    with pytest.warns(UserWarning, match="The backend class 'SequentialBackend' does not support timeout"):
        assert Parallel(n_jobs=1, timeout=10)([delayed(square)(2)]) == [4]


def test_nested_calls_see_what_the_outer_one_saw():
    def inner():
        return type(Parallel(n_jobs=2)._backend).__name__, Parallel()._backend.nesting_level

    assert Parallel(n_jobs=1)([delayed(inner)()]) == [("LokyBackend", 0)]
    with parallel_config(backend="threading"):
        assert Parallel(n_jobs=1)([delayed(inner)()]) == [("ThreadingBackend", 0)]


def test_a_call_inside_a_call_of_the_same_object():
    parallel = Parallel(n_jobs=1)
    with pytest.raises(RuntimeError, match="This Parallel instance is already running !"):
        parallel([delayed(parallel)([delayed(square)(1)])])
    assert parallel([delayed(square)(1)]) == [1]


def test_an_own_print_progress_is_called_for_each_task():
    class Reporting(Parallel):
        seen = ()

        def print_progress(self):
            self.seen += (self.n_completed_tasks,)

    parallel = Reporting(n_jobs=1)
    parallel(delayed(square)(i) for i in range(3))
    assert parallel.seen == (1, 2, 3, 3)
