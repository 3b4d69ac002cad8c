"""joblot.share: an object that is put into shared memory once, and passed by a handle."""

import gc
import os
import pickle
import subprocess
import sys
import time

import joblot
import numpy as np
import pytest
from joblot import Parallel, delayed

BACKENDS = ("loky", "multiprocessing", "threading", "sequential")


class Model:
    """An object of a user's class with a large array and a small one."""

    made = 0

    def __init__(self, n):
        self.weights = np.arange(n, dtype=">f8")
        self.bias = np.ones(3)
        self.name = "model"

    def __setstate__(self, state):
        type(self).made += 1
        self.__dict__.update(state)


def look(x):
    return float(x.sum()), x.flags.writeable, type(x), x.dtype.str


def use(model, n):
    return type(model).__name__, float(model.weights[n]), model.weights.flags.writeable, model.weights.dtype.str


def times_made(model):
    return os.getpid(), Model.made


def echo(x):
    return x


def write_to(x):
    x[0] = 1


# ---- arrays ----


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("n", [1, 10, 300_000])
def test_an_array_arrives_read_only_as_it_is(backend, n):
    plain = np.arange(n, dtype=">f8")
    array = joblot.share(plain)
    plain[:] = -1
    assert look(array) == (n * (n - 1) / 2, False, np.ndarray, ">f8")
    assert Parallel(2, backend=backend)([delayed(look)(array)] * 3) == [look(array)] * 3


def test_no_copy_is_made_whatever_the_input_is():
    array = joblot.share(np.zeros((1000, 1000)))
    views = [array, array[::2, ::-1], array.T]
    back = Parallel(2)(delayed(echo)(x) for x in views)
    assert [x.ctypes.data for x in back] == [x.ctypes.data for x in views]
    assert [x.strides for x in back] == [x.strides for x in views]


def test_it_cannot_be_written_to():
    array = joblot.share(np.zeros(10))
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1
    with pytest.raises(ValueError, match="WRITEABLE"):
        array.flags.writeable = True
    with pytest.raises(ValueError, match="read-only"):
        Parallel(2)([delayed(write_to)(array)] * 2)


@pytest.mark.parametrize(
    ("plain", "kind"),
    [
        (np.asfortranarray(np.arange(12.0).reshape(3, 4)), np.ndarray),
        (np.arange(24).reshape(4, 6)[::-1, ::3], np.ndarray),
        (np.broadcast_to(np.arange(3), (5, 3)), np.ndarray),
        (np.arange(4.0).reshape(2, 2).view(np.matrix), np.matrix),
        (np.zeros(3, [("a", ">i4"), ("b", "f8")]).view(np.recarray), np.recarray),
        (np.array(5.0), np.ndarray),
        (np.empty((0, 3)), np.ndarray),
        (np.array(["NaT"], ">M8"), np.ndarray),
    ],
)
def test_classes_and_layouts(plain, kind):
    array = joblot.share(plain)
    assert type(array) is kind
    assert (array.shape, array.dtype, array.dtype.byteorder) == (plain.shape, plain.dtype, plain.dtype.byteorder)
    assert [np.sign(s) for s in array.strides] == [np.sign(s) for s in plain.strides]
    assert not array.flags.writeable
    assert array.tobytes() == plain.tobytes()
    got = Parallel(2)([delayed(echo)(array)])[0]
    assert type(got) is kind
    assert got.tobytes() == plain.tobytes()


def test_a_memmap_becomes_an_array(tmp_path):
    mapped = np.memmap(tmp_path / "data", "f8", "w+", shape=(100,))
    mapped[:] = 3
    array = joblot.share(mapped)
    assert type(array) is np.ndarray
    mapped[:] = 4
    assert Parallel(2)([delayed(look)(array)] * 2)[0][0] == 300


def test_pickled_it_is_an_ordinary_array():
    array = joblot.share(np.arange(5))
    copy = pickle.loads(pickle.dumps(array))
    assert copy.tolist() == [0, 1, 2, 3, 4]
    assert not np.shares_memory(copy, array)


# ---- other objects ----


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_task_gets_the_object(backend):
    model = joblot.share(Model(100_000))
    assert isinstance(model, joblot.Shared)
    got = Parallel(2, backend=backend)(delayed(use)(model, n) for n in range(6))
    assert got == [("Model", float(n), False, ">f8") for n in range(6)]
    got = Parallel(2, backend=backend)(delayed(use)(n=n, model=model) for n in range(6))
    assert [row[1] for row in got] == list(range(6))


def test_a_worker_makes_it_once():
    model = joblot.share(Model(10))
    before = dict(Parallel(2)([delayed(times_made)(None)] * 20))
    for _ in range(5):
        got = dict(Parallel(2)([delayed(times_made)(model)] * 20))
    assert all(made - before.get(pid, 0) <= 1 for pid, made in got.items())


def test_get_gives_the_object_here_too():
    plain = {"a": np.arange(100_000), "b": [1, 2]}
    handle = joblot.share(plain)
    assert handle.get()["b"] == [1, 2]
    assert handle.get() is handle.get()
    assert not np.shares_memory(handle.get()["a"], plain["a"])
    assert handle.nbytes > plain["a"].nbytes
    assert f"{handle.nbytes} bytes" in repr(handle)
    assert joblot.share(handle) is handle


def is_handle(items):
    return [isinstance(x, joblot.Shared) for x in items], items[0].get()


@pytest.mark.parametrize("backend", BACKENDS)
def test_inside_other_arguments_it_stays_a_handle(backend):
    handle = joblot.share({"a": 1})
    assert Parallel(2, backend=backend)([delayed(is_handle)([handle])] * 2) == [([True], {"a": 1})] * 2


FIRST_USE = """
import joblot
from joblot import Parallel, delayed

tasks = (delayed(len)(joblot.share({"a": n, "b": n})) for n in range(3))
print(Parallel(n_jobs=N_JOBS, backend=BACKEND, on_error=ON_ERROR)(tasks))
"""


@pytest.mark.parametrize(("backend", "n_jobs"), [("threading", 2), ("loky", 2), ("loky", 1), ("sequential", 1)])
@pytest.mark.parametrize("on_error", ["raise", "return"])
def test_the_input_may_be_what_uses_it_first(backend, n_jobs, on_error):
    text = FIRST_USE.replace("N_JOBS", str(n_jobs)).replace("BACKEND", repr(backend))
    text = text.replace("ON_ERROR", repr(on_error))
    ran = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60, check=False)
    assert (ran.stdout, ran.stderr) == ("[2, 2, 2]\n", "")


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_that_was_released_is_an_error_of_its_task(backend):
    handles = [joblot.share({"a": n}) for n in range(3)]
    handles[1].release()
    got = Parallel(2, backend=backend, on_error="return")([delayed(len)(handle) for handle in handles])
    assert got[::2] == [1, 1]
    assert isinstance(got[1], Exception)
    assert "was released" in f"{got[1]} {got[1].__cause__}"


def test_part_of_it_comes_back_as_a_copy():
    handle = joblot.share({"big": np.arange(100_000), "small": np.arange(3)})
    big, small = Parallel(2)([delayed(dict.get)(handle, "big"), delayed(dict.get)(handle, "small")])
    assert big.flags.writeable
    assert big[-1] == 99_999
    assert small.tolist() == [0, 1, 2]


def test_arrays_of_objects_and_odd_matrices_are_handles():
    handle = joblot.share(np.array([None, "a"], object))
    assert Parallel(2)([delayed(list)(handle)] * 2)[1] == [None, "a"]
    cube = np.matrix([[1, 2], [3, 4]])[None]
    assert cube.ndim == 3
    assert joblot.share(cube).get().shape == cube.shape


def test_pandas_and_masked_arrays():
    masked = np.ma.MaskedArray(np.arange(100_000.0), mask=np.arange(100_000) % 2 == 0)
    assert Parallel(2)([delayed(np.ma.sum)(joblot.share(masked))] * 2)[0] == masked.sum()
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": np.arange(100_000), "b": np.arange(100_000) * 0.5, "c": ["x", "y"] * 50_000})
    handle = joblot.share(frame)
    assert handle.get().equals(frame)
    assert Parallel(2)([delayed(frame_sum)(handle)] * 3) == [frame_sum(frame)] * 3


def frame_sum(frame):
    return float(frame["a"].sum() + frame["b"].sum()), "".join(frame["c"][:4])


def test_functions_by_value():
    offset = 5
    handle = joblot.share({"f": lambda x: x + offset})
    assert Parallel(2)([delayed(call)(handle, 3)] * 2) == [8, 8]


def call(functions, x):
    return functions["f"](x)


def test_what_cannot_be_pickled_is_named():
    import threading

    with pytest.raises(pickle.PicklingError, match=r"obj\['a'\]\[1\].*lock"):
        joblot.share({"a": [1, threading.Lock()]})


def test_pickled_it_is_a_copy():
    handle = joblot.share([1, 2, 3])
    copy = pickle.loads(pickle.dumps(handle))
    assert copy.get() == [1, 2, 3]
    assert copy is not handle


def change(holder):
    holder["n"] += 1
    return os.getpid(), holder["n"]


def test_changes_last_in_the_worker_and_stay_there():
    handle = joblot.share({"n": 0})
    got = Parallel(2)([delayed(change)(handle)] * 10)
    for pid in {pid for pid, _ in got}:
        assert [n for p, n in got if p == pid] == list(range(1, 1 + sum(p == pid for p, _ in got)))
    assert handle.get() == {"n": 0}


# ---- its end ----


def shared_bytes():
    with open("/proc/meminfo", encoding="ascii") as lines:
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("Shmem:"))


def wait_until(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("how", ["release", "del", "array"])
def test_memory_goes_back_in_workers_too(how):
    size = 256 << 20
    Parallel(2)([delayed(len)([1])] * 4)
    before = shared_bytes()
    handle = joblot.share(np.ones(size, "u1") if how == "array" else [np.ones(size, "u1")])
    Parallel(2)([delayed(len)(handle)] * 10)
    assert shared_bytes() > before + size * 3 // 4
    if how == "release":
        handle.release()
        assert handle.nbytes == 0
    del handle
    gc.collect()
    wait_until(lambda: shared_bytes() < before + size // 4)


def test_a_released_one_says_so():
    handle = joblot.share({"a": 1})
    handle.release()
    handle.release()
    assert "released" in repr(handle)
    with pytest.raises(ValueError, match="was released"):
        handle.get()
    with pytest.raises(joblot.TaskPicklingError, match=r"args\[0\].*was released"):
        Parallel(2)([delayed(dict.get)(handle, "a")] * 2)


HELD = []


def hold(model):
    HELD.append(model.weights)


def sum_held():
    return [float(x.sum()) for x in HELD]


def test_a_worker_may_keep_its_arrays():
    handle = joblot.share(Model(100_000))
    Parallel(2)([delayed(hold)(handle)] * 4)
    handle.release()
    others = [joblot.share([np.ones(100_000)]) for _ in range(5)]
    Parallel(2)(delayed(len)(x) for x in others)
    sums = [total for got in Parallel(2)([delayed(sum_held)()] * 8) for total in got]
    assert set(sums) == {99_999 * 50_000.0}


def test_a_new_worker_gets_it_as_well():
    import signal

    handle = joblot.share(Model(100_000))
    with pytest.raises(joblot.WorkerDied):
        Parallel(2)([delayed(end)(handle, signal.SIGKILL)])
    assert Parallel(2)(delayed(use)(handle, n) for n in range(4))[3][1] == 3.0


def end(model, number):
    os.kill(os.getpid(), number)


# ---- comparing what is not shared: SnapshotWarning ----

LARGE = 64 << 20


def first(x):
    return int(x[0])


def drawn(array, n=24):
    for _ in range(n):
        yield delayed(first)(array)


def warnings_of(tasks, recwarn):
    Parallel(2)(tasks)
    return [str(w.message) for w in recwarn.list if w.category is joblot.SnapshotWarning]


def test_comparing_large_arrays_is_told_of(recwarn):
    array = np.zeros(LARGE, "u1")
    for _ in range(5):  # on a machine that is busy the workers may take longer than the comparisons
        if found := warnings_of(drawn(array), recwarn):
            break
    assert len(found) == 1
    assert "joblot.share" in found[0]
    assert "list of tasks" in found[0]
    assert "writeable" in found[0]
    assert recwarn.list[-1].filename == __file__


@pytest.mark.parametrize("how", ["list", "generator expression", "small", "read-only", "share", "empty", "few"])
def test_what_it_advises_needs_no_comparison(how, recwarn):
    array = np.zeros({"small": 1000, "few": LARGE // 16}.get(how, LARGE), "u1")
    if how == "read-only":
        array.flags.writeable = False
    elif how == "share":
        array = joblot.share(array)
    elif how == "empty":
        array = joblot.empty(LARGE, "u1")
    tasks = {"list": list, "generator expression": lambda tasks: (delayed(first)(array) for _ in range(24))}
    made = tasks.get(how, iter)(drawn(array, 2 if how == "few" else 24))
    assert warnings_of(made, recwarn) == []


def test_it_can_be_an_error():
    import warnings

    array = np.zeros(LARGE, "u1")
    with warnings.catch_warnings(), pytest.raises(joblot.SnapshotWarning):
        warnings.simplefilter("error", joblot.SnapshotWarning)
        for _ in range(5):
            Parallel(2)(drawn(array))
    assert Parallel(2)(drawn(array, 2)) == [0, 0]
