"""What the storms of these tests are made of: flows that testify, plain connections that ask fast, and many at once."""

from __future__ import annotations

import http.client
import json
import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

import holdfast as hf
from tests.service import told
from tests.service.flows import witness

T = TypeVar("T")
ROOT = Path(__file__).parents[2]
FLOWS_HERE = ("--flows", "tests.service.storms:FLOWS")
ENDS = ("SUCCEEDED", "FAILED", "CANCELLED", "ABORTED", "REVERTED")
WHO = {"X-Project-Id": "default", "X-Roles": "member", "X-User-Id": "u1"}


def size(name: str, of_suite: int) -> int:
    """How large a storm is: the suite's, or HOLDFAST_TEST_<NAME>."""
    return int(os.environ.get(f"HOLDFAST_TEST_{name}", of_suite))


# --- asking ------------------------------------------------------------------------------------------------------


class Heard(NamedTuple):
    status: int
    headers: dict[str, str]
    body: Any


class Line:
    """A connection that is kept; for one thread. Five times as fast as a client that knows everything."""

    def __init__(self, url: str, timeout_s: float = 30.0, **headers: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=timeout_s)
        self._headers = {**WHO, **headers}

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Heard:
        sent = None if body is None else json.dumps(body)
        given = {**self._headers, **{name.replace("_", "-"): value for name, value in headers.items()}}
        if sent is not None:
            given["Content-Type"] = "application/json"
        self._connection.request(method, path, sent, given)
        answer = self._connection.getresponse()
        raw = answer.read()
        told.look(path, given, raw.decode())
        return Heard(
            answer.status, {name.lower(): value for name, value in answer.headers.items()}, json.loads(raw or b"null")
        )

    def close(self) -> None:
        self._connection.close()


def shared_out(url: str, items: Iterable[Any], threads: int, work: Callable[[Line, Any], T]) -> list[T]:
    """`work` of each item, by so many threads with a line each; in the order of the items."""
    kept = threading.local()
    lines: list[Line] = []

    def one(item: Any) -> T:
        if not hasattr(kept, "line"):
            kept.line = Line(url)
            lines.append(kept.line)
        return work(kept.line, item)

    with ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(one, items))
    for line in lines:
        line.close()
    return found


# --- doing -------------------------------------------------------------------------------------------------------


@hf.step
def first() -> None:
    pass


@hf.step
def last() -> None:
    pass


class Yard:
    """Where tasks stand on what they have claimed: who came when, and who met whom."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._inside: set[str] = set()
        self.came: list[str] = []
        self.met: list[str] = []

    def enter(self, task: str, names: list[str]) -> None:
        with self._mutex:
            self.came.append(task)
            self.met += self._inside.intersection(names)
            self._inside.update(names)

    def leave(self, names: list[str]) -> None:
        with self._mutex:
            self._inside.difference_update(names)


YARD = Yard()


@hf.step
def stand(ctx: hf.Context, names: list[str]) -> None:
    YARD.enter(ctx.task_id, names)
    ctx.sleep(0.001)
    YARD.leave(names)


def _stride(number: int) -> Any:
    def do(ctx: hf.Context, pause: float = 0.05) -> None:
        witness(f"begin {ctx.task_id} {number}")
        ctx.sleep(pause)
        witness(f"end {ctx.task_id} {number}")

    def undo(ctx: hf.Context, pause: float = 0.05) -> None:
        witness(f"unbegin {ctx.task_id} {number}")
        ctx.sleep(pause)
        witness(f"unend {ctx.task_id} {number}")

    made = hf.step(name=f"stride{number}")(do)
    made.revert(undo)
    return made


@hf.step
def stumble(ctx: hf.Context) -> None:
    witness(f"stumble {ctx.task_id} 0")
    raise RuntimeError("a stone")


@hf.step
def hoard(ctx: hf.Context) -> Any:
    """Has a large result, once it is told to go on."""
    return hf.WaitFor("go") if ctx.event is None else "x" * 600_000


RACED = hf.linear("raced", first, last)
STANDING = hf.linear("standing", stand)
MARCH = hf.linear("march", *(_stride(number) for number in range(1, 4)))
RETREAT = hf.linear("retreat", *(_stride(number) for number in range(1, 4)), stumble)
HOARD = hf.linear("hoard", hoard)
FLOWS = [RACED, STANDING, MARCH, RETREAT, HOARD]
