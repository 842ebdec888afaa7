"""The verbs against the contract's matrix; what each leaves in the row, the journal and the queues."""

from __future__ import annotations

import json
from typing import Any

import pytest

from holdfast.core.states import FINAL, TASK, api_state, hold
from holdfast.errors import AnswerNeeded, AnswerRefused, PastPivot, VerbRefused
from holdfast.store.base import Append, Row, StepRow, Tx
from holdfast.store.sqlite import SqliteStore
from holdfast.tasks import control
from holdfast.tasks.control import Answer
from tests.tasks.desk import Desk, take_as


@pytest.fixture
def desk(store: SqliteStore) -> Desk:
    return Desk(store)


# Rows: PENDING … of the REST contract, section 5; columns: cancel, abort, suspend, resume, rollback, retry.
# A word is the state that follows, "=" a no-op, "-" a refusal, "+" a new task.
MATRIX = {
    "PENDING": "CANCELLED ABORTED SUSPENDED = - -",
    "RUNNING": "CANCELLING ABORTING SUSPENDING = REVERTING -",
    "WAITING": "CANCELLING ABORTED SUSPENDED = REVERTING -",
    "CANCELLING": "= ABORTING SUSPENDING = - -",
    "REVERTING": "- ABORTING SUSPENDING = = -",
    "ABORTING": "- = - - - -",
    "SUSPENDING/forward": "CANCELLING ABORTING = RUNNING REVERTING -",
    "SUSPENDING/reverting": "- ABORTING = REVERTING = -",
    "SUSPENDING/cancelling": "= ABORTING = CANCELLING - -",
    "SUSPENDED/pending": "CANCELLED ABORTED = PENDING - -",
    "SUSPENDED/forward": "CANCELLING ABORTED = RUNNING REVERTING -",
    "SUSPENDED/reverting": "- ABORTED = REVERTING = -",
    "SUSPENDED/cancelling": "= ABORTED = CANCELLING - -",
    "SUCCEEDED": "- - - - + -",
    "FAILED": "- - - - + +",
    "CANCELLED": "= - - - + +",
    "ABORTED": "- = - - + +",
    "REVERTED": "- - - - = +",
}
VERBS = ("cancel", "abort", "suspend", "resume", "rollback", "retry")
CELLS = [
    (phase, verb, answer) for phase, row in MATRIX.items() for verb, answer in zip(VERBS, row.split(), strict=True)
]


def give(desk: Desk, verb: str, task: int, **more: Any) -> Answer:
    function = getattr(control, verb)
    if verb in ("rollback", "retry"):
        desk.number += 1
        more["uuid"] = f"00000000-0000-7000-8000-{desk.number:012}"
    now = desk.tick()
    answer: Answer = desk.store.write(lambda tx: function(tx, task, now, actor="me", **more))
    return answer


def put(desk: Desk, task: int, phase: str) -> None:
    """Bring a task into a phase as a worker would have left its row."""
    if phase in FINAL:
        begun(desk, task)
        desk.end(task, phase)
    elif phase != "PENDING":
        desk.set(task, state=api_state(phase), hold=hold(phase), executed_at=desk.tick())


def begun(desk: Desk, task: int, *words: str) -> None:
    """Let the task have steps in these states."""

    def write(tx: Tx) -> None:
        tx.append(
            Append(
                task,
                "t",
                0,
                (),
                [Row("began", None, None, 1.0)],
                steps_all=[
                    StepRow(place, f"build/{place}", word, 1, 1.0)
                    for place, word in enumerate(words or ("SUCCEEDED", "FAILED"))
                ],
            )
        )

    desk.set(task, token="t", state="RUNNING", executed_at=desk.tick())
    desk.store.write(write)
    desk.set(task, token=None)


def test_the_matrix_names_every_phase() -> None:
    assert set(MATRIX) == set(TASK.rows)


@pytest.mark.requirement("IRONIC-1")
@pytest.mark.parametrize(("phase", "verb", "expected"), CELLS, ids=[f"{p}-{v}" for p, v, _ in CELLS])
def test_each_verb_in_each_state(desk: Desk, phase: str, verb: str, expected: str) -> None:
    task = desk.submit("r", inputs='{"a":1}')
    put(desk, task, phase)
    before = desk.row(task)
    if expected == "-":
        with pytest.raises(VerbRefused) as refusal:
            give(desk, verb, task)
        assert str(refusal.value) == f"Cannot '{verb}' task {before.uuid} while it is {before.state}"
        assert refusal.value.details["allowed"] == control.supported_verbs(before)
        assert desk.row(task) == before
        return
    answer = give(desk, verb, task)
    if expected == "=":
        assert answer == (before, "no-op")
        assert desk.row(task) == before
    elif expected == "+":
        assert answer.accepted == "new task"
        assert (answer.task.state, answer.task.id > task) == ("PENDING", True)
        assert desk.row(task) == before
    else:
        assert (answer.accepted, answer.task.state) == ("accepted", expected)
        assert answer.task == desk.row(task)
        assert answer.task.seq == before.seq + 1
        assert len(desk.store.journal(task, before.seq)) == 1


@pytest.mark.requirement("G7")
def test_who_comes_second_is_told_what_the_first_made_of_it(desk: Desk) -> None:
    ended, cancelled = desk.submit(), desk.submit()
    begun(desk, ended)
    desk.end(ended)
    with pytest.raises(VerbRefused, match="while it is SUCCEEDED"):
        give(desk, "cancel", ended)
    desk.set(cancelled, token="t")
    begun(desk, cancelled)
    desk.set(cancelled, token="t")
    give(desk, "cancel", cancelled)
    end = Append(cancelled, "t", 1, [Row("succeeded", "a", None, 1.0)], [Row("ended", None, None, 1.0)])
    (answer,) = desk.store.append([end])
    assert not isinstance(answer, Exception)
    assert (answer.accepted, [row.kind for row in answer.unseen]) == (False, ["cancel_asked"])
    assert desk.row(cancelled).state == "CANCELLING"


@pytest.mark.requirement("IRONIC-2", "G6")
def test_verbs_wait_for_no_claim(desk: Desk) -> None:
    holder, waiter = desk.submit("r"), desk.submit("r")
    begun(desk, holder)
    assert give(desk, "suspend", holder).task.state == "SUSPENDING"
    assert give(desk, "cancel", waiter).task.state == "CANCELLED"


def test_what_ends_at_once_frees_its_claims_and_its_worker_writes_no_more(desk: Desk) -> None:
    task, waiter = desk.submit("r"), desk.submit("r")
    (at,) = desk.store.write(
        lambda tx: take_as(tx, "w", generation="g", nonce="n", now=desk.now, limit=9, pool="default")
    )
    answer = give(desk, "cancel", task)
    after = answer.task
    assert (after.state, after.finished_at, after.worker_id, after.token) == ("CANCELLED", desk.now, None, None)
    assert (after.due_at, after.ready, after.effect, after.revert) == (None, False, "none", "none")
    assert after.expires_at == desk.now + control.RETENTION_S
    assert desk.ready(waiter) == [True]
    (late,) = desk.store.append([Append(task, at.token or "", 0, (), [Row("began", None, None, 1.0)])])
    assert isinstance(late, Exception)


@pytest.mark.requirement("P12")
def test_force_fail_ends_a_task_over_its_workers_head(desk: Desk) -> None:
    task, next_one = desk.submit("r"), desk.submit("r")
    begun(desk, task, "SUCCEEDED", "RUNNING")
    token = "of its worker"
    desk.set(task, token=token)
    answer = give(desk, "force_fail", task, reason="the rack is gone")
    assert (answer.task.state, answer.task.effect, answer.task.revert) == ("FAILED", "unknown", "none")
    assert json.loads(answer.task.error or "")["message"] == "the rack is gone"
    assert desk.granted() == {"r": [(next_one, "exclusive")]}
    (late,) = desk.store.append([Append(task, token, answer.task.seq, (), [Row("began", None, None, 1.0)])])
    assert isinstance(late, Exception)
    last = desk.store.journal(task)[-1]
    assert (last.kind, json.loads(last.data or "")["reason"]) == ("force_failed", "the rack is gone")
    with pytest.raises(VerbRefused):
        give(desk, "force_fail", task, reason="again")


@pytest.mark.parametrize("state", ["PENDING", "RUNNING", "WAITING", "SUSPENDED", "CANCELLING", "REVERTING", "ABORTING"])
def test_force_fail_ends_what_has_not_ended(desk: Desk, state: str) -> None:
    task = desk.submit("r")
    desk.set(task, state=state, hold="forward" if state == "SUSPENDED" else None)
    assert give(desk, "force_fail", task, reason="").task.state == "FAILED"
    assert desk.granted() == {}


def test_abort_of_a_waiting_task_leaves_its_steps_aborted(desk: Desk) -> None:
    task = desk.submit()
    begun(desk, task, "SUCCEEDED", "WAITING")
    desk.set(task, state="WAITING")
    answer = give(desk, "abort", task)
    assert (answer.task.state, answer.task.effect) == ("ABORTED", "unknown")
    from holdfast.tasks import query

    steps = desk.store.read(lambda tx: query.steps_of(tx, task))
    assert [step.state for step in steps] == ["SUCCEEDED", "ABORTED"]


def test_a_pivot_passed_forbids_undo_and_not_to_stop(desk: Desk) -> None:
    task = desk.submit()
    begun(desk, task)
    desk.set(task, past_pivot=True)
    for verb in ("cancel", "rollback"):
        with pytest.raises(PastPivot):
            give(desk, verb, task)
    assert give(desk, "cancel", task, revert=False).task.state == "CANCELLING"


def test_a_rest_that_needs_an_answer_is_not_left_without(desk: Desk) -> None:
    task = desk.submit()
    desk.set(task, state="SUSPENDED", hold="forward", reason="outcome_unknown", resting='["a","b"]')
    with pytest.raises(AnswerNeeded) as needed:
        give(desk, "resume", task, answers={"a": ("done", 3)})
    assert needed.value.details == {"steps": ["b"], "words": ["done", "rerun", "undo", "skip"]}
    for wrong in ({"c": ("done", None)}, {"a": ("perhaps", None)}, {"a": ("skip", 1), "b": ("skip", None)}):
        with pytest.raises(AnswerRefused):
            give(desk, "resume", task, answers=wrong)
    assert desk.row(task).seq == 0
    answer = give(desk, "resume", task, answers={"a": ("done", [1]), "b": ("rerun", None)})
    assert (answer.task.state, answer.task.reason, answer.task.resting) == ("RUNNING", None, None)
    (event,) = desk.store.journal(task)
    assert json.loads(event.data or "")["answers"] == {"a": ["done", [1]], "b": ["rerun", None]}


def test_what_failed_is_run_again_unless_somebody_says_otherwise(desk: Desk) -> None:
    task = desk.submit()
    desk.set(task, state="SUSPENDED", hold="forward", reason="on_failure", resting='["a"]')
    assert give(desk, "resume", task).task.state == "RUNNING"


def test_a_revert_that_failed_cannot_be_answered_with_undo(desk: Desk) -> None:
    task = desk.submit()
    desk.set(task, state="SUSPENDED", hold="reverting", reason="revert_failed", resting='["a"]')
    with pytest.raises(AnswerRefused):
        give(desk, "resume", task, answers={"a": ("undo", None)})


def test_an_answer_nobody_asked_for_is_refused(desk: Desk) -> None:
    task = desk.submit()
    give(desk, "suspend", task)
    with pytest.raises(AnswerRefused):
        give(desk, "resume", task, answers={"a": ("done", None)})


def test_a_suspended_task_keeps_its_place_or_gives_it_up(desk: Desk) -> None:
    first, second, third = desk.submit("r"), desk.submit("r"), desk.submit("r")
    give(desk, "suspend", first)
    assert desk.ready(first, second, third) == [False, True, False]
    give(desk, "resume", first)
    desk.end(second)
    assert desk.ready(first, third) == [True, False]
    give(desk, "suspend", first, release_claims=True)
    give(desk, "resume", first)
    assert desk.ready(first, third) == [False, True]


def test_a_suspended_task_can_still_be_told_to_release_its_claims(desk: Desk) -> None:
    task, waiter = desk.submit("r"), desk.submit("r")
    begun(desk, task)
    desk.set(task, state="SUSPENDED", hold="forward", reason="outcome_unknown", resting='["a"]')
    assert give(desk, "suspend", task).accepted == "no-op"
    assert desk.ready(waiter) == [False]
    answer = give(desk, "suspend", task, release_claims=True)
    assert (answer.accepted, answer.task.reason, answer.task.resting) == ("accepted", "outcome_unknown", '["a"]')
    assert desk.ready(waiter) == [True]
    assert give(desk, "suspend", task, release_claims=True).accepted == "no-op"


def test_nothing_moves_before_the_claims_are_back_and_undo_waits_too(desk: Desk) -> None:
    task = desk.submit("r")
    begun(desk, task)
    desk.set(task, state="WAITING", worker_id="w", token="t")
    give(desk, "suspend", task, release_claims=True)
    assert (desk.row(task).worker_id, desk.row(task).token) == (None, None)
    holder = desk.submit("r")
    answer = give(desk, "cancel", task)
    assert (answer.task.state, answer.task.ready) == ("CANCELLING", False)
    desk.end(holder)
    assert desk.ready(task) == [True]


def test_to_stop_and_undo_nothing_needs_no_claim(desk: Desk) -> None:
    task = desk.submit("r")
    begun(desk, task)
    desk.set(task, state="WAITING")
    give(desk, "suspend", task, release_claims=True)
    desk.submit("r")
    answer = give(desk, "cancel", task, revert=False)
    assert (answer.task.state, answer.task.ready, answer.task.due_at) == ("CANCELLING", True, desk.now)


def test_a_task_without_its_claims_is_taken_from_the_worker_that_could_go_on(desk: Desk) -> None:
    task = desk.submit("r")
    begun(desk, task)
    desk.set(task, state="WAITING")
    give(desk, "suspend", task, release_claims=True)
    desk.submit("r")
    give(desk, "resume", task)
    give(desk, "suspend", task)
    assert desk.row(task).state == "SUSPENDING"
    (at,) = [
        at
        for at in desk.store.write(
            lambda tx: take_as(tx, "w", generation="g", nonce="n", now=desk.now, limit=9, pool="default")
        )
        if at.id == task
    ]
    answer = give(desk, "resume", task)
    assert (answer.task.state, answer.task.ready, answer.task.worker_id) == ("RUNNING", False, None)
    (late,) = desk.store.append([Append(task, at.token or "", answer.task.seq, (), [Row("woke", None, None, 1.0)])])
    assert isinstance(late, Exception)


def test_a_retry_is_the_same_request_without_its_tag_and_there_is_one(desk: Desk) -> None:
    task = desk.submit("r", tag="t", inputs='{"a":1}', priority=3)
    begun(desk, task)
    desk.end(task, "FAILED")
    first = give(desk, "retry", task)
    assert (first.task.retry_of, first.task.tag, first.task.priority) == (task, None, 3)
    assert give(desk, "retry", task) == (first.task, "replayed")
    desk.end(first.task.id, "FAILED")
    second = give(desk, "retry", task)
    assert (second.accepted, second.task.id > first.task.id) == ("new task", True)
    desk.end(second.task.id, "SUCCEEDED")
    assert give(desk, "retry", task).accepted == "replayed"


def test_a_rollback_takes_the_plan_and_the_claims_of_what_it_undoes(desk: Desk) -> None:
    task, other = desk.submit("r", digest="d", outline="o"), desk.submit("r")
    begun(desk, task)
    desk.end(task)
    answer = give(desk, "rollback", task)
    assert (answer.task.rollback_of, answer.task.digest, answer.task.ready) == (task, "d", False)
    assert give(desk, "rollback", task) == (answer.task, "replayed")
    desk.end(other)
    assert desk.ready(answer.task.id) == [True]
    desk.end(answer.task.id)
    with pytest.raises(VerbRefused):
        give(desk, "rollback", answer.task.id)


def test_nothing_left_to_undo_is_no_error(desk: Desk) -> None:
    task = desk.submit()
    begun(desk, task, "REVERTED", "REVERTED")
    desk.end(task, "FAILED")
    at = desk.row(task)
    assert (at.effect, at.revert, control.supported_verbs(at)) == ("none", "done", ["retry"])
    assert give(desk, "rollback", task) == (at, "no-op")


def test_what_passed_its_pivot_is_not_rolled_back(desk: Desk) -> None:
    task = desk.submit()
    begun(desk, task)
    desk.set(task, past_pivot=True)
    desk.end(task)
    with pytest.raises(PastPivot):
        give(desk, "rollback", task)
    assert control.supported_verbs(desk.row(task)) == []


def test_a_rollback_beneath_somebody_elses_change_must_be_forced(desk: Desk) -> None:
    task = desk.submit("r%_", ("s", "shared"))
    begun(desk, task)
    desk.end(task)
    for claim in ("rxx", "r%_2"):
        bystander = desk.submit(claim)
        begun(desk, bystander)
        desk.end(bystander)
    sharer = desk.submit(("s", "shared"))
    begun(desk, sharer)
    desk.end(sharer)
    later = desk.submit("r%_")
    begun(desk, later)
    desk.end(later)
    with pytest.raises(VerbRefused) as refusal:
        give(desk, "rollback", task)
    assert refusal.value.code == "rollback.superseded"
    assert refusal.value.details["task"] == desk.row(later).uuid
    assert give(desk, "rollback", task, force=True).accepted == "new task"


def test_who_was_undone_stands_in_no_rollbacks_way(desk: Desk) -> None:
    first, second = desk.submit("r"), desk.submit("r")
    for task in (first, second):
        begun(desk, task)
        desk.end(task)
    undo = give(desk, "rollback", second).task.id
    with pytest.raises(VerbRefused):
        give(desk, "rollback", first)
    desk.end(undo)
    assert give(desk, "rollback", first).accepted == "new task"


def test_an_event_is_kept_and_wakes_who_waits(desk: Desk) -> None:
    task = desk.submit()
    begun(desk, task)
    desk.set(task, state="WAITING", due_at=None)
    answer = desk.store.write(lambda tx: control.deliver(tx, task, "approved", {"by": "ann"}, 77.0))
    assert (answer.task.due_at, answer.task.state) == (77.0, "WAITING")
    (event,) = desk.store.journal(task, 1)
    assert (event.kind, json.loads(event.data or "")) == ("delivered", {"name": "approved", "payload": {"by": "ann"}})
    give(desk, "abort", task)
    with pytest.raises(VerbRefused):
        desk.store.write(lambda tx: control.deliver(tx, task, "approved", None, 78.0))


def test_an_event_does_not_start_a_task_early_nor_wake_one_that_rests(desk: Desk) -> None:
    later, resting = desk.submit(start_after=9000.0), desk.submit()
    give(desk, "suspend", resting)
    for task in (later, resting):
        desk.store.write(lambda tx, task=task: control.deliver(tx, task, "go", None, 77.0))  # type: ignore[misc]
    assert (desk.row(later).due_at, desk.row(resting).due_at) == (9000.0, None)


def test_a_task_that_starts_later_still_does_after_a_rest(desk: Desk) -> None:
    task, claiming = desk.submit(start_after=9000.0), desk.submit("r", start_after=9000.0)
    for each in (task, claiming):
        give(desk, "suspend", each)
        assert give(desk, "resume", each).task.due_at == 9000.0
    assert desk.ready(task, claiming) == [True, False]
