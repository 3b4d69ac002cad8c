"""Every case of the catalogue through every backend: as argument and as result.

Directions: "seen" is what a worker sees of an argument, "closure" what a function sent by value
sees of an array in its closure, "echo" an argument that comes back as result, "made" a result that
was made in the worker. Cases run in batches, one Parallel call each; a batch that fails as a whole
is run again case by case, so that a failure has a name.
"""

import pytest

from . import tasks
from .catalogue import load_all
from .exact import Rules, assert_described, describe
from .library import BACKENDS, DEFAULT_MMAP_MODE, PROCESSES, Parallel, delayed, shares_memory

BATCH = 40
CASES = load_all()
ROWS = [(name, size) for name, case in CASES.items() for size in case.sizes]
DIRECTIONS = [(backend, way) for backend in PROCESSES for way in ("seen", "closure", "echo", "made")]
DIRECTIONS += [(backend, way) for backend in BACKENDS if backend not in PROCESSES for way in ("seen", "echo")]


def rows_for(backend, way):
    """Without processes nothing is transported, so that the size makes no difference; and what a
    closure adds does not depend on the dtype."""
    return [
        (name, size)
        for name, size in ROWS
        if (backend in PROCESSES or size == "small")
        and not (way == "closure" and name.startswith(("dtype", "scalar")))
    ]


TABLE = [
    pytest.param(backend, way, row, id=f"{backend}-{way}-{row[0]}-{row[1]}")
    for backend, way in DIRECTIONS
    for row in rows_for(backend, way)
]

outcomes = {}
# One `Parallel` for each backend, in its `with` block: what forks this process does so once.
blocks = {}


def call_of(backend):
    if backend not in blocks:
        blocks[backend] = Parallel(n_jobs=2, backend=backend)
        blocks[backend].__enter__()
    return blocks[backend]



def call_for(way, name, size, folder, x):
    if way == "made":
        return delayed(tasks.make)(name, size, folder)
    if way == "closure":
        return delayed(lambda: tasks.see(x))()
    return delayed({"seen": tasks.see, "echo": tasks.echo}[way])(x)


def run(backend, way, rows, folder):
    """Run rows in one call. Gives for each what a plain call sees, and what came back."""
    subjects = [CASES[name].make(size, folder) for name, size in rows]
    expected = [describe(x) for x in subjects]
    calls = [
        call_for(way, name, size, folder, x) for (name, size), x in zip(rows, subjects)
    ]
    results = call_of(backend)(calls)
    got = [
        (kind, describe(value) if kind == "value" and way in ("echo", "made") else value)
        for kind, value in results
    ]
    return list(zip(expected, got))


def run_each(backend, way, rows, folder):
    for row in rows:
        try:
            yield run(backend, way, [row], folder)[0]
        except Exception as error:
            yield None, ("error", f"{type(error).__name__}: {error}")


def outcome(backend, way, row, folder):
    """The outcome of one row; its whole batch runs when the first of its rows is asked for."""
    if (backend, way, row) not in outcomes:
        rows = rows_for(backend, way)
        start = rows.index(row) // BATCH * BATCH
        rows = rows[start : start + BATCH]
        try:
            pairs = run(backend, way, rows, folder)
        except Exception:
            pairs = run_each(backend, way, rows, folder)
        outcomes.update(zip([(backend, way, r) for r in rows], pairs))
    return outcomes.pop((backend, way, row))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    yield str(tmp_path_factory.mktemp("files"))
    for parallel in blocks.values():
        parallel.__exit__(None, None, None)
    blocks.clear()


@pytest.mark.parametrize("backend, way, row", TABLE)
def test_arrives_exactly(backend, way, row, folder):
    expected, (kind, got) = outcome(backend, way, row, folder)
    assert kind == "value", got
    role = "argument" if way in ("seen", "closure") else "result"
    if shares_memory(backend):
        role = "same"
    rules = Rules(role, mmap_mode=DEFAULT_MMAP_MODE, stale_file=CASES[row[0]].stale_file)
    assert_described(expected, got, rules)


@pytest.mark.parametrize("name", [n for n, c in CASES.items() if "large" in c.sizes])
def test_large_cases_are_large(name, folder):
    """A large case that is not over the limit would test the small transport twice."""
    expected = describe(CASES[name].make("large", folder))
    assert max(sizes_in(expected)) > 1 << 20


def sizes_in(description):
    if isinstance(description, dict):
        yield description.get("nbytes", 0)
        description = list(description.values())
    if isinstance(description, list):
        for item in description:
            yield from sizes_in(item)
