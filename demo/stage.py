"""What a scene works with: one machine, one database, and the command line as a person would type it.

The scenes are in scenes.py; how processes are started and ended, in children.py.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from demo.calls import Call, Node
from demo.children import Child, Children, until
from demo.evidence import DEMO
from demo.show import Show

LIMIT_S = 45.0  # for any one thing that is waited for; it only says when to give up
HOLDFAST = Path(sys.executable).with_name("holdfast")


class Stage:
    """One scene's own machine and tag, on the database that all scenes share."""

    def __init__(self, number: int, node: Node, directory: Path, children: Children, show: Show) -> None:
        self.node = node
        self.show = show
        self.tag = f"scene-{number}"
        self.directory = directory
        self.children = children
        self._database = f"sqlite:///{directory / 'tasks.db'}"
        self._typed: list[Child] = []
        self._started = 0

    def run(self, flow: str) -> Child:
        """Start `holdfast run` of a flow of power.py on this scene's machine."""
        inputs = [f"bmc={self.node.bmc.url}", f"system={self.node.system}"]
        return self.type("run", f"demo/power.py:{flow}", *inputs, "--tag", self.tag)

    def type(self, *words: str) -> Child:
        """Start a holdfast command on the demo's database."""
        typed = [*words, "--database", self._database]
        self.show.command(["holdfast", *typed])
        child = self._start(*typed)
        self._typed.append(child)
        return child

    def _start(self, *words: str) -> Child:
        self._started += 1
        output = self.directory / f"{self.tag}.{self._started}.out"
        # What somebody has set for their own Holdfast is not for this one.
        env = {name: value for name, value in os.environ.items() if not name.startswith("HOLDFAST_")}
        return self.children.start([str(HOLDFAST), *words], output, env={**env, "PYTHONUNBUFFERED": "1"})

    def end(self, child: Child) -> int | None:
        """Wait for a command's end, showing what it prints; its exit code."""
        until(
            lambda: child.poll() is not None, "the command to end", limit_s=LIMIT_S, meanwhile=lambda: self.print(child)
        )
        self.print(child)
        return child.poll()

    def print(self, child: Child) -> None:
        self.show.output(child.new_lines())

    def print_rest(self) -> None:
        """Show what the commands have printed and nobody has asked for: where a scene breaks, that says why."""
        for child in self._typed:
            self.print(child)

    def wait_for(self, what: str, condition: Callable[[], bool], child: Child) -> None:
        """Wait until the condition holds. The command is expected to live until then."""

        def met() -> bool:
            ended = child.poll()
            if condition():
                return True
            if ended is not None:
                raise RuntimeError(f"the command ended with {ended} before {what}")
            return False

        until(met, what, limit_s=LIMIT_S, meanwhile=lambda: self.print(child))
        self.print(child)

    def tasks(self) -> list[dict[str, Any]]:
        """The tasks that have this scene's tag, as another process reads them from the database."""
        child = self._start("task", "list", "--tag", self.tag, "-o", "json", "--database", self._database)
        until(lambda: child.poll() is not None, "the list of tasks", limit_s=LIMIT_S)
        text = "\n".join(child.new_lines())
        if child.poll() != 0:
            raise RuntimeError(f"`holdfast task list` exited {child.poll()}:\n{text}")
        found: list[dict[str, Any]] = json.loads(text)
        return found

    def task(self) -> dict[str, Any]:
        return self.tasks()[0]

    def last_look(self) -> list[Call]:
        """Ask the machine itself once more, past all that was shown, and return the whole log."""
        self.node.look(DEMO)
        return self.node.calls()
