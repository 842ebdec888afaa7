"""The flow of the demo against the real BMC process, in memory; over the command line it is played by `make demo`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sushy

import holdfast as hf
from demo import evidence, power
from demo.calls import Bmc, Node
from demo.children import Children

NAMES = ["good", "was_off", "refuses", "refuses_too_long", "deaf", "slow_undo", "probed", "absent"]


@pytest.fixture(scope="module")
def bmc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bmc]:
    with Children() as children:
        bmc = Bmc(tmp_path_factory.mktemp("bmc"), NAMES)
        bmc.start(children)
        yield bmc


def inputs(node: Node) -> dict[str, str]:
    return {"bmc": node.bmc.url, "system": node.system}


def test_a_cycle_of_a_slow_guest(bmc: Bmc) -> None:
    node = bmc.nodes["good"]
    node.set("acpi_delay", "0.6")
    outcome = hf.run(power.power_cycle, inputs(node)).raise_for_state()
    node.look(evidence.DEMO)

    checks = evidence.ends_well(node.calls(), code=0, state=outcome.state, progress="of the command line only")

    assert outcome.results["is_on"] is True
    assert [check for check in checks if not check.holds] == []


def test_a_machine_that_is_off_is_only_switched_on(bmc: Bmc) -> None:
    node = bmc.nodes["was_off"]
    power._machine(bmc.url, node.system, "a test").reset_system(sushy.ResetType.FORCE_OFF)
    outcome = hf.run(power.power_cycle, inputs(node))

    assert outcome.state == "SUCCEEDED"
    assert evidence.resets(node.calls()) == ["ForceOff by a test: 204", evidence.ON]


def test_errors_of_the_bmc_are_tried_again_and_then_undone(bmc: Bmc) -> None:
    node = bmc.nodes["refuses"]
    node.set("fail", "500 3 On")
    outcome = hf.run(power.power_cycle, inputs(node))
    node.look(evidence.DEMO)
    checks = evidence.is_rolled_back(node.calls(), code=1, state=outcome.state, revert=outcome.aftermath.revert)

    assert [check for check in checks if not check.holds] == []


def test_two_errors_are_not_seen(bmc: Bmc) -> None:
    node = bmc.nodes["refuses_too_long"]
    node.set("fail", "503 2 GracefulShutdown")
    outcome = hf.run(power.power_cycle, inputs(node))
    refused = "GracefulShutdown by soft_off: 503"

    assert outcome.state == "SUCCEEDED"
    assert evidence.resets(node.calls()) == [refused, refused, evidence.BUTTON, evidence.ON]


def test_a_deaf_guest_ends_the_wait_and_the_task_rests(bmc: Bmc) -> None:
    node = bmc.nodes["deaf"]
    node.set("ignore_acpi")
    impatient = hf.linear(
        "impatient",
        power.read_power,
        power.soft_off,
        power.wait_off.with_options(timeout_s=0.5),
        power.power_on,
        on_failure="suspend",
    )
    outcome = hf.run(impatient, inputs(node))

    assert (outcome.state, outcome.reason) == ("SUSPENDED", "on_failure")
    assert evidence.resets(node.calls()) == [evidence.BUTTON]
    assert evidence.looks(node.calls(), "wait_off", "On") >= 1


def test_the_undo_lets_a_guest_go_off_before_it_switches_it_on(bmc: Bmc) -> None:
    """The button can't be unpressed: switching on at once would be lost."""
    node = bmc.nodes["slow_undo"]
    node.set("acpi_delay", "0.8")

    @hf.step
    def break_off() -> None:
        raise RuntimeError("somebody changed their mind")

    outcome = hf.run(hf.linear("undone", power.read_power, power.soft_off, break_off), inputs(node))
    node.look(evidence.DEMO)

    assert (outcome.state, outcome.aftermath.revert) == ("FAILED", "done")
    assert evidence.resets(node.calls()) == [evidence.BUTTON, evidence.PUT_BACK]
    assert evidence.last_power(node.calls()) == "On"


def test_the_probes_ask_the_machine(bmc: Bmc) -> None:
    node = bmc.nodes["probed"]
    while_on = (power.was_pressed(bmc.url, node.system), power.was_switched_on(bmc.url, node.system))
    power._machine(bmc.url, node.system, "a test").reset_system(sushy.ResetType.FORCE_OFF)
    while_off = (power.was_pressed(bmc.url, node.system), power.was_switched_on(bmc.url, node.system))

    assert while_on == (hf.NotDone(), hf.Done())
    assert while_off == (hf.Done(), hf.NotDone())


def test_a_bmc_that_is_not_there_is_unknown() -> None:
    assert isinstance(power.was_pressed("http://127.0.0.1:9", "any"), hf.Unknown)


def test_off_at_the_wrong_time_is_a_failure(bmc: Bmc) -> None:
    with pytest.raises(power.NotAsAsked):
        power.confirm_off(bmc.url, bmc.nodes["absent"].system)
