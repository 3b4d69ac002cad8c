"""Contexts, defaults, nesting, and the fallbacks to one worker."""

import multiprocessing
import os
import pickle
import subprocess
import sys
import threading

import pytest
from joblot import (
    Parallel,
    ParallelBackendBase,
    backends,
    config,
    cpu_count,
    delayed,
    effective_n_jobs,
    parallel_backend,
    parallel_config,
    register_parallel_backend,
)
from joblot.backends import LokyBackend, SequentialBackend, ThreadingBackend


def in_a_thread(function):
    kept = []
    thread = threading.Thread(target=lambda: kept.append(function()))
    thread.start()
    thread.join(60)
    return kept[0]


def active():
    backend, n_jobs = config.get_active_backend()
    return type(backend).__name__, backend.nesting_level, n_jobs


def test_the_default():
    assert active() == ("LokyBackend", 0, None)
    assert Parallel().n_jobs == 1


def test_settings_of_a_context_hold_for_parallel():
    with parallel_config(backend="threading", n_jobs=3, verbose=7, max_nbytes="2K", mmap_mode="c", temp_folder="/t"):
        parallel = Parallel()
        assert type(parallel._backend) is ThreadingBackend
        assert (parallel.n_jobs, parallel.verbose) == (3, 7)
        keywords = parallel._backend_kwargs
        assert (keywords["max_nbytes"], keywords["mmap_mode"], keywords["temp_folder"]) == (2048, "c", "/t")
    assert active() == ("LokyBackend", 0, None)


def test_an_argument_goes_before_the_context():
    with parallel_config(backend="threading", n_jobs=3, verbose=7, max_nbytes="2K", mmap_mode="c"):
        parallel = Parallel(n_jobs=2, backend="sequential", verbose=0, max_nbytes="1M", mmap_mode="r")
        assert type(parallel._backend) is SequentialBackend
        assert (parallel.n_jobs, parallel.verbose) == (2, 0)
        assert (parallel._backend_kwargs["max_nbytes"], parallel._backend_kwargs["mmap_mode"]) == (1 << 20, "r")
        assert Parallel(n_jobs=None).n_jobs == 3


def test_contexts_nest_and_keep_what_the_inner_one_does_not_set():
    with parallel_config(backend="threading", n_jobs=3):
        with parallel_config(verbose=5):
            assert (Parallel().n_jobs, Parallel().verbose) == (3, 5)
            assert active() == ("ThreadingBackend", 0, 3)
            with parallel_config(backend="loky"):
                assert active() == ("LokyBackend", 0, 3)
        assert Parallel().verbose == 0
    assert active() == ("LokyBackend", 0, None)


def test_a_context_ends_with_an_error_too():
    with pytest.raises(KeyError), parallel_config(n_jobs=3):
        raise KeyError
    assert Parallel().n_jobs == 1


def test_without_a_with_block_until_unregister():
    context = parallel_config(n_jobs=5)
    try:
        assert Parallel().n_jobs == 5
    finally:
        context.unregister()
    assert Parallel().n_jobs == 1


def test_contexts_belong_to_their_thread():
    with parallel_config(backend="threading", n_jobs=3):
        assert in_a_thread(active) == ("LokyBackend", 0, None)


def test_what_the_with_statement_gives():
    with parallel_config(backend="threading", n_jobs=3) as settings:
        assert settings["n_jobs"] == 3
        assert type(settings["backend"]) is ThreadingBackend
        assert sorted(settings) == sorted(
            ["backend", "n_jobs", "verbose", "temp_folder", "max_nbytes", "mmap_mode", "prefer", "require"]
        )
    with parallel_backend("threading") as (backend, n_jobs):
        assert (type(backend), n_jobs) == (ThreadingBackend, -1)
        assert Parallel().n_jobs == -1
    with parallel_backend("loky", n_jobs=2, inner_max_num_threads=1) as (backend, n_jobs):
        assert (backend.inner_max_num_threads, n_jobs) == (1, 2)


def test_an_instance_as_backend():
    mine = ThreadingBackend()
    with parallel_config(backend=mine, n_jobs=2):
        assert Parallel()._backend is mine
        assert mine.nesting_level == 0
    assert Parallel(backend=mine)._backend is mine


@pytest.mark.parametrize("arguments", [{"inner_max_num_threads": 2}, {"initializer": print}])
def test_parameters_without_a_backend(arguments):
    with pytest.raises(ValueError, match="only supported when backend is not None"):
        parallel_config(**arguments)
    with pytest.raises(ValueError, match="only supported when backend is not None"):
        parallel_config(backend=None, **arguments)
    assert active() == ("LokyBackend", 0, None)


def test_parameters_with_an_instance():
    with pytest.raises(ValueError, match="only supported when backend is a string"):
        parallel_config(backend=ThreadingBackend(), initializer=print)


def test_inner_max_num_threads_where_it_has_no_meaning():
    with pytest.raises(AssertionError, match="ThreadingBackend does not accept setting the inner_max_num_threads"):
        parallel_config(backend="threading", inner_max_num_threads=2)
    assert active() == ("LokyBackend", 0, None)


def test_cpu_count(monkeypatch):
    assert 1 <= cpu_count() <= len(os.sched_getaffinity(0))
    assert 1 <= cpu_count(only_physical_cores=True) <= cpu_count()
    monkeypatch.setenv("JOBLIB_MULTIPROCESSING", "0")
    assert cpu_count() == cpu_count(only_physical_cores=True) == 1


def test_effective_n_jobs():
    cores = cpu_count()
    assert effective_n_jobs() == effective_n_jobs(-1) == cores
    assert (effective_n_jobs(1), effective_n_jobs(7), effective_n_jobs(None)) == (1, 7, 1)
    with pytest.raises(ValueError, match="n_jobs == 0 in Parallel has no meaning"):
        effective_n_jobs(0)
    with parallel_config(backend="threading", n_jobs=5):
        assert effective_n_jobs(None) == 5
    with parallel_config(backend="sequential", n_jobs=5):
        assert effective_n_jobs(None) == effective_n_jobs(3) == 1


# registered backends


class OwnBackend(ParallelBackendBase):
    def __init__(self, nesting_level=None, greeting="hello", **keywords):
        super().__init__(nesting_level, **keywords)
        self.greeting = greeting

    def effective_n_jobs(self, n_jobs):
        return 3

    def run(self, tasks, settings):
        return [(self.greeting, function(*args, **kwargs)) for function, args, kwargs in tasks]


@pytest.fixture
def registry():
    before, default = dict(backends.BACKENDS), backends.DEFAULT_BACKEND
    yield
    backends.BACKENDS.clear()
    backends.BACKENDS.update(before)
    backends.DEFAULT_BACKEND = default


def test_registered_backends(registry):
    register_parallel_backend("own", OwnBackend)
    assert Parallel(n_jobs=2, backend="own")([delayed(abs)(-1)]) == [("hello", 1)]
    with parallel_config(backend="own", greeting="goodbye"):
        assert Parallel()([delayed(abs)(-1)]) == [("goodbye", 1)]
        assert effective_n_jobs(9) == 3
    names = r"\['loky', 'multiprocessing', 'own', 'sequential', 'threading'\]"
    with pytest.raises(ValueError, match=f"expected one of {names}"):
        Parallel(backend="other")
    register_parallel_backend("own", OwnBackend, make_default=True)
    assert Parallel()([delayed(abs)(-1)]) == [("hello", 1)]
    with pytest.raises(TypeError, match="factory must be a callable"):
        register_parallel_backend("own", 3)


def test_a_backend_whose_constructor_does_not_call_ours(registry):
    class Quiet(SequentialBackend):
        def __init__(self, name):
            self.name = name

    register_parallel_backend("quiet", Quiet)
    with parallel_config(backend="quiet", name="a", n_jobs=3):
        parallel = Parallel()
        assert (parallel._backend.name, parallel._backend.nesting_level, parallel.n_jobs) == ("a", 0, 3)
        assert parallel(delayed(abs)(-i) for i in range(3)) == [0, 1, 2]
    assert Parallel(n_jobs=2, backend=Quiet("b"))([delayed(abs)(-1)]) == [1]

    class Reversed(ParallelBackendBase):
        def __init__(self):
            pass

        def effective_n_jobs(self, n_jobs):
            return n_jobs

        def run(self, tasks, settings):
            return [function(*args, **kwargs) for function, args, kwargs in tasks][::-1]

    assert Parallel(n_jobs=2, backend=Reversed())([delayed(abs)(-i) for i in range(3)]) == [2, 1, 0]


# workers and nesting


@pytest.mark.parametrize("base", [ThreadingBackend, LokyBackend])
def test_a_nested_backend_without_n_jobs(base):
    class Older(base):
        def get_nested_backend(self):
            return super().get_nested_backend()[0]

    assert Parallel(n_jobs=2, backend=Older())([delayed(active)()] * 4) == [("ThreadingBackend", 1, None)] * 4


def test_what_workers_are_told():
    state = config.state_for_workers(LokyBackend(nesting_level=0))
    assert pickle.loads(pickle.dumps(state)) == state == ("threading", 1, None)
    assert config.state_for_workers(LokyBackend(nesting_level=1)) == ("sequential", 2, None)

    def as_in_a_worker():
        config.apply_worker_state(state)
        return active()

    assert in_a_thread(as_in_a_worker) == ("ThreadingBackend", 1, None)
    assert active() == ("LokyBackend", 0, None)


def test_applying_the_state_forgets_what_a_task_left_behind():
    def as_in_a_worker():
        config.apply_worker_state(("threading", 1, None))
        parallel_config(n_jobs=7, verbose=3)  # never unregistered
        config.apply_worker_state(("threading", 1, None))
        return Parallel().n_jobs, Parallel().verbose

    assert in_a_thread(as_in_a_worker) == (1, 0)


def test_the_state_of_a_running_call(monkeypatch):
    import types

    seen = []
    engine = types.SimpleNamespace(
        run=lambda tasks, settings, pool=None: seen.append((settings.worker_state, config.worker_state())) or []
    )
    monkeypatch.setitem(sys.modules, "joblot._processes", engine)
    monkeypatch.setattr(sys.modules["joblot"], "_processes", engine, raising=False)
    Parallel(n_jobs=2, backend="loky")([])
    Parallel(n_jobs=2, backend=LokyBackend(nesting_level=3))([])
    assert seen == [(("threading", 1, None),) * 2, (("sequential", 4, None),) * 2]
    assert config.worker_state() == ("threading", 1, None)


# fallbacks


def serial(code):
    environment = {**os.environ, "JOBLIB_MULTIPROCESSING": "0"}
    run = subprocess.run(
        [sys.executable, "-W", "always", "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    return run.stdout, run.stderr


def test_joblib_multiprocessing_0_is_serial():
    out, err = serial(
        "from joblot import *\nfrom joblot import config\n"
        "print(type(config.get_active_backend()[0]).__name__, effective_n_jobs(4), cpu_count())\n"
        "import threading\n"
        "print(Parallel(n_jobs=4)(delayed(threading.get_ident)() for _ in range(2)) == [threading.get_ident()] * 2)\n"
        "print(effective_n_jobs(None), Parallel(n_jobs=2, prefer='processes')([delayed(abs)(-3)]))"
    )
    assert out == "ThreadingBackend 1 1\nTrue\n1 [3]\n"
    assert err == ""


def test_joblib_multiprocessing_0_and_a_backend_with_processes():
    out, err = serial("from joblot import *\nprint(Parallel(n_jobs=2, backend='loky')([delayed(abs)(-3)]))")
    assert out == "[3]\n"
    assert (
        "joblot backend 'loky' is not available because JOBLIB_MULTIPROCESSING is 0, falling back to threading" in err
    )


def test_joblib_multiprocessing_that_is_no_number(monkeypatch):
    monkeypatch.setenv("JOBLIB_MULTIPROCESSING", "no")
    with pytest.raises(ValueError, match="JOBLIB_MULTIPROCESSING must be 0 or 1, got: 'no'"):
        Parallel(n_jobs=2)


def daemon(queue):
    import warnings

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        results = Parallel(n_jobs=2)(delayed(abs)(-i) for i in range(3))
        n_jobs = effective_n_jobs(4)
        threads = Parallel(n_jobs=2, backend="threading")._effective_n_jobs()
    queue.put((results, n_jobs, threads, [str(warning.message) for warning in caught]))


def test_a_daemonic_process_uses_one():
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    process = context.Process(target=daemon, args=(queue,), daemon=True)
    process.start()
    message = "Loky-backed parallel loops cannot be called in a multiprocessing, setting n_jobs=1"
    assert queue.get() == ([0, 1, 2], 1, 2, [message] * 2)
    process.join(60)


def test_threads_of_the_user_may_use_processes():
    assert in_a_thread(lambda: effective_n_jobs(4)) == 4
    assert in_a_thread(lambda: LokyBackend(nesting_level=0).effective_n_jobs(4)) == 4


def test_warnings_point_at_the_caller():
    def nested():
        with pytest.warns(UserWarning) as caught:
            Parallel(n_jobs=2, backend=LokyBackend(nesting_level=1))([delayed(abs)(-1)])
        return [warning.filename for warning in caught]

    assert in_a_thread(nested) == [__file__]
