"""The steps of `rebuild`: the old guest is held, not ended, until the new one is up, so a rebuild that fails costs the
server nothing: the old guest goes on where it was stopped, with its memory, its process number and its disk.

Theory: the new image is a slot of its own. Whatever fails before `switch` is undone by dropping that slot and letting
the old guest go on. The old slot is kept, without its guest, until the next rebuild: a rollback asked for later starts
the old image again.

The other steps: steps.py.
"""

from __future__ import annotations

import signal
from typing import Any

from holdfast.core.retry import Retry
from holdfast.flow.step import Again, Done, NotDone, Probe, step
from holdfast.resources.server.faults import strike
from holdfast.resources.server.process import RUNNING, SHUTDOWN, SUSPENDED
from holdfast.resources.server.steps import DRIVER_S, Found, back_up, config_of, server_of, signal_until, until_up
from holdfast.runtime.context import Context


@step(isolation="process", timeout_s=DRIVER_S)
def hold_old(ctx: Context, resource_id: str, found: Found, desired: dict[str, Any], trips: str = "") -> None:
    """Stop the old guest where it is: there is never more than one that runs."""
    strike(desired, trips, "before")
    strike(desired, trips, "block")
    slot = server_of(resource_id, found).slot_of(found["slot"])
    if slot.process() is not None:
        signal_until(ctx, slot, signal.SIGSTOP, SUSPENDED)


@hold_old.revert
def unhold_old(ctx: Context, resource_id: str, found: Found) -> None:
    slot = server_of(resource_id, found).slot_of(found["slot"])
    if found["power"] == RUNNING:
        signal_until(ctx, slot, signal.SIGCONT, RUNNING)


@step(isolation="process", timeout_s=DRIVER_S, provides="slot")
def launch_new(ctx: Context, resource_id: str, found: Found, desired: dict[str, Any], trips: str = "") -> int:
    """Make the new image beside the old one, and start it."""
    server = server_of(resource_id, found)
    for slot in server.slots():
        if slot.number < found["slot"]:  # of the rebuild before: nobody can go back to that any more
            server.drop(slot, ctx.sleep)
    new = server.slot_of(found["slot"] + 1)
    new.make(config_of(desired, trips))
    new.start(ctx.idempotency_key)
    return new.number


@launch_new.revert(retry=Retry(attempts=3, backoff_s=0.2))
def unlaunch_new(ctx: Context, resource_id: str, found: Found) -> None:
    server = server_of(resource_id, found)
    server.drop(server.slot_of(found["slot"] + 1), ctx.sleep)


@launch_new.probe
def was_launched_new(ctx: Context, resource_id: str, found: Found) -> Probe:
    new = server_of(resource_id, found).slot_of(found["slot"] + 1)
    process = new.process()
    return Done(new.number) if process is not None and process.token == ctx.idempotency_key else NotDone()


@step
def wait_new_up(ctx: Context, resource_id: str, found: Found, slot: int) -> Again | None:
    """Wait until the new guest says that it is up."""
    return until_up(ctx, server_of(resource_id, found).slot_of(slot))


@step(isolation="process", timeout_s=DRIVER_S)
def switch(resource_id: str, found: Found, desired: dict[str, Any], slot: int, trips: str = "") -> None:
    """From here on the new image is the server."""
    server = server_of(resource_id, found)
    server.use(server.slot_of(slot))
    strike(desired, trips, "after")


@switch.revert
def unswitch(resource_id: str, found: Found) -> None:
    server = server_of(resource_id, found)
    server.use(server.slot_of(found["slot"]))


@step(isolation="process", timeout_s=DRIVER_S)
def power_as_before(ctx: Context, resource_id: str, found: Found, slot: int) -> None:
    """Leave the new guest off, or held, if the old one was: it was started to see whether it comes up."""
    new = server_of(resource_id, found).slot_of(slot)
    if found["power"] == SHUTDOWN:
        new.end(ctx.sleep)
    elif found["power"] == SUSPENDED:
        signal_until(ctx, new, signal.SIGSTOP, SUSPENDED)


@step(isolation="process", timeout_s=DRIVER_S)
def retire_old(ctx: Context, resource_id: str, found: Found) -> None:
    """End the old guest; its image is kept."""
    server_of(resource_id, found).slot_of(found["slot"]).end(ctx.sleep)


@retire_old.revert(retry=Retry(attempts=3, backoff_s=0.2))
def unretire_old(ctx: Context, resource_id: str, found: Found) -> None:
    if found["power"] != SHUTDOWN:
        old = server_of(resource_id, found).slot_of(found["slot"])
        old.start(ctx.idempotency_key)
        back_up(ctx, old)
