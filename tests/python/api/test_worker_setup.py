"""What workers take over from the parent, at their start and between two calls."""

import json
import os
import subprocess
import sys

import pytest
from kill.programs import Program, run


def test_environment_folder_umask_path_and_arguments(tmp_path):
    run(
        """
        import json

        def look(_):
            umask = os.umask(0)
            os.umask(umask)
            return dict(os.environ), os.getcwd(), umask, list(sys.path), list(sys.argv), os.getenv("CHANGED")

        def check(parallel, own_environ):
            time.sleep(0.02)
            for environ, *rest in parallel([delayed(look)(i) for i in range(20)]):
                for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS",
                             "VECLIB_MAXIMUM_THREADS", "NUMBA_NUM_THREADS", "NUMEXPR_NUM_THREADS", "ENABLE_IPC"):
                    if name not in own_environ:
                        environ.pop(name)
                assert environ == own_environ, set(environ.items()) ^ set(own_environ.items())
                assert rest == list(look(0)[1:]), rest

        with Parallel(n_jobs=2, batch_size=1) as parallel:
            check(parallel, dict(os.environ))
            os.environ["CHANGED"] = "once"
            os.environ["EMPTY"] = ""
            os.environ["WITH_UMLAUT"] = "für"
            check(parallel, dict(os.environ))
            os.environ["CHANGED"] = "twice"
            del os.environ["EMPTY"]
            os.mkdir(os.path.join(here, "elsewhere"))
            os.chdir(os.path.join(here, "elsewhere"))
            os.umask(0o027)
            sys.path.insert(0, "/no/such/folder")
            sys.argv[1:] = ["--option", "value"]
            check(parallel, dict(os.environ))
            del os.environ["CHANGED"]
            check(parallel, dict(os.environ))
        check(Parallel(n_jobs=2), dict(os.environ))
        print("fine")
        """,
        tmp_path,
    )


def test_a_folder_that_is_gone(tmp_path):
    run(
        """
        folder = os.path.join(here, "going")
        os.mkdir(folder)
        os.chdir(folder)
        assert Parallel(n_jobs=2)([delayed(os.getcwd)()]) == [folder]
        os.rmdir(folder)
        assert Parallel(n_jobs=2)([delayed(abs)(-1)]) == [1]
        print("fine")
        """,
        tmp_path,
    )


@pytest.mark.parametrize("name", ["PYTHONHASHSEED", "OMP_NUM_THREADS", "LD_LIBRARY_PATH"])
def test_a_variable_that_counts_at_import_gives_new_workers(tmp_path, name):
    run(
        f"""
        def look():
            time.sleep(0.02)
            return os.getpid(), os.environ.get("{name}"), hash("joblot")

        parallel = Parallel(n_jobs=2, batch_size=1)
        before = set(parallel([delayed(look)()] * 10))
        os.environ["{name}"] = "3"
        after = set(parallel([delayed(look)()] * 10))
        assert not {{pid for pid, *_ in before}} & {{pid for pid, *_ in after}}
        assert {{value for _, value, _ in after}} == {{"3"}}
        if "{name}" == "PYTHONHASHSEED":
            import subprocess
            told = subprocess.run([sys.executable, "-c", "print(hash('joblot'))"], capture_output=True, text=True)
            assert {{found for *_, found in after}} == {{int(told.stdout)}}
        print("fine")
        """,
        tmp_path,
    )


def test_warning_filters_and_logging_levels(tmp_path):
    run(
        """
        import logging
        import warnings

        def warn():
            warnings.warn("old", DeprecationWarning)

        def levels():
            return [logging.getLogger(name).getEffectiveLevel() for name in (None, "mine", "mine.child")]

        with Parallel(n_jobs=2) as parallel:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                parallel([delayed(warn)()] * 4)
            with warnings.catch_warnings():
                warnings.simplefilter("error", DeprecationWarning)
                try:
                    parallel([delayed(warn)()] * 4)
                except DeprecationWarning as error:
                    assert str(error) == "old"
                else:
                    raise AssertionError("no error")
            assert set(map(tuple, parallel([delayed(levels)()] * 4))) == {(30, 30, 30)}
            logging.getLogger("mine").setLevel(5)
            assert set(map(tuple, parallel([delayed(levels)()] * 4))) == {(30, 5, 5)}
            logging.getLogger().setLevel(40)
            logging.getLogger("mine").setLevel(logging.NOTSET)
            assert set(map(tuple, parallel([delayed(levels)()] * 4))) == {(40, 40, 40)}
        print("fine")
        """,
        tmp_path,
    )


def test_proxies_of_a_manager_work_in_tasks(tmp_path):
    run(
        """
        import multiprocessing

        def add(shared, lock, i):
            with lock:
                shared["sum"] = shared.get("sum", 0) + i
            return multiprocessing.current_process().authkey == bytes(shared["key"])

        with multiprocessing.Manager() as manager:
            shared, lock = manager.dict(key=bytes(multiprocessing.current_process().authkey)), manager.Lock()
            assert Parallel(n_jobs=2)([delayed(add)(shared, lock, i) for i in range(20)]) == [True] * 20
            assert shared["sum"] == 190
        print("fine")
        """,
        tmp_path,
    )


@pytest.mark.parametrize("backend", ["loky", "multiprocessing"])
def test_what_tasks_print_arrives_once_and_whole(tmp_path, backend):
    """What a task has printed is there when its call returns, also without a newline at its end."""
    with Program(
        f"""
        def speak(i):
            print(f"<out {{i}} " + "x" * 300 + ">")
            print(f"<err {{i}} " + "y" * 300 + ">", file=sys.stderr)
            print(f"<tail {{i}}", "of two parts>", end="")
            os.write(1, f"<raw {{i}}>".encode())
            print(f"<error tail {{i}}>", end="", file=sys.stderr)
            if i == 7:
                raise LookupError("seven")

        print("<first>")
        sys.stdout.write("<buffered>")  # in the parent's buffer when the server starts
        Parallel(n_jobs=2, backend="{backend}")([delayed(speak)(i) for i in range(6)])
        os.write(1, b"<after the call>")
        try:
            Parallel(n_jobs=2, backend="{backend}")([delayed(speak)(i) for i in (7,)])
        except LookupError:
            os.write(1, b"<after the error>")
        """,
        tmp_path,
    ) as program:
        out = program.wait()
        errors = program.errors()
        assert program.process.returncode == 0
        program.assert_nothing_left()
    for i in (0, 1, 2, 3, 4, 5, 7):
        assert out.count(f"<out {i} " + "x" * 300 + ">\n") == 1
        assert errors.count(f"<err {i} " + "y" * 300 + ">\n") == 1
        assert out.count(f"<tail {i} of two parts>") == 1
        assert out.count(f"<raw {i}>") == 1
        assert errors.count(f"<error tail {i}>") == 1
    assert out.count("<first>") == 1
    assert out.count("<buffered>") == 1
    before, between = out.partition("<after the call>")[0], out.partition("<after the call>")[2]
    assert before.count("<tail") == 6
    assert between.partition("<after the error>")[0].count("<tail 7") == 1


def test_standard_input_is_empty_in_tasks(tmp_path):
    with Program(
        """
        def read():
            return sys.stdin.read(), os.read(0, 10), os.readlink("/proc/self/fd/0")

        Parallel(n_jobs=2)([delayed(abs)(-1)])
        assert set(Parallel(n_jobs=2)([delayed(read)()] * 4)) == {("", b"", "/dev/null")}
        """,
        tmp_path,
        how="stdin",
    ) as program:
        program.wait()
        assert (program.process.returncode, program.errors()) == (0, "")


# Of a /proc/.../status: what is ignored and blocked. The C library's own signals, 32 and 33, are ignored in whatever
# glibc's posix_spawn starts.
MASKS = """def masks(text):
            lines = [line.split() for line in text.splitlines() if line.startswith(("SigIgn", "SigBlk"))]
            return {name: int(mask, 16) & ~(3 << 31) for name, mask in lines}"""


def test_programs_that_tasks_start_have_default_signals(tmp_path):
    """As those that any Python program starts."""
    run(
        """
        import subprocess
        MASKS

        def ignored_and_blocked(_):
            text = subprocess.run(["cat", "/proc/self/status"], capture_output=True, text=True).stdout
            return masks(text)

        def own_handlers(_):
            return signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGPIPE), signal.pthread_sigmask(0, [])

        def interrupt_it(_):
            process = subprocess.Popen(["sleep", "600"])
            process.send_signal(signal.SIGINT)
            return process.wait()

        def pipe(_):
            return subprocess.run("set -o pipefail; yes | head -n 1", shell=True, executable="/bin/bash",
                                  capture_output=True).returncode

        expected = ignored_and_blocked(0)
        parallel = Parallel(n_jobs=2)
        assert parallel([delayed(ignored_and_blocked)(i) for i in range(4)]) == [expected] * 4
        assert parallel([delayed(own_handlers)(i) for i in range(4)]) == [own_handlers(0)] * 4
        assert parallel([delayed(interrupt_it)(i) for i in range(2)]) == [-signal.SIGINT] * 2
        assert parallel([delayed(pipe)(i) for i in range(2)]) == [128 + signal.SIGPIPE] * 2
        print("fine")
        """.replace("MASKS", MASKS),
        tmp_path,
    )


def test_a_program_with_odd_signals_has_normal_workers(tmp_path):
    """The server starts with default dispositions and an empty mask, whatever its parent has."""
    run(
        """
        MASKS

        def look(_):
            return masks(open("/proc/self/status").read())

        normal = look(0)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2, signal.SIGCHLD, signal.SIGALRM])
        assert Parallel(n_jobs=2)([delayed(look)(i) for i in range(4)]) == [normal] * 4
        print("fine")
        """.replace("MASKS", MASKS),
        tmp_path,
    )


def test_workers_are_reused(tmp_path):
    run(
        """
        def where():
            time.sleep(0.01)
            return os.getpid()

        seen = set()
        for _ in range(10):
            seen |= set(Parallel(n_jobs=2, batch_size=1)([delayed(where)()] * 6))
        with Parallel(n_jobs=2, batch_size=1) as parallel:
            for _ in range(10):
                seen |= set(parallel([delayed(where)()] * 6))
        assert len(seen) == 2, seen
        print("fine")
        """,
        tmp_path,
    )


def test_an_initializer_is_called_once_in_each_worker(tmp_path):
    run(
        """
        def start(name):
            with open(os.path.join(here, f"{name}-{os.getpid()}"), "a") as file:
                file.write("x")

        def where():
            time.sleep(0.01)
            return os.getpid()

        def counts(name):
            found = [file for file in os.listdir(here) if file.startswith(f"{name}-")]
            return {int(file.partition("-")[2]): os.path.getsize(os.path.join(here, file)) for file in found}

        parallel = Parallel(n_jobs=2, batch_size=1, initializer=start, initargs=("one",))
        pids = set()
        for _ in range(5):
            pids |= set(parallel([delayed(where)()] * 6))
        assert counts("one") == dict.fromkeys(pids, 1), counts("one")
        Parallel(n_jobs=2, initializer=start, initargs=("two",))([delayed(where)()] * 6)
        assert set(counts("two").values()) == {1}
        print("fine")
        """,
        tmp_path,
    )


def test_what_an_initializer_did_is_not_there_for_calls_without_it(tmp_path):
    run(
        """
        import threading

        def start(name):
            import builtins
            builtins.marks = getattr(builtins, "marks", ()) + (name,)

        def marks_and_pid():
            import builtins
            time.sleep(0.01)
            return getattr(builtins, "marks", ()), os.getpid()

        def call(*names, n=6):
            settings = {"initializer": start, "initargs": names} if names else {}
            found = Parallel(n_jobs=2, batch_size=1, **settings)([delayed(marks_and_pid)()] * n)
            assert {marks for marks, _ in found} == {names}, (names, found)
            return {pid for _, pid in found}

        plain = call()
        one = call("one")
        assert call("one") == one, "the same initializer: the same workers"
        two = call("two")
        assert not one & two
        assert not call() & (one | two), "no initializer: workers that had none"
        assert call() == call()

        def calls(name):
            try:
                for _ in range(5):
                    call(*name)
            except BaseException as error:
                failed.append(error)

        failed = []
        threads = [threading.Thread(target=calls, args=(name,)) for name in ((), ("one",), ("two",))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failed, failed
        print("fine")
        """,
        tmp_path,
    )


def test_an_initializer_that_raises_is_an_error_of_the_call(tmp_path):
    run(
        """
        def start():
            raise LookupError("no data base")

        for _ in range(3):
            try:
                Parallel(n_jobs=2, initializer=start)([delayed(abs)(-1)] * 6)
            except LookupError as error:
                assert str(error) == "no data base"
                assert "in start" in str(error.__cause__)
            else:
                raise AssertionError("the tasks ran as if nothing had happened")
            assert Parallel(n_jobs=2)([delayed(abs)(-1)] * 6) == [1] * 6
        print("fine")
        """,
        tmp_path,
    )


def test_the_interpreter_flags_are_those_of_the_parent(tmp_path):
    run(
        """
        import subprocess

        if len(sys.argv) == 1:
            flags = ["-X", "dev", "-O", "-B", "-W", "ignore::ResourceWarning"]
            sys.exit(subprocess.run([sys.executable, *flags, sys.argv[0], "again"]).returncode)

        def look(_):
            return tuple(sys.flags), dict(sys._xoptions), __debug__

        if Parallel(n_jobs=2)([delayed(look)(i) for i in range(4)]) != [look(0)] * 4:
            sys.exit("they differ")
        print("fine")
        """,
        tmp_path,
    )


def test_threads_of_numerical_libraries_are_as_the_environment_asks(tmp_path):
    """Also of one that the server loaded, which it does with one thread."""
    run(
        """
        import numpy
        import joblot, threadpoolctl

        def threads(array):
            pools = threadpoolctl.threadpool_info()
            return [pool["num_threads"] for pool in pools if pool["user_api"] == "blas"]

        array = numpy.ones(3)
        assert threads(array), "NumPy without a BLAS that threadpoolctl knows"
        for asked, expected in ((None, max(joblot.cpu_count() // 2, 1)), ("3", 3)):
            if asked is not None:
                os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = asked
            found = Parallel(n_jobs=2)(delayed(threads)(array) for _ in range(4))
            assert all(set(pools) <= {expected} for pools in found), (asked, found)
        print("fine")
        """,
        tmp_path,
    )


def test_warning_filters_with_patterns_work_and_do_not_load_re(tmp_path):
    run(
        """
        import os
        import sys
        import warnings

        def raised(text):
            import warnings

            try:
                warnings.warn(text, UserWarning)
            except UserWarning as error:
                return str(error)

        with warnings.catch_warnings():
            warnings.filterwarnings("ignore")
            warnings.filterwarnings("error", message="old .*thing")
            warnings.filterwarnings("error", message="other", module="nowhere")
            assert Parallel(n_jobs=2)(delayed(raised)(t) for t in ("OLD big thing", "new", "other")) == [
                "OLD big thing", None, None]

        def patterns():
            import warnings

            found = [f[1] for f in warnings.filters if f[0] == "error" and f[1] is not None]
            return [(pattern.pattern, pattern.flags, repr(pattern)) for pattern in found]

        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="old .*thing")
            seen = Parallel(n_jobs=2)([delayed(patterns)()] * 2)
            assert all(("old .*thing", 34, "re.compile('old .*thing', 34)") in one for one in seen), seen
        print("fine")
        """,
        tmp_path,
    )
    # Importable functions only: a function by value brings cloudpickle, which imports re.
    code = """
import sys, warnings
warnings.filterwarnings("error", message="old .*thing")
from joblot import Parallel, delayed
loaded = Parallel(n_jobs=2)([delayed(eval)("'re' in __import__('sys').modules")] * 2)
assert loaded == [False, False], loaded
"""
    subprocess.run([sys.executable, "-S", "-c", f"import sys; sys.path[:] = {sys.path!r}\n{code}"], check=True)


# Who calls the tasks in the two ways of having worker processes.
BACKENDS = ("loky", "multiprocessing")


@pytest.mark.parametrize("backend", BACKENDS)
def test_threads_of_blas_and_of_openmp_each_as_asked(tmp_path, backend):
    """Of libraries that were loaded before the fork, in a task of an earlier call, or now; and when it changes."""
    pytest.importorskip("scipy", reason="its own BLAS is the library that only tasks load")
    run(
        f"""
        import ctypes
        import numpy
        import joblot, threadpoolctl

        openmp = ctypes.CDLL("libgomp.so.1")
        openmp.omp_get_max_threads()

        def threads(array):
            import scipy.linalg
            ctypes.CDLL("libgomp.so.1").omp_get_max_threads()
            found = dict(blas=set(), openmp=set())
            for pool in threadpoolctl.threadpool_info():
                found[pool["user_api"]].add(pool["num_threads"])
            return found

        def ask():
            return Parallel(n_jobs=2, backend="{backend}")(delayed(threads)(numpy.ones(3)) for _ in range(4))

        share = max(joblot.cpu_count() // 2, 1)
        assert ask() == [dict(blas={{share}}, openmp={{share}})] * 4, ask()
        os.environ.update(OMP_NUM_THREADS="3", OPENBLAS_NUM_THREADS="2")
        assert ask() == [dict(blas={{2}}, openmp={{3}})] * 4, ask()
        del os.environ["OMP_NUM_THREADS"]
        assert ask() == [dict(blas={{2}}, openmp={{share}})] * 4, ask()
        del os.environ["OPENBLAS_NUM_THREADS"]
        assert ask() == [dict(blas={{share}}, openmp={{share}})] * 4, ask()
        if "{backend}" == "loky":
            for n in (4, 1, 2):
                with parallel_config(backend="loky", inner_max_num_threads=n):
                    results = Parallel(n_jobs=2)(delayed(threads)(numpy.ones(3)) for _ in range(4))
                    assert results == [dict(blas={{n}}, openmp={{n}})] * 4, (n, results)
        print("fine")
        """,
        tmp_path,
    )


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("imported", ["in the parent", "by tasks"])
def test_what_tasks_share_through_multiprocessing_is_not_reported_as_leaked(tmp_path, backend, imported):
    """The resource tracker is one for all: made here, removed there, nothing to complain of."""
    run(
        f"""
        import multiprocessing
        if "{imported}" == "in the parent":
            from multiprocessing import shared_memory

        def make(i):
            from multiprocessing import shared_memory
            memory = shared_memory.SharedMemory(create=True, size=100)
            memory.buf[0] = i
            memory.close()
            return memory.name

        def take(name):
            from multiprocessing import shared_memory
            memory = shared_memory.SharedMemory(name)
            value = memory.buf[0]
            memory.close()
            memory.unlink()
            return value

        def locks(i):
            with multiprocessing.Semaphore(2), multiprocessing.get_context("spawn").Lock():
                return take(make(i))

        def call(function, items):
            return Parallel(n_jobs=2, backend="{backend}")(delayed(function)(item) for item in items)

        assert call(locks, range(6)) == list(range(6))
        if "{imported}" == "in the parent":
            assert call(take, call(make, range(6))) == list(range(6))
            assert [take(name) for name in call(make, range(6))] == list(range(6))
            assert call(take, [make(i) for i in range(6)]) == list(range(6))
        print("fine")
        """,
        tmp_path,
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_exit_handlers_of_workers_run_and_are_not_waited_for_without_end(tmp_path, backend):
    run(
        f"""
        import atexit

        def leave_mark(name):
            open(os.path.join(here, f"{{name}}-{{os.getpid()}}"), "w").close()

        def hang():
            leave_mark("hanging")
            time.sleep(600)

        def register(i):
            time.sleep(0.02)
            if i == "hang":
                atexit.register(hang)
            atexit.register(leave_mark, "mark")
            thread = threading.Thread(target=lambda: (time.sleep(0.1), leave_mark("thread")))
            thread.start()
            return os.getpid()

        def marks(name):
            return {{int(file.partition("-")[2]) for file in os.listdir(here) if file.startswith(name + "-")}}

        import joblot._processes
        for what in (0, "hang"):
            with Parallel(n_jobs=2, backend="{backend}", batch_size=1) as parallel:
                pids = set(parallel([delayed(register)(what)] * 8))
            joblot._processes.shutdown()
            assert len(pids) == 2
            assert pids <= marks("mark"), (pids, marks("mark"))
            assert pids <= marks("thread"), (pids, marks("thread"))
        assert marks("hanging") == pids
        print("fine")
        """,
        tmp_path,
    )


PROGRAM_TO_COVER = """
from joblot import Parallel, delayed
from covered import work

print(Parallel(n_jobs=2, backend=BACKEND, batch_size=1)(delayed(work)(i) for i in range(4)))
"""

COVERED = """
import time

def work(i):
    time.sleep(0.05)
    if i % 2:
        value = "odd"
    else:
        value = "even"
    return value
"""


@pytest.mark.parametrize("backend", BACKENDS)
def test_coverage_sees_the_lines_that_run_in_workers(tmp_path, backend):
    """As its documentation says for processes: started by COVERAGE_PROCESS_START in each, combined at the end."""
    pytest.importorskip("coverage", reason="this is about coverage.py")
    (tmp_path / "covered.py").write_text(COVERED)
    (tmp_path / "program.py").write_text(PROGRAM_TO_COVER.replace("BACKEND", repr(backend)))
    (tmp_path / "sitecustomize.py").write_text("import coverage\ncoverage.process_startup()\n")
    (tmp_path / ".coveragerc").write_text("[run]\nparallel = true\nsource = .\n")
    environ = {
        **os.environ,
        "COVERAGE_PROCESS_START": str(tmp_path / ".coveragerc"),
        "COVERAGE_FILE": str(tmp_path / ".coverage"),
        "PYTHONPATH": str(tmp_path),
    }

    def python(*arguments):
        done = subprocess.run([sys.executable, *arguments], cwd=tmp_path, env=environ, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        return done.stdout

    assert python("program.py") == "['even', 'odd', 'even', 'odd']\n"
    del environ["COVERAGE_PROCESS_START"]
    python("-m", "coverage", "combine", "-q")
    python("-m", "coverage", "json", "-q", "-o", "report.json")
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["files"]["covered.py"]["missing_lines"] == []
    assert report["files"]["program.py"]["missing_lines"] == []
