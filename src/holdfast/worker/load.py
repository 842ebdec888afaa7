"""From a row of `tasks` to a task that can be driven: find its flow, read its journal once, fold it.

Theory: G9. A task that has not begun takes the plan as it is now. One that has goes on only if everything it
recorded exists unchanged; else the registered old version is looked for, else it rests as SUSPENDED
`definition_changed`, for an operator to `adopt`. Which plan a task goes on with is written in its row before it records
anything by it: the next worker, of whatever code, compares with that. A rollback's state is the folded state of the
task that it rolls back, and of the rollbacks of it that were stopped, turned round.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import bindparam, select, update

from holdfast.core import events as e
from holdfast.core.machine import apply, invert
from holdfast.core.plan import Plan
from holdfast.core.state import State
from holdfast.core.states import phase as phase_of
from holdfast.core.values import decode as decode_value
from holdfast.errors import HoldfastError, LeaseLost, TaskGone, UsageError
from holdfast.flow.compile import changed, compile, digest, outline
from holdfast.flow.registry import find
from holdfast.store.base import JournalRow, Store, Tx
from holdfast.store.journal import decode
from holdfast.store.schema import plans, tasks
from holdfast.tasks import anew
from holdfast.tasks import row as rows
from holdfast.tasks.row import TaskRow
from holdfast.tasks.submit import remember_plan
from holdfast.worker.record import Recorder

if TYPE_CHECKING:
    from holdfast.flow.patterns import Flow

_OUTLINE = select(plans.c.outline).where(plans.c.digest == bindparam("_digest"))
_GOES_BY = update(tasks).where(tasks.c.id == bindparam("_task"), tasks.c.token == bindparam("_token"))
STARTS = frozenset((e.Started, e.Reentered, e.RevertStarted))
Unseal = Callable[[str], str]


class DefinitionChanged(HoldfastError):
    """The flow is not the one this task began with: put the old one back, register it, or adopt the new one."""

    code = "task.definition_changed"
    status = 409


class Loaded(NamedTuple):
    """`keys_of`: the uuid in its steps' idempotency keys; a rollback's are those of the task that it rolls back.
    `entries`: of what is in flight, the seq of the row that recorded its start; `for_agents`: the rows of those that
    agents were to run. `has_claims`: or nobody has looked."""

    state: State
    recorder: Recorder
    seq: int
    keys_of: str
    entries: dict[int, int]
    for_agents: set[int]
    has_claims: bool


def load(
    store: Store,
    task: TaskRow,
    ahead: Mapping[int, tuple[str, str]] = MappingProxyType({}),
    *,
    flows: Sequence[Flow],
    deaths_max: int,
    unseal: Unseal | None,
) -> Loaded:
    """`ahead`: the inputs and claims of tasks of which nothing was ever written.

    Raises: DefinitionChanged, TaskGone (a rollback of a purged task).
    """
    if task.rollback_of is not None:
        origin = store.read(lambda tx: rows.read(tx, task.rollback_of or 0))
        if origin.finished_at is None:
            raise TaskGone(f"task {origin.uuid} has not ended")
    else:
        origin = task
    if origin.id in ahead:
        inputs_text, claims_text = ahead[origin.id]
        journal: list[JournalRow] = []
    else:
        (inputs_text, claims_text), journal = store.read(
            lambda tx: (rows.asked_for(tx, origin.id), tx.journal(origin.id))
        )
    plan = plan_of(store, origin, flows, journal)
    if origin is task and task.digest is not None and digest(plan) != task.digest:
        store.write(lambda tx: _go_by(tx, task, plan))
    state = State(plan, decode_value(inputs_text, unseal), deaths_max=deaths_max)
    if origin is not task:
        _fold(state, journal, unseal, None)
        for earlier in store.read(lambda tx: anew.rollbacks_before(tx, task)):
            invert(state)
            _fold(state, store.journal(earlier), unseal, None)
        invert(state)
        journal = store.journal(task.id)
    recorder = Recorder(state, task.id, task.steps_seq)
    entries, for_agents = _fold(state, journal, unseal, recorder)
    recorder.caught_up()
    has_claims = origin is not task or claims_text != "[]"
    return Loaded(state, recorder, journal[-1].seq if journal else 0, origin.uuid, entries, for_agents, has_claims)


def _go_by(tx: Tx, task: TaskRow, plan: Plan) -> None:
    """The task goes on with another plan than before; if it is still this worker's."""
    remember_plan(tx, digest(plan), outline(plan))
    tx.execute(_GOES_BY, {"_task": task.id, "_token": task.token, "digest": digest(plan)})


def _fold(
    state: State, journal: Sequence[JournalRow], unseal: Unseal | None, recorder: Recorder | None
) -> tuple[dict[int, int], set[int]]:
    """The seq of each row's last start, and the rows that an agent was to run then."""
    index_of = finder(state)
    entries: dict[int, int] = {}
    for_agents: set[int] = set()
    for row in journal:
        event = decode(row, index_of, unseal)
        apply(state, event)
        if type(event) in STARTS:
            entries[event.row] = row.seq  # type: ignore[union-attr]
            (for_agents.add if event.agent else for_agents.discard)(event.row)  # type: ignore[union-attr]
        if recorder is not None:
            recorder.saw(row.seq, event)
    return entries, for_agents


def finder(state: State) -> Callable[[str], int]:
    """Finds a node's row. It says KeyError where there is none."""

    def index_of(node: str) -> int:
        row = state.row_of(node)
        if row < 0:
            raise KeyError(node)
        return row

    return index_of


def fold_verbs(state: State, journal: Sequence[JournalRow], unseal: Unseal | None) -> list[e.Event]:
    """Rows that others appended, as events, not folded yet."""
    index_of = finder(state)
    return [decode(row, index_of, unseal) for row in journal]


def plan_of(store: Store, task: TaskRow, flows: Sequence[Flow], journal: Sequence[JournalRow]) -> Plan:
    """The plan that this task is to go on with.

    Raises: DefinitionChanged.
    """
    try:
        plan = compile(find(task.reference, flows))
    except UsageError as error:  # it is no longer there, or no longer sound
        raise DefinitionChanged(f"the flow {task.reference} can't be used: {error}") from None
    recorded = {row.node for row in journal if row.node is not None}
    begun_with = task.digest
    if not recorded or begun_with is None or digest(plan) == begun_with:
        return plan
    outline = store.read(lambda tx: tx.execute(_OUTLINE, {"_digest": begun_with}).scalar())
    found = changed(recorded, outline, plan) if outline is not None else []
    if not found:
        return plan
    for flow in flows:  # an older version that is still registered
        if flow.name == task.flow and digest(compile(flow)) == begun_with:
            return compile(flow)
    raise DefinitionChanged("; ".join(found))


def rest_aside(store: Store, task: TaskRow, reason: str, error: BaseException, now: float) -> None:
    """Let a task rest that this worker can't drive: its journal can't be folded (`definition_changed`), or folding or
    deciding failed (`poison`). The row says where it stood."""
    from holdfast.core.states import TASK, api_state, hold
    from holdfast.store.base import Append, Appended
    from holdfast.store.journal import encode
    from holdfast.tasks import finish, rest, take, tell

    at = phase_of(task.state, task.hold)
    if at.startswith("SUSPENDED"):  # it rests as it is, and was taken for an event: who resumes it is told
        store.write(lambda tx: take.release(tx, task.id, task.token or "", due_at=None, now=now, seen=task.seq))
        return
    aborting = at == "ABORTING"
    phase = "ABORTED" if aborting else TASK.move(at, "rest")
    columns: dict[str, Any] = {"updated_at": now}
    if not aborting:
        columns |= {
            "state": api_state(phase),
            "hold": hold(phase),
            "reason": reason,
            "error": _error(error),
        }
    event: e.Event = e.Ended("ABORTED", now) if aborting else e.Rested(reason, (), now)

    def then(tx: Tx) -> None:
        if aborting:
            finish.cut_off(tx, task.id, now)
            finish.ended(tx, task.id, "ABORTED", now, retention_s=30 * 86_400.0)
        else:
            tell.state(tx, task, task.state, api_state(phase), now, actor=tell.WORKER, reason=reason)
            rest.rested(tx, task.id, task.token or "", now)

    row = encode(event, [])
    (answer,) = store.append([Append(task.id, task.token or "", task.seq, (), [row], projection=columns, then=then)])
    if not isinstance(answer, LeaseLost) and not (isinstance(answer, Appended) and answer.accepted):
        # A verb lay between: whoever takes the task next has read it. Kept, it would be nobody's.
        store.write(lambda tx: take.release(tx, task.id, task.token or "", due_at=now, now=now))


def _error(error: BaseException) -> str:
    import json

    from holdfast.core.failure import Failure

    return json.dumps(Failure.of(error).to_json())
