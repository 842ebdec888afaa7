"""Random histories of a port: whatever is asked for and whatever goes wrong, what is said of it stays true."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from holdfast.core.states import FINAL
from holdfast.errors import HoldfastError, ResourceImmutable
from holdfast.resources import examine, state
from tests.resources.conftest import Shop
from tests.resources.ports import plain

OPERATIONS = ("update", "readdress", "down", "up", "ping", "reconcile", "delete")
FAULTS = ("before", "after", "down-before", "down-after")
ROUNDS = 40


class Walk:
    """One port at a time, and what is asked of it by chance."""

    def __init__(self, shop: Shop, seed: int) -> None:
        self.shop = shop
        self.chance = random.Random(seed)
        self.machine = shop.hold.kinds.kind("port").machine()
        self.edges = {(before, after) for before, _, after in self.machine.edges()}
        self.ports: list[Any] = []
        self.seen: dict[str, tuple[str, int]] = {}

    def step(self) -> None:
        chance = self.chance
        if not self.ports or chance.random() < 0.1:
            task = self.shop.ask("create", desired=self.document())
            self.ports.append(self.shop.of(task))
            return
        port = chance.choice(self.ports)
        kind = chance.random()
        if kind < 0.15:
            self.verb(port)
        elif kind < 0.3:
            self.settle()
        else:
            self.ask(port)

    def document(self) -> dict[str, Any]:
        faults = [fault for fault in FAULTS if self.chance.random() < 0.1]
        return {"mtu": self.chance.randrange(1000), "faults": faults}

    def ask(self, port: Any) -> None:
        operation = self.chance.choice(OPERATIONS)
        before = port.view()
        given: dict[str, Any] = {}
        if operation == "update":
            given["desired"] = self.document()
        params = {"mtu": self.chance.randrange(1000)} if operation == "readdress" else None
        refused = self.refusal(lambda: self.shop.ask(operation, port.id, params, **given))
        if isinstance(refused, ResourceImmutable):
            allowed: Any = refused.details["allowed"]
            assert operation not in allowed
            assert port.view() == before
        else:
            assert refused is None or port.is_deleted

    def refusal(self, ask: Callable[[], object]) -> HoldfastError | None:
        try:
            ask()
        except HoldfastError as refused:
            return refused
        return None

    def verb(self, port: Any) -> None:
        tasks = self.shop.hold.tasks(resource_id=port.id, limit=1000)
        task = self.chance.choice(tasks)
        verb = self.chance.choice(("cancel", "abort", "retry", "rollback", "suspend", "resume", "force_fail"))
        refused = self.refusal(lambda: getattr(task, verb)(*(["so"] if verb == "force_fail" else [])))
        assert refused is None or refused.status in (409, 410)

    def settle(self) -> None:
        """Do all there is to do, and look whether what is said is true."""
        for task in self.shop.hold.tasks(state="SUSPENDED", limit=1000):
            task.resume() if task.reason == "asked" else task.force_fail("the walk goes on")
        self.shop.work()
        for port in self.ports:
            self.check(port)
        assert self.shop.hold.store.read(lambda tx: list(examine.faults(tx))) == []

    def check(self, port: Any) -> None:
        row = self.shop.hold.store.read(lambda tx: state.read(tx, "port", port.id, deleted=True))
        live = [task for task in self.shop.hold.tasks(resource_id=port.id, limit=1000) if task.state not in FINAL]
        assert (row.waiting, row.applying, live) == (0, 0, [])
        assert row.planned == row.lifecycle
        assert row.sync_status == state.sync_of(row)
        there = self.shop.backend.there(port.id)
        if row.deleted_at is not None:
            assert (row.lifecycle, there) == ("DELETED", None)
        elif row.sync_status == "IN_SYNC":
            assert there == plain(json.loads(row.desired))
            assert row.applied_revision == row.revision
        lifecycle, applied = self.seen.get(port.id, ("BUILD", 0))
        assert applied <= row.applied_revision <= row.revision
        assert self.leads(lifecycle, row.lifecycle), (lifecycle, row.lifecycle)
        self.seen[port.id] = (row.lifecycle, row.applied_revision)
        brought = port.revisions(limit=1000)
        assert [each["revision"] for each in brought] == list(range(row.revision, 0, -1))
        assert all(each["task_id"] for each in brought)

    def leads(self, before: str, after: str) -> bool:
        """Whether declared edges lead from one to the other; a rollback goes one back."""
        reached, waiting = {before}, [before]
        both = self.edges | {(after, before) for before, after in self.edges}
        while waiting:
            at = waiting.pop()
            for one, other in both:
                if one == at and other not in reached:
                    reached.add(other)
                    waiting.append(other)
        return after in reached


@pytest.mark.requirement("NOVA-9", "NOVA-11")
@pytest.mark.parametrize("seed", range(4))
def test_a_random_history_stays_true(tmp_path: Path, seed: int) -> None:
    shop = Shop(tmp_path, poll_s=0.01)
    walk = Walk(shop, seed)
    for _ in range(ROUNDS):
        walk.step()
        assert shop.hold.store.read(lambda tx: list(examine.faults(tx))) == []
    walk.settle()
    assert len(walk.seen) == len(walk.ports) > 0
    shop.hold.close()
