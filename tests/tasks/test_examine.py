"""What no task may be, each made by hand, is found and said, and nothing else with it."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest
from sqlalchemy import insert, text

from holdfast.core.events import Parked
from holdfast.store.base import Store, Tx
from holdfast.store.journal import encode
from holdfast.store.schema import journal
from holdfast.tasks import claims, examine, lease, overdue, take
from holdfast.tasks.lease import WorkerRow
from tests.postgresql import only_sqlite
from tests.tasks.desk import Desk

#: name -> what a hand does to the rows. Task 1 claims r and is taken by w; 2 waits for r; 3 has ended; 4 is due.
MADE = {
    "no_state": "UPDATE tasks SET state = 'SUSPENDED', reason = 'asked', hold = 'sideways' WHERE id = 4",
    "ended_and_not": "UPDATE tasks SET finished_at = NULL, expires_at = NULL WHERE id = 3",
    "no_reason": "UPDATE tasks SET state = 'SUSPENDED', hold = 'pending' WHERE id = 4",
    "claims_of_nobody": "UPDATE tasks SET ready = false WHERE id = 4",
    "due_for_nobody": "UPDATE tasks SET due_at = NULL WHERE id = 4",
    "ended_and_taken": "UPDATE tasks SET worker_id = 'w' WHERE id = 3",
    "ended_and_due": "UPDATE tasks SET due_at = 5 WHERE id = 3",
    "ended_and_kept_for_ever": "UPDATE tasks SET expires_at = NULL WHERE id = 3",
    "purged_while_it_runs": "UPDATE tasks SET expires_at = 5 WHERE id = 1",
    "taken_by_nobody": "UPDATE tasks SET worker_id = 'nobody' WHERE id = 1",
    "taken_by_the_dead": "UPDATE workers SET dead = true WHERE id = 'w'",
    "taken_without_token": "UPDATE tasks SET token = NULL WHERE id = 1",
    "token_of_another_epoch": "UPDATE tasks SET epoch = 0 WHERE id = 1",
    "journal_behind_its_end": "INSERT INTO journal (task, seq, kind, at) VALUES (1, 9, 'began', 1)",
    "journal_without_its_end": "UPDATE tasks SET seq = 1 WHERE id = 4",
    "steps_ahead": "UPDATE tasks SET steps_seq = 9 WHERE id = 1",
    "claims_of_the_ended": "INSERT INTO tickets (resource, ticket, task, mode) VALUES ('q', 1, 3, 'shared')",
    "claims_in_part": "INSERT INTO tickets (resource, ticket, task, mode) VALUES ('q', 1, 1, 'shared')",
    "claims_of_no_task": "INSERT INTO tickets (resource, ticket, task, mode) VALUES ('q', 1, 77, 'shared')",
    "claimed_twice": "INSERT INTO tickets (resource, ticket, task, mode, granted) VALUES ('r', 3, 4, 'shared', true)",
    "numbers_given_twice": "UPDATE queues SET next_ticket = 2 WHERE resource = 'r'",
    "tag_of_no_task": "UPDATE tags SET task = 77",
    "lease_of_no_task": "UPDATE leases SET task = 77 WHERE id = 1",
    "lease_of_half_an_agent": "UPDATE leases SET holder = 'u' WHERE id = 1",
    "lease_without_end": "UPDATE leases SET expires_at = NULL WHERE id = 2",
    "lease_over_and_left": "UPDATE leases SET expires_at = 5 WHERE id = 2",
    "lease_that_nobody_hears": "UPDATE leases SET task = 4, ended_at = 5, expires_at = NULL WHERE id = 2;"
    "UPDATE tasks SET due_at = NULL, worker_id = 'nobody' WHERE id = 4",
    "schedule_left": "UPDATE schedules SET next_at = 5 WHERE id = 's'",
    "firing_of_no_schedule": "INSERT INTO firings (schedule, moment, at, outcome) VALUES ('x', 1, 1, 'MISSED')",
    "fired_without_task": "INSERT INTO firings (schedule, moment, at, outcome) VALUES ('s', 1, 1, 'FIRED')",
}


#: Of task 1, a lease that no agent has and one that an agent has; a schedule that is due in a while.
AROUND = """
    INSERT INTO leases (task, node, what, entry, pool, work, offered_at) VALUES (1, 'a', 'execute', 0, 'p', '{}', 1);
    INSERT INTO leases (task, node, what, entry, pool, work, offered_at, token, holder, agent, leased_at, told_at,
        expires_at)
        VALUES (1, 'b', 'execute', 0, 'p', '{}', 1, 't', 'u', 'a', 1, 1, 9999);
    INSERT INTO schedules (id, project_id, name, cron, timezone, catch_up, overlap, what, next_at, created_at,
        updated_at) VALUES ('s', 'p', 'nightly', '0 2 * * *', 'UTC', 'one', 'skip', '{}', 9999, 1, 1)
"""


@pytest.fixture
def desk(store: Store) -> Desk:
    made = Desk(store)  # type: ignore[arg-type]
    row = WorkerRow("w", "h", "b", 1, None, "default", 0.0, 0.0, 1e6)
    store.write(lambda tx: lease.register(tx, row))
    assert [made.submit("r"), made.submit("r"), made.submit(tag="t")] == [1, 2, 3]
    made.end(3)
    found = store.write(lambda tx: take.take(tx, "w", generation="g", nonce="n", now=made.now, limit=1, pool="default"))
    assert [at.id for at in found.tasks] == [1]
    assert made.submit() == 4
    for statement in AROUND.split(";"):
        store.write(lambda tx, statement=statement: tx.execute(text(statement)))  # type: ignore[misc]
    for resource in "qr":  # a number of each is drawn that nobody has
        store.write(lambda tx, resource=resource: claims.take_number(tx, resource))  # type: ignore[misc]
    return made


def found(desk: Desk) -> list[tuple[str, str]]:
    return desk.store.read(lambda tx: list(examine.faults(tx, desk.now)))


def test_nothing_is_said_of_what_is_as_it_may_be(desk: Desk) -> None:
    assert found(desk) == []
    assert set(MADE) == {fault.name for fault in examine.FAULTS}, "each fault is made below"


Made = str | list[tuple[str, str | None, Any]]  # a statement, or rows of its journal
#: Who will ring for task 4, which is due at no time: it is no worker's, and nothing is wrong with it.
RINGS: dict[str, Made] = {
    "an agent": "UPDATE leases SET task = 4",
    "a child": "UPDATE tasks SET parent_id = 4, root_id = 4 WHERE id = 2",
    "an event": [("turned", None, None), ("parked", "a", {"event": "go"})],
    "an event that came for another": [("parked", "a", {"event": "go"}), ("delivered", None, {"name": "stop"})],
}
#: And nobody rings for these.
SILENT: dict[str, Made] = {
    "a time": [("parked", "a", {"event": "go", "until": 5.0})],
    "a time alone": [("parked", "a", {"until": 5.0})],
    "an event that has come": [("parked", "a", {"event": "go"}), ("delivered", None, {"name": "go"})],
    "what it has turned back from": [("parked", "a", {"event": "go"}), ("turned", None, None)],
    "what it has entered again": [("parked", "a", {"event": "go"}), ("reentered", "a", None)],
}


MOVING: Final = ("RUNNING", "WAITING", "REVERTING")


def due_never(desk: Desk, made: Made, state: str) -> list[str]:
    """What is found of task 4 then."""

    def make(tx: Tx) -> None:
        if isinstance(made, str):
            tx.execute(text(made))
            return
        for seq, (kind, node, data) in enumerate(made, 1):
            said = data and json.dumps(data)
            if kind == "parked":
                said = encode(Parked(0, data.get("until"), data.get("event"), None, 1, 1.0), ["a"]).data
            tx.execute(insert(journal).values(task=4, seq=seq, kind=kind, node=node, data=said, at=1.0))

    desk.set(4, state=state, due_at=None, seq=0 if isinstance(made, str) else len(made))
    desk.store.write(make)
    return [name for name, _ in found(desk)]


@pytest.mark.requirement("TF-12")
@pytest.mark.parametrize("state", MOVING)
@pytest.mark.parametrize("who", RINGS)
def test_what_somebody_will_ring_for_may_be_due_at_no_time(desk: Desk, who: str, state: str) -> None:
    assert due_never(desk, RINGS[who], state) == []


@pytest.mark.requirement("TF-12")
@pytest.mark.parametrize("state", MOVING)
@pytest.mark.parametrize("what", SILENT)
def test_what_nobody_will_ring_for_is_stuck(desk: Desk, what: str, state: str) -> None:
    assert due_never(desk, SILENT[what], state) == ["due_for_nobody"]


@pytest.mark.requirement("TF-12")
def test_a_task_may_come_to_rest_before_its_agents_lease_is_closed(desk: Desk) -> None:
    ended = "UPDATE leases SET task = 4, token = 't', holder = 'u', agent = 'a', leased_at = 1, ended_at = 1,"
    desk.store.write(lambda tx: tx.execute(text(f"{ended} expires_at = NULL WHERE id = 2")))
    desk.set(4, state="RUNNING", due_at=None)
    assert [name for name, _ in found(desk)] == ["lease_that_nobody_hears"]
    desk.set(4, state="SUSPENDED", hold="forward", reason="on_failure")
    assert found(desk) == []


@pytest.mark.requirement("TF-12")
@pytest.mark.parametrize("token", ["mine", "g.one.n", "g.1"])
def test_what_is_no_token_is_of_another_taking(desk: Desk, token: str) -> None:
    desk.set(1, token=token)
    assert [name for name, _ in found(desk)] == ["token_of_another_epoch"]


@pytest.mark.requirement("TF-12")
def test_a_task_that_has_lost_an_agent_is_still_its_workers(desk: Desk) -> None:
    assert desk.store.write(lambda tx: overdue.end(tx, 1, 10_000.0))
    assert desk.row(1).epoch == 2
    assert found(desk) == []


@pytest.mark.requirement("TF-12", "TF-15")
def test_what_was_to_start_by_now_queues_for_its_claims_when_a_worker_looks(desk: Desk) -> None:
    task = desk.submit("r", start_after=desk.now + 100)
    desk.now += 200
    assert desk.ready(task) == [False]
    assert found(desk) == []


@pytest.mark.requirement("TF-12")
@pytest.mark.parametrize(
    "name",  # PostgreSQL has no way round a constraint but to drop it
    [pytest.param(name, marks=only_sqlite) if name == "ended_and_not" else name for name in MADE],
)
def test_each_is_found_and_explained(desk: Desk, name: str) -> None:
    def edit(tx: Tx) -> None:
        if name == "ended_and_not":
            tx.execute(text("PRAGMA ignore_check_constraints = ON"))
        for statement in MADE[name].split(";"):
            tx.execute(text(statement))

    desk.store.write(edit)
    said = found(desk)
    assert name in [fault for fault, _ in said]
    sentence = dict(said)[name]
    assert "{" not in sentence
    assert "report it" in sentence or "holdfast task" in sentence or "holdfast worker" in sentence
