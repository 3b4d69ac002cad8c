"""What `import joblot` loads, and what the package offers."""

import subprocess
import sys

import joblot
import pytest

# Each costs milliseconds, and a program that only imports joblot needs none of them.
HEAVY = [
    "asyncio",
    "ast",
    "cloudpickle",
    "concurrent.futures",
    "inspect",
    "joblot.errors",
    "joblot.parallel",
    "logging",
    "multiprocessing",
    "numpy",
    "pickle",
    "socket",
    "subprocess",
    "tempfile",
    "threading",
    "typing",
]


def modules_after(code):
    # -I: no user site, whose .pth files would import things of their own.
    script = f"import sys\nbefore = set(sys.modules)\n{code}\nprint('\\n'.join(set(sys.modules) - before))"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def test_import_joblot_loads_nothing_heavy():
    loaded = modules_after("import joblot")
    assert "joblot._core" in loaded
    assert loaded.isdisjoint(HEAVY)


def test_using_a_plain_loop_loads_no_numpy_and_no_multiprocessing():
    loaded = modules_after(
        "import joblot\nassert joblot.Parallel(n_jobs=1)([joblot.delayed(abs)(-1)]) == [1]\n"
        "assert joblot.Parallel(n_jobs=2, backend='threading')([joblot.delayed(abs)(-1)]) == [1]"
    )
    assert "joblot.parallel" in loaded
    assert loaded.isdisjoint({"numpy", "multiprocessing", "concurrent.futures", "logging", "asyncio"})


def test_every_public_name_is_there_and_listed():
    for name in joblot.__all__:
        assert getattr(joblot, name) is not None
        assert name in dir(joblot)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'joblot' has no attribute 'nothing'"):
        _ = joblot.nothing


def test_the_version_is_that_of_the_engine():
    assert joblot.__version__ == joblot._core.version
    assert joblot.__version__.count(".") == 2


def test_signatures_show_what_users_know():
    import inspect

    parameters = inspect.signature(joblot.Parallel).parameters
    shown = {name: repr(p.default) for name, p in parameters.items() if p.default is not p.empty}
    assert shown == {
        "n_jobs": "None",
        "backend": "None",
        "return_as": "'list'",
        "verbose": "0",
        "timeout": "None",
        "pre_dispatch": "'2 * n_jobs'",
        "batch_size": "'auto'",
        "temp_folder": "None",
        "max_nbytes": "'1M'",
        "mmap_mode": "'r'",
        "prefer": "None",
        "require": "None",
        "retries": "0",
        "on_error": "'raise'",
        "max_tasks_per_worker": "None",
        "task_timeout": "None",
        "memory_limit": "None",
    }
