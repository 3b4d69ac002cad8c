"""Calls inside tasks and inside the input, and processes that are forked off the parent."""

import threading

import pytest
from joblot import Parallel, delayed
from kill.programs import Program, run


def square(x):
    return x * x


def names(depth):
    """What runs at each level below this task."""
    me = threading.current_thread() is threading.main_thread()
    if depth == 0:
        return [me]
    parallel = Parallel(n_jobs=2)
    below = parallel([delayed(names)(depth - 1) for _ in range(2)])
    assert below[0] == below[1]
    return [me, type(parallel._backend).__name__, *below[0]]


def test_processes_then_threads_then_a_plain_loop():
    results = Parallel(n_jobs=2)([delayed(names)(3) for _ in range(4)])
    # The last level is a loop in the thread of the level above.
    expected = [True, "ThreadingBackend", False, "SequentialBackend", False, "SequentialBackend", False]
    assert results == [expected] * 4


def sum_of_squares(n, **settings):
    return sum(Parallel(n_jobs=2, **settings)(delayed(square)(i) for i in range(n)))


@pytest.mark.filterwarnings("ignore:Loky-backed parallel loops cannot be nested below threads")
@pytest.mark.parametrize("inner", ["loky", "threading", "sequential"])
@pytest.mark.parametrize("outer", ["loky", "threading", "sequential"])
def test_every_pair_of_backends(outer, inner):
    results = Parallel(n_jobs=3, backend=outer)(delayed(sum_of_squares)(n, backend=inner) for n in range(12))
    assert results == [sum(i * i for i in range(n)) for n in range(12)]


def test_processes_inside_processes(tmp_path):
    """Asked for by name: the workers of a worker go with it."""
    text = """
        def inner(i):
            os.write(1, b"ready\\n")
            time.sleep(600)

        def outer(i):
            return Parallel(n_jobs=2, backend="loky")([delayed(inner)(j) for j in range(2)])

        Parallel(n_jobs=2)([delayed(outer)(i) for i in range(2)])
        """
    with Program(text, tmp_path) as program:
        assert [program.line() for _ in range(4)] == ["ready"] * 4
        program.kill()
        program.assert_nothing_left()


def test_processes_inside_processes_end_well(tmp_path):
    run(
        """
        def inner(i):
            return i * i

        def outer(n):
            return sum(Parallel(n_jobs=2, backend="loky")(delayed(inner)(i) for i in range(n)))

        for _ in range(3):
            results = Parallel(n_jobs=2)(delayed(outer)(n) for n in range(8))
            assert results == [sum(i * i for i in range(n)) for n in range(8)]
        print("fine")
        """,
        tmp_path,
    )


def test_a_call_inside_the_input_of_another():
    def tasks():
        for n in range(10):
            yield delayed(square)(sum(Parallel(n_jobs=2)(delayed(square)(i) for i in range(n))))

    for outer in ({"n_jobs": 2}, {"n_jobs": 2, "pre_dispatch": 1}, {"n_jobs": 3, "batch_size": 2}):
        assert Parallel(**outer)(tasks()) == [sum(i * i for i in range(n)) ** 2 for n in range(10)]


def test_a_call_inside_the_pickling_of_an_argument():
    class Lazy:
        def __reduce__(self):
            return sum, (Parallel(n_jobs=2)(delayed(square)(i) for i in range(4)),)

    assert Parallel(n_jobs=2)([delayed(square)(Lazy()) for _ in range(6)]) == [14 * 14] * 6


def test_an_object_that_runs_already_says_so():
    parallel = Parallel(n_jobs=2)

    def tasks():
        with pytest.raises(RuntimeError, match="already running"):
            parallel([delayed(square)(1)])
        yield delayed(square)(3)

    assert parallel(tasks()) == [9]
    assert parallel([delayed(square)(2)]) == [4]


FORK = """
        import warnings

        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of fork beside threads

        def call(n=20):
            assert Parallel(n_jobs=2)(delayed(pow)(i, 2) for i in range(n)) == [i * i for i in range(n)]

        def fork(action):
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    action()
                    code = 0
                finally:
                    sys.stderr.flush()
                    os._exit(code)
            return pid

        def check(*pids):
            for pid in pids:
                assert os.waitpid(pid, 0)[1] == 0
"""


def test_the_parent_forks_between_calls(tmp_path):
    """The child's engine is empty and works; the parent's is untouched."""
    run(
        FORK
        + """
        def where():
            time.sleep(0.01)
            return os.getpid()

        with Parallel(n_jobs=2, batch_size=1) as parallel:
            before = set(parallel([delayed(where)()] * 10))
            children = [fork(call) for _ in range(2)]
            after = set(parallel([delayed(where)()] * 10))
            check(*children)
            assert before == after | set(parallel([delayed(where)()] * 10))
            children = [fork(lambda: check(fork(call)))]  # a child of a child
            check(*children)
            children = [fork(lambda: None)]  # one that makes no call
            check(*children)
            assert before == set(parallel([delayed(where)()] * 10))
        print("fine")
        """,
        tmp_path,
    )


def test_the_parent_forks_in_a_with_block_and_the_child_goes_on_with_it(tmp_path):
    run(
        FORK
        + """
        with Parallel(n_jobs=2) as parallel:
            tasks = [delayed(pow)(i, 2) for i in range(20)]
            assert parallel(tasks) == [i * i for i in range(20)]

            def go_on():
                assert parallel(tasks) == [i * i for i in range(20)]

            check(fork(go_on), fork(go_on))
            assert parallel(tasks) == [i * i for i in range(20)]
        print("fine")
        """,
        tmp_path,
    )


def test_the_parent_forks_while_a_call_runs(tmp_path):
    """From the input, and from another thread."""
    run(
        FORK
        + """
        def tasks():
            for i in range(60):
                if i % 20 == 10:
                    children.append(fork(call))
                yield delayed(pow)(i, 2)

        children = []
        assert Parallel(n_jobs=2)(tasks()) == [i * i for i in range(60)]
        check(*children)

        results = []
        thread = threading.Thread(target=lambda: results.extend(
            Parallel(n_jobs=2)([delayed(time.sleep)(0.01) for _ in range(60)])))
        thread.start()
        children = [fork(call) for _ in range(5)]
        call()
        check(*children)
        thread.join()
        assert results == [None] * 60
        print("fine")
        """,
        tmp_path,
    )


def test_a_child_that_is_forked_in_the_input_and_leaves_through_the_call(tmp_path):
    """It unwinds through a call that is its parent's, and must not touch it."""
    run(
        FORK
        + """
        class InChild(BaseException):
            pass

        def tasks(end):
            for i in range(60):
                if i == 30:
                    pid = os.fork()
                    if pid == 0 and end == "raise":
                        raise InChild
                    if pid == 0 and end == "return":
                        return
                    if pid:
                        children.append(pid)
                yield delayed(pow)(i, 2)

        children, me = [], os.getpid()
        for end in ("raise", "return", "go on"):
            try:
                results = Parallel(n_jobs=2)(tasks(end))
            except (InChild, RuntimeError) as error:
                assert os.getpid() != me
                assert isinstance(error, InChild) or "forked" in str(error), error
                call()
                os._exit(0)
            assert os.getpid() == me
            assert results == [i * i for i in range(60)]
        check(*children)
        assert len(children) == 3
        print("fine")
        """,
        tmp_path,
    )


def test_multiprocessing_beside_it(tmp_path):
    run(
        """
        import concurrent.futures
        import multiprocessing
        import warnings

        warnings.simplefilter("ignore")  # joblib's: in a daemonic process, n_jobs=1 is used

        def call(n):
            return sum(Parallel(n_jobs=2)(delayed(pow)(i, 2) for i in range(n)))

        expected = [sum(i * i for i in range(n)) for n in range(8)]
        call(3)
        context = multiprocessing.get_context("fork")
        with context.Pool(2) as pool:  # daemonic processes
            assert pool.map(call, range(8)) == expected
        with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as executor:
            assert list(executor.map(call, range(8))) == expected
        assert call(3) == 5
        print("fine")
        """,
        tmp_path,
    )
