"""Each process of the engine is stopped at each point of a task's life, and it or another one is killed there.

`make kill` runs all of it (JOBLOT_KILL_ALL=1); otherwise a choice that takes less than a minute.
"""

import os
import signal
import time

import pytest

from .points import OWN, POINTS, Case, in_source, resume

ALL = os.environ.get("JOBLOT_KILL_ALL") == "1"
BACKENDS = ["loky", "multiprocessing"]
# What is killed: the process that has stopped, others by their role, or nobody, as after a pause.
VICTIMS = {
    "parent": ["itself", "server", "worker", "nobody"],
    "server": ["itself", "worker", "parent", "nobody"],
    "worker": ["itself", "worker", "server", "parent", "nobody"],
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
# Stopped here, a worker does not go with its server yet.
UNBOUND = ("worker:forked", "worker:execed")


def on_each_backend(cases):
    """A case for each backend; a server that is a fork of the caller starts no worker by exec."""
    cases = [case if isinstance(case, tuple) else (case,) for case in cases]
    return [(*case, backend) for backend in BACKENDS for case in cases
            if backend == "loky" or not case[0].startswith("worker:execed")]  # fmt: skip


def kill_there(case, victim):
    """Wait for the stop, kill, and let the rest go on; returns who was stopped, and who was killed."""
    stopped = case.stopped()
    roles = case.roles()
    if victim == "itself":
        killed = [stopped]
    elif victim == "worker":
        killed = [pid for pid in roles["worker"] if pid != stopped]
    elif victim == "nobody":
        killed = []
        time.sleep(0.3)
    else:
        killed = roles[victim]
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    # A stopped worker goes with the others without being asked, from the moment that it is bound to its server.
    if victim != "parent" or case.point.startswith("server:") or case.point in UNBOUND:
        resume(stopped)
    return stopped, killed


@pytest.mark.parametrize(("point", "victim", "backend"), on_each_backend(CASES if ALL else sorted(CHOICE)))
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


# Up to the commit of its answer a death costs the task; from then on it costs nothing, or a large answer that the
# parent has not read yet.
LOSSES = {"task-started": 1, "in-function": 1, "answer-written": 1, "held-written": 1, "answer-committed": 0,
          "function-returned": 0, "held-committed": None, "answer-held": None}  # fmt: skip


@pytest.mark.parametrize(("point", "backend"), on_each_backend(LOSSES if ALL else ["in-function", "held-written"]))
def test_a_kill_without_retries_names_the_task(tmp_path, point, backend):
    nth, variant = POINTS[f"worker:{point}"]
    case = Case(f"worker:{point}", nth, tmp_path, backend=backend, retries=0, variant=variant)
    with case.program as program:
        (stopped, _) = kill_there(case, "itself")
        lines = program.ends_well()
        assert len(lines) == LOSSES[point] or (LOSSES[point] is None and len(lines) <= 1), lines
        for line in lines:
            assert line.split()[0] == "died" and int(line.split()[2]) == stopped, (line, stopped)


STAY = [point for point in POINTS if not point.startswith("parent:")]


@pytest.mark.parametrize(("point", "backend"), on_each_backend(STAY if ALL else ["worker:in-function"]))
def test_ctrl_c_while_a_process_stays_stopped(tmp_path, point, backend):
    """A stopped process is a busy one: nothing waits for it but a call, which can be ended, and so can the program."""
    nth, variant = POINTS[point]
    case = Case(point, nth, tmp_path, backend=backend, variant=variant)
    with case.program as program:
        case.stopped()
        time.sleep(0.1)
        program.process.send_signal(signal.SIGINT)
        program.wait()
        program.assert_nothing_left()
        assert "KeyboardInterrupt" in program.errors()


def test_the_table_has_every_point_of_the_source():
    assert sorted(in_source() + OWN) == sorted(POINTS)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_program_passes_every_point(tmp_path, backend):
    """Each as often as its entry in the table says, or a stop would never come."""
    for variant in ["", "copy"] + ["exec"] * (backend == "loky") + ["idle"] * ALL:
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
