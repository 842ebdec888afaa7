"""The checkers: each looks at one thing that must never happen, after every commit.

`event` is asked before the event is folded into its task's shadow, `commit` when all of a commit is folded.
What user code sees is checked in testing/simulation/witness.py.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from holdfast.core import events as e
from holdfast.core.plan import STEP
from holdfast.core.progress import aftermath
from holdfast.core.states import (
    FINAL,
    S_INTERRUPTED,
    S_PENDING,
    S_REVERTED,
    S_REVERTING,
    S_SKIPPED,
    S_WAITING,
    STEP_STATES,
    SUSPENDED_PENDING,
    api_state,
    phase,
)
from holdfast.store.base import JournalRow
from holdfast.store.journal import KINDS
from holdfast.tasks.row import TaskRow
from holdfast.testing.simulation.shadow import Commit, Shadow, Violation, differences, fold_all, is_workers, new_state

if TYPE_CHECKING:
    from holdfast.testing.simulation.world import World

WOKE = KINDS[e.Woke].word
_SUSPENDED = api_state(SUSPENDED_PENDING)


class Checker:
    """One thing to be watched."""

    def __init__(self, world: World) -> None:
        self.world = world

    def event(self, shadow: Shadow, row: JournalRow, event: e.Event) -> None: ...

    def commit(self, commit: Commit) -> None: ...


class OneWriter(Checker):
    """G2: nothing of a worker is stored but under the token of the one that has the task; heartbeats included."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.owners: dict[tuple[int, str], str] = {}
        self.buried: dict[str, float] = {}

    def commit(self, commit: Commit) -> None:
        for task in commit.changed:
            before, after = commit.before.get(task), commit.after.get(task)
            if after is not None:
                self._check(commit, before, after)
        for worker, heartbeat_at, dead in commit.workers:
            known = self.buried.get(worker)
            if known is not None and (not dead or heartbeat_at != known):
                raise Violation(f"worker {worker[:8]} was marked dead and has spoken since")
            if dead:
                self.buried[worker] = heartbeat_at

    def _check(self, commit: Commit, before: TaskRow | None, after: TaskRow) -> None:
        old_epoch, old_token = (before.epoch, before.token) if before is not None else (0, None)
        if after.epoch < old_epoch:
            raise Violation(f"task {after.id}: its epoch fell from {old_epoch} to {after.epoch}")
        if after.token is not None and after.token != old_token:
            if after.epoch <= old_epoch:
                raise Violation(f"task {after.id} has a new token in its old epoch {after.epoch}")
            self.owners[after.id, after.token] = commit.by
        asked = self.world.asks(commit.by)  # who tells a task that waits first lets it go on
        rows = [row for row, _ in commit.fresh.get(after.id, ())]
        wrote = any(is_workers(row) and not (asked and row.kind == WOKE) for row in rows)
        wrote = wrote or (before is not None and after.progress_at != before.progress_at)
        owner = None if old_token is None else self.owners.get((after.id, old_token))
        if old_token is not None and after.token != old_token and commit.by != owner and not asked:
            alive = any(process.is_alive and process.name == owner for process in self.world.processes)
            self.world.happened["lost" if alive else "orphans"] += 1
        if wrote and owner != commit.by:
            raise Violation(f"task {after.id} is {owner or 'nobody'}'s, and {commit.by} has written to it")


_STEADY = (e.Started, e.Succeeded)


class Replay(Checker):
    """The journal is the truth: it replays to what the rows of `tasks` and `steps` say."""

    def commit(self, commit: Commit) -> None:
        for task in commit.changed:
            row = commit.after.get(task)
            if row is None:
                continue
            shadow = self.world.shadows[task]
            if row.seq != shadow.seq:
                raise Violation(f"task {task} says that its journal ends with {row.seq}; it ends with {shadow.seq}")
            self._compare(row, shadow)
            fresh = commit.fresh.get(task)
            last = fresh[-1][1] if fresh else None
            if isinstance(last, e.Rested) and last.reason in ("poison", "definition_changed") and not last.rows:
                if not self.world.may_rest_aside(shadow, last.reason, commit.by):
                    raise Violation(f"task {row.id} is set aside as {last.reason}: {row.error}")
            if fresh and (type(fresh[-1][1]) in (e.Ended, e.Rested) or row.state in FINAL):
                self._compare_all(row, shadow, commit.by)
            elif fresh and self.world.chance_to_look():
                self._read_again(shadow)
            if fresh and row.steps_seq < row.seq and all(type(event) in _STEADY for _, event in fresh):
                self._compare_steps(shadow)  # told by the journal's last rows alone

    def _compare(self, row: TaskRow, shadow: Shadow) -> None:
        state = shadow.state
        at_rest = row.state == _SUSPENDED
        self._same(shadow, "phase", phase(row.state, row.hold), state.phase)
        self._same(shadow, "reason", row.reason, state.reason if at_rest else None)
        names = json.loads(row.resting) if row.resting else []
        self._same(shadow, "resting", names, [state.ids[each] for each in state.resting] if at_rest else [])

    def _compare_all(self, row: TaskRow, shadow: Shadow, by: str) -> None:
        state = shadow.state
        if row.reason == "definition_changed":
            return  # who set it aside has no plan to show more of it by
        if not state.inverse and row.state not in FINAL:
            self._same(shadow, "goal", row.goal, state.goal)
            self._same(shadow, "past_pivot", row.past_pivot, bool(state.pivots))
            self._same(shadow, "completed", row.completed, state.completed)
            self._same(shadow, "total", row.total, state.total)
        self._read_again(shadow)
        if self._is_behind(shadow, by):
            return
        self._compare_steps(shadow)
        if row.state in FINAL:
            left = aftermath(state, row.state)
            # Who ends it over its worker's head, or lacks its plan, does not know that all there is to undo is undone.
            lacks_plan = self.world.may_rest_aside(shadow, "definition_changed", by)
            is_known = type(shadow.journal[-1][1]) is e.Ended and not lacks_plan
            if is_known or (left.effect != "none" and not self.world.newer):
                self._same(shadow, "aftermath", (row.effect, row.revert), tuple(left))

    def _compare_steps(self, shadow: Shadow) -> None:
        state = shadow.state
        for node, word in self.world.steps_of(shadow.id):
            true = STEP_STATES[state.st[state.row_of(node)]]
            self._same(shadow, f"state of {node}", word, true)

    def _is_behind(self, shadow: Shadow, by: str) -> bool:
        """Whether who ended the task, by a verb or without its plan, could not show what an event changed."""
        for row, event in reversed(shadow.journal):
            if isinstance(event, (e.ResumeAsked, e.Turned, e.ScopeTurned, e.ScopeReset)):
                lacks_plan = self.world.may_rest_aside(shadow, "definition_changed", by)
                return lacks_plan or type(shadow.journal[-1][1]) is not e.Ended
            if type(event) is e.Ended and event.state == "ABORTED":
                continue
            if is_workers(row) and not (type(event) is e.Rested and event.reason == "definition_changed"):
                return False
        return False

    def _read_again(self, shadow: Shadow) -> None:
        rows = self.world.journal_of(shadow.id)
        state = new_state(shadow, self.world.settings.deaths_max)
        fold_all(state, rows)
        if found := differences(state, shadow.state):
            raise Violation(f"the journal of task {shadow.id} no longer replays to what was recorded: {found}")

    def _same(self, shadow: Shadow, what: str, shown: Any, true: Any) -> None:
        if shown != true:
            raise Violation(f"task {shadow.id}: the {what} is shown as {shown!r}, and is {true!r} by its journal")


class Once(Checker):
    """G3: an entry into a step has one outcome, and nothing that has succeeded is entered again."""

    _OUTCOMES = (e.Succeeded, e.Parked, e.Stopped, e.Interrupted, e.Died, e.Withdrawn, e.Reverted, e.RevertFailed)

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.recorded: set[tuple[int, str, int]] = set()

    def event(self, shadow: Shadow, row: JournalRow, event: e.Event) -> None:
        state = shadow.state
        if isinstance(event, (e.Started, e.Reentered, e.RevertStarted)):
            node = state.ids[event.row]
            if event.row in state.running:
                raise Violation(f"task {shadow.id}: {node} is begun while it runs")
            at = state.st[event.row]
            if type(event) is e.RevertStarted:
                wrong = at in (S_REVERTED, S_SKIPPED)
            elif at == S_REVERTING:
                wrong = event.row not in state.parked
            else:
                wrong = at not in (S_PENDING, S_WAITING, S_INTERRUPTED)
            if wrong:
                raise Violation(f"task {shadow.id}: {node} is begun again though it is {STEP_STATES[at]}")
        elif isinstance(event, self._OUTCOMES):
            node = state.ids[event.row]
            if event.row not in state.running:
                raise Violation(f"task {shadow.id}: an outcome of {node} is recorded twice ({row.kind})")
            if type(event) is e.Succeeded and not getattr(state.steps[event.row], "makes_child", False):
                value = event.result.value
                if not self.world.witness.returned(shadow.uuid, node, value):
                    raise Violation(f"task {shadow.id}: {node} is recorded to have given {value!r}, which it never did")
                key = (shadow.id, node, value)
                if key in self.recorded:
                    raise Violation(f"task {shadow.id}: the outcome {value!r} of {node} is recorded twice")
                self.recorded.add(key)


class UndoOrder(Checker):
    """G4: a revert begins when everything recorded that depends on the step is undone; among those that may, what
    began last is first."""

    def event(self, shadow: Shadow, row: JournalRow, event: e.Event) -> None:
        if type(event) is not e.RevertStarted:
            return
        state = shadow.state
        mark = state.undo_of.get(event.row)
        if mark is None:
            raise Violation(f"task {shadow.id}: {state.ids[event.row]} is reverted though no undo asks for it")
        left = {each for each, of in state.undo_of.items() if of == mark and self._is_to_undo(shadow, each)}
        for other in sorted(_dependents(state, event.row) & left):
            raise Violation(
                f"task {shadow.id}: {state.ids[event.row]} is undone before {state.ids[other]}, which depends on it"
            )
        if event.attempt > 1 or event.row in shadow.answered:
            return
        mine = state.began[event.row]
        for other in sorted(left):
            if self._kind_of(state, other) != self._kind_of(state, event.row):
                continue  # it may lack a free process where this one has a thread
            if state.began[other] > mine and self._may_go(state, other, left):
                raise Violation(
                    f"task {shadow.id}: {state.ids[event.row]} is undone before {state.ids[other]}, which began later"
                )

    def _kind_of(self, state: Any, row: int) -> str:
        return str(state.steps[row].revert_isolation) if row not in state.suspects else "alone"

    def _is_to_undo(self, shadow: Shadow, row: int) -> bool:
        state = shadow.state
        step = state.steps[row]
        if state.kind[row] != STEP or step is None or not step.has_revert or not state.began[row]:
            return False
        return state.st[row] not in (S_REVERTED, S_SKIPPED) and shadow.answered.get(row) not in ("done", "skip")

    def _may_go(self, state: Any, row: int, left: set[int]) -> bool:
        """Whether nothing has kept its revert from beginning: it was not even tried yet."""
        untried = state.revert_tries.get(row, 0) == 0 and row not in state.revert_errors and row not in state.doubts
        return untried and row not in state.running and not (_dependents(state, row) & left)


def _dependents(state: Any, row: int) -> set[int]:
    found: set[int] = set()
    stack = [row]
    while stack:
        for target in state.succ[stack.pop()]:
            if target not in found:
                found.add(target)
                stack.append(target)
    return found


class Queues(Checker):
    """G5: conflicting claims are never granted together; they are granted in order; nobody waits who need not; and
    nothing begins without them."""

    _BEGINS = (e.Began, e.Started, e.Reentered, e.RevertStarted)

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.granted: set[tuple[str, int]] = set()
        self.drawn: set[tuple[str, int]] = set()

    def commit(self, commit: Commit) -> None:
        if not commit.changed:
            return
        tickets = commit.tickets
        granted = {(each.resource, each.ticket) for each in tickets if each.granted}
        by_resource: dict[str, list[Any]] = {}
        for each in tickets:
            by_resource.setdefault(each.resource, []).append(each)
        for resource, line in by_resource.items():
            self._apart(resource, line)
            for each in line:
                if each.granted and (resource, each.ticket) not in self.granted:
                    self._in_turn(commit, each, line)
        self._nobody_is_forgotten(commit, by_resource)
        for task, fresh in commit.fresh.items():
            if any(isinstance(event, self._BEGINS) for _, event in fresh):
                self._holds_all(task, tickets)
        self.granted = granted
        self.drawn = {(each.resource, each.ticket) for each in tickets}

    def _apart(self, resource: str, line: list[Any]) -> None:
        held = [each for each in line if each.granted]
        if len(held) > 1 and any(each.mode == "exclusive" for each in held):
            raise Violation(f"{resource} is granted to tasks {[each.task for each in held]} at once")

    def _in_turn(self, commit: Commit, mine: Any, line: list[Any]) -> None:
        for other in line:
            if other.ticket > mine.ticket and (other.resource, other.ticket) not in self.drawn:
                continue  # it came later in the same commit
            if self._is_before(commit, other, mine):
                raise Violation(f"{mine.resource}: task {mine.task} was granted before task {other.task}, who is first")

    def _is_before(self, commit: Commit, other: Any, mine: Any) -> bool:
        """Whether the other waits, ahead, for what can't be shared."""
        if other.granted or other.task == mine.task or "exclusive" not in (other.mode, mine.mode):
            return False
        if (bool(other.yielding), other.ticket) > (bool(mine.yielding), mine.ticket):
            return False
        return commit.after[other.task].state != _SUSPENDED

    def _nobody_is_forgotten(self, commit: Commit, by_resource: dict[str, list[Any]]) -> None:
        waiting: dict[int, list[Any]] = {}
        for line in by_resource.values():
            for each in line:
                if not each.granted:
                    waiting.setdefault(each.task, []).append(each)
        for task, mine in waiting.items():
            if commit.after[task].state == _SUSPENDED or commit.after[task].ready:
                continue  # nothing moves it; or it is on its way to where it needs none
            if not any(
                (other.granted and other.task != task and "exclusive" in (other.mode, each.mode))
                or self._is_before(commit, other, each)
                for each in mine
                for other in by_resource[each.resource]
            ):
                raise Violation(f"task {task} waits for {[each.resource for each in mine]}, which nobody holds up")

    def _holds_all(self, task: int, tickets: list[Any]) -> None:
        held = {each.resource for each in tickets if each.granted and each.task == task}
        lacking = [claim.resource for claim in self.world.shadows[task].claims if claim.resource not in held]
        row = self.world.rows.get(task)
        if lacking and row is not None and row.state not in FINAL:
            raise Violation(f"task {task} has begun something without its claims on {lacking}")


class Finality(Checker):
    """G7: a final state never changes; what has ended is left alone until it is purged, and nothing of it runs."""

    def commit(self, commit: Commit) -> None:
        for task in commit.changed:
            before, after = commit.before.get(task), commit.after.get(task)
            if before is None:
                continue
            if after is None:
                if before.expires_at is None or before.expires_at - self.world.early_s > commit.at:
                    raise Violation(f"task {task} is gone before its time")
            elif before.state in FINAL and before._replace(child_key=after.child_key) != after:
                raise Violation(f"task {task} was {before.state} and has changed since: it is {after.state}")
            elif after.state in FINAL:
                self._nothing_runs(commit, before, after)

    def _nothing_runs(self, commit: Commit, before: TaskRow, after: TaskRow) -> None:
        fresh = commit.fresh.get(after.id, ())
        if not fresh or type(fresh[-1][1]) is not e.Ended:
            return
        for process in self.world.processes:
            for entry in process.code.entries if process.is_alive else ():
                call = entry.call
                if call.host.task_id != after.uuid or entry.token != before.token:  # type: ignore[attr-defined]
                    continue
                looks = call.what == "probe"  # who turns back does not wait for what it sees
                if call.began and not (entry.abandoned or looks) and call.outcome is None:
                    raise Violation(f"task {after.id} is {after.state} while {call.what} of {call.step_id} still runs")


class Acknowledged(Checker):
    """G1: what was acknowledged is there, and stays."""

    def commit(self, commit: Commit) -> None:
        for uuid, task in self.world.client.submitted.items():
            row = commit.after.get(task)
            if row is None and task not in self.world.purged:
                raise Violation(f"task {task} was accepted, and is lost")
            if row is not None and row.uuid != uuid:
                raise Violation(f"task {task} was {uuid}, and is {row.uuid}")
        for task in commit.changed:
            self.check(task)

    def check(self, task: int) -> None:
        said, maybe = self.world.client.said.get(task), self.world.client.maybe.get(task, Counter())
        shadow = self.world.shadows.get(task)
        if said is None or shadow is None:
            return
        for kind, count in said.items():
            found = shadow.verbs[kind]
            if not count <= found <= (count + maybe[kind] if not shadow.family else found):
                raise Violation(f"task {task}: {count} times {kind} was accepted, and {found} are in its journal")


CHECKERS: tuple[type[Checker], ...] = (OneWriter, Finality, Replay, Once, UndoOrder, Queues, Acknowledged)
