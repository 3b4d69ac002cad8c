"""Every point at which the engine can be stopped, and the program whose run passes all of them.

`POINTS` says at which passing of a point its process stops, counted over all processes of the program, and in which
variant of the program. The names come from the source: `test_points.py` compares.
"""

import os
import pathlib
import re
import signal
import time

from .programs import FORBID, Program

ROOT = pathlib.Path(__file__).resolve().parents[3]
RECORD = 64  # bytes of a line in the hook's file

# name: (which passing, variant)
POINTS = {
    "parent:server-launched": (1, ""),
    "parent:server-known": (1, ""),
    "parent:worker-asked": (2, ""),
    "parent:task-made": (5, ""),
    "parent:segment-written": (2, ""),
    "parent:segment-filled": (1, ""),
    "parent:segment-sent": (2, ""),
    "parent:task-written": (5, ""),
    "parent:task-committed": (5, ""),
    "parent:worker-filled": (4, ""),
    "parent:answer-seen": (5, ""),
    "parent:read-begins": (2, ""),
    "parent:part-read": (4, ""),
    "parent:read-ends": (2, ""),
    "parent:answer-used": (5, ""),
    "parent:answer-taken": (2, ""),
    "parent:copy-asked": (2, "copy"),
    "parent:copy-came": (2, "copy"),
    "parent:worker-dead": (1, ""),
    "parent:server-dead": (1, ""),
    "parent:call-closing": (1, ""),
    "parent:call-cancelled": (1, ""),
    "parent:workers-released": (1, ""),
    "parent:idle-told": (1, ""),
    "parent:pool-closing": (1, ""),
    "parent:close-said": (1, ""),
    "parent:server-ended": (1, ""),
    "server:started": (1, ""),
    "server:worker-wanted": (2, ""),
    "server:worker-forked": (2, ""),
    "server:birth-told": (2, ""),
    "server:death-seen": (1, ""),
    "server:worker-reaped": (1, ""),
    "server:death-told": (1, ""),
    "server:segment-claimed": (1, "idle"),
    "server:segment-punched": (1, "idle"),
    "server:closing": (1, ""),
    "server:killing-all": (1, ""),
    "worker:forked": (2, ""),
    "worker:bound": (2, ""),
    "worker:execed": (2, "exec"),
    "worker:execed-bound": (2, "exec"),
    "worker:set-up": (2, ""),
    "worker:hello-written": (2, ""),
    "worker:hello-said": (2, ""),
    "worker:message-received": (2, ""),
    "worker:task-found": (5, ""),
    "worker:task-started": (5, ""),
    "worker:segment-mapped": (2, ""),
    "worker:in-function": (1, "function"),
    "worker:function-returned": (5, ""),
    "worker:answer-written": (3, ""),
    "worker:answer-committed": (3, ""),
    "worker:held-written": (2, ""),
    "worker:held-committed": (2, ""),
    "worker:answer-held": (2, ""),
    "worker:held-over": (2, ""),
    "worker:copy-written": (2, "copy"),
    "worker:task-over": (5, ""),
    "worker:segment-report": (1, ""),
    "worker:forgetting": (2, ""),
    "worker:idle": (2, ""),
    "worker:leaving": (1, ""),
    "worker:over": (1, ""),
}

# Where the program stops itself, by the same rules.
OWN = ["worker:in-function"]

# A first call on small values and on arrays of 1.6 MB with results of 533 KB, of which a worker keeps one for a while;
# calls in which a worker dies, a task fails, and the server dies; one whose segments are files; and the end.
# `work` leaves a line for each start.
PROGRAM = """
        import numpy
        from joblot import _processes

        BACKEND, RETRIES, VARIANT = os.environ["CASE"].split(",")
        RETRIES = int(RETRIES)

        def work(i, array=None):
            with open(os.path.join(here, f"task-{i}"), "a") as file:
                file.write(f"{os.getpid()}\\n")
            if i == 8:
                sys.kept = array
            elif i == 16:
                sys.kept = None
            if VARIANT == "function" and i == 6:
                stop_once()
            return i * i if array is None else array[i % 7 :: 3].copy()

        def stop_once():
            path = os.path.join(here, "stops")
            if not os.path.exists(path):
                with open(path, "w") as file:
                    file.write(f"{os.getpid():<10} {'worker:in-function':<52}\\n")
                os.kill(os.getpid(), signal.SIGSTOP)

        def expected(i):
            return i * i if i % 2 else numpy.arange(i, i + 400_000, dtype=">i4")[i % 7 :: 3]

        def tasks(n):
            for i in range(n):
                yield delayed(work)(i) if i % 2 else delayed(work)(i, numpy.arange(i, i + 400_000, dtype=">i4"))

        def check(results):
            for i, result in results:
                assert type(result) is (int if i % 2 else numpy.ndarray), (i, type(result))
                assert i % 2 or result.dtype.str == ">i4"
                assert numpy.array_equal(result, expected(i)), i

        def starts(i):
            path = os.path.join(here, f"task-{i}")
            return [int(pid) for pid in open(path)] if os.path.exists(path) else []

        def call(n, retries, **settings):
            for i in range(n):
                if starts(i):
                    os.unlink(os.path.join(here, f"task-{i}"))
            try:
                results = Parallel(n_jobs=2, backend=BACKEND, retries=retries, batch_size=2, **settings)(tasks(n))
            except WorkerDied as error:
                assert retries == 0, error
                assert error.task not in error.results and 0 <= error.task < n, vars(error)
                assert starts(error.task) in ([], [error.pid]), (vars(error), starts(error.task))
                check(error.results.items())
                print("died", error.task, error.pid, flush=True)
            else:
                assert len(results) == n
                check(enumerate(results))
                # A death costs one attempt, and the server's end one of each worker.
                assert n <= sum(len(starts(i)) for i in range(n)) <= n + 2

        def die_once():
            if not os.path.exists(os.path.join(here, "died")):
                open(os.path.join(here, "died"), "w").close()
                os.kill(os.getpid(), signal.SIGKILL)

        def end_server_once(i):
            if i == 3 and not os.path.exists(os.path.join(here, "ended")):
                open(os.path.join(here, "ended"), "w").close()
                os.kill(os.getppid(), signal.SIGKILL)
                time.sleep(600)
            return 0

        def fail():
            raise ValueError("mine")

        def seen():
            with open("/proc/self/maps") as maps:
                return len(os.listdir("/proc/self/fd")), sum("joblot" in line for line in maps)

        before = seen()
        call(24, RETRIES)
        Parallel(n_jobs=2, backend=BACKEND, retries=9)([delayed(abs)(-1), delayed(die_once)(), delayed(abs)(-1)])
        try:
            Parallel(n_jobs=2, backend=BACKEND, retries=9)([delayed(fail)() if i == 3 else delayed(time.sleep)(0.01)
                                                            for i in range(40)])
        except ValueError:
            pass
        ends = [delayed(end_server_once)(i) for i in range(6)]
        assert Parallel(n_jobs=2, backend=BACKEND, retries=9)(ends) == [0] * 6
        if VARIANT == "idle":
            with Parallel(n_jobs=2, backend=BACKEND, retries=9) as parallel:
                check(enumerate(parallel(tasks(4))))
                time.sleep(17)
                check(enumerate(parallel(tasks(4))))
        call(12, 9, temp_folder=os.environ["TMPDIR"])
        _processes.shutdown()
        assert seen() == before, (before, seen())
        try:
            raise AssertionError(os.waitpid(-1, os.WNOHANG))
        except ChildProcessError:
            print("fine")
"""


# A server with a thread must not fork: it starts workers by exec, and says so in a warning.
SERVER_THREAD = """
import sys
import threading

if "joblot._server" in sys.orig_argv[-1]:
    threading.Thread(target=threading.Event().wait, daemon=True).start()
"""


def in_source():
    """The points' names, as the C code has them."""
    names = []
    for path in sorted((ROOT / "src").rglob("*.c")):
        names += re.findall(r'joblot__os_point\("([^"]*)"\)', path.read_text(encoding="utf-8"))
    return names


class Case:
    """A run of the program in which a process stops at a point.

    Parameters
    ----------
    point : str
        '*:*' with `nth` 0: none stops, and all points that are passed are noted.
    """

    def __init__(self, point, nth, folder, backend="loky", retries=3, variant=""):
        self.file = folder / "stops"
        self.point, self.nth = point, nth
        environ = {"JOBLOT_TEST_STOP": f"{point}:{nth}:{self.file}", "CASE": f"{backend},{retries},{variant}"}
        if variant == "exec":
            (folder / "sitecustomize.py").write_text(SERVER_THREAD)
            environ |= {"PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]),
                        "PYTHONWARNINGS": "ignore"}  # fmt: skip
        text = (FORBID + "        forbid('process_vm_readv')\n" if variant == "copy" else "") + PROGRAM
        self.program = Program(text, folder, environ=environ)
        self.parent = self.program.process.pid

    def passed(self):
        """(pid, point) of all points that were noted."""
        if not self.file.exists():
            return []
        lines = self.file.read_bytes().decode().splitlines()
        return [(int(pid), point) for pid, point in (line.split() for line in lines)]

    def stopped(self):
        """Wait until a process stops at the point; return its pid."""
        end = time.monotonic() + self.program.limit
        while True:
            over = self.program.process.poll() is not None
            passed = self.passed()
            if len(passed) >= self.nth and state(passed[self.nth - 1][0]) == "T":
                return passed[self.nth - 1][0]
            assert not over, f"the program ended, and had passed {self.point} {len(passed)} times"
            assert time.monotonic() < end, f"{self.point} was passed {len(passed)} times"
            time.sleep(0.005)

    def roles(self):
        """{'parent': [pid], 'server': [pids], 'worker': [pids]} of the program's processes now."""
        found = {"parent": [self.parent], "server": [], "worker": []}
        parents = {pid: parent_of(pid) for pid, _ in self.program.processes()}
        for pid, parent in parents.items():
            if parent == self.parent:
                found["server"].append(pid)
            elif parent in parents:
                found["worker"].append(pid)
        return found


def _stat(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return [None, "0"]


def state(pid):
    return _stat(pid)[0]


def parent_of(pid):
    return int(_stat(pid)[1])


def resume(pid):
    try:
        os.kill(pid, signal.SIGCONT)
    except ProcessLookupError:
        pass  # it went with another one
