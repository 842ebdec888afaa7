"""One fault at a time, at the moment that hurts, in a cluster of real processes: on a file and on PostgreSQL."""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select

from chaos import load, postgresql
from chaos.cluster import Member
from holdfast.local import open as open_database
from holdfast.store.schema import workers
from holdfast.tasks.lease import WorkerRow
from tests.chaos.conftest import Site, until

MakeSite = Callable[..., Site]


def rows_of(site: Site, worker: Member) -> list[WorkerRow]:
    """What the database has of each name that the process had."""
    of_it = select(workers).where(workers.c.pid == worker.pid).order_by(workers.c.started_at)
    with open_database(site.cluster.database) as hold:
        return hold.store.read(lambda tx: [WorkerRow(*row) for row in tx.execute(of_it).all()])


def is_refused_once(row: WorkerRow) -> bool:
    """Whether a heartbeat has said so under the name before."""
    return row.figures is not None and json.loads(row.figures)["lease_losses"] == 1


@pytest.mark.requirement("G2", "P10")
def test_a_worker_frozen_past_its_lease_changes_nothing_and_stops_its_step_when_it_thaws(make_site: MakeSite) -> None:
    site = make_site()
    task = site.ask("march", "r1", pause=1.5)
    behind = site.ask("march", "r1")
    first = site.until_heard("begin", task=task, step=2)
    (frozen,) = [worker for worker in site.cluster.workers if worker.incarnation == first.who]
    frozen.freeze()
    assert site.ended(task, behind) == ["SUCCEEDED", "SUCCEEDED"]
    story = site.line.insist(0, "GET", f"/v3/tasks/{task}/log").body["log"]
    (buried,) = rows_of(site, frozen)
    assert buried.dead
    frozen.thaw()
    stopped = site.until_heard("end", entry=first.more["entry"])
    assert stopped.more["how"] == "Stopping"
    assert site.line.insist(0, "GET", f"/v3/tasks/{task}/log").body["log"] == story
    assert [row["kind"] for row in story].count("taken_over") == 1
    after = [site.ask("glide", f"r{number}", pause=0.5) for number in range(2, 18)]
    until(lambda: any(line.who == frozen.incarnation for line in site.heard("begin")[-30:]), "it works again")
    assert set(site.ended(*after)) == {"SUCCEEDED"}
    until(lambda: is_refused_once(rows_of(site, frozen)[-1]), "its heartbeat was refused")
    assert rows_of(site, frozen)[0] == buried
    history = site.judged()
    assert history.entries[first.more["entry"]].stale_from < stopped.place


@pytest.mark.requirement("P2", "G1")
def test_a_database_gone_at_the_last_write_for_longer_than_the_lease_locks_no_resource(make_site: MakeSite) -> None:
    lease_s = 5.0
    site = make_site(lease_s=str(lease_s))
    task = site.ask("march", "r1", pause=0.6)
    behind = site.ask("march", "r1")
    last = site.until_heard("begin", task=task, step=3)
    give_back = site.take_away()
    site.until_heard("end", entry=last.more["entry"])
    gone_at = time.monotonic()
    until(lambda: time.monotonic() > gone_at + lease_s * 1.2, "longer than the lease")
    assert not site.heard("begin", task=behind)
    give_back()
    back_at = time.monotonic()
    site.until_heard("begin", task=behind)
    assert time.monotonic() - back_at < lease_s
    site.cluster.tend()
    assert site.ended(task, behind) == ["SUCCEEDED", "SUCCEEDED"]
    site.judged()


@pytest.mark.requirement("NEUTRON-8", "NEUTRON-9", "P9", "G5")
def test_two_hundred_tasks_on_opposite_claims_over_four_workers_all_end_in_their_turn(make_site: MakeSite) -> None:
    site = make_site(apis=2, workers=4)
    chance = random.Random(9)
    wanted = [chance.choice([("r1", "r2"), ("r2", "r1"), ("r1", "r2", "r3"), ("r3",)]) for _ in range(200)]
    tasks = [site.ask("dash", *names) for names in wanted]
    assert Counter(site.ended(*tasks)) == {"SUCCEEDED": 200}
    history = site.judged()
    began = {task: history.tasks[task].entries[0].begin.place for task in tasks}
    for name in ("r1", "r2", "r3"):  # who asked first came first, however many it needs
        places = [began[task] for task, names in zip(tasks, wanted, strict=True) if name in names]
        assert places == sorted(places)


@pytest.mark.requirement("TAG-14")
def test_one_tag_from_fifty_threads_through_three_services_is_one_task(make_site: MakeSite) -> None:
    site = make_site(apis=3, workers=1)

    def ask(number: int) -> tuple[str, bool]:
        line = load.Line(site.cluster.urls)
        body = {"task": "dash", "params": {"claims": []}}
        heard = line.ask(number, "POST", "/v3/tasks", body, Task_tag="order-1")
        line.close()
        assert heard.status == 202, heard
        return heard.body["task"]["uuid"], heard.replayed

    with ThreadPoolExecutor(150) as pool:
        answers = list(pool.map(ask, range(150)))
    assert len({uuid for uuid, _ in answers}) == 1
    assert Counter(replayed for _, replayed in answers) == {True: 149, False: 1}
    assert len(load.every(site.line, "/v3/tasks?limit=1000")) == 1
    assert site.ended(answers[0][0]) == ["SUCCEEDED"]


@pytest.mark.requirement("NOVA-18", "TAG-14")
def test_a_service_that_dies_amid_two_hundred_requests_loses_and_doubles_none(make_site: MakeSite) -> None:
    site = make_site(apis=2, workers=1)
    dying, accepted = site.cluster.apis[0], threading.Semaphore(0)

    def ask(number: int) -> str:
        line = load.Line(site.cluster.urls)
        uuid = load.ask(line, site.cluster.witness, "test", f"order-{number}", number, "dash", {}, 0.0)
        line.close()
        accepted.release()
        return uuid

    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(ask, number) for number in range(200)]
        for _ in range(50):
            accepted.acquire()
        dying.kill()
        assert not all(each.done() for each in asked)
    tasks = [each.result() for each in asked]
    assert len(set(tasks)) == len(load.every(site.line, "/v3/tasks?limit=1000")) == 200
    dying.start()
    assert Counter(site.ended(*tasks)) == {"SUCCEEDED": 200}
    site.judged()


@pytest.mark.requirement("P10", "G2")
@pytest.mark.parametrize("make_site", ["postgresql"], indirect=True)  # who shares a file shares a clock
@pytest.mark.parametrize("by_s", [-120, 120])
def test_a_worker_whose_clock_is_two_minutes_off_works_as_others_do(make_site: MakeSite, by_s: int) -> None:
    """It alone, what is asked of it is begun at once; beside another, neither takes the other for dead."""
    site = make_site(workers=2)
    skewed, right = site.cluster.workers
    skewed.extra |= postgresql.clock_off(by_s)
    for worker in (skewed, right):
        worker.kill()
    skewed.start()
    began = time.monotonic()
    alone = [site.ask(flow, "r1", pause=0.1) for flow in ("march", "doze", "forge")]
    assert site.ended(*alone) == ["SUCCEEDED"] * 3
    assert time.monotonic() - began < 60
    right.start()
    tasks = [site.ask("glide", f"r{number}", pause=1.5) for number in range(1, 9)]
    assert set(site.ended(*tasks)) == {"SUCCEEDED"}
    history = site.judged()
    assert {entry.who for task in tasks for entry in history.tasks[task].entries} >= {skewed.incarnation}
    assert not [row for row in history.of("taken-over") if row.more["task"] in tasks]
