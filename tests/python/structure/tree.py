"""Where things are: the checkout, its C and Python files, and a build of the C library to look at."""
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[3]


def c_files(root=ROOT):
    """Every C file of the library, its headers and the extension (no tests, no examples)."""
    found = []
    for folder in ("include", "src", "python/_core"):
        found += [p for p in (root / folder).rglob("*") if p.suffix in (".c", ".h")]
    return sorted(found)


def python_files(root=ROOT):
    return sorted((root / "python" / "joblot").rglob("*.py"))


def run(*command, **kwargs):
    """Run a command and return what it printed; what it said is in the error when it fails."""
    command = [str(word) for word in command]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, **kwargs)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


def meson(*arguments):
    """Run the Meson of this environment, which finds the ninja beside it."""
    here = str(pathlib.Path(sys.executable).parent)
    path = os.pathsep.join([here, os.environ.get("PATH", "")])
    return run("meson", *arguments, env={**os.environ, "PATH": path})
