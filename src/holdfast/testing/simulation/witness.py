"""What user code sees, written down where Holdfast can't reach it, and held against what Holdfast has recorded."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from holdfast.core import events as e
from holdfast.core.state import opened
from holdfast.core.states import FINAL, S_REVERTING, S_RUNNING
from holdfast.store.base import JournalRow
from holdfast.testing.simulation.checks import Checker
from holdfast.testing.simulation.shadow import Commit, Shadow, Violation

if TYPE_CHECKING:
    from holdfast.testing.simulation.code import Entry
    from holdfast.testing.simulation.process import Process
    from holdfast.testing.simulation.world import World

Place = tuple[str, str]  # a task's uuid and a step's id


class Witness(Checker):
    """Nothing is entered before that is durable; keys and checkpoints are what G3 promises; what is said to be undone
    was undone."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._gave: set[tuple[str, str, int]] = set()
        self._keys: dict[Place, str] = {}
        self._reverting: set[Place] = set()  # whose revert has begun since it was last entered
        self._entered: set[Place] = set()  # since its scope's try began
        self._checkpoints: dict[Place, Any] = {}
        self._effects: dict[str, set[str]] = {}  # steps that were entered and not undone since
        self._undid: Counter[Place] = Counter()  # reverts that came to their end and are not recorded yet

    def returned(self, uuid: str, node: str, value: int) -> bool:
        """Whether that step has given that value. A probe's and a person's answers count."""
        return (uuid, node, value) in self._gave

    def event(self, shadow: Shadow, row: JournalRow, event: e.Event) -> None:
        """What is durable: the checkpoints; whose reverts have begun, and ended."""
        if isinstance(event, e.Reverted):
            place = (self._origin(shadow), shadow.state.ids[event.row])
            if not self._undid[place]:
                raise Violation(f"task {shadow.id}: {place[1]} is recorded as reverted, and its revert has not ended")
            self._undid[place] -= 1
            self._forget(place)
        elif isinstance(event, e.ResumeAsked):
            for step, (word, _) in event.answers.items():
                if word == "skip" or (word == "done" and shadow.state.row_of(step) in shadow.state.undo_of):
                    self._forget((self._origin(shadow), step))
        elif isinstance(event, e.Checkpointed):
            self._checkpoints[shadow.uuid, shadow.state.ids[event.row]] = opened(event.value)
        elif type(event) is e.RevertStarted:
            self._reverting.add((self._origin(shadow), shadow.state.ids[event.row]))
        elif type(event) is e.ScopeReset:
            for inner in shadow.state.rows_of(shadow.state.scope[event.row]):
                self._entered.discard((shadow.uuid, shadow.state.ids[inner]))
        elif isinstance(event, e.Parked) and event.checkpoint is not None:
            self._checkpoints[shadow.uuid, shadow.state.ids[event.row]] = opened(event.checkpoint)

    def commit(self, commit: Commit) -> None:
        """Who says that nothing is left of a task must have undone all of it."""
        for task in commit.fresh:
            row = commit.after.get(task)
            if row is None or row.effect != "none" or row.state not in FINAL:
                continue
            shadow = self.world.shadows[task]
            if shadow.state.inverse and not shadow.state.turned:
                continue  # a rollback that has done nothing leaves what there was
            for node in sorted(self._effects.get(self._origin(shadow), ())):
                step = shadow.state.steps[shadow.state.row_of(node)]
                if step is not None and step.has_revert:
                    raise Violation(f"task {task} is {row.state} and nothing is left of it, but {node} was not undone")

    def _forget(self, place: Place) -> None:
        self._effects.get(place[0], set()).discard(place[1])

    # --- what calls tell ------------------------------------------------------------------------------------------

    def starts(self, entry: Entry, process: Process) -> None:
        """A runtime is given the call."""
        call = entry.call
        if call.what == "probe":
            return
        shadow = self.world.shadow_of(call.host.task_id)  # type: ignore[attr-defined]
        if call.isolation == "inline" and self.world.is_stale(entry):
            return  # the step of another task kept the thread between the append and this
        wanted = S_RUNNING if call.what == "execute" else S_REVERTING
        at = shadow.state.row_of(call.step_id)
        if at not in shadow.state.running or shadow.state.st[at] != wanted:
            raise Violation(f"task {shadow.id}: {call.what} of {call.step_id} is entered, and no journal says so")
        if self.world.rows[shadow.id].token != entry.token:
            raise Violation(f"task {shadow.id}: {call.step_id} is entered by {process.name}, whose token is stale")

    def begins(self, entry: Entry, process: Process) -> None:
        """User code is entered."""
        call = entry.call
        ctx = call.arguments.get("ctx")
        if ctx is None or call.what == "probe":
            return
        shadow = self.world.shadow_of(call.host.task_id)  # type: ignore[attr-defined]
        place = (self._origin(shadow), call.step_id)
        self.world.note(f"{process.name} enters {call.what} of {call.step_id}, task {shadow.id}")
        if self.world.is_stale(entry):
            return
        known = self._keys.get(place)
        if call.what == "revert":
            if place in self._entered and ctx.forward_key != known:
                raise Violation(f"{call.step_id}: its revert is given the key {ctx.forward_key}, and not {known}")
            return
        self._effects.setdefault(place[0], set()).add(place[1])
        self._check_key(call.step_id, place, ctx.idempotency_key)
        wanted = self._checkpoints.get(place)
        if ctx.last_checkpoint != wanted:
            raise Violation(f"{call.step_id} is handed the checkpoint {ctx.last_checkpoint!r}; it had left {wanted!r}")

    def _check_key(self, step_id: str, place: Place, key: str) -> None:
        known = self._keys.get(place)
        if place in self._reverting:
            if key == known:
                raise Violation(f"{step_id} is entered after its revert with its old key {key}")
            self._reverting.discard(place)
            self._checkpoints.pop(place, None)
        elif known is not None and key != known:
            raise Violation(f"{step_id} is entered again with the key {key}, and not {known}")
        self._keys[place] = key
        self._entered.add(place)

    def left(self, entry: Entry, value: int) -> None:
        """It was told that the checkpoint is durable."""
        place = (entry.call.host.task_id, entry.call.step_id)  # type: ignore[attr-defined]
        if self._checkpoints.get(place) != value and not self.world.is_stale(entry):
            raise Violation(f"{entry.call.step_id} was told that its checkpoint is stored, and it is not")

    def ends(self, entry: Entry) -> None:
        call = entry.call
        assert call.outcome is not None
        if call.what == "execute" and call.outcome[0] == "returned" and isinstance(call.outcome[1], int):
            self._gave.add((call.host.task_id, call.step_id, call.outcome[1]))  # type: ignore[attr-defined]
        elif call.what == "revert" and call.outcome[0] == "returned":
            shadow = self.world.shadow_of(call.host.task_id)  # type: ignore[attr-defined]
            self._undid[self._origin(shadow), call.step_id] += 1

    def _origin(self, shadow: Shadow) -> str:
        """The task whose steps these are: a rollback's are those of the task that it rolls back."""
        if shadow.rollback_of is None or shadow.rollback_of not in self.world.shadows:
            return shadow.uuid
        return self._origin(self.world.shadows[shadow.rollback_of])
