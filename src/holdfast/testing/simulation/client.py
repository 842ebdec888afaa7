"""Those who ask for tasks, give verbs, answer and deliver, and keep what they were told. They ask servers, which have
their own way to the store and their own clocks.

What there is to ask of many servers: testing/simulation/servers.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from holdfast.core import events as e
from holdfast.core.state import State
from holdfast.core.states import FINAL, REASONS, S_REVERTING, S_WAITING, SUSPENDED_PENDING, api_state
from holdfast.core.values import Stored, encode
from holdfast.errors import HoldfastError, TaskGone, WorldError
from holdfast.flow.compile import compile, digest, outline
from holdfast.flow.registry import reference_of
from holdfast.store.base import Tx
from holdfast.store.journal import KINDS
from holdfast.tasks import asking, control, retention
from holdfast.tasks import row as row_of_task
from holdfast.tasks.claims import claims_of
from holdfast.tasks.control import ACCEPTED, Answer
from holdfast.tasks.row import TaskRow
from holdfast.tasks.submit import Request, submit
from holdfast.testing.simulation.disk import Killed, Line
from holdfast.testing.simulation.shadow import Violation

if TYPE_CHECKING:
    from holdfast.clock import Clock
    from holdfast.flow.patterns import Flow
    from holdfast.testing.simulation.world import World

_SUSPENDED = api_state(SUSPENDED_PENDING)
_RESOURCES = ("a", "b", "c")
_WORDS: dict[str, type[Any]] = {
    "cancel": e.CancelAsked, "leave": e.CancelAsked, "abort": e.AbortAsked, "suspend": e.SuspendAsked,
    "release": e.SuspendAsked, "resume": e.ResumeAsked, "rollback": e.RollbackAsked, "force_fail": e.ForceFailed,
}  # fmt: skip
_OFTEN = ("suspend", "cancel", "resume", "rollback", "retry", "suspend", "resume", "release", "leave", "abort",
          "force_fail")  # fmt: skip


class Server:
    """One process that asks the store in a client's name; on one host it is the client's own."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.is_busy = False
        self.clock: Clock = world.clock
        self.line: Line
        self.boot()

    def boot(self) -> None:
        self.line = Line(self.world.disk, self.name)
        self.store = self.world.disk.store(self.line)
        self.line.pause = self._pause

    def _pause(self) -> None:
        self.world.pause(self)

    def write(self, fn: Callable[[Tx], Any]) -> Any:
        """What `fn` returns; None where the world was against it, and nobody knows whether it happened."""
        return self.do(lambda: self.store.write(fn))

    def do(self, work: Callable[[], Any]) -> Any:
        """What the work returns; None where the world was against it."""
        self.is_busy = True
        try:
            return work()
        except (Killed, WorldError):
            self.failed()
            return None
        finally:
            self.is_busy = False

    def failed(self) -> None:
        """It is gone, and there is another."""
        self.world.disk.recover()
        self.boot()


class Client:
    """`submitted`: uuid -> id of what was accepted. `said`, `maybe`: the verbs that each task was told with success,
    or nobody knows. `at`: the server that is asked. `tagged`: how often a request has a tag. `gives_all`:
    also what only another version of the flow takes."""

    tagged = 0.3
    gives_all = False

    def __init__(self, world: World) -> None:
        self.world = world
        self.servers = self._servers()
        self.at = self.servers[0]
        self.submitted: dict[str, int] = {}
        self.tags: dict[str, tuple[Request, str | None]] = {}
        self.said: dict[int, Counter[str]] = {}
        self.maybe: dict[int, Counter[str]] = {}
        self.verbs: Counter[str] = Counter()

    def _servers(self) -> list[Server]:
        return [Server(self.world, "client")]

    @property
    def is_busy(self) -> bool:
        """Whether nobody could be asked now."""
        return self.at.is_busy

    def _now(self) -> float:
        return self.at.clock.time()

    def _uuid(self) -> str:
        return self.at.clock.uuid7()

    def act(self) -> None:
        """Something, now."""
        chance = self.world.chance
        draw = chance.random()
        live = [row for row in self.world.rows.values() if row.state not in FINAL]
        if len(self.world.rows) < self.world.tasks_max and (draw < 0.45 or not live):
            self.submit()
        elif draw < 0.5:
            self.submit_again()
        elif draw < 0.55:
            self.purge()
        elif draw < 0.68:
            self.deliver(live)
        else:
            row = chance.choice(live if live and chance.random() < 0.85 else list(self.world.rows.values()))
            if row.state == _SUSPENDED and chance.random() < 0.6:
                self.answer(row)
            else:
                self.verb(row, chance.choice(_OFTEN))

    def _write(self, fn: Callable[[Tx], Any]) -> Any:
        """What `fn` returns; None: nobody knows whether it happened."""
        return self.at.write(fn)

    # --- tasks ----------------------------------------------------------------------------------------------------

    def submit(self) -> None:
        world, chance = self.world, self.world.chance
        flow = self._deployed(chance.choice(world.flows))
        claims = [(f"r/{name}", chance.choice(("exclusive", "exclusive", "shared"))) for name in _RESOURCES
                  if chance.random() < 0.35]  # fmt: skip
        inputs = {"items": list(range(chance.randint(0, 3))), "zones": list(range(chance.randint(0, 2)))}
        request = self.order(
            flow,
            inputs,
            claims=claims_of(claims),
            yielding=chance.random() < 0.15,
            tag=f"tag-{world.number()}" if chance.random() < self.tagged else None,
            start_after=self._now() + chance.choice((1.0, 5.0)) if chance.random() < 0.15 else None,
            priority=chance.choice((0, 0, 1)),
            pool=self._pool(),
        )
        self._submit(request)

    def order(self, flow: Flow, inputs: dict[str, Any], **more: Any) -> Request:
        """A request for a task of the flow; of the inputs it is given those that it takes."""
        plan = compile(flow)
        return Request(
            flow=plan.name,
            version=plan.version,
            reference=reference_of(flow, [flow]),
            inputs=encode({name: given for name, given in inputs.items() if self.gives_all or name in plan.inputs}),
            digest=digest(plan),
            outline=outline(plan),
            deadline_s=plan.options.deadline_s,
            steps=plan.kind.count(0),
            weight=float(sum(plan.weight)),
            project_id="p",
            **more,
        )

    def _deployed(self, flow: Flow) -> Flow:
        return flow

    def _pool(self) -> str:
        return "default"

    def submit_again(self) -> None:
        """The same request under the same tag."""
        if self.tags:
            request, _ = self.tags[self.world.chance.choice(list(self.tags))]
            self._submit(request)

    def _submit(self, request: Request) -> None:
        world = self.world
        now, uuid = self._now(), self._uuid()
        try:
            made = self._write(lambda tx: submit(tx, request, now, uuid))
        except TaskGone:
            return  # its tag is a tombstone
        known = self.tags.get(request.tag or "", (request, None))[1]
        if request.tag is not None:
            self.tags[request.tag] = (request, known if made is None else made.task.uuid)
        if made is None:
            self._unanswered(request)
            return
        # An answer that comes late may name a task that was purged meanwhile.
        if known not in (None, made.task.uuid) and {known, made.task.uuid} <= {row.uuid for row in world.rows.values()}:
            raise Violation(f"the request tagged {request.tag} made {known}, and now {made.task.uuid} beside it")
        self._accepted(made.task)

    def _unanswered(self, request: Request) -> None:
        """Nobody knows whether there is such a task. The client lets it be."""

    def _accepted(self, task: TaskRow) -> None:
        self.submitted[task.uuid] = task.id
        if task.finished_at is None and task.id not in self.world.rows:  # else it may be purged by now
            raise Violation(f"task {task.id} was accepted, and is nowhere")

    def purge(self) -> None:
        now = self._now()
        self._write(lambda tx: retention.purge(tx, now, tombstone_s=self.world.chance.choice((0.0, 100.0))))

    # --- verbs ----------------------------------------------------------------------------------------------------

    def verb(self, row: TaskRow, verb: str, answers: dict[str, tuple[str, Any]] | None = None) -> bool:
        """Whether it was accepted."""
        world, task = self.world, row.id
        now, uuid, keep_s = self._now(), self._uuid(), world.settings.retention_s
        verbs: dict[str, Callable[[Tx], Any]] = {
            "cancel": lambda tx: control.cancel(tx, task, now, actor="", retention_s=keep_s),
            "leave": lambda tx: control.cancel(tx, task, now, actor="", revert=False, retention_s=keep_s),
            "abort": lambda tx: control.abort(tx, task, now, actor="", retention_s=keep_s),
            "suspend": lambda tx: control.suspend(tx, task, now, actor=""),
            "release": lambda tx: control.suspend(tx, task, now, actor="", release_claims=True),
            "resume": lambda tx: control.resume(tx, task, now, actor="", answers=answers),
            "rollback": lambda tx: control.rollback(tx, task, now, actor="", uuid=uuid, force=uuid[-1] < "8"),
            "retry": lambda tx: control.retry(tx, task, now, actor="", uuid=uuid),
            "force_fail": lambda tx: control.force_fail(tx, task, now, actor="", reason="why not", retention_s=keep_s),
        }
        word = KINDS[_WORDS[verb]].word if verb in _WORDS else ""
        maybe = self.maybe.setdefault(task, Counter())
        maybe[word] += 1  # until we are told
        try:
            answer, is_told = self._write(lambda tx: _and_whether(verbs[verb], task, tx)) or (None, False)
        except HoldfastError as error:
            maybe[word] -= 1
            self.verbs["refused"] += 1
            world.note(f"client: {verb} of task {task} is refused: {error}")
            return False
        self.verbs[verb] += 1
        if answer is None:
            world.note(f"client: {verb} of task {task}: nobody knows")
            return False
        maybe[word] -= 1
        world.note(f"client: {verb} of task {task}: {answer.accepted}, {answer.task.state}")
        if answer.task.id != task:
            self._accepted(answer.task)
        elif answer.accepted == ACCEPTED and is_told:
            self.said.setdefault(task, Counter())[word] += 1
            world.check_acknowledged(task)
        return True

    def deliver(self, live: list[TaskRow], *, wanted: bool = False) -> bool:
        """An event that some step waits for, or that none does; whether there was one."""
        world, chance = self.world, self.world.chance
        found = [(row.id, name) for row in live for name in _awaited(world.shadows[row.id].state)]
        if not found and not wanted and live:
            row = chance.choice(live)
            found = [(row.id, f"go-{chance.choice(world.shadows[row.id].state.ids)}")]
        if not found:
            return False
        task, name = chance.choice(found)
        now, word = self._now(), KINDS[e.Delivered].word
        maybe = self.maybe.setdefault(task, Counter())
        maybe[word] += 1
        try:
            answer = self._write(lambda tx: control.deliver(tx, task, name, Stored.of(7), now))
        except HoldfastError:
            maybe[word] -= 1
            return False
        if answer is not None:
            maybe[word] -= 1
            self.said.setdefault(task, Counter())[word] += 1
            world.check_acknowledged(task)
        self.verbs["deliver"] += 1
        world.note(f"client: delivers {name} to task {task}")
        return True

    def answer(self, row: TaskRow) -> bool:
        """Say what the task rests for."""
        if row.reason == "definition_changed":
            return self.verb(row, "abort")
        words = REASONS[row.reason or "asked"].answers
        answers: dict[str, tuple[str, Any]] = {}
        for step in asking.steps_of(row) if words else []:
            word = self.world.chance.choice(words)
            answers[step] = (word, Stored.of(self.world.number()) if word == "done" else None)
        return self.verb(row, "resume", answers)


def _and_whether(verb: Callable[[Tx], Answer], task: int, tx: Tx) -> tuple[Answer, bool]:
    """The verb's answer, and whether the task's journal has it: who rests and gives up its claims is told nothing."""
    before = row_of_task.read(tx, task).seq
    answer = verb(tx)
    return answer, answer.task.seq > before


def _awaited(state: State) -> list[str]:
    """The events that some step waits for and has not been handed yet."""
    waiting = (
        row
        for row in state.parked
        if state.st[row] in (S_WAITING, S_REVERTING) and row not in state.running and row not in state.delivered
    )
    return [name for row in waiting if (name := state.parked[row].event) is not None]
