"""The service as a process of its own, as somebody would start it: `holdfast serve`.

It is killed and started again by the story (story.py); its servers are processes that outlive it (guests.py).
"""

from __future__ import annotations

import os
import re
import sys
import threading
from pathlib import Path

from demo.children import Child, Children, until
from demo.guests import Witness
from demo.show import Show
from demo.web import Web
from holdfast.resources.server.process import Server
from holdfast.seal import new_key

LIMIT_S = 45.0  # for any one thing that is waited for; it only says when to give up
HOLDFAST = Path(sys.executable).with_name("holdfast")
SERVING = re.compile(r"on http://127\.0\.0\.1:(\d+)")


class Service:
    """One database, one port, one directory of servers; the process changes."""

    def __init__(self, directory: Path, children: Children, show: Show) -> None:
        self.witness = Witness(directory / "servers")
        self.show = show
        self.port = 0
        self.process: Child
        self.directory = directory
        self._children = children
        self._started = 0
        self._key = new_key()

    @property
    def web(self) -> Web:
        return Web(self.port, self.show)

    def start(self) -> None:
        """Start it, on the port that it had, and wait until it answers."""
        words = ["serve", "--database", f"sqlite:///{self.directory / 'service.db'}", "--port", str(self.port)]
        self.show.command(["holdfast", *words])
        self._started += 1
        # What somebody has set for their own Holdfast is not for this one.
        env = {name: value for name, value in os.environ.items() if not name.startswith("HOLDFAST_")}
        env |= {
            "PYTHONUNBUFFERED": "1",
            "HOLDFAST_SERVER_DIR": str(self.witness.directory),
            "HOLDFAST_SERVER_FAULTS": "1",
            "HOLDFAST_SECRET_KEY": self._key,
            "HOLDFAST_SYNC_INTERVAL_S": "2",
        }
        output = self.directory / f"service.{self._started}.out"
        self.process = self._children.start([str(HOLDFAST), *words], output, env=env)
        until(self._answers, "the service to answer", limit_s=LIMIT_S)
        self.show.output(self.process.printed)

    def has_said(self, words: str) -> bool:
        """Whether the process has printed that."""
        self.process.new_lines()
        return any(words in line for line in self.process.printed)

    def _answers(self) -> bool:
        code = self.process.poll()
        self.process.new_lines()
        if code is not None:
            raise RuntimeError("the service ended with {}:\n{}".format(code, "\n".join(self.process.printed)))
        for line in self.process.printed:
            if found := SERVING.search(line):
                self.port = int(found[1])
        return self.port != 0 and self.web.is_ready()

    def end_servers(self) -> None:
        """End every guest that is left, as a demo that was interrupted leaves some. Not by the service: it is gone."""
        for name in self.witness.servers():
            Server(str(self.witness.directory), name).remove(threading.Event().wait)
