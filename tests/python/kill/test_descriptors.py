"""Tasks that close their worker's descriptors, and limits on descriptors: no file of others is written to, no hang."""

import pytest

from .programs import BACKENDS, run

TASKS = """
    import numpy

    def good(i):
        return i

    def bad(i):
        os.closerange(3, 1000)
        global kept
        kept = {reopen}
        return {result}

    def call(**settings):
        tasks = [delayed(bad if i in (3, 7) else good)(i) for i in range(12)]
        return Parallel(n_jobs=2, backend="{backend}", **settings)(tasks)

    def works():
        array = numpy.arange(100_000, dtype=">i4")
        for result in Parallel(n_jobs=2)(delayed(numpy.negative)(array) for _ in range(8)):
            assert numpy.array_equal(result, -array)
"""


# What lies at the numbers of the engine's descriptors after the task: nothing, files, or events like the engine's own.
@pytest.mark.parametrize(
    "reopen",
    ["[]", "[open(os.path.join(here, f'file{k}'), 'wb') for k in range(12)]", "[os.eventfd(0) for k in range(12)]"],
)
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_task_closes_every_descriptor(tmp_path, reopen, backend):
    program = """
    works()
    for _ in range(3):
        assert call() == list(range(12))
        works()
    for name in os.listdir(here):
        assert not name.startswith("file") or os.path.getsize(os.path.join(here, name)) == 0
    print("fine")
    """
    run(TASKS.format(reopen=reopen, result="i", backend=backend) + program, tmp_path)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_large_result_of_a_task_that_closed_every_descriptor(tmp_path, backend):
    """It cannot be handed over: the attempt is lost, and what lies at its place in memory is taken for nothing else."""
    program = """
    works()
    for _ in range(3):
        try:
            raise AssertionError(call())
        except WorkerDied as error:
            assert error.task in (3, 7), error
        works()
    print("fine")
    """
    run(TASKS.format(reopen="[]", result="numpy.full(300_000, i)", backend=backend) + program, tmp_path)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("n_descriptors", [64, 128])
def test_600_arrays_under_a_small_limit(tmp_path, n_descriptors, backend):
    run(
        f"""
        import resource
        import numpy

        resource.setrlimit(resource.RLIMIT_NOFILE, ({n_descriptors}, {n_descriptors}))
        arrays = (numpy.full(262_144, i, dtype=">f8") for i in range(600))
        results = Parallel(n_jobs=2, backend={backend!r})(delayed(numpy.positive)(array) for array in arrays)
        assert len(results) == 600
        for i, result in enumerate(results):
            assert result.shape == (262_144,) and (result == i).all()
        print("fine")
        """,
        tmp_path,
    )


def test_more_workers_than_descriptors_allow(tmp_path):
    """As many as leave room for segments and for the program's own files; calls go on with those."""
    run(
        """
        import resource
        from joblot import _processes

        resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
        for _ in range(2):
            Parallel(n_jobs=60)(delayed(time.sleep)(0.01) for _ in range(200))
            files = [open("/dev/null") for _ in range(20)]
            assert 10 < len(_processes._pool.processes()[1]) < 30
            del files
        print("fine")
        """,
        tmp_path,
    )


def test_an_interrupt_that_is_meant_for_the_server(tmp_path):
    run(
        """
        def interrupt(i):
            os.kill(os.getppid(), signal.SIGINT)
            time.sleep(0.1)
            return i

        for _ in range(2):
            assert Parallel(n_jobs=2)(delayed(interrupt)(i) for i in range(4)) == list(range(4))
        print("fine")
        """,
        tmp_path,
    )
