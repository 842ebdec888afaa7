"""The flow of the demo: switch a machine off softly and on again, through its BMC, by Redfish.

    holdfast run demo/power.py:power_cycle bmc=http://127.0.0.1:8000 system=… --database sqlite:///tasks.db --tag T

`power_cycle` undoes itself when it fails; `power_cycle_attended` rests for a person instead. Each request names the
step that makes it (User-Agent), so that the BMC's log can testify. A BMC cannot check a key or a fencing token: each
step therefore asks it for the machine's state before it asks for a change, and each request is a wish for a state
(be on, go off), which does no harm if it arrives twice.
"""

from __future__ import annotations

import os
import time
from typing import Any

import sushy
from sushy import exceptions
from sushy.auth import BasicAuth
from sushy.connector import Connector

import holdfast as hf

POLL_S = 0.4
SETTLE_S = 60.0  # a guest that has not gone off this long after the button was pressed has not heard it

# Worth another try: the BMC is out of reach, or has answered that the fault is on its side.
TROUBLE = (exceptions.ConnectionError, exceptions.ServerSideError)


class NotAsAsked(Exception):
    """The machine is not in the state that it was asked to be in."""


class _NamedConnector(Connector):  # type: ignore[misc]
    """Says in every request which step makes it."""

    def __init__(self, url: str, by: str) -> None:
        # One try a request. With the default, sushy repeats any request that times out, a POST included, and
        # server_side_retries=0 means three. To repeat is the step's `Retry`'s business.
        super().__init__(url, server_side_retries=1, default_request_timeout=10, connect_timeout=3)
        self._named = {"User-Agent": by}

    def get(self, path: str = "", data: Any = None, headers: Any = None, **options: Any) -> Any:
        return super().get(path, data=data, headers={**(headers or {}), **self._named}, **options)

    def post(self, path: str = "", data: Any = None, headers: Any = None, **options: Any) -> Any:
        return super().post(path, data=data, headers={**(headers or {}), **self._named}, **options)


def _machine(bmc: str, system: str, by: str) -> Any:
    # What opens the BMC is known to whoever works, and is no input: inputs are stored with the task.
    user, password = os.environ.get("BMC_USER", "demo"), os.environ.get("BMC_PASSWORD", "demo")
    root = sushy.Sushy(bmc, auth=BasicAuth(user, password), connector=_NamedConnector(bmc, by))
    return root.get_system(f"/redfish/v1/Systems/{system}")


def _running(machine: Any) -> bool:
    """Whether it is anything but off: a machine that is powering off may still have a guest that writes."""
    return bool(machine.power_state != sushy.PowerState.OFF)


# --- the steps -----------------------------------------------------------------------------------------------------


@hf.step(provides="was_on", retry=hf.Retry(attempts=3, backoff_s=0.2, on=TROUBLE), timeout_s=60)
def read_power(bmc: str, system: str) -> bool:
    """What the machine is like before anything is done; what an undo goes back to."""
    return _running(_machine(bmc, system, "read_power"))


@hf.step(retry=hf.Retry(attempts=3, backoff_s=0.2, on=TROUBLE), timeout_s=60)
def soft_off(bmc: str, system: str, was_on: bool) -> None:
    """Press the power button of a running machine."""
    machine = _machine(bmc, system, "soft_off")
    if _running(machine):
        machine.reset_system(sushy.ResetType.GRACEFUL_SHUTDOWN)


@soft_off.revert(retry=hf.Retry(attempts=5, backoff_s=0.5, on=TROUBLE))
def put_back_on(ctx: hf.Context, bmc: str, system: str, was_on: bool) -> None:
    """Leave the machine on, if it was on.

    The button can't be unpressed: a guest that is shutting down goes off whatever is asked of it meanwhile, and `On`
    says nothing to a machine that is on. So first let it go off. One that doesn't within SETTLE_S never heard.
    """
    if not was_on:
        return
    machine = _machine(bmc, system, "soft_off (undo)")
    waited_until = time.monotonic() + SETTLE_S
    while _running(machine) and time.monotonic() < waited_until:
        ctx.sleep(POLL_S)
        machine.refresh(force=True)
    if not _running(machine):
        machine.reset_system(sushy.ResetType.ON)
        machine.refresh(force=True)
    if not _running(machine):
        raise NotAsAsked("the machine was asked to be on again and is off")


@soft_off.probe
def was_pressed(bmc: str, system: str) -> hf.Probe:
    """After a crash in the middle of the request. A machine that is off needs no button; with one that is on nobody
    can tell, and a second press does no harm."""
    try:
        running = _running(_machine(bmc, system, "soft_off (probe)"))
    except exceptions.SushyError as problem:
        return hf.Unknown(f"the BMC does not say: {problem}")
    return hf.NotDone() if running else hf.Done()


@hf.step(retry=hf.Retry(attempts=3, backoff_s=0.2, on=TROUBLE), timeout_s=90)
def wait_off(ctx: hf.Context, bmc: str, system: str) -> hf.Again | None:
    """Wait for the guest to shut down. Between two looks it holds no thread, and the wait survives the process."""
    looks = int(ctx.last_checkpoint or 0) + 1
    if not _running(_machine(bmc, system, "wait_off")):
        ctx.progress(1.0, "the machine is off")
        return None
    # Nobody knows how long a guest takes. Half of what is left with every five looks: it moves, and never says 100 %.
    ctx.progress(1 - 0.5 ** (looks / 5), f"still on after {looks} looks")
    return hf.Again(POLL_S, looks)


@hf.step(retry=hf.Retry(attempts=3, backoff_s=0.2, on=TROUBLE), timeout_s=60)
def confirm_off(bmc: str, system: str) -> None:
    if _running(_machine(bmc, system, "confirm_off")):
        raise NotAsAsked("the machine is not off")


@hf.step(retry=hf.Retry(attempts=3, backoff_s=0.3, on=TROUBLE), timeout_s=60)
def power_on(bmc: str, system: str, was_on: bool) -> None:
    machine = _machine(bmc, system, "power_on")
    if not _running(machine):
        machine.reset_system(sushy.ResetType.ON)


@power_on.revert(retry=hf.Retry(attempts=5, backoff_s=0.5, on=TROUBLE))
def put_back_off(bmc: str, system: str, was_on: bool) -> None:
    """Leave the machine off, if it was off. If it was on, on is right, and soft_off's undo sees to it."""
    if not was_on:
        machine = _machine(bmc, system, "power_on (undo)")
        if _running(machine):
            machine.reset_system(sushy.ResetType.FORCE_OFF)


@power_on.probe
def was_switched_on(bmc: str, system: str) -> hf.Probe:
    try:
        running = _running(_machine(bmc, system, "power_on (probe)"))
    except exceptions.SushyError as problem:
        return hf.Unknown(f"the BMC does not say: {problem}")
    return hf.Done() if running else hf.NotDone()


@hf.step(provides="is_on", retry=hf.Retry(attempts=3, backoff_s=0.2, on=TROUBLE), timeout_s=30)
def confirm_on(bmc: str, system: str) -> bool | hf.Again:
    machine = _machine(bmc, system, "confirm_on")
    return True if machine.power_state == sushy.PowerState.ON else hf.Again(POLL_S)


# --- the flows -----------------------------------------------------------------------------------------------------

power_cycle = hf.linear("power_cycle", read_power, soft_off, wait_off, confirm_off, power_on, confirm_on)

# For a machine with somebody beside it: a guest that does not go off in time is looked at by a person, and neither
# switched off hard nor forgotten.
power_cycle_attended = hf.linear(
    "power_cycle_attended",
    read_power,
    soft_off,
    wait_off.with_options(timeout_s=5),
    confirm_off,
    power_on,
    confirm_on,
    on_failure="suspend",
)
