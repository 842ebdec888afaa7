"""Children against real `kill -9`: no second child, none lost, and what was undone is undone in all of a family."""

from __future__ import annotations

import os
import random
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from sqlalchemy import select

from holdfast.flow.compile import compile
from holdfast.local import open as open_database
from holdfast.store.schema import tasks
from tests.crash import family_flows as flows
from tests.crash.test_kill import killed, start

KILLS = int(os.environ.get("HOLDFAST_TEST_FAMILY_KILLS", "30"))


@pytest.mark.timeout(600)
@pytest.mark.requirement("NEUTRON-5")
@pytest.mark.requirement("NOVA-14")
def test_thirty_kills_leave_one_family_each(tmp_path: Path) -> None:
    seed = int(os.environ.get("HOLDFAST_TEST_SEED", random.randrange(1 << 32)))
    print(f"seed {seed}: HOLDFAST_TEST_SEED={seed} repeats the draws")
    chance = random.Random(seed)
    database, witness = f"sqlite:///{tmp_path / 'tasks.db'}", tmp_path / "witness"
    asked: dict[str, str] = {}
    kills = 0
    while kills < KILLS:
        with open_database(database) as hold:
            unended = hold.tasks(state="pending,running,waiting,reverting", limit=1000)
            for flow in chance.choices((*flows.FORWARD, *flows.BACKWARD), k=max(0, 5 - len(unended))):
                given = {"witness": str(witness), "pause": chance.uniform(0.0, 0.05)}
                task = hold.submit(flow, {name: given[name] for name in compile(flow).inputs})
                asked[task.id] = flow.name
        kills += killed(start(database), chance.uniform(0.05, 0.6))
    finishing = start(database)
    assert finishing.wait(240) == 0
    assert finishing.stdout is not None
    finishing.stdout.close()
    judge(database, witness, asked)


def judge(database: str, witness: Path, asked: dict[str, str]) -> None:
    forward = {flow.name for flow in flows.FORWARD}
    done: dict[str, list[str]] = defaultdict(list)
    for line in witness.read_text().splitlines():
        what, _, _, key = line.split(" ")
        done[key].append(what)
    with open_database(database) as hold:
        rows = hold.store.read(lambda tx: tx.execute(select(tasks).order_by(tasks.c.id)).all())
        by_id = {row.id: row for row in rows}
        for row in rows:
            assert row.finished_at is not None, f"{row.flow} {row.uuid} is {row.state}"
            if row.parent_id is None:
                assert row.state == ("SUCCEEDED" if asked[row.uuid] in forward else "FAILED"), hold.task(row.uuid).trace
                assert row.effect == ("applied" if row.state == "SUCCEEDED" else "none")
            else:
                assert by_id[row.parent_id].finished_at >= row.finished_at
                assert (row.child_key is None) == (row.rollback_of is not None)
        keys = Counter(row.child_key for row in rows if row.child_key is not None)
        assert set(keys.values()) == {1}
        entries = Counter(key.partition("#")[0] for key in keys)
        tried = {row.uuid for row in rows if row.flow == "tried"}
        assert all(times == (2 if key.partition(":")[0] in tried else 1) for key, times in entries.items()), entries
        undone = {row.rollback_of for row in rows if row.rollback_of is not None and row.state == "SUCCEEDED"}
        for row in rows:
            if row.rollback_of is not None:
                continue
            gone = row.effect == "none" or row.id in undone
            story = [(key, whats) for key, whats in done.items() if key.startswith(f"{row.uuid}:")]
            for key, whats in story:
                assert ("unend" in whats) == gone or "end" not in whats or "polled" in key, f"{row.flow} {key}: {whats}"
                assert not gone or "polled" in key or whats[-1] == "unend", f"{row.flow} {key}: {whats}"
        root_of = {row.id: by_id[row.root_id if row.root_id is not None else row.id] for row in rows}
        assert all(
            row.id in undone or row.effect == "none"
            for row in rows
            if root_of[row.id].state == "FAILED" and row.rollback_of is None
        )
