"""A plan as a small table that reads like what it is: row, kind, id, successors, need, scope, bindings."""

from __future__ import annotations

from holdfast.core.plan import FromInput, FromItem, FromRow, FromTry, Plan, Source

KINDS = ("step", "open", "close", "map", "gate")


def source_words(source: Source) -> str:
    if isinstance(source, FromRow):
        key = "" if source.key is None else f"[{source.key!r}]"
        return f"{'^' * source.up}#{source.row}{key}"
    if isinstance(source, FromInput):
        return f"input {source.name}"
    if isinstance(source, FromItem):
        return f"{'^' * source.up}item"
    if isinstance(source, FromTry):
        return f"{'^' * source.up}try {source.scope}"
    return repr(source.value)


def bound(plan: Plan, row: int) -> str:
    return ", ".join(
        f"{one.parameter}{'' if one.required else '?'}={source_words(one.source)}" for one in plan.bindings[row]
    )


def render(plan: Plan) -> str:
    """One line a row; links that are explicit are marked with a star; templates follow, indented."""
    lines = []
    for row, row_id in enumerate(plan.ids):
        links = plan.links.get(row, frozenset())
        targets = " ".join(f"{target}{'*' if target in links else ''}" for target in plan.succ[row])
        cells = [str(row), KINDS[plan.kind[row]], row_id, f"-> {targets or '.'}"]
        cells += [f"need {plan.need[row]}", f"scope {plan.scope[row]}"]
        if plan.bindings[row]:
            cells.append(bound(plan, row))
        lines.append(" | ".join(cells))
        if row in plan.maps:
            spec = plan.maps[row]
            result = "-" if spec.result is None else source_words(spec.result)
            lines.append(f"  each of {source_words(spec.over)} gives {result}:")
            lines += [f"  {line}" for line in render(spec.template).splitlines()]
    return "\n".join(lines)
