"""`delayed` records calls: plain tuples, at C speed, with the names of the function."""

import copy
import gc
import inspect
import pickle
import weakref

import pytest
from joblot import delayed


def scale(value, factor=2):
    """Multiply."""
    return value * factor


scale.unit = "m"


def test_a_call_is_recorded_as_a_plain_tuple():
    task = delayed(scale)(1, factor=3)
    assert task == (scale, (1,), {"factor": 3})
    assert [type(part) for part in task[1:]] == [tuple, dict]
    assert type(task) is tuple
    assert delayed(scale)() == (scale, (), {})


def test_star_arguments():
    assert delayed(scale)(*[1, 2], **{"a": 3, "b": 4}) == (scale, (1, 2), {"a": 3, "b": 4})


def test_keywords_are_a_new_dict_each_time():
    recorded, given = delayed(scale), {"factor": 1}
    first, second = recorded(1, **given), recorded(1, **given)
    first[2]["factor"] = 9
    assert second[2] == given == {"factor": 1}
    assert recorded()[2] is not recorded()[2]


def test_names_of_the_function():
    recorded = delayed(scale)
    assert recorded.__wrapped__ is scale
    assert (recorded.__name__, recorded.__qualname__) == ("scale", "scale")
    assert recorded.__doc__ == "Multiply."
    assert recorded.__module__ == __name__
    assert recorded.unit == "m"
    assert inspect.signature(recorded) == inspect.signature(scale)


def test_a_callable_without_names():
    class Callable:
        def __init__(self):
            self.kept = 5

        def __call__(self):
            return None

    recorded = delayed(Callable())
    assert recorded.kept == 5
    with pytest.raises(AttributeError):
        _ = recorded.__name__
    with pytest.raises(AttributeError, match="nothing"):
        _ = recorded.nothing


def test_errors_while_an_attribute_is_looked_up_are_not_hidden():
    class Callable:
        @property
        def __name__(self):
            raise RuntimeError("no name today")

        def __call__(self):
            return None

    with pytest.raises(RuntimeError, match="no name today"):
        _ = delayed(Callable()).__name__


def test_the_type_keeps_its_own_documentation():
    assert delayed.__name__ == "delayed"
    assert delayed.__module__ == "joblot"
    assert delayed.__doc__.startswith("Record calls of a function")


def test_pickle_and_copy():
    for duplicate in (pickle.loads(pickle.dumps(delayed(scale))), copy.deepcopy(delayed(scale))):
        assert duplicate(4) == (scale, (4,), {})


def test_repr():
    assert repr(delayed(abs)) == "delayed(<built-in function abs>)"


@pytest.mark.parametrize("value", [None, 3, "scale", scale(2)])
def test_what_is_not_callable_is_refused(value):
    with pytest.raises(TypeError, match=r"needs a callable, but got .*write delayed\(f\)\(x\)"):
        delayed(value)


def test_wrong_numbers_of_arguments_to_the_type():
    assert delayed(function=scale)(1) == (scale, (1,), {})
    for wrong in (delayed, lambda: delayed(scale, scale), lambda: delayed(func=scale)):
        with pytest.raises(TypeError):
            wrong()


def test_as_a_decorator_of_a_method():
    class Model:
        @delayed
        def fit(self, data):
            return data

    model = Model()
    function, args, kwargs = model.fit("data")
    assert (function, args, kwargs) == (Model.fit.__wrapped__, (model, "data"), {})
    assert function(*args, **kwargs) == "data"


def test_cycles_are_collected():
    def function():
        pass

    function.recorded = delayed(function)
    gone = weakref.ref(function)
    del function
    gc.collect()
    assert gone() is None


def test_references_are_not_lost_or_kept():
    import sys

    argument = object()
    before = sys.getrefcount(argument)
    recorded = delayed(scale)
    for _ in range(100):
        recorded(argument, key=argument)
    assert sys.getrefcount(argument) == before
