"""No two workers draw the same random numbers, and none draws the parent's."""

import pytest
from kill.programs import run


def test_all_draws_differ(tmp_path):
    """Over workers, calls, new workers and a new server; the parent has drawn before, and draws after."""
    run(
        """
        import random, secrets, tempfile, uuid
        import numpy
        from joblot import _processes

        random.seed(3)
        numpy.random.seed(3)

        def draw(_):
            time.sleep(0.01)  # so that all workers have their share
            return {
                "random": random.random(),
                "random, several": tuple(random.choices(range(10**9), k=2)),
                "numpy": numpy.random.random(),
                "numpy, integers": tuple(numpy.random.randint(0, 2**31, size=2).tolist()),
                "numpy, normal": numpy.random.standard_normal(),
                "numpy, default_rng": numpy.random.default_rng().random(),
                "uuid": uuid.uuid4().hex,
                "secrets": secrets.token_hex(),
                "tempfile": next(tempfile._get_candidate_names()),
            }

        drawn = [draw(0) for _ in range(3)]
        pids = set()
        for number in range(4):
            with Parallel(n_jobs=4, batch_size=1) as parallel:
                drawn += parallel([delayed(draw)(i) for i in range(24)])
                pids |= set(_processes._pool.processes()[1])
            if number == 1:
                for pid in _processes._pool.processes()[1]:
                    os.kill(pid, signal.SIGKILL)
            if number == 2:
                _processes.shutdown()
        drawn += [draw(0) for _ in range(3)]
        assert len(pids) == 12, pids
        assert len(drawn) == 102
        for source in drawn[0]:
            values = [each[source] for each in drawn]
            assert len(set(values)) == 102, (source, sorted(values))
        print("fine")
        """,
        tmp_path,
    )


@pytest.mark.parametrize("kind", ["numpy.random.default_rng()", "random.Random()", "numpy.random.RandomState()"])
def test_generators_that_a_module_makes_when_it_is_imported(tmp_path, kind):
    """User modules are imported by workers, each for itself."""
    (tmp_path / "with_generator.py").write_text(
        f"import random, time\nimport numpy\nGENERATOR = {kind}\n\n"
        "def draw(_):\n    time.sleep(0.01)\n    return float(GENERATOR.random())\n",
        encoding="utf-8",
    )
    run(
        """
        import with_generator

        drawn = Parallel(n_jobs=4, batch_size=1)([delayed(with_generator.draw)(i) for i in range(40)])
        drawn += [with_generator.draw(0) for _ in range(3)]
        assert len(set(drawn)) == 43, drawn
        print("fine")
        """,
        tmp_path,
    )


def test_a_task_that_seeds_gets_what_it_asked_for(tmp_path):
    run(
        """
        import random
        import numpy

        def draw(seed):
            random.seed(seed)
            numpy.random.seed(seed)
            return random.random(), numpy.random.random(), numpy.random.default_rng(seed).random()

        assert Parallel(n_jobs=2)([delayed(draw)(i) for i in range(10)]) == [draw(i) for i in range(10)]
        print("fine")
        """,
        tmp_path,
    )


def test_a_generator_that_is_an_argument_goes_as_it_is(tmp_path):
    """Each task gets the state of the moment it was drawn: spawn children for different numbers."""
    run(
        """
        import numpy

        def draw(generator):
            return generator.random()

        generator = numpy.random.default_rng(3)
        expected = numpy.random.default_rng(3).random()
        assert Parallel(n_jobs=2)([delayed(draw)(generator) for _ in range(6)]) == [expected] * 6
        children = numpy.random.SeedSequence(3).spawn(6)
        results = Parallel(n_jobs=2)([delayed(draw)(numpy.random.default_rng(child)) for child in children])
        assert results == [numpy.random.default_rng(child).random() for child in children]
        print("fine")
        """,
        tmp_path,
    )
