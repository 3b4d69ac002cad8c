"""What pickles in an unusual way arrives as it does in a plain call."""

import collections
import copyreg
import enum
import functools
import pickle
import subprocess
import sys
import textwrap
import types

import numpy as np
import pytest
from joblot import Parallel, delayed


def echo(x):
    return x


def kind_and_text(x):
    return type(x).__name__, repr(x)


def run(code, tmp_path):
    """Run a program whose functions live in ``__main__``; it prints "fine" at its end."""
    path = tmp_path / "program.py"
    path.write_text(textwrap.dedent(code), encoding="utf-8")
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, timeout=60, cwd=tmp_path, check=False)
    assert done.stdout == "fine\n", done.stderr


class Whole(int):
    pass


class Text(str):
    pass


class Raw(bytes):
    pass


class Row(tuple):
    pass


class Real(float):
    pass


Pair = collections.namedtuple("Pair", "left right")


class Colour(enum.Enum):
    RED = 1
    BLUE = "b"


def nested(depth):
    value = ()
    for i in range(depth):
        value = (value, i)
    return value


VALUES = [
    Whole(3), Text("x"), Raw(b"y"), Row((1, 2)), Real(1.5), Pair(1, Text("z")), (Whole(1), True),
    np.bool_(True), True, np.float64(2.5), 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**5000, -0.0, float("nan"),
    "\ud800 alone", "a\0b", "", b"", (), nested(31), nested(32), nested(33), nested(40), 1e308, 5e-324, 1j, -0j,
    "x" * ((1 << 24) + 1), b"x" * (1 << 24),
]  # fmt: skip


@pytest.mark.parametrize("given", [list, iter])
def test_values_keep_their_class(given):
    seen = Parallel(n_jobs=2)(given([delayed(kind_and_text)(value) for value in VALUES]))
    assert seen == [kind_and_text(value) for value in VALUES]
    back = Parallel(n_jobs=2)(given([delayed(echo)(value) for value in VALUES]))
    assert [kind_and_text(value) for value in back] == seen


def test_values_with_an_identity_keep_it():
    values = [Colour.RED, Colour.BLUE, Ellipsis, NotImplemented, None, int, np.ndarray, collections.OrderedDict]
    for value, got in zip(values, Parallel(n_jobs=2)([delayed(echo)(value) for value in values]), strict=True):
        assert got is value


SIZES = (0, 100, (32 << 10) - 1, 32 << 10, (32 << 10) + 1, (64 << 10) - 1, 64 << 10, (64 << 10) + 1, (256 << 10) - 80,
         256 << 10, (512 << 10) - 80, 512 << 10, (1 << 20) - 80, 1 << 20, (1 << 20) + 1, 3 << 20)  # fmt: skip


def reversed_bytes(x):
    return x[::-1]


@pytest.mark.parametrize("size", SIZES)
def test_sizes_around_every_threshold(size):
    """As bytes, which go with the pickle, and as an array, which goes beside it."""
    for n in range(max(size - 40, 0), size + 41, 8):
        data = np.random.default_rng(n).bytes(n)
        array = np.frombuffer(data, "u1")
        got = Parallel(n_jobs=2)([delayed(reversed_bytes)(data), delayed(reversed_bytes)(array), delayed(echo)([data])])
        assert got[0] == data[::-1]
        assert got[1].tobytes() == data[::-1]
        assert got[2] == [data]


class Holder:
    """Hands its bytes over as protocol 5 allows, and keeps what it gets."""

    def __init__(self, data):
        self.data = data

    def __reduce_ex__(self, protocol):
        return Holder, (pickle.PickleBuffer(self.data),)


def look(holder):
    return type(holder.data).__name__, bytes(holder.data)[:5], len(holder.data)


@pytest.mark.parametrize("size", [10, 40_000, 2 << 20])
@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_a_buffer_that_is_handed_over_is_what_it_was(kind, size):
    holder = Holder(kind(b"abc".ljust(size)))
    assert Parallel(n_jobs=2)([delayed(look)(holder)]) == [look(holder)]
    assert look(Parallel(n_jobs=2)([delayed(echo)(holder)])[0]) == look(holder)


class Registered:
    def __init__(self, value):
        self.value = value

    def __reduce__(self):
        raise AssertionError("copyreg has a better way")


copyreg.pickle(Registered, lambda x: (Registered, (x.value,)))


def value_of(x):
    return x.value


def test_what_is_registered_with_copyreg():
    assert Parallel(n_jobs=2)([delayed(value_of)(Registered(i)) for i in range(3)]) == [0, 1, 2]


class Counted:
    calls = 0

    def __getstate__(self):
        Counted.calls += 1
        return {"number": Counted.calls}


def number_of(x):
    return x.number


@pytest.mark.parametrize("given", [list, iter])
def test_the_state_is_asked_for_once_for_each_task(given):
    Counted.calls = 0
    tasks = [delayed(number_of)(Counted()) for _ in range(10)]
    assert Parallel(n_jobs=2)(given(tasks)) == list(range(1, 11))


class Touchy:
    """Not even equal to itself."""

    __hash__ = None

    def __eq__(self, other):
        raise AssertionError("nobody should ask")


def test_objects_that_refuse_to_be_compared():
    assert Parallel(n_jobs=2)([delayed(kind_and_text)(Pair(1, 2)), delayed(len)([Touchy(), Touchy()])])[1] == 2
    assert type(Parallel(n_jobs=2)(delayed(echo)(Touchy()) for _ in range(2))[1]) is Touchy


def test_a_module_made_by_hand_that_changes():
    module = types.ModuleType("made_by_hand")
    module.step = 0

    def look_there():
        return module.step

    def draw():
        for step in range(6):
            module.step = step
            yield delayed(look_there)()

    assert Parallel(n_jobs=2)(draw()) == list(range(6))


class Carrier(Exception):
    def __init__(self, array):
        super().__init__(array)
        self.array = array


def fail_with(array):
    raise Carrier(array)


ARRAYS = {
    "plain": np.arange(3, dtype=">i4"),
    "dates": np.zeros(3, ">M8"),
    "struct": np.zeros(2, [("a", ">i4"), ("b", "<f8")]),
    "recarray": np.rec.array([(1, 2.0)], dtype=[("a", ">i4"), ("b", ">f8")]),
    "masked": np.ma.array([1, 2], mask=[0, 1], dtype=">i2"),
    "matrix": np.asmatrix(np.eye(2, dtype=">f8")),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_an_exception_that_carries_an_array(name):
    with pytest.raises(Carrier) as caught:
        Parallel(n_jobs=2)([delayed(fail_with)(ARRAYS[name])])
    got, sent = caught.value.array, ARRAYS[name]
    assert type(got) is type(sent) and got.dtype == sent.dtype and got.dtype.str == sent.dtype.str
    assert got.tolist() == sent.tolist()


def test_an_exception_that_carries_a_memmap(tmp_path):
    x = np.memmap(tmp_path / "file", ">f8", "w+", shape=(4,))
    x[:] = range(4)
    with pytest.raises(Carrier) as caught:
        Parallel(n_jobs=2)([delayed(fail_with)(x)])
    assert type(caught.value.array) is np.ndarray and caught.value.array.dtype == ">f8"
    assert caught.value.array.tolist() == [0, 1, 2, 3]


def test_names_of_main(tmp_path):
    run(
        """
        import functools
        import typing

        from joblot import Parallel, delayed

        T = typing.TypeVar("T")

        @functools.lru_cache(maxsize=5)
        def double(x):
            return 2 * x

        def name_of(x):
            return x.__name__

        # The first task of a call whose function workers can import is pickled without cloudpickle.
        [got] = Parallel(n_jobs=2)([delayed(repr)(T)])
        assert got == repr(T), got
        assert Parallel(n_jobs=2)(delayed(double)(i) for i in range(4)) == [0, 2, 4, 6]
        assert Parallel(n_jobs=2)([delayed(double.__wrapped__)(4)]) == [8]
        [back] = Parallel(n_jobs=2)([delayed(getattr)(double, "cache_parameters")])
        assert back() == {"maxsize": 5, "typed": False}
        print("fine")
        """,
        tmp_path,
    )


def test_the_part_at_fault_is_not_one_that_goes_by_value(tmp_path):
    run(
        """
        import pickle
        import threading

        import joblot
        from joblot import Parallel, delayed

        class Class:
            pass

        def function(x):
            return [function, threading.Lock()] if x is None else x

        def message(tasks, backend):
            try:
                Parallel(n_jobs=2, backend=backend)(tasks)
            except pickle.PicklingError as error:
                return str(error)

        lock = threading.Lock()
        for backend in ("loky", "multiprocessing"):
            for part in (function, Class(), Class, lambda: 1):
                text = message([delayed(function)([part, lock])], backend)
                assert "args[0][1] of task 0 cannot be pickled (TypeError" in text, text
            text = message([delayed(function)(None)], backend)
            assert "result[1]" in text, text
        try:
            joblot.share([function, lock])
        except pickle.PicklingError as error:
            assert "obj[1]" in str(error), error
        print("fine")
        """,
        tmp_path,
    )


def test_functions_that_are_defined_again(tmp_path):
    """As in a notebook: the same name, another function; also between two draws."""
    run(
        """
        from joblot import Parallel, delayed

        def draw():
            for step in range(5):
                code = f"def helper(): return {step}\\ndef task(x): return helper() * 100 + x"
                exec(code, globals())
                yield delayed(task)(step)

        with Parallel(n_jobs=2) as parallel:
            for version in range(3):
                exec(f"def helper(): return {version}\\ndef task(x): return helper() * 10 + x", globals())
                assert parallel([delayed(task)(i) for i in range(4)]) == [version * 10 + i for i in range(4)]
            assert parallel(draw()) == [101 * step for step in range(5)]

            even = lambda n: True if n == 0 else odd(n - 1)
            odd = lambda n: False if n == 0 else even(n - 1)
            assert parallel(delayed(even)(i) for i in range(6)) == [True, False] * 3
        print("fine")
        """,
        tmp_path,
    )


def wrapper(function):
    @functools.wraps(function)
    def inside(*args):
        return "wrapped", function(*args)

    return inside


@wrapper
def decorated(x):
    return x + 1


class Methods:
    base = 10

    @classmethod
    def of_class(cls, x):
        return cls.base + x

    @staticmethod
    def of_none(x):
        return x

    @property
    def fixed(self):
        return 3

    def plain(self, x):
        return self.fixed + x

    cached = functools.cached_property(lambda self: 5)


def test_functions_of_every_kind():
    partial = functools.partial(Methods().plain, 4)
    functions = [decorated, decorated.__wrapped__, Methods.of_class, Methods.of_none, Methods().plain, partial.func]
    for make in (list, iter):
        got = Parallel(n_jobs=2)(make([delayed(function)(1) for function in functions]))
        assert got == [function(1) for function in functions]
    assert Parallel(n_jobs=2)([delayed(partial)()]) == [7]
