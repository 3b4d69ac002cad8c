"""Every dtype and layout of the catalogue in memory of `joblot.empty`: passed and returned without a copy, exactly."""

import ctypes

import numpy as np
import pytest

from . import tasks
from .catalogue import load_all
from .exact import Rules, assert_described, describe
from .library import NAME, PROCESSES, Parallel, delayed

joblot = pytest.importorskip("joblot", reason="joblib and the plain loop have no joblot.empty")
pytestmark = pytest.mark.skipif(NAME != "joblot", reason="this is about joblot.empty")

CASES = load_all()
CLASSES = (np.ndarray, np.matrix, np.recarray)
BATCH = 60


def extent(array):
    """The first and the last byte of an array, counted from its first element."""
    steps = [(n - 1) * stride for n, stride in zip(array.shape, array.strides)]
    return sum(s for s in steps if s < 0), sum(s for s in steps if s > 0) + array.itemsize


def is_subject(x):
    return type(x) in CLASSES and not x.dtype.hasobject and x.nbytes > 0 and x.dtype.num < 24


def make(name, size, folder):
    """The array of a case, byte for byte and with its strides, in memory of `joblot.empty`."""
    case = CASES[name].make(size, folder)
    low, high = extent(case)
    memory = joblot.empty(high - low, "u1")
    memory[:] = np.frombuffer(ctypes.string_at(case.ctypes.data + low, high - low), "u1")
    out = np.ndarray.__new__(type(case), case.shape, case.dtype, memory, -low, case.strides)
    out.flags.writeable = case.flags.writeable
    return out


def made(name, size, folder):
    return tasks.attempt(make, name, size, folder)




@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cases")
    names = [(name, size) for name, case in CASES.items() for size in case.sizes]
    return folder, [row for row in names if is_subject(CASES[row[0]].make(row[1], folder))]


def in_batches(rows):
    return [rows[i : i + BATCH] for i in range(0, len(rows), BATCH)]


def failures(rows, expected, got):
    out = []
    for row, one, (kind, value) in zip(rows, expected, got):
        try:
            assert kind == "value", value
            assert_described(one, value, Rules("same"))
        except AssertionError as error:
            out.append(f"{row}: {error}")
    return out


@pytest.mark.parametrize("backend", PROCESSES)
def test_a_worker_sees_what_is_there(rows, backend):
    folder, names = rows
    assert len(names) > 150
    found = []
    with Parallel(2, backend=backend) as parallel:
        for batch in in_batches(names):
            arrays = [make(*row, folder) for row in batch]
            got = parallel([delayed(tasks.see)(x) for x in arrays])
            found += failures(batch, [describe(x) for x in arrays], got)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("backend", PROCESSES)
def test_what_comes_back_is_the_same_memory(rows, backend):
    folder, names = rows
    found = []
    with Parallel(2, backend=backend) as parallel:
        for batch in in_batches(names):
            arrays = [make(*row, folder) for row in batch]
            back = parallel([delayed(tasks.echo)(x) for x in arrays])
            found += failures(batch, [describe(x) for x in arrays], [(kind, describe(x)) for kind, x in back])
            found += [row for row, x, (_, y) in zip(batch, arrays, back) if x.ctypes.data != y.ctypes.data]
    assert not found, "\n".join(map(str, found))


@pytest.mark.parametrize("backend", PROCESSES)
def test_made_in_a_worker(rows, backend):
    folder, names = rows
    found = []
    with Parallel(2, backend=backend) as parallel:
        for batch in in_batches(names):
            results = parallel([delayed(made)(*row, folder) for row in batch])
            expected = [describe(make(*row, folder)) for row in batch]
            found += failures(batch, expected, [(k, describe(x) if k == "value" else x) for k, x in results])
            # The memory is shared again: what a worker gets of it is no copy.
            again = parallel([delayed(tasks.echo)(x) for _, x in results])
            found += [row for row, (_, x), (_, y) in zip(batch, results, again) if x.ctypes.data != y.ctypes.data]
    assert not found, "\n".join(map(str, found))


def test_shared_copies_have_the_layout_of_what_they_are_of(rows):
    """joblot.share keeps class, dtype and order of strides; what arrives is the same, read-only."""
    folder, names = rows
    found = []
    for batch in in_batches(names):
        cases = [CASES[name].make(size, folder) for name, size in batch if "three axes" not in name]
        batch = [row for row in batch if "three axes" not in row[0]]  # a Shared: see test_share.py
        shared = [joblot.share(x) for x in cases]
        assert not any(x.flags.writeable for x in shared)
        for x in cases:
            x.flags.writeable = False
        found += failures(batch, [describe(x) for x in cases], [("value", describe(x)) for x in shared])
        got = Parallel(2)([delayed(tasks.see)(x) for x in shared])
        found += failures(batch, [describe(x) for x in shared], got)
    assert not found, "\n".join(found)
