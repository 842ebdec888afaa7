"""Flows that pass on every kind of value there is. The step that takes them waits for `go` (house.py)."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import threading
import uuid
from typing import Any

import holdfast as hf
from tests.worker.house import knob, tell


class Power(enum.Enum):
    ON = "on"
    OFF = "off"


@dataclasses.dataclass(frozen=True)
class Port:
    mac: bytes
    vlans: frozenset[int]
    made_at: datetime.datetime


hf.register(Power)
hf.register(Port)

PORT = Port(b"\x00\xff\x10", frozenset({3, 5}), datetime.datetime(2031, 2, 3, 4, 5, 6, 789, tzinfo=datetime.UTC))
VALUES: dict[str, Any] = {
    "tuple": (1, (2.5, None), [True]),
    "set": {1, "two", (3, 4)},
    "frozenset": frozenset({b"x"}),
    "bytes": bytes(range(256)),
    "aware": PORT.made_at.astimezone(datetime.timezone(datetime.timedelta(hours=5, minutes=30))),
    "naive": datetime.datetime(1999, 12, 31, 23, 59, 59, 999_999),  # noqa: DTZ001 such values exist
    "date": datetime.date(2031, 2, 3),
    "delta": datetime.timedelta(days=-1, microseconds=7),
    "decimal": decimal.Decimal("1.10"),
    "uuid": uuid.UUID(int=7),
    "enum": Power.OFF,
    "dataclass": PORT,
    "int": 2**200,
    "float": -0.0,
    "infinite": float("-inf"),
    "text": "naïve \U0001f40d \x00",
    "keys": {1: "one", (2, 3): {"$": "dollar"}, None: []},
}


@hf.step(provides="passed")
def make(ctx: hf.Context, at: str, value: Any) -> Any:
    tell(at, ctx, "make")
    return value


@hf.step(provides="same")
def compare(ctx: hf.Context, at: str, value: Any, passed: Any) -> dict[str, Any]:
    """Runs in a worker that did not make them."""
    tell(at, ctx, "compare")
    while not knob(at, "go"):
        ctx.sleep(0.01)
    return {
        name: [type(passed[name]) is type(expected), passed[name] == expected, value[name] == expected]
        for name, expected in VALUES.items()
    }


values = hf.linear("values", make, compare)
values_apart = hf.linear(
    "values_apart", make.with_options(isolation="process"), compare.with_options(isolation="process")
)


@hf.step(provides="lock")
def make_lock(ctx: hf.Context, at: str) -> Any:
    tell(at, ctx, "make_lock")
    return {"where": [threading.Lock()]}


@make_lock.revert
def drop_lock(ctx: hf.Context, at: str, result: Any, lock: Any = "none") -> None:
    tell(at, ctx, "drop_lock", [result, lock])


unstorable = hf.linear("unstorable", make_lock)
unstorable_apart = hf.linear("unstorable_apart", make_lock.with_options(isolation="process"))


@hf.step
def keep_lock(ctx: hf.Context, at: str) -> None:
    tell(at, ctx, "keep_lock")
    ctx.checkpoint(threading.Lock())


unstorable_checkpoint = hf.linear("unstorable_checkpoint", keep_lock)
