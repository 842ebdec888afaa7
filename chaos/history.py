"""What the witness heard, as entries into user code, tasks and processes. What must be true of it: rules.py.

Theory: an *entry* is open from its first line until its last, or until its process was killed. A process that was
frozen may still speak when it thaws, though others have long gone on with its tasks: such an entry is *stale*, no
scheduler in the world could have stopped it, and what it does then is the fencing token's business. Nothing else is
excused: a worker that is cut off, or whose database is gone, has to stop its steps in time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

from chaos.witness import Line

NEVER: Final = 1 << 60  # a place behind all others
THAW_S: Final = 2.0  # what a process had decided to begin before it froze it may begin so long after
FINAL: Final = frozenset(("SUCCEEDED", "FAILED", "CANCELLED", "ABORTED", "REVERTED"))


class Entry:
    """One entry into user code. `over`: the place where it can do nothing more."""

    def __init__(self, line: Line) -> None:
        self.begin = line
        self.id: str = line.more["entry"]
        self.task: str = line.more["task"]
        self.step: int = line.more["step"]
        self.way: str = line.more["way"]
        self.key: str = line.more["key"]
        self.given: str | None = line.more["given"]
        self.claims: dict[str, str] = dict(line.more["claims"])
        self.pool: str | None = line.more.get("pool")  # of the agent that ran it; None: a worker did
        self.who = line.who
        self.over = NEVER
        self.ended: Line | None = None
        self.writes: list[Line] = []
        self.stale_from = NEVER

    @property
    def last(self) -> int:
        """The place of its last sign of life. A process that was killed gives none, and nobody says when that was."""
        return max(line.place for line in (self.begin, *self.writes, self.ended) if line is not None)

    @property
    def returned(self) -> bool:
        return self.ended is not None and self.ended.more["how"] == "returned"

    def conflicts(self, other: Entry) -> str | None:
        """The resource that not both may have, if there is one."""
        for resource, mode in self.claims.items():
            if "exclusive" in (mode, other.claims.get(resource)) and resource in other.claims:
                return resource
        return None

    def __str__(self) -> str:
        return f"{self.way} {self.step} of {self.task[-12:]} by {self.who}"


class Task:
    """What is known of a task from outside."""

    def __init__(self, uuid: str) -> None:
        self.uuid = uuid
        self.asked: Line | None = None
        self.accepted: Line | None = None
        self.claims: dict[str, str] = {}
        self.pool = "default"
        self.saw: list[Line] = []
        self.verbs: list[Line] = []
        self.final: Line | None = None
        self.recorded: list[Line] = []
        self.entries: list[Entry] = []

    @property
    def state(self) -> str:
        return "" if self.final is None else str(self.final.more["state"])

    @property
    def began(self) -> Line | None:
        return self.entries[0].begin if self.entries else None


class History:
    """The lines, read once."""

    def __init__(self, lines: Sequence[Line]) -> None:
        self.lines = lines
        self.entries: dict[str, Entry] = {}
        self.tasks: dict[str, Task] = {}
        self.asked: dict[str, Line] = {}  # by tag
        self.accepted: dict[str, list[Line]] = defaultdict(list)  # by tag
        self._frozen: dict[str, list[tuple[Line, Line | None]]] = defaultdict(list)
        self._open: dict[str, dict[str, Entry]] = defaultdict(dict)
        reads = {
            "begin": self._begin, "end": self._end, "write": self._write, "refused": self._write,
            "killed": self._killed, "gone": self._gone, "frozen": self._froze, "thaw": self._thaw,
            "asked": self._ask, "accepted": self._accept, "saw": self._saw, "verb": self._verb,
            "final": self._end_of_task, "recorded": self._record,
        }  # fmt: skip
        for line in lines:
            if (read := reads.get(line.what)) is not None:
                read(line)
        for entry in self.entries.values():
            entry.stale_from = self._stale_from(entry)

    def task(self, uuid: str) -> Task:
        return self.tasks.setdefault(uuid, Task(uuid))

    def of(self, what: str) -> Iterator[Line]:
        return (line for line in self.lines if line.what == what)

    def stories(self) -> dict[str, list[Entry]]:
        """The entries of each task, with those of the tasks that roll it back, in order."""
        found: dict[str, list[Entry]] = defaultdict(list)
        for entry in self.entries.values():
            found[self.origin(entry.task)].append(entry)
        return found

    def origin(self, uuid: str) -> str:
        """Itself; of a task that rolls another back, that one."""
        task = self.tasks.get(uuid)
        before = task.final.more.get("rollback_of") if task is not None and task.final is not None else None
        return uuid if before is None else self.origin(before)

    # --- reading --------------------------------------------------------------------------------------------------

    def _begin(self, line: Line) -> None:
        entry = self.entries[line.more["entry"]] = Entry(line)
        self._open[line.who][entry.id] = entry
        self.task(entry.task).entries.append(entry)

    def _end(self, line: Line) -> None:
        entry = self.entries[line.more["entry"]]
        entry.ended, entry.over = line, min(entry.over, line.place)
        self._open[line.who].pop(entry.id, None)

    def _write(self, line: Line) -> None:
        self.entries[line.more["entry"]].writes.append(line)

    def _killed(self, line: Line) -> None:
        for entry in self._open.pop(line.more.get("member", line.who), {}).values():
            entry.over = line.place

    def _gone(self, line: Line) -> None:
        entry = self.entries[line.more["entry"]]
        entry.over = line.place
        self._open[line.who].pop(entry.id, None)

    def _froze(self, line: Line) -> None:
        self._frozen[line.more["member"]].append((line, None))

    def _thaw(self, line: Line) -> None:
        since, _ = self._frozen[line.more["member"]].pop()
        self._frozen[line.more["member"]].append((since, line))

    def _ask(self, line: Line) -> None:
        self.asked.setdefault(line.more["tag"], line)

    def _accept(self, line: Line) -> None:
        tag, task = line.more["tag"], self.task(line.more["task"])
        self.accepted[tag].append(line)
        asked = self.asked.get(tag)
        if asked is not None and task.asked is None:
            task.asked, task.claims, task.pool = asked, dict(asked.more["claims"]), asked.more["pool"]
        task.accepted = task.accepted or line

    def _saw(self, line: Line) -> None:
        self.task(line.more["task"]).saw.append(line)

    def _verb(self, line: Line) -> None:
        self.task(line.more["task"]).verbs.append(line)

    def _end_of_task(self, line: Line) -> None:
        self.task(line.more["task"]).final = line

    def _record(self, line: Line) -> None:
        self.task(line.more["task"]).recorded.append(line)

    def _stale_from(self, entry: Entry) -> int:
        """From which place on the entry may act though others go on with its task: its process was frozen in it, or
        so short a time before that it may have decided on it before."""
        for since, until in self._frozen.get(entry.who, ()):
            if since.place < entry.over and (until is None or until.at + THAW_S > entry.begin.at):
                return since.place
        return NEVER


class Broken:
    """A rule was broken: what it says, and the lines that show it."""

    def __init__(self, rule: str, said: str, *lines: Line | None) -> None:
        self.rule = rule
        self.said = said
        self.lines = [line for line in lines if line is not None]

    def __str__(self) -> str:
        return "\n    ".join([f"{self.rule}: {self.said}", *map(str, self.lines)])


def longest_lost_s(history: History) -> tuple[float, Entry | None]:
    """The longest time from when the process of an entry was killed or froze to when somebody went on with its task,
    whose resources nobody could use meanwhile; and which entry that was."""
    at = {line.place: line.at for line in history.lines}
    worst: tuple[float, Entry | None] = (0.0, None)
    for story in history.stories().values():
        for entry, after in pairwise(story):
            cut = min(entry.stale_from, NEVER if entry.ended is not None else entry.over)
            if entry.begin.place <= cut < after.begin.place:
                worst = max(worst, (after.begin.at - at[cut], entry), key=lambda each: each[0])
    return worst
