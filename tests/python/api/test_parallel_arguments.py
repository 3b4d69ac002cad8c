"""Arguments of Parallel: what is accepted, what each means, and what the errors say."""

import os
import pathlib

import pytest
from joblot import Parallel, ParallelBackendBase, cpu_count, delayed, parallel_config
from joblot._settings import DEFAULT_MMAP_MODE, CallSettings
from joblot.backends import LokyBackend, SequentialBackend, ThreadingBackend


class RecordingBackend(ParallelBackendBase):
    """Keeps the settings of the last call."""

    supports_timeout = True

    def effective_n_jobs(self, n_jobs):
        return max(cpu_count() + 1 + n_jobs, 1) if n_jobs < 0 else n_jobs

    def run(self, tasks, settings):
        self.settings = settings
        return [function(*args, **kwargs) for function, args, kwargs in tasks]


def settings_of(tasks=(), n_jobs=2, **arguments):
    backend = RecordingBackend()
    Parallel(n_jobs=n_jobs, backend=backend, **arguments)(tasks)
    return backend.settings


def test_default_settings(monkeypatch):
    monkeypatch.delenv("JOBLIB_TEMP_FOLDER", raising=False)
    settings = settings_of()
    assert isinstance(settings, CallSettings)
    assert {name: getattr(settings, name) for name in CallSettings.__slots__} == {
        "n_jobs": 2,
        "pre_dispatch": 4,
        "elastic": True,
        "batch_size": "auto",
        "timeout": None,
        "retries": 0,
        "on_error": "raise",
        "max_tasks_per_worker": None,
        "task_timeout": None,
        "memory_limit": None,
        "max_nbytes": 1024 * 1024,
        "mmap_mode": DEFAULT_MMAP_MODE,
        "temp_folder": None,
        "snapshot": 0,
        "inner_max_num_threads": None,
        "initializer": None,
        "initargs": (),
        "idle_worker_timeout": None,
        "progress": None,
        "verbose": 0,
        "worker_state": ("threading", 1, None),
    }


# n_jobs


@pytest.mark.parametrize(("given", "n_jobs"), [(2, 2), (2.7, 2), ("3", 3), (True, 1), (-1, -1)])
def test_n_jobs_becomes_an_int(given, n_jobs):
    parallel = Parallel(n_jobs=given)
    assert parallel.n_jobs == n_jobs
    assert type(parallel.n_jobs) is int
    assert repr(parallel) == f"Parallel(n_jobs={n_jobs})"


@pytest.mark.parametrize("given", ["two", "2.5", float("nan"), float("inf"), [2], {}])
def test_n_jobs_that_is_no_number(given):
    with pytest.raises(ValueError, match="n_jobs could not be converted to int: got "):
        Parallel(n_jobs=given)


@pytest.mark.parametrize("given", [0, 0.5, "0"])
@pytest.mark.parametrize("backend", ["loky", "threading", "sequential"])
def test_n_jobs_zero(given, backend):
    with pytest.raises(ValueError, match="n_jobs == 0 in Parallel has no meaning"):
        Parallel(n_jobs=given, backend=backend)([delayed(abs)(1)])


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_negative_n_jobs_count_from_the_cores(backend):
    cores = cpu_count()
    for n_jobs in (-1, -2, -3, -100):
        assert Parallel(n_jobs=n_jobs, backend=backend)._effective_n_jobs() == max(cores + 1 + n_jobs, 1)


# backend


@pytest.mark.parametrize(
    ("given", "kind"),
    [("loky", LokyBackend), ("threading", ThreadingBackend), ("sequential", SequentialBackend), (None, LokyBackend)],
)
def test_backends_by_name(given, kind):
    backend = Parallel(backend=given)._backend
    assert type(backend) is kind
    assert backend.nesting_level == 0


@pytest.mark.parametrize("given", ["nothing", "", 3, object()])
def test_unknown_backends(given):
    with pytest.raises(ValueError, match=r"Invalid backend: .*expected one of \['loky', 'multiprocessing', "):
        Parallel(backend=given)
    with pytest.raises(ValueError, match="Invalid backend: "):
        parallel_config(backend=given)


def test_a_backend_without_run_says_what_it_lacks():
    class Half(ParallelBackendBase):
        def effective_n_jobs(self, n_jobs):
            return n_jobs

    with pytest.raises(NotImplementedError, match=r"Half must define run\(tasks, settings\)"):
        Parallel(n_jobs=2, backend=Half())([delayed(abs)(1)])


def test_a_backend_is_configured_and_ended_once():
    log = []

    class Logging(RecordingBackend):
        def configure(self, n_jobs=1, parallel=None, **settings):
            log.append(("configure", n_jobs, settings["answer"]))
            return super().configure(n_jobs, parallel, **settings)

        def start_call(self):
            log.append("start")

        def stop_call(self):
            log.append("stop")

        def terminate(self):
            log.append("terminate")

    with Parallel(n_jobs=3, backend=Logging(), answer=42) as parallel:
        assert parallel([delayed(abs)(-1)]) == [1]
        with pytest.raises(ZeroDivisionError):
            parallel([delayed(divmod)(1, 0)])
    assert log == [("configure", 3, 42), "start", "stop", "start", "stop", "terminate"]
    log.clear()
    Parallel(n_jobs=3, backend=Logging(), answer=42)([])
    assert log == [("configure", 3, 42), "start", "stop", "terminate"]


def test_a_backend_without_workers():
    class Empty(RecordingBackend):
        def effective_n_jobs(self, n_jobs):
            return 0

    with pytest.raises(RuntimeError, match="Empty has no active worker"):
        Parallel(n_jobs=2, backend=Empty())([delayed(abs)(1)])


# prefer and require


def test_prefer():
    assert type(Parallel(prefer="threads")._backend) is ThreadingBackend
    assert type(Parallel(prefer="processes")._backend) is LokyBackend
    assert type(Parallel(prefer="threads", backend="loky")._backend) is LokyBackend
    with parallel_config(backend="loky"):
        assert type(Parallel(prefer="threads")._backend) is LokyBackend
    with parallel_config(prefer="threads", n_jobs=2):
        parallel = Parallel()
        assert (type(parallel._backend), parallel.n_jobs) == (ThreadingBackend, 1)


def test_require_sharedmem():
    assert type(Parallel(require="sharedmem")._backend) is ThreadingBackend
    with pytest.raises(ValueError, match="Backend LokyBackend.* does not support shared memory"):
        Parallel(require="sharedmem", backend="loky")
    with parallel_config(backend="loky", n_jobs=4):
        parallel = Parallel(require="sharedmem")
        assert (type(parallel._backend), parallel.n_jobs) == (ThreadingBackend, 1)
        assert Parallel(require="sharedmem", n_jobs=2).n_jobs == 2
    with parallel_config(backend="threading", n_jobs=4):
        assert Parallel(require="sharedmem").n_jobs == 4


def test_a_replaced_backend_is_reported_from_verbose_10_on(capsys):
    with parallel_config(backend="loky"):
        Parallel(require="sharedmem", verbose=9)
        assert capsys.readouterr().out == ""
        Parallel(require="sharedmem", verbose=10)
    assert capsys.readouterr().out == (
        "Using ThreadingBackend as joblib backend instead of LokyBackend as the latter does not provide shared "
        "memory semantics.\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prefer": "fibers"}, "prefer=fibers is not a valid backend hint, expected one of "),
        ({"require": "speed"}, "require=speed is not a valid backend constraint, expected one of "),
        ({"prefer": "processes", "require": "sharedmem"}, "are inconsistent settings"),
    ],
)
def test_prefer_and_require_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        Parallel(**arguments)
    with parallel_config(**arguments), pytest.raises(ValueError, match=message):
        Parallel()


# pre_dispatch


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("2*n_jobs", 6),
        ("2 * n_jobs", 6),
        ("n_jobs", 3),
        ("1.5*n_jobs", 4),
        ("n_jobs**2 + 1", 10),
        ("-(-n_jobs) // 2", 1),
        ("(n_jobs + 10) % 4", 1),
        ("100/n_jobs", 33),
        (7, 7),
        (7.9, 7),
        ("7", 7),
        ("all", None),
        ("10**6", 10**6),
    ],
)
def test_pre_dispatch(given, expected):
    assert settings_of(n_jobs=3, pre_dispatch=given).pre_dispatch == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("n_jobs.real", "not a valid or supported arithmetic expression"),
        ("__import__('os')", "not a valid or supported arithmetic expression"),
        ("exec('import os')", "not a valid or supported arithmetic expression"),
        ("2 n_jobs", "not a valid or supported arithmetic expression"),
        ("", "not a valid or supported arithmetic expression"),
        ("'a'*9", "not a valid or supported arithmetic expression"),
        ("2*True", "not a valid or supported arithmetic expression"),
        ("1/0", "not a valid or supported arithmetic expression"),
        ("2 if 1 else 3", "not a valid or supported arithmetic expression"),
        ("~n_jobs", "not a valid or supported arithmetic expression"),
        ("2j*n_jobs", "not a valid or supported arithmetic expression"),
        ("9**9**9**9", "Numeric literal 387420489 is too large, max is 1000000."),
        ("10**6 + 1", "Numeric literal 1000001 is too large, max is 1000000."),
        ("-10**7", "Numeric literal 10000000 is too large, max is 1000000."),
        ("1e300*1e300", "is too large, max is 1000000."),
        ("+".join("1" * 20), "is too long. Max length is 30, got 39."),
        ("n_jobs-3", "no task would be drawn"),
        ("-1", "no task would be drawn"),
        (0, "no task would be drawn"),
        (-5, "no task would be drawn"),
        (None, "pre_dispatch must be 'all', a number or arithmetic"),
        ([], "pre_dispatch must be 'all', a number or arithmetic"),
        (float("nan"), "pre_dispatch must be 'all', a number or arithmetic"),
    ],
)
def test_pre_dispatch_errors(given, message):
    with pytest.raises(ValueError, match="^.*" + message.replace("(", r"\(")):
        settings_of(n_jobs=3, pre_dispatch=given)


# batch_size, timeout, retries, return_as


def test_batch_size():
    assert settings_of(batch_size=5).batch_size == 5
    for given in (0, -1, 1.5, "many", None, [1]):
        with pytest.raises(ValueError, match="batch_size must be 'auto' or a positive integer, got: "):
            Parallel(batch_size=given)


def test_timeout():
    assert settings_of(timeout=3).timeout == 3.0
    assert settings_of(timeout=0).timeout == 0.0
    for given in (-1, "soon", float("nan")):
        with pytest.raises(ValueError, match="timeout must"):
            Parallel(timeout=given)


def test_retries():
    assert settings_of(retries=2).retries == 2
    with pytest.raises(ValueError, match="retries must be a whole number of at least 0, got: -1"):
        Parallel(retries=-1)
    with pytest.raises(TypeError, match="retries must be a whole number of at least 0, got: 1.5"):
        Parallel(retries=1.5)


@pytest.mark.parametrize("given", ["generator", "generator_unordered"])
def test_generators_are_announced(given):
    with pytest.raises(ValueError, match=f"return_as='{given}' is not available in this version"):
        Parallel(return_as=given)


@pytest.mark.parametrize("given", ["set", None, 3])
def test_unknown_return_as(given):
    expected = 'Expected `return_as` parameter to be a string equal to "list","generator" or "generator_unordered", '
    with pytest.raises(ValueError, match=f"{expected}but got {given} instead."):
        Parallel(return_as=given)


# max_nbytes, mmap_mode, temp_folder


@pytest.mark.parametrize(
    ("given", "expected"),
    [("1M", 1 << 20), ("50K", 51200), ("2G", 2 << 30), ("0.5K", 512), (0, 0), (1e6, 10**6), (-1, 0), (None, None)],
)
def test_max_nbytes(given, expected):
    assert settings_of(max_nbytes=given).max_nbytes == expected


@pytest.mark.parametrize("given", ["", "M", "10", "10MB", "1m", "ten K", [], float("nan"), float("inf")])
def test_max_nbytes_errors(given):
    with pytest.raises(ValueError, match="is not a size: expected a number of bytes, a text with a unit such as"):
        Parallel(max_nbytes=given)


@pytest.mark.parametrize(
    ("given", "expected"),
    [("r", "r"), ("r+", "r+"), ("w+", "r+"), ("c", "c"), (None, None), ("readonly", "r"), ("copyonwrite", "c")],
)
def test_mmap_mode(given, expected):
    assert settings_of(mmap_mode=given).mmap_mode == expected
    with parallel_config(mmap_mode=given):
        assert settings_of().mmap_mode == expected


def test_the_default_mmap_mode_is_told_from_an_explicit_one():
    assert repr(settings_of().mmap_mode) == "'r'"
    assert settings_of().mmap_mode is DEFAULT_MMAP_MODE
    assert settings_of(mmap_mode="r").mmap_mode == "r"
    with parallel_config(n_jobs=2):
        assert settings_of().mmap_mode is DEFAULT_MMAP_MODE


@pytest.mark.parametrize("given", ["x", "rw", 3, ""])
def test_mmap_mode_errors(given):
    with pytest.raises(ValueError, match=f"mmap_mode={given!r} is not a valid mode, expected one of 'r', "):
        Parallel(mmap_mode=given)


def test_temp_folder(monkeypatch):
    monkeypatch.setenv("JOBLIB_TEMP_FOLDER", "/from/the/environment")
    assert settings_of().temp_folder == "/from/the/environment"
    assert settings_of(temp_folder=pathlib.Path("/tmp/here")).temp_folder == os.path.join("/tmp", "here")
    with parallel_config(temp_folder="/from/the/context"):
        assert settings_of().temp_folder == "/from/the/context"


# keywords for workers


def test_worker_parameters():
    arguments = {"initializer": print, "initargs": ["a"], "idle_worker_timeout": 5}
    settings = settings_of(**arguments)
    assert (settings.initializer, settings.initargs, settings.idle_worker_timeout) == (print, ("a",), 5)
    with parallel_config(backend="loky", inner_max_num_threads=3, **arguments):
        backend = Parallel()._backend
        assert backend.backend_kwargs == arguments
        assert backend.inner_max_num_threads == 3


def test_misspelt_keywords():
    for backend in ("loky", "threading", "sequential"):
        with pytest.raises(TypeError, match=r"Parallel\(\) got an unexpected keyword argument 'n_job'"):
            Parallel(n_job=2, backend=backend)
    with pytest.raises(TypeError, match="LokyBackend has no parameter 'initialiser'; it takes initializer, "):
        parallel_config(backend="loky", initialiser=print)
    with pytest.raises(ValueError, match="Please use the `idle_worker_timeout` parameter instead"):
        parallel_config(backend="loky", timeout=5)


# tasks


def test_the_input_is_known_to_be_a_sequence():
    task = delayed(abs)(-1)
    assert settings_of([task]).snapshot == 0
    assert settings_of((task,)).snapshot == 0
    assert settings_of(iter([task])).snapshot == 1
    assert settings_of(task for task in [task]).snapshot == 1
    assert settings_of(map(lambda task: task, [task])).snapshot == 2


@pytest.mark.parametrize(
    "arguments", [{"n_jobs": 1}, {"n_jobs": 1, "verbose": 1}, {"n_jobs": 2, "backend": "threading"}]
)
@pytest.mark.parametrize(
    ("task", "message"),
    [
        (3, "but got 3 of type int"),
        (None, "but got None of type NoneType"),
        (abs, "but got <built-in function abs> of type builtin_function_or_method"),
        ((abs, (1,)), "but got .* of type tuple"),
        (("abs", (1,), {}), "a triple whose first part is 'abs' of type str and cannot be called"),
        ((abs, 1, {}), "a triple with arguments 1 of type int and keywords {} of type dict"),
        ((abs, (1,), None), "and keywords None of type NoneType"),
    ],
)
def test_what_is_no_task(arguments, task, message, capsys):
    with pytest.raises(TypeError, match=rf"Task 1 must be a \(callable, args, kwargs\) triple.*{message}") as caught:
        Parallel(**arguments)([delayed(abs)(-1), task])
    assert "Write delayed(f)(x): Parallel(n_jobs=2)(delayed(f)(x) for x in data)." in str(caught.value)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_one_task_instead_of_a_list(n_jobs):
    with pytest.raises(TypeError, match=r"Task 0 must be a \(callable, args, kwargs\) triple"):
        Parallel(n_jobs=n_jobs, backend="threading")(delayed(abs)(-1))


# what others read


def test_attributes():
    parallel = Parallel(n_jobs=3, verbose=0, timeout=5, pre_dispatch="all", backend="threading")
    assert (parallel.n_jobs, parallel.verbose, parallel.timeout, parallel.pre_dispatch) == (3, 0, 5, "all")
    assert (parallel.return_as, parallel.return_generator, parallel.return_ordered) == ("list", False, True)
    assert parallel.batch_size == "auto"
    parallel([delayed(abs)(-1)] * 4)
    assert parallel.n_tasks == 4
    assert (parallel.n_dispatched_tasks, parallel.n_completed_tasks, parallel.n_dispatched_batches) == (4, 4, 4)
    assert parallel._backend_kwargs["max_nbytes"] == 1 << 20


def test_a_subclass_as_scikit_learn_has_it():
    class Wrapped:
        def __init__(self, function):
            self.function = function

        def with_config(self, config):
            self.config = config
            return self

        def __call__(self, *args):
            return self.config, self.function(*args)

    def own_delayed(function):
        return lambda *args: (Wrapped(function), args, {})

    class Own(Parallel):
        def __init__(self, *args, config="plain", **kwargs):
            super().__init__(*args, **kwargs)
            self.config = config

        def __call__(self, iterable):
            return super().__call__(
                (function.with_config(self.config), args, kwargs) for function, args, kwargs in iterable
            )

    for n_jobs in (1, 2):
        parallel = Own(n_jobs=n_jobs, backend="threading", config="own")
        assert parallel(own_delayed(abs)(-i) for i in range(3)) == [("own", 0), ("own", 1), ("own", 2)]
