"""Clients that ask for anything, on resources that they share, and ask again where no answer came.

Each request has a tag of its own and goes to any of the services; its reply may be lost, and then it is asked again
under the same tag. Some hang up before the answer comes: no fault hits the moment behind a commit often enough. The
witness hears of a request before it is sent and of its answer after it came.
"""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from chaos.cluster import TOKEN
from chaos.history import FINAL
from chaos.witness import Witness

VERBS: Final = ("suspend", "suspend", "resume", "cancel", "abort", "rollback", "retry")
SHARES: Final = {"march": 8, "glide": 4, "errand": 4, "retreat": 3, "doze": 2, "linger": 2, "forge": 1}
FLOWS: Final = [flow for flow, share in SHARES.items() for _ in range(share)]
#: How many steps each has, and how many of them are undone when it is undone.
STEPS: Final = {
    "march": 3, "glide": 3, "errand": 3, "retreat": 4, "doze": 2, "linger": 2, "forge": 3, "dash": 1, "explode": 1
}  # fmt: skip
QUICK: Final = ("dash", "explode")  # take no pause
UNDOABLE: Final = {**STEPS, "retreat": 3, "explode": 0}
RESOURCES: Final = tuple(f"r{number}" for number in range(1, 17))
PAUSES_S: Final = (0.0, 0.05, 0.1, 0.3, 1.5)  # up to which a step takes
LIVE: Final = "PENDING,RUNNING,WAITING,SUSPENDING,SUSPENDED,CANCELLING,REVERTING,ABORTING"
WHO: Final = {"X-Auth-Token": TOKEN}
PATIENCE_S: Final = 300.0
TEND_S: Final = 2.0
RETRY_S: Final = 0.1
CROWD: Final = 40  # more than a service has connections of its database for reading
TIMEOUT_S: Final = 15.0
HANG_UP: Final = 0.05  # of those who ask for a task
HANG_UP_S: Final = 0.03  # after which they do, at most: about as long as an answer takes
REQUEST_TIMEOUT: Final = 408


class Heard(NamedTuple):
    status: int
    body: Any
    replayed: bool


class NoAnswer(Exception):
    """Whether it was done, nobody knows."""


class Line:
    """Connections of one thread to all services."""

    def __init__(self, urls: Sequence[str]) -> None:
        self._urls = urls
        self._open: dict[str, http.client.HTTPConnection] = {}

    def ask(self, place: int, method: str, path: str, body: Any = None, **headers: str) -> Heard:
        """Of the service at that place, once. Raises: NoAnswer."""
        url = self._urls[place % len(self._urls)]
        try:
            answer = self._send(url, method, path, body, headers).getresponse()
            raw = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self._open.pop(url).close()
            raise NoAnswer(str(error)) from None
        replayed = answer.headers.get("Task-Tag-Replayed") is not None
        return Heard(answer.status, json.loads(raw or b"null"), replayed)

    def hang_up(self, place: int, after_s: float, method: str, path: str, body: Any = None, **headers: str) -> None:
        """Ask, and hear no answer: whether it was done, nobody knows."""
        url = self._urls[place % len(self._urls)]
        with suppress(OSError, http.client.HTTPException):
            self._send(url, method, path, body, headers)
            threading.Event().wait(after_s)
        self._open.pop(url).close()

    def _send(self, url: str, method: str, path: str, body: Any, headers: dict[str, str]) -> http.client.HTTPConnection:
        connection = self._open.get(url) or http.client.HTTPConnection(urlsplit(url).netloc, timeout=TIMEOUT_S)
        self._open[url] = connection
        given = {**WHO, **{name.replace("_", "-"): value for name, value in headers.items()}}
        sent = None if body is None else json.dumps(body)
        if sent is not None:
            given["Content-Type"] = "application/json"
        connection.request(method, path, sent, given)
        return connection

    def insist(self, place: int, method: str, path: str, body: Any = None, **headers: str) -> Heard:
        """Of one service after the other, until one answers that can."""
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                heard = self.ask(place, method, path, body, **headers)
                if heard.status < 500 and heard.status != REQUEST_TIMEOUT:  # half of it came, before a cable was cut
                    return heard
                said = str(heard.body)
            except NoAnswer as error:
                said = str(error)
            if time.monotonic() > end:
                raise TimeoutError(f"{method} {path}: no answer in {PATIENCE_S:.0f} s: {said}")
            threading.Event().wait(RETRY_S)
            place += 1

    def close(self) -> None:
        for each in self._open.values():
            each.close()


class Client(threading.Thread):
    """One that asks, `rate` times a second at most, until it is told to stop."""

    def __init__(
        self, number: int, seed: int, witness: Witness, urls: Sequence[str], known: deque[str], rate: float
    ) -> None:
        super().__init__(name=f"client{number}", daemon=True)
        self._chance = random.Random(f"{seed}/client{number}")
        self._witness = witness
        self._line = Line(urls)
        self._known = known
        self._rate = rate
        self._made = 0
        self.stopping = threading.Event()
        self.asked = Counter[str]()
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            while not self.stopping.wait(self._chance.expovariate(self._rate)):
                self._anything()
        except BaseException as error:
            self.error = error
        finally:
            self._line.close()

    def _anything(self) -> None:
        draw = self._chance.random()
        if draw < 0.6 or not self._known:
            self.submit(*self._wanted())
        elif draw < 0.85:
            self._verb()
        else:
            self._look()

    def _wanted(self) -> tuple[str, dict[str, str], float]:
        names = self._chance.sample(RESOURCES, self._chance.choice([1, 1, 1, 1, 2, 3]))
        claims = {name: "shared" if self._chance.random() < 0.15 else "exclusive" for name in names}
        flow = "explode" if self._chance.random() < 0.01 else self._chance.choice(FLOWS)
        return flow, claims, round(self._chance.choice(PAUSES_S) * self._chance.random(), 3)

    def submit(self, flow: str, claims: dict[str, str], pause: float) -> str:
        """The new task's uuid."""
        self._made += 1
        tag, place = f"{self.name}-{self._made}", self._chance.randrange(9)
        hangs_up = self._chance.random() * HANG_UP_S if self._chance.random() < HANG_UP else None
        uuid = ask(self._line, self._witness, self.name, tag, place, flow, claims, pause, hangs_up)
        self._known.append(uuid)
        self.asked["submit"] += 1
        self.asked["submit, and hang up"] += hangs_up is not None
        return uuid

    def _verb(self) -> None:
        uuid, verb = self._chance.choice(list(self._known)[-12:]), self._chance.choice(VERBS)
        self._witness.say(self.name, "verb", task=uuid, verb=verb)
        heard = self._line.insist(self._chance.randrange(9), "POST", f"/v3/tasks/{uuid}/{verb}")
        if heard.status not in (200, 202, 409):
            raise AssertionError(f"{verb} of {uuid} was answered with {heard}")
        state = heard.body["task"]["state"] if heard.status < 300 else None
        self._witness.say(self.name, "answered", task=uuid, verb=verb, status=heard.status, state=state)
        self.asked[verb] += 1

    def _look(self) -> None:
        uuid = self._chance.choice(list(self._known)[-40:])
        heard = self._line.insist(self._chance.randrange(9), "GET", f"/v3/tasks/{uuid}")
        if heard.status != 200:
            raise AssertionError(f"{uuid} was acknowledged, and is answered with {heard}")
        self._witness.say(self.name, "saw", task=uuid, state=heard.body["task"]["state"])
        self.asked["look"] += 1


def ask(
    line: Line, witness: Witness, who: str, tag: str, place: int, flow: str, claims: dict[str, str], pause: float,
    hangs_up_s: float | None = None,
) -> str:  # fmt: skip
    """Ask for a task until somebody answers; its uuid. `hangs_up_s`: the first time, he goes after so long."""
    params: dict[str, Any] = {"claims": [list(each) for each in claims.items()]}
    if flow not in QUICK:
        params["pause"] = pause
    wanted = [{"type": "thing", "id": name, "mode": mode} for name, mode in claims.items()]
    body = {"task": flow, "params": params, "claims": wanted}
    witness.say(who, "asked", tag=tag, flow=flow, claims=claims, pool="default")
    if hangs_up_s is not None:
        line.hang_up(place, hangs_up_s, "POST", "/v3/tasks", body, Task_tag=tag)
        place += 1
    heard = line.insist(place, "POST", "/v3/tasks", body, Task_tag=tag)
    if heard.status != 202:
        raise AssertionError(f"{body} was answered with {heard}")
    uuid: str = heard.body["task"]["uuid"]
    witness.say(who, "accepted", tag=tag, task=uuid, replayed=heard.replayed)
    return uuid


class Operator(threading.Thread):
    """Who looks after the tasks that wait for a person, now and then: else those behind them wait for ever."""

    def __init__(self, witness: Witness, urls: Sequence[str]) -> None:
        super().__init__(name="operator", daemon=True)
        self._witness = witness
        self._line = Line(urls)
        self.stopping = threading.Event()
        self.error: BaseException | None = None
        self.asked = Counter[str]()

    def run(self) -> None:
        try:
            while not self.stopping.wait(TEND_S):
                tend(self._line, self._witness)
        except BaseException as error:
            self.error = error
        finally:
            self._line.close()


def cap(witness: Witness, urls: Sequence[str], limits: Mapping[str, int]) -> None:
    """Limit how much of each pool may run at once, over all its workers or agents."""
    line = Line(urls)
    for pool, running_max in limits.items():
        heard = line.insist(0, "PUT", f"/v3/pools/{pool}", {"running_max": running_max})
        if heard.status != 200:
            raise AssertionError(f"the limit was answered with {heard}")
        witness.say("operator", "capped", pool=pool, running_max=running_max)
    line.close()


def flood(url: str) -> Callable[[], None]:
    """Have many ask for long lists, again and again, until what is returned is called."""
    enough = threading.Event()

    def ask_on() -> None:
        line = Line([url])
        while not enough.is_set():
            try:
                line.ask(0, "GET", "/v3/tasks?limit=1000&depth=all")
            except NoAnswer:
                enough.wait(RETRY_S)
        line.close()

    for _ in range(CROWD):
        threading.Thread(target=ask_on, daemon=True).start()
    return enough.set


def every(line: Line, path: str) -> list[dict[str, Any]]:
    """What is listed there, page by page."""
    found: list[dict[str, Any]] = []
    while path:
        page = line.insist(0, "GET", path).body
        found += page["tasks"]
        path = next((link["href"] for link in page["links"] if link["rel"] == "next"), "")
    return found


def tend(line: Line, witness: Witness) -> list[dict[str, Any]]:
    """Help whatever waits for a person, as an operator may over HTTP; the tasks that have not ended."""
    live = every(line, f"/v3/tasks?limit=1000&depth=all&state={LIVE}")
    for task in live:
        verb, body = "", None
        if task["state"] == "SUSPENDED":
            answers = {each["step"]: {"as": _answer(each["answers"])} for each in task["resting"]}
            verb, body = ("abort", None) if task["reason"] == "poison" else ("resume", {"steps": answers})
        elif task["flow"] == "linger" and task["state"] == "WAITING":
            verb = "events/go"
        if verb:
            witness.say("operator", "verb", task=task["uuid"], verb=verb)
            line.insist(0, "POST", f"/v3/tasks/{task['uuid']}/{verb}", body)
    return live


def settle(line: Line, witness: Witness, patience_s: float) -> bool:
    """Let everything end; False: so many seconds went by in which nothing did."""
    fewest, end = 1 << 30, 0.0
    while live := tend(line, witness):
        if len(live) < fewest:
            fewest, end = len(live), time.monotonic() + patience_s
        if time.monotonic() > end:
            return False
        threading.Event().wait(0.2)
    return True


def _answer(answers: Sequence[str]) -> str:
    return "rerun" if "rerun" in answers else answers[0]


def testify(line: Line, witness: Witness) -> int:
    """Have the witness hear how every task ended and what its journal says; how many tasks there are."""
    tasks = every(line, "/v3/tasks?limit=1000&depth=all")
    for task in tasks:
        told = {name: task[name] for name in ("state", "tag", "retry_of", "rollback_of", "revert", "reason")}
        steps, undoable = STEPS[task["flow"]], UNDOABLE[task["flow"]]
        witness.say("operator", "final", task=task["uuid"], steps=steps, undoable=undoable, **told)
        log = line.insist(0, "GET", f"/v3/tasks/{task['uuid']}/log?limit=1000").body
        for row in log["log"]:
            if row["kind"] == "taken_over":
                witness.say("operator", "taken-over", task=task["uuid"], seq=row["seq"])
            name = (row["step"] or "").rpartition("/")[2]
            if row["kind"] == "succeeded" and name.startswith("stride") and name != "stride4":
                witness.say(
                    "operator", "recorded", task=task["uuid"], step=int(name[6:]), seq=row["seq"], value=row["data"]
                )
    return len(tasks)


def still_usable(line: Line, witness: Witness, patience_s: float) -> None:
    """Use every resource once; the witness hears of those that can't be."""
    asked = {
        name: ask(line, witness, "operator", f"last-{name}", 0, "dash", {name: "exclusive"}, 0) for name in RESOURCES
    }
    end = time.monotonic() + patience_s
    for name, uuid in asked.items():
        state = ""
        while state not in FINAL and time.monotonic() < end:
            state = line.insist(0, "GET", f"/v3/tasks/{uuid}?wait=2").body["task"]["state"]
        if state != "SUCCEEDED":
            witness.say("operator", "unusable", resource=name, task=uuid, state=state)
