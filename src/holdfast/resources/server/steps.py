"""The steps of a server's operations, over the driver `process`.

Theory: whatever touches the guest runs in a process of its own, so that a driver that hangs can be killed and takes
nobody with it. A step that may have been interrupted asks the world what became of it (its probe), by the token that
it gave the guest. A revert puts back what `found` says, and where that can't be done it says so and fails, so that the
task tells what it left behind. The waits hold no thread.

Every step takes `found` from the step that comes first (flows.py): what there was when the task began, and where. So a
task goes on with the guests it began with, whatever the settings say by then.

The driver: process.py. The operations made of these: flows.py. Faults on purpose: faults.py.
"""

from __future__ import annotations

import signal
from typing import Any

from holdfast.core.retry import Retry
from holdfast.flow.step import Again, Done, NotDone, Probe, step
from holdfast.resources.server.faults import asked, strike
from holdfast.resources.server.process import IMAGES, RUNNING, SHUTDOWN, SUSPENDED, NotEnded, NotStarted, Server, Slot
from holdfast.runtime.context import Context

LOOK_S = 0.1
DRIVER_S = 120.0  # for one call of the driver; a guest's time is another's (flows.py)
BACK_UP_S = 60.0  # for a guest that an undo starts again
LIMITS = ("memory_mib", "cpu_s", "files")


#: What there was when the task began, and where the servers are; from `look_before` (flows.py).
Found = dict[str, Any]


class NotUndone(Exception):
    """What was done can't be taken back."""


def config_in_use(desired: dict[str, Any], applied: dict[str, Any] | None, trips: str) -> dict[str, Any]:
    """The configuration of the image in use. What is desired may not have come true: after a rebuild that failed, a
    reboot is one of the old image."""
    return config_of({**(applied or desired), "metadata": desired.get("metadata")}, trips)


def config_of(desired: dict[str, Any], trips: str = "") -> dict[str, Any]:
    """A slot's configuration, from the desired document. `trips`: as faults.py has it."""
    behaves: dict[str, Any] = {**(desired.get("guest") or {}), **IMAGES[desired["image"]]}
    if asked(desired, trips, "hang"):
        behaves |= {"deaf": 1, "hangs": 1}
    return {"image": desired["image"], "limits": {name: desired.get(name) for name in LIMITS}, "guest": behaves}


def server_of(resource_id: str, found: Found) -> Server:
    return Server(found["where"], resource_id)


def found_of(where: str, resource_id: str) -> Found:
    """What there is before an operation begins."""
    server = Server(where, resource_id)
    if not server.exists:
        return {"where": where, "slot": 0, "power": SHUTDOWN, "pid": None, "config": {}}
    slot = server.slot
    process = slot.process()
    return {
        "where": where, "slot": slot.number, "power": slot.power(), "pid": process.pid if process else None,
        "config": slot.config(),
    }  # fmt: skip


def observed_of(server: Server) -> dict[str, Any]:
    """What there is, for people and for the drift probe."""
    if not server.exists:
        return {"power_state": "NOSTATE", "pid": None}
    slot = server.slot
    seen, process = slot.heartbeat(), slot.process()
    return {
        "power_state": slot.power(),
        "pid": process.pid if process else None,
        "image": slot.config().get("image"),
        "limits": slot.limits() if process else {},
        "guest": seen.state if seen else None,
        "boot": seen.boot if seen else None,
    }


@step(provides="observed")
def look(resource_id: str, found: Found) -> dict[str, Any]:
    """What the operation has led to."""
    return observed_of(server_of(resource_id, found))


# --- making and starting -----------------------------------------------------------------------------------------


@step(isolation="process", timeout_s=DRIVER_S)
def make(resource_id: str, found: Found, desired: dict[str, Any], trips: str = "") -> None:
    """Write the first image."""
    strike(desired, trips, "before")
    strike(desired, trips, "block")
    server = server_of(resource_id, found)
    slot = server.slot_of(1)
    slot.make(config_of(desired, trips))
    server.use(slot)


@make.revert(retry=Retry(attempts=3, backoff_s=0.2))
def unmake(ctx: Context, resource_id: str, found: Found) -> None:
    server_of(resource_id, found).remove(ctx.sleep)


@step(isolation="process", timeout_s=DRIVER_S)
def launch(
    ctx: Context,
    resource_id: str,
    found: Found,
    desired: dict[str, Any],
    applied: dict[str, Any] | None = None,
    trips: str = "",
) -> None:
    """Start the guest of the image in use."""
    strike(desired, trips, "before")
    strike(desired, trips, "block")
    slot = server_of(resource_id, found).slot
    slot.configure(config_in_use(desired, applied, trips))
    slot.start(ctx.idempotency_key)
    strike(desired, trips, "after")


@launch.revert(retry=Retry(attempts=3, backoff_s=0.2))
def unlaunch(ctx: Context, resource_id: str, found: Found) -> None:
    """End what this step started, and nothing else."""
    server = server_of(resource_id, found)
    if server.exists and server.slot.was_started_by(ctx.forward_key):
        server.slot.end(ctx.sleep)


@launch.probe
def was_launched(ctx: Context, resource_id: str, found: Found) -> Probe:
    slot = server_of(resource_id, found).slot
    process = slot.process()
    return Done() if process is not None and process.token == ctx.idempotency_key else NotDone()


# A reboot starts a guest too, but to end it again would undo nothing: what the guest knew is gone.
@step(isolation="process", timeout_s=DRIVER_S)
def relaunch(
    ctx: Context,
    resource_id: str,
    found: Found,
    desired: dict[str, Any],
    applied: dict[str, Any] | None = None,
    trips: str = "",
) -> None:
    """Start the guest again."""
    slot = server_of(resource_id, found).slot
    slot.configure(config_in_use(desired, applied, trips))
    slot.start(ctx.idempotency_key)
    strike(desired, trips, "after")


@relaunch.revert
def unrelaunch(ctx: Context, resource_id: str, found: Found) -> None:
    slot = server_of(resource_id, found).slot
    if slot.was_started_by(ctx.forward_key) and found["power"] != SHUTDOWN:
        raise NotUndone("the guest has been started anew, and what it knew before is gone")


@relaunch.probe
def was_relaunched(ctx: Context, resource_id: str, found: Found) -> Probe:
    return was_launched(ctx, resource_id, found)


@step
def wait_up(ctx: Context, resource_id: str, found: Found) -> Again | None:
    """Wait until the guest says that it is up."""
    return until_up(ctx, server_of(resource_id, found).slot)


def until_up(ctx: Context, slot: Slot) -> Again | None:
    looks = int(ctx.last_checkpoint or 0) + 1
    if slot.is_up():
        ctx.progress(1.0, "the guest is up")
        return None
    ctx.progress(1 - 0.5 ** (looks / 10), "the guest boots")
    return Again(LOOK_S, looks)


# --- switching off ---------------------------------------------------------------------------------------------------


@step(isolation="process", timeout_s=DRIVER_S)
def power_off(
    ctx: Context,
    resource_id: str,
    found: Found,
    desired: dict[str, Any],
    applied: dict[str, Any] | None = None,
    type: str = "SOFT",
    trips: str = "",
) -> None:
    """SOFT: press the guest's power button. HARD: pull the plug."""
    strike(desired, trips, "before")
    strike(desired, trips, "block")
    slot = server_of(resource_id, found).slot
    if asked(desired, trips, "hang"):
        slot.configure(config_in_use(desired, applied, trips))
    if type == "HARD":
        slot.end(ctx.sleep)
    else:
        slot.press_button()


@power_off.revert(retry=Retry(attempts=3, backoff_s=0.2))
def put_back_on(ctx: Context, resource_id: str, found: Found) -> None:
    """A button can't be unpressed: a guest that has heard it goes off, and is started again. One that has not heard it
    never went."""
    slot = server_of(resource_id, found).slot
    slot.configure(found["config"])
    if found["power"] == SHUTDOWN:
        return
    while slot.is_going_down():
        ctx.sleep(LOOK_S)
    slot.start(ctx.idempotency_key)
    back_up(ctx, slot)


def back_up(ctx: Context, slot: Slot) -> None:
    for _ in range(int(BACK_UP_S / LOOK_S)):
        if slot.is_up():
            return
        ctx.sleep(LOOK_S)
    raise NotStarted("the guest was started again and is not up")


@step
def wait_off(ctx: Context, resource_id: str, found: Found, desired: dict[str, Any], trips: str = "") -> Again | None:
    """Wait until the guest is gone. Its thread does nothing but look."""
    looks = int(ctx.last_checkpoint or 0) + 1
    slot = server_of(resource_id, found).slot
    if slot.process() is None:
        ctx.progress(1.0, "the guest is off")
        strike(desired, trips, "after")
        return None
    ctx.progress(1 - 0.5 ** (looks / 10), "the guest shuts down" if slot.is_going_down() else "the guest still runs")
    return Again(LOOK_S, looks)


# --- holding ---------------------------------------------------------------------------------------------------------


@step(isolation="process", timeout_s=DRIVER_S)
def hold(ctx: Context, resource_id: str, found: Found, desired: dict[str, Any], trips: str = "") -> None:
    """Stop the guest where it is."""
    strike(desired, trips, "before")
    strike(desired, trips, "block")
    signal_until(ctx, server_of(resource_id, found).slot, signal.SIGSTOP, SUSPENDED)
    strike(desired, trips, "after")


@hold.revert
def unhold(ctx: Context, resource_id: str, found: Found) -> None:
    _put_back(ctx, server_of(resource_id, found).slot, found)


@step(isolation="process", timeout_s=DRIVER_S)
def let_go(ctx: Context, resource_id: str, found: Found, desired: dict[str, Any], trips: str = "") -> None:
    """Let the guest go on."""
    strike(desired, trips, "before")
    strike(desired, trips, "block")
    signal_until(ctx, server_of(resource_id, found).slot, signal.SIGCONT, RUNNING)
    strike(desired, trips, "after")


@let_go.revert
def unlet_go(ctx: Context, resource_id: str, found: Found) -> None:
    _put_back(ctx, server_of(resource_id, found).slot, found)


def _put_back(ctx: Context, slot: Slot, found: Found) -> None:
    """Hold the guest, or let it go on, as it was."""
    if found["power"] == SUSPENDED:
        signal_until(ctx, slot, signal.SIGSTOP, SUSPENDED)
    elif found["power"] == RUNNING and slot.power() == SUSPENDED:
        signal_until(ctx, slot, signal.SIGCONT, RUNNING)


def signal_until(ctx: Context, slot: Slot, number: signal.Signals, power: str) -> None:
    """Send it, and wait until it has worked: the kernel stops a process soon, not at once."""
    for _ in range(200):
        process = slot.process()
        if process is None:
            raise NotStarted("the guest does not run")
        if slot.power() == power:
            return
        process.send(number)
        ctx.sleep(0.02)
    raise NotEnded(f"the guest was signalled and is not {power}")


# --- changing --------------------------------------------------------------------------------------------------------


@step(isolation="process", timeout_s=DRIVER_S)
def set_limits(resource_id: str, found: Found, desired: dict[str, Any], trips: str = "") -> None:
    """Give the guest its new limits, and those after it."""
    strike(desired, trips, "before")
    strike(desired, trips, "block")
    server_of(resource_id, found).slot.limit({name: desired.get(name) for name in LIMITS})
    strike(desired, trips, "after")


@set_limits.revert
def unset_limits(resource_id: str, found: Found) -> None:
    server_of(resource_id, found).slot.limit(found["config"]["limits"])


@step(isolation="process", timeout_s=DRIVER_S)
def configure(resource_id: str, found: Found, desired: dict[str, Any], trips: str = "") -> None:
    """Hand the guest its configuration; it takes it over as it runs."""
    strike(desired, trips, "before")
    strike(desired, trips, "block")
    server_of(resource_id, found).slot.configure(config_of(desired, trips))
    strike(desired, trips, "after")


@configure.revert
def unconfigure(resource_id: str, found: Found) -> None:
    server_of(resource_id, found).slot.configure(found["config"])


@step(isolation="process", timeout_s=DRIVER_S, pivot=True, retry=Retry(attempts=3, backoff_s=0.2))
def destroy(ctx: Context, resource_id: str, found: Found, desired: dict[str, Any], trips: str = "") -> None:
    """End the guest and remove all there is of the server."""
    strike(desired, trips, "before")
    strike(desired, trips, "block")
    server_of(resource_id, found).remove(ctx.sleep)
    strike(desired, trips, "after")


@destroy.revert
def undestroy(resource_id: str, found: Found) -> None:
    server = server_of(resource_id, found)
    if found["slot"] and not (server.exists and server.slot.power() == found["power"]):
        raise NotUndone("the server is gone, wholly or in part: delete it again")
