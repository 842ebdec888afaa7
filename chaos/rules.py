"""What must be true of a history, one rule for each guarantee. Each yields what breaks it, with the lines that show it.

Theory: as in Jepsen's checkers, only what somebody saw counts, and what nobody knows (a lost reply) may have been
either way. What was asked for after another was acknowledged comes after it; two that overlapped may have any order.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from itertools import zip_longest
from typing import Final

from chaos.history import FINAL, NEVER, Broken, Entry, History, Task
from chaos.witness import Line


def durable(history: History) -> Iterator[Broken]:
    """What was acknowledged is there, and has ended (G1, TF-12)."""
    for task in history.tasks.values():
        if task.final is None:
            yield Broken("durable", f"{task.uuid} was acknowledged and is gone", task.accepted or task.began)
        elif task.state not in FINAL:
            yield Broken("durable", f"{task.uuid} is {task.state} and never ended", task.accepted, task.final)


def once(history: History) -> Iterator[Broken]:
    """One tag is one task, and nobody's tag is none (TAG-14)."""
    named: dict[str, set[str]] = defaultdict(set)
    for tag, replies in history.accepted.items():
        named[tag].update(line.more["task"] for line in replies)
    for task in history.tasks.values():
        if task.final is None:
            continue
        own = task.final.more.get("tag")
        if own is not None:
            named[own].add(task.uuid)
            if own not in history.asked:
                yield Broken("once", f"{task.uuid} has the tag {own}, which nobody gave", task.final)
        elif not (task.final.more.get("retry_of") or task.final.more.get("rollback_of")):
            yield Broken("once", f"{task.uuid} was asked for by nobody", task.final)
    for tag, uuids in named.items():
        if len(uuids) > 1:
            shown = [history.tasks[uuid].accepted or history.tasks[uuid].final for uuid in sorted(uuids)]
            yield Broken("once", f"{tag} is {len(uuids)} tasks", *shown)


def order(history: History) -> Iterator[Broken]:
    """Of two tasks that can't run at once the one comes first that was acknowledged before the other was asked for
    (NEUTRON-7). One that was held before it had begun is passed over."""
    begun = [task for task in history.tasks.values() if task.began and task.asked]
    begun.sort(key=lambda task: task.began.place if task.began else 0)
    newest: dict[tuple[str, str], Task] = {}  # of those that have begun, by resource and mode: who was asked for last
    for late in begun:
        odds = [newest.get((name, mode)) for name, held in late.claims.items() for mode in _against(held)]
        for early in filter(None, odds):
            assert early.asked is not None
            if late.accepted is not None and late.accepted.place < early.asked.place and not _held_before(late):
                said = f"{late.uuid} was there first and began after {early.uuid}"
                yield Broken("order", said, late.accepted, early.asked, early.began, late.began)
        for each in late.claims.items():
            newest[each] = max(newest.get(each, late), late, key=lambda task: task.asked.place if task.asked else 0)


def _against(mode: str) -> tuple[str, ...]:
    return ("exclusive", "shared") if mode == "exclusive" else ("exclusive",)


def _held_before(task: Task) -> bool:
    begun = task.began.place if task.began is not None else NEVER
    return any(line.more["verb"] == "suspend" and line.place < begun for line in task.verbs)


def exclusion(history: History) -> Iterator[Broken]:
    """No two that can't be at once are, and no task is done twice at once (NEUTRON-8, G5): the first is seen to go on
    after the second has begun."""
    still: dict[str, Entry] = {}
    for line in history.lines:
        for gone in [entry for entry in still.values() if entry.over <= line.place]:
            del still[gone.id]
        if line.what != "begin":
            continue
        new = history.entries[line.more["entry"]]
        for entry in still.values():
            if line.place >= min(entry.stale_from, new.stale_from) or entry.last < line.place:
                continue
            if entry.task == new.task:
                yield Broken("exclusion", f"{new} while {entry} goes on", entry.begin, line, entry.ended)
            elif (name := entry.conflicts(new)) is not None:
                said = f"{name} is used by {new} while it is by {entry}"
                yield Broken("exclusion", said, entry.begin, line, entry.ended)
        still[new.id] = new


def recorded(history: History) -> Iterator[Broken]:
    """The outcome of a step is recorded once, is that of an entry which returned it, is what later steps are given,
    and is never found out anew (G3)."""
    for uuid, story in history.stories().items():
        by_id = {entry.id: entry for entry in story}
        told: dict[int, set[str]] = defaultdict(set)
        for entry in story:
            if entry.way == "do" and entry.step > 1 and entry.given is not None:
                told[entry.step - 1].add(entry.given)
        rows = Counter[int]()
        for line in history.task(uuid).recorded:
            rows[line.more["step"]] += 1
            told[line.more["step"]].add(line.more["value"])
        for step, values in told.items():
            if len(values) > 1 or rows[step] > 1:
                said = f"step {step} of {uuid} has {len(values)} outcomes in {rows[step]} records: {sorted(values)}"
                yield Broken("recorded", said, *[each.begin for each in story if each.step in (step, step + 1)])
                continue
            (value,) = values
            if value not in by_id or by_id[value].step != step or not by_id[value].returned:
                yield Broken("recorded", f"step {step} of {uuid} gave {value}, which no entry of it returned")
                continue
            for entry in story:
                again = entry.way == "do" and entry.step == step and entry.begin.place > by_id[value].over
                if again and entry.stale_from == NEVER:
                    yield Broken("recorded", f"{entry} although it was done", by_id[value].begin, entry.begin)


def sequence(history: History) -> Iterator[Broken]:
    """Each step begins when the one before has returned; undoing goes the way back, and nothing is done in it (G4)."""
    for story in history.stories().values():
        furthest, back, last = 0, NEVER, None
        returned: dict[int, int] = {}
        for entry in story:
            if entry.way == "do" and entry.returned:
                returned[entry.step] = min(entry.over, returned.get(entry.step, NEVER))
        for entry in story:
            if entry.way == "undo":
                legal = entry.step <= min(furthest + 1, back) and (back == NEVER or entry.step >= back - 1)
            else:
                legal = back == NEVER and entry.step in (furthest, furthest + 1)
                legal = legal and (entry.step == 1 or returned.get(entry.step - 1, NEVER) < entry.begin.place)
            if legal:
                furthest, back = (furthest, entry.step) if entry.way == "undo" else (entry.step, back)
                last = entry.begin
            elif entry.stale_from == NEVER:  # else its process decided on it before it froze
                yield Broken("sequence", f"{entry} is not its turn", last, entry.begin)


def complete(history: History) -> Iterator[Broken]:
    """What a task says in the end is what was done (G7)."""
    for uuid, story in history.stories().items():
        task = history.tasks[uuid]
        if task.final is None:
            continue
        did = {entry.step for entry in story if entry.way == "do" and entry.stale_from == NEVER}
        done = {entry.step for entry in story if entry.way == "do" and entry.returned}
        own = [entry for entry in task.entries if entry.way == "undo"]
        undone = {entry.step for entry in own if entry.returned}
        if task.state == "SUCCEEDED" and not task.final.more.get("rollback_of"):
            steps = task.final.more["steps"]
            if missing := set(range(1, steps + 1)) - done:
                yield Broken("complete", f"{uuid} SUCCEEDED without steps {sorted(missing)}", task.final)
            if own:
                yield Broken("complete", f"{uuid} SUCCEEDED and was undone", own[0].begin, task.final)
        undoable = {step for step in did if step <= task.final.more["undoable"]}
        if task.final.more["revert"] == "done" and (left := undoable - undone):
            yield Broken("complete", f"{uuid} is {task.state}, undone, without steps {sorted(left)}", task.final)


def ended(history: History) -> Iterator[Broken]:
    """An end that was seen stays, and nothing begins after it (G7)."""
    for task in history.tasks.values():
        end = next((line for line in task.saw if line.more["state"] in FINAL), None)
        if end is None:
            continue
        after = [*task.saw, *([] if task.final is None else [task.final])]
        for line in after:
            if line.place > end.place and line.more["state"] != end.more["state"]:
                yield Broken("ended", f"{task.uuid} had ended and is {line.more['state']}", end, line)
        for entry in task.entries:
            if entry.begin.place > end.place and entry.stale_from == NEVER:
                yield Broken("ended", f"{entry} after its end", end, entry.begin)


def fencing(history: History) -> Iterator[Broken]:
    """A device that checks tokens takes no write of an older one after a newer one of the same task, and none is
    refused to whoever does the task (G2, P10). A token is one worker's; of the agents that work for it one may have it
    when another has ended."""
    newest: dict[tuple[str, str], tuple[int, Entry]] = {}
    doing: dict[str, Entry] = {}
    for line in history.lines:
        if line.what == "begin":
            doing[line.more["task"]] = history.entries[line.more["entry"]]
        elif line.what == "write":
            token, entry = line.more["token"], history.entries[line.more["entry"]]
            name, key = line.more["resource"], (line.more["resource"], entry.task)
            before, by = newest.get(key, (0, entry))
            if token < before or token == 0:
                yield Broken("fencing", f"{entry} wrote to {name} with {token}, after {before}", by.begin, line)
            elif token == before and by.who != entry.who and not (by.pool and entry.pool and by.over < line.place):
                yield Broken("fencing", f"{entry} and {by} wrote to {name}, both with {token}", by.begin, line)
            newest[key] = max(before, token), entry
        elif line.what == "refused":
            entry = history.entries[line.more["entry"]]
            if doing.get(entry.task) is entry and entry.stale_from == NEVER:
                yield Broken("fencing", f"{entry} goes on with its task and was refused", entry.begin, line)


def capped(history: History) -> Iterator[Broken]:
    """Of a pool no more runs at once than may (NOVA-17): of its tasks at workers, of what its agents are leased."""
    caps = {line.more["pool"]: line.more["running_max"] for line in history.of("capped")}
    for pool, most in caps.items():
        events: list[tuple[int, int, Entry]] = []
        for entry in history.entries.values():
            until = min(entry.last, entry.stale_from)
            if (entry.pool or history.task(entry.task).pool) == pool and until > entry.begin.place:
                events += [(entry.begin.place, 1, entry), (until, -1, entry)]
        running = Counter[str]()
        for _, change, entry in sorted(events, key=lambda each: each[:2]):
            running[entry.task] += change
            if running[entry.task] == 0:
                del running[entry.task]
            if change > 0 and len(running) > most:
                yield Broken("capped", f"{len(running)} tasks of {pool} run at once, {most} may", entry.begin)


def usable(history: History) -> Iterator[Broken]:
    """In the end every resource can be used, nobody finds a thing that needs an edit of the database, and no process
    ended by itself without a reason (P1, P2, TF-12)."""
    for line in history.of("unusable"):
        yield Broken("usable", f"{line.more['resource']} can't be used", line)
    for line in history.of("wrong"):
        yield Broken("usable", "the doctor found something", line)
    for line in history.of("left"):
        if not line.more["excused"]:
            yield Broken("usable", f"{line.more['member']} ended by itself", line)


def told(history: History) -> Iterator[Broken]:
    """Who follows what happens hears all of it, once and in order, whichever service tells it; of each task that is one
    story from its beginning to its end (TF-7)."""
    kept = list(history.of("kept"))
    for line, (heard, known) in _compared(list(history.of("told")), kept):
        yield Broken("told", f"what was told was {heard} where {known} is kept", line)
    last: dict[str, Line] = {}
    for line in kept:
        before = last.get(line.more["task"])
        if line.more["before"] != (None if before is None else before.more["state"]):
            yield Broken("told", f"{line.more['task']} goes on from what it was not", before, line)
        last[line.more["task"]] = line
    for uuid, line in last.items():
        task = history.task(uuid)
        if task.final is not None and task.state != line.more["state"]:
            yield Broken("told", f"{uuid} is {task.state}, and that was never told", line, task.final)


def _compared(heard: list[Line], kept: list[Line]) -> Iterator[tuple[Line, tuple[object, object]]]:
    """The first place where the two differ, if there is one."""
    for one, other in zip_longest(heard, kept):
        ids = (one and one.more["id"], other and other.more["id"])
        if ids[0] != ids[1]:
            yield one or other, ids
            return


Rule = Callable[[History], Iterator[Broken]]
RULES: Final[tuple[Rule, ...]] = (
    durable, once, order, exclusion, recorded, sequence, complete, ended, fencing, capped, told,
    usable,
)  # fmt: skip


def judge(history: History) -> dict[str, list[Broken]]:
    """What breaks each rule."""
    return {rule.__name__: list(rule(history)) for rule in RULES}
