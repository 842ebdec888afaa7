"""`holdfast drain`, with real workers."""

from __future__ import annotations

import signal

import pytest

from tests.cli.conftest import Say, Shell, Started


def _napping(shell: Shell) -> Started:
    """A worker in the second of three steps of a task that is tagged t."""
    assert shell("run", "flows_for_cli.py:slow", "--tag", "t", "--no-wait").code == 0
    worker = shell.start("worker", HOLDFAST_LEASE_S="0.6")  # so that it hears of it soon
    shell.until_in(shell.start("task", "watch", "t"), "slow/nap")
    return worker


@pytest.mark.requirement("TF-6")
def test_what_still_runs_is_listed_and_is_an_exit_code(shell: Shell, say: Say) -> None:
    worker = _napping(shell)
    done = say("drain", "--timeout", "0.1")
    assert done.code == 124
    head, line = done.out.splitlines()[-2:]
    assert head.split()[:4] == ["TASK", "FLOW", "STATE", "FOR"]
    assert say.task("t")["uuid"] in line
    assert "slow/nap (" in line
    assert str(worker.process.pid) in line
    (left,) = say("drain", "--timeout", "0", "-o", "json").json()["left"]
    assert (left["flow"], [step["id"] for step in left["steps"]]) == ("slow", ["slow/nap"])
    assert left["running_s"] >= left["steps"][0]["running_s"] > 0


@pytest.mark.requirement("TF-6")
def test_it_returns_when_the_running_steps_have_ended_and_the_task_is_anybodys(shell: Shell, say: Say) -> None:
    worker = _napping(shell)
    drain = shell.start("drain")
    drain.until("1 tasks still run")
    say("run", "flows_for_cli.py:good", "--tag", "later", "--no-wait")
    (shell.directory / "awake").touch()
    done = drain.end()
    assert (done.code, done.out.splitlines()[-1]) == (0, "1 workers are drained: nothing of theirs runs")
    assert shell.did() == ["make_port", "nap"]
    assert [say.task(tag)["state"] for tag in ("t", "later")] == ["RUNNING", "PENDING"]
    assert worker.process.poll() is None
    assert shell("worker", "--until-idle").code == 0
    assert shell.did()[2:] in (["use_port", "make_port", "use_port"], ["make_port", "use_port", "use_port"])


@pytest.mark.requirement("TF-6")
def test_it_can_be_called_off(shell: Shell, say: Say) -> None:
    _napping(shell)
    assert say("drain", "--timeout", "0").code == 124
    assert "it is drained" in say("doctor").out
    assert "1 workers take tasks again" in say("drain", "--off").out
    (shell.directory / "awake").touch()
    assert say("task", "watch", "t").code == 0
    assert shell.did() == ["make_port", "nap", "use_port"]


def test_nobody_to_drain(say: Say) -> None:
    say("run", "flows_for_cli.py:good")
    assert say("drain").out == "0 workers are drained: nothing of theirs runs\n"
    done = say("drain", "--worker", "beef")
    assert (done.code, "no living workers" in done.sentence()) == (5, True)


def test_a_worker_that_dies_meanwhile_has_nothing_left(shell: Shell) -> None:
    worker = _napping(shell)
    drain = shell.start("drain")
    drain.until("1 tasks still run")
    worker.signal(signal.SIGKILL)
    assert drain.end().code == 0
