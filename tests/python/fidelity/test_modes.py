"""max_nbytes and mmap_mode: what a worker gets, and where its writes go.

Design section 4: above max_nbytes an argument is an np.memmap with a file name. With no mmap_mode
given it is private, writable and fresh for every task; an explicit mode does what joblib's does
(r read-only, r+ and w+ shared among the tasks of the call, c private, None an ordinary copy). A
user's own memmap goes by file, offset and mode.
"""

import os
import time

import numpy as np
import pytest

from . import tasks
from .exact import Rules, assert_described, describe
from .library import DEFAULT_MMAP_MODE, NAME, Parallel, delayed, needs_workers, parallel_config

pytestmark = needs_workers

LARGE = (1 << 20) // 8 + 10


def kind(x):
    """Type, mode and writability of what arrived."""
    return type(x).__name__, getattr(x, "mode", None), x.flags.writeable


def bump(x, at=0):
    """Add one in place; says what was there before and after, and where."""
    before = float(x[at])
    x[at] += 1
    return before, float(x[at]), os.getpid()


def try_to_write(x):
    try:
        x[0] = 1
    except ValueError as error:
        return str(error)
    return "written"


def write_then_tell(x, folder):
    x[3] = 42
    with open(os.path.join(folder, "written"), "w"):
        return kind(x)


def read_after(x, folder):
    """Wait for the other task's word (the limit is against a hang, not a measure)."""
    limit = time.monotonic() + 30
    while not os.path.exists(os.path.join(folder, "written")):
        if time.monotonic() > limit:
            return "the writer never ran"
    return float(x[3])


def reopen(x):
    """Open the file behind a memmap again, in two ways, and compare."""
    again = np.memmap(x.filename, x.dtype, "r", x.offset, x.shape)
    with open(x.filename, "rb") as stream:
        stream.seek(x.offset)
        raw = stream.read(x.nbytes)
    return bool(np.array_equal(again, x)), raw == x.tobytes(), isinstance(x.filename, (str, os.PathLike))


def call(function, *arguments, times=4, **parameters):
    with Parallel(n_jobs=2, backend="loky", **parameters) as parallel:
        return parallel([delayed(function)(*arguments) for _ in range(times)])


@pytest.mark.parametrize(
    "limit, size, mapped",
    [
        (800, 100, False),  # exactly the limit: not above it
        (800, 101, True),
        (799, 100, True),
        (0, 1, True),
        (0, 0, False),
        ("1K", 128, False),
        ("1K", 129, True),
        ("1M", LARGE, True),
        ("2M", LARGE, False),
        ("1G", LARGE, False),
        (None, LARGE, False),
        (1e6, LARGE, True),
    ],
)
def test_limit(limit, size, mapped):
    x = np.arange(size, dtype=">f8")
    for name, mode, writable in call(kind, x, max_nbytes=limit):
        assert name == ("memmap" if mapped else "ndarray")
        assert writable == (not mapped or DEFAULT_MMAP_MODE == "c")
        assert mode == (DEFAULT_MMAP_MODE if mapped else None)


def test_default_limit_is_one_mebibyte():
    assert {k[0] for k in call(kind, np.zeros(1 << 17))} == {"ndarray"}
    assert {k[0] for k in call(kind, np.zeros((1 << 17) + 1))} == {"memmap"}


@pytest.mark.parametrize("text", ["1X", "M1", "", "ten"])
def test_a_limit_that_is_no_size_is_refused(text):
    with pytest.raises(ValueError):
        call(kind, np.zeros(3), max_nbytes=text)


def test_object_arrays_are_never_mapped():
    x = np.empty(LARGE, object)
    assert set(call(kind, x, max_nbytes=10, times=2)) == {("ndarray", None, True)}


@pytest.mark.parametrize(
    "mode, expected",
    [
        ("r", ("memmap", "r", False)),
        ("r+", ("memmap", "r+", True)),
        ("w+", ("memmap", "r+", True)),
        ("c", ("memmap", "c", True)),
        (None, ("ndarray", None, True)),
    ],
)
@pytest.mark.parametrize("through", ["argument", "context"])
def test_explicit_mode(mode, expected, through):
    x = np.arange(LARGE, dtype=">f8")
    if through == "argument":
        assert set(call(kind, x, mmap_mode=mode)) == {expected}
    else:
        with parallel_config(mmap_mode=mode):
            assert set(call(kind, x)) == {expected}


def test_limit_from_the_context():
    with parallel_config(max_nbytes=100):
        assert {k[0] for k in call(kind, np.zeros(13))} == {"memmap"}


@pytest.mark.parametrize("mode", ["x", "rw", 3])
def test_an_unknown_mode_is_refused(mode):
    with pytest.raises((ValueError, TypeError), match="mode"):
        call(kind, np.zeros(LARGE), mmap_mode=mode)


@pytest.mark.parametrize("size", [10, LARGE])
@pytest.mark.parametrize("parameters", [{}, {"mmap_mode": "c"}, {"mmap_mode": None}])
def test_a_write_stays_in_its_task(size, parameters):
    x = np.full(size, 5, ">f8")
    for at in (0, size - 1):
        results = call(bump, x, at, times=12, **parameters)
        assert {r[:2] for r in results} == {(5.0, 6.0)}
    assert np.all(x == 5)


def test_a_write_does_not_reach_the_next_call():
    x = np.full(LARGE, 5, ">f8")
    with Parallel(n_jobs=2) as parallel:
        for value in (5.0, 9.0, 2.0):
            x[:] = value
            results = parallel([delayed(bump)(x) for _ in range(6)])
            assert {r[:2] for r in results} == {(value, value + 1)}
    assert np.all(x == 2)


def test_writes_to_views_stay_in_their_task():
    x = np.arange(2.0 * LARGE).reshape(2, LARGE).astype(">f8")
    for view in (x.T, x[::-1], x[:, ::-1]):
        with Parallel(n_jobs=2) as parallel:
            seen = parallel([delayed(bump)(view, (0, 0)) for _ in range(6)])
        assert {s[:2] for s in seen} == {(float(view[0, 0]), float(view[0, 0]) + 1)}


@pytest.mark.parametrize("size", [10, LARGE])
def test_read_only_arrays_arrive_writable(size):
    x = np.full(size, 5, ">f8")
    x.flags.writeable = False
    assert {r[:2] for r in call(bump, x, times=6)} == {(5.0, 6.0)}


def test_mode_r_is_read_only():
    x = np.zeros(LARGE)
    assert all("read-only" in text for text in call(try_to_write, x, mmap_mode="r"))


@pytest.mark.parametrize("mode", ["r+", "w+"])
def test_shared_modes_are_seen_by_other_tasks(mode, tmp_path):
    x = np.zeros(LARGE, ">f8")
    calls = [delayed(write_then_tell)(x, str(tmp_path)), delayed(read_after)(x, str(tmp_path))]
    told, read = Parallel(n_jobs=2, batch_size=1, mmap_mode=mode)(calls)
    assert told == ("memmap", "r+", True)
    assert read == 42.0
    assert x[3] == 0, "the parent's array is not the copy that tasks share"


@pytest.mark.parametrize("mode", [None, "r", "r+", "c"])
@pytest.mark.parametrize("size", [1000, LARGE])
def test_the_file_of_a_mapped_argument_can_be_reopened(mode, size):
    x = np.arange(size, dtype=">f8")
    parameters = {"mmap_mode": mode} if mode else {}
    assert set(call(reopen, x, max_nbytes=100, **parameters)) == {(True, True, True)}


# A user's own memmaps.


def open_map(tmp_path, mode, size=LARGE, offset=0):
    path = tmp_path / "own.dat"
    path.write_bytes(b"x" * offset + np.full(size, 5, ">f8").tobytes())
    return np.memmap(path, ">f8", mode, offset, (size,))


def own_facts(x):
    return type(x).__name__, os.fspath(x.filename), x.offset, x.mode, x.flags.writeable


@pytest.mark.parametrize("size", [10, LARGE])
@pytest.mark.parametrize("mode, arrives", [("r", "r"), ("r+", "r+"), ("w+", "r+")])
@pytest.mark.parametrize("parameters", [{}, {"mmap_mode": "c"}, {"max_nbytes": None}])
def test_own_memmap_goes_by_file_and_mode(tmp_path, size, mode, arrives, parameters):
    """w+ would empty the file if it were used again, so it arrives as r+."""
    x = open_map(tmp_path, "r+", size, 24)
    if mode == "w+":
        x = np.memmap(x.filename, ">f8", "w+", 24, (size,))
    elif mode == "r":
        x = np.memmap(x.filename, ">f8", "r", 24, (size,))
    expected = ("memmap", os.fspath(x.filename), 24, arrives, mode != "r")
    assert set(call(own_facts, x, **parameters)) == {expected}


@pytest.mark.parametrize("size", [10, LARGE])
def test_writes_to_own_memmap_reach_the_file(tmp_path, size):
    x = open_map(tmp_path, "r+", size, 24)
    results = Parallel(n_jobs=2)([delayed(bump)(x, at) for at in range(8)])
    assert {r[:2] for r in results} == {(5.0, 6.0)}
    assert list(x[:9]) == [6.0] * 8 + [5.0]
    assert np.fromfile(x.filename, ">f8", offset=24)[7] == 6.0


@pytest.mark.parametrize("size", [10, LARGE])
def test_writes_to_views_of_own_memmap_reach_the_file(tmp_path, size):
    x = open_map(tmp_path, "r+", size, 24)
    Parallel(n_jobs=2)([delayed(bump)(x[::-1], 0), delayed(bump)(x[2:8:3], 1)])
    assert x[-1] == 6 and x[5] == 6 and x[0] == 5


@pytest.mark.parametrize("size", [10, LARGE])
def test_private_memmap_stays_private(tmp_path, size):
    x = open_map(tmp_path, "c", size)
    x[0] = 70
    assert {r[:2] for r in call(bump, x, times=8)} == {(70.0, 71.0)}
    assert x[0] == 70
    assert np.fromfile(x.filename, ">f8")[0] == 5


def test_own_read_only_memmap_stays_read_only(tmp_path):
    x = open_map(tmp_path, "r")
    assert all("read-only" in text for text in call(try_to_write, x))


def test_what_another_wrote_into_the_file_is_seen(tmp_path):
    """By file means by file: the worker maps it, it does not get a copy of the moment."""
    x = open_map(tmp_path, "r+")
    with Parallel(n_jobs=2) as parallel:
        for value in (1.0, 2.0, 3.0):
            x[:] = value
            assert set(parallel([delayed(float)(x[7]), delayed(np.max)(x)])) == {value}


def test_a_file_that_was_cut_after_it_was_mapped(tmp_path):
    """Elements beyond its end are an error with the name of the file; a part that is there goes."""
    x = open_map(tmp_path, "r")
    os.truncate(x.filename, 4096)
    if NAME == "joblot":
        with pytest.raises(ValueError, match=r"own\.dat.* has 4096 bytes now.* cut"):
            call(own_facts, x)
        assert {r[3] for r in call(own_facts, x[:512])} == {"r"}


def folded(x):
    return x[:3].tolist(), x.strides, x.dtype.str, x.shape


def test_far_into_a_sparse_file(tmp_path):
    """Offsets and strides beyond 4 GiB, forwards and backwards."""
    path, at = tmp_path / "sparse", 5 << 30
    with open(path, "wb") as stream:
        stream.truncate(at + 800)
        stream.seek(at)
        stream.write(np.arange(100, dtype=">f8").tobytes())
    near = np.memmap(path, ">f8", "r", at)
    whole = np.memmap(path, ">f8", "r")
    views = [near, near[::-1], near[5::-2], whole[::-1], whole[:: -(1 << 25)], whole[at // 8 + 7 :]]
    seen = Parallel(n_jobs=2)([delayed(folded)(view) for view in views])
    assert seen == [folded(view) for view in views]


def test_a_relative_name_and_another_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.arange(9, dtype=">f8").tofile("here")
    x = np.memmap("here", ">f8", "r+")
    monkeypatch.chdir("/")
    assert {r[0] for r in call(bump, x, 3, times=1)} == {3.0}
    assert x[3] == 4.0


@pytest.mark.parametrize("mode", ["r", "r+", "c", None])
def test_explicit_mode_keeps_arrays_exact(mode):
    """The table runs with the default; here a few layouts with each mode."""
    base = np.arange(3.0 * LARGE).reshape(3, LARGE).astype(">f8")
    dates = np.arange(LARGE).astype(">M8[s]")
    subjects = [base, base.T, base[::-1], base[:, ::-2], dates, dates[::-1]]
    seen = Parallel(n_jobs=2, mmap_mode=mode)([delayed(tasks.see)(x) for x in subjects])
    for x, (status, got) in zip(subjects, seen):
        assert status == "value", got
        assert_described(describe(x), got, Rules("argument", mmap_mode=mode))


