"""The runtime of steps that agents run: it offers them, and makes of what agents say what user code would have done.

Theory: nothing runs here. A call that is started is offered (tasks/agents.py), one that is asked to stop is marked, and
both are written together, between two rounds of the worker. What an agent says is in the lease's row; the task's bell
rings, and `see` hands it to the drive as any runtime would. A lease outlives its worker: whoever takes the task next
finds the rows of what is still in flight and goes on with them (`attach`), as if it had made the calls itself. So what
a worker leaves behind when it drains or dies is not in doubt if an agent has it.

The agent's side: service/leases.py, agent/. Why so: docs/why/adr/0015-agents-lease-entries.md.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from holdfast.core import events as e
from holdfast.core.values import decode, encode
from holdfast.errors import UsageError, WorldError
from holdfast.flow.options import fields_of
from holdfast.runtime.base import Call, Outcome, isolation_of
from holdfast.runtime.bind import step_arguments
from holdfast.runtime.wire import read_outcome
from holdfast.store.base import Store, Tx
from holdfast.tasks import agents as rows
from holdfast.tasks.agents import Lease, Offer

if TYPE_CHECKING:
    from holdfast.settings import Settings
    from holdfast.worker.load import Loaded
    from holdfast.worker.taken import Taken

POOL_CHARS_MAX = 255


class Handle:
    """What is known here of a call's lease. `id` 0: it is still to be offered."""

    __slots__ = ("checkpoints", "id", "killed", "offered_at", "reason", "revision")

    def __init__(self) -> None:
        self.id = 0
        self.revision = 0
        self.checkpoints = 0
        self.offered_at = 0.0
        self.reason: str | None = None  # why it is to stop
        self.killed = False


class Agents:
    """A Runtime. Only its worker's thread uses it."""

    killable = True

    def __init__(self, store: Store, settings: Settings, seal: Any, unseal: Any) -> None:
        self._store = store
        self._bytes_max = settings.value_bytes_max
        self._seal = seal
        self._unseal = unseal
        self._starting: list[Call] = []
        self._stopping: dict[Call, None] = {}
        self._ended: list[tuple[Taken, int]] = []  # leases whose end is to be recorded

    # --- Runtime --------------------------------------------------------------------------------------------------

    def start(self, call: Call) -> None:
        call.handle = Handle()
        self._starting.append(call)

    def ask(self, call: Call, reason: str) -> None:
        call.stop_reason = reason
        if call.handle is not None:
            call.handle.reason = reason
            self._stopping[call] = None

    def kill(self, call: Call) -> bool:
        """Its agent ends it, if that can be ended."""
        call.stop_reason = call.stop_reason or "abort"
        if isolation_of(call) == "thread":
            return False
        if call.handle is not None:
            call.handle.killed = True
            self.ask(call, call.stop_reason)
        return True

    def abandon(self, call: Call) -> None:
        """It heeded nothing. Its agent may say no more of it."""
        taken = _taken(call)
        if taken.leases.pop(call.handle.id, None) is not None:
            self._ended.append((taken, call.handle.id))

    def close(self, grace_s: float = 5.0) -> None:
        """What agents run goes on."""

    # --- writing --------------------------------------------------------------------------------------------------

    def flush(self, now: float) -> None:
        """Write what is to be said to agents. Raises a WorldError: nothing is lost, and the next time it is said."""
        if not (self._starting or self._stopping or self._ended):
            return
        writes: list[tuple[Callable[[Tx], Any], Callable[[Any], None]]] = []
        for call in [each for each in self._starting if each.handle.reason is None]:
            try:
                offered = self._offer_of(call)
            except Exception as error:  # whatever it is about the step's arguments is the step's failure
                call.began = True
                _end(call, ("raised", error))
                continue
            task = _taken(call).task
            write = partial(_offer, task.id, _taken(call).token, task.priority, offered, now)
            writes.append((write, partial(self._offered, call, now)))
        starting, self._starting = self._starting, []
        for call in starting:
            if call.handle.reason is not None:  # nobody has heard of it
                self._stopping.pop(call, None)
                _end(call, ("stopped", call.handle.reason))
        for call in list(self._stopping):
            handle, taken = call.handle, _taken(call)
            if handle.id in taken.leases and call.outcome is None:
                stop = partial(
                    rows.stop, task=taken.task.id, token=taken.token, lease=handle.id, reason=handle.reason, now=now,
                    kill=handle.killed,
                )  # fmt: skip
                writes.append((stop, partial(self._stopped, call)))
        closing = [(taken, lease) for taken, lease in self._ended if _is_recorded(taken)]
        writes += [(partial(_done, taken, lease, now), _nothing) for taken, lease in closing]
        try:
            answers = self._store.write_all([write for write, _ in writes]) if writes else []
        except BaseException:
            self._starting = [call for call in starting if call.outcome is None] + self._starting
            raise
        missing = next((answer for answer in answers if isinstance(answer, WorldError)), None)
        if missing is None:
            self._stopping.clear()
            self._ended = [each for each in self._ended if each not in closing and not each[0].drive.is_dropped]
        for (_, then), answer in zip(writes, answers, strict=True):
            if not isinstance(answer, WorldError):
                then(answer)
        if missing is not None:  # all is said again; what was stored changes nothing then
            self._starting = [call for call in starting if call.outcome is None and not call.handle.id] + self._starting
            raise missing

    def _offer_of(self, call: Call) -> Offer:
        taken = _taken(call)
        state, row, step = taken.drive.state, call.row, call.step
        pool: str = step.agent  # type: ignore[union-attr,assignment]
        for name, value in step_arguments(state, row, set(fields_of(pool))).items():
            pool = pool.replace(f"{{{name}}}", str(value))
        if not pool.isprintable() or not 0 < len(pool) <= POOL_CHARS_MAX or "{" in pool:
            raise UsageError(f"{call.step_id} is for the agents of the pool {pool[:80]!r}, and no pool is called that")
        timeout_s = None if call.deadline_at is None else max(0.0, call.deadline_at - call.launched_at)
        entry = 0 if call.what == "probe" else taken.entries[row]
        work = work_of(call, self._seal, self._bytes_max, alone=row in state.suspects)
        return Offer(call.step_id, call.what, entry, pool, work, timeout_s)

    def _offered(self, call: Call, now: float, answer: Any) -> None:
        if isinstance(answer, Exception):  # the task is another's by now, and this call nobody's
            _end(call, ("stopped", "lease_lost"))
            return
        call.handle.id, call.handle.offered_at = answer, now
        _taken(call).leases[answer] = call

    def _stopped(self, call: Call, answer: Any) -> None:
        if answer is True:  # nobody had begun with it
            del _taken(call).leases[call.handle.id]
            _end(call, ("stopped", call.handle.reason))

    # --- reading --------------------------------------------------------------------------------------------------

    def see(self, taken: Taken, leases: Sequence[Lease]) -> None:
        """Hand on what agents have said of the task's steps."""
        for lease in leases:
            call = taken.leases.get(lease.id)
            if call is None or call.handle.revision == lease.revision:
                continue
            handle = call.handle
            is_known, handle.revision = handle.revision >= 0, lease.revision
            if lease.is_begun and not call.began:
                taken.drive.began(call)
            if lease.progress is not None:
                taken.drive.progress(call, lease.progress, lease.message)
            if lease.checkpoints > handle.checkpoints:
                handle.checkpoints = lease.checkpoints
                taken.drive.checkpoint(call, decode(lease.checkpoint or "null", self._unseal), _nothing)
            if lease.ended_at is not None:
                del taken.leases[lease.id]
                self._ended.append((taken, lease.id))
                if lease.said is None and is_known:
                    taken.drive.fence += 1  # as tasks/overdue.py has it: the agent may still be at it, and is late
                _end(call, self._outcome_of(call, lease))

    def _outcome_of(self, call: Call, lease: Lease) -> Outcome:
        try:
            word, text = rows.read_outcome(lease.outcome or "{}")
            if word == "returned":
                return word, decode(text, self._unseal)
            word, value = read_outcome({"outcome": word, "value": json.loads(text)})
        except Exception as error:  # an agent may say anything
            return "raised", error
        if word == "raised":
            return word, value
        if word == "stopped":
            call.stop_reason = call.stop_reason or "suspend"  # its agent leaves: somebody else goes on
            return word, call.stop_reason
        return ("killed", None) if word == "killed" or call.handle.killed else ("died", str(value))

    # --- taking over ----------------------------------------------------------------------------------------------

    def attach(self, taken: Taken, loaded: Loaded, now: float) -> tuple[int, ...]:
        """Go on with what agents run of a task that was just taken: the rows of those steps. Leases of what is over,
        or is to be begun anew, are closed. What was started for an agent and is nobody's lease was never begun: it is
        withdrawn."""
        state = loaded.state
        if not loaded.seq or not (state.plan.remote or state.running):
            return ()
        away = []
        task = taken.task.id
        found, fence = self._store.read(lambda tx: (rows.of_task(tx, task), rows.fence_of(tx, task, taken.token)))
        taken.drive.fence = fence or taken.drive.fence
        for lease in found:
            row = state.row_of(lease.node)
            is_in_flight = row in state.running and lease.entry and loaded.entries.get(row) == lease.entry
            if not is_in_flight or state.steps[row].agent is None:  # type: ignore[union-attr]
                self._ended.append((taken, lease.id))
                continue
            call = taken.drive.attach(row, lease.timeout_s, lease.leased_at or now)
            handle = call.handle = Handle()
            handle.id, handle.offered_at, handle.revision = lease.id, lease.offered_at, -1
            handle.killed = lease.killed
            call.stop_reason = handle.reason = lease.stop
            call.launched_at = now
            taken.leases[lease.id] = call
            away.append(row)
            self.see(taken, [lease])
        offered = {lease.entry for lease in found}
        for row in loaded.for_agents.intersection(state.running).difference(away):
            if loaded.entries[row] not in offered:
                taken.drive.note(e.Withdrawn(row, now))
        return tuple(away)


def work_of(call: Call, seal: Any, bytes_max: int, *, alone: bool = False) -> str:
    """What an agent has to know to run it, as JSON; secrets are sealed. `alone`: in a process of its own, because one
    died while it ran. Raises: ValueRefused, SecretKeyMissing."""
    context = call.context
    arguments = ", ".join(
        f"{json.dumps(name)}: {encode(value, seal, name=f'the argument {name} of {call.step_id}')}"
        for name, value in call.arguments.items()
        if context is None or value is not context
    )
    plain = {
        "reference": call.reference,
        "step": call.step_id,
        "what": call.what,
        "ctx": [name for name, value in call.arguments.items() if context is not None and value is context],
        "value_bytes_max": bytes_max,
        "alone": alone,
    }
    text = f'{json.dumps(plain)[:-1]}, "arguments": {{{arguments}}}'
    if context is None:
        return f'{text}, "context": null}}'
    told = {
        "key": context.idempotency_key,
        "forward_key": context.forward_key,
        "attempt": context.attempt,
        "task_id": context.task_id,
        "fence": context.fence,
    }
    event = encode(context.event, seal, name=f"the event of {call.step_id}")
    last = encode(context.last_checkpoint, seal, name=f"the checkpoint of {call.step_id}")
    return f'{text}, "context": {json.dumps(told)[:-1]}, "event": {event}, "last_checkpoint": {last}}}}}'


def _taken(call: Call) -> Taken:
    found: Taken = call.host.owner  # type: ignore[attr-defined]
    return found


def _end(call: Call, outcome: Outcome) -> None:
    call.outcome = outcome
    call.host.ended(call)


def _is_recorded(taken: Taken) -> bool:
    """Whether nothing that was handed to the drive is still to be stored."""
    return not (taken.drive.inbox or taken.drive.facts or taken.drive.is_dropped)


def _offer(task: int, token: str, priority: int, offered: Offer, now: float, tx: Tx) -> int:
    return rows.offer(tx, task, token, priority, (offered,), now)[0]


def _done(taken: Taken, lease: int, now: float, tx: Tx) -> None:
    rows.done(tx, lease, taken.token, taken.drive.fence, now)


def _nothing(_: object) -> None:
    """Nobody waits for it."""
