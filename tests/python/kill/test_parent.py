"""The parent is killed, or goes in another way: server, workers and what they started end, and nothing is left."""

import signal

import pytest

from .programs import BACKENDS, Program

# What a worker may be busy with, as a task that runs for minutes; each tells first that it has started.
BUSY = {
    "in Python": """
        def work():
            ready()
            while True:
                pass
    """,
    "asleep": """
        def work():
            ready()
            time.sleep(600)
    """,
    "asleep in C, with the GIL": """
        import ctypes

        def work():
            libc = ctypes.PyDLL(None)
            ready()
            libc.sleep(600)
    """,
    "in a regular expression": """
        import re

        def work():
            ready()
            re.match(r"(a+)+$", "a" * 60 + "b")
    """,
    "sorting": """
        import numpy

        def work():
            array = numpy.arange(2_000_000) % 1013
            ready()
            while True:
                numpy.sort(array, kind="heapsort")
    """,
    "with signals blocked": """
        def work():
            signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))
            ready()
            time.sleep(600)
    """,
    "in a thread of the task": """
        def work():
            threading.Thread(target=time.sleep, args=(600,)).start()
            ready()
    """,
    "with a program": """
        import subprocess

        def work():
            process = subprocess.Popen(["sleep", "600"])
            ready()
            process.wait()
    """,
    "stopped": """
        def work():
            ready()
            os.kill(os.getpid(), signal.SIGSTOP)
    """,
    "with large results": """
        def work():
            ready()
            return bytes(50_000_000)
    """,
}
READY = """
        def ready():
            os.write(1, b"ready\\n")
"""


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("busy", "number"),
    [(busy, signal.SIGKILL) for busy in BUSY] + [("in Python", signal.SIGTERM), ("with a program", signal.SIGHUP)],
)
def test_while_workers_are_busy(tmp_path, busy, number, backend):
    text = READY + BUSY[busy] + f"\n        Parallel(2, {backend!r})([delayed(work)() for _ in range(200)])\n"
    with Program(text, tmp_path) as program:
        assert [program.line() for _ in range(2)] == ["ready"] * 2
        assert len(program.processes()) >= 3
        program.process.send_signal(number)
        program.process.wait()
        program.assert_nothing_left()
        assert program.errors() == ""


@pytest.mark.parametrize("how", ["idle", "idle, many", "exec", "_exit", "abort"])
def test_while_workers_are_idle(tmp_path, how):
    text = """
        Parallel(n_jobs=COUNT)([delayed(time.sleep)(0.05) for _ in range(COUNT)])
        print("ready", flush=True)
        sys.stdin.readline()
        WAY
        """
    ways = {"exec": "os.execv('/bin/sleep', ['sleep', '600'])", "_exit": "os._exit(0)", "abort": "os.abort()"}
    text = text.replace("COUNT", "12" if how == "idle, many" else "2").replace("WAY", ways.get(how, ""))
    text = text.replace("sys.stdin.readline()", "" if how in ways else "time.sleep(600)")
    with Program(text, tmp_path) as program:
        assert program.line() == "ready"
        if how == "exec":
            program.wait_for(lambda found: [name for _, name in found] == ["sleep 600 "])
            program.kill()
        elif how not in ways:
            assert len(program.processes()) >= 4
            program.kill()
        program.process.wait()
        program.assert_nothing_left()
        assert program.errors() == ""


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("seconds", [0.0, 0.02, 0.04, 0.06, 0.1])
def test_at_any_moment_of_a_start(tmp_path, seconds, backend):
    """The server is being exec'd, or imports, or forks."""
    text = f"""
        import numpy
        threading.Timer({seconds}, os.kill, (os.getpid(), signal.SIGKILL)).start()
        while True:
            Parallel(2, {backend!r})(delayed(numpy.sum)(numpy.zeros(300_000, ">f4")) for i in range(8))
            _processes.shutdown()
        """
    with Program("        from joblot import _processes\n" + text, tmp_path) as program:
        program.process.wait()
        program.assert_nothing_left()


def test_a_call_is_at_work_on_large_arrays(tmp_path):
    """Segments of memory and of files, in use while everything goes."""
    text = """
        import numpy

        def work(array):
            os.write(1, b"ready\\n")
            return array * 2

        def tasks():
            while True:
                yield delayed(work)(numpy.arange(1_000_000, dtype=">i4"))

        Parallel(n_jobs=2, temp_folder=FOLDER)(tasks())
        """
    for folder in ("None", "os.environ['TMPDIR']"):
        with Program(text.replace("FOLDER", folder), tmp_path) as program:
            assert [program.line() for _ in range(10)] == ["ready"] * 10
            program.kill()
            program.assert_nothing_left()


def test_parent_and_server_are_killed_together(tmp_path):
    """Workers go with the server."""
    text = """
        from joblot import _processes

        def work():
            os.write(1, b"ready\\n")
            time.sleep(600)

        def die():
            time.sleep(0.3)
            os.kill(_processes._pool.processes()[0], signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)

        threading.Thread(target=die).start()
        Parallel(n_jobs=2)([delayed(work)() for _ in range(2)])
        """
    with Program(text, tmp_path) as program:
        program.process.wait()
        program.assert_nothing_left()


@pytest.mark.parametrize("how", ["ends", "raises", "sys.exit", "os._exit in a thread"])
def test_a_parent_that_ends_by_itself(tmp_path, how):
    ways = {
        "ends": "",
        "raises": "raise ValueError('mine')",
        "sys.exit": "sys.exit(3)",
        "os._exit in a thread": "threading.Thread(target=os._exit, args=(3,)).start(); time.sleep(600)",
    }
    codes = {"ends": 0, "raises": 1, "sys.exit": 3, "os._exit in a thread": 3}
    text = f"""
        import atexit

        def mark(name):
            open(os.path.join(here, name), "w").close()

        def work():
            atexit.register(mark, f"exit-{{os.getpid()}}")
            return os.getpid()

        pids = set(Parallel(n_jobs=2)([delayed(work)() for _ in range(20)]))
        print(*pids, flush=True)
        {ways[how]}
        """
    with Program(text, tmp_path) as program:
        pids = program.line().split()
        program.wait()
        assert program.process.returncode == codes[how]
        program.assert_nothing_left()
        if how != "os._exit in a thread":  # workers leave as programs do
            assert sorted(path.name for path in tmp_path.glob("exit-*")) == sorted(f"exit-{pid}" for pid in pids)
        errors = program.errors()
        assert errors.count("Traceback") == (how == "raises")
        assert ("ValueError: mine" in errors) == (how == "raises")
