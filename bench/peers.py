"""Other libraries that run tasks, called as joblib is: `Parallel(n_jobs)(delayed(f)(x) for x in xs)`."""

import functools


def recorded(function):
    """What `delayed` is to joblib."""
    return lambda *args: (function, args)


class Futures:
    """concurrent.futures: one pool of processes for all calls."""

    pool = None

    def __init__(self, n_jobs=2):
        from concurrent.futures import ProcessPoolExecutor

        Futures.pool = Futures.pool or ProcessPoolExecutor(n_jobs)

    def __call__(self, tasks):
        waiting = [self.pool.submit(function, *args) for function, args in tasks]
        return [future.result() for future in waiting]


class Ray:
    """ray on this machine, arrays given to each task as they are."""

    def __init__(self, n_jobs=2):
        import ray

        self.ray = ray
        if not ray.is_initialized():
            ray.init(num_cpus=n_jobs, include_dashboard=False, log_to_driver=False, logging_level="error")

    @functools.lru_cache  # noqa: B019 - one object per program
    def remote(self, function):
        return self.ray.remote(function)

    def __call__(self, tasks):
        return self.ray.get([self.remote(function).remote(*args) for function, args in tasks])


class Dask:
    """dask.distributed on this machine, one thread in each worker."""

    client = None

    def __init__(self, n_jobs=2):
        from distributed import Client

        Dask.client = Dask.client or Client(
            n_workers=n_jobs, threads_per_worker=1, dashboard_address=None, silence_logs=50
        )

    def __call__(self, tasks):
        return self.client.gather([self.client.submit(function, *args, pure=False) for function, args in tasks])


PEERS = {"futures": Futures, "ray": Ray, "dask": Dask}
