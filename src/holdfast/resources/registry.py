"""The registry of kinds, and the flows of their operations, ready to be submitted.

Theory: each operation's flow is wrapped: a first step runs when the resource is the task's, checks the lifecycle once
more and gives the other steps what they ask for. That step needs the database, which is opened later: it finds it
through the `World`. An opened registry belongs to one `Holdfast`; kinds themselves can be in many.

What a kind is: kind.py. The steps: steps.py.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from holdfast.core.plan import steps_of
from holdfast.errors import KindError, KindUnknown, PolicyForbidden
from holdfast.flow.arguments import signature
from holdfast.flow.compile import check_inputs, compile
from holdfast.flow.outline import digest, outline
from holdfast.flow.patterns import Flow, linear
from holdfast.flow.registry import reference_of
from holdfast.resources import steps
from holdfast.resources.kind import RECONCILE, UPDATE, Kind, Operation

if TYPE_CHECKING:
    from holdfast.clock import Clock
    from holdfast.resources.enter import Entering
    from holdfast.seal import Sealer
    from holdfast.settings import Settings
    from holdfast.store.base import Store

GROUP: Final = "holdfast.kinds"


class Opened(Protocol):
    """What a registry needs of the database it is opened on."""

    store: Store
    clock: Clock
    settings: Settings
    sealer: Sealer

    def poke(self) -> None: ...


class World:
    """The database that the steps of kinds are to find, once it is open. Its settings are known before."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings
        self._hold: Opened | None = None

    def open(self, hold: Opened) -> None:
        self._hold = hold

    @property
    def hold(self) -> Opened:
        """Raises: KindError: there is none yet."""
        if self._hold is None:
            raise KindError("these kinds are registered but not open: give them to hf.open(…, kinds=…)")
        return self._hold


class Prepared(NamedTuple):
    """An operation's flow with all that its tasks need of it."""

    flow: Flow
    name: str
    version: str
    reference: str
    digest: str
    outline: str
    steps: int
    weight: float
    pool: str | None
    deadline_s: float | None


class Kinds:
    """Kinds by name. Raises: KindError where one is not sound, or two have a name in common."""

    def __init__(self, kinds: Iterable[Kind] = ()) -> None:
        self._kinds: dict[str, Kind] = {}
        self._plurals: dict[str, Kind] = {}
        self.world = World()
        self._opened = False
        self._prepared: dict[tuple[str, str], Prepared] = {}
        self.flows: tuple[Flow, ...] = ()
        self.entering: dict[tuple[str, str], Entering] = {}
        for kind in kinds:
            self.add(kind)

    def add(self, kind: Kind) -> Kind:
        """Register a kind: its lifecycle is checked. One that can be updated can be reconciled as well."""
        if self._opened:
            raise KindError("these kinds are in use: register another before the database is opened")
        for names, name in ((self._kinds, kind.name), (self._plurals, kind.plural)):
            if names.get(name) not in (None, kind):
                raise KindError(f"two kinds are called {name!r}")
        update = kind.operations.get(UPDATE)
        if update is not None and RECONCILE not in kind.operations:
            again = update._replace(name=RECONCILE, params=None, ends=None, desires=False, applies=True, agents=False)
            kind.operations[RECONCILE] = again._replace(summary="Apply the desired document again.")
        kind.check()
        self._kinds[kind.name] = self._plurals[kind.plural] = kind
        return kind

    @classmethod
    def load(cls, *more: Kind, settings: Settings | None = None) -> Kinds:
        """Those of this house, of the packages that are installed (entry points of the group `holdfast.kinds`: a kind,
        a list of kinds, or a function that makes them, which may ask for `settings`, and for `kinds`: those that are
        here by then, to which it may add operations), and `more`."""
        from importlib.metadata import entry_points

        from holdfast.resources.node.kind import make_node
        from holdfast.resources.server.kind import make_server

        found = cls(more)
        if "server" not in found:
            found.add(make_server(settings))
        if "node" not in found:
            found.add(make_node(settings))
        for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
            given = point.load()
            if callable(given) and not isinstance(given, Kind):
                wants = {name for name, _required in signature(given, f"the entry point {point.name}").wants}
                there = {"settings": settings, "kinds": found}
                given = given(**{name: value for name, value in there.items() if name in wants})
            for kind in (given,) if isinstance(given, Kind) else given:
                if not isinstance(kind, Kind):
                    raise KindError(f"the entry point {point.name} ({point.value}) gives {kind!r}, which is no kind")
                found.add(kind)
        for kind in found:
            kind.check()  # once more: operations may have been added to it
        return found

    def open(self, world: World) -> Kinds:
        """The same kinds with their flows, whose steps find the database through `world`."""
        made = Kinds(kind.in_world(world) for kind in self)
        made.world, made._opened = world, True
        for kind in made:
            for operation in kind.operations.values():
                made._prepare(kind, operation.name, _wrapped(kind, operation, world))
            if kind.prober is not None and kind.verifies:
                made._prepare(kind, "verify", linear(f"{kind.name}.verify", steps.verify_step(kind, world)))
            if kind.prober is not None:
                made._prepare(kind, "sync", linear(f"{kind.name}.sync", steps.sync_step(kind, world)))
        made.flows = tuple(prepared.flow for prepared in made._prepared.values())
        made._prepared = {
            key: prepared._replace(reference=reference_of(prepared.flow, made.flows))
            for key, prepared in made._prepared.items()
        }
        return made

    def _prepare(self, kind: Kind, name: str, flow: Flow) -> None:
        plan = compile(flow)
        known = kind.operations.get(name)
        if known is not None:
            try:
                check_inputs(plan, {"resource_id": "", "params": {}})
            except Exception as error:
                raise KindError(f"operation {kind.name}.{name}: {error}") from error
        pools = sorted({step.pool for step in steps_of(plan) if step.pool is not None})
        if len(pools) > 1:
            raise KindError(f"operation {kind.name}.{name} asks for the pools {' and '.join(pools)}: give it one")
        self._prepared[kind.name, name] = Prepared(
            flow, plan.name, plan.version, "", digest(plan), outline(plan), plan.kind.count(0),
            float(sum(plan.weight)), pools[0] if pools else None, plan.options.deadline_s,
        )  # fmt: skip

    # --- asking ---------------------------------------------------------------------------------------------------

    def kind(self, name: str) -> Kind:
        """Raises: KindUnknown."""
        found = self._kinds.get(name)
        if found is None:
            known = ", ".join(sorted(self._kinds)) or "none"
            raise KindUnknown(f"there is no kind {name[:80]!r}: there is {known}", allowed=sorted(self._kinds))
        return found

    def operation(self, kind: str, name: str) -> Operation:
        """Raises: KindUnknown, OperationUnknown."""
        return self.kind(kind).get(name)

    def prepared(self, kind: str, name: str) -> Prepared:
        """The flow of an operation (or of `verify` and `sync`, where the kind has a probe). Raises: KindUnknown,
        OperationUnknown."""
        found = self._prepared.get((kind, name))
        if found is None:
            self.operation(kind, name)
            raise KindError(f"kind {kind} is registered but not open: give it to hf.open(…, kinds=…)")
        return found

    def has_probe(self, kind: str) -> bool:
        return self.kind(kind).prober is not None

    def check_agent(self, kind: str, operation: str, pools: Iterable[str], default: str = "default") -> None:
        """Refuse what an agent that serves these pools may not ask for. Raises: PolicyForbidden, KindUnknown,
        OperationUnknown."""
        asked = self.operation(kind, operation)
        if not asked.agents:
            raise PolicyForbidden(f"agents may not ask for {kind}.{operation}")
        pool = self.prepared(kind, operation).pool or default
        if pool not in set(pools):
            raise PolicyForbidden(f"{kind}.{operation} runs in the pool {pool}, which this agent does not serve")

    def __iter__(self) -> Iterator[Kind]:
        return iter(self._kinds.values())

    def __len__(self) -> int:
        return len(self._kinds)

    def __contains__(self, name: object) -> bool:
        return name in self._kinds


def _wrapped(kind: Kind, operation: Operation, world: World) -> Flow:
    """The operation's flow behind the step that reads the desired state. What only the outermost flow may say moves
    outward."""
    name = f"{kind.name}.{operation.name}"
    made = operation.make(kind)
    if operation.synchronous:
        return linear(name, steps.action_step(kind, operation, made, world))
    reader = steps.read_step(kind, operation, world)
    options: dict[str, Any] = {}
    if isinstance(made, Flow) and made.options:
        options = made.options
        made = copy.copy(made)
        made.options = made._plan = None
    return linear(name, reader, made, **options)
