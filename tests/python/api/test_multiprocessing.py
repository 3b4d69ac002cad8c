"""backend='multiprocessing': workers are forks of the program, and see its modules as they were then."""

import multiprocessing
import os

import pytest
from joblot import Parallel, delayed, effective_n_jobs, parallel_config
from kill.programs import Program, run

seen = []


def look(_):
    return list(seen), os.getppid()


def test_globals_of_modules_are_those_of_the_call():
    for i in range(3):
        seen.append(i)
        results = Parallel(n_jobs=2, backend="multiprocessing")([delayed(look)(j) for j in range(4)])
        assert [found for found, _ in results] == [seen] * 4
        assert os.getpid() not in {parent for _, parent in results}
    seen.clear()


def test_globals_of_main_are_seen_and_functions_go_by_name(tmp_path):
    """Also where they could not be pickled with the functions that use them."""
    run(
        """
        import enum, functools
        Colour = enum.Enum("Colour", "RED GREEN")
        lock = threading.Lock()
        state = {"lock": lock, "value": 1}
        calls = 0

        class Failure(Exception):
            pass

        class Point:
            def __init__(self, x):
                self.x = x

            def moved(self, by):
                return Point(self.x + by)

        @functools.lru_cache
        def cached(i):
            return state["lock"].locked(), i

        def count(i):
            global calls
            calls += 1
            with state["lock"]:
                return state["value"], calls, os.getpid()

        def fail(i):
            raise Failure(i)

        for value in (1, 2):
            state["value"] = value
            results = Parallel(n_jobs=2, backend="multiprocessing")(delayed(count)(i) for i in range(20))
            assert {found for found, *_ in results} == {value}
            pids = {pid for *_, pid in results}
            assert os.getpid() not in pids
            # A global that tasks write to keeps what they write, in each worker for itself.
            assert sum(max(n for _, n, pid in results if pid == one) for one in pids) == 20
        assert calls == 0
        with Parallel(n_jobs=2, backend="multiprocessing") as parallel:
            try:
                parallel(delayed(fail)(i) for i in range(4))
            except Failure as error:
                assert type(error) is Failure
            assert parallel(delayed(cached)(i) for i in range(2)) == [(False, 0), (False, 1)]
            assert parallel([delayed(abs)(1), delayed(max)([Colour.RED], default=Colour)])[1] is Colour.RED
            points = parallel(delayed(Point(i).moved)(1) for i in range(4))
            assert [type(point) is Point and point.x for point in points] == [1, 2, 3, 4]
        print("fine")
        """,
        tmp_path,
    )


def test_a_block_sees_what_was_there_at_its_beginning(tmp_path):
    """What is new, or has another meaning by now, travels by value."""
    run(
        """
        value = "before"

        def tell():
            return value

        def other():
            return "old"

        with Parallel(n_jobs=2, backend="multiprocessing") as parallel:
            value = "after"
            old = other

            def other():
                return "new"

            def later():
                return "later " + tell()

            class Thing:
                pass

            assert parallel([delayed(tell)()] * 4) == ["before"] * 4
            assert parallel([delayed(old)()] * 4) == ["old"] * 4
            assert parallel([delayed(other)()] * 4) == ["new"] * 4
            assert parallel([delayed(later)()] * 4) == ["later before"] * 4
            assert parallel([delayed(lambda: value)()] * 4) == ["after"] * 4
            thing = Thing()
            thing.x = 5
            assert type(parallel([delayed(lambda t: t)(thing)])[0]) is Thing
        assert Parallel(n_jobs=2, backend="multiprocessing")([delayed(tell)()] * 4) == ["after"] * 4
        print("fine")
        """,
        tmp_path,
    )


def test_a_block_keeps_no_data_of_the_program(tmp_path):
    run(
        """
        import weakref

        class Thing:
            pass

        thing = Thing()
        told = weakref.ref(thing)
        with Parallel(n_jobs=2, backend="multiprocessing") as parallel:
            parallel([delayed(abs)(-1)])
            del thing
            assert told() is None
        print("fine")
        """,
        tmp_path,
    )


def test_an_initializer_sets_the_globals_that_tasks_see(tmp_path):
    run(
        """
        table = None

        def start(value):
            global table
            table = value

        def tell(i):
            return table

        for backend in ("multiprocessing",):
            parallel = Parallel(n_jobs=2, backend=backend, initializer=start, initargs=("set",))
            assert parallel(delayed(tell)(i) for i in range(10)) == ["set"] * 10
        assert table is None
        print("fine")
        """,
        tmp_path,
    )


def test_a_block_keeps_its_workers_and_a_call_does_not(tmp_path):
    run(
        """
        def where(i):
            time.sleep(0.01)
            return os.getpid()

        def alive():
            found = []
            for name in os.listdir("/proc"):
                try:
                    if name.isdigit() and f"PPid:\\t{os.getpid()}\\n" in open(f"/proc/{name}/status").read():
                        found.append(int(name))
                except OSError:
                    pass
            return found

        def calls(parallel):
            return set().union(*(parallel(delayed(where)(i) for i in range(6)) for _ in range(3)))

        with Parallel(n_jobs=2, backend="multiprocessing", batch_size=1) as parallel:
            assert len(alive()) == 1
            assert len(calls(parallel)) == 2
        assert not alive()
        assert len(calls(Parallel(n_jobs=2, backend="multiprocessing", batch_size=1))) == 6
        assert not alive()
        print("fine")
        """,
        tmp_path,
    )


def test_what_the_parent_has_open_and_registered_stays_its_own(tmp_path):
    """No text twice, no exit handler, finalizer or signal handler of the parent's in a worker."""
    with Program(
        """
        import atexit, tempfile, weakref

        class Thing:
            def __del__(self):
                print("deleted in", os.getpid() == main)

        main = os.getpid()
        atexit.register(lambda: print("exit handler in", os.getpid() == main))
        folder = tempfile.TemporaryDirectory()
        thing = Thing()
        signal.signal(signal.SIGTERM, lambda *_: print("handler in", os.getpid() == main))
        sys.stdout.write("buffered ")
        print("error text", end=" ", file=sys.stderr)

        def handlers(i):
            atexit.register(print, "exit handler of a task")
            term, pipe = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGPIPE)
            return term is signal.SIG_DFL, pipe is signal.SIG_IGN

        results = Parallel(n_jobs=2, backend="multiprocessing")(delayed(handlers)(i) for i in range(4))
        assert set(results) == {(True, True)}, results
        assert os.path.isdir(folder.name)
        print("end")
        folder.cleanup()
        """,
        tmp_path,
    ) as program:
        lines = program.wait().splitlines()
        assert (program.process.returncode, program.errors()) == (0, "error text ")
        program.assert_nothing_left()
    assert lines[0].startswith("buffered ")
    text = " ".join(lines)
    assert text.count("buffered") == text.count("end") == 1
    assert text.count("exit handler of a task") == 4
    assert text.count("exit handler in True") == text.count("deleted in True") == 1
    assert "False" not in text


def test_a_server_that_is_killed_is_forked_anew(tmp_path):
    run(
        """
        def slow(i):
            time.sleep(0.01)
            return i

        def kill_server(i):
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(60)

        with Parallel(n_jobs=2, backend="multiprocessing", retries=3) as parallel:
            assert parallel(delayed(slow)(i) for i in range(10)) == list(range(10))
            try:
                Parallel(n_jobs=2, backend="multiprocessing")([delayed(kill_server)(0)])
            except WorkerDied:
                pass
            else:
                raise AssertionError("no error")

            def once(i):
                if i == 5 and not os.path.exists(os.path.join(here, "mark")):
                    open(os.path.join(here, "mark"), "w").close()
                    kill_server(i)
                return slow(i)

            assert parallel(delayed(once)(i) for i in range(20)) == list(range(20))
            assert parallel(delayed(slow)(i) for i in range(10)) == list(range(10))
        print("fine")
        """,
        tmp_path,
    )


@pytest.mark.parametrize("busy", ["time.sleep(600)", "[0] * 10**8 and sorted(range(10**8), key=lambda x: -x)"])
def test_nothing_stays_of_a_parent_that_is_killed(tmp_path, busy):
    with Program(
        f"""
        def work(i):
            print("at work", flush=True)
            {busy}

        Parallel(n_jobs=2, backend="multiprocessing")(delayed(work)(i) for i in range(2))
        """,
        tmp_path,
    ) as program:
        assert program.line() == "at work"
        program.kill()
        program.assert_nothing_left()


def test_a_parent_that_calls_exec_in_a_block(tmp_path):
    with Program(
        """
        parallel = Parallel(n_jobs=2, backend="multiprocessing").__enter__()
        parallel(delayed(abs)(i) for i in range(2))
        Parallel(n_jobs=2)(delayed(abs)(i) for i in range(2))
        os.execv(sys.executable, [sys.executable, "-c", "import time; print('other', flush=True); time.sleep(600)"])
        """,
        tmp_path,
    ) as program:
        assert program.line() == "other"
        program.wait_for(lambda processes: len(processes) == 1)
        program.kill()
        program.assert_nothing_left()


def test_other_pools_of_the_parent_are_not_held_open_by_forked_servers(tmp_path):
    """Descriptors of the parent's: none of the engine's in a forked server or its workers but their own."""
    run(
        """
        def descriptors(_):
            found = {}
            for name in os.listdir("/proc/self/fd"):
                try:
                    found[int(name)] = os.readlink(f"/proc/self/fd/{name}").partition(":")[0]
                except OSError:
                    pass
            time.sleep(0.01)
            return sorted(kind for fd, kind in found.items() if fd > 2 and not kind.startswith("/"))

        with Parallel(n_jobs=2, backend="multiprocessing") as alone:
            expected = alone(delayed(descriptors)(i) for i in range(4))
        import array
        big = bytearray(4 << 20)
        Parallel(n_jobs=2, max_nbytes=10)(delayed(len)(big) for _ in range(4))
        with Parallel(n_jobs=2, backend="multiprocessing") as first:
            first(delayed(abs)(i) for i in range(2))
            with Parallel(n_jobs=2, backend="multiprocessing") as second:
                assert second(delayed(descriptors)(i) for i in range(4)) == expected
        print("fine")
        """,
        tmp_path,
    )


def nested(backend, n_jobs=2):
    import warnings

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        results = Parallel(n_jobs=n_jobs, backend=backend)([delayed(os.getpid)()] * 4)
    return len(set(results)), results[0] == os.getpid(), [str(warning.message) for warning in caught]


MESSAGES = {
    ("multiprocessing", "multiprocessing"): "Multiprocessing-backed parallel loops cannot be nested, setting n_jobs=1",
    ("multiprocessing", "loky"): "Loky-backed parallel loops cannot be called in a multiprocessing, setting n_jobs=1",
    ("loky", "multiprocessing"): (
        "Multiprocessing-backed parallel loops cannot be nested, below loky, setting n_jobs=1"
    ),
    ("threading", "multiprocessing"): (
        "Multiprocessing-backed parallel loops cannot be nested below threads, setting n_jobs=1"
    ),
}


@pytest.mark.parametrize("outer, inner", MESSAGES)
def test_nested_it_is_a_plain_loop_as_in_joblib(outer, inner):
    results = Parallel(n_jobs=2, backend=outer)([delayed(nested)(inner)] * 2)
    for n, _, messages in results:
        assert n == 1
        assert messages == [MESSAGES[outer, inner]] or outer == "threading"
    if outer == "threading":  # threads share the list of warnings
        assert MESSAGES[outer, inner] in {message for *_, messages in results for message in messages}


def test_nested_without_a_name_it_is_threads():
    with parallel_config(backend="multiprocessing", n_jobs=2):
        assert effective_n_jobs() == 2
        results = Parallel()([delayed(nested)(None)] * 2)
    assert [(own, messages) for _, own, messages in results] == [(True, [])] * 2


def in_daemon(queue):
    queue.put(nested("multiprocessing"))


def test_in_a_daemonic_process_it_is_a_plain_loop():
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    process = context.Process(target=in_daemon, args=(queue,), daemon=True)
    process.start()
    n, own, messages = queue.get(timeout=60)
    process.join()
    assert (n, own) == (1, True)
    assert messages == [MESSAGES["multiprocessing", "multiprocessing"]]


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_context_of_multiprocessing_says_how_workers_start(method):
    seen.append("set")
    results = Parallel(n_jobs=2, backend=multiprocessing.get_context(method))([delayed(look)(i) for i in range(4)])
    seen.clear()
    assert [found for found, _ in results] == [["set"] if method == "fork" else []] * 4


def test_what_it_does_not_take():
    with pytest.raises(TypeError, match="MultiprocessingBackend has no parameter 'colour'"):
        parallel_config(backend="multiprocessing", colour="red")
    with pytest.raises(TypeError, match="unexpected keyword argument 'colour'"):
        Parallel(n_jobs=2, backend="multiprocessing", colour="red")
    with pytest.raises(AssertionError, match="MultiprocessingBackend does not accept setting"):
        parallel_config(backend="multiprocessing", inner_max_num_threads=1)


def test_threads_of_numerical_libraries_are_as_many_as_there_are_cores_for_each(tmp_path):
    run(
        """
        import numpy
        import joblot, threadpoolctl

        def threads(i):
            return [pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]

        assert numpy.ones((300, 300)) @ numpy.ones((300, 300)) is not None
        expected = max(joblot.cpu_count() // 2, 1)
        found = Parallel(n_jobs=2, backend="multiprocessing")(delayed(threads)(i) for i in range(4))
        assert all(set(pools) == {expected} for pools in found), found
        print("fine")
        """,
        tmp_path,
    )


def test_numbers_of_workers_differ(tmp_path):
    run(
        """
        import random
        import numpy

        def draw(i):
            time.sleep(0.02)
            return os.getpid(), numpy.random.random(), random.random()

        results = Parallel(n_jobs=2, backend="multiprocessing", batch_size=1)(delayed(draw)(i) for i in range(20))
        assert len({pid for pid, *_ in results}) == 2
        assert len({value for _, value, _ in results}) == len({value for *_, value in results}) == 20
        print("fine")
        """,
        tmp_path,
    )


def test_eight_threads_at_once(tmp_path):
    run(
        """
        def square(x):
            return x * x

        failed = []

        def call(n):
            try:
                for _ in range(3):
                    assert Parallel(n_jobs=2, backend="multiprocessing")(
                        delayed(square)(i) for i in range(n)) == [i * i for i in range(n)]
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=call, args=(20 + i,)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failed, failed
        print("fine")
        """,
        tmp_path,
    )


def test_a_block_goes_on_in_a_forked_child(tmp_path):
    run(
        """
        with Parallel(n_jobs=2, backend="multiprocessing") as parallel:
            assert parallel(delayed(abs)(-i) for i in range(4)) == [0, 1, 2, 3]
            pid = os.fork()
            assert parallel(delayed(abs)(-i) for i in range(4)) == [0, 1, 2, 3]
            if pid == 0:
                parallel.__exit__(None, None, None)
                os._exit(7)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
            assert parallel(delayed(abs)(-i) for i in range(4)) == [0, 1, 2, 3]
        print("fine")
        """,
        tmp_path,
    )


def test_memory_of_joblot_empty_is_the_parents_also_as_a_global(tmp_path):
    run(
        """
        import numpy
        import joblot

        array = joblot.empty((4, 300_000), ">f8")
        array[:] = 0
        shared = joblot.share({"a": numpy.arange(100_000)})

        def write(i):
            array[i] += i + 1
            return array[i]

        def write_both(given, i):
            given[i] += 10
            assert (given[i] == array[i]).all()
            return given

        def total(given):
            return int(given["a"].sum())

        with Parallel(n_jobs=2, backend="multiprocessing") as parallel:
            for results in (parallel(delayed(write)(i) for i in range(4)),
                            parallel(delayed(write_both)(array, i) for i in range(4))):
                assert all(numpy.shares_memory(result, array) for result in results)
                assert {result.dtype.str for result in results} == {">f8"}
            assert array.min(axis=1).tolist() == array.max(axis=1).tolist() == [11, 12, 13, 14]
            assert parallel(delayed(total)(shared) for _ in range(4)) == [4999950000] * 4
        print("fine")
        """,
        tmp_path,
    )


@pytest.mark.parametrize("victim", ["a worker", "the server"])
def test_random_kills_cost_attempts_and_nothing_else(tmp_path, victim):
    run(
        f"""
        import random
        import numpy

        array = numpy.ones((300, 1000), ">f8")

        def work(given, i):
            time.sleep(0.005)
            return given.dtype.str, float(given.sum()) + i

        def kill(pool):
            while not over.wait(0.15):
                server, workers = pool.processes()
                victims = workers if "{victim}" == "a worker" else [server] * (server > 0)
                if victims:
                    try:
                        os.kill(random.choice(victims), signal.SIGKILL)
                    except ProcessLookupError:
                        pass

        over = threading.Event()
        with Parallel(n_jobs=2, backend="multiprocessing", retries=200) as parallel:
            killer = threading.Thread(target=kill, args=(parallel._backend._pool,))
            killer.start()
            results = parallel(delayed(work)(array, i) for i in range(300))
            over.set()
            killer.join()
        assert results == [(">f8", 300_000.0 + i) for i in range(300)]
        print("fine")
        """,
        tmp_path,
    )


@pytest.mark.parametrize("method", ["", "fork", "spawn"])
def test_the_start_method_of_the_environment(tmp_path, method):
    run(
        f"""
        import pickle
        table = {{"lock": threading.Lock(), "x": 3}}

        def look(i):
            return table["x"]

        try:
            found = Parallel(n_jobs=2, backend="multiprocessing")(delayed(look)(i) for i in range(4))
        except pickle.PicklingError as error:  # by value, to workers that start anew: a lock cannot go there
            assert "{method}" == "spawn" and "lock" in str(error), error
        else:
            assert "{method}" != "spawn" and found == [3] * 4
        print("fine")
        """,
        tmp_path,
        environ={"JOBLIB_START_METHOD": method},
    )


def test_a_server_that_hangs_in_the_programs_own_code_goes_with_the_parent(tmp_path):
    """What a program runs after its forks may wait for a lock that a thread held, and that nobody gives back."""
    with Program(
        """
        def hang():
            os.write(1, b"hanging\\n")
            threading.Event().wait()

        os.register_at_fork(after_in_child=hang)
        Parallel(n_jobs=2, backend="multiprocessing")(delayed(abs)(i) for i in range(2))
        """,
        tmp_path,
    ) as program:
        assert program.line() == "hanging"
        program.kill()
        program.assert_nothing_left()


def test_streams_that_the_program_has_put_in_place(tmp_path):
    """Text that goes nowhere is lost, as with any fork; nothing fails."""
    run(
        """
        import contextlib, io

        def speak(i):
            print("text", i, end="")
            print("text", i, end="", file=sys.stderr)
            return i

        class Own:
            def write(self, text):
                return len(text)

        for stream in (io.StringIO(), Own(), None, open(os.path.join(here, "file"), "w")):
            with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
                results = Parallel(n_jobs=2, backend="multiprocessing")(delayed(speak)(i) for i in range(4))
            assert results == [0, 1, 2, 3]
        stream.close()
        with open(os.path.join(here, "file")) as file:
            text = file.read()
        assert all(text.count(f"text {i}") == 2 for i in range(4)), text
        print("fine")
        """,
        tmp_path,
    )
