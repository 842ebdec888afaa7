"""The desk: where a step that makes a child task asks for it, and for its undoing.

Theory: everything here is asked in one transaction that locks the parent and compares its token before it changes
anything, so a worker that has lost its task makes and stops nothing. What is asked for is looked for first, by the key
of the step's entry: it is made only where it is not there. A child that is to be undone is cancelled if it lives, and
rolled back by a task of its own if it has left anything.

The steps: flow/child.py. Children and their parents: tasks/children.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from holdfast.core import states
from holdfast.core.failure import Failure
from holdfast.core.plan import steps_of
from holdfast.core.retry import type_name
from holdfast.core.values import decode, encode
from holdfast.errors import ChildFailed, ChildNotUndone, HoldfastError, LeaseLost, PastPivot, VerbRefused
from holdfast.flow.child import Made
from holdfast.flow.compile import check_inputs, compile
from holdfast.flow.outline import digest, outline
from holdfast.flow.registry import reference_of
from holdfast.runtime.base import RemoteError
from holdfast.store.base import Store, Tx
from holdfast.tasks import anew, children, control, query, row, submit
from holdfast.tasks.claims import claims_of
from holdfast.tasks.row import TaskRow

if TYPE_CHECKING:
    from holdfast.clock import Clock
    from holdfast.flow.patterns import Flow
    from holdfast.settings import Settings

ACTOR: Final = "parent"
_GOES_ON: Final = (states.RUNNING, states.WAITING)
_SOON: Final = ""

T = TypeVar("T")
#: Admits a task: (tx, its parent's row, its key, now, uuid) -> its row.
Admit = Callable[[Tx, TaskRow, str, float, str], TaskRow]


class Desk:
    """The desk of one task that a worker has. `poke` tells the worker that there is something to take."""

    def __init__(
        self,
        store: Store,
        task: TaskRow,
        *,
        flows: Sequence[Flow],
        clock: Clock,
        settings: Settings,
        seal: Any,
        unseal: Any,
        poke: Callable[[], None],
        house: Any = None,
    ) -> None:
        self._store = store
        self._task = task
        self._flows = flows
        self._clock = clock
        self._settings = settings
        self._seal = seal
        self._unseal = unseal
        self._poke = poke
        self.house = house  # for those who admit what is no plain flow (resources/child.py)

    # --- making ---------------------------------------------------------------------------------------------------

    def make(self, ask: Callable[[Any], Any], key: str, attempt: int) -> Made | None:
        """See flow/child.py. Raises: ClaimRefused and what else admission raises; RemoteError: the child's failure."""
        found = self._ask(partial(self._make, ask, key, attempt))
        if found is None:
            return None
        if found.finished_at is None:
            return Made(children.event_of(found.uuid), {})
        if found.state == states.SUCCEEDED:
            results = {} if found.result is None else decode(found.result, self._unseal)
            return Made(None, results if found.resource_id is None else {"resource_id": found.resource_id, **results})
        raise _failure(ChildFailed, f"the child task {found.uuid} ended {found.state}", found)

    def _make(self, ask: Callable[[Any], Admit], key: str, attempt: int, tx: Tx, now: float) -> TaskRow | None:
        lives = any(child.finished_at is None for child in children.of_step(tx, key))
        parent = _locked(tx, self._task, children.lock if lives else row.lock)
        name = children.key_of(key, attempt)
        known = children.by_key(tx, name)
        if known is not None:
            return known
        if parent.state not in _GOES_ON:
            return None
        for older in children.of_step(tx, key):  # of a try that was over before its child was
            if (older := self._stopped(tx, older, now)).finished_at is None:
                return older
        return ask(self)(tx, parent, name, now, self._clock.uuid7())

    def order(
        self,
        flow: Any,
        inputs: Mapping[str, Any],
        *,
        claims: Iterable[str | tuple[str, str]] = (),
        priority: int | None = None,
        pool: str | None = None,
    ) -> Admit:
        """How a task of this flow is admitted. Raises what `Holdfast.submit` raises for it."""
        plan = compile(flow)
        given = dict(inputs)
        check_inputs(plan, given)
        for name, value in given.items():
            encode(value, self._seal, name=f"the input {name}", bytes_max=self._settings.value_bytes_max)
        request = submit.Request(
            flow=plan.name,
            version=plan.version,
            reference=reference_of(flow, self._flows),
            inputs=encode(given, self._seal, name="the inputs"),
            claims=claims_of(claims),
            digest=digest(plan),
            outline=outline(plan),
            steps=plan.kind.count(0),
            weight=float(sum(plan.weight)),
        )
        asked_pool = pool or next((step.pool for step in steps_of(plan) if step.pool is not None), None)

        def admit(tx: Tx, parent: TaskRow, key: str, now: float, uuid: str) -> TaskRow:
            wanted = request._replace(
                priority=parent.priority if priority is None else priority, pool=asked_pool or parent.pool
            )
            return submit.submit(tx, children.request_of(parent, wanted, key), now, uuid).task

        return admit

    # --- undoing --------------------------------------------------------------------------------------------------

    def undo(self, key: str, told: Any) -> str | None:
        """See flow/child.py. Raises: RemoteError: why it can't be undone."""
        left = self._ask(partial(self._undo, key, told))
        if isinstance(left, RemoteError):  # raised here, and not where it would take back what else was done
            raise left
        return left

    def _undo(self, key: str, told: Any, tx: Tx, now: float) -> str | RemoteError | None:
        parent = _locked(tx, self._task, children.lock)
        for child in children.of_step(tx, key):
            try:
                left = self._undo_one(tx, parent, child, told, now)
            except (HoldfastError, RemoteError) as error:
                if isinstance(error, RemoteError):
                    return error
                why = f"the child task {child.uuid} can't be undone: {error}"
                return _failure(ChildNotUndone, why, None, Failure.of(error))
            if left is not None:
                return left
        return None

    def _undo_one(self, tx: Tx, parent: TaskRow, child: TaskRow, told: Any, now: float) -> str | None:
        child = self._stopped(tx, child, now)
        if child.finished_at is None:
            return children.event_of(child.uuid)
        if child.effect == "none":
            return None
        last = query.get(tx, told["task"]) if isinstance(told, dict) and "task" in told else None
        if last is not None and last.rollback_of == child.id and last.state in states.FINAL:
            if last.state == states.SUCCEEDED:
                return None
            why = f"the child task {child.uuid} is not undone: its rollback {last.uuid} ended {last.state}"
            raise _failure(ChildNotUndone, why, last)
        # By force: who else has used its resources since was of the same family, or let in by the parent's own
        # rollback, which has looked for others.
        made = anew.rollback(
            tx, child, now, actor=parent.user_id, uuid=self._clock.uuid7(), request_id=parent.request_id, force=True,
            parent=parent,
        )  # fmt: skip
        if made is None or made.task.state == states.SUCCEEDED:
            return None
        return children.event_of(made.task.uuid) if made.task.parent_id == parent.id else _SOON

    # --- what they share ------------------------------------------------------------------------------------------

    def _ask(self, fn: Callable[[Tx, float], T]) -> T:
        now = self._clock.time()
        answer = self._store.write(lambda tx: fn(tx, now))
        self._poke()
        return answer

    def _stopped(self, tx: Tx, child: TaskRow, now: float) -> TaskRow:
        """The child, told to stop and undo if it has not ended. Raises: PastPivot."""
        if child.finished_at is not None:
            return child
        try:
            control.cancel(tx, child.id, now, actor=ACTOR)
        except PastPivot:
            raise
        except VerbRefused:
            pass  # it is on a way of its own to its end
        return row.read(tx, child.id)


def _locked(tx: Tx, task: TaskRow, lock: Callable[[Tx, int], TaskRow] = row.lock) -> TaskRow:
    """The task as it is, which nobody takes over until the transaction ends. `lock`: where living children are to be
    changed, they are locked before it. Raises: LeaseLost: somebody has."""
    at = lock(tx, task.id)
    if at.token is None or at.token != task.token:
        raise LeaseLost(task=at.id)
    return at


def held_up(tx: Tx, task: int, *, ends: bool) -> list[TaskRow]:
    """The children that a task has to wait for before it ends, or (not `ends`) before it rests."""
    living = children.living(tx, task)
    return living if ends else [child for child in living if child.state != states.api_state(states.SUSPENDED_FORWARD)]


def stop(tx: Tx, task: TaskRow, now: float, word: str) -> None:
    """Tell the children of a task that is about to end or rest by itself: cancel (and undo nothing), abort, suspend.

    Raises: LeaseLost: whether it ends is another worker's to say.
    """
    task = _locked(tx, task, children.lock)
    verbs: dict[str, Callable[[TaskRow], Any]] = {
        "cancel": lambda child: control.cancel(tx, child.id, now, actor=ACTOR, revert=False),
        "abort": lambda child: control.abort(tx, child.id, now, actor=ACTOR),
        "suspend": lambda child: control.suspend(tx, child.id, now, actor=ACTOR),
    }
    children.reach(tx, task, verbs[word])


def _failure(kind: type[HoldfastError], why: str, of: TaskRow | None, cause: Failure | None = None) -> RemoteError:
    """A failure that names the child and carries what it failed with."""
    if of is not None and of.error is not None:
        cause = Failure.from_json(json.loads(of.error))
    types = tuple(type_name(base) for base in kind.__mro__ if base not in (object, BaseException))
    message = why if cause is None or of is None else f"{why}: {cause.summary}"
    return RemoteError(Failure(types, message, None, () if cause is None else (cause,)))
