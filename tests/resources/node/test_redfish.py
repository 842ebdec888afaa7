"""The Redfish driver over real sockets: a BMC as it should be, and one that lies. In tasks: test_redfish_tasks.py."""

from __future__ import annotations

import base64
import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from holdfast.errors import BMCAuthFailed, BMCError, BMCRefused, BMCUnreachable, PowerUnknown, PowerUnsupported
from holdfast.resources.node.power import Bmc, Follow
from holdfast.resources.node.redfish import Access, Redfish
from holdfast.resources.node.words import INJECT_NMI, POWER_OFF, POWER_ON, REBOOT, SOFT_POWER_OFF, TARGETS
from holdfast.service.compat.ironic_bodies import wanted_of
from peers.lying_redfish import LyingRedfish, lying_redfish
from peers.redfish_bmc import RedfishBmc, redfish_bmc

TIMEOUT_S = 20.0


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedfishBmc]:
    with redfish_bmc(tmp_path_factory.mktemp("redfish"), "one", "two", "deaf") as peer:
        for each in peer.beside.values():
            each.power = POWER_ON
        yield peer


def bmc(info: dict[str, Any], timeout_s: float = TIMEOUT_S, **more: Any) -> Bmc:
    return Bmc("n", {**info, **more}, timeout_s)


driver = Redfish()


def settle(peer: LyingRedfish, target: str, monitor: object) -> tuple[Follow | None, list[Follow]]:
    """Look at a monitor until the driver says that there is nothing more to look at."""
    seen: list[Follow] = []
    for _ in range(20):
        follow = driver.set_power_state(bmc(peer.driver_info), target, monitor)
        if follow is None:
            return None, seen
        seen.append(follow)
        monitor = follow.monitor
    return seen[-1], seen


# --- a BMC as it should be


def test_off_and_on_and_soft_off_over_tls_with_a_password(one: RedfishBmc) -> None:
    told = []
    for target in (POWER_OFF, POWER_ON, SOFT_POWER_OFF, POWER_ON, INJECT_NMI):
        assert driver.set_power_state(bmc(one.driver_info), target) is None
        told.append((driver.get_power_state(bmc(one.driver_info)), one.power))

    assert told == [(state, state) for state in (POWER_OFF, POWER_ON, POWER_OFF, POWER_ON, POWER_ON)]
    assert one.log() == [POWER_OFF, POWER_ON, SOFT_POWER_OFF, POWER_ON, INJECT_NMI]


def test_systems_of_one_bmc_are_told_apart(one: RedfishBmc) -> None:
    driver.set_power_state(bmc(one.beside["two"].driver_info), POWER_OFF)

    assert [driver.get_power_state(bmc(one.beside[node].driver_info)) for node in ("one", "two")] == [
        POWER_ON,
        POWER_OFF,
    ]
    with pytest.raises(BMCError, match=r"has 3 systems: name one in driver_info\.system_id"):
        driver.get_power_state(bmc(one.driver_info, system_id=None))


def test_a_guest_that_does_not_attend_stays_on(one: RedfishBmc) -> None:
    deaf = one.beside["deaf"]
    deaf.turn("ignore_acpi")
    driver.set_power_state(bmc(deaf.driver_info), SOFT_POWER_OFF)

    assert driver.get_power_state(bmc(deaf.driver_info)) == POWER_ON
    assert deaf.log() == [SOFT_POWER_OFF]


def test_a_system_that_is_not_there_is_named(one: RedfishBmc) -> None:
    with pytest.raises(BMCError, match=r"has not shown /redfish/v1/Systems/nine \(404\): .*nine"):
        driver.get_power_state(bmc(one.driver_info, system_id="nine"))


def test_a_refusal_quotes_the_bmc(one: RedfishBmc) -> None:
    one.beside["two"].power = POWER_OFF
    with pytest.raises(BMCRefused, match=r"won't do it \(409\): the system is off$"):
        driver.set_power_state(bmc(one.beside["two"].driver_info), INJECT_NMI)


def test_a_wrong_password_is_said_and_not_shown(one: RedfishBmc) -> None:
    with pytest.raises(BMCAuthFailed) as told:
        driver.get_power_state(bmc(one.driver_info, password="hunter22"))
    assert "refused the user name or the password (401)" in str(told.value)
    assert "hunter22" not in str(told.value)


def test_a_certificate_of_nobodys_is_not_trusted_unless_somebody_says_so(one: RedfishBmc) -> None:
    for verify in (None, True, "true"):
        with pytest.raises(BMCError, match=r"certificate .* is not trusted: .*driver_info\.verify_ca"):
            driver.get_power_state(bmc(one.driver_info, verify_ca=verify))
    for verify in (False, "false", "no", "0"):
        assert driver.get_power_state(bmc(one.driver_info, verify_ca=verify)) == POWER_ON
    with pytest.raises(BMCError, match="no CA can be read from"):
        driver.get_power_state(bmc(one.driver_info, verify_ca="/no/such/file"))


def test_a_bmc_is_known_by_its_address_and_not_by_another_name(one: RedfishBmc) -> None:
    other = one.driver_info["address"].replace("127.0.0.1", "localhost")
    with pytest.raises(BMCError, match=r"certificate .* is not trusted: .*mismatch"):
        driver.get_power_state(bmc(one.driver_info, address=other))


@pytest.mark.parametrize(
    ("info", "said"),
    [
        ({"address": "ftp://10.0.0.7"}, "no address of a Redfish service"),
        ({"address": ""}, "no address of a Redfish service"),
        ({"address": "https://[::1"}, "make no sense"),
        ({"address": "10.0.0.7", "port": "much"}, "make no sense"),
        ({"address": "10.0.0.7", "port": 70000}, "no address of a Redfish service"),
        ({"address": "https://root:hunter22@10.0.0.7"}, "has a user name in it"),
        ({"address": "10.0.0.7", "auth_type": "digest"}, "basic or session"),
    ],
)
def test_driver_info_without_sense_is_named_and_not_quoted(info: dict[str, Any], said: str) -> None:
    with pytest.raises(BMCError, match=said) as told:
        driver.get_power_state(Bmc("n", {"username": "u", "password": "hunter22", **info}, 1.0))
    assert "hunter22" not in str(told.value)


def test_an_option_that_nobody_knows_is_named_with_those_there_are() -> None:
    driver.check({"address": "10.0.0.7", "system_id": "1", "verify_ca": False})
    with pytest.raises(ValueError, match="there is no 'verify_ssl' for redfish: there is address, port, username"):
        driver.check({"address": "10.0.0.7", "verify_ssl": False})
    with pytest.raises(ValueError, match=r"^address is no address"):
        driver.check({"address": "ftp://10.0.0.7"})


def test_what_a_client_of_ironics_says_is_understood() -> None:
    own = {"redfish_address": "https://10.0.0.7", "redfish_username": "u", "redfish_password": "p"}
    said = {
        **own,
        "redfish_system_id": "/redfish/v1/Systems/1",
        "redfish_verify_ca": "False",
        "redfish_auth_type": "auto",
    }
    meant = wanted_of({"driver": "redfish", "driver_info": said})["driver_info"]
    driver.check(meant)

    access = Access.of(meant)
    assert (str(access.place), access.place.verify, access.session) == ("https://10.0.0.7", False, False)
    assert (access.username, access.password, access.system) == ("u", "p", "/redfish/v1/Systems/1")


WITHOUT_SUSHY = """
import sys
sys.modules["sushy"] = sys.modules["requests"] = None
from holdfast.errors import BMCError
from holdfast.resources.node.power import Bmc
from holdfast.resources.node.redfish import Redfish
print(len(Redfish().get_supported_power_states(Bmc("n", {}))))
Redfish().check({"address": "10.0.0.7"})
try:
    Redfish().get_power_state(Bmc("n", {"address": "10.0.0.7"}))
except BMCError as error:
    print(error)
"""


def test_sushy_is_loaded_by_the_first_call_and_missed_in_one_sentence() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_SUSHY], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines() == [
        "9",
        "the driver redfish needs sushy (requests is missing): install holdfast[nodes]",
    ]


def test_what_is_no_command_is_not_sent(one: RedfishBmc) -> None:
    before = one.log()
    with pytest.raises(PowerUnsupported, match="'rebooting' is no reset of Redfish"):
        driver.set_power_state(bmc(one.driver_info), REBOOT)

    assert one.log() == before


def test_an_address_may_come_without_scheme_and_with_a_port_of_its_own(one: RedfishBmc) -> None:
    scheme, host, port = one.driver_info["address"].split(":")
    assert scheme == "https"
    assert driver.get_power_state(bmc(one.driver_info, address=host.strip("/"), port=port)) == POWER_ON


def test_every_target_is_taken_and_nobody_is_asked() -> None:
    assert list(driver.get_supported_power_states(Bmc("n", {}))) == list(TARGETS)


# --- what goes wrong on the wire


def elapsed(call: Callable[[], object]) -> float:
    began = time.monotonic()
    call()
    return time.monotonic() - began


def fails(info: Bmc, kind: type[BMCError], said: str, target: str | None = None) -> str:
    """What the call fails with."""
    call = driver.get_power_state if target is None else lambda bmc: driver.set_power_state(bmc, target)
    with pytest.raises(BMCError, match=said) as told:
        call(info)
    assert type(told.value) is kind
    return str(told.value)


def test_a_bmc_that_hangs_is_given_up_in_time_and_was_asked_once(liar: LyingRedfish) -> None:
    liar.hang()
    took = elapsed(lambda: fails(bmc(liar.driver_info, 1.0), BMCUnreachable, "gave no answer within 1 s"))
    liar.wake()

    assert took < 1.8


def test_a_bmc_that_drips_does_not_hold_its_caller(liar: LyingRedfish) -> None:
    liar.lie(system="drip")
    took = elapsed(lambda: fails(bmc(liar.driver_info, 1.0), BMCUnreachable, "gave no answer within 1 s"))

    assert took < 1.8


@contextmanager
def deaf_port() -> Iterator[int]:
    """A port that takes no connection and refuses none: packets to it are lost."""
    with socket.socket() as listener, ExitStack() as waiting:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        for _ in range(4):  # more than it lets wait
            caller = waiting.enter_context(socket.socket())
            caller.setblocking(False)
            caller.connect_ex(("127.0.0.1", port))
        yield port


def test_a_bmc_whose_packets_are_lost_is_given_up_in_time() -> None:
    with deaf_port() as port:
        nowhere = bmc({"address": f"https://127.0.0.1:{port}"}, 1.0)
        took = elapsed(lambda: fails(nowhere, BMCUnreachable, "gave no answer within 1 s", POWER_OFF))

    assert took < 1.8


@pytest.mark.parametrize("lie", ["hangs", "drips", "nowhere"])
def test_a_call_that_hangs_is_ended_within_a_second(liar: LyingRedfish, lie: str) -> None:
    hooks: list[Callable[[], object]] = []
    registered, ended = threading.Event(), []

    def on_stop(how: Callable[[], object]) -> None:
        hooks.append(how)
        registered.set()

    nowhere = ExitStack()
    info = dict(liar.driver_info)

    def call() -> None:
        try:
            driver.get_power_state(Bmc("n", info, 60.0, on_stop))
        except BMCError as problem:
            ended.append(problem)

    if lie == "hangs":
        liar.hang()
    elif lie == "drips":
        liar.lie(system="drip")
    else:
        info["address"] = f"https://127.0.0.1:{nowhere.enter_context(deaf_port())}"
    caller = threading.Thread(target=call)
    caller.start()
    assert registered.wait(TIMEOUT_S)
    caller.join(0.3)  # it is somewhere on the wire by now; wherever that is, it ends
    assert caller.is_alive()
    began = time.monotonic()
    hooks[0]()
    caller.join(TIMEOUT_S)
    took = time.monotonic() - began
    liar.wake()
    nowhere.close()

    assert took < 1.0
    assert [type(problem) for problem in ended] == [BMCUnreachable]
    assert "was ended before it answered" in str(ended[0])


def test_a_call_that_was_ended_before_it_began_sends_nothing(liar: LyingRedfish) -> None:
    def at_once(how: Callable[[], object]) -> None:
        how()

    with pytest.raises(BMCUnreachable, match="was ended"):
        driver.set_power_state(Bmc("n", liar.driver_info, 5.0, at_once), POWER_OFF)

    assert liar.heard() == []


def test_nobody_home_and_nobody_of_that_name(one: RedfishBmc) -> None:
    fails(bmc(one.driver_info, address="https://127.0.0.1:1"), BMCUnreachable, "refused the connection")
    fails(bmc(one.driver_info, address="https://bmc.invalid"), BMCUnreachable, "has a name that nobody knows")


def test_what_does_not_speak_tls(one: RedfishBmc, liar: LyingRedfish) -> None:
    liar.lie(system="not_http")
    fails(bmc(liar.driver_info), BMCError, "something that is not HTTP")
    plain = liar.driver_info["address"].replace("https", "http")
    fails(bmc(liar.driver_info, address=plain), BMCUnreachable, "closed the connection|gave no answer")


@pytest.mark.parametrize(
    ("lie", "kind", "said"),
    [
        ("html", BMCError, r"makes no sense \(200\): text/html that is no JSON object"),
        ("truncated", BMCError, r"makes no sense \(200\): application/json that is no JSON object"),
        ("list", BMCError, "makes no sense"),
        ("half", BMCUnreachable, "broke off in the middle|closed the connection"),
        ("types", BMCError, "does not say whether the system is on: PowerState is 5"),
        ("no_power", BMCError, "does not say whether the system is on: PowerState is None"),
        ("huge", BMCError, "answered with more than 4 MiB"),
        ("away", BMCUnreachable, r"has not shown .* \(503\): Service Unavailable"),
        ("redirect_elsewhere", BMCError, "sends on to gopher://elsewhere.example"),
    ],
)
def test_a_system_that_makes_no_sense_is_one_clear_sentence(
    liar: LyingRedfish, lie: str, kind: type[BMCError], said: str
) -> None:
    liar.lie(system=lie)
    sentence = fails(bmc(liar.driver_info), kind, said)

    assert "\n" not in sentence
    assert len(sentence) < 400
    assert sentence.count("127.0.0.1") == 1


def test_a_slash_that_a_bmc_wants_at_the_end_is_given(liar: LyingRedfish) -> None:
    liar.lie(system="redirect")

    assert driver.get_power_state(bmc(liar.driver_info)) == POWER_ON


def test_a_system_need_not_be_named_where_there_is_one(liar: LyingRedfish) -> None:
    assert driver.get_power_state(bmc(liar.driver_info, system_id="")) == POWER_ON


# --- what is not done twice


@pytest.mark.parametrize(
    ("lie", "kind", "said", "power"),
    [
        ("lose_reply", BMCUnreachable, "closed the connection before it had answered", POWER_OFF),
        ("drop", BMCUnreachable, "closed the connection before it had answered", POWER_ON),
        ("half", BMCUnreachable, "broke off in the middle|closed the connection", POWER_OFF),
        ("busy", BMCUnreachable, r"won't do it \(503\): busy$", POWER_ON),
        ("broken", BMCError, r"won't do it \(500\): The power supply is on fire\.; Power button found\.$", POWER_ON),
        ("nonsense_error", BMCRefused, r"won't do it \(400\): Bad Request$", POWER_ON),
        ("say_no", BMCRefused, r"won't do it \(409\): The lid is open\.$", POWER_ON),
        ("html", BMCError, "text/html that is no JSON object", POWER_ON),
    ],
)
def test_a_reset_is_sent_once_whatever_it_is_answered(
    liar: LyingRedfish, lie: str, kind: type[BMCError], said: str, power: str
) -> None:
    liar.lie(reset=lie)
    fails(bmc(liar.driver_info), kind, said, POWER_OFF)

    assert (liar.log(), liar.power) == ([POWER_OFF], power)


def test_a_reset_to_a_bmc_that_hangs_is_sent_once(liar: LyingRedfish) -> None:
    """sushy by itself would send it three times. The BMC hears it, and hangs before it answers."""
    liar.lie(reset="hang")
    fails(bmc(liar.driver_info, 1.5), BMCUnreachable, "gave no answer within 1.5 s", POWER_OFF)

    assert liar.log() == [POWER_OFF]


def test_what_a_system_does_not_offer_is_refused_and_not_sent(liar: LyingRedfish) -> None:
    liar.lie(offers=["On", "ForceOff"])
    fails(
        bmc(liar.driver_info), BMCRefused, "does not offer GracefulShutdown .* it offers On, ForceOff$", SOFT_POWER_OFF
    )
    liar.lie(offers=["On", "ForceOff"], action_info=True)
    fails(bmc(liar.driver_info), BMCRefused, "does not offer Nmi .* it offers On, ForceOff$", INJECT_NMI)
    liar.lie(system="no_reset")
    fails(bmc(liar.driver_info), BMCRefused, "offers no reset of the system", POWER_OFF)
    liar.lie(system="types")
    fails(bmc(liar.driver_info), BMCRefused, "offers no reset of the system", POWER_OFF)

    assert liar.log() == []


# --- tasks of the BMC


@pytest.mark.requirement("TF-16")
def test_a_monitor_is_followed_to_its_end_and_nothing_is_sent_again(liar: LyingRedfish) -> None:
    liar.lie(task="good", looks=2)
    first = driver.set_power_state(bmc(liar.driver_info), POWER_OFF)
    assert first is not None
    assert first.monitor == "/redfish/v1/TaskService/TaskMonitors/" + str(first.monitor).rpartition("/")[2]
    assert (liar.power, first.message) == (POWER_ON, "its task is New")

    last, seen = settle(liar, POWER_OFF, first.monitor)

    assert last is None
    assert [(follow.monitor, follow.fraction) for follow in seen] == [(first.monitor, 0.4)] * 2
    assert (liar.log(), liar.looks(), liar.power) == ([POWER_OFF], 3, POWER_OFF)


@pytest.mark.parametrize("kind", ["as_task", "elsewhere"])
def test_a_task_that_has_ended_well_however_it_is_told(liar: LyingRedfish, kind: str) -> None:
    """As its own document with 200 all the time, or on a host of another name."""
    liar.lie(task=kind)
    first = driver.set_power_state(bmc(liar.driver_info), POWER_OFF)
    assert first is not None

    assert settle(liar, POWER_OFF, first.monitor)[0] is None
    assert (liar.log(), liar.power) == ([POWER_OFF], POWER_OFF)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("critical", r"ended Completed with status Critical: The power supply is on fire\.; Power button found\.$"),
        ("exception", r"ended Exception with status Warning: The power supply is on fire\."),
        ("error", r"failed at it \(500\): The power supply is on fire\."),
        ("html", "makes no sense .*: text/html"),
        ("types", r"makes no sense .*: TaskState is \['Completed'\]"),
    ],
)
def test_a_task_that_has_failed_is_an_error_in_the_bmcs_words(liar: LyingRedfish, kind: str, said: str) -> None:
    liar.lie(task=kind)
    first = driver.set_power_state(bmc(liar.driver_info), POWER_OFF)
    assert first is not None
    with pytest.raises(BMCError, match=said):
        settle(liar, POWER_OFF, first.monitor)

    assert liar.log() == [POWER_OFF]


def test_a_task_that_never_ends_is_followed_for_as_long_as_somebody_asks(liar: LyingRedfish) -> None:
    liar.lie(task="forever")
    first = driver.set_power_state(bmc(liar.driver_info), POWER_OFF)
    assert first is not None
    last, seen = settle(liar, POWER_OFF, first.monitor)

    assert last is not None
    assert last.monitor == first.monitor
    assert (len(seen), liar.log()) == (20, [POWER_OFF])


@pytest.mark.parametrize(("kind", "status"), [("forget", 404), ("forget_410", 410)])
def test_a_task_that_the_bmc_has_forgotten_is_unknown_and_not_repeated(
    liar: LyingRedfish, kind: str, status: int
) -> None:
    liar.lie(task=kind)
    first = driver.set_power_state(bmc(liar.driver_info), POWER_OFF)
    assert first is not None
    with pytest.raises(PowerUnknown, match=rf"has forgotten its task \({status}\): it has ended, or was lost$"):
        settle(liar, POWER_OFF, first.monitor)

    assert (liar.log(), liar.power) == ([POWER_OFF], POWER_OFF)


def test_a_task_that_is_nowhere_is_left_to_whoever_looks_at_the_power(liar: LyingRedfish) -> None:
    liar.lie(task="no_location")

    assert driver.set_power_state(bmc(liar.driver_info), POWER_OFF) is None
    assert driver.get_power_state(bmc(liar.driver_info)) == POWER_OFF


def test_a_bmc_that_restarts_under_a_task_is_away_and_then_has_forgotten(liar: LyingRedfish) -> None:
    liar.lie(task="forever")
    first = driver.set_power_state(bmc(liar.driver_info), POWER_OFF)
    assert first is not None
    liar.stop()
    with pytest.raises(BMCUnreachable, match="refused the connection"):
        driver.set_power_state(bmc(liar.driver_info), POWER_OFF, first.monitor)
    liar.start()

    with pytest.raises(PowerUnknown, match="has forgotten its task"):
        driver.set_power_state(bmc(liar.driver_info), POWER_OFF, first.monitor)
    assert (driver.get_power_state(bmc(liar.driver_info)), liar.log()) == (POWER_ON, [POWER_OFF])


@pytest.mark.parametrize(
    ("said", "clock", "low", "high"),
    [
        ("7", 0, 7, 7),
        ("0", 0, 0.1, 0.1),
        ("2.5", 0, 2.5, 2.5),
        ("86400", 0, 60, 60),
        ("soon", 0, 1, 1),
        ("-5", 0, 1, 1),
        ("²", 0, 1, 1),
        (None, 0, 1, 1),
        ("date", 0, 0.9, 3),
        ("date", -10_000_000, 0.9, 3),  # a BMC's clock that stands months behind
        ("Sat, 01 Jan 2000 00:00:00 GMT", 0, 0.1, 0.1),
        ("Sun, 32 Foo 99999 99:99:99", 0, 1, 1),
    ],
)
def test_when_to_look_again_is_the_bmcs_word_within_reason(
    liar: LyingRedfish, said: str | None, clock: int, low: float, high: float
) -> None:
    liar.lie(task="forever", clock=clock, **({} if said is None else {"retry_after": said.encode().decode("latin-1")}))
    follow = driver.set_power_state(bmc(liar.driver_info), POWER_OFF)

    assert follow is not None
    assert low <= follow.after_s <= high


# --- logins


def test_basic_authentication_leaves_no_session(liar: LyingRedfish) -> None:
    driver.set_power_state(bmc(liar.driver_info), POWER_OFF)

    assert liar.sessions() == (0, 0)
    assert len(liar.heard()) == 3  # one look, one command, and what the machine did


@pytest.mark.parametrize("lie", [{}, {"basic": "refuse"}])
def test_a_session_is_closed_with_the_call(liar: LyingRedfish, lie: dict[str, str]) -> None:
    liar.lie(**lie)

    assert driver.get_power_state(bmc(liar.driver_info, auth_type="session")) == POWER_ON
    assert liar.sessions() == (1, 1)
    liar.lie(reset="say_no", **lie)
    fails(bmc(liar.driver_info, auth_type="session"), BMCRefused, "The lid is open", POWER_OFF)
    assert liar.sessions() == (2, 2)
    assert liar.log() == [POWER_OFF]


def test_a_session_is_closed_after_a_call_that_was_ended(liar: LyingRedfish) -> None:
    liar.lie(system="drip")
    took = elapsed(lambda: fails(bmc(liar.driver_info, 1.0, auth_type="session"), BMCUnreachable, "gave no answer"))

    assert took < 2.0
    assert liar.sessions() == (1, 1)


def test_a_session_that_is_refused(liar: LyingRedfish) -> None:
    fails(bmc(liar.driver_info, auth_type="session", password="hunter22"), BMCAuthFailed, r"\(401\)")

    assert liar.sessions() == (0, 0)


@pytest.mark.parametrize("auth", ["basic", "session"])
def test_no_password_is_logged_or_quoted(liar: LyingRedfish, caplog: pytest.LogCaptureFixture, auth: str) -> None:
    own = liar.credentials
    with caplog.at_level(logging.DEBUG):
        liar.lie(system="echo")  # a BMC that says the password back
        sentence = fails(bmc(liar.driver_info, auth_type=auth), BMCError, r"\*\*\*\*\*\*")
        liar.lie(password="refuse")
        sentence += fails(bmc(liar.driver_info, auth_type=auth), BMCAuthFailed, "401")
        liar.lie(reset="broken")
        sentence += fails(bmc(liar.driver_info, auth_type=auth), BMCError, "on fire", POWER_OFF)
    whole = base64.b64encode(f"{own.username}:{own.password}".encode()).decode()

    assert "sushy" in {record.name.partition(".")[0] for record in caplog.records}
    for secret in (own.password, whole):
        assert secret not in sentence
        assert secret not in caplog.text
        assert secret not in repr(bmc(liar.driver_info))


@pytest.mark.parametrize("auth", ["basic", "session"])
def test_a_password_may_have_any_letters(tmp_path: Path, auth: str) -> None:
    with lying_redfish(tmp_path, "pässwört: €") as peer:
        assert driver.get_power_state(bmc(peer.driver_info, auth_type=auth)) == POWER_OFF
