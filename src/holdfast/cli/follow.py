"""Staying with a task until it has ended or rests: working for it where nobody else does, showing it, hearing Ctrl-C.

Theory: the main thread looks and listens, a thread of its own works (worker/loop.py), for this task alone. Whether
somebody else has the task is not asked first: our worker takes it as soon as nobody has it, also when another's dies
later. A first Ctrl-C suspends the task and waits until it rests; a second leaves at once, which is no more than a
kill -9: nothing that was recorded is lost.

What is shown: show.py. With which exit code it ends: exits.py.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, Literal

from holdfast.cli import exits, show
from holdfast.cli.options import Output, typed
from holdfast.clock import Clock
from holdfast.core import states
from holdfast.errors import VerbRefused, WaitTimeout, WorldError

if TYPE_CHECKING:
    from holdfast.local import Holdfast, Task
    from holdfast.tasks.lease import WorkerRow

LOOK_S: Final = 0.04  # between two looks at least
WAIT_S: Final = 0.1  # longer for a change
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


class Working:
    """A worker for one task, in a thread of its own."""

    def __init__(self, hold: Holdfast, task: Task, runtime: str) -> None:
        self.worker = hold.worker(runtime, only=task)
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="holdfast-worker", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.worker.run()
        except BaseException as error:
            self.error = error

    def close(self) -> None:
        """Give back what it has."""
        self.worker.stop()
        self._thread.join()
        self.worker.close()


def follow(
    hold: Holdfast,
    task: Task,
    *,
    database: str | None,
    output: Output,
    work: bool,
    runtime: Literal["threads", "inline"] = "threads",
    timeout_s: float | None = None,
    after: int = 0,
    hello: str = "",
) -> int:
    """Stay with the task until it has ended or rests, then print what became of it; the exit code.

    work: do it where nobody else does. after: the seq from which on its journal is news. Raises: WaitTimeout.
    """
    clock = Clock()
    again = typed("task", "resume" if work else "watch", task.id, database=database)
    signals = Signals(f"left at once; nothing that was recorded is lost: `{again}` goes on")
    screen = show.screen(output, clock)
    if hello and output == "table":
        screen.say(hello)
    story = show.Story(hold, task, after)
    with signals.listening():
        working = Working(hold, task, runtime) if work else None
        try:
            left = _watch(hold, task, story, screen, signals, working, clock, timeout_s)
        except WaitTimeout as late:
            raise WaitTimeout(f"{late}: `{again}` goes on") from None
        finally:
            try:
                if working is not None:
                    working.close()
            finally:
                screen.close()
    if left is not None:
        show.Silent().say(f"holdfast: left; nothing is lost: `{again}` goes on")
        return 128 + left
    if output == "json":
        show.print_json(show.document(task))
        return exits.OF_STATE[task.state]
    view = task.view()
    for line in show.ending(view, database):
        screen.say(line)
    return exits.OF_STATE[view["state"]]


def _watch(
    hold: Holdfast,
    task: Task,
    story: show.Story,
    screen: show.Screen,
    signals: Signals,
    working: Working | None,
    clock: Clock,
    timeout_s: float | None,
) -> int | None:
    """Look until the task is at rest. The signal by which somebody made this process leave before, if so."""
    end = None if timeout_s is None else clock.monotonic() + timeout_s
    hint = _Hint(hold, screen, work=working is not None)
    pause = threading.Event()  # nobody sets it
    suspended = False
    while True:
        seen = hold.store.changes()
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
            if working is None or _is_elsewhere(hold, task, working):
                return int(signal.SIGINT)
            _suspend(task, screen)
            continue
        if end is not None and clock.monotonic() >= end:
            raise WaitTimeout(f"task {task.id} is still {look.view['state']} after {timeout_s:g} s")
        hint.update(look.view)
        clock.wait(pause, LOOK_S)
        hold.store.wait(seen, WAIT_S)


def _suspend(task: Task, screen: show.Screen) -> None:
    try:
        task.suspend()
    except (VerbRefused, WorldError) as error:
        screen.say(f"{error}; Ctrl-C again leaves at once")
        return
    screen.say("suspending: the running step is asked to stop at a safe point; Ctrl-C again leaves at once")


def _is_elsewhere(hold: Holdfast, task: Task, working: Working) -> bool:
    """Whether another worker has the task."""
    from holdfast.tasks import query

    worker = hold.store.read(lambda tx: query.get(tx, task.id)).worker_id
    return worker is not None and worker != working.worker.lease.id


class _Hint:
    """Says once why nothing happens: nobody works, or the task waits behind another."""

    def __init__(self, hold: Holdfast, screen: show.Screen, *, work: bool) -> None:
        self._hold = hold
        self._screen = screen
        self._looked = work
        self._behind: list[str] = []

    def update(self, view: dict[str, Any]) -> None:
        behind = view["blocked_by"]
        if behind and behind != self._behind:
            self._behind = behind
            self._screen.say(
                f"waits for its claims behind task {', '.join(behind)}; "
                f"if nobody is at it, `holdfast task watch {behind[0]} --work` is"
            )
        if not self._looked:
            self._looked = True
            if not _somebody_works(self._hold, view["uuid"], view["pool"]):
                self._screen.say("no worker lives that would do it: `holdfast worker` does, or --work here")


def _somebody_works(hold: Holdfast, uuid: str, pool: str) -> bool:
    """Whether a worker lives that has the task or may take it."""
    return owner_lives(hold, uuid) or any(worker.pool == pool for worker in _living(hold))


def owner_lives(hold: Holdfast, uuid: str) -> bool:
    """Whether a worker has the task and lives."""
    from holdfast.tasks import query

    owner = hold.store.read(lambda tx: query.get(tx, uuid)).worker_id
    return any(worker.id == owner for worker in _living(hold))


def _living(hold: Holdfast) -> list[WorkerRow]:
    from holdfast.cli.findings import is_dead
    from holdfast.tasks import lease

    now = Clock().time()
    return [worker for worker in hold.store.read(lease.alive) if not is_dead(worker, now)]
