"""A task in the hand: what it says of itself, and the verbs.

The database it is in: local.py. What the verbs do: tasks/control.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from holdfast.core.failure import Failure
from holdfast.core.states import FINAL, api_state
from holdfast.core.trace import line_of
from holdfast.core.values import Stored, decode
from holdfast.errors import TaskFailed, WaitTimeout
from holdfast.flow.compile import compile
from holdfast.flow.outline import digest, outline
from holdfast.flow.registry import find
from holdfast.store.base import StepRow, Store, Tx
from holdfast.tasks import adopt as adopting
from holdfast.tasks import control, query, row, show
from holdfast.tasks.row import TaskRow

if TYPE_CHECKING:
    from holdfast.clock import Clock
    from holdfast.flow.patterns import Flow
    from holdfast.seal import Sealer
    from holdfast.settings import Settings

T = TypeVar("T")
_FINAL = frozenset(api_state(phase) for phase in FINAL)
_AT_REST = _FINAL | {"SUSPENDED"}


class Database(Protocol):
    """What a handle needs of the database that its task is in."""

    store: Store
    flows: tuple[Flow, ...]
    settings: Settings
    clock: Clock
    sealer: Sealer
    actor: str  # whose verbs these are, as the journal will say

    def write(self, fn: Callable[[Tx, float], T]) -> T: ...


class Task:
    """A task in the database. What it says of itself is read anew each time.

    `replayed`: submitting it again found it. Verbs return the task, or the new one they made, and raise VerbRefused
    where its state doesn't allow them; repeating one is no error.
    """

    def __init__(self, hold: Database, row_id: int, uuid: str, *, replayed: bool = False) -> None:
        self._hold = hold
        self._id = row_id
        self.id = uuid
        self.replayed = replayed

    # --- what it is -----------------------------------------------------------------------------------------------

    def view(self) -> dict[str, Any]:
        """Everything there is to show of it, at one moment: the representation of the REST contract, section 3."""
        now = self._hold.clock.time()
        return self._hold.store.read(lambda tx: show.task(tx, row.read(tx, self._id), now=now))

    @property
    def state(self) -> str:
        return self._row().state

    @property
    def reason(self) -> str | None:
        """Why it is SUSPENDED."""
        return self._row().reason

    @property
    def results(self) -> dict[str, Any]:
        """What its steps provided, once it has SUCCEEDED; else {}."""
        text = self._row().result
        found: dict[str, Any] = {} if text is None else decode(text, self._hold.sealer.unseal)
        return found

    @property
    def failure(self) -> Failure | None:
        """The failure that ended or holds it."""
        text = self._row().error
        return None if text is None else Failure.from_json(json.loads(text))

    @property
    def steps(self) -> list[StepRow]:
        """Its steps that ever began, in that order."""
        return self._hold.store.read(lambda tx: query.steps_of(tx, self._id))

    @property
    def trace(self) -> list[str]:
        """What happened, a line a change: `boot RUNNING`, `boot SUCCEEDED`."""
        from holdfast.store.journal import decode as decode_event

        ids: list[str] = []
        rows: dict[str, int] = {}

        def number(node: str) -> int:
            if node not in rows:
                rows[node] = len(ids)
                ids.append(node)
            return rows[node]

        journal = self._hold.store.journal(self._id)
        lines = [line_of(decode_event(each, number), ids) for each in journal]
        return [line for line in lines if line is not None]

    def _row(self) -> TaskRow:
        return self._hold.store.read(lambda tx: row.read(tx, self._id))

    def wait(self, timeout_s: float | None = None) -> Task:
        """Wait until it has ended, or rests for a person. Somebody must work meanwhile.

        Raises: WaitTimeout: it goes on.
        """
        clock = self._hold.clock
        end = None if timeout_s is None else clock.monotonic() + timeout_s
        store = self._hold.store
        while True:
            seen = store.changes()
            state = self._row().state
            if state in _AT_REST:
                return self
            left = 3600.0 if end is None else end - clock.monotonic()
            if left <= 0:
                raise WaitTimeout(f"task {self.id} is still {state} after {timeout_s:g} s; it goes on")
            store.wait(seen, left)

    def raise_for_state(self) -> Task:
        """Itself if SUCCEEDED. Raises: TaskFailed."""
        state, failure = self.state, self.failure
        if state != "SUCCEEDED":
            why = f": {failure.summary}" if failure is not None else ""
            raise TaskFailed(f"task {self.id} is {state}{why}")
        return self

    # --- verbs ----------------------------------------------------------------------------------------------------

    def cancel(self, *, revert: bool = True) -> Task:
        """Stop at the next safe point and undo what was done; `revert=False` leaves it."""
        return self._verb(
            lambda tx, now: control.cancel(
                tx, self._id, now, actor=self._hold.actor, revert=revert, retention_s=self._keep_s
            )
        )

    def abort(self) -> Task:
        """Stop now and undo nothing."""
        return self._verb(
            lambda tx, now: control.abort(tx, self._id, now, actor=self._hold.actor, retention_s=self._keep_s)
        )

    def suspend(self, *, release_claims: bool = False) -> Task:
        """Stop at the next safe point and hold."""
        return self._verb(
            lambda tx, now: control.suspend(tx, self._id, now, actor=self._hold.actor, release_claims=release_claims)
        )

    def resume(self, answers: Mapping[str, str | tuple[str, Any]] | None = None) -> Task:
        """Go on. `answers`: step id -> "done", "rerun", "undo" or "skip", or ("done", result).

        Raises: AnswerNeeded: it rests for a reason that needs them; AnswerRefused.
        """
        given = {
            step: (word, None) if isinstance(word, str) else (word[0], self._kept(word[1]))
            for step, word in (answers or {}).items()
        }
        return self._verb(lambda tx, now: control.resume(tx, self._id, now, actor=self._hold.actor, answers=given))

    def rollback(self, *, force: bool = False) -> Task:
        """Undo: a moving task once it has stopped; an ended one by a new task, which is returned."""
        return self._verb(
            lambda tx, now: control.rollback(
                tx, self._id, now, actor=self._hold.actor, uuid=self._hold.clock.uuid7(), force=force
            )
        )

    def retry(self) -> Task:
        """The same request again, as a new task, which is returned."""
        return self._verb(
            lambda tx, now: control.retry(tx, self._id, now, actor=self._hold.actor, uuid=self._hold.clock.uuid7())
        )

    def force_fail(self, reason: str) -> Task:
        """An administrator's last word: FAILED now, whatever its steps still do."""
        return self._verb(
            lambda tx, now: control.force_fail(
                tx, self._id, now, actor=self._hold.actor, reason=reason, retention_s=self._keep_s
            )
        )

    def deliver(self, event: str, payload: Any = None) -> Task:
        """Deliver an event that a step waits for, or will (`WaitFor(event)`). It gets the payload as `ctx.event`; True
        where there is none, so that it sees that the event has come."""
        kept = self._kept(True if payload is None else payload)
        return self._verb(lambda tx, now: control.deliver(tx, self._id, event, kept, now))

    def adopt(self, *, dry_run: bool = False) -> adopting.Adoption:
        """Let a task that rests as definition_changed take its flow as it is now and go on. dry_run: only say what
        that would mean. Raises: VerbRefused, FlowNotFound."""
        plan = compile(find(self._row().reference, self._hold.flows))
        text = outline(plan)
        return self._hold.write(
            lambda tx, now: adopting.adopt(
                tx, self._id, plan, now, digest=digest(plan), outline=text, actor=self._hold.actor, dry_run=dry_run
            )
        )

    @property
    def _keep_s(self) -> float:
        return self._hold.settings.retention_s

    def _kept(self, value: Any) -> Any:
        return None if value is None else Stored.of(value, self._hold.sealer.seal, name="the value")

    def _verb(self, fn: Callable[[Tx, float], control.Answer]) -> Task:
        answer = self._hold.write(fn)
        if answer.task.id == self._id:
            return self
        return Task(self._hold, answer.task.id, answer.task.uuid, replayed=answer.accepted == control.REPLAYED)

    def __repr__(self) -> str:
        return f"<Task {self.id} {self.state}>"
