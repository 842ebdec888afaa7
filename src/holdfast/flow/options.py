"""The options of a step as one table: name, check. A check returns the value as it is kept, or raises a FlowError
that says what to do; `who` is written out only then, as making a text of it costs more than the check.

What the options mean: flow/step.py (`step`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypedDict

from holdfast.core.retry import Retry
from holdfast.errors import FlowError

_RESERVED: Final = frozenset("/[]()<>:@")  # they have a meaning in ids and references


class StepOptions(TypedDict, total=False):
    """Keyword arguments of `step` and `with_options`."""

    name: str
    provides: str | tuple[str, ...] | set[str] | frozenset[str] | None
    retry: Retry | None
    revert_retry: Retry | None
    timeout_s: float | None
    revert_timeout_s: float | None
    grace_s: float | None
    on_interrupt: str
    pivot: bool
    isolation: str | None
    weight: int
    pool: str | None
    agent: str | None
    bind: Mapping[str, str]
    inject: Mapping[str, Any]


def check_name(name: object, who: object) -> str:
    """A name as ids and references can carry it."""
    if not isinstance(name, str) or not name or not name.isprintable():
        raise FlowError(f"{who}: the name must be printable text, not {name!r}")
    if not _RESERVED.isdisjoint(name):
        raise FlowError(f"{who}: the name {name!r} has one of / [ ] ( ) < > : @, which ids use; say name=…")
    return name


def _provides(value: object, who: object) -> str | tuple[str, ...] | frozenset[str] | None:
    if value is None:
        return None
    names = (value,) if isinstance(value, str) else value
    if not isinstance(names, (tuple, set, frozenset)) or not names:
        raise FlowError(
            f"{who}: provides={value!r} must be a name, a tuple of names (parts of a tuple) or a set (keys of a dict)"
        )
    kept = names if isinstance(names, tuple) else frozenset(names)
    for name in kept:
        if not isinstance(name, str) or not name:
            raise FlowError(f"{who}: provides={value!r}: each name must be text, not {name!r}")
        if name in ("ctx", "failures") or (name == "result" and not isinstance(value, str)):
            raise FlowError(f"{who}: provides={name!r}: a revert's parameter of that name is something else; rename it")
    if len(set(kept)) != len(kept):
        raise FlowError(f"{who}: provides={value!r} names one thing twice")
    return value if isinstance(value, str) else kept


def _retry(value: object, who: object) -> Retry | None:
    if value is None:
        return None
    if not isinstance(value, Retry):
        raise FlowError(f"{who}: retry={value!r} must be a Retry, as hf.Retry(attempts=3)")
    if value.over is not None or value.spent != "flow":
        raise FlowError(f"{who}: Retry(over=, spent=) is for flows; give it to hf.linear(…, retry=…)")
    return value


def _seconds(value: object, who: object) -> float | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e9):
        raise FlowError(f"{who}: a time of {value!r} must be a number of seconds above 0, or None for no bound")
    return value


def _grace(value: object, who: object) -> float | None:
    return 0.0 if value == 0 and not isinstance(value, bool) else _seconds(value, who)


def _on_interrupt(value: object, who: object) -> str:
    if value not in ("rerun", "undo", "suspend"):
        raise FlowError(f'{who}: on_interrupt={value!r} is not one of "rerun", "undo", "suspend"')
    return str(value)


def _pivot(value: object, who: object) -> bool:
    if not isinstance(value, bool):
        raise FlowError(f"{who}: pivot={value!r} must be True or False")
    return value


def check_weight(value: object, who: object) -> int:
    """A weight as progress can count it exactly."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**31:
        raise FlowError(f"{who}: weight={value!r} must be a whole number, 0 or more")
    return value


def _pool(value: object, who: object) -> str | None:
    if value is not None and not (isinstance(value, str) and value):
        raise FlowError(
            f"{who}: pool={value!r} must be the name of a pool; call an attribute of your own something else"
        )
    return value


def _agent(value: object, who: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not value or not value.isprintable():
        raise FlowError(f'{who}: agent={value!r} must name a pool of agents, as agent="hv1" or agent="hv-{{host}}"')
    if value.count("{") != value.count("}") or not all(name.isidentifier() for name in fields_of(value)):
        raise FlowError(f"{who}: agent={value!r}: between braces stands the name of one of its parameters")
    return value


def fields_of(agent: str) -> list[str]:
    """The parameters that a pool of agents is named by: `host` of "hv-{host}"."""
    return [part.partition("}")[0] for part in agent.split("{")[1:]]


def check_agent(step: Any, who: str) -> None:
    """Whether it is known which agents are meant when the step begins."""
    known = {name for name, _required in step.wants}
    for name in fields_of(step.agent):
        if name not in known:
            raise FlowError(f"{who}: agent={step.agent!r} names a parameter {name!r} that it does not have")


def _bind(value: object, who: object) -> Mapping[str, str]:
    if not isinstance(value, Mapping) or not all(isinstance(part, str) for pair in value.items() for part in pair):
        raise FlowError(f"{who}: bind={value!r} must be a dict of parameter: name")
    return value


def _inject(value: object, who: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise FlowError(f"{who}: inject={value!r} must be a dict of parameter: value")
    return value


def _isolation(value: object, who: object) -> object:
    return value  # checked against the function: flow/step.py


CHECKS: Final[Mapping[str, Callable[[Any, object], Any]]] = {
    "name": check_name,
    "provides": _provides,
    "retry": _retry,
    "revert_retry": _retry,
    "timeout_s": _seconds,
    "revert_timeout_s": _seconds,
    "grace_s": _grace,
    "on_interrupt": _on_interrupt,
    "pivot": _pivot,
    "isolation": _isolation,
    "weight": check_weight,
    "pool": _pool,
    "agent": _agent,
    "bind": _bind,
    "inject": _inject,
}
