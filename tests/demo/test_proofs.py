"""The proofs of the service's story: each is given what a sound service shows, and then what a broken one would."""

from __future__ import annotations

from typing import Any

import pytest

from demo import proofs
from demo.evidence import Check
from demo.guests import Guest
from demo.stream import Event
from demo.web import Answer

GUEST = Guest(pid=10, boot=1, beat=5, state="up", image="guest-1", lives=True)
TASK: dict[str, Any] = {
    "uuid": "t-1",
    "task": "reboot",
    "state": "SUCCEEDED",
    "effect": "applied",
    "revert": "none",
    "error": None,
    "request_id": "req-1",
    "executed_at": "2026-01-01T00:00:01Z",
    "finish_time": "2026-01-01T00:00:02Z",
}


def answer(status: int = 202, task: dict[str, Any] | None = None, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, named, {"task": task or TASK})


def wrong(checks: list[Check]) -> list[str]:
    """The claims that do not hold."""
    return [check.claim for check in checks if not check.holds]


def with_lie(sound: dict[str, Any], lie: dict[str, Any]) -> dict[str, Any]:
    return {**sound, **lie}


CREATED: dict[str, Any] = {
    "answer": answer(location="/v3/servers/s/tasks/t-1"),
    "task": TASK,
    "states": ["PENDING", "RUNNING", "WAITING", "RUNNING", "SUCCEEDED"],
    "guest": GUEST,
    "server": {"status": "ACTIVE"},
}


@pytest.mark.parametrize(
    "lie",
    [
        {"answer": answer(200, location="/v3/servers/s/tasks/t-1")},
        {"answer": answer(location="/v3/servers/s/tasks/t-2")},
        {"states": ["PENDING", "SUCCEEDED"]},
        {"states": ["PENDING", "RUNNING", "SUCCEEDED", "RUNNING", "SUCCEEDED"]},
        {"guest": GUEST._replace(lives=False)},
        {"guest": GUEST._replace(boot=2)},
        {"guest": GUEST._replace(state="booting")},
        {"server": {"status": "BUILD"}},
    ],
)
def test_created(lie: dict[str, Any]) -> None:
    assert wrong(proofs.created(**CREATED)) == []
    assert len(wrong(proofs.created(**with_lie(CREATED, lie)))) == 1


REPLY: dict[str, Any] = {
    "got_nothing": True,
    "lost": [b"HTTP/1.1 202 Accepted\r\n"],
    "again": answer(task_tag_replayed="true"),
    "other": Answer(422, {}, {"code": "tag.reused"}),
    "tasks": [TASK],
    "boots": (1, 2),
}


@pytest.mark.parametrize(
    "lie",
    [
        {"got_nothing": False},
        {"lost": []},
        {"lost": [b"HTTP/1.1 500 Internal"]},
        {"again": answer()},
        {"again": answer(409, task_tag_replayed="true")},
        {"tasks": [TASK, {**TASK, "uuid": "t-2"}]},
        {"other": answer()},
        {"tasks": [{**TASK, "state": "FAILED"}]},
        {"boots": (1, 3)},
    ],
)
def test_reply_lost(lie: dict[str, Any]) -> None:
    assert wrong(proofs.reply_lost(**REPLY)) == []
    assert len(wrong(proofs.reply_lost(**with_lie(REPLY, lie)))) == 1


def spans(*moments: tuple[int, int]) -> list[dict[str, Any]]:
    return [
        {
            **TASK,
            "uuid": f"t-{at}",
            "executed_at": f"2026-01-01T00:00:{a:02}Z",
            "finish_time": f"2026-01-01T00:00:{b:02}Z",
        }
        for at, (a, b) in enumerate(moments)
    ]


ORDER: dict[str, Any] = {
    "answers": [answer(), answer(), answer()],
    "tasks": spans((1, 2), (2, 3), (4, 5)),
    "boots": (2, 5),
    "console": ["button pressed", "off", "boot", "up"] * 3,
}


@pytest.mark.parametrize(
    "lie",
    [
        {"answers": [answer(), answer(409), answer()]},
        {"tasks": spans((1, 3), (2, 3), (4, 5))},
        {"tasks": [{**task, "state": "FAILED"} for task in spans((1, 2), (2, 3), (4, 5))]},
        {"boots": (2, 4)},
        {"console": ["off", "off", "boot", "boot", "off", "boot"]},
    ],
)
def test_in_order(lie: dict[str, Any]) -> None:
    assert wrong(proofs.in_order(**ORDER)) == []
    assert len(wrong(proofs.in_order(**with_lie(ORDER, lie)))) == 1


def test_who_overtakes_is_seen() -> None:
    told = wrong(proofs.in_order(**with_lie(ORDER, {"tasks": spans((4, 5), (1, 2), (2, 3))})))
    assert "they begin in the order in which they were accepted" in told


ABORT: dict[str, Any] = {
    "cancel": answer(),
    "abort": answer(),
    "after_cancel": "CANCELLING",
    "task": {**TASK, "state": "ABORTED", "effect": "unknown"},
    "processes": ([77], []),
    "guests": (GUEST, GUEST._replace(beat=9)),
    "sync": ["UNKNOWN", "IN_SYNC"],
    "next_state": "SUCCEEDED",
}


@pytest.mark.parametrize(
    "lie",
    [
        {"cancel": answer(409)},
        {"abort": answer(409)},
        {"after_cancel": "CANCELLED"},
        {"task": {**TASK, "state": "ABORTED", "effect": "none"}},
        {"processes": ([77], [77])},
        {"processes": ([], [])},
        {"guests": (GUEST, GUEST._replace(pid=11))},
        {"sync": ["IN_SYNC"]},
        {"next_state": "FAILED"},
    ],
)
def test_aborted(lie: dict[str, Any]) -> None:
    assert wrong(proofs.aborted(**ABORT)) == []
    assert len(wrong(proofs.aborted(**with_lie(ABORT, lie)))) == 1


FAILED = {**TASK, "state": "FAILED", "effect": "none", "revert": "done", "error": {"detail": "panic: no init found"}}
ROLLED: dict[str, Any] = {
    "answer": answer(),
    "task": FAILED,
    "guests": (GUEST, GUEST._replace(beat=9)),
    "server": {"status": "ACTIVE"},
    "sync": "OUT_OF_SYNC",
    "failed": [FAILED],
}


@pytest.mark.parametrize(
    "lie",
    [
        {"task": {**FAILED, "effect": "partial"}},
        {"task": {**FAILED, "error": None}},
        {"guests": (GUEST, GUEST._replace(pid=11, beat=9))},
        {"guests": (GUEST, GUEST)},
        {"guests": (GUEST, GUEST._replace(beat=9, image="panics"))},
        {"server": {"status": "ACTIVE", "fault": {}}},
        {"sync": "IN_SYNC"},
        {"failed": []},
    ],
)
def test_rolled_back(lie: dict[str, Any]) -> None:
    assert wrong(proofs.rolled_back(**ROLLED)) == []
    assert len(wrong(proofs.rolled_back(**with_lie(ROLLED, lie)))) == 1


def events(*ids: int) -> list[Event]:
    return [Event(id, "task.state", "tasks/t-1", {}) for id in ids]


KILLED: dict[str, Any] = {
    "killed": -9,
    "guests": (GUEST, GUEST._replace(beat=9), GUEST._replace(pid=12)),
    "tasks": [TASK],
    "replay": answer(task_tag_replayed="true"),
    "boots": (4, 5),
    "events": (events(7, 8), events(9, 10)),
    "log": [7, 8, 9, 10],
}


@pytest.mark.parametrize(
    "lie",
    [
        {"killed": 0},
        {"guests": (GUEST, GUEST._replace(beat=9, lives=False), GUEST._replace(pid=12))},
        {"guests": (GUEST, GUEST._replace(beat=9), GUEST)},
        {"tasks": [{**TASK, "state": "FAILED"}]},
        {"replay": answer()},
        {"boots": (4, 6)},
        {"events": (events(7, 8), events(10))},
        {"events": (events(7, 8), events(8, 9, 10))},
        {"events": (events(7, 8, 9, 10), [])},
    ],
)
def test_survives_kill(lie: dict[str, Any]) -> None:
    assert wrong(proofs.survives_kill(**KILLED)) == []
    assert len(wrong(proofs.survives_kill(**with_lie(KILLED, lie)))) == 1


VIEWS: dict[str, Any] = {
    "task": {**FAILED, "effect": "partial"},
    "server": {"status": "ERROR", "fault": {"task_id": "t-1"}},
    "recovered": {"status": "ACTIVE"},
    "actions": [{"request_id": "req-2", "message": None}, {"request_id": "req-1", "message": "Error"}],
    "tasks": [{**TASK, "request_id": "req-2"}, {**TASK, "state": "FAILED"}],
    "deprecated": "@1",
}


@pytest.mark.parametrize(
    "lie",
    [
        {"task": FAILED},
        {"server": {"status": "ACTIVE", "fault": {"task_id": "t-1"}}},
        {"server": {"status": "ERROR", "fault": {"task_id": "t-2"}}},
        {"recovered": {"status": "ACTIVE", "fault": {}}},
        {"actions": [{"request_id": "req-1", "message": None}, {"request_id": "req-2", "message": "Error"}]},
        {"actions": [{"request_id": "req-2", "message": None}, {"request_id": "req-1", "message": None}]},
        {"deprecated": None},
    ],
)
def test_told_by_views(lie: dict[str, Any]) -> None:
    assert wrong(proofs.told_by_views(**VIEWS)) == []
    assert len(wrong(proofs.told_by_views(**with_lie(VIEWS, lie)))) == 1


LEFT: dict[str, Any] = {"states": ["SUCCEEDED"], "servers": [], "processes": [], "code": 0, "took_s": 0.5}


@pytest.mark.parametrize(
    "lie", [{"states": ["FAILED"]}, {"servers": ["s"]}, {"processes": [9]}, {"code": None}, {"took_s": 6.0}]
)
def test_left_nothing(lie: dict[str, Any]) -> None:
    assert wrong(proofs.left_nothing(**LEFT)) == []
    assert len(wrong(proofs.left_nothing(**with_lie(LEFT, lie)))) == 1


FREED: dict[str, Any] = {
    "polite": ["SUCCEEDED"],
    "hung": [("power on", "soft power off")],
    "aborts": ["ABORTED"],
    "stopped": ["ABORTED"],
    "shown": [["error", "power on", "power off"]],
    "powers": ["power on"],
    "off": ["SUCCEEDED"],
    "logs": {"polite": ["soft power off"], "deaf": ["soft power off", "power off"]},
    "ends": ["power off", "power off"],
}


@pytest.mark.parametrize(
    "lie",
    [
        {"polite": ["FAILED"]},
        {"hung": [("power on", None)]},
        {"aborts": [None]},
        {"stopped": ["SUCCEEDED"]},
        {"shown": [["error", "power off"]]},
        {"powers": ["power off"]},
        {"off": ["FAILED"]},
        {"logs": {"polite": ["soft power off"], "deaf": ["soft power off", "soft power off", "power off"]}},
        {"ends": ["power off", "power on"]},
    ],
)
def test_an_abort_that_frees_nothing_is_seen(lie: dict[str, Any]) -> None:
    assert wrong(proofs.freed(**FREED)) == []
    assert len(wrong(proofs.freed(**with_lie(FREED, lie)))) == 1
