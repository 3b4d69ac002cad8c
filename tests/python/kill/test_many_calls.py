"""Long runs: nothing grows, neither over many calls nor over a million tasks, and an idle pool sleeps."""

import pathlib
import shutil
import subprocess
import time

import pytest

from .programs import BACKENDS, Program, run
from .test_storm import WORKERS


@pytest.mark.parametrize("backend", BACKENDS)
def test_1000_calls_in_a_row(tmp_path, backend):
    """In a ``with`` block, where workers stay; the last calls find the process as the first ones left it."""
    run(
        WORKERS
        + f"""
        import gc
        import numpy

        def usage():
            gc.collect()
            found = []
            for pid in (os.getpid(), *sorted(children([os.getpid()])), *sorted(workers())):
                status = dict(line.split(":", 1) for line in open(f"/proc/{{pid}}/status"))
                maps = open(f"/proc/{{pid}}/maps").read().count("\\n")
                found.append((len(os.listdir(f"/proc/{{pid}}/fd")), maps, int(status["VmRSS"].split()[0])))
            return found

        def work(array, i):
            return (array[i % 3 :: 3] * 1, "x" * i) if i % 2 else i

        def call(parallel):
            array = numpy.arange(400_000, dtype=">i4")
            assert [r if i % 2 == 0 else len(r[1]) for i, r in
                    enumerate(parallel(delayed(work)(array, i) for i in range(4)))] == [0, 1, 2, 3]

        with Parallel(n_jobs=2, backend={backend!r}) as parallel:
            for _ in range(200):
                call(parallel)
            before = usage()
            for _ in range(1000):
                call(parallel)
            after = usage()
        assert len(before) == len(after) == 4, (before, after)
        for (fds, maps, rss), (fds_after, maps_after, rss_after) in zip(before, after):
            # One array more or less may be free, or mapped, at the moment of the look.
            assert abs(fds_after - fds) <= 2 and maps_after <= maps + 8, (before, after)
            assert rss_after <= rss + 8_000, (before, after)
        print("fine")
        """,
        tmp_path,
        limit=110,
    )


def test_500_calls_each_with_processes_of_its_own(tmp_path):
    """Backend multiprocessing outside a ``with`` block: a server and its workers for each call."""
    run(
        """
        def usage():
            maps = open("/proc/self/maps").read().count("\\n")
            return len(os.listdir("/proc/self/fd")), maps

        for k in range(500):
            assert Parallel(n_jobs=2, backend="multiprocessing")(delayed(abs)(-i) for i in range(3)) == [0, 1, 2]
            if k == 50:
                before = usage()
        after = usage()
        assert after[0] == before[0] and after[1] <= before[1] + 4, (before, after)
        print("fine")
        """,
        tmp_path,
        limit=110,
    )


def test_the_memory_of_a_million_tasks(tmp_path):
    """The list of results is all that grows: 8 bytes a task, and what its growth leaves behind."""
    run(
        """
        def nothing(i):
            return None

        def rss():
            return int(open("/proc/self/statm").read().split()[1]) * 4096

        def tasks(n):
            for i in range(n):
                if i % 100_000 == 99_999:
                    seen.append(rss())
                yield delayed(nothing)(i)

        seen = []
        with Parallel(n_jobs=2) as parallel:
            parallel(tasks(100_000))
            before = rss()
            results = parallel(tasks(1_000_000))
            assert results.count(None) == 1_000_000
        assert max(seen) - before < 24 << 20, (before, seen)
        print("fine")
        """,
        tmp_path,
        limit=110,
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_idle_pool_sleeps(tmp_path, backend):
    """For 10 s no process of it makes a system call, but for the one that it sleeps in."""
    if shutil.which("strace") is None:
        pytest.skip("there is no strace")
    text = f"""
        import numpy

        with Parallel(n_jobs=2, backend={backend!r}) as parallel:
            parallel(delayed(numpy.negative)(numpy.zeros(400_000, ">i4")) for _ in range(8))
            time.sleep(0.5)
            print("idle", flush=True)
            time.sleep(600)
        """
    with Program(text, tmp_path) as program:
        assert program.line() == "idle"
        pids = [pid for pid, _ in program.processes()]
        assert len(pids) == 4
        log = tmp_path / "strace"
        options = [option for pid in pids for option in ("-p", str(pid))]
        tracer = subprocess.Popen(["strace", "-f", "-o", log, *options], stderr=subprocess.PIPE, text=True)
        for _ in pids:
            line = tracer.stderr.readline()
            if "attached" not in line:
                tracer.wait()
                pytest.skip(f"strace may not attach here: {line}")
        time.sleep(10)
        tracer.terminate()
        tracer.wait()
        tracer.stderr.close()
        # What each thread was asleep in when strace came, and still was when it left.
        calls = [line.split(maxsplit=1) for line in pathlib.Path(log).read_text().splitlines()]
        calls = [(pid, call) for pid, call in calls if "detached ..." not in call]
        assert all(call.endswith("<unfinished ...>") for _, call in calls), calls
        assert len({pid for pid, _ in calls}) == len(calls), calls
