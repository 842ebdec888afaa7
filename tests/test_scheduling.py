"""Schedules in one process, on a clock that jumps: what is asked for when, and what becomes of moments gone by."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import update

import holdfast as hf
from holdfast.errors import (
    DocumentInvalid,
    ScheduleExists,
    ScheduleInvalid,
    ScheduleNotFound,
    UnknownInput,
)
from holdfast.local import Holdfast
from holdfast.resources.kind import Kind, final, resting
from holdfast.scheduling import Schedule, admitting
from holdfast.store import schema
from holdfast.tasks import schedules
from holdfast.testing.clock import START, FakeClock
from tests.postgresql import database_at

MINUTE_S, HOUR_S, DAY_S = 60.0, 3600.0, 86_400.0
seen: list[object] = []


@hf.step
def look(scheduled_at: datetime) -> None:
    seen.append(scheduled_at)


@hf.step
def note(word: str) -> None:
    seen.append(word)


@hf.step
def wait_for_somebody(ctx: hf.Context) -> hf.WaitFor | None:
    return None if ctx.event else hf.WaitFor("somebody")


class Crate(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    name: str = "crate"


class Shake(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    times: int


class Day:
    """A database whose clock only moves when it is told to."""

    def __init__(self, path: Path, kinds: Iterable[Kind] = ()) -> None:
        self.clock = FakeClock(threads=None)
        self.hold = hf.open(database_at(path), clock=self.clock, kinds=kinds)
        seen.clear()

    def pass_(self, seconds: float, *, worked: bool = True) -> None:
        """Time passes; if somebody works, he looks at its end."""
        self.clock.advance(seconds)
        if worked:
            worker = self.hold.worker("inline")
            while worker.turn(self.clock.time()) or not worker.is_idle():
                pass
            worker.close()

    def outcomes(self, schedule: Schedule) -> list[str]:
        """What became of its moments, the earliest first."""
        return [each["outcome"] for each in schedule.view()["firings"]][::-1]


@pytest.fixture
def day(tmp_path: Path) -> Iterator[Day]:
    made = Day(tmp_path / "tasks.db")
    with made.hold:
        yield made


@pytest.fixture
def hold(day: Day) -> Holdfast:
    return day.hold


def hours(*numbers: int) -> list[datetime]:
    return [datetime.fromtimestamp(START + number * HOUR_S, UTC) for number in numbers]


@pytest.mark.requirement("TF-15")
def test_each_moment_makes_one_task_that_is_told_the_moment(day: Day, hold: Holdfast) -> None:
    made = hold.schedule("hourly", look, cron="0 * * * *")
    day.pass_(0)
    assert seen == []
    for _ in range(3):
        day.pass_(HOUR_S)
        day.pass_(1)
    assert seen == hours(1, 2, 3)
    assert day.outcomes(made) == [schedules.FIRED] * 3
    (task, *_) = hold.tasks()
    assert task.view()["origin"] == "schedule"
    assert made.view()["firings"][0]["task"] == task.id
    assert made.view()["next_at"] == hours(4)[0].strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def test_of_the_moments_of_a_down_time_the_latest_is_caught_up_with(day: Day, hold: Holdfast) -> None:
    hold.schedule("hourly", look, cron="0 * * * *")
    day.pass_(5.5 * HOUR_S)
    assert seen == hours(5)


def test_or_each_of_them_in_order_one_after_the_other(day: Day, hold: Holdfast) -> None:
    hold.schedule("hourly", look, cron="0 * * * *", catch_up="all", overlap="queue")
    day.pass_(5.5 * HOUR_S)
    assert seen == hours(1, 2, 3, 4, 5)
    day.pass_((schedules.ALL_MAX + 7) * HOUR_S)
    assert seen[5:] == hours(*range(5 + 8, 5 + 8 + schedules.ALL_MAX))  # the earliest of so many are let go


def test_or_none_but_what_a_busy_worker_is_late_for(day: Day, hold: Holdfast) -> None:
    made = hold.schedule("hourly", look, cron="0 * * * *", catch_up="none")
    day.pass_(5.5 * HOUR_S)
    assert seen == []
    assert day.outcomes(made) == [schedules.MISSED]
    day.pass_(0.5 * HOUR_S + schedules.LATE_S)
    assert seen == hours(6)


def test_a_moment_is_passed_over_while_the_task_before_has_not_ended(day: Day, hold: Holdfast) -> None:
    made = hold.schedule("hourly", wait_for_somebody, cron="0 * * * *")
    for _ in range(3):
        day.pass_(HOUR_S)
    assert day.outcomes(made) == [schedules.FIRED, schedules.SKIPPED, schedules.SKIPPED]
    (task,) = hold.tasks()
    task.deliver("somebody")
    day.pass_(0)
    day.pass_(HOUR_S)
    assert day.outcomes(made)[-1] == schedules.FIRED


def test_one_that_never_ends_is_remembered_however_many_moments_pass(day: Day, hold: Holdfast) -> None:
    made = hold.schedule("often", wait_for_somebody, cron="* * * * *")
    for _ in range(schedules.KEPT + 5):
        day.pass_(MINUTE_S)
    assert len(hold.tasks()) == 1
    known = hold.store.read(lambda tx: schedules.history(tx, made.id, limit=1000))
    assert len(known) <= schedules.KEPT + 2
    assert known[-1].outcome == schedules.FIRED


def test_with_overlap_queue_they_wait_for_each_other(day: Day, hold: Holdfast) -> None:
    hold.schedule("hourly", wait_for_somebody, cron="0 * * * *", overlap="queue")
    for _ in range(3):
        day.pass_(HOUR_S)
    assert [task.state for task in hold.tasks()] == ["PENDING", "PENDING", "WAITING"]


def test_a_paused_one_asks_for_nothing_and_catches_up_with_nothing(day: Day, hold: Holdfast) -> None:
    made = hold.schedule("hourly", look, cron="0 * * * *").pause().pause()
    assert (made.state, made.view()["next_at"]) == (schedules.PAUSED, None)
    day.pass_(5.5 * HOUR_S)
    made.resume().resume()
    day.pass_(0)
    assert seen == []
    day.pass_(0.5 * HOUR_S)
    assert seen == hours(6)


def test_a_removed_one_is_no_more(day: Day, hold: Holdfast) -> None:
    made = hold.schedule("hourly", look, cron="0 * * * *")
    day.pass_(HOUR_S)
    made.remove()
    day.pass_(HOUR_S)
    assert seen == hours(1)
    assert hold.schedules() == []
    for gone in (made.view, made.pause, made.resume, made.remove):
        with pytest.raises(ScheduleNotFound):
            gone()


def test_asked_again_under_its_name_it_is_changed_and_stays_itself(day: Day, hold: Holdfast) -> None:
    first = hold.schedule("greet", note, {"word": "one"}, cron="0 * * * *")
    assert hold.schedule("greet", note, {"word": "one"}, cron="0 * * * *", replace=False).id == first.id
    with pytest.raises(ScheduleExists):
        hold.schedule("greet", note, {"word": "two"}, cron="0 * * * *", replace=False)
    day.pass_(0.5 * HOUR_S)
    assert hold.schedule("greet", note, {"word": "two"}, cron="0 * * * *").id == first.id
    day.pass_(0.5 * HOUR_S)
    assert seen == ["two"]
    assert [each.name for each in hold.schedules()] == ["greet"]
    assert hold.scheduled("greet").id == hold.scheduled(first.id).id


def test_an_upgrade_that_says_it_again_does_not_lose_a_moment_that_is_due(day: Day, hold: Holdfast) -> None:
    hold.schedule("hourly", look, cron="0 * * * *")
    day.pass_(1.5 * HOUR_S, worked=False)
    hold.schedule("hourly", look, cron="0 * * * *", overlap="queue")
    day.pass_(0)
    assert seen == hours(1)


def test_a_schedule_goes_by_the_clock_of_its_zone(day: Day, hold: Holdfast) -> None:
    hold.schedule("local", look, cron="30 2 * * *", timezone="Europe/Berlin")
    day.pass_(1.5 * HOUR_S)
    assert seen == [datetime(2030, 1, 1, 1, 30, tzinfo=UTC)]


@pytest.mark.parametrize(
    ("wrong", "given"),
    [
        (ScheduleInvalid, {"cron": "every day"}),
        (ScheduleInvalid, {"cron": "* * * * *", "timezone": "Mars/Base"}),
        (ScheduleInvalid, {"cron": "* * * * *", "catch_up": "some"}),
        (ScheduleInvalid, {"cron": "* * * * *", "overlap": "twice"}),
        (ScheduleInvalid, {"cron": "* * * * *", "catch_up": "all"}),
        (UnknownInput, {"cron": "* * * * *", "inputs": {"wrod": 1}}),
    ],
)
def test_what_can_not_be_kept_is_refused_when_it_is_said(
    hold: Holdfast, wrong: type[Exception], given: dict[str, object]
) -> None:
    with pytest.raises(wrong):
        hold.schedule("never", look, **given)  # type: ignore[arg-type]
    with pytest.raises(ScheduleInvalid):
        hold.schedule(" ", look, cron="* * * * *")
    assert hold.schedules() == []


def test_what_is_refused_at_its_moment_is_written_down_and_the_next_is_tried(tmp_path: Path) -> None:
    box = Kind(
        "crate", plural="crates", fields=Crate, driver=None,
        lifecycle={"NEW": resting(), "THERE": resting(), "GONE": final()},
    )  # fmt: skip

    @box.operation("create", ends="THERE")
    def create(kind: Kind) -> hf.Flow:
        return hf.linear("make", hf.step(lambda resource_id: seen.append("made"), name="make"))

    @box.operation("shake", starts=("THERE",), ends="THERE", params=Shake)
    def shake(kind: Kind) -> hf.Flow:
        return hf.linear("shake", hf.step(lambda times: seen.append(times), name="shake"))

    @box.operation("delete", ends="GONE")
    def delete(kind: Kind) -> hf.Flow:
        return hf.linear("drop", hf.step(lambda resource_id: seen.append("gone"), name="drop"))

    day = Day(tmp_path / "tasks.db", kinds=[box])
    with day.hold as hold:
        made = hold.schedule_operation("hourly", "crate", "shake", "c-1", {"times": 3}, cron="0 * * * *")
        well = hold.schedule("too", note, {"word": "well"}, cron="0 * * * *")
        with pytest.raises(DocumentInvalid):
            hold.schedule_operation("wrong", "crate", "shake", "c-1", {"time": 3}, cron="0 * * * *")
        day.pass_(HOUR_S)
        assert day.outcomes(made) == [schedules.REFUSED]
        assert made.view()["firings"][0]["why"].startswith("ResourceNotFound: ")
        assert seen == ["well"]
        hold.operate("crate", "create", "c-1", desired={})
        day.pass_(0)
        day.pass_(HOUR_S)
        assert day.outcomes(made) == [schedules.REFUSED, schedules.FIRED]
        assert day.outcomes(well) == [schedules.FIRED] * 2
        assert sorted(map(str, seen)) == ["3", "made", "well", "well"]


def test_those_that_only_others_can_ask_for_keep_no_other_waiting(day: Day, hold: Holdfast) -> None:
    for number in range(schedules.LOOK_MAX):
        hold.schedule(f"of Mars {number}", look, cron="15 * * * *")
    hold.store.write(lambda tx: tx.execute(update(schema.schedules).values(timezone="Mars/Base")))
    hold.schedule("ours", look, cron="30 * * * *")
    day.pass_(HOUR_S)
    assert seen == [datetime.fromtimestamp(START + HOUR_S / 2, UTC)]


def test_a_clock_that_is_set_back_fires_nothing_again(day: Day, hold: Holdfast) -> None:
    hold.schedule("hourly", look, cron="0 * * * *")
    day.pass_(HOUR_S)
    day.clock.set_back(0.5 * HOUR_S)
    for _ in range(5):
        day.pass_(0.1 * HOUR_S)
    assert seen == hours(1)
    day.pass_(HOUR_S)
    assert seen == hours(1, 2)


def test_two_that_look_at_the_same_moment_make_one_task(day: Day, hold: Holdfast) -> None:
    made = hold.schedule("hourly", look, cron="0 * * * *")
    day.clock.advance(HOUR_S)
    admit = admitting(hold)
    found = [hold.write(lambda tx, now: schedules.fire(tx, made.id, now, hold.clock.uuid7(), admit)) for _ in range(2)]
    assert found == [schedules.FIRED, None]
    assert len(hold.tasks()) == 1
