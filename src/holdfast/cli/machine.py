"""`holdfast machine …`: the state machines, proven and drawn. The tables: core/states.py, and of resources their kinds
(resources/kind.py)."""

from __future__ import annotations

from typing import Annotated

import typer

from holdfast.cli import exits, show
from holdfast.cli.options import OutputOption, installed_kinds
from holdfast.core.table import Machine
from holdfast.errors import UsageError

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def about() -> None:
    """The state machines of tasks, steps and kinds of resources: check that they are sound, or see them.

    \b
    holdfast machine check
    holdfast machine show task --mermaid
    """


@app.command()
def check(output: OutputOption = "table") -> int:
    """Prove every machine: no dead end, no state out of reach, no verb without an answer. Exit 1 if one is unsound."""
    from holdfast.core.table import faults

    machines = _machines()
    found = {name: faults(machine) for name, machine in machines.items()}
    if output == "json":
        show.print_json(found)
    else:
        for name, machine in machines.items():
            for fault in found[name]:
                print(f"{name}: {fault}")
            if not found[name]:
                edges = len(list(machine.edges()))
                print(f"{name}: sound ({len(machine.rows)} states, {edges} edges, {len(machine.verbs)} verbs)")
    return exits.FAILED if any(found.values()) else exits.OK


@app.command(name="show")
def show_(
    name: Annotated[str, typer.Argument(metavar="NAME", help="task, step or a kind: server.")],
    mermaid: Annotated[bool, typer.Option("--mermaid", help="As a Mermaid state diagram.")] = False,
    dot: Annotated[bool, typer.Option("--dot", help="As a Graphviz digraph.")] = False,
    output: OutputOption = "table",
) -> int:
    """Show one machine: for each state, what every verb and every other input makes of it."""
    from holdfast.core import diagram

    machines = _machines()
    machine = machines.get(name)
    if machine is None:
        raise UsageError(f"there is no machine {name!r}: there are {', '.join(machines)}")
    if mermaid and dot:
        raise UsageError("--mermaid and --dot: choose one")
    if output == "json":
        rows = {state: {"kind": row.kind, "moves": dict(row.moves)} for state, row in machine.rows.items()}
        show.print_json({"name": name, "start": machine.start, "verbs": machine.verbs, "states": rows})
        return exits.OK
    draw = diagram.mermaid if mermaid else diagram.dot if dot else diagram.table
    print(draw(machine), end="")
    return exits.OK


def _machines() -> dict[str, Machine]:
    """All machines of this installation."""
    from holdfast.core.states import MACHINES

    return {**MACHINES, **{kind.name: kind.machine(check=False) for kind in installed_kinds()}}
