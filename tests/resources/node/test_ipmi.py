"""The drivers of IPMI: what they make of what BMCs answer, and what a run of ipmitool shows and leaves behind. What all
drivers promise: tests/conformance/test_power.py."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from holdfast.errors import BMCAuthFailed, BMCError, BMCRefused, BMCUnreachable
from holdfast.resources.node import words
from holdfast.resources.node.ipmi import Ipmi
from holdfast.resources.node.irmc import Irmc
from holdfast.resources.node.power import Bmc
from holdfast.testing.outside import Hooks, family, until
from peers.chassis import Peer
from peers.ipmi_sim import ipmi_sim
from peers.pyghmi_bmc import pyghmi_bmc


@pytest.fixture
def sim(tmp_path: Path) -> Iterator[Peer]:
    with ipmi_sim(tmp_path / "sim") as peer:
        yield peer


@pytest.fixture
def bmc(tmp_path: Path) -> Iterator[Peer]:
    with pyghmi_bmc(tmp_path / "bmc") as peer:
        yield peer


def at(peer: Peer, timeout_s: float = 20.0, **info: Any) -> Bmc:
    return Bmc("node-1", peer.driver_info | info, timeout_s)


# --- what is supported ------------------------------------------------------------------------------------------------


@pytest.mark.requirement("IRONIC-6")
def test_ipmi_takes_eight_and_irmc_the_nine_of_the_proposal() -> None:
    nobody = Bmc("node-1", {})
    assert Ipmi().get_supported_power_states(nobody) == (
        "power on", "power off", "rebooting", "soft rebooting", "soft power off", "inject nmi",
        "abort soft rebooting", "abort soft power off",
    )  # fmt: skip
    assert Irmc().get_supported_power_states(nobody) == (
        "power on", "power off", "rebooting", "soft rebooting", "soft power off", "inject nmi",
        "abort soft rebooting", "abort soft power off", "abort inject nmi",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("info", "said"),
    [
        ({"address": ""}, "address is missing"),
        ({"address": "10.0.0.7\0"}, "address is missing"),
        ({"port": 0}, "port is a number from 1 to 65535"),
        ({"port": "http"}, "port is a number"),
        ({"port": "٦٢٣"}, "port is a number"),
        ({"cipher_suite": 256}, "cipher_suite is a number from 0 to 255"),
        ({"priv_level": "ROOT"}, "priv_level is one of CALLBACK, USER, OPERATOR, ADMINISTRATOR"),
        ({"username": "u" * 17}, "username is a text of up to 16 bytes"),
        ({"password": "p" * 21}, "password is a text of up to 20 bytes"),
        ({"password": "one\ntwo"}, "password is a text"),
        ({"password": 12}, "password is a text"),
        ({"ipmi_address": "10.0.0.7"}, "there is no 'ipmi_address' for IPMI: there is address, port,"),
    ],
)
def test_a_driver_info_that_makes_no_sense_is_refused_before_anything_is_called(
    info: dict[str, Any], said: str
) -> None:
    whole = {"address": "127.0.0.1", "username": "admin", "password": "a password"} | info
    with pytest.raises(ValueError, match=re.escape(said)):
        Ipmi().check(whole)
    with pytest.raises(BMCError, match=re.escape(said)):
        Ipmi().get_power_state(Bmc("node-1", whole))


# --- what the BMC answers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "error", "said"),
    [
        ("0xd5", BMCRefused, "0xd5, Command not supported in present state"),
        ("0xcc", BMCRefused, "0xcc, Invalid data field in request"),
        ("0xc3", BMCError, "0xc3, Timeout"),
        ("0x9b", BMCError, "0x9b, Unknown (0x9B)"),
    ],
)
def test_a_completion_code_is_named(bmc: Peer, code: str, error: type[BMCError], said: str) -> None:
    """Only some say that nothing was done."""
    bmc.turn("fail", code)
    with pytest.raises(BMCError, match=re.escape(f"answered with completion code {said}")) as told:
        Ipmi().set_power_state(at(bmc), words.POWER_ON)
    assert type(told.value) is error
    assert bmc.log() == [words.POWER_ON]


@pytest.mark.parametrize(
    ("info", "error", "said"),
    [
        ({"username": "nobody"}, BMCAuthFailed, "unauthorized name"),
        ({"password": "not-this-one"}, BMCAuthFailed, "RAKP 2 HMAC is invalid"),
        ({"cipher_suite": 17}, BMCRefused, "invalid authentication algorithm"),
    ],
)
def test_a_login_that_is_refused_is_told_from_one_that_is_not_heard(
    sim: Peer, info: dict[str, Any], error: type[BMCError], said: str
) -> None:
    with pytest.raises(error, match=said) as told:
        Ipmi().get_power_state(at(sim, **info))
    assert f"the BMC at 127.0.0.1 port {sim.driver_info['port']}" in str(told.value)
    assert sim.calls() == []


def test_a_bmc_of_which_no_cipher_suite_is_said_is_asked_for_the_best_and_then_for_what_all_have(sim: Peer) -> None:
    """And not what it has: to that ipmi_sim would not answer."""
    del sim.driver_info["cipher_suite"]
    Ipmi().set_power_state(at(sim), words.POWER_ON)
    assert Ipmi().get_power_state(at(sim)) == words.POWER_ON
    assert sim.log() == [words.POWER_ON]


def test_an_operators_privilege_is_enough(sim: Peer) -> None:
    Ipmi().set_power_state(at(sim, priv_level="OPERATOR"), words.POWER_ON)
    assert sim.power == words.POWER_ON


def test_packets_that_get_lost_are_repeated_and_a_command_is_not(bmc: Peer) -> None:
    bmc.turn("drop", "4 1")  # of the login
    Ipmi().set_power_state(at(bmc), words.POWER_ON)
    bmc.release("drop")
    assert Ipmi().get_power_state(at(bmc)) == words.POWER_ON
    bmc.turn("drop", "4 1")
    assert Ipmi().get_power_state(at(bmc)) == words.POWER_ON
    assert bmc.log() == [words.POWER_ON]


def test_a_bmc_that_resets_in_the_middle_has_perhaps_heard(bmc: Peer) -> None:
    bmc.turn("reset", 0.5)
    with pytest.raises(BMCUnreachable, match="had been sent the request"):
        Ipmi().set_power_state(at(bmc, timeout_s=2), words.POWER_ON)
    assert Ipmi().get_power_state(at(bmc)) == words.POWER_OFF
    assert bmc.log() == [words.POWER_ON]


def test_what_was_accepted_is_accepted_even_if_the_bmc_is_gone_then(bmc: Peer) -> None:
    """ipmitool would say goodbye for as long as the call may take."""
    bmc.turn("vanish", 60)
    began = time.monotonic()
    Ipmi().set_power_state(at(bmc), words.POWER_ON)
    assert time.monotonic() - began < 10
    assert (bmc.power, bmc.log()) == (words.POWER_ON, [words.POWER_ON])


def test_noise_is_no_answer(bmc: Peer) -> None:
    bmc.turn("garbage", "noise")
    with pytest.raises(BMCUnreachable, match=r"gave no answer within [\d.]+ s and had been sent the request"):
        Ipmi().get_power_state(at(bmc, timeout_s=1))


# --- ipmitool ---------------------------------------------------------------------------------------------------------


def test_its_environment_has_nothing_of_ours(sim: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLDFAST_SECRET_KEY", "a key")
    monkeypatch.setenv("IPMI_PASSWORD", "another")
    sim.hang()
    before, hooks = family(), Hooks(is_stopped=False)
    with ThreadPoolExecutor(1) as thread:
        call = thread.submit(Ipmi().get_power_state, at(sim)._replace(on_stop=hooks.add))
        assert until(lambda: names(family() - before) == ["ipmitool"])
        (child,) = family() - before
        environment = Path("/proc", str(child), "environ").read_bytes().split(b"\0")
        assert os.getsid(child) == child
        hooks.stop()
        assert isinstance(call.exception(), BMCUnreachable)
    assert sorted(entry.partition(b"=")[0] for entry in environment if entry) == [b"HOME", b"LC_ALL", b"PATH"]


def names(processes: set[int]) -> list[str]:
    found = []
    for process in processes:
        try:
            found.append(Path("/proc", str(process), "comm").read_text(encoding="utf-8").strip())
        except OSError:
            pass  # it has ended
    return found


def test_it_reads_no_list_of_all_manufacturers(sim: Peer) -> None:
    """Which is most of what a run would cost, in processor time."""
    Ipmi().get_power_state(at(sim))
    before = os.times().children_user
    for _ in range(5):
        Ipmi().get_power_state(at(sim))
    ours = os.times().children_user - before
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C"}
    for _ in range(5):
        subprocess.run(["ipmitool", "-I", "lanplus", "-H", "255.255.255.255", "raw", "0", "1"], env=environment)
    assert ours < os.times().children_user - before - ours


def test_it_dies_with_the_worker_that_started_it(sim: Peer) -> None:
    """Else it would send its command when the task has long been taken over."""
    sim.hang()
    calling = (
        "from holdfast.resources.node.ipmi import Ipmi\n"
        "from holdfast.resources.node.power import Bmc\n"
        f"Ipmi().set_power_state(Bmc('node-1', {sim.driver_info!r}), 'power on')\n"
    )
    before = family()
    with subprocess.Popen([sys.executable, "-c", calling]) as worker:
        try:
            assert until(lambda: "ipmitool" in names(family() - before))
            (tool,) = family() - before - {worker.pid}
        finally:
            worker.kill()
    assert until(lambda: not is_alive(tool))
    sim.wake()
    assert Ipmi().get_power_state(at(sim)) == words.POWER_OFF
    assert sim.log() == []


def is_alive(process: int) -> bool:
    try:
        return "\nState:\tZ" not in Path("/proc", str(process), "status").read_text(encoding="utf-8")
    except OSError:
        return False


def test_a_worker_without_ipmitool_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setpriv = shutil.which("setpriv")
    assert setpriv is not None
    (tmp_path / "setpriv").symlink_to(setpriv)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BMCError, match="there is no ipmitool on this worker's PATH: install it"):
        Ipmi().get_power_state(Bmc("node-1", {"address": "10.0.0.7"}))


@pytest.fixture
def played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An `ipmitool` that is a script; each run of it is a line of `runs`."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path / "ipmitool"


def play(played: Path, script: str) -> Callable[[], int]:
    runs = played.with_name("runs")
    played.write_text(f"#!/bin/sh\necho >>{runs}\n{script}\n", encoding="utf-8")
    played.chmod(0o755)
    return lambda: runs.read_text(encoding="utf-8").count("\n")


def test_an_ipmitool_that_crashes_is_told_as_that(played: Path) -> None:
    runs = play(played, "kill -SEGV $$")
    with pytest.raises(BMCError, match="ipmitool was ended by signal 11 while it talked"):
        Ipmi().get_power_state(Bmc("node-1", {"address": "10.0.0.7"}))
    assert runs() == 1


def test_an_ipmitool_that_gives_up_at_once_is_not_run_in_circles(played: Path) -> None:
    runs = play(played, "echo 'Error: Unable to establish IPMI v2 / RMCP+ session' >&2; exit 1")
    with pytest.raises(BMCUnreachable, match="gave no answer within"):
        Ipmi().get_power_state(Bmc("node-1", {"address": "10.0.0.7"}, 1.0))
    assert 1 < runs() <= 5


@pytest.mark.parametrize("out", ["Chassis Power is on", " 2g 00 00", " 21 1"])
def test_what_it_prints_is_bytes_or_nothing(played: Path, out: str) -> None:
    play(played, f"echo '{out}'")
    with pytest.raises(BMCError, match="answered what makes no sense"):
        Ipmi().get_power_state(Bmc("node-1", {"address": "10.0.0.7"}))


def test_where_no_way_leads_is_told_at_once() -> None:
    began = time.monotonic()
    with pytest.raises(BMCUnreachable, match="there is no way to it: Could not open socket"):
        Ipmi().get_power_state(Bmc("node-1", {"address": "255.255.255.255"}))
    assert time.monotonic() - began < 10


def test_calls_of_many_bmcs_at_once_do_not_get_in_each_others_way(tmp_path: Path) -> None:
    """Each child has its own pipe with its own password."""
    with ipmi_sim(tmp_path / "one") as one, pyghmi_bmc(tmp_path / "two") as two:
        one.power = words.POWER_ON
        begin = threading.Barrier(8)

        def look(number: int) -> str:
            begin.wait()
            return Ipmi().get_power_state(at((one, two)[number % 2]))

        with ThreadPoolExecutor(8) as threads:
            seen = list(threads.map(look, range(8)))
    assert seen == [words.POWER_ON, words.POWER_OFF] * 4
