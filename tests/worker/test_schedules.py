"""Three processes look at the same schedules, and are killed while they do: a moment makes one task, and no moment is
lost. The moments lie in the past of the processes' clocks, so nobody waits for one."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from holdfast.clock import Clock
from holdfast.local import Holdfast
from holdfast.local import open as open_database
from holdfast.tasks import schedules
from holdfast.testing.clock import FakeClock
from tests.worker import schedule_flows
from tests.worker.house import House, Line, until

NUMBER, MOMENTS = 3, 15
KILLS = 3


@pytest.mark.requirement("TF-15")
def test_three_schedulers_that_are_killed_fire_each_moment_once(house: House) -> None:
    now = Clock().time()
    names = [f"s{number}" for number in range(NUMBER)]
    with open_database(house.url, clock=FakeClock(now - MOMENTS * 60.0, threads=None)) as hold:
        ids = {}
        for name in names:
            at = house.directory / name
            at.mkdir()
            ids[name] = hold.schedule(
                name, schedule_flows.mark, {"at": str(at)}, cron="* * * * *", catch_up="all", overlap="queue"
            ).id
        for number in range(MOMENTS):
            hold.submit(schedule_flows.begin, {"at": house.at, "number": number}, start_after=now - 30.0)

    chance = random.Random(15)
    workers = [house.worker(deaths_max=1000, lease_s=2.0) for _ in range(3)]
    for kill in range(KILLS):
        wanted = (kill + 1) * NUMBER * MOMENTS // (KILLS + 2)
        until(lambda wanted=wanted: marks(house.directory, names) >= wanted)  # type: ignore[misc]
        place = chance.randrange(3)
        workers[place].kill()
        workers[place] = house.worker(deaths_max=1000, lease_s=2.0)

    with open_database(house.url) as hold:
        until(lambda: all(task.state == "SUCCEEDED" for task in hold.tasks(limit=1000)) and settled(hold, ids.values()))
        for worker in workers:
            worker.leave()
        for name in names:
            fired = hold.store.read(lambda tx, name=name: schedules.history(tx, ids[name], limit=1000))  # type: ignore[misc]
            moments = [each.moment for each in fired][::-1]
            assert [each.outcome for each in fired] == [schedules.FIRED] * len(fired)
            assert moments == [moments[0] + 60.0 * place for place in range(len(moments))]
            assert len(moments) >= MOMENTS
            # A step that was interrupted is entered again, as always: under the key it had. Another task has another.
            keys = {(line.extra, line.key) for line in lines(house.directory / name)}
            assert Counter(moment for moment, _ in keys) == Counter(moments)
        asked = len({task.id for task in hold.tasks(limit=1000)})
        assert asked == MOMENTS + sum(len({line.key for line in lines(house.directory / name)}) for name in names)
    begun = {(line.extra, line.key) for line in house.lines()}
    assert Counter(number for number, _ in begun) == Counter(range(MOMENTS))


def lines(at: Path) -> list[Line]:
    return House(at).lines()


def marks(directory: Path, names: list[str]) -> int:
    return sum(len(lines(directory / name)) for name in names)


def settled(hold: Holdfast, ids: Iterable[str]) -> bool:
    """Whether every moment up to now has been looked at."""
    now = Clock().time()
    return all(each.at > now for each in hold.store.read(schedules.coming) if each.id in set(ids))
