"""Where tasks are, as the commands see it: a database (near.py) or a service (far.py), through one small protocol.

A command's body is written once, against `Place` and `Handle`. Which of the two it is, the options and settings say:
--url, --database, HOLDFAST_URL, HOLDFAST_DATABASE, in this order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from holdfast.errors import UsageError

if TYPE_CHECKING:
    from holdfast.cli.options import Where
    from holdfast.cli.show import Look

Answers = Mapping[str, "str | tuple[str, Any]"]


class Adoption(Protocol):
    """What taking a changed flow would mean: recorded steps that it lacks, and the steps that would run."""

    @property
    def missing(self) -> list[str]: ...
    @property
    def to_run(self) -> list[str]: ...


class Handle(Protocol):
    """A task. Verbs return it, or the new one that they made."""

    id: str
    replayed: bool

    @property
    def state(self) -> str: ...
    @property
    def trace(self) -> list[str]: ...
    def view(self) -> dict[str, Any]: ...
    def cancel(self, *, revert: bool = True) -> Handle: ...
    def abort(self) -> Handle: ...
    def suspend(self, *, release_claims: bool = False) -> Handle: ...
    def resume(self, answers: Answers | None = None) -> Handle: ...
    def rollback(self, *, force: bool = False) -> Handle: ...
    def retry(self) -> Handle: ...
    def force_fail(self, reason: str) -> Handle: ...
    def deliver(self, event: str, payload: Any = None) -> Handle: ...
    def adopt(self, *, dry_run: bool = False) -> Adoption: ...


class Story(Protocol):
    """A task, looked at again and again."""

    def look(self) -> Look: ...
    def wait(self) -> None:
        """Until there may be something new; never long."""

    def close(self) -> None: ...


class Working(Protocol):
    """Who does the task in this process."""

    error: BaseException | None

    def has(self, view: Mapping[str, Any]) -> bool:
        """Whether nobody else has the task."""

    def close(self) -> None: ...


class Wanted(NamedTuple):
    """A schedule that is asked for. `task`: a flow, or an operation on the resource `on`, as server/web-1."""

    name: str
    cron: str
    task: str
    inputs: Mapping[str, Any]
    timezone: str
    catch_up: str
    overlap: str
    on: str | None
    claims: Sequence[str | tuple[str, str]]
    priority: int


class Place(Protocol):
    """`is_near`: it is a database, so this process can work."""

    where: Where
    is_near: bool

    def task(self, ref: str) -> Handle:
        """By id, the beginning of an id, or tag. Raises: TaskNotFound, TaskGone."""

    def submit(
        self, name: str, inputs: Mapping[str, Any], *, tag: str | None, claims: Sequence[str | tuple[str, str]],
        start_after: str | None, priority: int,
    ) -> Handle:  # fmt: skip
        """A task of a flow that is known by its name. Raises: UsageError: none is."""

    def tasks(self, *, limit: int, state: str, tag: str, flow: str, resource: str) -> Sequence[Mapping[str, Any]]: ...
    def document(self, task: Any) -> dict[str, Any]:
        """All there is to show of it, its steps included."""

    def mark(self, task: Any) -> Any:
        """Now, in the task's story."""

    def story(self, task: Any, after: Any = None) -> Story:
        """The task's story; what was before the mark is no news."""

    def work(self, task: Any, runtime: str) -> Working | None:
        """Begin to do it here, where nobody else does. None: here nothing is done."""

    def idle(self, view: Mapping[str, Any]) -> str | None:
        """Why nobody will do it, if so."""

    # --- schedules ------------------------------------------------------------------------------------------------

    def add_schedule(self, asked: Wanted) -> dict[str, Any]:
        """Raises: ScheduleExists."""

    def schedules(self) -> Sequence[Mapping[str, Any]]: ...
    def schedule(self, ref: str) -> dict[str, Any]: ...
    def set_schedule(self, ref: str, verb: str) -> dict[str, Any] | None:
        """verb: pause, resume, remove. What it is then; None: no more."""

    # --- workers and pools ----------------------------------------------------------------------------------------

    def workers(self, pool: str | None) -> Sequence[Mapping[str, Any]]: ...
    def pools(self) -> Sequence[Mapping[str, Any]]: ...
    def pool(self, name: str) -> dict[str, Any]: ...
    def set_pool(self, name: str, limits: Mapping[str, int | None]) -> dict[str, Any]: ...
    def give_pool(self, name: str, verb: str) -> dict[str, Any]:
        """verb: pause, resume, drain. What it is then."""

    # --- resources ------------------------------------------------------------------------------------------------

    def kinds(self) -> dict[str, Any]:
        """Each kind's plural, the schema of its fields, and its operations."""

    def resources(self, kind: str, *, limit: int, filters: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]: ...
    def resource(self, kind: str, id: str) -> dict[str, Any]: ...
    def revisions(self, kind: str, id: str) -> Sequence[Mapping[str, Any]]: ...
    def node_states(self, id: str) -> dict[str, Any]: ...
    def operate(
        self, kind: str, operation: str, id: str | None, given: Mapping[str, Any], *, tag: str | None,
        revision: int | None = None,
    ) -> Handle: ...  # fmt: skip


@contextmanager
def at(where: Where, *, flows: Sequence[str] | None = None, kinds: bool = False) -> Iterator[Place]:
    """The place that the options name. kinds: resources are asked for, or tasks on them done here. Raises: UsageError:
    they name two."""
    from holdfast.settings import Settings

    if where.url is not None and where.database is not None:
        raise UsageError("--url or --database: a command is given to one of them")
    settings = Settings.load(url=where.url, token=where.token, project=where.project)
    if settings.url is not None and where.database is None:
        if flows:
            raise UsageError("--flows: a service knows its own flows; it is for a database")
        from holdfast.cli import far

        with far.opened(settings, where) as place:
            yield place
        return
    if where.token is not None or where.project is not None:
        raise UsageError("--token and --project are for a service: name it by --url or HOLDFAST_URL")
    from holdfast.cli import near

    with near.opened(where, flows=flows, kinds=kinds) as local:
        yield local
