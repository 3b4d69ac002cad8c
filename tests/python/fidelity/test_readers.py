"""Arrays and other objects as real readers give them, as argument and as result.

The packages are listed in requirements/readers.txt. One that has no wheel for a Python is left out
there by a marker, and its tests are skipped by name.
"""

import pytest

from . import readers, tasks
from .exact import Rules, assert_described
from .library import DEFAULT_MMAP_MODE, Parallel, delayed, shares_memory


def see(x):
    return tasks.attempt(readers.facts, x)


def run_one(function, x):
    try:
        return Parallel(n_jobs=2)([delayed(function)(x)])[0]
    except Exception as error:
        return "error", f"{type(error).__name__}: {error}"


def run(function, objects):
    """One call for all; one each where that fails, so that a failure has a name."""
    try:
        return Parallel(n_jobs=2)([delayed(function)(x) for x in objects])
    except Exception:
        return [run_one(function, x) for x in objects]


def report(names, expected, got, rules):
    """Compare all, then fail with every name that differs."""
    failures = []
    for name, text, (kind, value) in zip(names, expected, got):
        try:
            assert kind == "value", value
            assert_described(text, value, rules)
        except AssertionError as error:
            failures.append(f"{name}: {str(error).splitlines()[0][:300]}")
    assert not failures, f"{len(failures)} of {len(names)} differ\n" + "\n".join(failures)


@pytest.fixture(scope="module", params=readers.READERS)
def subjects(request, tmp_path_factory):
    package, make = readers.READERS[request.param]
    pytest.importorskip(package, reason=f"{package} has no wheel here (requirements/readers.txt)")
    named = list(make(str(tmp_path_factory.mktemp("files"))))
    assert named, "the reader gave nothing"
    names = [name for name, _ in named]
    objects = [x for _, x in named]
    return names, objects, [readers.facts(x) for x in objects]


def test_what_the_worker_sees(subjects):
    names, objects, expected = subjects
    role = "same" if shares_memory("loky") else "argument"
    report(names, expected, run(see, objects), Rules(role, mmap_mode=DEFAULT_MMAP_MODE))


def test_what_comes_back(subjects):
    names, objects, expected = subjects
    role = "same" if shares_memory("loky") else "result"
    got = [
        (kind, readers.facts(value) if kind == "value" else value)
        for kind, value in run(tasks.echo, objects)
    ]
    report(names, expected, got, Rules(role))
