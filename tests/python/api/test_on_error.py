"""on_error: what becomes of the exceptions of tasks, on every backend."""

import os
import signal
import threading

import pytest
from joblot import Parallel, TaskPicklingError, WorkerDied, delayed

BACKENDS = ("loky", "threading", "sequential")
PROCESSES = ("loky",)


def every(*modes):
    return lambda function: pytest.mark.parametrize("backend", BACKENDS)(
        pytest.mark.parametrize("on_error", modes)(function)
    )


def half(number):
    if number % 3 == 2:
        raise LookupError(f"no {number}")
    return number * 10


def tasks(count=30):
    return (delayed(half)(i) for i in range(count))


def call(backend, on_error, work, **arguments):
    return Parallel(n_jobs=2, backend=backend, on_error=on_error, **arguments)(work)


def shown(results):
    return [f"{type(r).__name__}: {r}" if isinstance(r, BaseException) else r for r in results]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "arguments", [{}, {"batch_size": 7}, {"pre_dispatch": "all"}, {"batch_size": 1}, {"verbose": 51}]
)
def test_return_and_skip(backend, arguments):
    expected = [i * 10 if i % 3 != 2 else f"LookupError: no {i}" for i in range(30)]
    assert shown(call(backend, "return", tasks(), **arguments)) == expected
    assert call(backend, "skip", tasks(), **arguments) == [i * 10 for i in range(30) if i % 3 != 2]
    with pytest.raises(LookupError, match="no 2"):
        call(backend, "raise", tasks(3), **arguments)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("first", [True, False])
def test_all_fail_and_none_fails(backend, first):
    work = [delayed(half)(2 if first else 1) for _ in range(9)]
    assert call(backend, "skip", work) == ([] if first else [10] * 9)
    assert shown(call(backend, "return", work)) == ["LookupError: no 2" if first else 10] * 9
    assert call(backend, "skip", []) == []
    assert call(backend, "return", iter(())) == []


@every("return", "skip")
def test_counts(backend, on_error):
    parallel = Parallel(n_jobs=2, backend=backend, on_error=on_error)
    parallel(tasks())
    assert (parallel.n_dispatched_tasks, parallel.n_completed_tasks) == (30, 30)


def test_the_traceback_of_the_worker_is_the_cause():
    error = call("loky", "return", tasks(3))[2]
    assert "in half" in str(error.__cause__)
    assert 'raise LookupError(f"no {number}")' in str(error.__cause__)


@pytest.mark.parametrize("backend", ["threading", "sequential"])
def test_the_traceback_begins_with_the_task(backend):
    trace = call(backend, "return", tasks(3))[2].__traceback__
    assert trace.tb_frame.f_code.co_name == "half"
    assert trace.tb_next is None


@every("return", "skip")
def test_errors_of_the_input_end_the_call(backend, on_error):
    def broken():
        yield delayed(half)(2)
        raise OSError("the input broke")

    with pytest.raises(OSError, match="the input broke"):
        call(backend, on_error, broken())
    with pytest.raises(TypeError, match="Task 1 must be a"):
        call(backend, on_error, [delayed(half)(2), half])


def interrupt():
    raise KeyboardInterrupt("in the task")


def leave():
    raise SystemExit(5)


@every("return", "skip")
@pytest.mark.parametrize(("task", "kind"), [(interrupt, KeyboardInterrupt), (leave, SystemExit)])
def test_interrupts_end_the_call(backend, on_error, task, kind):
    with pytest.raises(kind):
        call(backend, on_error, [delayed(half)(1), delayed(task)()])


@every("return", "skip")
def test_an_interrupt_of_the_caller_ends_the_call(backend, on_error):
    def send():
        yield delayed(half)(2)
        os.kill(os.getpid(), signal.SIGINT)
        yield delayed(half)(1)

    with pytest.raises(KeyboardInterrupt):
        call(backend, on_error, send())


def die():
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("backend", PROCESSES)
def test_a_death_is_an_error_of_its_task(backend):
    work = [delayed(die)() if i == 4 else delayed(half)(i) for i in range(12)]
    results = call(backend, "return", work)
    died = results[4]
    assert type(died) is WorkerDied
    assert (died.task, died.signal, died.results) == (4, signal.SIGKILL, {})
    expected = [i * 10 if i % 3 != 2 else f"LookupError: no {i}" for i in range(12)]
    assert shown(results)[:4] + shown(results)[5:] == expected[:4] + expected[5:]
    assert call(backend, "skip", work) == [i * 10 for i in range(12) if i % 3 != 2 and i != 4]


def give_lock(number):
    return threading.Lock() if number % 2 else number


@pytest.mark.parametrize("backend", PROCESSES)
def test_a_result_that_cannot_be_pickled(backend):
    results = call(backend, "return", [delayed(give_lock)(i) for i in range(6)])
    assert results[::2] == [0, 2, 4]
    for error in results[1::2]:
        assert type(error) is TaskPicklingError
        assert error.is_result
        assert error.part == "result"


@pytest.mark.parametrize("backend", PROCESSES)
@pytest.mark.parametrize("as_list", [True, False])
def test_a_task_that_cannot_be_pickled(backend, as_list):
    def inputs():
        for i in range(20):
            yield delayed(half)(threading.Lock() if i in {0, 5, 19} else 3 * i)

    work = list(inputs()) if as_list else inputs()
    results = call(backend, "return", work)
    for i, result in enumerate(results):
        if i in {0, 5, 19}:
            assert type(result) is TaskPicklingError
            assert (result.task, result.part, result.is_result) == (i, "args[0]", False)
        else:
            assert result == 30 * i
    work = list(inputs()) if as_list else inputs()
    assert call(backend, "skip", work) == [30 * i for i in range(20) if i not in {0, 5, 19}]
    with pytest.raises(TaskPicklingError):
        call(backend, "raise", inputs())


class Stubborn:
    """Cannot be pickled, in the middle of a task that has an array before it."""

    def __reduce__(self):
        raise ValueError("not me")


def total(array, other):
    return int(array.sum()) + other


@pytest.mark.parametrize("backend", PROCESSES)
def test_a_task_that_fails_behind_its_arrays(backend):
    numpy = pytest.importorskip("numpy")
    array = numpy.ones(400_000)
    work = [delayed(total)(array + i, Stubborn() if i % 2 else i) for i in range(8)]
    results = call(backend, "return", work)
    assert results[::2] == [400_000 * (i + 1) + i for i in range(0, 8, 2)]
    assert [type(error) for error in results[1::2]] == [TaskPicklingError] * 4
    assert "not me" in str(results[1])


class Undone(Exception):
    """Comes back broken: its class wants two arguments."""

    def __init__(self, first, second):
        super().__init__(first)
        self.second = second


def undone():
    raise Undone(1, 2)


@every("return")
def test_an_exception_that_does_not_pickle_well(backend, on_error):
    error = call(backend, on_error, [delayed(undone)(), delayed(half)(0)])[0]
    assert type(error) is Undone
    assert error.second == 2


def refuse():
    raise ValueError("this answer does not unpickle")


class Refusing:
    def __reduce__(self):
        return refuse, ()


def give_refusing(number):
    return Refusing() if number == 1 else number


@pytest.mark.parametrize("backend", PROCESSES)
def test_a_result_that_cannot_be_unpickled(backend):
    results = call(backend, "return", [delayed(give_refusing)(i) for i in range(3)])
    assert shown(results) == [0, "ValueError: this answer does not unpickle", 2]


@pytest.mark.parametrize("given", ["Raise", "", None, 1, ["raise"], "coerce"])
def test_what_on_error_may_be(given):
    with pytest.raises(ValueError, match="on_error must be 'raise'.*'return'.*'skip'.*got: "):
        Parallel(on_error=given)
