"""The README: its Python example runs as it stands, and its figures are those that were measured.

Its C example is compiled and run in tests/python/structure/test_c_install.py."""

import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[3]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def python_example(with_text):
    blocks = re.findall(r"^```python\n(.*?)^```$", TEXT, re.M | re.S)
    (block,) = (block for block in blocks if with_text in block)
    return block


def test_the_python_example_runs(tmp_path):
    program = tmp_path / "example.py"
    program.write_text(python_example("column_sum"), encoding="utf-8")
    # A folder of its own for temporary files: what the worker that dies writes goes there, and nothing else.
    (tmp_path / "tmp").mkdir()
    done = subprocess.run(
        [sys.executable, program],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "TMPDIR": str(tmp_path / "tmp")},
    )
    assert done.returncode == 0, done.stderr
    dtype, total = done.stdout.splitlines()
    assert dtype == "dtype in the workers: {'>i4'}"
    plain = sum(range(1, 600_000, 3))
    assert total == f"sum: {plain} plain loop: {plain}"
    (note,) = (tmp_path / "tmp").rglob("killed")  # a worker was killed
    assert int(note.read_text()) > 1


def test_the_example_of_shared_memory_runs(tmp_path):
    program = tmp_path / "example.py"
    program.write_text(python_example("joblot.share"), encoding="utf-8")
    command = [sys.executable, program]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout, done.stderr) == ("rows smoothed: 8\n", "")


def test_the_table_is_what_was_measured():
    command = [sys.executable, ROOT / "bench" / "table.py"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in TEXT, "README.md: put in what `python bench/table.py` prints"
