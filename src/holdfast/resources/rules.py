"""What is kept with an operation's task for the day it ends, as plain data.

Theory: whoever ends a task need not know its kind: a verb can do it in a process that has none. So what the kind said
of the operation is copied when the task is made.

Who makes it: operate.py, again.py. Who goes by it: project.py.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any, NamedTuple


class Rules(NamedTuple):
    """What the end of an operation's task means, as data in `operations.rules`. `starts`: where it may start.
    `fault`: where a failure with an effect leaves the resource. `gone`: where a `create` that came to nothing does.
    `ended`: the final state, if the operation deletes. `verify`: the flow that looks at the world afterwards.
    `back`: what the rollback of the operation goes back to: [lifecycle, applied document, its revision]."""

    starts: list[str]
    creates: bool = False
    deletes: bool = False
    fault: str | None = None
    gone: str | None = None
    verify: list[Any] | None = None
    back: list[Any] | None = None


def derived(uuid: str, purpose: str) -> str:
    """Another UUIDv7 of the same moment, the same one each time: what was already made of the first is found again."""
    digest = sha256(f"{purpose} {uuid}".encode()).hexdigest()
    return f"{uuid[:14]}7{digest[:3]}-a{digest[3:6]}-{digest[6:18]}"
