"""A program that ends while a daemon thread of it is in a call: nothing printed that is not meant, nothing left."""

import os

import pytest

from .programs import Program

# The way out, and what the program may write.
WAYS = {
    "the end": ("", ""),
    "sys.exit": ("sys.exit(3)", ""),
    "an exception": ("raise ValueError('mine')", "ValueError: mine"),
    "os._exit": ("os._exit(3)", ""),
    "SIGTERM": ("os.kill(os.getpid(), signal.SIGTERM)", ""),
    "SIGINT": ("os.kill(os.getpid(), signal.SIGINT); time.sleep(5)", "KeyboardInterrupt"),
    "SIGHUP": ("os.kill(os.getpid(), signal.SIGHUP)", ""),
    "abort": ("os.abort()", ""),
    "exec": ("os.execv('/bin/true', ['true'])", ""),
}
# What its workers are busy with.
WORK = {
    "sleep": "time.sleep(600)",
    "quick": "None",
    "arrays": "array",
    "asleep in C, with the GIL": "ctypes.PyDLL(None).sleep(600)",
    "stopped": "os.kill(os.getpid(), signal.SIGSTOP)",
}
CASES = [(way, work, backend) for way in WAYS for work in WORK for backend in ("loky", "multiprocessing")]
if os.environ.get("JOBLOT_KILL_ALL") != "1":
    CASES = CASES[::11]  # each way and each kind of work is among them


@pytest.mark.parametrize(("way", "work", "backend"), CASES)
def test_the_program_ends_in_mid_call(tmp_path, way, work, backend):
    how, meant = WAYS[way]
    text = f"""
        import ctypes
        import numpy

        def work(i, array):
            if i == 0:
                open(os.path.join(here, "started"), "w").close()
            return {WORK[work]}

        def tasks():
            i = 0
            while True:
                yield delayed(work)(i, numpy.zeros(300_000, ">i4"))
                i += 1

        threading.Thread(target=lambda: Parallel(n_jobs=2, backend={backend!r})(tasks()), daemon=True).start()
        while not os.path.exists(os.path.join(here, "started")):
            time.sleep(0.01)
        time.sleep(0.1)
        {how}
        """
    with Program(text, tmp_path) as program:
        program.wait()
        assert (tmp_path / "started").exists()
        program.assert_nothing_left()
        errors = program.errors()
        assert errors.count("Traceback") == (meant != "") and meant in errors, errors
        assert meant or errors == ""
