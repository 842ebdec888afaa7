"""Waiting for a person, or for another system: a step that returns `hf.WaitFor` rests, without a thread, until
somebody delivers the event. What it carries is `ctx.event`. An event that comes early is kept."""

from __future__ import annotations

import holdfast as hf


@hf.step(provides="change")
def propose(host: str) -> str:
    print(f"propose: reboot {host}")
    return f"reboot {host}"


@hf.step(provides="approved_by")
def approval(ctx: hf.Context) -> hf.WaitFor | str:
    if ctx.event is None:
        return hf.WaitFor("approved")
    return str(ctx.event["by"])


@hf.step
def carry_out(change: str, approved_by: str) -> None:
    print(f"{change}, as {approved_by} said")


maintenance = hf.linear("maintenance", propose, approval, carry_out)

if __name__ == "__main__":
    with hf.open("sqlite:///:memory:") as hold:
        task = hold.submit(maintenance, {"host": "db-1"})
        hold.work(until_idle=True)
        print(task.state)
        task.deliver("approved", {"by": "Grace"})
        hold.work(until_idle=True)
        print(task.state)

        early = hold.submit(maintenance, {"host": "db-2"})
        early.deliver("approved", {"by": "Ada"})
        hold.work(until_idle=True)
        print(early.state)
