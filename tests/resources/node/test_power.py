"""What operations on the power do to a machine, what is shown of it meanwhile, and what verbs make of them."""

from __future__ import annotations

import asyncio
import gc
import itertools
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import holdfast as hf
from holdfast.errors import LeaseLost
from holdfast.resources.node.fake import Fake
from holdfast.resources.node.power import Bmc, Follow
from holdfast.resources.node.steps import Power
from holdfast.resources.probing import by_uuid
from holdfast.settings import Settings
from tests.resources.node.conftest import PATIENCE_S, Node, Yard

ON, OFF = "power on", "power off"


def shown_while(
    yard: Yard, node: Node, operation: str, params: dict[str, Any] | None = None
) -> tuple[hf.Task, list[Any]]:
    """Do it to its end, with all that is shown of (power_state, target_power_state) on the way."""
    task = node.operate(operation, params)
    seen: list[Any] = []

    def is_over() -> bool:
        now = yard.shown(node)
        if not seen or seen[-1] != now:
            seen.append(now)
        return task.view()["finish_time"] is not None

    yard.until(is_over, operation)
    if seen[-1] != yard.shown(node):
        seen.append(yard.shown(node))
    return task, seen


@pytest.mark.parametrize("refused", [False, True])
def test_an_attempt_that_is_cancelled_ends_behind_what_it_writes(
    refused: bool, caplog: pytest.LogCaptureFixture
) -> None:
    begun, go_on, wrote = threading.Event(), threading.Event(), list[str]()

    def write(fn: Callable[[str], object]) -> None:
        begun.set()
        assert go_on.wait(PATIENCE_S)
        fn("off")
        if refused:
            raise LeaseLost

    store: Any = SimpleNamespace(hold=SimpleNamespace(store=SimpleNamespace(write=write), poke=lambda: None))
    power = Power(Settings(), store)

    async def cancelled() -> None:
        writing = asyncio.create_task(power.write(wrote.append))  # type: ignore[arg-type]
        await asyncio.to_thread(begun.wait, PATIENCE_S)
        writing.cancel()
        done, _ = await asyncio.wait({writing}, timeout=0.1)
        assert not done
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await writing
        assert wrote == ["off"]

    asyncio.run(cancelled())
    gc.collect()
    assert caplog.text == "", "what became of it is nobody's business any more"


# --- each operation ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operation", "before", "sent", "after"),
    [
        ("power_on", OFF, [ON], ON),
        ("power_on", ON, [], ON),
        ("power_off", ON, [OFF], OFF),
        ("power_off", OFF, [], OFF),
        ("reboot", ON, [OFF, ON], ON),
        ("reboot", OFF, [ON], ON),
        ("soft_power_off", ON, ["soft power off"], OFF),
        ("soft_power_off", OFF, [], OFF),
        ("soft_reboot", ON, ["soft power off", ON], ON),
        ("soft_reboot", OFF, [ON], ON),
        ("inject_nmi", ON, ["inject nmi"], ON),
    ],
)
def test_each_operation_sends_what_it_takes_and_no_more(
    yard: Yard, operation: str, before: str, sent: list[str], after: str
) -> None:
    node = yard.enrol(power=before)
    task = yard.do(node, operation)
    assert task.state == "SUCCEEDED", task.failure
    assert yard.sent(node) == sent
    assert yard.shown(node) == (after, None)
    assert (node.lifecycle, node.status) == ("manageable", after)


@pytest.mark.requirement("P10")
def test_a_driver_is_told_whose_call_it_is(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a device that can refuse who is late."""
    said: list[tuple[str, int]] = []
    send = Fake.set_power_state

    def noted(self: Fake, bmc: Bmc, target: str, monitor: Any = None) -> Follow | None:
        said.append((bmc.task_id, bmc.fence))
        return send(self, bmc, target, monitor)

    monkeypatch.setattr(Fake, "set_power_state", noted)
    tasks = [yard.do(yard.enrol(name), "power_off") for name in ("rack-1", "rack-2")]
    epochs = yard.hold.store.read(lambda tx: [by_uuid(tx, task.id).epoch for task in tasks])
    assert said == list(zip([task.id for task in tasks], epochs, strict=True))
    assert min(epochs) >= 1


@pytest.mark.parametrize("operation", ["power_off", "soft_reboot", "inject_nmi"])
def test_what_a_bmc_works_on_is_followed_and_not_sent_again(yard: Yard, operation: str) -> None:
    node = yard.enrol(follow_s=0.2)
    task = yard.do(node, operation)
    assert task.state == "SUCCEEDED", task.failure
    assert len(yard.sent(node)) == len(set(yard.sent(node)))
    assert yard.machine(node).count("follow") > 0


@pytest.mark.requirement("IRONIC-11")
def test_a_soft_reboot_aims_at_soft_power_off_and_then_at_power_on(yard: Yard) -> None:
    node = yard.enrol(off_s=0.3, on_s=0.3)
    task, seen = shown_while(yard, node, "soft_reboot")
    assert task.state == "SUCCEEDED", task.failure
    reached = [(OFF, "soft power off")]  # for a moment
    assert [each for each in seen if each not in reached] == [(ON, "soft power off"), (OFF, ON), (ON, None)]


def test_a_reboot_aims_at_power_off_and_then_at_power_on(yard: Yard) -> None:
    node = yard.enrol(off_s=0.3, on_s=0.3)
    task, seen = shown_while(yard, node, "reboot")
    assert task.state == "SUCCEEDED", task.failure
    assert [each for each in seen if each != (OFF, OFF)] == [(ON, OFF), (OFF, ON), (ON, None)]


@pytest.mark.requirement("IRONIC-11")
@pytest.mark.parametrize("operation", ["soft_power_off", "soft_reboot"])
def test_one_whose_time_is_over_leaves_the_node_in_error(yard: Yard, operation: str) -> None:
    node = yard.enrol(soft_off="ignored")
    task, seen = shown_while(yard, node, operation, {"timeout": 0.4})
    assert (task.state, task.view()["error"]["code"]) == ("FAILED", "power.timeout")
    assert seen == [(ON, "soft power off"), ("error", None)]
    said = "soft power off: after 0.4 s the machine still is power on"
    assert yard.states(node)["last_error"] == task.view()["error"]["detail"] == said
    assert yard.sent(node) == ["soft power off"]
    assert node.lifecycle == "manageable"
    assert yard.do(node, "power_off").state == "SUCCEEDED"
    assert yard.states(node)["last_error"] is None


def test_a_machine_that_takes_its_time_is_looked_at_more_seldom(yard: Yard) -> None:
    node = yard.enrol(soft_off="ignored")
    task = yard.do(node, "soft_power_off", {"timeout": 1.5})
    assert task.state == "FAILED"
    looks = [called.at for called in yard.calls(node) if called.call == "get"]
    pauses = [(after - looks[0], after - before) for before, after in itertools.pairwise(looks)]
    *_, last = [pause for at, pause in pauses if at < 1.4]  # the end of its time is not waited for any longer
    assert min(pause for _, pause in pauses) < 0.08 < last


@pytest.mark.requirement("IRONIC-17")
def test_the_wait_is_shown_as_progress_that_never_goes_back(yard: Yard) -> None:
    node = yard.enrol(soft_off="slow", soft_off_s=1.2)
    task = node.operate("soft_power_off", {"timeout": 2.0})
    seen: list[int] = []
    messages = set()

    def is_over() -> bool:
        view = task.view()
        seen.append(view["progress"]["percent"])
        messages.add(view["progress"]["message"])
        return view["finish_time"] is not None

    yard.until(is_over)
    assert task.state == "SUCCEEDED", task.failure
    assert seen == sorted(seen)
    assert any(10 < percent < 100 for percent in seen)
    assert "waits until it is power off" in messages


# --- what the BMC says -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "code", "said"),
    [
        ("refuse", "bmc.refused", "not in this state (0xd5)"),
        ("auth", "bmc.auth", "unauthorized name or password"),
        ("fail", "bmc.failed", "internal error (0xff)"),
    ],
)
def test_a_command_that_fails_says_what_the_bmc_said(yard: Yard, what: str, code: str, said: str) -> None:
    node = yard.enrol(faults=[{"call": OFF, "what": what}])
    task = yard.do(node, "power_off")
    assert (task.state, task.view()["error"]["code"]) == ("FAILED", code)
    assert said in task.view()["error"]["detail"]
    assert said in yard.states(node)["last_error"]
    assert yard.sent(node) == [OFF]
    # Who refuses has done nothing. Who only failed may have.
    assert task.view()["effect"] == ("partial" if what == "fail" else "none")
    assert yard.shown(node) == ("error" if what == "fail" else ON, None)


def test_a_bmc_that_fails_and_does_it_all_the_same_is_believed_by_what_is_seen(yard: Yard) -> None:
    node = yard.enrol(faults=[{"call": OFF, "what": "lost"}])
    task = yard.do(node, "power_off")
    assert task.state == "SUCCEEDED", task.failure
    assert yard.sent(node) == [OFF]


def test_a_lost_command_is_repeated_after_a_look_only(yard: Yard) -> None:
    node = yard.enrol(faults=[{"call": OFF, "what": "unreachable", "nth": 1}])
    task = yard.do(node, "power_off")
    assert task.state == "SUCCEEDED", task.failure
    assert yard.sent(node) == [OFF, OFF]
    no_repeat_without_a_look(yard, node)


def test_a_lost_interrupt_is_never_repeated(yard: Yard) -> None:
    node = yard.enrol(faults=[{"call": "inject nmi", "what": "lost", "nth": 1}])
    task = yard.do(node, "inject_nmi")
    assert (task.state, task.view()["error"]["code"]) == ("FAILED", "power.unknown")
    assert yard.sent(node) == ["inject nmi"]
    assert yard.shown(node) == ("error", None)


def test_a_bmc_that_is_away_before_anything_was_sent_has_changed_nothing(yard: Yard) -> None:
    node = yard.enrol()
    yard.machine(node).behave(faults=[{"what": "unreachable"}])
    task = yard.do(node, "power_off")
    assert (task.state, task.view()["error"]["code"], task.view()["effect"]) == ("FAILED", "bmc.unreachable", "none")
    assert yard.states(node)["last_error"] == "the BMC does not answer"
    assert yard.shown(node) == (ON, None)
    assert yard.sent(node) == []


def test_a_bmc_that_hangs_is_not_asked_for_longer_than_the_command_may_take(yard: Yard) -> None:
    node = yard.enrol()
    yard.machine(node).behave(faults=[{"call": "get", "what": "stall"}])
    asked = time.monotonic()
    task = yard.do(node, "power_off", {"timeout": 0.5})
    assert (task.state, task.view()["error"]["code"]) == ("FAILED", "bmc.unreachable")
    assert time.monotonic() - asked < yard.hold.settings.node_call_s / 2
    assert yard.shown(node) == (ON, None)


def test_a_bmc_that_talks_nonsense_is_not_believed(yard: Yard) -> None:
    node = yard.enrol()
    yard.machine(node).behave(faults=[{"call": "get", "what": "garbage"}])
    task = yard.do(node, "power_off")
    assert (task.state, task.view()["error"]["code"]) == ("FAILED", "bmc.failed")
    assert "?!" in task.view()["error"]["detail"]
    assert yard.sent(node) == []


def no_repeat_without_a_look(yard: Yard, node: Node) -> None:
    """Between two commands of one kind the machine was looked at."""
    calls = [called.call for called in yard.calls(node)]
    for at, call in enumerate(calls):
        if call not in ("get", "follow") and call in calls[at + 1 :]:
            assert "get" in calls[at : calls.index(call, at + 1)], calls


# --- verbs -------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("IRONIC-1")
def test_a_soft_reboot_that_is_cancelled_before_the_off_leaves_the_node_on(yard: Yard) -> None:
    node = yard.enrol(soft_off="ignored")
    task = node.operate("soft_reboot")
    yard.until_sent(node, "soft power off")
    task.cancel()
    yard.until_ended(task)
    assert (task.state, task.view()["effect"], task.view()["revert"]) == ("CANCELLED", "none", "done")
    assert yard.shown(node) == (ON, None)
    assert yard.sent(node) == ["soft power off"]


@pytest.mark.requirement("IRONIC-1")
@pytest.mark.parametrize("operation", ["soft_reboot", "soft_power_off"])
def test_a_machine_that_goes_off_after_the_cancel_is_put_on_again(tmp_path: Path, operation: str) -> None:
    yard = Yard(tmp_path, node_settle_s=PATIENCE_S)
    with yard.hold, yard.hold.working():
        node = yard.enrol(soft_off="ignored")
        task = node.operate(operation)
        yard.until_sent(node, "soft power off")
        task.cancel()
        yard.until(lambda: "is watched for a while" in (task.view()["progress"]["message"] or ""))
        assert yard.shown(node) == (ON, ON)
        yard.machine(node).turn(OFF)
        yard.until_ended(task)
        assert (task.state, task.view()["effect"]) == ("CANCELLED", "none")
        assert yard.machine(node).power == ON
        assert yard.sent(node) == ["soft power off", ON]
        assert yard.shown(node) == (ON, None)


@pytest.mark.requirement("IRONIC-1")
@pytest.mark.parametrize("operation", ["soft_reboot", "reboot"])
def test_a_reboot_that_is_cancelled_past_the_off_switches_on(yard: Yard, operation: str) -> None:
    node = yard.enrol(on_s=0.3)
    task = node.operate(operation)
    yard.until_sent(node, ON)
    task.cancel()
    yard.until_ended(task)
    assert (task.state, task.view()["effect"]) == ("CANCELLED", "none")
    assert yard.machine(node).power == ON
    assert yard.shown(node) == (ON, None)


@pytest.mark.requirement("IRONIC-1")
def test_an_interrupt_that_was_sent_is_not_taken_back(yard: Yard) -> None:
    node = yard.enrol(follow_s=30.0)
    task = node.operate("inject_nmi")
    yard.until_sent(node, "inject nmi")
    yard.until(lambda: yard.machine(node).count("follow"))
    task.cancel()
    yard.until_ended(task)
    assert (task.state, task.view()["effect"], task.view()["revert"]) == ("FAILED", "partial", "failed")
    assert yard.shown(node) == ("error", None)


@pytest.mark.requirement("IRONIC-1")
def test_what_is_cancelled_and_left_is_in_error_until_somebody_looks(yard: Yard) -> None:
    node = yard.enrol(soft_off="ignored")
    task = node.operate("soft_power_off")
    yard.until_sent(node, "soft power off")
    task.cancel(revert=False)
    yard.until_ended(task)
    assert (task.state, task.view()["effect"]) == ("CANCELLED", "partial")
    assert yard.shown(node) == ("error", None)
    assert "soft_power_off was cancelled by library" in yard.states(node)["last_error"]


@pytest.mark.requirement("IRONIC-1")
def test_a_suspended_wait_goes_on_and_sends_nothing_twice(yard: Yard) -> None:
    node = yard.enrol(soft_off="ignored")
    task = node.operate("soft_reboot")
    yard.until_sent(node, "soft power off")
    task.suspend()
    yard.until(lambda: task.state == "SUSPENDED")
    assert yard.shown(node) == (ON, "soft power off")  # it holds the node
    yard.machine(node).turn(OFF)
    task.resume()
    yard.until_ended(task)
    assert task.state == "SUCCEEDED", task.failure
    assert yard.sent(node) == ["soft power off", ON]
    assert yard.shown(node) == (ON, None)


@pytest.mark.requirement("IRONIC-1")
def test_a_suspended_soft_operation_can_be_aborted(yard: Yard) -> None:
    node = yard.enrol(soft_off="ignored")
    task = node.operate("soft_power_off")
    yard.until_sent(node, "soft power off")
    task.suspend()
    yard.until(lambda: task.state == "SUSPENDED")
    yard.do(node, "abort_soft_power_off")
    assert task.state == "ABORTED"
    assert yard.shown(node) == ("error", None)


@pytest.mark.requirement("IRONIC-1")
def test_a_cancel_cuts_off_a_call_that_hangs_and_looks(yard: Yard) -> None:
    node = yard.enrol(faults=[{"call": "soft power off", "what": "hang"}])
    task = node.operate("soft_reboot")
    yard.until_sent(node, "soft power off")
    task.cancel()
    yard.until_ended(task)
    assert (task.state, task.view()["effect"]) == ("CANCELLED", "none")
    assert yard.sent(node) == ["soft power off"]
    assert yard.shown(node) == (ON, None)


@pytest.mark.requirement("IRONIC-1")
def test_what_hung_when_it_was_suspended_is_looked_at_and_then_repeated(yard: Yard) -> None:
    node = yard.enrol(faults=[{"call": "soft power off", "what": "stall", "nth": 1}])
    task = node.operate("soft_power_off")
    yard.until_sent(node, "soft power off")
    task.suspend()
    yard.until(lambda: task.state == "SUSPENDED")
    task.resume()
    yard.until_ended(task)
    assert task.state == "SUCCEEDED", task.failure
    assert yard.sent(node) == ["soft power off", "soft power off"]
    no_repeat_without_a_look(yard, node)


@pytest.mark.requirement("IRONIC-1")
def test_power_that_was_switched_off_is_rolled_back(yard: Yard) -> None:
    node = yard.enrol()
    task = yard.do(node, "power_off")
    undo = yard.until_ended(task.rollback())
    assert undo.state == "SUCCEEDED", undo.failure
    assert yard.sent(node) == [OFF, ON]
    assert yard.shown(node)[0] == ON


def test_time_in_which_a_task_rests_does_not_count(tmp_path: Path) -> None:
    yard = Yard(tmp_path, node_call_s=0.1)
    with yard.hold, yard.hold.working():
        node = yard.enrol(soft_off="ignored")
        task = node.operate("soft_power_off", {"timeout": 1.0})
        yard.until_sent(node, "soft power off")
        task.suspend()
        yard.until(lambda: task.state == "SUSPENDED")
        rested = yard.hold.clock.time() + 1.2
        yard.until(lambda: yard.hold.clock.time() > rested)
        task.resume()
        yard.until(lambda: task.state == "WAITING")
        yard.machine(node).turn(OFF)
        assert yard.until_ended(task).state == "SUCCEEDED", task.failure
