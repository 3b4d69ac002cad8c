"""Places to run a program in: name spaces of mounts, another user, control groups. What cannot be had is a skip."""

import contextlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import pytest

NOBODY = 65534


def _needs_root(program):
    if os.getuid() != 0:
        pytest.skip(f"{program} as used here needs root")
    if shutil.which(program) is None:
        pytest.skip(f"there is no program {program}")


def with_mounts(*commands):
    """A prefix for `Program`: commands of sh are run first, in a name space of mounts that ends with the program."""
    _needs_root("unshare")
    if subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("name spaces of mounts are not allowed here")
    return ["unshare", "-m", "sh", "-c", " && ".join([*commands, 'exec "$@"']), "sh"]


def _hidden(path):
    """The first folder on the way to a path that others than its owner cannot pass, or None."""
    for folder in [*reversed(pathlib.Path(path).parents), pathlib.Path(path)]:
        if not folder.stat().st_mode & 0o001:
            return folder
    return None


def as_nobody(folder, *more):
    """A prefix for `Program`: an ordinary user, for whom the interpreter is made readable where it is not."""
    _needs_root("setpriv")
    for path in {sys.prefix, str(pathlib.Path(__file__).parents[3])}:
        if _hidden(path) is not None:
            pytest.skip(f"an ordinary user cannot read {path}: {_hidden(path)} is closed")
    hidden, commands = _hidden(sys.base_prefix), ["true"]
    if hidden is not None:
        copy = folder / "base"
        copy.mkdir()
        commands = [f"mount --bind {sys.base_prefix} {copy}", f"mount -t tmpfs -o mode=755 none {hidden}",
                    f"mkdir -p {sys.base_prefix}", f"mount --bind {copy} {sys.base_prefix}"]  # fmt: skip
    return [*with_mounts(*commands, *more), "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--"]


@contextlib.contextmanager
def open_folder():
    """A folder that every user can write to (pytest's own are closed to others), removed afterwards."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="joblot-open-"))
    path.chmod(0o777)
    try:
        yield path
    finally:
        shutil.rmtree(path)


@contextlib.contextmanager
def memory_group(limit):
    """A prefix that puts the program into a control group of v1 with so many bytes of memory."""
    _needs_root("sh")
    root = pathlib.Path("/sys/fs/cgroup/memory")
    if not (root / "memory.limit_in_bytes").exists():
        pytest.skip("there is no memory controller of cgroup v1 here")
    own = [line.partition(":memory:")[2] for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines()
           if ":memory:" in line]  # fmt: skip
    group = root / own[0].lstrip("/") / f"joblot-test-{os.getpid()}"
    if not group.parent.exists():
        group = root / group.name
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"a control group cannot be made here: {error}")
    try:
        (group / "memory.limit_in_bytes").write_text(str(limit))
        yield ["sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh"]
    finally:
        group.rmdir()  # fails while a process is in it
