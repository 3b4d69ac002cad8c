"""Progress messages are joblib's, letter by letter. Times are left out of the comparison."""

import re

import pytest
from joblot import Parallel, delayed
from joblot._progress import is_left_out, short_time


def without_times(text):
    return re.sub(r"(elapsed|remaining): (?: *\d+\.\ds| *\d+\.\dmin)", r"\1: TIME", text)


def run(capsys, n_tasks, length_known=False, **arguments):
    tasks = [delayed(abs)(i) for i in range(n_tasks)]
    assert Parallel(**arguments)(tasks if length_known else iter(tasks)) == list(range(n_tasks))
    captured = capsys.readouterr()
    return without_times(captured.err).splitlines(), without_times(captured.out).splitlines()


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "   0.0s"), (1.26, "   1.3s"), (59.94, "  59.9s"), (60, "  60.0s"), (61, " 1.0min"), (7200, "120.0min")],
)
def test_times(seconds, shown):
    assert short_time(seconds) == shown


def test_which_messages_are_shown():
    def shown(verbose, count=60):
        return [index for index in range(count) if not is_left_out(index, verbose)]

    assert shown(0) == []
    assert shown(1, 300) == [0, 49, 199]
    assert shown(5) == [0, 17]
    assert shown(10) == [0, 1, 4, 7, 12, 17, 24, 31, 40, 49]
    assert shown(11) == list(range(60))


def test_silence(capsys):
    assert run(capsys, 5, n_jobs=1) == ([], [])
    assert run(capsys, 5, n_jobs=2, backend="threading") == ([], [])


def test_a_plain_loop_over_an_iterator(capsys):
    err, out = run(capsys, 10, n_jobs=1, verbose=10)
    assert err == [
        "[Parallel(n_jobs=1)]: Done   1 tasks      | elapsed: TIME",
        "[Parallel(n_jobs=1)]: Done   4 tasks      | elapsed: TIME",
        "[Parallel(n_jobs=1)]: Done   7 tasks      | elapsed: TIME",
        "[Parallel(n_jobs=1)]: Done  10 out of  10 | elapsed: TIME finished",
    ]
    assert out == []


def test_a_plain_loop_over_a_list(capsys):
    err, _ = run(capsys, 12, length_known=True, n_jobs=1, verbose=10)
    assert err == [
        "[Parallel(n_jobs=1)]: Done  1 out of 12 | elapsed: TIME",
        "[Parallel(n_jobs=1)]: Done  4 out of 12 | elapsed: TIME",
        "[Parallel(n_jobs=1)]: Done  7 out of 12 | elapsed: TIME",
        "[Parallel(n_jobs=1)]: Done 12 out of 12 | elapsed: TIME",
        "[Parallel(n_jobs=1)]: Done 12 out of 12 | elapsed: TIME finished",
    ]


def test_little_verbosity(capsys):
    err, _ = run(capsys, 10, n_jobs=1, verbose=1)
    assert err == ["[Parallel(n_jobs=1)]: Done  10 out of  10 | elapsed: TIME finished"]


def test_above_10_every_task_is_shown(capsys):
    err, _ = run(capsys, 3, n_jobs=1, verbose=11)
    assert err == [
        "[Parallel(n_jobs=1)]: Done   1 tasks      | elapsed: TIME",
        "[Parallel(n_jobs=1)]: Done   2 tasks      | elapsed: TIME",
        "[Parallel(n_jobs=1)]: Done   3 tasks      | elapsed: TIME",
        "[Parallel(n_jobs=1)]: Done   3 out of   3 | elapsed: TIME finished",
    ]


def test_from_50_on_stdout(capsys):
    assert run(capsys, 1, n_jobs=1, verbose=49)[1] == []
    err, out = run(capsys, 1, n_jobs=1, verbose=50)
    assert err == []
    assert out[-1] == "[Parallel(n_jobs=1)]: Done   1 out of   1 | elapsed: TIME finished"


def test_threads_with_everything_drawn_first(capsys):
    err, _ = run(capsys, 8, n_jobs=2, backend="threading", verbose=10, pre_dispatch="all")
    assert err == [
        "[Parallel(n_jobs=2)]: Using backend ThreadingBackend with 2 concurrent workers.",
        *[f"[Parallel(n_jobs=2)]: Done   {i} out of   8 | elapsed: TIME remaining: TIME" for i in (1, 2, 3, 4, 5, 6)],
        "[Parallel(n_jobs=2)]: Done   8 out of   8 | elapsed: TIME finished",
    ]


def test_threads_with_one_task_drawn_ahead(capsys):
    # One at a time, so what is known when each message is made does not depend on the scheduler.
    err, _ = run(capsys, 9, n_jobs=2, backend="threading", verbose=10, pre_dispatch=1)
    assert err == [
        "[Parallel(n_jobs=2)]: Using backend ThreadingBackend with 2 concurrent workers.",
        "[Parallel(n_jobs=2)]: Done   1 tasks      | elapsed: TIME",
        "[Parallel(n_jobs=2)]: Done   4 tasks      | elapsed: TIME",
        "[Parallel(n_jobs=2)]: Done   7 tasks      | elapsed: TIME",
        "[Parallel(n_jobs=2)]: Done   9 out of   9 | elapsed: TIME finished",
    ]


def test_no_tasks(capsys):
    err, _ = run(capsys, 0, n_jobs=2, backend="threading", verbose=10)
    assert err == ["[Parallel(n_jobs=2)]: Using backend ThreadingBackend with 2 concurrent workers."]


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_no_closing_message_after_an_error(capsys, n_jobs):
    with pytest.raises(ZeroDivisionError):
        Parallel(n_jobs=n_jobs, backend="threading", verbose=1)(delayed(divmod)(1, 0) for _ in range(3))
    assert "finished" not in capsys.readouterr().err


def test_a_subclass_prints_under_its_own_name(capsys):
    class Own(Parallel):
        pass

    Own(n_jobs=1, verbose=1)([delayed(abs)(1)])
    assert capsys.readouterr().err.startswith("[Own(n_jobs=1)]: Done ")


def test_an_own_print_progress_is_called_with_threads():
    class Reporting(Parallel):
        seen = ()

        def print_progress(self):
            self.seen += (self.n_completed_tasks,)

    parallel = Reporting(n_jobs=2, backend="threading")
    parallel(delayed(abs)(i) for i in range(20))
    # Once more at the end where the last task ended before the input was known to be over.
    assert parallel.seen in (tuple(range(1, 21)), (*range(1, 21), 20))


def test_an_error_in_an_own_print_progress_ends_the_call():
    class Failing(Parallel):
        def print_progress(self):
            raise BufferError("no room for the bar")

    for n_jobs in (1, 2):
        with pytest.raises(BufferError, match="no room for the bar"):
            Failing(n_jobs=n_jobs, backend="threading")(delayed(abs)(i) for i in range(20))
