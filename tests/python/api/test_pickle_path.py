"""Naming the part of an object that cannot be pickled."""

import collections
import functools
import pickle
import threading

import cloudpickle
import pytest
from joblot import _pickle_path
from joblot._pickle_path import find_in_task, find_unpicklable

LOCK = threading.Lock()


class Model:
    def __init__(self, **attributes):
        self.__dict__.update(attributes)

    def fit(self):
        return self


class Slotted:
    __slots__ = ("lock", "name")

    def __init__(self, lock):
        self.name, self.lock = "slotted", lock


class WithState:
    def __getstate__(self):
        return [1, LOCK]


class Refusing:
    def __reduce_ex__(self, protocol):
        raise RuntimeError("not me")


class Bag(list):
    pass


def path(obj, name="args", dumps=cloudpickle.dumps):
    found = find_unpicklable(obj, name, dumps)
    return None if found is None else found[0]


def with_closure():
    lock = LOCK
    return lambda: lock


def with_default(x, lock=LOCK):
    return x


CASES = [
    (LOCK, "args"),
    ((1, LOCK), "args[1]"),
    ([[], [0, [LOCK]]], "args[1][1][0]"),
    ((1, {"model": Model(a=1, lock=LOCK)}), "args[1]['model'].lock"),
    ({(1, 2): LOCK}, "args[(1, 2)]"),
    (Model(inner=Model(deep=Slotted(LOCK))), "args.inner.deep.lock"),
    ((Model(lock=LOCK).fit,), "args[0].__self__.lock"),
    (functools.partial(print, 1, key=Model(lock=LOCK)), "args.keywords['key'].lock"),
    (functools.partial(print, LOCK), "args.args[0]"),
    (collections.deque([1, LOCK]), "args[1]"),
    (collections.OrderedDict(a=1, b=LOCK), "args['b']"),
    (collections.defaultdict(int, a=LOCK), "args['a']"),
    (WithState(), "args.__getstate__()[1]"),
    ([1, Refusing()], "args[1]"),
    (ValueError("text", LOCK), "args.__reduce_ex__(4)[1][1]"),
    (with_closure(), "args (closure variable 'lock')"),
]


@pytest.mark.parametrize(("obj", "expected"), CASES, ids=[expected for _, expected in CASES])
def test_paths(obj, expected):
    assert path(obj) == expected


def test_the_error_is_that_of_the_part():
    found, error = find_unpicklable([{"a": LOCK}], "args", cloudpickle.dumps)
    assert found == "args[0]['a']"
    assert isinstance(error, TypeError)
    assert "lock" in str(error)


def test_what_can_be_pickled_has_no_path():
    assert find_unpicklable([1, {"a": Model(b=2)}], "args", cloudpickle.dumps) is None
    assert find_in_task(print, (1,), {}, pickle.dumps) is None


def test_sets_and_keys():
    class Hashable:
        def __reduce_ex__(self, protocol):
            raise RuntimeError("no")

        def __repr__(self):
            return "Hashable"

    item = Hashable()
    assert path({item}) == "args (element Hashable)"
    assert path({item: 1}) == "args (key Hashable)"


def test_attributes_of_containers():
    bag = Bag([1, 2])
    bag.owner = LOCK
    assert path(bag) == "args.owner"


def test_functions_that_travel_by_value():
    by_value = {"__name__": "__main__", "LOCK": LOCK}
    exec("def uses_global(): return LOCK\ndef outer():\n    return [LOCK for _ in (1,)]", by_value)  # noqa: S102
    assert path(by_value["uses_global"], "function") == "function (global variable 'LOCK')"
    assert path(by_value["outer"], "function") == "function (global variable 'LOCK')"

    def local(x, *, lock=LOCK):
        return x, lock

    assert path(local, "function") == "function.__kwdefaults__['lock']"
    local.__kwdefaults__ = None
    local.__defaults__ = (1, LOCK)
    assert path(local, "function") == "function.__defaults__[1]"


def test_an_importable_function_is_not_searched():
    assert path(with_default) is None


def test_a_local_class():
    class Local:
        lock = LOCK

    assert path(Local) == "args.lock"
    assert path(Local(), "args").startswith("args")


def test_a_task():
    model = Model(lock=LOCK)
    assert find_in_task(print, (1, {"model": model}), {}, cloudpickle.dumps)[0] == "args[1]['model'].lock"
    assert find_in_task(print, (), {"model": model}, cloudpickle.dumps)[0] == "kwargs['model'].lock"
    assert find_in_task(model.fit, (), {}, cloudpickle.dumps)[0] == "function.__self__.lock"


def test_cycles():
    parent, child = Model(), Model()
    parent.child, child.parent = child, parent
    child.items = [parent, child]
    child.lock = LOCK
    assert path(parent) == "args.child.lock"


def test_a_cycle_with_nothing_to_blame_ends():
    loop = []
    loop.append(loop)

    def refuse(obj):
        raise pickle.PicklingError("nothing goes")

    found, error = find_unpicklable(loop, "args", refuse)
    assert found == "args"
    assert str(error) == "nothing goes"


def test_great_depth_is_bounded():
    deep = LOCK
    for _ in range(100):
        deep = [deep]
    assert path(deep) == "args" + "[0]" * _pickle_path.MAX_DEPTH


def test_many_elements_take_few_trials():
    trials = []

    def dumps(obj):
        trials.append(obj)
        return pickle.dumps(obj)

    items = list(range(100_000))
    items[77_777] = LOCK
    assert path(items, "args", dumps) == "args[77777]"
    assert len(trials) < 60
    assert path(dict(enumerate(items)), "args", dumps) == "args[77777]"


def test_the_number_of_trials_is_bounded():
    trials = []

    def refuse(obj):
        trials.append(obj)
        raise pickle.PicklingError("nothing goes")

    find_unpicklable({i: {j: [k for k in range(50)] for j in range(50)} for i in range(50)}, "args", refuse)
    assert len(trials) <= _pickle_path.MAX_TRIALS + 60


def test_arrays_of_objects():
    numpy = pytest.importorskip("numpy", reason="these are NumPy's")
    array = numpy.empty((2, 3), dtype=object)
    array[1, 2] = LOCK
    assert path(array) == "args[1, 2]"
    single = numpy.empty((), dtype=object)
    single[()] = LOCK
    assert path([single]) == "args[0][()]"
