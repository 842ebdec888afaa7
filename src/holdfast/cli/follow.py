"""Staying with a task until it has ended or rests: working for it where nobody else does, showing it, hearing Ctrl-C.

Theory: the main thread looks and listens; where the task is in a database, a thread of its own works (worker/loop.py),
for this task alone. Whether somebody else has the task is not asked first: our worker takes it as soon as nobody has
it, also when another's dies later. A first Ctrl-C suspends what is done here and waits until it rests, and only leaves
what is done elsewhere; a second leaves at once, which is no more than a kill -9: nothing that was recorded is lost.

What is shown: show.py. With which exit code it ends: exits.py.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

from holdfast.cli import exits, show
from holdfast.cli.options import Output, Runtime, typed
from holdfast.clock import Clock
from holdfast.core import states
from holdfast.errors import VerbRefused, WaitTimeout, WorldError

if TYPE_CHECKING:
    from holdfast.cli.place import Handle, Place, Story, Working

AT_REST: Final = frozenset(map(states.api_state, states.FINAL | states.RESTING))


class Signals:
    """Counts Ctrl-C, and hears who asks this process to leave. The handlers take no lock, because the thread that they
    interrupt may hold it."""

    def __init__(self, last_words: str) -> None:
        self.interrupts = 0
        self.leave: int | None = None  # the signal that asked for it
        self._last_words = last_words

    @contextmanager
    def listening(self) -> Iterator[None]:
        before = {
            signal.SIGINT: signal.signal(signal.SIGINT, self._interrupt),
            signal.SIGTERM: signal.signal(signal.SIGTERM, self._leave),
            signal.SIGHUP: signal.signal(signal.SIGHUP, self._leave),
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self.interrupts += 1
        if self.interrupts > 1:
            # Not by an exception: whatever the main thread waits for, this is now.
            cursor = "\x1b[?25h\n" if os.isatty(2) else ""
            os.write(2, f"{cursor}holdfast: {self._last_words}\n".encode())
            os._exit(exits.INTERRUPTED)

    def _leave(self, number: int, frame: FrameType | None) -> None:
        self.leave = number


def follow(
    place: Place,
    task: Handle,
    *,
    output: Output,
    work: bool,
    runtime: Runtime = "threads",
    timeout_s: float | None = None,
    after: Any = None,
    hello: str = "",
) -> int:
    """Stay with the task until it has ended or rests, then print what became of it; the exit code.

    work: do it where nobody else does. after: the mark from which on its story is news. Raises: WaitTimeout.
    """
    clock = Clock()
    working: Working | None = None
    again = typed("task", "resume" if work and place.is_near else "watch", task.id, where=place.where)
    signals = Signals(f"left at once; nothing that was recorded is lost: `{again}` goes on")
    screen = show.screen(output, clock)
    if hello and output == "table":
        screen.say(hello)
    story = place.story(task, after)
    with signals.listening():
        working = place.work(task, runtime) if work else None
        try:
            left = _watch(place, task, story, screen, signals, working, clock, timeout_s)
        except WaitTimeout as late:
            raise WaitTimeout(f"{late}: `{again}` goes on") from None
        finally:
            try:
                if working is not None:
                    working.close()
            finally:
                story.close()
                screen.close()
    if left is not None:
        show.Silent().say(f"holdfast: left; nothing is lost: `{again}` goes on")
        return 128 + left
    if output == "json":
        document = place.document(task)
        show.print_json(document)
        return exits.OF_STATE[document["state"]]
    view = task.view()
    for line in show.ending(view, place.where):
        screen.say(line)
    return exits.OF_STATE[view["state"]]


def _watch(
    place: Place,
    task: Handle,
    story: Story,
    screen: show.Screen,
    signals: Signals,
    working: Working | None,
    clock: Clock,
    timeout_s: float | None,
) -> int | None:
    """Look until the task is at rest. The signal by which somebody made this process leave before, if so."""
    end = None if timeout_s is None else clock.monotonic() + timeout_s
    hint = _Hint(place, screen, work=working is not None)
    suspended = False
    while True:
        look = story.look()
        screen.update(look)
        if look.view["state"] in AT_REST:
            return None
        if working is not None and working.error is not None:
            raise working.error
        if signals.leave is not None:
            return signals.leave
        if signals.interrupts and not suspended:
            suspended = True
            if working is None or not working.has(look.view):
                return int(signal.SIGINT)
            _suspend(task, screen)
            continue
        if end is not None and clock.monotonic() >= end:
            raise WaitTimeout(f"task {task.id} is still {look.view['state']} after {timeout_s:g} s")
        hint.update(look.view)
        story.wait()


def _suspend(task: Handle, screen: show.Screen) -> None:
    try:
        task.suspend()
    except (VerbRefused, WorldError) as error:
        screen.say(f"{error}; Ctrl-C again leaves at once")
        return
    screen.say("suspending: the running step is asked to stop at a safe point; Ctrl-C again leaves at once")


class _Hint:
    """Says once why nothing happens: nobody works, or the task waits behind another."""

    def __init__(self, place: Place, screen: show.Screen, *, work: bool) -> None:
        self._place = place
        self._screen = screen
        self._looked = work
        self._behind: list[str] = []

    def update(self, view: dict[str, Any]) -> None:
        behind = view["blocked_by"]
        if behind and behind != self._behind:
            self._behind = behind
            told = f"waits for its claims behind task {', '.join(behind)}"
            if self._place.is_near:
                told += f"; if nobody is at it, `holdfast task watch {behind[0]} --work` is"
            self._screen.say(told)
        if not self._looked:
            self._looked = True
            why = self._place.idle(view)
            if why is not None:
                self._screen.say(why)
