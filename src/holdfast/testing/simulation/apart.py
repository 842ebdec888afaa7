"""The checkers of many machines: what no two of them may do at once, or both do.

What is looked at in every world: testing/simulation/checks.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

from holdfast.tasks import take
from holdfast.tasks.claims import EXCLUSIVE
from holdfast.testing.simulation.checks import Checker
from holdfast.testing.simulation.shadow import Commit, Shadow, Violation

if TYPE_CHECKING:
    from holdfast.tasks.row import TaskRow
    from holdfast.testing.simulation.cluster import Cluster, Member
    from holdfast.testing.simulation.code import Entry

THAW_S = 1.0  # how long one that was frozen may take to see that its lease is over, and its steps to stop
_POOLS = "SELECT name, running_max, paused_at, draining_at FROM pools"
_WORKERS = "SELECT id, pool, dead, draining_at FROM workers"
_FIRED = "SELECT moment FROM firings WHERE schedule = ? ORDER BY moment"
_CATCHES_ALL = "SELECT id FROM schedules WHERE catch_up = 'all' AND cron = '* * * * *'"


class Apart(Checker):
    """What user code sees: nothing goes on of a task, or of one that can't be beside it, when another worker begins it;
    fencing tokens grow from worker to worker; of a pool no more goes on than may. Of a step that heeds no request to
    stop nothing is promised, nor of a worker that was frozen, before it has seen what the time is."""

    world: Cluster

    def __init__(self, world: Cluster) -> None:
        super().__init__(world)
        self._fences: dict[int, tuple[int, str]] = {}

    def begins(self, entry: Entry, process: Member) -> None:
        """User code is entered."""
        call = entry.call
        if call.what == "probe" or self.world.is_stale(entry):
            return
        mine = self._shadow(entry)
        self._fence(mine, entry, process)
        running = {mine.id}
        for other, by in self._running():
            theirs = self._shadow(other)
            running.add(theirs.id)
            if other is entry or (theirs is mine and other.token == entry.token):
                continue
            what = f"{other.call.what} of {other.call.step_id}, task {theirs.id}, goes on at {by.name}"
            if theirs is mine:
                raise Violation(f"{call.what} of {call.step_id}, task {mine.id}, begins while {what}")
            shared = [] if self._root(mine) == self._root(theirs) else _conflicts(mine, theirs)
            if shared:
                raise Violation(f"{call.what} of {call.step_id}, task {mine.id}, begins while {what}: {shared}")
        self._capped(self.world.rows[mine.id].pool, running)

    def _capped(self, pool: str, running: set[int]) -> None:
        most = self.world.caps.get(pool)
        of_it = [task for task in running if task in self.world.rows and self.world.rows[task].pool == pool]
        if most is not None and len(of_it) > most and not self.world.caps_move:
            raise Violation(f"steps of tasks {of_it} of the pool {pool} go on at once, and {most} may")

    def _fence(self, shadow: Shadow, entry: Entry, process: Member) -> None:
        ctx = entry.call.arguments.get("ctx")
        if ctx is None:
            return
        newest, by = self._fences.get(shadow.id, (0, ""))
        if ctx.fence < newest or (ctx.fence == newest and by != entry.token):
            raise Violation(f"task {shadow.id}: {process.name} has the fencing token {ctx.fence}, behind {newest}")
        self._fences[shadow.id] = ctx.fence, entry.token

    def _running(self) -> Iterator[tuple[Entry, Member]]:
        """What goes on and would have stopped by now, had it been told to in time."""
        now = self.world.now()
        for process in self.world.processes:
            slow = process.frozen_until > now or process.thawed_at + THAW_S > now
            for entry in process.code.entries if process.is_alive else ():
                call = entry.call
                if not call.began or call.outcome is not None or entry.abandoned or call.what == "probe":
                    continue
                if entry.waiting or (entry.will[0] == "stopped" and entry.due <= now):
                    continue  # for its checkpoint to be stored, or to be seen to have ended: it does nothing
                if self._shadow(entry).verbs["force_failed"]:
                    continue  # what it still does nobody knows: an administrator has said so
                ends_itself = call.isolation == "process"
                if ends_itself or not (slow or (entry.deaf and not call.runtime.killable)):
                    yield entry, process

    def _shadow(self, entry: Entry) -> Shadow:
        return self.world.shadow_of(entry.call.host.task_id)  # type: ignore[attr-defined]

    def _root(self, shadow: Shadow) -> int:
        row = self.world.rows.get(shadow.id)
        return shadow.id if row is None else row.root


def _conflicts(one: Shadow, other: Shadow) -> list[str]:
    wanted = {claim.resource: claim.mode for claim in one.claims}
    return [
        claim.resource for claim in other.claims if EXCLUSIVE in (claim.mode, wanted.get(claim.resource, claim.mode))
        and claim.resource in wanted
    ]  # fmt: skip


class Taking(Checker):
    """NOVA-17: nothing is taken beyond a pool's limit, from a pool that is closed, or by a worker that drains, is dead
    or serves another pool."""

    def commit(self, commit: Commit) -> None:
        found = [task for task in commit.changed if _is_taken(commit.before.get(task), commit.after.get(task))]
        if not found:
            return
        execute = self.world.watch.execute
        pools = {row[0]: row[1:] for row in execute(_POOLS)}
        workers = {row[0]: row[1:] for row in execute(_WORKERS)}
        for task in found:
            row = commit.after[task]
            most, *closed = pools[row.pool]
            held = sum(each.worker_id is not None and each.pool == row.pool for each in commit.after.values())
            pool, dead, draining = workers[row.worker_id or ""]
            if most is not None and held > most:
                raise Violation(f"task {task} is taken, the {held}th of the pool {row.pool}, whose limit is {most}")
            if closed != [None, None] or dead or draining is not None or pool != row.pool:
                raise Violation(f"task {task} of the pool {row.pool} is taken: {closed}, {dead}, {draining}, {pool}")


def _is_taken(before: TaskRow | None, after: TaskRow | None) -> bool:
    if after is None or after.worker_id is None:
        return False
    return before is None or before.worker_id is None


class OneTask(Checker):
    """TAG-14, TF-15: a tag names one task as long as it is remembered; a schedule's moment has one."""

    world: Cluster

    def __init__(self, world: Cluster) -> None:
        super().__init__(world)
        self._named: dict[str, int] = {}
        self._fired: dict[str, int] = {}

    def commit(self, commit: Commit) -> None:
        for task in commit.changed:
            row = commit.after.get(task)
            if row is None or task in commit.before:
                continue
            if row.tag is not None and row.retry_of is None:
                self._first(self._named, row.tag, task)
            if row.origin == take.SCHEDULE and {row.retry_of, row.rollback_of, row.parent_id} == {None}:
                self.world.happened["fired"] += 1
                self._first(self._fired, row.request_id, task)
            self.world.happened["children"] += row.parent_id is not None

    def _first(self, known: dict[str, int], what: str, task: int) -> None:
        other = known.setdefault(what, task)
        if other != task and other not in self.world.purged:
            raise Violation(f"{what} is task {other}, and now task {task} too")

    def finish(self) -> None:
        """Of a schedule that catches up with all its moments none is left out."""
        for (id,) in self.world.watch.execute(_CATCHES_ALL):
            moments = [row[0] for row in self.world.watch.execute(_FIRED, (id,))]
            gaps = [at for at, then in pairwise(moments) if then - at != 60.0]
            if gaps and id not in self.world.rested:
                raise Violation(f"the schedule {id} has left out what comes behind {gaps}")
