"""A task's flow as a graph for people and programs: nodes, edges, and how far each step is.

It is made of the outline of the plan that the task began with (flow/outline.py), so it is what runs, whatever the code
says now.
"""

from __future__ import annotations

import json
from typing import Any


def of(outline: str | None, reached: dict[str, str]) -> dict[str, Any]:
    """`bodies`: those of the flow's maps, by their number in a node's `body`; `elements`: the steps in them that have
    begun."""
    tables = [] if outline is None else json.loads(outline)
    drawn = [_drawn(table, reached) for table in tables]
    whole = drawn[0] if drawn else {"nodes": [], "edges": []}
    known = {node["id"] for node in whole["nodes"]}
    elements = [{"id": node, "state": state} for node, state in reached.items() if node not in known]
    return {**whole, "bodies": drawn[1:], "elements": elements}


def _drawn(table: list[Any], reached: dict[str, str]) -> dict[str, Any]:
    nodes, edges = [], []
    for name, kind, _bindings, before, body in table:
        node = {"id": name, "kind": kind, "state": reached.get(name, "PENDING") if kind == "step" else None}
        nodes.append(node if body < 0 else node | {"body": body - 1})
        edges += [{"from": table[place][0], "to": name} for place in before]
    return {"nodes": nodes, "edges": edges}
