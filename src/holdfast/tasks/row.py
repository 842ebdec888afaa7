"""A row of `tasks`, as a typed tuple, and the ways to get one.

What people are shown of it: tasks/query.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sqlalchemy import bindparam, select, update

from holdfast.errors import TaskNotFound
from holdfast.store.base import LOCKS, Tx
from holdfast.store.schema import inputs, tasks

if TYPE_CHECKING:
    from sqlalchemy.sql import Executable

    from holdfast.store.base import Result


class TaskRow(NamedTuple):
    """The columns of schema.tasks, in its order (a test holds the two together)."""

    id: int
    uuid: str
    seq: int
    steps_seq: int
    token: str | None
    epoch: int
    worker_id: str | None
    host: str | None
    state: str
    hold: str | None
    goal: str | None
    reason: str | None
    past_pivot: bool
    effect: str
    revert: str
    ready: bool
    due_at: float | None
    start_after: float | None
    deadline_at: float | None
    priority: int
    pool: str
    deaths: int
    progress_done: float
    progress_total: float
    completed: int
    total: int
    progress_step: str | None
    progress_message: str | None
    progress_at: float | None
    created_at: float
    executed_at: float | None
    updated_at: float
    finished_at: float | None
    expires_at: float | None
    flow: str
    version: str
    reference: str
    digest: str | None
    operation: str
    resource_type: str | None
    resource_id: str | None
    tag: str | None
    project_id: str
    user_id: str
    request_id: str
    global_request_id: str
    origin: str
    parent_id: int | None
    root_id: int | None
    child_key: str | None
    retry_of: int | None
    rollback_of: int | None
    resting: str | None
    result: str | None
    error: str | None
    begun: bool

    @property
    def root(self) -> int:
        """The id of the task at the top: a task without a parent is its own."""
        return self.root_id if self.root_id is not None else self.id


def fresh(values: Mapping[str, Any]) -> TaskRow:
    """The row of a task that was inserted with these columns and has this `id`; the others are as schema.tasks says for
    a new row."""
    return TaskRow._make(map(values.get, TaskRow._fields, _FRESH))


_FRESH: Final = TaskRow(
    id=0, uuid="", seq=0, steps_seq=0, token=None, epoch=0, worker_id=None, host=None, state="", hold=None, goal=None,
    reason=None, past_pivot=False, effect="none", revert="none", ready=False, due_at=None, start_after=None,
    deadline_at=None, priority=0, pool="default", deaths=0, progress_done=0.0, progress_total=0.0, completed=0, total=0,
    progress_step=None, progress_message=None, progress_at=None, created_at=0.0, executed_at=None, updated_at=0.0,
    finished_at=None, expires_at=None, flow="", version="1", reference="", digest=None, operation="",
    resource_type=None, resource_id=None, tag=None, project_id="", user_id="", request_id="", global_request_id="",
    origin="", parent_id=None, root_id=None, child_key=None, retry_of=None, rollback_of=None, resting=None, result=None,
    error=None, begun=False,
)  # fmt: skip
_NO_TAKING: Final = 1 << 62  # an epoch behind all that there are
_BY_ID: Final = select(tasks).where(tasks.c.id == bindparam("_id"))
_BY_IDS: Final = select(tasks).where(tasks.c.id.in_(bindparam("_ids", expanding=True)))
# An UPDATE and not a SELECT: on READ COMMITTED only it sees what the writer before it has committed.
_LOCK: Final = (
    update(tasks)
    .where(tasks.c.id == bindparam("_id"))
    .values(seq=tasks.c.seq)
    .returning(tasks)
    .execution_options(**{LOCKS: True})
)
_INPUTS: Final = select(inputs.c.inputs, inputs.c.claims).where(inputs.c.task == bindparam("_id"))
_INPUTS_OF: Final = select(inputs).where(inputs.c.task.in_(bindparam("_ids", expanding=True)))
_ASKED_NOTHING: Final = ("{}", "[]")


def of(row: Any) -> TaskRow:
    """A row that selects the whole table, as a TaskRow."""
    return TaskRow._make(row)


def read(tx: Tx, task: int) -> TaskRow:
    """Raises: TaskNotFound."""
    return _found(tx.execute(_BY_ID, {"_id": task}).first(), task)


def read_all(tx: Tx, ids: Sequence[int]) -> dict[int, TaskRow]:
    """Those that there are."""
    return {found.id: TaskRow._make(found) for found in tx.execute(_BY_IDS, {"_ids": ids}).all()} if ids else {}


def epoch_of(token: str) -> int:
    """Of the taking that the token is of: it is generation.epoch.nonce. The task's own is higher once an agent was
    lost. What is no token is of no taking: higher than any."""
    epoch = token.split(".")[1:-1]
    return int(epoch[0]) if len(epoch) == 1 and epoch[0].isdecimal() else _NO_TAKING


def lock(tx: Tx, task: int) -> TaskRow:
    """The row as it is once every other writer of it has ended, and until this transaction ends.

    Raises: TaskNotFound.
    """
    return _found(tx.execute(_LOCK, {"_id": task}).first(), task)


def _found(row: Any, task: int) -> TaskRow:
    if row is None:
        raise TaskNotFound(task=task)
    return TaskRow._make(row)


def asked_for(tx: Tx, task: int) -> tuple[str, str]:
    """The task's inputs and claims, as they are stored."""
    row = tx.execute(_INPUTS, {"_id": task}).first()
    return _ASKED_NOTHING if row is None else (row[0], row[1])


def asked_of(ids: Sequence[int]) -> tuple[Executable, dict[str, Any]]:
    """What `all_asked_for` has to be told."""
    return _INPUTS_OF, {"_ids": ids}


def all_asked_for(told: Result, ids: Sequence[int]) -> dict[int, tuple[str, str]]:
    """Their inputs and claims, as they are stored."""
    found = {row.task: (row.inputs, row.claims) for row in told.all()}
    return {task: found.get(task, _ASKED_NOTHING) for task in ids}
