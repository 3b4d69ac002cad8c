"""Workers that die: one attempt at one task is lost, and nothing else."""

import pytest

from .programs import Program, run

# How a worker can go, as a task; and what is told of it: (signal, exit code).
WAYS = {
    "SIGKILL": ("os.kill(os.getpid(), signal.SIGKILL)", (9, None)),
    "SIGTERM": ("os.kill(os.getpid(), signal.SIGTERM)", (15, None)),
    "segfault": ("import ctypes; ctypes.string_at(0)", (11, None)),
    "abort": ("os.abort()", (6, None)),
    "_exit": ("os._exit(3)", (None, 3)),
    "_exit(0)": ("os._exit(0)", (None, 0)),
}


@pytest.mark.parametrize("way", WAYS)
def test_what_is_told_of_a_death(tmp_path, way):
    statement, how = WAYS[way]
    run(
        f"""
        from concurrent.futures.process import BrokenProcessPool

        def die():
            open(os.path.join(here, str(os.getpid())), "w").close()
            {statement}

        # The others end before it dies, since one worker runs them all.
        with Parallel(n_jobs=2, pre_dispatch="all", batch_size=1) as parallel:
            for number in range(2):
                tasks = [delayed(pow)(i, 2) for i in range(20)] + [delayed(die)()]
                try:
                    parallel(tasks)
                except BrokenProcessPool as error:
                    died = error
                else:
                    raise AssertionError("no death")
                assert type(died) is WorkerDied
                assert (died.task, died.signal, died.exit_code, died.attempts) == (20, *{how}, 1), vars(died)
                assert os.path.exists(os.path.join(here, str(died.pid))), died.pid
                assert 2**20 < died.peak_memory < 2**33, died.peak_memory
                assert set(died.results) <= set(range(20)), died.results
                assert all(value == key**2 for key, value in died.results.items())
                assert parallel([delayed(pow)(i, 2) for i in range(50)]) == [i * i for i in range(50)]
        assert Parallel(n_jobs=3)([delayed(pow)(i, 2) for i in range(50)]) == [i * i for i in range(50)]
        print("fine")
        """,
        tmp_path,
    )


def test_results_that_were_there_are_kept(tmp_path):
    run(
        """
        def die_when_the_others_are_done():
            while len(os.listdir(done)) < 30:
                time.sleep(0.01)
            time.sleep(0.3)  # the last one's result is on its way
            os.kill(os.getpid(), signal.SIGKILL)

        def work(i):
            open(os.path.join(done, str(i)), "w").close()
            return {"number": i}

        done = os.path.join(here, "done")
        os.mkdir(done)
        tasks = [delayed(work)(i) for i in range(30)]
        tasks.insert(7, delayed(die_when_the_others_are_done)())
        try:
            Parallel(n_jobs=2, pre_dispatch="all", batch_size=1)(tasks)
        except WorkerDied as error:
            died = error
        assert died.task == 7
        assert died.results == {i + (i >= 7): {"number": i} for i in range(30)}
        assert "30 finished results are kept" in str(died)
        print("fine")
        """,
        tmp_path,
    )


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_attempts_are_as_many_as_were_asked_for(tmp_path, retries):
    run(
        f"""
        def die():
            with open(os.path.join(here, "attempts"), "a") as file:
                file.write("x")
            os.kill(os.getpid(), signal.SIGKILL)

        try:
            Parallel(n_jobs=2, retries={retries})([delayed(abs)(-1), delayed(die)(), delayed(abs)(-2)])
        except WorkerDied as error:
            assert (error.task, error.attempts, error.signal) == (1, {retries} + 1, 9), vars(error)
        else:
            raise AssertionError("no death")
        assert open(os.path.join(here, "attempts")).read() == "x" * ({retries} + 1)
        assert Parallel(n_jobs=2)([delayed(abs)(-1)]) == [1]
        print("fine")
        """,
        tmp_path,
    )


@pytest.mark.parametrize("backend", ["loky", "multiprocessing"])
@pytest.mark.parametrize("batch_size", [1, 10, 60, "'auto'"])
def test_what_is_finished_is_never_run_again(tmp_path, batch_size, backend):
    """Also within a batch: a death costs the task that had started and not ended."""
    run(
        f"""
        def work(i):
            with open(os.path.join(here, f"task-{{i}}"), "a") as file:
                file.write("x")
            if i % 20 == 7 and os.path.getsize(os.path.join(here, f"task-{{i}}")) < 3:
                os.kill(os.getpid(), signal.SIGKILL)
            return i

        parallel = Parallel(n_jobs=2, retries=2, batch_size={batch_size}, backend={backend!r})
        assert parallel([delayed(work)(i) for i in range(60)]) == list(range(60))
        runs = [os.path.getsize(os.path.join(here, f"task-{{i}}")) for i in range(60)]
        assert runs == [3 if i % 20 == 7 else 1 for i in range(60)], runs
        print("fine")
        """,
        tmp_path,
    )


def test_idle_workers_are_killed_between_two_calls(tmp_path):
    run(
        """
        from joblot import _processes

        for all_of_them in (True, False):
            with Parallel(n_jobs=3) as parallel:
                before = set(parallel(delayed(os.getpid)() for _ in range(60)))
                before |= set(_processes._pool.processes()[1])
                for pid in before if all_of_them else sorted(before)[:1]:
                    os.kill(pid, signal.SIGKILL)
                assert parallel([delayed(pow)(i, 2) for i in range(60)]) == [i * i for i in range(60)]
                time.sleep(0.3)
                for pid in _processes._pool.processes()[1]:
                    os.kill(pid, signal.SIGKILL)
                time.sleep(0.3)
                assert parallel([delayed(pow)(i, 2) for i in range(60)]) == [i * i for i in range(60)]
        print("fine")
        """,
        tmp_path,
    )


def test_a_stopped_worker_that_is_killed(tmp_path):
    run(
        """
        def stop():
            os.kill(os.getpid(), signal.SIGSTOP)

        def kill_it():
            while not os.path.exists(os.path.join(here, "pid")):
                time.sleep(0.01)
            pid = int(open(os.path.join(here, "pid")).read())
            while open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0] != "T":
                time.sleep(0.01)
            os.kill(pid, signal.SIGKILL)

        def note_and_stop():
            with open(os.path.join(here, "pid.new"), "w") as file:
                file.write(str(os.getpid()))
            os.rename(os.path.join(here, "pid.new"), os.path.join(here, "pid"))
            stop()

        try:
            Parallel(n_jobs=2, batch_size=1)([delayed(note_and_stop)(), delayed(kill_it)()])
        except WorkerDied as error:
            assert (error.task, error.signal) == (0, 9)
            assert error.pid == int(open(os.path.join(here, "pid")).read())
        else:
            raise AssertionError("no death")
        print("fine")
        """,
        tmp_path,
    )


@pytest.mark.parametrize("size", [10, 300_000, 30_000_000])
def test_a_worker_that_dies_after_its_result_was_taken_costs_nothing(tmp_path, size):
    """A thread of the task kills the worker later, in whatever it does then."""
    run(
        f"""
        def work(i):
            if i % 10 == 3 and not os.path.exists(os.path.join(here, f"task-{{i}}")):
                open(os.path.join(here, f"task-{{i}}"), "w").close()
                threading.Timer(0.001 * i, os.kill, (os.getpid(), signal.SIGKILL)).start()
            return bytes([i]) * {size}

        n = {40 if size < 10**6 else 20}
        got = Parallel(n_jobs=2, retries=n)([delayed(work)(i) for i in range(n)])
        assert [len(part) for part in got] == [{size}] * n
        assert all(part == part[:1] * {size} and part[0] == i for i, part in enumerate(got))
        print("fine")
        """,
        tmp_path,
    )


def test_a_task_that_kills_its_whole_group(tmp_path):
    """The parent, and its shell, are in another one."""
    run(
        """
        try:
            Parallel(n_jobs=2)([delayed(os.killpg)(0, signal.SIGKILL), delayed(abs)(-1)])
        except WorkerDied as error:
            assert (error.task, error.signal) == (0, 9)
        else:
            raise AssertionError("no death")
        assert Parallel(n_jobs=2)([delayed(abs)(-1)]) == [1]
        print("fine")
        """,
        tmp_path,
    )


def test_an_initializer_that_kills_each_worker_ends_in_an_error(tmp_path):
    """No task runs, so there is no attempt to count: the call must not go on for ever."""
    run(
        """
        try:
            Parallel(n_jobs=2, retries=5, initializer=os._exit, initargs=(9,))([delayed(abs)(-1)])
        except WorkerDied as error:
            assert "workers died one after the other before they could take a task" in str(error), error
            assert (error.task, error.pid, error.attempts, error.results) == (None, None, 0, {})
        else:
            raise AssertionError("no death")
        assert Parallel(n_jobs=2)([delayed(abs)(-1)]) == [1]
        print("fine")
        """,
        tmp_path,
    )


CHILD = """
        def fork_and(action):
            pid = os.fork()
            if pid == 0:
                try:
                    time.sleep(600)
                finally:
                    os._exit(0)
            open(os.path.join(here, f"child-{pid}"), "w").close()
            if action == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            elif action == "stay":
                time.sleep(600)
            return pid

        def children():
            return [int(name[6:]) for name in os.listdir(here) if name.startswith("child-")]

        def wait_for(n):
            while len(children()) < n:
                time.sleep(0.01)

        def wait_for_end_of(pid):
            end = time.monotonic() + 2
            while os.path.exists(f"/proc/{pid}/cmdline") and open(f"/proc/{pid}/cmdline").read():
                assert time.monotonic() < end
                time.sleep(0.02)
"""


def test_a_child_of_a_task_does_not_hide_the_death_of_its_worker(tmp_path):
    """It holds every descriptor of the worker, and goes with it."""
    run(
        CHILD
        + """
        try:
            Parallel(n_jobs=2)([delayed(abs)(-1), delayed(fork_and)("die")])
        except WorkerDied as error:
            assert (error.task, error.signal) == (1, 9)
        else:
            raise AssertionError("no death")
        (child,) = children()
        wait_for_end_of(child)
        assert Parallel(n_jobs=2)([delayed(abs)(-1)]) == [1]
        print("fine")
        """,
        tmp_path,
    )


def test_children_of_tasks_do_not_keep_a_call_from_ending(tmp_path):
    run(
        CHILD
        + """
        pids = Parallel(n_jobs=2)([delayed(fork_and)("go on") for _ in range(4)])
        assert sorted(pids) == sorted(children())
        assert Parallel(n_jobs=2)([delayed(pow)(i, 2) for i in range(60)]) == [i * i for i in range(60)]
        print("fine")
        """,
        tmp_path,
    )


@pytest.mark.parametrize("action", ["go on", "stay"])
def test_the_parent_is_killed_while_children_of_tasks_hold_every_descriptor(tmp_path, action):
    text = (
        CHILD
        + f"""
        if "{action}" == "stay":
            threading.Thread(target=lambda: (wait_for(2), print("ready", flush=True))).start()
        Parallel(n_jobs=2)([delayed(fork_and)("{action}") for _ in range(2)])
        print("ready", flush=True)
        time.sleep(600)
        """
    )
    with Program(text, tmp_path) as program:
        assert program.line() == "ready"
        assert len(program.processes()) >= 5  # itself, the server, at least one worker, two children
        program.kill()
        program.assert_nothing_left()
