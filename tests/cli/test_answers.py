"""Every reason for which a task rests, reached and left by every answer it allows, from the command line."""

from __future__ import annotations

import signal

import pytest

from holdfast.core.states import REASONS
from tests.cli.conftest import Done, Say, Shell

CASES = [(reason, word) for reason, told in REASONS.items() for word in told.answers]


def _touch(shell: Shell, *names: str) -> None:
    for name in names:
        (shell.directory / name).touch()


def _clear(shell: Shell, *names: str) -> None:
    for name in names:
        (shell.directory / name).unlink(missing_ok=True)


def _rest(reason: str, shell: Shell, say: Say) -> Done:
    """Bring a task tagged t to rest for the reason."""
    line = ["run", "--tag", "t"]
    match reason:
        case "on_failure":
            _touch(shell, "broken")
            return say(*line, "flows_for_cli.py:attended")
        case "outcome_unknown":
            _touch(shell, "deadly")
            assert shell(*line, "flows_for_cli.py:careful").code == -signal.SIGKILL
            _clear(shell, "deadly")
            return say(*line, "flows_for_cli.py:careful")
        case "revert_failed":
            _touch(shell, "after_broken", "stuck")
            return say(*line, "flows_for_cli.py:failing")
        case "step_unresponsive":
            _touch(shell, "ignoring")
            return say(*line, "flows_for_cli.py:unresponsive")
        case "past_pivot":
            _touch(shell, "broken")
            return say(*line, "flows_for_cli.py:with_pivot")
        case "poison":
            _touch(shell, "deadly")
            assert shell(*line, "flows_for_cli.py:poisonous", HOLDFAST_DEATHS_MAX="1").code == -signal.SIGKILL
            return shell(*line, "flows_for_cli.py:poisonous", HOLDFAST_DEATHS_MAX="1")
    raise AssertionError(reason)


def _mend(shell: Shell) -> None:
    _clear(shell, "broken", "after_broken", "stuck", "ignoring", "deadly")


@pytest.mark.parametrize(("reason", "word"), CASES, ids=str)
def test_each_reason_is_left_by_each_answer(reason: str, word: str, shell: Shell, say: Say) -> None:
    rested = _rest(reason, shell, say)
    task = say.task("t")
    assert (rested.code, task["state"], task["reason"]) == (7, "SUSPENDED", reason), rested
    assert f"({reason})" in rested.out
    assert "go on with: holdfast task resume" in rested.out
    (step,) = task["resting"]
    assert word in step["answers"]
    if REASONS[reason].needs_answer:
        bare = say("task", "resume", "t")
        assert (bare.code, step["step"] in bare.sentence()) == (4, True)
    _mend(shell)
    before = len(shell.did())
    said = "done:'fine'".replace("'", '"') if word == "done" and reason != "revert_failed" else word
    done = say("task", "resume", "t", "--answer", f"{step['step']}={said}")
    after = say.task("t")
    _judge(reason, word, done, after["state"], shell.did()[before:])


def _judge(reason: str, word: str, done: Done, state: str, did: list[str]) -> None:
    """What the answer must have led to, by the witness."""
    name = {"outcome_unknown": "once", "step_unresponsive": "ignorant", "poison": "deadly"}.get(reason, "boot")
    follows = "after:booted"
    if reason == "revert_failed":
        assert (done.code, state) == (1, "FAILED"), done
        assert did == (["unboot", "drop_port"] if word == "rerun" else ["drop_port"])
    elif word == "undo":
        assert (done.code, state) == (1, "FAILED"), done
        assert did == [f"un{name}", "drop_port"]
    elif word == "rerun":
        assert (done.code, state) == (0, "SUCCEEDED"), done
        assert did == [name, follows]
    elif word == "done":
        assert (done.code, state) == (0, "SUCCEEDED"), done
        assert did == ["after:fine"]
    else:
        assert (done.code, state) == (0, "SUCCEEDED"), done
        assert did in (["after:none"], [])


def test_asked(shell: Shell, say: Say) -> None:
    say("run", "flows_for_cli.py:good", "--tag", "t", "--no-wait")
    assert say("task", "suspend", "t").code == 7
    assert (say.task("t")["reason"], say("task", "resume", "t").code) == ("asked", 0)
    assert shell.did() == ["make_port", "use_port"]


def _change(shell: Shell, old: str, new: str) -> None:
    source = shell.flows.read_text(encoding="utf-8")
    assert old in source
    shell.flows.write_text(source.replace(old, new), encoding="utf-8")


def _changed(shell: Shell, new: str) -> Done:
    """A task whose flow was changed while it was half done."""
    run = shell.start("run", "flows_for_cli.py:slow", "--tag", "t")
    shell.until_in(run, "slow/nap")
    run.signal(signal.SIGINT)
    assert run.end().code == 7
    _change(shell, 'hf.linear("slow", make_port, nap, use_port)', new)
    return shell("run", "flows_for_cli.py:slow", "--tag", "t")


@pytest.mark.requirement("G9", "TF-5")
def test_a_changed_definition_rests_and_goes_on_when_it_is_put_back(shell: Shell) -> None:
    new = 'hf.linear("slow", make_port, use_port)'
    rested = _changed(shell, new)
    assert rested.code == 7
    assert "(definition_changed)" in rested.out
    refused = shell("task", "adopt", "t")
    assert refused.code == 4
    assert "slow/nap" in refused.sentence()
    _change(shell, new, 'hf.linear("slow", make_port, nap, use_port)')
    (shell.directory / "awake").touch()
    assert shell("task", "resume", "t").code == 0
    assert shell.did() == ["make_port", "nap", "nap", "use_port"]


@pytest.mark.requirement("TF-5")
def test_a_changed_definition_can_be_adopted(shell: Shell) -> None:
    rested = _changed(shell, 'hf.linear("slow", make_port.with_options(inject={"network": "lab"}), nap, use_port)')
    assert (rested.code, "holdfast task adopt" in rested.out) == (7, True)
    looked = shell("task", "adopt", "t", "--dry-run")
    assert looked.out.splitlines() == ["slow/nap would run", "slow/use_port would run"]
    (shell.directory / "awake").touch()
    done = shell("task", "adopt", "t")
    assert done.code == 0, done
    assert shell.did() == ["make_port", "nap", "nap", "use_port"]
