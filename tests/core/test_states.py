"""The tables of tasks and steps against the REST contract, typed out here once more on purpose."""

from __future__ import annotations

import random

import pytest

from holdfast.core import states
from holdfast.core.states import (
    ANEW,
    API_STATES,
    CLAIMABLE,
    FINAL,
    GOALS,
    HOLDS,
    IGNORE,
    MACHINES,
    MOVING,
    REASONS,
    REFUSE,
    RESTING,
    STEP,
    STEP_STATES,
    STEP_VERBS,
    TASK,
    VERBS,
    Machine,
    api_state,
    faults,
    hold,
    phase,
    verbs_allowed,
)
from holdfast.errors import StateError, VerbRefused

# API.md §2, all edges but those into oneself.
EDGES = {
    "PENDING": "RUNNING SUSPENDED CANCELLED ABORTED FAILED",
    "RUNNING": "WAITING SUCCEEDED FAILED SUSPENDING SUSPENDED CANCELLING ABORTING REVERTING",
    "WAITING": "RUNNING SUSPENDED CANCELLING ABORTED REVERTING FAILED",
    "SUSPENDING": "SUSPENDED RUNNING REVERTING CANCELLING ABORTING SUCCEEDED FAILED REVERTED CANCELLED",
    "SUSPENDED": "PENDING RUNNING REVERTING CANCELLING CANCELLED ABORTED FAILED",
    "CANCELLING": "CANCELLED SUSPENDING SUSPENDED ABORTING FAILED",
    "REVERTING": "REVERTED FAILED SUSPENDING SUSPENDED ABORTING",
    "ABORTING": "ABORTED FAILED",
}
# The contract also lists SUSPENDING -> WAITING and SUSPENDED -> WAITING. Here a resumed task is RUNNING until it has
# looked, and then WAITING: one way into WAITING is one place where it is decided.

# API.md §5. "·" is accepted without a change, "-" refused, "new" answered with a new task.
MATRIX = """
            cancel      abort     suspend     resume  rollback   retry
PENDING     CANCELLED   ABORTED   SUSPENDED   ·       -          -
RUNNING     CANCELLING  ABORTING  SUSPENDING  ·       REVERTING  -
WAITING     CANCELLING  ABORTED   SUSPENDED   ·       REVERTING  -
CANCELLING  ·           ABORTING  SUSPENDING  ·       -          -
REVERTING   -           ABORTING  SUSPENDING  ·       ·          -
ABORTING    -           ·         -           -       -          -
SUCCEEDED   -           -         -           -       new        -
FAILED      -           -         -           -       new        new
CANCELLED   ·           -         -           -       new        new
ABORTED     -           ·         -           -       new        new
REVERTED    -           -         -           -       ·          new
"""
WORDS = {IGNORE: "·", REFUSE: "-", ANEW: "new"}
HELD = {"pending": "PENDING", "forward": "RUNNING", "reverting": "REVERTING", "cancelling": "CANCELLING"}


def matrix() -> dict[str, dict[str, str]]:
    head, *rows = MATRIX.strip().splitlines()
    return {row.split()[0]: dict(zip(head.split(), row.split()[1:], strict=True)) for row in rows}


def told(of: str, verb: str) -> str:
    answer = TASK.answer(of, verb)
    return WORDS.get(answer) or api_state(answer)


@pytest.mark.requirement("NOVA-9")
@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
def test_the_tables_are_sound(machine: Machine) -> None:
    assert faults(machine) == []


@pytest.mark.requirement("NOVA-9")
@pytest.mark.parametrize(
    ("machine", "state"), [(machine, state) for machine in MACHINES.values() for state in machine.rows]
)
def test_removing_any_row_is_noticed_and_named(machine: Machine, state: str) -> None:
    rows = {name: row for name, row in machine.rows.items() if name != state}
    found = faults(
        Machine(
            machine.name, rows, verbs=machine.verbs, inputs=machine.inputs, death=machine.death,
            reopens=machine.reopens, operated=machine.operated, check=False,
        )
    )  # fmt: skip
    assert any(state in sentence for sentence in found), found


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
def test_removing_any_verb_of_any_row_is_noticed_and_named(machine: Machine) -> None:
    for state, row in machine.rows.items():
        for verb in machine.verbs:
            moves = {given: answer for given, answer in row.moves.items() if given != verb}
            rows = {**machine.rows, state: row._replace(moves=moves)}
            found = faults(Machine(machine.name, rows, verbs=machine.verbs, reopens=machine.reopens, check=False))
            assert f"{state} has no answer to {verb}" in found


def test_the_edges_are_those_of_the_contract() -> None:
    found: dict[str, set[str]] = {}
    for source, _, target in TASK.edges():
        if api_state(source) != api_state(target):
            found.setdefault(api_state(source), set()).add(api_state(target))
    assert found == {state: set(targets.split()) for state, targets in EDGES.items()}


@pytest.mark.parametrize("state", matrix())
def test_the_verbs_are_answered_as_the_contract_says(state: str) -> None:
    assert {verb: told(state, verb) for verb in VERBS} == matrix()[state]


@pytest.mark.parametrize("held", [row for row in TASK.rows if hold(row)])
def test_a_held_state_answers_as_what_it_holds(held: str) -> None:
    suspended = api_state(held) == "SUSPENDED"
    of = matrix()[HELD[str(hold(held))]]
    assert told(held, "cancel") == of["cancel"]
    assert told(held, "rollback") == of["rollback"]
    assert told(held, "abort") == ("ABORTED" if suspended else "ABORTING")
    assert told(held, "suspend") == "·"
    assert told(held, "resume") == HELD[str(hold(held))]
    assert told(held, "retry") == "-"


def test_a_hold_is_kept_from_suspending_to_suspended_and_back() -> None:
    for row in TASK.rows:
        if api_state(row) == "SUSPENDING":
            rested = TASK.next[row]["rest"]
            assert (api_state(rested), hold(rested)) == ("SUSPENDED", hold(row))
            assert TASK.next[row]["resume"] == TASK.next[rested]["resume"]
            assert TASK.next[TASK.next[row]["resume"]]["suspend"] == row


@pytest.mark.requirement("NOVA-9")
@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
def test_random_walks_use_declared_edges_only_and_can_always_end(machine: Machine) -> None:
    declared = set(machine.edges())
    chance = random.Random(20)
    inputs = [*machine.verbs, *machine.inputs, machine.death or ""]
    ends = set()
    for _ in range(10_000):
        state = machine.start
        for _ in range(30):
            given = chance.choice(inputs)
            try:
                after = machine.move(state, given)
            except StateError:
                assert machine.rows[state].moves.get(given) in (None, REFUSE, ANEW)
                assert given not in machine.next[state]
                continue
            assert after == machine.next[state][given]
            assert after in machine.rows
            if after != state:
                assert (state, given, after) in declared
                assert machine.rows[state].kind != "final" or given in machine.reopens
            else:
                assert machine.rows[state].moves[given] in (IGNORE, state)
            state = after
        ends.add(state)
    assert machine.of_kind("final") <= ends


def test_a_worker_death_changes_no_task() -> None:
    for row in MOVING | RESTING:
        assert TASK.move(row, "worker_died") == row


def test_force_fail_ends_whatever_has_not_ended() -> None:
    for row in TASK.rows:
        if row in FINAL:
            with pytest.raises(VerbRefused):
                TASK.move(row, "force_fail")
        else:
            assert TASK.move(row, "force_fail") == "FAILED"


def test_a_refused_verb_says_which_are_allowed() -> None:
    with pytest.raises(
        VerbRefused, match=r"^can't cancel while REVERTING; allowed now: abort, suspend, force_fail$"
    ) as refused:
        TASK.move("REVERTING", "cancel")
    assert refused.value.details["allowed"] == ["abort", "suspend", "force_fail"]
    with pytest.raises(VerbRefused, match=r"^can't retry while SUSPENDED; allowed"):
        TASK.move("SUSPENDED/forward", "retry")


def test_what_is_undeclared_is_an_error_of_the_caller() -> None:
    for state, given in [
        ("PENDING", "wake"),
        ("SUCCEEDED", "begin"),
        ("NOWHERE", "cancel"),
        ("SUSPENDING/forward", "turn"),
    ]:
        with pytest.raises(StateError) as raised:
            TASK.move(state, given)
        assert not isinstance(raised.value, VerbRefused)


def test_the_verbs_allowed_are_those_that_change_something() -> None:
    assert verbs_allowed("RUNNING") == ["cancel", "abort", "suspend", "rollback"]
    assert verbs_allowed("SUSPENDED/forward") == ["cancel", "abort", "resume", "rollback"]
    assert verbs_allowed("SUCCEEDED") == ["rollback"]
    assert verbs_allowed("REVERTED") == ["retry"]
    assert verbs_allowed("ABORTING") == []


def test_the_groups_are_those_of_the_contract() -> None:
    assert {"SUCCEEDED", "FAILED", "CANCELLED", "ABORTED", "REVERTED"} == FINAL
    assert " ".join(CLAIMABLE) == "PENDING RUNNING WAITING SUSPENDING CANCELLING REVERTING ABORTING"
    assert {api_state(row) for row in RESTING} == {"SUSPENDED"}
    assert len(API_STATES) == 13
    assert set(HOLDS) == set(HELD)
    assert set(GOALS) <= FINAL
    for row in TASK.rows:
        assert phase(api_state(row), hold(row)) == row


def test_reasons_are_those_of_the_contract() -> None:
    assert " ".join(REASONS) == (
        "asked on_failure outcome_unknown definition_changed revert_failed step_unresponsive past_pivot poison"
    )
    assert not REASONS["asked"].needs_answer
    assert not REASONS["on_failure"].needs_answer
    assert not REASONS["definition_changed"].needs_answer
    assert REASONS["outcome_unknown"].needs_answer
    assert "undo" not in REASONS["past_pivot"].answers


def test_the_numbers_of_step_states_are_their_places() -> None:
    assert tuple(STEP.rows) == STEP_STATES
    for number, name in enumerate(STEP_STATES):
        assert getattr(states, f"S_{name}") == number


def test_a_resting_step_can_be_left_by_every_answer_its_task_may_be_given() -> None:
    for state, reasons in {
        "INTERRUPTED": ("outcome_unknown", "poison"),
        "ABANDONED": ("step_unresponsive",),
        "REVERT_FAILED": ("revert_failed",),
        "FAILED": ("on_failure", "past_pivot"),
    }.items():
        for reason in reasons:
            for word in REASONS[reason].answers:
                assert f"answered_{word}" in STEP_VERBS
                assert STEP.answer(state, f"answered_{word}") != REFUSE
