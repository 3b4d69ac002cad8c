"""Array rows: large arguments and large results."""

import time

from libraries import clock, parallel, pool
from registry import row
from trivial import add_ends, make

MB = 1 << 20


def copy_into_touched_memory(array):
    import numpy as np

    target = np.full_like(array, 0.5)
    return clock(lambda: np.copyto(target, array), 3)


@row("shared-512", "512 MB array to 4 tasks, second call on; base: np.copyto into touched memory", "ms", {"base": 1.3},
     ("joblib", "ray"), rounds=3)
def shared_512(name, scale):
    import numpy as np

    Parallel, delayed = parallel(name)
    array = np.full(int(512 * MB * scale) // 8, 1.5)
    base = copy_into_touched_memory(array)

    def call():
        return Parallel(n_jobs=2)([delayed(add_ends)(array) for _ in range(4)])

    call()
    return clock(call, 3), base


@row("fresh-128", "128 MB array to 4 tasks, a new array each call", "ms", {"joblib": 2.5}, rounds=3)
def fresh_128(name, scale):
    import numpy as np

    Parallel, delayed = parallel(name)

    def call(array):
        return Parallel(n_jobs=2)([delayed(add_ends)(array) for _ in range(4)])

    def new():
        return np.full(int(128 * MB * scale) // 8, time.perf_counter())

    call(new())
    return clock(call, 4, new)


@row("lying-512", "512 MB that lie in a segment (joblot.empty) to 4 tasks, second call on; base: 1 ms", "ms",
     {"base": 1.0}, rounds=3)
def lying_512(name, scale):
    import numpy as np

    Parallel, delayed = parallel(name)
    n = int(512 * MB * scale) // 8
    if name == "joblot":
        import joblot

        array = joblot.empty(n)
        array[:] = 1.5
    else:
        array = np.full(n, 1.5)

    def call():
        return Parallel(n_jobs=2)([delayed(add_ends)(array) for _ in range(4)])

    call()
    return clock(call, 20 if name == "joblot" else 3), 0.001


def large_results(name, scale, keep):
    import numpy as np

    Parallel, delayed = parallel(name)
    size = int(64 * MB * scale)
    kept = []

    def call():
        results = Parallel(n_jobs=2)([delayed(make)(size) for _ in range(4)])
        if keep:
            kept.append(results)

    def plain():
        """Make each array and copy it, in one process."""
        results = []
        for _ in range(4):
            made = make(size)
            copy = np.empty_like(made)
            np.copyto(copy, made)
            results.append(copy)
        if keep:
            kept.append(results)

    # As much memory as either side will hold is touched first: in a virtual machine the first touch of a page that no
    # process had before is slow, and whoever is measured first would pay for it.
    touched = [np.full(size // 8, 0.5) for _ in range(24)]
    del touched
    plain()
    kept.clear()
    base = clock(plain, 3)
    kept.clear()
    call()
    kept.clear()
    return clock(call, 3), base


@row("results-dropped", "four 64 MB results, dropped after the call; base: making and copying them", "ms",
     {"base": 1.0}, rounds=3)
def results_dropped(name, scale):
    return large_results(name, scale, keep=False)


@row("results-kept", "four 64 MB results, all kept; base: making and copying them", "ms", {"base": 1.3}, rounds=3)
def results_kept(name, scale):
    return large_results(name, scale, keep=True)


@row("results-128k", "200 results of 128 KB", "ms", {"joblib": 5}, ("joblib", "pool", "ray", "dask"))
def results_128k(name, scale):
    size = 128 << 10
    if name == "pool":
        with pool(name) as run:
            run(make, [size] * 20)
            return clock(lambda: run(make, [size] * 200), 5)
    Parallel, delayed = parallel(name)

    def call():
        return Parallel(n_jobs=2)(delayed(make)(size) for _ in range(200))

    call()
    return clock(call, 5)
