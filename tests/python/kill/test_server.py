"""The server dies, in mid-call and between calls: as if each worker had died, and a new one is started."""

import pytest

from .programs import run

SERVER = """
        from joblot import _processes

        def server():
            return _processes._pool.processes()[0]
"""


@pytest.mark.parametrize("seconds", [0, 0.3])
def test_between_two_calls(tmp_path, seconds):
    """Also when the next call comes before its death can have been seen; that may cost the attempts of that call."""
    run(
        SERVER
        + f"""
        with Parallel(n_jobs=2, retries={0 if seconds else 9}) as parallel:
            for _ in range(5):
                assert parallel([delayed(pow)(i, 2) for i in range(20)]) == [i * i for i in range(20)]
                old = server()
                try:
                    os.kill(old, signal.SIGKILL)
                except ProcessLookupError:  # the call was over before the death of the one before had been seen
                    assert {seconds} == 0
                time.sleep({seconds})
        time.sleep(0.3)
        assert Parallel(n_jobs=2)([delayed(pow)(i, 2) for i in range(20)]) == [i * i for i in range(20)]
        assert server() not in (0, old)
        print("fine")
        """,
        tmp_path,
    )


KILL = """
        def kill_server_once():
            open(os.path.join(here, f"started-{os.getpid()}"), "w").close()
            if os.path.exists(os.path.join(here, "killed")):
                return "done"
            open(os.path.join(here, "killed"), "w").close()
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(600)
"""


def test_in_mid_call_without_retries(tmp_path):
    run(
        SERVER
        + KILL
        + """
        try:
            Parallel(n_jobs=2, batch_size=1)([delayed(abs)(-1)] * 4 + [delayed(kill_server_once)()])
        except WorkerDied as error:
            died = error
        assert (died.task, died.signal, died.exit_code, died.attempts) == (4, None, None, 1), vars(died)
        assert os.path.exists(os.path.join(here, f"started-{died.pid}"))
        assert "the server process ended and took it along" in str(died)
        assert set(died.results.values()) <= {1}
        assert Parallel(n_jobs=2)([delayed(pow)(i, 2) for i in range(20)]) == [i * i for i in range(20)]
        print("fine")
        """,
        tmp_path,
    )


def test_in_mid_call_with_retries(tmp_path):
    """The attempts that workers were running are lost, and no finished task is run again."""
    run(
        SERVER
        + KILL
        + """
        def work(i):
            with open(os.path.join(here, f"task-{i}"), "a") as file:
                file.write("x")
            return i

        tasks = [delayed(work)(i) for i in range(40)]
        tasks.insert(20, delayed(kill_server_once)())
        results = Parallel(n_jobs=2, retries=1)(tasks)
        assert results.pop(20) == "done"
        assert results == list(range(40))
        twice = [i for i in range(40) if os.path.getsize(os.path.join(here, f"task-{i}")) > 1]
        assert len(twice) <= 1, twice  # the other worker's task of that moment
        assert len([name for name in os.listdir(here) if name.startswith("started-")]) == 2
        print("fine")
        """,
        tmp_path,
    )


def test_the_user_has_reaped_it(tmp_path):
    """A program that waits for any child gets the server's status in the engine's place."""
    run(
        SERVER
        + """
        assert Parallel(n_jobs=2)([delayed(abs)(-1)] * 3) == [1, 1, 1]
        old = server()
        os.kill(old, signal.SIGKILL)
        assert os.waitpid(-1, 0)[0] == old
        assert Parallel(n_jobs=2)([delayed(abs)(-1)] * 3) == [1, 1, 1]
        print("fine")
        """,
        tmp_path,
    )


def test_the_user_ignores_the_end_of_children(tmp_path):
    """With SIGCHLD ignored the kernel reaps, and there is no status to be had."""
    run(
        """
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        assert Parallel(n_jobs=2)([delayed(abs)(-1)] * 3) == [1, 1, 1]
        try:
            Parallel(n_jobs=2)([delayed(os._exit)(3)])
        except WorkerDied as error:
            assert (error.task, error.exit_code) == (0, 3), vars(error)
        assert Parallel(n_jobs=2)([delayed(abs)(-1)] * 3) == [1, 1, 1]
        print("fine")
        """,
        tmp_path,
    )


def test_a_stopped_server_is_killed(tmp_path):
    run(
        SERVER
        + """
        assert Parallel(n_jobs=2)([delayed(abs)(-1)] * 3) == [1, 1, 1]
        os.kill(server(), signal.SIGSTOP)
        threading.Timer(0.5, os.kill, (server(), signal.SIGKILL)).start()
        # Two workers are there; a third cannot be had before the server's end is seen.
        assert Parallel(n_jobs=3)([delayed(abs)(-1)] * 30) == [1] * 30
        print("fine")
        """,
        tmp_path,
    )


def test_the_server_dies_again_and_again(tmp_path):
    run(
        SERVER
        + """
        def kill_it():
            while not over:
                time.sleep(0.1)
                pid = server()
                # Only one whose workers have had tasks: those that never get that far end the call.
                if pid and os.path.exists(os.path.join(here, f"server-{pid}")):
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)

        def work(i):
            time.sleep(0.005)
            open(os.path.join(here, f"server-{os.getppid()}"), "w").close()
            return i

        over, killed = False, []
        Parallel(n_jobs=2)([delayed(abs)(-1)])
        thread = threading.Thread(target=kill_it)
        thread.start()
        try:
            for _ in range(5):
                assert Parallel(n_jobs=2, retries=100)([delayed(work)(i) for i in range(100)]) == list(range(100))
        finally:
            over = True
        thread.join()
        assert len(killed) > 3, killed
        print("fine")
        """,
        tmp_path,
    )
