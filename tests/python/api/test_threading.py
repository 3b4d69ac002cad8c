"""backend='threading': shared objects, ordered results, lazy drawing, errors, time limits, nesting."""

import concurrent.futures
import multiprocessing
import threading
import traceback

import pytest
from joblot import Parallel, delayed, effective_n_jobs, parallel_config


def square(x):
    return x * x


def threads(n_jobs=2, **settings):
    return Parallel(n_jobs=n_jobs, backend="threading", **settings)


@pytest.mark.parametrize("n_jobs", [2, 3, 8, -1])
@pytest.mark.parametrize("pre_dispatch", ["all", 1, "2*n_jobs", 1000])
@pytest.mark.parametrize("kind", [list, tuple, iter])
def test_results_in_order(n_jobs, pre_dispatch, kind):
    tasks = kind([delayed(square)(i) for i in range(200)])
    parallel = threads(n_jobs, pre_dispatch=pre_dispatch)
    assert parallel(tasks) == [i * i for i in range(200)]
    assert parallel.n_dispatched_tasks == parallel.n_completed_tasks == 200


@pytest.mark.parametrize("given", [[], (), iter(())])
@pytest.mark.parametrize("pre_dispatch", ["all", 2])
def test_no_tasks(given, pre_dispatch):
    assert threads(pre_dispatch=pre_dispatch)(given) == []


def test_tasks_run_at_the_same_time():
    # Each waits for all the others: with fewer than three threads the barrier breaks.
    barrier = threading.Barrier(3)
    parallel = threads(3, pre_dispatch="all")
    assert sorted(parallel(delayed(barrier.wait)(60) for _ in range(3))) == [0, 1, 2]


def test_never_more_than_n_jobs_at_once():
    lock, running, most = threading.Lock(), [0], [0]

    def task():
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        with lock:
            running[0] -= 1

    threads(3, pre_dispatch="all")(delayed(task)() for _ in range(300))
    assert 1 <= most[0] <= 3


def test_objects_are_shared():
    kept = []
    threads()(delayed(kept.append)(i) for i in range(20))
    assert sorted(kept) == list(range(20))


@pytest.mark.parametrize("ahead", [1, 2, 5])
def test_no_more_than_pre_dispatch_is_drawn_ahead(ahead):
    lock, drawn, done, most = threading.Lock(), [0], [0], [0]

    def task():
        with lock:
            done[0] += 1

    def tasks():
        for _ in range(100):
            with lock:
                drawn[0] += 1
                most[0] = max(most[0], drawn[0] - done[0])
            yield delayed(task)()

    threads(2, pre_dispatch=ahead)(tasks())
    assert drawn == done == [100]
    assert most[0] <= ahead


def test_the_input_is_drawn_whole_first_with_all():
    log = []

    def tasks():
        for i in range(10):
            log.append("drawn")
            yield delayed(log.append)("run")

    threads(pre_dispatch="all")(tasks())
    assert log == ["drawn"] * 10 + ["run"] * 10


def test_the_first_error_stops_the_drawing():
    drawn = []

    def fail(i):
        raise LookupError(f"task {i}")

    def tasks():
        for i in range(1000):
            drawn.append(i)
            yield delayed(fail)(i)

    parallel = threads(2)
    with pytest.raises(LookupError, match="task"):
        parallel(tasks())
    assert len(drawn) <= 8  # those drawn ahead, and one for each thread
    assert parallel([delayed(square)(5)]) == [25]


def test_an_error_shows_where_in_the_task_it_was_raised():
    def fail():
        raise LookupError("here")

    with pytest.raises(LookupError) as caught:
        threads()([delayed(fail)(), delayed(fail)()])
    assert "fail" in [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]


@pytest.mark.parametrize("kind", [StopIteration, SystemExit, KeyboardInterrupt, GeneratorExit, TypeError])
def test_errors_of_tasks_keep_their_type(kind):
    def fail():
        raise kind("mine")

    with pytest.raises(kind, match="mine"):
        threads()(delayed(fail)() for _ in range(4))


@pytest.mark.parametrize("after", [0, 1, 3, 50])
def test_an_error_of_the_input_ends_the_call(after):
    def tasks():
        for i in range(after):
            yield delayed(square)(i)
        raise OSError("the disk of the generator")

    with pytest.raises(OSError, match="the disk of the generator"):
        threads()(tasks())


@pytest.mark.parametrize("module", [multiprocessing, concurrent.futures])
def test_a_time_limit(module):
    release = threading.Event()
    parallel = threads(2, timeout=0.05)
    try:
        with pytest.raises(module.TimeoutError, match=r"task \d did not end within timeout=0.05 seconds"):
            parallel([delayed(square)(1), delayed(release.wait)(60), delayed(square)(2)])
    finally:
        release.set()
    assert parallel(delayed(square)(i) for i in range(3)) == [0, 1, 4]


def test_a_time_limit_that_is_not_reached():
    assert threads(2, timeout=600)(delayed(square)(i) for i in range(100)) == [i * i for i in range(100)]


def test_nesting_threads_then_a_plain_loop():
    def describe():
        return type(Parallel()._backend).__name__, Parallel()._backend.nesting_level, effective_n_jobs(3)

    def nested():
        return describe(), Parallel(n_jobs=2)([delayed(describe)(), delayed(describe)()])

    top = threads()([delayed(nested)(), delayed(nested)()])
    assert top == [(("ThreadingBackend", 1, 3), [("SequentialBackend", 2, 1)] * 2)] * 2


def test_tasks_see_no_settings_of_the_caller_and_the_input_sees_them_all():
    seen_by_input = []

    def tasks():
        for _ in range(20):
            seen_by_input.append((Parallel().n_jobs, Parallel().verbose, Parallel()._backend.nesting_level))
            yield delayed(lambda: (Parallel().n_jobs, Parallel().verbose))()

    with parallel_config(backend="threading", n_jobs=2, max_nbytes=None):
        assert Parallel()(tasks()) == [(1, 0)] * 20
    assert set(seen_by_input) == {(2, 0, 0)}


def test_processes_below_nested_threads_fall_back_to_one():
    def inner():
        with pytest.warns(UserWarning, match="Loky-backed parallel loops cannot be nested below threads"):
            return Parallel(n_jobs=2, backend="loky")([delayed(square)(3)])

    with parallel_config(backend="threading"):
        assert Parallel(n_jobs=2)([delayed(inner)()]) == [[9]]


def test_one_object_in_two_threads():
    parallel, started, go_on = threads(), threading.Event(), threading.Event()

    def wait():
        started.set()
        assert go_on.wait(60)

    first = threading.Thread(target=parallel, args=([delayed(wait)()],))
    first.start()
    assert started.wait(60)
    with pytest.raises(RuntimeError, match="This Parallel instance is already running !"):
        parallel([delayed(square)(1)])
    go_on.set()
    first.join(60)
    assert parallel([delayed(square)(2)]) == [4]


def test_calls_of_several_threads_do_not_disturb_each_other():
    results = [None] * 8

    def call(k):
        results[k] = threads(2)(delayed(square)(i + k) for i in range(100))

    callers = [threading.Thread(target=call, args=(k,)) for k in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
    assert results == [[(i + k) ** 2 for i in range(100)] for k in range(8)]


def test_threads_end_with_the_call():
    threads(4)(delayed(square)(i) for i in range(50))
    for thread in threading.enumerate():
        if thread.name == "joblot-thread":
            thread.join(60)
            assert not thread.is_alive()


def test_a_with_block_keeps_working_after_an_error():
    with threads(2) as parallel:
        assert parallel([delayed(square)(2)]) == [4]
        with pytest.raises(ZeroDivisionError):
            parallel(delayed(divmod)(1, 0) for _ in range(3))
        assert parallel([delayed(square)(3)]) == [9]
