"""Flows whose steps make child tasks; each step tells the witness what it does, and knobs let it go or fail."""

from __future__ import annotations

from typing import Any

import holdfast as hf
from tests.worker.house import knob, tell


@hf.step(provides="port")
def make_port(ctx: hf.Context, at: str, network: str) -> str:
    tell(at, ctx, "port", network)
    while knob(at, "port_waits"):
        ctx.sleep(0.01)
    if knob(at, "port_fails"):
        raise ConnectionError("no such switch")
    return f"port on {network}"


@make_port.revert
def drop_port(ctx: hf.Context, at: str, network: str) -> None:
    tell(at, ctx, "unport", network)
    if knob(at, "port_sticks"):
        raise ConnectionError("the switch does not answer")


@hf.step
def wire(ctx: hf.Context, at: str) -> None:
    tell(at, ctx, "wire")
    while knob(at, "wire_waits"):
        ctx.sleep(0.01)


@wire.revert
def unwire(ctx: hf.Context, at: str) -> None:
    tell(at, ctx, "unwire")
    while knob(at, "unwire_waits"):
        ctx.sleep(0.01)


@hf.step(provides="route")
def make_route(ctx: hf.Context, at: str) -> str:
    tell(at, ctx, "route")
    while knob(at, "route_waits"):
        ctx.sleep(0.01)
    if knob(at, "route_fails"):
        raise ConnectionError("no such router")
    return "a route"


@make_route.revert
def drop_route(ctx: hf.Context, at: str) -> None:
    tell(at, ctx, "unroute")


@hf.step
def first(ctx: hf.Context, at: str) -> None:
    tell(at, ctx, "first")


@first.revert
def unfirst(ctx: hf.Context, at: str) -> None:
    tell(at, ctx, "unfirst")


@hf.step
def use(ctx: hf.Context, at: str, port: str) -> None:
    tell(at, ctx, "use", port)
    if knob(at, "use_fails"):
        raise ConnectionError("it is of no use")


@hf.step(pivot=True)
def burn(ctx: hf.Context, at: str) -> None:
    tell(at, ctx, "burn")


@hf.step
def cool(ctx: hf.Context, at: str) -> Any:
    tell(at, ctx, "cool")
    return None if ctx.event else hf.WaitFor("cold")


@hf.step
def meet(ctx: hf.Context, at: str) -> Any:
    tell(at, ctx, "meet")
    return None if ctx.event else hf.WaitFor("go")


l2 = hf.linear("l2", make_port, wire)
l3 = hf.linear("l3", make_route)
burning = hf.linear("burning", burn, cool)
meeting = hf.linear("meeting", meet)

attach = hf.linear(
    "attach",
    first,
    hf.child("l2", l2, bind={"network": "net"}, provides={"port"}),
    use,
)
interface = hf.linear(
    "interface",
    first,
    hf.unordered("both", hf.child("l2", l2, inject={"network": "blue"}, weight=3), hf.child("l3", l3)),
)
again = hf.linear("again", hf.child("l3", l3, retry=hf.Retry(attempts=3)))
hurried = hf.linear("hurried", hf.child("l3", l3, timeout_s=0.5))
past = hf.linear("past", hf.child("burning", burning))
parley = hf.linear("parley", hf.child("meeting", meeting))
kept = hf.linear(
    "kept", hf.unordered("both", hf.child("l3", l3), hf.child("l2", l2, inject={"network": "blue"})), on_failure="keep"
)
claiming = hf.linear("claiming", hf.child("l3", l3, claims=["router/1", ("network/blue", "shared")]))


def nest(depth: int) -> hf.Flow:
    flow = hf.linear("level0", make_route)
    for level in range(1, depth):
        flow = hf.linear(f"level{level}", first, hf.child("below", flow))
    return flow


deep = nest(8)
_at: Any = deep
while _at is not None:  # each is found again as a variable of this module
    globals()[_at.name] = _at
    _at = getattr(_at.children[-1], "flow", None)

mapped = hf.linear("mapped", hf.map("each", hf.child("l2", l2, provides={"port"}), over="nets", item="network"))
tried = hf.linear("tried", first, hf.linear("again", hf.child("l3", l3), retry=hf.Retry(attempts=2)))
staged = hf.linear("staged", first, hf.child("l2", l2, inject={"network": "red"}), hf.child("l3", l3))
late = hf.linear("late", hf.child("l3", l3), deadline_s=2.0)
