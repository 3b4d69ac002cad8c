"""What lives in `__main__`: it goes to workers without a guard, however the program was started."""

import subprocess
import sys

import pytest
from kill.programs import run

HOW = ["script", "-c", "stdin", "-m", "exec"]

EVERYTHING = """
import collections, dataclasses, enum, functools, typing

OFFSET = 10
calls = []

def plain(x):
    return x + OFFSET

def recursive(n):
    return 1 if n == 0 else n * recursive(n - 1)

def even(n):
    return True if n == 0 else odd(n - 1)

def odd(n):
    return False if n == 0 else even(n - 1)

def adder(n):
    def add(x):
        return x + n
    return add

class Outer:
    class Inner:
        def __init__(self, x):
            self.x = x
        def __eq__(self, other):
            return type(other) is type(self) and other.x == self.x
        __hash__ = None

class Child(Outer.Inner):
    @classmethod
    def make(cls, x):
        return cls(x)
    @staticmethod
    def double(x):
        return 2 * x
    def method(self):
        return super().__eq__(self) and self.x
    @property
    def squared(self):
        return self.x ** 2

class Callable:
    def __init__(self, n):
        self.n = n
    def __call__(self, x):
        return self.n * x

class Color(enum.Enum):
    RED = 1
    BLUE = 2
    def other(self):
        return Color.BLUE if self is Color.RED else Color.RED

class Flags(enum.IntFlag):
    A = 1
    B = 2

@dataclasses.dataclass(frozen=True)
class Point:
    x: int
    y: "list" = dataclasses.field(default_factory=list)

Pair = collections.namedtuple("Pair", "a b")

class Typed(typing.NamedTuple):
    a: int
    b: str = "b"

class MyError(Exception):
    def __init__(self, code, text):
        super().__init__(text)
        self.code = code

def fail():
    raise MyError(3, "mine")

def identity(x):
    return x

parallel = Parallel(n_jobs=2)
both = [0, 1]
assert parallel(delayed(plain)(i) for i in both) == [10, 11]
OFFSET = 20
assert parallel(delayed(plain)(i) for i in both) == [20, 21]  # globals are those of the moment
assert parallel(delayed(recursive)(i) for i in range(6)) == [1, 1, 2, 6, 24, 120]
assert parallel(delayed(even)(i) for i in range(4)) == [True, False, True, False]
assert parallel(delayed(lambda x: x - OFFSET)(i) for i in both) == [-20, -19]
assert parallel(delayed(adder(i))(5) for i in both) == [5, 6]
assert parallel(delayed(functools.partial(pow, 2))(i) for i in both) == [1, 2]
assert parallel(delayed(functools.partial(adder(1)))(i) for i in both) == [1, 2]
assert parallel(delayed(Outer.Inner)(i) for i in both) == [Outer.Inner(0), Outer.Inner(1)]
assert parallel(delayed(Child.make)(i) for i in both) == [Child(0), Child(1)]
assert [type(x) for x in parallel(delayed(Child.make)(i) for i in both)] == [Child, Child]
assert parallel(delayed(Child.double)(i) for i in both) == [0, 2]
assert parallel(delayed(Child(i).method)() for i in both) == [0, 1]
assert parallel(delayed(Child.squared.fget)(Child(i)) for i in both) == [0, 1]
assert parallel(delayed(Callable(i))(3) for i in both) == [0, 3]
assert parallel([delayed(Color.other)(c) for c in Color]) == [Color.BLUE, Color.RED]
assert all(a is b for a, b in zip(parallel([delayed(identity)(c) for c in Color]), Color))
assert parallel([delayed(identity)(Flags.A | Flags.B)]) == [Flags.A | Flags.B]
assert parallel(delayed(Point)(i) for i in both) == [Point(0), Point(1)]
assert parallel(delayed(identity)(Point(i, [i])) for i in both) == [Point(0, [0]), Point(1, [1])]
assert parallel(delayed(identity)(Pair(i, i)) for i in both) == [Pair(0, 0), Pair(1, 1)]
assert type(parallel(delayed(Pair)(i, i) for i in both)[0]) is Pair
assert parallel(delayed(Typed)(i) for i in both) == [Typed(0), Typed(1)]
assert parallel([delayed(identity)({Pair: [Point, Color.RED]})]) == [{Pair: [Point, Color.RED]}]
try:
    parallel([delayed(fail)()])
except MyError as error:
    assert (error.code, str(error)) == (3, "mine")
else:
    raise AssertionError("no error")

def tasks():
    point = Point(0)
    for i in range(30):
        point.y.append(i)
        calls.append(i)
        yield delayed(lambda p: (len(p.y), p.y[-1]))(point)

assert parallel(tasks()) == [(i + 1, i) for i in range(30)]
assert calls == list(range(30))
print("fine")
"""


@pytest.mark.parametrize("how", HOW)
def test_everything(tmp_path, how):
    """No guard: the program would start itself for ever, or define nothing, if workers imported `__main__`."""
    run(EVERYTHING, tmp_path, how=how)


@pytest.mark.parametrize("how", HOW)
def test_main_is_not_run_again(tmp_path, how):
    lines = run(
        """
        print("the program runs", flush=True)

        def what_main_is():
            main = sys.modules.get("__main__")
            return getattr(main, "__file__", None), hasattr(main, "what_main_is")

        assert {has for _, has in Parallel(n_jobs=2)(delayed(what_main_is)() for _ in range(4))} == {False}
        print("fine")
        """,
        tmp_path,
        how=how,
    )
    assert lines == ["the program runs"]


def test_a_bound_method_has_the_state_of_the_moment(tmp_path):
    run(
        """
        class Counter:
            def __init__(self):
                self.n = 0
                self.history = []

            def read(self):
                return self.n, len(self.history)

            def __call__(self):
                return self.n

        counter = Counter()

        def tasks():
            for i in range(50):
                counter.n = i
                counter.history.append(i)
                yield delayed(counter.read)() if i % 2 else delayed(counter)()

        for batch_size in (1, 7, "auto"):
            counter.history.clear()
            results = Parallel(n_jobs=2, batch_size=batch_size, pre_dispatch="all")(tasks())
            assert results == [(i, i + 1) if i % 2 else i for i in range(50)], results
        print("fine")
        """,
        tmp_path,
    )


def test_globals_and_closures_that_a_generator_changes(tmp_path):
    """Each task has the values of the moment at which it was drawn."""
    run(
        """
        LEVEL = 0
        TABLE = {"level": 0}

        def read_global():
            return LEVEL

        def read_table():
            return TABLE["level"]

        def tasks(kind):
            global LEVEL
            level = -1

            def read_closure():
                return level

            for i in range(40):
                LEVEL = TABLE["level"] = level = i
                yield delayed({"global": read_global, "table": read_table, "closure": read_closure}[kind])()

        for kind in ("global", "table", "closure"):
            for batch_size in (1, "auto"):
                results = Parallel(n_jobs=2, batch_size=batch_size)(tasks(kind))
                assert results == list(range(40)), (kind, results)
        print("fine")
        """,
        tmp_path,
    )


def test_what_a_worker_does_to_its_copies_stays_there(tmp_path):
    run(
        """
        STATE = []

        def append(x):
            STATE.append(x)
            return len(STATE)

        value = [1]

        def change(given):
            given.append(2)
            return given

        # Functions by value bring the globals that they name: each task that was sent has those of the parent.
        assert Parallel(n_jobs=2, batch_size=1)(delayed(append)(i) for i in range(10)) == [1] * 10
        assert STATE == []
        assert Parallel(n_jobs=2)([delayed(change)(value)] * 3) == [[1, 2]] * 3
        assert value == [1]
        print("fine")
        """,
        tmp_path,
    )


def test_a_module_registered_to_go_by_value(tmp_path):
    (tmp_path / "only_here.py").write_text(
        "BASE = 5\n\ndef add(x):\n    return x + BASE\n\nclass Thing:\n    def get(self):\n        return add(1)\n",
        encoding="utf-8",
    )
    run(
        """
        import cloudpickle
        import only_here

        os.unlink(only_here.__file__)  # workers could not import it
        cloudpickle.register_pickle_by_value(only_here)
        assert Parallel(n_jobs=2)(delayed(only_here.add)(i) for i in range(3)) == [5, 6, 7]
        assert Parallel(n_jobs=2)([delayed(only_here.Thing().get)()]) == [6]
        only_here.BASE = 7
        assert Parallel(n_jobs=2)(delayed(only_here.add)(i) for i in range(3)) == [7, 8, 9]
        cloudpickle.unregister_pickle_by_value(only_here)
        try:
            Parallel(n_jobs=2)([delayed(only_here.add)(1)])
        except ModuleNotFoundError as error:
            assert error.name == "only_here"
        else:
            raise AssertionError("it was imported")
        print("fine")
        """,
        tmp_path,
        environ={"PYTHONDONTWRITEBYTECODE": "1"},
    )


def test_modules_beside_the_script(tmp_path):
    (tmp_path / "beside.py").write_text("def triple(x):\n    return 3 * x\n", encoding="utf-8")
    for how in ("script", "-c", "stdin", "-m"):
        run(
            """
            import beside
            assert Parallel(n_jobs=2)(delayed(beside.triple)(i) for i in range(3)) == [0, 3, 6]
            print("fine")
            """,
            tmp_path,
            how=how,
        )


def test_main_of_a_child_that_multiprocessing_spawned(tmp_path):
    """There it is called __mp_main__, and no worker finds it under that name."""
    program = tmp_path / "program.py"
    program.write_text(
        "import multiprocessing\n"
        "from joblot import Parallel, delayed\n"
        "def helper(i):\n    return i * 2\n"
        "def double(i):\n    return helper(i)\n"
        "def child(queue):\n    queue.put(Parallel(n_jobs=2)(delayed(double)(i) for i in range(5)))\n"
        "if __name__ == '__main__':\n"
        "    context = multiprocessing.get_context('spawn')\n"
        "    queue = context.Queue()\n"
        "    process = context.Process(target=child, args=(queue,))\n"
        "    process.start()\n"
        "    print(queue.get(timeout=60))\n"
        "    process.join()\n"
    )
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stdout) == (0, "[0, 2, 4, 6, 8]\n"), done.stderr
