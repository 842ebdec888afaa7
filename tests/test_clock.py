"""Time and chance, real and fake."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import threading
import uuid
from pathlib import Path

import pytest

import holdfast
from holdfast.clock import Clock
from holdfast.testing.clock import START, FakeClock


def test_ids_are_uuid7_that_sort_as_they_were_made() -> None:
    clock = Clock()
    ids = [clock.uuid7() for _ in range(5_000)]
    assert ids == sorted(ids)
    assert len(set(ids)) == len(ids)
    parsed = uuid.UUID(ids[-1])
    assert (parsed.version, parsed.variant, str(parsed)) == (7, uuid.RFC_4122, ids[-1])
    assert abs((parsed.int >> 80) / 1000 - clock.time()) < 5


FORK = """
import os
from holdfast.clock import Clock
clock = Clock()
clock.uuid7()
child = os.fork()
os.write(1, "".join(clock.uuid7()[24:] + " " for _ in range(100)).encode())
if child:
    os.waitpid(child, 0)
"""


def test_ids_of_a_fork_differ_from_its_parents() -> None:
    done = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True, check=True)
    chance = done.stdout.split()
    assert len(chance) == len(set(chance)) == 200


def test_ids_of_several_threads_differ() -> None:
    clock = FakeClock()
    ids: list[str] = []
    threads = [threading.Thread(target=lambda: ids.extend(clock.uuid7() for _ in range(500))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(ids)) == 2_000


@pytest.mark.parametrize(
    ("says", "off_s"),
    [(100.0, 0.0), (100.001, 0.0), (103.999, 0.0), (104.0, 0.0), (104.5, 0.5), (99.0, -1.0), (222.0, 118.0)],
)
def test_a_clock_is_set_by_another_where_they_differ_by_more_than_the_way_takes(says: float, off_s: float) -> None:
    """Two processes of one machine, else, would be as far apart as their answers took ways of different lengths."""
    clock = FakeClock(100.0)

    def told(asked_at: float) -> float:
        assert asked_at == 100.0
        clock.advance(4.0)
        return says

    clock.set_by(told)
    assert clock.off_s == off_s


def test_a_clock_that_is_set_back_while_another_is_asked_is_not_set_by_that() -> None:
    clock = FakeClock(100.0)

    def told(asked_at: float) -> float:
        clock.set_back(60.0)
        return asked_at + 0.5

    clock.set_by(told)
    assert clock.off_s == 0.0


def test_a_time_is_what_is_shown_of_it() -> None:
    at = Clock().time()
    assert at == round(at, 6)


def test_an_id_made_after_the_clock_was_set_back_still_sorts_behind() -> None:
    clock = FakeClock()
    before = clock.uuid7()
    clock.set_back(3_600)
    assert clock.uuid7() > before
    assert (clock.time(), clock.monotonic()) == (START - 3_600, 0.0)


def test_chance_is_in_range_and_a_seed_repeats_it() -> None:
    assert all(0 <= Clock().random() < 1 for _ in range(1_000))
    assert FakeClock(seed=1).random() == FakeClock(seed=1).random() != FakeClock(seed=2).random()
    assert FakeClock(seed=1).uuid7() == FakeClock(seed=1).uuid7()
    assert re.fullmatch("[0-9a-f]{16}", Clock().token_hex(8))


def test_the_real_clock_waits_for_an_event() -> None:
    clock, event = Clock(), threading.Event()
    assert not clock.wait(event, 0)
    assert not clock.wait(event, -1)
    event.set()
    assert clock.wait(event)
    assert clock.wait(event, float("inf"))
    assert clock.monotonic() <= clock.monotonic()


def test_in_one_thread_a_wait_is_over_at_once_and_later() -> None:
    clock = FakeClock()
    assert not clock.wait(threading.Event(), 86_400)
    assert clock.time() == START + 86_400
    assert clock.monotonic() == 86_400
    done = threading.Event()
    done.set()
    assert clock.wait(done, 5)
    assert clock.monotonic() == 86_400


def test_time_jumps_when_all_threads_wait_and_in_order() -> None:
    clock, finish = FakeClock(threads=3), threading.Event()
    woken: list[tuple[float, int]] = []

    def sleeper(seconds: int) -> None:
        clock.wait(threading.Event(), seconds)
        woken.append((clock.monotonic(), seconds))
        clock.wait(finish)

    threads = [threading.Thread(target=sleeper, args=(seconds,)) for seconds in (30, 10, 20)]
    for thread in threads:
        thread.start()
    assert clock.await_waiters(3)  # with time standing still: each has been woken and waits for the finish
    finish.set()
    for thread in threads:
        thread.join(10)
    assert woken == [(10, 10), (20, 20), (30, 30)]


def test_only_advance_moves_a_clock_without_threads() -> None:
    clock = FakeClock(threads=None)
    over: list[bool] = []
    thread = threading.Thread(target=lambda: over.append(clock.wait(threading.Event(), 60)))
    thread.start()
    assert clock.await_waiters(1)
    clock.advance(59)
    assert clock.await_waiters(1)
    assert over == []
    assert clock.jump() == 1
    thread.join(10)
    assert over == [False]
    assert clock.jump() == 0


def test_a_set_event_ends_a_wait_with_a_clock_that_nobody_advances() -> None:
    clock, event = FakeClock(threads=None), threading.Event()
    over: list[bool] = []
    thread = threading.Thread(target=lambda: over.append(clock.wait(event)))
    thread.start()
    assert clock.await_waiters(1)
    event.set()
    thread.join(10)
    assert over == [True]
    assert clock.monotonic() == 0


def test_coroutines_wait_in_the_order_of_their_moments() -> None:
    clock = FakeClock()
    woken: list[tuple[float, str]] = []

    async def sleeper(name: str, *pauses: float) -> None:
        for pause in pauses:
            assert not await clock.wait_async(asyncio.Event(), pause)
            woken.append((clock.monotonic(), name))

    async def main() -> None:
        await asyncio.gather(sleeper("a", 10, 10), sleeper("b", 5, 1, 10), sleeper("c", 0))

    asyncio.run(main())
    assert woken == [(0, "c"), (5, "b"), (6, "b"), (10, "a"), (16, "b"), (20, "a")]


def test_a_coroutine_is_woken_by_its_event_with_a_clock_that_nobody_advances() -> None:
    async def main(clock: Clock) -> bool:
        event = asyncio.Event()
        asyncio.get_running_loop().call_soon(event.set)
        return await clock.wait_async(event) and await clock.wait_async(event, 5)

    clock = FakeClock(threads=None)
    assert asyncio.run(main(clock))
    assert clock.monotonic() == 0
    assert asyncio.run(main(Clock()))


def test_a_coroutine_is_woken_by_a_jump_from_another_thread() -> None:
    clock = FakeClock(threads=None)
    over: list[bool] = []

    async def main() -> None:
        over.append(await clock.wait_async(asyncio.Event(), 60))

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    assert clock.await_waiters(1)
    assert clock.jump() == 60
    thread.join(10)
    assert over == [False]


def test_the_real_clock_gives_a_coroutine_up_when_its_time_is_over() -> None:
    assert asyncio.run(Clock().wait_async(asyncio.Event(), 0.001)) is False
    assert asyncio.run(Clock().wait_async(asyncio.Event(), -1)) is False


def test_nothing_else_reads_time_or_chance() -> None:
    house = Path(holdfast.__file__).parent
    reads = re.compile(
        r"^\s*(import|from) (time|random|secrets)\b|\bos\.urandom\(|\buuid4\(|datetime\.now\(|utcnow\(",
        re.M,
    )
    found = {
        str(file.relative_to(house))
        for file in house.rglob("*.py")
        if reads.search(file.read_text()) and file.relative_to(house).parts[0] != "testing"
    }
    # The guest is a program of its own, which knows nothing of us; the client's shell hands both to what is beneath it.
    assert found == {"clock.py", "client/shell.py", "resources/server/guest.py"}


def test_the_clock_is_cheap_to_import() -> None:
    code = "import sys, holdfast.clock; print(*sorted({'asyncio', 'random', 'uuid', 'secrets'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": ":".join(sys.path)}, capture_output=True, check=True, text=True
    )
    assert done.stdout == "\n"
