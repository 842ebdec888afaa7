"""The driver `redfish`: power by Redfish (DMTF DSP0266), over sushy.

    driver_info: {address: "https://10.0.0.7", username: …, password: …, verify_ca: "/etc/bmc-ca.pem"}

What can stand there: `OPTIONS`; the words are those of Ironic without their `redfish_`.

Basic authentication is the default because it leaves nothing at the BMC: 500 nodes that are looked at each minute are
500 requests a minute. With sessions they would be 2,000 (log in, log out, and the way there), and each call that is
cut short could leave one of the few sessions that a BMC has. A session lives for one call here.

Theory: a command is one POST. If the BMC answers 202, it works on it and its Location is the task monitor, which is
followed by later calls (`Follow`); these send nothing. A monitor that is gone (404, 410) is a task that has ended, or
was lost with the BMC's memory; many BMCs forget it as soon as it has ended well. That is PowerUnknown here, and whoever
looks at the power finds out; only an NMI can't be found out. An abort asks the BMC to give its task up (`give_up`).

The abort of an NMI is offered: the proposal denies it to IPMI, where an NMI is one packet that has been answered when
anything could be stopped. In Redfish it may be a task of the BMC that takes its time, and that can be given up.

What answers mean: redfish_answers.py. How a request is sent, and ends in time: redfish_wire.py.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import quote, urlsplit

from holdfast.errors import BMCError, BMCRefused, PowerUnsupported
from holdfast.resources.node.power import Bmc, Follow
from holdfast.resources.node.redfish_answers import Answer, Place, Reader, dig, local, local_to
from holdfast.resources.node.words import INJECT_NMI, POWER_OFF, POWER_ON, SOFT_POWER_OFF, TARGETS

if TYPE_CHECKING:
    from holdfast.resources.node.redfish_wire import Line

#: What a node's `driver_info` may say.
OPTIONS: Final = MappingProxyType(
    {
        "address": "Where the BMC is, such as https://10.0.0.7; http only if it says so",
        "port": "Its port, where it isn't in the address; 443 of https, 80 of http",
        "username": "Who logs in",
        "password": "Sealed before it is stored, and never shown",
        "system_id": "The system's id, or its path at the BMC; may be left out where the BMC has one system",
        "verify_ca": "Who must have signed the BMC's certificate: true (the CAs of the worker's machine), a file or "
        "folder of CAs there, or false: whoever answers gets the password",
        "auth_type": "basic, which auto is too; or session, for a BMC that takes nothing else: each call then logs in "
        "and out",
    }
)
ROOT = "/redfish/v1/"
_RESETS = {POWER_ON: "On", POWER_OFF: "ForceOff", SOFT_POWER_OFF: "GracefulShutdown", INJECT_NMI: "Nmi"}
#: A machine that is powering off may still have a guest that writes, one that is powering on is not off any more.
_POWER = {"On": POWER_ON, "PoweringOn": POWER_ON, "PoweringOff": POWER_ON, "Paused": POWER_ON, "Off": POWER_OFF}
#: To log out when the call was cut: less than the second in which it ends.
LOG_OUT_S = 0.5
_NO = ("false", "no", "off", "0")
_YES = ("true", "yes", "on", "1", "")


class Redfish:
    """Power over Redfish. It holds nothing between two calls."""

    def get_supported_power_states(self, bmc: Bmc) -> Sequence[str]:
        """All of them. What a system itself offers is known when it is asked: BMCRefused."""
        return TARGETS

    def check(self, info: Mapping[str, Any]) -> None:
        """Raises: ValueError: it makes no sense."""
        unknown = sorted(info.keys() - OPTIONS.keys())
        if unknown:
            raise ValueError(f"there is no {unknown[0][:80]!r} for redfish: there is {', '.join(OPTIONS)}")
        Access.of(info)

    def get_power_state(self, bmc: Bmc) -> str:
        """Raises: BMCUnreachable, BMCAuthFailed, BMCError."""
        with _talking(bmc) as talk:
            said = talk.system().get("PowerState")
            if not isinstance(said, str) or said not in _POWER:
                shown = talk.reader.clean(repr(said))[:60]
                raise BMCError(f"the BMC at {talk.place} does not say whether the system is on: PowerState is {shown}")
            return _POWER[said]

    def set_power_state(self, bmc: Bmc, target: str, monitor: Any = None) -> Follow | None:
        """Raises: BMCUnreachable, BMCAuthFailed, BMCRefused, BMCError, PowerUnknown; PowerUnsupported."""
        if target not in _RESETS:
            raise PowerUnsupported(f"{target!r} is no reset of Redfish")
        with _talking(bmc) as talk:
            if monitor is not None:
                path = str(monitor)
                return talk.reader.judge(talk.ask("GET", path), path, following=True)
            reset = _RESETS[target]
            path = talk.action(talk.system(), reset)
            return talk.reader.judge(talk.ask("POST", path, {"ResetType": reset}), path, following=False)

    def give_up(self, bmc: Bmc, monitor: Any) -> None:
        """DELETE of the task monitor, which cancels the BMC's task (DSP0266). Raises: BMCError: not every BMC does."""
        with _talking(bmc) as talk:
            answer = talk.ask("DELETE", str(monitor))
            if answer.status >= 300:
                raise talk.reader.refusal(answer, "goes on with its task", BMCRefused)


class Access(NamedTuple):
    """A node's `driver_info`, read. Never shown: it has the password."""

    place: Place
    username: str
    password: str
    system: str | None  # its path
    session: bool

    @classmethod
    def of(cls, info: Mapping[str, Any]) -> Access:
        """Raises: ValueError: it makes no sense. The sentence names what is wrong and doesn't quote it: it may hold a
        password in the wrong place."""
        address = str(info.get("address") or "").strip()
        try:
            parts = urlsplit(address if "://" in address else f"https://{address}")
            port = int(info.get("port") or parts.port or (80 if parts.scheme == "http" else 443))
        except (ValueError, TypeError):
            raise ValueError("address and port make no sense") from None
        if parts.scheme not in ("http", "https") or not parts.hostname or not 0 < port < 65536:
            raise ValueError("address is no address of a Redfish service, such as https://10.0.0.7")
        if "@" in parts.netloc:
            raise ValueError("address has a user name in it: it belongs into username and password")
        system = str(info.get("system_id") or "").strip() or None
        if system is not None:
            system = local(system) if "/" in system else f"{ROOT}Systems/{quote(system)}"
        auth = str(info.get("auth_type") or "basic")
        if auth not in ("auto", "basic", "session"):
            raise ValueError("auth_type is basic or session")
        return cls(
            Place(parts.scheme, parts.hostname, port, _verify(info.get("verify_ca"))),
            str(info.get("username") or ""),
            str(info.get("password") or ""),
            system,
            auth == "session",
        )

    def secrets(self) -> tuple[str, ...]:
        """What must not be shown, in the forms in which a BMC could say it back."""
        whole = base64.b64encode(f"{self.username}:{self.password}".encode()).decode()
        return (whole, self.password) if self.password else ()


def _verify(said: Any) -> bool | str:
    word = "" if said is None else str(said).strip()
    if word.lower() in _YES:
        return True
    return False if word.lower() in _NO else word


@contextmanager
def _talking(bmc: Bmc) -> Iterator[_Talk]:
    """One call's requests: they end together by `bmc.timeout_s`, and at once if the call is to end."""
    try:
        access = Access.of(bmc.info)
        from holdfast.resources.node.redfish_wire import Line, Wire
    except ValueError as wrong:
        raise BMCError(f"driver_info: {wrong}") from None
    except ImportError as missing:
        raise BMCError(f"the driver redfish needs sushy ({missing.name} is missing): install holdfast[nodes]") from None
    wire = Wire(access.place, bmc.timeout_s)
    bmc.on_stop(wire.cut)
    line = Line(wire)
    talk = _Talk(line, access)
    try:
        talk.log_in()
        yield talk
    finally:
        talk.log_out()
        line.close()


class _Talk:
    """What is asked of one BMC in one call."""

    def __init__(self, line: Line, access: Access) -> None:
        self._line = line
        self._access = access
        self._session: str | None = None
        self.place = access.place
        self.reader = Reader(access.place, access.secrets())

    def ask(self, method: str, path: str, data: Any = None) -> Answer:
        """One request; what it was answered, whatever that is. Raises: BMCUnreachable, BMCError."""
        wire = self._line.wire
        wire.answer = None
        try:
            if method == "GET":
                self._line.get(path)
            elif method == "DELETE":
                self._line.delete(path)
            else:
                self._line.post(path, data=data)
        except BMCError:
            raise
        except Exception as problem:
            # sushy raises at what it doesn't like; the sentences about that are made from the answer itself.
            if wire.answer is None:
                raise BMCError(f"the BMC at {self.place} cannot be asked: {type(problem).__name__}") from None
        assert wire.answer is not None
        return wire.answer

    def get(self, path: str) -> dict[str, Any]:
        """A document. Raises: BMCUnreachable, BMCAuthFailed, BMCError."""
        answer = self.ask("GET", path)
        if answer.status != 200:
            raise self.reader.refusal(answer, f"has not shown {self.reader.clean(path)}", BMCError)
        return self.reader.document(answer)

    def system(self) -> dict[str, Any]:
        """The node's system: the named one, or the only one."""
        path = self._access.system
        if path is None:
            link = self.reader.path
            members = self.get(link(dig(self.get(ROOT), "Systems", "@odata.id"))).get("Members")
            if not isinstance(members, list) or len(members) != 1:
                count = len(members) if isinstance(members, list) else "no list of"
                raise BMCError(f"the BMC at {self.place} has {count} systems: name one in driver_info.system_id")
            path = link(dig(members[0], "@odata.id"))
        return {**self.get(path), "@odata.id": path}

    def action(self, system: dict[str, Any], reset: str) -> str:
        """Where to post that reset. Raises: BMCRefused: the system doesn't offer it."""
        from holdfast.resources.node.redfish_wire import System

        try:
            offered = System(self._line, system["@odata.id"], json_doc=system)
            target = self.reader.path(offered.reset.target_uri)
            values = [str(value) for value in offered.reset.get_allowed_values(offered) or ()]
        except BMCError:
            raise
        except Exception:  # a document without sense, in one of many ways
            raise BMCRefused(f"the BMC at {self.place} offers no reset of the system") from None
        if values and reset not in values:
            named = self.reader.clean(", ".join(values))
            raise BMCRefused(f"the BMC at {self.place} does not offer {reset} for the system; it offers {named}")
        return target

    def log_in(self) -> None:
        access = self._access
        if not access.username and not access.password:
            return
        if not access.session:
            # As bytes: of text, requests would take what Latin-1 has.
            self._line.set_http_basic_auth(access.username.encode(), access.password.encode())
            return
        path = self.reader.path(dig(self.get(ROOT), "Links", "Sessions", "@odata.id"))
        answer = self.ask("POST", path, {"UserName": access.username, "Password": access.password})
        token = answer.headers.get("X-Auth-Token")
        if answer.status not in (200, 201) or not token:
            raise self.reader.refusal(answer, "has not let us log in", BMCError)
        self._session = local_to(path, answer.headers.get("Location"))
        self._line.set_http_session_auth(token)

    def log_out(self) -> None:
        """Leave no session, after a call that was cut either."""
        if self._session is not None:
            self._line.wire.splice(LOG_OUT_S)
            try:
                self._line.delete(self._session)
            except Exception:  # the BMC ends it in its own time
                pass
