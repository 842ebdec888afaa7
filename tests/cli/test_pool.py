"""`holdfast pool …` and `holdfast worker list` on a database. On a service: tests/service/test_commands.py."""

from __future__ import annotations

import signal

import pytest

import holdfast
from tests.cli.conftest import Say, Shell


def test_limits_pause_drain_and_what_is_shown(say: Say) -> None:
    say("run", "flows_for_cli.py:good", "--no-wait")
    made = say("pool", "set", "hv1", "--running-max", "8", "--queued-max", "100")
    assert made.out.splitlines() == [
        "pool hv1 is OPEN",
        "  0 run, of 8, on 0 workers",
        "  0 have not begun, of 100",
        "  0 could be taken now",
    ]
    assert say("pool", "set", "hv1", "--queued-max", "none", "-o", "json").json()["queued_max"] is None
    assert say("pool", "show", "default").out.splitlines()[2] == "  1 have not begun, of any"
    head, default, hv1 = say("pool", "list").out.splitlines()
    assert head.split() == ["POOL", "STATE", "WORKERS", "RUNNING", "QUEUED", "DUE", "WAITS"]
    assert default.split()[:9] == ["default", "OPEN", "0", "0", "of", "any", "1", "of", "any"]
    assert hv1.split()[:6] == ["hv1", "OPEN", "0", "0", "of", "8"]
    assert say("pool", "pause", "hv1").out.startswith("pool hv1 is PAUSED since ")
    assert say("pool", "drain", "hv1").out.startswith("pool hv1 is DRAINED since ")
    assert say("pool", "resume", "hv1").out.startswith("pool hv1 is OPEN\n")


def test_what_goes_wrong_is_one_sentence_and_a_code(say: Say) -> None:
    say("run", "flows_for_cli.py:good")
    assert say("pool", "pause", "hv2").code == 5
    for words in (["hv1", "--running-max", "many"], ["hv1", "--running-max", "0"], ["a/b", "--queued-max", "1"]):
        wrong = say("pool", "set", *words)
        assert (wrong.code, wrong.sentence() != "") == (2, True)
    say("pool", "set", "default", "--queued-max", "1")
    assert say("run", "flows_for_cli.py:good", "--no-wait").code == 0
    full = say("run", "flows_for_cli.py:good", "--no-wait")
    assert "1 tasks of the pool default wait to be begun, as many as may" in full.sentence()


@pytest.mark.requirement("TF-6")
def test_workers_and_what_each_does(shell: Shell, say: Say) -> None:
    assert shell("run", "flows_for_cli.py:slow", "--tag", "t", "--no-wait").code == 0
    worker = shell.start("worker", "--pool", "default")
    shell.until_in(shell.start("task", "watch", "t"), "slow/nap")
    (found,) = say("worker", "list", "-o", "json").json()
    assert (found["state"], found["version"], found["pid"]) == ("ALIVE", holdfast.__version__, worker.process.pid)
    assert [task["uuid"] for task in found["tasks"]] == [say.task("t")["uuid"]]
    assert found["tasks"][0]["steps"][0]["id"] == "slow/nap"
    head, line = say("worker", "list").out.splitlines()
    assert head.split()[:3] == ["WORKER", "POOL", "STATE"]
    assert line.startswith(found["id"][:8])
    assert "slow" in line
    assert say("worker", "list", "--pool", "other").out.splitlines()[1:] == []
    worker.signal(signal.SIGTERM)  # it drains, and leaves
    assert worker.end().code == 0
    assert say("worker", "list", "-o", "json").json() == []
    assert say.task("t")["worker"] is None
