"""What is to be done next, in the imperative: the answer of `decide`.

The driver turns most commands into a decision event, makes it durable, and then acts. `Probe`, `Decide` and `Expand`
ask the world or user code and leave a fact; `Ask` requests a stop and is safe to repeat.
"""

from __future__ import annotations

from typing import NamedTuple


class Begin(NamedTuple):
    """The task leaves PENDING."""


class Start(NamedTuple):
    """`alone`: in a process of its own, because a worker died while it ran."""

    row: int
    alone: bool


class Reenter(NamedTuple):
    row: int


class Expire(NamedTuple):
    """A parked step's timeout has passed."""

    row: int


class Revert(NamedTuple):
    row: int
    alone: bool


class Probe(NamedTuple):
    row: int


class Decide(NamedTuple):
    row: int


class Expand(NamedTuple):
    row: int


class Ask(NamedTuple):
    """Ask the running row to stop."""

    row: int
    reason: str


class Schedule(NamedTuple):
    """Try the row again after `delay_s`, of which the share `jitter` is drawn at random."""

    row: int
    delay_s: float
    jitter: float


class FailScope(NamedTuple):
    row: int


class TurnScope(NamedTuple):
    row: int


class ResetScope(NamedTuple):
    row: int


class Turn(NamedTuple):
    goal: str


class Wait(NamedTuple):
    pass


class Wake(NamedTuple):
    pass


class Rest(NamedTuple):
    reason: str
    rows: tuple[int, ...]


class End(NamedTuple):
    state: str


Command = (
    Begin | Start | Reenter | Expire | Revert | Probe | Decide | Expand | Ask | Schedule | FailScope | TurnScope
    | ResetScope | Turn | Wait | Wake | Rest | End
)  # fmt: skip
