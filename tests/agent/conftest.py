"""Agents as processes of their own, beside a service that is one too."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from holdfast import local
from holdfast.store.schema import metadata
from tests.forked import Forked
from tests.service import flows
from tests.service.conftest import PATIENCE_S, ROOT, MakeServed, Served, make_served

__all__ = ["make_served"]


class Agent:
    """`holdfast agent` as a process; `log`: the file that it writes to."""

    def __init__(self, url: str, pool: str, witness: Path, log: Path, options: tuple[str, ...] = ()) -> None:
        self.log = log
        env = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]),
            flows.WITNESS: str(witness),
            "HOLDFAST_GRACE_S": "2",
        }
        words = ["agent", "--url", url, "--pool", pool, "--flows", "tests.agent.agent_flows:FLOWS", *options]
        with log.open("w", encoding="utf-8") as file:
            self.process = Forked("holdfast", *words, env=env, stderr=file)
        self.until("runs the steps")

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8")

    def until(self, words: str) -> None:
        """Until it has logged these words."""
        soon(lambda: words in self.said(), lambda: f"no {words!r} in {self.said()}")

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE_S)

    @property
    def pid(self) -> str:
        return str(self.process.pid)


MakeAgent = Callable[..., Agent]


def soon(is_so: Callable[[], bool], why: Callable[[], str] = lambda: "") -> None:
    end, never = time.monotonic() + PATIENCE_S, threading.Event()
    while not is_so():
        assert time.monotonic() < end, why()
        never.wait(0.02)


def until_witnessed(served: Served, word: str) -> list[str]:
    """The lines of the witness that begin so, once there is one."""
    soon(lambda: any(line.startswith(word) for line in served.witnessed()), lambda: f"{word}: {served.witnessed()}")
    return [line for line in served.witnessed() if line.startswith(word)]


def stored(hold: local.Holdfast) -> str:
    """All that is in the database."""

    def read(tx: Any) -> str:
        return "\n".join(str(row) for table in metadata.sorted_tables for row in tx.execute(select(table)).all())

    return hold.store.read(read)


@pytest.fixture
def house(make_served: MakeServed) -> Callable[..., Served]:
    """`house(lease_s="1.5")`: a service with a worker that knows the flows of agents."""

    def make(**settings: str) -> Served:
        return make_served("--flows", "tests.agent.agent_flows:FLOWS", **settings)

    return make


@pytest.fixture
def make_agent(tmp_path: Path) -> Iterator[MakeAgent]:
    """`make_agent(served, pool="hv1", url=None)`."""
    made: list[Agent] = []

    def make(served: Served, *options: str, pool: str = "hv1", url: str | None = None) -> Agent:
        log = tmp_path / f"agent{len(made)}.log"
        made.append(Agent(url or served.url, pool, served.witness, log, options))
        return made[-1]

    yield make
    for agent in made:
        if agent.process.poll() is None:
            agent.signal(signal.SIGCONT)
            agent.kill()
