"""The command line as a test sees it: a directory with a file of flows, a witness, a database, and the real command.

`shell` starts the command as a process; `say` runs it in this one, which is faster, where no signal is sent.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from holdfast.cli.main import main
from tests.forked import Forked
from tests.postgresql import database_at
from tests.worker.house import until

FLOWS = Path(__file__).with_name("flows_for_cli.py")
LIMIT_S = 60


class Done(NamedTuple):
    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)

    def sentence(self) -> str:
        """The one sentence on stderr."""
        assert self.err.startswith("holdfast: "), self.err
        assert self.err.count("\n") == 1, self.err
        assert "Traceback" not in self.err
        return self.err.removeprefix("holdfast: ").strip()


class Started:
    """A command that runs."""

    def __init__(self, process: Forked) -> None:
        self.process = process
        self.lines: list[str] = []

    def until(self, text: str) -> str:
        """Read its output up to the line that has the text. Its end is told as a failure."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            if text in line:
                return line
        raise AssertionError(f"it ended before it said {text!r}:\n{''.join(self.lines)}")

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self) -> Done:
        out, err = self.process.communicate(LIMIT_S)
        return Done(self.process.wait(), "".join(self.lines) + out, err)


class Shell:
    """Types commands in the directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.flows = directory / "flows_for_cli.py"
        self.witness = directory / "witness"
        self.database = database_at(directory / "tasks.db")
        self.flows.write_text(FLOWS.read_text(encoding="utf-8"), encoding="utf-8")
        self.running: list[Forked] = []

    def start(self, *words: str, terminal: int | None = None, **env: str) -> Started:
        process = Forked(
            "holdfast",
            *words,
            cwd=self.directory,
            env=os.environ | {"HOLDFAST_DATABASE": self.database} | env,
            stdout=subprocess.PIPE if terminal is None else terminal,
            stderr=subprocess.PIPE if terminal is None else terminal,
        )
        self.running.append(process)
        return Started(process)

    def __call__(self, *words: str, **env: str) -> Done:
        return self.start(*words, terminal=None, **env).end()

    def until_in(self, run: Started, step: str) -> None:
        """Read its output until the step runs, then wait for the step's own first word: RUNNING is said before it."""
        run.until(f"{step} RUNNING")
        until(lambda: step.split("/")[1] in self.did(), lambda: step)

    def did(self) -> list[str]:
        """What the steps have written."""
        return self.witness.read_text(encoding="utf-8").split() if self.witness.exists() else []


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    typed = Shell(tmp_path)
    yield typed
    for process in typed.running:
        if process.poll() is None:
            process.kill()
        process.wait()
        process.close()


class Say:
    """Runs commands in this process."""

    def __init__(self, shell: Shell, capsys: pytest.CaptureFixture[str]) -> None:
        self._shell = shell
        self._capsys = capsys

    def __call__(self, *words: str) -> Done:
        self._capsys.readouterr()
        code = main(words)
        out, err = self._capsys.readouterr()
        return Done(code, out, err)

    def task(self, ref: str) -> Any:
        return self("task", "show", ref, "-o", "json").json()


@pytest.fixture
def say(shell: Shell, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Say:
    monkeypatch.setenv("HOLDFAST_DATABASE", shell.database)
    monkeypatch.chdir(shell.directory)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return Say(shell, capsys)
