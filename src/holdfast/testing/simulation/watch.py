"""The watch: reads the database after every commit, behind everybody's back, and tells the checkers what is new."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Any

from holdfast.core import events as e
from holdfast.flow.outline import digest
from holdfast.store.base import JournalRow, StepRow
from holdfast.store.schema import tasks, tickets
from holdfast.store.sqlite import hot_statements
from holdfast.store.statements import row_type
from holdfast.store.transaction import Transaction
from holdfast.tasks import examine, steps
from holdfast.tasks.row import TaskRow
from holdfast.testing.simulation.disk import Line
from holdfast.testing.simulation.shadow import Commit, Shadow, Violation, is_workers

if TYPE_CHECKING:
    from holdfast.testing.simulation.world import World

_TICKET = row_type(tuple(tickets.c.keys()))._make
_TASKS = f"SELECT {', '.join(tasks.c.keys())} FROM tasks ORDER BY id"
_TICKETS = f"SELECT {', '.join(tickets.c.keys())} FROM tickets ORDER BY resource, ticket"
_JOURNAL = "SELECT seq, kind, node, data, at FROM journal WHERE task = ? AND seq > ? ORDER BY seq"
_FEED = "SELECT id, type, task, data FROM feed WHERE id > ? ORDER BY id"
_NEWEST = "SELECT max(id) FROM feed"
_WORKERS = "SELECT id, heartbeat_at, dead FROM workers"


class Watch:
    """`rows`: the tasks as last committed. `purged`: the ids of those that are gone in good time."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.rows: dict[int, TaskRow] = {}
        self.raw: dict[int, tuple[object, ...]] = {}
        self.shadows: dict[int, Shadow] = {}
        self.by_uuid: dict[str, Shadow] = {}
        self.purged: set[int] = set()
        self._cursor = world.disk.cursor()

    def committed(self, line: Line) -> None:
        """Called by the disk after each COMMIT."""
        try:
            self._look(line)
        except Exception as error:  # what the journal says can't be folded
            at = traceback.extract_tb(error.__traceback__)[-1]
            raise Violation(f"{type(error).__name__}: {error} ({at.name} in {at.filename}:{at.lineno})") from error

    def _look(self, line: Line) -> None:
        world, before = self.world, self.rows
        raw = {row[0]: row for row in self._cursor.execute(_TASKS).fetchall()}
        changed = [task for task, row in raw.items() if self.raw.get(task) != row]
        gone = [task for task in before if task not in raw]
        after = dict(before)
        for task in changed:
            after[task] = TaskRow._make(raw[task])
        for task in gone:
            del after[task]
        self.rows, self.raw = after, raw
        world.happened["commits"] += 1
        fresh = {task: found for task in changed if (found := self._read(after[task], line.name))}
        if changed or gone:
            self._note(line, before, after, changed, fresh)
        rows = [_TICKET(row) for row in self._cursor.execute(_TICKETS).fetchall()] if changed or gone else []
        workers = self._cursor.execute(_WORKERS).fetchall()
        self.purged.update(gone)
        world.seen(Commit(line.name, world.now(), before, after, changed + gone, fresh, rows, workers))

    def look_anew(self) -> None:
        """After a power cut that lost something."""
        line = Line(self.world.disk, "nobody")
        self._cursor = self.world.disk.cursor()
        self.committed(line)

    def journal(self, task: int, after: int) -> list[JournalRow]:
        return [JournalRow._make(row) for row in self._cursor.execute(_JOURNAL, (task, after)).fetchall()]

    def feed(self, after: int) -> list[tuple[int, str, int, str]]:
        """What was told since: id, type, task, data."""
        return self._cursor.execute(_FEED, (after,)).fetchall()

    def feed_newest(self) -> int:
        return self._cursor.execute(_NEWEST).fetchone()[0] or 0

    def execute(self, sql: str, values: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
        """What there is, behind everybody's back."""
        return self._cursor.execute(sql, values).fetchall()

    def steps(self, task: int) -> list[StepRow]:
        """As anybody is shown them."""
        return steps.of(Transaction(self._cursor, hot_statements()), task)

    def faults(self) -> list[str]:
        """What `holdfast doctor` would say is wrong with it."""
        tx = Transaction(self._cursor, hot_statements())
        return [f"{name}: {what}" for name, what in examine.faults(tx, self.world.now())]

    def _read(self, row: TaskRow, by: str) -> list[tuple[JournalRow, e.Event]]:
        shadow = self.shadows.get(row.id)
        if shadow is None:
            shadow = self._meet(row)
        if row.rollback_of is None and row.digest != digest(shadow.plan):
            self.world.happened["replanned"] += 1
            shadow.replan(self.world.plans[row.digest or ""], self.world.settings.deaths_max)
        if row.seq == shadow.seq:
            return []
        place = len(shadow.journal)
        rows = self.journal(row.id, shadow.seq)
        by_its = self.world.plan_by(by, row.flow)
        mine = [each for each in rows if is_workers(each)]
        if by_its is not None and by_its is not shadow.plan and mine:
            says_the_same = digest(by_its) == digest(shadow.plan)  # what it can undo, or how, may differ all the same
            if not says_the_same and row.rollback_of is None and any(each.node for each in mine):
                raise Violation(f"{by} drives task {row.id} by another plan than its row says")
            if says_the_same or any(each.node for each in mine):
                shadow.replan(by_its, self.world.settings.deaths_max)
        for each in rows:
            self.world.see(shadow, each)
        return shadow.journal[place:]

    def _meet(self, row: TaskRow) -> Shadow:
        inputs, claims = self._cursor.execute("SELECT inputs, claims FROM inputs WHERE task = ?", (row.id,)).fetchone()
        before: list[Shadow] = []
        if row.rollback_of is not None:
            before = [self.shadows[row.rollback_of]]
            before += [each for each in self.shadows.values() if each.rollback_of == row.rollback_of]
        plan = before[0].plan if before else self.world.plans[row.digest or ""]
        shadow = Shadow(row, plan, inputs, claims)
        shadow.begin(before, self.world.settings.deaths_max)
        self.shadows[row.id] = self.by_uuid[row.uuid] = shadow
        return shadow

    def _note(
        self,
        line: Line,
        before: dict[int, TaskRow],
        after: dict[int, TaskRow],
        changed: list[int],
        fresh: dict[int, list[tuple[JournalRow, e.Event]]],
    ) -> None:
        told = []
        for task in changed:
            words = " ".join(f"{row.kind}{f'({row.node})' if row.node else ''}" for row, _ in fresh.get(task, ()))
            was = before[task].state if task in before else "new"
            moved = f" {was} -> {after[task].state}" if was != after[task].state else ""
            told.append(f"task {task}{moved}{': ' if words else ''}{words}")
        self.world.note(f"{line.name} commits {'; '.join(told)}")
