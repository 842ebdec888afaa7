"""Schedules in the hand: `hold.schedule(…)`, and how the task of a moment is asked for.

What a schedule is, and that a moment makes one task: tasks/schedules.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from holdfast.core.values import encode
from holdfast.errors import ScheduleInvalid
from holdfast.flow.compile import check_inputs, compile
from holdfast.resources import state
from holdfast.resources.operate import Asked, checked, operate
from holdfast.store.base import Store, Tx
from holdfast.tasks import claims, schedules, take
from holdfast.tasks.claims import Claim, claims_of
from holdfast.tasks.quota import Limits
from holdfast.tasks.row import TaskRow
from holdfast.tasks.submit import Request, remember_plan, submit

if TYPE_CHECKING:
    from holdfast.clock import Clock
    from holdfast.core.plan import Plan
    from holdfast.flow.patterns import Child
    from holdfast.resources.registry import Kinds
    from holdfast.settings import Settings

T = TypeVar("T")
#: An input of this name, where a flow has it and nobody gives it, is the moment: an aware datetime.
MOMENT: Final = "scheduled_at"
SHOWN: Final = 20  # firings that are shown with a schedule
#: What of a flow's request is the same for every task of a schedule.
_KEPT: Final = (
    "flow", "version", "reference", "digest", "deadline_s", "steps", "weight", "pool", "operation", "resource_type",
    "resource_id",
)  # fmt: skip


class Database(Protocol):
    """What schedules need of the database that they are in."""

    store: Store
    settings: Settings
    clock: Clock
    kinds: Kinds

    def write(self, fn: Callable[[Tx, float], T]) -> T: ...
    def request(self, flow: Child, *, pool: str | None = None) -> Request: ...
    def inputs_text(self, given: Mapping[str, Any]) -> str: ...


class Schedule:
    """A schedule in the database. What it says of itself is read anew each time."""

    def __init__(self, hold: Database, id: str, name: str) -> None:
        self._hold = hold
        self.id = id
        self.name = name

    def view(self) -> dict[str, Any]:
        """Everything there is to show of it: what it asks for, when next, and what became of its last moments.
        Raises: ScheduleNotFound."""
        return self._hold.store.read(lambda tx: shown(tx, schedules.get(tx, self.id, "", every=True)))

    @property
    def state(self) -> str:
        """ACTIVE, PAUSED, or OVER: no moment is left."""
        return str(self.view()["state"])

    def pause(self) -> Schedule:
        """Ask for nothing from now on. Its tasks go on."""
        self._hold.write(lambda tx, now: schedules.pause(tx, self.id, now))
        return self

    def resume(self) -> Schedule:
        """Go on with the next moment; those of the pause are not caught up with."""
        self._hold.write(lambda tx, now: schedules.resume(tx, self.id, now))
        return self

    def remove(self) -> None:
        """Ask for nothing more. Its tasks go on."""
        self._hold.write(lambda tx, now: schedules.remove(tx, self.id))

    def __repr__(self) -> str:
        return f"<Schedule {self.name} {self.id}>"


def shown(tx: Tx, at: schedules.Schedule) -> dict[str, Any]:
    """A schedule with its last firings."""
    return schedules.show(at, schedules.history(tx, at.id, limit=SHOWN))


class Scheduling:
    """What an open database can be asked about schedules."""

    def schedule(
        self: Database,
        name: str,
        flow: Child,
        inputs: Mapping[str, Any] | None = None,
        *,
        cron: str,
        timezone: str = "UTC",
        catch_up: str = "one",
        overlap: str = "skip",
        claims: Iterable[str | tuple[str, str]] = (),
        priority: int = 0,
        pool: str | None = None,
        replace: bool = True,
    ) -> Schedule:
        """Have a task asked for at every moment of a cron expression, by whichever worker of the database looks first:
        `hold.schedule("nightly", backup, {"disk": "vda"}, cron="30 2 * * *", timezone="Europe/Berlin")`.

        A moment makes one task, however many workers there are. Asked again under the same name, as a program does
        each time it starts, it is the same schedule, changed to what is asked now; `replace=False` refuses a change.
        A flow that takes an input `scheduled_at` is given the moment. catch_up: of moments that passed while no worker
        lived, the latest ("one"), up to a hundred ("all"; with overlap "queue"), or "none". overlap: while a task of
        it has not ended, the next moment is passed over ("skip") or its task waits ("queue").
        Raises: ScheduleInvalid, ScheduleExists, QuotaExceeded, and what `submit` does.
        """
        given, plan = dict(inputs or {}), compile(flow)
        takes_moment = check_flow(plan, given)
        asked = self.request(flow, pool=pool)._replace(claims=claims_of(claims), priority=priority)
        row = _row(self, name, cron, timezone, catch_up, overlap)._replace(
            what=of_flow(asked, plan.name, takes_moment=takes_moment), inputs=self.inputs_text(given)
        )
        return _add(self, row, asked, replace=replace)

    def schedule_operation(
        self: Database,
        name: str,
        kind: str,
        operation: str,
        id: str | None = None,
        params: Mapping[str, Any] | None = None,
        *,
        cron: str,
        timezone: str = "UTC",
        catch_up: str = "one",
        overlap: str = "skip",
        claims: Iterable[str | tuple[str, str]] = (),
        priority: int = 0,
        replace: bool = True,
    ) -> Schedule:
        """As `schedule`, of an operation on a resource: `hold.schedule_operation("sundays", "server", "reboot",
        "web-1", {"type": "SOFT"}, cron="0 4 * * SUN")`. A moment at which the resource's state does not allow it makes
        no task, and the schedule says why.

        Raises: KindUnknown, OperationUnknown, DocumentInvalid, and what `schedule` does.
        """
        what, text = of_operation(
            self, kind, operation, id, params or {}, claims_of(claims), priority, self.settings.pool
        )
        row = _row(self, name, cron, timezone, catch_up, overlap)._replace(what=what, inputs=text)
        return _add(self, row, None, replace=replace)

    def scheduled(self: Database, ref: str) -> Schedule:
        """The schedule of that name, or that id. Raises: ScheduleNotFound."""
        found = self.store.read(lambda tx: schedules.get(tx, ref, _PROJECT, every=True))
        return Schedule(self, found.id, found.name)

    def schedules(self: Database) -> list[Schedule]:
        """All of them, the oldest first."""
        found: list[schedules.Schedule] = []
        while True:
            after = found[-1].id if found else ""
            more = self.store.read(lambda tx, after=after: schedules.page(tx, None, after=after))  # type: ignore[misc]
            found += more
            if len(more) < schedules.LOOK_MAX:
                return [Schedule(self, each.id, each.name) for each in found]


_PROJECT: Final = "default"


def _row(
    hold: Database, name: str, cron: str, timezone: str, catch_up: str, overlap: str
) -> schedules.Schedule:  # fmt: skip
    return schedules.Schedule(
        hold.clock.uuid7(), _PROJECT, "", name, cron, timezone, catch_up, overlap, "", "{}", None, None, 0.0, 0.0
    )


def _add(hold: Database, row: schedules.Schedule, asked: Request | None, *, replace: bool) -> Schedule:
    found, _ = hold.write(lambda tx, now: add(tx, row, asked, now, replace=replace))
    return Schedule(hold, found.id, found.name)


def add(
    tx: Tx, row: schedules.Schedule, asked: Request | None, now: float, *, replace: bool = False
) -> tuple[schedules.Schedule, bool]:
    """As `schedules.add`; the plan of its flow is kept with it."""
    if asked is not None and asked.digest is not None and asked.outline is not None:
        remember_plan(tx, asked.digest, asked.outline)
    return schedules.add(tx, row, now, replace=replace)


# --- what is asked for --------------------------------------------------------------------------------------------


def check_flow(plan: Plan, given: Mapping[str, Any]) -> bool:
    """Whether the flow is to be given the moment. Raises: MissingInput, UnknownInput."""
    takes_moment = MOMENT in plan.inputs and MOMENT not in given
    check_inputs(plan, {**given, MOMENT: None} if takes_moment else dict(given))
    return takes_moment


def of_flow(asked: Request, task: str, *, takes_moment: bool, limited: bool = False) -> str:
    """The text of a schedule that asks for a flow. `limited`: the quotas hold for it."""
    kept = {name: getattr(asked, name) for name in _KEPT}
    resource = {asked.resource_type: asked.resource_id} if asked.resource_type else None
    return _what(task, resource, asked.claims, asked.priority, limited, flow=kept, moment=takes_moment)


def of_operation(
    hold: Database, kind: str, operation: str, id: str | None, params: Mapping[str, Any], wanted: tuple[Claim, ...],
    priority: int, pool: str, *, limited: bool = False,
) -> tuple[str, str]:  # fmt: skip
    """The text of a schedule that asks for an operation, and its parameters as they are stored.

    Raises: KindUnknown, OperationUnknown, DocumentInvalid, ScheduleInvalid."""
    of = hold.kinds.kind(kind)
    found = of.get(operation)
    if of.has_secrets and found.desires:
        raise ScheduleInvalid(f"{kind}.{operation} takes secrets, and can't be scheduled")
    if id is None and not found.creates:
        raise ScheduleInvalid(f"{kind}.{operation} needs the id of what it is for")
    whole = found.desires and found.params is None  # its parameters are the desired document
    checked(of.fields if whole else found.params, params, found.name)
    kept = {"kind": kind, "operation": found.name, "id": id, "whole": whole, "pool": pool}
    return (
        _what(f"{kind}.{found.name}", {kind: id}, wanted, priority, limited, operation=kept),
        encode(dict(params), name="the parameters"),
    )


def _what(
    task: str, resource: Any, wanted: tuple[Claim, ...], priority: int, limited: bool, **more: Any
) -> str:  # fmt: skip
    said = {"task": task, "resource": resource, "claims": claims.to_text(wanted), "priority": priority}
    return json.dumps({**said, "limited": limited, **more})


# --- asking for it ------------------------------------------------------------------------------------------------


def admitting(hold: Database) -> schedules.Admit:
    """How the tasks of schedules are asked for in this database."""
    limits = Limits(live_max=hold.settings.quota_live_tasks, queue_max=hold.settings.quota_queue_length)

    def admit(tx: Tx, at: schedules.Schedule, moment: float, now: float, uuid: str) -> TaskRow:
        asked = at.asked
        wanted = claims.from_text(asked["claims"])
        if asked["limited"]:
            check_claims(tx, hold.kinds, wanted, at.project_id)
        if at.overlap == "queue":
            wanted = claims_of([*wanted, at.claim])
        held = limits if asked["limited"] else None
        common: dict[str, Any] = {"project_id": at.project_id, "user_id": at.user_id, "origin": take.SCHEDULE}
        if "flow" in asked:
            inputs = _with_moment(at.inputs, moment) if asked["moment"] else at.inputs
            request = Request(
                **asked["flow"], **common, inputs=inputs, claims=wanted, priority=asked["priority"], limits=held
            )
            return submit(tx, request, now, uuid).task
        said, params = asked["operation"], json.loads(at.inputs)
        whole = said["whole"]
        wish = Asked(
            said["kind"], said["operation"], said["id"], {} if whole else params, params if whole else None, **common,
            priority=asked["priority"], claims=tuple((each.resource, each.mode) for each in wanted), pool=said["pool"],
            limits=held,
        )  # fmt: skip
        return operate(tx, hold.kinds, wish, now, uuid).task

    return admit


def check_claims(tx: Tx, kinds: Kinds, wanted: Iterable[Claim], project_id: str | None) -> None:
    """What is a resource of a kind is claimed only by who may know of it: nobody holds up another project's.

    Raises: ResourceNotFound; what was made is undone with what made it."""
    for claim in wanted:
        kind, _, ident = claim.resource.partition("/")
        if kind in kinds:
            state.read(tx, kind, ident, project_id=project_id)


def _with_moment(inputs: str, moment: float) -> str:
    from datetime import UTC, datetime

    at = json.loads(encode({MOMENT: datetime.fromtimestamp(moment, UTC)}, name="the moment"))
    return json.dumps({**json.loads(inputs), **at}, ensure_ascii=False, separators=(",", ":"))
