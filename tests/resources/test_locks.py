"""In which order rows are locked, and what becomes of who comes second where there is no row yet. Nothing waits here,
for one process writes; but every transaction locks in the one order that lets others run beside it."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Insert, Select, Update

from holdfast.errors import ResourceImmutable, ResourceNotFound
from holdfast.resources.operate import Asked, operate
from holdfast.store.base import Result, Tx
from holdfast.store.pg_session import PostgresSession
from holdfast.store.schema import queues
from holdfast.store.sqlite import SqliteSession
from holdfast.store.transaction import Transaction
from holdfast.tasks import claims
from tests.postgresql import ON_POSTGRESQL
from tests.resources.conftest import Shop
from tests.resources.meanwhile import Meanwhile
from tests.resources.test_crash import die_in_the_middle, work_without_kinds

Session: Any = PostgresSession if ON_POSTGRESQL else SqliteSession


class Locks:
    """What each transaction, or each part of one with a savepoint of its own, has locked, in that order."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.parts: list[list[str]] = [[]]
        execute, begin, savepoint = Transaction.execute, Session.begin, Session.savepoint

        def noted(tx: Transaction, statement: Any, parameters: Any = None) -> Result:
            if isinstance(statement, Update) or (
                isinstance(statement, Select) and statement._for_update_arg is not None
            ):
                locked = [statement.table] if isinstance(statement, Update) else statement.get_final_froms()
                self.parts[-1] += [getattr(each, "name", "") for each in locked]
            if isinstance(statement, Insert) and statement.table is queues:
                assert statement._post_values_clause is not None, "draw or insert_new: another may be first"
                self.parts[-1].append(queues.name)
            return execute(tx, statement, parameters)

        def begun(session: Any) -> None:
            self.parts.append([])
            begin(session)

        def parted(session: Any) -> None:
            self.parts.append([])
            savepoint(session)

        patch.setattr(Transaction, "execute", noted)
        patch.setattr(Session, "begin", begun)
        patch.setattr(Session, "savepoint", parted)


def test_resources_are_locked_before_queues_whoever_comes(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    locks = Locks(monkeypatch)
    shop.ask("create", "own", desired={}, claims=["rack/1"])
    shop.work()
    port = shop.hold.resource("port", "own")
    for task in (shop.do("down", port.id), shop.do("update", port.id, desired={"mtu": 2})):
        task.rollback(force=True)
        shop.work()
    failed = shop.do("update", port.id, desired={"mtu": 3, "faults": ["before"]})
    failed.retry()
    shop.ask("ping", port.id).cancel()
    shop.ask("ping", port.id).abort()
    held = shop.ask("update", port.id, desired={"mtu": 4, "faults": ["after", "undo"]})
    shop.ask("ping", port.id)
    shop.work()
    assert held.reason == "revert_failed"
    held.suspend(release_claims=True)
    held.force_fail("enough")
    shop.work()
    task = shop.ask("update", port.id, desired={"mtu": 5, "faults": ["hang"]})
    shop.ask("delete", port.id)
    die_in_the_middle(shop, port)
    work_without_kinds(shop)
    assert task.reason == "definition_changed"
    task.abort()
    shop.work()
    both = [part for part in locks.parts if "resources" in part and "queues" in part]
    assert len(both) > 20
    assert [part for part in both if part.index("queues") < part.index("resources")] == []


def test_of_two_that_draw_the_first_number_one_has_the_second(shop: Shop) -> None:
    drawn: list[int] = []

    def both(tx: Tx) -> None:
        second: Any = Meanwhile(tx, lambda tx: drawn.append(claims.take_number(tx, "rack/1")))
        drawn.append(claims.take_number(second, "rack/1"))

    shop.hold.store.write(both)
    assert drawn == [1, 2]


@pytest.mark.parametrize(("project", "error"), [("default", ResourceImmutable), ("other", ResourceNotFound)])
def test_who_makes_what_another_has_just_made_is_told_so(shop: Shop, project: str, error: type[Exception]) -> None:
    hold, asked = shop.hold, Asked("port", "create", "p1", desired={})

    def make(tx: Tx) -> None:
        operate(tx, hold.kinds, asked, 1.0, hold.clock.uuid7())

    def both(tx: Tx) -> None:
        late: Any = Meanwhile(tx, make)
        operate(late, hold.kinds, asked._replace(project_id=project), 1.0, hold.clock.uuid7())

    with pytest.raises(error):
        hold.store.write(both)
    assert shop.hold.tasks() == [], "all of it was undone"
