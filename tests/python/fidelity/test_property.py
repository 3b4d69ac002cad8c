"""Random dtypes, layouts and sizes (hypothesis) on top of the table.

An example is a list of arrays that go through one call together; max_nbytes is drawn near their
sizes, so that the limit falls between them. The profile is derandomised and bounded: a failure
here is a failure everywhere. ``JOBLOT_FIDELITY_EXAMPLES`` raises the number of examples.
"""

import os

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from . import tasks
from .catalogue import values
from .exact import Rules, assert_described, describe
from .library import DEFAULT_MMAP_MODE, Parallel, delayed, shares_memory

PROFILE = settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=int(os.environ.get("JOBLOT_FIDELITY_EXAMPLES", "60")),
    suppress_health_check=list(HealthCheck),
)
ORDERS = "<>"
UNITS = ("", "[Y]", "[M]", "[D]", "[25s]", "[ms]", "[7ns]", "[as]")


@st.composite
def leaf_dtypes(draw, objects=True):
    """A dtype with no fields, of either byte order."""
    order = draw(st.sampled_from(ORDERS))
    kind = draw(st.sampled_from("nnnnMmUSV" + ("O" if objects else "")))
    if kind == "n":
        return np.dtype(order + draw(st.sampled_from("?bBhHiIlLqQefdgFDG")))
    if kind in "Mm":
        return np.dtype(f"{order}{kind}8{draw(st.sampled_from(UNITS))}")
    if kind == "O":
        return np.dtype("O")
    return np.dtype(f"{order}{kind}{draw(st.integers(1, 9))}")


@st.composite
def struct_dtypes(draw, inner):
    """Fields of any kind: packed, aligned, padded, out of order, with titles and sub-arrays."""
    parts = draw(st.lists(inner, min_size=1, max_size=4))
    names = [f"f{i}" for i in range(len(parts))]
    shapes = [draw(st.sampled_from([(), (), (2,), (3, 1), (0,)])) for _ in parts]
    formats = [(part, shape) if shape else part for part, shape in zip(parts, shapes)]
    style = draw(st.sampled_from(["packed", "aligned", "padded", "titles"]))
    if style == "titles":
        return np.dtype([((f"title {n}", n), f) for n, f in zip(names, formats)])
    if style != "padded" or any(part.hasobject for part in parts):
        return np.dtype(list(zip(names, formats)), align=style == "aligned")
    offsets, at = [], draw(st.integers(0, 5))
    for item in formats:
        offsets.append(at)
        at += np.dtype(item).itemsize + draw(st.integers(0, 6))
    mixed = draw(st.permutations(range(len(parts))))
    return np.dtype(
        {
            "names": [names[i] for i in mixed],
            "formats": [formats[i] for i in mixed],
            "offsets": [offsets[i] for i in mixed],
            "itemsize": at + draw(st.integers(0, 8)),
        }
    )


def dtypes(objects=True):
    return st.recursive(leaf_dtypes(objects), struct_dtypes, max_leaves=6)


@st.composite
def arrays(draw, objects=True):
    """A base array, then a few random views of it."""
    dtype = draw(dtypes(objects))
    shape = tuple(draw(st.lists(st.integers(0, 6), max_size=4)))
    flat = values(dtype, int(np.prod(shape)))
    array = flat.reshape(shape, order=draw(st.sampled_from("CF")))
    for _ in range(draw(st.integers(0, 3))):
        array = draw(views(array))
    return array


@st.composite
def views(draw, array):
    """One step: slice, reverse, permute, broadcast, add or drop axes, pick a field, wrap."""
    step = draw(st.sampled_from(["slice", "slice", "permute", "broadcast", "axis", "field", "class"]))
    if step == "slice":
        return array[tuple(draw(slices(length)) for length in array.shape) or ...]
    if step == "permute":
        return array.transpose(draw(st.permutations(range(array.ndim))))
    if step == "broadcast" and array.size and type(array) is np.ndarray:
        return np.broadcast_to(array, (draw(st.integers(1, 3)),) + array.shape)
    if step == "axis":
        return array[(slice(None),) * draw(st.integers(0, array.ndim)) + (None,)]
    if step == "field" and array.dtype.names is not None:
        return array[draw(st.sampled_from(array.dtype.names))]
    if step == "class" and array.ndim == 2 and array.dtype.names is None:
        return array.view(np.matrix)
    return array


@st.composite
def slices(draw, length):
    step = draw(st.sampled_from([1, 1, 2, 3, -1, -2]))
    start = draw(st.one_of(st.none(), st.integers(-length, length)))
    return slice(start, None, step)


@st.composite
def examples(draw, objects=True):
    """Arrays, and a limit at, just below or just above the size of one of them."""
    batch = draw(st.lists(arrays(objects), min_size=1, max_size=12))
    size = draw(st.sampled_from(batch)).nbytes
    limit = draw(st.sampled_from([None, 0, max(size - 1, 0), size, size + 1]))
    return batch, limit


def check(batch, limit, backend, parallel_call):
    """Each array as argument, in a container, and as result."""
    expected = [describe(x) for x in batch]
    seen = parallel_call([delayed(tasks.see)(x) for x in batch])
    held = parallel_call([delayed(tasks.see)({"x": [x]}) for x in batch])
    back = parallel_call([delayed(tasks.echo)(x) for x in batch])
    same = shares_memory(backend)
    argument = Rules("same" if same else "argument", limit, DEFAULT_MMAP_MODE)
    for x, text, one, two, (_, result) in zip(batch, expected, seen, held, back):
        assert one[0] == two[0] == "value", (one, two)
        assert_described(text, one[1], argument)
        assert_described(describe({"x": [x]}), two[1], argument)
        assert_described(text, describe(result), Rules("same" if same else "result"))


@PROFILE
@given(examples())
def test_random_arrays(example):
    batch, limit = example
    check(batch, limit, "loky", Parallel(n_jobs=2, max_nbytes=limit))


@settings(PROFILE, max_examples=20)
@given(examples(), st.sampled_from(["threading", "sequential"]))
def test_random_arrays_without_processes(example, backend):
    batch, limit = example
    check(batch, limit, backend, Parallel(n_jobs=2, max_nbytes=limit, backend=backend))


@settings(PROFILE, max_examples=20)
@given(st.lists(arrays(), max_size=6), st.integers(0, 300))
def test_random_arrays_inside_object_arrays(batch, limit):
    out = np.empty(len(batch), object)
    for i, x in enumerate(batch):
        out[i] = x
    check([out, out[::-1]], limit, "loky", Parallel(n_jobs=2, max_nbytes=limit))


@settings(PROFILE, max_examples=30)
@given(st.data(), st.sampled_from(["r", "r+", "c"]))
def test_random_views_of_memmaps(tmp_path_factory, data, mode):
    """The same views, on a memmap of a file with an offset."""
    folder = tmp_path_factory.mktemp("maps")
    batch = []
    for number in range(4):
        base = data.draw(arrays(objects=False).filter(lambda x: x.size and x.dtype.itemsize))
        offset = data.draw(st.integers(0, 40))
        path = folder / f"{number}.dat"
        path.write_bytes(b"x" * offset + base.tobytes())
        view = np.memmap(path, base.dtype, mode, offset, base.shape)
        for _ in range(3):
            step = data.draw(views(view))
            view = step if isinstance(step, np.memmap) else view
        batch.append(view)
    check(batch, 1 << 20, "loky", Parallel(n_jobs=2))
