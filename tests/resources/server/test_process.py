"""The driver `process`, without tasks: real guests, found again, ended for good."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from holdfast.resources.server import pid
from holdfast.resources.server.process import (
    RUNNING,
    SHUTDOWN,
    SUSPENDED,
    NoSuchServer,
    NotPossible,
    NotStarted,
    Server,
    Slot,
    put,
)
from tests.resources.server.conftest import pause, until


def made(where: str, name: str = "s1", **config: Any) -> Slot:
    server = Server(where, name)
    slot = server.slot_of(1)
    slot.make({"image": "guest-1", "limits": {}, "guest": {}, **config})
    server.use(slot)
    return slot


def words(slot: Slot) -> list[str]:
    return [str(line["what"]) for line in slot.console()]


def beats(slot: Slot) -> int:
    seen = slot.heartbeat()
    return seen.beat if seen else 0


def test_a_guest_is_a_process_in_a_session_of_its_own_that_is_nobodys_child(where: str) -> None:
    slot = made(where)
    process = slot.start("key")

    until(slot.is_up, "the guest to be up")
    assert os.getsid(process.pid) == process.pid
    assert int(Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[1]) != os.getpid()
    assert slot.power() == RUNNING
    assert words(slot) == ["boot", "up"]


def test_a_start_that_is_repeated_finds_the_process_it_made(where: str) -> None:
    slot = made(where)
    assert slot.start("key") == slot.start("key") == slot.start("another key")
    until(slot.is_up, "the guest to be up")
    assert words(slot) == ["boot", "up"]


def test_two_starters_at_once_make_one_guest(where: str) -> None:
    """As after a kill -9 between the start and its record: the first starter is still on its way."""
    slot = made(where)
    put(slot.path / "wanted", json.dumps({"token": "key"}))
    command = [sys.executable, "-I", "-S", str(slot.path / "program"), str(slot.path), "key"]
    with subprocess.Popen(command) as one, subprocess.Popen(command) as other:
        codes = sorted([one.wait(30), other.wait(30)])
    assert codes == [0, 75]
    until(slot.is_up, "the guest to be up")
    assert words(slot) == ["boot", "up"]


def test_a_starter_whose_token_was_taken_away_starts_nothing(where: str) -> None:
    slot = made(where)
    slot.end(pause)
    late = subprocess.run(
        [sys.executable, "-I", "-S", slot.path / "program", slot.path, "key"], check=False, timeout=30
    )
    assert late.returncode == 75
    assert slot.process() is None
    assert words(slot) == []


def test_it_is_found_by_another_process(where: str) -> None:
    process = made(where).start("key")
    asked = (
        "import sys; from holdfast.resources.server.process import Server;"
        "print(Server(sys.argv[1], 's1').slot.process().pid)"
    )
    told = subprocess.run([sys.executable, "-c", asked, where], capture_output=True, text=True, check=True, timeout=30)
    assert int(told.stdout) == process.pid


@pytest.mark.parametrize("lie", [{"start": 1}, {"boot_id": "another boot of this machine"}])
def test_another_process_with_its_number_is_not_taken_for_it(where: str, lie: dict[str, Any]) -> None:
    slot = made(where)
    process = slot.start("key")
    before = json.loads((slot.path / "process").read_text())

    put(slot.path / "process", json.dumps({**before, **lie}))
    assert slot.process() is None
    assert not slot.press_button()
    assert slot.power() == SHUTDOWN

    put(slot.path / "process", json.dumps(before))
    assert slot.process() == process
    assert "button pressed" not in words(slot)


def test_its_power_button_is_heard(where: str) -> None:
    slot = made(where)
    slot.start("key")
    until(slot.is_up, "the guest to be up")
    assert slot.press_button()
    until(lambda: slot.process() is None, "the guest to be off")
    assert words(slot) == ["boot", "up", "button pressed", "off"]


def test_a_deaf_guest_ignores_its_button_and_not_the_plug(where: str) -> None:
    slot = made(where, guest={"deaf": 1})
    slot.start("key")
    assert slot.press_button()
    until(lambda: "button ignored" in words(slot), "the guest to ignore its button")
    assert slot.power() == RUNNING
    slot.end(pause)
    assert slot.process() is None


def test_it_takes_a_new_configuration_as_it_runs(where: str) -> None:
    slot = made(where, guest={"shutdown_s": 1000})
    slot.start("key")
    slot.press_button()
    until(slot.is_going_down, "the guest to go down")
    slot.configure({**slot.config(), "guest": {}})
    until(lambda: slot.process() is None, "the guest to be off")
    assert words(slot)[-1] == "off"


def test_held_it_stands_still_and_goes_on_where_it_was(where: str) -> None:
    slot = made(where)
    process = slot.start("key")
    until(slot.is_up, "the guest to be up")
    slot.hold()
    until(lambda: slot.power() == SUSPENDED, "the guest to be held")
    still = beats(slot)
    pause(0.5)  # two beats long: the evidence is that nothing happens
    assert beats(slot) == still
    slot.let_go()
    until(lambda: beats(slot) > still + 1, "the guest to beat again")
    assert slot.process() == process
    assert words(slot) == ["boot", "up"]


def test_held_or_not_it_is_ended(where: str) -> None:
    slot = made(where)
    process = slot.start("key")
    slot.hold()
    slot.end(pause)
    assert process.letter() is None
    slot.end(pause)  # again, as after a crash
    assert slot.power() == SHUTDOWN


def test_a_guest_that_dies_while_it_boots_says_why(where: str) -> None:
    slot = made(where, guest={"panics": 1})
    slot.start("key")
    with pytest.raises(NotStarted, match="no init found"):
        until(slot.is_up, "it to fail")


def test_a_guest_that_was_killed_by_another_is_off(where: str) -> None:
    slot = made(where)
    process = slot.start("key")
    process.send(signal.SIGKILL)
    until(lambda: slot.power() == SHUTDOWN, "the guest to be gone")
    assert slot.start("key").pid != process.pid
    until(lambda: (slot.heartbeat() or [0, 0])[1] == 2, "its second boot")


def test_limits_are_the_kernels(where: str) -> None:
    slot = made(where, limits={"memory_mib": 256, "files": 64})
    slot.start("key")
    assert slot.limits() == {"memory_mib": 256, "cpu_s": None, "files": 64}
    slot.limit({"memory_mib": 128, "cpu_s": 600, "files": None})
    assert slot.limits()["memory_mib"] == 128
    assert slot.limits()["cpu_s"] == 600
    slot.limit({"memory_mib": 512})
    assert slot.limits()["memory_mib"] == 512  # a server may grow again
    with pytest.raises(NotPossible, match="which is more than 4"):
        slot.limit({"memory_mib": 4})
    assert slot.limits()["memory_mib"] == 512
    assert slot.config()["limits"] == {"memory_mib": 512}


def test_removed_it_leaves_no_file_and_no_process(where: str) -> None:
    slot = made(where)
    process = slot.start("key")
    Server(where, "s1").remove(pause)
    assert process.letter() is None
    assert not Server(where, "s1").path.exists()
    Server(where, "s1").remove(pause)
    with pytest.raises(NoSuchServer):
        _ = Server(where, "s1").slot


@pytest.mark.parametrize("name", ["", "..", "../other", "/etc", ".hidden"])
def test_an_id_leads_nowhere_else(where: str, name: str) -> None:
    with pytest.raises(NoSuchServer):
        Server(where, name)


def test_a_record_that_is_not_whole_is_nobody() -> None:
    assert pid.of({}) is None
    assert pid.of({"pid": 1, "start": "soon", "boot_id": "b", "token": "t"}) is None
