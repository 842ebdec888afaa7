"""Children against real `kill -9`: no second child, none lost, and what was undone is undone in all of a family."""

from __future__ import annotations

import os
import random
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from sqlalchemy import select

from holdfast.errors import VerbRefused
from holdfast.flow.compile import compile
from holdfast.local import Holdfast
from holdfast.local import open as open_database
from holdfast.store.schema import tasks
from tests.crash import family_flows as flows
from tests.crash.test_kill import killed, start
from tests.postgresql import database_at

KILLS = int(os.environ.get("HOLDFAST_TEST_FAMILY_KILLS", "30"))


@pytest.mark.timeout(600)
@pytest.mark.requirement("NEUTRON-5")
@pytest.mark.requirement("NOVA-14")
def test_thirty_kills_leave_one_family_each(tmp_path: Path) -> None:
    seed = int(os.environ.get("HOLDFAST_TEST_SEED", random.randrange(1 << 32)))
    print(f"seed {seed}: HOLDFAST_TEST_SEED={seed} repeats the draws")
    chance = random.Random(seed)
    database, witness = database_at(tmp_path / "tasks.db"), tmp_path / "witness"
    asked: dict[str, str] = {}
    told: set[str] = set()
    kills = 0
    while kills < KILLS:
        with open_database(database) as hold:
            unended = hold.tasks(state="pending,running,waiting,reverting", limit=1000)
            for flow in chance.choices((*flows.FORWARD, *flows.BACKWARD), k=max(0, 5 - len(unended))):
                given = {"witness": str(witness), "pause": chance.uniform(0.0, 0.05)}
                task = hold.submit(flow, {name: given[name] for name in compile(flow).inputs})
                asked[task.id] = flow.name
            if kills % 3 == 0:
                told |= tell_somebody(hold, chance)
        kills += killed(start(database), chance.uniform(0.05, 0.6))
    with open_database(database) as hold:
        for task in hold.tasks(state="suspended", roots=True, limit=1000):
            task.resume()
    finishing = start(database)
    assert finishing.wait(240) == 0
    finishing.close()
    judge(database, witness, asked, told)


def tell_somebody(hold: Holdfast, chance: random.Random) -> set[str]:
    """A verb for one of the tasks at the top, while no worker is there; the ids of those that end otherwise by it."""
    living = hold.tasks(state="pending,running,waiting,reverting,suspended", roots=True, limit=1000)
    if not living:
        return set()
    task = chance.choice(living)
    verb = chance.choice(("cancel", "abort", "suspend", "resume", "rollback"))
    try:
        getattr(task, verb)()
    except VerbRefused:
        return set()
    return set() if verb in ("suspend", "resume") else {task.id}


def judge(database: str, witness: Path, asked: dict[str, str], told: set[str]) -> None:
    forward = {flow.name for flow in flows.FORWARD}
    done: dict[str, list[str]] = defaultdict(list)
    for line in witness.read_text().splitlines():
        what, _, _, key = line.split(" ")
        done[key].append(what)
    with open_database(database) as hold:
        rows = hold.store.read(lambda tx: tx.execute(select(tasks).order_by(tasks.c.id)).all())
        by_id = {row.id: row for row in rows}
        root_of = {row.id: by_id[row.root_id if row.root_id is not None else row.id] for row in rows}
        for row in rows:
            assert row.finished_at is not None, f"{row.flow} {row.uuid} is {row.state}: {hold.task(row.uuid).trace}"
            if row.parent_id is not None:
                assert by_id[row.parent_id].finished_at >= row.finished_at
                assert (row.child_key is None) == (row.rollback_of is not None)
            elif row.uuid not in told:
                assert row.state == ("SUCCEEDED" if asked[row.uuid] in forward else "FAILED"), hold.task(row.uuid).trace
                assert row.effect == ("applied" if row.state == "SUCCEEDED" else "none")
        keys = Counter(row.child_key for row in rows if row.child_key is not None)
        assert set(keys.values()) <= {1}
        entries = Counter(key.partition("#")[0] for key in keys)
        tried = {row.uuid for row in rows if row.flow == "tried"}
        assert all(times <= (2 if key.partition(":")[0] in tried else 1) for key, times in entries.items()), entries
        undone = {row.rollback_of for row in rows if row.rollback_of is not None and row.state == "SUCCEEDED"}
        for row in rows:
            root = root_of[row.id]
            if row.rollback_of is not None or root.state == "ABORTED":
                continue
            gone = row.effect == "none" or row.id in undone
            assert gone == (root.effect == "none"), f"{row.flow} {row.uuid} in {root.flow}, which is {root.state}"
            for key, whats in done.items():
                if key.startswith(f"{row.uuid}:") and "polled" not in key:
                    assert whats[-1] == ("unend" if gone else "end"), f"{row.flow} {key}: {whats}"
