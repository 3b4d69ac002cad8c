"""backend='loky': what the skin promises of worker processes. Arrays, deaths and kills have lanes of their own."""

import multiprocessing
import os
import pickle
import re
import signal
import threading
import traceback

import pytest
from joblot import Parallel, TaskPicklingError, WorkerDied, delayed, parallel_config


def square(x):
    return x * x


def processes(n_jobs=2, **settings):
    return Parallel(n_jobs=n_jobs, backend="loky", **settings)


@pytest.mark.parametrize("pre_dispatch", ["all", 1, "2*n_jobs"])
@pytest.mark.parametrize("batch_size", ["auto", 1, 7])
@pytest.mark.parametrize("kind", [list, iter])
def test_results_in_order(pre_dispatch, batch_size, kind):
    tasks = kind([delayed(square)(i) for i in range(100)])
    parallel = processes(pre_dispatch=pre_dispatch, batch_size=batch_size)
    assert parallel(tasks) == [i * i for i in range(100)]
    assert parallel.n_dispatched_tasks == parallel.n_completed_tasks == 100


@pytest.mark.parametrize("n_jobs", [2, 3, 5])
def test_tasks_run_in_other_processes(n_jobs):
    pids = set(processes(n_jobs)(delayed(os.getpid)() for _ in range(50)))
    assert os.getpid() not in pids
    assert 1 <= len(pids) <= n_jobs


@pytest.mark.parametrize("given", [[], (), iter(())])
@pytest.mark.parametrize("pre_dispatch", ["all", 2])
def test_no_tasks(given, pre_dispatch):
    assert processes(pre_dispatch=pre_dispatch)(given) == []


def test_functions_by_value():
    offset = 10

    def fibonacci(n):
        return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)

    assert processes()(delayed(lambda i: i + offset)(i) for i in range(5)) == [10, 11, 12, 13, 14]
    assert processes()([delayed(fibonacci)(i) for i in range(8)]) == [0, 1, 1, 2, 3, 5, 8, 13]


class Account:
    def __init__(self):
        self.balance = 0

    def read(self):
        return self.balance


def test_a_bound_method_has_the_state_of_the_moment_it_is_drawn():
    account = Account()

    def tasks():
        for i in range(20):
            account.balance = i
            yield delayed(account.read)()

    assert processes()(tasks()) == list(range(20))


def test_keyword_arguments():
    assert processes()([delayed(int)("ff", base=16), delayed(sorted)([2, 3, 1], reverse=True)]) == [255, [3, 2, 1]]


# errors


class NeedsArguments(Exception):
    def __init__(self, code, reason):
        super().__init__(f"{code}: {reason}")
        self.code, self.reason = code, reason

    def __reduce__(self):
        return type(self), (self.code, self.reason)


def fail(error):
    raise error


@pytest.mark.parametrize(
    "error",
    [KeyError("key"), StopIteration("stop"), SystemExit(3), KeyboardInterrupt("mine"), NeedsArguments(404, "gone")],
    ids=lambda error: type(error).__name__,
)
def test_errors_of_tasks(error):
    parallel = processes()
    with pytest.raises(type(error)) as caught:
        parallel([delayed(square)(1), delayed(fail)(error), delayed(square)(2)])
    assert str(caught.value) == str(error)
    assert vars(caught.value) == vars(error)
    cause = caught.value.__cause__
    assert type(cause).__name__ == "_RemoteTraceback"
    assert "in fail" in str(cause)
    assert "raise error" in "".join(traceback.format_exception(caught.value))
    assert parallel([delayed(square)(3)]) == [9]


@pytest.mark.parametrize("after", [0, 1, 30])
def test_an_error_of_the_input_ends_the_call(after):
    def tasks():
        for i in range(after):
            yield delayed(square)(i)
        raise OSError("the disk of the generator")

    with pytest.raises(OSError, match="the disk of the generator"):
        processes()(tasks())
    assert processes()([delayed(square)(3)]) == [9]


@pytest.mark.parametrize("task", [3, (abs, (1,)), ("abs", (1,), {}), (abs, 1, {}), (abs, (1,), None)], ids=repr)
@pytest.mark.parametrize("kind", [list, iter])
def test_what_is_no_task(task, kind):
    with pytest.raises(TypeError, match=r"Task 1 must be a \(callable, args, kwargs\) triple"):
        processes()(kind([delayed(abs)(-1), task]))
    assert processes()([delayed(square)(3)]) == [9]


class Model:
    def __init__(self):
        self.lock = threading.Lock()


def test_an_argument_that_cannot_be_pickled_is_named():
    with pytest.raises(TaskPicklingError) as caught:
        processes()([delayed(square)(1), delayed(print)(1, {"model": Model()})])
    assert caught.value.part == "args[1]['model'].lock"
    assert "args[1]['model'].lock of task 1 cannot be pickled (TypeError: " in str(caught.value)
    assert isinstance(caught.value, pickle.PicklingError)
    assert processes()([delayed(square)(3)]) == [9]


def test_a_result_that_cannot_be_pickled_is_named():
    with pytest.raises(TaskPicklingError) as caught:
        processes()([delayed(square)(1), delayed(lambda: [0, threading.Lock()])()])
    assert caught.value.is_result
    assert caught.value.part == "result[1]"
    assert processes()([delayed(square)(3)]) == [9]


def test_a_time_limit():
    parallel = processes(timeout=0.2)
    with pytest.raises(multiprocessing.TimeoutError):
        parallel([delayed(_sleep)(600), delayed(square)(2)])
    assert processes()([delayed(square)(3)]) == [9]


def _sleep(seconds):
    import time

    time.sleep(seconds)


# deaths


def kill_self(number):
    os.kill(os.getpid(), number)


def test_a_worker_that_is_killed_is_reported():
    parallel = processes()
    with pytest.raises(WorkerDied) as caught:
        parallel([delayed(square)(2), delayed(kill_self)(signal.SIGKILL)])
    error = caught.value
    assert (error.task, error.signal, error.exit_code, error.attempts) == (1, signal.SIGKILL, None, 1)
    assert error.pid not in (None, os.getpid())
    assert "killed by signal 9 (SIGKILL)" in str(error)
    assert parallel([delayed(square)(3)]) == [9]


def test_a_worker_that_leaves_is_reported():
    with pytest.raises(WorkerDied) as caught:
        processes()([delayed(os._exit)(7), delayed(square)(2)])
    assert (caught.value.task, caught.value.signal, caught.value.exit_code) == (0, None, 7)


def die_once(path):
    if not os.path.exists(path):
        with open(path, "w", encoding="ascii"):
            pass
        os.kill(os.getpid(), signal.SIGKILL)
    return "alive"


def test_a_task_is_tried_again(tmp_path):
    tasks = [delayed(square)(i) for i in range(5)] + [delayed(die_once)(str(tmp_path / "died"))]
    assert processes(retries=1)(tasks) == [0, 1, 4, 9, 16, "alive"]


# what workers see


def describe():
    parallel = Parallel()
    return type(parallel._backend).__name__, parallel._backend.nesting_level, parallel.n_jobs, parallel.verbose


def describe_nested():
    return describe(), Parallel(n_jobs=2)([delayed(describe)(), delayed(describe)()])


def test_nesting_threads_then_a_plain_loop():
    with parallel_config(backend="loky", n_jobs=2, max_nbytes=None):
        results = Parallel()([delayed(describe_nested)(), delayed(describe_nested)()])
    assert results == [(("ThreadingBackend", 1, 1, 0), [("SequentialBackend", 2, 1, 0)] * 2)] * 2


def leave_settings_behind():
    parallel_config(n_jobs=7, verbose=3)


def test_settings_that_a_task_leaves_behind_are_forgotten():
    processes()([delayed(leave_settings_behind)() for _ in range(8)])
    assert set(processes()([delayed(describe)() for _ in range(8)])) == {("ThreadingBackend", 1, 1, 0)}


def remember(value):
    global REMEMBERED
    REMEMBERED = value


def recall():
    return REMEMBERED


def test_an_initializer_runs_before_the_tasks():
    parallel = processes(initializer=remember, initargs=("set up",))
    assert parallel([delayed(recall)() for _ in range(10)]) == ["set up"] * 10


# progress


def test_progress_messages(capsys):
    parallel = processes(verbose=10, pre_dispatch=1, batch_size=1)
    assert parallel(delayed(square)(i) for i in range(9)) == [i * i for i in range(9)]
    err = re.sub(r"elapsed: +\d+\.\ds", "elapsed: TIME", capsys.readouterr().err).splitlines()
    assert err[0] == "[Parallel(n_jobs=2)]: Using backend LokyBackend with 2 concurrent workers."
    assert err[1] == "[Parallel(n_jobs=2)]: Done   1 tasks      | elapsed: TIME"
    assert err[-1] == "[Parallel(n_jobs=2)]: Done   9 out of   9 | elapsed: TIME finished"
    assert sum("finished" in line for line in err) == 1


def test_an_own_print_progress_sees_the_counts_grow():
    class Reporting(Parallel):
        seen = ()

        def print_progress(self):
            assert threading.current_thread() is threading.main_thread()
            self.seen += (self.n_completed_tasks,)

    parallel = Reporting(n_jobs=2, backend="loky", batch_size=1)
    parallel(delayed(square)(i) for i in range(20))
    assert parallel.seen[-1] == 20
    assert list(parallel.seen) == sorted(parallel.seen)


def test_a_with_block_keeps_its_workers():
    with processes() as parallel:
        pids = [set(parallel(delayed(os.getpid)() for _ in range(30))) for _ in range(3)]
    assert len(set().union(*pids)) <= 2
