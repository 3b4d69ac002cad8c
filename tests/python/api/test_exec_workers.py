"""Workers that are exec'd, since the server cannot fork safely: it has threads, or cannot count them."""

import os
import shutil
import subprocess
import time

import pytest
from kill.programs import Program

# A package of a name that the server imports for all workers, which leaves a thread behind.
THREADED = """
import threading, time
threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()

class Model:
    def __init__(self, x):
        self.x = x
"""
WARNING = "UserWarning: joblot starts each worker process anew, which takes longer than to fork it: the server of "


@pytest.fixture
def threaded(tmp_path):
    """The environment of a program that has such a package."""
    (tmp_path / "lib" / "sklearn").mkdir(parents=True)
    (tmp_path / "lib" / "sklearn" / "__init__.py").write_text(THREADED)
    return {"PYTHONPATH": str(tmp_path / "lib")}


def check(program, reason):
    lines = program.wait().splitlines()
    errors = program.errors()
    assert (program.process.returncode, lines[-1:]) == (0, ["fine"]), errors
    assert errors.count(WARNING) == 1 and reason in errors, errors
    assert errors.count("\n") == 2, errors  # the warning, and the line that it points at
    program.assert_nothing_left()


TASKS = """
        import numpy

        def work(model, i):
            return model.x + i, os.getpid(), os.getppid()

        def total(array, i):
            array[0, 0] = i
            return array.dtype.str, array.strides, array.sum()

        def die(model):
            os.kill(os.getpid(), signal.SIGKILL)

        def setting(i):
            return os.getcwd(), os.environ.get("SET_LATER"), sys.argv, os.getpgid(0) == os.getpid()

        with Parallel(n_jobs=2, batch_size=1) as parallel:
            results = parallel(delayed(work)(MODEL, i) for i in range(20))
            assert [value for value, *_ in results] == list(range(3, 23))
            (server,) = {parent for *_, parent in results}
            pids = {pid for _, pid, _ in results}
            assert len(pids) == 2, pids
            array = numpy.zeros((300, 1000), ">f8").T[::-1]
            found = parallel(delayed(total)(array, i) for i in range(6))
            assert found == [(">f8", array.strides, i) for i in range(6)], found
            results = parallel(delayed(work)(MODEL, i) for i in range(20))
            assert {pid for _, pid, _ in results} == pids
            try:
                parallel([delayed(die)(MODEL)])
            except WorkerDied as error:
                assert error.signal == signal.SIGKILL and error.peak_memory > 1 << 20, error
                assert error.pid in pids
            results = parallel(delayed(work)(MODEL, i) for i in range(20))
            assert {parent for *_, parent in results} == {server}
            os.environ["SET_LATER"] = "yes"
            assert parallel([delayed(setting)(0)] * 4) == [(os.getcwd(), "yes", sys.argv, True)] * 4
        print("fine")
"""


def test_a_package_that_leaves_a_thread_in_the_server(tmp_path, threaded):
    text = "        import sklearn\n" + TASKS.replace("MODEL", "sklearn.Model(3)")
    with Program(text, tmp_path, environ=threaded) as program:
        check(program, "worker processes has 2 threads")


# There is another /proc in this mount namespace: an empty one.
WITHOUT_PROC = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /proc && exec "$@"', "sh"]


def can_hide_proc():
    if os.getuid() != 0 or shutil.which("unshare") is None:
        return False
    return subprocess.run([*WITHOUT_PROC, "true"], capture_output=True).returncode == 0


class WithoutProc(Program):
    def start(self, command, environ, feed):
        super().start([*WITHOUT_PROC, *command], environ, feed)


@pytest.mark.skipif(not can_hide_proc(), reason="mounting over /proc needs root and mount namespaces")
def test_no_proc(tmp_path):
    text = """
        class Model:
            def __init__(self, x):
                self.x = x
    """ + TASKS.replace("MODEL", "Model(3)")
    with WithoutProc(text, tmp_path) as program:
        check(program, "worker processes cannot count its threads (No such file or directory: is /proc mounted?)")


@pytest.mark.skipif(not can_hide_proc(), reason="mounting over /proc needs root and mount namespaces")
def test_no_proc_and_forked_servers(tmp_path):
    """They have one thread, since a fork has, and workers that were exec'd would not see their globals."""
    text = """
        table = {"lock": threading.Lock(), "x": 3}

        def look(i):
            return table["x"] + i

        assert Parallel(n_jobs=2, backend="multiprocessing")(delayed(look)(i) for i in range(6)) == list(range(3, 9))
        print("fine")
    """
    with WithoutProc(text, tmp_path) as program:
        program.ends_well()


@pytest.mark.parametrize("victim", ["parent", "server"])
def test_such_workers_go_with_their_server_and_with_the_parent(tmp_path, threaded, victim):
    text = """
        import sklearn, warnings
        warnings.simplefilter("ignore")

        def work(model):
            print(os.getppid(), flush=True)
            sorted(range(10**8), key=lambda x: -x)

        Parallel(n_jobs=2)([delayed(work)(sklearn.Model(3))] * 2)
    """
    with Program(text, tmp_path, environ=threaded) as program:
        server = int(program.line())
        if victim == "parent":
            program.kill()
        else:
            os.kill(server, 9)
            program.wait()
            assert "WorkerDied" in program.errors()
        program.assert_nothing_left()


@pytest.mark.parametrize("seconds", [0.02, 0.06, 0.1, 0.14, 0.2, 0.3])
def test_the_parent_is_killed_while_such_workers_start(tmp_path, threaded, seconds):
    text = """
        import sklearn

        def work(model):
            time.sleep(600)

        print("now", flush=True)
        Parallel(n_jobs=2)([delayed(work)(sklearn.Model(3))] * 2)
    """
    with Program(text, tmp_path, environ=threaded) as program:
        assert program.line() == "now"
        time.sleep(seconds)
        program.kill()
        program.assert_nothing_left()


def test_programs_that_tasks_start_get_nothing_of_the_engine(tmp_path, threaded):
    with Program(
        """
        import sklearn, subprocess, warnings
        warnings.simplefilter("ignore")

        def look(model):
            names = subprocess.run(["ls", "/proc/self/fd"], capture_output=True, text=True, close_fds=False).stdout
            return sorted(map(int, names.split()))

        for found in Parallel(n_jobs=2)([delayed(look)(sklearn.Model(3))] * 4):
            assert len(found) == 4 and found[:3] == [0, 1, 2], found  # and the one that ls opens
        print("fine")
        """,
        tmp_path,
        environ=threaded,
    ) as program:
        program.ends_well()


def test_a_worker_that_cannot_be_exec_d(tmp_path, threaded):
    """The interpreter goes away meanwhile: an error that says so, and no hang."""
    with Program(
        """
        import sklearn, warnings, multiprocessing.spawn
        warnings.simplefilter("ignore")
        interpreter = os.path.join(here, "interpreter")
        os.symlink(sys.executable, interpreter)
        multiprocessing.spawn.set_executable(interpreter)
        os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)  # of its virtual environment the link knows nothing

        def work(model):
            return model.x

        def die(model):
            os.kill(os.getpid(), signal.SIGKILL)

        model = sklearn.Model(3)
        assert Parallel(n_jobs=2)([delayed(work)(model)] * 2) == [3, 3]
        os.remove(interpreter)
        for retries in (0, 5):
            try:
                Parallel(n_jobs=2, retries=retries)([delayed(die)(model)] * 4)
            except WorkerDied as error:
                text = str(error)
        assert "workers died one after the other before they could take a task" in text, text
        print("fine")
        """,
        tmp_path,
        environ=threaded,
    ) as program:
        lines = program.wait().splitlines()
        assert (program.process.returncode, lines[-1:]) == (0, ["fine"]), program.errors()
        program.assert_nothing_left()
