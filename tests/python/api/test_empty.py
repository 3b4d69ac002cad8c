"""joblot.empty: arrays whose memory the program and its workers have at the same time."""

import contextlib
import copy
import gc
import os
import pickle
import subprocess
import sys
import textwrap
import time

import joblot
import numpy as np
import pytest
from joblot import Parallel, delayed, parallel_config

PROCESSES = ("loky", "multiprocessing")


def fill(out, i):
    out[i] = i * i


def echo(x):
    return x


def add_one(x):
    x += 1


def make(n, dtype=">i4", order="C"):
    out = joblot.empty(n, dtype, order)
    out[...] = 7
    return out


class Holder:
    def __init__(self, array):
        self.array = array


def add_in(where):
    where["list"][0].array[:] += 1
    where["tuple"][0][...] += 1


def same_memory(x, y):
    return x.ctypes.data == y.ctypes.data and x.strides == y.strides and x.shape == y.shape


# ---- the array itself ----


@pytest.mark.parametrize("shape", [5, (3,), (2, 3), [4, 1], (), (0,), (3, 0, 2), np.int64(4)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_shape_and_order(shape, order):
    out, plain = joblot.empty(shape, ">f4", order), np.zeros(shape, ">f4", order)
    assert type(out) is np.ndarray
    assert (out.shape, out.dtype, out.flags.writeable) == (plain.shape, plain.dtype, True)
    assert out.size == 0 or out.strides == plain.strides
    assert not out.any()


@pytest.mark.parametrize(
    "dtype", [float, ">i4", "M8[ns]", ">M8", "U7", "S0", [("a", ">i2"), ("b", "f8", (2,))], "?", "V5", "g"]
)
def test_dtype_is_kept(dtype):
    out = joblot.empty(3, dtype)
    assert out.dtype == np.dtype(dtype)
    assert out.dtype.byteorder == np.dtype(dtype).byteorder
    assert Parallel(2)([delayed(echo)(out)] * 2)[1].dtype.byteorder == out.dtype.byteorder


def test_default_dtype_is_float():
    assert joblot.empty(2).dtype == np.float64


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ((3, object), TypeError, "Python objects"),
        ((3, [("a", "i4"), ("b", "O")]), TypeError, "joblot.share"),
        ((-1,), ValueError, "negative"),
        (((2, -3),), ValueError, "negative"),
        ((2.5,), TypeError, "shape"),
        (("ab",), TypeError, "shape"),
        ((1 << 62, "f8"), ValueError, "too large"),
        ((3, float, "K"), ValueError, "order"),
        ((1 << 45, "u1"), MemoryError, "35184372088832"),
    ],
)
def test_bad_input_is_an_error_that_says_so(arguments, error, text):
    with pytest.raises(error, match=text):
        joblot.empty(*arguments)


def test_folder_is_where_it_lies(tmp_path):
    array = joblot.empty(1000, folder=tmp_path)
    with open("/proc/self/maps", encoding="utf-8") as maps:
        assert str(tmp_path) in maps.read()
    Parallel(2)(delayed(fill)(array, i) for i in range(8))
    assert array[7] == 49
    assert os.listdir(tmp_path) == []
    with pytest.raises(OSError, match="nowhere"):
        joblot.empty(10, folder="/nowhere/at/all")


def test_environment_names_the_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("JOBLIB_TEMP_FOLDER", str(tmp_path))
    array = joblot.empty(1000)
    with open("/proc/self/maps", encoding="utf-8") as maps:
        assert str(tmp_path) in maps.read()
    assert array.any() == np.False_


def test_copies_are_ordinary_arrays():
    array = joblot.empty((3, 4), ">i4", "F")
    array[:] = np.arange(12).reshape(3, 4)
    pickled = [pickle.loads(pickle.dumps(array, protocol)) for protocol in (2, 5)]
    for other in (*pickled, copy.copy(array), copy.deepcopy(array), array.copy(), np.array(array)):
        assert np.array_equal(other, array)
        assert not np.shares_memory(other, array)
        assert pickle.loads(pickle.dumps(array, 5)).dtype == array.dtype


def test_joblib_dumps_it_as_an_array(tmp_path):
    joblib = pytest.importorskip("joblib")
    array = make(20)
    joblib.dump(array, tmp_path / "a")
    assert np.array_equal(joblib.load(tmp_path / "a"), array)


# ---- to workers ----


@pytest.mark.parametrize("backend", [*PROCESSES, "threading", "sequential"])
def test_what_tasks_write_is_there(backend):
    squares = joblot.empty(50, ">i4")
    Parallel(2, backend=backend)(delayed(fill)(squares, i) for i in range(50))
    assert squares.tolist() == [i * i for i in range(50)]


@pytest.mark.parametrize("n", [1, 10, 100_000, 300_000])
@pytest.mark.parametrize(
    "settings", [{}, {"max_nbytes": None}, {"mmap_mode": "r"}, {"mmap_mode": "c"}, {"max_nbytes": 0}]
)
def test_sizes_and_modes_make_no_difference(n, settings):
    array = joblot.empty(n)
    for _ in range(3):
        Parallel(2, **settings)([delayed(add_one)(array[: n // 2]), delayed(add_one)(array[n // 2 :])])
    assert (array == 3).all()


@pytest.mark.parametrize(
    "view",
    [
        lambda a: a[2:5],
        lambda a: a[::-2, 1:],
        lambda a: a.T,
        lambda a: a.reshape(-1),
        lambda a: a[3],
        lambda a: a[:, :1],
        lambda a: a[4:5, 2:3].reshape(()),
        lambda a: a.view(">u2"),
        lambda a: np.asarray(memoryview(a)),
        lambda a: np.lib.stride_tricks.sliding_window_view(a[0], 3, writeable=True)[::3],
        lambda a: a.view(np.matrix),
    ],
)
def test_views_are_the_same_memory(view):
    array = joblot.empty((8, 6), "<u4")
    part = view(array)
    back = Parallel(2)([delayed(echo)(part)] * 2)
    assert all(same_memory(part, x) and type(x) is type(part) for x in back)
    Parallel(2)([delayed(add_one)(part)])
    assert part.any()
    other = array.copy()
    part -= 1
    assert not np.array_equal(other, array)
    assert not array.any()


def test_a_field():
    table = joblot.empty(1000, [("x", ">i4"), ("name", "S500")])
    Parallel(2)(delayed(add_one)(table["x"][i : i + 250]) for i in range(0, 1000, 250))
    assert (table["x"] == 1).all()
    assert not table["name"].any()


def test_inside_other_objects():
    array = joblot.empty((3, 4), int)
    holder = Holder(array[0])
    where = {"list": [holder, holder], "tuple": (array[1:],)}
    for _ in range(3):
        Parallel(2)([delayed(add_in)(where)])
    assert (array == 3).all()


def test_in_a_closure():
    array = joblot.empty(4, int)

    def work(i):
        array[i] = i

    Parallel(2)(delayed(work)(i) for i in range(4))
    assert array.tolist() == [0, 1, 2, 3]


def test_one_array_twice_in_a_task_is_one_array():
    array = joblot.empty(4)
    assert Parallel(2)([delayed(is_one)([array, array], array)] * 2) == [True, True]


def is_one(pair, x):
    return pair[0] is pair[1] is x


def test_a_read_only_view_stays_so_and_the_array_does_not():
    array = joblot.empty(4)
    view = array[1:]
    view.flags.writeable = False
    assert Parallel(2)([delayed(writable)([view, array])] * 2) == [[False, True]] * 2
    back = Parallel(2)([delayed(echo)(view)])[0]
    assert not back.flags.writeable
    assert same_memory(back, view)


def writable(arrays):
    return [x.flags.writeable for x in arrays]


def test_masked_arrays_and_pandas_stand_on_it():
    array = joblot.empty((4, 1000))
    masked = np.ma.MaskedArray(array, mask=array > 0)
    Parallel(2)([delayed(add_to_data)(masked)])
    assert (array == 1).all()
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(array, copy=False)
    assert np.shares_memory(frame.to_numpy(), array)
    back = Parallel(2)([delayed(echo)(frame)])[0]
    assert np.shares_memory(back.to_numpy(), array)
    assert back.equals(frame)


def add_to_data(masked):
    masked.data[...] += 1


def test_a_hundred_thousand_views_in_one_task():
    array = joblot.empty(100_000, int)
    views = [array[i : i + 1] for i in range(len(array))]
    back = Parallel(2)([delayed(echo)(views)])[0]
    assert all(x.ctypes.data == y.ctypes.data for x, y in zip(views, back))


def test_many_arrays_at_once():
    arrays = [joblot.empty(3, int) for _ in range(150)]
    for _ in range(2):
        Parallel(2)(delayed(add_one)(x) for x in arrays)
    Parallel(2)([delayed(add_to_all)(arrays)])
    assert all((x == 3).all() for x in arrays)


def add_to_all(arrays):
    for x in arrays:
        x += 1


# ---- from workers ----


@pytest.mark.parametrize("backend", PROCESSES)
@pytest.mark.parametrize("n", [1, 1000, 1_000_000])
def test_made_in_a_task_it_is_shared_from_then_on(backend, n):
    with Parallel(2, backend=backend) as parallel:
        arrays = parallel([delayed(make)(n) for _ in range(3)])
        assert [x.tolist() for x in arrays] == [[7] * n] * 3
        assert arrays[0].dtype == np.dtype(">i4")
        for _ in range(2):  # not at once: += of two tasks on one array may lose some
            parallel([delayed(add_one)(x) for x in arrays])
        assert [x.tolist() for x in arrays] == [[9] * n] * 3
        back = parallel([delayed(echo)(x) for x in arrays])
        assert all(map(same_memory, arrays, back))


def parts_of_one(n):
    out = make(n)
    return {"whole": out, "part": out[1:], "list": [out[i:] for i in range(20)], "other": make(3)}


def test_parts_of_one_array_stay_parts_of_it():
    got = Parallel(2)([delayed(parts_of_one)(100)] * 2)
    for one in got:
        one["whole"][:] = range(100)
        assert one["part"][0] == 1
        assert [x[0] for x in one["list"]] == list(range(20))
        assert one["other"].tolist() == [7] * 3
    assert not np.shares_memory(got[0]["whole"], got[1]["whole"])


KEPT = []


def keep(n):
    KEPT.append(make(n))
    return os.getpid(), KEPT[0][1:]


def read_kept():
    return os.getpid(), KEPT[0].tolist() if KEPT else None


def return_kept():
    return KEPT[0] if KEPT else None


def test_a_worker_that_keeps_what_it_made_sees_writes():
    pid, part = Parallel(2)([delayed(keep)(5)])[0]
    part[:] = 1
    seen = dict(Parallel(2)([delayed(read_kept)()] * 20))
    assert seen.pop(pid, [7, 1, 1, 1, 1]) == [7, 1, 1, 1, 1]
    again = [x for x in Parallel(2)([delayed(return_kept)()] * 20) if x is not None]
    assert all(x[1:].ctypes.data == part.ctypes.data for x in again)


def test_a_task_that_made_one_may_fail():
    with pytest.raises(ZeroDivisionError):
        Parallel(2)([delayed(make_and_fail)()] * 2)
    assert Parallel(2)([delayed(make)(3)])[0].tolist() == [7, 7, 7]


def make_and_fail():
    raise ZeroDivisionError(make(1000).sum())


def test_the_file_limit_of_the_parent_makes_it_a_copy():
    import resource

    Parallel(2)([delayed(make)(3)] * 2)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = max(int(name) for name in os.listdir("/proc/self/fd"))
    held = [os.open("/dev/null", os.O_RDONLY) for _ in range(used)]  # no gaps below the limit
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) - 1, hard))
        for n in (5, 300_000):
            got = Parallel(2)([delayed(parts_of_one)(n)])[0]
            assert got["whole"].tolist() == [7] * n
            got["whole"][1] = 3
            assert got["part"][0] == 3  # still parts of one array
        with contextlib.suppress(OSError):  # the few that results leave to the program
            for _ in range(100):
                held.append(os.open("/dev/null", os.O_RDONLY))
        with pytest.raises(OSError, match="open files"):
            joblot.empty(10)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in held:
            os.close(fd)
    array = Parallel(2)([delayed(make)(4)])[0]
    Parallel(2)([delayed(add_one)(array)])
    assert array.tolist() == [8] * 4


# ---- calls in calls, forks ----


def nested(backend, arrays, i):
    array, others, own = arrays[0], arrays[1:], [joblot.empty(3, int) for _ in range(6)]
    with parallel_config("loky", n_jobs=2), Parallel(2, backend=backend) as parallel:
        parallel(delayed(fill)(array, 4 * i + k) for k in range(4))
        made = parallel([delayed(make)(3)])[0]
        for x in own:  # their numbers here are also those of other arrays in the parent
            parallel([delayed(add_one)(x)])
        back = parallel([delayed(echo)(x) for x in (array, *others, *own)])
    ok = all(map(same_memory, back, (array, *others, *own))) and all(x.tolist() == [1] * 3 for x in own)
    return made, own, array[i:], ok


@pytest.mark.parametrize("outer", PROCESSES)
@pytest.mark.parametrize("inner", PROCESSES)
def test_a_worker_passes_it_on(inner, outer):
    arrays = [joblot.empty(8, int) for _ in range(6)]
    with Parallel(2, backend=outer) as parallel:
        got = parallel(delayed(nested)(inner, arrays, i) for i in range(2))
        assert arrays[0].tolist() == [i * i for i in range(8)]
        assert not any(x.any() for x in arrays[1:])
        for i, (made, own, part, ok) in enumerate(got):
            assert ok
            assert same_memory(part, arrays[0][i:])
            parallel([delayed(add_one)(x) for x in (made, *own)])
            assert made.tolist() == [8] * 3
            assert [x.tolist() for x in own] == [[2] * 3] * 6


def test_a_forked_child_has_it_and_passes_it_on():
    array = joblot.empty(8, int)
    Parallel(2)(delayed(fill)(array, i) for i in range(4))
    pid = os.fork()
    if pid == 0:
        try:
            array[7] = 7
            Parallel(2)(delayed(fill)(array, i) for i in range(4, 7))
            other = Parallel(2)([delayed(make)(3)])[0]
            os._exit(0 if other.tolist() == [7] * 3 else 3)
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
    assert array.tolist() == [0, 1, 4, 9, 16, 25, 36, 7]
    Parallel(2)([delayed(add_one)(array)])
    assert array[7] == 8


# ---- memory ----


def shared_bytes():
    """Bytes of shared memory in the machine."""
    with open("/proc/meminfo", encoding="ascii") as lines:
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("Shmem:"))


def wait_until(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


BIG = 256 << 20


def first(x):
    return int(x[0])


def touch(x):
    x[:] = 1
    return x


def make_big():
    out = joblot.empty(BIG, "u1")
    out[:] = 1
    return out


@pytest.mark.parametrize("how", ["argument", "result", "made"])
def test_memory_goes_back_without_another_call(how):
    Parallel(2)([delayed(first)([1])] * 4)
    before = shared_bytes()
    if how == "made":
        array = Parallel(2)([delayed(make_big)()])[0]
    else:
        array = joblot.empty(BIG, "u1")
        array = Parallel(2)([delayed(touch)(array)])[0] if how == "result" else array
        array[:] = 2
        Parallel(2)([delayed(first)(array)] * 4)
    assert shared_bytes() > before + BIG * 3 // 4
    del array
    gc.collect()
    wait_until(lambda: shared_bytes() < before + BIG // 4)


HELD = []


def hold(x):
    HELD.append(x)


def sum_held():
    total = [int(x.sum()) for x in HELD]
    HELD.clear()
    return total


def test_a_worker_keeps_it_valid():
    array = joblot.empty(1000, "u1")
    array[:] = 1
    Parallel(2)([delayed(hold)(array)] * 4)
    del array
    gc.collect()
    others = [joblot.empty(1000, "u1") for _ in range(20)]
    for x in others:
        x[:] = 5
    totals = [total for got in Parallel(2)([delayed(sum_held)()] * 8) for total in got]
    assert set(totals) <= {1000}
    assert totals


def test_descriptors_do_not_pile_up():
    def count():
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    def work():
        arrays = [joblot.empty(100) for _ in range(20)]
        Parallel(2)([delayed(add_one)(x) for x in arrays])
        Parallel(2)([delayed(parts_of_one)(5)] * 20)

    work()
    before = count()
    in_worker = max(Parallel(2)([delayed(open_files)()] * 4))
    for _ in range(5):
        work()
    assert count() <= before
    assert max(Parallel(2)([delayed(open_files)()] * 4)) <= in_worker + 4


def open_files():
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


def give_back():
    return HELD.pop() if HELD else None


def test_what_only_a_worker_has_still_comes_back():
    """Its last hold on it ends with the very answer that names it."""
    for n in (10, 300_000):
        array = joblot.empty(n, int)
        array[:] = 3
        Parallel(2)([delayed(hold)(array)] * 4)
        Parallel(2)([delayed(first)([1])] * 4)
        del array
        gc.collect()
        back = [x for x in Parallel(2)([delayed(give_back)()] * 20) if x is not None]
        assert len(back) == 4
        assert all(x.tolist() == [3] * n for x in back)
        back[0][:] = 5
        assert all(x[0] == 5 for x in back)
        Parallel(2)([delayed(add_one)(back[1])])
        assert back[2].tolist() == [6] * n


def test_results_leave_descriptors_to_the_program(tmp_path):
    text = textwrap.dedent(
        """
        import resource
        import joblot
        from joblot import Parallel, delayed

        def made(n):
            arrays = [joblot.empty(50, int) for _ in range(n)]
            for i, array in enumerate(arrays):
                array[:] = i
            return arrays

        resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
        results = Parallel(n_jobs=2)(delayed(made)(40) for _ in range(4))
        files = [open("/dev/null") for _ in range(8)]
        assert all((array == i).all() for arrays in results for i, array in enumerate(arrays))
        print("fine")
        """
    )
    path = tmp_path / "program.py"
    path.write_text(text, encoding="utf-8")
    ran = subprocess.run([sys.executable, path], capture_output=True, text=True, timeout=60, check=False)
    assert (ran.stdout, ran.stderr) == ("fine\n", "")
