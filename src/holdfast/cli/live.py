"""A task as a live tree of its steps, on a terminal. In a pipe: show.py (`Lines`)."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text
from rich.tree import Tree as Branches

from holdfast.cli.show import Look, Step, plain, progress_of
from holdfast.clock import Clock

if TYPE_CHECKING:
    from rich.console import RenderableType

_MARKS: Final = {
    "SUCCEEDED": ("✔", "green"),
    "FAILED": ("✘", "red"),
    "REVERT_FAILED": ("✘", "bold red"),
    "ABANDONED": ("✘", "bold red"),
    "INTERRUPTED": ("!", "yellow"),
    "REVERTED": ("↺", "cyan"),
    "SKIPPED": ("-", "dim"),
    "ABORTED": ("✘", "dim"),
    "WAITING": ("◷", "blue"),
}
_ACTIVE: Final = ("RUNNING", "REVERTING")
_COLOURS: Final = {
    "SUCCEEDED": "bold green", "FAILED": "bold red", "SUSPENDED": "bold yellow", "REVERTED": "bold cyan",
    "CANCELLED": "bold cyan", "ABORTED": "bold magenta",
}  # fmt: skip


class Tree:
    """See `Screen`. What it showed last stays on the terminal when it closes."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)
        self._clock = Clock()
        self._live = Live(console=self._console, refresh_per_second=8, transient=False)
        self._spinners: dict[int, Spinner] = {}
        self._started = False

    def say(self, text: str) -> None:
        self._console.print(escape(plain(text)), soft_wrap=True)

    def update(self, look: Look) -> None:
        self._live.update(self._drawn(look))
        if not self._started:
            self._started = True
            self._live.start(refresh=True)

    def close(self) -> None:
        if self._started:
            with suppress(OSError):  # the terminal may be gone
                self._live.stop()

    def _drawn(self, look: Look) -> RenderableType:
        return Group(self._head(look.view), self._steps(look))

    def _head(self, view: dict[str, Any]) -> Table:
        progress = view["progress"]
        row = Table.grid(padding=(0, 2))
        for _ in range(6):
            row.add_column(no_wrap=True)
        state = Text(view["state"], _COLOURS.get(view["state"], "bold blue"))
        waits = f"waits for its claims, number {view['queue_position']}" if view["queue_position"] else ""
        row.add_row(
            Text(view["task"], "bold"),
            state,
            ProgressBar(100, progress["percent"], width=30),
            f"{progress['percent']:>3} %",
            f"{progress['completed']}/{progress['total']} steps",
            Text(waits, "dim"),
        )
        return row

    def _steps(self, look: Look) -> Branches:
        room = max(5, self._console.size.height - 6)
        steps = sorted(look.steps, key=lambda step: step.ord)
        final = look.view["finish_time"] is not None
        ahead = [] if final else look.ahead[: max(room // 3, room - len(steps))]
        # Where there are more than fit: those that run, and the latest.
        kept = {step.ord for step in [each for each in steps if each.state in _ACTIVE][-room:]}
        for step in reversed(steps):
            if len(kept) + len(ahead) >= room:
                break
            kept.add(step.ord)
        hidden = len(steps) - len(kept)
        top = look.view["task"]
        tree = Branches(Text(f"… {hidden} earlier steps" if hidden else "", "dim"), hide_root=not hidden)
        groups: dict[str, Branches] = {"": tree, top: tree}
        for step in steps:
            if step.ord in kept:
                group, _, name = step.node.rpartition("/")
                _group(groups, group).add(self._step(step, name))
        for node in ahead:
            group, _, name = node.rpartition("/")
            _group(groups, group).add(Text(f"· {name}", "dim"))
        return tree

    def _step(self, step: Step, name: str) -> RenderableType:
        attempt = f" (try {step.attempt})" if step.attempt > 1 else ""
        if step.state in _ACTIVE:
            spinner = self._spinners.setdefault(step.ord, Spinner("dots"))
            said = f"{name}{attempt} {'undoing ' if step.state == 'REVERTING' else ''}{progress_of(step)}"
            spinner.update(text=Text(said))
            return spinner
        mark, colour = _MARKS.get(step.state, ("·", "dim"))
        took = "" if step.ended_at is None else f"  {step.ended_at - step.started_at:.1f} s"
        word = "" if step.state == "SUCCEEDED" else f" {step.state}"
        said = f" {progress_of(step)}" if step.state == "WAITING" else ""
        return Text.assemble((f"{mark} ", colour), name, (f"{word}{attempt}{said}{took}", "dim"))


def _group(groups: dict[str, Branches], path: str) -> Branches:
    """The branch of a flow within the flow."""
    if path not in groups:
        above, _, name = path.rpartition("/")
        groups[path] = _group(groups, above).add(Text(name, "bold dim"))
    return groups[path]
