"""What cannot work: a clear error of the right type, and the same workers go on."""

import builtins
import importlib
import pickle
import re
import sys
import threading
import traceback

import pytest
from joblot import Parallel, TaskPicklingError, WorkerDied, delayed


def square(x):
    return x * x


@pytest.fixture(name="parallel")
def with_block():
    """A pool that must work when the test is over."""
    with Parallel(n_jobs=2) as parallel:
        yield parallel
        assert parallel([delayed(square)(i) for i in range(20)]) == [i * i for i in range(20)]
    assert Parallel(n_jobs=2)([delayed(square)(3)] * 3) == [9, 9, 9]


# arguments of Parallel


@pytest.mark.parametrize(
    ("settings", "kind", "text"),
    [
        ({"n_jobs": 0}, ValueError, "n_jobs == 0 in Parallel has no meaning"),
        ({"n_jobs": "many"}, ValueError, "n_jobs could not be converted to int"),
        ({"n_jobs": None, "backend": "cluster"}, ValueError, "cluster"),
        ({"n_jobs": 2, "mmap_mode": "x"}, ValueError, "mmap_mode='x' is not a valid mode"),
        ({"n_jobs": 2, "max_nbytes": "1T"}, ValueError, "max_nbytes='1T' is not a size"),
        ({"n_jobs": 2, "batch_size": 0}, ValueError, "batch_size must be 'auto' or a positive integer"),
        ({"n_jobs": 2, "retries": -1}, ValueError, "retries must be a whole number"),
        ({"n_jobs": 2, "timeout": "soon"}, ValueError, "timeout must be a number of seconds"),
        ({"n_jobs": 2, "no_such_setting": 1}, TypeError, "no_such_setting"),
        ({"n_jobs": 2, "pre_dispatch": "__import__('os').getpid()"}, ValueError, "pre_dispatch|rithmetic"),
        ({"n_jobs": 2, "pre_dispatch": "n_jobs()"}, ValueError, "n_jobs\\(\\)|2\\(\\).*arithmetic"),
        ({"n_jobs": 2, "pre_dispatch": "9**9**9"}, ValueError, "too large"),
        ({"n_jobs": 2, "pre_dispatch": "2 * n_jobs +"}, ValueError, "arithmetic"),
        ({"n_jobs": 2, "pre_dispatch": None}, ValueError, "pre_dispatch must be"),
        ({"n_jobs": 2, "pre_dispatch": 0}, ValueError, "pre_dispatch=0"),
        ({"n_jobs": 2, "temp_folder": "/no/such/folder", "max_nbytes": 1}, OSError, "/no/such/folder"),
        ({"n_jobs": 10**6}, ValueError, "1000000"),
    ],
    ids=str,
)
def test_settings(parallel, settings, kind, text):
    with pytest.raises(kind, match=text):
        Parallel(**settings)([delayed(len)(bytes(3_000_000))] * 3)


@pytest.mark.parametrize("given", [3, None, square], ids=["int", "None", "function"])
def test_the_input_cannot_be_iterated_over(parallel, given):
    with pytest.raises(TypeError, match="not iterable"):
        parallel(given)


# what cannot be pickled


class Holder:
    def __init__(self, **attributes):
        self.__dict__.update(attributes)

    def read(self):
        return self.__dict__


class Slotted:
    __slots__ = ("lock",)

    def __init__(self, lock):
        self.lock = lock


class Complains:
    def __reduce__(self):
        raise ZeroDivisionError("no reduction")


class ComplainsOfState:
    def __getstate__(self):
        raise ZeroDivisionError("no state")


class ReducesToNonsense:
    def __reduce__(self):
        return 3


def closing_over(value):
    return lambda: value


def with_default(value):
    def function(argument=value):
        return argument

    return function


class CyclicHolder(Holder):
    def __init__(self, **attributes):
        super().__init__(**attributes)
        self.me = [self]


LOCK = threading.Lock()
PARTS = {
    "args[0]": LOCK,
    "args[0][2]": [0, 1, LOCK],
    "args[0].a.b[0]['c']": Holder(a=Holder(b=({"c": LOCK},))),
    "args[0].lock": Slotted(LOCK),
    "args[0] (closure variable 'value')": closing_over(LOCK),
    "args[0].__defaults__[0]": with_default(LOCK),
    "args[0] (key <generator": {(i for i in "x"): 1},
    "args[0][70]": [LOCK if i == 70 else i for i in range(100)],
    "args[0].again": CyclicHolder(again=LOCK),
    "args[0]['complains']": {"complains": Complains()},
    "args[0]['state']": {"state": ComplainsOfState()},
    "args[0]['nonsense']": {"nonsense": ReducesToNonsense()},
}


@pytest.mark.parametrize("part", PARTS)
def test_an_argument_that_cannot_be_pickled(parallel, part):
    with pytest.raises(TaskPicklingError, match=re.escape(part)) as caught:
        parallel(delayed(square)(i) if i != 7 else delayed(id)(PARTS[part]) for i in range(20))
    error = caught.value
    assert error.part.startswith(part)
    assert (error.task, error.is_result) == (7, False)
    assert isinstance(error, pickle.PicklingError)
    assert error.original is not None
    assert "of task 7 cannot be pickled" in str(error)


def make(part):
    return PARTS[part]


@pytest.mark.parametrize("part", PARTS)
def test_a_result_that_cannot_be_pickled(parallel, part):
    with pytest.raises(TaskPicklingError) as caught:
        parallel([delayed(square)(1), delayed(make)(part), delayed(square)(2)])
    assert caught.value.part.startswith(part.replace("args[0]", "result"))
    assert caught.value.is_result


def test_a_keyword_argument_that_cannot_be_pickled(parallel):
    with pytest.raises(TaskPicklingError, match=r"kwargs\['x'\]\[1\] of task 0 cannot be pickled"):
        parallel([delayed(square)(x=[1, LOCK])])


def test_a_function_that_cannot_be_pickled(parallel):
    with pytest.raises(TaskPicklingError, match=r"function \(closure variable 'value'\) of task 1 cannot be pickled"):
        parallel([delayed(square)(1), delayed(closing_over(LOCK))()])


def test_a_bound_method_of_what_cannot_be_pickled(parallel):
    with pytest.raises(TaskPicklingError, match=r"function.__self__.lock of task 0 cannot be pickled"):
        parallel([delayed(Holder(lock=LOCK).read)()])
    with pytest.raises(TaskPicklingError, match=r"function.* of task 0 cannot be pickled .*lock"):
        parallel([delayed(LOCK.acquire)()])


class InterruptedOnce:
    """As Ctrl-C in the midst of pickling: a second try would go well."""

    def __init__(self):
        self.count = 0

    def __reduce__(self):
        self.count += 1
        if self.count == 1:
            raise KeyboardInterrupt("in the midst")
        return int, ()


def test_an_interrupt_while_a_task_is_pickled(parallel):
    with pytest.raises(KeyboardInterrupt, match="in the midst"):
        parallel([delayed(square)(1), delayed(id)(InterruptedOnce())])


def test_an_interrupt_while_a_result_is_pickled(parallel):
    with pytest.raises(KeyboardInterrupt, match="in the midst"):
        parallel([delayed(square)(1), delayed(InterruptedOnce)()])


# what cannot be unpickled


def explode(where):
    raise ZeroDivisionError(f"unpickling in {where}")


class ExplodesOnLoading:
    def __init__(self, where):
        self.where = where

    def __reduce__(self):
        return explode, (self.where,)


def test_an_argument_whose_loading_raises_in_the_worker(parallel):
    with pytest.raises(ZeroDivisionError, match="unpickling in the worker") as caught:
        parallel([delayed(square)(1), delayed(id)(ExplodesOnLoading("the worker"))])
    assert "in explode" in str(caught.value.__cause__)


def test_a_function_whose_loading_raises_in_the_worker(parallel):
    with pytest.raises(ZeroDivisionError, match="unpickling in the worker"):
        parallel([delayed(square)(1), delayed(closing_over(ExplodesOnLoading("the worker")))()])


def test_a_result_whose_loading_raises_in_the_parent(parallel):
    with pytest.raises(ZeroDivisionError, match="unpickling in the parent"):
        parallel([delayed(square)(1), delayed(ExplodesOnLoading)("the parent"), delayed(square)(1)])


def test_a_module_that_workers_find_through_sys_path(parallel, tmp_path, monkeypatch):
    (tmp_path / "module_of_a_test.py").write_text("def triple(x):\n    return 3 * x\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("module_of_a_test")
    assert parallel([delayed(module.triple)(i) for i in range(5)]) == [0, 3, 6, 9, 12]


def test_a_module_that_exists_in_the_parent_only(parallel, monkeypatch):
    module = type(sys)("module_of_no_file")
    exec("def triple(x):\n    return 3 * x\n", vars(module))
    monkeypatch.setitem(sys.modules, "module_of_no_file", module)
    with pytest.raises(ModuleNotFoundError, match="module_of_no_file"):
        parallel([delayed(square)(1), delayed(module.triple)(1)])


def test_a_module_that_was_deleted_from_disk(parallel, tmp_path, monkeypatch):
    path = tmp_path / "module_that_goes.py"
    path.write_text("def triple(x):\n    return 3 * x\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    module = importlib.import_module("module_that_goes")
    path.unlink()
    with pytest.raises(ModuleNotFoundError, match="module_that_goes"):
        parallel([delayed(module.triple)(1)])


def test_a_function_that_has_another_name_now(parallel, monkeypatch):
    function = square
    monkeypatch.setattr(sys.modules[__name__], "square", len)
    assert parallel([delayed(function)(i) for i in range(4)]) == [0, 1, 4, 9]


# exceptions


class HoldsALock(Exception):
    def __init__(self, text):
        super().__init__(text, LOCK)
        self.lock = LOCK
        self.text = text


class NeedsArguments(Exception):
    """Has no `__reduce__`, so that pickle makes it again from one argument, and fails."""

    def __init__(self, code, reason):
        super().__init__(f"{code}: {reason}")
        self.code, self.reason = code, reason


class NeedsKeywords(Exception):
    def __init__(self, *, code):
        super().__init__()
        self.code = code


class ReducesBadly(Exception):
    def __reduce__(self):
        raise TypeError("I do not travel")


class HasNoText(Exception):
    def __str__(self):
        raise RuntimeError("no text")

    __repr__ = __str__


def fail(error):
    if isinstance(error, type):
        raise error
    raise error()


@pytest.mark.parametrize(
    ("make_error", "text", "attributes"),
    [
        (lambda: HoldsALock("mine"), "mine", {"text": "mine"}),
        (lambda: NeedsArguments(404, "gone"), "404: gone", {"code": 404, "reason": "gone"}),
        (lambda: NeedsKeywords(code=3), "^$", {"code": 3}),
        (lambda: OSError(2, "No such file", "/etc/x"), "No such file", {"errno": 2, "filename": "/etc/x"}),
        (lambda: UnicodeDecodeError("utf-8", b"x\xff", 1, 2, "why"), "why", {"start": 1, "object": b"x\xff"}),
        (lambda: ReducesBadly("mine"), "mine", {}),
    ],
    ids=["attribute", "arguments", "keywords", "OSError", "Unicode", "reduce"],
)
def test_exceptions_that_are_hard_to_pickle(parallel, make_error, text, attributes):
    with pytest.raises(type(make_error()), match=text) as caught:
        parallel([delayed(square)(1), delayed(fail)(make_error)])
    assert {name: getattr(caught.value, name) for name in attributes} == attributes
    assert "in fail" in str(caught.value.__cause__)


def local_error():
    class Local(Exception):
        def __init__(self, a, b):
            super().__init__(a)
            self.b = b

    return Local("mine", 2)


def test_an_exception_of_a_class_that_the_parent_does_not_have(parallel):
    with pytest.raises(Exception, match="mine") as caught:
        parallel([delayed(fail)(local_error)])
    assert type(caught.value).__name__ == "Local"
    assert caught.value.b == 2


def test_an_exception_without_a_text(parallel):
    with pytest.raises(HasNoText):
        parallel([delayed(fail)(HasNoText)])


@pytest.mark.parametrize(
    "kind",
    [StopIteration, SystemExit, KeyboardInterrupt, GeneratorExit, MemoryError, RecursionError, StopAsyncIteration],
)
def test_exceptions_that_end_other_things(parallel, kind):
    with pytest.raises(kind) as caught:
        parallel(delayed(square)(i) if i != 5 else delayed(fail)(kind) for i in range(30))
    assert "in fail" in str(caught.value.__cause__)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exception groups came with Python 3.11")
def test_exception_groups(parallel):
    group_class = builtins.ExceptionGroup

    def group():
        error = group_class("several", [ValueError(1), group_class("more", [KeyError("k"), OSError(2, "x")])])
        error.add_note("a note")
        return error

    with pytest.raises(group_class, match="several") as caught:
        parallel([delayed(fail)(group)])
    error = caught.value
    assert repr(error) == repr(group())
    assert error.__notes__ == ["a note"]
    assert error.exceptions[1].exceptions[1].errno == 2


def with_cause():
    try:
        raise KeyError("the first")
    except KeyError as error:
        raise ValueError("the second") from error


def test_the_worker_traceback_tells_of_causes(parallel):
    with pytest.raises(ValueError, match="the second") as caught:
        parallel([delayed(with_cause)()])
    shown = "".join(traceback.format_exception(caught.value))
    assert "KeyError: 'the first'" in shown
    assert "The above exception was the direct cause" in shown


def infinite():
    return infinite()


def test_endless_recursion(parallel):
    with pytest.raises(RecursionError):
        parallel([delayed(infinite)(), delayed(square)(1)])


def return_error(kind):
    return kind("mine")


@pytest.mark.parametrize("kind", [ValueError, WorkerDied, StopIteration, SystemExit])
def test_a_task_that_returns_an_exception(parallel, kind):
    results = parallel([delayed(return_error)(kind), delayed(square)(2)])
    assert type(results[0]) is kind
    assert results[0].args == kind("mine").args
    assert results[1] == 4


# generators


@pytest.mark.parametrize("after", [0, 1, 5, 100])
@pytest.mark.parametrize("kind", [OSError, SystemExit, KeyboardInterrupt, GeneratorExit])
def test_an_input_that_raises(parallel, after, kind):
    def tasks():
        for i in range(after):
            yield delayed(square)(i)
        raise kind("mine")

    with pytest.raises(kind, match="mine"):
        parallel(tasks())


def test_an_input_that_is_closed_when_a_task_fails(parallel):
    closed = []

    def tasks():
        try:
            yield delayed(fail)(ZeroDivisionError)
            while True:
                yield delayed(square)(2)
        finally:
            closed.append(True)

    with pytest.raises(ZeroDivisionError):
        parallel(tasks())
    assert closed == [True]


@pytest.mark.parametrize(
    "task", [None, (abs,), (abs, ()), ("no", (), {}), (abs, 3, {}), (abs, (), 3), [abs, (1,), {}]], ids=repr
)
def test_what_is_no_task(parallel, task):
    with pytest.raises(TypeError, match=r"Task 3 must be a \(callable, args, kwargs\) triple"):
        parallel(delayed(square)(i) if i != 3 else task for i in range(5))


def test_a_task_with_wrong_arguments(parallel):
    with pytest.raises(TypeError, match="positional argument"):
        parallel([delayed(square)(1), delayed(square)(1, 2)])
    with pytest.raises(TypeError, match="keyword"):
        parallel([delayed(square)(1), delayed(square)(y=2)])


# sizes


def produce(size):
    return b"x" * size


def test_a_huge_result(parallel):
    (result,) = parallel([delayed(produce)(200_000_000)])
    assert result == b"x" * 200_000_000


def test_a_huge_argument(parallel):
    assert parallel([delayed(len)(bytes(200_000_000)), delayed(len)("é" * 20_000_000)]) == [200_000_000, 20_000_000]


def count(*args, **kwargs):
    return len(args), len(kwargs), args[:2], args[-1:]


def test_very_many_arguments(parallel):
    n = 200_000
    keywords = {f"key_{i}": i for i in range(1000)}
    assert parallel([delayed(count)(*range(n), **keywords)]) == [(n, 1000, (0, 1), (n - 1,))]


def nest(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("depth", [100, 20_000])
def test_a_nested_argument(parallel, depth):
    """It goes, or it is an error that says so; it does not bring a process down."""
    value = nest(depth)
    if depth == 100:
        assert parallel([delayed(len)(value)]) == [1]
        return
    with pytest.raises((RecursionError, TaskPicklingError), match="recursion"):
        parallel([delayed(len)(value)])


def test_a_nested_result(parallel):
    with pytest.raises((RecursionError, TaskPicklingError), match="recursion"):
        parallel([delayed(nest)(20_000)])
