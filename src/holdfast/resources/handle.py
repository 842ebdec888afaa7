"""A resource in the hand: what is true of it now, and its operations.

The database it is in: local.py. What is read: state.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from holdfast.resources import state
from holdfast.resources.state import ResourceRow

if TYPE_CHECKING:
    from holdfast.store.base import Store

T = TypeVar("T", covariant=True)


class Database(Protocol[T]):
    """What a handle needs of the database that its resource is in; T is the task that an operation gives."""

    @property
    def store(self) -> Store: ...
    @property
    def operate(self) -> Callable[..., T]: ...


class Resource(Generic[T]):
    """A resource in the database. What it says of itself is read anew each time. It is changed by operations only."""

    def __init__(self, hold: Database[T], kind: str, id: str) -> None:
        self._hold = hold
        self.kind = kind
        self.id = id

    def view(self) -> dict[str, Any]:
        """The resource document of the REST contract, section 6. Raises: ResourceNotFound."""
        return self._hold.store.read(lambda tx: state.show(tx, self._read(tx)))

    @property
    def lifecycle(self) -> str:
        return self._row().lifecycle

    @property
    def status(self) -> str:
        """Whether it is up."""
        return self._row().status

    @property
    def sync_status(self) -> str:
        """Whether it is as desired: IN_SYNC, SYNCING, OUT_OF_SYNC, UNKNOWN."""
        return self._row().sync_status

    @property
    def desired(self) -> dict[str, Any]:
        return self._row().document

    @property
    def revision(self) -> int:
        return self._row().revision

    @property
    def applied_revision(self) -> int:
        return self._row().applied_revision

    @property
    def is_deleted(self) -> bool:
        return self._row().deleted_at is not None

    @property
    def last_failed_task(self) -> dict[str, Any] | None:
        """The task whose failure nothing has made good yet: uuid, task, step, error."""
        return state.failed_of(self._row())

    def revisions(self, *, limit: int = state.LIMIT) -> list[dict[str, Any]]:
        """What was desired, the newest first, each with the task that brought it."""
        return self._hold.store.read(lambda tx: state.revisions_of(tx, self._read(tx), limit=limit))

    def operate(self, operation: str, params: dict[str, Any] | None = None, **options: Any) -> T:
        """Ask for an operation; see `Holdfast.operate`."""
        return self._hold.operate(self.kind, operation, self.id, params, **options)

    def update(self, desired: dict[str, Any], **options: Any) -> T:
        """Ask for another desired document, whole."""
        return self._hold.operate(self.kind, "update", self.id, desired=desired, **options)

    def reconcile(self, **options: Any) -> T:
        """Have the desired document applied again."""
        return self._hold.operate(self.kind, "reconcile", self.id, **options)

    def _read(self, tx: Any) -> ResourceRow:
        return state.read(tx, self.kind, self.id, deleted=True)

    def _row(self) -> ResourceRow:
        return self._hold.store.read(self._read)

    def __repr__(self) -> str:
        row = self._row()
        return f"<{self.kind} {self.id} {row.lifecycle} {row.sync_status}>"
