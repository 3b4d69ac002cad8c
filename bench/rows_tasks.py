"""Task rows: what a task costs, in microseconds."""

from libraries import clock, parallel, pool
from registry import row
from trivial import same


def per_task(name, count, function=same, repeats=3, **options):
    """Seconds per task of a warm call: the tasks come from a generator."""
    Parallel, delayed = parallel(name)

    def call(n):
        return Parallel(n_jobs=2, **options)(delayed(function)(i) for i in range(n))

    call(20)
    return clock(lambda: call(count), repeats) / count


def per_item(name, count, function=same, chunksize=None, repeats=3):
    with pool(name) as run:
        run(function, range(20))
        return clock(lambda: run(function, range(count), chunksize), repeats) / count


@row("task", "trivial task, batch_size=1", "us", {"joblib": 20}, ("joblib", "pool"))
def task(name, scale):
    if name == "pool":
        return per_item(name, int(20_000 * scale), chunksize=1)
    return per_task(name, int((2_000 if name == "joblib" else 20_000) * scale), batch_size=1)


@row("task-all", 'trivial task, batch_size=1, pre_dispatch="all"', "us", {"pool": 5},
     ("joblib", "pool", "futures", "ray", "dask"))
def task_all(name, scale):
    if name == "pool":
        return per_item(name, int(20_000 * scale), chunksize=1)
    count = int((20_000 if name == "joblot" else 2_000) * scale)
    return per_task(name, count, **({"batch_size": 1, "pre_dispatch": "all"} if name in ("joblot", "joblib") else {}))


@row("task-auto", 'trivial task, batch_size="auto"', "us", {"joblib": 6}, ("joblib", "pool"))
def task_auto(name, scale):
    if name == "pool":
        return per_item(name, int(100_000 * scale))
    return per_task(name, int(100_000 * scale))


@row("task-serial", "trivial task, n_jobs=1", "us", {"joblib": 5}, ("joblib", "loop"))
def task_serial(name, scale):
    count = int(200_000 * scale)
    if name == "loop":
        return clock(lambda: [same(i) for i in range(count)], 3) / count
    Parallel, delayed = parallel(name)
    return clock(lambda: Parallel(n_jobs=1)(delayed(same)(i) for i in range(count)), 3) / count


@row("task-threads", "trivial task, threading", "us", {"joblib": 20}, ("joblib", "threads"))
def task_threads(name, scale):
    count = int(10_000 * scale)
    if name == "threads":
        return per_item(name, count)
    return per_task(name, count, backend="threading")


@row("task-lambda", 'task that is a lambda, batch_size="auto"', "us", {"joblib": 25})
def task_lambda(name, scale):
    return per_task(name, int(20_000 * scale), function=lambda x: x)


@row("jobs-64", 'trivial task, n_jobs=64, batch_size="auto"; base: n_jobs=2', "us", {"base": 1.5}, ())
def jobs_64(name, scale):
    Parallel, delayed = parallel(name)

    def call(n_jobs):
        return Parallel(n_jobs=n_jobs)(delayed(same)(i) for i in range(int(20_000 * scale)))

    call(64)
    many = clock(lambda: call(64), 5)
    return many / 20_000 / scale, clock(lambda: call(2), 5) / 20_000 / scale
