"""The suite for power drivers finds what is wrong with one: each of these drivers breaks one promise."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from holdfast.errors import BMCError, BMCUnreachable
from holdfast.resources.node import words
from holdfast.resources.node.ipmi import Ipmi
from holdfast.resources.node.power import Bmc, PowerDriver
from tests.conformance.test_power import OnIpmi

pytestmark = pytest.mark.requirement("IRONIC-16")


class Asks(Ipmi):
    """Asks somebody what it supports."""

    def get_supported_power_states(self, bmc: Bmc) -> Sequence[str]:
        subprocess.run(["true"], check=True)
        return super().get_supported_power_states(bmc)


class Shuffles(Ipmi):
    def get_supported_power_states(self, bmc: Bmc) -> Sequence[str]:
        return tuple(reversed(super().get_supported_power_states(bmc)))


class Remembers(Ipmi):
    """Takes what it told the machine for what the machine is."""

    told = words.POWER_OFF

    def get_power_state(self, bmc: Bmc) -> str:
        return self.told


class Insists(Ipmi):
    """Repeats what was not answered."""

    def set_power_state(self, bmc: Bmc, target: str, monitor: Any = None) -> None:
        try:
            super().set_power_state(bmc._replace(timeout_s=bmc.timeout_s / 2), target)
        except BMCUnreachable:
            super().set_power_state(bmc._replace(timeout_s=bmc.timeout_s / 2), target)


class Helps(Ipmi):
    """Pulls the plug of a guest that does not hear."""

    def set_power_state(self, bmc: Bmc, target: str, monitor: Any = None) -> None:
        super().set_power_state(bmc, target)
        if target == words.SOFT_POWER_OFF and self.get_power_state(bmc) == words.POWER_ON:
            super().set_power_state(bmc, words.POWER_OFF)


class Dawdles(Ipmi):
    """Takes more time than it has."""

    def get_power_state(self, bmc: Bmc) -> str:
        return super().get_power_state(bmc._replace(timeout_s=bmc.timeout_s + 1.5))


class Stubborn(Ipmi):
    """Can't be stopped."""

    def get_power_state(self, bmc: Bmc) -> str:
        return super().get_power_state(bmc._replace(on_stop=lambda how: None, timeout_s=3.0))


class Blurts(Ipmi):
    """Says all that it knows when it fails."""

    def set_power_state(self, bmc: Bmc, target: str, monitor: Any = None) -> None:
        try:
            super().set_power_state(bmc, target)
        except BMCError as error:
            raise type(error)(f"{error}", info=dict(bmc.info)) from error


class Shows(Ipmi):
    """Has a child with the password in its environment."""

    def get_power_state(self, bmc: Bmc) -> str:
        with subprocess.Popen(
            ["sleep", "9"], env={"PATH": "/usr/bin:/bin", "IPMI_PASSWORD": bmc.info["password"]}
        ) as child:
            try:
                return super().get_power_state(bmc)
            finally:
                child.kill()


class Keeps(Ipmi):
    """Has a pipe more after each call."""

    def get_power_state(self, bmc: Bmc) -> str:
        self.kept = [*getattr(self, "kept", ()), *os.pipe()]
        return super().get_power_state(bmc)


class Tried(OnIpmi):
    """The suite on a driver, called by hand; not collected for its name."""

    def __init__(self, driver: PowerDriver) -> None:
        self.driver = driver

    def make(self) -> PowerDriver:
        return self.driver


def test_it_must_ask_nobody_what_it_supports() -> None:
    with pytest.raises(AssertionError):
        Tried(Asks()).test_the_list_is_in_order_and_asks_nobody()


def test_its_list_must_be_in_order() -> None:
    with pytest.raises(AssertionError):
        Tried(Shuffles()).test_the_list_is_in_order_and_asks_nobody()


def test_it_must_look_at_the_machine(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        Tried(Remembers()).test_the_state_is_the_machines(tmp_path, words.POWER_ON)


def test_it_must_not_repeat_a_command(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        Tried(Insists()).test_a_command_whose_answer_was_lost_is_not_repeated(tmp_path)


def test_it_must_not_help_a_soft_off(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        Tried(Helps()).test_a_soft_off_does_not_wait_for_the_guest_nor_help_it(tmp_path)


def test_it_must_leave_nothing_behind(tmp_path: Path) -> None:
    keeps = Keeps()
    with pytest.raises(AssertionError):
        Tried(keeps).test_nothing_is_left_of_a_call(tmp_path)
    for file in keeps.kept:
        os.close(file)


def test_it_must_keep_to_its_time(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        Tried(Dawdles()).test_a_hung_bmc_is_told_within_the_calls_time(tmp_path)


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_it_must_stop(tmp_path: Path, when: str) -> None:
    with pytest.raises(TimeoutError):
        Tried(Stubborn()).test_a_stop_ends_a_hung_call_within_a_second(tmp_path, when)


def test_its_errors_must_not_have_the_password(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(AssertionError):
        Tried(Blurts()).test_a_password_is_in_no_error_and_no_log(tmp_path, "locked", caplog)


def test_its_children_must_not_show_the_password(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        Tried(Shows()).test_no_other_process_can_read_the_password(tmp_path)
