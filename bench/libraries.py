"""One way to call each library, and the clock."""

import contextlib
import importlib
import statistics
import time

from peers import PEERS, recorded


def parallel(name):
    """Return (Parallel, delayed) of joblot or joblib, or what stands for them of another library."""
    if name in PEERS:
        return PEERS[name], recorded
    module = importlib.import_module(name)
    return module.Parallel, module.delayed


@contextlib.contextmanager
def pool(name, start=None, n=2):
    """A multiprocessing.Pool, or for "threads" a ThreadPoolExecutor, with `map(function, items, chunksize)`."""
    if name == "threads":
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(n) as executor:
            yield lambda function, items, chunksize=None: list(executor.map(function, items))
        return
    import multiprocessing

    with multiprocessing.get_context(start).Pool(n) as workers:
        yield workers.map


def clock(function, repeats=1, before=None):
    """Return the median of the seconds that a call takes. `before` runs ahead of each call, outside of the clock."""
    taken = []
    for _ in range(repeats):
        argument = () if before is None else (before(),)
        begun = time.perf_counter()
        result = function(*argument)
        taken.append(time.perf_counter() - begun)
        del result
    return statistics.median(taken)
