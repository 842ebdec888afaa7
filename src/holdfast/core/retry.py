"""Retry policies, as data with pure questions.

Theory: a policy never acts. The core asks it `matches`, `exhausted` and `delay_s`; the driver adds jitter and the
clock and records the outcome as a `RetryScheduled` event. Re-exported to users as `holdfast.Retry`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from holdfast.errors import FlowError


def type_name(kind: type) -> str:
    """The name by which a failure remembers its exception's type: builtins bare, others with their module."""
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


class Retry:
    """When and how often to try again. Immutable.

    attempts: all tries counted, so 1 means no retry; None: no bound but the deadline or the values of `over`.
    backoff_s: pause before the second try; each later pause is `factor` times longer, at most `backoff_max_s`.
    jitter: 0..1, the share of a pause drawn at random (0.5: between half the pause and all of it).
    deadline_s: no further try begins later than this after the first one began.
    on: exception types worth another try; empty means any.
    over, item: on a flow only: one try per value of the list named `over`, handed to its steps as `item`.
    spent: on a flow only: "flow" hands the failure to the enclosing flow's retry, "all" passes those by.
    """

    __slots__ = (
        "attempts",
        "backoff_max_s",
        "backoff_s",
        "deadline_s",
        "factor",
        "item",
        "jitter",
        "names",
        "over",
        "spent",
    )

    def __init__(
        self,
        attempts: int | None = None,
        *,
        backoff_s: float = 0.0,
        factor: float = 2.0,
        backoff_max_s: float = 300.0,
        jitter: float = 0.5,
        deadline_s: float | None = None,
        on: Iterable[type[BaseException]] = (),
        over: str | Sequence[object] | None = None,
        item: str | None = None,
        spent: Literal["flow", "all"] = "flow",
    ) -> None:
        if attempts is None and deadline_s is None and over is None:
            raise FlowError("Retry needs a bound: attempts=, deadline_s= or over=")
        if attempts is not None and attempts < 1:
            raise FlowError(f"Retry(attempts={attempts}): all tries are counted, so the least is 1")
        if backoff_s < 0 or factor < 1 or not 0 <= jitter <= 1:
            raise FlowError("Retry: backoff_s is at least 0, factor at least 1, jitter between 0 and 1")
        if (over is None) != (item is None):
            raise FlowError('Retry: over= and item= go together, as Retry(over="zones", item="zone")')
        self.attempts = attempts
        self.backoff_s = backoff_s
        self.factor = factor
        self.backoff_max_s = backoff_max_s
        self.jitter = jitter
        self.deadline_s = deadline_s
        self.names = frozenset(type_name(kind) for kind in on)
        self.over = over
        self.item = item
        self.spent = spent

    def matches(self, types: Iterable[str]) -> bool:
        """Whether a failure whose exception's classes have these names is worth another try."""
        return not self.names or not self.names.isdisjoint(types)

    def exhausted(self, tried: int, values: int | None = None) -> bool:
        """Whether `tried` tries are all there may be; `values` is the length of `over`."""
        return (self.attempts is not None and tried >= self.attempts) or (values is not None and tried >= values)

    def delay_s(self, tried: int) -> float:
        """The pause after the `tried`-th try, before jitter."""
        if not self.backoff_s:
            return 0.0
        try:
            return min(self.backoff_max_s, self.backoff_s * self.factor ** (tried - 1))
        except OverflowError:
            return self.backoff_max_s

    def __repr__(self) -> str:
        return f"Retry(attempts={self.attempts}, backoff_s={self.backoff_s})"
