"""What crosses between a worker and the process of a step: frames of JSON on a socket, values by the codec.

Theory: a call goes out as one *order*, in a file of memory, so that starting never blocks on a large argument. After
it come small frames both ways: `ask` and `stored` to the child; `began`, `progress`, `checkpoint` and `ended` back.
A Secret crosses unsealed: the socket and the file belong to these two processes and have no name.

Who starts the child: forkserver.py, asked by processes.py. What the child does: child.py.
"""

from __future__ import annotations

import json
import struct
import sys
from typing import Any

from holdfast.core.failure import Failure
from holdfast.core.values import decode, encode, register
from holdfast.errors import LeaseLost
from holdfast.flow.step import Again, Done, NotDone, Unknown, WaitFor
from holdfast.runtime.base import Call, Outcome, RemoteError
from holdfast.runtime.locate import place_elsewhere

# What a step may return besides a value of its own, and what a revert is told of others' failures.
for _answer in (Again, WaitFor, Done, NotDone, Unknown, Failure):
    register(_answer, name=f"holdfast.{_answer.__name__}")

_LENGTH = struct.Struct("!I")


def frame(kind: str, **fields: Any) -> bytes:
    """One message, with its length before it."""
    data = json.dumps({"kind": kind, **fields}, separators=(",", ":")).encode()
    return _LENGTH.pack(len(data)) + data


def take_frames(buffer: bytearray) -> list[dict[str, Any]]:
    """Cut the whole messages off the front of `buffer`."""
    found = []
    while len(buffer) >= _LENGTH.size:
        (length,) = _LENGTH.unpack_from(buffer)
        end = _LENGTH.size + length
        if len(buffer) < end:
            break
        found.append(json.loads(buffer[_LENGTH.size : end]))
        del buffer[:end]
    return found


def write_value(value: Any, name: str, bytes_max: int | None = None) -> str:
    return encode(value, _as_is, name=name, bytes_max=bytes_max)


def read_value(text: str) -> Any:
    return decode(text, _as_is)


def _as_is(text: str) -> str:
    return text


def order_of(call: Call, value_bytes_max: int | None = None) -> bytes:
    """The call as data. Raises: FlowNotFound; ValueRefused: an argument can't cross."""
    context = call.context
    return json.dumps(
        {
            "path": sys.path,
            "reference": call.reference,
            "place": place_elsewhere(call.reference, call.step_id, call.function),
            "row": call.row,
            "step_id": call.step_id,
            "what": call.what,
            "deadline_at": call.deadline_at if context is None else context._deadline_here(),
            "value_bytes_max": value_bytes_max,
            "arguments": {
                name: write_value(value, f"{call.step_id}'s argument {name}")
                for name, value in call.arguments.items()
                if value is not context or context is None
            },
            "ctx": [name for name, value in call.arguments.items() if value is context and context is not None],
            "context": None
            if context is None
            else {
                "key": context.idempotency_key,
                "forward_key": context.forward_key,
                "attempt": context.attempt,
                "task_id": context.task_id,
                "fence": context.fence,
                "event": write_value(context.event, f"the event of {call.step_id}"),
                "last_checkpoint": write_value(context.last_checkpoint, f"{call.step_id}'s checkpoint"),
            },
        }
    ).encode()


def write_outcome(outcome: Outcome, name: str, value_bytes_max: int | None) -> dict[str, Any]:
    """The outcome as data. A value that can't cross is a failure of the step."""
    word, value = outcome
    if word == "returned":
        try:
            return {"outcome": word, "value": write_value(value, f"{name}'s result", value_bytes_max)}
        except Exception as error:
            word, value = "raised", error
    if word == "raised":
        failure = value.failure if isinstance(value, RemoteError) else Failure.of(value)
        return {"outcome": word, "value": failure.to_json()}
    return {"outcome": word, "value": value}


def read_outcome(message: dict[str, Any]) -> Outcome:
    word, value = message["outcome"], message["value"]
    if word == "returned":
        try:
            return word, read_value(value)
        except Exception as error:
            return "raised", error
    if word == "raised":
        return word, RemoteError(Failure.from_json(value))
    return word, value


def write_error(error: BaseException | None) -> Any:
    """Why a checkpoint was refused, or None: it is stored."""
    if error is None:
        return None
    return {"lease_lost": True} if isinstance(error, LeaseLost) else Failure.of(error).to_json()


def read_error(data: Any) -> BaseException | None:
    if data is None:
        return None
    return LeaseLost() if "lease_lost" in data else RemoteError(Failure.from_json(data))
