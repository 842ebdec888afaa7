"""What is told of a task: each change of its state once, each verb once, its steps and its progress now and then."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

import holdfast as hf
from holdfast.feed.log import Entry
from holdfast.local import Holdfast
from holdfast.store.schema import tasks
from holdfast.tasks.tell import CONTROL, PROGRESS, STATE, STEP
from tests.doing import Told
from tests.postgresql import database_at


@hf.step
def one() -> int:
    return 1


@hf.step
def two() -> None:
    raise ValueError("no bread")


@hf.step
def slow(ctx: hf.Context) -> None:
    for part in range(1, 9):
        ctx.progress(part / 10, f"part {part}")
        ctx.sleep(0.02)


GOOD = hf.linear("good", one)
BAD = hf.linear("bad", one, two)
RESTS = hf.linear("rests", one, two, on_failure="suspend")
SLOW = hf.linear("slow", slow)
LONG = hf.linear("long", *(one.with_options(name=f"step{number}") for number in range(300)))


@pytest.fixture
def hold(tmp_path: Path) -> Iterator[Holdfast]:
    with hf.open(
        database_at(tmp_path / "t.db"), flows=[GOOD, BAD, RESTS, SLOW, LONG], progress_interval_s=0.05
    ) as opened:
        yield opened


def states(entries: list[Entry]) -> list[tuple[Any, ...]]:
    return [
        (data["from"], data["to"], data["actor"], data["reason"])
        for entry in entries
        if entry.type == STATE and (data := entry.data)
    ]


def test_each_change_of_state_is_told_once_with_who_made_it(hold: Holdfast) -> None:
    task = hold.submit(GOOD, tag="first")
    hold.work(until_idle=True, runtime="inline")
    entries = list(hold.events(task=task))
    assert states(entries) == [
        (None, "PENDING", "library", None),
        ("PENDING", "RUNNING", "worker", None),
        ("RUNNING", "SUCCEEDED", "worker", None),
    ]
    last = entries[-1]
    assert (last.subject, last.project_id) == (f"tasks/{task.id}", "default")
    named = last.data["task"]
    assert (named["uuid"], named["task"], named["tag"], named["effect"]) == (task.id, "good", "first", "applied")


def test_the_end_tells_why_and_no_traceback(hold: Holdfast) -> None:
    task = hold.submit(BAD)
    hold.work(until_idle=True, runtime="inline")
    end = list(hold.events(task=task))[-1]
    assert end.data["to"] == "FAILED"
    assert end.data["task"]["error"]["detail"] == "no bread"
    assert "raceback" not in "".join(entry.text for entry in hold.events())


def test_every_accepted_verb_is_told_once_before_what_it_made(hold: Holdfast) -> None:
    hold.actor = "cli:ann"
    task = hold.submit(GOOD)
    task.suspend()
    task.suspend()  # it is so already
    task.resume()
    task.cancel()
    told = [(entry.type, entry.data.get("verb"), entry.data.get("to"), entry.data["actor"]) for entry in hold.events()]
    assert told == [
        (STATE, None, "PENDING", "cli:ann"),
        (CONTROL, "suspend", None, "cli:ann"),
        (STATE, None, "SUSPENDED", "cli:ann"),
        (CONTROL, "resume", None, "cli:ann"),
        (STATE, None, "PENDING", "cli:ann"),
        (CONTROL, "cancel", None, "cli:ann"),
        (STATE, None, "CANCELLED", "cli:ann"),
    ]


def test_a_verb_that_makes_a_new_task_is_told_of_the_old_one(hold: Holdfast) -> None:
    old = hold.submit(GOOD)
    old.cancel()
    new = old.retry()
    told = list(hold.events(after=list(hold.events())[-3].id))
    assert [(entry.type, entry.subject) for entry in told[-2:]] == [
        (STATE, f"tasks/{new.id}"),
        (CONTROL, f"tasks/{old.id}"),
    ]
    assert told[-1].data["new_task"] == new.id


def test_a_task_at_rest_says_why(hold: Holdfast) -> None:
    task = hold.submit(RESTS)
    hold.work(until_idle=True, runtime="inline")
    assert states(list(hold.events(task=task)))[-1] == ("RUNNING", "SUSPENDED", "worker", "on_failure")


def test_progress_and_steps_are_told_now_and_then(hold: Holdfast) -> None:
    task = hold.submit(SLOW)
    hold.work(until_idle=True)
    entries = list(hold.events(task=task))
    parts = [entry.data for entry in entries if entry.type == PROGRESS]
    assert 1 <= len(parts) <= 6
    assert parts[-1]["step"] == "slow/slow"
    assert [part["percent"] for part in parts] == sorted(part["percent"] for part in parts)
    steps = [(step["id"], step["state"]) for entry in entries if entry.type == STEP for step in entry.data["steps"]]
    assert steps == [("slow/slow", "RUNNING"), ("slow/slow", "SUCCEEDED")]
    assert entries[-1].is_end


def test_a_storm_of_steps_is_no_storm_of_events(tmp_path: Path) -> None:
    with hf.open(database_at(tmp_path / "t.db"), flows=[LONG]) as hold:
        task = hold.submit(LONG)
        hold.work(until_idle=True, runtime="inline")
        entries = list(hold.events(task=task))
    steps = [entry for entry in entries if entry.type == STEP]
    assert len(entries) < 30
    assert all(len(entry.data["steps"]) <= 16 for entry in steps)
    assert steps[-1].data["steps"][-1] == {"id": "long/step299", "state": "SUCCEEDED", "attempt": 1}


def test_what_is_undone_with_the_transaction_was_never_told(hold: Holdfast) -> None:
    from holdfast.tasks import submit

    def fails(tx: Any) -> None:
        submit.submit(tx, submit.Request(flow="good", reference="good@1"), 1.0, "0")
        raise ValueError("after all not")

    with pytest.raises(ValueError, match="after all"):
        hold.store.write(fails)
    assert list(hold.events()) == []


def test_a_replayed_request_tells_nothing(hold: Holdfast) -> None:
    hold.submit(GOOD, tag="same")
    before = list(hold.events())
    assert hold.submit(GOOD, tag="same").replayed
    assert list(hold.events()) == before


@pytest.mark.requirement("TF-7")
def test_a_listener_hears_what_comes_until_the_end_of_its_task(hold: Holdfast, told: Told) -> None:
    task = hold.submit(GOOD)
    heard: list[Entry] = []
    listener = threading.Thread(target=lambda: heard.extend(hold.events(follow=True, task=task)))
    listener.start()
    hold.work(until_idle=True)
    listener.join(20)
    assert not listener.is_alive()
    assert heard == list(hold.events(task=task))
    assert heard[-1].is_end


@hf.step
def odd() -> None:
    raise ValueError("no \udcff Unicode, \0 and\nthree\r\nlines")


ODD = hf.linear("odd", odd)


def test_an_odd_failure_breaks_neither_the_end_nor_the_frame(tmp_path: Path) -> None:
    from holdfast.feed import shape

    with hf.open(database_at(tmp_path / "t.db"), flows=[ODD]) as hold:
        task = hold.submit(ODD)
        hold.work(until_idle=True, runtime="inline")
        end = list(hold.events(task=task))[-1]
    assert end.data["task"]["error"]["detail"].splitlines()[1:] == ["three", "lines"]
    assert shape.frame(end).count(b"\n") == 4
    assert b"\r" not in shape.frame(end)


def test_nothing_of_a_task_is_told_behind_its_end(hold: Holdfast, monkeypatch: pytest.MonkeyPatch) -> None:
    """What its end makes of a resource is told before it, because who follows the task stops there."""
    from holdfast.tasks import finish, tell

    def project(tx: Any, before: Any, state: str, left: Any, result: Any, now: float) -> None:
        data = {"from": "IN_SYNC", "to": "UNKNOWN"}
        tell.tell(tx, tell.SYNC, task=before, data=data, now=now, subject="servers/s1", resource="s1")

    monkeypatch.setattr(finish, "_projections", [project])
    task = hold.submit(GOOD)
    hold.store.write(lambda tx: tx.execute(update(tasks).values(resource_type="server", resource_id="s1")))
    hold.work(until_idle=True, runtime="inline")
    assert [entry.type for entry in hold.events(task=task)][-2:] == [tell.SYNC, STATE]
