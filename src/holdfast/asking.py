"""Asking for a task of a flow: `hold.submit(…)`, and what becomes of its inputs.

What admission is: tasks/submit.py. Asking again and again: scheduling.py. For an operation: `Holdfast.operate`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from holdfast.core.plan import Plan, steps_of
from holdfast.core.values import SEALED, encode
from holdfast.errors import UsageError
from holdfast.flow.child import check_references
from holdfast.flow.compile import check_inputs, compile
from holdfast.flow.outline import digest, outline
from holdfast.flow.registry import reference_of
from holdfast.handle import Task
from holdfast.store.base import Store, Tx
from holdfast.tasks import submit, tags
from holdfast.tasks.claims import claims_of
from holdfast.tasks.submit import Request

if TYPE_CHECKING:
    from holdfast.clock import Clock
    from holdfast.flow.patterns import Child, Flow
    from holdfast.seal import Sealer
    from holdfast.settings import Settings

T = TypeVar("T")


class Asking:
    """What an open database can be asked for. The attributes are those of local.py's `Holdfast`."""

    store: Store
    flows: tuple[Flow, ...]
    settings: Settings
    clock: Clock
    sealer: Sealer
    actor: str
    _known: set[tuple[str | None, str]]  # plans and pools that others' transactions need not make
    write: Callable[[Callable[[Tx, float], Any]], Any]

    def submit(
        self,
        flow: Child,
        inputs: Mapping[str, Any] | None = None,
        *,
        tag: str | None = None,
        claims: Iterable[str | tuple[str, str]] = (),
        start_after: float | None = None,
        priority: int = 0,
        pool: str | None = None,
        connection: Any = None,
    ) -> Task:
        """Ask for a task. When this returns, it is stored: it will be done, whatever dies.

        tag: names this request; the same request with the same tag is the same task, however often it is sent.
        claims: resources that no other task may use meanwhile, as "network/public", or ("network/public", "shared").
        start_after: seconds since the epoch. priority: higher goes first among those that may begin.
        connection: a transaction of yours on the same PostgreSQL database (of psycopg's, or a connection or session of
        SQLAlchemy's): the task is part of it, and there exactly if you commit.
        Raises: FlowError, FlowNotFound, MissingInput, UnknownInput, ValueRefused, TagInvalid, TagReused, TaskGone.
        """
        given = dict(inputs or {})
        check_inputs(compile(flow), given)
        request = self.request(flow, pool=pool)._replace(
            inputs=self.inputs_text(given),
            claims=claims_of(claims),
            tag=tag,
            start_after=start_after,
            priority=priority,
            actor=self.actor,
        )

        def admit(tx: Tx, now: float) -> submit.Submitted:
            secret = tag is not None and SEALED in request.inputs
            canonical = self._canonical(tx, given) if secret else None
            return submit.submit(tx, request._replace(canonical=canonical), now, self.clock.uuid7())

        if connection is None:
            found = self.write(admit)
        else:
            now, shared = self.clock.time(), (request.digest, request.pool)
            if shared not in self._known:
                self.store.write(lambda tx: submit.make_known(tx, request))
                self._known.add(shared)
            found = self.store.within(connection, lambda tx: admit(tx, now))
        return Task(self, found.task.id, found.task.uuid, replayed=found.replayed)

    def request(self, flow: Child, *, pool: str | None = None) -> Request:
        """The request for a task of this flow, before anything is asked of it: `_replace` the rest."""
        plan = compile(flow)
        if plan.parental:
            check_references(flow, self.flows)
        return Request(
            flow=plan.name,
            version=plan.version,
            reference=reference_of(flow, self.flows),
            digest=digest(plan),
            outline=outline(plan),
            deadline_s=plan.options.deadline_s,
            steps=plan.kind.count(0),
            weight=float(sum(plan.weight)),
            pool=_pool_of(plan, pool, self.settings.pool),
        )

    def inputs_text(self, given: Mapping[str, Any]) -> str:
        """Inputs as they are stored. Raises: ValueRefused, ValueTooLarge, SecretKeyMissing."""
        return self._inputs_text(given, self.sealer.seal)

    def _inputs_text(self, given: Mapping[str, Any], seal: Callable[[str], str]) -> str:
        for name, value in given.items():
            encode(value, seal, name=f"the input {name}", bytes_max=self.settings.value_bytes_max)
        return encode(dict(given), seal, name="the inputs")

    def _canonical(self, tx: Tx, given: Mapping[str, Any]) -> str:
        """The inputs for the tag's fingerprint: sealing a secret makes another text each time."""
        return self._inputs_text(given, lambda text: tags.marked(tx, self.sealer, text))


def _pool_of(plan: Plan, given: str | None, default: str) -> str:
    """The pool of a task: as asked for, else as its steps ask, else the default. A task runs whole in one pool."""
    wanted = sorted({step.pool for step in steps_of(plan) if step.pool is not None})
    if len(wanted) > 1 or (given is not None and wanted not in ([], [given])):
        asked = f" and the task for {given}" if given is not None else ""
        raise UsageError(
            f"a task runs whole in one pool, but the steps of {plan.name} ask for {' and '.join(wanted)}{asked}: "
            "give them one, or make several tasks of it"
        )
    return given or (wanted[0] if wanted else default)
