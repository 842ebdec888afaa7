"""Golden traces: what a run did, a line a change, compared with a text in the test.

    outcome = hf.run(build, {"network": "public"})
    check_trace(outcome, '''
        task RUNNING
        make_port RUNNING
        make_port SUCCEEDED
        boot RUNNING
        boot FAILED (ConnectionError: no route)
        …
        task FAILED
    ''')

`…` (or `...`) alone on a line stands for any number of lines. A line without what a real one has in brackets at its end
matches it too, so that a test need not name messages. What words there are: core/trace.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

GAP = frozenset(("…", "..."))


class Traced(Protocol):
    """What has a trace: the outcome of `holdfast.run`, a durable task."""

    @property
    def trace(self) -> list[str]: ...


def check_trace(run: Traced | Iterable[str], expected: str | Iterable[str], *, of: str | Iterable[str] = ()) -> None:
    """Raise AssertionError with both traces side by side unless the run did what is expected.

    of: one step's id, or several: only their lines, and those of the steps below them, are compared. `task` names the
    lines of the task itself.
    """
    actual = list(run) if isinstance(run, Iterable) else run.trace
    wanted = lines_of(expected)
    names = (of,) if isinstance(of, str) else tuple(of)
    if names:
        actual = [line for line in actual if _is_of(line, names)]
    at = _first_difference(actual, wanted)
    if at is not None:
        raise AssertionError(difference(actual, wanted, at))


def lines_of(text: str | Iterable[str]) -> list[str]:
    """The lines of a text, without blanks around them and without empty ones."""
    lines = text.splitlines() if isinstance(text, str) else text
    return [line.strip() for line in lines if line.strip()]


def difference(actual: Sequence[str], expected: Sequence[str], at: int) -> str:
    """Both, side by side: `-` is expected and missing, `+` is there and not expected. `at`: how many lines of what is
    there fit."""
    from difflib import SequenceMatcher

    shown: list[str] = []
    named = [_as_named(line, expected) for line in actual]
    for what, a, b, c, d in SequenceMatcher(None, expected, named, autojunk=False).get_opcodes():
        if what == "equal":
            shown += [f"    {line}" for line in actual[c:d]]
            continue
        for line in expected[a:b]:
            shown.append(f"    {line}" if line in GAP else f"  - {line}")
        gap = any(line in GAP for line in expected[a:b])
        shown += [f"    {line}" if gap else f"  + {line}" for line in actual[c:d]]
    where = f"after {actual[at - 1]!r}" if at else "from the start"
    return "\n".join([f"the run differs from what is expected, {where}:", *shown, "", "as it was:", *actual])


def _is_of(line: str, names: tuple[str, ...]) -> bool:
    subject = line.partition(" ")[0]
    return any(subject == name or subject.startswith((f"{name}/", f"{name}[")) for name in names)


def _fits(line: str, wanted: str) -> bool:
    """Whether the line is the one that is wanted, or says more, in brackets."""
    return line == wanted or (line.startswith(f"{wanted} (") and line.endswith(")"))


def _as_named(line: str, expected: Sequence[str]) -> str:
    return next((wanted for wanted in expected if _fits(line, wanted)), line)


def _first_difference(actual: Sequence[str], wanted: Sequence[str]) -> int | None:
    """How many of the lines fit before the first that doesn't; None: all do."""
    reached = {0}  # how many wanted lines may be behind us, gaps taken or not
    for at, line in enumerate(actual):
        reached = _over_gaps(reached, wanted)
        following = {place for place in reached if place < len(wanted) and wanted[place] in GAP}
        following |= {place + 1 for place in reached if place < len(wanted) and _fits(line, wanted[place])}
        if not following:
            return at
        reached = following
    return None if len(wanted) in _over_gaps(reached, wanted) else len(actual)


def _over_gaps(reached: set[int], wanted: Sequence[str]) -> set[int]:
    """A gap may be empty."""
    found = set(reached)
    for place in sorted(reached):
        while place < len(wanted) and wanted[place] in GAP:
            place += 1
            found.add(place)
    return found
