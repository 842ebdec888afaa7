"""The kind `server` as tasks over real processes. The witness is the guest: its console, its heartbeat, its process."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

import holdfast as hf
from holdfast.errors import DocumentInvalid, ResourceImmutable
from holdfast.resources.handle import Resource
from holdfast.resources.registry import Kinds
from holdfast.resources.server.process import RUNNING, SHUTDOWN, SUSPENDED, Server
from tests.postgresql import database_at
from tests.resources.server.conftest import Cloud, until

At = Resource[hf.Task]


def with_faults(at: At, faults: str, cloud: Cloud, **more: Any) -> None:
    task = at.update({**at.desired, **more, "metadata": {"faults": faults} if faults else {}})
    cloud.work()
    assert task.state == "SUCCEEDED", task.failure


def pid_of(cloud: Cloud, at: At) -> int:
    process = cloud.slot(at).process()
    assert process is not None
    return process.pid


def test_the_life_of_a_server(cloud: Cloud) -> None:
    at = cloud.create()
    first = pid_of(cloud, at)
    assert (at.lifecycle, at.sync_status) == ("ACTIVE", "IN_SYNC")

    story: list[tuple[str, dict[str, Any] | None, str, str]] = [
        ("suspend", None, "SUSPENDED", SUSPENDED),
        ("resume", None, "ACTIVE", RUNNING),
        ("reboot", {"type": "SOFT"}, "ACTIVE", RUNNING),
        ("reboot", {"type": "HARD"}, "ACTIVE", RUNNING),
        ("stop", None, "SHUTOFF", SHUTDOWN),
        ("start", None, "ACTIVE", RUNNING),
        ("resize", {"memory_mib": 128}, "ACTIVE", RUNNING),
    ]
    for operation, params, lifecycle, power in story:
        task = cloud.do(at, operation, params)
        assert (operation, task.state, task.failure) == (operation, "SUCCEEDED", None)
        assert (at.lifecycle, at.sync_status, cloud.slot(at).power()) == (lifecycle, "IN_SYNC", power)
        assert at.view()["observed"]["power_state"] == power

    # The hard reboot is the one that the guest never heard of.
    soft, hard = ["button pressed", "off", "boot", "up"], ["boot", "up"]
    assert cloud.console(at) == ["boot", "up", *soft, *hard, *soft]
    assert pid_of(cloud, at) != first
    assert cloud.slot(at).limits()["memory_mib"] == 128
    assert all(revision["task_id"] for revision in at.revisions())

    last = cloud.slot(at).process()
    assert last is not None
    assert cloud.do(at, "delete").state == "SUCCEEDED"
    assert at.lifecycle == "DELETED"
    assert (
        not Path(f"/proc/{last}").exists()
        or Path(f"/proc/{last}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    )
    assert not Server(cloud.where, at.id).path.exists()


def test_a_rebuild_changes_the_image_and_a_rollback_brings_the_old_one_back(cloud: Cloud) -> None:
    at = cloud.create()
    task = cloud.do(at, "rebuild", {"image": "guest-2"})
    assert task.state == "SUCCEEDED"
    assert at.view()["observed"]["image"] == "guest-2"
    assert at.desired["image"] == "guest-2"
    assert len([slot for slot in Server(cloud.where, at.id).slots() if slot.process()]) == 1

    undone = task.rollback()
    cloud.work()
    assert undone.state == "SUCCEEDED", undone.failure
    beat = cloud.slot(at).heartbeat()
    assert beat is not None
    assert (beat.image, beat.boot) == ("guest-1", 2)
    assert at.desired["image"] == "guest-1"
    assert len([slot for slot in Server(cloud.where, at.id).slots() if slot.process()]) == 1


@pytest.mark.parametrize(("image", "why"), [("panics", "no init found"), ("hangs", "did not end within its timeout")])
@pytest.mark.requirement("TF-9")
def test_a_rebuild_that_fails_costs_the_server_nothing(tmp_path: Path, where: str, image: str, why: str) -> None:
    cloud = Cloud(database_at(tmp_path / "tasks.db"), where, server_boot_s=1.0)
    with cloud.hold:
        at = cloud.create()
        before = cloud.slot(at).heartbeat()
        assert before is not None
        beat = before.beat
        task = cloud.do(at, "rebuild", {"image": image})
        view = task.view()
        assert (task.state, view["effect"], view["revert"]) == ("FAILED", "none", "done")
        assert why in str(task.failure)
        until(lambda: _beat(cloud, at) > beat + 1, "the old guest to go on")
        after = cloud.slot(at).heartbeat()
        assert after is not None
        assert (after.pid, after.boot, after.image) == (before.pid, before.boot, "guest-1")
        assert (at.lifecycle, at.sync_status) == ("ACTIVE", "OUT_OF_SYNC")
        assert [slot.number for slot in Server(where, at.id).slots()] == [1]

        # What is desired did not come true: a reboot is one of the image that is there.
        assert cloud.do(at, "reboot").state == "SUCCEEDED"
        assert cloud.console(at).count("boot") == 2


def test_a_resize_never_says_that_an_image_came_true_which_did_not(cloud: Cloud) -> None:
    at = cloud.create()
    cloud.do(at, "rebuild", {"image": "panics"})
    first = pid_of(cloud, at)
    assert cloud.do(at, "resize", {"memory_mib": 256}).state == "FAILED"
    assert (at.lifecycle, at.sync_status, pid_of(cloud, at)) == ("ACTIVE", "OUT_OF_SYNC", first)
    assert cloud.slot(at).limits()["memory_mib"] is None

    assert cloud.do(at, "rebuild", {"image": "guest-2"}).state == "SUCCEEDED"  # and the limit that is still desired
    assert (at.sync_status, cloud.slot(at).limits()["memory_mib"]) == ("IN_SYNC", 256)


def _beat(cloud: Cloud, at: At) -> int:
    seen = cloud.slot(at).heartbeat()
    return seen.beat if seen else 0


def test_an_update_makes_whatever_differs_as_desired_and_leaves_the_power_as_it_was(cloud: Cloud) -> None:
    at = cloud.create()
    first = pid_of(cloud, at)
    at.update({**at.desired, "memory_mib": 256, "guest": {"deaf": True}})
    cloud.work()
    assert pid_of(cloud, at) == first
    assert cloud.slot(at).limits()["memory_mib"] == 256
    assert cloud.slot(at).config()["guest"]["deaf"] is True

    at.update({**at.desired, "guest": {}})
    cloud.do(at, "stop")
    at.update({**at.desired, "image": "guest-2"})
    cloud.work()
    assert (at.lifecycle, at.sync_status) == ("SHUTOFF", "IN_SYNC")
    assert cloud.slot(at).power() == SHUTDOWN
    assert cloud.slot(at).config()["image"] == "guest-2"


@pytest.mark.requirement("NOVA-5")
def test_a_reboot_that_fails_before_it_has_begun_leaves_the_server_as_it_was(cloud: Cloud) -> None:
    at = cloud.create(metadata={"faults": "reboot=before"})
    first = pid_of(cloud, at)
    task = cloud.do(at, "reboot")
    assert (task.state, task.view()["effect"]) == ("FAILED", "none")
    assert (at.lifecycle, at.sync_status, at.last_failed_task is None) == ("ACTIVE", "IN_SYNC", False)
    assert (pid_of(cloud, at), cloud.slot(at).power()) == (first, RUNNING)
    assert cloud.console(at) == ["boot", "up"]


@pytest.mark.requirement("NOVA-5")
def test_a_reboot_that_fails_after_it_has_begun_makes_it_an_error_until_it_recovers(cloud: Cloud) -> None:
    at = cloud.create(metadata={"faults": "reboot=after"})
    task = cloud.do(at, "reboot")
    assert (task.state, task.view()["effect"] != "none") == ("FAILED", True)
    assert at.lifecycle == "ERROR"
    assert at.last_failed_task is not None
    assert at.last_failed_task["uuid"] == task.id
    assert cloud.console(at).count("boot") == 2

    with_faults(at, "", cloud)
    assert at.lifecycle == "ERROR"  # a document that was applied mends no server
    assert cloud.do(at, "reboot", {"type": "HARD"}).state == "SUCCEEDED"
    assert (at.lifecycle, at.view()["last_failed_task"]) == ("ACTIVE", None)
    assert task.state == "FAILED"


@pytest.mark.parametrize(
    ("operation", "params", "boots"),
    [("stop", None, 2), ("suspend", None, 1), ("resize", {"memory_mib": 512}, 1), ("rebuild", {"image": "guest-2"}, 1)],
)
def test_what_can_be_undone_is_after_a_failure_and_the_server_is_as_before(
    cloud: Cloud, operation: str, params: dict[str, Any] | None, boots: int
) -> None:
    """A stop that fails once the guest is off is undone by starting it again."""
    at = cloud.create(metadata={"faults": f"{operation}=after"})
    task = cloud.do(at, operation, params)
    assert (task.state, task.view()["effect"], task.view()["revert"]) == ("FAILED", "none", "done")
    assert (at.lifecycle, cloud.slot(at).power()) == ("ACTIVE", RUNNING)
    beat = cloud.slot(at).heartbeat()
    assert beat is not None
    assert (beat.boot, beat.image, cloud.slot(at).limits()["memory_mib"]) == (boots, "guest-1", None)


def test_a_create_that_fails_leaves_nothing_but_its_name_and_can_be_deleted(cloud: Cloud) -> None:
    task = cloud.hold.operate("server", "create", desired={"name": "s", "image": "panics"})
    cloud.work()
    at = cloud.hold.resource("server", str(task.view()["resource_id"]))
    assert (task.state, task.view()["effect"]) == ("FAILED", "none")
    assert not Server(cloud.where, at.id).path.exists()
    assert cloud.do(at, "delete").state == "SUCCEEDED"
    assert at.is_deleted


def test_a_deaf_guest_is_not_stopped_softly_and_is_stopped_hard(tmp_path: Path, where: str) -> None:
    cloud = Cloud(database_at(tmp_path / "tasks.db"), where, server_stop_s=0.5)
    with cloud.hold:
        at = cloud.create(guest={"deaf": True})
        task = cloud.do(at, "stop")
        assert (task.state, task.view()["effect"], at.lifecycle) == ("FAILED", "none", "ACTIVE")
        assert cloud.console(at) == ["boot", "up", "button ignored"]
        assert cloud.do(at, "stop", {"type": "HARD"}).state == "SUCCEEDED"
        assert (at.lifecycle, cloud.slot(at).power()) == ("SHUTOFF", SHUTDOWN)


def test_a_limit_below_what_the_guest_uses_is_refused_by_the_world(cloud: Cloud) -> None:
    at = cloud.create(memory_mib=256)
    slot = cloud.slot(at)
    process = slot.process()
    assert process is not None
    process.send(signal.SIGSTOP)  # it can't grow meanwhile
    task = cloud.do(at, "resize", {"memory_mib": 32})
    if task.state == "FAILED":  # only where this interpreter needs more than that
        assert "which is more than 32" in str(task.failure)
    process.send(signal.SIGCONT)
    assert slot.limits()["memory_mib"] == (256 if task.state == "FAILED" else 32)


def test_faults_are_refused_where_they_are_not_allowed_and_where_they_are_none(tmp_path: Path, where: str) -> None:
    cloud = Cloud(database_at(tmp_path / "tasks.db"), where, server_faults=0)
    with cloud.hold:
        with pytest.raises(DocumentInvalid, match="HOLDFAST_SERVER_FAULTS=1"):
            cloud.create(metadata={"faults": "reboot=before"})
        with pytest.raises(DocumentInvalid, match="write OPERATION=MOMENT, with one of before, after, hang, block"):
            cloud.create(metadata={"faults": "reboot"})
        assert cloud.hold.tasks() == []


@pytest.mark.parametrize(
    "desired", [{"image": "guest-9"}, {"name": ""}, {"memory_mib": 1}, {"files": "many"}, {"colour": "red"}]
)
def test_a_document_that_is_no_servers_is_refused(cloud: Cloud, desired: dict[str, Any]) -> None:
    with pytest.raises(DocumentInvalid):
        cloud.create(**desired)
    assert cloud.hold.tasks() == []


def test_operations_start_where_they_may(cloud: Cloud) -> None:
    at = cloud.create()
    with pytest.raises(ResourceImmutable, match="allowed then are"):
        at.operate("resume")
    assert cloud.do(at, "suspend").state == "SUCCEEDED"
    with pytest.raises(ResourceImmutable):
        at.operate("reboot")


def test_a_guest_that_was_killed_by_another_is_found_to_be_off(cloud: Cloud) -> None:
    at = cloud.create()
    process = cloud.slot(at).process()
    assert process is not None
    process.send(signal.SIGKILL)
    until(lambda: cloud.slot(at).power() == SHUTDOWN, "the guest to be gone")
    cloud.hold.watch_drift(rounds=1)
    cloud.work()
    assert (at.lifecycle, at.view()["observed"]["power_state"]) == ("SHUTOFF", SHUTDOWN)
    assert cloud.do(at, "start").state == "SUCCEEDED"
    assert cloud.console(at).count("boot") == 2


def test_the_settings_of_the_database_are_the_servers(tmp_path: Path, where: str) -> None:
    with hf.open(database_at(tmp_path / "tasks.db"), kinds=Kinds.load(), server_dir=where) as hold:
        task = hold.operate("server", "create", desired={"name": "s"})
        hold.work(until_idle=True)
        assert task.state == "SUCCEEDED", task.failure
        assert Server(where, str(task.view()["resource_id"])).slot.power() == RUNNING
