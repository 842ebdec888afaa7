"""The kind `server`, over the driver `process`: fields, lifecycle, operations, and the probe that says what is true.

The words are Nova's. A server is a process on this machine (process.py); what an operation does is a flow (flows.py).
A failed operation that left something behind makes the server ERROR, from where `reboot`, `stop`, `rebuild` and
`delete` lead on; one that left nothing behind leaves it where it was.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from holdfast.errors import DocumentInvalid
from holdfast.resources.kind import Change, Kind, Seen, final, resting
from holdfast.resources.server.faults import faults_of
from holdfast.resources.server.flows import Operations
from holdfast.resources.server.process import RUNNING, SHUTDOWN, SUSPENDED
from holdfast.settings import Settings

Image = Literal["guest-1", "guest-2", "panics", "hangs"]
Power = Literal["SOFT", "HARD"]
Name = Annotated[str, Meta(min_length=1, max_length=255)]
Seconds = Annotated[float, Meta(ge=0, le=3600)]
MemoryMib = Annotated[int, Meta(ge=32, le=1 << 20)]
CpuS = Annotated[int, Meta(ge=1, le=1 << 30)]
Files = Annotated[int, Meta(ge=16, le=1 << 20)]
Word = Annotated[str, Meta(max_length=255)]

#: Where the power is, in a word of the lifecycle.
STANDS = {RUNNING: "ACTIVE", SUSPENDED: "SUSPENDED", SHUTDOWN: "SHUTOFF"}


class Guest(Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """How the guest behaves: how long it takes to boot and to shut down, and whether it hears its power button."""

    boot_s: Seconds = 0
    shutdown_s: Seconds = 0
    deaf: bool = False


class ServerFields(Struct, forbid_unknown_fields=True, kw_only=True):
    """What is desired of a server. A limit that is null is none; the key `faults` of `metadata` asks for faults."""

    name: Name
    image: Image = "guest-1"
    memory_mib: MemoryMib | None = None
    cpu_s: CpuS | None = None
    files: Files | None = None
    guest: Guest = Guest()
    metadata: Annotated[dict[Annotated[str, Meta(min_length=1, max_length=255)], Word], Meta(max_length=128)] = {}


class PowerOff(Struct, forbid_unknown_fields=True, kw_only=True):
    """SOFT asks the guest and waits for it. HARD pulls the plug."""

    type: Power = "SOFT"


class Rebuild(Struct, forbid_unknown_fields=True, kw_only=True):
    """The image to go on with."""

    image: Image


class Resize(Struct, forbid_unknown_fields=True, kw_only=True):
    """The limits to change; one that is left out stays."""

    memory_mib: MemoryMib | UnsetType | None = UNSET
    cpu_s: CpuS | UnsetType | None = UNSET
    files: Files | UnsetType | None = UNSET


server = Kind(
    "server",
    fields=ServerFields,
    lifecycle={
        "BUILD": resting(),
        "ACTIVE": resting(),
        "SHUTOFF": resting(),
        "SUSPENDED": resting(),
        "ERROR": resting(),
        "DELETED": final(),
    },
    driver=Operations(),
    title="Server",
)


@server.operation("create", ends="ACTIVE", summary="Make a server and start it.")
def create(kind: Kind) -> Any:
    return kind.driver.create()


@server.operation("start", starts=("SHUTOFF",), ends="ACTIVE", summary="Start a server that is off.")
def start(kind: Kind) -> Any:
    return kind.driver.start()


@server.operation("stop", starts=("ACTIVE", "ERROR"), ends="SHUTOFF", params=PowerOff, summary="Switch a server off.")
def stop(kind: Kind) -> Any:
    return kind.driver.stop()


@server.operation("reboot", starts=("ACTIVE", "ERROR"), ends="ACTIVE", params=PowerOff, summary="Start it anew.")
def reboot(kind: Kind) -> Any:
    return kind.driver.reboot()


@server.operation("suspend", starts=("ACTIVE",), ends="SUSPENDED", summary="Hold a server where it is.")
def suspend(kind: Kind) -> Any:
    return kind.driver.suspend()


@server.operation("resume", starts=("SUSPENDED",), ends="ACTIVE", summary="Let a held server go on.")
def resume(kind: Kind) -> Any:
    return kind.driver.resume()


@server.operation(
    "rebuild",
    starts=("ACTIVE", "SHUTOFF", "ERROR"),
    ends="ACTIVE",
    params=Rebuild,
    desires=True,
    applies=True,
    summary="Go on with another image; the server stays what it was if that does not come up.",
)
def rebuild(kind: Kind) -> Any:
    return kind.driver.rebuild()


@server.operation(
    "resize",
    starts=("ACTIVE", "SHUTOFF", "SUSPENDED"),
    params=Resize,
    desires=True,
    applies=True,
    summary="Change the limits of a server, while it runs.",
)
def resize(kind: Kind) -> Any:
    return kind.driver.resize()


@server.operation(
    "update", starts=("ACTIVE", "SHUTOFF", "SUSPENDED", "ERROR"), summary="Make the server as the document says."
)
def update(kind: Kind) -> Any:
    return kind.driver.update()


@server.operation(
    "delete",
    starts=("BUILD", "ACTIVE", "SHUTOFF", "SUSPENDED", "ERROR"),
    ends="DELETED",
    summary="End the server and leave nothing of it.",
)
def delete(kind: Kind) -> Any:
    return kind.driver.delete()


@server.precommit
def check_faults(change: Change) -> None:
    """Raises: DocumentInvalid: the document asks for faults, and may not or can't."""
    try:
        asked = faults_of(change.desired.get("metadata") or {})
    except ValueError as error:
        raise DocumentInvalid(f"metadata.faults: {error}", field="metadata.faults") from None
    if asked and not change.kind.driver.settings.server_faults:
        raise DocumentInvalid(
            "metadata.faults: this service makes no faults on purpose (HOLDFAST_SERVER_FAULTS=1 would)",
            field="metadata.faults",
        )


def probe(driver: Operations, resource_id: str, desired: dict[str, Any], before: str, doubt: str | None) -> Seen:
    """What there is. A server that has failed stays ERROR, whatever it looks like, until somebody has done something
    about it; only where nobody knows what was done to it (`doubt`) is it where it looks to be."""
    seen = driver.observe(resource_id)
    power = seen["power_state"]
    stands = STANDS.get(power)
    is_as_desired = power != "NOSTATE" and driver.is_as_desired(resource_id, desired)
    if before in ("BUILD", "ERROR") and doubt is None:
        return Seen(is_as_desired, seen)
    return Seen(is_as_desired, seen, lifecycle=stands or "ERROR")


server.probe(probe, timeout_s=60)


def make_server(settings: Settings | None = None) -> Kind:
    """The kind, with the settings of one Holdfast; None: those of the environment."""
    return server.using(Operations(settings))
