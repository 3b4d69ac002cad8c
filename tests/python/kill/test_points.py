"""Each process of the engine is stopped at each point of a task's life, and it or another one is killed there.

`make kill` runs all of it (JOBLOT_KILL_ALL=1); otherwise a choice that takes less than a minute.
"""

import os
import signal

import pytest

from .points import POINTS, Case, in_source, resume

ALL = os.environ.get("JOBLOT_KILL_ALL") == "1"
BACKENDS = ["loky"]
# What is killed: the process that has stopped, and others by their role.
VICTIMS = {
    "parent": ["itself", "server", "worker"],
    "server": ["itself", "worker", "parent"],
    "worker": ["itself", "worker", "server", "parent"],
}
# Of the lane in `make test`.
CHOICE = {
    ("worker:task-found", "itself"),
    ("worker:task-started", "itself"),
    ("worker:function-returned", "server"),
    ("worker:answer-written", "itself"),
    ("worker:answer-committed", "itself"),
    ("worker:answer-held", "itself"),
    ("worker:answer-held", "parent"),
    ("worker:forked", "server"),
    ("worker:segment-report", "itself"),
    ("server:worker-forked", "itself"),
    ("server:worker-reaped", "itself"),
    ("server:birth-told", "parent"),
    ("parent:part-read", "worker"),
    ("parent:segment-sent", "itself"),
    ("parent:task-written", "server"),
    ("parent:close-said", "server"),
}
CASES = [(point, victim) for point in POINTS for victim in VICTIMS[point.partition(":")[0]]]


def kill_there(case, victim):
    """Wait for the stop, kill, and let the rest go on; returns who was stopped, and who was killed."""
    stopped = case.stopped()
    roles = case.roles()
    if victim == "itself":
        killed = [stopped]
    elif victim == "worker":
        killed = [pid for pid in roles["worker"] if pid != stopped]
    else:
        killed = roles[victim]
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    # A stopped worker goes with the others without being asked, from the moment that it is bound to its server.
    if victim != "parent" or case.point.startswith("server:") or case.point == "worker:forked":
        resume(stopped)
    return stopped, killed


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("point", "victim"), CASES if ALL else sorted(CHOICE))
def test_a_kill_at_a_point(tmp_path, point, victim, backend):
    nth, variant = POINTS[point]
    case = Case(point, nth, tmp_path, backend=backend, variant=variant)
    with case.program as program:
        _, killed = kill_there(case, victim)
        if case.parent in killed:
            program.process.wait()
            program.assert_nothing_left()
            assert program.errors() == ""
        else:
            assert program.ends_well() == []


WITHOUT = ["task-started", "function-returned", "answer-written", "held-committed", "answer-held"]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("point", WITHOUT if ALL else WITHOUT[::3])
def test_a_kill_without_retries_names_the_task(tmp_path, point, backend):
    case = Case(f"worker:{point}", POINTS[f"worker:{point}"][0], tmp_path, backend=backend, retries=0)
    with case.program as program:
        (stopped, _) = kill_there(case, "itself")
        (line,) = program.ends_well()
        assert line.split()[0] == "died" and int(line.split()[2]) == stopped


def test_the_table_has_every_point_of_the_source():
    assert sorted(in_source()) == sorted(POINTS)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_program_passes_every_point(tmp_path, backend):
    """Each as often as its entry in the table says, or a stop would never come."""
    for variant in ["", "copy"] + ["idle"] * ALL:
        folder = tmp_path / f"variant-{variant}"
        folder.mkdir()
        case = Case("*:*", 0, folder, backend=backend, variant=variant)
        with case.program as program:
            assert program.ends_well() == []
            passed = [point for _, point in case.passed()]
        for point, (nth, where) in POINTS.items():
            assert where != variant or passed.count(point) >= nth, (point, passed.count(point))


def test_a_value_that_is_no_point(tmp_path):
    case = Case("nonsense", 1, tmp_path)
    with case.program as program:
        program.wait()
        assert "JOBLOT_TEST_STOP must be role:point:n:/file" in program.errors()
        program.assert_nothing_left()
