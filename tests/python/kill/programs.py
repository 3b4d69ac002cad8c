"""Programs of users, run in a process of their own, and the look for what they leave behind.

A program is Python text. It ends well when its exit code is 0, its last line of output is ``fine`` and stderr is
empty. Each one gets an environment variable with a value of its own, which its server, its workers and whatever their
tasks start inherit, and a temp folder of its own: so what is left of it can be told from everybody else's.
"""

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import uuid

MARK = "JOBLOT_TEST_PROGRAM"
# Of process backends; tests in which they hardly differ run on one of them, and on both in `make kill`.
BACKENDS = ["loky"] + ["multiprocessing"] * (os.environ.get("JOBLOT_KILL_ALL") == "1")
# Seconds after which nothing of a program may be there any more.
GRACE = 2.0
# What stands before each program's text, on one line, so that line numbers in messages are off by one only.
PRELUDE = (
    "import os, signal, sys, threading, time; from joblot import Parallel, WorkerDied, delayed, parallel_config; "
    "here = os.path.dirname(os.path.abspath(sys.argv[0]))\n"
)
# For a program's text: forbid(name) makes a system call fail in it and all that it starts, by a filter in the kernel.
FORBID = """
        import ctypes
        import platform
        import struct

        def forbid(name, error=1):
            numbers = {"process_vm_readv": (310, 270), "pidfd_open": (434, 434), "memfd_create": (319, 279)}
            number = numbers[name][["x86_64", "aarch64"].index(platform.machine())]
            code = b"".join(struct.pack("=HBBI", *line) for line in [
                (0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, 0x50000 | error), (0x06, 0, 0, 0x7FFF0000)])
            lines = ctypes.create_string_buffer(code, len(code))
            program = ctypes.create_string_buffer(struct.pack("@HP", len(code) // 8, ctypes.addressof(lines)))
            libc = ctypes.CDLL(None, use_errno=True)
            assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
            assert libc.prctl(22, 2, program, 0, 0) == 0, ctypes.get_errno()  # PR_SET_SECCOMP: a filter
"""
# Files in /dev/shm of joblib, multiprocessing and OpenMP, in programs beside this test. joblot makes none anywhere.
FOREIGN = ("joblib_memmapping_folder_", "loky-", "sem.loky-", "sem.mp-", "__KMP_REGISTERED_LIB_")


class Program:
    """A program that runs, or has run.

    Parameters
    ----------
    text : str
        The program; it is dedented, and `PRELUDE` is put before it.
    folder : pathlib.Path
        Where its file lies; `here` in the program.
    how : {'script', '-c', 'stdin', '-m', 'exec'}
        How Python gets to see it.
    prefix : list of str
        A command that runs the interpreter, such as ``setpriv`` with its options; it has to do so by exec.
    """

    def __init__(self, text, folder, limit=60.0, environ=None, how="script", prefix=()):
        self.folder = pathlib.Path(folder)
        self.limit = limit
        self.mark = uuid.uuid4().hex
        self.temp = tempfile.mkdtemp(prefix="joblot-")  # a short name: multiprocessing makes sockets there
        self.shm = _listing("/dev/shm")
        self.text = PRELUDE + textwrap.dedent(text)
        self.start([*prefix, sys.executable, *self.arguments(how)], environ or {}, how == "stdin")

    def arguments(self, how):
        """What follows the interpreter's name."""
        name = f"program_{self.mark[:8]}"
        path = self.folder / f"{name}.py"
        path.write_text(self.text, encoding="utf-8")
        if how == "-m":
            package = self.folder / f"package_{self.mark[:8]}"
            package.mkdir()
            (package / "__init__.py").touch()
            path.rename(package / path.name)
        return {
            "script": [str(path)],
            "-c": ["-c", self.text],
            "stdin": ["-"],
            "-m": ["-m", f"package_{self.mark[:8]}.{name}"],
            # As an interactive session does it: statement by statement, with no file to look into.
            "exec": ["-c", f"import ast\nfor part in ast.parse(open({str(path)!r}).read()).body:\n    "
                     "exec(compile(ast.Module([part], []), '<stdin>', 'exec'))"],
        }[how]

    def start(self, command, environ, feed):
        self.stderr = (self.folder / f"stderr-{self.mark}").open("w+", encoding="utf-8")
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=self.stderr,
            stdin=subprocess.PIPE if feed else subprocess.DEVNULL,
            cwd=self.folder,
            env={**os.environ, "PYTHONUNBUFFERED": "", MARK: self.mark, "TMPDIR": self.temp, **environ},
            text=True,
            start_new_session=True,
        )
        if feed:
            self.process.stdin.write(self.text)
            self.process.stdin.close()
            self.process.stdin = None

    def line(self):
        """The next line of output, without its end; fails when the program ends before it."""
        text = self.process.stdout.readline()
        assert text.endswith("\n"), f"the program ended with {text!r} and {self.errors()}"
        return text[:-1]

    def errors(self):
        self.stderr.seek(0)
        return self.stderr.read()

    def wait(self):
        """The rest of its output, when it has ended."""
        late = []

        def end_it():
            late.extend(self.processes())
            self.kill_all()

        # Not communicate(): it would pass over what `line` has read ahead.
        timer = threading.Timer(self.limit, end_it)
        timer.start()
        out = self.process.stdout.read()
        self.process.wait()
        timer.cancel()
        timer.join()
        assert not late, f"the program did not end: {late}\n{self.errors()}"
        return out

    def ends_well(self):
        """Wait for its end; return the rest of its output before ``fine``, as lines."""
        lines = self.wait().splitlines()
        code, errors = self.process.returncode, self.errors()
        assert (code, errors) == (0, ""), f"it left with {code} and wrote\n{errors}"
        assert lines[-1:] == ["fine"], lines
        self.assert_nothing_left()
        return lines[:-1]

    def processes(self):
        """(pid, name) of all processes that stem from this program; zombies do not count."""
        wanted = f"{MARK}={self.mark}".encode()
        found = []
        for entry in os.scandir("/proc"):
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    if wanted in pathlib.Path(entry.path, "environ").read_bytes().split(b"\0"):
                        name = pathlib.Path(entry.path, "cmdline").read_bytes().replace(b"\0", b" ").decode()
                        found.append((int(entry.name), name[-60:]))
        return found

    def wait_for(self, condition):
        """Wait until a condition on its processes holds."""
        end = time.monotonic() + self.limit
        while not condition(self.processes()):
            assert time.monotonic() < end, self.processes()
            time.sleep(0.02)

    def kill(self):
        """SIGKILL to the program itself."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def left(self):
        """What is there of it, beside its own files."""
        shm = [name for name in _listing("/dev/shm") - self.shm if not name.startswith(FOREIGN)]
        return self.processes(), sorted(shm), sorted(_listing(self.temp))

    def assert_nothing_left(self):
        end = time.monotonic() + GRACE
        while self.left() != ([], [], []) and time.monotonic() < end:
            time.sleep(0.05)
        left = self.left()
        assert left == ([], [], []), f"processes, files in /dev/shm, files in the temp folder: {left}"

    def kill_all(self):
        for pid, _ in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def close(self):
        """Away with it, however it is."""
        self.kill_all()
        self.process.stdout.close()
        self.process.wait()
        self.stderr.close()
        shutil.rmtree(self.temp)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def _listing(folder):
    return set(os.listdir(folder))


def run(text, folder, limit=60.0, **settings):
    """Run a program that ends well; return what it printed before ``fine``, as lines."""
    with Program(text, folder, limit, **settings) as program:
        return program.ends_well()
