"""Parents of all kinds: whatever process or thread a call comes from, it works, and nothing is left of it."""

import pytest
from kill.programs import Program, run

BACKENDS = ("loky", "multiprocessing")
# What each program here has: a function, and a call that checks itself.
HEAD = """
        import multiprocessing

        def square(i):
            return i * i

        def call(n=20, **settings):
            settings = dict(n_jobs=2, backend="BACKEND", **settings)
            assert Parallel(**settings)(delayed(square)(i) for i in range(n)) == [i * i for i in range(n)]
            return os.getpid()
"""


def program(text, backend):
    return HEAD.replace("BACKEND", backend) + text


@pytest.fixture(params=BACKENDS)
def backend(request):
    return request.param


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("before", [False, True])
def test_a_child_of_multiprocessing(tmp_path, backend, method, before):
    """Also one of a parent that has a pool itself."""
    run(
        program(
            f"""
        if __name__ == "__main__":
            if {before}:
                call()
            context = multiprocessing.get_context("{method}")
            children = [context.Process(target=call) for _ in range(2)]
            for child in children:
                child.start()
            if {before}:
                call()
            for child in children:
                child.join()
                assert child.exitcode == 0, child.exitcode
            with context.Pool(1) as pool:  # its children are daemons, which may have none: a plain loop, and a warning
                import warnings
                assert pool.apply(call) != os.getpid()
            if {before}:
                call()
            print("fine")
            """,
            backend,
        ),
        tmp_path,
        environ={"PYTHONWARNINGS": "ignore"},
    )


def test_coroutines(tmp_path, backend):
    """Straight in one, which stops the loop for as long as it takes; and in threads, several at once."""
    run(
        program(
            """
        import asyncio

        def inner(i):
            return asyncio.run(echo(i))

        async def echo(i):
            await asyncio.sleep(0.001)
            return i

        async def main():
            call()
            loop = asyncio.get_running_loop()
            ticks = 0

            async def tick():
                nonlocal ticks
                while True:
                    ticks += 1
                    await asyncio.sleep(0.001)

            ticking = loop.create_task(tick())
            for _ in range(3):
                await asyncio.gather(*(loop.run_in_executor(None, call) for _ in range(4)))
            assert ticks > 1
            ticking.cancel()
            results = Parallel(n_jobs=2, backend="BACKEND")(delayed(inner)(i) for i in range(6))
            assert results == list(range(6))

        asyncio.run(main())
        call()
        print("fine")
            """.replace("BACKEND", backend),
            backend,
        ),
        tmp_path,
    )


def test_a_block_outlives_the_thread_that_opened_it(tmp_path, backend):
    run(
        program(
            """
        parallel = Parallel(n_jobs=2, backend="BACKEND")

        def use():
            assert parallel(delayed(square)(i) for i in range(10)) == [i * i for i in range(10)]
            pids.append(sorted(set(parallel([delayed(os.getppid)()] * 4))))

        pids = []
        for work in (parallel.__enter__, use, use, call):
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
            time.sleep(0.05)
        use()
        assert pids[0] == pids[1] == pids[2] and len(pids[0]) == 1, pids
        parallel.__exit__(None, None, None)
        print("fine")
            """.replace("BACKEND", backend),
            backend,
        ),
        tmp_path,
    )


def test_eight_threads_at_once(tmp_path, backend):
    run(
        program(
            """
        import numpy

        def total(array, i):
            return float(array.sum()) + i

        failed = []

        def work(k):
            try:
                array = numpy.full(200_000, float(k), ">f8")
                for n in (1, 20, 200):
                    call(n)
                    found = Parallel(n_jobs=2, backend="BACKEND")(delayed(total)(array, i) for i in range(6))
                    assert found == [200_000.0 * k + i for i in range(6)], found
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failed, failed
        call()
        print("fine")
            """.replace("BACKEND", backend),
            backend,
        ),
        tmp_path,
    )


def test_threads_of_both_kinds_of_pool_at_once(tmp_path):
    """Forks of the program while other threads are in the midst of calls on the pool that all share."""
    run(
        program(
            """
        failed = []

        def work(backend):
            try:
                for n in (5, 50, 500):
                    results = Parallel(n_jobs=2, backend=backend)(delayed(square)(i) for i in range(n))
                    assert results == [i * i for i in range(n)]
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=work, args=(backend,))
                   for backend in ("loky", "multiprocessing", "threading") * 3]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failed, failed
        print("fine")
            """,
            "loky",
        ),
        tmp_path,
    )


def test_inside_a_generator(tmp_path, backend):
    """Between its steps, in a block that stays open meanwhile, and when it is dropped half way."""
    run(
        program(
            """
        def steps(n):
            with Parallel(n_jobs=2, backend="BACKEND") as parallel:
                for k in range(n):
                    yield sum(parallel(delayed(square)(i) for i in range(k)))
                    call(3)

        expected = [sum(i * i for i in range(k)) for k in range(6)]
        assert list(steps(6)) == expected
        first, second = steps(6), steps(6)
        assert [next(first), next(second), next(first), next(second)] == [0, 0, 0, 0]
        first.close()
        del second
        call()
        found = Parallel(n_jobs=2, backend="BACKEND")(delayed(abs)(-value) for value in steps(6))
        assert found == expected
        print("fine")
            """.replace("BACKEND", backend),
            backend,
        ),
        tmp_path,
    )


@pytest.mark.parametrize("outer", ["loky", "multiprocessing", "threading"])
def test_three_deep(tmp_path, outer):
    """As the defaults have it, then with every level asked for by name, where that runs as a plain loop or not."""
    run(
        """
        import warnings

        def level(names, path):
            if not names:
                return [(*path, os.getpid())]
            results = Parallel(n_jobs=2, backend=names[0])(
                delayed(level)(names[1:], (*path, i)) for i in range(2))
            return [item for result in results for item in result]

        if __name__ == "__main__":
            expected = [(i, j, k) for i in range(2) for j in range(2) for k in range(2)]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                for second in (None, "loky", "multiprocessing", "threading"):
                    for third in (None, "loky", "multiprocessing", "threading"):
                        found = level(("OUTER", second, third), ())
                        assert [path for *path, _ in found] == [list(path) for path in expected], (second, third)
                        own = os.getpid() in {pid for *_, pid in found}  # no processes below threads
                        assert own == ("OUTER" == "threading"), (second, third, found)
            print("fine")
        """.replace("OUTER", outer),
        tmp_path,
        limit=100.0,
    )


def test_a_fork_in_another_thread_while_calls_run(tmp_path, backend):
    """Both sides go on."""
    run(
        program(
            """
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # of Python 3.12 on: a fork in a program with threads
        codes = []

        def fork():
            for _ in range(5):
                pid = os.fork()
                if pid == 0:
                    try:
                        call()
                        os._exit(7)
                    finally:
                        os._exit(1)
                codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

        call()  # a module that another thread imports at the fork stays locked in the child: CPython's own
        thread = threading.Thread(target=fork)
        thread.start()
        while thread.is_alive():
            call(200)
        thread.join()
        assert codes == [7] * 5, codes
        print("fine")
            """,
            backend,
        ),
        tmp_path,
    )


def test_a_parent_that_calls_exec_in_the_midst_of_a_call(tmp_path, backend):
    with Program(
        program(
            """
        def busy(i):
            os.write(1, b"busy\\n")
            time.sleep(600)

        def replace():
            ready.wait()
            os.execv(sys.executable, [sys.executable, "-c", "print('other', flush=True); import time; time.sleep(600)"])

        ready = threading.Event()
        threading.Thread(target=replace).start()

        def tasks():
            for i in range(4):
                yield delayed(busy)(i)
            time.sleep(0.5)
            ready.set()
            time.sleep(600)

        Parallel(n_jobs=2, backend="BACKEND", pre_dispatch="all")(tasks())
            """.replace("BACKEND", backend),
            backend,
        ),
        tmp_path,
    ) as running:
        while running.line() != "other":
            pass
        running.wait_for(lambda processes: len(processes) == 1)
        assert running.errors() == ""
        running.kill()
        running.assert_nothing_left()


@pytest.mark.parametrize("how", ["signal.SIG_IGN", "reap"])
def test_a_parent_that_ignores_its_children_or_reaps_all(tmp_path, backend, how):
    """Of the end of the server it hears all the same, and of the worker's as well."""
    run(
        program(
            f"""
        def reap(*_):
            try:
                os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                pass

        signal.signal(signal.SIGCHLD, {how})

        def die(i):
            os.kill(os.getpid(), signal.SIGKILL)

        for _ in range(3):
            call()
            try:
                Parallel(n_jobs=2, backend="{backend}")([delayed(die)(0)])
            except WorkerDied as error:
                assert error.signal == signal.SIGKILL, error
            else:
                raise AssertionError("no error")
        from joblot import _processes
        if "{backend}" == "loky":
            os.kill(_processes._pool.processes()[0], signal.SIGKILL)
        call()
        _processes.shutdown()
        call()
        print("fine")
            """,
            backend,
        ),
        tmp_path,
    )


def test_a_parent_that_blocks_signals(tmp_path, backend):
    """Tasks have them open, and what they start."""
    run(
        program(
            """
        import subprocess

        def alarm(i):
            signal.signal(signal.SIGALRM, lambda *_: None)
            signal.setitimer(signal.ITIMER_REAL, 0.01)
            signal.pause()
            done = subprocess.run(["sh", "-c", "kill -TERM $$"])
            return i, signal.pthread_sigmask(signal.SIG_BLOCK, []), done.returncode

        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        call()
        found = Parallel(n_jobs=2, backend="BACKEND")(delayed(alarm)(i) for i in range(4))
        assert found == [(i, set(), -signal.SIGTERM) for i in range(4)], found
        print("fine")
            """.replace("BACKEND", backend),
            backend,
        ),
        tmp_path,
    )


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1), (1, 2), (0, 2), (0, 1, 2)])
def test_a_parent_without_standard_descriptors(tmp_path, backend, closed):
    """As a daemon is that closed them. Those that are open are not written to by the engine."""
    names = ("stdin", "stdout", "stderr")
    with Program(
        program(
            f"""
        def talk(i):
            if sys.stdout is not None:
                try:
                    print("text", flush=True)
                except OSError:
                    pass
            return square(i)

        mark = os.path.join(here, "mark")
        for number in {closed!r}:
            os.close(number)
            {"; ".join(f"sys.{names[number]} = None" for number in closed)}
        try:
            call()
            call(100)
            found = Parallel(n_jobs=2, backend="{backend}")(delayed(talk)(i) for i in range(4))
            assert found == [0, 1, 4, 9], found
            big = bytes(3 << 20)
            assert Parallel(n_jobs=2, backend="{backend}")(delayed(len)(big) for i in range(4)) == [len(big)] * 4
            if 0 in {closed!r}:
                assert Parallel(n_jobs=2, backend="{backend}")([delayed(os.read)(0, 10)]) == [b""]
            text = "fine"
        except BaseException as error:
            import traceback
            text = traceback.format_exc()
        with open(mark, "w") as file:
            file.write(text)
            """,
            backend,
        ),
        tmp_path,
    ) as running:
        out = running.wait()
        assert running.process.returncode == 0, running.errors()
        assert (tmp_path / "mark").read_text() == "fine"
        assert running.errors() == ""
        assert out == ("" if 1 in closed else "text\n" * 4)
        running.assert_nothing_left()


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_parent_that_was_started_without_standard_descriptors(tmp_path, backend, closed):
    """Its first files have their numbers, and stay what they are."""
    script = tmp_path / "inner.py"
    script.write_text(
        f"""
import os
here = os.path.dirname(os.path.abspath(__file__))
first = open(os.path.join(here, "first"), "w+")
from joblot import Parallel, delayed
assert Parallel(n_jobs=2, backend="{backend}")(delayed(abs)(-i) for i in range(20)) == list(range(20))
big = bytes(3 << 20)
assert Parallel(n_jobs=2, backend="{backend}")(delayed(len)(big) for i in range(4)) == [len(big)] * 4
first.write("fine")
first.close()
"""
    )
    with Program(
        f"""
        import subprocess
        code = subprocess.run(["sh", "-c", 'exec "$0" "$1" {closed}', sys.executable, {str(script)!r}]).returncode
        assert code == 0, code
        print("fine")
        """,
        tmp_path,
    ) as running:
        running.ends_well()
    assert (tmp_path / "first").read_text() == "fine"


ENDS = {
    "sys.exit in another thread": ("threading.Thread(target=sys.exit, args=(3,)).start(); go_on()", 0),
    "a daemon thread in a call": ("threading.Thread(target=go_on, daemon=True).start(); time.sleep(0.2)", 0),
    "daemon threads in calls and exit": (
        "[threading.Thread(target=go_on, daemon=True).start() for _ in range(3)]; time.sleep(0.2); sys.exit(3)",
        3,
    ),
    "sys.exit in the input": ("Parallel(n_jobs=2, backend=backend)(leaving())", 3),
    "a daemon thread in a block": (
        "threading.Thread(target=in_block, daemon=True).start(); time.sleep(0.2)",
        0,
    ),
    "in a block that is never left": (
        "parallel = Parallel(n_jobs=2, backend=backend).__enter__(); parallel(delayed(square)(i) for i in range(9))",
        0,
    ),
}


@pytest.mark.parametrize("how", ENDS)
def test_the_interpreter_ends_in_the_midst_of_it(tmp_path, backend, how):
    text, code = ENDS[how]
    with Program(
        program(
            f"""
        backend = "{backend}"

        def slow(i):
            time.sleep(0.01)
            return i

        def go_on(parallel=None):
            parallel = parallel or Parallel(n_jobs=2, backend=backend)
            end = time.monotonic() + 1
            while time.monotonic() < end:
                parallel(delayed(slow)(i) for i in range(10))

        def in_block():
            with Parallel(n_jobs=2, backend=backend) as parallel:
                go_on(parallel)

        def leaving():
            for i in range(10):
                yield delayed(slow)(i)
            sys.exit(3)

        {text}
            """,
            backend,
        ),
        tmp_path,
    ) as running:
        out = running.wait()
        assert (running.process.returncode, out, running.errors()) == (code, "", "")
        running.assert_nothing_left()
