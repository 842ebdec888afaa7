"""What is kept with an operation's task for the day it ends, as plain data.

Theory: whoever ends a task need not know its kind: a verb can do it in a process that has none. So what the kind said
of the operation is copied when the task is made.

Who makes it: operate.py, again.py. Who goes by it: project.py.
"""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any, NamedTuple


class Rules(NamedTuple):
    """In `operations.rules`, as JSON. `starts`: where the operation may start. `fault`: where a failure with an effect
    leaves the resource. `gone`: where a `create` that came to nothing does. `deletes`: success is the end of it.
    `verify`: the flow that looks at the world afterwards: [name, version, reference, pool]. `abortable`, `left`: see
    Kind.

    Written later: `doubted`: the resource came into doubt when the task came to rest, and what it was before ([doubt]).
    `back`: what the rollback of the task goes back to: [lifecycle (None: it was not there), applied document, its
    revision, doubt]."""

    starts: list[str]
    creates: bool = False
    deletes: bool = False
    fault: str | None = None
    gone: str | None = None
    verify: list[Any] | None = None
    abortable: bool = True
    left: dict[str, Any] | None = None
    doubted: list[Any] | None = None
    back: list[Any] | None = None

    @property
    def text(self) -> str:
        return json.dumps(self._asdict(), separators=(",", ":"))

    @classmethod
    def of(cls, text: str) -> Rules:
        return cls(**json.loads(text))


def derived(uuid: str, purpose: str) -> str:
    """Another UUIDv7 of the same moment, the same one each time: what was already made of the first is found again."""
    digest = sha256(f"{purpose} {uuid}".encode()).hexdigest()
    return f"{uuid[:14]}7{digest[:3]}-a{digest[3:6]}-{digest[6:18]}"
