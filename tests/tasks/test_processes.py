"""Admission from several processes at once, on one file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import select

from holdfast.store.schema import tasks, tickets
from holdfast.store.sqlite import SqliteStore

REPOSITORY = Path(__file__).parents[2]
SUBMITTER = """
import sys
from holdfast.clock import Clock
from holdfast.store.sqlite import SqliteStore
from holdfast.tasks.claims import claims_of
from holdfast.tasks.submit import Request, submit

path, who = sys.argv[1:]
clock = Clock()
claims = claims_of(["a", "b"])
with SqliteStore(path, synchronous="normal") as store:
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(25):
        tagged = Request("build", "flows:build", tag=f"order-{number}")
        claiming = Request("build", "flows:build", claims=claims, user_id=who)
        for request in (tagged, claiming):
            store.write(lambda tx: submit(tx, request, clock.time(), clock.uuid7()))
"""


@pytest.mark.requirement("TAG-14", "NEUTRON-7")
def test_one_tag_is_one_task_and_tickets_are_in_the_order_of_admission(tmp_path: Path) -> None:
    path = tmp_path / "tasks.db"
    SqliteStore(str(path)).close()
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SUBMITTER, str(path), f"process-{each}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
        )
        for each in range(3)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.communicate("go\n")
    assert [process.returncode for process in processes] == [0, 0, 0]
    with SqliteStore(str(path)) as store:
        tagged = store.read(lambda tx: tx.execute(select(tasks.c.tag).where(tasks.c.tag.is_not(None))).scalars())
        assert sorted(tagged) == sorted(f"order-{number}" for number in range(25))
        for resource in "ab":
            queue = select(tickets.c.task).where(tickets.c.resource == resource).order_by(tickets.c.ticket)
            admitted = store.read(lambda tx, queue=queue: tx.execute(queue).scalars())
            assert (len(admitted), admitted) == (75, sorted(admitted))
