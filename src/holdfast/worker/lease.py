"""The lease of one worker: its row, its heartbeat, its file lock; and the sweep that finds dead workers.

Theory: a worker may write while its heartbeats succeed. It counts the end of its lease on the boot clock, from before
the last one that succeeded was sent, and stops its steps itself when that is over; so it stops before anybody else may
begin. Where the database has another generation (store/history.py), nothing that this incarnation remembers is worth
anything, and it ends as if it had been taken for dead. On one host a file lock says more, and at once: the worker and
the children of its steps hold it, so when nobody holds it nothing of that worker runs any more, and its tasks are taken
over without waiting for the lease. Elsewhere their silence says it; but not to who was cut off from the database, too,
or has just begun: it may have been away for all, and they have the time to be heard first.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from holdfast.errors import HoldfastClosed, LeaseLost, SchemaNewer, StoreUnknown, WorldError
from holdfast.store import keep_time
from holdfast.store.base import Store, Tx
from holdfast.tasks import lease as rows
from holdfast.tasks import overdue
from holdfast.tasks.figures import Figures
from holdfast.version import __version__

if TYPE_CHECKING:
    from holdfast.clock import Clock
    from holdfast.settings import Settings

Lost = Callable[[Sequence[int] | None], None]
SWEEP_S = 0.5  # between looks at the locks of this host's workers
FLEET = 50  # workers: where there are more, each looks at the rows of the others less often, up to once a heartbeat
FORGET_S = 86_400.0  # how long the rows of dead workers are kept
JUDGED = 2  # heartbeats that came in their time, after which a worker may bury those that it hears nothing of


class Lease:
    """See the module. `directory`: where the lock file is, beside the database; None: no lock (in memory).
    `threaded`: heartbeats come from a thread of their own, because a step may keep the worker's thread busy."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        settings: Settings,
        pool: str,
        *,
        lock_prefix: str | None = None,
        threaded: bool = True,
        host: str | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._settings = settings
        self._pool = pool
        self.threaded = threaded
        self._host = host or os.uname().nodename
        self._boot = boot_id(lock_prefix)
        self.id = clock.token_hex(16)
        self._registered = False
        self._generation = store.generation  # of the database, when it was registered
        self._follows = ""  # the incarnation before,
        self._followed_at = float("-inf")  # and when that was, by the boot clock
        self._beat_at = 0.0  # boot clock, before the last heartbeat that succeeded was sent
        self._steady_at: float | None = None  # boot clock: since when no heartbeat failed, nor was one `_gap_s` late
        #: How late a heartbeat may be. While the database is silent for longer, leases end of others who live.
        self._gap_s = max(settings.lease_s - settings.heartbeat_s, 1.5 * settings.heartbeat_s)
        self._swept_at = float("-inf")  # boot clock
        self._read_at = float("-inf")  # boot clock: when the others' rows were read
        self._changes = -1  # the store's, then
        self._near: list[rows.WorkerRow] = []  # the others of this host that were alive
        self._others = 0  # how many were alive, wherever
        self._expiry: float | None = None  # when the first lease runs out, of a worker or an agent
        self._on_lost: Lost | None = None
        self._threads: list[threading.Thread] = []
        self._stop = threading.Event()
        self._mutex = threading.Lock()
        self.held: Callable[[], Sequence[int]] = lambda: ()
        self.extends: Callable[[float], None] = lambda until: None  # told until when processes of steps may go on
        self.figures = Figures()
        self.runs: Callable[[], bool] = lambda: False  # whether any step does that would go on beside a successor
        self.unsure = False  # what became of a commit is not known
        self._ends_at: float | None = None  # boot clock: for so long its steps may take to stop
        self.draining = False  # as of the last heartbeat: to take no more, and to hand over
        self._resumes = False  # the drain was called off
        self.flows: tuple[str, ...] = ()  # the references of those that the worker was given
        self.expects = False  # a worker of this host is dead, and its lock is still held: by a child that is leaving
        self.lock_path: str | None = None
        self.lock_fd: int | None = None
        if lock_prefix is not None:
            self.lock_path = f"{lock_prefix}-worker-{self.id[:16]}"
            self.lock_fd = os.open(self.lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self.lock_fd, fcntl.LOCK_EX)

    # --- living ---------------------------------------------------------------------------------------------------

    def register(self, now: float) -> None:
        """Make this worker known, once for each incarnation, before it takes anything. Where the database was away for
        so long that the lease is over, it is renewed first: steps would be begun that end with it at once."""
        if self._registered and self._left_s() <= 0:
            self.beat()
        if self._registered:
            return
        before = self._clock.monotonic()
        row = rows.WorkerRow(
            self.id, self._host, self._boot, os.getpid(), self.lock_path, self._pool, now, now, self._settings.lease_s,
            version=__version__, flows=json.dumps(self.flows) if self.flows else None,
        )  # fmt: skip
        self._generation = self._store.generation
        self._store.write(partial(self._add, row, now))
        self._renewed(before)
        self._registered = True

    def _add(self, row: rows.WorkerRow, now: float, tx: Tx) -> None:
        """Who was to drain under its name of before is to do so under this one."""
        before = rows.find(tx, self._follows)
        drained_at = None if before is None else before.draining_at
        rows.register(tx, row._replace(heartbeat_at=tx.now(now), draining_at=drained_at))

    def start(self, on_lost: Lost) -> None:
        """Begin to heartbeat. `on_lost` hears of tasks that are no longer ours; None: all of them."""
        self._on_lost = on_lost
        if self.threaded and not self._threads:
            named = (("heartbeat", self._run), ("lease", self._watch))
            self._threads = [
                threading.Thread(target=work, name=f"holdfast-{name}", daemon=True) for name, work in named
            ]
            for thread in self._threads:
                thread.start()

    def _run(self) -> None:
        heartbeat_s = pause_s = self._settings.heartbeat_s
        while not self._clock.wait(self._stop, pause_s):
            pause_s = heartbeat_s if self.beat() else heartbeat_s / 4  # the next might come too late

    def _watch(self) -> None:
        """Say in time that the lease is over, whatever a heartbeat waits for: a database that hangs may hold it for
        ever."""
        while not self._clock.wait(self._stop, max(self._left_s(), self._settings.heartbeat_s / 4)):
            if self._registered and self._left_s() <= 0 and self._on_lost is not None:
                self._on_lost(None)

    def holds(self) -> bool:
        """Whether steps may begin. A lease that is over is renewed now, if it can be."""
        if self._left_s() > 0:
            return True
        self.beat(keeps_time=False)  # nothing may lie between its answer and the steps
        return self._left_s() > 0

    def _left_s(self) -> float:
        """For how long steps may go on if nothing more is heard of the database. A heartbeat's time is kept for them to
        stop in."""
        over_at = self._beat_at + self._settings.lease_s - self._settings.heartbeat_s
        return over_at - self._clock.monotonic()

    def turn(self, now: float) -> bool:
        """What is due now: a heartbeat where no thread sends it, and a sweep. Whether there may be more to take."""
        if self.unsure:
            self._end(now)
        if self._registered and self._store.generation != self._generation:
            self.beat()
        if not self.threaded and self._registered:
            if self._clock.monotonic() - self._beat_at >= self._settings.heartbeat_s:
                self.beat()
        resumes, self._resumes = self._resumes, False
        if self._clock.monotonic() - self._swept_at < SWEEP_S:
            return resumes
        self._swept_at = self._clock.monotonic()
        return (self._may_find(now) and self.sweep(now)) or resumes

    def _may_find(self, now: float) -> bool:
        """Whether a sweep may find something: a lock is free, a time is over, or rows were committed and are not read
        yet. These wait a little where there are many workers, or all of them would read all the time: a lease that is
        made meanwhile does not run out that soon."""
        if any(self._is_gone(worker) or self._is_leaving(worker) for worker in self._near):
            return True
        if self._expiry is not None and self._expiry <= now:
            return True
        pause_s = min(SWEEP_S * self._others / FLEET, self._settings.heartbeat_s)
        return (
            self._clock.monotonic() - self._read_at >= pause_s and self._store.changes(went_on=False) != self._changes
        )

    def beat(self, *, keeps_time: bool = True) -> bool:
        """Send a heartbeat. If that fails for so long that the lease is over, everything is lost. `keeps_time`: look at
        the database's clock as well. Whether the database has answered."""
        with self._mutex:
            if not self._registered:
                return True
            answered, before = True, self._clock.monotonic()
            lost: Sequence[int] | None = ()
            try:
                self._check_generation()
                now = self._clock.time()
                lost, draining = self._store.write(
                    lambda tx: (
                        rows.heartbeat(
                            tx, self.id, tx.now(now), held=list(self.held()), figures=self.figures.to_text()
                        ),
                        rows.is_draining(tx, self.id),
                    )
                )
                self._resumes = self._resumes or (self.draining and not draining)
                self._check_generation()
                self.draining = draining
                self._renewed(before)
                if keeps_time:
                    keep_time(self._store, self._clock)
            except LeaseLost:
                lost = None
                self._renew()
            except HoldfastClosed:
                return True
            except SchemaNewer:
                lost = None  # the worker ends: it is told the same
            except WorldError:
                answered, self._steady_at = False, None
                if self._left_s() <= 0:
                    lost = None
        if (lost is None or lost) and self._on_lost is not None:
            self._on_lost(lost)
        return answered

    def _check_generation(self) -> None:
        """Raises: LeaseLost."""
        if self._store.generation != self._generation:
            raise LeaseLost("the database was restored or promoted", worker=self.id)

    def _end(self, now: float) -> None:
        """Nobody knows what is ours: say that this incarnation is dead, and be another. Others begin at once then, so
        its steps stop before, and have the time for it that they always have.

        Raises: WorldError: not yet.
        """
        if self._ends_at is None:
            self._ends_at = self._clock.monotonic() + self._settings.heartbeat_s
            if self._on_lost is not None:
                self._on_lost(None)
        if self.runs() and self._clock.monotonic() < self._ends_at:
            raise StoreUnknown("it is not known what became of a commit, and steps are still stopping")
        with self._mutex:
            self._store.write(partial(_bury, self.id, now, None))
            self._renew()
        self.unsure, self._ends_at = False, None

    def _renewed(self, before: float) -> None:
        now = self._clock.monotonic()
        if self._steady_at is None or now - self._beat_at > self._gap_s:
            self._steady_at = now
        # Who is frozen stops nothing: the processes of its steps end themselves, a little sooner than others begin.
        self._beat_at = before
        self.extends(before + self._settings.lease_s - self._settings.heartbeat_s / 4)

    def _is_judge(self) -> bool:
        """Whether the silence of others says that they are dead. While the database was away nobody could be heard,
        and who is back has to have the time to say so."""
        now, since = self._clock.monotonic(), self._steady_at
        is_steady = since is not None and now - since >= JUDGED * self._settings.heartbeat_s
        return is_steady and now - self._beat_at <= self._gap_s

    def _renew(self) -> None:
        """Taken for dead: the next task is taken as a new incarnation."""
        if self._registered:
            self._follows = self.id
        self.id = self._clock.token_hex(16)
        self._followed_at = self._clock.monotonic()
        self.expects, self._changes = True, -1  # until a look says more
        self._registered = self.draining = False
        self.figures = Figures()  # those up to here are in the row of before
        self.figures.lease_losses = 1

    # --- others ---------------------------------------------------------------------------------------------------

    def sweep(self, now: float) -> bool:
        """Set free the tasks of workers that are dead: on this host whose lock nobody holds, elsewhere whose lease
        has run out."""
        self._read_at, self._changes = self._clock.monotonic(), self._store.changes(went_on=False)
        now, found = self._store.read(partial(self._look_around, now=now))
        judges = self._is_judge()
        agents_died = False
        if judges and found.agents_at is not None and found.agents_at <= now:
            # By itself each: locks of no other wait.
            for task in self._store.read(partial(overdue.tasks_with, now=now)):
                agents_died = self._store.write(partial(overdue.end, task=task, now=now)) or agents_died
        self._near = [worker for worker in found.workers if worker.host == self._host and worker.id != self.id]
        self._others = found.others
        self._expiry = min((at for at in (found.others_at, found.agents_at) if at is not None), default=None)
        freed = self.expects = False
        for worker in found.workers:
            if worker.id == self.id:
                continue
            is_silent = worker.heartbeat_at + worker.lease_s <= now
            if self._is_gone(worker):
                seen = None
            elif is_silent and judges:
                seen = worker.heartbeat_at
            else:
                self.expects = self.expects or is_silent or self._is_leaving(worker)
                continue
            freed = bool(self._store.write(partial(_bury, worker.id, now, seen))) or freed
            if worker.lock_path is not None and worker.lock_path != self.lock_path and seen is None:
                with suppress(OSError):
                    os.unlink(worker.lock_path)
        return freed or agents_died

    def _look_around(self, tx: Tx, now: float) -> tuple[float, rows.Around]:
        now = tx.now(now)
        return now, rows.around(tx, self.id, self._host, now)

    def _is_gone(self, worker: rows.WorkerRow) -> bool:
        """Whether nobody holds the lock of a worker of this host."""
        if worker.lock_path is None or worker.host != self._host or worker.boot != self._boot:
            return False
        if worker.lock_path == self.lock_path:  # an earlier incarnation of this very process
            return self._clock.monotonic() >= self._followed_at + self._settings.heartbeat_s  # in which its steps stop
        return self._is_free(worker.lock_path)

    def _is_leaving(self, worker: rows.WorkerRow) -> bool:
        """Whether a worker of this host is dead though its lock is held."""
        if worker.lock_path is None or worker.host != self._host or worker.boot != self._boot:
            return False
        if worker.lock_path == self.lock_path:
            return True
        try:
            os.kill(worker.pid, 0)
        except ProcessLookupError:
            return True
        except OSError:
            pass  # somebody else's
        return False

    def _is_free(self, lock_path: str) -> bool:
        try:
            fd = os.open(lock_path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:  # who finds none knows nothing: somebody may have tidied up
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError:
            return False
        finally:
            os.close(fd)

    # --- leaving --------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()
        self._threads = []

    def leave(self, now: float, behind: Collection[int] = ()) -> None:
        """Say that this worker is gone: its tasks are anybody's. Those of which something is left `behind` that still
        runs are not, before this process or the lease has ended: whoever goes on with them must not meet it."""
        if behind and self._registered:
            self._registered = False
            self._store.write(lambda tx: rows.let_go(tx, self.id, now, but=behind))
            return
        try:
            if self._registered:
                self._registered = False
                self._store.write(lambda tx: rows.mark_dead(tx, self.id, now, figures=self.figures.to_text()))
                self._store.write(lambda tx: rows.forget(tx, before=now - FORGET_S))
        finally:
            self.drop_lock()

    def drop_lock(self) -> None:
        if self.lock_fd is not None and self.lock_path is not None:
            with suppress(OSError):
                os.unlink(self.lock_path)
            os.close(self.lock_fd)
            self.lock_fd = None


def _bury(worker: str, now: float, seen: float | None, tx: Tx) -> list[int]:
    return rows.mark_dead(tx, worker, now, seen=seen)


def boot_id(lock_prefix: str | None) -> str:
    """Whose locks can be seen from here: since when the host runs, and which directory it is. Containers share the one,
    and may not share the other."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            boot = file.read().strip()
    except OSError:
        return ""
    if lock_prefix is None:
        return boot
    at = os.stat(os.path.dirname(os.path.abspath(lock_prefix)))
    return f"{boot} {at.st_dev:x}-{at.st_ino:x}"
