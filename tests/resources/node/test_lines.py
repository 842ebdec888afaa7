"""Lines to BMCs: how many calls at once, which first, and what becomes of one that hangs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from holdfast.errors import BMCRefused, BMCUnreachable
from holdfast.resources.node import lines as module
from holdfast.resources.node.lines import Calling, Lines, Yielded
from holdfast.resources.node.power import Bmc

PATIENCE_S = 30.0


class Switch:
    """What calls wait for, and what they say."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.begun: list[str] = []
        self.at_once = self.most = 0
        self._lock = threading.Lock()

    def call(self, bmc: Bmc) -> str:
        with self._lock:
            self.begun.append(bmc.node)
            self.at_once += 1
            self.most = max(self.most, self.at_once)
        assert self.go.wait(PATIENCE_S)
        with self._lock:
            self.at_once -= 1
        return bmc.node

    def until_begun(self, number: int) -> None:
        pause = threading.Event()
        for _ in range(3000):
            if len(self.begun) >= number:
                return
            pause.wait(0.01)
        raise AssertionError(f"{self.begun}")


@pytest.fixture
def switch() -> Iterator[Switch]:
    made = Switch()
    yield made
    made.go.set()


def bmc(node: str, **info: Any) -> Bmc:
    return Bmc(node, info, 5.0)


def begin(lines: Lines, switch: Switch, *nodes: str, background: bool = False) -> list[Calling]:
    return [lines.begin(bmc(node), switch.call, background=background) for node in nodes]


def test_a_call_gives_what_the_driver_gave() -> None:
    lines = Lines(2)
    assert lines.call(bmc("a"), lambda at: at.node) == "a"

    def refuse(at: Bmc) -> None:
        raise BMCRefused("no")

    with pytest.raises(BMCRefused, match="no"):
        lines.call(bmc("a"), refuse)
    assert lines.running == 0


def test_no_more_calls_at_once_than_there_are_lines(switch: Switch) -> None:
    lines = Lines(3)
    calls = begin(lines, switch, *"abcdefgh")
    switch.until_begun(3)
    switch.go.set()
    assert [call.result(PATIENCE_S) for call in calls] == list("abcdefgh")
    assert switch.most == 3
    assert lines.running == 0


def test_one_at_a_time_for_each_bmc(switch: Switch) -> None:
    lines = Lines(10)
    calls = [lines.begin(bmc(node, address="10.0.0.1", port=623), switch.call) for node in "ab"]
    other = lines.begin(bmc("c", address="10.0.0.1", port=624), switch.call)
    switch.until_begun(2)
    assert sorted(switch.begun) == ["a", "c"]
    switch.go.set()
    assert [call.result(PATIENCE_S) for call in (*calls, other)] == ["a", "b", "c"]


def test_users_come_before_the_background(switch: Switch) -> None:
    lines = Lines(1)
    begin(lines, switch, "first")
    looks = begin(lines, switch, "x", "y", background=True)
    user = begin(lines, switch, "z")
    switch.go.set()
    for call in (*looks, *user):
        call.result(PATIENCE_S)
    assert switch.begun == ["first", "z", "x", "y"]


@pytest.mark.parametrize("to", ["a", "b"])
def test_a_user_is_given_the_line_of_a_look(switch: Switch, to: str) -> None:
    """Of one at the same BMC, or where there is no other."""
    lines = Lines(1)
    (look,) = begin(lines, switch, "a", background=True)
    switch.until_begun(1)
    user = lines.begin(bmc(to), lambda at: "done")
    assert user.result(PATIENCE_S) == "done"
    with pytest.raises(Yielded):
        look.result(PATIENCE_S)


def test_while_users_call_few_look_around_and_all_do_soon_after(
    switch: Switch, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = Lines(8)
    (user,) = begin(lines, switch, "used")
    looks = begin(lines, switch, *"abcdefgh", background=True)
    assert [each.begun_at is not None for each in looks] == [True] * (8 // module.AROUND) + [False] * 6
    monkeypatch.setattr(module, "USERS_S", 0.0)  # as if the user had come that long ago
    begin(lines, switch, "i", background=True)
    assert [each.begun_at is not None for each in looks] == [True] * 7 + [False]
    switch.go.set()
    assert [each.result(PATIENCE_S) for each in (user, *looks)] == ["used", *"abcdefgh"]
    assert lines.running == 0
    assert lines._around == 0


def test_a_call_that_is_stopped_ends_by_the_drivers_own_means() -> None:
    lines, ended = Lines(1), threading.Event()

    def call(at: Bmc) -> None:
        closed = threading.Event()
        at.on_stop(closed.set)
        assert closed.wait(PATIENCE_S)
        ended.set()
        raise BMCUnreachable("the line was cut")

    calling = lines.begin(bmc("a"), call)
    pause = threading.Event()
    while calling.begun_at is None:
        pause.wait(0.01)
    calling.stop()
    with pytest.raises(BMCUnreachable, match=r"cut|come back"):
        calling.result(PATIENCE_S)
    assert ended.wait(PATIENCE_S)
    assert lines.running == 0


def test_a_hook_that_comes_too_late_is_called_at_once() -> None:
    lines, go, told = Lines(1), threading.Event(), threading.Event()

    def call(at: Bmc) -> None:
        assert go.wait(PATIENCE_S)
        at.on_stop(told.set)

    calling = lines.begin(bmc("a"), call)
    calling.stop()
    go.set()
    assert told.wait(PATIENCE_S)


def test_a_call_that_hangs_is_left_behind_and_its_line_is_free(switch: Switch) -> None:
    lines = Lines(1)
    (hung,) = begin(lines, switch, "a")
    switch.until_begun(1)
    hung.stop()
    assert lines.call(bmc("a"), lambda at: "answer") == "answer"
    with pytest.raises(BMCUnreachable, match="did not come back"):
        hung.result(0)
    switch.go.set()  # what it says after all is nobody's
    assert lines.call(bmc("b"), lambda at: "answer") == "answer"
    assert lines.running == 0


def test_a_call_that_was_not_begun_is_never_made(switch: Switch) -> None:
    lines = Lines(1)
    first, second = begin(lines, switch, "a", "b")
    switch.until_begun(1)
    second.stop()
    switch.go.set()
    assert first.result(PATIENCE_S) == "a"
    with pytest.raises(BMCUnreachable, match="not called"):
        second.result(PATIENCE_S)
    assert switch.begun == ["a"]


def test_a_driver_that_does_not_keep_to_its_time_is_not_waited_for(
    switch: Switch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MARGIN_S", 0.1)
    with pytest.raises(BMCUnreachable, match=r"no answer within 0\.1 s"):
        Lines(1).call(Bmc("a", {}, 0.1), switch.call)
