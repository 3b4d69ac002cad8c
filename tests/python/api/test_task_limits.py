"""Limits of a task and of a worker: task_timeout, memory_limit, max_tasks_per_worker, idle_worker_timeout."""

import builtins
import concurrent.futures
import multiprocessing
import os
import pathlib
import pickle
import signal
import time

import joblot.errors
import pytest
from joblot import Parallel, ParallelBackendBase, TaskMemoryError, TaskTimeout, WorkerDied, delayed, parallel_config
from joblot.errors import TimeoutError as CallTimeoutError

from .limit_tasks import hold, leak, leave_at_exit, leave_mark, pid, spin, spin_in_c, with_a_child

PROCESSES = pytest.mark.parametrize("backend", ["loky", "multiprocessing"])


def is_alive(number):
    try:
        state = pathlib.Path(f"/proc/{number}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_until_gone(*numbers):
    while any(is_alive(number) for number in numbers):  # the test's time limit is the bound
        time.sleep(0.01)


# max_tasks_per_worker


@PROCESSES
@pytest.mark.parametrize("batch_size", [1, 4, "auto"])
@pytest.mark.parametrize(("n_jobs", "most"), [(1, 1), (2, 1), (2, 3), (3, 7)])
def test_no_worker_runs_more(backend, batch_size, n_jobs, most):
    arguments = {"n_jobs": n_jobs, "backend": backend, "max_tasks_per_worker": most, "batch_size": batch_size}
    pids = Parallel(pre_dispatch="all", **arguments)(delayed(pid)(i) for i in range(30))
    assert len(pids) == 30
    counts = [pids.count(number) for number in set(pids)]
    assert max(counts) <= most
    assert os.getpid() not in pids
    if n_jobs == 1 and most > 1:
        assert counts.count(most) >= len(counts) - 1


@PROCESSES
def test_worn_workers_leave_in_an_orderly_way(tmp_path, backend):
    pids = Parallel(n_jobs=2, backend=backend, max_tasks_per_worker=1)(
        delayed(leave_at_exit)(str(tmp_path)) for _ in range(6)
    )
    wait_until_gone(*pids)
    assert sorted(os.listdir(tmp_path)) == sorted(map(str, pids))


def test_calls_without_the_limit_keep_their_workers():
    with Parallel(n_jobs=2) as parallel:
        before = set(parallel(delayed(pid)(i, 0.02) for i in range(10)))
        assert set(parallel(delayed(pid)(i) for i in range(50))) <= before
    fresh = Parallel(n_jobs=2, max_tasks_per_worker=1)(delayed(pid)(i) for i in range(4))
    assert not before & set(fresh)


def test_results_stay_in_order_and_whole():
    numpy = pytest.importorskip("numpy")
    arrays = Parallel(n_jobs=3, max_tasks_per_worker=2)(delayed(numpy.full)(300_000, i) for i in range(20))
    for i, array in enumerate(arrays):
        assert array.shape == (300_000,)
        assert (array == i).all()


# task_timeout


@PROCESSES
def test_one_task_hangs_and_the_others_are_done(tmp_path, backend):
    hung = 7
    tasks = [delayed(time.sleep)(600) if i == hung else delayed(leave_mark)(str(tmp_path), i) for i in range(40)]
    results = Parallel(
        n_jobs=2, backend=backend, task_timeout=0.5, on_error="return", retries=3, batch_size=10, pre_dispatch="all"
    )(tasks)
    error = results.pop(hung)
    assert results == [i for i in range(40) if i != hung]
    assert type(error) is TaskTimeout
    assert (error.task, error.seconds, error.results) == (hung, 0.5, {})
    assert error.peak_memory > 1 << 20
    assert not is_alive(error.pid)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {str(i): "x" for i in range(40) if i != hung}


def test_the_error_is_raised():
    message = r"Task 1 ran for longer than task_timeout=0\.25 seconds: .*pid \d+"
    with pytest.raises(TaskTimeout, match=message) as caught:
        Parallel(n_jobs=2, task_timeout=0.25)([delayed(pid)(), delayed(time.sleep)(600)])
    assert len(caught.value.results) <= 1
    for module in (builtins, multiprocessing, concurrent.futures, joblot.errors):
        assert isinstance(caught.value, module.TimeoutError)
    assert Parallel(n_jobs=2)(delayed(abs)(-i) for i in range(5)) == list(range(5))


@pytest.mark.parametrize("task", [spin, spin_in_c])
def test_a_task_that_is_busy(task):
    error = Parallel(n_jobs=1, task_timeout=0.3, on_error="return")([delayed(task)()])[0]
    assert type(error) is TaskTimeout
    assert not is_alive(error.pid)


def test_what_the_task_started_goes_with_it(tmp_path):
    error = Parallel(n_jobs=2, task_timeout=2, on_error="return")([delayed(with_a_child)(str(tmp_path))])[0]
    assert type(error) is TaskTimeout
    (child,) = os.listdir(tmp_path)
    wait_until_gone(int(child))


def test_waiting_does_not_count():
    pids = Parallel(n_jobs=2, task_timeout=1, batch_size=8, pre_dispatch="all")(delayed(pid)(i, 0.2) for i in range(16))
    assert len(set(pids)) == 2
    slow_input = (delayed(pid)(time.sleep(0.7)) for _ in range(4))
    assert len(Parallel(n_jobs=2, task_timeout=0.6)(slow_input)) == 4


def test_results_that_nobody_takes_do_not_count():
    numpy = pytest.importorskip("numpy")

    def tasks():
        for i in range(12):
            if i == 6:
                time.sleep(1)
            yield delayed(numpy.full)(200_000, i)

    arrays = Parallel(n_jobs=2, task_timeout=0.5, pre_dispatch=6, batch_size=1)(tasks())
    assert [int(array[0]) for array in arrays] == list(range(12))


# memory_limit


@PROCESSES
def test_one_task_takes_too_much(backend):
    tasks = [delayed(hold)(400 << 20, 600) if i == 3 else delayed(hold)(1 << 20) for i in range(12)]
    results = Parallel(n_jobs=2, backend=backend, memory_limit="300M", on_error="return", retries=3)(tasks)
    error = results.pop(3)
    assert results == [1 << 20] * 11
    assert type(error) is TaskMemoryError
    assert (error.task, error.limit, error.results) == (3, 300 << 20, {})
    assert 300 << 20 < error.seen < 1 << 30
    assert error.peak_memory >= 300 << 20
    assert "above memory_limit=300.0 MiB" in str(error)
    assert not is_alive(error.pid)
    assert isinstance(error, MemoryError)
    with pytest.raises(TaskMemoryError, match=r"Task 0 took its worker process \(pid \d+\) to "):
        Parallel(n_jobs=1, memory_limit=100 << 20)([delayed(hold)(200 << 20, 600)])


def test_workers_that_hold_too_much_are_replaced():
    pids = Parallel(n_jobs=1, memory_limit="150M", pre_dispatch="all", on_error="return")(
        delayed(leak)(20 << 20) for _ in range(30)
    )
    killed = [error for error in pids if not isinstance(error, int)]
    assert all(type(error) is TaskMemoryError for error in killed)
    assert len(killed) <= 6  # those that were looked at between the last page and the end
    assert 3 < len({number for number in pids if isinstance(number, int)}) < 15


def test_arrays_that_are_shared_do_not_count():
    numpy = pytest.importorskip("numpy")
    array = numpy.ones(40 << 20)  # 320 MB

    def total(part):
        time.sleep(0.1)
        return float(part.sum())

    assert Parallel(n_jobs=2, memory_limit="200M")(delayed(total)(array) for _ in range(4)) == [40 << 20] * 4


def test_what_the_program_held_at_the_fork_does_not_count():
    ballast = bytearray(b"x") * (300 << 20)
    limited = Parallel(n_jobs=2, backend="multiprocessing", memory_limit="150M", on_error="return")
    results = limited(delayed(hold)(size << 20, 0.2) for size in (1, 1, 250, 1))
    error = results.pop(2)
    assert results == [1 << 20] * 3
    assert type(error) is TaskMemoryError
    assert 150 << 20 < error.seen < len(ballast)


# where there are no worker processes


@pytest.mark.parametrize("backend", ["threading", "sequential"])
@pytest.mark.parametrize("limit", [{"task_timeout": 5}, {"memory_limit": "1G"}])
def test_threads_cannot_be_killed(backend, limit):
    name = next(iter(limit))
    message = rf"{name}=\S+ needs worker processes, which can be killed, and \w+Backend has none"
    with pytest.raises(ValueError, match=message):
        Parallel(n_jobs=2, backend=backend, **limit)
    with parallel_config(backend=backend), pytest.raises(ValueError, match=name):
        Parallel(n_jobs=2, **limit)
    with pytest.raises(ValueError, match=name):
        Parallel(n_jobs=2, require="sharedmem", **limit)


@pytest.mark.parametrize("backend", ["threading", "sequential"])
def test_threads_have_no_lives_to_count(backend):
    pids = Parallel(n_jobs=2, backend=backend, max_tasks_per_worker=1)(delayed(pid)() for _ in range(4))
    assert set(pids) == {os.getpid()}


class OthersBackend(ParallelBackendBase):
    def effective_n_jobs(self, n_jobs):
        return n_jobs

    def run(self, tasks, settings):
        return [function(*args, **kwargs) for function, args, kwargs in tasks]


def test_backends_of_others():
    with pytest.raises(ValueError, match="task_timeout=1 needs worker processes"):
        Parallel(n_jobs=2, backend=OthersBackend(), task_timeout=1)
    assert Parallel(n_jobs=2, backend=OthersBackend(), max_tasks_per_worker=1)([delayed(abs)(-1)]) == [1]


# idle_worker_timeout


def test_idle_workers_leave():
    with parallel_config(backend="loky", idle_worker_timeout=0.3):
        first = set(Parallel(n_jobs=2)(delayed(pid)(i, 0.05) for i in range(6)))
        wait_until_gone(*first)
        second = set(Parallel(n_jobs=2)(delayed(pid)(i, 0.05) for i in range(6)))
    assert not first & second
    wait_until_gone(*second)
    assert len(Parallel(n_jobs=2, idle_worker_timeout=300)(delayed(pid)(i) for i in range(6))) == 6


def test_workers_that_are_asked_again_stay():
    with Parallel(n_jobs=1, max_tasks_per_worker=1000, idle_worker_timeout=5) as parallel:
        pids = {parallel([delayed(pid)()])[0] for _ in range(10)}
    assert len(pids) == 1


# arguments


@pytest.mark.parametrize(
    ("name", "values", "kind"),
    [
        ("max_tasks_per_worker", (0, -1), ValueError),
        ("max_tasks_per_worker", (1.5, "2", [1]), TypeError),
        ("task_timeout", (0, -1, "soon", [1], float("nan")), ValueError),
        ("memory_limit", (0, -5, "2X", "G", "", 1.5, [1], "nanG", "0M", 1 << 63, "9000000000G"), ValueError),
    ],
)
def test_bad_values(name, values, kind):
    for value in values:
        with pytest.raises(kind, match=name):
            Parallel(n_jobs=2, **{name: value})


@pytest.mark.parametrize("value", ["soon", -1, [1], float("nan")])
def test_bad_idle_worker_timeout(value):
    with pytest.raises(ValueError, match="idle_worker_timeout"):
        Parallel(n_jobs=2, idle_worker_timeout=value)([delayed(abs)(1)])


def test_good_values():
    parallel = Parallel(n_jobs=2, max_tasks_per_worker=True, task_timeout="2.5", memory_limit="1.5G")
    assert (parallel.max_tasks_per_worker, parallel.task_timeout, parallel.memory_limit) == (1, 2.5, 3 << 29)
    assert Parallel(n_jobs=2, max_tasks_per_worker=10**30)([delayed(abs)(-1)]) == [1]
    for timeout in (float("inf"), 1e300):
        assert Parallel(n_jobs=2, task_timeout=timeout, idle_worker_timeout=timeout)([delayed(abs)(-1)]) == [1]


@pytest.mark.parametrize(
    "error",
    [TaskTimeout(3, 1.5, 4711, 1 << 20, {0: "zero"}), TaskMemoryError(3, 1 << 30, 1 << 31, 4711, None, {1: [1]})],
)
def test_errors_survive_pickling(error):
    after = pickle.loads(pickle.dumps(error))
    assert type(after) is type(error)
    assert vars(after) == vars(error)
    assert str(after) == str(error)


def test_a_timeout_of_the_call_is_another_thing():
    with pytest.raises(CallTimeoutError) as caught:
        Parallel(n_jobs=2, timeout=0.2, task_timeout=30, on_error="return")([delayed(time.sleep)(600)])
    assert type(caught.value) is CallTimeoutError


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_other_deaths_are_no_timeouts(number):
    tasks = [delayed(abs)(0), delayed(signal.raise_signal)(number)]
    with pytest.raises(WorkerDied) as caught:
        Parallel(n_jobs=2, task_timeout=30, memory_limit="2G")(tasks)
    assert (caught.value.task, caught.value.signal) == (1, number)
