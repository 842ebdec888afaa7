"""How a process that serves or works hears that it is to leave: by a signal; at once by a second one."""

from __future__ import annotations

import os
import select
import signal
from contextlib import suppress
from types import FrameType
from typing import Final

from holdfast.cli import exits

_WORDS: Final = b"holdfast: left at once; other workers go on with the tasks\n"


class Leaving:
    """From the main thread. The handler takes no lock, because the thread that it interrupts may hold it; and the pipe
    wakes this thread even where the system gave the signal to another."""

    def __init__(self) -> None:
        self.asked = False
        self._woken = False
        self._wake_r, self._wake_w = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(self._wake_w, warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._leave)

    def wait(self) -> None:
        """Until somebody has asked, or `wake` was called."""
        while not self.asked and not self._woken:
            select.select([self._wake_r], [], [])
            os.read(self._wake_r, 4096)

    def wake(self) -> None:
        """End the wait, now and from now on. From any thread."""
        self._woken = True
        with suppress(BlockingIOError):  # it is full of them
            os.write(self._wake_w, b"!")

    def _leave(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            os.write(2, _WORDS)
            os._exit(exits.INTERRUPTED)
        self.asked = True
