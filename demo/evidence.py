"""What each scene must prove, as questions to the BMC's call log and to the exit codes.

Pure: a log and some numbers in, a list of `Check`s out. tests/demo/test_evidence.py gives each a log that lies.
Who plays the scenes: scenes.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from demo.calls import Call

STEPS = ["read_power", "soft_off", "wait_off", "confirm_off", "power_on", "confirm_on"]
DEMO = "the demo"  # how the demo's own looks at the machine name themselves

BUTTON = "GracefulShutdown by soft_off: 204"
ON = "On by power_on: 204"
PUT_BACK = "On by soft_off (undo): 204"


class Check(NamedTuple):
    claim: str
    expected: Any
    found: Any

    @property
    def holds(self) -> bool:
        return bool(self.expected == self.found)


def resets(calls: Iterable[Call]) -> list[str]:
    """Every request to change power, with who made it and what the BMC answered."""
    return [f"{call.what} by {call.by}: {call.status}" for call in calls if call.is_reset]


def order(calls: Iterable[Call]) -> list[str]:
    """Who spoke to the BMC, in order; a row of requests by one step counts once."""
    names: list[str] = []
    for call in calls:
        if call.call != "guest" and call.by != DEMO and (not names or names[-1] != call.by):
            names.append(call.by)
    return names


def looks(calls: Iterable[Call], by: str, power: str) -> int:
    """How often the step `by` read the power state and was told `power`."""
    return sum(call.by == by and call.what == "power" and call.power == power for call in calls)


def last_power(calls: Sequence[Call]) -> str:
    return calls[-1].power if calls else "nothing was ever asked"


def _exit(what: str, expected: int, found: int | None) -> Check:
    return Check(f"{what} exits", expected, found)


def _state(expected: str, found: str) -> Check:
    return Check("the task's state", expected, found)


def _end(calls: Sequence[Call]) -> Check:
    return Check("the machine, asked once more at the end, is", "On", last_power(calls))


def ends_well(calls: Sequence[Call], *, code: int | None, state: str, progress: str | None) -> list[Check]:
    return [
        _exit("`holdfast run`", 0, code),
        _state("SUCCEEDED", state),
        Check("power changes asked of the BMC", [BUTTON, ON], resets(calls)),
        Check("steps, in the order in which the BMC heard them", STEPS, order(calls)),
        Check("the wait saw the machine still on", True, looks(calls, "wait_off", "On") > 0),
        Check("and then off, and looked no more", 1, looks(calls, "wait_off", "Off")),
        Check("the wait's progress was shown", True, progress is not None),
        _end(calls),
    ]


def survives_kill(
    calls: Sequence[Call], *, at_kill: int, killed: int | None, code: int | None, state: str, tasks: int
) -> list[Check]:
    """`at_kill`: how many lines the log had once the killed process was gone."""
    before, after = calls[:at_kill], calls[at_kill:]
    return [
        Check("the process that was killed ended by signal", -9, killed),
        Check("what the BMC had heard when it was killed", STEPS[:3], order(before)),
        Check("power changes asked by then", [BUTTON], resets(before)),
        _exit("the same command again", 0, code),
        _state("SUCCEEDED", state),
        Check("tasks made by the two commands", 1, tasks),
        Check("what the BMC heard after: no finished step ran again", STEPS[2:], order(after)),
        Check("power changes asked after", [ON], resets(after)),
        _end(calls),
    ]


def is_cancelled(
    calls: Sequence[Call], *, at_cancel: int, verb: int | None, code: int | None, state: str
) -> list[Check]:
    """`at_cancel`: how many lines the log had when the cancel was sent."""
    before, after = calls[:at_cancel], calls[at_cancel:]
    names = order(after)
    return [
        Check("what the BMC had heard when the cancel was sent", STEPS[:3], order(before)),
        Check("power changes asked by then", [BUTTON], resets(before)),
        _exit("`holdfast task cancel`", 3, verb),
        _exit("`holdfast run`", 3, code),
        _state("CANCELLED", state),
        # A last look of the wait may have been on its way.
        Check("what the BMC heard after: the undo alone", ["soft_off (undo)"], names[names[:1] == ["wait_off"] :]),
        Check("power changes asked after", [PUT_BACK], resets(after)),
        _end(calls),
    ]


def is_rolled_back(calls: Sequence[Call], *, code: int | None, state: str, revert: str) -> list[Check]:
    refused = "On by power_on: 500"
    return [
        _exit("`holdfast run`", 1, code),
        _state("FAILED", state),
        Check("its undo", "done", revert),
        Check("power changes asked of the BMC", [BUTTON, refused, refused, refused, PUT_BACK], resets(calls)),
        Check("steps, in the order in which the BMC heard them", [*STEPS[:5], "soft_off (undo)"], order(calls)),
        _end(calls),
    ]


def waits_for_person(
    calls: Sequence[Call],
    *,
    at_rest: int,
    rest: int | None,
    resting: tuple[str, str],
    at_resume: int,
    verb: int | None,
    state: str,
) -> list[Check]:
    """`at_rest`: how many lines the log had when the first command had ended; `at_resume`: when the person came."""
    before, after = calls[:at_rest], calls[at_resume:]
    return [
        _exit("`holdfast run`", 7, rest),
        Check("the task's state and reason then", ("SUSPENDED", "on_failure"), resting),
        Check("what the BMC had heard by then", STEPS[:3], order(before)),
        Check("power changes asked by then: the button alone, nothing by force", [BUTTON], resets(before)),
        Check("the machine was then", "On", last_power(before)),
        Check("requests between the rest and the person", [], order(calls[at_rest:at_resume])),
        _exit("`holdfast task resume`", 0, verb),
        _state("SUCCEEDED", state),
        Check("what the BMC heard after: no finished step ran again", STEPS[2:], order(after)),
        Check("power changes asked after", [ON], resets(after)),
        _end(calls),
    ]
