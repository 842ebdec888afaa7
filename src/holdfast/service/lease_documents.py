"""What executors say and are told, as types. What becomes of it: leases.py."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec

from holdfast.core.failure import CAUSES_MAX, MESSAGE_CHARS_MAX, TYPES_MAX
from holdfast.service.task_documents import Link

AT_ONCE_MAX: Final = 100
HELD_MAX: Final = 1_000

#: A token, or what an agent calls itself.
Word = Annotated[str, msgspec.Meta(max_length=255, pattern="^[!-~]+$")]
#: What has a name of people's: a pool, a class.
Name = Annotated[str, msgspec.Meta(max_length=255, pattern="^[^\u0000-\u001f\u007f]+$")]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=86_400)]
Said = Annotated[str, msgspec.Meta(max_length=MESSAGE_CHARS_MAX)]


class NewLeases(msgspec.Struct, forbid_unknown_fields=True):
    """`max`: how many steps; 0: none but those whose answer was lost. `wait`: seconds that it may take until there is
    one. `agent`: what the executor calls itself, another name each time it is started; then leases whose answer it
    never got are given to it again, if they are not among the tokens that it says it holds (`held`), and it begins
    with none before a heartbeat of it was answered: one that runs out unheard of is offered anew."""

    pool: Name
    max: Annotated[int, msgspec.Meta(ge=0, le=AT_ONCE_MAX)] = 1
    wait: Seconds = 0.0
    agent: Word | None = None
    held: Annotated[list[Word], msgspec.Meta(max_length=HELD_MAX)] = []


class Heartbeat(msgspec.Struct, forbid_unknown_fields=True):
    """`wait`: seconds that the answer may take, if there is nothing to say but what the executor knows (`stop`, `kill`:
    what it was asked last)."""

    wait: Seconds = 0.0
    stop: str | None = None
    kill: bool = False


class StepProgress(msgspec.Struct, forbid_unknown_fields=True):
    """`fraction`: how far it is, 0 to 1."""

    fraction: Annotated[float, msgspec.Meta(ge=0, le=1)]
    message: Said | None = None


class NewCheckpoint(msgspec.Struct, forbid_unknown_fields=True):
    """`value`: what whoever runs the step next is handed. `number`: 1, 2, 3 …, by which one that is sent again is
    known."""

    value: Any
    number: Annotated[int, msgspec.Meta(ge=1, le=1 << 53)] | None = None


class Complete(msgspec.Struct, forbid_unknown_fields=True):
    """`result`: what the step returns."""

    result: Any = None


class FailureSaid(msgspec.Struct, forbid_unknown_fields=True):
    """`types`: the names of the error's class and of those it derives from, by which a retry knows it."""

    message: Said
    types: Annotated[list[Name], msgspec.Meta(max_length=TYPES_MAX)] = []
    traceback: str | None = None
    causes: Annotated[list[FailureSaid], msgspec.Meta(max_length=CAUSES_MAX)] = []


class Fail(msgspec.Struct, forbid_unknown_fields=True):
    """One of: `failure`: the step failed. `stopped`: it heeded the request to stop, or its executor leaves, and
    somebody else goes on. `died`: it came to an end by itself, and nobody knows how far it came; after `deaths_max` of
    those its task rests as poison. `killed`: its executor ended it, for an abort or because it leaves: that counts for
    nothing."""

    failure: FailureSaid | None = None
    stopped: Word | None = None
    died: Said | None = None
    killed: Said | None = None


class LeaseTask(msgspec.Struct):
    uuid: str
    task: str
    project_id: str


class LeaseOne(msgspec.Struct):
    """`work`: which step, with which arguments: docs/how-to. `lease_s`: how long after a heartbeat it may go on."""

    token: str
    task: LeaseTask
    step: str
    what: str
    pool: str
    timeout_s: float | None
    lease_s: float
    work: dict[str, Any]


class LeaseList(msgspec.Struct):
    leases: list[LeaseOne]


class LeaseShown(msgspec.Struct):
    """`number`: later ones have higher ones. `state`: OFFERED: nobody runs it yet; LEASED; ENDED: its worker has still
    to record that."""

    number: int
    task: str
    step: str
    what: str
    pool: str
    state: Literal["OFFERED", "LEASED", "ENDED"]
    agent: str | None
    holder: str | None
    offered_at: str
    leased_at: str | None
    expires_at: str | None
    stop: str | None
    progress: float | None


class LeasesShown(msgspec.Struct):
    leases: list[LeaseShown]
    links: list[Link]


class Asked(msgspec.Struct):
    """`stop`: why the step is asked to stop, or null. `kill`: end it at once. Say `fail` with `stopped` or `died`."""

    lease_s: float
    stop: str | None
    kill: bool
