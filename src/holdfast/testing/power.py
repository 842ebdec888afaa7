"""What every power driver promises (resources/node/power.py), as tests against BMCs that its author plays.

    class TestMine(PowerConformance, SoftConformance):
        supported = ("power on", "power off", "rebooting", "soft rebooting", "soft power off")
        says = "overheated"                     # what a failing BMC of mine answers

        def make(self) -> PowerDriver:
            return MyDriver()

        @contextmanager
        def peer(self, behaviour: str, directory: Path) -> Iterator[Peer]:
            with my_simulator(directory, behaviour) as simulator:
                yield simulator

`SoftConformance` is for drivers that have a soft power off, `NmiConformance` for those with an NMI, and
`GarbageConformance` for peers that can be made to answer nonsense; `DripConformance` is for protocols over a stream
(TCP), whose answers can come byte by byte for ever. A peer is a BMC or a simulator of one, in another
process: what it has in its log is the evidence, so the driver has no part in writing it.

What is seen of a driver from outside: outside.py. Let pytest explain the assertions:
`pytest.register_assert_rewrite("holdfast.testing.power")`.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from operator import le
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Protocol

import pytest

from holdfast.errors import BMCAuthFailed, BMCError, BMCUnreachable
from holdfast.resources.node import words
from holdfast.resources.node.power import Bmc, Follow, PowerDriver
from holdfast.testing.outside import PATIENCE_S, Hooks, everything, family, left_behind, listening, shown, until

#: How a peer behaves, as `peer` is asked for it.
BEHAVIOURS: Final = MappingProxyType(
    {
        "ordinary": "it does at once what it is told",
        "deaf": "its guest does not hear the power button: it accepts a soft power off, and the machine stays on",
        "slow": "it takes a second and more over each answer",
        "hung": "it is there, and answers nothing",
        "mute": "it does what it is told, and then answers nothing",
        "locked": "it does not take the password that its `driver_info` has",
        "failing": "it answers every command that it failed",
        "garbage": "it answers what makes no sense",
        "dripping": "it answers one byte after the other, and each before anybody's patience with it ends",
        "absent": "nobody is where its `driver_info` points",
    }
)
#: How long a call of a BMC that says nothing may take, how much later it has to be over, and how soon if it is stopped.
HUNG_S: Final = 0.5
MUTE_S: Final = 2.0
LATE_S: Final = 1.0
STOP_S: Final = 1.0
_SENTENCE_MAX: Final = 400
_PASSWORD: Final = "nobody-may-see-me"  # of a peer that has none
_COMMANDS: Final = (words.POWER_ON, words.POWER_OFF, words.SOFT_POWER_OFF, words.INJECT_NMI)


class Peer(Protocol):
    """A BMC and its machine. `driver_info`: what a node says that has it. `power`: what the machine is; a test sets it
    behind the driver's back, which is in no log."""

    driver_info: dict[str, Any]
    power: str

    def log(self) -> list[str]:
        """The commands that the BMC has heard, in order, in our words: `power on`, `soft power off`."""
        ...


class _Suite:
    #: What the driver lists.
    supported: tuple[str, ...] = ()

    def make(self) -> PowerDriver:
        """A new driver."""
        raise TypeError(f"{type(self).__name__} says how to make its driver: def make(self)")

    def peer(self, behaviour: str, directory: Path) -> AbstractContextManager[Peer]:
        """A BMC that behaves so (`BEHAVIOURS`), for as long as the context lasts. The directory is its own."""
        raise TypeError(f"{type(self).__name__} says how to make its peers: def peer(self, behaviour, directory)")

    # --- what the tests are made of -------------------------------------------------------------------------------

    def bmc(self, peer: Peer, timeout_s: float = PATIENCE_S, **more: Any) -> Bmc:
        return Bmc("node-1", {"password": _PASSWORD, **peer.driver_info}, timeout_s, **more)

    @contextmanager
    def playing(self, behaviour: str, directory: Path, power: str) -> Iterator[Peer]:
        with self.peer(behaviour, directory / behaviour) as peer:
            if behaviour not in ("hung", "absent"):
                peer.power = power
            yield peer

    def look(self, peer: Peer, timeout_s: float = PATIENCE_S) -> str:
        return self.make().get_power_state(self.bmc(peer, timeout_s))

    def command(self, peer: Peer, target: str, timeout_s: float = PATIENCE_S) -> None:
        """Send it, and follow it to its end as a flow does: through what a database keeps of the monitor."""
        until = time.monotonic() + PATIENCE_S
        driver, bmc = self.make(), self.bmc(peer, timeout_s)
        follow = driver.set_power_state(bmc, target)
        while follow is not None:
            assert isinstance(follow, Follow)
            assert follow.fraction is None or 0 <= follow.fraction <= 1
            assert time.monotonic() < until, f"{target} is followed for ever: {follow}"
            monitor = json.loads(json.dumps(follow.monitor))
            assert monitor == follow.monitor
            threading.Event().wait(min(follow.after_s, 0.5))
            follow = driver.set_power_state(bmc, target, monitor)

    def calls(self, peer: Peer, timeout_s: float) -> Iterator[Callable[[], object]]:
        """A look, and a command."""
        yield lambda: self.look(peer, timeout_s)
        yield lambda: self.command(peer, words.POWER_ON, timeout_s)


class PowerConformance(_Suite):
    """What holds for every driver. `says`: a piece of what the failing peer answers, which the error has to name."""

    says = ""

    def test_the_list_is_in_order_and_asks_nobody(self) -> None:
        driver = self.make()
        with listening() as heard:
            listed = tuple(driver.get_supported_power_states(Bmc("node-1", {})))
        assert heard == []
        assert listed == self.supported
        assert list(listed) == [target for target in words.TARGETS if target in listed]
        assert {words.POWER_ON, words.POWER_OFF} <= set(listed)

    @pytest.mark.parametrize("power", [words.POWER_ON, words.POWER_OFF])
    def test_the_state_is_the_machines(self, tmp_path: Path, power: str) -> None:
        with self.playing("ordinary", tmp_path, power) as peer:
            assert self.look(peer) == power
            assert peer.log() == []

    def test_on_and_off_are_one_command_each(self, tmp_path: Path) -> None:
        with self.playing("ordinary", tmp_path, words.POWER_OFF) as peer:
            self.command(peer, words.POWER_ON)
            assert until(lambda: peer.power == words.POWER_ON)
            self.command(peer, words.POWER_OFF)
            assert until(lambda: peer.power == words.POWER_OFF)
            assert peer.log() == [words.POWER_ON, words.POWER_OFF]

    def test_a_driver_has_no_state_of_its_own(self, tmp_path: Path) -> None:
        """One driver, two machines, four threads."""
        driver = self.make()
        with ExitStack() as stack:
            peers = {
                power: stack.enter_context(self.playing("ordinary", tmp_path / power.replace(" ", "-"), power))
                for power in (words.POWER_ON, words.POWER_OFF)
            }
            with ThreadPoolExecutor(4) as threads:
                asked = [power for power in peers for _ in range(4)]
                seen = list(threads.map(lambda power: driver.get_power_state(self.bmc(peers[power])), asked))
        assert seen == asked

    def test_nothing_is_left_of_a_call(self, tmp_path: Path) -> None:
        """No process, no thread, no open file: there will be millions of calls."""
        with self.playing("ordinary", tmp_path, words.POWER_OFF) as peer:
            self.look(peer)  # what is loaded once stays
            before = left_behind()
            for _ in range(3):
                self.look(peer)
            self.command(peer, words.POWER_ON)
            assert until(lambda: all(map(le, left_behind(), before)), 5.0), (before, left_behind())

    def test_a_slow_bmc_is_waited_for_and_told_once(self, tmp_path: Path) -> None:
        with self.playing("slow", tmp_path, words.POWER_OFF) as peer:
            self.command(peer, words.POWER_ON)
            assert self.look(peer) == words.POWER_ON
            assert peer.log() == [words.POWER_ON]

    def test_a_hung_bmc_is_told_within_the_calls_time(self, tmp_path: Path) -> None:
        with self.playing("hung", tmp_path, words.POWER_OFF) as peer:
            for call in self.calls(peer, HUNG_S):
                with _in_time(HUNG_S), pytest.raises(BMCUnreachable):
                    call()
            assert peer.log() in ([], [words.POWER_ON])

    def test_a_command_whose_answer_was_lost_is_not_repeated(self, tmp_path: Path) -> None:
        with self.playing("mute", tmp_path, words.POWER_OFF) as peer:
            with _in_time(MUTE_S), pytest.raises(BMCUnreachable):
                self.command(peer, words.POWER_ON, MUTE_S)
            assert peer.log() == [words.POWER_ON]

    def test_nobody_there_is_told_within_the_calls_time(self, tmp_path: Path) -> None:
        with self.playing("absent", tmp_path, words.POWER_OFF) as peer:
            for call in self.calls(peer, HUNG_S):
                with _in_time(HUNG_S), pytest.raises(BMCUnreachable):
                    call()

    def test_a_wrong_password_is_told_as_that(self, tmp_path: Path) -> None:
        with self.playing("locked", tmp_path, words.POWER_OFF) as peer:
            for call in self.calls(peer, PATIENCE_S):
                with pytest.raises(BMCAuthFailed):
                    call()
            assert peer.log() == []

    def test_a_failure_names_what_the_bmc_has_answered(self, tmp_path: Path) -> None:
        with self.playing("failing", tmp_path, words.POWER_OFF) as peer:
            with pytest.raises(BMCError) as told:
                self.command(peer, words.POWER_ON)
            assert not isinstance(told.value, BMCAuthFailed | BMCUnreachable)
            assert self.says in str(told.value)
            assert _is_plain(str(told.value))
            assert peer.log() in ([], [words.POWER_ON])

    @pytest.mark.parametrize("when", ["before", "meanwhile", "after"])
    def test_a_stop_ends_a_hung_call_within_a_second(self, tmp_path: Path, when: str) -> None:
        with self.playing("hung", tmp_path, words.POWER_OFF) as peer:
            before = family()
            hooks = Hooks(is_stopped=when == "before")
            timeout_s = HUNG_S if when == "after" else PATIENCE_S
            bmc = self.bmc(peer, timeout_s, on_stop=hooks.add)
            with ThreadPoolExecutor(1) as thread:
                call = thread.submit(self.make().get_power_state, bmc)
                if when == "meanwhile":
                    until(lambda: call.done() or (family() - before), 0.5)
                    hooks.stop()
                error = call.exception(timeout_s + LATE_S if when == "after" else STOP_S)
                hooks.stop()  # nobody is there any more: it does no harm
            assert isinstance(error, BMCError)
            assert until(lambda: family() <= before)

    @pytest.mark.parametrize("behaviour", ["hung", "locked", "failing", "absent"])
    def test_a_password_is_in_no_error_and_no_log(
        self, tmp_path: Path, behaviour: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        with self.playing(behaviour, tmp_path, words.POWER_OFF) as peer:
            bmc = self.bmc(peer, HUNG_S)
            with pytest.raises(BMCError) as told:
                self.make().set_power_state(bmc, words.POWER_ON)
            assert str(bmc.info["password"]) not in everything(told.value) + caplog.text + str(bmc)

    def test_no_other_process_can_read_the_password(self, tmp_path: Path) -> None:
        """Nor a child's command line or environment, which stand in /proc for as long as it lives."""
        with self.playing("hung", tmp_path, words.POWER_OFF) as peer:
            before = family()
            bmc = self.bmc(peer, HUNG_S)
            seen = []
            with ThreadPoolExecutor(1) as thread:
                call = thread.submit(self.make().get_power_state, bmc)
                while not call.done():
                    seen += [shown(process) for process in family() - before]
                    threading.Event().wait(0.02)
            assert str(bmc.info["password"]).encode() not in b"\n".join(seen)


class SoftConformance(_Suite):
    """What holds for a driver with a soft power off."""

    def test_a_soft_off_reaches_the_guest(self, tmp_path: Path) -> None:
        with self.playing("ordinary", tmp_path, words.POWER_ON) as peer:
            self.command(peer, words.SOFT_POWER_OFF)
            assert until(lambda: peer.power == words.POWER_OFF)
            assert peer.log() == [words.SOFT_POWER_OFF]

    def test_a_soft_off_does_not_wait_for_the_guest_nor_help_it(self, tmp_path: Path) -> None:
        with self.playing("deaf", tmp_path, words.POWER_ON) as peer:
            self.command(peer, words.SOFT_POWER_OFF)
            assert self.look(peer) == words.POWER_ON
            assert peer.log() == [words.SOFT_POWER_OFF]

    def test_it_lists_both(self) -> None:
        assert {words.SOFT_POWER_OFF, words.SOFT_REBOOT} <= set(self.supported)


class NmiConformance(_Suite):
    """What holds for a driver with an NMI, where the peer can be sent one."""

    def test_an_nmi_is_one_command_and_leaves_the_machine_on(self, tmp_path: Path) -> None:
        with self.playing("ordinary", tmp_path, words.POWER_ON) as peer:
            self.command(peer, words.INJECT_NMI)
            assert peer.log() == [words.INJECT_NMI]
            assert peer.power == words.POWER_ON

    def test_an_nmi_whose_answer_was_lost_is_not_repeated(self, tmp_path: Path) -> None:
        with self.playing("mute", tmp_path, words.POWER_ON) as peer:
            with _in_time(MUTE_S), pytest.raises(BMCUnreachable):
                self.command(peer, words.INJECT_NMI, MUTE_S)
            assert peer.log() == [words.INJECT_NMI]

    def test_it_lists_it(self) -> None:
        assert words.INJECT_NMI in self.supported


class GarbageConformance(_Suite):
    """What holds where the peer can be made to answer nonsense."""

    def test_nonsense_is_no_state(self, tmp_path: Path) -> None:
        with self.playing("garbage", tmp_path, words.POWER_OFF) as peer:
            with pytest.raises(BMCError) as told:
                self.look(peer)
            assert not isinstance(told.value, BMCAuthFailed)
            assert _is_plain(str(told.value))


class DripConformance(_Suite):
    """What holds where answers come over a stream: each piece of one is no reason to wait anew."""

    def test_a_dripping_bmc_is_told_within_the_calls_time(self, tmp_path: Path) -> None:
        with self.playing("dripping", tmp_path, words.POWER_OFF) as peer:
            for call in self.calls(peer, HUNG_S):
                with _in_time(HUNG_S), pytest.raises(BMCUnreachable):
                    call()
            assert peer.log() in ([], [words.POWER_ON])


@contextmanager
def _in_time(timeout_s: float) -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < timeout_s + LATE_S


def _is_plain(sentence: str) -> bool:
    """Whether it can be shown anywhere."""
    return 0 < len(sentence) <= _SENTENCE_MAX and sentence.isprintable()
