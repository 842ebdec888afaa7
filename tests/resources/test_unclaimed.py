"""Operations that claim nothing and run beside the one that has the resource; and what is seen of one that was
stopped in the middle."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import holdfast as hf
from holdfast.errors import KindError, ResourceImmutable, ResourceNotFound
from holdfast.resources.handle import Resource
from holdfast.resources.kind import Kind, Seen, final, resting
from holdfast.tasks import take, turn
from tests.resources.conftest import Shop


class Fields(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    name: str = "valve"


class Turn(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    fails: bool = False


def make_valve(directory: Path) -> Kind:
    valve = Kind("valve", fields=Fields, lifecycle={"new": resting(), "there": resting(), "gone": final()})

    @valve.operation("create", ends="there")
    def create(kind: Kind) -> Any:
        return hf.step(lambda: {"open": True}, name="make", provides="observed")

    @valve.operation("turn", starts=("there",), params=Turn, left={"open": None})
    def turn(kind: Kind) -> Any:
        @hf.step
        def turn(ctx: hf.Context, fails: bool) -> None:
            (directory / "turning").touch()
            while not fails:
                ctx.sleep(0.01)
            raise ConnectionError("it is stuck")

        @turn.revert
        def turn_back(failures: Any) -> None:
            if failures and (directory / "rusty").exists():
                raise ConnectionError("it is stuck now")

        return hf.linear("turn", turn, on_revert_failure="fail")

    @valve.operation("read", mode="none", starts=("there",))
    def read(kind: Kind) -> Any:
        return hf.step(lambda: ("open", "none"), name="read", provides=("answer", "effect"))

    @valve.operation("delete", ends="gone")
    def delete(kind: Kind) -> Any:
        return hf.step(lambda: None, name="drop")

    valve.probe(lambda: Seen(True, {"open": True}), verifies=False)
    return valve


Valve = Resource[hf.Task]


@pytest.fixture
def works(tmp_path: Path) -> Iterator[Shop]:
    made = Shop(tmp_path, make_valve(tmp_path))
    try:
        with made.hold.working():
            yield made
    finally:
        made.hold.close()


def valve(works: Shop) -> Valve:
    task = works.hold.operate("valve", "create", desired={"name": "v"})
    assert task.wait(timeout_s=30).state == "SUCCEEDED", task.failure
    return works.of_kind("valve", task)


def turning(works: Shop, directory: Path) -> tuple[Valve, hf.Task]:
    at = valve(works)
    task = at.operate("turn")
    works.until((directory / "turning").exists)
    return at, task


def test_it_runs_at_once_while_another_has_the_resource_and_what_waits_does_not_count(
    works: Shop, tmp_path: Path
) -> None:
    at, task = turning(works, tmp_path)
    gone = at.operate("delete")
    with pytest.raises(ResourceImmutable):
        at.operate("turn")
    read = at.operate("read", fail_if_busy=True)
    assert read.wait(timeout_s=30).state == "SUCCEEDED"
    assert (read.view()["effect"], read.results["answer"], read.view()["claims"]) == ("none", "open", [])
    events = [entry.data for entry in works.hold.events(task=read) if entry.data.get("to") == "SUCCEEDED"]
    assert [event["task"]["effect"] for event in events] == ["none"]
    assert task.state == "RUNNING"
    task.abort()
    assert gone.wait(timeout_s=30).state == "SUCCEEDED"
    with pytest.raises(ResourceNotFound):
        at.operate("read")


def test_what_was_aborted_is_observed_as_its_kind_says_and_nobody_looks_at_once(works: Shop, tmp_path: Path) -> None:
    at, task = turning(works, tmp_path)
    task.abort()
    assert task.wait(timeout_s=30).state == "ABORTED"
    assert at.view()["observed"] == {
        "open": None,
        "last_error": f"turn was aborted by library (task {task.view()['uuid']})",
    }
    assert at.sync_status == "UNKNOWN"
    assert [each.view()["task"] for each in works.hold.tasks()] == ["turn", "create"]
    works.hold.watch_drift(rounds=1)
    works.until(lambda: at.sync_status == "IN_SYNC")
    assert at.view()["observed"]["open"] is True


def test_a_failure_says_why_and_only_one_with_an_effect_what_is_seen(works: Shop, tmp_path: Path) -> None:
    at = valve(works)
    assert at.operate("turn", {"fails": True}).wait(timeout_s=30).state == "FAILED"
    assert at.view()["observed"] == {"open": True, "last_error": "it is stuck"}
    (tmp_path / "rusty").touch()
    assert at.operate("turn", {"fails": True}).wait(timeout_s=30).state == "FAILED"
    assert at.view()["observed"] == {"open": None, "last_error": "it is stuck"}


def test_what_never_had_the_resource_has_left_nothing(works: Shop, tmp_path: Path) -> None:
    at, task = turning(works, tmp_path)
    waiting = at.operate("turn")
    waiting.abort()
    assert waiting.wait(timeout_s=30).state == "ABORTED"
    assert at.view()["observed"] == {"open": True}
    task.cancel()
    assert task.wait(timeout_s=30).state == "CANCELLED"
    assert at.view()["observed"] == {"open": True}


@pytest.mark.parametrize("options", [{"ends": "there"}, {"desires": True}, {"applies": True}])
def test_what_claims_nothing_can_change_nothing(tmp_path: Path, options: dict[str, Any]) -> None:
    kind = make_valve(tmp_path)
    with pytest.raises(KindError, match="claims nothing"):
        kind.operation("drip", mode="none", **options)


def test_it_stands_behind_nothing_that_waits_for_a_worker(tmp_path: Path) -> None:
    shop = Shop(tmp_path, make_valve(tmp_path))
    with shop.hold as hold:
        made = hold.operate("valve", "create", desired={})
        hold.work(until_idle=True)
        valve = hold.resource("valve", made.view()["resource_id"])
        for _ in range(50):
            hold.submit(waits)
        read = valve.operate("read")
        assert hold.store.read(lambda tx: take.peek(tx, now=hold.clock.time(), pool="default").any)
        (first,) = hold.store.write(lambda tx: turn.choose(tx, "default", hold.clock.time(), 1))
        assert first == read._id


waits = hf.linear("waits", hf.step(lambda: None, name="wait"))
