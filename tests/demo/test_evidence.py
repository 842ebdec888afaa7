"""Each scene's evidence: a true log proves it, and each lie is caught by name."""

from __future__ import annotations

import pytest

from demo import evidence
from demo.calls import Call, parse
from demo.evidence import Check

WAITED = ["wait_off power On", "wait_off power On"]
HEAD = ["read_power power On", "soft_off power On", "soft_off GracefulShutdown On 204"]
OFF = ["guest went off Off", "wait_off power Off"]
TAIL = ["confirm_off power Off", "power_on power Off", "power_on On On 204", "confirm_on power On"]
LAST = ["the demo power On"]


def log(*lines: str) -> list[Call]:
    """Calls from short lines: BY WHAT POWER [STATUS]; `_` stands for a blank in a name."""
    calls = []
    for at, line in enumerate(lines):
        if line.startswith("guest"):
            calls.append(Call(at, "the guest", "guest", "went off", None, "Off"))
            continue
        words = line.replace("the demo", "the~demo").replace("soft_off (undo)", "soft_off~(undo)").split()
        by, what, power = words[0].replace("~", " "), words[1], words[2]
        is_reset = len(words) == 4
        calls.append(Call(at, by, "POST" if is_reset else "GET", what, int(words[3]) if is_reset else 200, power))
    return calls


def differing(checks: list[Check]) -> list[str]:
    return [check.claim for check in checks if not check.holds]


def test_whole_lines_only() -> None:
    line = '{"at": 1.5, "by": "wait_off", "call": "GET", "what": "power", "status": 200, "power": "On"}'

    assert parse(f"{line}\n{line[:20]}") == [Call(1.5, "wait_off", "GET", "power", 200, "On")]


def test_a_good_end_is_proved() -> None:
    calls = log(*HEAD, *WAITED, *OFF, *TAIL, *LAST)

    assert differing(evidence.ends_well(calls, code=0, state="SUCCEEDED", progress="13%")) == []


@pytest.mark.parametrize(
    ("lie", "claim"),
    [
        ([*HEAD, HEAD[-1], *WAITED, *OFF, *TAIL, *LAST], "power changes asked of the BMC"),
        ([*HEAD, *OFF, *TAIL, *LAST], "the wait saw the machine still on"),
        ([*HEAD, *WAITED, *OFF, *TAIL[1:], *LAST], "steps, in the order in which the BMC heard them"),
        ([*HEAD, *WAITED, *OFF, *TAIL, "the demo power Off"], "the machine, asked once more at the end, is"),
    ],
)
def test_a_good_end_with_a_wrong_log_is_not(lie: list[str], claim: str) -> None:
    assert claim in differing(evidence.ends_well(log(*lie), code=0, state="SUCCEEDED", progress="13%"))


def test_an_empty_log_proves_nothing() -> None:
    assert len(differing(evidence.ends_well([], code=None, state="RUNNING", progress=None))) == 8


KILLED = [*HEAD, *WAITED]


def survived(*after: str, **changes: int) -> list[str]:
    facts = {"at_kill": len(KILLED), "killed": -9, "code": 0, "tasks": 1, **changes}
    return differing(evidence.survives_kill(log(*KILLED, *after), state="SUCCEEDED", **facts))


def test_the_kill_is_proved() -> None:
    assert survived(*WAITED, *OFF, *TAIL, *LAST) == []


@pytest.mark.parametrize("again", [HEAD[0], HEAD[2]])
def test_a_finished_step_that_runs_again_is_seen(again: str) -> None:
    assert "what the BMC heard after: no finished step ran again" in survived(again, *WAITED, *OFF, *TAIL, *LAST)


def test_a_second_press_of_the_button_is_seen() -> None:
    assert "power changes asked after" in survived("wait_off GracefulShutdown On 204", *WAITED, *OFF, *TAIL, *LAST)


def test_a_second_task_and_a_survivor_are_seen() -> None:
    found = survived(*WAITED, *OFF, *TAIL, *LAST, tasks=2, killed=0)

    assert found == ["the process that was killed ended by signal", "tasks made by the two commands"]


UNDO = ["soft_off (undo) power On", "guest", "soft_off (undo) power Off", "soft_off (undo) On On 204"]


def cancelled(*after: str) -> list[str]:
    calls = log(*HEAD, *WAITED, *after)
    return differing(evidence.is_cancelled(calls, at_cancel=len(HEAD) + len(WAITED), verb=3, code=3, state="CANCELLED"))


def test_the_cancel_is_proved_with_and_without_a_last_look() -> None:
    assert cancelled(*UNDO, *LAST) == []
    assert cancelled(WAITED[0], *UNDO, *LAST) == []


def test_a_cancel_that_goes_on_or_undoes_nothing_is_seen() -> None:
    assert "what the BMC heard after: the undo alone" in cancelled(*OFF, *TAIL, *LAST)
    assert "power changes asked after" in cancelled(*UNDO[:-1], "the demo power Off")
    assert "the machine, asked once more at the end, is" in cancelled(*UNDO[:-1], "the demo power Off")


REFUSED = ["power_on power Off", "power_on On Off 500"]


def rolled_back(*calls: str, revert: str = "done") -> list[str]:
    return differing(evidence.is_rolled_back(log(*calls), code=1, state="FAILED", revert=revert))


def test_the_roll_back_is_proved() -> None:
    assert rolled_back(*HEAD, *OFF, TAIL[0], *REFUSED * 3, UNDO[2], UNDO[3], *LAST) == []


def test_a_roll_back_that_is_not_one_is_seen() -> None:
    assert len(rolled_back(*HEAD, *OFF, TAIL[0], *REFUSED * 3, "the demo power Off", revert="none")) == 4


def rested(before: list[str], between: list[str], after: list[str]) -> list[str]:
    at_resume = len(before) + len(between)
    return differing(
        evidence.waits_for_person(
            log(*before, *between, *after),
            at_rest=len(before),
            rest=7,
            resting=("SUSPENDED", "on_failure"),
            at_resume=at_resume,
            verb=0,
            state="SUCCEEDED",
        )
    )


def test_the_rest_is_proved() -> None:
    assert rested([*HEAD, *WAITED], [], [*OFF, *TAIL, *LAST]) == []


def test_force_before_the_person_came_is_seen() -> None:
    found = rested([*HEAD, *WAITED, "wait_off ForceOff Off 204"], [WAITED[0]], [*OFF, *TAIL, *LAST])

    assert found == [
        "power changes asked by then: the button alone, nothing by force",
        "the machine was then",
        "requests between the rest and the person",
    ]
