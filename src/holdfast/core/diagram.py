"""A machine as text: Mermaid, Graphviz and a plain table, all from its rows.

The rows and what they mean: core/table.py.
"""

from __future__ import annotations

from holdfast.core.table import ANEW, IGNORE, REFUSE, Machine

_MARKS = {IGNORE: "·", REFUSE: "–", ANEW: "new task"}


def mermaid(machine: Machine) -> str:
    """The machine as a Mermaid state diagram."""
    lines = ["stateDiagram-v2"]
    lines += [f'    state "{state}" as {_word(state)}' for state in machine.rows if _word(state) != state]
    lines.append(f"    [*] --> {_word(machine.start)}")
    lines += [f"    {_word(a)} --> {_word(b)}: {', '.join(by)}" for (a, b), by in _arrows(machine).items()]
    lines += [f"    {_word(state)} --> [*]" for state in machine.rows if state in machine.of_kind("final")]
    return "\n".join(lines) + "\n"


def dot(machine: Machine) -> str:
    """The machine as a Graphviz digraph; resting states are dashed and final ones have two borders."""
    looks = {"moving": "", "resting": ", style=dashed", "final": ", peripheries=2"}
    lines = [f'digraph "{machine.name}" {{', "  rankdir=LR;", "  node [shape=box];"]
    lines += [f'  "{state}" [label="{state}"{looks[row.kind]}];' for state, row in machine.rows.items()]
    lines += [f'  "{a}" -> "{b}" [label="{", ".join(by)}"];' for (a, b), by in _arrows(machine).items()]
    return "\n".join([*lines, "}"]) + "\n"


def table(machine: Machine) -> str:
    """The machine as an aligned table: a line for each state, a column for each verb, then its other inputs."""
    head = ["state", "kind", *machine.verbs, "other inputs"]
    lines = [head]
    for state, row in machine.rows.items():
        answers = [_MARKS.get(answer, f"→ {answer}") if answer else "" for answer in map(row.moves.get, machine.verbs)]
        others = [
            f"{given} {_MARKS.get(answer, f'→ {answer}')}"
            for given, answer in row.moves.items()
            if given not in machine.verbs
        ]
        lines.append([state, row.kind, *answers, ", ".join(others)])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rendered = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
    legend = f"{_MARKS[IGNORE]} accepted, nothing changes   {_MARKS[REFUSE]} refused"
    return "\n".join([*(line.rstrip() for line in rendered), "", legend]) + "\n"


def _arrows(machine: Machine) -> dict[tuple[str, str], list[str]]:
    """(state, next state) -> the inputs that lead there."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for state, given, target in machine.edges():
        arrows.setdefault((state, target), []).append(given)
    return arrows


def _word(state: str) -> str:
    """A name that Mermaid takes as an identifier."""
    return "".join(letter if letter.isalnum() else "_" for letter in state)
