"""A server that is stopped for good: calls that need it can be ended, and the program's end leaves nothing."""

import pytest

from .programs import run


@pytest.mark.parametrize("ending", ["Ctrl-C", "timeout"])
def test_workers_die_and_the_server_is_stopped(tmp_path, ending):
    """The report on the dead never comes; neither Ctrl-C nor a time limit is forgotten over the wait for it."""
    run(
        f"""
        from joblot import _processes

        def work(i):
            time.sleep(0.01)
            return i

        def stop_it():
            server, workers = _processes._pool.processes()
            os.kill(server, signal.SIGSTOP)
            for pid in workers:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.5)
            if {ending == "Ctrl-C"}:
                os.kill(os.getpid(), signal.SIGINT)

        assert Parallel(n_jobs=2)(delayed(work)(i) for i in range(4)) == list(range(4))
        thread = threading.Timer(0.3, stop_it)
        thread.start()
        try:
            Parallel(n_jobs=2, retries=3, pre_dispatch=4, timeout=None if {ending == "Ctrl-C"} else 2)(
                delayed(work)(i) for i in range(1_000_000))
        except {"KeyboardInterrupt" if ending == "Ctrl-C" else "TimeoutError"}:
            print("fine")
        thread.join()
        """,
        tmp_path,
    )


def test_answers_are_taken_while_a_report_is_waited_for(tmp_path):
    """One worker dies under a stopped server: what the other one does goes on, and comes back."""
    run(
        """
        from joblot import _processes

        def work(i):
            time.sleep(0.01)
            return os.getpid()

        Parallel(n_jobs=2)(delayed(work)(i) for i in range(4))
        server, (first, second) = _processes._pool.processes()

        def tasks():
            for i in range(400):
                if i == 40:
                    os.kill(server, signal.SIGSTOP)
                    os.kill(first, signal.SIGKILL)
                yield delayed(work)(i)
            os.kill(server, signal.SIGCONT)

        pids = Parallel(n_jobs=2, retries=3, pre_dispatch=4, batch_size=1)(tasks())
        assert len(pids) == 400 and pids.count(second) > 200, pids
        print("fine")
        """,
        tmp_path,
    )
