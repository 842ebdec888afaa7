"""Whose turn it is: slow receivers, and those of one project or host, leave the others room."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import count

import pytest

from holdfast.feed import turns
from holdfast.feed.hooks import Hook
from holdfast.feed.turns import Turns

_ids = count(1)


def hook(project: str | None = None, url: str | None = None, *, failures: int = 0) -> Hook:
    number = next(_ids)
    return Hook(
        f"{number:05}", project or f"p{number}", "u", url or f"http://h{number}/", "", "{}", 0, 0.0, None, failures,
        0.0, None, None, 0.0,
    )  # fmt: skip


def take_all(of: Turns) -> list[Hook]:
    """Whose turn it is, until one would have to wait."""
    found: list[Hook] = []
    while (each := of._next()) is not None:
        found.append(each)
    return found


def tried(of: Turns, *hooks: Hook, took_s: float) -> None:
    of.offer(hooks, of.mark())
    for each in take_all(of):
        of.end(each.id, took_s)


@pytest.mark.parametrize(
    ("alike", "most"),
    [
        (lambda: hook(project="p"), turns.OF_PROJECT),
        (lambda: hook(url="http://one/x"), turns.TO_HOST),
        (lambda: hook(failures=3), turns.SLOW),
        (lambda: hook(), turns.NEW),
    ],
)
def test_some_are_always_left_for_others(alike: Callable[[], Hook], most: int) -> None:
    of = Turns()
    quick = hook()
    tried(of, quick, took_s=0.1)
    crowd = [alike() for _ in range(50)]
    assert of.offer([*crowd, quick], of.mark()) == turns.AT_ONCE
    taken = take_all(of)
    assert len(taken) == most + 1
    assert quick in taken


def test_slow_and_new_ones_together_leave_room_for_quick_ones() -> None:
    of = Turns()
    slow, quick = [hook() for _ in range(12)], [hook() for _ in range(8)]
    tried(of, *slow, took_s=1.5)
    tried(of, *quick, took_s=0.5)
    of.offer([*(hook() for _ in range(40)), *(hook(failures=1) for _ in range(40)), *slow, *quick], of.mark())
    taken = take_all(of)
    assert {each.id for each in quick} < {each.id for each in taken}
    assert len(taken) == turns.SLOW + turns.NEW + len(quick) <= turns.AT_ONCE


def test_one_is_served_once_at_a_time_and_the_longest_waiting_first() -> None:
    of = Turns()
    first, second, third = (hook(project="p") for _ in range(3))
    of.offer([third, first], of.mark())
    assert take_all(of) == [first, third]
    assert of.offer([first, second, third], of.mark()) == 3
    assert take_all(of) == [second], "the others' turns are not over"
    of.end(third.id, 0.1)
    of.end(first.id, None)
    of.offer([first, third], of.mark())
    assert take_all(of) == [third, first]


def test_what_was_read_before_a_turn_ended_is_not_believed() -> None:
    of = Turns()
    mine = hook()
    of.offer([mine], of.mark())
    mark = of.mark()
    assert take_all(of) == [mine]
    of.end(mine.id, 0.1)  # it failed, say, and is to be left alone for a while: the row that was read doesn't say so
    of.offer([mine], mark)
    assert take_all(of) == []
    of.offer([mine], of.mark())
    assert take_all(of) == [mine]


def test_the_end_of_a_turn_makes_room() -> None:
    of = Turns()
    crowd = [hook(project="p") for _ in range(turns.OF_PROJECT + 1)]
    of.offer(crowd, of.mark())
    assert take_all(of) == crowd[:-1]
    waiting: list[Hook | None] = []
    thread = threading.Thread(target=lambda: waiting.append(of.take()))
    thread.start()
    of.end(crowd[0].id, 0.1)
    thread.join(20)
    assert waiting == [crowd[-1]]
    of.forget(but=set())
    assert of._last == of._quick == {}
