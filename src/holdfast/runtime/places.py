"""Places: how many threads and processes of one owner are free, counted before a start is recorded.

Theory: a start that is recorded and then waits in a queue would be taken for one in flight when the worker dies. So a
drive takes a place for each start that it decides on, and leaves the others undecided. A round's promises are
forgotten with the next round, because a start may have been refused; what was really begun is counted until it ends.
Coroutines need no place.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from holdfast.runtime.base import Call


class Places:
    """`limits`: isolation -> how many at once; what is not in it has no limit. Only the owner's thread uses it, but
    for `give_back`."""

    __slots__ = ("_busy", "_limits", "_promised", "_returned", "closed", "is_used")

    def __init__(self, limits: dict[str, int]) -> None:
        self._limits = limits
        self._busy = dict.fromkeys(limits, 0)
        self._promised = dict.fromkeys(limits, 0)
        self._returned: deque[str] = deque()
        self.is_used = False
        self.closed = False  # nothing more begins

    def new_round(self) -> None:
        """Count what has ended, and promise anew."""
        if not self.is_used:
            return
        while self._returned:
            self._busy[self._returned.popleft()] -= 1
        for isolation in self._promised:
            self._promised[isolation] = 0

    def free(self, isolation: str) -> int:
        """How many may begin now; many where there is no limit."""
        if isolation not in self._limits:
            return 1 << 30
        return self._limits[isolation] - self._busy[isolation] - self._promised[isolation]

    def free_of_any(self) -> int:
        """How many may begin now, in threads or processes."""
        return max(0, self.free("thread")) + max(0, self.free("process"))

    def promise(self, isolation: str) -> bool:
        """A place for one start of this round, if there is one."""
        if self.closed:
            return False
        if isolation not in self._limits:
            return True
        self.is_used = True
        if self.free(isolation) <= 0:
            return False
        self._promised[isolation] += 1
        return True

    def take(self, call: Call) -> None:
        """A start has become real."""
        if call.isolation in self._limits:
            self._busy[call.isolation] += 1
            call.placed.append(call.isolation)

    def give_back(self, call: Call) -> None:
        """What began has ended, or was left behind; the first who says so counts. From any thread."""
        try:
            self._returned.append(call.placed.pop())
        except IndexError:
            pass
