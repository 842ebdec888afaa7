"""What a power driver is: three methods that talk to a BMC, and what they are given and may raise.

Theory: a driver knows a protocol and nothing else. It holds no state, keeps no thread and decides nothing: when a
command is sent again, how long a machine may take, which command follows which and what an abort means is the
business of the flows (flows.py), which look at the machine before they repeat anything. So that a call which hangs
can be ended, a driver tells how it is ended (`Bmc.on_stop`).

A driver is found by its entry point (group `holdfast.power`, the name of the entry point is what a node's `driver`
says): a class without arguments. How one is proved: holdfast.testing.power. Which call may run when: lines.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

#: Where entry points of drivers are.
GROUP = "holdfast.power"


class Bmc(NamedTuple):
    """A node's BMC, as one call of a driver sees it.

    `info` is what the node's `driver_info` says, with the secrets in the clear: never show it or put it where others
    can read it (a command line, a log, an error). `timeout_s`: how long this one call may take.
    `on_stop(how)`: have `how` called, from another thread, if the call is to end now: kill the child process, close the
    connection. It is forgotten when the call returns. `task_id`, `fence`: the task that asks and its fencing token, as
    the context of a step has them, for a device that can check one; "", 0: no task asks.
    """

    node: str
    info: Mapping[str, Any]
    timeout_s: float = 30.0
    on_stop: Callable[[Callable[[], object]], None] = lambda how: None
    task_id: str = ""
    fence: int = 0

    def __repr__(self) -> str:
        return f"<BMC of node {self.node}>"


class Follow(NamedTuple):
    """The BMC works on it: ask again with this. `monitor` is what the driver needs to know then; it is stored, so it
    is plain JSON data. `fraction`: how far it is, 0 to 1, where the BMC says so."""

    monitor: Any
    after_s: float = 1.0
    fraction: float | None = None
    message: str | None = None


class PowerDriver(Protocol):
    """The three methods. Each blocks for `bmc.timeout_s` at most, and raises the errors of errors/bmc.py:
    BMCUnreachable (no answer; whether the BMC has heard is not known), BMCAuthFailed, BMCRefused (it has answered that
    it won't), PowerUnknown (it has forgotten what was followed), BMCError (anything else that the BMC has answered; the
    sentence says what). What else of `driver_info` is secret than `password`, a driver names in `secrets`, a tuple.

    A driver whose BMC can be asked to leave off what it works on (`Follow`) has `give_up(bmc, monitor)` too, which is
    called once by an abort; it may fail."""

    def get_supported_power_states(self, bmc: Bmc) -> Sequence[str]:
        """The targets that this driver takes (words.py). It asks nobody, and `info` may be empty. A driver that has
        nothing of its own to say is given on, off, reboot and the aborts of the soft ones."""
        ...

    def get_power_state(self, bmc: Bmc) -> str:
        """`power on` or `power off`, asked from the BMC now."""
        ...

    def set_power_state(self, bmc: Bmc, target: str, monitor: Any = None) -> Follow | None:
        """Send one command: `power on`, `power off`, `soft power off` or `inject nmi`; reboots are made of these.

        None: the BMC has accepted it (the machine may take its time). Follow: the BMC works on it and has said where
        to look; the next call brings `monitor` back, and sends nothing. It sends a command once: what is not known to
        have arrived is not repeated here.
        """
        ...
