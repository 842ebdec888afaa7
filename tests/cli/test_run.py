"""`holdfast run`: what it prints, that the same line goes on, and that neither Ctrl-C nor kill -9 loses anything."""

from __future__ import annotations

import io
import os
import shlex
import signal

import pytest

from tests.cli.conftest import Say, Shell


def test_it_shows_the_trace_and_the_results(say: Say, shell: Shell) -> None:
    done = say("run", "flows_for_cli.py:good", "network=lab", "times:=21")
    assert done.code == 0
    told = [line.split("s  ", 1)[-1] for line in done.out.splitlines()]
    assert told[1:7] == [
        "task RUNNING", "good/make_port RUNNING", "good/make_port SUCCEEDED", "good/use_port RUNNING",
        "good/use_port SUCCEEDED", "task SUCCEEDED",
    ]  # fmt: skip
    assert done.out.splitlines()[-2:] == ['  port = "lab-1"', "  count = 42"]
    assert "\x1b" not in done.out
    assert shell.did() == ["make_port", "use_port"]


def test_a_module_is_found_in_the_current_directory(shell: Shell) -> None:
    done = shell("run", "flows_for_cli:good")
    assert (done.code, done.err) == (0, "")
    assert shell.did() == ["make_port", "use_port"]


def test_the_same_tag_is_the_same_task(say: Say, shell: Shell) -> None:
    first = say("run", "flows_for_cli.py:good", "--tag", "order-17", "-o", "json").json()
    again = say("run", "flows_for_cli.py:good", "--tag", "order-17", "-o", "json")
    assert (again.code, again.json()["uuid"]) == (0, first["uuid"])
    assert shell.did() == ["make_port", "use_port"]


def test_a_failure_is_undone_and_named(say: Say, shell: Shell) -> None:
    (shell.directory / "broken").touch()
    done = say("run", "flows_for_cli.py:failing")
    assert done.code == 1
    assert done.out.splitlines()[-1].endswith("FAILED: failing/boot: RuntimeError: no power; what was done is undone")
    assert shell.did() == ["make_port", "boot", "unboot", "drop_port"]


def test_json_is_one_document_and_nothing_else(say: Say) -> None:
    document = say("run", "flows_for_cli.py:good", "-o", "json").json()
    assert (document["state"], document["result"]) == ("SUCCEEDED", {"port": "public-1", "count": 2})
    assert [step["id"] for step in document["steps"]] == ["good/make_port", "good/use_port"]


def test_no_wait_only_asks_and_a_worker_does_it(say: Say, shell: Shell) -> None:
    asked = say("run", "flows_for_cli.py:good", "--no-wait", "--tag", "t")
    assert (asked.code, shell.did()) == (0, [])
    assert shell("worker", "--until-idle").code == 0
    assert say.task("t")["state"] == "SUCCEEDED"


def test_it_leaves_the_tasks_of_others_alone(say: Say, shell: Shell) -> None:
    say("run", "flows_for_cli.py:slow", "--no-wait", "--tag", "theirs")
    assert say("run", "flows_for_cli.py:good").code == 0
    assert say.task("theirs")["state"] == "PENDING"


@pytest.mark.requirement("NOVA-13")
def test_ctrl_c_suspends_and_says_how_to_go_on(shell: Shell) -> None:
    run = shell.start("run", "flows_for_cli.py:slow", "--database", shell.database)
    shell.until_in(run, "slow/nap")
    run.signal(signal.SIGINT)
    done = run.end()
    assert done.code == 7
    last = done.out.splitlines()[-1]
    assert last.startswith("go on with: holdfast task resume ")
    (shell.directory / "awake").touch()
    again = shell(*shlex.split(last.removeprefix("go on with: holdfast ")))
    assert again.code == 0, again
    assert shell.did() == ["make_port", "nap", "nap", "use_port"]


def test_the_same_line_goes_on_after_ctrl_c(shell: Shell) -> None:
    line = ("run", "flows_for_cli.py:slow", "--tag", "t")
    run = shell.start(*line)
    shell.until_in(run, "slow/nap")
    run.signal(signal.SIGINT)
    assert run.end().code == 7
    (shell.directory / "awake").touch()
    assert shell(*line).code == 0
    assert shell.did() == ["make_port", "nap", "nap", "use_port"]


def test_a_second_ctrl_c_leaves_at_once_and_loses_nothing(shell: Shell) -> None:
    line = ("run", "flows_for_cli.py:hanging", "--tag", "t")
    run = shell.start(*line)
    shell.until_in(run, "hanging/deaf")
    run.signal(signal.SIGINT)
    run.until("suspending")
    run.signal(signal.SIGINT)
    done = run.end()
    assert done.code == 130
    assert "left at once" in done.sentence()
    (shell.directory / "awake").touch()
    assert shell(*line).code == 0
    assert shell.did() == ["make_port", "deaf", "deaf", "use_port"]


@pytest.mark.requirement("NOVA-14", "G1")
def test_kill_9_and_the_same_line_goes_on(shell: Shell) -> None:
    line = ("run", "flows_for_cli.py:slow", "--tag", "t")
    run = shell.start(*line)
    shell.until_in(run, "slow/nap")
    run.signal(signal.SIGKILL)
    assert run.end().code == -signal.SIGKILL
    (shell.directory / "awake").touch()
    done = shell(*line)
    assert done.code == 0
    assert "task taken over" in done.out
    assert shell.did() == ["make_port", "nap", "nap", "use_port"]


def test_a_second_process_looks_on_and_takes_over_when_the_first_dies(shell: Shell) -> None:
    line = ("run", "flows_for_cli.py:slow", "--tag", "t")
    first = shell.start(*line)
    shell.until_in(first, "slow/nap")
    second = shell.start(*line)
    shell.until_in(second, "slow/nap")
    assert shell.did() == ["make_port", "nap"]
    first.signal(signal.SIGKILL)
    first.end()
    second.until("task taken over")
    (shell.directory / "awake").touch()
    assert second.end().code == 0
    assert shell.did() == ["make_port", "nap", "nap", "use_port"]


def test_ctrl_c_of_one_who_looks_on_only_leaves(shell: Shell) -> None:
    line = ("run", "flows_for_cli.py:slow", "--tag", "t")
    first = shell.start(*line)
    shell.until_in(first, "slow/nap")
    second = shell.start(*line)
    shell.until_in(second, "slow/nap")
    second.signal(signal.SIGINT)
    assert second.end().code == 130
    (shell.directory / "awake").touch()
    assert first.end().code == 0


def test_sigterm_hands_the_task_over(shell: Shell) -> None:
    line = ("run", "flows_for_cli.py:slow", "--tag", "t")
    run = shell.start(*line)
    shell.until_in(run, "slow/nap")
    run.signal(signal.SIGTERM)
    assert run.end().code == 128 + signal.SIGTERM
    (shell.directory / "awake").touch()
    assert shell(*line).code == 0
    assert shell.did() == ["make_port", "nap", "nap", "use_port"]


def test_a_wait_that_takes_too_long_exits_124(say: Say, shell: Shell) -> None:
    done = say("run", "flows_for_cli.py:slow", "--tag", "t", "--timeout", "0.3")
    assert done.code == 124
    assert "still RUNNING after 0.3 s" in done.sentence()
    (shell.directory / "awake").touch()
    assert say("run", "flows_for_cli.py:slow", "--tag", "t").code == 0


def test_a_reader_that_goes_away_stops_no_task(shell: Shell) -> None:
    run = shell.start("run", "flows_for_cli.py:slow", "--tag", "t")
    shell.until_in(run, "slow/nap")
    assert run.process.stdout is not None
    run.process.stdout.close()
    (shell.directory / "awake").touch()
    assert run.process.wait(60) == 0
    assert shell.did() == ["make_port", "nap", "use_port"]


def test_what_runs_in_a_process_of_its_own_dies_with_the_command(shell: Shell) -> None:
    run = shell.start("run", "flows_for_cli.py:in_process", "--tag", "t")
    run.until("in_process/child RUNNING")
    watch = shell.start("task", "watch", "t")
    watch.until("in_process/child RUNNING")
    run.signal(signal.SIGKILL)
    run.end()
    done = shell("task", "abort", "t")
    assert done.code == 3, done
    assert watch.end().code == 3


def test_on_a_terminal_it_is_a_tree_that_leaves_the_terminal_as_it_was(shell: Shell) -> None:
    ours, theirs = os.openpty()
    run = shell.start("run", "flows_for_cli.py:slow", "--tag", "t", terminal=theirs, TERM="xterm")
    os.close(theirs)
    seen = ""
    while "✔" not in seen:
        seen += os.read(ours, 4096).decode()
    run.signal(signal.SIGINT)
    while True:
        try:
            seen += os.read(ours, 4096).decode()
        except OSError:  # the other end is closed
            break
    assert run.process.wait(60) == 7
    assert "✔" in seen
    assert "make_port" in seen
    assert seen.rindex("\x1b[?25h") > seen.rindex("\x1b[?25l")
    assert "go on with: holdfast task resume" in seen
    os.close(ours)


def test_a_secret_comes_from_where_nobody_sees_it(shell: Shell, say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    from holdfast.seal import new_key

    monkeypatch.setenv("HOLDFAST_SECRET_KEY", new_key())
    monkeypatch.setenv("PASSWORD", "of the environment")
    (shell.directory / "password").write_text("of a file\n", encoding="utf-8")
    for source, length in (("env:PASSWORD", 18), ("@password", 9)):
        done = say("run", "flows_for_cli.py:login", f"password:secret={source}")
        assert (done.code, f"length = {length}" in done.out) == (0, True)
    monkeypatch.setattr("sys.stdin", io.StringIO("of stdin\n"))
    done = say("run", "flows_for_cli.py:login", "password:secret=@-", "--tag", "t")
    assert (done.code, "length = 8" in done.out) == (0, True)
    assert say.task("t")["params"] == {"password": "******"}
    refused = say("run", "flows_for_cli.py:login", "password:secret=open sesame")
    assert (refused.code, "open sesame" in refused.err) == (2, False)
    for source in ("env:NOWHERE", "@nowhere"):
        assert say("run", "flows_for_cli.py:login", f"password:secret={source}").code == 2


def test_pool_priority_and_when(say: Say, shell: Shell) -> None:
    line = ["run", "flows_for_cli.py:good", "--no-wait", "--tag"]
    say(*line, "low", "--priority", "-1")
    say(*line, "high", "--priority", "5")
    say(*line, "other", "--pool", "gpu")
    say(*line, "later", "--start-after", "+1h")
    assert [say.task(tag)["priority"] for tag in ("low", "high")] == [-1, 5]
    assert say.task("other")["pool"] == "gpu"
    assert say("task", "watch", "later", "--work", "--timeout", "0.2").code == 124
    assert say("task", "watch", "other", "--work").code == 0
    assert say(*line, "wrong", "--start-after", "soon").code == 2
    assert say(*line, "wrong", "--start-after", "2026-01-01T00:00:00").code == 2
