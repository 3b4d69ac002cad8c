"""Random deaths under load: every result is right, and nothing is left."""

import pytest

from .programs import run

WORKERS = """
        def children(of):
            found = []
            for name in os.listdir("/proc"):
                try:
                    stat = open(f"/proc/{name}/stat").read().rpartition(")")[2].split() if name.isdigit() else "?0"
                except OSError:
                    continue
                if stat[0] != "Z" and int(stat[1]) in of:
                    found.append(int(name))
            return found

        def workers():  # of the server, which is a child of this process
            return children(children([os.getpid()]))
"""


@pytest.mark.parametrize("backend", ["loky", "multiprocessing"])
def test_workers_are_killed_every_150_ms(tmp_path, backend):
    run(
        WORKERS
        + """
        import random
        import numpy

        def kill_them():
            chance = random.Random(7)
            while not over:
                time.sleep(0.15)
                pids = workers()
                if pids:
                    try:
                        os.kill(chance.choice(pids), signal.SIGKILL)
                    except ProcessLookupError:  # it has just left
                        continue
                    killed.append(1)

        def work(array, i):
            with open(os.path.join(here, f"started-{i}"), "a") as file:
                file.write("x")
            time.sleep(0.02)  # so that there is something to kill
            part = array[i::600]
            return array.dtype.str, part.copy(), int(array[: 10 * i + 10].sum()), type(array).__name__

        array = numpy.arange(400_000, dtype=">i4")
        killed, over = [], False
        thread = threading.Thread(target=kill_them)
        thread.start()
        try:
            results = Parallel(n_jobs=2, retries=200, backend=BACKEND)(delayed(work)(array, i) for i in range(600))
        finally:
            over = True
        thread.join()
        for i, (dtype, part, total, kind) in enumerate(results):
            assert (dtype, kind) == (">i4", "memmap")
            assert part.dtype.str == ">i4" and numpy.array_equal(part, numpy.arange(i, 400_000, 600))
            assert total == (10 * i + 10) * (10 * i + 9) // 2
        starts = sum(os.path.getsize(os.path.join(here, f"started-{i}")) for i in range(600))
        assert len(killed) > 5, killed
        assert 600 <= starts <= 600 + len(killed), (starts, len(killed))  # a death costs one attempt at most
        print("fine")
        """.replace("BACKEND", repr(backend)),
        tmp_path,
        limit=90,
    )


@pytest.mark.parametrize("backend", ["loky", "multiprocessing"])
def test_workers_are_killed_while_they_send_large_results(tmp_path, backend):
    run(
        """
        import random
        import numpy

        def work(i):
            if random.random() < 0.5:
                threading.Timer(random.random() / 50, os.kill, (os.getpid(), signal.SIGKILL)).start()
            return numpy.full(500_000, i, dtype=">u4")

        for _ in range(2):
            results = Parallel(n_jobs=2, retries=200, backend=BACKEND)(delayed(work)(i) for i in range(30))
            for i, result in enumerate(results):
                assert result.dtype.str == ">u4" and (result == i).all(), (i, result)
        print("fine")
        """.replace("BACKEND", repr(backend)),
        tmp_path,
        limit=90,
    )


def test_four_calls_at_once_and_deaths_in_each(tmp_path):
    run(
        """
        def work(call, i):
            path = os.path.join(here, f"{call}-{i}")
            first = not os.path.exists(path)
            open(path, "w").close()
            if first and i % 7 == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            return call, i

        def run_call(call):
            results[call] = Parallel(n_jobs=2, retries=1)([delayed(work)(call, i) for i in range(50)])

        results = {}
        threads = [threading.Thread(target=run_call, args=(call,)) for call in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == {call: [(call, i) for i in range(50)] for call in range(4)}
        print("fine")
        """,
        tmp_path,
    )
