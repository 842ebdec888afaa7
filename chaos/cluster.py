"""A cluster of real processes on one database: services that have no worker, workers, agents. Each is a *member*.

A member that ends is started again, as whatever looks after processes would; each time it is another incarnation, with
a name of its own for the witness. What is done to members on purpose: faults.py.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from chaos.witness import MEMBER, PLACE, POOL, RUNNER, Guard, Witness

ROOT: Final = Path(__file__).absolute().parents[1]
PATIENCE_S: Final = 180.0  # long, for machines that do a lot beside
LOOK_S: Final = 0.02
READY: Final = (b"serving ", b" takes the tasks of ", b" runs the steps of pool ")  # what each says when it has started
LATELY: Final = 50_000  # bytes that the witness heard
FLOWS: Final = ("--flows", "chaos.flows:FLOWS")
FIELD: Final = "field"  # the pool of the agents
TOKEN: Final = "whoever-asks"  # of those who ask services that others can reach, and of the agents
_USERS: Final = {hashlib.sha256(TOKEN.encode()).hexdigest(): {"user": "u1", "project": "default", "roles": ["admin"]}}


class Member:
    """One process and those that follow it. `prefix`: words before its command."""

    def __init__(
        self, name: str, words: Sequence[str], directory: Path, witness: Witness, *, prefix: Sequence[str] = ()
    ) -> None:
        self.name = name
        self.words = list(words)
        self.prefix = tuple(prefix)
        self.extra: dict[str, str] = {}
        self.expected = False  # to end: it was told to
        self.is_frozen = False
        self._stopped: set[int] = set()
        self.is_cut_off = False  # its host, from the database and from all others
        self.lacked = False  # its database, before it had started
        self._has_started = False
        self._directory = directory
        self._witness = witness
        self._number = 0
        self._process: subprocess.Popen[bytes] | None = None

    def move(self, prefix: Sequence[str], address: str, database: str) -> None:
        """To a host of that address, from where the database has another; before it starts."""
        at = self.words.index("--database") + 1
        self.prefix, self.words = tuple(prefix), [*self.words[:at], database, *self.words[at + 1 :]]

    @property
    def incarnation(self) -> str:
        return f"{self.name}.{self._number}"

    @property
    def log(self) -> Path:
        return self._directory / f"{self.incarnation}.log"

    def start(self) -> None:
        """From the main thread: the process ends with the thread that started it."""
        self._number += 1
        self.expected = self.is_frozen = False
        self.lacked, self._has_started = self.is_cut_off, False
        # What somebody has set for their own Holdfast is not for this one.
        env = {name: value for name, value in os.environ.items() if not name.startswith("HOLDFAST_")}
        env |= {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]), "PYTHONUNBUFFERED": "1"}
        env |= {PLACE: str(self._witness.directory), MEMBER: self.incarnation}
        env |= {RUNNER: str(os.getpid()), **self.extra}
        words = [*self.prefix, "setpriv", "--pdeathsig", "KILL", sys.executable, "-m", "holdfast", *self.words]
        with open(self.log, "wb") as log:
            self._process = subprocess.Popen(
                words, env=env, cwd=self._directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def code(self) -> int | None:
        """How it ended, if it did."""
        return None if self._process is None else self._process.poll()

    @property
    def is_up(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def is_excused(self) -> bool:
        """It may have ended by itself: who finds no database as it starts does, and a step of the flow `explode` kills
        its worker."""
        return self.code == -signal.SIGKILL or self.lacked

    @property
    def is_ready(self) -> bool:
        """It has started, and said so."""
        if not self._has_started:
            said = self.log.read_bytes()
            self._has_started = any(word in said for word in READY)
        return self.is_up and self._has_started

    # --- what is done to it ---------------------------------------------------------------------------------------

    def kill(self) -> None:
        """kill -9. Its children die with it, which those that are frozen can't."""
        self._witness.say("fault", "killed", member=self.incarnation)
        self.expected = True
        if self.is_up:
            os.kill(self.pid, signal.SIGKILL)
            assert self._process is not None
            self._process.wait(PATIENCE_S)
            self._stopped.discard(self.pid)
        self._go_on()

    def freeze(self) -> None:
        """SIGSTOP, with all its children: as a machine that hangs. Where it was writing to a device of the witness it
        is let go on until it has: no real device waits for a client that hangs."""
        self._stop()
        guard = Guard(self._witness)
        while any(guard.is_entered_by(pid) for pid in self._stopped):
            self._go_on()
            threading.Event().wait(LOOK_S)
            self._stop()
        self.is_frozen = True
        self._witness.say("fault", "frozen", member=self.incarnation)

    def _stop(self) -> None:
        stopped: set[int] = set()
        while left := [pid for pid in (self.pid, *descendants(self.pid)) if pid not in stopped]:
            for pid in left:
                stopped.add(pid)
                _signal(pid, signal.SIGSTOP)
        self._stopped = stopped
        until(lambda: all(map(has_stopped, stopped)), "they stop")

    def thaw(self) -> None:
        self._witness.say("fault", "thaw", member=self.incarnation)
        self._go_on()

    def _go_on(self) -> None:
        self.is_frozen = False
        while self._stopped:
            _signal(self._stopped.pop(), signal.SIGCONT)

    def ask_to_leave(self) -> None:
        self.expected = True
        _signal(self.pid, signal.SIGTERM)

    def end(self) -> None:
        """Whatever it does."""
        if self.is_up:
            if self.is_frozen:
                self.thaw()
            self.kill()


class Api(Member):
    """A service, on a port that it keeps."""

    def __init__(self, name: str, words: Sequence[str], directory: Path, witness: Witness) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        super().__init__(name, [*words, "--port", str(self.port)], directory, witness)
        self._address = "127.0.0.1"

    def move(self, prefix: Sequence[str], address: str, database: str) -> None:
        super().move(prefix, address, database)
        self._address = address
        users = self.log.with_name("users.json")
        users.write_text(json.dumps(_USERS), encoding="utf-8")
        self.words += ["--host", address, "--identity", "tokens"]
        self.extra["HOLDFAST_TOKENS_FILE"] = str(users)

    @property
    def url(self) -> str:
        return f"http://{self._address}:{self.port}"

    def answers(self) -> bool:
        try:
            socket.create_connection((self._address, self.port), timeout=1).close()
        except OSError:
            return False
        return True


class Agent(Member):
    """One that has no database, and runs steps for one of the services."""

    def __init__(self, name: str, api: Api, directory: Path, witness: Witness) -> None:
        super().__init__(name, [], directory, witness)
        self._api = api
        self.extra |= {"HOLDFAST_TOKEN": TOKEN, POOL: FIELD}

    def move(self, prefix: Sequence[str], address: str, database: str) -> None:
        self.prefix = tuple(prefix)

    def start(self) -> None:
        self.words = ["agent", "--url", self._api.url, "--pool", FIELD, *FLOWS]
        super().start()


class Cluster:
    """`database`: its URL. `settings`: of Holdfast, for all members."""

    def __init__(
        self,
        directory: Path,
        database: str,
        *,
        apis: int = 2,
        workers: int = 3,
        agents: int = 0,
        settings: dict[str, str] | None = None,
    ) -> None:
        self.directory = directory
        self.database = database
        self.witness = Witness(directory / "witness")
        named = {f"HOLDFAST_{name.upper()}": value for name, value in (settings or {}).items()}
        on = ("--database", database, *FLOWS)
        logs = directory / "logs"
        logs.mkdir(parents=True)
        self.apis = [
            Api(f"api{number}", ["serve", "--no-worker", *on], logs, self.witness) for number in range(1, apis + 1)
        ]
        self.workers = [
            Member(f"worker{number}", ["worker", *on], logs, self.witness) for number in range(1, workers + 1)
        ]
        self.agents = [
            Agent(f"agent{number}", self.apis[number % apis], logs, self.witness) for number in range(1, agents + 1)
        ]
        for member in self.members:
            member.extra.update(named)
        self.excused: Callable[[], bool] = lambda: False
        self.tend_database: Callable[[], None] = lambda: None
        self.left = 0

    @property
    def members(self) -> list[Member]:
        return [*self.apis, *self.workers, *self.agents]

    @property
    def urls(self) -> list[str]:
        return [api.url for api in self.apis]

    def start(self) -> None:
        """One after the other, because the first makes the tables."""
        self.apis[0].start()
        until(self.apis[0].answers, "the first service to answer", self.apis[0].log)
        for member in self.members[1:]:
            member.start()
        for api in self.apis:
            until(api.answers, f"{api.name} to answer", api.log)

    def tend(self) -> None:
        """Start again who has ended. `excused`: whether it may end by itself now, because its database fails."""
        self.tend_database()
        # Who was frozen as it opened the database has it: who begins meanwhile says so, and leaves.
        is_held = any(member.is_frozen for member in self.members)
        for member in self.members:
            if member.is_up:
                lacks = member.lacked or member.is_cut_off or is_held or self.excused()
                member.lacked = lacks and not member.is_ready
            if member.code is not None:
                self.witness.say("fault", "killed", member=member.incarnation)
                if not member.expected:
                    excused = member.is_excused or self.excused()
                    self.left += 1
                    self.witness.say("fault", "left", member=member.incarnation, code=member.code, excused=excused)
                member.start()

    def busy(self) -> set[str]:
        """Whose steps run now, as far as the last lines tell: faults are to hit those."""
        doing: dict[str, str] = {}
        for line in self.witness.lately(LATELY):
            if line.what == "begin":
                doing[line.more["entry"]] = line.who
            elif line.what == "end":
                doing.pop(line.more["entry"], None)
        return set(doing.values())

    def leave(self) -> None:
        """Have all of them leave by themselves."""
        for member in self.members:
            member.ask_to_leave()
        for member in self.members:
            until(lambda member=member: not member.is_up, f"{member.name} to leave", member.log)  # type: ignore[misc]

    def stop(self) -> None:
        for member in self.members:
            member.end()

    def __enter__(self) -> Cluster:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()


def descendants(pid: int) -> list[int]:
    """The children of a process, and theirs."""
    found: list[int] = []
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (task / "children").read_text(encoding="ascii").split()):
                found += [child, *descendants(child)]
    except (FileNotFoundError, ProcessLookupError):
        pass
    return found


def has_stopped(pid: int) -> bool:
    """Whether no thread of the process runs any more, after a SIGSTOP or its end."""
    try:
        stats = [(task / "stat").read_text(encoding="ascii") for task in Path(f"/proc/{pid}/task").iterdir()]
    except (FileNotFoundError, ProcessLookupError):
        return not Path(f"/proc/{pid}").exists()
    return all(stat.rpartition(")")[2].split()[0] in "TtZX" for stat in stats)


def until(fact: Callable[[], object], what: str, log: Path | None = None) -> None:
    end = time.monotonic() + PATIENCE_S
    while not fact():
        if time.monotonic() > end:
            said = log.read_text(errors="replace")[-2000:] if log is not None and log.exists() else ""
            raise TimeoutError(f"waited {PATIENCE_S:.0f} s for {what}\n{said}")
        threading.Event().wait(LOOK_S)


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass
