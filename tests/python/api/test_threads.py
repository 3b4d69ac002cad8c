"""Calls from several threads, calls that outlast threads, and what stays the same over many calls."""

import threading

import pytest
from joblot import Parallel, delayed
from kill.programs import Program, run


def square(x):
    return x * x


def run_threads(*functions):
    """Run functions in threads; the first error of one is raised here."""
    errors = []

    def guarded(function):
        try:
            function()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


@pytest.mark.parametrize("n_jobs", [2, 4])
def test_four_threads_call_at_once(n_jobs):
    def call(k):
        for n in (1, 10, 200):
            expected = [(i + k) ** 2 for i in range(n)]
            assert Parallel(n_jobs=n_jobs)(delayed(square)(i + k) for i in range(n)) == expected

    run_threads(*(lambda k=k: call(k) for k in range(4)))


def test_errors_and_results_of_several_threads_do_not_mix():
    def good():
        for _ in range(20):
            assert Parallel(n_jobs=2)([delayed(square)(i) for i in range(30)]) == [i * i for i in range(30)]

    def bad():
        for _ in range(20):
            with pytest.raises(ZeroDivisionError):
                Parallel(n_jobs=2)([delayed(divmod)(1, i) for i in (3, 2, 1, 0, 1)])

    run_threads(good, bad, good, bad)


def test_a_call_in_a_thread_that_ends_then_in_the_main_thread():
    for _ in range(3):
        run_threads(lambda: Parallel(n_jobs=2)([delayed(square)(i) for i in range(10)]))
        assert Parallel(n_jobs=2)([delayed(square)(i) for i in range(10)]) == [i * i for i in range(10)]


def test_the_first_call_of_a_program_is_in_a_thread_that_ends(tmp_path):
    """What asks for a signal at the death of its parent means the thread that started it."""
    run(
        """
        def call():
            pids.append(set(Parallel(n_jobs=2, batch_size=1)([delayed(where)()] * 10)))

        def where():
            time.sleep(0.01)
            return os.getpid()

        pids = []
        thread = threading.Thread(target=call)
        thread.start()
        thread.join()
        time.sleep(0.3)
        call()
        assert pids[0] == pids[1], pids
        print("fine")
        """,
        tmp_path,
    )


def test_first_calls_in_threads_while_another_imports_what_they_look_at(tmp_path):
    """A module that is there by name only is not there yet."""
    run(
        """
        import types, importlib.machinery

        # As multiprocessing.process is while another thread is in the midst of importing it.
        for name in ("multiprocessing.process", "multiprocessing.spawn", "tempfile", "logging"):
            half = types.ModuleType(name)
            half.__spec__ = importlib.machinery.ModuleSpec(name, None)
            half.__spec__._initializing = True
            sys.modules[name] = half
        try:
            assert Parallel(n_jobs=2)([delayed(abs)(-1)] * 3) == [1] * 3
        finally:
            for name in ("multiprocessing.process", "multiprocessing.spawn", "tempfile", "logging"):
                del sys.modules[name]
        print("fine")
        """,
        tmp_path,
    )


def test_one_object_in_two_threads_at_a_time_says_so():
    parallel = Parallel(n_jobs=2)
    inside, done = threading.Event(), threading.Event()

    def tasks():
        inside.set()
        done.wait()
        yield delayed(square)(3)

    def other():
        inside.wait()
        try:
            with pytest.raises(RuntimeError, match="already running"):
                parallel([delayed(square)(1)])
        finally:
            done.set()

    def first():
        assert parallel(tasks()) == [9]

    run_threads(first, other)


def test_a_call_that_needs_another_server_leaves_that_of_a_running_call_alone(tmp_path):
    run(
        """
        def work(i):
            time.sleep(0.01)
            return os.environ.get("PYTHONHASHSEED"), os.getppid()

        def call():
            results.append(set(Parallel(n_jobs=2)([delayed(work)(i) for i in range(60)])))

        results = []
        threads = []
        for seed in ("1", "2", "3"):
            os.environ["PYTHONHASHSEED"] = seed
            threads.append(threading.Thread(target=call))
            threads[-1].start()
            time.sleep(0.2)
        for thread in threads:
            thread.join()
        assert sorted(seed for (seed, _), in results) == ["1", "2", "3"]
        assert len({server for (_, server), in results}) == 3
        print("fine")
        """,
        tmp_path,
    )


@pytest.mark.parametrize("work", ["time.sleep(600)", "None"])
def test_the_program_ends_while_a_daemon_thread_is_in_a_call(tmp_path, work):
    with Program(
        f"""
        def work(i):
            if i == 0:
                os.write(1, b"ready\\n")
            {work}

        def tasks():
            i = 0
            while True:
                yield delayed(work)(i)
                i += 1

        threading.Thread(target=lambda: Parallel(n_jobs=2)(tasks()), daemon=True).start()
        sys.stdin.read()
        time.sleep(0.5)
        """,
        tmp_path,
    ) as program:
        assert program.line() == "ready"
        program.wait()
        assert (program.process.returncode, program.errors()) == (0, "")
        program.assert_nothing_left()


def test_the_program_waits_for_a_thread_that_is_in_a_call(tmp_path):
    lines = run(
        """
        def call():
            print(sum(Parallel(n_jobs=2)(delayed(pow)(i, 2) for i in slowly(20))))
            print("fine")

        def slowly(n):
            for i in range(n):
                time.sleep(0.02)
                yield i

        threading.Thread(target=call).start()
        """,
        tmp_path,
    )
    assert lines == ["2470"]


def test_a_call_at_exit(tmp_path):
    lines = run(
        """
        import atexit

        def call():
            print(Parallel(n_jobs=2)([delayed(pow)(i, 2) for i in range(3)]))
            print("fine")

        atexit.register(call)
        Parallel(n_jobs=2)([delayed(abs)(-1)])
        """,
        tmp_path,
    )
    assert lines == ["[0, 1, 4]"]


def test_descriptors_memory_and_processes_are_the_same_after_300_calls(tmp_path):
    run(
        """
        import gc
        import numpy
        from joblot import _processes

        def usage():
            gc.collect()
            server, workers = _processes._pool.processes()
            found = []
            for pid in (os.getpid(), server, *sorted(workers)):
                status = dict(line.split(":", 1) for line in open(f"/proc/{pid}/status"))
                maps = open(f"/proc/{pid}/maps").read().count("\\n")
                found.append((len(os.listdir(f"/proc/{pid}/fd")), int(status["VmRSS"].split()[0]), maps,
                              int(status["Threads"])))
            return found

        def work(array, i):
            return array[i % 7 :: 7] * 1, "x" * i

        def call(k):
            big = numpy.arange(300_000, dtype=">i4")
            small = numpy.arange(100, dtype=">f8")
            results = Parallel(n_jobs=2)(delayed(work)(big if i % 2 else small, i) for i in range(8))
            assert all(len(text) == i for i, (_, text) in enumerate(results))
            if k % 10 == 0:
                try:
                    Parallel(n_jobs=2)([delayed(divmod)(1, 0)] * 3)
                except ZeroDivisionError:
                    pass
            if k % 10 == 5:
                numbers = Parallel(n_jobs=2)(delayed(lambda x: x + k)(i) for i in range(4))
                assert numbers == [k, k + 1, k + 2, k + 3]

        for k in range(60):
            call(k)
        before = usage()
        for k in range(300):
            call(k)
        after = usage()
        assert len(before) == len(after) == 4
        for (fds, rss, maps, threads), (fds_after, rss_after, maps_after, threads_after) in zip(before, after):
            assert fds_after <= fds + 2, (before, after)
            if "libasan" not in os.environ.get("LD_PRELOAD", ""):  # which keeps what is freed for a while
                assert rss_after < rss + 16_000, (before, after)
            assert maps_after <= maps + 30, (before, after)
            assert threads_after == threads, (before, after)
        print("fine")
        """,
        tmp_path,
    )


def test_nothing_grows_while_workers_die(tmp_path):
    run(
        """
        from joblot import _processes

        def die():
            os.kill(os.getpid(), signal.SIGKILL)

        def call():
            try:
                Parallel(n_jobs=2)([delayed(abs)(-1), delayed(die)()])
            except WorkerDied:
                pass
            if _processes._pool.processes()[1]:
                os.kill(_processes._pool.processes()[1][0], signal.SIGKILL)

        def descriptors():
            assert Parallel(n_jobs=2, batch_size=1)([delayed(time.sleep)(0.02)] * 8) == [None] * 8
            server, workers = _processes._pool.processes()
            assert len(workers) == 2
            return [len(os.listdir(f"/proc/{pid}/fd")) for pid in (os.getpid(), server, *workers)]

        call()
        before = descriptors()
        for _ in range(20):
            call()
        assert descriptors() == before, (before, descriptors())
        print("fine")
        """,
        tmp_path,
    )
