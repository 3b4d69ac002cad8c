"""A task is what it was when it was drawn from the input (design section 3).

Each test changes something between two draws or two calls and compares with the plain loop, which
runs every task at the moment it is drawn. Sizes: one that is pickled, one that goes through
shared memory.
"""

import functools

import numpy as np
import pytest

from .library import NAME, Parallel, delayed, needs_workers

SIZES = (16, (1 << 20) // 8 + 16)
BACKENDS = ("loky", "sequential")

kept = []


def first_and_last(x):
    return float(x.flat[0]), float(x.flat[x.size - 1]), bool((x == x.flat[0]).all())


def length_and_sum(x):
    return len(x), sum(x)


def plain(tasks):
    return [function(*args, **kwargs) for function, args, kwargs in tasks]


def run(tasks, backend="loky", **parameters):
    return Parallel(n_jobs=2, backend=backend, **parameters)(tasks)


@pytest.fixture(params=SIZES, ids=["small", "large"])
def buffer(request):
    return np.zeros(request.param, ">f8")


# Between two calls.


@pytest.mark.parametrize("backend", ["loky", "threading", "sequential"])
def test_change_between_two_calls(buffer, backend):
    with Parallel(n_jobs=2, backend=backend) as parallel:
        for value in (1.0, 2.0, 3.0):
            buffer[:] = value
            results = parallel([delayed(first_and_last)(buffer) for _ in range(4)])
            assert set(results) == {(value, value, True)}


def test_change_of_one_element_between_two_calls(buffer):
    with Parallel(n_jobs=2) as parallel:
        for value in (1.0, 2.0, 3.0):
            buffer[-1] = value
            results = parallel([delayed(first_and_last)(buffer) for _ in range(4)])
            assert set(results) == {(0.0, value, False)}


def test_another_array_at_the_same_address(buffer):
    """An array that takes the place (and id) of a dead one is not the dead one."""
    with Parallel(n_jobs=2) as parallel:
        for value in range(1, 6):
            x = np.full(buffer.shape, value, ">f8")
            results = parallel([delayed(first_and_last)(x) for _ in range(3)])
            assert set(results) == {(value, value, True)}
            del x


# Between two draws of one call: a buffer refilled by the input.


def refill(buffer, count=8):
    for value in range(count):
        buffer[:] = value
        yield delayed(first_and_last)(buffer)


def refill_one_element(buffer, count=8):
    """Only one element in the middle of nowhere changes: no sample of lines would see it."""
    spot = buffer.size * 2 // 3 + 1
    for value in range(count):
        buffer[spot] = value
        yield delayed(float_at)(buffer, spot)


def float_at(x, spot):
    return float(x[spot])


def arrays_of(buffer, count=8):
    for value in range(count):
        buffer[:] = value
        yield buffer


def fresh_arrays(buffer, count=8):
    """Arrays that die at once: their ids and addresses come again with other content."""
    for value in range(count):
        yield delayed(first_and_last)(np.full(buffer.shape, value, ">f8"))


class Refilling:
    """An iterator with a __next__ of its own."""

    def __init__(self, buffer):
        self.buffer, self.value = buffer, -1

    def __iter__(self):
        return self

    def __next__(self):
        self.value += 1
        if self.value == 8:
            raise StopIteration
        self.buffer[:] = self.value
        return delayed(first_and_last)(self.buffer)


INPUTS = {
    "generator function": refill,
    "one element": refill_one_element,
    "expression over generator function": lambda b: (
        delayed(first_and_last)(x) for x in arrays_of(b)
    ),
    "expression over an expression over a generator function": lambda b: (
        delayed(first_and_last)(x) for x in (y[::-1] for y in arrays_of(b))
    ),
    "map over generator function": lambda b: map(delayed(first_and_last), arrays_of(b)),
    "iterator class": Refilling,
    "fresh arrays": fresh_arrays,
    "refilled view": lambda b: (delayed(first_and_last)(x[::-1]) for x in arrays_of(b)),
    "expression over a list": lambda b: (
        delayed(first_and_last)(x) for x in [b + i for i in range(8)]
    ),
    "one array many times": lambda b: (delayed(first_and_last)(b) for _ in range(8)),
    "array in a dict": lambda b: (delayed(in_dict)({"x": x}) for x in arrays_of(b)),
}


def in_dict(d):
    return first_and_last(d["x"])


@pytest.mark.parametrize("pre_dispatch", ["2 * n_jobs", "all"])
@pytest.mark.parametrize("batch_size", [1, "auto", 3])
@pytest.mark.parametrize("name", INPUTS)
def test_refilled_buffer(buffer, name, batch_size, pre_dispatch):
    expected = plain(INPUTS[name](buffer.copy()))
    got = run(INPUTS[name](buffer), batch_size=batch_size, pre_dispatch=pre_dispatch)
    assert got == expected


@pytest.mark.parametrize("backend", BACKENDS)
def test_refilled_buffer_by_backend(buffer, backend):
    assert run(refill(buffer), backend) == plain(refill(buffer.copy()))


def test_read_only_view_of_a_refilled_buffer(buffer):
    """A read-only view whose owner is written to is no constant."""

    def draw(b):
        view = b[:]
        view.flags.writeable = False
        for value in range(6):
            b[:] = value
            yield delayed(first_and_last)(view)

    assert run(draw(buffer)) == plain(draw(buffer.copy()))


# Results.


def fill_and_return(x, value):
    """What a worker with one output buffer does: refill and return it."""
    global output
    if "output" not in globals() or output.shape != x.shape:
        output = np.empty_like(x)
    output[:] = value
    return output


def fill_argument(x, value):
    x[:] = value
    return x


@pytest.mark.parametrize("function", [fill_and_return, fill_argument])
@pytest.mark.parametrize("batch_size", [1, "auto", 4])
@needs_workers
def test_refilled_result(buffer, function, batch_size):
    if NAME == "joblib" and function is fill_argument and buffer.size == SIZES[1]:
        pytest.skip("joblib's large arguments are read-only")
    results = run([delayed(function)(buffer, v) for v in range(24)], batch_size=batch_size)
    assert [first_and_last(x) for x in results] == [(v, v, True) for v in range(24)]
    assert not buffer.any()


@needs_workers
def test_results_are_separate_memory(buffer):
    one, other = run([delayed(fill_and_return)(buffer, v) for v in (1, 2)])
    one[:] = 7
    assert (other == 2).all() and one.flags.writeable and other.flags.writeable


# Functions and other objects.


class Counter:
    def __init__(self, size):
        self.n = 0
        self.data = np.zeros(size)

    def state(self):
        return self.n, float(self.data.sum())

    __call__ = state


def changed_counters(size, what):
    counter = Counter(size)
    for value in range(8):
        counter.n = value
        counter.data[0] = value * 10
        yield delayed(what(counter))()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "what",
    [lambda c: c.state, lambda c: c, lambda c: functools.partial(Counter.state, c)],
    ids=["bound method", "callable object", "partial"],
)
def test_state_of_the_moment(size, what):
    assert run(changed_counters(size, what)) == plain(changed_counters(size, what))


def changed_closure(size, rebind):
    array, value = np.zeros(size), 0

    def function():
        return value, float(array[0])

    for step in range(8):
        if rebind:
            value = step
        else:
            array[0] = step
        yield delayed(function)()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("rebind", [True, False])
def test_closure_of_the_moment(size, rebind):
    assert run(changed_closure(size, rebind)) == plain(changed_closure(size, rebind))


def changed_default():
    def function(items=[]):  # noqa: B006  (the mutable default is what is tested)
        return list(items)

    for step in range(6):
        function.__defaults__[0].append(step)
        yield delayed(function)()


def test_default_of_the_moment():
    assert run(changed_default()) == plain(changed_default())


def growing_list():
    items = []
    for step in range(8):
        items.append(step)
        yield delayed(length_and_sum)(items)


@pytest.mark.parametrize("batch_size", [1, "auto", 4])
def test_list_that_grows(batch_size):
    assert run(growing_list(), batch_size=batch_size) == plain(growing_list())


def append_and_count(items):
    items.append(0)
    return len(items)


@needs_workers
@pytest.mark.parametrize("batch_size", [1, "auto", 8])
def test_one_list_in_many_tasks(batch_size):
    """Tasks of one message do not share a list: each has what was drawn."""
    items = [1, 2, 3]
    results = run([delayed(append_and_count)(items) for _ in range(16)], batch_size=batch_size)
    assert results == [4] * 16 and items == [1, 2, 3]


# Arrays that a worker keeps.


def keep(x):
    kept.append((x, float(x[0])))
    return check_kept()


def check_kept():
    """What was kept is whole and has the value it had."""
    return all((x == value).all() for x, value in kept), len(kept)


def clear_kept():
    kept.clear()


@needs_workers
@pytest.mark.parametrize("parameters", [{}, {"mmap_mode": "r"}, {"mmap_mode": "c"}])
def test_kept_arrays_stay(buffer, parameters):
    with Parallel(n_jobs=2, **parameters) as parallel:
        for value in range(6):
            x = np.full(buffer.shape, value, ">f8")
            results = parallel([delayed(keep)(x) for _ in range(4)])
            assert all(good for good, count in results)
            del x
        results = parallel([delayed(check_kept)() for _ in range(8)])
        assert all(good for good, count in results) and max(count for good, count in results) > 1
        parallel([delayed(clear_kept)() for _ in range(8)])


def write_and_keep(x, value):
    before = float(x[0])
    x[:] = value
    kept.append((x, value))
    return before, check_kept()[0]


@needs_workers
def test_kept_and_written_arrays_stay(buffer):
    """A private mapping that outlives its task is not given to the next one."""
    if NAME == "joblib":
        pytest.skip("joblib's large arguments are read-only")
    buffer[:] = 5
    with Parallel(n_jobs=2) as parallel:
        results = parallel([delayed(write_and_keep)(buffer, v) for v in range(12)])
        assert set(results) == {(5.0, True)}
        parallel([delayed(clear_kept)() for _ in range(8)])


@pytest.mark.parametrize("dtype", ["f8", [("a", "i4"), ("b", "f4")]])
def test_structs_are_compared_as_a_whole_too(dtype):
    """NumPy tells of no array with fields that it is writable, which must not be taken for read-only."""
    array = np.zeros(1 << 20, dtype)
    spot = len(array) * 2 // 3 + 1

    def drawn():
        for i in range(6):
            array.view("i4").reshape(len(array), -1)[spot] = i
            yield delayed(at)(array, spot)

    def at_once():
        return [x.tobytes() for x in (task[0](*task[1]) for task in drawn())]

    assert [x.tobytes() for x in Parallel(2)(drawn())] == at_once()


def at(array, spot):
    return array[spot : spot + 1].copy()
