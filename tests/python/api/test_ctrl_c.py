"""Ctrl-C: SIGINT to the whole foreground process group, as a terminal sends it, and to the parent alone."""

import os
import signal
import time

import pytest
from kill.programs import Program, run

# Seconds from the signal to the end of the program.
BOUND = 3.0

BUSY = {
    "asleep": "time.sleep(600)",
    "in Python": "\n            while True: pass",
    "in C with the GIL": "ctypes.PyDLL(None).sleep(600)",
    "catching it": """
            while True:
                try:
                    time.sleep(600)
                except BaseException:
                    pass""",
    "with a program": "subprocess.run(['sleep', '600'])",
}

START = """
        import ctypes, subprocess

        def work():
            os.write(1, b"ready\\n")
            BUSY
        """


def interrupt(program, everybody):
    if everybody:  # the session leader's group: a terminal's foreground group
        os.killpg(program.process.pid, signal.SIGINT)
    else:
        program.process.send_signal(signal.SIGINT)
    return time.monotonic()


@pytest.mark.parametrize("everybody", [True, False], ids=["group", "parent"])
@pytest.mark.parametrize("busy", BUSY)
def test_it_ends_the_program(tmp_path, busy, everybody):
    text = START.replace("BUSY", BUSY[busy]) + "\n        Parallel(n_jobs=2)([delayed(work)() for _ in range(20)])\n"
    with Program(text, tmp_path) as program:
        assert [program.line() for _ in range(2)] == ["ready"] * 2
        since = interrupt(program, everybody)
        program.wait()
        assert time.monotonic() - since < BOUND
        program.assert_nothing_left()
        errors = program.errors()
        assert program.process.returncode == -signal.SIGINT
        assert errors.count("Traceback") == 1
        assert errors.rstrip().endswith("KeyboardInterrupt")
        assert "joblot._server" not in errors


@pytest.mark.parametrize("everybody", [True, False], ids=["group", "parent"])
def test_a_program_that_catches_it_goes_on(tmp_path, everybody):
    text = (
        START.replace("BUSY", "time.sleep(600)")
        + """
        with Parallel(n_jobs=2) as parallel:
            for _ in range(2):
                try:
                    parallel([delayed(work)() for _ in range(20)])
                except KeyboardInterrupt:
                    print("caught", flush=True)
                assert parallel([delayed(pow)(i, 2) for i in range(30)]) == [i * i for i in range(30)]
        assert Parallel(n_jobs=2)([delayed(pow)(i, 2) for i in range(30)]) == [i * i for i in range(30)]
        print("fine")
        """
    )
    with Program(text, tmp_path) as program:
        for _ in range(2):
            assert [program.line() for _ in range(2)] == ["ready"] * 2
            interrupt(program, everybody)
            assert program.line() == "caught"
        program.ends_well()


def test_idle_workers_do_not_mind(tmp_path):
    """At a prompt, Ctrl-C reaches workers that have nothing to do."""
    text = """
        def pids():
            return sorted(set(Parallel(n_jobs=2, batch_size=1)([delayed(where)() for _ in range(10)])))

        def where():
            time.sleep(0.02)
            return os.getpid()

        before = pids()
        try:
            print("ready", flush=True)
            time.sleep(600)
        except KeyboardInterrupt:
            time.sleep(0.2)
        assert len(before) == 2 and pids() == before
        print("fine")
        """
    with Program(text, tmp_path) as program:
        assert program.line() == "ready"
        interrupt(program, True)
        program.ends_well()


def test_while_the_input_is_drawn(tmp_path):
    text = """
        def tasks():
            yield delayed(abs)(-1)
            print("ready", flush=True)
            time.sleep(600)

        Parallel(n_jobs=2)(tasks())
        """
    with Program(text, tmp_path) as program:
        assert program.line() == "ready"
        since = interrupt(program, True)
        program.wait()
        assert time.monotonic() - since < BOUND
        assert program.errors().count("Traceback") == 1
        assert program.errors().rstrip().endswith("KeyboardInterrupt")
        program.assert_nothing_left()


@pytest.mark.parametrize("ms", [5, 20, 35, 50, 70, 90, 120])
def test_at_any_moment(tmp_path, ms):
    """Also while the server starts and forks, imports and pickles."""
    text = """
        import numpy
        from joblot import _processes

        try:
            print("ready", flush=True)
            while True:
                Parallel(n_jobs=2)(delayed(numpy.sum)(numpy.zeros(200_000, ">f4")) for _ in range(8))
                _processes.shutdown()
        except KeyboardInterrupt:
            pass
        assert Parallel(n_jobs=2)([delayed(abs)(-1)] * 9) == [1] * 9
        print("fine")
        """
    with Program(text, tmp_path) as program:
        assert program.line() == "ready"
        time.sleep(ms / 1000)
        interrupt(program, True)
        program.ends_well()


def test_a_handler_of_the_program_is_called_in_mid_call(tmp_path):
    """The wait lets Python's handlers run; one that raises nothing does not end the call."""
    run(
        """
        seen = []
        signal.signal(signal.SIGUSR1, lambda *_: seen.append(os.getpid()))

        def tell():
            os.kill(PARENT, signal.SIGUSR1)
            time.sleep(0.3)
            return "told"

        PARENT = os.getpid()
        assert Parallel(n_jobs=2)([delayed(tell)()] * 2) == ["told"] * 2
        assert seen and set(seen) == {os.getpid()}
        print("fine")
        """,
        tmp_path,
    )


def test_an_alarm_that_raises_ends_the_call(tmp_path):
    run(
        """
        class Alarm(Exception):
            pass

        def ring(*_):
            raise Alarm

        signal.signal(signal.SIGALRM, ring)
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        try:
            Parallel(n_jobs=2)([delayed(time.sleep)(600)] * 2)
        except Alarm:
            pass
        assert Parallel(n_jobs=2)([delayed(abs)(-1)] * 9) == [1] * 9
        print("fine")
        """,
        tmp_path,
    )


def test_while_another_thread_draws_from_an_input_that_blocks(tmp_path):
    text = """
        def tasks():
            while threading.current_thread() is threading.main_thread():
                yield delayed(int)()
                time.sleep(0.05)  # the first task ends meanwhile, and its thread waits to draw
            os.write(1, b"ready\\n")
            time.sleep(600)
            yield delayed(int)()

        Parallel(n_jobs=20, backend="threading", pre_dispatch="100 * n_jobs")(tasks())
        """
    with Program(text, tmp_path) as program:
        assert program.line() == "ready"
        time.sleep(0.1)  # the main thread waits for its turn
        since = interrupt(program, False)
        program.wait()
        assert time.monotonic() - since < BOUND
        assert program.errors().rstrip().endswith("KeyboardInterrupt")
