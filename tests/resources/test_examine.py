"""What can't be is said, each in a sentence; what is all right is counted."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import update

from holdfast.resources import examine
from holdfast.store.schema import operations, resources
from tests.resources.conftest import Shop


def test_resources_are_counted(shop: Shop) -> None:
    shop.port()
    shop.do("create", desired={"faults": ["before"]})
    shop.do("delete", shop.port().id)
    assert shop.hold.store.read(examine.counts) == {"IN_SYNC": 1, "OUT_OF_SYNC": 1}
    assert shop.hold.store.read(lambda tx: list(examine.faults(tx))) == []


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (update(resources).values(waiting=2), "counts 2 tasks (1 that apply it), but there are (1, 1)"),
        (update(resources).values(sync_status="IN_SYNC"), "says IN_SYNC, but is SYNCING"),
        (update(resources).values(waiting=0, applying=0), "is ACTIVE and nothing waits, but DOWN is planned"),
        (update(resources).values(applied=None), "does not know what is applied"),
        (update(operations).values(live=True), "waits for a task that has ended"),
    ],
)
def test_what_can_not_be_is_said(shop: Shop, broken: Any, said: str) -> None:
    port = shop.port()
    shop.ask("update", port.id, desired={})
    if "planned" in said:
        shop.ask("down", port.id)
    shop.hold.store.write(lambda tx: tx.execute(broken))
    assert f"port/{port.id} {said}" in shop.hold.store.read(lambda tx: list(examine.faults(tx)))
