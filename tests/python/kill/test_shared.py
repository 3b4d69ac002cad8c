"""Memory of joblot.empty and joblot.share while processes die: nothing is lost, and nothing is left."""

import pytest

from .programs import Program, run

SETUP = """
        import numpy
        import joblot

        def shared_memory():
            with open("/proc/meminfo") as lines:
                return next(int(line.split()[1]) << 10 for line in lines if line.startswith("Shmem:"))

        def once(path):
            try:
                os.close(os.open(os.path.join(here, path), os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                return False
            return True

        def die():
            os.kill(os.getpid(), signal.SIGKILL)

        def wait_until(condition):
            end = time.monotonic() + 20
            while not condition():
                assert time.monotonic() < end
                time.sleep(0.02)
"""


@pytest.mark.parametrize("backend", ["loky", "multiprocessing"])
def test_a_worker_that_has_it_dies(tmp_path, backend):
    text = SETUP + f"""
        def work(array, i):
            array[i] += 1
            if once(f"died-{{i}}"):
                die()
            return array[i:]

        array = joblot.empty(300_000, ">i4")
        for _ in range(2):
            parts = Parallel(2, backend="{backend}", retries=1)(delayed(work)(array, i) for i in range(8))
            for i, part in enumerate(parts):
                assert part.ctypes.data == array[i:].ctypes.data
        assert array[:9].tolist() == [3] * 8 + [0], array[:9]
        print("fine")
        """
    run(text, tmp_path)


@pytest.mark.parametrize("size", [100, 3_000_000])
def test_a_worker_that_makes_them_dies_at_any_time(tmp_path, size):
    """Also just after it has answered: what it handed over is the parent's."""
    text = SETUP + f"""
        def make(i):
            if i % 5 == 3 and once(f"before-{{i}}"):
                die()
            out = joblot.empty({size}, ">i4")
            out[...] = i
            if i % 7 == 4 and once(f"made-{{i}}"):
                die()
            if i % 3 == 0 and once(f"late-{{i}}"):
                threading.Timer(0.0005 * (i % 4), die).start()
            return out[::-1]

        def fill(array, i):
            array[:] = i

        before = shared_memory()
        for _ in range(3):
            for name in os.listdir(here):
                if name.startswith(("before", "made", "late")):
                    os.unlink(os.path.join(here, name))
            arrays = Parallel(2, retries=20)(delayed(make)(i) for i in range(20))
            for i, array in enumerate(arrays):
                assert array.dtype == ">i4" and array.strides == (-4,) and (array == i).all(), i
            Parallel(2, retries=20)(delayed(fill)(array[:50], i + 1) for i, array in enumerate(arrays))
            assert [int(array[49]) for array in arrays] == list(range(1, 21))
            del array, arrays
        wait_until(lambda: shared_memory() < before + (64 << 20))
        print("fine")
        """
    run(text, tmp_path, limit=120)


def test_objects_are_there_for_workers_that_come_later(tmp_path):
    text = SETUP + """
        def use(model, i):
            if once(f"died-{i}"):
                die()
            return float(model["weights"][i])

        model = joblot.share({"weights": numpy.arange(1_000_000.0)})
        for _ in range(2):
            assert Parallel(2, retries=1)(delayed(use)(model, i) for i in range(6)) == [0, 1, 2, 3, 4, 5]
        before = shared_memory()
        model.release()
        wait_until(lambda: shared_memory() < before - 4_000_000)
        print("fine")
        """
    run(text, tmp_path)


def test_the_server_dies(tmp_path):
    text = SETUP + """
        def fill(array, i):
            array[i] = i

        def server_of(array):
            return os.getppid()

        array = joblot.empty(1000, int)
        made = Parallel(2)([delayed(numpy.add)(array, 0)])
        for round in range(3):
            os.kill(Parallel(2)([delayed(server_of)(array)])[0], signal.SIGKILL)
            Parallel(2, retries=2)(delayed(fill)(array, i) for i in range(1000))
            assert array.tolist() == list(range(1000))
            array[:] = 0
        print("fine")
        """
    run(text, tmp_path)


@pytest.mark.parametrize("folder", [False, True])
@pytest.mark.parametrize("when", ["idle", "while workers make them", "while workers have them"])
def test_the_parent_dies(tmp_path, when, folder):
    text = SETUP + f"""
        if {folder}:
            os.environ["JOBLIB_TEMP_FOLDER"] = os.environ["TMPDIR"]

        def make(n):
            out = joblot.empty(n, "u1")
            out[:] = 1
            os.write(1, b"ready\\n")
            if "{when}" == "while workers make them":
                time.sleep(600)
            return out

        def sleep(*things):
            os.write(1, b"ready\\n")
            time.sleep(600)

        arrays = [joblot.empty(1_000_000) for _ in range(5)]
        model = joblot.share([numpy.ones(1_000_000)])
        arrays += Parallel(2)([delayed(make)(5_000_000)] * 2)
        if "{when}" == "while workers have them":
            Parallel(2)([delayed(sleep)(arrays, model)] * 2)
        time.sleep(600)
        """
    with Program(text, tmp_path) as program:
        lines = 4 if when == "while workers have them" else 2
        assert [program.line() for _ in range(lines)] == ["ready"] * lines
        program.kill()
        program.assert_nothing_left()
        assert program.errors() == ""
