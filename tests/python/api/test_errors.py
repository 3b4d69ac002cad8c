"""The exceptions: what they say, what catches them, and that they survive pickling."""

import builtins
import concurrent.futures
import multiprocessing
import pickle
import signal
import traceback
from concurrent.futures.process import BrokenProcessPool

import pytest
from joblot import TaskPicklingError, WorkerDied
from joblot.errors import TimeoutError as CallTimeoutError
from joblot.errors import with_remote_traceback


def killed(**changed):
    fields = {
        "task": 3,
        "pid": 4711,
        "signal": signal.SIGKILL.value,
        "peak_memory": 1536 * 1024 * 1024,
        "oom_likely": False,
        "stack": '  File "model.py", line 7 in fit\n',
        "results": {0: "zero", 2: [2]},
        "attempts": 2,
    }
    return WorkerDied(**{**fields, **changed})


def test_what_a_death_says():
    assert str(killed()) == (
        "The worker process that ran task 3 died (pid 4711): killed by signal 9 (SIGKILL); peak memory 1.5 GiB; "
        "attempts: 2. 2 finished results are kept in the attribute `results`. Parallel(..., retries=2) runs such "
        "a task again; n_jobs=1 runs it in this process, where a debugger reaches it.\n\n"
        'Stack of the worker when it died:\n  File "model.py", line 7 in fit'
    )


def test_an_exit_code_and_little_memory():
    text = str(WorkerDied(task=0, pid=1, exit_code=7, peak_memory=900))
    assert text.startswith(
        "The worker process that ran task 0 died (pid 1): it left with exit code 7; peak memory 900 bytes;"
    )
    assert "Parallel(..., retries=1)" in text


def test_out_of_memory_names_the_remedy():
    text = str(killed(oom_likely=True))
    assert "likely killed by the kernel because memory ran out" in text
    assert "a smaller n_jobs needs less memory" in text


def test_the_death_of_the_server():
    error = WorkerDied()
    assert str(error).startswith("A worker process died: the server process ended and took it along")
    fields = (error.task, error.pid, error.signal, error.exit_code, error.peak_memory, error.oom_likely, error.stack)
    assert fields == (None,) * 7
    assert (error.results, error.attempts) == ({}, 1)


@pytest.mark.parametrize(
    ("number", "name"), [(11, "SIGSEGV"), (6, "SIGABRT"), (15, "SIGTERM"), (40, "a real-time signal")]
)
def test_signals_have_names(number, name):
    assert f"killed by signal {number} ({name})" in str(killed(signal=number))


def test_what_catches_a_death():
    for kind in (BrokenProcessPool, concurrent.futures.BrokenExecutor, RuntimeError):
        with pytest.raises(kind):
            raise killed()


def test_a_death_survives_pickling():
    before = killed()
    after = pickle.loads(pickle.dumps(before))
    assert type(after) is WorkerDied
    assert vars(after) == vars(before)
    assert str(after) == str(before)


@pytest.mark.parametrize("module", [multiprocessing, concurrent.futures, builtins])
def test_what_catches_a_timeout(module):
    with pytest.raises(module.TimeoutError, match="task 3"):
        raise CallTimeoutError("task 3")
    assert str(pickle.loads(pickle.dumps(CallTimeoutError("task 3")))) == "task 3"


def test_what_an_unpicklable_task_says():
    error = TaskPicklingError("args[1]['model'].lock", TypeError("cannot pickle '_thread.lock' object"), task=4)
    assert str(error) == (
        "Could not pickle the task to send it to the workers. args[1]['model'].lock of task 4 cannot be pickled "
        "(TypeError: cannot pickle '_thread.lock' object): leave it out, make it inside the task, or use "
        "backend='threading'."
    )
    assert isinstance(error, pickle.PicklingError)
    assert (error.part, error.task, error.is_result) == ("args[1]['model'].lock", 4, False)


def test_what_an_unpicklable_result_says():
    error = TaskPicklingError("result[0]", is_result=True)
    assert str(error).startswith(
        "Could not pickle the result of a task to send it back from the worker. result[0] cannot"
    )
    after = pickle.loads(pickle.dumps(error))
    assert (after.part, after.is_result, str(after)) == ("result[0]", True, str(error))


def test_the_traceback_of_the_worker_is_shown_like_that_of_concurrent_futures():
    error = with_remote_traceback(ValueError("no"), "Traceback of the worker\n")
    assert type(error.__cause__).__name__ == "_RemoteTraceback"
    assert str(error.__cause__) == '\n"""\nTraceback of the worker\n"""'
    shown = "".join(traceback.format_exception(error))
    assert '_RemoteTraceback: \n"""\nTraceback of the worker\n"""\n\nThe above exception was the direct cause' in shown
    cause = pickle.loads(pickle.dumps(error.__cause__))
    assert str(cause) == str(error.__cause__)
