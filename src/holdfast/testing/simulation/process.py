"""One simulated process: a store of its own, a worker, the code of its steps; and the ways in which it can go."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.errors import StoreUnknown, WorldError
from holdfast.runtime.base import Call
from holdfast.testing.simulation.code import Code
from holdfast.testing.simulation.disk import Killed, Line
from holdfast.testing.simulation.shadow import Violation, differences
from holdfast.worker.lease import Lease
from holdfast.worker.loop import Worker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.clock import Clock
    from holdfast.flow.patterns import Flow
    from holdfast.store.base import Store
    from holdfast.testing.simulation.world import World


class SimulatedLease(Lease):
    """A lease whose lock file is an entry in the world's table of locks."""

    def __init__(self, world: World, store: Store, clock: Clock, name: str, pool: str, *, locked: bool) -> None:
        super().__init__(store, clock, world.settings, pool, threaded=False, host="here" if locked else name)
        self._world = world
        if locked:
            self.lock_path = f"/nowhere/{name}"
            world.locks.add(self.lock_path)

    def _is_free(self, lock_path: str) -> bool:
        return lock_path not in self._world.locks

    def drop_lock(self) -> None:
        self._world.locks.discard(self.lock_path or "")


class Process:
    """`is_busy`: it stands on the stack, and others have their turn meanwhile."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.number = number
        self.incarnation = 0
        self.is_alive = False
        self.is_busy = False
        self.frozen_until = 0.0
        self.starts_at = 0.0
        self.clock: Clock = world.clock
        self.pool = "default"
        self.flows: Sequence[Flow] = world.flows
        self.locked = world.chance.random() < 0.5
        self.inline = world.chance.random() < 0.2  # its steps run on its worker's thread
        self.line: Line
        self.code: Code
        self.worker: Worker

    @property
    def name(self) -> str:
        return f"w{self.number}.{self.incarnation}"

    def boot(self) -> None:
        """A new incarnation."""
        world = self.world
        self.incarnation += 1
        store = self._store()
        self.code = self._code()
        self.line.pause = self._pause
        lease = SimulatedLease(world, store, self.clock, self.name, self.pool, locked=self.locked)
        self.worker = Worker(
            store,
            self.code,
            clock=self.clock,
            settings=world.settings,
            flows=self.flows,
            pool=self.pool,
            lease=lease,
            admit=world.admit,
        )
        lease.start(self.worker._lost_lease)
        self.is_alive = True
        world.note(f"{self.name} starts")

    def _store(self) -> Store:
        self.line = Line(self.world.disk, self.name)
        return self.world.disk.store(self.line)

    def _code(self) -> Code:
        return Code(self.world, self)

    def _pause(self) -> None:
        self.world.pause(self)

    def may_run(self, now: float) -> bool:
        return self.is_alive and not self.is_busy and self.frozen_until <= now

    def turn(self, now: float) -> bool:
        """One round of its steps and of its worker; whether anything was done."""
        self.is_busy = True
        try:
            did = self.code.run(now)
            did = self.worker.turn(self.clock.time()) or did
            if self.world.chance_to_look():
                self._compare()
            return did
        except Killed:
            self.die()
        except WorldError as error:
            self.worker.lease.unsure = self.worker.lease.unsure or isinstance(error, StoreUnknown)
            if error.retryable or self.worker.lease.unsure:  # as Worker.run does
                self.world.note(f"{self.name} will try again: {error}")
                return False
            self.world.note(f"{self.name} ends: {error}")
            self.leave()
        finally:
            self.is_busy = False
        return True

    def _compare(self) -> None:
        """What the worker has in memory is what the journal says, where it has seen all of it and wants to add
        nothing."""
        for taken in self.worker.taken.values():
            row, drive = self.world.rows.get(taken.task.id), taken.drive
            if row is None or row.token != taken.token or row.seq != taken.seen or drive.facts:
                continue
            if drive.state.plan is not self.world.shadows[row.id].plan:
                continue  # it has a newer one, and has recorded nothing by it
            found = differences(drive.state, self.world.shadows[row.id].state)
            if found:
                raise Violation(f"{self.name} believes something else of task {row.id} than its journal says: {found}")

    def leave(self) -> None:
        """End as a process does that is told to, or can't go on."""
        busy, self.is_busy = self.is_busy, True
        try:
            self.worker.close()
        except Killed:
            pass
        finally:
            self.is_busy = busy
        self.die()

    def die(self) -> None:
        """kill -9: of the process and its children nothing is left."""
        if self.is_alive:
            self.line.dead = True
            self.code.entries.clear()
            self.worker.lease.drop_lock()
            self.world.lose(self)

    def token_of(self, call: Call) -> str:
        for taken in self.worker.taken.values():
            if taken.drive is call.host:
                return taken.token
        return ""

    def next_at(self) -> float | None:
        """When it has something to do though nothing is committed; None: it can't say."""
        if not self.is_alive:
            return self.starts_at
        moments = [self.worker._intake.next_due]
        moments += [taken.drive.next_at() for taken in self.worker.taken.values()]
        fast_s = self.clock.time() - self.world.now()
        found = [at - fast_s for at in moments if at is not None]
        found += [at for at in [self.code.next_at()] if at is not None]
        return max(min(found), self.frozen_until) if found else None
