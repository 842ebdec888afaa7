"""One order of locks: whoever ends tasks and whoever gives them verbs never wait for each other in a circle.

PostgreSQL counts the circles that it had to break. Holdfast would try again, and nobody would see them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from functools import partial

import pytest

import holdfast as hf
from holdfast.core.states import FINAL
from holdfast.errors import VerbRefused
from holdfast.store.base import Store, Tx
from holdfast.tasks import control, finish, query, row
from tests.postgresql import Databases

ROUNDS = 45


@hf.step
def nothing() -> None:
    pass


FLOW = hf.linear("nothing", nothing)


def tell(tx: Tx, task: int, number: int) -> None:
    verb = (control.cancel, control.suspend, control.abort)[number % 3]
    with suppress(VerbRefused):  # it has ended
        verb(tx, task, 1.0, actor="somebody")


def ends(tx: Tx, task: int) -> None:
    """As a worker ends it: its row first."""
    if row.lock(tx, task).state not in FINAL:
        finish.ended(tx, task, "FAILED", 1.0, retention_s=1e6)


@pytest.mark.requirement("NEUTRON-7")
@pytest.mark.parametrize("told", [0, 1], ids=["that holds", "that waits"])
def test_a_storm_of_verbs_against_ends_has_no_deadlock(postgresql: Databases, told: int) -> None:
    url = postgresql.fresh()
    name = url.rpartition("/")[2]
    # So that a circle is found before those in it have waited as long as they would.
    postgresql.server.execute(f"ALTER DATABASE {name} SET deadlock_timeout = '5ms'")
    with ExitStack() as stack:
        ending, telling = (stack.enter_context(hf.open(url, flows=[FLOW])) for _ in range(2))
        pool = stack.enter_context(ThreadPoolExecutor(2))
        for number in range(ROUNDS):
            claims = [f"server/{number}", f"network/{number}"]
            uuids = [ending.submit(FLOW, claims=claims).id for _ in range(3)]
            ids = [ending.store.read(partial(query.get, uuid=uuid)).id for uuid in uuids]
            both = threading.Barrier(2)

            def at_once(store: Store, fn: Callable[[Tx], object], both: threading.Barrier = both) -> None:
                both.wait()
                store.write(fn)

            doing = [
                pool.submit(at_once, ending.store, partial(ends, task=ids[0])),
                pool.submit(at_once, telling.store, partial(tell, task=ids[told], number=number)),
            ]
            for done in doing:
                done.result()
            rows = ending.store.read(partial(row.read_all, ids=ids))
            verb = ("CANCELLED", "SUSPENDED", "ABORTED")[number % 3]
            assert rows[ids[0]].state in ("FAILED", verb if told == 0 else "FAILED")
            assert rows[ids[1]].state == ("PENDING" if told == 0 else verb)
            assert rows[ids[1 + told]].ready, "the next was not granted"
    counted = postgresql.server.execute(f"SELECT deadlocks FROM pg_stat_database WHERE datname = '{name}'")
    assert counted == [(0,)]
