"""The driver `fake`: machines that are rows of a SQLite file, with delays and faults on request, for demos, load and
tests.

Theory: a machine is on, off, or on its way; time does the rest. Its file outlives whoever is killed in the middle of a
call, and has the log of all calls, which nobody but this driver writes: the witness of what was sent. Without a file
the machines are this process's own, and only the end of their log is kept.

What `driver_info` may say: `OPTIONS`.

`Device` is for who plays the machine: what it is, what was asked of it, and to have it behave otherwise from now on.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from holdfast.clock import SYSTEM
from holdfast.errors import BMCAuthFailed, BMCError, BMCRefused, BMCUnreachable
from holdfast.resources.node import words
from holdfast.resources.node.power import Bmc, Follow

#: What a node's `driver_info` may say; `fake` is an object.
OPTIONS: Final = MappingProxyType(
    {
        "path": "The file of the machines; without it they are the process's own",
        "fake.power": "What the machine is at first; `power on` if not said",
        "fake.on_s": "How many seconds it takes to go on",
        "fake.off_s": "How many seconds it takes to go off",
        "fake.soft_off": "What the guest makes of its power button: `works`, `slow` or `ignored`",
        "fake.soft_off_s": "How many seconds a slow guest takes",
        "fake.delay_s": "How many seconds each call takes",
        "fake.follow_s": "Commands are worked on for so long, and followed meanwhile",
        "fake.supported": "The targets that the driver takes",
        "fake.faults": 'A list of {"call": "get" or a target or "follow", "nth": 2, "what": …}; without `call` of '
        "every call, without `nth` each time. `what`: `hang` (for ever, deaf to all) and `hang_after` (it was done), "
        "`stall` (until it is told to stop, or its time is over), `unreachable` and `lost` (it was done), `refuse`, "
        "`auth`, `fail`, `garbage`",
    }
)
SOFT_OFF_S: Final = 5.0
LOOK_S: Final = 0.05
CALLS_KEPT: Final = 10_000
GET: Final = "get"
FOLLOW: Final = "follow"
_WHAT: Final = frozenset(
    ("hang", "hang_after", "stall", "unreachable", "lost", "refuse", "auth", "fail", "garbage")
)  # fmt: skip
_KNOBS: Final = frozenset(
    ("power", "on_s", "off_s", "soft_off", "soft_off_s", "delay_s", "follow_s", "supported", "faults")
)
_SCHEMA: Final = """
    CREATE TABLE IF NOT EXISTS machines (id TEXT PRIMARY KEY, power TEXT, goal TEXT, goal_at REAL, behaves TEXT);
    CREATE TABLE IF NOT EXISTS calls (n INTEGER PRIMARY KEY, machine TEXT, call TEXT, at REAL, answer TEXT, until REAL);
    CREATE INDEX IF NOT EXISTS calls_of ON calls (machine, call);
"""


class Called(NamedTuple):
    """One call that reached the machine. `answer`, `until` None: it has not been answered (yet)."""

    call: str
    answer: str | None
    at: float
    until: float | None


class Fake:
    """See the module."""

    def get_supported_power_states(self, bmc: Bmc) -> Sequence[str]:
        return tuple(_knobs(bmc.info).get("supported", words.TARGETS))

    def check(self, info: Mapping[str, Any]) -> None:
        """Raises: ValueError: it can't be what is meant."""
        knobs = info.get("fake", {})
        if not isinstance(knobs, dict):
            raise ValueError("fake is an object")
        for name in knobs.keys() - _KNOBS:
            raise ValueError(f"fake: there is no {name!r}: there is {', '.join(sorted(_KNOBS))}")
        for fault in knobs.get("faults", ()):
            if not isinstance(fault, dict) or fault.get("what") not in _WHAT:
                raise ValueError(f"fake: the `what` of a fault is one of {', '.join(sorted(_WHAT))}")

    def get_power_state(self, bmc: Bmc) -> str:
        return str(_Call(bmc, GET).made(lambda device, knobs: device.power))

    def set_power_state(self, bmc: Bmc, target: str, monitor: Any = None) -> Follow | None:
        if monitor is not None:
            found = _Call(bmc, FOLLOW).made(lambda device, knobs: _followed(monitor, knobs))
        else:
            found = _Call(bmc, target).made(lambda device, knobs: device.command(target, knobs))
        return found if isinstance(found, Follow) else None


class _Call:
    """One call: logged before anything is done, and when it is answered."""

    def __init__(self, bmc: Bmc, call: str) -> None:
        self.bmc = bmc
        self.call = call
        self.device = Device(bmc.info.get("path"), bmc.node, _knobs(bmc.info))
        self.knobs = self.device.knobs()
        self.number = self.device.begin(call)

    def made(self, do: Callable[[Device, dict[str, Any]], Any]) -> Any:
        try:
            answer = self._made(do)
        except BMCError as error:
            self.device.answered(self.number, error.code)
            raise
        self.device.answered(self.number, "follow" if isinstance(answer, Follow) else str(answer or "ok"))
        return answer

    def _made(self, do: Callable[[Device, dict[str, Any]], Any]) -> Any:
        fault = self._fault()
        stopped = threading.Event()
        self.bmc.on_stop(stopped.set)
        delay_s = float(self.knobs.get("delay_s", 0))
        if delay_s and stopped.wait(delay_s):
            raise BMCUnreachable("the call was ended")
        if fault == "stall":
            stopped.wait(self.bmc.timeout_s)
            raise BMCUnreachable(f"the BMC gave no answer within {self.bmc.timeout_s:g} s")
        if fault in _RAISED:
            kind, said = _RAISED[fault]
            raise kind(said)
        if fault == "hang":
            threading.Event().wait()
        if fault == "garbage" and self.call == GET:
            return "?!"
        answer = do(self.device, self.knobs)
        if fault == "hang_after":
            threading.Event().wait()
        if fault == "lost":
            raise BMCUnreachable("the BMC's answer was lost")
        return answer

    def _fault(self) -> str | None:
        for fault in self.knobs.get("faults", ()):
            call = fault.get("call")
            if call in (None, self.call) and fault.get("nth") in (None, self.device.count(call)):
                return str(fault["what"])
        return None


_RAISED: Final[Mapping[str | None, tuple[type[BMCError], str]]] = {
    "unreachable": (BMCUnreachable, "the BMC does not answer"),
    "refuse": (BMCRefused, "the BMC answered: not in this state (0xd5)"),
    "auth": (BMCAuthFailed, "the BMC answered: unauthorized name or password"),
    "fail": (BMCError, "the BMC answered: internal error (0xff)"),
}


class Device:
    """A machine. `path` None: of this process. `knobs`: as `driver_info.fake` has them, for one that is new."""

    def __init__(self, path: str | None, node: str, knobs: Mapping[str, Any] | None = None) -> None:
        self.path = path
        self.node = node
        self._given = dict(knobs or {})

    @property
    def power(self) -> str:
        with self._open() as at:
            return self._now(at)

    def command(self, target: str, knobs: Mapping[str, Any]) -> Follow | None:
        """What the machine makes of a command."""
        follow_s = float(knobs.get("follow_s", 0))
        goal, after_s = self._goal(target, knobs)
        now = SYSTEM.time()
        if goal is not None:
            with self._open() as at:
                self._now(at)
                at.execute(
                    "UPDATE machines SET goal=?, goal_at=? WHERE id=?", (goal, now + follow_s + after_s, self.node)
                )
        return Follow({"began": now, "until": now + follow_s}, LOOK_S, 0.0) if follow_s else None

    def _goal(self, target: str, knobs: Mapping[str, Any]) -> tuple[str | None, float]:
        if target == words.POWER_ON:
            return target, float(knobs.get("on_s", 0))
        if target == words.POWER_OFF:
            return target, float(knobs.get("off_s", 0))
        if target == words.SOFT_POWER_OFF:
            ways = {"works": float(knobs.get("off_s", 0)), "slow": float(knobs.get("soft_off_s", SOFT_OFF_S))}
            way = knobs.get("soft_off", "works")
            return (words.POWER_OFF, ways[way]) if way in ways else (None, 0)
        return None, 0

    def turn(self, power: str) -> None:
        """Somebody presses the button on the machine itself."""
        with self._open() as at:
            self._now(at)
            at.execute("UPDATE machines SET power=?, goal=NULL WHERE id=?", (power, self.node))

    def behave(self, **knobs: Any) -> None:
        """Have it behave so from now on, whatever `driver_info` says."""
        with self._open() as at:
            self._now(at)
            kept = json.dumps({**self.knobs(at), **knobs})
            at.execute("UPDATE machines SET behaves=? WHERE id=?", (kept, self.node))

    def knobs(self, at: sqlite3.Connection | None = None) -> dict[str, Any]:
        if at is None:
            with self._open() as at:
                return self.knobs(at)
        found = at.execute("SELECT behaves FROM machines WHERE id=?", (self.node,)).fetchone()
        return {**self._given, **(json.loads(found[0]) if found and found[0] else {})}

    # --- the log --------------------------------------------------------------------------------------------------

    def calls(self, *, looks: bool = True) -> list[Called]:
        """What was asked of it, in that order; without `looks`, the commands alone."""
        with self._open() as at:
            found = at.execute(
                "SELECT call, answer, at, until FROM calls WHERE machine=? ORDER BY n", (self.node,)
            ).fetchall()
        return [Called(*row) for row in found if looks or row[0] not in (GET, FOLLOW)]

    def count(self, call: str | None) -> int:
        """How often it was called so; None: at all."""
        where, what = ("", (self.node,)) if call is None else (" AND call=?", (self.node, call))
        with self._open() as at:
            return int(at.execute(f"SELECT count(*) FROM calls WHERE machine=?{where}", what).fetchone()[0])

    def begin(self, call: str) -> int:
        with self._open() as at:
            said = at.execute(
                "INSERT INTO calls (machine, call, at) VALUES (?, ?, ?)", (self.node, call, SYSTEM.time())
            )
            if self.path is None:
                at.execute("DELETE FROM calls WHERE n <= ?", ((said.lastrowid or 0) - CALLS_KEPT,))
            return int(said.lastrowid or 0)

    def answered(self, number: int, answer: str) -> None:
        with self._open() as at:
            at.execute("UPDATE calls SET answer=?, until=? WHERE n=?", (answer, SYSTEM.time(), number))

    # --- the file -------------------------------------------------------------------------------------------------

    def _now(self, at: sqlite3.Connection) -> str:
        """What it is, after what time has made of it."""
        found = at.execute("SELECT power, goal, goal_at FROM machines WHERE id=?", (self.node,)).fetchone()
        if found is None:
            power = str(self._given.get("power", words.POWER_ON))
            at.execute("INSERT INTO machines (id, power) VALUES (?, ?)", (self.node, power))
            return power
        power, goal, goal_at = found
        if goal is not None and SYSTEM.time() >= goal_at:
            at.execute("UPDATE machines SET power=?, goal=NULL WHERE id=?", (goal, self.node))
            return str(goal)
        return str(power)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """A transaction."""
        if self.path is None:
            with _here, _here.connection as at:
                yield at
            return
        with closing(sqlite3.connect(self.path, timeout=30, isolation_level=None)) as at:
            at.execute("PRAGMA synchronous=OFF")  # it has to survive a kill -9, and no more
            at.execute("BEGIN IMMEDIATE")
            if not at.execute("SELECT 1 FROM sqlite_master WHERE name='calls_of'").fetchone():
                for statement in _SCHEMA.split(";"):
                    at.execute(statement)
            yield at
            at.execute("COMMIT")


class _Here:
    """The machines of this process."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None

    @property
    def connection(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = sqlite3.connect(":memory:", check_same_thread=False)
            self._connection.executescript(_SCHEMA)
        return self._connection

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


_here: Final = _Here()


def _followed(monitor: Mapping[str, float], knobs: Mapping[str, Any]) -> Follow | None:
    now, began, until = SYSTEM.time(), monitor["began"], monitor["until"]
    if now >= until:
        return None
    return Follow(dict(monitor), LOOK_S, (now - began) / (until - began), "the machine is at work")


def _knobs(info: Mapping[str, Any]) -> dict[str, Any]:
    return dict(info.get("fake") or {})
