"""`holdfast task …`: looking, and every verb, on a database that no worker is at."""

from __future__ import annotations

import signal

import pytest

from tests.cli.conftest import Say, Shell


def test_list_in_a_table_and_as_json(say: Say) -> None:
    say("run", "flows_for_cli.py:good", "--tag", "one")
    say("run", "flows_for_cli.py:slow", "--tag", "two", "--no-wait")
    lines = say("task", "list").out.splitlines()
    assert lines[0].split() == ["ID", "FLOW", "STATE", "DONE", "TAG", "ACCEPTED", "(UTC)"]
    assert [line.split()[1:3] for line in lines[1:]] == [["slow", "PENDING"], ["good", "SUCCEEDED"]]
    assert [task["tag"] for task in say("task", "list", "-o", "json").json()] == ["two", "one"]
    assert [task["tag"] for task in say("task", "list", "--state", "pending", "-o", "json").json()] == ["two"]
    assert [task["tag"] for task in say("task", "list", "--limit", "1", "-o", "json").json()] == ["two"]


def test_show_by_id_by_prefix_and_by_tag(say: Say) -> None:
    say("run", "flows_for_cli.py:good", "network=lab", "--tag", "t")
    uuid = say.task("t")["uuid"]
    assert say.task(uuid)["uuid"] == say.task(uuid[:13])["uuid"] == uuid
    page = say("task", "show", "t").out
    for told in ("SUCCEEDED", 'network="lab"', 'port="lab-1"', "good/make_port SUCCEEDED", "task RUNNING", "rollback"):
        assert told in page


def test_watch_ends_with_the_task(shell: Shell) -> None:
    run = shell.start("run", "flows_for_cli.py:slow", "--tag", "t")
    shell.until_in(run, "slow/nap")
    watch = shell.start("task", "watch", "t")
    shell.until_in(watch, "slow/nap")
    (shell.directory / "awake").touch()
    assert watch.end().code == 0
    assert run.end().code == 0


def test_ctrl_c_in_watch_only_leaves(shell: Shell, say: Say) -> None:
    run = shell.start("run", "flows_for_cli.py:slow", "--tag", "t")
    shell.until_in(run, "slow/nap")
    watch = shell.start("task", "watch", "t")
    shell.until_in(watch, "slow/nap")
    watch.signal(signal.SIGINT)
    assert watch.end().code == 130
    assert say.task("t")["state"] == "RUNNING"
    (shell.directory / "awake").touch()
    assert run.end().code == 0


def test_watch_with_work_does_it(say: Say, shell: Shell) -> None:
    say("run", "flows_for_cli.py:good", "--tag", "t", "--no-wait")
    late = say("task", "watch", "t", "--timeout", "0.1")
    assert (late.code, "no worker lives" in late.out) == (124, True)
    assert say("task", "watch", "t", "--work").code == 0
    assert shell.did() == ["make_port", "use_port"]


def _killed(shell: Shell) -> None:
    """A task whose worker died in the middle of its second step."""
    run = shell.start("run", "flows_for_cli.py:slow", "--tag", "t")
    shell.until_in(run, "slow/nap")
    run.signal(signal.SIGKILL)
    run.end()


@pytest.mark.requirement("IRONIC-1")
def test_cancel_undoes_it_where_no_worker_lives(shell: Shell, say: Say) -> None:
    _killed(shell)
    done = say("task", "cancel", "t")
    assert done.code == 3
    assert "what was done is undone" in done.out
    assert say.task("t")["state"] == "CANCELLED"
    assert shell.did() == ["make_port", "nap", "unnap", "drop_port"]


def test_cancel_without_undo_leaves_what_was_done(shell: Shell, say: Say) -> None:
    _killed(shell)
    assert say("task", "cancel", "t", "--no-revert").code == 3
    assert shell.did() == ["make_port", "nap"]


def test_no_wait_only_records_the_verb(shell: Shell, say: Say) -> None:
    _killed(shell)
    done = say("task", "cancel", "t", "--no-wait")
    assert (done.code, say.task("t")["state"]) == (0, "CANCELLING")
    assert shell.did() == ["make_port", "nap"]
    assert say("task", "watch", "t", "--work").code == 3
    assert shell.did() == ["make_port", "nap", "unnap", "drop_port"]


def test_suspend_then_resume_after_the_owner_died(shell: Shell, say: Say) -> None:
    _killed(shell)
    assert say("task", "suspend", "t").code == 7
    assert say.task("t")["reason"] == "asked"
    (shell.directory / "awake").touch()
    assert say("task", "resume", "t").code == 0
    assert shell.did() == ["make_port", "nap", "nap", "use_port"]


def test_rollback_of_what_runs_and_of_what_has_ended(shell: Shell, say: Say) -> None:
    _killed(shell)
    assert say("task", "rollback", "t").code == 3
    assert say.task("t")["state"] == "REVERTED"
    say("run", "flows_for_cli.py:good", "--tag", "ended")
    done = say("task", "rollback", "ended", "-o", "json")
    assert (done.code, done.json()["state"]) == (0, "SUCCEEDED")
    assert done.json()["rollback_of"] == say.task("ended")["uuid"]
    assert shell.did()[-2:] == ["unuse_port", "drop_port"]


def test_abort_and_retry(shell: Shell, say: Say) -> None:
    _killed(shell)
    assert say("task", "abort", "t").code == 3
    (shell.directory / "awake").touch()
    done = say("task", "retry", "t", "-o", "json")
    assert (done.code, done.json()["retry_of"]) == (0, say.task("t")["uuid"])
    assert shell.did() == ["make_port", "nap", "make_port", "nap", "use_port"]


def test_force_fail(shell: Shell, say: Say) -> None:
    _killed(shell)
    done = say("task", "force-fail", "t", "--reason", "the rack burnt")
    assert (done.code, say.task("t")["state"]) == (1, "FAILED")
    assert "the rack burnt" in done.out


def test_deliver_an_event_that_is_waited_for(shell: Shell, say: Say) -> None:
    run = shell.start("run", "flows_for_cli.py:waiting", "--tag", "t")
    run.until("wait_for_word WAITING")
    assert say("task", "deliver", "t", "word", '"hello"').code == 0
    assert run.end().code == 0


def test_verbs_reach_the_worker_of_another_process(shell: Shell, say: Say) -> None:
    run = shell.start("run", "flows_for_cli.py:slow", "--tag", "t")
    shell.until_in(run, "slow/nap")
    assert say("task", "suspend", "t").code == 7
    assert run.end().code == 7
    assert shell.did() == ["make_port", "nap"]


def test_a_worker_drains_when_it_is_told_to_leave(shell: Shell, say: Say) -> None:
    say("run", "flows_for_cli.py:slow", "--tag", "t", "--no-wait")
    worker = shell.start("worker")
    shell.until_in(shell.start("task", "watch", "t"), "slow/nap")
    worker.signal(signal.SIGTERM)
    assert worker.end().code == 0
    (shell.directory / "awake").touch()
    assert shell("worker", "--until-idle").code == 0
    assert say.task("t")["state"] == "SUCCEEDED"
    assert shell.did() == ["make_port", "nap", "nap", "use_port"]
