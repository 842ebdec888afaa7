"""Kinds of resources, declared in Python: fields, lifecycle, operations, driver, probe.

Theory: a kind is a description and holds no state. Its lifecycle is rows as those of core/table.py; what leads from one
to another are its operations, each of which says where it starts and where its success leaves the resource. Put
together they are a machine, which the checker of the core proves sound when the kind is registered.

The registry of kinds, and their flows: registry.py. What an operation is asked for with: operate.py. What its end
means: project.py.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from holdfast.core.table import Machine, Row
from holdfast.core.table import final as final
from holdfast.core.table import resting as resting
from holdfast.errors import KindError, MachineFault, OperationUnknown
from holdfast.flow.arguments import signature
from holdfast.flow.options import check_name

if TYPE_CHECKING:
    from holdfast.flow.patterns import Child
    from holdfast.resources.registry import World
    from holdfast.resources.state import ResourceRow
    from holdfast.store.base import Tx

F = TypeVar("F", bound=Callable[..., Any])

CREATE: Final = "create"
UPDATE: Final = "update"
DELETE: Final = "delete"
RECONCILE: Final = "reconcile"
#: What every step of an operation can ask for; a parameter may not have such a name.
GIVEN: Final = frozenset(("resource_id", "params", "desired", "revision", "applied", "before"))
#: Operations that the system makes itself.
SYSTEM: Final = frozenset(("verify", "sync"))
#: Of `mode`: the operation claims nothing, so it runs at once, beside the one that has the resource.
UNCLAIMED: Final = "none"
#: The priority of such: it may be there to stop what others wait for, and stands behind nobody.
AT_ONCE: Final = 1_000_000
_FAILED: Final = "failed"
_RESERVED: Final = GIVEN | {"ctx", "result", "failures", "observed"}


class Change(NamedTuple):
    """What is asked for, as a pre-commit check or a claims function sees it: secrets are Secrets. `current` is None for
    what is being created. `tx` is the transaction of the admission: read in it, and be quick. `project_id`: of the
    resource."""

    kind: Kind
    operation: str
    resource_id: str
    params: dict[str, Any]
    desired: dict[str, Any]
    current: ResourceRow | None
    tx: Tx
    project_id: str


class Seen(NamedTuple):
    """A probe's answer. `in_sync`: whether the world is as `desired` says; None: nobody can tell.

    `observed` is merged into what is known of the resource; its `status` is whether it is up. `lifecycle`: where the
    resource stands, where that is not what is recorded. `reached` False: there was no answer, as is observed."""

    in_sync: bool | None
    observed: Mapping[str, Any] = MappingProxyType({})
    lifecycle: str | None = None
    reached: bool = True


Claiming = Callable[[Change], Iterable[str | tuple[str, str]]]


class Operation(NamedTuple):
    """See `Kind.operation`."""

    kind: str
    name: str
    make: Callable[[Any], Child]
    starts: tuple[str, ...]
    ends: str | None
    params: type[Any] | None
    claims: Claiming | None
    mode: str
    desires: bool
    applies: bool
    fault: str | None
    gone: str | None
    left: Mapping[str, Any] | None
    abortable: bool
    agents: bool
    synchronous: bool
    summary: str

    @property
    def creates(self) -> bool:
        return self.name == CREATE


class Kind:
    """A kind of resource.

    name, plural: `server`, `servers`. fields: the desired document, a msgspec Struct. lifecycle: its states as rows
    (`resting()`, `final()`), the first is that of a resource which is still to be made. driver: whatever the steps of
    its operations talk to; see `using`. fault: the state that a failure with an effect leaves, ERROR if there is one.
    secrets: where texts in the desired document are secret (`driver_info.password`), and in the parameters of an
    operation that desires by them; a function is given the document that it is asked of. See sealing.py.
    """

    def __init__(
        self,
        name: str,
        *,
        fields: type[Any],
        lifecycle: Mapping[str, Row],
        plural: str | None = None,
        driver: Any = None,
        fault: str | None = None,
        title: str = "",
        secrets: Iterable[str] | Callable[[Mapping[str, Any]], Iterable[str]] = (),
    ) -> None:
        self.name = check_name(name, f"kind {name!r}")
        self.plural = check_name(plural or f"{name}s", f"kind {name!r}: plural")
        self.fields = fields
        self.lifecycle = dict(lifecycle)
        self.driver = driver
        self.title = title or name
        self.fault = fault if fault is not None else "ERROR" if "ERROR" in self.lifecycle else None
        self._secrets = secrets if callable(secrets) else tuple(secrets)
        for path in () if callable(self._secrets) else self._secrets:
            if path.partition(".")[0] not in _fields(fields):
                raise KindError(f"kind {name!r}: secrets: {path!r} is not in its fields")
        self.operations: dict[str, Operation] = {}
        self.prober: Callable[..., Seen] | None = None
        self.probe_timeout_s: float | None = None
        self.verifies = True
        self._probes_at_once: Callable[[Any], int] = lambda driver: 1
        self.checks: tuple[Callable[[Change], None], ...] = ()
        if self.fault is not None:
            self._state(self.fault, "fault")
        if not self.lifecycle:
            raise KindError(f"kind {name!r} has no lifecycle: say at least the state of one that is to be made")

    @property
    def start(self) -> str:
        """The state of a resource that is still to be made."""
        return next(iter(self.lifecycle))

    @property
    def ended(self) -> str | None:
        """The state of a resource that is no more: the first final one."""
        return next((state for state, row in self.lifecycle.items() if row.kind == "final"), None)

    # --- declaring ------------------------------------------------------------------------------------------------

    def operation(
        self,
        name: str,
        *,
        starts: Iterable[str] | None = None,
        ends: str | None = None,
        params: type[Any] | None = None,
        claims: Claiming | None = None,
        mode: str = "exclusive",
        desires: bool | None = None,
        applies: bool | None = None,
        fault: str | None = None,
        gone: str | None = None,
        left: Mapping[str, Any] | None = None,
        abortable: bool = True,
        agents: bool = False,
        summary: str = "",
    ) -> Callable[[F], F]:
        """Declare an operation: the function below is given the kind and makes the flow.

        The flow's steps ask by name for `resource_id`, `desired`, `revision`, `applied` (the document applied last, or
        None), `before` (the lifecycle state) and the parameters; what it provides as `observed` is merged into what is
        known of the resource, and shown as the task's result.
        starts: the states it may start from (None: every one that is not final; for `create` there is none).
        ends: where success leaves the resource (None: where it was). params: a msgspec Struct.
        claims: what it needs besides the resource itself, which it claims in this `mode`: "exclusive", "shared", or
        "none": it is admitted by where the resource is now, and runs at once beside the operation that has it.
        desires: it takes a new desired document (`create` and `update` do unless told otherwise).
        applies: its success means that the desired document is applied (those, and `reconcile`).
        fault: where a failure with an effect leaves the resource; the kind's unless said, "" for where it was.
        gone: where a `create` that was cancelled and undone leaves it: the first final state unless said.
        left: what is observed of the resource from then on if it is aborted, or ends otherwise without success and with
        an effect; why is then observed as `last_error`, and so it is if it fails without an effect.
        abortable: `abort` is allowed. agents: agents may ask for it.
        """
        made = self._operation(
            name, starts=starts, ends=ends, params=params, claims=claims, mode=mode, desires=desires, applies=applies,
            fault=fault, gone=gone, left=left, abortable=abortable, agents=agents, summary=summary,
        )  # fmt: skip

        def declare(make: F) -> F:
            self._add(made(make))
            return make

        return declare

    def action(self, name: str, **options: Any) -> Callable[[F], F]:
        """Declare an operation whose work is one plain function that blocks; it becomes a task of one step. The
        function asks by name for what a step could and for `driver`; what it returns is the task's `answer`. Options
        as `operation`."""
        made = self._operation(name, synchronous=True, **options)

        def declare(function: F) -> F:
            signature(function, f"action {self.name}.{name}")
            self._add(made(lambda kind: function))
            return function

        return declare

    def probe(
        self,
        function: F | None = None,
        /,
        *,
        timeout_s: float | None = None,
        verifies: bool = True,
        at_once: Callable[[Any], int] = lambda driver: 1,
    ) -> Any:
        """Declare how to see what the world is like: the function asks by name for `driver`, `resource_id`, `desired`,
        `revision`, `before` (the lifecycle state), `observed` (as known) and `doubt` ("unknown": a task was stopped in
        the middle; "drift": it was not as desired when it was looked at last; None) and returns `Seen`. It takes no
        claim, so it runs beside operations, and changes nothing; ResourceBusy says that it had to make way for one.
        verifies: what an aborted operation left is looked at at once; else the next round over all resources does that.
        at_once: how many are looked at at the same time in such a round, each on a thread; it is given the driver."""

        def declare(function: F) -> F:
            self.prober, self.probe_timeout_s, self.verifies = function, timeout_s, verifies
            self._probes_at_once = at_once
            return function

        return declare if function is None else declare(function)

    def precommit(self, check: Callable[[Change], None]) -> Callable[[Change], None]:
        """Have each change checked before it is accepted, in its transaction: what `check` raises refuses it, and
        nothing of it is stored."""
        self.checks = (*self.checks, check)
        return check

    def using(self, driver: Any) -> Kind:
        """The same kind with another driver."""
        made = copy.copy(self)
        made.driver = driver
        made.operations = dict(self.operations)
        return made

    def in_world(self, world: World) -> Kind:
        """The kind as it is on a database: its driver is asked for one that fits it (`in_world`), or at least its
        settings (`with_settings`)."""
        fitting = getattr(self.driver, "in_world", None)
        if fitting is not None:
            return self.using(fitting(world))
        fitting = getattr(self.driver, "with_settings", None)
        return self if world.settings is None or fitting is None else self.using(fitting(world.settings))

    # --- asking ---------------------------------------------------------------------------------------------------

    @property
    def has_secrets(self) -> bool:
        return bool(self._secrets)

    def secrets_of(self, document: Mapping[str, Any]) -> Iterable[str]:
        """Where in the document there may be some."""
        return self._secrets(document) if callable(self._secrets) else self._secrets

    @property
    def probes_at_once(self) -> int:
        return self._probes_at_once(self.driver)

    def get(self, name: str) -> Operation:
        """Raises: OperationUnknown."""
        found = self.operations.get(name)
        if found is None:
            raise OperationUnknown(
                f"a {self.name} has no operation {name[:80]!r}: it has {', '.join(sorted(self.operations))}",
                allowed=sorted(self.operations),
            )
        return found

    def allowed(self, state: str) -> list[str]:
        """The operations that start from a lifecycle state."""
        return [name for name, operation in self.operations.items() if state in operation.starts and name != CREATE]

    def is_final(self, state: str) -> bool:
        row = self.lifecycle.get(state)
        return row is not None and row.kind == "final"

    def machine(self, *, check: bool = True) -> Machine:
        """The lifecycle with the operations as its verbs. Raises: MachineFault, which names the state."""
        verbs = tuple(self.operations)
        return Machine(
            self.name,
            {state: Row(row.kind, self._moves(state, row)) for state, row in self.lifecycle.items()},
            verbs=verbs,
            death=None,
            operated=("moving", "resting"),
            check=check,
        )

    def check(self) -> None:
        """Raise KindError, which names the state, unless the kind is sound."""
        try:
            self.machine()
        except MachineFault as error:
            raise KindError(f"the lifecycle of {self.name} is not sound: {error}", **error.details) from None

    def _moves(self, state: str, row: Row) -> dict[str, str]:
        from holdfast.core.table import IGNORE, REFUSE

        moves = dict(row.moves)
        for name, operation in self.operations.items():
            if state in operation.starts:
                moves.setdefault(name, IGNORE if operation.ends in (None, state) else str(operation.ends))
                if operation.fault and operation.fault != state:
                    moves.setdefault(f"{name}_{_FAILED}", operation.fault)
                if operation.creates and operation.gone:
                    moves.setdefault(f"{name}_undone", operation.gone)
            else:
                moves.setdefault(name, REFUSE)
        return moves

    # --- the checks of a declaration ------------------------------------------------------------------------------

    def _operation(
        self,
        name: str,
        *,
        starts: Iterable[str] | None = None,
        ends: str | None = None,
        params: type[Any] | None = None,
        claims: Claiming | None = None,
        mode: str = "exclusive",
        desires: bool | None = None,
        applies: bool | None = None,
        fault: str | None = None,
        gone: str | None = None,
        left: Mapping[str, Any] | None = None,
        abortable: bool = True,
        agents: bool = False,
        synchronous: bool = False,
        summary: str = "",
    ) -> Callable[[Callable[[Any], Child]], Operation]:
        who = f"operation {self.name}.{name}"
        check_name(name, who)
        if name in self.operations or name in SYSTEM:
            raise KindError(f"{who} is declared already" if name in self.operations else f"{who}: the system makes it")
        if mode not in ("exclusive", "shared", UNCLAIMED):
            raise KindError(f'{who}: mode={mode!r} is not one of "exclusive", "shared", "none"')
        if mode == UNCLAIMED and (ends is not None or desires or applies or name in (CREATE, UPDATE, RECONCILE)):
            raise KindError(f"{who} claims nothing, so it leaves the resource where it is and applies nothing")
        if name == CREATE:
            if starts is not None:
                raise KindError(f"{who} starts from nothing: leave starts= out")
            starts = (self.start,)
            gone = gone or self.ended
        elif starts is None:
            starts = [state for state, row in self.lifecycle.items() if row.kind != "final" and state != self.start]
        named = [self._state(state, f"{name}: starts") for state in starts]
        for state in (ends, fault or None, gone):
            if state is not None:
                self._state(state, name)
        for field in _fields(params):
            if field in _RESERVED:
                raise KindError(f"{who}: a parameter can't be called {field!r}: every step is given that")
        desired = name in (CREATE, UPDATE) if desires is None else desires
        applied = (desired or name == RECONCILE) if applies is None else applies
        at_fault = self.fault if fault is None else fault or None
        return lambda make: Operation(
            self.name, name, make, tuple(named), ends, params, claims, mode, desired, applied, at_fault, gone, left,
            abortable, agents, synchronous, summary,
        )  # fmt: skip

    def _add(self, operation: Operation) -> None:
        self.operations[operation.name] = operation

    def _state(self, state: str, where: str) -> str:
        if state not in self.lifecycle:
            raise KindError(f"kind {self.name!r}: {where}: {state!r} is no state of its lifecycle", state=state)
        return state

    def __repr__(self) -> str:
        return f"<kind {self.name}>"


def _fields(struct: type[Any] | None) -> tuple[str, ...]:
    return () if struct is None else tuple(struct.__struct_fields__)
