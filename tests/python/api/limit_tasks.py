"""Tasks of `test_task_limits`, in a module that workers import in no time."""

import atexit
import itertools
import os
import pathlib
import subprocess
import sys
import time


def pid(number=0, pause=0.0):
    time.sleep(pause)
    return os.getpid()


def leave_mark(folder, number, pause=0.0):
    with (pathlib.Path(folder) / str(number)).open("a") as file:
        file.write("x")
    time.sleep(pause)
    return number


def leave_at_exit(folder):
    atexit.register(leave_mark, folder, os.getpid())
    return os.getpid()


def spin():
    for i in itertools.count():
        hash(i)


def spin_in_c():
    return sum(itertools.repeat(1))


def with_a_child(folder):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    leave_mark(folder, child.pid)
    child.wait()


def hold(size, pause=0.0):
    block = bytearray(size)
    block[::4096] = b"x" * len(block[::4096])
    time.sleep(pause)
    return len(block)


kept = []


def leak(size):
    kept.append(bytearray(size))
    kept[-1][::4096] = b"x" * len(kept[-1][::4096])
    return os.getpid()
