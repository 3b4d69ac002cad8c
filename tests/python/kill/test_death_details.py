"""What WorkerDied tells beyond the signal: the Python stack at the crash, and whether memory had run out."""

import os

import pytest
from limits.places import memory_group

from .programs import Program, run

CRASHES = {
    "a segmentation fault": ("import ctypes; ctypes.string_at(0)", 11, "string_at"),
    "an abort": ("os.abort()", 6, "in crash"),
    "a bus error": ("signal.raise_signal(signal.SIGBUS)", 7, "in crash"),
    "a division in C": ("signal.raise_signal(signal.SIGFPE)", 8, "in crash"),
}


@pytest.mark.parametrize("backend", ["loky", "multiprocessing"])
@pytest.mark.parametrize("what", CRASHES)
def test_the_stack_at_the_crash(tmp_path, what, backend):
    statement, number, innermost = CRASHES[what]
    run(
        f"""
        def crash(depth):
            if depth:
                return crash(depth - 1)
            {statement}

        def outer():
            crash(5)

        if __name__ == "__main__":
            try:
                Parallel(n_jobs=2, backend={backend!r})([delayed(abs)(-1), delayed(outer)()])
            except WorkerDied as error:
                died = error
            assert died.signal == {number}, died
            assert died.oom_likely is False, died.oom_likely
            stack = died.stack.splitlines()
            calls = [line.rpartition(" in ")[2] for line in stack if line.startswith("  File ")]
            assert any({innermost!r} in line for line in stack), died.stack
            at = calls.index("outer")
            assert calls[at - 6 : at] == ["crash"] * 6, calls
            message = str(died)
            assert "Stack of the worker when it died:" in message, message
            assert "in crash" in message, message
            assert len(message.splitlines()) < 20, message
            print("fine")
        """,
        tmp_path,
    )


def test_a_deep_stack_and_other_threads(tmp_path):
    run(
        """
        def deep(depth):
            if depth:
                return deep(depth - 1)
            import ctypes
            ctypes.string_at(0)

        def wait_here():
            time.sleep(60)

        def task():
            threading.Thread(target=wait_here, daemon=True).start()
            time.sleep(0.1)
            deep(400)

        try:
            Parallel(n_jobs=2)([delayed(task)()])
        except WorkerDied as error:
            died = error
        assert "wait_here" in died.stack, died.stack  # all threads
        assert died.stack.count("in deep") >= 50, died.stack
        assert "lines more in the attribute `stack`" in str(died), str(died)
        print("fine")
        """,
        tmp_path,
    )


def test_deaths_without_a_stack(tmp_path):
    run(
        """
        def die(how):
            how()

        def kill(number):
            os.kill(os.getpid(), number)

        def child_crashes():
            import ctypes
            pid = os.fork()
            if pid == 0:
                ctypes.string_at(0)
            os.waitpid(pid, 0)
            os.kill(os.getpid(), signal.SIGKILL)  # its own death left no stack, and the child's is not its

        with Parallel(n_jobs=2, on_error="return") as parallel:
            work = [delayed(kill)(9), delayed(kill)(15), delayed(os._exit)(3), delayed(child_crashes)()]
            for error in parallel(work):
                assert type(error) is WorkerDied, error
                assert error.stack is None, error.stack
                assert "Stack" not in str(error)
                assert error.oom_likely is False or error.oom_likely is None, error.oom_likely
        print("fine")
        """,
        tmp_path,
    )


def test_each_death_has_its_own_stack(tmp_path):
    run(
        """
        def first():
            os.abort()

        def second():
            os.abort()

        with Parallel(n_jobs=2, on_error="return") as parallel:
            for _ in range(3):
                one, two = parallel([delayed(first)(), delayed(second)()])
                assert "in first" in one.stack and "in second" not in one.stack, one.stack
                assert "in second" in two.stack and "in first" not in two.stack, two.stack
        print("fine")
        """,
        tmp_path,
    )


def test_a_task_that_closes_descriptors_and_crashes(tmp_path):
    run(
        """
        def task():
            os.closerange(3, 4096)
            with open(os.path.join(here, "own"), "w") as file:
                file.write("the user's own text")
                file.flush()
                os.abort()

        try:
            Parallel(n_jobs=2)([delayed(task)()])
        except WorkerDied as error:
            assert error.signal == 6
        assert open(os.path.join(here, "own")).read() == "the user's own text"
        print("fine")
        """,
        tmp_path,
    )


def test_a_task_with_a_fault_handler_of_its_own(tmp_path):
    run(
        """
        def task():
            import faulthandler
            with open(os.path.join(here, "own"), "w") as file:
                faulthandler.enable(file=file)
                os.abort()

        try:
            Parallel(n_jobs=2)([delayed(task)()])
        except WorkerDied as error:
            assert (error.signal, error.stack) == (6, None)
        assert "in task" in open(os.path.join(here, "own")).read()
        print("fine")
        """,
        tmp_path,
    )


# ---- memory that ran out, for real: a control group of version 1 with a limit ----

@pytest.mark.skipif(not os.access("/sys/fs/cgroup/memory", os.W_OK), reason="no memory control groups of version 1")
def test_the_kernel_kills_for_memory(tmp_path):
    text = """
        def hold(size):
            block = bytearray(size)
            block[::4096] = b"x" * len(block[::4096])
            return len(block)

        def kill():
            os.kill(os.getpid(), signal.SIGKILL)

        if __name__ == "__main__":
            with Parallel(n_jobs=2, on_error="return") as parallel:
                for _ in range(2):
                    results = parallel([delayed(hold)(1000), delayed(hold)(400 << 20), delayed(kill)()])
                    assert results[0] == 1000, results
                    died, killed = results[1:]
                    assert type(died) is WorkerDied and died.signal == 9, died
                    assert died.oom_likely is True, died
                    assert "likely killed by the kernel because memory ran out" in str(died)
                    assert killed.signal == 9
                    time.sleep(1.1)  # the counter is read at most once a second
                    (killed,) = parallel([delayed(kill)()])
                    assert killed.oom_likely is False, killed
            print("fine")
        """
    with memory_group(150 << 20) as prefix:
        Program(text, tmp_path, prefix=prefix).ends_well()
