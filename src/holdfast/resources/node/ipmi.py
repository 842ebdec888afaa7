"""The driver `ipmi`: IPMI 2.0 over the network, spoken by ipmitool as a child process.

Theory: a call is one run of ipmitool, or several. The run that commands sends each packet once (`-R 1`), so ipmitool
never repeats a command by itself; where its login takes too long, because a packet of it was lost, the run is ended and
another begins, with twice the time. What has been sent is never sent again: whether the BMC has heard it is for the
flow to find out. Reading the state does no harm twice, so there ipmitool repeats what is lost.

Requests are sent raw. ipmitool then prints the bytes of the answer and the completion code as they are, where its own
commands read a state out of an answer that has none.

The password goes through a pipe whose end only the child has (`-f /dev/fd/N`), is read once and is gone. In the
environment it would stand in /proc as long as the child lives, and a file could outlive both. The child gets an
environment of its own, so that nothing of ours leaks either; it is in a session of its own, so that it can ask nobody
for a password; and it dies with the thread that made it (setpriv), so that a command is not sent after the death of
the worker that meant to. Its home is a folder with a list of one manufacturer (ipmitool/), because it reads such a list
at each start: of its own, which has sixty thousand, it takes four times as long as for all the rest.

What `driver_info` may say: `OPTIONS`.
"""

from __future__ import annotations

import math
import os
import re
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from holdfast.clock import SYSTEM
from holdfast.errors import BMCAuthFailed, BMCError, BMCRefused, BMCUnreachable, PowerUnsupported
from holdfast.resources.node import words
from holdfast.resources.node.power import Bmc

_GET_CHASSIS_STATUS: Final = (0x00, 0x01)
_CHASSIS_CONTROL: Final = (0x00, 0x02)
_CONTROL: Final = MappingProxyType(
    {words.POWER_OFF: 0x00, words.POWER_ON: 0x01, words.INJECT_NMI: 0x04, words.SOFT_POWER_OFF: 0x05}
)
#: What a node's `driver_info` may say.
OPTIONS: Final = MappingProxyType(
    {
        "address": "The BMC's host name or address",
        "port": "Its UDP port; 623 if not said",
        "username": "Who logs in: up to 16 bytes",
        "password": "Up to 20 bytes; sealed before it is stored, and never shown",
        "cipher_suite": "The number of the cipher suite; if not said, 17 and then 3, whichever the BMC takes",
        "priv_level": "The privilege that is asked for: OPERATOR is enough; ADMINISTRATOR if not said",
    }
)
_PORT: Final = 623
_PRIVILEGES: Final = ("CALLBACK", "USER", "OPERATOR", "ADMINISTRATOR")
_STATUS_BYTES_MIN: Final = 3
_USERNAME_BYTES_MAX: Final = 16
_PASSWORD_BYTES_MAX: Final = 20
_NUMBERS: Final = MappingProxyType({"port": range(1, 65536), "cipher_suite": range(256)})
#: With SHA-256 and SHA-1. ipmitool would ask the BMC first, and wait for long if that does not answer.
_SUITES: Final = (17, 3)
_LOGIN_S: Final = 2.0  # of the first run
_HOME: Final = str(Path(__file__).with_name("ipmitool"))
_NOT_FOUND: Final = 127  # setpriv's exit code, as a shell's
_PAUSE_S: Final = 0.3  # between two runs, for one that ends at once
_REPEATS: Final = ("-N", "1", "-R", "4")  # after a second, after two more, after three more
_QUOTE_MAX: Final = 100

_ANSWER = re.compile(r"(?:\s|\b[0-9a-f]{2}\b)*")
_COMPLETION = re.compile(r"rsp=0x([0-9a-f]{2})\): *(.*)")
#: With these the BMC says that it has not done it. With others, such as 0xc3 (timeout), it may have.
_REFUSALS: Final = frozenset(
    (0xC0, 0xC1, 0xC2, 0xC4, 0xC5, 0xC6, 0xC7, 0xC8, 0xC9, 0xCB, 0xCC, 0xCD, 0xD0, 0xD1, 0xD2, 0xD4, 0xD5, 0xD6)
)
#: The line of ipmitool's, with which it is about to send the request: no line, nothing was sent.
_SENDING: Final = "RAW REQ ("
#: And that it has the whole of an answer without data; what comes then is only its leave.
_ACCEPTED: Final = "RAW RSP (0 bytes)"
#: What it says of a login that failed because of what the BMC answered, first match first.
_LOGIN: Final[tuple[tuple[re.Pattern[str], type[BMCError]], ...]] = (
    (re.compile(r"RAKP 2 HMAC is invalid"), BMCAuthFailed),
    (re.compile(r"RAKP 4 message has invalid integrity check value"), BMCAuthFailed),
    (re.compile(r"RAKP [24] message indicates an error : (?:unauthorized|invalid integrity).*"), BMCAuthFailed),
    (re.compile(r"Set Session Privilege Level to \w+ failed: .*"), BMCAuthFailed),
    (re.compile(r"RAKP [24] message indicates an error : .*"), BMCRefused),
    (re.compile(r"Error in open session response message : .*"), BMCRefused),
    (re.compile(r"Get Channel Authentication Capabilities failed: .*"), BMCRefused),
    (re.compile(r"This BMC does not support IPMI v2 / RMCP\+"), BMCRefused),
    (re.compile(r"Address lookup for .* failed"), BMCUnreachable),
    (re.compile(r"Could not open socket"), BMCUnreachable),
)
_OTHER_SUITE = re.compile(
    r"in open session response message : (?:invalid \w+ alg|no matching)|is not what we requested"
)
#: What it says whenever it has no session, whatever the reason; and what it says of no interest.
_NO_SESSION: Final = "Unable to establish IPMI v2 / RMCP+ session"
_NOISE: Final = (
    "Loading IANA PEN", "Running Get VSO", "Invalid completion code received", "Discovered IPMB", "RAW RE", " ",
    "Unable to send RAW command", "Close Session command failed",
)  # fmt: skip


class Ipmi:
    """Nothing here can take an NMI back, so there is no abort of one."""

    def get_supported_power_states(self, bmc: Bmc) -> Sequence[str]:
        return tuple(target for target in words.TARGETS if target != words.ABORT_INJECT_NMI)

    def check(self, info: Mapping[str, Any]) -> None:
        """Raises: ValueError: it makes no sense."""
        _check(info)

    def get_power_state(self, bmc: Bmc) -> str:
        status = _Conversation(bmc).ask(*_GET_CHASSIS_STATUS, repeatable=True)
        if len(status) < _STATUS_BYTES_MIN:
            raise BMCError(f"{_where(bmc.info)} answered no chassis status, but {status.hex(' ') or 'no bytes'}")
        return words.POWER_ON if status[0] & 1 else words.POWER_OFF

    def set_power_state(self, bmc: Bmc, target: str, monitor: Any = None) -> None:
        if target not in _CONTROL:
            raise PowerUnsupported(f"{target!r} is no command of IPMI")
        _Conversation(bmc).ask(*_CHASSIS_CONTROL, _CONTROL[target], repeatable=False)


class _Run(NamedTuple):
    """What ipmitool has said, and its exit code. `cut`: this driver has ended it."""

    code: int
    out: str
    err: str
    cut: bool = False

    @property
    def sent(self) -> bool:
        return _SENDING in self.err


class _Conversation:
    """One call: runs of ipmitool until there is an answer, the time is over, or somebody stops it."""

    def __init__(self, bmc: Bmc) -> None:
        try:
            _check(bmc.info)
        except ValueError as error:
            raise BMCError(f"driver_info: {error}") from None
        self._info = bmc.info
        self._suites = [bmc.info["cipher_suite"]] if "cipher_suite" in bmc.info else list(_SUITES)
        self._timeout_s = bmc.timeout_s
        self._until = SYSTEM.monotonic() + bmc.timeout_s
        self._lock = threading.Lock()
        self._child: subprocess.Popen[str] | None = None
        self._stopped = threading.Event()
        bmc.on_stop(self.stop)

    def stop(self) -> None:
        with self._lock:
            self._stopped.set()
            if self._child is not None:
                self._child.kill()

    def ask(self, netfn: int, command: int, *data: int, repeatable: bool) -> bytes:
        """The bytes of the answer. `repeatable`: ask again even if the request may have arrived."""
        once = ("-N", str(max(1, math.ceil(self._timeout_s))), "-R", "1")
        request = [*(_REPEATS if repeatable else once), "raw", *(f"{byte:#04x}" for byte in (netfn, command, *data))]
        login_s = math.inf if repeatable else _LOGIN_S
        while True:
            run = self._run(request, login_s)
            if run.code == 0 or _ACCEPTED in run.err:
                return self._bytes(run.out)
            if len(self._suites) > 1 and not run.sent and _OTHER_SUITE.search(run.err):
                del self._suites[0]
                continue
            self._raise_answer(run)
            if self._stopped.wait(min(_PAUSE_S, max(self._left_s(), 0))):
                raise BMCUnreachable(f"the call of {_where(self._info)} was stopped before it gave an answer")
            if self._left_s() <= 0 or (run.sent and not repeatable):
                raise BMCUnreachable(self._silence(run))
            login_s *= 2

    def _left_s(self) -> float:
        return self._until - SYSTEM.monotonic()

    def _bytes(self, out: str) -> bytes:
        if not _ANSWER.fullmatch(out):
            raise BMCError(f"{_where(self._info)} answered what makes no sense: {_quote(out)}")
        return bytes.fromhex(out)

    def _raise_answer(self, run: _Run) -> None:
        """Raise what the BMC, or ipmitool, has said. Return if that is nothing: silence."""
        where = _where(self._info)
        if found := _COMPLETION.search(run.err):
            code = int(found[1], 16)
            kind = BMCRefused if code in _REFUSALS else BMCError
            raise kind(f"{where} answered with completion code {code:#04x}, {_quote(found[2])}")
        if run.cut or self._stopped.is_set():
            return
        if run.code < 0:
            raise BMCError(f"ipmitool was ended by signal {-run.code} while it talked to {where}")
        if run.sent:
            return
        if run.code == _NOT_FOUND:
            raise BMCError("there is no ipmitool on this worker's PATH: install it (Debian's package ipmitool)")
        for pattern, kind in _LOGIN:
            if found := pattern.search(run.err):
                raise kind(f"{where}: {_SAYING[kind]}: {_quote(found[0])}")
        if _NO_SESSION not in run.err:
            raise BMCError(f"ipmitool can't talk to {where}: {_quote(_plain(run.err)) or f'exit code {run.code}'}")

    def _silence(self, run: _Run) -> str:
        text = f"{_where(self._info)} gave no answer within {self._timeout_s - max(self._left_s(), 0):.1f} s"
        if not run.sent:
            return text
        said = _plain(run.err.partition(_SENDING)[2].partition("\n")[2])
        return f"{text} and had been sent the request" + (f": {_quote(said)}" if said else "")

    def _run(self, request: Sequence[str], login_s: float) -> _Run:
        reading, writing = os.pipe()
        try:
            with open(writing, "wb") as pipe:
                pipe.write(self._info.get("password", "").encode() + b"\n")
            with self._lock:
                if self._stopped.is_set():
                    return _Run(-1, "", "", cut=True)
                self._child = child = _start([*self._words(), "-f", f"/dev/fd/{reading}", *request], reading)
        finally:
            os.close(reading)
        with child:
            try:
                return _Run(*self._hear(child, login_s))
            except subprocess.TimeoutExpired:
                child.kill()
                return _Run(*_said(child), cut=True)

    def _hear(self, child: subprocess.Popen[str], login_s: float) -> tuple[int, str, str]:
        """How it ends. `login_s`: how long it may take until it sends the request. Raises: TimeoutExpired."""
        try:
            return _said(child, min(login_s, max(self._left_s(), 0)))
        except subprocess.TimeoutExpired as so_far:
            said = so_far.stderr or b""
            if _SENDING.encode() not in said or _ACCEPTED.encode() in said:
                raise
        return _said(child, max(self._left_s(), 0))

    def _words(self) -> list[str]:
        info = self._info
        options = {
            "-H": info.get("address"), "-p": info.get("port", _PORT), "-U": info.get("username", ""),
            "-C": self._suites[0], "-L": info.get("priv_level"),
        }  # fmt: skip
        given = [part for name, value in options.items() if value is not None for part in (name, str(value))]
        return ["ipmitool", "-I", "lanplus", "-v", *given]


_SAYING: Final[Mapping[type[BMCError], str]] = MappingProxyType(
    {
        BMCAuthFailed: "it refused the user name, the password or the privilege",
        BMCRefused: "it refused the session",
        BMCUnreachable: "there is no way to it",
    }
)


def _said(child: subprocess.Popen[str], timeout_s: float | None = None) -> tuple[int, str, str]:
    out, err = child.communicate(timeout=timeout_s)
    return child.returncode, out, err


def _start(command: Sequence[str], password_fd: int) -> subprocess.Popen[str]:
    try:
        return subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "HOME": _HOME},
            pass_fds=(password_fd,),
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        raise BMCError(f"ipmitool can't be started: {_quote(str(error))}") from error


def _check(info: Mapping[str, Any]) -> None:
    unknown = sorted(info.keys() - OPTIONS.keys())
    if unknown:
        raise ValueError(f"there is no {unknown[0][:80]!r} for IPMI: there is {', '.join(OPTIONS)}")
    _check_login(info)
    for name, allowed in _NUMBERS.items():
        value = str(info.get(name, allowed[0]))
        if not (value.isascii() and value.isdecimal() and int(value) in allowed):
            raise ValueError(f"{name} is a number from {allowed[0]} to {allowed[-1]}")
    if info.get("priv_level", _PRIVILEGES[0]) not in _PRIVILEGES:
        raise ValueError(f"priv_level is one of {', '.join(_PRIVILEGES)}")


def _check_login(info: Mapping[str, Any]) -> None:
    """ipmitool cuts a password that is too long, which then looks like a wrong one."""
    if not str(info.get("address", "")).strip() or not str(info["address"]).isprintable():
        raise ValueError("address is missing: say where the BMC is")
    for name, bytes_max in (("username", _USERNAME_BYTES_MAX), ("password", _PASSWORD_BYTES_MAX)):
        value = info.get(name, "")
        if not isinstance(value, str) or not value.isprintable() or len(value.encode()) > bytes_max:
            raise ValueError(f"{name} is a text of up to {bytes_max} bytes that can be printed")


def _where(info: Mapping[str, Any]) -> str:
    return f"the BMC at {_quote(str(info.get('address', '')))} port {_quote(str(info.get('port', _PORT)))}"


def _plain(text: str) -> str:
    """The lines that say something."""
    return " ".join(line for line in text.splitlines() if line and not line.startswith(_NOISE))


def _quote(text: str) -> str:
    """A short piece of it that can be shown anywhere."""
    clean = " ".join("".join(character if " " <= character <= "~" else " " for character in text).split())
    return clean if len(clean) <= _QUOTE_MAX else clean[: _QUOTE_MAX - 1] + "…"
