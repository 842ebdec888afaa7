"""How the demo speaks: a heading a scene, what was typed or asked, what came back, what the device or the
guest itself says, and what that proves.

Colours on a terminal, the same words in a pipe. Nothing is decided here.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from itertools import groupby

from rich.console import Console
from rich.markup import escape

from demo.calls import Call
from demo.evidence import Check


class Show:
    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False, soft_wrap=True)
        self._played: list[tuple[str, bool]] = []

    def _print(self, text: str = "", style: str | None = None) -> None:
        self._console.print(escape(text), style=style)

    def heading(self, number: int, title: str) -> None:
        self._print()
        self._print(f"━━ Scene {number}: {title}", "bold cyan")

    def say(self, text: str) -> None:
        self._print(f"   {text}")

    def act(self, text: str) -> None:
        """Something that the demo does to the world, as who it plays."""
        self._print(f" ▶ {text}", "yellow")

    def command(self, words: Sequence[str]) -> None:
        self._print(f" $ {shlex.join(words)}", "bold")

    def part(self, title: str) -> None:
        self._print()
        self._print(f"━━━━ {title} ━━━━", "bold magenta")

    def request(self, who: str, line: str, *more: str) -> None:
        self._print(f" {_by(who)}> {'   '.join((line, *more))}", "bold")

    def answer(self, who: str, line: str, *more: str) -> None:
        self._print(f" {_by(who)}< {line}")
        for text in more:
            self._print(f" {_by(who)}<   {text}", "dim")

    def event(self, id: int, type: str, words: str) -> None:
        """What the service's event stream has just said."""
        self._print(f"     ⚡ {id:>4} {type:<16} {words}", "blue")

    def console(self, lines: Sequence[str]) -> None:
        self._print("   What the guest's own console says:")
        for line in lines:
            self._print(f"     {line}")

    def output(self, lines: Sequence[str]) -> None:
        for line in lines:
            self._print(f"   │ {line}", "dim")

    def log(self, calls: Sequence[Call]) -> None:
        """The call log; equal readings in a row are one line."""
        self._print("   What the BMC's own call log says:")
        start = calls[0].at if calls else 0.0
        for _, group in groupby(calls, key=lambda call: call[1:]):
            same = list(group)
            first, times = same[0], f"  × {len(same)}" if len(same) > 1 else ""
            what = f"power: {first.power}" if first.what == "power" else first.what
            status = "" if first.status is None else str(first.status)
            self._print(f"     {first.at - start:7.3f} s  {first.by:<16} {first.call:<5} {what:<18} {status}{times}")

    def proof(self, checks: Sequence[Check]) -> None:
        for check in checks:
            if check.holds:
                self._print(f"   ✓ {check.claim}: {_words(check.found)}", "green")
            else:
                self._print(f"   ✗ {check.claim}", "bold red")
                self._print(f"       expected: {_words(check.expected)}", "red")
                self._print(f"       found:    {_words(check.found)}", "red")

    def remember(self, title: str, *, good: bool) -> None:
        """A scene was played: it comes again in the list at the end."""
        self._played.append((title, good))

    def remembered(self) -> None:
        if self._played:
            self.part("What was proved")
        for number, (title, good) in enumerate(self._played, 1):
            self._print(f" {'✓' if good else '✗'} {number:>2}  {title}", "green" if good else "bold red")

    def problem(self, text: str) -> None:
        self._print(f"   ✗ {text}", "bold red")

    def verdict(self, text: str, *, good: bool) -> None:
        self._print()
        self._print(text, "bold green" if good else "bold red")


def _by(who: str) -> str:
    return f"{who:<9}" if who else ""


def _words(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(_words(item) for item in value) if value else "none"
    return str(value)
