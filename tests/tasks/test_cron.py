"""Moments of cron expressions, over both changes of the clock, and from any moment on."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.errors import ScheduleInvalid
from holdfast.tasks import cron

BERLIN = "Europe/Berlin"
HOUR_S, DAY_S = 3600.0, 86_400.0


def at(*when: int, fold: int = 0) -> float:
    return datetime(*when, tzinfo=ZoneInfo(BERLIN), fold=fold).timestamp()  # type: ignore[misc, arg-type]


def told(expression: str, since: float, until: float) -> list[str]:
    found = cron.passed(expression, BERLIN, since, until, limit=1000)
    return [datetime.fromtimestamp(each, ZoneInfo(BERLIN)).strftime("%d %H:%M%z") for each in found]


def test_what_is_due_at_an_hour_that_is_left_out_is_due_when_the_clock_goes_on() -> None:
    assert told("30 2 * * *", at(2026, 3, 28), at(2026, 3, 31)) == ["28 02:30+0100", "29 03:00+0200", "30 02:30+0200"]
    assert told("0 1,2,3 * * *", at(2026, 3, 29), at(2026, 3, 30)) == ["29 01:00+0100", "29 03:00+0200"]


def test_what_is_due_in_the_hour_that_comes_twice_is_due_once() -> None:
    assert told("30 2 * * *", at(2026, 10, 24), at(2026, 10, 27)) == [
        "24 02:30+0200", "25 02:30+0200", "26 02:30+0100",
    ]  # fmt: skip


def test_asked_between_the_two_it_is_due_the_next_day() -> None:
    second = at(2026, 10, 25, 2, 10, fold=1)
    assert cron.after("30 2 * * *", BERLIN, second) == at(2026, 10, 26, 2, 30)


def test_what_is_due_every_half_hour_goes_by_the_time_that_passes() -> None:
    assert told("*/30 * * * *", at(2026, 10, 25, 2), at(2026, 10, 25, 3)) == [
        "25 02:00+0200", "25 02:30+0200", "25 02:00+0100", "25 02:30+0100", "25 03:00+0100",
    ]  # fmt: skip
    spring = cron.passed("*/30 * * * *", BERLIN, at(2026, 3, 29), at(2026, 3, 29, 6), limit=1000)
    assert {later - earlier for earlier, later in pairwise(spring)} == {HOUR_S / 2}


def test_of_a_long_time_only_the_last_moments_are_looked_for() -> None:
    until = at(2026, 6, 1)
    minutes = cron.passed("* * * * *", "UTC", 0.0, until, limit=3)
    assert minutes == [until - 120, until - 60, until]
    assert cron.passed("0 0 1 1 *", "UTC", 0.0, until, limit=1) == [datetime(2026, 1, 1, tzinfo=UTC).timestamp()]


@pytest.mark.parametrize(
    "wrong",
    ["", "* * * *", "* * * * * *", "@daily", "61 * * * *", "* * * * MON-SUN", "*/0 * * * *", "0 0 30 2 *",
     "* * */20 * 1L", "x" * 300, "-1 * * * *", "a b c d e"],
)  # fmt: skip
def test_what_is_no_expression_or_never_due_is_refused(wrong: str) -> None:
    with pytest.raises(ScheduleInvalid):
        cron.check(wrong)


@pytest.mark.parametrize("wrong", ["", "../etc/passwd", "/etc/passwd", "Europe", "Mars/Base", "UTC\0", "x" * 100])
def test_what_is_no_zone_is_refused(wrong: str) -> None:
    with pytest.raises(ScheduleInvalid, match="time zone"):
        cron.check("* * * * *", wrong)


@settings(max_examples=25, deadline=None)
@given(
    expression=st.sampled_from(
        ["*/7 * * * *", "30 2 * * *", "0,30 1-4 * * *", "15 */2 * * *", "0 2 * * SUN", "5 3 L * *", "59 23 29 3 *"]
    ),
    zone=st.sampled_from(["UTC", BERLIN, "America/New_York", "Australia/Lord_Howe", "America/Sao_Paulo"]),
    start=st.sampled_from([at(2026, 3, 27), at(2026, 10, 23), at(2026, 4, 3), at(2026, 11, 1), at(2018, 11, 2)]),
    offset_s=st.integers(0, 6 * 86_400),
    limit=st.integers(1, 20),
)
def test_moments_are_the_same_wherever_one_begins(
    expression: str, zone: str, start: float, offset_s: int, limit: int
) -> None:
    whole = cron.passed(expression, zone, start, start + 9 * DAY_S, limit=10_000)
    assert whole == sorted(set(whole))
    middle = start + offset_s
    behind = [each for each in whole if each > middle]
    assert behind == [] or cron.after(expression, zone, middle) == behind[0]
    assert (
        cron.passed(expression, zone, start, middle, limit=limit) == [each for each in whole if each <= middle][-limit:]
    )
