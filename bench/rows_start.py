"""Start rows: importing, the first call, a later call of next to nothing."""

import subprocess
import sys

from libraries import clock, parallel, pool
from registry import row
from trivial import add_ends, same


def two_tasks(name):
    Parallel, delayed = parallel(name)
    return lambda: Parallel(n_jobs=2)(delayed(same)(i) for i in range(2))


def spawn_pool():
    """What a first call means for a Pool: it is made, used and ended."""
    with pool("pool", "spawn") as run:
        return run(same, range(2))


@row("first", "first call, 2 workers, 2 trivial tasks", "ms", {"joblib": 7}, ("joblib", "pool"))
def first(name, scale):
    return clock(spawn_pool if name == "pool" else two_tasks(name))


@row("first-numpy", "first call, 2 workers, 2 trivial tasks, NumPy imported", "ms", {"joblib": 7}, ("joblib", "pool"))
def first_numpy(name, scale):
    import numpy  # noqa: F401 - the point of the row

    return clock(spawn_pool if name == "pool" else two_tasks(name))


@row("first-array", "first call, 2 workers, 2 tasks on a NumPy array", "ms", {"joblib": 2.5})
def first_array(name, scale):
    import numpy as np

    Parallel, delayed = parallel(name)
    array = np.arange(1000.0)
    return clock(lambda: Parallel(n_jobs=2)(delayed(add_ends)(array) for _ in range(2)))


@row("later", "later call of 2 trivial tasks", "ms", {"joblib": 100, "pool": 1},
     ("joblib", "pool", "futures", "ray", "dask"))
def later(name, scale):
    if name == "pool":
        with pool("pool") as run:
            run(same, range(2))
            return clock(lambda: run(same, range(2)), 200)
    call = two_tasks(name)
    call()
    return clock(call, 200 if name == "joblot" else 30)


@row("import", "import, over bare Python", "ms", {"below": 0.030}, ("joblib",))
def import_time(name, scale):
    def start(code):
        return lambda: subprocess.run([sys.executable, "-c", code], check=True)

    bare = clock(start("pass"), 5)
    return clock(start(f"from {name} import Parallel, delayed"), 5) - bare
